//! `x-amz-copy-source`. Input: the header's value.
//!
//! Holds: a source survives its header; it names an object that can be one; what a store could make of its key is
//! judged with it.

use http::HeaderValue;
use http::header::HeaderMap;
use s3veil::s3::Code;
use s3veil::s3::address::{MAX_KEY_LEN, RESERVED_PREFIX};
use s3veil::s3::copy::{Source, conditions};

/// Reads a header, and writes it again.
pub fn run(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let headers = |value: HeaderValue| HeaderMap::from_iter([(header(), value)]);
    let given = headers(value);
    assert!(conditions(&given).is_empty());
    let source = match Source::of(&given) {
        Ok(source) => source,
        Err(error) => return assert_eq!(error.code(), Code::InvalidArgument),
    };
    let again = Source::of(&headers(source.to_header())).expect("written well");
    assert_eq!(again, source);
    let key = source.key.as_str();
    assert!((1..=MAX_KEY_LEN).contains(&key.len()));
    assert!(!source.bucket.as_str().contains('/') && !source.bucket.as_str().is_empty());
    let reserved = |key: &str| key.starts_with(RESERVED_PREFIX);
    let resolved = source.key.tidied().iter().any(|key| reserved(key));
    assert_eq!(source.key.is_reserved(), reserved(key) || resolved);
    assert!(source.key.is_reserved() || !reserved(key.trim_start_matches('/')));
}

fn header() -> http::HeaderName {
    http::HeaderName::from_static("x-amz-copy-source")
}

/// Sources of every kind, and what is none.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "b/k",
        "/b/a%20b/%C3%A9%2B",
        "b/a%3FversionId%3Dx?versionId=v%2B1",
        "b//x",
        "b/../.s3veil/./x",
        "b/%FF",
        "b!/k",
        "b/",
        "/",
        "b/k?versionId=",
        "b/a%",
        "arn:aws:s3:us-east-1:1:accesspoint/a/object/k",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
