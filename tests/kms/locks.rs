//! Locking, rotating and erasing as a client of S3 sees it, through a whole s3veil, with each kind of KMS (promise 4).

use crate::aws_server::{ministack, moto};
use crate::azure_vault::Azure;
use crate::ciphertrust_server::Server;
use crate::common::{build, ek};
use crate::google_server::Google;
use crate::kes_server::{ADMIN, Estate, api_key};
use crate::kmip_fake::{Fake, Rules};
use crate::kmip_server::{Certificates, PyKmip};
use crate::kms_contract::{ALL, Limits};
use crate::support::client::{get, put};
use crate::support::memory::MemoryStore;
use crate::support::proxy::Proxy;
use crate::{aws, azure, ciphertrust, google, vault_server};

/// Of a secret store: one version of a secret is all that KES knows.
const SECRETS: Limits = Limits { can_rotate: false, ..ALL };
/// One that can't lock from here, either.
const UNLOCKED: Limits = Limits { can_lock: false, ..SECRETS };

const POLICY: &str = r#"
[[policy]]
bucket = "locked"
ek = "a"
[[policy]]
bucket = "other"
ek = "b"
[[policy]]
bucket = "plain"
mode = "passthrough"
"#;

#[tokio::test]
async fn local() {
    let directory = tempfile::tempdir().unwrap();
    let settings = format!(
        "kind = 'local'\npath = {:?}\nmaster_key = '{}'",
        directory.path().join("keys"),
        "ab".repeat(32)
    );
    check(&settings, SECRETS).await;
}

#[tokio::test]
async fn kes() {
    let estate = or_skip!(Estate::new());
    let kes = estate.start().unwrap();
    check(&estate.settings(&[kes.endpoint()], &api_key(ADMIN)), UNLOCKED).await;
}

#[tokio::test]
async fn kes_files() {
    let estate = or_skip!(Estate::new());
    std::fs::create_dir(estate.path("keys")).unwrap();
    check(&estate.files(), UNLOCKED).await;
}

#[tokio::test]
async fn vault_transit() {
    let bao = or_skip!(vault_server::shared());
    bao.mount_transit("t-locks");
    check(&vault("vault-transit", bao, "mount = 't-locks'"), ALL).await;
}

#[tokio::test]
async fn vault_kv() {
    let bao = or_skip!(vault_server::shared());
    for version in [1, 2] {
        bao.mount_kv(&format!("kv-locks-{version}"), version);
        let settings = format!("mount = 'kv-locks-{version}'\nversion = {version}");
        check(&vault("vault-kv", bao, &settings), Limits { can_lock: version == 2, ..SECRETS }).await;
    }
}

fn vault(kind: &str, bao: &vault_server::Bao, settings: &str) -> String {
    let (port, token) = (bao.port, vault_server::ROOT);
    let auth = format!("auth = {{ method = 'token', token = '{token}' }}");
    format!("kind = '{kind}'\nendpoint = 'http://127.0.0.1:{port}'\n{settings}\n{auth}")
}

/// The contract of AWS KMS runs on moto; this emulator is the one whose makers thought of key states.
#[tokio::test]
async fn aws_kms() {
    let ministack = or_skip!(ministack());
    let limits = Limits { can_rotate: false, ..ALL };
    check(&aws::settings("aws-kms", &ministack.endpoint, ""), limits).await;
    let moto = or_skip!(moto());
    check(&aws::settings("aws-kms", &moto.endpoint, ""), ALL).await;
}

#[tokio::test]
async fn aws_secrets_manager() {
    let ministack = or_skip!(ministack());
    check(&aws::settings("aws-secrets-manager", &ministack.endpoint, ""), SECRETS).await;
}

#[tokio::test]
async fn google_kms() {
    check(&google::settings(&Google::start().await, ""), ALL).await;
}

#[tokio::test]
async fn google_secret_manager() {
    let google = Google::start().await;
    let kind = "kind = 'google-secret-manager'\nproject = 'p'\nanonymous = true";
    check(&format!("{kind}\nendpoint = '{}'", google.endpoint), SECRETS).await;
}

#[tokio::test]
async fn azure_keys() {
    let azure = Azure::start().await;
    check(&format!("{}{}", azure::KEYS, azure.settings()), ALL).await;
}

#[tokio::test]
async fn azure_secrets() {
    let azure = Azure::start().await;
    check(&format!("{}{}", azure::SECRETS, azure.settings()), SECRETS).await;
}

#[tokio::test]
async fn ciphertrust_keys_and_secrets() {
    let certificates = Certificates::new();
    for (kind, limits) in [("ciphertrust", ALL), ("ciphertrust-secrets", UNLOCKED)] {
        let server = Server::start(&certificates).await;
        check(&ciphertrust::with_password(&certificates, &server, kind), limits).await;
    }
}

#[tokio::test]
async fn kmip() {
    for mode in ["encrypt", "get"] {
        let certificates = Certificates::new();
        let more = format!("mode = '{mode}'");
        let pykmip = or_skip!(PyKmip::start(&certificates));
        check(&certificates.settings(pykmip.port, &more), UNLOCKED).await;
        let fake = Fake::start(&certificates, Rules::default()).await;
        check(&certificates.settings(fake.port, &more), ALL).await;
    }
}

/// From the empty KMS of these settings, which is also the one that `s3veil key` opens.
async fn check(settings: &str, limits: Limits) {
    let kms = build(settings).unwrap();
    for name in ["a", "b"] {
        kms.create(&ek(name)).await.unwrap();
    }
    let store = MemoryStore::start().await;
    let proxy = Proxy::start_with_kms(&store.endpoint, settings, POLICY).await;
    for bucket in ["locked", "other", "plain"] {
        let reply = put(proxy.address, &format!("/{bucket}/k"), b"hello").await;
        assert_eq!(reply.status, 200, "{bucket}: {}", reply.code());
    }
    if limits.can_lock {
        kms.disable(&ek("a")).await.unwrap();
        readable(&proxy, "locked").await; // Within the cache time.
        proxy.app.rooms.keys.flush().await;
        refused(&proxy, "KMS.DisabledException").await;
        kms.enable(&ek("a")).await.unwrap();
        proxy.app.rooms.keys.flush().await;
        readable(&proxy, "locked").await;
    }
    if limits.can_rotate {
        kms.rotate(&ek("a")).await.unwrap();
        proxy.app.rooms.keys.flush().await;
        readable(&proxy, "locked").await;
        assert_eq!(put(proxy.address, "/locked/new", b"hello").await.status, 200);
        assert_eq!(get(proxy.address, "/locked/new").await.bytes(), b"hello");
    }
    if limits.can_delete {
        kms.delete(&ek("a")).await.unwrap();
        proxy.app.rooms.keys.flush().await;
        refused(&proxy, "KMS.NotFoundException").await;
    }
}

async fn readable(proxy: &Proxy, bucket: &str) {
    let reply = get(proxy.address, &format!("/{bucket}/k")).await;
    assert_eq!(reply.bytes(), b"hello", "{bucket}: {}", reply.code());
}

/// Neither read nor written; what is not sealed under that EK goes on.
async fn refused(proxy: &Proxy, code: &str) {
    assert_eq!(get(proxy.address, "/locked/k").await.code(), code);
    // The KMS is asked for the write too: some go on wrapping with a key that they no longer unwrap with (K-12).
    proxy.app.rooms.keys.flush().await;
    assert_eq!(put(proxy.address, "/locked/k", b"more").await.code(), code);
    readable(proxy, "other").await;
    readable(proxy, "plain").await;
}
