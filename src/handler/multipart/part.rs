//! UploadPart: sealed while it streams, under a key of its own. A part too short for a place in the middle is kept aside.
//!
//! Source: Amazon S3 API Reference, UploadPart.

use http::Method;

use super::super::put::{MAX_PUT, send_sealed};
use super::super::{Answer, Rooms};
use super::{part_number, upload_id};
use crate::backend::{StoreBody, StoreHeaders, StoreRequest};
use crate::body::{ByteBody, Checked, SealedBody};
use crate::operation::Call;
use crate::s3::{Code, Error, Result};
use crate::seal::PlainLen;

pub(super) async fn upload_part(rooms: &Rooms, mut call: Call, body: ByteBody) -> Result<Answer> {
    let payload = call.take_payload();
    let (bucket, key) = call.object()?;
    let (number, upload_id) = (part_number(&call)?, upload_id(&call)?);
    let checked = Checked::new(body, payload, rooms.client_idle)?;
    let length = PlainLen::new(checked.length())
        .filter(|length| length.sealed_part().get() <= MAX_PUT)
        .ok_or_else(|| {
            Error::new(Code::EntityTooLarge, "Your proposed upload exceeds the maximum allowed size, 5 GiB.")
        })?;
    let aside = length.get() < rooms.backend.min_part();
    // The store itself refuses a part of an upload that has ended, but not an object beside it.
    let record = rooms.uploads.find(rooms, call.who(), (bucket, key), upload_id, aside).await?;
    let opened = record.open(rooms, bucket, key).await?;
    let (sse, ek) = (opened.header().sse, opened.header().ek.clone());

    let outcome = checked.outcome();
    let sealed = StoreBody::sealed(SealedBody::new(checked, opened.part_sealer(number, length)?));
    let request = if aside {
        rooms.uploads.staged(Method::PUT, (bucket, key), upload_id, number, call.who())
    } else {
        let headers = StoreHeaders::for_object(call.headers());
        StoreRequest::new(Method::PUT, Some(bucket), Some(key), headers, call.who())
            .query(call.query().pick(&["partNumber", "uploadId"]))
    };
    send_sealed(rooms, request.body(sealed), outcome, sse, &ek).await
}
