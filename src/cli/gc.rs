//! `s3veil gc`: removes what a crash left under `.s3veil/` of multipart uploads that have ended.

use std::pin::pin;
use std::str::FromStr;

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use time::{Duration, OffsetDateTime};

use super::ConfigFile;
use crate::app::App;
use crate::config::Config;
use crate::handler::{Collector, Kept, Upload};
use crate::s3::Bucket;

/// How many uploads are looked at side by side.
const LOOKS: usize = 8;

#[derive(Debug, clap::Args)]
pub(super) struct Gc {
    #[command(flatten)]
    file: ConfigFile,
    /// The buckets to look through, s3://BUCKET; if left out, all that the store's default credentials can list.
    buckets: Vec<Place>,
    /// Only what was last written so many days ago.
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    older_than: u16,
    /// Remove it. Without this it is only shown.
    #[arg(long)]
    delete: bool,
}

#[derive(Clone, Debug)]
struct Place(Bucket);

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        let name = uri.strip_prefix("s3://").map(|name| name.strip_suffix('/').unwrap_or(name));
        name.and_then(Bucket::parse).map(Self).ok_or("write s3://BUCKET")
    }
}

/// What was found, for the last line.
#[derive(Default)]
struct Count {
    under_way: u64,
    /// Too new to be looked at.
    recent: u64,
    left: u64,
    /// Stored bytes of what is left.
    bytes: u64,
    failed: u64,
}

enum Found {
    UnderWay,
    Recent,
    Left(u64),
    Failed,
}

impl Gc {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.file.config, &[]).map_err(anyhow::Error::msg)?;
        let app =
            App::build(config).map_err(|why| anyhow::anyhow!("{}: {why}", self.file.config.display()))?;
        let places = match self.buckets.is_empty() {
            true => Collector::places(&app.rooms).await.context("the buckets to look through")?,
            false => self.buckets.iter().map(|place| place.0.clone()).collect(),
        };
        let before = OffsetDateTime::now_utc() - Duration::days(self.older_than.into());
        let mut count = Count::default();
        for place in &places {
            if let Err(why) = self.look_through(&app, place, before, &mut count).await {
                eprintln!("s3://{}: {why:#}", place.as_str());
                count.failed += 1;
            }
        }
        let done = if self.delete { "removed" } else { "to remove with --delete" };
        let Count { under_way, recent, left, bytes, failed } = count;
        println!(
            "{} buckets: {left} ended uploads {done} ({bytes} bytes), {under_way} under way, {recent} not older than {} \
             days, {failed} errors",
            places.len(),
            self.older_than
        );
        anyhow::ensure!(failed == 0, "not all of it could be looked at or removed");
        Ok(())
    }

    async fn look_through(
        &self,
        app: &App,
        place: &Bucket,
        before: OffsetDateTime,
        count: &mut Count,
    ) -> anyhow::Result<()> {
        let collector = Collector::new(&app.rooms, place).await;
        let looks = collector.kept().map_ok(|kept| self.look_at(collector, place, kept, before));
        let mut found = pin!(looks.try_buffer_unordered(LOOKS));
        while let Some(found) = found.try_next().await? {
            match found {
                Found::UnderWay => count.under_way += 1,
                Found::Recent => count.recent += 1,
                Found::Left(bytes) => (count.left, count.bytes) = (count.left + 1, count.bytes + bytes),
                Found::Failed => count.failed += 1,
            }
        }
        Ok(())
    }

    /// One upload. Its own errors are said and counted, and do not end the run.
    async fn look_at(
        &self,
        collector: Collector<'_>,
        place: &Bucket,
        kept: Kept,
        before: OffsetDateTime,
    ) -> crate::s3::Result<Found> {
        if kept.written > before {
            return Ok(Found::Recent);
        }
        let name = format!("s3://{}/{}", place.as_str(), kept.prefix());
        let failed = |why: anyhow::Error| {
            eprintln!("{name}: {why:#}");
            Ok(Found::Failed)
        };
        let of = match collector.upload(&kept).await {
            Ok(Upload::UnderWay(..)) => return Ok(Found::UnderWay),
            Ok(Upload::Ended(bucket, key)) => format!("of an ended upload to s3://{bucket}/{key}"),
            Ok(Upload::Forgotten) => "of an ended upload".to_owned(),
            Err(why) => return failed(why.into()),
        };
        if self.delete
            && let Err(why) = collector.remove(&kept).await
        {
            return failed(why.into());
        }
        let done = if self.delete { "removed" } else { "would be removed" };
        println!(
            "{name}: {of}, {} objects, {} bytes, last written {}: {done}",
            kept.objects, kept.bytes, kept.written
        );
        Ok(Found::Left(kept.bytes))
    }
}
