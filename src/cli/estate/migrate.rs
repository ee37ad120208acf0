//! `s3veil migrate`: plain objects sealed where they are, and with `--decrypt` the way back.

use std::sync::Arc;

use anyhow::Context as _;

use super::checkpoint::job_name;
use super::progress::Progress;
use super::walk::{Outcome, Walk};
use super::writing::{Writing, end, fine, guards};
use super::{Common, Site};
use crate::handler::estate::{Direction, Estate, Guards, How, Moved, Old, Versioning, retried};
use crate::s3::Result;

#[derive(Debug, clap::Args)]
pub(in super::super) struct Migrate {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    writing: Writing,
    /// The way back: sealed objects are opened and written plain. Their rule must be `mode = "passthrough"` by then.
    #[arg(long)]
    decrypt: bool,
    /// Old versions that are plain, in a bucket that keeps versions. Once removed they are gone for good.
    #[arg(long, value_enum, default_value_t)]
    old_versions: OldVersions,
    /// Objects over 8 MiB go by parts of so many MiB, several at a time.
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(5..=4096))]
    part_mib: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum OldVersions {
    /// They stay, plain as they are.
    #[default]
    Keep,
    /// They are deleted, once the bucket's objects are sealed.
    Remove,
}

impl Migrate {
    pub(in super::super) async fn run(self) -> anyhow::Result<()> {
        let Site { estate, .. } = self.common.open()?;
        let direction = if self.decrypt { Direction::Open } else { Direction::Seal };
        anyhow::ensure!(
            !self.decrypt || self.old_versions == OldVersions::Keep,
            "--old-versions remove goes with sealing only: it deletes what is plain"
        );
        let keeping = self.writing.keeping();
        let mut how =
            How { direction, part: self.part_mib << 20, keeping, guard_put: true, guard_complete: true };
        let bucket = &self.common.area.bucket;
        let progress = self.common.progress(match (self.writing.apply, direction) {
            (false, _) => "looked at",
            (true, Direction::Seal) => "sealed",
            (true, Direction::Open) => "opened",
        });
        if !self.writing.apply {
            let walk = Walk::new(&self.common, &estate, &progress);
            let walked = walk.run(|listed| {
                let (estate, bucket) = (estate.clone(), bucket.clone());
                async move {
                    let would = retried(|_| estate.would_migrate(&bucket, &listed, how));
                    told(would.await, "to do with --apply")
                }
            });
            let done = walked.await.and_then(|()| fine(&progress));
            progress.finish();
            return done;
        }
        let words: &[&str] = if self.decrypt { &["decrypt"] } else { &[] };
        let job = job_name(&self.common.area, self.common.shard, ("migrate", words));
        let guards = self.guards(&estate, &progress, &job).await?;
        (how.guard_put, how.guard_complete) = (guards.put, guards.complete);
        how.keeping.ask_tags = !guards.tag_count;
        let checkpoint = self.writing.checkpoint(&estate, &self.common, &job).await?;
        let walk = Walk { checkpoint: Some(&checkpoint), ..Walk::new(&self.common, &estate, &progress) };
        let done = if self.decrypt { "opened" } else { "sealed" };
        let walked = walk
            .run(|listed| {
                let (estate, bucket, checkpoint) = (estate.clone(), bucket.clone(), checkpoint.clone());
                async move {
                    let moved =
                        retried(|attempt| estate.migrate(&bucket, &listed, how, &*checkpoint, attempt > 0));
                    told(moved.await, done)
                }
            })
            .await;
        let finished = walked.is_ok();
        let mut done = walked.and_then(|()| fine(&progress));
        if done.is_ok() && self.old_versions == OldVersions::Remove {
            done = self.remove_old(&estate, &progress).await.and_then(|()| fine(&progress));
        }
        end(&checkpoint, &progress, finished, done).await
    }

    /// Which conditions the store keeps.
    ///
    /// Errors: a store that keeps too few, unless it is accepted.
    async fn guards(&self, estate: &Estate, progress: &Progress, job: &str) -> anyhow::Result<Guards> {
        let guards = guards(estate, &self.common, progress, job).await?;
        if guards.put && guards.complete {
            return Ok(guards);
        }
        let which = match (guards.put, guards.complete) {
            (false, false) => "PutObject and CompleteMultipartUpload",
            (false, true) => "PutObject",
            (true, _) => "CompleteMultipartUpload",
        };
        self.writing.accept(&self.common, progress, which, "sealed")?;
        Ok(guards)
    }

    async fn remove_old(&self, estate: &Arc<Estate>, progress: &Arc<Progress>) -> anyhow::Result<()> {
        let bucket = &self.common.area.bucket;
        let kept =
            retried(|_| estate.versioning(bucket)).await.context("whether the bucket keeps versions")?;
        if kept == Versioning::Off {
            return Ok(());
        }
        // Its version `null` could be another one by the time that it is deleted.
        let suspended = kept == Versioning::Suspended;
        if suspended {
            progress.note("The bucket's versioning is suspended: old versions called 'null' stay.");
        }
        let walk = Walk { versions: true, count: false, ..Walk::new(&self.common, estate, progress) };
        walk.run(|listed| {
            let (estate, bucket) = (estate.clone(), bucket.clone());
            async move {
                if suspended && listed.version_id.as_deref() == Some("null") {
                    return Outcome::good("versions left", 0);
                }
                match retried(|_| estate.remove_plain_version(&bucket, &listed)).await {
                    Ok(Old::Removed) => Outcome::good("old plain versions removed", listed.size),
                    Ok(Old::Kept) => Outcome::good("versions left", 0),
                    Ok(Old::Left) => {
                        Outcome::good("old plain versions left: their objects are not sealed", 0)
                    }
                    Err(error) => Outcome::bad("versions failed", &error),
                }
            }
        })
        .await
    }
}

fn told(moved: Result<Moved>, done: &str) -> Outcome {
    match moved {
        Ok(Moved::Done(bytes, step)) => Outcome::good(done, bytes).written(step),
        Ok(Moved::Already) => Outcome::good("already so", 0),
        Ok(Moved::ByRule) => Outcome::good("left, by the rule for them", 0),
        Ok(Moved::Customer) => Outcome::good("left, under their clients' own keys", 0),
        Ok(Moved::Gone) => Outcome::good("deleted meanwhile", 0),
        Err(error) => Outcome::bad("failed", &error),
    }
}
