//! The DEK cache against a KMS that is slow, away or locked, on a clock that the test winds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::FutureExt as _;
use s3veil::kms::{
    Answer, Bound, CacheConfig, Context, DataKey, EkInfo, EkName, Error, Health, Keys, Kms, State, WrappedDek,
};
use s3veil::metrics::Metrics;
use s3veil::s3::Bucket;
use s3veil::seal::Dek;
use tokio::sync::Semaphore;
use tokio::time::{Instant, advance};

static EK: LazyLock<EkName> = LazyLock::new(|| EkName::parse("a").unwrap());
static OTHER: LazyLock<EkName> = LazyLock::new(|| EkName::parse("b").unwrap());
static BUCKET: LazyLock<Bucket> = LazyLock::new(|| Bucket::parse("one").unwrap());

const TTL: Duration = Duration::from_secs(300);

/// A KMS of two EKs that is switched by hand. Its wrapped DEK is the DEK.
struct Switched {
    locked: AtomicBool,
    away: AtomicBool,
    /// It answers as if it were away when it is asked about the EK `b`.
    other_away: AtomicBool,
    /// It answers what makes no sense.
    garbled: AtomicBool,
    /// The wrapped DEK of a version that is locked.
    old: [u8; 32],
    calls: AtomicUsize,
    /// How many answers may leave.
    answers: Semaphore,
}

impl Switched {
    async fn answer<T>(&self, ek: &EkName, answer: T) -> Result<T, Error> {
        let locked = self.locked.load(Ordering::SeqCst);
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.garbled.load(Ordering::SeqCst) {
            return Err(Error::Malformed("a page of a load balancer".into()));
        }
        if self.away.load(Ordering::SeqCst) || (*ek == *OTHER && self.other_away.load(Ordering::SeqCst)) {
            return Err(Error::Unavailable("switched off".into()));
        }
        self.answers.acquire().await.unwrap().forget();
        if locked { Err(Error::Disabled(EK.clone())) } else { Ok(answer) }
    }
}

struct Shared(Arc<Switched>);

impl Kms for Shared {
    fn kind(&self) -> &'static str {
        "switched"
    }

    fn generate<'a>(&'a self, ek: &'a EkName, _context: &'a Context) -> Answer<'a, DataKey> {
        let bytes = [u8::try_from(self.0.calls.load(Ordering::SeqCst)).unwrap(); 32];
        let made = DataKey { dek: Dek::from(bytes), wrapped: WrappedDek::new(bytes), version: None };
        Box::pin(self.0.answer(ek, made))
    }

    fn unwrap<'a>(
        &'a self,
        ek: &'a EkName,
        _version: Option<&'a str>,
        wrapped: &'a WrappedDek,
        _context: &'a Context,
    ) -> Answer<'a, Dek> {
        if wrapped.as_bytes() == self.0.old {
            return Box::pin(self.0.answer(ek, ()).map(|_| Err(disabled())));
        }
        Box::pin(self.0.answer(ek, Dek::try_from(wrapped.as_bytes()).unwrap()))
    }

    fn describe<'a>(&'a self, ek: &'a EkName) -> Answer<'a, EkInfo> {
        Box::pin(self.0.answer(ek, EkInfo::new(ek.clone(), State::Enabled)))
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
            away: AtomicBool::new(false),
            other_away: AtomicBool::new(false),
            garbled: AtomicBool::new(false),
            old: [8; 32],
            calls: AtomicUsize::new(0),
            answers: Semaphore::new(answers),
        });
        let kmss = HashMap::from([("k".to_owned(), Box::new(Shared(kms.clone())) as Box<dyn Kms>)]);
        let aliases = HashMap::from([("moved".to_owned(), "k".to_owned())]);
        let keys = cache.build(kmss, &Metrics::default()).with_aliases(aliases).unwrap();
        Self { kms, keys: Arc::new(keys) }
    }

    async fn write(&self) -> Result<WrappedDek, Error> {
        self.keys.for_write("k", &EK, &*BUCKET, 1).await.map(|key| key.wrapped.clone())
    }

    async fn read(&self, wrapped: &WrappedDek) -> Result<(), Error> {
        self.keys.for_read("k", &EK, None, wrapped, &*BUCKET).await.map(|_| ())
    }

    fn lock(&self, locked: bool) {
        self.kms.locked.store(locked, Ordering::SeqCst);
    }

    fn away(&self, away: bool) {
        self.kms.away.store(away, Ordering::SeqCst);
    }

    async fn healthy(&self) -> bool {
        self.keys.health("k", &[EK.clone(), OTHER.clone()]).await == Health::Up
    }

    fn calls(&self) -> usize {
        self.kms.calls.load(Ordering::SeqCst)
    }

    /// Lets tasks go on until `calls` have reached the KMS.
    async fn reached(&self, calls: usize) {
        until(async || self.calls() >= calls).await;
    }
}

/// Lets tasks go on until it holds. The clock that the tests wind stands meanwhile, so another one limits it.
async fn until(holds: impl AsyncFn() -> bool) {
    let begun = std::time::Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never comes to that");
        tokio::task::yield_now().await;
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
        tokio::spawn(async move { keys.for_write("k", &EK, &*BUCKET, 1).await.unwrap().wrapped.clone() });
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
        tokio::spawn(async move { keys.for_write("k", &EK, &*BUCKET, 1).await.unwrap().wrapped.clone() });
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
            tokio::spawn(async move { keys.for_read("k", &EK, None, &other, &*BUCKET).await.map(|_| ()) })
        })
        .collect();
    for reader in readers {
        assert!(matches!(reader.await.unwrap(), Err(Error::Unavailable(_))));
    }
    assert_eq!(it.calls(), 3, "one call of two attempts");
    assert_eq!((it.write().await, it.read(&wrapped).await), (Ok(wrapped.clone()), Ok(())));
    it.kms.answers.add_permits(1);
    assert_eq!(it.read(&other).await, Ok(()), "that the KMS was away is not remembered");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_does_not_take_the_answer_with_it() {
    let it = Fixture::new(0);
    let ask = || {
        let keys = it.keys.clone();
        tokio::spawn(async move { keys.for_write("k", &EK, &*BUCKET, 1).await.map(|_| ()) })
    };
    let (first, second) = (ask(), ask());
    it.reached(1).await;
    first.abort();
    it.kms.answers.add_permits(1);
    assert_eq!(second.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn k_08_a_key_in_use_is_fetched_ahead_of_its_time_and_nobody_waits() {
    let it = Fixture::new(3);
    let first = it.write().await.unwrap();
    let other = WrappedDek::new([9; 32]);
    it.read(&other).await.unwrap();
    advance(TTL * 95 / 100).await;
    // At once, though no answer is left that it could wait for but the two that are fetched meanwhile.
    assert_eq!((it.write().await, it.read(&other).await), (Ok(first.clone()), Ok(())));
    it.reached(4).await;
    it.kms.answers.add_permits(1);
    // Until both have been put in place.
    until(async || it.write().await.unwrap() != first).await;
    advance(TTL / 10).await;
    assert_ne!(it.write().await, Ok(first));
    assert_eq!(it.read(&other).await, Ok(()));
    assert_eq!(it.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_has_nearly_served_enough_is_replaced_meanwhile() {
    let it = Fixture::with(2, CacheConfig { max_objects: 16, ..CacheConfig::default() });
    let first = it.write().await.unwrap();
    for _ in 1..15 {
        assert_eq!(it.write().await.as_ref(), Ok(&first));
    }
    it.reached(2).await;
    until(async || it.write().await.unwrap() != first).await;
    assert_eq!(it.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn k_01_a_refusal_ahead_of_time_locks_at_once() {
    let it = Fixture::new(100);
    let wrapped = it.write().await.unwrap();
    it.lock(true);
    advance(TTL * 95 / 100).await;
    assert_eq!(it.write().await, Ok(wrapped.clone()));
    it.reached(2).await;
    until(async || it.write().await.is_err()).await;
    assert_eq!(it.write().await, Err(disabled()));
}

#[tokio::test(start_paused = true)]
async fn k_07_cached_keys_go_on_to_their_end_while_the_kms_is_away() {
    let it = Fixture::new(100);
    let wrapped = it.write().await.unwrap();
    it.away(true);
    for _ in 0..9 {
        advance(TTL / 10).await;
        assert_eq!((it.write().await.as_ref(), it.read(&wrapped).await), (Ok(&wrapped), Ok(())));
    }
    advance(TTL / 10).await;
    assert!(matches!(it.write().await, Err(Error::Unavailable(_))));
    assert!(matches!(it.read(&wrapped).await, Err(Error::Unavailable(_))));
}

#[tokio::test(start_paused = true)]
async fn k_07_a_kms_that_stays_away_is_left_in_peace_and_comes_back_by_itself() {
    let it = Fixture::new(100);
    it.write().await.unwrap();
    it.keys.flush().await;
    it.away(true);
    for call in 1..=3 {
        assert!(matches!(it.write().await, Err(Error::Unavailable(_))));
        assert_eq!(it.calls(), 1 + 3 * call, "three attempts");
    }
    let opened = Instant::now();
    for _ in 0..1000 {
        assert!(matches!(it.write().await, Err(Error::Unavailable(_))));
    }
    assert_eq!((it.calls(), opened.elapsed()), (10, Duration::ZERO), "no storm, and nobody waits");
    assert!(!it.healthy().await);
    // Each time it is still away, twice as long: a minute has room for six tries at the most, and a try is one attempt.
    for _ in 0..600 {
        advance(Duration::from_millis(100)).await;
        assert!(it.write().await.is_err());
    }
    assert!((14..=18).contains(&it.calls()), "{}", it.calls());
    it.away(false);
    advance(Duration::from_secs(30)).await;
    assert!(it.write().await.is_ok());
    assert!(it.healthy().await);
}

#[tokio::test(start_paused = true)]
async fn one_finds_out_whether_the_kms_is_back_and_may_go_away_in_the_middle() {
    let it = Fixture::new(0);
    it.away(true);
    for _ in 0..3 {
        assert!(it.write().await.is_err());
    }
    it.away(false);
    advance(Duration::from_secs(1)).await;
    let (keys, before) = (it.keys.clone(), it.calls());
    let trial = tokio::spawn(async move { keys.for_write("k", &EK, &*BUCKET, 1).await.map(|_| ()) });
    it.reached(before + 1).await;
    let other = WrappedDek::new([9; 32]);
    assert!(
        matches!(it.read(&other).await, Err(Error::Unavailable(_))),
        "another one does not try beside it"
    );
    assert_eq!(it.calls(), before + 1);
    trial.abort();
    assert!(trial.await.unwrap_err().is_cancelled());
    it.kms.answers.add_permits(1);
    assert_eq!(it.read(&other).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn k_07_an_ek_that_the_kms_can_not_read_does_not_take_the_others_with_it() {
    let it = Fixture::new(1000);
    it.write().await.unwrap();
    it.kms.other_away.store(true, Ordering::SeqCst);
    let other = || async { it.keys.for_write("k", &OTHER, &*BUCKET, 1).await.map(|_| ()) };
    for _ in 0..10 {
        assert!(matches!(other().await, Err(Error::Unavailable(_))));
    }
    it.keys.flush().await;
    assert!(it.write().await.is_ok(), "no circuit is open for this one");
    assert!(it.healthy().await, "the KMS answers");
    // And so it stays, however long the other one is tried.
    for _ in 0..20 {
        advance(Duration::from_secs(30)).await;
        assert!(other().await.is_err());
        assert!(it.write().await.is_ok());
        assert!(it.healthy().await);
    }
    it.kms.other_away.store(false, Ordering::SeqCst);
    advance(Duration::from_secs(30)).await;
    assert_eq!(other().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_one_wrapped_dek_is_none_of_another_nor_of_a_write() {
    let it = Fixture::new(100);
    let old = WrappedDek::new(it.kms.old);
    let before = it.calls();
    for _ in 0..5 {
        assert_eq!(it.read(&old).await, Err(disabled()));
    }
    assert_eq!(it.calls(), before + 1, "it is remembered");
    assert_eq!(it.read(&WrappedDek::new([9; 32])).await, Ok(()));
    assert!(it.write().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_makes_no_sense_costs_no_key_that_was_good() {
    let it = Fixture::new(100);
    let wrapped = it.write().await.unwrap();
    it.kms.garbled.store(true, Ordering::SeqCst);
    advance(TTL * 95 / 100).await;
    assert_eq!((it.write().await.as_ref(), it.read(&wrapped).await), (Ok(&wrapped), Ok(())));
    it.reached(3).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert_eq!((it.write().await.as_ref(), it.read(&wrapped).await), (Ok(&wrapped), Ok(())));
    }
}

#[tokio::test(start_paused = true)]
async fn k_07_a_silent_kms_is_noticed_though_every_caller_goes_away() {
    let it = Fixture::new(0);
    for call in 1..=3 {
        let keys = it.keys.clone();
        let impatient = tokio::spawn(async move { keys.for_write("k", &EK, &*BUCKET, 1).await.map(|_| ()) });
        it.reached(2 * call - 1).await;
        impatient.abort();
        assert!(impatient.await.unwrap_err().is_cancelled());
        // The call goes on to its end without the caller.
        tokio::time::sleep(Duration::from_millis(10_300)).await;
    }
    let begun = Instant::now();
    assert!(matches!(it.write().await, Err(Error::Unavailable(_))));
    assert_eq!((it.calls(), begun.elapsed()), (6, Duration::ZERO), "the circuit is open");
}

#[tokio::test(start_paused = true)]
async fn health_is_asked_for_when_nothing_else_was_lately() {
    let it = Fixture::new(100);
    it.away(true);
    assert!(!it.healthy().await, "the KMS is asked");
    it.away(false);
    assert!(it.healthy().await);
    let asked = it.calls();
    assert!(it.healthy().await);
    assert_eq!(it.calls(), asked, "it has just answered");
    advance(Duration::from_secs(60)).await;
    it.away(true);
    assert!(!it.healthy().await);
}

#[tokio::test(start_paused = true)]
async fn a_kms_that_has_moved_opens_under_its_old_name_too() {
    let it = Fixture::new(1);
    let wrapped = it.write().await.unwrap();
    let moved = it.keys.for_read("moved", &EK, None, &wrapped, &*BUCKET).await;
    assert!(moved.is_ok(), "the same key, of the same cache");
    assert_eq!(it.calls(), 1);
    let unknown = it.keys.for_read("unknown", &EK, None, &wrapped, &*BUCKET).await.unwrap_err();
    assert_eq!(unknown, Error::NoSuchKms("unknown".into()));
    for (old, new, expected) in
        [("k", "k", "there is a [kms.k]"), ("a", "b", "'b' is not configured; there is k")]
    {
        let kmss = HashMap::from([("k".to_owned(), Box::new(Shared(it.kms.clone())) as Box<dyn Kms>)]);
        let keys = CacheConfig::default().build(kmss, &Metrics::default());
        let error = keys.with_aliases(HashMap::from([(old.into(), new.into())])).err().unwrap();
        assert!(error.contains(expected), "{error}");
    }
}

/// What is kept is kept for its KMS, EK, version, wrapped DEK, bucket and context: another question is the KMS's to answer.
#[tokio::test(start_paused = true)]
async fn k_08_a_kept_key_answers_no_other_question() {
    let it = Fixture::new(100);
    let two = || Box::new(Shared(it.kms.clone())) as Box<dyn Kms>;
    let kmss = HashMap::from([("k".to_owned(), two()), ("l".to_owned(), two())]);
    let keys = CacheConfig::default().build(kmss, &Metrics::default());
    let (wrapped, other) = (WrappedDek::new([7; 32]), WrappedDek::new([9; 32]));
    let elsewhere = Bucket::parse("two").unwrap();
    let here = || Bound::from(&*BUCKET);
    let client =
        |value: &str| Context::of_client(&BASE64_STANDARD.encode(format!(r#"{{"a":"{value}"}}"#))).unwrap();
    let with = |value| Bound { client: client(value), ..here() };
    for turn in 0..2 {
        let mut calls = it.calls();
        for (what, kms, ek, version, wrapped, bound) in [
            ("the first", "k", &*EK, None, &wrapped, here()),
            ("another KMS", "l", &*EK, None, &wrapped, here()),
            ("another EK", "k", &*OTHER, None, &wrapped, here()),
            ("another version", "k", &*EK, Some("1"), &wrapped, here()),
            ("another wrapped DEK", "k", &*EK, None, &other, here()),
            ("another bucket", "k", &*EK, None, &wrapped, Bound::from(&elsewhere)),
            ("a context", "k", &*EK, None, &wrapped, with("b")),
            ("another context", "k", &*EK, None, &wrapped, with("c")),
        ] {
            keys.for_read(kms, ek, version, wrapped, bound).await.unwrap();
            calls += usize::from(turn == 0);
            assert_eq!(it.calls(), calls, "{what}, for the {turn}. time");
        }
    }
    let mut calls = it.calls();
    for (what, kms, ek, bound) in [
        ("the first", "k", &*EK, here()),
        ("another KMS", "l", &*EK, here()),
        ("another EK", "k", &*OTHER, here()),
        ("another bucket", "k", &*EK, Bound::from(&elsewhere)),
        ("a context", "k", &*EK, with("b")),
    ] {
        keys.for_write(kms, ek, bound, 1).await.unwrap();
        calls += 1;
        assert_eq!(it.calls(), calls, "{what}, to write");
    }
}

/// On the real clock: the cache beneath has no other.
#[tokio::test]
async fn an_idle_proxy_forgets_its_keys() {
    let it = Fixture::with(1, CacheConfig { ttl_secs: 1, ..CacheConfig::default() });
    let dek = Arc::downgrade(&it.keys.for_write("k", &EK, &*BUCKET, 1).await.unwrap().dek);
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
    let dek = Arc::downgrade(&it.keys.for_write("k", &EK, &*BUCKET, 1).await.unwrap().dek);
    it.keys.flush().await;
    // No flush to wait for, but for threads of other tests: one that the machine has put aside in the middle of a look at its
    // own cache keeps what all of them free (crossbeam's epochs are the process's).
    tokio::time::timeout(Duration::from_secs(5), async {
        while dek.strong_count() > 0 {
            it.keys.flush().await;
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a flush drops both");
}
