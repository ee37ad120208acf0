//! Where credentials come from: the real program, with an environment of the test's making.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tempfile::TempDir;

use crate::aws_server::{Asked, Fake, REGION, moto};
use crate::servers;

/// An AWS KMS with one EK, and who signed what it was last asked.
struct Kms {
    fake: Fake,
    signer: Arc<Mutex<(String, String)>>,
}

fn kms() -> Kms {
    let signer = Arc::new(Mutex::new(Default::default()));
    let seen = signer.clone();
    let fake = Fake::start(move |asked: &Asked| {
        let key =
            asked.header("authorization").split("Credential=").nth(1).unwrap().split('/').next().unwrap();
        *seen.lock().unwrap() = (key.to_owned(), asked.header("x-amz-security-token").to_owned());
        let body = json!({
            "Aliases": [{ "AliasName": "alias/main", "TargetKeyId": "x" }],
            "KeyMetadata": { "KeyId": "x", "KeyState": "Enabled" },
        });
        (200, body.to_string())
    });
    Kms { fake, signer }
}

impl Kms {
    /// `s3veil key list` in this environment alone: what it printed, or its complaint.
    fn list(&self, directory: &Path, more: &str, environment: &[(&str, &str)]) -> Result<String, String> {
        list(directory, &format!("endpoint = \"{}\"\n{more}", self.fake.0), environment)
    }

    fn signer(&self) -> (String, String) {
        self.signer.lock().unwrap().clone()
    }
}

fn list(directory: &Path, settings: &str, environment: &[(&str, &str)]) -> Result<String, String> {
    let file = directory.join("proxy.toml");
    std::fs::write(&file, format!("[kms.aws]\nkind = \"aws-kms\"\n{settings}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_s3veil"));
    command.args(["key", "--config", file.to_str().unwrap(), "list"]);
    command.env_clear().env("HOME", directory).current_dir(directory).envs(environment.iter().copied());
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn file(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let file = directory.path().join(name);
    std::fs::write(&file, text).unwrap();
    file
}

const NO_INSTANCE: (&str, &str) = ("AWS_EC2_METADATA_DISABLED", "true");

#[test]
fn the_environment_and_profiles() {
    let (kms, home) = (kms(), TempDir::new().unwrap());
    let keys = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_REGION", REGION)];
    let listed = kms.list(home.path(), "", &keys).unwrap();
    assert!(listed.starts_with("main ") && listed.contains("enabled"), "{listed}");
    assert_eq!(kms.signer(), ("AKIAENV".into(), String::new()));

    let credentials =
        "[ops]\naws_access_key_id = AKIAOPS\naws_secret_access_key = s\naws_session_token = t\n";
    let credentials = file(&home, "credentials", credentials);
    let config = file(&home, "config", &format!("[profile ops]\nregion = {REGION}\n"));
    let files = [
        ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().unwrap()),
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
    ];
    kms.list(home.path(), "profile = \"ops\"", &files).unwrap();
    assert_eq!(kms.signer(), ("AKIAOPS".into(), "t".into()));
}

/// A variable that is set for an S3 store does not carry keys there: AWS's own endpoint is asked, by the proxy if there
/// is one. Here nobody answers for it.
#[test]
fn the_environment_does_not_move_the_service() {
    let (kms, home) = (kms(), TempDir::new().unwrap());
    let environment = [
        ("AWS_ACCESS_KEY_ID", "AKIAENV"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_REGION", REGION),
        ("AWS_ENDPOINT_URL", &*kms.fake.0),
        ("AWS_ENDPOINT_URL_KMS", &*kms.fake.0),
        ("HTTPS_PROXY", "http://127.0.0.1:1"),
    ];
    let why = list(home.path(), "", &environment).unwrap_err();
    assert!(why.contains("the KMS is not available"), "{why}");
    assert_eq!(kms.signer(), Default::default());
}

/// What EKS gives a pod with a role: a token file and the role's name.
#[test]
fn k_09_a_role_by_web_identity() {
    let moto = match moto() {
        Ok(moto) => moto,
        Err(why) => return servers::skip(&why),
    };
    let (kms, home) = (kms(), TempDir::new().unwrap());
    let token = file(&home, "token", "a.token.of-the-cluster");
    let environment = [
        ("AWS_REGION", REGION),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/s3veil"),
        ("AWS_ENDPOINT_URL_STS", &moto.endpoint),
        NO_INSTANCE,
    ];
    kms.list(home.path(), "", &environment).unwrap();
    let (key, token) = kms.signer();
    assert!(key.starts_with("ASIA") && !token.is_empty(), "{key}");

    // And from there to another role, or from credentials of the configuration.
    let role = "assume_role = { role_arn = \"arn:aws:iam::123456789012:role/kms\", external_id = \"x1\" }";
    kms.list(home.path(), role, &environment).unwrap();
    let (other, _) = kms.signer();
    assert!(other.starts_with("ASIA") && other != key);
    let fixed = format!(
        "region = \"{REGION}\"\ncredentials = {{ access_key = \"AKIA\", secret_key = \"s\" }}\n{role}"
    );
    kms.list(home.path(), &fixed, &[("AWS_ENDPOINT_URL_STS", &moto.endpoint)]).unwrap();
    assert!(kms.signer().0.starts_with("ASIA"));
}

/// A token service that refuses, or is not there.
#[test]
fn a_role_that_is_refused_is_not_one_that_can_not_be_asked_for() {
    let (kms, home) = (kms(), TempDir::new().unwrap());
    let refuses = Fake::start(|_: &Asked| {
        let xml = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>";
        (403, xml.to_owned())
    });
    let role = format!(
        "region = \"{REGION}\"\nassume_role = {{ role_arn = \"arn:aws:iam::1:role/x\" }}\n\
         credentials = {{ access_key = \"AKIA\", secret_key = \"hidden\" }}"
    );
    for (endpoint, says) in [
        (&*refuses.0, "the KMS refuses access: no AWS credentials"),
        ("http://127.0.0.1:1", "the KMS is not available: no AWS credentials now"),
    ] {
        let why = kms.list(home.path(), &role, &[("AWS_ENDPOINT_URL_STS", endpoint)]).unwrap_err();
        assert!(why.contains(says) && !why.contains("hidden"), "{why}");
    }
}

/// ECS, and EKS Pod Identity with its token.
#[test]
fn k_09_a_container() {
    let (kms, home) = (kms(), TempDir::new().unwrap());
    let agent = Fake::start(|asked: &Asked| {
        let known = asked.line == "GET /creds" && asked.header("authorization") == "a-token";
        let body = json!({
            "AccessKeyId": "ASIAPOD", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z",
        });
        if known { (200, body.to_string()) } else { (401, String::new()) }
    });
    let token = file(&home, "token", "a-token");
    let environment = [
        ("AWS_REGION", REGION),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/creds", agent.0)),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap()),
        NO_INSTANCE,
    ];
    kms.list(home.path(), "", &environment).unwrap();
    assert_eq!(kms.signer(), ("ASIAPOD".into(), "t".into()));
}

/// EC2's instance metadata, version 2: a token first. The region is found there too.
#[test]
fn k_09_an_instance() {
    const ROLE: &str = "/latest/meta-data/iam/security-credentials";
    let (kms, home) = (kms(), TempDir::new().unwrap());
    let metadata = Fake::start(|asked: &Asked| {
        if asked.line == "PUT /latest/api/token" {
            return (200, "session".into());
        }
        if asked.header("x-aws-ec2-metadata-token") != "session" {
            return (401, String::new());
        }
        match asked.line.strip_prefix("GET ").unwrap().trim_end_matches('/') {
            "/latest/meta-data/placement/region" => (200, REGION.into()),
            path if path.ends_with("/s3veil-role") => (
                200,
                json!({
                    "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z",
                    "AccessKeyId": "ASIAEC2", "SecretAccessKey": "s", "Token": "t",
                    "Expiration": "2099-01-01T00:00:00Z",
                })
                .to_string(),
            ),
            path if path.starts_with(ROLE) => (200, "s3veil-role".into()),
            _ => (404, String::new()),
        }
    });
    kms.list(home.path(), "", &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.0)]).unwrap();
    assert_eq!(kms.signer(), ("ASIAEC2".into(), "t".into()));
}

/// An instance's credentials may come back, and so does the service.
#[test]
fn a_metadata_service_that_is_away_is_not_one_that_is_not_there() {
    let (kms, home) = (kms(), TempDir::new().unwrap());
    let away = [("AWS_REGION", REGION), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")];
    let why = kms.list(home.path(), "", &away).unwrap_err();
    assert!(why.contains("the KMS is not available: no AWS credentials now"), "{why}");
    assert!(why.contains("set `credentials` or `profile`, and AWS_EC2_METADATA_DISABLED=true"), "{why}");
    let off = [away[0], away[1], NO_INSTANCE];
    let why = kms.list(home.path(), "", &off).unwrap_err();
    assert!(why.contains("the KMS refuses access: no AWS credentials were found"), "{why}");
}

/// AWS's chain keeps what it has found. Once that is refused, it looks again.
#[test]
fn refused_credentials_are_looked_for_anew() {
    let home = TempDir::new().unwrap();
    let profile = |key: &str| format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = s\n");
    let credentials = file(&home, "credentials", &profile("AKIAOLD"));
    let changed = credentials.clone();
    // The credentials are changed after the first question, which is for the list.
    let fake = Fake::start(move |asked: &Asked| {
        let new = asked.header("authorization").contains("AKIANEW");
        if asked.operation() == "ListAliases" {
            let aliases = ["alias/a", "alias/b"].map(|name| json!({ "AliasName": name, "TargetKeyId": "x" }));
            (200, json!({ "Aliases": aliases }).to_string())
        } else if new {
            (200, json!({ "KeyMetadata": { "KeyId": "x", "KeyState": "Enabled" } }).to_string())
        } else {
            std::fs::write(&changed, profile("AKIANEW")).unwrap();
            (400, json!({ "__type": "ExpiredTokenException", "message": "expired" }).to_string())
        }
    });
    let kms = Kms { fake, signer: Arc::default() };
    let file = credentials.to_str().unwrap();
    let environment = [("AWS_REGION", REGION), ("AWS_SHARED_CREDENTIALS_FILE", file), NO_INSTANCE];
    let why = kms.list(home.path(), "", &environment).unwrap_err();
    // One of the two could not be described, and the other could.
    assert_eq!(why.matches("expired").count(), 2, "{why}");
    let listed = kms.list(home.path(), "", &environment).unwrap();
    assert!(listed.contains("a ") && listed.contains("b "), "{listed}");
}

#[test]
fn without_credentials_or_region_it_says_what_to_do() {
    let (kms, home) = (kms(), TempDir::new().unwrap());
    let why = kms.list(home.path(), "", &[("AWS_REGION", REGION), NO_INSTANCE]).unwrap_err();
    assert!(why.contains("no AWS credentials were found; set `credentials` or `profile`"), "{why}");
    let role = "assume_role = { role_arn = \"arn:aws:iam::123456789012:role/kms\" }";
    let why = kms.list(home.path(), role, &[("AWS_REGION", REGION), NO_INSTANCE]).unwrap_err();
    assert!(why.contains("the KMS refuses access: no AWS credentials were found"), "{why}");
    let why = kms.list(home.path(), "", &[NO_INSTANCE]).unwrap_err();
    assert!(why.contains("no region is known. Write region"), "{why}");
}
