//! The border on the way out: the store's headers become the client's.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::s3::checksum::{Algorithm, Checksum};
use crate::s3::headers::{ENVELOPE, remove_all, strip_aws_chunked};
use crate::seal::Sse;

/// Headers of one connection, or of s3veil's own making.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    ENVELOPE,
];

/// The store's headers, as they go on to the client: all but those of the connection, the envelope, and the framing that
/// some stores keep for a content coding.
pub fn forwarded(store: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(store.len());
    for (name, value) in store {
        if !HOP_BY_HOP.contains(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    strip_aws_chunked(&mut headers);
    headers
}

/// The same for an object that the client has already: nothing that describes the stored body, which a cache would take
/// for what it holds.
pub fn not_modified(store: &HeaderMap) -> HeaderMap {
    let mut headers = forwarded(store);
    remove_all(&mut headers, describes_body);
    headers
}

/// The same for a sealed object: nothing that describes the sealed body, and S3's own headers for server-side
/// encryption with this EK, which tell a client that the ETag is not the MD5 of the body.
pub fn for_sealed(store: &HeaderMap, sse: Sse, ek: &str) -> HeaderMap {
    let mut headers = forwarded(store);
    remove_all(&mut headers, |name| describes_body(name) || name.starts_with("x-amz-server-side-encryption"));
    let (method, names_key) = match sse {
        Sse::Kms => ("aws:kms", true),
        Sse::S3 => ("AES256", false),
    };
    headers.insert("x-amz-server-side-encryption", HeaderValue::from_static(method));
    if let Some(value) = HeaderValue::from_str(ek).ok().filter(|_| names_key) {
        headers.insert("x-amz-server-side-encryption-aws-kms-key-id", value);
    }
    headers
}

fn describes_body(name: &str) -> bool {
    name.starts_with("x-amz-checksum-")
        || matches!(
            name,
            "content-length" | "content-range" | "content-md5" | "digest" | "x-amz-mp-parts-count"
        )
}

/// Adds a checksum of the whole object, as S3 shows it.
pub fn add_checksum(headers: &mut HeaderMap, checksum: &Checksum) {
    add_checksum_text(headers, checksum.algorithm(), &checksum.to_base64(), "FULL_OBJECT");
}

/// The same as text and with its type, as multipart uploads have it.
pub fn add_checksum_text(headers: &mut HeaderMap, algorithm: Algorithm, value: &str, kind: &'static str) {
    let value = HeaderValue::from_str(value).expect("base64 and a number are a header value");
    headers.insert(algorithm.header(), value);
    headers.insert("x-amz-checksum-type", HeaderValue::from_static(kind));
}
