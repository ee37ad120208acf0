//! Objects of the store: put, copy, get.

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use md5::{Digest, Md5};
use s3veil::s3::checksum::{Algorithm, Checksum, Hasher};
use s3veil::s3::range::{ContentRange, RangeSpec};

use super::{Body, Object, State, answer, error};

/// PutObject.
pub fn put(state: &State, path: &str, headers: &HeaderMap, body: Vec<u8>) -> Response<Body> {
    let old = state.objects.lock().unwrap().get(path).map(|object| object.headers.clone());
    let exists = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == "*") && old.is_some();
    let other = headers
        .get(header::IF_MATCH)
        .is_some_and(|want| old.as_ref().and_then(|old| old.get(header::ETAG)) != Some(want));
    if exists || other {
        return error(412, "PreconditionFailed");
    }
    let etag = format!("\"{}\"", hex::encode(Md5::digest(&body)));
    keep(state, path, described(headers), body, &etag);
    let mut response = answer(200, Bytes::new());
    response.headers_mut().insert(header::ETAG, etag.parse().unwrap());
    response
}

/// CopyObject.
pub fn copy(state: &State, path: &str, headers: &HeaderMap) -> Response<Body> {
    let source = format!("/{}", headers["x-amz-copy-source"].to_str().unwrap().trim_start_matches('/'));
    let Some(object) = state.objects.lock().unwrap().get(&source).cloned() else {
        return error(404, "NoSuchKey");
    };
    if headers
        .get("x-amz-copy-source-if-match")
        .is_some_and(|want| Some(want) != object.headers.get(header::ETAG))
    {
        return error(412, "PreconditionFailed");
    }
    let taken = state.objects.lock().unwrap().contains_key(path);
    if taken && headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == "*") {
        return error(412, "PreconditionFailed");
    }
    let replaced = headers.get("x-amz-metadata-directive").is_some_and(|directive| directive == "REPLACE");
    let kept = if replaced { described(headers) } else { described(&object.headers) };
    let etag = format!("\"{}\"", hex::encode(Md5::digest(&object.body)));
    keep(state, path, kept, object.body, &etag);
    let time = "2026-11-23T00:00:00.000Z";
    let xml = format!(
        "<CopyObjectResult><LastModified>{time}</LastModified><ETag>{etag}</ETag></CopyObjectResult>"
    );
    answer(200, xml.into())
}

/// Keeps an object under its path.
pub fn keep(state: &State, path: &str, mut headers: HeaderMap, body: Vec<u8>, etag: &str) {
    headers.insert(header::ETAG, etag.parse().unwrap());
    headers.insert(header::LAST_MODIFIED, HeaderValue::from_static("Mon, 23 Nov 2026 00:00:00 GMT"));
    state.objects.lock().unwrap().insert(path.to_owned(), Object { body, headers });
}

/// The headers of a request that stay with an object.
pub fn described(headers: &HeaderMap) -> HeaderMap {
    let kept = |name: &HeaderName| {
        name.as_str().starts_with("x-amz-meta-")
            || [
                "content-type",
                "cache-control",
                "content-disposition",
                "content-encoding",
                "x-amz-storage-class",
            ]
            .contains(&name.as_str())
    };
    let kept = headers.iter().filter(|(name, _)| kept(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The bytes of a request's body; what the store answers to one that is not whole.
pub async fn received(headers: &HeaderMap, body: Incoming) -> Result<Vec<u8>, Response<Body>> {
    let body = body.collect().await.map_err(|_| error(400, "IncompleteBody"))?.to_bytes().to_vec();
    match headers.get("x-amz-content-sha256").map(HeaderValue::as_bytes) {
        Some(b"STREAMING-UNSIGNED-PAYLOAD-TRAILER") => {
            unframe(&body, headers).ok_or_else(|| error(400, "BadDigest"))
        }
        _ => Ok(body),
    }
}

/// aws-chunked with a trailing checksum, verified.
fn unframe(mut wire: &[u8], headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let end = wire.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&wire[..end]).ok()?, 16).ok()?;
        wire = &wire[end + 2..];
        if size == 0 {
            break;
        }
        out.extend_from_slice(wire.get(..size)?);
        wire = wire.get(size..)?.strip_prefix(b"\r\n")?;
    }
    let (name, value) = std::str::from_utf8(wire.strip_suffix(b"\r\n\r\n")?).ok()?.split_once(':')?;
    let algorithm = Algorithm::from_header(name)?;
    let announced = headers.get("x-amz-trailer")? == name;
    let length = headers.get("x-amz-decoded-content-length")?.to_str().ok()?.parse() == Ok(out.len());
    let right = Checksum::parse(algorithm, value) == Some(Hasher::digest(algorithm, &out));
    (announced && length && right).then_some(out)
}

/// GetObject and HeadObject.
pub fn get(state: &State, path: &str, headers: &HeaderMap, with_body: bool) -> Response<Body> {
    let Some(object) = state.objects.lock().unwrap().get(path).cloned() else {
        return error(404, "NoSuchKey");
    };
    let etag = object.headers.get(header::ETAG);
    let condition = |name: HeaderName| headers.get(name).map(|want| Some(want) == etag || want == "*");
    if condition(header::IF_MATCH) == Some(false) {
        return error(412, "PreconditionFailed");
    }
    if condition(header::IF_NONE_MATCH) == Some(true) {
        let mut response = answer(304, Bytes::new());
        response.headers_mut().extend(object.headers.clone());
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(object.body.len()));
        return response;
    }
    let total = object.body.len() as u64;
    let ranged = condition(header::IF_RANGE) != Some(false);
    let spec = headers.get(header::RANGE).filter(|_| ranged).and_then(RangeSpec::parse);
    let (status, start, end) = match spec.map(|spec| spec.resolve(total)) {
        None => (200, 0, total),
        Some(Some((start, end))) => (206, start, end),
        Some(None) => return error(416, "InvalidRange"),
    };
    let body = Bytes::from(object.body[start as usize..end as usize].to_vec());
    let mut response = answer(status, if with_body { body } else { Bytes::new() });
    response.headers_mut().extend(object.headers);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    if status == 206 {
        response.headers_mut().insert(header::CONTENT_RANGE, ContentRange { start, end, total }.to_header());
    }
    response
}
