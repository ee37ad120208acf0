//! What the commands share that write: whether they do, what they may do to a store that keeps no conditions, where they were.

use std::sync::Arc;

use anyhow::Context as _;

use super::Common;
use super::checkpoint::Checkpoint;
use super::progress::Progress;
use crate::handler::estate::{Estate, Guards, Keeping, retried};

/// What they take.
#[derive(Debug, clap::Args)]
pub(super) struct Writing {
    /// Do it. Without this it is only counted what there is to do, and nothing is written.
    #[arg(long)]
    pub apply: bool,
    /// Forget where an earlier run was.
    #[arg(long)]
    restart: bool,
    /// Also where the store keeps no condition: a client's write at the wrong moment is then lost. For when nobody writes.
    #[arg(long)]
    pub unguarded: bool,
    /// Don't ask for ACLs: a request less for each object where they mean nothing.
    #[arg(long)]
    no_acls: bool,
}

impl Writing {
    pub fn keeping(&self) -> Keeping {
        Keeping { acl: !self.no_acls, ask_tags: false }
    }

    /// Where the job of this name was.
    ///
    /// Errors: those of the store.
    pub async fn checkpoint(
        &self,
        estate: &Arc<Estate>,
        common: &Common,
        job: &str,
    ) -> anyhow::Result<Arc<Checkpoint>> {
        Checkpoint::open(estate.clone(), &common.area, job, self.restart).await.map(Arc::new)
    }

    /// Goes on without a condition, if nobody writes.
    ///
    /// Errors: a message that says what could be lost.
    pub fn accept(
        &self,
        common: &Common,
        progress: &Progress,
        which: &str,
        verb: &str,
    ) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.unguarded,
            "the store does not keep If-Match on {which}: what a client writes to an object at the moment it is being {verb} \
             would be lost. Stop all writers to {}, and run it with --unguarded",
            common.area
        );
        progress
            .note(&format!("The store does not keep If-Match on {which}: no client may write meanwhile."));
        Ok(())
    }
}

/// Which conditions the store keeps, by a try.
///
/// Errors: those of the store.
pub(super) async fn guards(
    estate: &Estate,
    common: &Common,
    progress: &Progress,
    job: &str,
) -> anyhow::Result<Guards> {
    let what = "which conditions the store keeps could not be tried under '.s3veil/jobs/'";
    let guards = retried(|_| estate.guards(&common.area.bucket, job)).await.context(what)?;
    if let Some(why) = &guards.litter {
        progress.note(&format!("What that was tried with stays under '.s3veil/jobs/': {why}"));
    }
    Ok(guards)
}

/// The end of what was remembered: once all has been tried, whatever came of it, the next run begins at the beginning.
pub(super) async fn end(
    checkpoint: &Checkpoint,
    progress: &Progress,
    finished: bool,
    done: anyhow::Result<()>,
) -> anyhow::Result<()> {
    if finished && let Err(why) = checkpoint.forget().await {
        progress.note(&format!("where this run was can't be removed from the store: {why}"));
    }
    progress.finish();
    done
}

/// Errors: some objects have problems.
pub(super) fn fine(progress: &Progress) -> anyhow::Result<()> {
    match progress.problems() {
        0 => Ok(()),
        some => anyhow::bail!("{some} objects with problems; each is named above"),
    }
}
