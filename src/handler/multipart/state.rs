//! What is kept of an upload under way: a record beside the parts that wait for its end.
//!
//! Under `.s3veil/uploads/ID/` in the upload's bucket, or in `state.bucket`: `record`, and `part-NNNN` for parts too
//! short to be anything but the last. The record names the upload and holds its envelope. Nothing in it is secret, and
//! nothing of it is believed that the envelope does not prove.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use moka::sync::Cache;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::super::{Rooms, open};
use super::no_such_upload;
use crate::auth::Who;
use crate::backend::{StoreBody, StoreHeaders, StoreRequest, StoreResponse};
use crate::body::{self, gather};
use crate::s3::address::RESERVED_PREFIX;
use crate::s3::multipart::{ListedObject, Listing, MAX_PARTS, VersionListing, from_store};
use crate::s3::{Bucket, Code, Error, Key, Query, Result};
use crate::seal::{self, Envelope, Opened, PartNumber};

/// Records kept in memory, and for how long: they never change.
const CACHED: u64 = 10_000;
const TIME: Duration = Duration::from_secs(3600);

/// The most bytes of a record, and of a page of a listing.
const RECORD_MAX: usize = 64 * 1024;
const LISTING_MAX: usize = 8 * 1024 * 1024;

/// Pages of versions that one upload can leave: each part sent ten times.
const PAGES: usize = 100;

/// Where uploads under way are kept, as typed in `proxy.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StateConfig {
    /// A bucket for all of it; each upload's own if left out.
    pub bucket: Option<String>,
}

impl StateConfig {
    /// Errors: a message that names the key, its value and the remedy.
    pub fn build(self) -> std::result::Result<Uploads, String> {
        let bucket = self.bucket.map(|name| {
            Bucket::parse(&name)
                .ok_or_else(|| format!("state.bucket: '{name}' is not a bucket's name. Correct it"))
        });
        let records = Cache::builder().max_capacity(CACHED).time_to_live(TIME).build();
        Ok(Uploads { bucket: bucket.transpose()?, records })
    }
}

/// The uploads under way.
pub struct Uploads {
    bucket: Option<Bucket>,
    records: Cache<String, Arc<Record>>,
}

/// What is kept of an upload.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Record {
    bucket: String,
    key: String,
    pub(super) upload_id: String,
    envelope: String,
    /// The header of the checksum that the client chose, and its type.
    pub(super) checksum: Option<(String, String)>,
}

impl Record {
    pub(super) fn new(
        (bucket, key): (&Bucket, &Key),
        upload_id: String,
        envelope: &Envelope,
        checksum: Option<(String, String)>,
    ) -> Self {
        let (bucket, key) = (bucket.as_str().to_owned(), key.as_str().to_owned());
        Self { bucket, key, upload_id, envelope: envelope.encode(), checksum }
    }

    /// The names of the checksum's algorithm and type, as S3 writes them.
    pub(super) fn checksum_names(&self) -> (Option<String>, Option<String>) {
        let names = self.checksum.as_ref().map(|(header, kind)| {
            (header.trim_start_matches("x-amz-checksum-").to_ascii_uppercase(), kind.clone())
        });
        names.unzip()
    }

    /// The upload's envelope, not yet believed.
    pub(super) fn envelope(&self) -> Result<Envelope> {
        Ok(Envelope::parse(&self.envelope)?)
    }

    /// The upload's key.
    pub(super) async fn open(&self, rooms: &Rooms, bucket: &Bucket, key: &Key) -> Result<Opened> {
        open::opened(rooms, &self.envelope()?, bucket, key).await
    }
}

impl Uploads {
    /// Whether a bucket is the one where all of it is kept.
    pub(in super::super) fn are_kept_in(&self, bucket: &Bucket) -> bool {
        self.bucket.as_ref() == Some(bucket)
    }

    /// Keeps a new upload's record.
    pub(super) async fn save(
        &self,
        rooms: &Rooms,
        who: &Who,
        bucket: &Bucket,
        key: &Key,
        record: Record,
    ) -> Result<()> {
        let id = id(bucket, key, &record.upload_id);
        let text = serde_json::to_string(&record).expect("texts are JSON");
        let request = self.request(Method::PUT, bucket, &id, "record", who).body(StoreBody::record(text));
        written(rooms.backend.send(request).await?)?;
        self.records.insert(id, Arc::new(record));
        Ok(())
    }

    /// The record of an upload. `fresh`: from the store, for the upload may have ended elsewhere.
    ///
    /// Errors: NoSuchUpload.
    pub(super) async fn find(
        &self,
        rooms: &Rooms,
        who: &Who,
        (bucket, key): (&Bucket, &Key),
        upload_id: &str,
        fresh: bool,
    ) -> Result<Arc<Record>> {
        let id = id(bucket, key, upload_id);
        if let Some(record) = self.records.get(&id).filter(|_| !fresh) {
            return Ok(record);
        }
        let store = rooms.backend.send(self.request(Method::GET, bucket, &id, "record", who)).await?;
        match store.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                self.records.invalidate(&id);
                return Err(no_such_upload());
            }
            status => return Err(unwell(status)),
        }
        let text = gather(store.into_body(), RECORD_MAX).await.map_err(body::Broken::Store)?;
        let record: Record = serde_json::from_slice(&text).map_err(|_| seal::Error::Tampered)?;
        let named = (record.bucket.as_str(), record.key.as_str(), record.upload_id.as_str());
        if named != (bucket.as_str(), key.as_str(), upload_id) {
            return Err(seal::Error::Tampered.into());
        }
        let record = Arc::new(record);
        self.records.insert(id, record.clone());
        Ok(record)
    }

    /// A request for a part that is kept aside.
    pub(super) fn staged(
        &self,
        method: Method,
        (bucket, key): (&Bucket, &Key),
        upload_id: &str,
        number: PartNumber,
        who: &Who,
    ) -> StoreRequest {
        let name = format!("part-{:04}", number.get());
        self.request(method, bucket, &id(bucket, key, upload_id), &name, who)
    }

    /// The parts that are kept aside, by number.
    pub(super) async fn list_staged(
        &self,
        rooms: &Rooms,
        who: &Who,
        (bucket, key): (&Bucket, &Key),
        upload_id: &str,
    ) -> Result<Vec<(PartNumber, ListedObject)>> {
        let mut parts = Vec::new();
        for object in self.objects(rooms, who, bucket, &id(bucket, key, upload_id)).await? {
            let number = object.key.rsplit_once("/part-").and_then(|(_, number)| number.parse().ok());
            parts.extend(number.and_then(PartNumber::new).map(|number| (number, object)));
        }
        Ok(parts)
    }

    /// Removes all that was kept of an upload which has ended. What can't be removed now, `s3veil gc` finds.
    pub(super) async fn remove(&self, rooms: &Rooms, who: &Who, bucket: &Bucket, key: &Key, upload_id: &str) {
        let id = id(bucket, key, upload_id);
        self.records.invalidate(&id);
        if let Err(why) = self.clear(rooms, who, bucket, &id).await {
            tracing::warn!(%why, upload = id, "the state of an ended upload can't be removed; s3veil gc will");
        }
    }

    async fn clear(&self, rooms: &Rooms, who: &Who, bucket: &Bucket, id: &str) -> Result<()> {
        let mut versioned = false;
        for object in self.objects(rooms, who, bucket, id).await? {
            versioned |= self.delete(rooms, who, bucket, &object.key, None).await?;
        }
        // A versioned bucket keeps them, and what says that they are gone. All that is listed goes, so each page is the
        // first; a store that says so and keeps it is not asked for ever.
        for _ in 0..PAGES {
            if !versioned {
                break;
            }
            let query = [("versions", ""), ("prefix", &prefix(id))];
            let page: VersionListing = self.list(rooms, who, bucket, Query::from_pairs(query)).await?;
            versioned = !(page.versions.is_empty() && page.markers.is_empty());
            for version in page.versions.into_iter().chain(page.markers) {
                self.delete(rooms, who, bucket, &version.key, Some(&version.version_id)).await?;
            }
        }
        Ok(())
    }

    /// Deletes an object, or a version; true if a version of it stays behind.
    async fn delete(
        &self,
        rooms: &Rooms,
        who: &Who,
        bucket: &Bucket,
        key: &str,
        version: Option<&str>,
    ) -> Result<bool> {
        let key = Key::parse(key).filter(Key::is_reserved).ok_or(seal::Error::Tampered)?;
        let place = self.bucket.as_ref().unwrap_or(bucket);
        let mut request =
            StoreRequest::new(Method::DELETE, Some(place), Some(&key), StoreHeaders::default(), who);
        if let Some(version) = version {
            request = request.query(Query::from_pairs([("versionId", version)]));
        }
        let store = written(rooms.backend.send(request).await?)?;
        Ok(version.is_none() && store.headers().contains_key("x-amz-version-id"))
    }

    async fn objects(
        &self,
        rooms: &Rooms,
        who: &Who,
        bucket: &Bucket,
        id: &str,
    ) -> Result<Vec<ListedObject>> {
        let (mut objects, mut token) = (Vec::new(), None);
        loop {
            let mut query = Query::from_pairs([("list-type", "2"), ("prefix", &prefix(id))]);
            if let Some(token) = token.take() {
                query.push("continuation-token", token);
            }
            let page: Listing = self.list(rooms, who, bucket, query).await?;
            objects.extend(page.contents);
            if objects.len() > MAX_PARTS {
                return Err(seal::Error::Tampered.into());
            }
            token = page.next_continuation_token.filter(|_| page.is_truncated);
            if token.is_none() {
                return Ok(objects);
            }
        }
    }

    /// A page of a listing.
    async fn list<T: DeserializeOwned>(
        &self,
        rooms: &Rooms,
        who: &Who,
        bucket: &Bucket,
        query: Query,
    ) -> Result<T> {
        let place = self.bucket.as_ref().unwrap_or(bucket);
        let request =
            StoreRequest::new(Method::GET, Some(place), None, StoreHeaders::default(), who).query(query);
        let store = rooms.backend.send(request).await?;
        if store.status() != StatusCode::OK {
            return Err(unwell(store.status()));
        }
        from_store(&gather(store.into_body(), LISTING_MAX).await.map_err(body::Broken::Store)?)
    }

    fn request(&self, method: Method, bucket: &Bucket, id: &str, name: &str, who: &Who) -> StoreRequest {
        let key = Key::parse(&format!("{}{name}", prefix(id))).expect("the key is short");
        let place = self.bucket.as_ref().unwrap_or(bucket);
        StoreRequest::new(method, Some(place), Some(&key), StoreHeaders::default(), who)
    }
}

/// What the keys of all that is kept of an upload begin with.
fn prefix(id: &str) -> String {
    format!("{RESERVED_PREFIX}uploads/{id}/")
}

/// A name for an upload that is a key at every store.
fn id(bucket: &Bucket, key: &Key, upload_id: &str) -> String {
    let mut hash = Sha256::new();
    for part in [bucket.as_str(), key.as_str(), upload_id] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..20])
}

fn written(store: StoreResponse) -> Result<StoreResponse> {
    if store.status().is_success() { Ok(store) } else { Err(unwell(store.status())) }
}

pub(super) fn unwell(status: StatusCode) -> Error {
    let why =
        "The store did not do what an upload needs under '.s3veil/'. Please try again; see state.bucket.";
    Error::new(Code::ServiceUnavailable, why).retry_after(2).caused_by(format!("the store answered {status}"))
}
