//! DeleteBucket: a bucket that looks empty to its clients can be deleted, with what s3veil keeps there.
//!
//! S3 deletes a bucket although uploads are under way in it; here such an upload leaves objects under `.s3veil/`.

use std::collections::VecDeque;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, StatusCode};

use super::{Answer, Rooms, forward};
use crate::auth::Who;
use crate::backend::{StoreHeaders, StoreRequest};
use crate::body::{self, ByteBody, gather};
use crate::operation::Call;
use crate::policy::Forward;
use crate::s3::address::RESERVED_PREFIX;
use crate::s3::rewrite::{Encoding, Entry, Segment, Splitter};
use crate::s3::{Bucket, Code, Error, Key, Query, Result};

/// The most bytes of a page of 1,000 entries.
const PAGE_MAX: usize = 8 * 1024 * 1024;

/// How many objects are deleted side by side.
const DELETES: usize = 16;

pub(super) async fn delete_bucket(
    rooms: &Rooms,
    call: Call,
    leave: Forward,
    body: ByteBody,
) -> Result<Answer> {
    let (bucket, who) = (call.bucket().expect("DeleteBucket names a bucket").clone(), call.who().clone());
    let headers = StoreHeaders::forwarded(call.headers());
    let answer = forward::forward(rooms, call, leave, body).await?;
    // A bucket for the state of others' uploads is as full as it is.
    if answer.status() != StatusCode::CONFLICT || rooms.uploads.are_kept_in(&bucket) {
        return Ok(answer);
    }
    match (Leftovers { rooms, bucket: &bucket, who: &who }).remove().await {
        Ok(true) => {
            let request = StoreRequest::new(Method::DELETE, Some(&bucket), None, headers, &who);
            Ok(forward::answer(rooms.backend.send(request).await?))
        }
        Ok(false) => Ok(answer),
        Err(why) => {
            tracing::warn!(%why, bucket = bucket.as_str(), "what s3veil keeps in the bucket can't be removed");
            Ok(answer)
        }
    }
}

/// What s3veil has left in a bucket.
struct Leftovers<'a> {
    rooms: &'a Rooms,
    bucket: &'a Bucket,
    who: &'a Who,
}

impl Leftovers<'_> {
    /// Removes it in all versions, if nothing else is there. Whether it did.
    async fn remove(&self) -> Result<bool> {
        // All keys between the first page and this one begin with the prefix.
        let behind = RESERVED_PREFIX.replace('/', "0");
        let mut first = self.page("").await?;
        if !first.iter().all(ours) || !self.page(&behind).await?.is_empty() {
            return Ok(false);
        }
        while !first.is_empty() {
            stream::iter(first)
                .map(|entry| self.delete(entry))
                .buffer_unordered(DELETES)
                .try_collect::<()>()
                .await?;
            first = self.page("").await?;
            if !first.iter().all(ours) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first versions behind a key; from a store without versions, the first objects.
    async fn page(&self, behind: &str) -> Result<VecDeque<Entry>> {
        let versions = self.list(Query::from_pairs([("versions", ""), ("key-marker", behind)])).await?;
        match versions.filter(|page| page.iter().all(|entry| entry.version_id.is_some())) {
            Some(page) => Ok(page),
            None => {
                let objects =
                    self.list(Query::from_pairs([("list-type", "2"), ("start-after", behind)])).await?;
                objects
                    .ok_or_else(|| Error::new(Code::ServiceUnavailable, "The store can't list the bucket."))
            }
        }
    }

    async fn list(&self, query: Query) -> Result<Option<VecDeque<Entry>>> {
        let request =
            StoreRequest::new(Method::GET, Some(self.bucket), None, StoreHeaders::default(), self.who)
                .query(query);
        let store = self.rooms.backend.send(request).await?;
        if store.status() != StatusCode::OK {
            return Ok(None);
        }
        let text = gather(store.into_body(), PAGE_MAX).await.map_err(body::Broken::Store)?;
        let mut splitter = Splitter::new(Encoding::None);
        let mut segments = splitter.push(&text)?;
        segments.extend(splitter.finish()?);
        let entry = |segment| if let Segment::Entry(entry) = segment { Some(entry) } else { None };
        Ok(Some(segments.into_iter().filter_map(entry).collect()))
    }

    async fn delete(&self, entry: Entry) -> Result<()> {
        let key = Key::parse(&entry.key);
        let mut request = StoreRequest::new(
            Method::DELETE,
            Some(self.bucket),
            key.as_ref(),
            StoreHeaders::default(),
            self.who,
        );
        if let Some(version) = &entry.version_id {
            request = request.query(Query::from_pairs([("versionId", version.as_str())]));
        }
        let store = self.rooms.backend.send(request).await?;
        match store.status().is_success() {
            true => Ok(()),
            false => Err(Error::new(Code::ServiceUnavailable, "The store did not delete an object.")
                .caused_by(format!("the store answered {}", store.status()))),
        }
    }
}

/// Whether it is s3veil's own, and nobody else's in any reading.
fn ours(entry: &Entry) -> bool {
    entry.key.starts_with(RESERVED_PREFIX) && Key::parse(&entry.key).is_some()
}
