//! What a crash, or an abort past s3veil, left of uploads that have ended: found and removed. For `s3veil gc`.

use futures_util::{Stream, TryStreamExt as _, stream};
use http::{Method, StatusCode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::Rooms;
use super::super::own::{Kind, Own, Start};
use super::state::{FOLDER, prefix, read};
use crate::auth::Who;
use crate::backend::{StoreHeaders, StoreRequest};
use crate::body::{self, gather};
use crate::s3::address::RESERVED_PREFIX;
use crate::s3::listing::{BucketListing, Listed};
use crate::s3::multipart::from_store;
use crate::s3::{Bucket, Code, Error, Key, Query, Result};
use crate::seal;

/// The most bytes of a list of buckets.
const BUCKETS_MAX: usize = 8 * 1024 * 1024;

/// What is kept of an upload in a bucket.
#[derive(Debug)]
pub struct Kept {
    id: String,
    /// Objects, or versions of them.
    pub objects: u64,
    /// Their size in stored bytes.
    pub bytes: u64,
    /// When the last of them was written.
    pub written: OffsetDateTime,
}

impl Kept {
    /// What the keys of its objects begin with.
    pub fn prefix(&self) -> String {
        prefix(&self.id)
    }
}

/// What became of an upload; its object's bucket and key.
#[derive(Debug)]
pub enum Upload {
    /// It can go on: nothing of it may be removed.
    UnderWay(String, String),
    /// The store knows it no more.
    Ended(String, String),
    /// Its record is gone, so it can't go on.
    Forgotten,
}

/// Looks through a bucket with the store's default credentials.
#[derive(Clone, Copy)]
pub struct Collector<'a> {
    rooms: &'a Rooms,
    place: &'a Bucket,
    kind: Kind,
}

impl<'a> Collector<'a> {
    /// For a bucket where the state of uploads may stand.
    pub async fn new(rooms: &'a Rooms, place: &'a Bucket) -> Self {
        let kind = Own { rooms, bucket: place, who: &Who::Trusted }.kind().await;
        Self { rooms, place, kind }
    }

    /// All buckets where it may stand: those of the store, and `state.bucket`.
    ///
    /// Errors: ServiceUnavailable if the store does not list them.
    pub async fn places(rooms: &Rooms) -> Result<Vec<Bucket>> {
        let (mut places, mut query) = (Vec::from_iter(rooms.uploads.place().cloned()), Query::default());
        loop {
            let request = StoreRequest::new(Method::GET, None, None, StoreHeaders::default(), &Who::Trusted);
            let store = rooms.backend.send(request.query(query)).await?;
            if store.status() != StatusCode::OK {
                return Err(Error::new(Code::ServiceUnavailable, "The store does not list its buckets.")
                    .caused_by(format!("the store answered {}", store.status())));
            }
            let text = gather(store.into_body(), BUCKETS_MAX).await.map_err(body::Broken::Store)?;
            let page: BucketListing = from_store(&text)?;
            let names = page.buckets.list.iter().filter_map(|bucket| Bucket::parse(&bucket.name));
            places.extend(names);
            let Some(token) = page.continuation_token.filter(|token| !token.is_empty()) else { break };
            query = Query::from_pairs([("continuation-token", token.as_str())]);
        }
        places.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        places.dedup();
        Ok(places)
    }

    fn own(self) -> Own<'a> {
        Own { rooms: self.rooms, bucket: self.place, who: &Who::Trusted }
    }

    /// What is kept of each upload, in the order of the listing, a page in memory.
    pub fn kept(self) -> impl Stream<Item = Result<Kept>> + 'a {
        let pages = stream::try_unfold(Some(Start::new()), move |start| async move {
            let Some(start) = start else { return Ok::<_, Error>(None) };
            let (page, next) =
                self.own().page(self.kind, &format!("{RESERVED_PREFIX}{FOLDER}"), start).await?;
            Ok(Some((stream::iter(page.into_iter().map(Ok::<_, Error>)), next)))
        });
        // Sorted by key, so an upload's objects stand together.
        stream::try_unfold(
            (Box::pin(pages.try_flatten()), None::<Kept>),
            |(mut objects, mut open)| async move {
                while let Some(object) = objects.try_next().await? {
                    let one = kept(&object)?;
                    match &mut open {
                        Some(kept) if kept.id == one.id => {
                            kept.objects += 1;
                            kept.bytes += one.bytes;
                            kept.written = kept.written.max(one.written);
                        }
                        _ => {
                            if let Some(whole) = open.replace(one) {
                                return Ok(Some((whole, (objects, open))));
                            }
                        }
                    }
                }
                Ok(open.take().map(|whole| (whole, (objects, None))))
            },
        )
    }

    /// Whether the upload can go on.
    ///
    /// Errors: the integrity error for a record that is another's, ServiceUnavailable if the store does not say.
    pub async fn upload(self, kept: &Kept) -> Result<Upload> {
        let Some(record) = read(&self.own(), &kept.id).await? else { return Ok(Upload::Forgotten) };
        let (bucket, key, id) = record.names();
        let parsed = Bucket::parse(bucket).zip(Key::parse(key)).ok_or(seal::Error::Tampered)?;
        let query = Query::from_pairs([("uploadId", id), ("max-parts", "1")]);
        let request = Own { bucket: &parsed.0, ..self.own() }.request(Method::GET, Some(&parsed.1));
        let store = self.rooms.backend.send(request.query(query)).await?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        match store.status() {
            StatusCode::OK => Ok(Upload::UnderWay(bucket, key)),
            StatusCode::NOT_FOUND => Ok(Upload::Ended(bucket, key)),
            status => Err(Error::new(
                Code::ServiceUnavailable,
                "The store does not say whether the upload goes on.",
            )
            .caused_by(format!("the store answered {status}"))),
        }
    }

    /// Removes all of it, in all versions.
    ///
    /// Errors: ServiceUnavailable for what the store keeps, for instance because it is locked.
    pub async fn remove(self, kept: &Kept) -> Result<()> {
        self.own().remove(self.kind, &kept.prefix()).await.map(drop)
    }
}

/// An object as the beginning of what is kept of its upload.
fn kept(object: &Listed) -> Result<Kept> {
    let inside = object.key.strip_prefix(RESERVED_PREFIX).and_then(|key| key.strip_prefix(FOLDER));
    let id = inside.and_then(|key| key.split_once('/')).ok_or(seal::Error::Tampered)?.0.to_owned();
    let written =
        OffsetDateTime::parse(&object.last_modified, &Rfc3339).map_err(|_| seal::Error::Tampered)?;
    Ok(Kept { id, objects: 1, bytes: object.size, written })
}
