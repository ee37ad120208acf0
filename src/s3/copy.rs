//! `x-amz-copy-source`: the object that a copy reads.
//!
//! Source: Amazon S3 API Reference, CopyObject: `bucket/key` or `/bucket/key`, URL-encoded, with an optional
//! `?versionId=`.

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::{Bucket, Code, Error, Key, Result};

/// The source's bucket and key.
///
/// Errors: InvalidArgument for a value that names no object.
pub fn source(headers: &HeaderMap) -> Result<(Bucket, Key)> {
    let mut values = headers.get_all("x-amz-copy-source").iter();
    // Of two, the store could take the other one.
    let (Some(value), None) = (values.next(), values.next()) else { return Err(invalid()) };
    let value = value.to_str().map_err(|_| invalid())?;
    let path = value.split_once("?versionId=").map_or(value, |(path, _)| path);
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| invalid())?;
    let (bucket, key) = decoded.strip_prefix('/').unwrap_or(&decoded).split_once('/').ok_or_else(invalid)?;
    Bucket::parse(bucket).zip(Key::parse(key)).ok_or_else(invalid)
}

fn invalid() -> Error {
    Error::new(
        Code::InvalidArgument,
        "x-amz-copy-source must be BUCKET/KEY, URL-encoded, with an optional ?versionId=.",
    )
}
