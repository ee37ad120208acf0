//! `s3veil rotate`: the keys of sealed objects sealed under another EK, no body moved; and what still needs which EK.

use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;

use super::super::the_kms;
use super::checkpoint::job_name;
use super::walk::{Outcome, Walk};
use super::writing::{Writing, end, fine, guards};
use super::{Common, Site};
use crate::handler::estate::{CopyBy, Estate, Rotated, Rotation, Seen, Versioning, retried};
use crate::kms::EkName;
use crate::policy::EkRef;
use crate::s3::Result;

#[derive(Debug, clap::Args)]
pub(in super::super) struct Rotate {
    #[command(flatten)]
    common: Common,
    /// The EK that all of them are to be under. Its newest version, where the KMS has versions.
    #[arg(long, value_name = "EK")]
    to: String,
    /// The KMS that holds it, by its name in the configuration; may be left out where there is only one.
    #[arg(long)]
    kms: Option<String>,
    /// Only objects under this EK.
    #[arg(long = "where", value_name = "ek=NAME")]
    from: Option<From>,
    #[command(flatten)]
    writing: Writing,
    /// Don't count afterwards what still needs which EK.
    #[arg(long)]
    no_report: bool,
}

#[derive(Clone, Debug)]
struct From(String);

impl FromStr for From {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        match text.strip_prefix("ek=") {
            Some(name) if !name.is_empty() => Ok(Self(name.to_owned())),
            _ => Err("write ek=NAME"),
        }
    }
}

impl Rotate {
    pub(in super::super) async fn run(self) -> anyhow::Result<()> {
        let Site { estate, app, kms } = self.common.open()?;
        let to = self.ek(&kms)?;
        app.rooms.keys.probe(&to.kms, &to.ek).await.with_context(|| {
            format!("--to: the EK '{}' of kms '{}' can't seal. Make it, or enable it", to.ek, to.kms)
        })?;
        let from = self.from.as_ref().map(|from| from.0.clone());
        let keeping = self.writing.keeping();
        let mut rotation = Rotation { to, from, keeping, by: CopyBy::Copy, long: true };
        let bucket = &self.common.area.bucket;
        let progress = self.common.progress(if self.writing.apply { "under their EK" } else { "looked at" });
        if !self.writing.apply {
            let (walk, rotation) = (Walk::new(&self.common, &estate, &progress), Arc::new(rotation));
            let walked = walk.run(|listed| {
                let (estate, bucket, rotation) = (estate.clone(), bucket.clone(), rotation.clone());
                async move {
                    let would = retried(|_| estate.would_rotate(&bucket, &listed, &rotation));
                    told(would.await, "to do with --apply")
                }
            });
            let done = walked.await.and_then(|()| fine(&progress));
            progress.finish();
            return done;
        }
        let from = rotation.from.clone().unwrap_or_default();
        let words = [rotation.to.kms.as_str(), rotation.to.ek.as_str(), &from];
        let job = job_name(&self.common.area, self.common.shard, ("rotate", &words));
        let guards = guards(&estate, &self.common, &progress, &job).await?;
        rotation.keeping.ask_tags = !guards.tag_count;
        rotation.long = guards.complete || self.writing.unguarded;
        match (guards.copy, guards.complete) {
            (true, _) => {}
            (false, true) => rotation.by = CopyBy::Parts,
            (false, false) => {
                let which = "CopyObject and CompleteMultipartUpload";
                self.writing.accept(&self.common, &progress, which, "copied")?;
            }
        }
        let rotation = Arc::new(rotation);
        let checkpoint = self.writing.checkpoint(&estate, &self.common, &job).await?;
        let walk = Walk { checkpoint: Some(&checkpoint), ..Walk::new(&self.common, &estate, &progress) };
        let walked = walk.run(|listed| {
            let (estate, bucket) = (estate.clone(), bucket.clone());
            let (rotation, checkpoint) = (rotation.clone(), checkpoint.clone());
            async move {
                let rotated = retried(|_| estate.rotate(&bucket, &listed, &rotation, &*checkpoint));
                told(rotated.await, "rotated")
            }
        });
        let walked = walked.await;
        let finished = walked.is_ok();
        let done = walked.and_then(|()| fine(&progress));
        let done = end(&checkpoint, &progress, finished, done).await;
        if finished && !self.no_report {
            self.report(&estate).await?;
        }
        done
    }

    fn ek(&self, kms: &[String]) -> anyhow::Result<EkRef> {
        let kms = the_kms(self.kms.as_deref(), kms)?;
        let ek = EkName::parse(&self.to).map_err(|why| anyhow::anyhow!("--to: '{}': {why}", self.to))?;
        Ok(EkRef { kms, ek })
    }

    /// How many objects, and old versions of them, need which EK now: what deleting one of them would erase.
    async fn report(&self, estate: &Arc<Estate>) -> anyhow::Result<()> {
        let bucket = &self.common.area.bucket;
        let kept = retried(|_| estate.versioning(bucket)).await;
        let versions = kept.context("whether the bucket keeps versions, for the report")? != Versioning::Off;
        let progress = self.common.progress("looked at");
        let walk = Walk { versions, ..Walk::new(&self.common, estate, &progress) };
        walk.run(|listed| {
            let (estate, bucket) = (estate.clone(), bucket.clone());
            async move {
                match retried(|_| estate.look(&bucket, &listed)).await {
                    Ok(Seen::Sealed { kms, ek, .. }) => {
                        let old =
                            if versions && listed.is_latest == Some(false) { ", old versions" } else { "" };
                        Outcome::good(format!("need EK '{ek}' of kms '{kms}'{old}"), listed.size)
                    }
                    Ok(_) => Outcome::good("need no EK", listed.size),
                    Err(error) => Outcome::bad("can't be looked at", &error),
                }
            }
        })
        .await?;
        progress.finish();
        fine(&progress)
    }
}

fn told(rotated: Result<Rotated>, done: &str) -> Outcome {
    match rotated {
        Ok(Rotated::Done(step)) => Outcome::good(done, 0).written(step),
        Ok(Rotated::Already) => Outcome::good("already so", 0),
        Ok(Rotated::Other) => Outcome::good("left, under another EK", 0),
        Ok(Rotated::Plain) => Outcome::good("left, plain", 0),
        Ok(Rotated::Customer) => Outcome::good("left, under their clients' own keys", 0),
        Ok(Rotated::ByRule) => Outcome::good("left, by the rule for them", 0),
        Ok(Rotated::Gone) => Outcome::good("deleted meanwhile", 0),
        Err(error) => Outcome::bad("failed", &error),
    }
}
