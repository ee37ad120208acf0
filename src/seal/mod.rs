//! The sealed format, version 1: arithmetic, keys, chunks, envelope, trailer. No I/O; knows no other room.
//!
//! `docs/format.md` is the specification. Two walks through the room:
//!
//! Writing: [`Envelope::seal`] gives the envelope, for the metadata, and a [`Fresh`] key; [`Fresh::into_sealer`]
//! gives the [`Sealer`]. The body is [`MAGIC`], then each chunk out of [`Sealer::seal`], then [`Sealer::finish`].
//!
//! Reading: a [`PlainAsk`] becomes a [`SealedAsk`] before the object is known. The store's answer brings the object's
//! [`SealedLen`], the [`SealedRange`] that came, and the envelope. [`Envelope::parse`] and [`Envelope::open`] lead to
//! [`Opened`], the only way to a key; [`Opened::layout`] to a plaintext length that can be believed;
//! [`PlainAsk::resolve`] to a [`PlainRange`]; [`SealedRange::skip_to`] says how many bytes to drop, and
//! [`Opened::into_opener`] opens the rest.

mod chunk;
mod envelope;
mod error;
mod header;
mod key;
mod len;
mod magic;
mod manifest;
mod opener;
mod part;
mod range;
mod sealer;
mod trailer;
#[cfg(test)]
mod vectors;

pub use envelope::{Envelope, Fresh, Opened};
pub use error::Error;
pub use header::{Header, Sse, WRAPPED_DEK_MAX};
pub use key::{Dek, Place};
pub use len::{CHUNK, Layout, MAGIC_LEN, PlainLen, SealedLen, TAG, TRAILER_LEN};
pub use magic::{MAGIC, is_magic};
pub use manifest::{BLOCK_MAX, Block, FOOTER_LEN, Located, Manifest, ObjectSum, Part, SumKind, block_len};
pub use opener::Opener;
pub use part::{PART_HEAD_LEN, PartNumber, PartSalt};
pub use range::{ChunkSpan, PlainAsk, PlainRange, SealedAsk, SealedRange};
pub use sealer::Sealer;
pub use trailer::{ClientSum, SumAlgorithm, Trailer};
