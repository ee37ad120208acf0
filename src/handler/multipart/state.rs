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

use super::super::open::{self, Given};
use super::super::own::{Kind, Own, Start, unwell, written};
use super::super::target::Target;
use super::super::{Rooms, sealing};
use super::no_such_upload;
use crate::auth::Who;
use crate::backend::{StoreBody, StoreHeaders, StoreRequest};
use crate::body::{self, gather};
use crate::kms::Context;
use crate::policy::Write;
use crate::s3::address::RESERVED_PREFIX;
use crate::s3::listing::Listed;
use crate::s3::multipart::MAX_PARTS;
use crate::s3::{Bucket, Code, Error, Key, Result};
use crate::seal::{self, Envelope, Opened, PartNumber};

/// Records kept in memory, and for how long: they never change.
const CACHED: u64 = 10_000;
const TIME: Duration = Duration::from_secs(3600);

/// Where it stands under the reserved prefix.
pub(super) const FOLDER: &str = "uploads/";

/// The name of the record beside the parts.
const RECORD: &str = "record";

/// The most bytes of a record.
const RECORD_MAX: usize = 24 * 1024;

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
    /// The client's encryption context, as it stands beside the envelope.
    #[serde(default)]
    context: Option<String>,
    /// The upload's key once more, sealed under an EK: of an upload under a client's own key (SSE-C), which is completed
    /// by a request that need not bring it along.
    #[serde(default)]
    kept_key: Option<String>,
    /// The header of the checksum that the client chose, and its type.
    pub(super) checksum: Option<(String, String)>,
}

impl Record {
    pub(super) fn new(
        (bucket, key): (&Bucket, &Key),
        upload_id: String,
        envelope: &Envelope,
        context: Option<&Context>,
        checksum: Option<(String, String)>,
    ) -> Self {
        let (bucket, key) = (bucket.as_str().to_owned(), key.as_str().to_owned());
        let context = context.map(Context::to_header);
        Self { bucket, key, upload_id, envelope: envelope.encode(), context, kept_key: None, checksum }
    }

    /// With the upload's key kept, if it is under a client's own. It opens where the record stands, and is no envelope of
    /// the object. The client's key itself is kept nowhere.
    pub(super) async fn with_key(mut self, rooms: &Rooms, target: Target<'_>, write: &Write) -> Result<Self> {
        if write.customer().is_some() {
            let opened = self.open_under(rooms, target).await?;
            let at = (target.bucket, &key_of(&self.id(), RECORD));
            let kept = sealing::kept(rooms, write.ek(), at, &opened).await?;
            self.kept_key = Some(kept.encode());
        }
        Ok(self)
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

    /// The upload's key, for a part of it.
    ///
    /// Errors: InvalidRequest for a client's key that is missing, or another than the upload's.
    pub(super) async fn open_for_part(&self, rooms: &Rooms, target: Target<'_>) -> Result<Opened> {
        let opened = self.open_under(rooms, target).await;
        opened.map_err(|error| match error.code() {
            Code::InvalidRequest if target.customer.is_none() => Error::new(
                Code::InvalidRequest,
                "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate \
                 encryption parameters.",
            ),
            Code::AccessDenied | Code::InvalidRequest => Error::new(
                Code::InvalidRequest,
                "The provided encryption parameters did not match the ones used originally to initiate the multipart upload.",
            ),
            _ => error,
        })
    }

    /// The upload's key, for its completion: by the client's own, or by what is kept for a request without it.
    pub(super) async fn open(&self, rooms: &Rooms, target: Target<'_>) -> Result<Opened> {
        let Some(kept) = self.kept_key.as_ref().filter(|_| target.customer.is_none()) else {
            return self.open_under(rooms, target).await;
        };
        let (kept, at) = (Envelope::parse(kept)?, key_of(&self.id(), RECORD));
        let given = Given { bucket: target.bucket, key: &at, customer: None, context: None };
        let opened = open::opened(&rooms.keys, &kept, given).await?;
        // The very key that sealed the parts, whatever the record has come to say.
        let same = opened.commitment() == *self.envelope()?.commitment();
        if same { Ok(opened) } else { Err(seal::Error::Tampered.into()) }
    }

    async fn open_under(&self, rooms: &Rooms, target: Target<'_>) -> Result<Opened> {
        let Target { bucket, key, customer, .. } = target;
        let given = Given { bucket, key, customer, context: self.context.as_deref() };
        open::opened(&rooms.keys, &self.envelope()?, given).await
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
        let request = self.request(Method::PUT, bucket, &id, RECORD, who).body(StoreBody::record(text));
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
    ///
    /// The record goes first: a part that is just being kept aside looks for it once it is there, so that either it is listed
    /// here or its own request removes it.
    pub(super) async fn remove(&self, rooms: &Rooms, who: &Who, bucket: &Bucket, key: &Key, upload_id: &str) {
        let id = id(bucket.as_str(), key.as_str(), upload_id);
        self.records.invalidate(&id);
        let own = self.own(rooms, who, bucket);
        let removed = async {
            let kept = own.delete_key(&key_of(&id, RECORD), None).await?;
            match own.remove(Kind::Objects, &prefix(&id)).await? || kept {
                // A versioned bucket keeps them, and what says that they are gone.
                true => own.remove(Kind::Versions, &prefix(&id)).await,
                false => Ok(false),
            }
        };
        let removed = removed.await;
        if let Err(why) = removed {
            tracing::warn!(%why, upload = id, "the state of an ended upload can't be removed; s3veil gc will");
        }
    }

    fn own<'a>(&'a self, rooms: &'a Rooms, who: &'a Who, bucket: &'a Bucket) -> Own<'a> {
        Own { rooms, bucket: self.bucket.as_ref().unwrap_or(bucket), who }
    }

    fn request(&self, method: Method, bucket: &Bucket, id: &str, name: &str, who: &Who) -> StoreRequest {
        let key = key_of(id, name);
        let place = self.bucket.as_ref().unwrap_or(bucket);
        StoreRequest::new(method, Some(place), Some(&key), StoreHeaders::default(), who)
    }
}

/// The record of an upload, as it is at the store.
///
/// Errors: the integrity error for that of another upload.
pub(super) async fn read(own: &Own<'_>, of: &str) -> Result<Option<Record>> {
    let store = own.rooms.backend.send(own.request(Method::GET, Some(&key_of(of, RECORD)))).await?;
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

fn key_of(id: &str, name: &str) -> Key {
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
