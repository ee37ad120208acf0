//! An input, taken apart from its front; and what several targets do with one.

use std::collections::VecDeque;

use bytes::Bytes;
use s3veil::body::{BoxError, ByteBody, from_source};

/// What is left of an input. At its end everything is zero.
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.number(1) as u8
    }

    pub(super) fn u16(&mut self) -> u16 {
        self.number(2) as u16
    }

    pub(super) fn u32(&mut self) -> u32 {
        self.number(4) as u32
    }

    pub(super) fn u64(&mut self) -> u64 {
        self.number(8)
    }

    /// Little-endian, of so many bytes.
    fn number(&mut self, len: usize) -> u64 {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }
}

/// The same bytes in pieces, whose lengths `seed` says: all at once for 0, each byte alone for 1.
pub(super) fn pieces(whole: &Bytes, seed: u8) -> VecDeque<Bytes> {
    let mut state = u64::from(seed);
    let mut left = whole.clone();
    let mut pieces = VecDeque::new();
    while !left.is_empty() {
        // Knuth's MMIX generator.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let most = match seed {
            0 => left.len() as u64,
            1 => 1,
            // Of every magnitude.
            _ => 1 + (state >> 33) % (2 << ((state >> 20) % 17)),
        };
        pieces.push_back(left.split_to(left.len().min(most as usize)));
    }
    pieces
}

/// A body of these pieces.
pub(super) fn body(pieces: VecDeque<Bytes>) -> ByteBody {
    from_source(pieces, |mut pieces| async move {
        Ok::<_, BoxError>(pieces.pop_front().map(|piece| (piece, pieces)))
    })
}

thread_local! {
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime without I/O");
}

/// Waits for what never has to wait.
pub(super) fn wait<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(work))
}

/// Whether XML 1.0 has a form for every character, and no reader takes one for another: of line ends it does.
pub(super) fn keeps_in_xml(text: &str) -> bool {
    let odd = |c: char| (c < ' ' && c != '\t' && c != '\n') || ['\u{fffe}', '\u{ffff}'].contains(&c);
    !text.contains(odd)
}
