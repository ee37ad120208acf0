//! `x-amz-copy-source` and what goes with it: the object that a copy reads.
//!
//! Source: Amazon S3 API Reference, CopyObject and UploadPartCopy: `bucket/key` or `/bucket/key`, URL-encoded, with an
//! optional `?versionId=`.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::query::{encode_component, encode_path};
use super::range::RangeSpec;
use super::{Bucket, Code, Error, Key, Result};

/// What a copy says of its source, and how a read says it.
static CONDITIONS: [(&str, HeaderName); 9] = [
    ("x-amz-request-payer", HeaderName::from_static("x-amz-request-payer")),
    ("x-amz-source-expected-bucket-owner", HeaderName::from_static("x-amz-expected-bucket-owner")),
    ("x-amz-copy-source-if-match", header::IF_MATCH),
    ("x-amz-copy-source-if-none-match", header::IF_NONE_MATCH),
    ("x-amz-copy-source-if-modified-since", header::IF_MODIFIED_SINCE),
    ("x-amz-copy-source-if-unmodified-since", header::IF_UNMODIFIED_SINCE),
    (
        "x-amz-copy-source-server-side-encryption-customer-algorithm",
        HeaderName::from_static("x-amz-server-side-encryption-customer-algorithm"),
    ),
    (
        "x-amz-copy-source-server-side-encryption-customer-key",
        HeaderName::from_static("x-amz-server-side-encryption-customer-key"),
    ),
    (
        "x-amz-copy-source-server-side-encryption-customer-key-md5",
        HeaderName::from_static("x-amz-server-side-encryption-customer-key-md5"),
    ),
];

/// The object that a copy reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its bucket.
    pub bucket: Bucket,
    /// Its key.
    pub key: Key,
    /// A version of it.
    pub version: Option<String>,
}

impl Source {
    /// The source that the headers name.
    ///
    /// Errors: InvalidArgument for a value that names no object.
    pub fn of(headers: &HeaderMap) -> Result<Self> {
        let mut values = headers.get_all("x-amz-copy-source").iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(invalid()) };
        let value = value.to_str().map_err(|_| invalid())?;
        let (path, version) = match value.split_once("?versionId=") {
            Some((path, version)) => (path, Some(decode(version)?)),
            None => (value, None),
        };
        let decoded = decode(path)?;
        let (bucket, key) =
            decoded.strip_prefix('/').unwrap_or(&decoded).split_once('/').ok_or_else(invalid)?;
        let (bucket, key) = Bucket::parse(bucket).zip(Key::parse(key)).ok_or_else(invalid)?;
        Ok(Self { bucket, key, version })
    }

    /// As a header, written as it was understood.
    pub fn to_header(&self) -> HeaderValue {
        let mut text = format!("{}/{}", self.bucket.as_str(), encode_path(self.key.as_str()));
        if let Some(version) = &self.version {
            text.push_str(&format!("?versionId={}", encode_component(version)));
        }
        HeaderValue::from_str(&text).expect("what is percent-encoded is a header value")
    }
}

/// What a copy says of its source, as a read of it says it: conditions, the bucket's owner, the key of the store's SSE-C.
pub fn conditions(headers: &HeaderMap) -> HeaderMap {
    let found =
        CONDITIONS.iter().filter_map(|(name, plain)| Some((plain.clone(), headers.get(*name)?.clone())));
    found.collect()
}

/// `x-amz-copy-source-range`.
///
/// Errors: InvalidArgument for anything but `bytes=first-last`.
pub fn range(headers: &HeaderMap) -> Result<Option<RangeSpec>> {
    let Some(value) = headers.get("x-amz-copy-source-range") else { return Ok(None) };
    match RangeSpec::parse(value) {
        Some(range @ RangeSpec::FromTo(..)) => Ok(Some(range)),
        _ => Err(Error::new(
            Code::InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy.",
        )),
    }
}

fn decode(text: &str) -> Result<String> {
    Ok(percent_decode_str(text).decode_utf8().map_err(|_| invalid())?.into_owned())
}

fn invalid() -> Error {
    Error::new(
        Code::InvalidArgument,
        "x-amz-copy-source must be BUCKET/KEY, URL-encoded, with an optional ?versionId=.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(value: &'static str) -> Result<Source> {
        Source::of(&HeaderMap::from_iter([(
            HeaderName::from_static("x-amz-copy-source"),
            HeaderValue::from_static(value),
        )]))
    }

    #[test]
    fn a_source_survives_its_header() {
        for (text, key, version) in [
            ("b/k", "k", None),
            ("/b/a%20b/%C3%A9%2B", "a b/é+", None),
            ("b/a%3FversionId%3Dx?versionId=v%2B1", "a?versionId=x", Some("v+1")),
            ("b//x", "/x", None),
        ] {
            let parsed = source(text).unwrap();
            assert_eq!((parsed.key.as_str(), parsed.version.as_deref()), (key, version), "{text}");
            let headers =
                HeaderMap::from_iter([(HeaderName::from_static("x-amz-copy-source"), parsed.to_header())]);
            assert_eq!(Source::of(&headers).unwrap(), parsed);
        }
        for bad in ["", "b", "/b", "b/", "b/%FF", "b!/k"] {
            assert_eq!(source(bad).unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn a_range_names_both_ends() {
        let of = |value| {
            range(&HeaderMap::from_iter([(
                HeaderName::from_static("x-amz-copy-source-range"),
                HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(of("bytes=0-9").unwrap(), Some(RangeSpec::FromTo(0, 9)));
        for bad in ["bytes=5-", "bytes=-5", "bytes=9-0", "0-9", ""] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert_eq!(range(&HeaderMap::new()).unwrap(), None);
    }
}
