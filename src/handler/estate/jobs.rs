//! What a command remembers in the store of where it is: a small document under `.s3veil/jobs/`.
//!
//! Nothing in it is secret, and nothing is believed that could harm more than a store can in any case: a store that lies about it
//! is one that hides objects from a listing.

use http::{Method, StatusCode};

use super::super::own::written;
use super::{ANSWER_MAX, Estate, refusal};
use crate::backend::StoreBody;
use crate::body::{self, gather};
use crate::s3::{Bucket, Key, Result};

/// Where the documents stand.
pub(super) const FOLDER: &str = ".s3veil/jobs/";

/// The place of one job's document.
#[derive(Clone, Debug)]
pub struct Job {
    bucket: Bucket,
    key: Key,
}

impl Estate {
    /// The job of this name on a bucket.
    pub fn job(&self, bucket: &Bucket, name: &str) -> Job {
        let place = self.rooms.uploads.place().unwrap_or(bucket).clone();
        let key = Key::parse(&format!("{FOLDER}{name}")).expect("names of jobs are short");
        Job { bucket: place, key }
    }

    /// What it has saved, if anything.
    pub async fn load(&self, job: &Job) -> Result<Option<Vec<u8>>> {
        let request = self.own(&job.bucket).request(Method::GET, Some(&job.key));
        let store = self.rooms.backend.send(request).await?;
        match store.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(refusal(store).await),
        }
        let text = gather(store.into_body(), 16 * ANSWER_MAX).await.map_err(body::Broken::Store)?;
        Ok(Some(text.to_vec()))
    }

    /// Saves it in the place of what was there.
    pub async fn save(&self, job: &Job, document: String) -> Result<()> {
        let request = self.own(&job.bucket).request(Method::PUT, Some(&job.key));
        written(self.rooms.backend.send(request.body(StoreBody::record(document))).await?).map(drop)
    }

    /// Forgets it, in all its versions.
    pub async fn forget(&self, job: &Job) -> Result<()> {
        let own = self.own(&job.bucket);
        let kind = own.kind().await;
        own.remove(kind, job.key.as_str()).await.map(drop)
    }
}
