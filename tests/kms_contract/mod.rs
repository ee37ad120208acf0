//! What every KMS keeps, whoever makes it: one contract, run against each.

use s3veil::kms::{Context, DataKey, EkName, Error, Kms, State, WrappedDek};
use s3veil::s3::Bucket;

/// What a KMS can do by its nature. The contract asks for just that.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// It binds a wrapped DEK to its context. The KEK binds it in any case (`docs/format.md`).
    pub binds_context: bool,
    /// It creates and lists EKs; else `a` and `b` must be there, and nothing else.
    pub can_create: bool,
    /// It disables and enables EKs.
    pub can_lock: bool,
    /// It gives an EK new versions.
    pub can_rotate: bool,
    /// It deletes EKs.
    pub can_delete: bool,
    /// It keeps a deleted EK for a while: then its name is not free at once, and `enable` brings the EK back.
    pub delete_waits: bool,
    /// Each how many bytes of a wrapped DEK one is changed: 1, or more for a KMS that is slow to say no.
    pub stride: usize,
}

/// A KMS that can do everything.
pub const ALL: Limits = Limits {
    binds_context: true,
    can_create: true,
    can_lock: true,
    can_rotate: true,
    can_delete: true,
    delete_waits: false,
    stride: 1,
};

fn ek(name: &str) -> EkName {
    EkName::parse(name).unwrap()
}

fn context(bucket: &str) -> Context {
    Context::of_bucket(&Bucket::parse(bucket).unwrap())
}

/// Runs all of it. A KMS that creates EKs must be empty.
pub async fn check(kms: &dyn Kms, limits: Limits) {
    if limits.can_create {
        creates(kms).await;
    }
    wraps_under_one_ek_and_context(kms, limits).await;
    refuses_every_change(kms, limits.stride).await;
    refuses_an_unknown_ek(kms).await;
    if limits.can_rotate {
        rotates(kms).await;
    }
    if limits.can_lock {
        locks_and_unlocks(kms).await;
    }
    if limits.can_delete {
        erases(kms, limits).await;
    }
}

async fn creates(kms: &dyn Kms) {
    assert_eq!(kms.list().await, Ok(vec![]));
    for name in ["b", "a"] {
        assert_eq!(kms.create(&ek(name)).await, Ok(()));
    }
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    assert_eq!(kms.create(&ek("a")).await, Err(Error::Exists(ek("a"))));
    assert!(made.dek.is_same(
        &kms.unwrap(&ek("a"), made.version.as_deref(), &made.wrapped, &context("one")).await.unwrap()
    ));
    assert_eq!(kms.list().await, Ok(vec![ek("a"), ek("b")]));
    let info = kms.describe(&ek("a")).await.unwrap();
    assert_eq!((info.name, info.state), (ek("a"), State::Enabled));
}

async fn wraps_under_one_ek_and_context(kms: &dyn Kms, limits: Limits) {
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    let version = made.version.as_deref();
    let again = kms.unwrap(&ek("a"), version, &made.wrapped, &context("one")).await.unwrap();
    assert!(made.dek.is_same(&again));
    let other = kms.generate(&ek("a"), &context("one")).await.unwrap();
    assert!(!made.dek.is_same(&other.dek) && made.wrapped != other.wrapped);

    refuses(kms, "b", version, &made.wrapped, "one").await;
    refuses(kms, "a", Some("no such version"), &made.wrapped, "one").await;
    if limits.binds_context {
        refuses(kms, "a", version, &made.wrapped, "two").await;
    }
}

async fn refuses_every_change(kms: &dyn Kms, stride: usize) {
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    let version = made.version.as_deref();
    let good = made.wrapped.as_bytes();
    for at in (0..good.len()).step_by(stride) {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        refuses(kms, "a", version, &WrappedDek::new(bad), "one").await;
        refuses(kms, "a", version, &WrappedDek::new(&good[..at]), "one").await;
    }
    refuses(kms, "a", version, &WrappedDek::new([good, b"\0"].concat()), "one").await;
}

async fn refuses(kms: &dyn Kms, name: &str, version: Option<&str>, wrapped: &WrappedDek, bucket: &str) {
    let answer = kms.unwrap(&ek(name), version, wrapped, &context(bucket)).await;
    assert!(
        matches!(answer, Err(Error::Malformed(_))),
        "{name} {version:?} {wrapped:?} {bucket}: {answer:?}"
    );
}

async fn refuses_an_unknown_ek(kms: &dyn Kms) {
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    refused_with(kms, "none", &made, &Error::NoSuchKey(ek("none"))).await;
}

async fn locks_and_unlocks(kms: &dyn Kms) {
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    // Twice: it is the state that is asked for, not the change.
    for _ in 0..2 {
        assert_eq!(kms.disable(&ek("a")).await, Ok(()));
    }
    assert_eq!(kms.describe(&ek("a")).await.unwrap().state, State::Disabled);
    refused_with(kms, "a", &made, &Error::Disabled(ek("a"))).await;
    assert!(kms.generate(&ek("b"), &context("one")).await.is_ok(), "another EK is not touched");
    for _ in 0..2 {
        assert_eq!(kms.enable(&ek("a")).await, Ok(()));
    }
    let again = kms.unwrap(&ek("a"), made.version.as_deref(), &made.wrapped, &context("one")).await.unwrap();
    assert!(made.dek.is_same(&again));
    assert_eq!(kms.disable(&ek("none")).await, Err(Error::NoSuchKey(ek("none"))));
}

/// What was wrapped stays readable, and the new version is in use.
async fn rotates(kms: &dyn Kms) {
    let before = kms.describe(&ek("a")).await.unwrap().version;
    let old = kms.generate(&ek("a"), &context("one")).await.unwrap();
    assert_eq!(kms.rotate(&ek("a")).await, Ok(()));
    assert_ne!(kms.describe(&ek("a")).await.unwrap().version, before);
    let new = kms.generate(&ek("a"), &context("one")).await.unwrap();
    for made in [old, new] {
        let again = kms.unwrap(&ek("a"), made.version.as_deref(), &made.wrapped, &context("one")).await;
        assert!(made.dek.is_same(&again.unwrap()));
    }
    assert_eq!(kms.rotate(&ek("none")).await, Err(Error::NoSuchKey(ek("none"))));
}

async fn erases(kms: &dyn Kms, limits: Limits) {
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    if limits.can_lock {
        // A disabled EK can be deleted, and is not merely disabled then.
        assert_eq!(kms.disable(&ek("a")).await, Ok(()));
    }
    assert_eq!(kms.delete(&ek("a")).await, Ok(()));
    refused_with(kms, "a", &made, &Error::NoSuchKey(ek("a"))).await;
    assert!(kms.generate(&ek("b"), &context("one")).await.is_ok(), "another EK is not touched");
    if limits.delete_waits {
        assert_eq!(kms.describe(&ek("a")).await.unwrap().state, State::PendingDeletion);
        assert_eq!(kms.enable(&ek("a")).await, Ok(()));
        let again = kms.unwrap(&ek("a"), made.version.as_deref(), &made.wrapped, &context("one")).await;
        assert!(made.dek.is_same(&again.unwrap()));
        return;
    }
    let gone = Err(Error::NoSuchKey(ek("a")));
    assert_eq!(kms.delete(&ek("a")).await, gone);
    if limits.can_lock {
        assert_eq!(kms.enable(&ek("a")).await, gone);
    }
    if !limits.can_create {
        return;
    }
    assert_eq!(kms.list().await, Ok(vec![ek("b")]));
    // The name may be used again; what the first of that name sealed stays lost.
    assert_eq!(kms.create(&ek("a")).await, Ok(()));
    refuses(kms, "a", made.version.as_deref(), &made.wrapped, "one").await;
    for name in ["a", "b"] {
        assert_eq!(kms.delete(&ek(name)).await, Ok(()));
    }
    assert_eq!(kms.list().await, Ok(vec![]));
}

async fn refused_with(kms: &dyn Kms, name: &str, made: &DataKey, expected: &Error) {
    let generated = kms.generate(&ek(name), &context("one")).await.map(|_| ());
    let version = made.version.as_deref();
    let unwrapped = kms.unwrap(&ek(name), version, &made.wrapped, &context("one")).await.map(|_| ());
    assert_eq!((generated.as_ref(), unwrapped.as_ref()), (Err(expected), Err(expected)));
}
