//! UploadPart: sealed while it streams, under a key of its own. A part too short for a place in the middle is kept aside.
//!
//! Source: Amazon S3 API Reference, UploadPart.

use http::Method;

use super::super::own::unwell;
use super::super::put::{MAX_PUT, send_sealed};
use super::super::target::Target;
use super::super::{Answer, Rooms, copy, sealing};
use super::{part_number, upload_id};
use crate::backend::{StoreBody, StoreHeaders, StoreRequest};
use crate::body::{ByteBody, Checked, SealedBody};
use crate::operation::Call;
use crate::s3::{Code, Error, Query, Result};
use crate::seal::{PartNumber, PlainLen};

pub(super) async fn upload_part(rooms: &Rooms, mut call: Call, body: ByteBody) -> Result<Answer> {
    let payload = call.take_payload();
    let (number, upload_id) = (part_number(&call)?, upload_id(&call)?);
    let checked = Checked::new(body, payload, rooms.client_idle)?;
    send_part(rooms, &call, number, upload_id, checked).await
}

/// Seals a part and sends it to where it belongs.
pub(super) async fn send_part(
    rooms: &Rooms,
    call: &Call,
    number: PartNumber,
    upload_id: &str,
    checked: Checked,
) -> Result<Answer> {
    let (bucket, key) = call.object()?;
    let length = PlainLen::new(checked.length())
        .filter(|length| length.sealed_part().get() <= MAX_PUT)
        .ok_or_else(|| {
            Error::new(Code::EntityTooLarge, "Your proposed upload exceeds the maximum allowed size, 5 GiB.")
        })?;
    let aside = length.get() < rooms.backend.min_part();
    let record = rooms.uploads.find(rooms, call.who(), (bucket, key), upload_id, false).await?;
    let opened = record.open_for_part(rooms, Target::of(call)?).await?;
    let encryption = sealing::shown(opened.header(), call.customer_key());

    let outcome = checked.outcome();
    let sealed = StoreBody::sealed(SealedBody::new(
        checked,
        opened.part_sealer(number, length)?,
        rooms.metrics.sealing(),
    ));
    let request = if aside {
        rooms.uploads.staged(Method::PUT, (bucket, key), upload_id, number, call.who())
    } else {
        let mut headers = StoreHeaders::for_object(call.headers());
        copy::strip_source(&mut headers);
        // The number as it was understood, and sealed in.
        let (number, id) = (number.get().to_string(), upload_id);
        StoreRequest::new(Method::PUT, Some(bucket), Some(key), headers, call.who())
            .query(Query::from_pairs([("partNumber", number.as_str()), ("uploadId", id)]))
    };
    let mut answer = send_sealed(rooms, request.body(sealed), outcome, &encryption).await?;
    if aside && !answer.status().is_success() {
        return Err(unwell(answer.status()));
    }
    if aside {
        // The store itself refuses a part of an upload that has ended, but not an object beside it, for which nobody would
        // look any more.
        let still = rooms.uploads.find(rooms, call.who(), (bucket, key), upload_id, true).await;
        if still.as_ref().is_err_and(|error| error.code() == Code::NoSuchUpload) {
            rooms.uploads.remove(rooms, call.who(), bucket, key, upload_id).await;
        }
        still?;
        // A part has no version, though what stands for it may have.
        answer.headers_mut().remove("x-amz-version-id");
        answer.headers_mut().remove("x-amz-expiration");
    }
    Ok(answer)
}
