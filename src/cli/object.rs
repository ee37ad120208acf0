//! An object on the command line: `s3://BUCKET/KEY`, the key as it is, not percent-encoded.

use std::fmt;
use std::str::FromStr;

use crate::s3::{Bucket, Key};

#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) bucket: Bucket,
    pub(super) key: Key,
}

impl FromStr for Object {
    type Err = &'static str;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        let wrong = "write s3://BUCKET/KEY";
        let (bucket, key) = uri.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).ok_or(wrong)?;
        let (Some(bucket), Some(key)) = (Bucket::parse(bucket), Key::parse(key)) else { return Err(wrong) };
        Ok(Self { bucket, key })
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket.as_str(), self.key.as_str())
    }
}
