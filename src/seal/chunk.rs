//! The chunks of a body, sealed and opened in place.
//!
//! The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, 2015/189), with age's nonce: an 11-byte big-endian
//! counter, then 1 on the last chunk and 0 on all others. Bytes lost, moved or added change a counter or the flag.
//! A stream and a part of a composite object have their own key, and so their own counter. `docs/format.md`, "Chunks".

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use bytes::BytesMut;

use super::error::Error;
use super::key::BodyKey;
use super::len::{CHUNK, PlainLen, TAG};
use super::range::PlainRange;

const TAG_BYTES: usize = TAG as usize;

/// Seals every chunk of one body once, in order.
#[derive(Debug)]
pub(super) struct ChunkSealer {
    key: LessSafeKey,
    length: PlainLen,
    next: u64,
}

/// Opens the chunks that hold a range of one body, in order, and cuts them to the range.
#[derive(Debug)]
pub(super) struct ChunkOpener {
    key: LessSafeKey,
    length: PlainLen,
    range: PlainRange,
    next: u64,
}

impl ChunkSealer {
    /// For a body of this plaintext length. The key must never have sealed.
    pub(super) fn new(key: BodyKey, length: PlainLen) -> Self {
        Self { key: key.schedule(), length, next: 0 }
    }

    /// The plaintext bytes that the next chunk must have; `None` after the last.
    pub(super) fn next_len(&self) -> Option<usize> {
        self.length.chunk_len(self.next)
    }

    /// Seals the plaintext in the buffer, in place, and appends the 16-byte tag.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if the chunk is not of [`ChunkSealer::next_len`] bytes; it is then as it was.
    pub(super) fn seal(&mut self, chunk: &mut BytesMut) -> Result<(), Error> {
        if self.next_len() != Some(chunk.len()) {
            return Err(Error::Misuse("a chunk to seal is not of the length that comes next"));
        }
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(self.next, self.length), Aad::empty(), chunk)
            .expect("a chunk is far shorter than GCM's limit");
        chunk.extend_from_slice(tag.as_ref());
        self.next += 1;
        Ok(())
    }
}

impl ChunkOpener {
    /// For a range that lies within a body of this plaintext length.
    pub(super) fn new(key: BodyKey, length: PlainLen, range: PlainRange) -> Self {
        Self { key: key.schedule(), length, range, next: range.chunks().first() }
    }

    /// True before the body's first chunk is open: its magic then comes before it.
    pub(super) fn at_start(&self) -> bool {
        self.next == 0
    }

    /// The sealed bytes of the next chunk; `None` after the range's last.
    pub(super) fn next_len(&self) -> Option<usize> {
        let span = self.range.chunks();
        let wanted = self.next < span.first() + span.count();
        Some(self.length.chunk_len(self.next).filter(|_| wanted)? + TAG_BYTES)
    }

    /// Opens the next chunk in place: what is left are the plaintext bytes of the range.
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if these are not its sealed bytes; what is in the buffer must then not leave.
    /// [`Error::Misuse`] if no chunk is left.
    pub(super) fn open(&mut self, chunk: &mut BytesMut) -> Result<(), Error> {
        let expected = self.next_len().ok_or(Error::Misuse("every chunk of the range is open"))?;
        if chunk.len() != expected {
            return Err(Error::Tampered);
        }
        self.key
            .open_in_place(nonce(self.next, self.length), Aad::empty(), chunk)
            .map_err(|_| Error::Tampered)?;
        chunk.truncate(chunk.len() - TAG_BYTES);
        self.cut(chunk);
        self.next += 1;
        Ok(())
    }

    /// Drops what the range does not hold of the next chunk's plaintext.
    fn cut(&self, chunk: &mut BytesMut) {
        let base = self.next * CHUNK;
        let within =
            |byte: u64| usize::try_from(byte.saturating_sub(base)).unwrap_or(usize::MAX).min(chunk.len());
        let (start, end) = (within(self.range.start()), within(self.range.end()));
        chunk.truncate(end);
        bytes::Buf::advance(chunk, start);
    }
}

/// `counter (11 bytes, big-endian) ‖ flag`, the flag 1 on the last chunk of the body.
fn nonce(index: u64, length: PlainLen) -> Nonce {
    let mut bytes = [0; 12];
    bytes[3..11].copy_from_slice(&index.to_be_bytes());
    bytes[11] = u8::from(length.is_last(index));
    Nonce::assume_unique_for_key(bytes)
}
