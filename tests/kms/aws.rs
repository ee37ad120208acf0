//! AWS KMS and AWS Secrets Manager: against moto and ministack, and against a fake that lies.

use std::path::Path;
use std::time::{Duration, Instant};

use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use s3veil::kms::{DataKey, Error, Kms, State};
use serde_json::json;

use crate::aws_server::{Asked, Fake, REGION, certificate, ministack, moto, moto_tls};
use crate::common::{build, context, ek};
use crate::kms_contract::{ALL, Limits, check};

pub const ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
const OTHER_ID: &str = "ffffffff-12ab-34cd-56ef-1234567890ab";

pub fn settings(kind: &str, endpoint: &str, more: &str) -> String {
    format!(
        r#"
        kind = "{kind}"
        region = "{REGION}"
        endpoint = "{endpoint}"
        credentials = {{ access_key = "AKIATEST", secret_key = "hidden" }}
        {more}
        "#
    )
}

fn kms(endpoint: &str, more: &str) -> Box<dyn Kms> {
    build(&settings("aws-kms", endpoint, more)).unwrap()
}

/// AWS's own client, for what is done there beside s3veil.
fn client(endpoint: &str) -> aws_sdk_kms::Client {
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("AKIATEST", "hidden", None, None, "test"))
        .build();
    aws_sdk_kms::Client::from_conf(config)
}

async fn unwrap(kms: &dyn Kms, name: &str, made: &DataKey, bucket: &str) -> Result<(), Error> {
    let dek = kms.unwrap(&ek(name), made.version.as_deref(), &made.wrapped, &context(bucket)).await?;
    assert!(dek.is_same(&made.dek));
    Ok(())
}

#[tokio::test]
async fn k_01_to_k_06_kms_keeps_the_contract() {
    let moto = or_skip!(moto());
    check(&*kms(&moto.endpoint, ""), Limits { delete_waits: true, stride: 7, ..ALL }).await;
}

#[tokio::test]
async fn k_01_to_k_04_secrets_keep_the_contract() {
    let limits = Limits { can_rotate: false, stride: 13, ..ALL };
    for server in [ministack(), moto()] {
        let server = or_skip!(server);
        for more in ["", "prefix = \"s3veil/\""] {
            let secrets = build(&settings("aws-secrets-manager", &server.endpoint, more)).unwrap();
            check(&*secrets, limits).await;
        }
    }
}

/// With ministack as it is: its states are its own, not this test's.
#[tokio::test]
async fn k_01_k_02_disable_enable_delete_in_kms() {
    let server = or_skip!(ministack());
    let kms = kms(&server.endpoint, "pending_window_in_days = 7");
    for name in ["main", "other"] {
        kms.create(&ek(name)).await.unwrap();
    }
    assert_eq!(kms.list().await, Ok(vec![ek("main"), ek("other")]));
    assert_eq!(kms.create(&ek("main")).await, Err(Error::Exists(ek("main"))));
    let made = kms.generate(&ek("main"), &context("one")).await.unwrap();
    unwrap(&*kms, "main", &made, "one").await.unwrap();
    // K-3.
    assert!(matches!(unwrap(&*kms, "main", &made, "two").await, Err(Error::Malformed(_))));
    let generate = async || kms.generate(&ek("main"), &context("one")).await.map(drop);

    kms.disable(&ek("main")).await.unwrap();
    assert_eq!(generate().await, Err(Error::Disabled(ek("main"))));
    assert_eq!(unwrap(&*kms, "main", &made, "one").await, Err(Error::Disabled(ek("main"))));
    kms.enable(&ek("main")).await.unwrap();
    unwrap(&*kms, "main", &made, "one").await.unwrap();

    kms.delete(&ek("main")).await.unwrap();
    assert_eq!(generate().await, Err(Error::NoSuchKey(ek("main"))));
    assert_eq!(unwrap(&*kms, "main", &made, "one").await, Err(Error::NoSuchKey(ek("main"))));
    assert_eq!(kms.describe(&ek("main")).await.unwrap().state, State::PendingDeletion);
    assert!(kms.generate(&ek("other"), &context("one")).await.is_ok(), "another EK is not touched");
    kms.enable(&ek("main")).await.unwrap();
    unwrap(&*kms, "main", &made, "one").await.unwrap();
}

#[tokio::test]
async fn k_05_an_alias_that_moves_is_a_new_version() {
    let moto = or_skip!(moto());
    let plain = kms(&moto.endpoint, "");
    plain.create(&ek("main")).await.unwrap();
    let old = plain.generate(&ek("main"), &context("one")).await.unwrap();
    let aws = client(&moto.endpoint);
    let key = aws.create_key().send().await.unwrap().key_metadata.unwrap();
    aws.update_alias().alias_name("alias/main").target_key_id(&key.key_id).send().await.unwrap();

    let new = plain.generate(&ek("main"), &context("one")).await.unwrap();
    assert_eq!(new.version.as_deref(), Some(&*key.key_id));
    unwrap(&*plain, "main", &new, "one").await.unwrap();
    let Err(Error::Malformed(why)) = unwrap(&*plain, "main", &old, "one").await else { panic!() };
    assert!(why.contains("list the former key's id in `keys`"), "{why}");

    // Listed, it opens again, and is locked and erased with the EK.
    let former = old.version.clone().unwrap();
    let listed = kms(&moto.endpoint, &format!(r#"keys = {{ main = ["alias/main", "{former}"] }}"#));
    for made in [&old, &new] {
        unwrap(&*listed, "main", made, "one").await.unwrap();
    }
    listed.disable(&ek("main")).await.unwrap();
    for made in [&old, &new] {
        assert_eq!(unwrap(&*listed, "main", made, "one").await, Err(Error::Disabled(ek("main"))));
    }
    listed.enable(&ek("main")).await.unwrap();
    unwrap(&*listed, "main", &old, "one").await.unwrap();

    // An EK can also be a key by its id, in the configuration or by its name.
    let arn = key.arn.unwrap();
    let named = kms(&moto.endpoint, &format!(r#"keys = {{ other = "{arn}" }}"#));
    for name in ["other", &key.key_id] {
        let made = named.generate(&ek(name), &context("one")).await.unwrap();
        unwrap(&*named, name, &made, "one").await.unwrap();
        assert!(matches!(unwrap(&*named, name, &old, "one").await, Err(Error::Malformed(_))));
    }
    assert_eq!(named.create(&ek("other")).await, Err(Error::Exists(ek("other"))));
}

#[tokio::test]
async fn the_version_is_a_key_id_and_the_age_is_told() {
    let moto = or_skip!(moto());
    let kms = kms(&moto.endpoint, "");
    kms.create(&ek("main")).await.unwrap();
    let made = kms.generate(&ek("main"), &context("one")).await.unwrap();
    assert_eq!(made.version.unwrap().len(), ID.len());
    let info = kms.describe(&ek("main")).await.unwrap();
    let age = time::OffsetDateTime::now_utc() - info.created.unwrap();
    assert!(age.unsigned_abs() < Duration::from_secs(3600), "{info:?}");
}

pub fn arn(id: &str) -> String {
    format!("arn:aws:kms:{REGION}:111122223333:key/{id}")
}

/// An AWS KMS whose every key is this.
fn answers(id: &'static str, plaintext: usize, wrapped: usize) -> Fake {
    Fake::start(move |_: &Asked| {
        let body = json!({
            "KeyId": arn(id),
            "Plaintext": BASE64_STANDARD.encode(vec![7; plaintext]),
            "CiphertextBlob": BASE64_STANDARD.encode(vec![9; wrapped]),
        });
        (200, body.to_string())
    })
}

#[tokio::test]
async fn k_10_answers_that_lie() {
    let keys = format!(r#"keys = {{ main = "{ID}" }}"#);
    let honest = kms(&answers(ID, 32, 184).0, &keys);
    let made = honest.generate(&ek("main"), &context("one")).await.unwrap();
    unwrap(&*honest, "main", &made, "one").await.unwrap();
    for (id, plaintext, wrapped, says) in [
        (OTHER_ID, 32, 184, "the key"),
        (ID, 31, 184, "a DEK of 31 bytes"),
        (ID, 0, 184, "a DEK of 0 bytes"),
        (ID, 33, 184, "a DEK of 33 bytes"),
    ] {
        let liar = kms(&answers(id, plaintext, wrapped).0, &keys);
        for answer in [
            liar.generate(&ek("main"), &context("one")).await.map(drop),
            unwrap(&*liar, "main", &made, "one").await,
        ] {
            let Err(Error::Malformed(why)) = answer else { panic!("{says}: {answer:?}") };
            assert!(why.contains(says), "{why}");
        }
    }
    for wrapped in [0, 1025] {
        let liar = kms(&answers(ID, 32, wrapped).0, &keys);
        let answer = liar.generate(&ek("main"), &context("one")).await;
        assert!(matches!(&answer, Err(Error::Malformed(why)) if why.contains("wrapped DEK")), "{answer:?}");
    }
    // By alias the version in the envelope says which key it must have been.
    let moved = kms(&answers(OTHER_ID, 32, 184).0, "");
    assert!(matches!(unwrap(&*moved, "main", &made, "one").await, Err(Error::Malformed(_))));
    // Another secret than was asked for, and what is no secret.
    let secret =
        Fake::start(|_: &Asked| (200, json!({ "Name": "other", "SecretString": "AA==" }).to_string()));
    let secrets = build(&settings("aws-secrets-manager", &secret.0, "")).unwrap();
    assert!(matches!(secrets.generate(&ek("main"), &context("one")).await, Err(Error::Malformed(_))));
    let broken = Fake::start(|_: &Asked| (200, "{\"KeyId\": ".into()));
    let answer = kms(&broken.0, "").generate(&ek("main"), &context("one")).await;
    assert!(matches!(answer, Err(Error::Malformed(_))), "{answer:?}");
}

#[tokio::test]
async fn each_refusal_is_what_it_means() {
    let refusals = [
        (400, "NotFoundException", "", Error::NoSuchKey(ek("main"))),
        (400, "DisabledException", "", Error::Disabled(ek("main"))),
        (400, "KMSInvalidStateException", "x is pending deletion.", Error::NoSuchKey(ek("main"))),
        (400, "KMSInvalidStateException", "x is pending import.", Error::Disabled(ek("main"))),
        (400, "KMSInvalidStateException", "x is unavailable.", Error::Unavailable(String::new())),
        (400, "IncorrectKeyException", "", Error::Malformed(String::new())),
        (400, "InvalidCiphertextException", "", Error::Malformed(String::new())),
        (400, "InvalidKeyUsageException", "", Error::Denied(String::new())),
        (400, "AccessDeniedException", "User is not authorized", Error::Denied(String::new())),
        (400, "ExpiredTokenException", "", Error::Denied(String::new())),
        (400, "UnrecognizedClientException", "", Error::Denied(String::new())),
        (400, "ThrottlingException", "", Error::Unavailable(String::new())),
        (400, "KeyUnavailableException", "", Error::Unavailable(String::new())),
        (500, "DependencyTimeoutException", "", Error::Unavailable(String::new())),
        (500, "KMSInternalException", "", Error::Unavailable(String::new())),
        (503, "Whatever", "", Error::Unavailable(String::new())),
        (429, "Whatever", "", Error::Unavailable(String::new())),
        (408, "Whatever", "", Error::Unavailable(String::new())),
    ];
    for (status, code, message, expected) in refusals {
        let fake =
            Fake::start(move |_: &Asked| (status, json!({ "__type": code, "message": message }).to_string()));
        let answer = kms(&fake.0, "").generate(&ek("main"), &context("one")).await.map(drop).unwrap_err();
        let same = std::mem::discriminant(&answer) == std::mem::discriminant(&expected);
        assert!(same, "{code}: {answer:?}");
        if matches!(code, "ExpiredTokenException" | "UnrecognizedClientException") {
            assert!(answer.to_string().contains("does not accept the credentials"), "{answer}");
        }
    }
}

/// Asks DescribeKey which state it is, whatever the words of the refusal.
#[tokio::test]
async fn a_state_is_asked_for() {
    for (state, expected) in [
        ("PendingDeletion", Error::NoSuchKey(ek("main"))),
        ("PendingReplicaDeletion", Error::NoSuchKey(ek("main"))),
        ("PendingImport", Error::Disabled(ek("main"))),
        ("Disabled", Error::Disabled(ek("main"))),
    ] {
        let fake = Fake::start(move |asked: &Asked| match asked.operation() {
            "DescribeKey" => (200, json!({ "KeyMetadata": { "KeyId": ID, "KeyState": state } }).to_string()),
            _ => (400, json!({ "__type": "KMSInvalidStateException", "message": "no" }).to_string()),
        });
        let answer = kms(&fake.0, "").generate(&ek("main"), &context("one")).await.map(drop);
        assert_eq!(answer, Err(expected), "{state}");
    }
}

/// Takes one access key and no other.
fn picky(access_key: &'static str) -> Fake {
    Fake::start(move |asked: &Asked| {
        if asked.header("authorization").contains(&format!("Credential={access_key}/")) {
            let key = [7; 32];
            let body = json!({
                "KeyId": arn(ID),
                "Plaintext": BASE64_STANDARD.encode(key),
                "CiphertextBlob": BASE64_STANDARD.encode([9; 184]),
                "Aliases": [{ "AliasName": "alias/main", "TargetKeyId": ID }],
                "KeyMetadata": { "KeyId": ID, "KeyState": "Enabled" },
            });
            return (200, body.to_string());
        }
        (
            400,
            json!({ "__type": "ExpiredTokenException", "message": "The security token is expired" })
                .to_string(),
        )
    })
}

#[tokio::test]
async fn credentials_that_change_in_their_files_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let [access, secret, token] = ["access", "secret", "token"].map(|name| directory.path().join(name));
    for (file, text) in [(&access, "AKIAOLD"), (&secret, "hidden"), (&token, "token")] {
        std::fs::write(file, text).unwrap();
    }
    let fake = picky("AKIANEW");
    let toml = format!(
        r#"
        kind = "aws-kms"
        region = "{REGION}"
        endpoint = "{}"
        credentials.access_key = {{ file = {access:?} }}
        credentials.secret_key = {{ file = {secret:?} }}
        credentials.session_token = {{ file = {token:?} }}
        "#,
        fake.0
    );
    let kms = build(&toml).unwrap();
    let generate = async || kms.generate(&ek("main"), &context("one")).await.map(drop);
    let Err(Error::Denied(why)) = generate().await else { panic!() };
    assert!(why.contains("does not accept the credentials") && why.contains("expired"), "{why}");
    assert!(!why.contains("hidden"));
    std::fs::write(&access, "AKIANEW\n").unwrap();
    assert_eq!(generate().await, Ok(()));
}

#[tokio::test]
async fn a_service_that_is_away_is_unavailable_at_once() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    for kind in ["aws-kms", "aws-secrets-manager"] {
        let kms = build(&settings(kind, &endpoint, "")).unwrap();
        let begun = Instant::now();
        let answer = kms.generate(&ek("main"), &context("one")).await;
        assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn k_11_tls_trusts_the_given_roots_alone() {
    let (right, wrong) = (certificate(), certificate());
    let server = or_skip!(moto_tls(&right));
    let directory = tempfile::tempdir().unwrap();
    let with = |name: &str, pem: String| {
        let file = directory.path().join(name);
        std::fs::write(&file, pem).unwrap();
        kms(&server.endpoint, &format!("ca_file = {file:?}"))
    };
    with("right", right.cert.pem()).create(&ek("main")).await.unwrap();
    for stranger in [with("wrong", wrong.cert.pem()), kms(&server.endpoint, "")] {
        let answer = stranger.generate(&ek("main"), &context("one")).await;
        let Err(Error::Unavailable(why)) = answer else { panic!("{answer:?}") };
        assert!(why.contains("certificate"), "{why}");
    }
}

#[test]
fn a_build_error_names_key_value_and_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let missing = Path::new("/no/such/file");
    let minimal = |kind: &str, more: &str| format!("kind = \"{kind}\"\nregion = \"{REGION}\"\n{more}");
    for (settings, parts) in [
        (
            minimal("aws-kms", "endpoint = 'http://kms:1'"),
            &["endpoint: 'http://kms:1'", "Write https://"][..],
        ),
        (minimal("aws-kms", &format!("ca_file = {empty:?}")), &["ca_file: ", "empty.pem", "Give PEM"]),
        (minimal("aws-kms", "keys = { main = 'main' }"), &["keys.main: 'main'", "Write the key's ARN"]),
        (minimal("aws-kms", "keys = { main = [] }"), &["keys.main: ", "empty", "Write"]),
        (minimal("aws-kms", "keys = { 'a/b' = 'alias/x' }"), &["not a key name"]),
        (minimal("aws-kms", "pending_window_in_days = 3"), &["pending_window_in_days: '3'", "Write 7 to 30"]),
        (
            minimal("aws-secrets-manager", "recovery_window_in_days = 31"),
            &["recovery_window_in_days: '31'", "7 to"],
        ),
        (minimal("aws-secrets-manager", "prefix = 'a b'"), &["prefix: 'a b'", "Use letters"]),
        (minimal("aws-kms", "prefix = 'x'"), &["unknown field `prefix`"]),
        (
            minimal(
                "aws-kms",
                &format!("credentials = {{ access_key = 'a', secret_key = {{ file = {missing:?} }} }}"),
            ),
            &["credentials.secret_key: ", "/no/such/file", "check that it exists"],
        ),
        (
            minimal("aws-kms", "profile = 'ops'\ncredentials = { access_key = 'a', secret_key = 'hidden' }"),
            &["profile: 'ops'", "Remove one"],
        ),
    ] {
        let error = build(&settings).err().expect(&settings);
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        assert!(!error.contains("hidden"), "{error}");
    }
}
