//! Where a command is, kept in the store: whoever is killed goes on from there, on whatever machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Area;
use super::settling::LEAST;
use super::shard::Shard;
use crate::handler::estate::{Estate, Job, Journal, Step, retried};
use crate::s3::{self, Bucket, Key, Result};

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    /// Every key up to this one is done, but for those that failed.
    after: Option<String>,
    failed: BTreeSet<String>,
    /// Multipart uploads under way.
    uploads: Vec<Begun>,
    /// What was written in a bucket that keeps versions, and is to be looked at again: by key.
    #[serde(default)]
    written: BTreeMap<String, Step>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begun {
    key: String,
    id: String,
}

/// Where a command is.
pub(super) struct Checkpoint {
    estate: Arc<Estate>,
    job: Job,
    state: Mutex<Saved>,
    /// What was written last. One writes at a time, lest an older state come last.
    written: tokio::sync::Mutex<Saved>,
}

/// The name of a command with these words of its own, on this share of the area: the same for each run of it.
pub(super) fn job_name(area: &Area, shard: Shard, (command, words): (&str, &[&str])) -> String {
    let mut hash = Sha256::new();
    let of = format!("{}/{}", shard.index, shard.count);
    for part in [area.bucket.as_str(), &area.prefix, &of].iter().chain(words) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    format!("{command}-{}", hex::encode(&hash.finalize()[..8]))
}

impl Checkpoint {
    /// Of the job of this name on this area. What an earlier run has left under way is removed;
    /// `restart`: and what it has done is not believed.
    pub async fn open(estate: Arc<Estate>, area: &Area, name: &str, restart: bool) -> anyhow::Result<Self> {
        let job = estate.job(&area.bucket, name);
        let what = || format!("the state of an earlier run, {name}");
        let found = retried(|_| estate.load(&job)).await.with_context(what)?;
        let mut saved: Saved = match found {
            Some(text) => serde_json::from_slice(&text)
                .with_context(|| {
                    format!("{} can't be read. Begin again with --restart, or delete it", what())
                })
                .or_else(|why| if restart { Ok(Saved::default()) } else { Err(why) })?,
            None => Saved::default(),
        };
        for Begun { key, id } in std::mem::take(&mut saved.uploads) {
            let Some(key) = Key::parse(&key) else { continue };
            let bucket = &area.bucket;
            retried(|_| estate.give_up(bucket, &key, &id)).await.with_context(|| {
                format!("an upload to s3://{}/{} that an earlier run left", bucket.as_str(), key.as_str())
            })?;
        }
        let written: Vec<Step> = std::mem::take(&mut saved.written).into_values().collect();
        if !written.is_empty() {
            // A client's write may still have been waiting when that run was ended.
            tokio::time::sleep(LEAST).await;
            let what = "what an earlier run wrote can't be looked at again";
            for (key, removed) in estate.settle(&area.bucket, &written).await.context(what)? {
                match removed {
                    // It is plain again, and may stand before `after`.
                    Ok(()) => drop(saved.failed.insert(key)),
                    Err(why) => {
                        tracing::error!(key, why = s3::error::chain(&why), "a client's write was overtaken")
                    }
                }
            }
        }
        if restart {
            (saved.after, saved.failed) = Default::default();
        }
        Ok(Self { estate, job, state: Mutex::new(saved), written: tokio::sync::Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, Saved> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key behind which to begin.
    pub fn after(&self) -> Option<String> {
        self.state().after.clone()
    }

    /// The keys before that which are still to be done.
    pub fn failed(&self) -> Vec<String> {
        self.state().failed.iter().cloned().collect()
    }

    pub fn reached(&self, key: &str) {
        self.state().after = Some(key.to_owned());
    }

    /// A key was tried. Gives how many have failed so far.
    pub fn tried(&self, key: &str, failed: bool) -> usize {
        let mut state = self.state();
        match failed {
            true => drop(state.failed.insert(key.to_owned())),
            false => drop(state.failed.remove(key)),
        }
        state.failed.len()
    }

    /// A version was written.
    pub fn wrote(&self, step: &Step) {
        self.state().written.insert(step.key.clone(), step.clone());
    }

    /// It has been looked at again.
    pub fn settled(&self, key: &str) {
        self.state().written.remove(key);
    }

    /// Writes it down, if it is not what was written last.
    ///
    /// Errors: those of the store.
    pub async fn save(&self) -> Result<()> {
        self.write(|_| false).await
    }

    /// The same, unless what was written while this one waited for its turn is enough.
    async fn write(&self, enough: impl Fn(&Saved) -> bool) -> Result<()> {
        let mut written = self.written.lock().await;
        let state = self.state().clone();
        if *written != state && !enough(&written) {
            let document = serde_json::to_string(&state).expect("strings are JSON");
            retried(|_| self.estate.save(&self.job, document.clone())).await?;
            *written = state;
        }
        Ok(())
    }

    /// All has been tried: the next run begins at the beginning, whether the store lets this be deleted or not.
    ///
    /// Errors: those of the store.
    pub async fn forget(&self) -> Result<()> {
        *self.state() = Saved::default();
        self.save().await?;
        let _one = self.written.lock().await;
        retried(|_| self.estate.forget(&self.job)).await
    }
}

impl Journal for Checkpoint {
    async fn begun(&self, _: &Bucket, key: &Key, id: &str) -> Result<()> {
        let begun = Begun::of(key, id);
        self.state().uploads.push(begun.clone());
        self.write(|written| written.uploads.contains(&begun)).await
    }

    fn ended(&self, _: &Bucket, key: &Key, id: &str) {
        let ended = Begun::of(key, id);
        self.state().uploads.retain(|begun| *begun != ended);
    }
}

impl Begun {
    fn of(key: &Key, id: &str) -> Self {
        Self { key: key.as_str().to_owned(), id: id.to_owned() }
    }
}
