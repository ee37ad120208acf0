//! A store's listings, as s3veil asks for them itself.
//!
//! Source: Amazon S3 API Reference, ListObjectsV2, ListObjectVersions, ListBuckets.

use serde::Deserialize;

use super::query::decode_form;
use super::{Code, Error, Result};

/// A page of ListObjectsV2.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ObjectListing {
    /// The objects.
    pub contents: Vec<Listed>,
    /// Whether more follow.
    pub is_truncated: bool,
    /// Where they follow.
    pub next_continuation_token: Option<String>,
    /// `url` if keys are percent-encoded.
    encoding_type: Option<String>,
    /// Of an error that the store has found when it had already said 200.
    code: Option<String>,
}

/// A page of ListObjectVersions.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VersionListing {
    /// The versions.
    #[serde(rename = "Version")]
    pub versions: Vec<Listed>,
    /// The delete markers, which are versions too.
    #[serde(rename = "DeleteMarker")]
    pub markers: Vec<Listed>,
    /// Whether more follow.
    pub is_truncated: bool,
    /// The key where they follow.
    pub next_key_marker: Option<String>,
    /// Its version behind which they follow.
    pub next_version_id_marker: Option<String>,
    /// `url` if keys are percent-encoded.
    encoding_type: Option<String>,
    code: Option<String>,
    /// Of a listing of objects, from a store that does not know versions.
    contents: Vec<Listed>,
}

impl ObjectListing {
    /// With keys as they are, whether the store has encoded them or not: XML alone can't carry all of them.
    ///
    /// Errors: what the store encoded is no text, or it is no listing, or has an end that is none.
    pub fn decoded(mut self) -> Result<Self> {
        if self.code.is_some() || (self.is_truncated && self.next_continuation_token.is_none()) {
            return Err(no_listing());
        }
        if self.encoding_type.is_some() {
            self.contents.iter_mut().try_for_each(Listed::decode)?;
        }
        Ok(self)
    }
}

impl VersionListing {
    /// The same.
    pub fn decoded(mut self) -> Result<Self> {
        let endless = self.is_truncated && self.next_key_marker.is_none();
        if self.code.is_some() || endless || !self.contents.is_empty() {
            return Err(no_listing());
        }
        if self.encoding_type.is_some() {
            self.versions.iter_mut().chain(&mut self.markers).try_for_each(Listed::decode)?;
            self.next_key_marker = self.next_key_marker.as_deref().map(decode_form).transpose()?;
        }
        Ok(self)
    }
}

/// An object, or a version of one.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its version, `null` for one from before versioning.
    pub version_id: Option<String>,
    /// Whether it is the one that is read without naming a version. In a listing of versions only.
    #[serde(default)]
    pub is_latest: Option<bool>,
    /// Its ETag; empty for a delete marker.
    #[serde(rename = "ETag", default)]
    pub etag: String,
    /// Its size in stored bytes; 0 for a delete marker.
    #[serde(default)]
    pub size: u64,
    /// When it was written, in ISO 8601.
    #[serde(default)]
    pub last_modified: String,
}

impl Listed {
    /// Whether it is a delete marker, which is a version without an object.
    pub fn is_marker(&self) -> bool {
        self.etag.is_empty()
    }

    fn decode(&mut self) -> Result<()> {
        self.key = decode_form(&self.key)?;
        Ok(())
    }
}

fn no_listing() -> Error {
    Error::new(Code::InternalError, "The store's listing is none, or has no end.")
}

/// ListBuckets.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BucketListing {
    /// The buckets.
    pub buckets: Buckets,
    /// Where more follow, at a store that pages them.
    pub continuation_token: Option<String>,
}

/// The list in [`BucketListing`].
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Buckets {
    /// The buckets.
    #[serde(rename = "Bucket")]
    pub list: Vec<ListedBucket>,
}

/// A bucket.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListedBucket {
    /// Its name.
    pub name: String,
}
