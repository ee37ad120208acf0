//! Everything else: passed on as it came, re-signed, long bodies streaming.

use super::{Answer, Rooms};
use crate::backend::{StoreBody, StoreHeaders, StoreRequest, StoreResponse};
use crate::body::{ByteBody, Checked};
use crate::operation::{Call, Operation};
use crate::policy::Forward;
use crate::response;
use crate::s3::{Query, Result};
use http_body::Body as _;

/// Documents up to this length are read whole, checked, and signed with their hash. Stores take the framing of a stream
/// for an object's body only.
const DOCUMENT: u64 = 1024 * 1024;

pub(super) async fn forward(rooms: &Rooms, mut call: Call, leave: Forward, body: ByteBody) -> Result<Answer> {
    let mut payload = call.take_payload();
    let request = StoreRequest::new(
        call.method().clone(),
        call.bucket(),
        call.key(),
        StoreHeaders::forwarded(call.headers()),
        call.who(),
    )
    .query(query(&call));
    // A request with no length and no body is as good as an empty one; one with a body must say how long it is.
    payload.length = payload.length.or(body.is_end_stream().then_some(0));
    let checked = Checked::new(body, payload, rooms.client_idle)?;
    let outcome = checked.outcome();
    let body = match call.operation() {
        Operation::PutObject | Operation::UploadPart => StoreBody::plain(checked, leave),
        _ if checked.length() <= DOCUMENT => StoreBody::document(checked.document(DOCUMENT).await?, leave),
        _ => StoreBody::unframed(checked, leave),
    };
    let result = rooms.backend.send(request.body(body)).await;
    match outcome.take_failure() {
        Some(failure) => Err(failure),
        None => Ok(answer(result?)),
    }
}

/// The query that goes on. For a sub-resource of an object only what belongs to it: whatever else stood there, the
/// store could take for another operation.
fn query(call: &Call) -> Query {
    match call.operation() {
        Operation::ObjectResource(resource) => call.query().pick(&[resource, "versionId"]),
        Operation::DeleteObject => call.query().pick(&["versionId"]),
        _ => call.query().clone(),
    }
}

/// The store's answer as it is, without the headers of its connection.
pub(super) fn answer(store: StoreResponse) -> Answer {
    let (parts, body) = store.into_parts();
    let mut answer = Answer::new(body);
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = response::forwarded(&parts.headers);
    answer
}
