//! `s3veil verify`: everything read, and every byte authenticated.

use super::shard::Sample;
use super::walk::{Outcome, Problem, Walk};
use super::writing::fine;
use super::{Common, Site};
use crate::handler::estate::{Depth, Verdict, retried};

#[derive(Debug, clap::Args)]
pub(in super::super) struct Verify {
    #[command(flatten)]
    common: Common,
    /// Only a share of the objects, always the same.
    #[arg(long, value_name = "PERCENT%")]
    sample: Option<Sample>,
    /// Envelopes only, and manifests: no body is read.
    #[arg(long)]
    envelopes: bool,
    /// All versions.
    #[arg(long)]
    versions: bool,
    /// Plain objects are no problem.
    #[arg(long)]
    allow_plain: bool,
}

impl Verify {
    pub(in super::super) async fn run(self) -> anyhow::Result<()> {
        let Site { estate, .. } = self.common.open()?;
        let progress = self.common.progress("verified");
        let walk = Walk { versions: self.versions, ..Walk::new(&self.common, &estate, &progress) };
        let bucket = &self.common.area.bucket;
        let depth = if self.envelopes { Depth::Envelopes } else { Depth::Bodies };
        let (sample, allow_plain) = (self.sample, self.allow_plain);
        let walked = walk.run(|listed| {
            let (estate, bucket) = (estate.clone(), bucket.clone());
            async move {
                if sample.is_some_and(|sample| !sample.has(&listed.key)) {
                    return Outcome::good("not in the sample", 0);
                }
                match retried(|_| estate.verify(&bucket, &listed, depth)).await {
                    Ok(verdict) => told(verdict, allow_plain),
                    Err(error) => Outcome::bad("unreadable", &error),
                }
            }
        });
        let done = walked.await.and_then(|()| fine(&progress));
        progress.finish();
        done
    }
}

fn told(verdict: Verdict, allow_plain: bool) -> Outcome {
    let bad = |what: &str, code, message: &str| {
        let problem = Some(Problem { code, message: message.to_owned() });
        Outcome { what: what.to_owned(), bytes: 0, problem, step: None }
    };
    match verdict {
        Verdict::Good(bytes) => Outcome::good("good", bytes),
        Verdict::Plain if allow_plain => Outcome::good("plain", 0),
        Verdict::Plain => bad("plain", "Plain", "The object is not sealed."),
        Verdict::Stripped => bad(
            "stripped",
            "EnvelopeLost",
            "The object is sealed, but its envelope is gone. Restore its metadata x-amz-meta-s3veil from a good copy.",
        ),
        Verdict::Customer => Outcome::good("not verified, under clients' own keys", 0),
        Verdict::Tampered(error) => Outcome::bad("tampered", &error),
        Verdict::Locked(error) => Outcome::bad("locked", &error),
        Verdict::Unreadable(error) => Outcome::bad("unreadable", &error),
        Verdict::Gone => Outcome::good("deleted meanwhile, or delete markers", 0),
    }
}
