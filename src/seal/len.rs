//! Lengths: how many bytes a plaintext has once sealed, and back.
//!
//! Plaintext and sealed bytes are two types. `docs/format.md`, "Lengths".

use std::fmt;

/// Plaintext bytes in a chunk; the last may have fewer.
pub const CHUNK: u64 = 65_536;
/// Bytes of the AES-GCM tag that ends each sealed chunk.
pub const TAG: u64 = 16;
/// Sealed bytes of the magic that a body begins with.
pub const MAGIC_LEN: u64 = 16;
/// Sealed bytes of the trailer that ends a stream.
pub const TRAILER_LEN: u64 = 64;

/// Sealed bytes of a full chunk.
pub(super) const SEALED_CHUNK: u64 = CHUNK + TAG;
/// Sealed bytes of a stream that are in no chunk.
pub(super) const FRAME: u64 = MAGIC_LEN + TRAILER_LEN;

/// A length in plaintext bytes, at most [`PlainLen::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlainLen(u64);

/// A length in sealed bytes, as a store gives it. Any number: [`SealedLen::layout`] says what it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealedLen(u64);

/// How a sealed body is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A single PUT, of this plaintext length: magic, chunks, trailer.
    Stream(PlainLen),
    /// A multipart upload: parts, then a manifest that holds the lengths.
    Composite,
}

impl PlainLen {
    /// The longest plaintext, 5 TiB.
    pub const MAX: PlainLen = PlainLen(5 << 40);

    /// A length in plaintext bytes; `None` over [`PlainLen::MAX`].
    pub fn new(bytes: u64) -> Option<Self> {
        (bytes <= Self::MAX.0).then_some(Self(bytes))
    }

    /// The length in plaintext bytes.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The length of the sealed stream: `P + 16·max(1, ⌈P / 65,536⌉) + 80`.
    pub fn sealed(self) -> SealedLen {
        SealedLen(self.0 + TAG * self.chunks() + FRAME)
    }

    /// The number of chunks, `max(1, ⌈P / 65,536⌉)`: an empty body is one empty chunk.
    pub fn chunks(self) -> u64 {
        self.0.div_ceil(CHUNK).max(1)
    }

    /// The plaintext bytes in the chunk at `index`; `None` past the last chunk.
    pub(super) fn chunk_len(self, index: u64) -> Option<usize> {
        let last = self.chunks() - 1;
        let len = if index < last { CHUNK } else { self.0 - last * CHUNK };
        (index <= last).then(|| usize::try_from(len).expect("a chunk is at most 65,536 bytes"))
    }

    /// True for the chunk that closes the stream.
    pub(super) fn is_last(self, index: u64) -> bool {
        index + 1 == self.chunks()
    }
}

impl SealedLen {
    /// A length in sealed bytes.
    pub fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The length in sealed bytes.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The layout that has this size; `None` if no sealed object has it. The exact inverse of [`PlainLen::sealed`].
    ///
    /// Without the frame, a stream is full chunks and one of 17 to 65,552 bytes (16 if it is the only one), so modulo
    /// 65,552 it never leaves 1; a composite body is padded until it does.
    pub fn layout(self) -> Option<Layout> {
        let chunks = self.0.checked_sub(FRAME)?;
        if chunks % SEALED_CHUNK == 1 {
            return Some(Layout::Composite);
        }
        let plain = PlainLen::new(chunks.checked_sub(TAG * chunks.div_ceil(SEALED_CHUNK))?)?;
        (plain.sealed() == self).then_some(Layout::Stream(plain))
    }
}

impl fmt::Display for PlainLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SealedLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{CHUNK, FRAME, Layout, PlainLen, SEALED_CHUNK, SealedLen};

    fn plain(bytes: u64) -> PlainLen {
        PlainLen::new(bytes).unwrap()
    }

    /// The worked examples of `docs/format.md`.
    #[test]
    fn worked_examples() {
        let examples = [
            (0, 96),
            (1, 97),
            (65_535, 65_631),
            (65_536, 65_632),
            (65_537, 65_649),
            (131_072, 131_184),
            (1_000_000, 1_000_336),
            (5 << 40, 5_498_900_316_240),
        ];
        for (p, s) in examples {
            assert_eq!(plain(p).sealed(), SealedLen::new(s), "{p}");
        }
        assert_eq!(PlainLen::new((5 << 40) + 1), None);
    }

    #[test]
    fn layout_inverts_sealed_around_every_boundary() {
        let boundaries = (0..400).chain([1 << 20, (5 << 24) - 1, 5 << 24]).map(|k: u64| k * CHUNK);
        for p in boundaries.flat_map(|b| b.saturating_sub(2)..=b + 2).filter(|p| *p <= PlainLen::MAX.get()) {
            assert_eq!(plain(p).sealed().layout(), Some(Layout::Stream(plain(p))), "{p}");
        }
    }

    #[test]
    fn each_size_is_of_one_layout_or_none() {
        let mut next = 0;
        for size in 0..3 * SEALED_CHUNK + FRAME {
            match SealedLen::new(size).layout() {
                Some(Layout::Stream(p)) => {
                    assert_eq!((p.get(), p.sealed().get()), (next, size));
                    next += 1;
                }
                Some(Layout::Composite) => assert_eq!((size - FRAME) % SEALED_CHUNK, 1),
                None => assert!(size < FRAME || (size - FRAME) % SEALED_CHUNK <= 16, "{size}"),
            }
        }
        assert_eq!(next, 3 * CHUNK);
    }

    proptest! {
        #[test]
        fn sealed_grows_and_inverts(p in 0..PlainLen::MAX.get()) {
            prop_assert!(plain(p).sealed() < plain(p + 1).sealed());
            prop_assert_eq!(plain(p).sealed().layout(), Some(Layout::Stream(plain(p))));
            prop_assert!((plain(p).sealed().get() - FRAME) % SEALED_CHUNK != 1);
        }

        #[test]
        fn any_size_is_answered(size in any::<u64>()) {
            if let Some(Layout::Stream(p)) = SealedLen::new(size).layout() {
                prop_assert_eq!(p.sealed().get(), size);
            }
        }
    }
}
