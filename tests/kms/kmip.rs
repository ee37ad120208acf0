//! KMIP: against PyKMIP, and against a server of the tests' own for what PyKMIP does not do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use s3veil::kms::{Error, Kms, State, WrappedDek};
use tokio::sync::Barrier;

use crate::common::{build, context, ek};
use crate::kmip_fake::{Fake, Lie, Rules};
use crate::kmip_server::{Certificates, PyKmip};
use crate::kms_contract::{self, ALL, Limits};

/// What PyKMIP does of the contract: it has no Re-Key, and what is deactivated stays so.
const PYKMIP: Limits = Limits { can_lock: false, can_rotate: false, ..ALL };

async fn contract_at_pykmip(mode: &str) {
    for version in ["1.4", "2.0"] {
        let certificates = Certificates::new();
        let server = or_skip!(PyKmip::start(&certificates));
        let more = format!("version = \"{version}\"\nmode = \"{mode}\"");
        let kms = build(&certificates.settings(server.port, &more)).unwrap();
        // It is slow to answer: a change in every third byte is enough here.
        kms_contract::check(&*kms, Limits { stride: 3, ..PYKMIP }).await;
    }
}

#[tokio::test]
async fn pykmip_encrypts() {
    contract_at_pykmip("encrypt").await;
}

#[tokio::test]
async fn pykmip_gives_keys() {
    contract_at_pykmip("get").await;
}

/// K-1, K-2, K-16: a deactivated key locks, though PyKMIP still gives it; nothing but erasing it is left there.
#[tokio::test]
async fn pykmip_locks_for_good() {
    let certificates = Certificates::new();
    let server = or_skip!(PyKmip::start(&certificates));
    for mode in ["encrypt", "get"] {
        let kms = build(&certificates.settings(server.port, &format!("mode = \"{mode}\""))).unwrap();
        kms.create(&ek("a")).await.unwrap();
        let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
        let rotated = kms.rotate(&ek("a")).await.unwrap_err();
        assert!(matches!(rotated, Error::Unsupported { operation: "rotate", .. }), "{rotated}");
        for _ in 0..2 {
            assert_eq!(kms.disable(&ek("a")).await, Ok(()));
        }
        locked(&*kms, &made.wrapped, made.version.as_deref()).await;
        assert_eq!(kms.describe(&ek("a")).await.unwrap().state, State::Disabled);
        assert_eq!(kms.create(&ek("a")).await, Err(Error::Exists(ek("a"))));
        let enabled = kms.enable(&ek("a")).await.unwrap_err();
        assert!(matches!(enabled, Error::Unsupported { operation: "enable deactivated", .. }), "{enabled}");
        assert_eq!(kms.delete(&ek("a")).await, Ok(()));
        let gone = kms.unwrap(&ek("a"), made.version.as_deref(), &made.wrapped, &context("one")).await;
        assert_eq!(gone.unwrap_err(), Error::NoSuchKey(ek("a")));
    }
}

async fn locked(kms: &dyn Kms, wrapped: &WrappedDek, version: Option<&str>) {
    let generated = kms.generate(&ek("a"), &context("one")).await.unwrap_err();
    let unwrapped = kms.unwrap(&ek("a"), version, wrapped, &context("one")).await.unwrap_err();
    assert_eq!((generated, unwrapped), (Error::Disabled(ek("a")), Error::Disabled(ek("a"))));
}

/// PyKMIP chooses IVs of 16 bytes, whatever it is asked for. None is taken.
#[tokio::test]
async fn pykmip_chooses_long_ivs() {
    let certificates = Certificates::new();
    let server = or_skip!(PyKmip::start(&certificates));
    let kms = build(&certificates.settings(server.port, "iv = \"server\"")).unwrap();
    kms.create(&ek("a")).await.unwrap();
    let why = kms.generate(&ek("a"), &context("one")).await.unwrap_err();
    assert!(matches!(&why, Error::Malformed(text) if text.contains("iv = \"client\"")), "{why}");
}

/// A restart of the server is got over: its closed connections are not used, its keys are found again.
#[tokio::test]
async fn pykmip_goes_and_comes_back() {
    let certificates = Certificates::new();
    let server = or_skip!(PyKmip::start(&certificates));
    let port = server.port;
    let kms = build(&certificates.settings(port, "")).unwrap();
    kms.create(&ek("a")).await.unwrap();
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    drop(server);
    let away = kms.generate(&ek("a"), &context("one")).await.unwrap_err();
    assert!(matches!(away, Error::Unavailable(_)), "{away}");
    let _server = PyKmip::start_at(&certificates, Some(port)).unwrap();
    let again = kms.unwrap(&ek("a"), made.version.as_deref(), &made.wrapped, &context("one")).await.unwrap();
    assert!(made.dek.is_same(&again));
}

/// PyKMIP's keys belong to the client that made them; and one with a certificate of nobody's is refused (K-11).
#[tokio::test]
async fn pykmip_and_other_clients() {
    let certificates = Certificates::new();
    let server = or_skip!(PyKmip::start(&certificates));
    let settings = certificates.settings(server.port, "");
    let kms = build(&settings).unwrap();
    kms.create(&ek("a")).await.unwrap();
    certificates.client("other");
    let other = build(&settings.replace("/client.", "/other.")).unwrap();
    let refused = other.generate(&ek("a"), &context("one")).await.unwrap_err();
    assert_eq!(refused, Error::NoSuchKey(ek("a")));
    certificates.stranger("stranger");
    let stranger = build(&settings.replace("/client.", "/stranger.")).unwrap();
    let refused = stranger.generate(&ek("a"), &context("one")).await.unwrap_err();
    let said = matches!(&refused, Error::Denied(why) if why.contains("client certificate"));
    assert!(said, "{refused}");
}

#[tokio::test]
async fn fake_keeps_the_contract_in_every_form() {
    let certificates = Certificates::new();
    for version in ["1.4", "2.1"] {
        for (mode, iv) in [("encrypt", "client"), ("encrypt", "server"), ("get", "client")] {
            for keeps_destroyed in [false, true] {
                let fake = Fake::start(&certificates, Rules { keeps_destroyed, ..Rules::default() }).await;
                let more = format!("version = \"{version}\"\nmode = \"{mode}\"\niv = \"{iv}\"");
                let kms = build(&certificates.settings(fake.port, &more)).unwrap();
                kms_contract::check(&*kms, ALL).await;
            }
        }
    }
}

#[tokio::test]
async fn fake_is_asked_what_it_speaks() {
    let certificates = Certificates::new();
    for (versions, expected) in [
        (&[(1, 4), (2, 1)][..], Some((2, 1))),
        (&[(2, 0), (1, 4), (1, 2), (3, 0)], Some((2, 0))),
        (&[(1, 2), (1, 3)], None),
    ] {
        let fake = Fake::start(&certificates, Rules { versions, ..Rules::default() }).await;
        let kms = build(&certificates.settings(fake.port, "")).unwrap();
        let listed = kms.list().await;
        match expected {
            Some(version) => {
                assert_eq!(listed, Ok(vec![]));
                assert_eq!(fake.state.lock().unwrap().spoken, [(1, 4), version], "asked once, then spoken");
            }
            None => {
                let why = listed.unwrap_err();
                assert!(matches!(&why, Error::Denied(text) if text.contains("1.4, 2.0 and 2.1")), "{why}");
            }
        }
    }
    // One that can't say.
    let fake = Fake::start(&certificates, Rules { versions: &[], ..Rules::default() }).await;
    let kms = build(&certificates.settings(fake.port, "")).unwrap();
    assert!(kms.list().await.is_err());
    assert_eq!(fake.state.lock().unwrap().spoken, [(1, 4), (1, 4)]);
}

/// K-6, K-1, K-2: an EK that was rotated is a chain of keys. All of it locks, unlocks and goes.
#[tokio::test]
async fn fake_rotates_locks_and_erases_the_whole_chain() {
    let certificates = Certificates::new();
    for (mode, old_keeps_name) in [("encrypt", false), ("get", false), ("encrypt", true)] {
        let fake = Fake::start(&certificates, Rules { old_keeps_name, ..Rules::default() }).await;
        let kms = build(&certificates.settings(fake.port, &format!("mode = \"{mode}\""))).unwrap();
        kms.create(&ek("a")).await.unwrap();
        let mut made = vec![kms.generate(&ek("a"), &context("one")).await.unwrap()];
        for _ in 0..2 {
            kms.rotate(&ek("a")).await.unwrap();
            made.push(kms.generate(&ek("a"), &context("one")).await.unwrap());
        }
        assert_eq!(kms.list().await, Ok(vec![ek("a")]));
        kms.disable(&ek("a")).await.unwrap();
        for made in &made {
            locked(&*kms, &made.wrapped, made.version.as_deref()).await;
        }
        kms.enable(&ek("a")).await.unwrap();
        for made in &made {
            let again = kms.unwrap(&ek("a"), made.version.as_deref(), &made.wrapped, &context("one")).await;
            assert!(made.dek.is_same(&again.unwrap()));
        }
        kms.delete(&ek("a")).await.unwrap();
        assert!(fake.state.lock().unwrap().keys.is_empty(), "no key of the chain is left");
    }
}

/// K-16: states that others set, on a server that decrypts whatever the state.
#[tokio::test]
async fn fake_states() {
    let certificates = Certificates::new();
    let fake = Fake::start(&certificates, Rules { reactivates: false, ..Rules::default() }).await;
    for mode in ["encrypt", "get"] {
        let kms = build(&certificates.settings(fake.port, &format!("mode = \"{mode}\""))).unwrap();
        fake.state.lock().unwrap().keys.clear();
        kms.create(&ek("a")).await.unwrap();
        let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
        let id = made.version.clone().unwrap();
        for (state, expected) in [
            (1, Error::Disabled(ek("a"))),
            (3, Error::Disabled(ek("a"))),
            (4, Error::Disabled(ek("a"))),
            (5, Error::NoSuchKey(ek("a"))),
            (6, Error::NoSuchKey(ek("a"))),
        ] {
            fake.state.lock().unwrap().keys.get_mut(&id).unwrap().state = state;
            let generated = kms.generate(&ek("a"), &context("one")).await.unwrap_err();
            let unwrapped =
                kms.unwrap(&ek("a"), Some(&id), &made.wrapped, &context("one")).await.unwrap_err();
            assert_eq!((&generated, &unwrapped), (&expected, &expected), "state {state}");
        }
        fake.state.lock().unwrap().keys.get_mut(&id).unwrap().state = 3;
        let enabled = kms.enable(&ek("a")).await.unwrap_err();
        assert!(matches!(enabled, Error::Unsupported { operation: "enable deactivated", .. }), "{enabled}");
        fake.state.lock().unwrap().keys.get_mut(&id).unwrap().state = 1;
        assert_eq!(kms.enable(&ek("a")).await, Ok(()));
        assert!(kms.generate(&ek("a"), &context("one")).await.is_ok());
    }
}

/// K-10, K-16: none of these is believed, none ends the process, and the next call is not hurt.
#[tokio::test]
async fn fake_lies_are_refused() {
    let certificates = Certificates::new();
    for (mode, lies) in [
        ("encrypt", &[Lie::ShortDek, Lie::NoTag, Lie::ShortTag, Lie::WrongTag, Lie::OtherIv][..]),
        ("get", &[Lie::ShortKey]),
        (
            "encrypt",
            &[
                Lie::OtherKey,
                Lie::OtherOperation,
                Lie::NoState,
                Lie::HugeLength,
                Lie::LengthOverflow,
                Lie::Deep,
                Lie::NotKmip,
            ],
        ),
    ] {
        let fake = Fake::start(&certificates, Rules::default()).await;
        let kms = build(&certificates.settings(fake.port, &format!("mode = \"{mode}\""))).unwrap();
        kms.create(&ek("a")).await.unwrap();
        let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
        for lie in lies {
            fake.rules(|rules| rules.lie = Some(*lie));
            let generated = kms.generate(&ek("a"), &context("one")).await.unwrap_err();
            assert!(matches!(generated, Error::Malformed(_)), "{lie:?}: {generated}");
            if !matches!(lie, Lie::NoTag | Lie::ShortTag | Lie::WrongTag | Lie::OtherIv) {
                let version = made.version.as_deref();
                let unwrapped = kms.unwrap(&ek("a"), version, &made.wrapped, &context("one")).await;
                let unwrapped = unwrapped.unwrap_err();
                assert!(matches!(unwrapped, Error::Malformed(_)), "{lie:?}: {unwrapped}");
            }
            fake.rules(|rules| rules.lie = None);
            assert!(kms.generate(&ek("a"), &context("one")).await.is_ok(), "after {lie:?}");
        }
        for lie in [Lie::Truncated, Lie::GoneBeforeTheAnswer] {
            fake.rules(|rules| rules.lie = Some(lie));
            let away = kms.generate(&ek("a"), &context("one")).await.unwrap_err();
            assert!(matches!(away, Error::Unavailable(_)), "{lie:?}: {away}");
            fake.rules(|rules| rules.lie = None);
            assert!(kms.generate(&ek("a"), &context("one")).await.is_ok(), "after {lie:?}");
        }
    }
}

/// A Decrypt that fails: for the server's own reasons, or the data's.
#[tokio::test]
async fn fake_refuses_to_decrypt() {
    let certificates = Certificates::new();
    let fake = Fake::start(&certificates, Rules::default()).await;
    let kms = build(&certificates.settings(fake.port, "")).unwrap();
    kms.create(&ek("a")).await.unwrap();
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    for (reasons, is_expected) in [
        (&[0x2a, 0x3a, 0x44][..], (|why| matches!(why, Error::Unavailable(_))) as fn(&Error) -> bool),
        (&[0x03, 0x0c, 0x39], |why| matches!(why, Error::Denied(_))),
        (&[0x07, 0x0a, 0x100], |why| matches!(why, Error::Malformed(_))),
    ] {
        for reason in reasons {
            fake.rules(|rules| rules.decrypt_fails = Some(*reason));
            let why = kms.unwrap(&ek("a"), made.version.as_deref(), &made.wrapped, &context("one")).await;
            let why = why.unwrap_err();
            assert!(is_expected(&why), "{reason:#x}: {why}");
        }
    }
}

/// An old version that is destroyed while the EK lives opens nothing, and the EK goes on.
#[tokio::test]
async fn fake_lost_an_old_version() {
    let certificates = Certificates::new();
    for keeps_destroyed in [false, true] {
        let fake = Fake::start(&certificates, Rules { keeps_destroyed, ..Rules::default() }).await;
        let kms = build(&certificates.settings(fake.port, "")).unwrap();
        kms.create(&ek("a")).await.unwrap();
        let old = kms.generate(&ek("a"), &context("one")).await.unwrap();
        let id = old.version.clone().unwrap();
        kms.rotate(&ek("a")).await.unwrap();
        match keeps_destroyed {
            true => fake.state.lock().unwrap().keys.get_mut(&id).unwrap().state = 5,
            false => drop(fake.state.lock().unwrap().keys.remove(&id)),
        }
        let gone = kms.unwrap(&ek("a"), Some(&id), &old.wrapped, &context("one")).await.unwrap_err();
        let said = matches!(&gone, Error::Malformed(why) if why.contains(&id) && why.contains("destroyed"));
        assert!(said, "{gone}");
        assert!(kms.generate(&ek("a"), &context("one")).await.is_ok());
    }
}

/// Each call has a connection of its own while it lasts, and connections are used again.
#[tokio::test]
async fn fake_serves_calls_side_by_side() {
    let certificates = Certificates::new();
    let fake = Fake::start(&certificates, Rules::default()).await;
    let kms = build(&certificates.settings(fake.port, "")).unwrap();
    kms.create(&ek("a")).await.unwrap();
    kms.generate(&ek("a"), &context("one")).await.unwrap();
    assert_eq!(fake.state.lock().unwrap().connections, 1);
    // Neither Encrypt is answered before the other has come.
    fake.rules(|rules| rules.meet = Some(Arc::new(Barrier::new(2))));
    let (ek, context) = (ek("a"), context("one"));
    let both = async { tokio::join!(kms.generate(&ek, &context), kms.generate(&ek, &context)) };
    let (one, two) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("no waiting in line");
    assert!(!one.unwrap().dek.is_same(&two.unwrap().dek));
    assert_eq!(fake.state.lock().unwrap().connections, 2);
    // One that is given up takes its connection with it: its answer is nobody's.
    let given_up = tokio::time::timeout(Duration::from_millis(300), kms.generate(&ek, &context)).await;
    assert!(given_up.is_err(), "it waits for a second one");
    fake.rules(|rules| rules.meet = None);
    let made = kms.generate(&ek, &context).await.unwrap();
    assert!(kms.unwrap(&ek, made.version.as_deref(), &made.wrapped, &context).await.is_ok());
}

#[tokio::test]
async fn fake_goes_and_another_endpoint_answers() {
    let certificates = Certificates::new();
    let first = Fake::start(&certificates, Rules::default()).await;
    let second = Fake::start_at(&certificates, 0, first.state.clone()).await;
    let kms = build(&certificates.settings_of_two(first.port, second.port)).unwrap();
    kms.create(&ek("a")).await.unwrap();
    drop(first);
    // One attempt a call: the one that finds the first gone moves on to the second.
    let (ek, context) = (ek("a"), context("one"));
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(kms.generate(&ek, &context).await);
    }
    assert!(
        answers
            .iter()
            .flat_map(|answer| answer.as_ref().err())
            .all(|why| matches!(why, Error::Unavailable(_)))
    );
    assert!(answers[2].is_ok(), "{answers:?}");
}

/// An endpoint that takes connections and says nothing, and a caller with less patience than the connection has.
#[tokio::test]
async fn fake_is_asked_when_another_endpoint_hangs() {
    let certificates = Certificates::new();
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let fake = Fake::start(&certificates, Rules::default()).await;
    let port = mute.local_addr().unwrap().port();
    let kms = build(&certificates.settings_of_two(port, fake.port)).unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(200), kms.list()).await;
    assert!(given_up.is_err(), "nothing answers");
    assert_eq!(kms.list().await, Ok(vec![]));
}

/// An endpoint that dies without closing its connections, several of them idle: none of those is asked again.
#[tokio::test]
async fn fake_falls_silent_and_another_endpoint_answers() {
    let certificates = Certificates::new();
    let first = Fake::start(&certificates, Rules::default()).await;
    let second = Fake::start_at(&certificates, 0, first.state.clone()).await;
    let kms = build(&certificates.settings_of_two(first.port, second.port)).unwrap();
    kms.create(&ek("a")).await.unwrap();
    let (ek, context) = (ek("a"), context("one"));
    first.rules(|rules| rules.meet = Some(Arc::new(Barrier::new(3))));
    let warm = join_all((0..3).map(|_| kms.generate(&ek, &context))).await;
    first.rules(|rules| rules.meet = None);
    assert!(warm.iter().all(Result::is_ok));
    assert_eq!(first.state.lock().unwrap().connections, 3);

    first.silent.store(true, Ordering::Relaxed);
    // The clock goes on by itself while nobody has anything to do.
    tokio::time::pause();
    let attempt = tokio::time::timeout(Duration::from_secs(5), kms.generate(&ek, &context)).await;
    tokio::time::resume();
    let away = attempt.expect("it says so before its caller gives up").unwrap_err();
    let place = format!("127.0.0.1:{}", first.port);
    assert!(matches!(&away, Error::Unavailable(why) if why.contains(&place)), "{away}");
    for _ in 0..3 {
        let answer = tokio::time::timeout(Duration::from_secs(3), kms.generate(&ek, &context)).await;
        assert!(answer.expect("the second one answers").is_ok());
    }
    assert_eq!(first.state.lock().unwrap().connections, 4, "one more, and that to the second");
}

/// K-11, and a certificate that is renewed in its file.
#[tokio::test]
async fn fake_checks_certificates_and_is_checked() {
    let certificates = Certificates::new();
    let fake = Fake::start(&certificates, Rules::default()).await;
    // Two that the server does not know, one of them by the name of the one that it knows.
    certificates.stranger("stranger");
    certificates.stranger("tests");
    let settings = certificates.settings(fake.port, "");
    let wrong_ca = build(&settings.replace("ca.pem", "stranger-ca.pem")).unwrap();
    let why = wrong_ca.list().await.unwrap_err();
    assert!(matches!(&why, Error::Unavailable(text) if text.contains("certificate")), "{why}");

    for name in ["/tests.", "/stranger."] {
        let kms = build(&settings.replace("/client.", name)).unwrap();
        let why = kms.list().await.unwrap_err();
        assert!(matches!(&why, Error::Denied(text) if text.contains("client certificate")), "{why}");
    }
    let kms = build(&settings.replace("/client.", "/stranger.")).unwrap();
    assert!(kms.list().await.is_err());
    for end in ["key", "pem"] {
        let from = certificates.path(&format!("client.{end}"));
        std::fs::copy(from, certificates.path(&format!("stranger.{end}"))).unwrap();
    }
    assert_eq!(kms.list().await, Ok(vec![]), "taken without a restart");
}

/// Two names for one key do not open each other's DEKs, and a name that two keys have is not guessed at.
#[tokio::test]
async fn fake_keys_by_identifier() {
    let certificates = Certificates::new();
    let fake = Fake::start(&certificates, Rules::default()).await;
    let id = fake.state.lock().unwrap().make("Tenant key / 7".into(), 2, vec![]);
    for mode in ["encrypt", "get"] {
        let more = format!("mode = \"{mode}\"\nkeys = {{ a = \"{id}\", b = \"{id}\", c = \"gone\" }}");
        let kms = build(&certificates.settings(fake.port, &more)).unwrap();
        let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
        assert_eq!(made.version.as_deref(), Some(id.as_str()));
        assert!(kms.unwrap(&ek("a"), Some(&id), &made.wrapped, &context("one")).await.is_ok());
        let other = kms.unwrap(&ek("b"), Some(&id), &made.wrapped, &context("one")).await.unwrap_err();
        assert!(matches!(other, Error::Malformed(_)), "{other}");
        let gone = kms.generate(&ek("c"), &context("one")).await.unwrap_err();
        assert_eq!(gone, Error::NoSuchKey(ek("c")));
        assert_eq!(kms.list().await, Ok(vec![ek("a"), ek("b")]));
        assert_eq!(kms.create(&ek("a")).await, Err(Error::Exists(ek("a"))));
        let rotated = kms.rotate(&ek("a")).await.unwrap_err();
        assert!(matches!(rotated, Error::Unsupported { operation: "rotate pinned", .. }), "{rotated}");
    }

    let kms = build(&certificates.settings(fake.port, "")).unwrap();
    for _ in 0..2 {
        fake.state.lock().unwrap().make("twice".into(), 2, vec![]);
    }
    let why = kms.generate(&ek("twice"), &context("one")).await.unwrap_err();
    assert!(matches!(&why, Error::Denied(text) if text.contains("`keys`")), "{why}");
}

#[test]
fn settings_that_are_wrong_say_what_to_do() {
    let certificates = Certificates::new();
    let good = certificates.settings(5696, "");
    assert!(build(&good).is_ok(), "nothing is contacted");
    for (setting, instead, parts) in [
        ("\"127.0.0.1:5696\"", "[]", &["endpoint", "HOST:PORT"][..]),
        ("127.0.0.1:5696", "me:pw@hsm", &["endpoint", "'...'", "HOST:PORT"]),
        ("127.0.0.1:5696", "https://hsm", &["endpoint", "https://hsm", "HOST:PORT"]),
        ("ca.pem", "none.pem", &["ca_file", "none.pem", "PEM"]),
        ("client.pem", "none.pem", &["certificate_file", "none.pem", "PEM"]),
        ("client.key", "server.key", &["client certificate", "belongs to it"]),
        ("kind = \"kmip\"", "kind = \"kmip\"\nversion = \"1.2\"", &["1.2", "1.4", "2.1"]),
        ("kind = \"kmip\"", "kind = \"kmip\"\nmode = \"wrap\"", &["wrap", "encrypt", "get"]),
        ("kind = \"kmip\"", "kind = \"kmip\"\nkeys = { a = \"\" }", &["keys.a", "identifier"]),
        ("kind = \"kmip\"", "kind = \"kmip\"\npassword = \"x\"", &["password"]),
    ] {
        let why = build(&good.replace(setting, instead)).err().expect(instead);
        assert!(parts.iter().all(|part| why.contains(part)), "{instead}: {why}");
    }
}
