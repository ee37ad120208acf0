//! What s3veil keeps in a bucket of the store: the objects under `.s3veil/`, listed and removed in all their versions.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;

use super::Rooms;
use crate::auth::Who;
use crate::backend::{StoreHeaders, StoreRequest, StoreResponse};
use crate::body::{self, gather};
use crate::s3::address::RESERVED_PREFIX;
use crate::s3::listing::{Listed, ObjectListing, VersionListing};
use crate::s3::multipart::from_store;
use crate::s3::{Bucket, Code, Error, Key, Query, Result};
use crate::seal;

/// The most bytes of a page of 1,000 entries.
const PAGE_MAX: usize = 8 * 1024 * 1024;

/// How many objects are deleted side by side.
const DELETES: usize = 16;

/// Pages that are removed before a store which keeps what it says it deletes is given up: 100,000 objects.
const PAGES: usize = 100;

/// What a listing shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Objects,
    /// Delete markers too.
    Versions,
}

/// Where a page of a listing begins: its query parameters.
pub(super) type Start = Vec<(&'static str, String)>;

/// s3veil's own objects in a bucket.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    pub rooms: &'a Rooms,
    pub bucket: &'a Bucket,
    pub who: &'a Who,
}

impl Own<'_> {
    /// A page of the keys that begin with `prefix`, and where the next one begins.
    pub async fn page(&self, kind: Kind, prefix: &str, start: Start) -> Result<(Vec<Listed>, Option<Start>)> {
        let mut query = Query::from_pairs([("prefix", prefix), ("encoding-type", "url")]);
        for (name, value) in start {
            query.push(name, value);
        }
        match kind {
            Kind::Objects => {
                query.push("list-type", "2");
                let page = self.list::<ObjectListing>(query).await?.decoded()?;
                let next = page.next_continuation_token.filter(|_| page.is_truncated);
                Ok((page.contents, next.map(|token| vec![("continuation-token", token)])))
            }
            Kind::Versions => {
                query.push("versions", "");
                let page = self.list::<VersionListing>(query).await?.decoded()?;
                let key = page.next_key_marker.filter(|_| page.is_truncated);
                let version = page.next_version_id_marker.filter(|marker| !marker.is_empty());
                let version = version.map(|marker| ("version-id-marker", marker));
                let next = key.map(|marker| [("key-marker", marker)].into_iter().chain(version).collect());
                let mut versions = page.versions;
                versions.extend(page.markers);
                // Markers stand in a list of their own: the order of keys is that of one list.
                versions.sort_by(|one, other| one.key.cmp(&other.key));
                Ok((versions, next))
            }
        }
    }

    /// What the store can list: versions, or objects where it has none of s3veil's own. Some that know no versions refuse
    /// to list them, and some list something else.
    pub async fn kind(&self) -> Kind {
        match self.page(Kind::Versions, RESERVED_PREFIX, Start::new()).await {
            Ok((page, _)) if !page.is_empty() && page.iter().all(|one| one.version_id.is_some()) => {
                Kind::Versions
            }
            _ => Kind::Objects,
        }
    }

    /// Where a page begins that shows the keys behind this one.
    pub fn behind(kind: Kind, key: &str) -> Start {
        let name = if kind == Kind::Objects { "start-after" } else { "key-marker" };
        vec![(name, key.to_owned())]
    }

    /// Removes what begins with `prefix`. Whether versions of it stay behind.
    ///
    /// Errors: ServiceUnavailable for what can't be removed; what comes before it is gone.
    pub async fn remove(&self, kind: Kind, prefix: &str) -> Result<bool> {
        let mut stays = false;
        // All that is listed goes, so each page is the first.
        for _ in 0..PAGES {
            let (page, next) = self.page(kind, prefix, Start::new()).await?;
            stays |= stream::iter(page)
                .map(|object| self.delete(object))
                .buffer_unordered(DELETES)
                .try_fold(false, |any, one| async move { Ok(any | one) })
                .await?;
            if next.is_none() {
                return Ok(stays);
            }
        }
        Err(Error::new(Code::ServiceUnavailable, "The store goes on listing what it deletes."))
    }

    /// Deletes an object, or a version; true if a version of it stays behind.
    async fn delete(&self, object: Listed) -> Result<bool> {
        // What the store names is not believed: never a client's object.
        let key = Key::parse(&object.key).filter(Key::is_reserved).ok_or(seal::Error::Tampered)?;
        self.delete_key(&key, object.version_id.as_deref()).await
    }

    /// The same for one of s3veil's own keys.
    pub async fn delete_key(&self, key: &Key, version: Option<&str>) -> Result<bool> {
        let mut request = self.request(Method::DELETE, Some(key));
        if let Some(version) = version {
            request = request.query(Query::from_pairs([("versionId", version)]));
        }
        let store = written(self.rooms.backend.send(request).await?)?;
        Ok(version.is_none() && store.headers().contains_key("x-amz-version-id"))
    }

    async fn list<T: DeserializeOwned>(&self, query: Query) -> Result<T> {
        let store = self.rooms.backend.send(self.request(Method::GET, None).query(query)).await?;
        if store.status() != StatusCode::OK {
            return Err(unwell(store.status()));
        }
        from_store(&gather(store.into_body(), PAGE_MAX).await.map_err(body::Broken::Store)?)
    }

    /// A request for the bucket, or for a key in it.
    pub fn request(&self, method: Method, key: Option<&Key>) -> StoreRequest {
        StoreRequest::new(method, Some(self.bucket), key, StoreHeaders::default(), self.who)
    }
}

/// The answer to a write, if it was done.
///
/// Errors: ServiceUnavailable.
pub(super) fn written(store: StoreResponse) -> Result<StoreResponse> {
    if store.status().is_success() { Ok(store) } else { Err(unwell(store.status())) }
}

/// The store refused what is needed under `.s3veil/`.
pub(super) fn unwell(status: StatusCode) -> Error {
    let error = match status {
        // It would refuse it again.
        StatusCode::FORBIDDEN => Error::new(
            Code::AccessDenied,
            "The store does not let this client write, read, list and delete under '.s3veil/', where s3veil keeps what it \
             needs. Allow it in the store's policy, there or in state.bucket.",
        ),
        _ => Error::new(
            Code::ServiceUnavailable,
            "The store did not do what s3veil needs under '.s3veil/'. Please try again; see state.bucket.",
        )
        .retry_after(2),
    };
    error.caused_by(format!("the store answered {status}"))
}
