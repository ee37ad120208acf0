//! Reading a range of an object, a stream or a composite one.

use std::sync::Arc;

use bytes::{Buf as _, BytesMut};

use super::chunk::ChunkOpener;
use super::error::Error;
use super::key::{Oek, TrailerKey};
use super::len::{MAGIC_LEN, PlainLen};
use super::magic::MAGIC;
use super::manifest::{Manifest, Piece};
use super::part::{PART_HEAD_LEN, PartSalt};
use super::range::PlainRange;
use super::trailer::Trailer;

const MAGIC_BYTES: usize = MAGIC_LEN as usize;

/// Opens the chunks that hold a range of one object, in order, and cuts them to the range.
#[derive(Debug)]
pub struct Opener(Body);

#[derive(Debug)]
enum Body {
    Stream { chunks: ChunkOpener, trailer: TrailerKey, length: PlainLen },
    Composite(Composite),
}

/// The parts of a composite object that hold a range, one after the other.
#[derive(Debug)]
struct Composite {
    oek: Oek,
    manifest: Arc<Manifest>,
    /// The next part of the range; `None` after the last.
    piece: Option<Piece>,
    /// The part at work; none before its head is read.
    chunks: Option<ChunkOpener>,
    range: PlainRange,
}

impl Opener {
    /// For a range that lies within a stream of this length.
    pub(super) fn stream(oek: &Oek, length: PlainLen, range: PlainRange) -> Self {
        let chunks = ChunkOpener::new(oek.body_key(), length, range);
        Self(Body::Stream { chunks, trailer: oek.trailer_key(), length })
    }

    /// For a range that lies within a composite object. `salt`: that of the first part, if the range's first chunk is
    /// not the part's first.
    pub(super) fn composite(
        oek: Oek,
        manifest: Arc<Manifest>,
        range: PlainRange,
        salt: Option<PartSalt>,
    ) -> Result<Self, Error> {
        let piece = manifest.first_piece(range);
        let mut composite = Composite { oek, manifest, piece, chunks: None, range };
        let within = piece.is_some_and(|piece| !piece.with_head());
        match (within, salt) {
            (true, Some(salt)) => composite.begin(&salt),
            (false, None) => {}
            _ => return Err(Error::Misuse("a part's salt is given if and only if its head is not read")),
        }
        Ok(Self(Body::Composite(composite)))
    }

    /// The sealed bytes that [`Opener::open`] takes next; `None` after the range's last chunk. The magic of a stream
    /// comes with its first chunk; the head of a part comes alone.
    pub fn next_len(&self) -> Option<usize> {
        match &self.0 {
            Body::Stream { chunks, .. } => {
                let magic = if chunks.at_start() { MAGIC_BYTES } else { 0 };
                Some(chunks.next_len()? + magic)
            }
            Body::Composite(composite) => composite.next_len(),
        }
    }

    /// Opens the sealed bytes in the buffer, in place: what is left are the plaintext bytes of the range, none for the
    /// head of a part.
    ///
    /// Give it [`Opener::next_len`] bytes, or those that are left where the store's body ends before: that is an
    /// error.
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if these are not the sealed bytes of the next chunk; the buffer is then empty.
    /// [`Error::Misuse`] if no chunk is left.
    pub fn open(&mut self, chunk: &mut BytesMut) -> Result<(), Error> {
        let opened = match &mut self.0 {
            Body::Stream { chunks, .. } => match chunks.at_start() {
                true => take_magic(chunk).and_then(|()| chunks.open(chunk)),
                false => chunks.open(chunk),
            },
            Body::Composite(composite) => composite.open(chunk),
        };
        if opened.is_err() {
            // No byte of a chunk that did not authenticate may leave.
            chunk.clear();
        }
        opened
    }

    /// Opens the trailer, a stream's last 64 sealed bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Tampered`] if they are not the trailer of this stream; [`Error::Misuse`] if the object is composite.
    pub fn open_trailer(self, sealed: &[u8]) -> Result<Trailer, Error> {
        match self.0 {
            Body::Stream { trailer, length, .. } => Trailer::open(trailer, length, sealed),
            Body::Composite(_) => Err(Error::Misuse("a composite object has no stream trailer")),
        }
    }
}

impl Composite {
    fn next_len(&self) -> Option<usize> {
        match &self.chunks {
            Some(chunks) => chunks.next_len(),
            None => self.piece.map(|_| PART_HEAD_LEN as usize),
        }
    }

    fn open(&mut self, sealed: &mut BytesMut) -> Result<(), Error> {
        let Some(chunks) = &mut self.chunks else {
            let salt = PartSalt::parse(sealed)?;
            self.begin(&salt);
            sealed.clear();
            return Ok(());
        };
        chunks.open(sealed)?;
        if chunks.next_len().is_none() {
            self.chunks = None;
            self.piece = self.piece.and_then(|piece| self.manifest.next_piece(piece, self.range));
        }
        Ok(())
    }

    /// Begins the part whose salt this is.
    fn begin(&mut self, salt: &PartSalt) {
        if let Some(piece) = self.piece {
            let key = self.oek.part_key(salt.bytes(), piece.number().get());
            self.chunks = Some(ChunkOpener::new(key, piece.length(), piece.range()));
        }
    }
}

fn take_magic(chunk: &mut BytesMut) -> Result<(), Error> {
    if !chunk.starts_with(&MAGIC) {
        return Err(Error::Tampered);
    }
    chunk.advance(MAGIC_BYTES);
    Ok(())
}
