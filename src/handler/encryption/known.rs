//! The defaults of buckets that were met lately.
//!
//! A bucket at work is asked for ahead of time and waits for nothing; one that was not written to for a while is asked for
//! before its next write. So every replica writes under a new default within seconds, however it was set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use moka::future::Cache;

use super::super::Rooms;
use super::record;
use crate::policy::{BucketDefault, Defaults};
use crate::s3::{Bucket, Error, Result};

/// How many buckets are remembered.
const BUCKETS: u64 = 10_000;

/// How old an answer may be.
const AGE: Duration = Duration::from_secs(5);

/// From when on it is asked for again, while the old one serves.
const DUE: Duration = Duration::from_secs(2);

/// What is known of buckets.
pub struct KnownDefaults {
    cache: Cache<Bucket, Known>,
    /// How often one was set here: what was asked for before that says nothing.
    changes: AtomicU64,
}

#[derive(Clone)]
struct Known {
    default: Option<Arc<BucketDefault>>,
    /// When the store was asked.
    asked: Instant,
    changes: u64,
    refreshing: Arc<AtomicBool>,
}

impl Default for KnownDefaults {
    fn default() -> Self {
        Self {
            cache: Cache::builder().max_capacity(BUCKETS).time_to_live(AGE).build(),
            changes: AtomicU64::new(0),
        }
    }
}

impl KnownDefaults {
    /// One was set or removed by this process, and its next write is to know.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }
}

impl Defaults for Arc<Rooms> {
    fn of<'a>(&'a self, bucket: &'a Bucket) -> BoxFuture<'a, Result<Option<Arc<BucketDefault>>>> {
        of(self, bucket).boxed()
    }
}

async fn of(rooms: &Arc<Rooms>, bucket: &Bucket) -> Result<Option<Arc<BucketDefault>>> {
    let defaults = &rooms.defaults;
    // What has been set before this moment must be known; what is set meanwhile need not.
    let since = defaults.changes();
    loop {
        if let Some(known) = defaults.cache.get(bucket).await {
            if known.asked.elapsed() < AGE && known.changes >= since {
                if known.asked.elapsed() >= DUE && !known.refreshing.swap(true, Ordering::SeqCst) {
                    tokio::spawn(refresh(rooms.clone(), bucket.clone()));
                }
                return Ok(known.default);
            }
            defaults.cache.invalidate(bucket).await;
        }
        // However many wait, one asks.
        let asked = defaults.cache.try_get_with_by_ref(bucket, load(rooms, bucket)).await;
        let known = asked.map_err(|why: Arc<Error>| why.again())?;
        // Whoever asked may have done so before the last change. How long the store took does not matter.
        if known.changes >= since {
            return Ok(known.default);
        }
    }
}

async fn load(rooms: &Rooms, bucket: &Bucket) -> Result<Known> {
    let (asked, changes) = (Instant::now(), rooms.defaults.changes());
    let default = record::read(rooms, bucket).await?.into_default().map(Arc::new);
    Ok(Known { default, asked, changes, refreshing: Arc::default() })
}

/// One that fails changes nothing: the old answer serves for as long as it may, and then whoever asks is told why.
async fn refresh(rooms: Arc<Rooms>, bucket: Bucket) {
    if let Ok(known) = load(&rooms, &bucket).await {
        rooms.defaults.cache.insert(bucket, known).await;
    }
}
