//! The file of a form in parts, held against the lengths that its policy allows.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::Lengths;
use crate::body::{BoxError, ByteBody};
use crate::s3::{Code, Error, Result};

/// Beyond so many bytes room is made for a whole part at once.
const LONG: usize = 256 * 1024;

/// How many forms of the process may hold more than that at once: a quarter of a gigabyte in all, by parts of 8 MiB.
const LONG_FORMS: usize = 32;

/// Room for the parts of forms. A form costs its sender nothing but bytes, whoever he is, and s3veil a part's memory.
#[derive(Clone)]
pub struct LongForms(Arc<Semaphore>);

impl Default for LongForms {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LONG_FORMS)))
    }
}

impl LongForms {
    /// How many more there is room for.
    pub fn free(&self) -> usize {
        self.0.available_permits()
    }

    /// Errors: SlowDown. A form that waited would hold what it has sent so far.
    fn take(&self) -> Result<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().map_err(|_| {
            Error::new(
                Code::SlowDown,
                "Please reduce your request rate: too many forms with long files are under way. Try again.",
            )
            .retry_after(1)
        })
    }
}

/// A form's file, read part by part into the same memory.
pub(super) struct File {
    body: ByteBody,
    lengths: Lengths,
    /// Bytes of a part.
    part: usize,
    seen: u64,
    buffer: BytesMut,
    /// Read, but of the next part.
    rest: Bytes,
    ended: bool,
    room: LongForms,
    /// What a long one has of the room, to its end.
    taken: Option<OwnedSemaphorePermit>,
}

impl File {
    /// The parts of a file, of so many bytes each.
    pub(super) fn new(body: ByteBody, lengths: Lengths, part: usize, room: LongForms) -> Self {
        let (buffer, rest) = (BytesMut::new(), Bytes::new());
        Self { body, lengths, part, seen: 0, buffer, rest, ended: false, room, taken: None }
    }

    /// The next part. It is full, unless it is the last. The one before should be gone by then: its memory is used again.
    ///
    /// Errors: those of the form, EntityTooLarge as soon as it is, EntityTooSmall at its end, SlowDown.
    pub(super) async fn part(&mut self) -> Result<Bytes> {
        loop {
            if self.rest.is_empty() {
                match self.piece().await? {
                    Some(piece) => self.rest = piece,
                    None => {
                        self.lengths.whole(self.seen)?;
                        self.ended = true;
                        break;
                    }
                }
                self.seen += self.rest.len() as u64;
                self.lengths.so_far(self.seen)?;
            }
            // Whether a full part is the last one, only what comes behind it says.
            if self.buffer.len() == self.part {
                break;
            }
            let taken = self.rest.len().min(self.part - self.buffer.len());
            let long = self.seen > LONG as u64;
            if long && self.taken.is_none() {
                self.taken = Some(self.room.take()?);
            }
            self.buffer.reserve(if long { self.part - self.buffer.len() } else { taken });
            self.buffer.extend_from_slice(&self.rest.split_to(taken));
        }
        Ok(self.buffer.split().freeze())
    }

    /// Whether the last part was the last one: form and file are right as far as the form says.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    async fn piece(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(broken)?.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// The file's own error is S3's.
fn broken(why: BoxError) -> Error {
    why.downcast().map_or_else(
        |why| Error::new(Code::IncompleteBody, "The form broke off. Send it again.").caused_by(why),
        |error| *error,
    )
}
