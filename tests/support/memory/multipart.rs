//! Multipart uploads of the store: parts at their numbers.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderMap};
use md5::{Digest, Md5};
use s3veil::s3::Query;
use s3veil::s3::multipart::{CompleteRequest, bare, from_client};

use super::objects::{described, keep};
use super::{Body, State, answer, error};

/// An upload under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    pub path: String,
    pub headers: HeaderMap,
    pub parts: BTreeMap<u32, Part>,
}

/// A part as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub body: Vec<u8>,
    pub etag: String,
}

/// CreateMultipartUpload.
pub fn create(state: &State, path: &str, headers: &HeaderMap) -> Response<Body> {
    let mut count = state.created.lock().unwrap();
    *count += 1;
    let id = format!("upload-{count}");
    let upload = Upload { path: path.to_owned(), headers: described(headers), parts: BTreeMap::new() };
    state.uploads.lock().unwrap().insert(id.clone(), upload);
    document("InitiateMultipartUploadResult", &format!("<UploadId>{id}</UploadId>"))
}

/// UploadPart, ListParts, CompleteMultipartUpload, AbortMultipartUpload.
pub fn run(
    state: &State,
    (method, path): (&str, &str),
    id: &str,
    query: &Query,
    headers: &HeaderMap,
    body: Vec<u8>,
) -> Response<Body> {
    let mut uploads = state.uploads.lock().unwrap();
    let Some(upload) = uploads.get_mut(id).filter(|upload| upload.path == path) else {
        return error(404, "NoSuchUpload");
    };
    match method {
        "PUT" => {
            let number = query.get("partNumber").unwrap().parse().unwrap();
            let etag = format!("\"{}\"", hex::encode(Md5::digest(&body)));
            upload.parts.insert(number, Part { body, etag: etag.clone() });
            let mut response = answer(200, Bytes::new());
            response.headers_mut().insert(header::ETAG, etag.parse().unwrap());
            response
        }
        "GET" => list_parts(upload, id, query),
        "POST" => match complete(state, upload, headers, &body) {
            Ok(response) => {
                uploads.remove(id);
                response
            }
            Err((status, code)) => error(status, code),
        },
        _ => {
            uploads.remove(id);
            answer(204, Bytes::new())
        }
    }
}

fn complete(
    state: &State,
    upload: &Upload,
    headers: &HeaderMap,
    text: &[u8],
) -> Result<Response<Body>, (u16, &'static str)> {
    let list: CompleteRequest = from_client(text).map_err(|_| (400, "MalformedXML"))?;
    let exists = state.objects.lock().unwrap().contains_key(&upload.path);
    if exists && headers.contains_key(header::IF_NONE_MATCH) {
        return Err((412, "PreconditionFailed"));
    }
    if !list.parts.is_sorted_by(|one, two| one.part_number < two.part_number) {
        return Err((400, "InvalidPartOrder"));
    }
    let (mut body, mut sums) = (Vec::new(), Vec::new());
    for wanted in &list.parts {
        let found =
            upload.parts.get(&wanted.part_number).filter(|part| bare(&part.etag) == bare(&wanted.etag));
        let part = found.ok_or((400, "InvalidPart"))?;
        body.extend_from_slice(&part.body);
        sums.extend_from_slice(&Md5::digest(&part.body));
    }
    let etag = format!("\"{}-{}\"", hex::encode(Md5::digest(&sums)), list.parts.len());
    keep(state, &upload.path, upload.headers.clone(), body, &etag);
    Ok(document("CompleteMultipartUploadResult", &format!("<ETag>{etag}</ETag>")))
}

fn list_parts(upload: &Upload, id: &str, query: &Query) -> Response<Body> {
    let number = |name: &str, default: u32| query.get(name).map_or(default, |text| text.parse().unwrap());
    let (marker, most) = (number("part-number-marker", 0), number("max-parts", 1000) as usize);
    let mut left = upload.parts.range(marker + 1..);
    let page: Vec<_> = left.by_ref().take(most).collect();
    let (bucket, key) = upload.path.trim_start_matches('/').split_once('/').unwrap();
    let truncated = left.next().is_some();
    let mut xml = format!(
        "<Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId><IsTruncated>{truncated}</IsTruncated>"
    );
    if let Some((last, _)) = page.last().filter(|_| truncated) {
        xml.push_str(&format!("<NextPartNumberMarker>{last}</NextPartNumberMarker>"));
    }
    for (number, part) in page {
        let (etag, size) = (&part.etag, part.body.len());
        xml.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><LastModified>2026-11-23T00:00:00.000Z</LastModified>\
             <ETag>{etag}</ETag><Size>{size}</Size></Part>"
        ));
    }
    document("ListPartsResult", &xml)
}

/// ListMultipartUploads.
pub fn list_uploads(state: &State, bucket: &str) -> Response<Body> {
    let mut xml = String::new();
    for (id, upload) in state.uploads.lock().unwrap().iter() {
        if let Some(key) = upload.path.strip_prefix(&format!("{}/", bucket.trim_end_matches('/'))) {
            xml.push_str(&format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId></Upload>"));
        }
    }
    document("ListMultipartUploadsResult", &xml)
}

fn document(root: &str, inner: &str) -> Response<Body> {
    answer(200, format!("<?xml version=\"1.0\"?><{root}>{inner}</{root}>").into())
}
