//! Logging in to Google: each kind of credentials, tokens that are kept, renewed and revoked, files that change.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use s3veil::kms::{Error, Kms};
use serde_json::{Value, json};

use crate::common::{build, ek};
use crate::google_server::{Google, RING};

fn settings(google: &Google, more: &str) -> String {
    format!("kind = 'google-kms'\nkey_ring = '{RING}'\nendpoint = '{}'\n{more}", google.endpoint)
}

fn with_file(google: &Google, file: &Path) -> Box<dyn Kms> {
    build(&settings(google, &format!("credentials = {{ file = '{}' }}", file.display()))).unwrap()
}

/// The JSON of gcloud's own login: the shortest that asks a token endpoint.
fn user(google: &Google, refresh_token: &str) -> String {
    json!({
        "type": "authorized_user",
        "client_id": "id",
        "client_secret": "secret",
        "refresh_token": refresh_token,
        "token_uri": format!("{}/token", google.endpoint),
    })
    .to_string()
}

fn logins(google: &Google) -> Vec<String> {
    google.with(|world| world.logins.clone())
}

#[tokio::test]
async fn google_token_is_fetched_once_kept_and_fetched_again_when_it_is_revoked() {
    let google = Google::start().await;
    let kms = build(&settings(&google, &format!("credentials = '{}'", user(&google, "r1")))).unwrap();
    assert!(logins(&google).is_empty(), "nobody logs in before the first use");
    let (one, two) = tokio::join!(kms.list(), kms.list());
    assert_eq!((one, two), (Ok(vec![]), Ok(vec![])));
    kms.create(&ek("a")).await.unwrap();
    assert_eq!(logins(&google), ["r1"]);
    assert!(google.with(|world| world.bearers.iter().all(|bearer| bearer == "Bearer token-1")));

    google.with(|world| world.accepted = Some("another".into()));
    assert_eq!(kms.list().await, Ok(vec![ek("a")]), "a revoked token is replaced unseen");
    assert_eq!(logins(&google), ["r1", "r1"]);

    // Google takes no token at all: two questions, and an end.
    google.refuse("/cryptoKeys", 401, "UNAUTHENTICATED", "no");
    assert!(matches!(kms.list().await, Err(Error::Denied(_))));
    google.with(|world| world.twist = None);
    assert_eq!(kms.list().await, Ok(vec![ek("a")]));
}

/// Those that are refused with the old token leave alone the session that one of them has begun.
#[tokio::test]
async fn google_token_that_is_revoked_under_many_calls_is_replaced_once() {
    let google = Google::start().await;
    let kms = build(&settings(&google, &format!("credentials = '{}'", user(&google, "r1")))).unwrap();
    assert_eq!(kms.list().await, Ok(vec![]));
    google.with(|world| world.accepted = Some("another".into()));
    let answers = futures_util::future::join_all((0..16).map(|_| kms.list())).await;
    assert_eq!(answers, vec![Ok(vec![]); 16]);
    let old = google.with(|world| world.bearers.iter().filter(|bearer| *bearer == "Bearer token-1").count());
    assert!(old > 2, "several were under way: {old}");
    assert_eq!(logins(&google).len(), 2);
}

#[tokio::test]
async fn google_token_that_runs_out_is_renewed() {
    let google = Google::start().await;
    google.with(|world| world.token_life = 1);
    let kms = build(&settings(&google, &format!("credentials = '{}'", user(&google, "r1")))).unwrap();
    assert_eq!(kms.list().await, Ok(vec![]));
    // Google's client renews a token this short ten seconds after it got it; who asks meanwhile waits for that.
    let start = Instant::now();
    while logins(&google).len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(kms.list().await, Ok(vec![]));
    }
    assert_eq!(google.with(|world| world.bearers.last().cloned()).as_deref(), Some("Bearer token-2"));
}

/// Google's client would remember the refusal for good.
#[tokio::test]
async fn google_login_that_was_refused_is_tried_again() {
    let google = Google::start().await;
    let kms = build(&settings(&google, &format!("credentials = '{}'", user(&google, "r1")))).unwrap();
    for (status, denied) in [(401, true), (400, true), (503, false), (429, false)] {
        google.with(|world| world.token_status = status);
        match kms.list().await {
            Err(Error::Denied(why)) => assert!(denied && !why.contains("secret"), "{status}: {why}"),
            Err(Error::Unavailable(why)) => assert!(!denied, "{status}: {why}"),
            other => panic!("{status}: {other:?}"),
        }
    }
    assert!(google.with(|world| world.bearers.is_empty()));
    google.with(|world| world.token_status = 0);
    assert_eq!(kms.list().await, Ok(vec![]), "without a restart");
}

/// Google's client waits for a token without an end; whoever gives up must not leave that to the next.
#[tokio::test]
async fn google_login_that_hangs_is_given_up_with_the_call() {
    let google = Google::start().await;
    google.with(|world| world.hang = true);
    let kms = build(&settings(&google, &format!("credentials = '{}'", user(&google, "r1")))).unwrap();
    for _ in 0..2 {
        assert!(tokio::time::timeout(Duration::from_millis(100), kms.list()).await.is_err());
    }
    google.with(|world| world.hang = false);
    assert_eq!(kms.list().await, Ok(vec![]));
}

#[tokio::test]
async fn google_credentials_are_taken_anew_when_their_file_changes() {
    let google = Google::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("google.json");
    let put = |text: &str| {
        let beside = dir.path().join("beside");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, &file).unwrap();
    };
    put(&user(&google, "r1"));
    let kms = with_file(&google, &file);
    for _ in 0..2 {
        assert_eq!(kms.list().await, Ok(vec![]));
    }
    put(&user(&google, "r2"));
    assert_eq!(kms.list().await, Ok(vec![]));
    put("half a fi");
    assert_eq!(kms.list().await, Ok(vec![]), "the last good one stays");
    assert_eq!(logins(&google), ["r1", "r2"]);
}

/// Workload identity federation: a token of another system's, in a file, is exchanged for one of Google's.
#[tokio::test]
async fn google_takes_the_identity_of_another_system() {
    let google = Google::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (subject, file) = (dir.path().join("subject"), dir.path().join("google.json"));
    fs::write(&subject, "eyJ.of-kubernetes").unwrap();
    let audience =
        "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider";
    let json = json!({
        "type": "external_account",
        "audience": audience,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("{}/token", google.endpoint),
        "credential_source": { "file": subject },
    });
    fs::write(&file, json.to_string()).unwrap();
    let kms = with_file(&google, &file);
    assert_eq!(kms.list().await, Ok(vec![]));
    assert_eq!(logins(&google), ["eyJ.of-kubernetes"]);
    assert_eq!(google.with(|world| world.bearers.clone()), ["Bearer token-1"]);
}

/// A service account's key signs its own tokens (RFC 7519 and 7523): no token endpoint is asked.
#[tokio::test]
async fn google_service_account_signs_its_own_token() {
    let google = Google::start().await;
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der = key.as_der().unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        BASE64_STANDARD.encode(der.as_ref())
    );
    let json = json!({
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "key-1",
        "private_key": pem,
        "client_email": "s3veil@p.iam.gserviceaccount.com",
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("google.json");
    fs::write(&file, json.to_string()).unwrap();
    let kms = with_file(&google, &file);
    for _ in 0..2 {
        assert_eq!(kms.list().await, Ok(vec![]));
    }
    assert!(logins(&google).is_empty());
    let bearers = google.with(|world| world.bearers.clone());
    assert_eq!(bearers[0], bearers[1], "one token for both");
    let token = bearers[0].strip_prefix("Bearer ").unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref())
        .verify(signed.as_bytes(), &BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap())
        .expect("signed with RS256");
    let claims = BASE64_URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["iss"], "s3veil@p.iam.gserviceaccount.com");
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/cloud-platform");
}

/// The real program on a machine at Google: without any credentials, it asks the metadata server.
#[tokio::test(flavor = "multi_thread")]
async fn google_metadata_server_gives_the_program_its_token() {
    let google = Google::start().await;
    let dir = tempfile::tempdir().unwrap();
    let key = |arguments: &[&str]| -> Output {
        let config = dir.path().join("proxy.toml");
        fs::write(&config, format!("[kms.google]\n{}", settings(&google, ""))).unwrap();
        Command::new(env!("CARGO_BIN_EXE_s3veil"))
            .args(["key", "--config", config.to_str().unwrap()])
            .args(arguments)
            .env_clear()
            .env("HOME", dir.path())
            .env("GCE_METADATA_HOST", google.endpoint.trim_start_matches("http://"))
            .output()
            .unwrap()
    };
    let created = key(&["create", "main"]);
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    assert_eq!(logins(&google), ["metadata"]);
    assert_eq!(google.with(|world| world.bearers.clone()), ["Bearer token-1"]);

    google.with(|world| world.token_status = 404);
    let refused = key(&["list"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("refuses access"), "{refused:?}");
}
