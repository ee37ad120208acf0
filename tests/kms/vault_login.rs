//! How s3veil logs in to Vault and OpenBao, and keeps its token.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use s3veil::kms::{Error, Kms};
use serde_json::json;

use crate::common::{build, context, ek};
use crate::vault_server::{Bao, client_token, documented, fake, shared};

/// A transit engine with the EK `a`, the policy of this name for it, and the KMS there.
fn prepared(bao: &Bao, name: &str) {
    bao.mount_transit(name);
    bao.root("POST", &format!("{name}/keys/a"), json!({}));
    bao.policy(name, &documented("s3veil-transit", "transit", name));
}

fn kms(bao: &Bao, mount: &str, rest: &str) -> Box<dyn Kms> {
    let endpoint = format!("http://127.0.0.1:{}", bao.port);
    build(&format!("kind = 'vault-transit'\nendpoint = '{endpoint}'\nmount = '{mount}'\n{rest}")).unwrap()
}

async fn used(kms: &dyn Kms) -> Result<(), Error> {
    kms.generate(&ek("a"), &context("one")).await.map(|_| ())
}

/// As careful agents do it: another file in its place.
fn put(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, file).unwrap();
}

fn role(policy: &str, ttl: &str, max: &str) -> serde_json::Value {
    json!({ "token_policies": [policy], "token_no_default_policy": true, "token_ttl": ttl, "token_max_ttl": max })
}

#[tokio::test]
async fn approle_logs_in_once_and_again_after_a_revocation() {
    let bao = or_skip!(shared());
    prepared(bao, "l-approle");
    let (id, secret) = bao.app_role("l-approle", role("l-approle", "1h", "1h"));
    let auth = format!("method = 'approle', mount = 'l-approle', role_id = '{id}', secret_id = '{secret}'");
    let kms = kms(bao, "l-approle", &format!("auth = {{ {auth} }}"));
    assert_eq!(bao.logins("l-approle"), 0, "nothing is contacted before the first use");
    let all = || async { join_all((0..16).map(|_| used(kms.as_ref()))).await };
    assert!(all().await.iter().all(Result::is_ok));
    assert_eq!(bao.logins("l-approle"), 1, "all shared one login");
    bao.revoke_all("l-approle");
    assert_eq!(bao.logins("l-approle"), 0);
    let answers = all().await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(bao.logins("l-approle"), 1, "all shared one login");
}

/// A call that the policy refuses does not cost a login.
#[tokio::test]
async fn a_refusal_by_policy_keeps_the_token() {
    let bao = or_skip!(shared());
    prepared(bao, "l-policy");
    let (id, secret) = bao.app_role("l-policy", role("l-policy", "1h", "1h"));
    let auth = format!("method = 'approle', mount = 'l-policy', role_id = '{id}', secret_id = '{secret}'");
    let kms = kms(bao, "l-policy", &format!("auth = {{ {auth} }}"));
    for _ in 0..3 {
        let answer = kms.create(&ek("b")).await;
        assert!(matches!(answer, Err(Error::Denied(_))), "{answer:?}");
    }
    assert_eq!(bao.logins("l-policy"), 1);
}

#[tokio::test]
async fn a_changed_secret_id_is_taken_at_the_next_login() {
    let bao = or_skip!(shared());
    prepared(bao, "l-file");
    let (id, secret) = bao.app_role("l-file", role("l-file", "1h", "1h"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret-id");
    put(&file, "wrong");
    let auth = format!(
        "method = 'approle', mount = 'l-file', role_id = '{id}', secret_id = {{ file = '{}' }}",
        file.display()
    );
    let kms = kms(bao, "l-file", &format!("auth = {{ {auth} }}"));
    let answer = used(kms.as_ref()).await;
    assert!(matches!(&answer, Err(Error::Denied(why)) if why.contains("login is refused")), "{answer:?}");
    assert!(!format!("{answer:?}").contains(&id));
    put(&file, &format!("{secret}\n"));
    assert_eq!(used(kms.as_ref()).await, Ok(()));
}

#[tokio::test]
async fn a_given_token_is_taken_from_its_file_as_it_is_now() {
    let bao = or_skip!(shared());
    prepared(bao, "l-given");
    let new = || {
        let body = json!({ "policies": ["l-given"], "no_default_policy": true, "ttl": "1h" });
        client_token(&bao.root("POST", "auth/token/create", body))
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let first = new();
    put(&file, &format!("{first}\n"));
    let kms = kms(
        bao,
        "l-given",
        &format!("auth = {{ method = 'token', token = {{ file = '{}' }} }}", file.display()),
    );
    assert_eq!(used(kms.as_ref()).await, Ok(()));
    bao.root("POST", "auth/token/revoke", json!({ "token": first }));
    for _ in 0..2 {
        let answer = used(kms.as_ref()).await;
        assert!(matches!(answer, Err(Error::Denied(_))), "{answer:?}");
        assert!(!format!("{answer:?}").contains(&first));
    }
    put(&file, &new());
    assert_eq!(used(kms.as_ref()).await, Ok(()));
}

/// Three ways to outlive the lease, on one clock: nothing but a renewal saves a given token; a role's token is renewed
/// while it may be; one that may not is replaced.
#[tokio::test]
async fn tokens_are_kept_without_any_request() {
    const LEASE: u64 = 6;
    let bao = or_skip!(shared());
    prepared(bao, "l-renew");
    let body = json!({ "policies": ["l-renew"], "no_default_policy": true, "period": format!("{LEASE}s") });
    let given = client_token(&bao.root("POST", "auth/token/create", body));
    let given = kms(bao, "l-renew", &format!("auth = {{ method = 'token', token = '{given}' }}"));
    let (id, secret) = bao.app_role("l-renew", role("l-renew", &format!("{LEASE}s"), "1h"));
    let auth = format!(
        "auth = {{ method = 'approle', mount = 'l-renew', role_id = '{id}', secret_id = '{secret}' }}"
    );
    let renewed = kms(bao, "l-renew", &auth);
    let (id, secret) = bao.app_role("l-batch", {
        let mut role = role("l-renew", &format!("{LEASE}s"), "1h");
        role["token_type"] = "batch".into();
        role
    });
    let auth = format!(
        "auth = {{ method = 'approle', mount = 'l-batch', role_id = '{id}', secret_id = '{secret}' }}"
    );
    let batch = kms(bao, "l-renew", &auth);
    for kms in [&given, &renewed, &batch] {
        assert_eq!(used(kms.as_ref()).await, Ok(()));
    }
    tokio::time::sleep(Duration::from_secs(LEASE + 1)).await;
    assert_eq!(bao.logins("l-renew"), 1, "the first token lives, and there was no second login");
    for kms in [&given, &renewed, &batch] {
        assert_eq!(used(kms.as_ref()).await, Ok(()));
    }
    assert_eq!(bao.logins("l-renew"), 1);
}

#[tokio::test]
async fn kubernetes_logs_in_with_the_service_accounts_token() {
    let bao = or_skip!(shared());
    prepared(bao, "l-kube");
    let reviewed = Arc::new(Mutex::new(Vec::new()));
    let reviews = Arc::new(AtomicUsize::new(0));
    // What the API server does for OpenBao: it looks at the token and says whose it is.
    let (seen, count) = (reviewed.clone(), reviews.clone());
    let api_server = fake(move |asked, body| {
        assert!(asked.starts_with("POST /apis/authentication.k8s.io/v1/tokenreviews"), "{asked}");
        let review: serde_json::Value = serde_json::from_str(body).unwrap();
        let jwt = review["spec"]["token"].as_str().unwrap().to_owned();
        let good = jwt.ends_with(&BASE64_URL_SAFE_NO_PAD.encode("good"));
        seen.lock().unwrap().push(jwt);
        count.fetch_add(1, Ordering::Relaxed);
        let user = json!({ "username": "system:serviceaccount:prod:s3veil", "uid": "1", "groups": [] });
        let status = if good {
            json!({ "authenticated": true, "audiences": ["vault"], "user": user })
        } else {
            json!({ "authenticated": false })
        };
        (
            201,
            json!({ "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status })
                .to_string(),
        )
    });
    bao.root("POST", "sys/auth/l-kube", json!({ "type": "kubernetes" }));
    let host = format!("http://127.0.0.1:{api_server}");
    let config = json!({
        "kubernetes_host": host,
        "kubernetes_ca_cert": fs::read_to_string(bao.file("server.pem")).unwrap(),
        "token_reviewer_jwt": jwt("reviewer", "good"),
        "disable_local_ca_jwt": true,
    });
    bao.root("POST", "auth/l-kube/config", config);
    let mut role = role("l-kube", "1h", "1h");
    role["bound_service_account_names"] = json!(["s3veil"]);
    role["bound_service_account_namespaces"] = json!(["prod"]);
    bao.root("POST", "auth/l-kube/role/s3veil", role);

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    put(&file, &jwt("one", "bad"));
    let auth = format!(
        "method = 'kubernetes', mount = 'l-kube', role = 's3veil', jwt = {{ file = '{}' }}",
        file.display()
    );
    let kms = kms(bao, "l-kube", &format!("auth = {{ {auth} }}"));
    let answer = used(kms.as_ref()).await;
    assert!(matches!(answer, Err(Error::Denied(_))), "{answer:?}");
    put(&file, &jwt("two", "good"));
    assert_eq!(used(kms.as_ref()).await, Ok(()));
    // Kubernetes replaces the file within the hour; the next login takes what is there then.
    put(&file, &jwt("three", "good"));
    assert_eq!(used(kms.as_ref()).await, Ok(()));
    assert_eq!(reviews.load(Ordering::Relaxed), 2);
    bao.revoke_all("l-kube");
    assert_eq!(used(kms.as_ref()).await, Ok(()));
    let expected = [jwt("one", "bad"), jwt("two", "good"), jwt("three", "good")];
    assert_eq!(*reviewed.lock().unwrap(), expected);
}

/// A service account's token. Its signature is the API server's to check, which here is the test.
fn jwt(id: &str, signature: &str) -> String {
    let part = |json: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let claims = json!({
        "iss": "https://kubernetes.default.svc.cluster.local",
        "sub": "system:serviceaccount:prod:s3veil",
        "jti": id,
        "aud": ["vault"],
        "iat": 1_700_000_000_u64,
        "nbf": 1_700_000_000_u64,
        "exp": 4_000_000_000_u64,
        "kubernetes.io": { "namespace": "prod", "serviceaccount": { "name": "s3veil", "uid": "1" } },
    });
    let head = json!({ "alg": "RS256", "kid": "k" });
    format!("{}.{}.{}", part(head), part(claims), BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn namespaces_of_the_engine_and_of_the_login() {
    let bao = or_skip!(shared());
    bao.root("POST", "sys/namespaces/team", json!({}));
    bao.root_in("team", "POST", "sys/mounts/transit", json!({ "type": "transit" }));
    bao.root_in("team", "POST", "transit/keys/a", json!({}));
    let policy = documented("s3veil-transit", "transit", "transit");
    bao.root_in("team", "POST", "sys/policies/acl/s3veil", json!({ "policy": policy }));
    bao.root_in("team", "POST", "sys/auth/approle", json!({ "type": "approle" }));
    bao.root_in("team", "POST", "auth/approle/role/r", role("s3veil", "1h", "1h"));
    let id =
        bao.root_in("team", "GET", "auth/approle/role/r/role-id", json!(null))["data"]["role_id"].clone();
    let secret =
        bao.root_in("team", "POST", "auth/approle/role/r/secret-id", json!({}))["data"]["secret_id"].clone();
    let auth = format!("auth = {{ method = 'approle', role_id = {id}, secret_id = {secret} }}");
    let inside = kms(bao, "transit", &format!("namespace = 'team'\n{auth}"));
    assert_eq!(used(inside.as_ref()).await, Ok(()));
    // The role is of that namespace alone.
    let outside = kms(bao, "transit", &auth);
    assert!(matches!(used(outside.as_ref()).await, Err(Error::Denied(_))));
    let nowhere = kms(bao, "transit", &format!("namespace = 'taem'\n{auth}"));
    assert!(matches!(used(nowhere.as_ref()).await, Err(Error::Denied(_))));
    // Logged in at the root, for an engine in a namespace.
    let policy = documented("s3veil-transit", "transit", "team/transit");
    let root = bao.token("l-root-namespace", &[policy]);
    let auth = format!("auth = {{ method = 'token', token = '{root}', namespace = '/' }}");
    let above = kms(bao, "transit", &format!("namespace = 'team'\n{auth}"));
    assert_eq!(used(above.as_ref()).await, Ok(()));
}

/// A server that answers with 403 to all, lookups included, is not flooded with logins.
#[tokio::test]
async fn a_server_that_refuses_every_token_is_not_flooded() {
    let logins = Arc::new(AtomicUsize::new(0));
    let count = logins.clone();
    let port = fake(move |asked, _| {
        if asked.contains("/login") {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let auth =
                json!({ "client_token": format!("t{number}"), "lease_duration": 3600, "renewable": true });
            return (200, json!({ "auth": auth }).to_string());
        }
        (403, json!({ "errors": ["permission denied"] }).to_string())
    });
    let auth = "auth = { method = 'approle', role_id = 'r', secret_id = 's' }";
    let kms =
        build(&format!("kind = 'vault-transit'\nendpoint = 'http://127.0.0.1:{port}'\n{auth}")).unwrap();
    let answers = join_all((0..20).map(|_| used(kms.as_ref()))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(Error::Denied(_)))), "{answers:?}");
    assert_eq!(logins.load(Ordering::Relaxed), 2, "the first, and one because of the refusals");
}
