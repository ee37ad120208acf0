//! PutObject: sealed while it streams, one request to the store.
//!
//! Source: Amazon S3 API Reference, PutObject.

use http::{Method, header};

use super::sealing::{fresh_envelope, written};
use super::{Answer, Rooms};
use crate::backend::{StoreBody, StoreHeaders, StoreRequest};
use crate::body::{ByteBody, Checked, Outcome, SealedBody};
use crate::operation::Call;
use crate::policy::Write;
use crate::response::{self, Encryption};
use crate::s3::{Code, Error, Result};
use crate::seal::{Layout, PlainLen};

/// The largest object of one PUT, in plaintext bytes (S3: 5 GB, which the sealed bytes must also keep).
pub(super) const MAX_PUT: u64 = 5 * 1024 * 1024 * 1024;

pub(super) async fn put_object(
    rooms: &Rooms,
    mut call: Call,
    write: Write,
    body: ByteBody,
) -> Result<Answer> {
    let payload = call.take_payload();
    let (bucket, key) = call.object()?;
    refuse_other_writes(&call)?;
    let checked = Checked::new(body, payload, rooms.client_idle)?;
    let length = PlainLen::new(checked.length())
        .filter(|length| length.sealed().get() <= MAX_PUT)
        .ok_or_else(|| {
            Error::new(Code::EntityTooLarge, "Your proposed upload exceeds the maximum allowed size, 5 GiB.")
        })?;

    let (envelope, fresh) =
        fresh_envelope(rooms, &write, (bucket, key), Layout::Stream(length), length.get()).await?;

    let outcome = checked.outcome();
    let mut store_headers = StoreHeaders::for_object(call.headers());
    store_headers.set_envelope(&envelope, write.context())?;
    let sealed = SealedBody::new(checked, fresh.into_sealer()?, rooms.metrics.sealing());
    let request = StoreRequest::new(Method::PUT, Some(bucket), Some(key), store_headers, call.who())
        .body(StoreBody::sealed(sealed));
    send_sealed(rooms, request, outcome, &written(&write)).await
}

/// Sends a sealed body, and answers with the headers of what was stored and the checksum of its plaintext.
pub(super) async fn send_sealed(
    rooms: &Rooms,
    request: StoreRequest,
    outcome: Outcome,
    encryption: &Encryption,
) -> Result<Answer> {
    let result = rooms.backend.send(request).await;
    if let Some(failure) = outcome.take_failure() {
        return Err(failure);
    }
    let store = result?;
    if !store.status().is_success() {
        return super::forward::refusal(store).await;
    }
    // Whoever answers so is no store, whatever stands between.
    if !store.headers().contains_key(header::ETAG) {
        return Err(Error::new(
            Code::InternalError,
            "The store gave the object no ETag, so it is not known to be stored.",
        ));
    }
    let sums = outcome.sums().ok_or_else(|| {
        Error::new(
            Code::ServiceUnavailable,
            "The store answered before it had the whole object. Please try again.",
        )
    })?;
    let mut headers = response::for_sealed(store.headers(), encryption);
    response::add_checksum(&mut headers, sums.client.as_ref().unwrap_or(&sums.crc64));
    let mut answer = Answer::new(crate::body::empty());
    *answer.headers_mut() = headers;
    Ok(answer)
}

/// Some stores do something else with a PUT, and need the plaintext for it: S3 Express and Ceph append to the object,
/// MinIO (as AWS Snowball) unpacks an archive. Passed on, they would spoil what is there; left out, overwrite it.
fn refuse_other_writes(call: &Call) -> Result<()> {
    let appends = call.headers().contains_key("x-amz-write-offset-bytes") || call.query().has("append");
    let unpacks = call.headers().contains_key("x-amz-meta-snowball-auto-extract");
    let what = match (appends, unpacks) {
        (true, _) => "Appending to an object",
        (_, true) => "Unpacking an archive",
        _ => return Ok(()),
    };
    Err(Error::new(
        Code::NotImplemented,
        format!("{what} is not served where objects are sealed. Write each object whole."),
    ))
}
