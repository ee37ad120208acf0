//! Keys that are kept for a while, each fetched by one call however many wait for it.
//!
//! Age counts from the KMS's word, not from the last use, so that an EK which is disabled or deleted locks its objects
//! within that time (promise 4). The word is taken from when the KMS was asked: a slow answer is not younger for it, and
//! one that was under way during a flush is forgotten with the rest. A key in use is fetched again ahead of its time, at a
//! moment that chance picks, so that no request waits for it and not all come at once.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use moka::future::Cache;
use moka::ops::compute::Op;
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use super::Error;
use super::guard::jitter;
use crate::metrics::DekCacheMetrics;

/// How long after their time keys are wiped: two clocks are at work.
const MARGIN: Duration = Duration::from_millis(50);

/// Rounds of upkeep until what is taken out is freed as well. Two do when nothing else is going on; one costs microseconds.
const UPKEEP_ROUNDS: u32 = 8;

/// How long after a failed fetch ahead of time the next may begin, at the most.
const AGAIN: Duration = Duration::from_secs(2);

/// How often everything was forgotten. Shared by the shelves of one cache.
#[derive(Clone, Debug, Default)]
pub(super) struct Flushes(Arc<AtomicU64>);

impl Flushes {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// This moment, in time and in flushes.
    pub(super) fn now(&self) -> Asked {
        Asked { at: Instant::now(), flushes: self.0.load(Ordering::SeqCst) }
    }
}

/// When a KMS was asked, in time and in flushes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    at: Instant,
    flushes: u64,
}

/// Whether a key may serve a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serves {
    /// It may.
    Yes,
    /// It may, and another should be fetched meanwhile.
    Soon,
    /// It has served enough.
    No,
}

/// Keys by what they belong to.
pub(super) struct Shelf<K, T> {
    cache: Cache<K, Kept<T>>,
    ttl: Duration,
    flushes: Flushes,
    metrics: DekCacheMetrics,
}

/// A key, and when the KMS was asked for it.
struct Kept<T> {
    key: Arc<T>,
    asked: Asked,
    /// From when on it is fetched again.
    due: Instant,
    /// That is under way.
    refreshing: Arc<AtomicBool>,
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), refreshing: self.refreshing.clone(), ..*self }
    }
}

impl<K, T> Clone for Shelf<K, T> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            ttl: self.ttl,
            flushes: self.flushes.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

impl<K, T> Shelf<K, T>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    pub(super) fn new(capacity: u64, ttl: Duration, flushes: Flushes, metrics: DekCacheMetrics) -> Self {
        let cache = Cache::builder().max_capacity(capacity.max(1)).time_to_live(ttl).build();
        Self { cache, ttl, flushes, metrics }
    }

    /// What is kept and still `serves`, or what `load` gives. All who wait for one id share one `load`.
    ///
    /// Errors: those of `load`.
    pub(super) async fn get<F>(
        &self,
        id: &K,
        load: impl Fn(K, Asked) -> F + Clone + Send + Sync + 'static,
        serves: impl Fn(&T) -> Serves,
    ) -> Result<Arc<T>, Error>
    where
        F: Future<Output = Result<Arc<T>, Error>> + Send + 'static,
    {
        loop {
            // Whoever has asked uses the answer, even one that is too old to share.
            let (kept, fresh) = match self.cache.get(id).await {
                Some(kept) => (kept, false),
                None => self.wait_for(id, load.clone()).await?,
            };
            if !fresh && !self.holds(kept.asked) {
                self.forget(id, &kept).await;
                continue;
            }
            match serves(&kept.key) {
                Serves::No => {
                    self.forget(id, &kept).await;
                    continue;
                }
                served if fresh || (served == Serves::Yes && Instant::now() < kept.due) => {}
                _ => self.refresh(id, &kept, load.clone()),
            }
            if !fresh {
                self.metrics.hit.inc();
            }
            return Ok(kept.key);
        }
    }

    /// The key that is just being fetched, or is fetched now; and whether it is this call's own. In a task, so that a
    /// caller who goes away takes neither the answer nor the count of a failure with it.
    async fn wait_for<F>(
        &self,
        id: &K,
        load: impl Fn(K, Asked) -> F + Send + Sync + 'static,
    ) -> Result<(Kept<T>, bool), Error>
    where
        F: Future<Output = Result<Arc<T>, Error>> + Send + 'static,
    {
        let (shelf, id) = (self.clone(), id.clone());
        let waiting = async move {
            let entry = shelf.cache.entry_by_ref(&id).or_try_insert_with(shelf.load(&id, &load)).await;
            let entry = entry.map_err(Arc::unwrap_or_clone)?;
            let fresh = entry.is_fresh();
            if fresh {
                shelf.metrics.miss.inc();
                shelf.wipe_in_time();
            }
            Ok((entry.into_value(), fresh))
        }
        .in_current_span();
        let waiting = tokio::spawn(waiting);
        // The runtime ends tasks only when it ends itself.
        waiting.await.unwrap_or_else(|why| Err(Error::Unavailable(why.to_string())))
    }

    /// Whether a key is kept that belongs to any of these.
    pub(super) fn any(&self, of: impl Fn(&K) -> bool) -> bool {
        self.cache.iter().any(|(id, kept)| of(&id) && self.holds(kept.asked))
    }

    /// Keeps a key that came by another way.
    pub(super) async fn put(&self, id: K, key: Arc<T>, asked: Asked) {
        self.cache.insert(id.clone(), self.kept(key, asked)).await;
        if asked.flushes != self.flushes.now().flushes {
            self.cache.invalidate(&id).await;
            self.wipe().await;
        }
        self.wipe_in_time();
    }

    /// Forgets every key.
    pub(super) async fn clear(&self) {
        self.cache.invalidate_all();
        self.wipe().await;
    }

    async fn load<F>(&self, id: &K, load: &impl Fn(K, Asked) -> F) -> Result<Kept<T>, Error>
    where
        F: Future<Output = Result<Arc<T>, Error>>,
    {
        let asked = self.flushes.now();
        Ok(self.kept(load(id.clone(), asked).await?, asked))
    }

    fn kept(&self, key: Arc<T>, asked: Asked) -> Kept<T> {
        // Between seven and nine tenths of its time.
        let due = asked.at + self.ttl / 2 + jitter(self.ttl * 2 / 5);
        Kept { key, asked, due, refreshing: Arc::default() }
    }

    /// Fetches a key again while the old one goes on.
    fn refresh<F>(&self, id: &K, kept: &Kept<T>, load: impl Fn(K, Asked) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<Arc<T>, Error>> + Send + 'static,
    {
        if kept.refreshing.swap(true, Ordering::Relaxed) {
            return;
        }
        self.metrics.refresh.inc();
        let (shelf, id, kept) = (self.clone(), id.clone(), kept.clone());
        tokio::spawn(async move {
            match shelf.load(&id, &load).await {
                Ok(new) => shelf.put(id, new.key, new.asked).await,
                // The KMS has spoken: no reason to wait for the end.
                Err(why) if why.is_verdict() => {
                    shelf.forget(&id, &kept).await;
                    shelf.wipe().await;
                }
                // The old one is valid to its end. It was opened before, so an answer that makes no sense is a fault on the
                // way; and while the KMS is away, it is asked no more often than this.
                Err(_) => {
                    sleep(jitter(AGAIN)).await;
                    kept.refreshing.store(false, Ordering::Relaxed);
                }
            }
        });
    }

    /// Takes a key out, unless another one has already been put in its place.
    async fn forget(&self, id: &K, kept: &Kept<T>) {
        self.cache
            .entry_by_ref(id)
            .and_compute_with(|entry| {
                let same = entry.is_some_and(|entry| Arc::ptr_eq(&entry.value().key, &kept.key));
                std::future::ready(if same { Op::Remove } else { Op::Nop })
            })
            .await;
    }

    /// Whether what was asked then may still be used.
    fn holds(&self, asked: Asked) -> bool {
        asked.flushes == self.flushes.now().flushes && asked.at.elapsed() < self.ttl
    }

    /// Sees to it that a key does not stay in the memory of an idle proxy.
    fn wipe_in_time(&self) {
        let shelf = self.clone();
        tokio::spawn(async move {
            sleep(shelf.ttl + MARGIN).await;
            shelf.wipe().await;
        });
    }

    /// Drops, and with it zeroizes, what is forgotten. That is the cache's own upkeep, which it does only while it is used.
    async fn wipe(&self) {
        // Upkeep takes an entry out; some rounds later nobody can still be reading it, and it is freed (crossbeam-epoch).
        for _ in 0..UPKEEP_ROUNDS {
            self.cache.run_pending_tasks().await;
            tokio::task::yield_now().await;
        }
    }
}
