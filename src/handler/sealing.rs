//! From leave to write to an envelope: the key of a new object, and what its client is told of it.

use std::sync::Arc;

use super::Rooms;
use crate::kms::Bound;
use crate::policy::{EkRef, Write};
use crate::response::Encryption;
use crate::s3::encryption::CustomerKey;
use crate::s3::{Bucket, Key, Result};
use crate::seal::{Dek, Envelope, Fresh, Header, Layout, Opened, Place, Sse};

/// A new object's envelope and key. `bytes` of plaintext are counted on the DEK.
pub(super) async fn fresh_envelope(
    rooms: &Rooms,
    write: &Write,
    (bucket, key): (&Bucket, &Key),
    layout: Layout,
    bytes: u64,
) -> Result<(Envelope, Fresh)> {
    let (header, dek) = wrapping(rooms, write, bucket, layout, bytes).await?;
    Ok(Envelope::seal(header, &dek, place(bucket, key))?)
}

/// An envelope with which a body that is there opens at another place, under another key.
pub(super) async fn rewrapped(
    rooms: &Rooms,
    write: &Write,
    (bucket, key): (&Bucket, &Key),
    opened: &Opened,
    bytes: u64,
) -> Result<Envelope> {
    let (header, dek) = wrapping(rooms, write, bucket, opened.header().layout, bytes).await?;
    Ok(opened.rewrap(header, &dek, place(bucket, key))?)
}

/// The same for s3veil's own keeping: under an EK, at a place of s3veil's own, where it is no object's envelope.
pub(super) async fn kept(
    rooms: &Rooms,
    ek: &EkRef,
    (bucket, key): (&Bucket, &Key),
    opened: &Opened,
) -> Result<Envelope> {
    let (header, dek) = under_ek(rooms, ek, bucket.into(), Sse::Kms, opened.header().layout, 0).await?;
    Ok(opened.rewrap(header, &dek, place(bucket, key))?)
}

/// A new envelope and key for what s3veil itself keeps in the store, as an object of its own.
pub(super) async fn own_envelope(
    rooms: &Rooms,
    ek: &EkRef,
    (bucket, key): (&Bucket, &Key),
    layout: Layout,
    bytes: u64,
) -> Result<(Envelope, Fresh)> {
    let (header, dek) = under_ek(rooms, ek, bucket.into(), Sse::Kms, layout, bytes).await?;
    Ok(Envelope::seal(header, &dek, place(bucket, key))?)
}

/// What the client is told of an object that it has written.
pub(super) fn written(write: &Write) -> Encryption {
    Encryption {
        sse: write.sse(),
        ek: write.ek().ek.as_str().to_owned(),
        customer_md5: write.customer().map(|key| key.md5().to_owned()),
        context: write.context().map(crate::kms::Context::to_header),
    }
}

/// What it is told of one that is there.
pub(super) fn shown(header: &Header, customer: Option<&CustomerKey>) -> Encryption {
    let customer_md5 = customer.map(|key| key.md5().to_owned());
    Encryption { sse: header.sse, ek: header.ek.clone(), customer_md5, context: None }
}

pub(super) fn place<'a>(bucket: &'a Bucket, key: &'a Key) -> Place<'a> {
    Place { bucket: bucket.as_str(), key: key.as_str() }
}

/// What an envelope is to say, and the DEK that it is sealed under: a client's own key takes the DEK's place.
async fn wrapping(
    rooms: &Rooms,
    write: &Write,
    bucket: &Bucket,
    layout: Layout,
    bytes: u64,
) -> Result<(Header, Arc<Dek>)> {
    let Some(key) = write.customer() else {
        let bound = Bound { bucket: bucket.clone(), client: write.context().cloned() };
        return under_ek(rooms, write.ek(), bound, write.sse(), layout, bytes).await;
    };
    let (kms, ek, ek_version, wrapped_dek, context) = Default::default();
    let header = Header { layout, kms, ek, ek_version, wrapped_dek, sse: Sse::Customer, context };
    Ok((header, Arc::new(Dek::from(*key.bytes()))))
}

async fn under_ek(
    rooms: &Rooms,
    ek: &EkRef,
    bound: Bound,
    sse: Sse,
    layout: Layout,
    bytes: u64,
) -> Result<(Header, Arc<Dek>)> {
    let context = bound.client.as_ref().map(crate::kms::Context::digest);
    let data_key = rooms.keys.for_write(&ek.kms, &ek.ek, bound, bytes).await?;
    let header = Header {
        layout,
        kms: ek.kms.clone(),
        ek: ek.ek.as_str().to_owned(),
        ek_version: data_key.version.clone(),
        wrapped_dek: data_key.wrapped.as_bytes().to_vec(),
        sse,
        context,
    };
    Ok((header, data_key.dek.clone()))
}
