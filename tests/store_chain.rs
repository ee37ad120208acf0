//! Store credentials by AWS's chain: the real program, with an environment of the test's making.

#[allow(dead_code)] // The KMSs' tests use the rest.
#[path = "kms/aws_server.rs"]
mod aws_server;
#[path = "support/servers.rs"]
mod servers;
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_server::{Asked, Fake};
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::json;
use support::client::{get, put, send};
use support::memory::{Fault, MemoryStore, Seen};
use support::program::Program;
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const NO_INSTANCE: (&str, &str) = ("AWS_EC2_METADATA_DISABLED", "true");

/// What a pod's credentials are asked of: each answer has credentials of its own, `t1`, `t2`, ..., that hold for a while.
struct Agent {
    fake: Fake,
    away: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    refusals: Arc<AtomicUsize>,
}

impl Agent {
    fn start(life: Duration) -> Self {
        let (away, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let refusals = Arc::<AtomicUsize>::default();
        let (is_away, count, refused) = (away.clone(), answers.clone(), refusals.clone());
        let fake = Fake::start(move |_: &Asked| {
            if is_away.load(Ordering::SeqCst) {
                refused.fetch_add(1, Ordering::SeqCst);
                return (503, String::new());
            }
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            let end = (OffsetDateTime::now_utc() + life).format(&Rfc3339).unwrap();
            let body = json!({
                "AccessKeyId": "ASIAPOD", "SecretAccessKey": "very-hidden", "Token": format!("t{number}"), "Expiration": end,
            });
            (200, body.to_string())
        });
        Self { fake, away, answers, refusals }
    }

    fn environment(&self) -> [(&'static str, String); 2] {
        let uri = format!("{}/creds", self.fake.0);
        [("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri), (NO_INSTANCE.0, NO_INSTANCE.1.to_owned())]
    }

    fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn answers(&self) -> usize {
        self.answers.load(Ordering::SeqCst)
    }
}

async fn configure(directory: &Path, store: &MemoryStore, credentials: &str, more: &str) -> PathBuf {
    let inside = format!("endpoint = \"{}\", credentials.default = {{ {credentials} }}", store.endpoint);
    Program::configure(directory, &inside, more).await
}

fn token(seen: &Seen) -> &str {
    seen.headers.get("x-amz-security-token").map(|token| token.to_str().unwrap()).unwrap_or_default()
}

fn signer(seen: &Seen) -> &str {
    let signature = seen.headers["authorization"].to_str().unwrap();
    signature.split_once("Credential=").unwrap().1.split('/').next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_renewed_ahead_of_their_end() {
    let (store, home) = (MemoryStore::start().await, TempDir::new().unwrap());
    let agent = Agent::start(Duration::from_secs(4));
    let configuration = configure(home.path(), &store, "chain = true", "").await;
    let program = Program::start_with(&configuration, Program::free_address(), &agent.environment());
    let address = program.address;
    assert_eq!(agent.answers(), 0, "nobody is asked before credentials are needed");

    // All who come at first share one question.
    let puts = (0..20).map(|at| async move { put(address, &format!("/b/k{at}"), b"x").await.status });
    for status in join_all(puts).await {
        assert_eq!(status, StatusCode::OK, "{}", program.log());
    }
    assert_eq!(agent.answers(), 1);
    let seen = store.take_seen();
    assert!(!seen.is_empty() && seen.iter().all(|seen| (signer(seen), token(seen)) == ("ASIAPOD", "t1")));

    // More than two lives of them, and no request fails.
    let begun = Instant::now();
    let mut tokens = BTreeSet::new();
    while begun.elapsed() < Duration::from_secs(9) {
        let reply = get(address, "/b/k0").await;
        assert_eq!(reply.status, StatusCode::OK, "{}", program.log());
        tokens.extend(store.take_seen().iter().map(|seen| token(seen).to_owned()));
    }
    assert!(tokens.len() >= 3, "{tokens:?}");
    assert!(agent.answers() <= 5, "{} answers in 9 s", agent.answers());
    assert!(!program.log().contains("very-hidden"));
}

/// Its end is what counts, and not whether more can be had.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_away_does_not_matter_before_the_end_and_may_come_back() {
    let (store, home) = (MemoryStore::start().await, TempDir::new().unwrap());
    let agent = Agent::start(Duration::from_secs(4));
    let admin = Program::free_address();
    let configuration =
        configure(home.path(), &store, "chain = true", &format!("admin.listen = \"{admin}\"")).await;
    let program = Program::start_with(&configuration, Program::free_address(), &agent.environment());
    let address = program.address;
    assert_eq!(put(address, "/b/k", b"x").await.status, StatusCode::OK);
    agent.set_away(true);

    let got = Instant::now();
    let refused = loop {
        let reply = get(address, "/b/k").await;
        if reply.status != StatusCode::OK {
            break reply;
        }
        assert!(got.elapsed() < Duration::from_secs(20), "credentials are used after their end");
    };
    assert!(got.elapsed() > Duration::from_millis(3500), "{:?}", got.elapsed());
    assert_eq!((refused.status.as_u16(), &*refused.code()), (503, "ServiceUnavailable"));
    assert_eq!(refused.header("retry-after"), "2");
    let document = String::from_utf8_lossy(refused.bytes()).into_owned();
    assert!(document.contains("no credentials for the store") && !document.contains("chain"), "{document}");
    program.logged("no credentials for the store ('default'): no AWS credentials now", 1).await;
    assert_eq!(agent.answers(), 1);
    assert!(store.take_seen().iter().all(|seen| token(seen) == "t1"));
    // Many requests don't ask as often: there is a pause after each failure.
    let many = join_all((0..50).map(|_| get(address, "/b/k"))).await;
    assert!(many.iter().all(|reply| reply.status.as_u16() == 503));
    let refusals = agent.refusals.load(Ordering::SeqCst);
    assert!((1..=5).contains(&refusals), "{refusals} questions in {:?}", got.elapsed());
    assert!(store.take_seen().is_empty());

    // What was heard of the store counts for 5 s.
    let ready = |status: u16, words: &'static str| async move {
        let begun = Instant::now();
        loop {
            let page = send(admin, "GET", "/readyz", &[], b"").await;
            let text = String::from_utf8_lossy(page.bytes()).into_owned();
            if page.status.as_u16() == status && text.contains(words) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "no {status} '{words}': {text}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    ready(503, "store.credentials.default.chain: no AWS credentials now").await;
    agent.set_away(false);
    ready(200, "ok").await;
    assert_eq!(get(address, "/b/k").await.status, StatusCode::OK);
    assert!(store.take_seen().iter().all(|seen| token(seen) == "t2"));
    assert!(!program.log().contains("very-hidden"));
}

/// What EKS gives a pod with a role, without AWS_REGION: the token service is that of the store's region.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_by_web_identity_and_one_from_there() {
    let (store, home) = (MemoryStore::start().await, TempDir::new().unwrap());
    let sts = Fake::start(|asked: &Asked| {
        let web = asked.body.contains("Action=AssumeRoleWithWebIdentity");
        let (kind, key) =
            if web { ("AssumeRoleWithWebIdentity", "ASIAWEB") } else { ("AssumeRole", "ASIAROLE") };
        // Each asks with what it should.
        let good = if web {
            asked.body.contains("WebIdentityToken=a.token.of-the-cluster")
        } else {
            asked.header("authorization").contains("Credential=ASIAWEB/")
                && asked.header("authorization").contains("/eu-north-1/sts/")
                && asked.body.contains("ExternalId=x1")
        };
        if !good {
            return (403, "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>".into());
        }
        let xml = format!(
            "<{kind}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{kind}Result><Credentials>\
             <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>very-hidden</SecretAccessKey>\
             <SessionToken>token-of-{key}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
             <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId>\
             </AssumedRoleUser></{kind}Result></{kind}Response>"
        );
        (200, xml)
    });
    let token_file = home.path().join("token");
    std::fs::write(&token_file, "a.token.of-the-cluster").unwrap();
    let environment = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token_file.display().to_string()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/s3veil".to_owned()),
        ("AWS_ENDPOINT_URL_STS", sts.0.clone()),
        (NO_INSTANCE.0, NO_INSTANCE.1.to_owned()),
    ];
    let role = "assume_role = { role_arn = \"arn:aws:iam::123456789012:role/store\", external_id = \"x1\" }";
    for (more, key) in [("", "ASIAWEB"), (role, "ASIAROLE")] {
        let credentials =
            if more.is_empty() { "chain = true".to_owned() } else { format!("chain = true, {more}") };
        let inside = format!(
            "endpoint = \"{}\", region = \"eu-north-1\", credentials.default = {{ {credentials} }}",
            store.endpoint
        );
        let configuration = Program::configure(home.path(), &inside, "").await;
        let program = Program::start_with(&configuration, Program::free_address(), &environment);
        assert_eq!(put(program.address, "/b/k", b"x").await.status, StatusCode::OK, "{}", program.log());
        let seen = store.take_seen();
        assert!(!seen.is_empty());
        for seen in seen {
            assert_eq!((signer(&seen), token(&seen)), (key, &*format!("token-of-{key}")));
            assert!(seen.headers["authorization"].to_str().unwrap().contains("/eu-north-1/s3/"));
        }
        std::fs::remove_dir_all(home.path().join("keys")).unwrap();
    }
}

fn check(configuration: &Path, environment: &[(&str, &str)]) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_s3veil"));
    command.args(["config", "check", "--config", configuration.to_str().unwrap()]);
    let home = configuration.parent().unwrap();
    command.env_clear().env("HOME", home).current_dir(home).envs(environment.iter().copied());
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn config_check_says_what_the_chain_lacks() {
    let (store, home) = (MemoryStore::start().await, TempDir::new().unwrap());
    let configuration = configure(home.path(), &store, "chain = true", "").await;
    let why = check(&configuration, &[NO_INSTANCE]).unwrap_err();
    let says =
        "store.credentials.default.chain: no AWS credentials were found; give this machine or pod a role";
    assert!(why.contains(says), "{why}");
    let nobody = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1");
    let why = check(&configuration, &[nobody]).unwrap_err();
    assert!(why.contains("the metadata service does not answer"), "{why}");
    assert!(store.take_seen().is_empty());

    let keys = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "s"), NO_INSTANCE];
    check(&configuration, &keys).unwrap();
    assert_eq!(
        store.take_seen().iter().map(|seen| (signer(seen), token(seen))).collect::<Vec<_>>(),
        [("AKIAENV", "")]
    );
    // What the store says of them is not for keys of the configuration.
    store.fail_next(Fault::Refuse("ExpiredToken"));
    let why = check(&configuration, &keys).unwrap_err();
    assert!(why.contains("ExpiredToken") && why.contains("aws sts get-caller-identity"), "{why}");
    store.take_seen();

    // The setting comes from the environment, too.
    let text = std::fs::read_to_string(&configuration).unwrap();
    std::fs::write(&configuration, text.replace("chain = true", "profile = \"ops\"")).unwrap();
    let credentials = home.path().join("credentials");
    std::fs::write(&credentials, "[ops]\naws_access_key_id = AKIAOPS\naws_secret_access_key = s\n").unwrap();
    let profile = ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().unwrap());
    let chain = ("S3VEIL_STORE__CREDENTIALS__DEFAULT__CHAIN", "true");
    check(&configuration, &[profile, chain, NO_INSTANCE]).unwrap();
    assert_eq!(store.take_seen().iter().map(signer).collect::<Vec<_>>(), ["AKIAOPS"]);
    let why = check(&configuration, &[profile, NO_INSTANCE]).unwrap_err();
    assert!(
        why.contains("proxy.toml: store.credentials.default.profile: 'ops' is for AWS's chain alone"),
        "{why}"
    );
}
