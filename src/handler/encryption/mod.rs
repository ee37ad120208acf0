//! Put-, Get- and DeleteBucketEncryption: answered by s3veil, which keeps the default sealed in the store.
//!
//! The store knows nothing of EKs. It is asked all the same whether this client may see to the bucket's encryption: that
//! is its own permission at S3, and who has what at the store only the store knows.
//!
//! Source: Amazon S3 API Reference, PutBucketEncryption, GetBucketEncryption, DeleteBucketEncryption.

mod known;
mod record;

pub use known::KnownDefaults;
pub(super) use record::forget as forget_record;

use http::{HeaderMap, HeaderName, Method, StatusCode};
use serde::Deserialize;

use super::own::unwell;
use super::{Answer, Rooms, forward, get};
use crate::auth::Who;
use crate::backend::{StoreHeaders, StoreRequest, StoreResponse};
use crate::body::{self, ByteBody, Checked, gather};
use crate::operation::{Call, Operation};
use crate::policy::{BucketDefault, Settable};
use crate::s3::bucket_encryption::BucketEncryption;
use crate::s3::multipart::from_store;
use crate::s3::{Bucket, Code, Error, Query, Result};

/// The largest document, of a client's and of an error of the store's.
const MAX_DOCUMENT: usize = 64 * 1024;

pub(super) async fn run(rooms: &Rooms, mut call: Call, settable: Settable, body: ByteBody) -> Result<Answer> {
    let payload = call.take_payload();
    let bucket = call.bucket().expect("the operation names a bucket").clone();
    if let Some(refusal) = refusal(rooms, &call, &bucket).await? {
        return Ok(refusal);
    }
    match call.operation() {
        Operation::PutBucketEncryption => {
            let document =
                Checked::new(body, payload, rooms.client_idle)?.document(MAX_DOCUMENT as u64).await?;
            put(rooms, &bucket, call.who(), &settable, &document).await
        }
        Operation::DeleteBucketEncryption => {
            let removed = record::remove(rooms, &bucket, call.who()).await;
            rooms.defaults.changed();
            Ok(removed?.map_or_else(|| empty(StatusCode::NO_CONTENT), forward::answer))
        }
        _ => show(rooms, &bucket, &settable).await,
    }
}

async fn put(
    rooms: &Rooms,
    bucket: &Bucket,
    who: &Who,
    settable: &Settable,
    document: &[u8],
) -> Result<Answer> {
    let asked = BucketEncryption::parse(document)?;
    let ek = asked.key_id.as_deref().map(|id| settable.named(id)).transpose()?;
    if let Some(ek) = &ek {
        // Now, and not at the first write.
        rooms.keys.probe(&ek.kms, &ek.ek).await?;
    }
    let default = BucketDefault { asked, ek };
    let written = record::write(rooms, bucket, who, settable.own(), &default).await;
    rooms.defaults.changed();
    Ok(written?.map_or_else(|| empty(StatusCode::OK), forward::answer))
}

async fn show(rooms: &Rooms, bucket: &Bucket, settable: &Settable) -> Result<Answer> {
    let Some(default) = record::read(rooms, bucket).await?.into_default() else {
        let eks: Vec<_> = settable.static_eks().into_iter().map(|ek| format!("'{ek}'")).collect();
        return Err(Error::new(
            Code::NoEncryptionConfiguration,
            format!(
                "The server side encryption configuration was not found: none was set. The policy of s3veil seals under {}.",
                eks.join(", ")
            ),
        ));
    };
    Ok(get::document(HeaderMap::new(), default.asked.to_xml()))
}

/// The store's refusal, if this client may not see to the bucket's encryption, or there is no such bucket. A store without
/// an encryption of its own says so.
///
/// Errors: ServiceUnavailable where the store says neither.
async fn refusal(rooms: &Rooms, call: &Call, bucket: &Bucket) -> Result<Option<Answer>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct StoreError {
        code: Option<String>,
    }

    let mut headers = StoreHeaders::default();
    let owner = HeaderName::from_static("x-amz-expected-bucket-owner");
    if let Some(expected) = call.headers().get(&owner) {
        headers.set(owner, expected.clone());
    }
    let request = StoreRequest::new(Method::GET, Some(bucket), None, headers, call.who())
        .query(Query::from_pairs([("encryption", "")]));
    let store = rooms.backend.send(request).await?;
    let (parts, store_body) = store.into_parts();
    let text = gather(store_body, MAX_DOCUMENT).await.map_err(body::Broken::Store)?;
    let refused = match parts.status {
        status if status.is_success() => false,
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => false,
        StatusCode::NOT_FOUND => {
            let code = from_store::<StoreError>(&text).ok().and_then(|error| error.code);
            code.as_deref() == Some("NoSuchBucket")
        }
        status if status.is_client_error() => true,
        status => return Err(unwell(status)),
    };
    Ok(refused.then(|| forward::answer(StoreResponse::from_parts(parts, body::full(text)))))
}

fn empty(status: StatusCode) -> Answer {
    get::answer(status, HeaderMap::new(), body::empty())
}
