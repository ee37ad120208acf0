//! Old versions that are plain: what sealing an object leaves behind in a bucket that keeps versions.

use http::Method;
use http::header;

use super::super::{get, open};
use super::bodies::broken;
use super::migrate::Direction;
use super::{Estate, found, key_of, target};
use crate::body;
use crate::s3::listing::Listed;
use crate::s3::range::RangeSpec;
use crate::s3::{Bucket, Result};
use crate::seal::MAGIC_LEN;

/// What became of an old version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// It was plain, and is gone.
    Removed,
    /// It is the current one, or sealed, or a delete marker.
    Kept,
    /// It is plain, but its object is deleted, plain itself or not to be sealed: it may be the last good copy.
    Left,
}

impl Estate {
    /// Deletes an old version that is plain, of an object that is sealed and opens.
    ///
    /// Errors: AccessDenied for one under a lock, those of store and KMS.
    pub async fn remove_plain_version(&self, bucket: &Bucket, listed: &Listed) -> Result<Old> {
        let (key, version) = (key_of(listed)?, listed.version_id.as_deref());
        if listed.is_latest != Some(false) || listed.is_marker() || version.is_none() {
            return Ok(Old::Kept);
        }
        let place = target(bucket, &key, version);
        match self.head(place).await? {
            Some(met) if open::parsed(&met)?.is_none() => {}
            _ => return Ok(Old::Kept),
        }
        if !self.fits(bucket, &key, Direction::Seal).await? {
            return Ok(Old::Left);
        }
        let current = target(bucket, &key, None);
        match self.head(current).await? {
            Some(met) if open::sealed(&self.rooms, current, &met).await?.is_some() => {}
            _ => return Ok(Old::Left),
        }
        // One that has lost its envelope is not plain.
        if listed.size >= MAGIC_LEN {
            let mut first = place.request(Method::GET);
            first.headers.set(header::RANGE, RangeSpec::FromTo(0, MAGIC_LEN - 1).to_header());
            let Some(store) = found(self.rooms.backend.send(first).await?).await? else {
                return Ok(Old::Kept);
            };
            let (first, _) = body::peek(store.into_body(), MAGIC_LEN as usize).await.map_err(broken)?;
            get::refuse_magic(&first)?;
        }
        self.delete(place).await?;
        Ok(Old::Removed)
    }
}
