//! The chunks of a stream, sealed and opened in place.
//!
//! The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, 2015/189), with age's nonce: an 11-byte big-endian
//! counter, then 1 on the last chunk and 0 on all others. Bytes lost, moved or added change a counter or the flag.
//! `docs/format.md`, "Chunks".

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use bytes::{Buf, BytesMut};

use super::error::Error;
use super::key::{Oek, TRAILER_SEALED_LEN, TrailerKey};
use super::len::{CHUNK, MAGIC_LEN, PlainLen, TAG};
use super::magic::MAGIC;
use super::range::PlainRange;
use super::trailer::Trailer;

const TAG_BYTES: usize = TAG as usize;
const MAGIC_BYTES: usize = MAGIC_LEN as usize;

/// Seals the body of one stream: every chunk once, in order, then the trailer.
///
/// The sealed body is [`MAGIC`], the chunks, the trailer. A sealer knows how many chunks there are and how long each
/// is, for the length of a body is known before its first byte.
#[derive(Debug)]
pub struct Sealer {
    key: LessSafeKey,
    trailer: TrailerKey,
    length: PlainLen,
    next: u64,
}

/// Opens the chunks that hold a range of one stream, in order, and cuts them to the range.
#[derive(Debug)]
pub struct Opener {
    key: LessSafeKey,
    trailer: TrailerKey,
    length: PlainLen,
    range: PlainRange,
    next: u64,
}

impl Sealer {
    pub(super) fn new(oek: &Oek, length: PlainLen) -> Self {
        Self { key: oek.body_key().schedule(), trailer: oek.trailer_key(), length, next: 0 }
    }

    /// The plaintext bytes that the next chunk must have; `None` after the last.
    pub fn next_len(&self) -> Option<usize> {
        self.length.chunk_len(self.next)
    }

    /// Seals the plaintext in the buffer, in place, and appends the 16-byte tag.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if the chunk is not of [`Sealer::next_len`] bytes; it is then as it was.
    pub fn seal(&mut self, chunk: &mut BytesMut) -> Result<(), Error> {
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

    /// The sealed trailer, which closes the body.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if chunks are still to come.
    pub fn finish(self, trailer: &Trailer) -> Result<[u8; TRAILER_SEALED_LEN], Error> {
        match self.next_len() {
            None => Ok(trailer.seal(self.trailer, self.length)),
            Some(_) => Err(Error::Misuse("a stream is finished before its last chunk")),
        }
    }
}

impl Opener {
    /// An opener for a range that lies within the length.
    pub(super) fn new(oek: &Oek, length: PlainLen, range: PlainRange) -> Self {
        let (key, trailer) = (oek.body_key().schedule(), oek.trailer_key());
        Self { key, trailer, length, range, next: range.chunks().first() }
    }

    /// The sealed bytes that [`Opener::open`] takes next; `None` after the range's last chunk. The magic, if the
    /// range begins in the first chunk, comes with it.
    pub fn next_len(&self) -> Option<usize> {
        let span = self.range.chunks();
        let wanted = self.next < span.first() + span.count();
        let plain = self.length.chunk_len(self.next).filter(|_| wanted)?;
        Some(self.magic_len() + plain + TAG_BYTES)
    }

    /// Opens the sealed bytes in the buffer, in place: what is left are the plaintext bytes of the range.
    ///
    /// Give it [`Opener::next_len`] bytes, or those that are left where the store's body ends before: that is an
    /// error.
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if these are not the sealed bytes of the next chunk; the buffer is then empty.
    /// [`Error::Misuse`] if no chunk is left.
    pub fn open(&mut self, chunk: &mut BytesMut) -> Result<(), Error> {
        let opened = self.open_next(chunk);
        if opened.is_err() {
            // No byte of a chunk that did not authenticate may leave.
            chunk.clear();
        }
        opened
    }

    /// Opens the trailer, the stream's last 64 sealed bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if they are not the trailer of this stream.
    pub fn open_trailer(self, sealed: &[u8]) -> Result<Trailer, Error> {
        Trailer::open(self.trailer, self.length, sealed)
    }

    fn open_next(&mut self, chunk: &mut BytesMut) -> Result<(), Error> {
        let expected = self.next_len().ok_or(Error::Misuse("every chunk of the range is open"))?;
        let magic = self.magic_len();
        if chunk.len() != expected || chunk[..magic] != MAGIC[..magic] {
            return Err(Error::Tampered);
        }
        chunk.advance(magic);
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
        chunk.advance(start);
    }

    fn magic_len(&self) -> usize {
        if self.next == 0 { MAGIC_BYTES } else { 0 }
    }
}

/// `counter (11 bytes, big-endian) ‖ flag`, the flag 1 on the last chunk of the stream.
fn nonce(index: u64, length: PlainLen) -> Nonce {
    let mut bytes = [0; 12];
    bytes[3..11].copy_from_slice(&index.to_be_bytes());
    bytes[11] = u8::from(length.is_last(index));
    Nonce::assume_unique_for_key(bytes)
}
