//! PostObject: the file of a browser's form, written by the requests that any client of S3 would make.
//!
//! How long the file is, only its end says, and a store must be told before. So a file of up to a part's length is gathered
//! and put, and a longer one goes up as a multipart upload, a part at a time: memory is that of one part. Nothing is stored
//! before the last check of form and file has passed.
//!
//! Source: Amazon S3 API Reference, "POST Object".

mod answer;
mod file;
mod long;

use std::sync::Arc;

use bytes::Bytes;

use self::file::File;
pub use self::file::LongForms;
use super::{Answer, Rooms, forward, put};
use crate::auth::Payload;
use crate::body::{self, ByteBody};
use crate::operation::{Call, Operation, Posted};
use crate::policy::{Forward, Write};
use crate::s3::{Code, Error, Query, Result};

/// What is gathered of a file, and how long the parts of a longer one are.
const PART: u64 = 8 * 1024 * 1024;

/// How the file is written.
pub(super) enum Leave {
    /// Sealed.
    Sealed(Write),
    /// As it is.
    Plain(Forward),
}

pub(super) async fn post_object(
    rooms: &Arc<Rooms>,
    mut call: Call,
    leave: Leave,
    file: ByteBody,
) -> Result<Answer> {
    let (payload, Posted { lengths, done }) = (call.take_payload(), call.take_posted());
    let part = usize::try_from(PART.max(rooms.backend.min_part())).unwrap_or(usize::MAX);
    let mut file = File::new(file, lengths.at_most(put::MAX_PUT), part, rooms.long_forms.clone());
    let first = file.part().await?;
    if file.ended() {
        let written = short(rooms, &call, leave, first, payload).await?;
        return answer::of_write(&call, done, written);
    }
    let (rooms, detached) = (rooms.clone(), rooms.detached.clone());
    // If the client hangs up the file ends too early, and the upload is removed.
    let task = detached.spawn(async move {
        let written = long::write(&rooms, &call, leave, file, first, payload).await?;
        answer::of_write(&call, done, written)
    });
    task.await.map_err(|why| Error::new(Code::InternalError, "The file was not stored.").caused_by(why))?
}

/// Writes a file that is all there.
async fn short(rooms: &Rooms, call: &Call, leave: Leave, file: Bytes, payload: Payload) -> Result<Answer> {
    let payload = Payload { length: Some(file.len() as u64), ..payload };
    let write = call.writing(Operation::PutObject, Query::default(), call.headers().clone(), payload);
    match leave {
        Leave::Sealed(leave) => put::put_object(rooms, write, leave, body::full(file)).await,
        Leave::Plain(leave) => forward::forward(rooms, write, leave, body::full(file)).await,
    }
}
