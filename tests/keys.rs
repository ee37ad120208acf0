//! The DEK cache against a KMS that is slow, away or locked, on a clock that the test winds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use s3veil::kms::{Answer, CacheConfig, Context, DataKey, EkName, Error, Keys, Kms, WrappedDek};
use s3veil::s3::Bucket;
use s3veil::seal::Dek;
use tokio::sync::Semaphore;
use tokio::time::advance;

static EK: LazyLock<EkName> = LazyLock::new(|| EkName::parse("a").unwrap());
static BUCKET: LazyLock<Bucket> = LazyLock::new(|| Bucket::parse("one").unwrap());

const TTL: Duration = Duration::from_secs(300);

/// A KMS of one EK that is switched by hand. Its wrapped DEK is the DEK.
struct Switched {
    locked: AtomicBool,
    calls: AtomicUsize,
    /// How many answers may leave.
    answers: Semaphore,
}

impl Switched {
    async fn answer<T>(&self, answer: T) -> Result<T, Error> {
        let locked = self.locked.load(Ordering::SeqCst);
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.answers.acquire().await.unwrap().forget();
        if locked { Err(Error::Disabled(EK.clone())) } else { Ok(answer) }
    }
}

struct Shared(Arc<Switched>);

impl Kms for Shared {
    fn kind(&self) -> &'static str {
        "switched"
    }

    fn generate<'a>(&'a self, _ek: &'a EkName, _context: &'a Context) -> Answer<'a, DataKey> {
        let bytes = [u8::try_from(self.0.calls.load(Ordering::SeqCst)).unwrap(); 32];
        let made = DataKey { dek: Dek::from(bytes), wrapped: WrappedDek::new(bytes), version: None };
        Box::pin(self.0.answer(made))
    }

    fn unwrap<'a>(
        &'a self,
        _ek: &'a EkName,
        _version: Option<&'a str>,
        wrapped: &'a WrappedDek,
        _context: &'a Context,
    ) -> Answer<'a, Dek> {
        Box::pin(self.0.answer(Dek::try_from(wrapped.as_bytes()).unwrap()))
    }
}

struct Fixture {
    kms: Arc<Switched>,
    keys: Arc<Keys>,
}

impl Fixture {
    fn new(answers: usize) -> Self {
        Self::with(answers, CacheConfig::default())
    }

    fn with(answers: usize, cache: CacheConfig) -> Self {
        let kms = Arc::new(Switched {
            locked: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            answers: Semaphore::new(answers),
        });
        let kmss = HashMap::from([("k".to_owned(), Box::new(Shared(kms.clone())) as Box<dyn Kms>)]);
        Self { kms, keys: Arc::new(cache.build(kmss)) }
    }

    async fn write(&self) -> Result<WrappedDek, Error> {
        self.keys.for_write("k", &EK, &BUCKET, 1).await.map(|key| key.wrapped.clone())
    }

    async fn read(&self, wrapped: &WrappedDek) -> Result<(), Error> {
        self.keys.for_read("k", &EK, None, wrapped, &BUCKET).await.map(|_| ())
    }

    fn lock(&self, locked: bool) {
        self.kms.locked.store(locked, Ordering::SeqCst);
    }

    fn calls(&self) -> usize {
        self.kms.calls.load(Ordering::SeqCst)
    }

    /// Lets tasks go on until `calls` have reached the KMS.
    async fn reached(&self, calls: usize) {
        while self.calls() < calls {
            tokio::task::yield_now().await;
        }
    }
}

fn disabled() -> Error {
    Error::Disabled(EK.clone())
}

#[tokio::test(start_paused = true)]
async fn k_01_a_disabled_key_locks_within_the_time_however_much_it_is_used() {
    let it = Fixture::new(100);
    let wrapped = it.write().await.unwrap();
    it.lock(true);
    for _ in 0..3 {
        advance(TTL / 4).await;
        assert_eq!((it.write().await.as_ref(), it.read(&wrapped).await), (Ok(&wrapped), Ok(())));
    }
    advance(TTL / 4).await;
    assert_eq!((it.write().await, it.read(&wrapped).await), (Err(disabled()), Err(disabled())));
    it.lock(false);
    assert_eq!(it.read(&wrapped).await, Err(disabled()), "the refusal is remembered for a moment");
    it.keys.flush().await;
    assert_eq!(it.read(&wrapped).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_time_counts_from_the_question() {
    let it = Fixture::new(0);
    let (keys, slow) = (it.keys.clone(), Duration::from_secs(9));
    let writer =
        tokio::spawn(async move { keys.for_write("k", &EK, &BUCKET, 1).await.unwrap().wrapped.clone() });
    it.reached(1).await;
    // The KMS has judged, and its answer is long on the way.
    it.lock(true);
    advance(slow).await;
    it.kms.answers.add_permits(100);
    let wrapped = writer.await.unwrap();
    advance(TTL - slow).await;
    assert_eq!((it.write().await, it.read(&wrapped).await), (Err(disabled()), Err(disabled())));
}

#[tokio::test(start_paused = true)]
async fn a_flush_reaches_answers_that_are_under_way() {
    let it = Fixture::new(0);
    let keys = it.keys.clone();
    let writer =
        tokio::spawn(async move { keys.for_write("k", &EK, &BUCKET, 1).await.unwrap().wrapped.clone() });
    it.reached(1).await;
    it.lock(true);
    it.keys.flush().await;
    it.kms.answers.add_permits(100);
    let wrapped = writer.await.unwrap();
    assert_eq!((it.write().await, it.read(&wrapped).await), (Err(disabled()), Err(disabled())));
}

#[tokio::test(start_paused = true)]
async fn k_07_a_kms_that_is_away_costs_all_who_wait_one_call_and_cached_keys_go_on() {
    let it = Fixture::new(1);
    let wrapped = it.write().await.unwrap();
    let other = WrappedDek::new([9; 32]);
    let readers: Vec<_> = (0..10)
        .map(|_| {
            let (keys, other) = (it.keys.clone(), other.clone());
            tokio::spawn(async move { keys.for_read("k", &EK, None, &other, &BUCKET).await.map(|_| ()) })
        })
        .collect();
    for reader in readers {
        assert!(matches!(reader.await.unwrap(), Err(Error::Unavailable(_))));
    }
    assert_eq!(it.calls(), 2);
    assert_eq!((it.write().await, it.read(&wrapped).await), (Ok(wrapped.clone()), Ok(())));
    it.kms.answers.add_permits(1);
    assert_eq!(it.read(&other).await, Ok(()), "that the KMS was away is not remembered");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_does_not_take_the_answer_with_it() {
    let it = Fixture::new(0);
    let ask = || {
        let keys = it.keys.clone();
        tokio::spawn(async move { keys.for_write("k", &EK, &BUCKET, 1).await.map(|_| ()) })
    };
    let (first, second) = (ask(), ask());
    it.reached(1).await;
    first.abort();
    it.kms.answers.add_permits(1);
    assert_eq!(second.await.unwrap(), Ok(()));
}

/// On the real clock: the cache beneath has no other.
#[tokio::test]
async fn an_idle_proxy_forgets_its_keys() {
    let it = Fixture::with(1, CacheConfig { ttl_secs: 1, ..CacheConfig::default() });
    let dek = Arc::downgrade(&it.keys.for_write("k", &EK, &BUCKET, 1).await.unwrap().dek);
    assert_eq!(dek.strong_count(), 2, "kept for writes and for reads");
    tokio::time::timeout(Duration::from_secs(30), async {
        while dek.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("both are dropped, though nobody asks the cache for anything");
}

#[tokio::test]
async fn a_flush_wipes_keys_at_once() {
    let it = Fixture::new(1);
    let dek = Arc::downgrade(&it.keys.for_write("k", &EK, &BUCKET, 1).await.unwrap().dek);
    it.keys.flush().await;
    assert_eq!(dek.strong_count(), 0);
}
