//! The border on the way out: the store's headers become the client's.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::s3::checksum::{Algorithm, Checksum};
use crate::s3::encryption::is_encryption;
use crate::s3::headers::{CONTEXT, ENVELOPE, remove_all, strip_aws_chunked};
use crate::seal::Sse;

/// The EK, whatever of it the client is told: for the log, which takes it off.
const EK: &str = "x-s3veil-ek";

/// Headers of one connection, or of s3veil's own making.
const HOP_BY_HOP: [HeaderName; 11] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    ENVELOPE,
    CONTEXT,
    HeaderName::from_static(EK),
];

/// What a client is told of an object's encryption.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// The method.
    pub sse: Sse,
    /// The EK's name; none under a client's key.
    pub ek: String,
    /// The MD5 of the client's key in base64, where the request brought it along.
    pub customer_md5: Option<String>,
    /// The encryption context that a write has been given, in its one form.
    pub context: Option<String>,
}

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
/// encryption, which tell a client that the ETag is not the MD5 of the body.
pub fn for_sealed(store: &HeaderMap, encryption: &Encryption) -> HeaderMap {
    let mut headers = forwarded(store);
    remove_all(&mut headers, |name| describes_body(name) || is_encryption(name));
    let mut show = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    let Encryption { sse, ek, customer_md5, context } = encryption;
    if *sse != Sse::Customer {
        show(EK, ek);
    }
    match sse {
        Sse::Kms | Sse::KmsBucketKey => {
            show("x-amz-server-side-encryption", "aws:kms");
            show("x-amz-server-side-encryption-aws-kms-key-id", ek);
        }
        Sse::S3 => show("x-amz-server-side-encryption", "AES256"),
        Sse::Customer => {}
    }
    if *sse == Sse::KmsBucketKey {
        show("x-amz-server-side-encryption-bucket-key-enabled", "true");
    }
    if let Some(md5) = customer_md5.as_deref().filter(|_| *sse == Sse::Customer) {
        show("x-amz-server-side-encryption-customer-algorithm", "AES256");
        show("x-amz-server-side-encryption-customer-key-md5", md5);
    }
    if let Some(context) = context {
        show("x-amz-server-side-encryption-context", context);
    }
    headers
}

/// Takes the EK off an answer, which is not for the client as it stands there.
pub fn take_ek(headers: &mut HeaderMap) -> Option<String> {
    headers.remove(EK)?.to_str().ok().map(str::to_owned)
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
