//! From the head of a stored object to its opened envelope.

use std::sync::Arc;

use http::HeaderMap;
use http::header;

use super::Rooms;
use super::composite::Known;
use super::sealing::{place, shown};
use super::target::Target;
use crate::kms::keys::Keys;
use crate::kms::{Bound, Context, EkName, WrappedDek};
use crate::operation::Call;
use crate::policy::{Forward, Read};
use crate::response::Encryption;
use crate::s3::encryption::CustomerKey;
use crate::s3::range::ContentRange;
use crate::s3::{Bucket, Code, Error, Key, Result, headers};
use crate::seal::{self, Dek, Envelope, Layout, Opened, PlainLen, SealedLen, SealedRange, Sse};

/// A stored object that is sealed: its envelope opened, its length proved.
pub(super) struct Sealed {
    pub opened: Opened,
    /// Plaintext bytes.
    pub length: PlainLen,
    /// The sealed bytes that came with this answer; all of them for a HEAD.
    pub received: SealedRange,
    /// What the client is told of its key.
    pub encryption: Encryption,
    /// The parts, if it was a multipart upload.
    pub composite: Option<Arc<Known>>,
}

/// Opens the envelope, if the object has one.
///
/// Errors: the integrity error for an envelope that is not one or not of this place and size, those of the KMS.
pub(super) async fn envelope(rooms: &Rooms, call: &Call, stored: &HeaderMap) -> Result<Option<Sealed>> {
    sealed(rooms, Target::of(call)?, stored).await
}

/// The same for an object that no call names.
pub(super) async fn sealed(rooms: &Rooms, target: Target<'_>, stored: &HeaderMap) -> Result<Option<Sealed>> {
    let Some(envelope) = parsed(stored)? else { return Ok(None) };
    let context = context(stored);
    let Target { bucket, key, customer, .. } = target;
    let opened = opened(&rooms.keys, &envelope, Given { bucket, key, customer, context }).await?;
    let (received, total) = received(stored)?;
    let (length, composite) = match opened.layout(total)? {
        Layout::Stream(length) => {
            rooms.manifests.forget(target);
            (length, None)
        }
        Layout::Composite => {
            let known = Box::pin(rooms.manifests.of(rooms, target, stored, &opened, total)).await?;
            (known.manifest.length(), Some(known))
        }
    };
    let encryption = shown(opened.header(), customer);
    Ok(Some(Sealed { opened, length, received, encryption, composite }))
}

/// The envelope as it stands there, if the object has one: nothing of it is proved.
///
/// Errors: the integrity error for one that is not one.
pub(super) fn parsed(stored: &HeaderMap) -> Result<Option<Envelope>> {
    let mut values = stored.get_all(headers::ENVELOPE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(seal::Error::NotAnEnvelope.into());
    }
    Ok(Some(Envelope::parse(value.to_str().map_err(|_| seal::Error::NotAnEnvelope)?)?))
}

/// The client's encryption context as it is kept beside the envelope.
pub(super) fn context(stored: &HeaderMap) -> Option<&str> {
    stored.get(headers::CONTEXT).and_then(|value| value.to_str().ok())
}

/// Leave to serve an object that has no envelope.
///
/// Errors: AccessDenied where the rule serves sealed objects only; InvalidRequest if the client brings a key along, for its
/// object was sealed: the store has put another one in its place, or stripped it.
pub(super) fn plain(read: Read, call: &Call) -> Result<Forward> {
    match call.customer_key() {
        Some(_) if read.expects_sealed() => Err(needs_no_key()),
        _ => read.plain(),
    }
}

/// What it takes to open an envelope, beside the KMS.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The bucket that it was made for.
    pub bucket: &'a Bucket,
    /// The key that it was made for.
    pub key: &'a Key,
    /// The client's own key, if that sealed it.
    pub customer: Option<&'a CustomerKey>,
    /// The client's encryption context as it is kept beside the envelope.
    pub context: Option<&'a str>,
}

/// The key of an envelope that was made for this place.
///
/// Errors: the integrity error, those of the KMS, and S3's own for a client's key that is missing, or another.
pub async fn opened(keys: &Keys, envelope: &Envelope, given: Given<'_>) -> Result<Opened> {
    let header = envelope.header();
    let Given { bucket, key, customer, context } = given;
    match (header.sse, customer) {
        (Sse::Customer, Some(own)) => {
            let dek = Dek::from(*own.bytes());
            return envelope.open(&dek, place(bucket, key)).map_err(|why| another_key().caused_by(why));
        }
        (Sse::Customer, None) => return Err(needs_key()),
        (_, Some(_)) => return Err(needs_no_key()),
        (_, None) => {}
    }
    let client = match header.context {
        None => None,
        Some(digest) => {
            let kept = context.and_then(|context| Context::of_client(context).ok().flatten());
            Some(kept.filter(|kept| kept.digest() == digest).ok_or(seal::Error::Tampered)?)
        }
    };
    let ek = EkName::parse(&header.ek).map_err(|_| seal::Error::NotAnEnvelope)?;
    let version = header.ek_version.as_deref();
    let wrapped = WrappedDek::new(header.wrapped_dek.clone());
    let bound = Bound { bucket: bucket.clone(), client };
    let dek = keys.for_read(&header.kms, &ek, version, &wrapped, bound).await?;
    Ok(envelope.open(&dek, place(bucket, key))?)
}

fn needs_key() -> Error {
    Error::new(
        Code::InvalidRequest,
        "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve \
         the object: the customer key that it was written with.",
    )
}

fn needs_no_key() -> Error {
    Error::new(
        Code::InvalidRequest,
        "The encryption parameters are not applicable to this object. Leave the customer key out.",
    )
}

/// Which of the two it is, nobody can tell.
fn another_key() -> Error {
    Error::new(
        Code::AccessDenied,
        "The customer key is not the one that the object was written with, or the sealed object was altered.",
    )
}

/// Which sealed bytes the store sends, and how many there are.
pub(super) fn received(stored: &HeaderMap) -> Result<(SealedRange, SealedLen)> {
    let (start, end, total) = match stored.get(header::CONTENT_RANGE) {
        Some(value) => {
            let range = ContentRange::parse(value).ok_or(seal::Error::Tampered)?;
            (range.start, range.end, range.total)
        }
        None => {
            let length = stored.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
            let length = length.and_then(|value| value.parse().ok()).ok_or(seal::Error::Tampered)?;
            (0, length, length)
        }
    };
    let range = SealedRange::new(start, end).ok_or(seal::Error::Tampered)?;
    Ok((range, SealedLen::new(total)))
}
