//! Writing one body, a stream or a part of a composite object.

use bytes::{Bytes, BytesMut};

use super::chunk::ChunkSealer;
use super::error::Error;
use super::key::{Oek, TRAILER_SEALED_LEN, TrailerKey};
use super::len::{PlainLen, SealedLen};
use super::magic::MAGIC;
use super::part::{PartNumber, head};
use super::trailer::Trailer;

/// Seals one body: [`Sealer::head`], then every chunk once, in order, then what [`Sealer::finish`] gives.
///
/// A sealer knows how many chunks there are and how long each is, for the length of a body is known before its first
/// byte.
#[derive(Debug)]
pub struct Sealer {
    head: Bytes,
    chunks: ChunkSealer,
    /// None for a part: the manifest holds what a trailer would.
    trailer: Option<TrailerKey>,
    length: SealedLen,
    plain: PlainLen,
}

impl Sealer {
    pub(super) fn stream(oek: &Oek, length: PlainLen) -> Self {
        Self {
            head: Bytes::from_static(&MAGIC),
            chunks: ChunkSealer::new(oek.body_key(), length),
            trailer: Some(oek.trailer_key()),
            length: length.sealed(),
            plain: length,
        }
    }

    /// The salt must be fresh: a part's key never seals twice.
    pub(super) fn part(oek: &Oek, number: PartNumber, salt: &[u8; 32], length: PlainLen) -> Self {
        Self {
            head: head(salt),
            chunks: ChunkSealer::new(oek.part_key(salt, number.get()), length),
            trailer: None,
            length: length.sealed_part(),
            plain: length,
        }
    }

    /// The length of the whole body, in sealed bytes.
    pub fn length(&self) -> SealedLen {
        self.length
    }

    /// The sealed bytes that the body begins with.
    pub fn head(&self) -> Bytes {
        self.head.clone()
    }

    /// The plaintext bytes that the next chunk must have; `None` after the last.
    pub fn next_len(&self) -> Option<usize> {
        self.chunks.next_len()
    }

    /// Seals the plaintext in the buffer, in place, and appends the 16-byte tag.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if the chunk is not of [`Sealer::next_len`] bytes; it is then as it was.
    pub fn seal(&mut self, chunk: &mut BytesMut) -> Result<(), Error> {
        self.chunks.seal(chunk)
    }

    /// The sealed trailer, which closes a stream; `None` for a part, whose last chunk does.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if chunks are still to come.
    pub fn finish(self, trailer: &Trailer) -> Result<Option<[u8; TRAILER_SEALED_LEN]>, Error> {
        match self.next_len() {
            None => Ok(self.trailer.map(|key| trailer.seal(key, self.plain))),
            Some(_) => Err(Error::Misuse("a body is finished before its last chunk")),
        }
    }
}
