//! A store's listings, as s3veil asks for them itself.
//!
//! Source: Amazon S3 API Reference, ListObjectsV2, ListObjectVersions, ListBuckets.

use serde::Deserialize;

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
}

/// An object, or a version of one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its version, `null` for one from before versioning.
    pub version_id: Option<String>,
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
