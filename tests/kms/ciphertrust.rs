//! CipherTrust Manager, against a server of the tests' own: its keys, and its secrets as MinIO KES lays them out.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use s3veil::kms::{Error, Kms, State};

use crate::ciphertrust_server::{DOMAIN, Lie, Server, USER};
use crate::common::{build, context, ek};
use crate::kmip_server::Certificates;
use crate::kms_contract::{self, ALL, Limits};

/// A secret is there or not; it has no versions that KES would know.
const SECRETS: Limits = Limits { can_lock: false, can_rotate: false, ..ALL };

fn settings(certificates: &Certificates, port: u16, more: &str) -> String {
    let ca = certificates.path("ca.pem");
    format!("endpoint = \"https://127.0.0.1:{port}\"\nca_file = {ca:?}\n{more}\n")
}

pub fn with_password(certificates: &Certificates, server: &Server, kind: &str) -> String {
    let more = format!("kind = \"{kind}\"\nusername = \"{USER}\"\npassword = \"right\"");
    settings(certificates, server.port, &more)
}

fn with_token(certificates: &Certificates, server: &Server, kind: &str) -> String {
    let more = format!("kind = \"{kind}\"\nrefresh_token = \"fresh\"\ndomain = \"{DOMAIN}\"");
    settings(certificates, server.port, &more)
}

async fn fresh(kind: &str) -> (Certificates, Server, Box<dyn Kms>) {
    let certificates = Certificates::new();
    let server = Server::start(&certificates).await;
    let kms = build(&with_password(&certificates, &server, kind)).unwrap();
    (certificates, server, kms)
}

#[tokio::test]
async fn keys_keep_the_contract() {
    let certificates = Certificates::new();
    for login in [with_password, with_token] {
        let server = Server::start(&certificates).await;
        let kms = build(&login(&certificates, &server, "ciphertrust")).unwrap();
        kms_contract::check(&*kms, ALL).await;
        assert_eq!(server.with(|state| (state.logins, state.refused)), (1, 0));
    }
}

#[tokio::test]
async fn secrets_keep_the_contract() {
    let certificates = Certificates::new();
    for login in [with_password, with_token] {
        let server = Server::start(&certificates).await;
        let kms = build(&login(&certificates, &server, "ciphertrust-secrets")).unwrap();
        kms_contract::check(&*kms, SECRETS).await;
    }
}

/// A secret that KES has written: minio/kes, `internal/crypto/key_test.go`, `parseKeyVersionTests`.
#[tokio::test]
async fn secrets_are_those_of_kes() {
    const STORED: &str = "CiQKIMiHG7XrN94FuwblJJor4f7f6rbqAl7DwsLaiIoyz0D2EAESJAognLXl4yqa4cjZTcSbsU6sNnN8kP9ARWkXwa20YQZa9HgQARoMCNithK0GEID67qYDIkAzZWNmY2RmMzhmY2JlMTQxYWUyNmExMDMwZjgxZTk2Yjc1MzM2NWE0Njc2MGFlNmI1Nzg2OThhOTdjNTlmZDIy";
    let (_certificates, server, kms) = fresh("ciphertrust-secrets").await;
    server.with(|state| state.secrets.insert("minio".into(), STORED.into()));
    let made = kms.generate(&ek("minio"), &context("one")).await.unwrap();
    assert_eq!((made.wrapped.as_bytes().len(), made.version.as_ref()), (76, None));
    let again = kms.unwrap(&ek("minio"), None, &made.wrapped, &context("one")).await.unwrap();
    assert!(made.dek.is_same(&again));
    server.with(|state| state.lie = Some(Lie::OtherName));
    for why in [
        kms.generate(&ek("minio"), &context("one")).await.unwrap_err(),
        kms.describe(&ek("minio")).await.unwrap_err(),
    ] {
        assert!(matches!(why, Error::Malformed(_)), "{why}");
    }
}

/// K-15: no IV is used twice, and the token is not asked for each time.
#[tokio::test]
async fn a_thousand_ivs() {
    let (_certificates, server, kms) = fresh("ciphertrust").await;
    kms.create(&ek("a")).await.unwrap();
    for _ in 0..1000 {
        let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
        assert_eq!(made.wrapped.as_bytes().len(), 60);
    }
    let (ivs, logins) = server.with(|state| (std::mem::take(&mut state.ivs), state.logins));
    assert_eq!((ivs.len(), ivs.iter().collect::<HashSet<_>>().len(), logins), (1000, 1000, 1));
}

/// K-15, K-9: renewed before it ends, so that no call is refused; by one login, whoever waits.
#[tokio::test]
async fn tokens_are_renewed_in_time() {
    let (_certificates, server, kms) = fresh("ciphertrust").await;
    let counts = || server.with(|state| (state.logins, state.refused));
    assert!(join_all((0..20).map(|_| kms.list())).await.into_iter().all(|listed| listed == Ok(vec![])));
    assert_eq!(counts(), (1, 0), "twenty calls, one login");
    for (seconds, logins) in [(190, 1), (15, 2), (190, 2), (15, 3)] {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
        assert!(join_all((0..5).map(|_| kms.list())).await.iter().all(Result::is_ok));
        assert_eq!(counts(), (logins, 0));
    }
}

#[tokio::test]
async fn tokens_that_never_end() {
    let (_certificates, server, kms) = fresh("ciphertrust").await;
    server.with(|state| state.duration = u64::MAX);
    for _ in 0..2 {
        assert_eq!(kms.list().await, Ok(vec![]));
    }
    assert_eq!(server.with(|state| state.logins), 1);
}

/// K-9: a token that the server takes back is had anew, once; then the refusal stands.
#[tokio::test]
async fn tokens_that_are_taken_back() {
    let (_certificates, server, kms) = fresh("ciphertrust").await;
    assert_eq!(kms.list().await, Ok(vec![]));
    server.with(|state| state.tokens.clear());
    assert_eq!(kms.list().await, Ok(vec![]));
    assert_eq!(server.with(|state| (state.logins, state.refused)), (2, 1));
    // The login fails too.
    server.with(|state| {
        state.tokens.clear();
        state.password = "changed".into();
    });
    let why = kms.list().await.unwrap_err();
    assert!(
        matches!(&why, Error::Denied(text) if text.contains("login") && !text.contains("right")),
        "{why}"
    );
}

#[tokio::test]
async fn a_password_that_changes_in_its_file() {
    let certificates = Certificates::new();
    let server = Server::start(&certificates).await;
    let file = certificates.path("password");
    std::fs::write(&file, "right\n").unwrap();
    let more = format!("kind = \"ciphertrust\"\nusername = \"{USER}\"\npassword = {{ file = {file:?} }}");
    let kms = build(&settings(&certificates, server.port, &more)).unwrap();
    assert_eq!(kms.list().await, Ok(vec![]));
    server.with(|state| {
        state.tokens.clear();
        state.password = "changed now".into();
    });
    assert!(matches!(kms.list().await, Err(Error::Denied(_))));
    std::fs::write(&file, "changed now\n").unwrap();
    assert_eq!(kms.list().await, Ok(vec![]));
}

/// K-1, K-2, K-6: every version locks, unlocks and goes; and states that others set.
#[tokio::test]
async fn versions_and_states() {
    let (_certificates, server, kms) = fresh("ciphertrust").await;
    kms.create(&ek("a")).await.unwrap();
    let old = kms.generate(&ek("a"), &context("one")).await.unwrap();
    kms.rotate(&ek("a")).await.unwrap();
    let new = kms.generate(&ek("a"), &context("one")).await.unwrap();
    assert_eq!((old.version.as_deref(), new.version.as_deref()), (Some("0"), Some("1")));
    let other = kms.unwrap(&ek("a"), Some("1"), &old.wrapped, &context("one")).await.unwrap_err();
    assert!(matches!(other, Error::Malformed(_)), "the version of the other: {other}");
    kms.disable(&ek("a")).await.unwrap();
    for made in [&old, &new] {
        let locked = kms.unwrap(&ek("a"), made.version.as_deref(), &made.wrapped, &context("one")).await;
        assert_eq!(locked.unwrap_err(), Error::Disabled(ek("a")), "the server would decrypt");
    }
    assert_eq!(kms.rotate(&ek("a")).await, Err(Error::Disabled(ek("a"))));
    kms.enable(&ek("a")).await.unwrap();
    // The old one alone: what it wrapped is gone, the EK goes on.
    server.with(|server| server.keys[0].state = "Destroyed");
    let gone = kms.unwrap(&ek("a"), Some("0"), &old.wrapped, &context("one")).await.unwrap_err();
    assert!(matches!(&gone, Error::Malformed(why) if why.contains("destroyed")), "{gone}");
    assert!(kms.generate(&ek("a"), &context("one")).await.is_ok());
    for (state, expected) in [
        ("Pre-Active", Error::Disabled(ek("a"))),
        ("Compromised", Error::Disabled(ek("a"))),
        ("Destroyed", Error::NoSuchKey(ek("a"))),
        ("Destroyed Compromised", Error::NoSuchKey(ek("a"))),
    ] {
        server.with(|server| server.keys.iter_mut().for_each(|key| key.state = state));
        let generated = kms.generate(&ek("a"), &context("one")).await.unwrap_err();
        let unwrapped = kms.unwrap(&ek("a"), Some("0"), &old.wrapped, &context("one")).await.unwrap_err();
        assert_eq!((&generated, &unwrapped), (&expected, &expected), "{state}");
        if state == "Compromised" {
            assert_eq!(kms.describe(&ek("a")).await.unwrap().state, State::Disabled);
            assert!(matches!(kms.enable(&ek("a")).await, Err(Error::Unsupported { .. })));
        }
    }
    assert_eq!(kms.list().await, Ok(vec![]));
    assert_eq!(kms.delete(&ek("a")).await, Ok(()));
    assert!(server.with(|state| state.keys.is_empty()));
}

/// K-10.
#[tokio::test]
async fn lies_are_refused() {
    let (_certificates, server, kms) = fresh("ciphertrust").await;
    kms.create(&ek("a")).await.unwrap();
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    for (lie, wraps, unwraps) in [
        (Lie::OtherName, true, true),
        (Lie::OtherVersion, false, true),
        (Lie::OtherId, true, false),
        (Lie::OtherIv, true, false),
        (Lie::ShortCiphertext, true, false),
        (Lie::ShortTag, true, false),
        (Lie::ShortPlaintext, false, true),
        (Lie::NotBase64, true, true),
        (Lie::NotJson, true, true),
        (Lie::Oversize, true, true),
    ] {
        server.with(|state| state.lie = Some(lie));
        if wraps {
            let why = kms.generate(&ek("a"), &context("one")).await.unwrap_err();
            assert!(matches!(why, Error::Malformed(_)), "{lie:?}: {why}");
        }
        if unwraps {
            let why = kms.unwrap(&ek("a"), Some("0"), &made.wrapped, &context("one")).await.unwrap_err();
            assert!(matches!(why, Error::Malformed(_)), "{lie:?}: {why}");
        }
        server.with(|state| state.lie = None);
        assert!(kms.unwrap(&ek("a"), Some("0"), &made.wrapped, &context("one")).await.is_ok());
    }
    server.with(|state| state.lie = Some(Lie::EndlessList));
    assert!(matches!(kms.list().await, Err(Error::Malformed(_))));
}

#[tokio::test]
async fn answers_that_are_errors() {
    let (certificates, server, kms) = fresh("ciphertrust").await;
    assert_eq!(kms.list().await, Ok(vec![]));
    for status in [408, 429, 500, 502, 503] {
        server.with(|state| state.status = Some(status));
        let why = kms.generate(&ek("a"), &context("one")).await.unwrap_err();
        assert!(matches!(why, Error::Unavailable(_)), "{status}: {why}");
    }
    server.with(|state| state.status = Some(403));
    let why = kms.generate(&ek("a"), &context("one")).await.unwrap_err();
    assert!(matches!(why, Error::Denied(_)), "{why}");
    server.with(|state| state.status = None);
    certificates.stranger("stranger");
    let wrong = with_password(&certificates, &server, "ciphertrust").replace("ca.pem", "stranger-ca.pem");
    let why = build(&wrong).unwrap().list().await.unwrap_err();
    assert!(matches!(&why, Error::Unavailable(text) if text.contains("certificate")), "{why}");
    drop(server);
    let why = kms.list().await.unwrap_err();
    assert!(matches!(why, Error::Unavailable(_)), "{why}");
}

/// An EK does not count as erased because a load balancer knows no such path.
#[tokio::test]
async fn a_404_of_another() {
    for kind in ["ciphertrust", "ciphertrust-secrets"] {
        let (certificates, server, kms) = fresh(kind).await;
        kms.create(&ek("a")).await.unwrap();
        let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
        let version = made.version.as_deref();
        for (lie, logged_in) in
            [(Lie::NotJson, true), (Lie::OtherJson, true), (Lie::NotJson, false), (Lie::OtherJson, false)]
        {
            server.with(|state| (state.status, state.lie) = (Some(404), Some(lie)));
            let kms = match logged_in {
                true => &kms,
                false => &build(&with_password(&certificates, &server, kind)).unwrap(),
            };
            for why in [
                kms.generate(&ek("a"), &context("one")).await.unwrap_err(),
                kms.unwrap(&ek("a"), version, &made.wrapped, &context("one")).await.unwrap_err(),
                kms.describe(&ek("a")).await.unwrap_err(),
                kms.delete(&ek("a")).await.unwrap_err(),
                kms.list().await.unwrap_err(),
            ] {
                assert!(matches!(why, Error::Unavailable(_)), "{kind}, {lie:?}: {why}");
            }
        }
        server.with(|state| (state.status, state.lie) = (Some(404), None));
        assert_eq!(kms.generate(&ek("a"), &context("one")).await.unwrap_err(), Error::NoSuchKey(ek("a")));
    }
}

/// More than a page, and names that are others at the server.
#[tokio::test]
async fn lists_and_names() {
    let (certificates, server, kms) = fresh("ciphertrust").await;
    let names: Vec<_> = (0..450).map(|n| ek(&format!("key{n:03}"))).collect();
    for name in &names {
        kms.create(name).await.unwrap();
    }
    assert_eq!(kms.list().await, Ok(names));

    let server = {
        drop(server);
        Server::start(&certificates).await
    };
    let more = "keys = { a = \"Tenant/key 7\", b = \"Tenant/key 7\" }\n";
    let kms = build(&(with_password(&certificates, &server, "ciphertrust") + more)).unwrap();
    kms.create(&ek("a")).await.unwrap();
    assert_eq!(kms.create(&ek("b")).await, Err(Error::Exists(ek("b"))));
    assert_eq!(server.with(|state| state.keys[0].name.clone()), "Tenant/key 7");
    assert_eq!(kms.list().await, Ok(vec![ek("a"), ek("b")]));
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    let other = kms.unwrap(&ek("b"), Some("0"), &made.wrapped, &context("one")).await.unwrap_err();
    assert!(matches!(other, Error::Malformed(_)), "{other}");
}

#[test]
fn settings_that_are_wrong_say_what_to_do() {
    let certificates = Certificates::new();
    for kind in ["ciphertrust", "ciphertrust-secrets"] {
        let of = |more: &str| settings(&certificates, 443, &format!("kind = \"{kind}\"\n{more}"));
        assert!(build(&of("refresh_token = \"t\"")).is_ok(), "nothing is contacted");
        for (more, parts) in [
            ("", &["refresh_token", "username", "password"][..]),
            ("username = \"u\"", &["refresh_token", "username", "password"]),
            ("username = \"u\"\nrefresh_token = \"t\"", &["either"]),
            ("refresh_token = { file = \"/no/such\" }", &["refresh_token", "/no/such"]),
            ("refresh_token = \"t\"\ntenant = \"x\"", &["tenant"]),
        ] {
            let why = build(&of(more)).err().expect(more);
            assert!(parts.iter().all(|part| why.contains(part)), "{more}: {why}");
        }
        let keys = build(&of("refresh_token = \"t\"\nkeys = { a = \"x\" }"));
        assert_eq!(keys.is_ok(), kind == "ciphertrust", "a secret has the name of its EK");
        let plain = of("refresh_token = \"t\"").replace("https://127.0.0.1", "http://cm.example.com");
        let why = build(&plain).err().unwrap();
        assert!(why.contains("endpoint") && why.contains("http://cm.example.com"), "{why}");
    }
}
