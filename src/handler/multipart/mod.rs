//! Multipart uploads: each part sealed under a key of its own, a manifest as the last part at the store.
//!
//! No replica remembers anything: what an upload needs is in the store, under `.s3veil/uploads/`.

mod complete;
mod create;
mod gc;
mod list;
mod part;
mod part_copy;
mod state;
mod sums;

pub use gc::{Collector, Kept, Upload};
pub(super) use part_copy::upload_part_copy;
pub use state::{StateConfig, Uploads};
pub(super) use sums::{of_manifest, of_part};

use http::{Method, StatusCode};

use super::{Answer, Rooms, forward};
use crate::backend::{StoreHeaders, StoreRequest};
use crate::body::ByteBody;
use crate::operation::{Call, Operation};
use crate::policy::Write;
use crate::s3::{Code, Error, Result};
use crate::seal::PartNumber;

/// S3's number for the manifest, past those that clients may use.
const MANIFEST: u32 = 10_000;

pub(super) async fn run(
    rooms: &std::sync::Arc<Rooms>,
    call: Call,
    write: Write,
    body: ByteBody,
) -> Result<Answer> {
    match call.operation() {
        Operation::CreateMultipartUpload => create::create(rooms, &call, write).await,
        _ => go_on(rooms, call, body).await,
    }
}

/// Goes on with an upload: with which key, was decided when it began.
pub(super) async fn go_on(rooms: &std::sync::Arc<Rooms>, call: Call, body: ByteBody) -> Result<Answer> {
    match call.operation() {
        Operation::UploadPart => part::upload_part(rooms, call, body).await,
        Operation::CompleteMultipartUpload => complete::complete(rooms, call, body).await,
        Operation::ListParts => list::list_parts(rooms, &call).await,
        _ => abort(rooms, &call).await,
    }
}

/// AbortMultipartUpload. Source: Amazon S3 API Reference.
async fn abort(rooms: &Rooms, call: &Call) -> Result<Answer> {
    let (bucket, key) = call.object()?;
    let id = upload_id(call)?;
    let request = StoreRequest::new(
        Method::DELETE,
        Some(bucket),
        Some(key),
        StoreHeaders::forwarded(call.headers()),
        call.who(),
    )
    .query(call.query().pick(&["uploadId"]));
    let store = rooms.backend.send(request).await?;
    // An upload that is gone may have left its state, where an earlier abort broke off.
    if store.status().is_success() || store.status() == StatusCode::NOT_FOUND {
        rooms.uploads.remove(rooms, call.who(), bucket, key, id).await;
    }
    Ok(forward::answer(store))
}

fn upload_id(call: &Call) -> Result<&str> {
    let id = call.query().only("uploadId")?.filter(|id| !id.is_empty());
    id.ok_or_else(|| {
        Error::new(Code::InvalidArgument, "The query parameter uploadId has no value. Give it one.")
    })
}

/// The number of the part that is sent.
fn part_number(call: &Call) -> Result<PartNumber> {
    let text = call.query().only("partNumber")?.unwrap_or_default();
    let number = text.parse().ok().and_then(PartNumber::new);
    number.ok_or_else(|| {
        Error::new(
            Code::InvalidArgument,
            "Part number must be an integer between 1 and 9999, inclusive: s3veil keeps 10000 for itself.",
        )
        .detail("ArgumentName", "partNumber")
        .detail("ArgumentValue", text)
    })
}

fn no_such_upload() -> Error {
    Error::new(
        Code::NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or \
         completed.",
    )
}
