//! CreateMultipartUpload: the upload's envelope is made now, and goes on the upload as it does on an object.
//!
//! Source: Amazon S3 API Reference, CreateMultipartUpload.

use http::{HeaderMap, HeaderValue, Method};

use super::super::target::Target;
use super::super::{Answer, Rooms, forward, get, sealing};
use super::state::Record;
use crate::backend::{StoreHeaders, StoreRequest};
use crate::body::{self, gather};
use crate::operation::Call;
use crate::policy::Write;
use crate::response;
use crate::s3::checksum::Algorithm;
use crate::s3::multipart::{InitiateResult, Initiated, damaged_upload_id, from_store, to_xml};
use crate::s3::{Code, Error, Query, Result};
use crate::seal::Layout;

const ANSWER_MAX: usize = 64 * 1024;

pub(in super::super) async fn create(rooms: &Rooms, call: &Call, write: Write) -> Result<Answer> {
    let (bucket, key) = call.object()?;
    let checksum = checksum(call.headers())?;
    let (envelope, _) = sealing::fresh_envelope(rooms, &write, (bucket, key), Layout::Composite, 0).await?;

    let mut store_headers = StoreHeaders::for_object(call.headers());
    store_headers.set_envelope(&envelope, write.context())?;
    let request = StoreRequest::new(Method::POST, Some(bucket), Some(key), store_headers, call.who())
        .query(call.query().pick(&["uploads"]));
    let store = rooms.backend.send(request).await?;
    if !store.status().is_success() {
        return Ok(forward::answer(store));
    }
    let (parts, store_body) = store.into_parts();
    let text = gather(store_body, ANSWER_MAX).await.map_err(body::Broken::Store)?;
    let upload_id = match from_store(&text) {
        Ok(Initiated { upload_id }) => upload_id,
        Err(why) => {
            if let Some(id) = damaged_upload_id(&text) {
                give_up(rooms, call, &id).await;
            }
            return Err(why);
        }
    };

    let record = Record::new((bucket, key), upload_id.clone(), &envelope, write.context(), checksum);
    let named = record.checksum_names();
    let saved = async {
        let record = record.with_key(rooms, Target::of(call)?, &write).await?;
        rooms.uploads.save(rooms, call.who(), bucket, record).await
    };
    if let Err(why) = saved.await {
        // Without its record nobody could go on with it.
        give_up(rooms, call, &upload_id).await;
        return Err(why);
    }
    let xml = to_xml(&InitiateResult::new(bucket.as_str(), key.as_str(), &upload_id));
    let mut headers = response::for_sealed(&parts.headers, &sealing::written(&write));
    for (header, value) in [("x-amz-checksum-algorithm", named.0), ("x-amz-checksum-type", named.1)] {
        if let Some(value) = value {
            headers.insert(header, HeaderValue::from_str(&value).expect("names are header values"));
        }
    }
    Ok(get::document(headers, xml))
}

/// Removes an upload that no client will hear of, as far as the store lets it.
async fn give_up(rooms: &Rooms, call: &Call, id: &str) {
    let abort =
        StoreRequest::new(Method::DELETE, call.bucket(), call.key(), StoreHeaders::default(), call.who());
    let done = rooms.backend.send(abort.query(Query::from_pairs([("uploadId", id)]))).await;
    if !done.is_ok_and(|answer| answer.status().is_success()) {
        tracing::warn!("an upload that failed can't be removed");
    }
}

/// The checksum that the client wants of the object: the header of its algorithm, and its type.
///
/// Errors: InvalidRequest for an algorithm or a type that S3 does not have, or that don't go together.
fn checksum(client: &HeaderMap) -> Result<Option<(String, String)>> {
    let text = |name: &str| client.get(name).map(|value| value.to_str().unwrap_or("?").to_ascii_uppercase());
    let Some(name) = text("x-amz-checksum-algorithm") else {
        return match text("x-amz-checksum-type") {
            None => Ok(None),
            Some(_) => Err(Error::new(
                Code::InvalidRequest,
                "x-amz-checksum-type goes with x-amz-checksum-algorithm only. Name the algorithm.",
            )),
        };
    };
    let header = format!("x-amz-checksum-{}", name.to_ascii_lowercase());
    let algorithm = Algorithm::from_header(&header).ok_or_else(|| {
        Error::new(Code::InvalidRequest, format!("The checksum algorithm '{name}' is not one of S3's."))
    })?;
    let crc = matches!(algorithm, Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Crc64Nvme);
    let kind = text("x-amz-checksum-type").unwrap_or_else(|| {
        if algorithm == Algorithm::Crc64Nvme { "FULL_OBJECT" } else { "COMPOSITE" }.to_owned()
    });
    let fits = match kind.as_str() {
        "FULL_OBJECT" => crc,
        "COMPOSITE" => algorithm != Algorithm::Crc64Nvme,
        _ => false,
    };
    match fits {
        true => Ok(Some((header, kind))),
        false => Err(Error::new(
            Code::InvalidRequest,
            format!("The checksum type {kind} can't be used with the algorithm {name}."),
        )),
    }
}
