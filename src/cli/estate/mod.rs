//! The commands on all objects of a bucket: `migrate`, `rotate`, `verify`, `stat`. What they share: where, how fast, and how it is
//! shown.

mod checkpoint;
mod migrate;
mod progress;
mod rotate;
mod settling;
mod shard;
mod stat;
mod verify;
mod walk;
mod writing;

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::str::FromStr;
use std::sync::Arc;

pub(super) use migrate::Migrate;
pub(super) use rotate::Rotate;
pub(super) use stat::Stat;
pub(super) use verify::Verify;

use super::ConfigFile;
use crate::app::App;
use crate::config::Config;
use crate::handler::estate::Estate;
use crate::s3::Bucket;
use progress::Progress;
use shard::Shard;

/// A bucket, or the keys in it that begin so.
#[derive(Clone, Debug)]
struct Area {
    bucket: Bucket,
    prefix: String,
}

impl FromStr for Area {
    type Err = &'static str;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        let wrong = "write s3://BUCKET or s3://BUCKET/PREFIX";
        let rest = uri.strip_prefix("s3://").ok_or(wrong)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Self { bucket: Bucket::parse(bucket).ok_or(wrong)?, prefix: prefix.to_owned() })
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket.as_str(), self.prefix)
    }
}

/// What all of them take.
#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    file: ConfigFile,
    /// The bucket, or the keys in it that begin so: s3://BUCKET or s3://BUCKET/PREFIX.
    area: Area,
    /// Objects at a time.
    #[arg(long, value_name = "N", default_value = "16")]
    workers: NonZeroUsize,
    /// At most so many requests to the store a second.
    #[arg(long, value_name = "N")]
    max_rps: Option<NonZeroU64>,
    /// At most so many megabytes of bodies read from the store a second.
    #[arg(long, value_name = "N")]
    max_mbps: Option<NonZeroU64>,
    /// Only part I, from 0, of N parts of the keys: for several processes side by side.
    #[arg(long, value_name = "I/N", default_value = "0/1")]
    shard: Shard,
    /// Lines of JSON on standard output, for machines.
    #[arg(long)]
    json: bool,
    /// Don't count the objects beside the work: a listing less, and no time that is left.
    #[arg(long)]
    no_count: bool,
}

/// The configuration's store, ready to work on.
struct Site {
    estate: Arc<Estate>,
    app: App,
    kms: Vec<String>,
}

impl Common {
    /// Builds what the configuration says.
    ///
    /// Errors: a message that names file, key, value and remedy.
    fn open(&self) -> anyhow::Result<Site> {
        let file = self.file.config.display();
        let config = Config::load(&self.file.config, &[]).map_err(anyhow::Error::msg)?;
        let kms = config.kms.names();
        let app = App::build(config).map_err(|why| anyhow::anyhow!("{file}: {why}"))?;
        if let Some(limit) = self.max_rps {
            app.rooms.backend.limit(limit);
        }
        let bytes =
            self.max_mbps.map(|limit| limit.saturating_mul(NonZeroU64::new(1_000_000).expect("it is not 0")));
        let estate = Arc::new(Estate::new(app.rooms.clone(), app.policy.clone(), bytes));
        Ok(Site { estate, app, kms })
    }

    fn progress(&self, verb: &'static str) -> Arc<Progress> {
        Progress::new(verb, self.json)
    }
}
