//! `s3veil stat`: what is sealed under which EK, and what is not, by envelopes alone.

use super::walk::{Outcome, Walk};
use super::writing::fine;
use super::{Common, Site};
use crate::handler::estate::{Seen, retried};

#[derive(Debug, clap::Args)]
pub(in super::super) struct Stat {
    #[command(flatten)]
    common: Common,
    /// All versions.
    #[arg(long)]
    versions: bool,
}

impl Stat {
    pub(in super::super) async fn run(self) -> anyhow::Result<()> {
        let Site { estate, .. } = self.common.open()?;
        let progress = self.common.progress("looked at");
        let walk = Walk { versions: self.versions, ..Walk::new(&self.common, &estate, &progress) };
        let bucket = &self.common.area.bucket;
        let walked = walk.run(|listed| {
            let (estate, bucket) = (estate.clone(), bucket.clone());
            async move {
                let what = match retried(|_| estate.look(&bucket, &listed)).await {
                    Ok(Seen::Plain) => "plain".into(),
                    Ok(Seen::Customer) => "sealed under clients' own keys".into(),
                    Ok(Seen::Gone) if listed.is_marker() => "delete markers".into(),
                    Ok(Seen::Gone) => "deleted meanwhile".into(),
                    Ok(Seen::Sealed { kms, ek, composite }) => {
                        let parts = if composite { ", by parts" } else { "" };
                        format!("sealed under EK '{ek}' of kms '{kms}'{parts}")
                    }
                    Ok(Seen::Broken(error)) | Err(error) => return Outcome::bad("unreadable", &error),
                };
                Outcome::good(what, listed.size)
            }
        });
        let done = walked.await.and_then(|()| fine(&progress));
        progress.finish();
        done
    }
}
