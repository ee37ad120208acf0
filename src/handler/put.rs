//! PutObject: sealed while it streams, one request to the store.
//!
//! Source: Amazon S3 API Reference, PutObject.

use http::{HeaderMap, Method};

use super::{Answer, Rooms};
use crate::backend::{StoreBody, StoreHeaders, StoreRequest};
use crate::body::{ByteBody, Checked, Outcome, SealedBody};
use crate::kms::keys::WriteKey;
use crate::operation::Call;
use crate::policy::{EkRef, Write};
use crate::response;
use crate::s3::{Bucket, Code, Error, Key, Result};
use crate::seal::{Envelope, Fresh, Header, Layout, Place, PlainLen, Sse};

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
    let sse = requested_sse(call.headers(), write.ek().ek.as_str())?;
    let checked = Checked::new(body, payload, rooms.client_idle)?;
    let length = PlainLen::new(checked.length())
        .filter(|length| length.sealed().get() <= MAX_PUT)
        .ok_or_else(|| {
            Error::new(Code::EntityTooLarge, "Your proposed upload exceeds the maximum allowed size, 5 GiB.")
        })?;

    let ek = write.ek();
    let (envelope, fresh) =
        fresh_envelope(rooms, ek, (bucket, key), Layout::Stream(length), sse, length.get()).await?;

    let outcome = checked.outcome();
    let mut store_headers = StoreHeaders::for_object(call.headers());
    store_headers.set_envelope(&envelope)?;
    let sealed = SealedBody::new(checked, fresh.into_sealer()?);
    let request = StoreRequest::new(Method::PUT, Some(bucket), Some(key), store_headers, call.who())
        .body(StoreBody::sealed(sealed));
    send_sealed(rooms, request, outcome, sse, ek.ek.as_str()).await
}

/// A new object's envelope and key. `bytes` of plaintext are counted on the DEK.
pub(super) async fn fresh_envelope(
    rooms: &Rooms,
    ek: &EkRef,
    (bucket, key): (&Bucket, &Key),
    layout: Layout,
    sse: Sse,
    bytes: u64,
) -> Result<(Envelope, Fresh)> {
    let data_key = rooms.keys.for_write(&ek.kms, &ek.ek, bucket, bytes).await?;
    let place = Place { bucket: bucket.as_str(), key: key.as_str() };
    Ok(Envelope::seal(header_of(ek, &data_key, layout, sse), &data_key.dek, place)?)
}

/// What an envelope says of its object.
pub(super) fn header_of(ek: &EkRef, data_key: &WriteKey, layout: Layout, sse: Sse) -> Header {
    Header {
        layout,
        kms: ek.kms.clone(),
        ek: ek.ek.as_str().to_owned(),
        ek_version: data_key.version.clone(),
        wrapped_dek: data_key.wrapped.as_bytes().to_vec(),
        sse,
        context: None,
    }
}

/// Sends a sealed body, and answers with the headers of what was stored and the checksum of its plaintext.
pub(super) async fn send_sealed(
    rooms: &Rooms,
    request: StoreRequest,
    outcome: Outcome,
    sse: Sse,
    ek: &str,
) -> Result<Answer> {
    let result = rooms.backend.send(request).await;
    if let Some(failure) = outcome.take_failure() {
        return Err(failure);
    }
    let store = result?;
    if !store.status().is_success() {
        return Ok(super::forward::answer(store));
    }
    let sums = outcome.sums().ok_or_else(|| {
        Error::new(
            Code::ServiceUnavailable,
            "The store answered before it had the whole object. Please try again.",
        )
    })?;
    let mut headers = response::for_sealed(store.headers(), sse, ek);
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

/// SSE-C: the key is the client's secret, and the store is not to see it, on a read no more than on a write.
pub(super) fn refuse_customer_key(headers: &HeaderMap) -> Result<()> {
    if headers.keys().any(|name| name.as_str().contains("server-side-encryption-customer-")) {
        return Err(Error::new(
            Code::NotImplemented,
            "SSE-C is not served yet. Leave the key to s3veil and remove the customer key headers.",
        ));
    }
    Ok(())
}

/// Which of S3's forms of encryption the client asks for. Each is served by the EK of the policy.
pub(super) fn requested_sse(headers: &HeaderMap, ek: &str) -> Result<Sse> {
    let value = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let refuse = |message: String| Err(Error::new(Code::NotImplemented, message));
    refuse_customer_key(headers)?;
    if value("x-amz-server-side-encryption-context").is_some() {
        return refuse("An encryption context of the client is not served yet. Remove the header.".into());
    }
    if let Some(wanted) = value("x-amz-server-side-encryption-aws-kms-key-id") {
        let name = wanted.strip_prefix("arn:aws:kms:").unwrap_or(wanted);
        if name != ek {
            return refuse(format!(
                "A key of the client's choice is not served yet. This place is sealed by '{ek}'."
            ));
        }
    }
    match value("x-amz-server-side-encryption") {
        None | Some("aws:kms") => Ok(Sse::Kms),
        Some("AES256") => Ok(Sse::S3),
        Some(other) => Err(Error::new(
            Code::InvalidArgument,
            format!("The encryption method '{other}' is not supported. Use aws:kms or AES256."),
        )),
    }
}
