//! DeleteBucket: a bucket that looks empty to its clients can be deleted, with what s3veil keeps there.
//!
//! S3 deletes a bucket although uploads are under way in it; here such an upload leaves objects under `.s3veil/`.

use http::{Method, StatusCode};

use super::own::{Own, Start};
use super::{Answer, Rooms, encryption, forward};
use crate::auth::Who;
use crate::backend::{StoreHeaders, StoreRequest};
use crate::body::ByteBody;
use crate::operation::Call;
use crate::policy::Forward;
use crate::s3::address::RESERVED_PREFIX;
use crate::s3::listing::Listed;
use crate::s3::{Bucket, Key, Result};

pub(super) async fn delete_bucket(
    rooms: &Rooms,
    call: Call,
    leave: Forward,
    body: ByteBody,
) -> Result<Answer> {
    let (bucket, who) = (call.bucket().expect("DeleteBucket names a bucket").clone(), call.who().clone());
    let headers = StoreHeaders::forwarded(call.headers());
    let answer = forward::forward(rooms, call, leave, body).await?;
    let answer = emptied(rooms, (&bucket, &who), headers, answer).await?;
    if answer.status().is_success() {
        encryption::forget_record(rooms, &bucket, &who).await;
    }
    Ok(answer)
}

/// The store's answer, or that to a second request if only what s3veil keeps there was in the way.
async fn emptied(
    rooms: &Rooms,
    (bucket, who): (&Bucket, &Who),
    headers: StoreHeaders,
    answer: Answer,
) -> Result<Answer> {
    // A bucket for the state of others' uploads is as full as it is.
    if answer.status() != StatusCode::CONFLICT || rooms.uploads.place() == Some(bucket) {
        return Ok(answer);
    }
    match empty(Own { rooms, bucket, who }).await {
        Ok(true) => {
            let request = StoreRequest::new(Method::DELETE, Some(bucket), None, headers, who);
            Ok(forward::answer(rooms.backend.send(request).await?))
        }
        Ok(false) => Ok(answer),
        Err(why) => {
            tracing::warn!(%why, bucket = bucket.as_str(), "what s3veil keeps in the bucket can't be removed");
            Ok(answer)
        }
    }
}

/// Removes what s3veil keeps in the bucket, if nothing else is there. Whether it did.
async fn empty(own: Own<'_>) -> Result<bool> {
    let kind = own.kind().await;
    let (first, _) = own.page(kind, "", Start::new()).await?;
    if !first.iter().all(ours) {
        return Ok(false);
    }
    // Every key between that page and this one begins with the prefix.
    let (behind, _) = own.page(kind, "", Own::behind(kind, &RESERVED_PREFIX.replace('/', "0"))).await?;
    if !behind.is_empty() {
        return Ok(false);
    }
    own.remove(kind, RESERVED_PREFIX).await?;
    Ok(true)
}

/// Whether it is s3veil's own, and nobody else's in any reading.
fn ours(object: &Listed) -> bool {
    object.key.starts_with(RESERVED_PREFIX) && Key::parse(&object.key).is_some()
}
