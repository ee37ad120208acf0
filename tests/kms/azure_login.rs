//! How s3veil logs in at Azure, and to whom it speaks: against a vault of the tests' own (`azure_vault`).

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::azure::{KEYS, SECRETS, denied, generate, kms, malformed, unavailable, with_key};
use crate::azure_vault::{Azure, CLIENT, IDENTITY_HEADER, TENANT};
use crate::common::{build, ek};

/// The next page of a list is asked for with the token, so it may not be elsewhere.
#[tokio::test]
async fn a_token_goes_to_no_other_host() {
    let azure = Azure::start().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let link = format!("https://{}/keys?api-version=1", elsewhere.local_addr().unwrap());
    for kind in [KEYS, SECRETS] {
        let kms = kms(&azure, kind, "");
        kms.create(&ek("a")).await.unwrap();
        let link = link.clone();
        azure.state().lie = Some(Box::new(move |_, answer| answer["nextLink"] = json!(link)));
        let listed = tokio::time::timeout(Duration::from_secs(5), kms.list()).await;
        malformed(listed.expect("it waits for nobody"), "which is not asked");
        azure.state().lie = None;
    }
    assert!(elsewhere.accept().is_err(), "nobody came");
}

#[tokio::test]
async fn one_login_serves_until_its_token_is_not_taken() {
    let azure = Azure::start().await;
    let secret = azure.directory.path().join("secret");
    std::fs::write(&secret, "right\n").unwrap();
    let kms = build(&format!(
        "{KEYS}{}tenant_id = {TENANT:?}\nclient_id = {CLIENT:?}\nclient_secret = {{ file = {secret:?} }}\n",
        azure.address()
    ))
    .unwrap();
    assert_eq!(azure.state().seen.len(), 0, "building asks nobody");
    let (a, b) = (ek("a"), ek("b"));
    let (one, two) = tokio::join!(kms.create(&a), kms.create(&b));
    assert_eq!((one, two), (Ok(()), Ok(())));
    for _ in 0..3 {
        generate(&*kms, "a").await.unwrap();
    }
    assert_eq!(azure.state().count("TOKEN"), 1);

    // Revoked: each call asks once more, and all those that were under way log in once.
    azure.state().revoke();
    let calls = (0..8).map(|_| generate(&*kms, "a"));
    for made in futures_util::future::join_all(calls).await {
        made.unwrap();
    }
    assert_eq!(azure.state().count("TOKEN"), 2);

    // No token is taken at all: two questions of the call, and an end.
    let asked = azure.state().count("GET /keys/a");
    azure.state().refuse = Some(("GET /keys/a", 401, ""));
    denied(generate(&*kms, "a").await, "401 Unauthorized");
    assert_eq!(azure.state().count("TOKEN"), 3);
    assert_eq!(azure.state().count("GET /keys/a"), asked + 2);
    azure.state().refuse = None;
    generate(&*kms, "a").await.unwrap();

    // Another secret: the file is read at the next login.
    azure.state().revoke();
    azure.state().password = "renewed".into();
    denied(generate(&*kms, "a").await, "AADSTS7000215: Invalid client secret provided.");
    std::fs::write(&secret, "renewed").unwrap();
    generate(&*kms, "a").await.unwrap();
}

#[tokio::test]
async fn a_workload_identity_shows_the_token_of_its_file() {
    let azure = Azure::start().await;
    let file = azure.directory.path().join("token");
    std::fs::write(&file, "right").unwrap();
    let kms = build(&format!(
        "{KEYS}{}tenant_id = {TENANT:?}\nclient_id = {CLIENT:?}\nfederated_token_file = {file:?}\n",
        azure.address()
    ))
    .unwrap();
    kms.create(&ek("a")).await.unwrap();
    azure.state().revoke();
    azure.state().password = "the-next".into();
    denied(generate(&*kms, "a").await, "AADSTS7000215");
    std::fs::write(&file, "the-next").unwrap();
    generate(&*kms, "a").await.unwrap();
}

/// `s3veil key list` as a process with an environment of its own, as the login with it needs one.
fn list(azure: &Azure, settings: &str, environment: &[(&str, &str)]) -> (bool, String) {
    let file = azure.directory.path().join("proxy.toml");
    let text = format!(
        "store.endpoint = \"http://127.0.0.1:1\"\nstore.region = \"x\"\n\
         store.credentials.default = {{ access_key = \"a\", secret_key = \"b\" }}\n\
         policy = [{{ bucket = \"*\", ek = \"a\" }}]\nauth.identities = []\n[kms.azure]\n{KEYS}{}{settings}",
        azure.address()
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_s3veil"));
    command.args(["key", "--config"]).arg(file).arg("list").env_clear().envs(environment.iter().copied());
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_managed_identity_and_the_chain_that_finds_it() {
    let azure = Azure::start().await;
    with_key(&azure).await;
    let endpoint = format!("{}/identity", azure.origin);
    let environment = [("IDENTITY_ENDPOINT", endpoint.as_str()), ("IDENTITY_HEADER", IDENTITY_HEADER)];
    let user = format!("auth = \"managed-identity\"\nclient_id = {CLIENT:?}\n");
    for (settings, seen) in [(user.as_str(), "IDENTITY true"), ("", "IDENTITY false")] {
        azure.state().seen.clear();
        let (done, text) = list(&azure, settings, &environment);
        assert!(done && text.contains('a'), "{text}");
        assert_eq!(azure.state().seen[0], seen);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_azure_cli_gives_a_token() {
    let azure = Azure::start().await;
    with_key(&azure).await;
    let token = azure.state().token();
    let az = azure.directory.path().join("az");
    let answer = json!({ "accessToken": token, "expires_on": 4_000_000_000_u64, "tokenType": "Bearer" });
    std::fs::write(&az, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
    std::fs::set_permissions(&az, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", azure.directory.path().display());
    let (done, text) = list(&azure, "auth = \"azure-cli\"\n", &[("PATH", &path)]);
    assert!(done && text.contains('a'), "{text}");
}

#[tokio::test]
async fn the_vault_asks_for_a_token_of_its_own_audience_only() {
    let azure = Azure::start().await;
    let settings = azure.settings();
    let kms = build(&format!("{KEYS}{settings}")).unwrap();
    azure.state().audience = "https://graph.microsoft.com".into();
    denied(kms.create(&ek("a")).await, "asks for a token for [\"https://graph.microsoft.com/.default\"]");
    assert_eq!(azure.state().count("TOKEN"), 0, "nobody logged in for it");
}

#[tokio::test]
async fn who_does_not_answer_or_has_another_certificate() {
    let azure = Azure::start().await;
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let begun = Instant::now();
    let settings = azure.settings().replacen(&azure.origin, &format!("https://{closed}"), 1);
    let down = build(&format!("{KEYS}{settings}")).unwrap();
    unavailable(generate(&*down, "a").await, &closed.to_string());
    assert!(begun.elapsed() < Duration::from_secs(3));

    let other = Azure::start().await;
    let settings = azure.settings().replace(azure.ca_file.to_str().unwrap(), other.ca_file.to_str().unwrap());
    let wary = build(&format!("{KEYS}{settings}")).unwrap();
    unavailable(generate(&*wary, "a").await, "certificate");
    assert_eq!(azure.state().seen.len(), 0);
}
