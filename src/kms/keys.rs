//! The cache of DEKs: all that other rooms see of a KMS.
//!
//! On writes a DEK serves many objects of one EK and bucket, until it has served enough or is too old. On reads an
//! unwrapped DEK is kept for a while. In both, age counts from the KMS's word, not from the last use, so that an EK
//! which is disabled or deleted locks its objects within that time (promise 4). One call per key is under way at a time.
//!
//! The word is taken from when the KMS was asked: a slow answer is not younger for it, and one that was under way during a
//! [`Keys::flush`] is forgotten with the rest.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::future::Cache;
use moka::ops::compute::Op;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout};

use super::{Context, EkName, Error, Kms, WrappedDek};
use crate::s3::Bucket;
use crate::seal::Dek;

/// How long a KMS may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a refusal is remembered, so that a locked EK under load does not flood its KMS.
const REFUSAL: Duration = Duration::from_secs(1);

/// How long after their time keys are wiped: two clocks are at work.
const MARGIN: Duration = Duration::from_millis(50);

/// Rounds of upkeep until what is taken out is freed as well. Two do when nothing else is going on; one costs microseconds.
const UPKEEP_ROUNDS: u32 = 8;

/// How long data keys are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Seconds that a DEK is kept after the KMS was asked for it.
    pub ttl_secs: u32,
    /// Objects that one DEK seals.
    pub max_objects: u64,
    /// Plaintext bytes that one DEK seals.
    pub max_bytes: u64,
    /// DEKs kept, for reads and for writes each.
    pub capacity: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { ttl_secs: 300, max_objects: 1 << 20, max_bytes: 1 << 40, capacity: 10_000 }
    }
}

impl CacheConfig {
    /// A cache in front of these KMSs.
    pub fn build(self, kmss: HashMap<String, Box<dyn Kms>>) -> Keys {
        let ttl = Duration::from_secs(self.ttl_secs.into());
        Keys {
            writes: cache(self.capacity, ttl),
            reads: cache(self.capacity, ttl),
            refusals: cache(self.capacity, REFUSAL),
            ttl,
            flushes: AtomicU64::new(0),
            max_objects: self.max_objects.max(1),
            max_bytes: self.max_bytes,
            kmss,
        }
    }
}

fn cache<K, V>(capacity: u64, ttl: Duration) -> Cache<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder().max_capacity(capacity.max(1)).time_to_live(ttl).build()
}

/// Drops, and with it zeroizes, what is forgotten. That is the cache's own upkeep, which it does only while it is used.
async fn wipe(writes: &Cache<WriteId, Kept<WriteKey>>, reads: &Cache<ReadId, Kept<Dek>>) {
    // Upkeep takes an entry out; some rounds later nobody can still be reading it, and it is freed (crossbeam-epoch).
    for _ in 0..UPKEEP_ROUNDS {
        writes.run_pending_tasks().await;
        reads.run_pending_tasks().await;
        tokio::task::yield_now().await;
    }
}

/// The KMSs, behind the cache.
pub struct Keys {
    kmss: HashMap<String, Box<dyn Kms>>,
    writes: Cache<WriteId, Kept<WriteKey>>,
    reads: Cache<ReadId, Kept<Dek>>,
    refusals: Cache<(String, EkName), Error>,
    ttl: Duration,
    /// How often everything was forgotten.
    flushes: AtomicU64,
    max_objects: u64,
    max_bytes: u64,
}

/// What a DEK for writes belongs to. The bucket stands for the encryption context.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct WriteId {
    kms: String,
    ek: EkName,
    bucket: Bucket,
}

/// What an unwrapped DEK belongs to: all that the KMS was asked with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ReadId {
    asked: WriteId,
    version: Option<String>,
    wrapped: [u8; 32],
}

impl ReadId {
    fn new(asked: WriteId, version: Option<&str>, wrapped: &WrappedDek) -> Self {
        Self {
            asked,
            version: version.map(str::to_owned),
            wrapped: Sha256::digest(wrapped.as_bytes()).into(),
        }
    }
}

/// A key, and when the KMS was asked for it.
#[derive(Debug)]
struct Kept<T> {
    key: Arc<T>,
    asked: Asked,
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), asked: self.asked }
    }
}

/// A moment, in time and in flushes.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Instant,
    flushes: u64,
}

/// A DEK for writes.
#[derive(Debug)]
pub struct WriteKey {
    /// The DEK in clear.
    pub dek: Arc<Dek>,
    /// The same, wrapped, for the envelope.
    pub wrapped: WrappedDek,
    /// The EK's version, for the envelope.
    pub version: Option<String>,
    objects: AtomicU64,
    bytes: AtomicU64,
}

impl WriteKey {
    /// Counts one more object; false if the DEK has served enough. The first one always has its place.
    fn take(&self, bytes: u64, max_objects: u64, max_bytes: u64) -> bool {
        let objects = self.objects.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        objects == 0 || (objects < max_objects && before.saturating_add(bytes) <= max_bytes)
    }
}

impl Keys {
    /// A DEK for an object of `bytes` plaintext bytes.
    ///
    /// Errors: the KMS's.
    pub async fn for_write(
        &self,
        kms: &str,
        ek: &EkName,
        bucket: &Bucket,
        bytes: u64,
    ) -> Result<Arc<WriteKey>, Error> {
        let id = WriteId { kms: kms.to_owned(), ek: ek.clone(), bucket: bucket.clone() };
        let serves = |key: &WriteKey| key.take(bytes, self.max_objects, self.max_bytes);
        self.fetch(&self.writes, &id, || self.generate(&id), serves).await
    }

    /// The DEK of an envelope.
    ///
    /// Errors: the KMS's.
    pub async fn for_read(
        &self,
        kms: &str,
        ek: &EkName,
        version: Option<&str>,
        wrapped: &WrappedDek,
        bucket: &Bucket,
    ) -> Result<Arc<Dek>, Error> {
        let asked = WriteId { kms: kms.to_owned(), ek: ek.clone(), bucket: bucket.clone() };
        let id = ReadId::new(asked, version, wrapped);
        let unwrap = || async {
            let asked = self.now();
            let context = Context::of_bucket(bucket);
            let dek = self.call(&id.asked, |kms| kms.unwrap(ek, version, wrapped, &context)).await?;
            Ok(Kept { key: Arc::new(dek), asked })
        };
        self.fetch(&self.reads, &id, unwrap, |_| true).await
    }

    /// Wraps and unwraps a DEK, past the cache: whether an EK can be used.
    ///
    /// Errors: the KMS's, or that it gives back another key.
    pub async fn probe(&self, kms: &str, ek: &EkName) -> Result<(), Error> {
        let bucket = Bucket::parse("s3veil-probe").expect("the name is valid");
        let id = WriteId { kms: kms.to_owned(), ek: ek.clone(), bucket };
        let context = Context::of_bucket(&id.bucket);
        let made = self.call(&id, |kms| kms.generate(ek, &context)).await?;
        let again =
            self.call(&id, |kms| kms.unwrap(ek, made.version.as_deref(), &made.wrapped, &context)).await?;
        match made.dek.is_same(&again) {
            true => Ok(()),
            false => Err(Error::Malformed("the KMS unwraps another key than it wrapped".into())),
        }
    }

    /// Forgets every DEK, and those that a KMS is just being asked for.
    pub async fn flush(&self) {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        self.writes.invalidate_all();
        self.reads.invalidate_all();
        self.refusals.invalidate_all();
        wipe(&self.writes, &self.reads).await;
    }

    /// What the cache holds and still `serves`, or what `load` gives. All who wait for one id share one `load`.
    async fn fetch<K, T, F>(
        &self,
        cache: &Cache<K, Kept<T>>,
        id: &K,
        load: impl Fn() -> F,
        serves: impl Fn(&T) -> bool,
    ) -> Result<Arc<T>, Error>
    where
        K: Clone + Eq + Hash + Send + Sync + 'static,
        T: Send + Sync + 'static,
        F: Future<Output = Result<Kept<T>, Error>>,
    {
        loop {
            let entry =
                cache.entry_by_ref(id).or_try_insert_with(load()).await.map_err(Arc::unwrap_or_clone)?;
            // Whoever has asked uses the answer, even one that is too old to share.
            let fresh = entry.is_fresh();
            if fresh {
                self.wipe_in_time();
            }
            let kept = entry.into_value();
            if (fresh || self.holds(kept.asked)) && serves(&kept.key) {
                return Ok(kept.key);
            }
            // Spent: out with it, unless another request has already put a fresh one in its place.
            cache
                .entry_by_ref(id)
                .and_compute_with(|entry| {
                    let same = entry.is_some_and(|entry| Arc::ptr_eq(&entry.value().key, &kept.key));
                    std::future::ready(if same { Op::Remove } else { Op::Nop })
                })
                .await;
        }
    }

    /// Sees to it that a key does not stay in the memory of an idle proxy.
    fn wipe_in_time(&self) {
        let (writes, reads, ttl) = (self.writes.clone(), self.reads.clone(), self.ttl);
        tokio::spawn(async move {
            tokio::time::sleep(ttl + MARGIN).await;
            wipe(&writes, &reads).await;
        });
    }

    fn now(&self) -> Asked {
        Asked { at: Instant::now(), flushes: self.flushes.load(Ordering::SeqCst) }
    }

    /// Whether what was asked then may still be used.
    fn holds(&self, asked: Asked) -> bool {
        asked.flushes == self.flushes.load(Ordering::SeqCst) && asked.at.elapsed() < self.ttl
    }

    async fn generate(&self, id: &WriteId) -> Result<Kept<WriteKey>, Error> {
        let asked = self.now();
        let context = Context::of_bucket(&id.bucket);
        let made = self.call(id, |kms| kms.generate(&id.ek, &context)).await?;
        let dek = Arc::new(made.dek);
        // What was just written can be read without another call.
        let read = ReadId::new(id.clone(), made.version.as_deref(), &made.wrapped);
        self.reads.insert(read, Kept { key: dek.clone(), asked }).await;
        let key = Arc::new(WriteKey {
            dek,
            wrapped: made.wrapped,
            version: made.version,
            objects: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        Ok(Kept { key, asked })
    }

    /// Asks the KMS, in time, unless it has just refused this EK.
    async fn call<'a, T, F>(&'a self, id: &WriteId, ask: impl FnOnce(&'a dyn Kms) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let kms = self.kmss.get(&id.kms).ok_or_else(|| Error::NoSuchKms(id.kms.clone()))?;
        let ek = (id.kms.clone(), id.ek.clone());
        if let Some(refusal) = self.refusals.get(&ek).await {
            return Err(refusal);
        }
        let result = timeout(TIMEOUT, ask(kms.as_ref())).await;
        let result = result.unwrap_or_else(|_| Err(Error::Unavailable("no answer in time".into())));
        if let Some(refusal) = result.as_ref().err().filter(|error| error.is_verdict()) {
            self.refusals.insert(ek, refusal.clone()).await;
        }
        result
    }
}
