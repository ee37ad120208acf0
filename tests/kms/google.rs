//! Google Cloud KMS: the contract, its versions' states, and answers that lie.
//!
//! Against a server of the tests' own (`google_server`), for no registry offers an emulator.

use std::time::{Duration, Instant};

use s3veil::kms::{Error, Kms, State};
use serde_json::{Value, json};

use crate::common::{build, context, ek};
use crate::google_server::{Google, RING};
use crate::kms_contract::{self, ALL, Limits};

/// A field of an answer, what stands there instead, and what the error must be.
type Lie = (&'static str, Value, fn(&Error) -> bool);

/// HTTP's status, Google's status, its text, and what the error must be.
type Refusal = (u16, &'static str, &'static str, fn(&Error) -> bool);

pub fn settings(google: &Google, more: &str) -> String {
    format!(
        "kind = 'google-kms'\nkey_ring = '{RING}'\nendpoint = '{}'\nanonymous = true\n{more}",
        google.endpoint
    )
}

async fn with_key() -> (Google, Box<dyn Kms>) {
    let google = Google::start().await;
    let kms = build(&settings(&google, "")).unwrap();
    kms.create(&ek("a")).await.unwrap();
    (google, kms)
}

#[tokio::test]
async fn google_kms_keeps_the_contract() {
    let google = Google::start().await;
    let kms = build(&settings(&google, "")).unwrap();
    assert!(google.with(|world| world.seen.is_empty()), "nothing is asked before the first use");
    kms_contract::check(kms.as_ref(), Limits { delete_waits: true, ..ALL }).await;
}

#[tokio::test]
async fn google_kms_maps_names_and_lists_what_can_be_an_ek() {
    let google = Google::start().await;
    let plain = build(&settings(&google, "")).unwrap();
    for id in ["prod-2026", "other", "main"] {
        plain.create(&ek(id)).await.unwrap();
    }
    let kms = build(&settings(&google, "keys = { main = 'prod-2026' }")).unwrap();
    // The key that is called `main` at Google is another one here, and can't be named.
    assert_eq!(kms.list().await, Ok(vec![ek("main"), ek("other")]));
    let made = kms.generate(&ek("main"), &context("one")).await.unwrap();
    let again = plain.unwrap(&ek("prod-2026"), None, &made.wrapped, &context("one")).await.unwrap();
    assert!(made.dek.is_same(&again));
    assert!(matches!(
        plain.unwrap(&ek("main"), None, &made.wrapped, &context("one")).await,
        Err(Error::Malformed(_))
    ));
    let info = kms.describe(&ek("main")).await.unwrap();
    assert_eq!((info.name, info.version.as_deref()), (ek("main"), Some("1")));
    assert_eq!(info.created.unwrap().unix_timestamp(), 1_795_608_000);
}

#[tokio::test]
async fn google_kms_locks_every_version_and_a_locked_ek_gets_no_new_one() {
    let (google, kms) = with_key().await;
    let old = kms.generate(&ek("a"), &context("one")).await.unwrap();
    kms.rotate(&ek("a")).await.unwrap();
    kms.disable(&ek("a")).await.unwrap();
    assert_eq!(google.states("a"), ["DISABLED", "DISABLED"]);
    let answer = kms.unwrap(&ek("a"), None, &old.wrapped, &context("one")).await;
    assert_eq!(answer.map(drop), Err(Error::Disabled(ek("a"))), "an old version is locked too");
    assert_eq!(kms.rotate(&ek("a")).await, Err(Error::Disabled(ek("a"))));
    assert_eq!(google.states("a").len(), 2);

    kms.delete(&ek("a")).await.unwrap();
    assert_eq!(google.states("a"), ["DESTROY_SCHEDULED", "DESTROY_SCHEDULED"]);
    for answer in [kms.rotate(&ek("a")).await, kms.disable(&ek("a")).await, kms.delete(&ek("a")).await] {
        assert_eq!(answer, Err(Error::NoSuchKey(ek("a"))));
    }
    kms.enable(&ek("a")).await.unwrap();
    assert_eq!(google.states("a"), ["ENABLED", "ENABLED"]);
    assert!(kms.unwrap(&ek("a"), None, &old.wrapped, &context("one")).await.is_ok());
}

#[tokio::test]
async fn google_kms_leaves_an_old_version_to_the_destruction_that_someone_chose() {
    let (google, kms) = with_key().await;
    let old = kms.generate(&ek("a"), &context("one")).await.unwrap();
    kms.rotate(&ek("a")).await.unwrap();
    google.schedule("a", 1);
    kms.disable(&ek("a")).await.unwrap();
    kms.enable(&ek("a")).await.unwrap();
    assert_eq!(google.states("a"), ["DESTROY_SCHEDULED", "ENABLED"]);
    assert_eq!(kms.describe(&ek("a")).await.unwrap().state, State::Enabled);
    let answer = kms.unwrap(&ek("a"), None, &old.wrapped, &context("one")).await;
    assert_eq!(answer.map(drop), Err(Error::NoSuchKey(ek("a"))));
}

/// A lock that stops half-way leaves an EK that does not wrap, and the same command does the rest.
#[tokio::test]
async fn google_kms_locks_the_primary_version_first() {
    let (google, kms) = with_key().await;
    kms.rotate(&ek("a")).await.unwrap();
    // The answer is lost on its way; Google has done what it was asked.
    google.twist("cryptoKeyVersions/2", |reply| *reply = (503, json!({})));
    assert!(matches!(kms.disable(&ek("a")).await, Err(Error::Unavailable(_))));
    assert_eq!(google.states("a"), ["ENABLED", "DISABLED"]);
    google.with(|world| world.twist = None);
    assert_eq!(kms.generate(&ek("a"), &context("one")).await.map(drop), Err(Error::Disabled(ek("a"))));
    kms.disable(&ek("a")).await.unwrap();
    assert_eq!(google.states("a"), ["DISABLED", "DISABLED"]);
}

#[tokio::test]
async fn google_kms_does_not_believe_a_wrapped_dek_that_was_changed() {
    let (google, kms) = with_key().await;
    let answers: [Lie; 9] = [
        ("verifiedPlaintextCrc32c", json!(false), is_away),
        ("verifiedAdditionalAuthenticatedDataCrc32c", json!(false), is_away),
        ("verifiedPlaintextCrc32c", Value::Null, is_away),
        ("ciphertextCrc32c", json!("1"), is_away),
        ("ciphertextCrc32c", Value::Null, is_malformed),
        ("ciphertext", json!("AAAA"), is_away),
        ("name", json!(format!("{RING}/cryptoKeys/b/cryptoKeyVersions/1")), is_malformed),
        ("name", json!(format!("{RING}/cryptoKeys/a")), is_malformed),
        ("name", json!(""), is_malformed),
    ];
    for (field, value, expected) in answers {
        let lie = value.clone();
        google.twist(":encrypt", move |reply| reply.1[field] = lie.clone());
        let answer = kms.generate(&ek("a"), &context("one")).await.map(drop);
        assert!(answer.as_ref().is_err_and(expected), "{field} {value}: {answer:?}");
    }
    // Long, empty, and no JSON at all.
    for (len, sum) in [(1025, crate::google_server::crc32c(&[0; 1025])), (0, 0)] {
        google.twist(":encrypt", move |reply| {
            reply.1["ciphertext"] = json!(base64(&vec![0; len]));
            reply.1["ciphertextCrc32c"] = json!(sum.to_string());
        });
        let answer = kms.generate(&ek("a"), &context("one")).await.map(drop);
        assert!(answer.as_ref().is_err_and(is_malformed), "{len}: {answer:?}");
    }
    google.twist(":encrypt", |reply| reply.1 = json!("no object"));
    assert!(kms.generate(&ek("a"), &context("one")).await.is_err_and(|why| is_malformed(&why)));
    google.twist(":encrypt", |_| {});
    assert!(kms.generate(&ek("a"), &context("one")).await.is_ok());
}

#[tokio::test]
async fn google_kms_does_not_believe_a_dek_that_was_changed() {
    let (google, kms) = with_key().await;
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    let unwrap = async || kms.unwrap(&ek("a"), None, &made.wrapped, &context("one")).await.map(drop);
    let answers: [Lie; 3] = [
        ("plaintextCrc32c", json!("1"), is_away),
        ("plaintextCrc32c", Value::Null, is_malformed),
        ("plaintext", json!(base64(&[7; 32])), is_away),
    ];
    for (field, value, expected) in answers {
        let lie = value.clone();
        google.twist(":decrypt", move |reply| reply.1[field] = lie.clone());
        let answer = unwrap().await;
        assert!(answer.as_ref().is_err_and(expected), "{field} {value}: {answer:?}");
    }
    for len in [0, 16, 31, 33] {
        google.twist(":decrypt", move |reply| {
            let short = vec![7; len];
            reply.1 = json!({
                "plaintext": base64(&short),
                "plaintextCrc32c": crate::google_server::crc32c(&short).to_string(),
            });
        });
        let answer = unwrap().await;
        assert!(answer.as_ref().is_err_and(is_malformed), "{len}: {answer:?}");
    }
}

#[tokio::test]
async fn google_kms_errors_say_whose_fault_it_is() {
    let (google, kms) = with_key().await;
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    let cases: [Refusal; 9] = [
        (
            400,
            "FAILED_PRECONDITION",
            "Cloud Key Management Service (KMS) API has not been used in project 1 before or it is disabled.",
            is_denied,
        ),
        (403, "PERMISSION_DENIED", "Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied", is_denied),
        (401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", is_denied),
        (429, "RESOURCE_EXHAUSTED", "Quota exceeded", is_away),
        (500, "INTERNAL", "Internal error", is_away),
        (503, "UNAVAILABLE", "The service is currently unavailable.", is_away),
        (504, "DEADLINE_EXCEEDED", "Deadline exceeded", is_away),
        (
            400,
            "INVALID_ARGUMENT",
            "The checksum in field ciphertext_crc32c did not match the data in field ciphertext.",
            is_away,
        ),
        (
            400,
            "INVALID_ARGUMENT",
            "Decryption failed: verify that 'name' refers to the correct CryptoKey.",
            is_malformed,
        ),
    ];
    for (code, status, text, expected) in cases {
        google.refuse(":decrypt", code, status, text);
        let before = google.with(|world| world.seen.len());
        let answer = kms.unwrap(&ek("a"), None, &made.wrapped, &context("one")).await.map(drop);
        assert!(answer.as_ref().is_err_and(expected), "{status} {text}: {answer:?}");
        let asked = google.with(|world| world.seen.len()) - before;
        // A token that served is given one more chance; Google's client does not try again by itself.
        assert_eq!(asked, if code == 401 { 2 } else { 1 }, "{status}");
    }
    // What something between here and Google answers.
    google.twist(":decrypt", |reply| *reply = (404, json!("<html>")));
    assert!(
        kms.unwrap(&ek("a"), None, &made.wrapped, &context("one")).await.is_err_and(|why| is_denied(&why))
    );

    let nowhere = Google::start().await;
    let missing = settings(&nowhere, "").replace("keyRings/r", "keyRings/none");
    let missing = build(&missing).unwrap();
    for answer in [missing.list().await.map(drop), missing.create(&ek("a")).await] {
        assert!(answer.as_ref().is_err_and(is_denied), "the key ring is missing, not a key: {answer:?}");
    }
}

#[tokio::test]
async fn google_kms_that_is_down_or_has_another_certificate_is_away_at_once() {
    let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secure = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(tls));
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(acceptor.accept(stream));
        }
    });
    for (endpoint, part) in
        [(format!("http://{refused}"), "connect"), (format!("https://{secure}"), "certificate")]
    {
        let text =
            format!("kind = 'google-kms'\nkey_ring = '{RING}'\nendpoint = '{endpoint}'\nanonymous = true");
        let kms = build(&text).unwrap();
        let start = Instant::now();
        match kms.generate(&ek("a"), &context("one")).await {
            Err(Error::Unavailable(why)) => assert!(why.contains(part), "{why}"),
            other => panic!("{other:?}"),
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn google_settings_that_cannot_be_used_are_named() {
    let ring = format!("kind = 'google-kms'\nkey_ring = '{RING}'\n");
    let secrets = "kind = 'google-secret-manager'\n".to_owned();
    for (text, parts) in [
        ("kind = 'google-kms'\nkey_ring = 'r'".into(), &["key_ring", "'r'", "projects/PROJECT"][..]),
        ("kind = 'google-kms'\nkey_ring = 'projects/p/locations/l/keyRings/../r'".into(), &["key_ring"]),
        ("kind = 'google-kms'\nkey_ring = 'projects//locations/l/keyRings/r'".into(), &["key_ring"]),
        (format!("{ring}keys = {{ a = 'projects/p' }}"), &["keys.a", "'projects/p'", "last part"]),
        (format!("{ring}keyring = 'x'"), &["unknown field", "keyring"]),
        (format!("{ring}endpoint = 'http://kms:80'"), &["endpoint", "http://kms:80", "https://"]),
        (format!("{ring}anonymous = true"), &["anonymous", "endpoint"]),
        (
            format!("{ring}endpoint = 'https://kms.example.com'\nanonymous = true"),
            &["anonymous", "this machine"],
        ),
        (
            format!("{ring}endpoint = 'http://127.0.0.1:1'\nanonymous = true\ncredentials = '{{}}'"),
            &["anonymous", "credentials", "Remove"],
        ),
        (format!("{ring}credentials = 'hidden'"), &["credentials", "JSON"]),
        (
            format!("{ring}credentials = '{{\"type\": \"gdch\"}}'"),
            &["credentials", "'gdch'", "service account"],
        ),
        (format!("{ring}credentials = {{ file = '/no/such/file' }}"), &["credentials", "/no/such/file"]),
        (format!("{secrets}project = 'projects/p'"), &["project", "'projects/p'", "without"]),
        (format!("{secrets}project = ''"), &["project"]),
    ] {
        let why = build(&text).map(drop).unwrap_err();
        assert!(parts.iter().all(|part| why.contains(part)), "{text}: {why}");
        assert!(!why.contains("hidden"), "{why}");
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

fn is_away(why: &Error) -> bool {
    matches!(why, Error::Unavailable(_))
}

fn is_malformed(why: &Error) -> bool {
    matches!(why, Error::Malformed(_))
}

fn is_denied(why: &Error) -> bool {
    matches!(why, Error::Denied(_))
}
