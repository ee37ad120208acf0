//! Everything else: passed on as it came, re-signed, its body streaming.

use super::{Answer, Rooms};
use crate::backend::{StoreBody, StoreHeaders, StoreRequest, StoreResponse};
use crate::body::{ByteBody, Checked};
use crate::operation::{Call, Operation};
use crate::policy::Forward;
use crate::response;
use crate::s3::{Query, Result};
use http_body::Body as _;

pub(super) async fn forward(rooms: &Rooms, mut call: Call, leave: Forward, body: ByteBody) -> Result<Answer> {
    let payload = call.take_payload();
    let mut request = StoreRequest::new(
        call.method().clone(),
        call.bucket(),
        call.key(),
        StoreHeaders::forwarded(call.headers()),
        call.who(),
    )
    .query(query(&call));
    let mut outcome = None;
    // A request with no length and no body is as good as an empty one; one with a body must say how long it is.
    if payload.length.is_some_and(|length| length > 0) || !body.is_end_stream() {
        let checked = Checked::new(body, payload, rooms.client_idle)?;
        outcome = Some(checked.outcome());
        request = request.body(StoreBody::plain(checked, leave));
    }
    let result = rooms.backend.send(request).await;
    if let Some(failure) = outcome.and_then(|outcome| outcome.take_failure()) {
        return Err(failure);
    }
    Ok(answer(result?))
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
