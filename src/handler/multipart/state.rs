//! What is kept of an upload under way: a record beside the parts that wait for its end.
//!
//! Under `.s3veil/uploads/ID/` in the upload's bucket, or in `state.bucket`: `record`, and `part-NNNN` for parts too
//! short to be anything but the last. The record names the upload and holds its envelope. Nothing in it is secret, and
//! nothing of it is believed that the envelope does not prove.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::super::own::{Kind, Own, Start, unwell, written};
use super::super::{Rooms, open};
use super::no_such_upload;
use crate::auth::Who;
use crate::backend::{StoreBody, StoreHeaders, StoreRequest};
use crate::body::{self, gather};
use crate::s3::address::RESERVED_PREFIX;
use crate::s3::listing::Listed;
use crate::s3::multipart::MAX_PARTS;
use crate::s3::{Bucket, Key, Result};
use crate::seal::{self, Envelope, Opened, PartNumber};

/// Records kept in memory, and for how long: they never change.
const CACHED: u64 = 10_000;
const TIME: Duration = Duration::from_secs(3600);

/// Where it stands under the reserved prefix.
pub(super) const FOLDER: &str = "uploads/";

/// The most bytes of a record.
const RECORD_MAX: usize = 64 * 1024;

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

    fn id(&self) -> String {
        id(&self.bucket, &self.key, &self.upload_id)
    }

    /// The upload's object, and the upload.
    pub(super) fn names(&self) -> (&str, &str, &str) {
        (&self.bucket, &self.key, &self.upload_id)
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
        open::opened(&rooms.keys, &self.envelope()?, bucket, key).await
    }
}

impl Uploads {
    /// The bucket where all of it is kept, if not each upload's own.
    pub(in super::super) fn place(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }

    /// Keeps a new upload's record.
    pub(super) async fn save(&self, rooms: &Rooms, who: &Who, bucket: &Bucket, record: Record) -> Result<()> {
        let id = record.id();
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
        let id = id(bucket.as_str(), key.as_str(), upload_id);
        if let Some(record) = self.records.get(&id).filter(|_| !fresh) {
            return Ok(record);
        }
        let Some(record) = read(&self.own(rooms, who, bucket), &id).await? else {
            self.records.invalidate(&id);
            return Err(no_such_upload());
        };
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
        self.request(method, bucket, &id(bucket.as_str(), key.as_str(), upload_id), &name, who)
    }

    /// The parts that are kept aside, by number.
    pub(super) async fn list_staged(
        &self,
        rooms: &Rooms,
        who: &Who,
        (bucket, key): (&Bucket, &Key),
        upload_id: &str,
    ) -> Result<Vec<(PartNumber, Listed)>> {
        let (own, prefix) =
            (self.own(rooms, who, bucket), prefix(&id(bucket.as_str(), key.as_str(), upload_id)));
        let (mut parts, mut start) = (Vec::new(), Some(Start::new()));
        while let Some(from) = start.take() {
            let (objects, next) = own.page(Kind::Objects, &prefix, from).await?;
            for object in objects {
                let number = object.key.rsplit_once("/part-").and_then(|(_, number)| number.parse().ok());
                parts.extend(number.and_then(PartNumber::new).map(|number| (number, object)));
            }
            if parts.len() > MAX_PARTS {
                return Err(seal::Error::Tampered.into());
            }
            start = next;
        }
        Ok(parts)
    }

    /// Removes all that was kept of an upload which has ended. What can't be removed now, `s3veil gc` finds.
    pub(super) async fn remove(&self, rooms: &Rooms, who: &Who, bucket: &Bucket, key: &Key, upload_id: &str) {
        let id = id(bucket.as_str(), key.as_str(), upload_id);
        self.records.invalidate(&id);
        let own = self.own(rooms, who, bucket);
        let removed = match own.remove(Kind::Objects, &prefix(&id)).await {
            // A versioned bucket keeps them, and what says that they are gone.
            Ok(true) => own.remove(Kind::Versions, &prefix(&id)).await,
            other => other,
        };
        if let Err(why) = removed {
            tracing::warn!(%why, upload = id, "the state of an ended upload can't be removed; s3veil gc will");
        }
    }

    fn own<'a>(&'a self, rooms: &'a Rooms, who: &'a Who, bucket: &'a Bucket) -> Own<'a> {
        Own { rooms, bucket: self.bucket.as_ref().unwrap_or(bucket), who }
    }

    fn request(&self, method: Method, bucket: &Bucket, id: &str, name: &str, who: &Who) -> StoreRequest {
        let key = key(id, name);
        let place = self.bucket.as_ref().unwrap_or(bucket);
        StoreRequest::new(method, Some(place), Some(&key), StoreHeaders::default(), who)
    }
}

/// The record of an upload, as it is at the store.
///
/// Errors: the integrity error for that of another upload.
pub(super) async fn read(own: &Own<'_>, of: &str) -> Result<Option<Record>> {
    let store = own.rooms.backend.send(own.request(Method::GET, Some(&key(of, "record")))).await?;
    match store.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        status => return Err(unwell(status)),
    }
    let text = gather(store.into_body(), RECORD_MAX).await.map_err(body::Broken::Store)?;
    let record: Record = serde_json::from_slice(&text).map_err(|_| seal::Error::Tampered)?;
    match record.id() == of {
        true => Ok(Some(record)),
        false => Err(seal::Error::Tampered.into()),
    }
}

fn key(id: &str, name: &str) -> Key {
    Key::parse(&format!("{}{name}", prefix(id))).expect("the key is short")
}

/// What the keys of all that is kept of an upload begin with.
pub(super) fn prefix(id: &str) -> String {
    format!("{RESERVED_PREFIX}{FOLDER}{id}/")
}

/// A name for an upload that is a key at every store.
fn id(bucket: &str, key: &str, upload_id: &str) -> String {
    let mut hash = Sha256::new();
    for part in [bucket, key, upload_id] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..20])
}
