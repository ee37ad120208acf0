//! UploadPartCopy: the source is read, opened, and sealed as a part, streaming.
//!
//! Source: Amazon S3 API Reference, UploadPartCopy.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::super::{Answer, Rooms, copy as copying, get};
use super::part::send_part;
use super::{part_number, upload_id};
use crate::backend::{StoreBody, StoreHeaders, StoreRequest};
use crate::operation::{Call, Operation};
use crate::policy::{Copied, Target};
use crate::s3::headers::remove_all;
use crate::s3::{Code, Error, Result, copy, xml};

pub(in super::super) async fn upload_part_copy(rooms: &Rooms, call: Call, copied: Copied) -> Result<Answer> {
    let (number, id) = (part_number(&call)?, upload_id(&call)?.to_owned());
    let range = copy::range(call.headers())?;
    let mut headers: HeaderMap = copying::reading_headers(&call, &copied);
    if let Some(range) = range {
        headers.insert(header::RANGE, range.to_header());
    }
    let reading = call.reading(copied.source(), Operation::GetObject, headers)?;
    let answer = get::get_object(rooms, &reading, copied.read()).await?;
    match answer.status() {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
        StatusCode::NOT_MODIFIED | StatusCode::PRECONDITION_FAILED => {
            let why = "At least one of the pre-conditions you specified did not hold";
            return Err(Error::new(Code::PreconditionFailed, why));
        }
        _ => return Ok(answer),
    }
    let (parts, plain) = answer.into_parts();
    let length = copying::length(&parts.headers)?;
    // A range that goes past the end would be cut by a GET; a copy of it is refused.
    let asked = range.and_then(|range| range.resolve(u64::MAX)).map(|(start, end)| end - start);
    if asked.is_some_and(|asked| asked != length) {
        return Err(Error::new(
            Code::InvalidArgument,
            "The x-amz-copy-source-range goes past the source's end.",
        ));
    }
    let checked = copying::checked(rooms, plain, length)?;
    let answer = match copied.target() {
        Target::Part | Target::Sealed(_) => {
            send_part(rooms, &call, number, &id, checked).await.map_err(copying::source)?
        }
        Target::Plain(leave) => {
            let outcome = checked.outcome();
            let mut headers = StoreHeaders::for_object(call.headers());
            copying::strip_source(&mut headers);
            copying::keep_encryption(&mut headers, &call);
            let request = StoreRequest::new(Method::PUT, call.bucket(), call.key(), headers, call.who())
                .query(call.query().pick(&["partNumber", "uploadId"]))
                .body(StoreBody::plain(checked, *leave));
            let store = rooms.backend.send(request).await;
            if outcome.take_failure().is_some() {
                return Err(copying::broke_off());
            }
            super::super::forward::refusal(store?).await?
        }
    };
    if !answer.status().is_success() {
        return Ok(answer);
    }
    let mut headers = answer.headers().clone();
    // What a part's answer says in headers, a copy's says in its document.
    let etag = headers.remove(header::ETAG);
    let etag = etag.as_ref().and_then(|etag| etag.to_str().ok()).unwrap_or_default();
    remove_all(&mut headers, |name| name.starts_with("x-amz-checksum-"));
    if let Some(version) =
        parts.headers.get("x-amz-version-id").and_then(|v| HeaderValue::from_bytes(v.as_bytes()).ok())
    {
        headers.insert("x-amz-copy-source-version-id", version);
    }
    Ok(get::document(headers, xml::copy_result("CopyPartResult", etag, &xml::now())))
}
