//! From the head of a stored object to its opened envelope.

use std::sync::Arc;

use http::HeaderMap;
use http::header;

use super::Rooms;
use super::composite::Known;
use super::target::Target;
use crate::kms::keys::Keys;
use crate::kms::{EkName, WrappedDek};
use crate::operation::Call;
use crate::s3::range::ContentRange;
use crate::s3::{Bucket, Key, Result, headers};
use crate::seal::{self, Envelope, Layout, Opened, Place, PlainLen, SealedLen, SealedRange, Sse};

/// A stored object that is sealed: its envelope opened, its length proved, and what the client is told of its key.
pub(super) struct Sealed {
    pub opened: Opened,
    /// Plaintext bytes.
    pub length: PlainLen,
    /// The sealed bytes that came with this answer; all of them for a HEAD.
    pub received: SealedRange,
    pub ek: String,
    pub sse: Sse,
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
    let Target { bucket, key, .. } = target;
    let mut values = stored.get_all(headers::ENVELOPE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(seal::Error::NotAnEnvelope.into());
    }
    let envelope = Envelope::parse(value.to_str().map_err(|_| seal::Error::NotAnEnvelope)?)?;
    let header = envelope.header();
    let opened = opened(&rooms.keys, &envelope, bucket, key).await?;
    let (received, total) = received(stored)?;
    let (length, composite) = match opened.layout(total)? {
        Layout::Stream(length) => {
            rooms.manifests.forget(target);
            (length, None)
        }
        Layout::Composite => {
            let known = rooms.manifests.of(rooms, target, stored, &opened, total).await?;
            (known.manifest.length(), Some(known))
        }
    };
    Ok(Some(Sealed { opened, length, received, ek: header.ek.clone(), sse: header.sse, composite }))
}

/// The key of an envelope that was made for this place.
///
/// Errors: the integrity error, or those of the KMS.
pub async fn opened(keys: &Keys, envelope: &Envelope, bucket: &Bucket, key: &Key) -> Result<Opened> {
    let header = envelope.header();
    let ek = EkName::parse(&header.ek).map_err(|_| seal::Error::NotAnEnvelope)?;
    let version = header.ek_version.as_deref();
    let wrapped = WrappedDek::new(header.wrapped_dek.clone());
    let dek = keys.for_read(&header.kms, &ek, version, &wrapped, bucket).await?;
    Ok(envelope.open(&dek, Place { bucket: bucket.as_str(), key: key.as_str() })?)
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
