//! Everything else: passed on as it came, re-signed, long bodies streaming.

use super::{Answer, Rooms};
use crate::backend::{StoreBody, StoreHeaders, StoreRequest, StoreResponse};
use crate::body::{self, ByteBody, Checked};
use crate::operation::{Call, Operation};
use crate::policy::Forward;
use crate::response;
use crate::s3::multipart::error_code;
use crate::s3::{Code, Error, Query, Result};
use crate::seal::PlainLen;
use http::{Method, StatusCode, header};
use http_body::Body as _;

/// As much of a document as it takes to see what it is.
const PEEK: usize = 512;

/// The longest document of a refusal that is looked at.
const REFUSAL_MAX: usize = 64 * 1024;

/// Parameters that go on beside a sub-resource of a bucket, or with a listing of buckets. None makes it a listing of keys.
const PARAMETERS: [&str; 9] = [
    "bucket-region",
    "continuation-token",
    "events",
    "id",
    "max-buckets",
    "ping",
    "prefix",
    "suffix",
    "usage",
];

/// Documents up to this length are read whole, checked, and signed with their hash. Stores take the framing of a stream
/// for an object's body only.
const DOCUMENT: u64 = 1024 * 1024;

pub(super) async fn forward(rooms: &Rooms, mut call: Call, leave: Forward, body: ByteBody) -> Result<Answer> {
    let mut payload = call.take_payload();
    let mut request =
        StoreRequest::new(call.method().clone(), call.bucket(), call.key(), headers(&call), call.who())
            .query(query(&call));
    // A request with no length and no body is as good as an empty one; one with a body must say how long it is.
    payload.length = payload.length.or(body.is_end_stream().then_some(0));
    let checked = Checked::new(body, payload, rooms.client_idle)?;
    if checked.length() > PlainLen::MAX.get() {
        return Err(Error::new(
            Code::EntityTooLarge,
            "Your proposed upload exceeds the maximum allowed size, 5 TiB.",
        ));
    }
    let outcome = checked.outcome();
    let body = match call.operation() {
        // Nobody has judged it: it goes on without a body, and never with the store's credentials.
        Operation::Preflight => {
            request.signer = None;
            StoreBody::empty()
        }
        Operation::PutObject | Operation::UploadPart => StoreBody::plain(checked, leave),
        _ if checked.length() <= DOCUMENT => StoreBody::document(checked.document(DOCUMENT).await?, leave),
        _ => StoreBody::unframed(checked, leave),
    };
    let result = rooms.backend.send(request.body(body)).await;
    match (outcome.take_failure(), call.operation()) {
        (Some(failure), _) => Err(failure),
        (None, Operation::Other(name)) if *call.method() == Method::GET => {
            no_listing(answer(result?), name).await
        }
        (None, Operation::PutObject | Operation::UploadPart) => refusal(result?).await,
        (None, _) => Ok(answer(result?)),
    }
}

/// A store that does not know a sub-resource of a bucket lists the bucket: with keys that the policy hides, and sizes as
/// stored. That is no answer to what was asked.
async fn no_listing(answer: Answer, name: &str) -> Result<Answer> {
    let events = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    // Events come when they come: there is nothing to wait for.
    if events || !answer.status().is_success() {
        return Ok(answer);
    }
    let (parts, body) = answer.into_parts();
    let (first, body) = body::peek(body, PEEK).await.map_err(body::Broken::Store)?;
    let begins = |root: &&str| memchr::memmem::find(&first, root.as_bytes()).is_some();
    if ["<ListBucketResult", "<ListVersionsResult"].iter().any(begins) {
        return Err(Error::new(
            Code::NotImplemented,
            format!("The store does not know '{name}' of a bucket."),
        ));
    }
    Ok(Answer::from_parts(parts, body))
}

/// The headers that go on. Operations on an object's body come here only where nothing is sealed.
fn headers(call: &Call) -> StoreHeaders {
    use Operation::*;
    match call.operation() {
        PutObject | CreateMultipartUpload | UploadPart | CompleteMultipartUpload | SelectObjectContent => {
            StoreHeaders::with_encryption(call.headers())
        }
        _ => StoreHeaders::forwarded(call.headers()),
    }
}

/// The query that goes on. For a sub-resource only what belongs to it: whatever else stood there, the
/// store could take for another operation.
fn query(call: &Call) -> Query {
    match call.operation() {
        Operation::ObjectResource(resource) => call.query().pick(&[resource, "versionId"]),
        Operation::DeleteObject => call.query().pick(&["versionId"]),
        Operation::DeleteBucket => Query::default(),
        Operation::Other(name) => call.query().pick(&[&[name], &PARAMETERS[..]].concat()),
        _ => call.query().clone(),
    }
}

/// The store's answer to an object's body, which is the client's only if it got that as it was sent: what a client sends is
/// checked before the end of it goes on, so whatever is missing or another one was lost behind s3veil.
///
/// Errors: ServiceUnavailable.
pub(super) async fn refusal(store: StoreResponse) -> Result<Answer> {
    if store.status() != StatusCode::BAD_REQUEST {
        return Ok(answer(store));
    }
    let (parts, store_body) = store.into_parts();
    let text = body::gather(store_body, REFUSAL_MAX).await.map_err(body::Broken::Store)?;
    match error_code(&text).as_deref().and_then(lost) {
        Some(error) => Err(error),
        None => Ok(answer(StoreResponse::from_parts(parts, body::full(text)))),
    }
}

/// The error for a code with which a store refuses, by 400, a body that it did not get as it was sent.
pub(super) fn lost(code: &str) -> Option<Error> {
    let codes = ["IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"];
    codes.contains(&code).then(|| {
        let message = "The store did not get the body as it was sent. Please try again.";
        let error = Error::new(Code::ServiceUnavailable, message).retry_after(2);
        error.caused_by(format!("the store answered {code}"))
    })
}

/// The store's answer as it is, without the headers of its connection.
pub(super) fn answer(store: StoreResponse) -> Answer {
    let (parts, body) = store.into_parts();
    let mut answer = Answer::new(body);
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = response::forwarded(&parts.headers);
    answer
}
