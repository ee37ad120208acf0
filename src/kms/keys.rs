//! The cache of DEKs: all that other rooms see of a KMS.
//!
//! On writes a DEK serves many objects of one EK and bucket, until it has served enough or is too old. On reads an
//! unwrapped DEK is kept for a while. What is kept, and how long, is `shelf`'s; how a KMS is asked, `guard`'s.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::future::Cache;
use serde::Deserialize;
use tokio::time::timeout;

use super::guard::{Guard, Health};
use super::shelf::{Asked, Flushes, Serves, Shelf};
use super::{Bound, DataKey, EkName, Error, Kms, WrappedDek};
use crate::metrics::Metrics;
use crate::s3::Bucket;
use crate::seal::Dek;

/// How long a refusal is remembered, so that a locked EK under load does not flood its KMS.
const REFUSAL: Duration = Duration::from_secs(1);

/// How old the last answer of a KMS may be for its health: an older one is asked for anew.
const HEALTH: Duration = Duration::from_secs(30);

/// How long that may keep whoever asks for the health.
const HEALTH_WAIT: Duration = Duration::from_millis(500);

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
    pub fn build(self, kmss: HashMap<String, Box<dyn Kms>>, metrics: &Metrics) -> Keys {
        let ttl = Duration::from_secs(self.ttl_secs.into());
        let guards = kmss.into_iter().map(|(name, kms)| {
            let guard = Guard::new(kms, metrics.kms(&name));
            (name, guard)
        });
        let flushes = Flushes::default();
        Keys {
            writes: Shelf::new(self.capacity, ttl, flushes.clone(), metrics.dek_cache("write")),
            reads: Shelf::new(self.capacity, ttl, flushes.clone(), metrics.dek_cache("read")),
            sources: Arc::new(Sources {
                guards: guards.collect(),
                aliases: HashMap::new(),
                refusals: Cache::builder().max_capacity(self.capacity.max(1)).time_to_live(REFUSAL).build(),
            }),
            flushes,
            max_objects: self.max_objects.max(1),
            max_bytes: self.max_bytes,
        }
    }
}

/// The KMSs, behind the cache.
pub struct Keys {
    writes: Shelf<WriteId, WriteKey>,
    reads: Shelf<ReadId, Dek>,
    sources: Arc<Sources>,
    flushes: Flushes,
    max_objects: u64,
    max_bytes: u64,
}

/// What a DEK for writes belongs to, the encryption context among it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct WriteId {
    kms: String,
    ek: EkName,
    bound: Bound,
}

/// What an unwrapped DEK belongs to: all that the KMS was asked with. There is one cipher suite; a second one would be
/// another member here (CVE-2026-6550).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ReadId {
    asked: WriteId,
    version: Option<String>,
    wrapped: WrappedDek,
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
    /// Counts one more object. The first one always has its place.
    fn take(&self, bytes: u64, max_objects: u64, max_bytes: u64) -> Serves {
        let objects = self.objects.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let nearly = |max: u64| max - max / 8;
        if objects > 0 && (objects >= max_objects || bytes > max_bytes) {
            Serves::No
        } else if objects >= nearly(max_objects) || bytes > nearly(max_bytes) {
            Serves::Soon
        } else {
            Serves::Yes
        }
    }
}

impl Keys {
    /// The same, where envelopes that name a KMS by an old name are opened by the one of the new name.
    ///
    /// Errors: a message that names the alias and the remedy.
    pub fn with_aliases(mut self, aliases: HashMap<String, String>) -> Result<Self, String> {
        let sources = Arc::get_mut(&mut self.sources).expect("nobody has asked it for anything yet");
        for (old, new) in &aliases {
            if sources.guards.contains_key(old) {
                return Err(format!("kms_aliases.{old}: there is a [kms.{old}]. Remove one of the two"));
            }
            if !sources.guards.contains_key(new) {
                let mut names: Vec<&str> = sources.guards.keys().map(String::as_str).collect();
                names.sort_unstable();
                return Err(format!(
                    "kms_aliases.{old}: '{new}' is not configured; there is {}. Correct the name",
                    names.join(", ")
                ));
            }
        }
        sources.aliases = aliases;
        Ok(self)
    }

    /// A DEK for an object of `bytes` plaintext bytes, bound to its bucket and the client's context.
    ///
    /// Errors: the KMS's.
    pub async fn for_write(
        &self,
        kms: &str,
        ek: &EkName,
        bound: impl Into<Bound>,
        bytes: u64,
    ) -> Result<Arc<WriteKey>, Error> {
        let id = WriteId { kms: kms.to_owned(), ek: ek.clone(), bound: bound.into() };
        let (sources, reads) = (self.sources.clone(), self.reads.clone());
        let generate = move |id: WriteId, asked: Asked| {
            let (sources, reads) = (sources.clone(), reads.clone());
            async move { sources.generate(id, asked, &reads).await }
        };
        self.writes.get(&id, generate, |key| key.take(bytes, self.max_objects, self.max_bytes)).await
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
        bound: impl Into<Bound>,
    ) -> Result<Arc<Dek>, Error> {
        let kms = self.sources.canonical(kms).to_owned();
        let id = ReadId {
            asked: WriteId { kms, ek: ek.clone(), bound: bound.into() },
            version: version.map(str::to_owned),
            wrapped: wrapped.clone(),
        };
        let sources = self.sources.clone();
        let unwrap = move |id: ReadId, _| {
            let sources = sources.clone();
            async move { sources.unwrap(&id).await.map(Arc::new) }
        };
        self.reads.get(&id, unwrap, |_| Serves::Yes).await
    }

    /// Wraps and unwraps a DEK, past the cache: whether an EK can be used.
    ///
    /// Errors: the KMS's, or that it gives back another key.
    pub async fn probe(&self, kms: &str, ek: &EkName) -> Result<(), Error> {
        let bucket = Bucket::parse("s3veil-probe").expect("the name is valid");
        let id = WriteId { kms: kms.to_owned(), ek: ek.clone(), bound: Bound::from(&bucket) };
        // A refusal of a moment ago says nothing of now: the EK may just have been made.
        self.sources.refusals.invalidate(&Question::Generate(id.kms.clone(), id.ek.clone())).await;
        let made = self.sources.wrap(&id).await?;
        let id = ReadId { asked: id, version: made.version, wrapped: made.wrapped };
        match made.dek.is_same(&self.sources.unwrap(&id).await?) {
            true => Ok(()),
            false => Err(Error::Malformed("the KMS unwraps another key than it wrapped".into())),
        }
    }

    /// Whether a KMS answers, at once or nearly so. One that has not answered lately is asked about these EKs; a refusal is an
    /// answer, too.
    pub async fn health(&self, kms: &str, eks: &[EkName]) -> Health {
        let Some(guard) = self.sources.guards.get(kms) else { return Health::Up };
        let (health, fresh) = guard.health(HEALTH);
        if fresh {
            return health;
        }
        let (sources, name, eks) = (self.sources.clone(), kms.to_owned(), eks.to_vec());
        let check = tokio::spawn(async move { sources.guards[&name].check(&eks).await });
        // Whoever asks for readiness has little patience. One that takes longer shows in the next answer.
        timeout(HEALTH_WAIT, check).await.ok();
        guard.health(HEALTH).0
    }

    /// Shows in the metrics how these KMSs are, and no others: after others have been shown there.
    pub fn show(&self, metrics: &Metrics) {
        metrics.forget_kmss();
        self.sources.guards.values().for_each(Guard::show);
    }

    /// Whether there are DEKs of a KMS in the cache, which go on while it is away.
    pub fn has_keys_of(&self, kms: &str) -> bool {
        self.writes.any(|id| id.kms == kms) || self.reads.any(|id| id.asked.kms == kms)
    }

    /// Forgets every DEK, and those that a KMS is just being asked for.
    pub async fn flush(&self) {
        self.flushes.add();
        self.sources.refusals.invalidate_all();
        self.writes.clear().await;
        self.reads.clear().await;
    }
}

/// The KMSs, and what they have just refused.
struct Sources {
    guards: HashMap<String, Guard>,
    /// Old names of KMSs, and their new ones.
    aliases: HashMap<String, String>,
    refusals: Cache<Question, Error>,
}

/// What was refused. An answer about one wrapped DEK says nothing of another, which another version of the EK may have
/// wrapped, nor of whether the EK wraps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Question {
    Generate(String, EkName),
    Unwrap(ReadId),
}

impl Sources {
    fn canonical<'a>(&'a self, kms: &'a str) -> &'a str {
        self.aliases.get(kms).map_or(kms, String::as_str)
    }

    async fn generate(
        &self,
        id: WriteId,
        asked: Asked,
        reads: &Shelf<ReadId, Dek>,
    ) -> Result<Arc<WriteKey>, Error> {
        let made = self.wrap(&id).await?;
        let dek = Arc::new(made.dek);
        // What was just written can be read without another call.
        let read = ReadId { asked: id, version: made.version.clone(), wrapped: made.wrapped.clone() };
        reads.put(read, dek.clone(), asked).await;
        Ok(Arc::new(WriteKey {
            dek,
            wrapped: made.wrapped,
            version: made.version,
            objects: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }))
    }

    async fn unwrap(&self, id: &ReadId) -> Result<Dek, Error> {
        let context = id.asked.bound.context();
        let ReadId { asked, version, wrapped } = id;
        self.call(asked, Question::Unwrap(id.clone()), "unwrap", |kms| {
            kms.unwrap(&asked.ek, version.as_deref(), wrapped, &context)
        })
        .await
    }

    async fn wrap(&self, id: &WriteId) -> Result<DataKey, Error> {
        let context = id.bound.context();
        let question = Question::Generate(id.kms.clone(), id.ek.clone());
        self.call(id, question, "generate", |kms| kms.generate(&id.ek, &context)).await
    }

    /// Asks the KMS, unless it has just refused that.
    async fn call<'a, T, F>(
        &'a self,
        id: &'a WriteId,
        question: Question,
        operation: &'static str,
        ask: impl Fn(&'a dyn Kms) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let guard = self.guards.get(&id.kms).ok_or_else(|| Error::NoSuchKms(id.kms.clone()))?;
        if let Some(refusal) = self.refusals.get(&question).await {
            return Err(refusal);
        }
        let result = guard.call(&id.ek, operation, ask).await;
        if let Some(refusal) = result.as_ref().err().filter(|error| error.is_verdict()) {
            self.refusals.insert(question, refusal.clone()).await;
        }
        result
    }
}
