//! From the head of a stored object to its opened envelope.

use http::HeaderMap;

use crate::operation::Call;
use crate::s3::{Code, Error, Result, headers};
use crate::seal::{Envelope, LayoutKind, Opened, Place};

use super::Rooms;

/// A stored object that is sealed: its envelope opened, and what the client is told of its key.
pub(super) struct Sealed {
    pub opened: Opened,
    pub ek: String,
    pub sse: crate::seal::Sse,
}

/// Opens the envelope, if the object has one.
///
/// Errors: the integrity error for an envelope that is not one or not of this place, those of the KMS, NotImplemented
/// for a layout that this version can't read.
pub(super) async fn envelope(rooms: &Rooms, call: &Call, stored: &HeaderMap) -> Result<Option<Sealed>> {
    let (bucket, key) = call.object()?;
    let mut values = stored.get_all(headers::ENVELOPE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(crate::seal::Error::NotAnEnvelope.into());
    }
    let text = value.to_str().map_err(|_| crate::seal::Error::NotAnEnvelope)?;
    let envelope = Envelope::parse(text)?;
    let header = envelope.header();
    if header.layout != LayoutKind::Stream {
        return Err(Error::new(
            Code::NotImplemented,
            "The object was sealed as a multipart upload, which this version of s3veil can't read. Use a newer one.",
        ));
    }
    let ek = crate::kms::EkName::parse(&header.ek).map_err(|_| crate::seal::Error::NotAnEnvelope)?;
    let dek = rooms
        .keys
        .for_read(&header.kms, &ek, header.ek_version.as_deref(), &header.wrapped_dek, bucket.as_str())
        .await?;
    let opened = envelope.open(&dek, &Place { bucket: bucket.as_str(), key: key.as_str() })?;
    Ok(Some(Sealed { opened, ek: header.ek.clone(), sse: header.sse }))
}
