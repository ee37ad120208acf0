//! A bucket's default as it is kept: a sealed object under `.s3veil/encryption/`, in the bucket or in `state.bucket`.
//!
//! It is read with the store's default credentials, whoever asks: a default that only some clients could read would seal
//! some of their objects under another EK. It is written and removed with the client's own. Each write replaces it whole,
//! so of writers that race the last one stands.

use http::{Method, StatusCode};

use super::super::own::{Kind, Own, unwell};
use super::super::target::Target;
use super::super::{Rooms, open, sealing};
use crate::auth::{Payload, Who};
use crate::backend::{StoreBody, StoreHeaders, StoreRequest, StoreResponse};
use crate::body::{self, Checked, Opening, SealedBody, gather};
use crate::policy::{BucketDefault, EkRef};
use crate::s3::address::RESERVED_PREFIX;
use crate::s3::{Bucket, Code, Error, Key, Result};
use crate::seal::{self, Layout, PlainLen, PlainRange};

/// The most plaintext bytes of a record.
const RECORD_MAX: usize = 8 * 1024;

/// What is found where a default is kept.
pub(super) enum Found {
    Default(BucketDefault),
    Nothing,
    /// The store does not say, or not to s3veil. At AWS a key that is not there is refused, too, where listing is.
    Refused,
}

impl Found {
    pub(super) fn into_default(self) -> Option<BucketDefault> {
        match self {
            Self::Default(default) => Some(default),
            Self::Nothing | Self::Refused => None,
        }
    }
}

/// Errors: the integrity error for a record that s3veil did not write, those of the KMS and the store.
pub(super) async fn read(rooms: &Rooms, bucket: &Bucket) -> Result<Found> {
    let (place, key) = place(rooms, bucket);
    let target = Target { bucket: place, key: &key, version: None, who: &Who::Trusted, customer: None };
    let store = rooms.backend.send(target.request(Method::GET)).await?;
    match store.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(Found::Nothing),
        StatusCode::FORBIDDEN => return Ok(Found::Refused),
        status => return Err(unwell(status)),
    }
    let sealed = open::sealed(rooms, target, store.headers()).await.map_err(unreadable)?;
    let sealed = sealed.ok_or_else(|| unreadable(seal::Error::NotAnEnvelope.into()))?;
    if sealed.length.get() > RECORD_MAX as u64 {
        return Err(unreadable(seal::Error::Tampered.into()));
    }
    let opener = sealed.opened.into_opener(PlainRange::whole(sealed.length)).map_err(Error::from)?;
    let plain = Opening::new(store.into_body(), opener, 0, true, rooms.metrics.opening()).into_body();
    let text = gather(plain, RECORD_MAX).await.map_err(|why| {
        unreadable(
            Error::new(Code::ServiceUnavailable, "It broke off, or does not authenticate.").caused_by(why),
        )
    })?;
    let default = serde_json::from_slice(&text).map_err(|_| unreadable(seal::Error::Tampered.into()))?;
    Ok(Found::Default(default))
}

/// Writes it, sealed under `ek`. Gives the store's answer where that is a refusal.
///
/// Errors: AccessDenied where s3veil could not read it afterwards.
pub(super) async fn write(
    rooms: &Rooms,
    bucket: &Bucket,
    who: &Who,
    ek: &EkRef,
    default: &BucketDefault,
) -> Result<Option<StoreResponse>> {
    let (place, key) = place(rooms, bucket);
    let text = serde_json::to_vec(default).expect("texts and flags are JSON");
    let length = PlainLen::new(text.len() as u64).expect("a record is short");
    let (envelope, fresh) =
        sealing::own_envelope(rooms, ek, (place, &key), Layout::Stream(length), length.get()).await?;
    let mut headers = StoreHeaders::default();
    headers.set_envelope(&envelope, None)?;
    let checked = Checked::new(body::full(text), Payload::of_length(length.get()), rooms.client_idle)?;
    let request = StoreRequest::new(Method::PUT, Some(place), Some(&key), headers, who)
        .body(StoreBody::sealed(SealedBody::new(checked, fresh.into_sealer()?, rooms.metrics.sealing())));
    let store = rooms.backend.send(request).await?;
    if !store.status().is_success() {
        return Ok(Some(store));
    }
    match read(rooms, bucket).await? {
        Found::Default(_) | Found::Nothing => Ok(None),
        Found::Refused => {
            remove(rooms, bucket, who).await?;
            Err(Error::new(
                Code::AccessDenied,
                "The default was not set: s3veil's own credentials (store.credentials.default) can't read it in the store. \
                 Let them get objects under '.s3veil/'.",
            ))
        }
    }
}

/// Removes it. Gives the store's answer where that is a refusal.
pub(super) async fn remove(rooms: &Rooms, bucket: &Bucket, who: &Who) -> Result<Option<StoreResponse>> {
    let (place, key) = place(rooms, bucket);
    let request = StoreRequest::new(Method::DELETE, Some(place), Some(&key), StoreHeaders::default(), who);
    let store = rooms.backend.send(request).await?;
    let gone = store.status().is_success() || store.status() == StatusCode::NOT_FOUND;
    Ok((!gone).then_some(store))
}

/// Forgets the default of a bucket that is deleted: one of that name which comes after it has none.
pub(in super::super) async fn forget(rooms: &Rooms, bucket: &Bucket, who: &Who) {
    rooms.defaults.changed();
    // Anywhere else it has gone with its bucket.
    let Some(place) = rooms.uploads.place() else { return };
    let own = Own { rooms, bucket: place, who };
    let removed = match own.remove(Kind::Objects, key(bucket).as_str()).await {
        Ok(true) => own.remove(Kind::Versions, key(bucket).as_str()).await,
        other => other,
    };
    if let Err(why) = removed {
        tracing::warn!(%why, bucket = bucket.as_str(), "the default encryption of a deleted bucket can't be removed");
    }
}

fn place<'a>(rooms: &'a Rooms, bucket: &'a Bucket) -> (&'a Bucket, Key) {
    (rooms.uploads.place().unwrap_or(bucket), key(bucket))
}

/// With a slash at its end no bucket's name begins another's.
fn key(bucket: &Bucket) -> Key {
    Key::parse(&format!("{RESERVED_PREFIX}encryption/{bucket}/default")).expect("a bucket's name is short")
}

/// Nothing is written under a default that can't be read: it could be under the wrong key.
fn unreadable(error: Error) -> Error {
    let why = format!(
        "The bucket's default encryption, which was set by PutBucketEncryption, can't be read: {} Set it again, or remove \
         it by DeleteBucketEncryption.",
        error.message()
    );
    Error::new(error.code(), why).caused_by(error)
}
