//! PutObject: sealed while it streams, one request to the store.
//!
//! Source: Amazon S3 API Reference, PutObject.

use http::{HeaderMap, HeaderValue, Method};

use super::{Answer, Rooms};
use crate::backend::{StoreBody, StoreHeaders, StoreRequest};
use crate::body::{ByteBody, Checked, SealedBody};
use crate::operation::Call;
use crate::policy::Write;
use crate::response;
use crate::s3::{Code, Error, Result, headers};
use crate::seal::{Envelope, Header, Layout, Place, PlainLen, Sse};

/// The largest object of one PUT, in plaintext bytes (S3: 5 GB, which the sealed bytes must also keep).
const MAX_PUT: u64 = 5 * 1024 * 1024 * 1024;

pub(super) async fn put_object(
    rooms: &Rooms,
    mut call: Call,
    write: Write,
    body: ByteBody,
) -> Result<Answer> {
    let payload = call.take_payload();
    let (bucket, key) = call.object()?;
    let sse = requested_sse(call.headers(), write.ek().ek.as_str())?;
    refuse_store_work(call.headers())?;
    let checked = Checked::new(body, payload, rooms.client_idle)?;
    let length = PlainLen::new(checked.length())
        .filter(|length| length.sealed().get() <= MAX_PUT)
        .ok_or_else(|| {
            Error::new(Code::EntityTooLarge, "Your proposed upload exceeds the maximum allowed size, 5 GiB.")
        })?;

    let ek = write.ek();
    let data_key = rooms.keys.for_write(&ek.kms, &ek.ek, bucket, length.get()).await?;
    let header = Header {
        layout: Layout::Stream(length),
        kms: ek.kms.clone(),
        ek: ek.ek.as_str().to_owned(),
        ek_version: data_key.version.clone(),
        wrapped_dek: data_key.wrapped.as_bytes().to_vec(),
        sse,
        context: None,
    };
    let place = Place { bucket: bucket.as_str(), key: key.as_str() };
    let (envelope, fresh) = Envelope::seal(header, &data_key.dek, place)?;

    let outcome = checked.outcome();
    let mut store_headers = StoreHeaders::for_object(call.headers());
    store_headers.set(
        headers::ENVELOPE,
        HeaderValue::from_str(&envelope.encode()).expect("base64url is a header value"),
    );
    let sealed = SealedBody::new(checked, length, fresh.into_sealer()?);
    let request = StoreRequest::new(Method::PUT, Some(bucket), Some(key), store_headers, call.who())
        .body(StoreBody::sealed(sealed));
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
    let mut headers = response::for_sealed(store.headers(), sse, ek.ek.as_str());
    response::add_checksum(&mut headers, sums.client.as_ref().unwrap_or(&sums.crc64));
    let mut answer = Answer::new(crate::body::empty());
    *answer.headers_mut() = headers;
    Ok(answer)
}

/// Refuses what the store would have to do with the body. Sealed bytes behind sealed bytes are no sealed object, and would
/// spoil the one that is there; and no archive can be unpacked that is sealed.
fn refuse_store_work(headers: &HeaderMap) -> Result<()> {
    let refuse = |message| Err(Error::new(Code::NotImplemented, message));
    if headers.contains_key("x-amz-write-offset-bytes") {
        return refuse(
            "Appending to an object is not served where objects are sealed. Put the whole object.",
        );
    }
    if headers.contains_key("x-amz-meta-snowball-auto-extract") {
        return refuse("An archive is not unpacked where objects are sealed. Put each object.");
    }
    Ok(())
}

/// Which of S3's forms of encryption the client asks for. Each is served by the EK of the policy.
fn requested_sse(headers: &HeaderMap, ek: &str) -> Result<Sse> {
    let value = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let refuse = |message: String| Err(Error::new(Code::NotImplemented, message));
    if headers.keys().any(|name| name.as_str().starts_with("x-amz-server-side-encryption-customer-")) {
        return refuse(
            "SSE-C is not served yet. Leave the key to s3veil and remove the customer key headers.".into(),
        );
    }
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
