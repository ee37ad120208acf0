//! `vault-transit` and `vault-kv` against OpenBao.

use std::time::Duration;

use s3veil::kms::{Error, Kms, State, WrappedDek};
use serde_json::{Value, json};

use crate::common::{build, context, ek};
use crate::kms_contract::{self, ALL, Limits};
use crate::servers;
use crate::vault_server::{Bao, documented, fake, shared};

fn transit(port: u16, mount: &str, auth: &str) -> Box<dyn Kms> {
    section("vault-transit", port, &format!("mount = '{mount}'\nauth = {{ {auth} }}"))
}

fn kv(port: u16, mount: &str, version: u8, auth: &str) -> Box<dyn Kms> {
    let settings = format!("mount = '{mount}'\nprefix = 's3veil'\nversion = {version}\nauth = {{ {auth} }}");
    section("vault-kv", port, &settings)
}

fn section(kind: &str, port: u16, settings: &str) -> Box<dyn Kms> {
    build(&format!("kind = '{kind}'\nendpoint = 'http://127.0.0.1:{port}'\n{settings}")).unwrap()
}

fn token(token: &str) -> String {
    format!("method = 'token', token = '{token}'")
}

async fn works(kms: &dyn Kms, name: &str) {
    let made = kms.generate(&ek(name), &context("one")).await.unwrap();
    let again = kms.unwrap(&ek(name), None, &made.wrapped, &context("one")).await.unwrap();
    assert!(made.dek.is_same(&again));
}

#[tokio::test]
async fn transit_keeps_the_contract_with_the_documented_rights() {
    let bao = or_skip!(shared());
    bao.mount_transit("t-contract");
    let policy =
        ["s3veil-transit", "s3veil-transit-admin"].map(|name| documented(name, "transit", "t-contract"));
    let kms = transit(bao.port, "t-contract", &token(&bao.token("t-contract", &policy)));
    kms_contract::check(kms.as_ref(), ALL).await;
}

#[tokio::test]
async fn transit_serves_with_the_documented_rights() {
    let bao = or_skip!(shared());
    bao.mount_transit("t-serve");
    bao.root("POST", "t-serve/keys/main", json!({}));
    let policy = documented("s3veil-transit", "transit", "t-serve");
    let kms = transit(bao.port, "t-serve", &token(&bao.token("t-serve", &[policy])));
    works(kms.as_ref(), "main").await;
    let made = kms.generate(&ek("main"), &context("one")).await.unwrap();
    assert_eq!((made.wrapped.as_bytes().len(), made.version), (89, None));
    let none = Err(Error::NoSuchKey(ek("none")));
    assert_eq!(kms.generate(&ek("none"), &context("one")).await.map(|_| ()), none);
    for answer in
        [kms.create(&ek("other")).await, kms.rotate(&ek("main")).await, kms.delete(&ek("main")).await]
    {
        assert!(matches!(answer, Err(Error::Denied(_))), "{answer:?}");
    }
    assert!(matches!(kms.list().await, Err(Error::Denied(_))));
}

/// Where the server has no lock, the policy is one.
#[tokio::test]
async fn transit_is_locked_by_the_documented_policy() {
    let bao = or_skip!(shared());
    bao.mount_transit("t-deny");
    for name in ["main", "other"] {
        bao.root("POST", &format!("t-deny/keys/{name}"), json!({}));
    }
    let policy = ["s3veil-transit", "main-is-locked"].map(|name| documented(name, "transit", "t-deny"));
    let kms = transit(bao.port, "t-deny", &token(&bao.token("t-deny", &policy)));
    works(kms.as_ref(), "other").await;
    let made = kms.generate(&ek("other"), &context("one")).await.unwrap();
    let answers = [
        kms.generate(&ek("main"), &context("one")).await.map(|_| ()),
        kms.unwrap(&ek("main"), None, &made.wrapped, &context("one")).await.map(|_| ()),
    ];
    assert!(answers.iter().all(|answer| matches!(answer, Err(Error::Denied(_)))), "{answers:?}");
    bao.policy("t-deny-1", r#"path "nothing" { capabilities = ["deny"] }"#);
    works(kms.as_ref(), "main").await;
}

/// The trap is there, and s3veil does not step into it: with a token that may create keys, and nothing more.
#[tokio::test]
async fn a_misspelt_ek_is_never_made() {
    let bao = or_skip!(shared());
    bao.mount_transit("t-upsert");
    let policy = r#"path "t-upsert/encrypt/*" { capabilities = ["create", "update"] }"#;
    let trusted = bao.token("t-upsert", &[policy.to_owned()]);
    let kms = transit(bao.port, "t-upsert", &token(&trusted));
    assert_eq!(
        kms.generate(&ek("mian"), &context("one")).await.map(|_| ()),
        Err(Error::NoSuchKey(ek("mian")))
    );
    let exists = || bao.ask("root", "", "GET", "t-upsert/keys/mian", &Value::Null).0;
    assert_eq!(exists(), 404);
    let (status, _) = bao.ask(&trusted, "", "POST", "t-upsert/encrypt/mian", &json!({ "plaintext": "AAAA" }));
    assert_eq!((status, exists()), (200, 200), "a plain encrypt makes the key");
    assert!(kms.generate(&ek("mian"), &context("one")).await.is_ok());
}

#[tokio::test]
async fn transit_locks_old_versions_and_a_locked_ek_is_not_rotated() {
    let bao = or_skip!(shared());
    bao.mount_transit("t-versions");
    let kms = transit(bao.port, "t-versions", &token("root"));
    kms.create(&ek("a")).await.unwrap();
    let old = kms.generate(&ek("a"), &context("one")).await.unwrap();
    kms.rotate(&ek("a")).await.unwrap();
    assert_eq!(kms.describe(&ek("a")).await.unwrap().version.as_deref(), Some("2"));
    assert!(kms.describe(&ek("a")).await.unwrap().created.is_some());
    bao.root("POST", "t-versions/keys/a/config", json!({ "min_decryption_version": 2 }));
    let answer = kms.unwrap(&ek("a"), None, &old.wrapped, &context("one")).await;
    assert!(matches!(&answer, Err(Error::Denied(why)) if why.contains("too old")), "{answer:?}");
    works(kms.as_ref(), "a").await;
    kms.disable(&ek("a")).await.unwrap();
    assert_eq!(kms.rotate(&ek("a")).await, Err(Error::Disabled(ek("a"))));
    assert_eq!(kms.create(&ek("a")).await, Err(Error::Exists(ek("a"))));
    assert_eq!(kms.list().await, Ok(vec![ek("a")]));
}

#[tokio::test]
async fn kv_keeps_the_contract_with_the_documented_rights() {
    let bao = or_skip!(shared());
    for version in [1, 2] {
        let mount = format!("kv-contract-{version}");
        bao.mount_kv(&mount, version);
        let policy = ["", "-admin"].map(|end| documented(&format!("s3veil-kv-{version}{end}"), "kv", &mount));
        let kms = kv(bao.port, &mount, version, &token(&bao.token(&mount, &policy)));
        kms_contract::check(kms.as_ref(), Limits { can_rotate: false, can_lock: version == 2, ..ALL }).await;
    }
}

#[tokio::test]
async fn kv_serves_with_the_documented_rights() {
    let bao = or_skip!(shared());
    for version in [1, 2] {
        let mount = format!("kv-serve-{version}");
        bao.mount_kv(&mount, version);
        kv(bao.port, &mount, version, &token("root")).create(&ek("main")).await.unwrap();
        let policy = documented(&format!("s3veil-kv-{version}"), "kv", &mount);
        let kms = kv(bao.port, &mount, version, &token(&bao.token(&mount, &[policy])));
        works(kms.as_ref(), "main").await;
        let answer = kms.create(&ek("other")).await;
        assert!(matches!(answer, Err(Error::Denied(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn kv_locks_destroyed_and_foreign_secrets() {
    let bao = or_skip!(shared());
    bao.mount_kv("kv-states", 2);
    let kms = kv(bao.port, "kv-states", 2, &token("root"));
    kms.create(&ek("a")).await.unwrap();
    kms.disable(&ek("a")).await.unwrap();
    assert_eq!(kms.create(&ek("a")).await, Err(Error::Exists(ek("a"))));
    assert_eq!(kms.list().await, Ok(vec![ek("a")]));
    // Destroyed behind s3veil's back: nothing brings it back.
    bao.root("POST", "kv-states/destroy/s3veil/a", json!({ "versions": [1] }));
    let gone = Error::NoSuchKey(ek("a"));
    assert_eq!(kms.generate(&ek("a"), &context("one")).await.map(|_| ()), Err(gone.clone()));
    assert_eq!(kms.describe(&ek("a")).await.map(|_| ()), Err(gone.clone()));
    assert_eq!(kms.enable(&ek("a")).await, Err(gone.clone()));
    frees_the_name(kms.as_ref(), "a").await;
    // Written over more often than the server keeps versions.
    kms.create(&ek("over")).await.unwrap();
    bao.root("POST", "kv-states/metadata/s3veil/over", json!({ "max_versions": 1 }));
    bao.root("POST", "kv-states/data/s3veil/over", json!({ "data": { "over": "x" } }));
    let answer = kms.generate(&ek("over"), &context("one")).await.map(|_| ());
    assert_eq!(answer, Err(Error::NoSuchKey(ek("over"))));
    frees_the_name(kms.as_ref(), "over").await;
    // A secret of somebody else's, and a second version over an EK: the first is the EK.
    bao.root("POST", "kv-states/data/s3veil/b", json!({ "data": { "password": "x" } }));
    let answer = kms.generate(&ek("b"), &context("one")).await;
    assert!(matches!(answer, Err(Error::Malformed(_))), "{answer:?}");
    kms.create(&ek("c")).await.unwrap();
    let made = kms.generate(&ek("c"), &context("one")).await.unwrap();
    bao.root("POST", "kv-states/data/s3veil/c", json!({ "data": { "c": "x" } }));
    let again = kms.unwrap(&ek("c"), None, &made.wrapped, &context("one")).await.unwrap();
    assert!(made.dek.is_same(&again));
}

/// What is left of a secret whose version 1 is gone holds the name until it is deleted.
async fn frees_the_name(kms: &dyn Kms, name: &str) {
    let answer = kms.create(&ek(name)).await;
    let remedy = format!("`s3veil key delete {name}` frees the name");
    assert!(matches!(&answer, Err(Error::Denied(why)) if why.contains(&remedy)), "{answer:?}");
    assert_eq!(kms.delete(&ek(name)).await, Ok(()));
    assert_eq!(kms.delete(&ek(name)).await, Err(Error::NoSuchKey(ek(name))));
    assert_eq!(kms.create(&ek(name)).await, Ok(()));
    works(kms, name).await;
}

#[tokio::test]
async fn kv_version_1_has_no_lock_and_never_overwrites() {
    let bao = or_skip!(shared());
    bao.mount_kv("kv-once", 1);
    let policy = documented("s3veil-kv-1-admin", "kv", "kv-once");
    let kms = kv(bao.port, "kv-once", 1, &token(&bao.token("kv-once", &[policy])));
    let name = ek("a");
    // Not exactly one of them: without check-and-set the server may let two in at once. `docs/kms/vault.md` says so.
    let answers = futures_util::future::join_all((0..8).map(|_| kms.create(&name))).await;
    assert!(answers.contains(&Ok(())), "{answers:?}");
    let others = answers.iter().filter(|answer| answer.is_err());
    assert!(others.into_iter().all(|answer| *answer == Err(Error::Exists(name.clone()))), "{answers:?}");
    let made = kms.generate(&name, &context("one")).await.unwrap();
    assert_eq!(kms.create(&name).await, Err(Error::Exists(name.clone())));
    assert!(kms.unwrap(&name, None, &made.wrapped, &context("one")).await.unwrap().is_same(&made.dek));
    for answer in [kms.disable(&name).await, kms.enable(&name).await, kms.rotate(&name).await] {
        assert!(matches!(answer, Err(Error::Unsupported { kind: "vault-kv", .. })), "{answer:?}");
    }
}

#[tokio::test]
async fn kv_of_another_version_is_found_before_anything_is_written() {
    let bao = or_skip!(shared());
    for (there, said) in [(1, 2), (2, 1)] {
        let mount = format!("kv-is-{there}");
        bao.mount_kv(&mount, there);
        let answer = kv(bao.port, &mount, said, &token("root")).create(&ek("a")).await;
        let remedy = format!("set version = {there}");
        assert!(matches!(&answer, Err(Error::Denied(why)) if why.contains(&remedy)), "{answer:?}");
        let (status, _) = bao.ask("root", "", "GET", &format!("{mount}?list=true"), &Value::Null);
        assert_eq!(status, 404, "nothing is there");
    }
}

#[tokio::test]
async fn a_sealed_server_is_not_available_and_comes_back() {
    let bao = match Bao::start() {
        Ok(bao) => bao,
        Err(why) => return servers::skip(&why),
    };
    bao.mount_transit("transit");
    let kms = transit(bao.port, "transit", &token("root"));
    kms.create(&ek("a")).await.unwrap();
    let made = kms.generate(&ek("a"), &context("one")).await.unwrap();
    bao.root("PUT", "sys/seal", Value::Null);
    let early = transit(bao.port, "transit", &token("root"));
    for kms in [&kms, &early] {
        let answer = kms.unwrap(&ek("a"), None, &made.wrapped, &context("one")).await;
        assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
    }
    let (status, _) = bao.ask("", "", "PUT", "sys/unseal", &json!({ "key": bao.unseal_key() }));
    assert_eq!(status, 200);
    for kms in [&kms, &early] {
        // The engines are set up a moment after the last key is in.
        let answer = loop {
            match kms.unwrap(&ek("a"), None, &made.wrapped, &context("one")).await {
                Err(Error::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                answer => break answer,
            }
        };
        assert!(made.dek.is_same(&answer.unwrap()));
    }
}

#[tokio::test]
async fn tls_with_a_clients_certificate_and_with_a_wrong_ca() {
    let bao = or_skip!(shared());
    bao.mount_transit("t-tls");
    bao.root("POST", "t-tls/keys/a", json!({}));
    let section = |ca: &str, client: bool| {
        let file = |name: &str| bao.file(name).display().to_string();
        let client = match client {
            true => {
                format!("certificate_file = '{}'\nkey_file = '{}'", file("client.pem"), file("client.key"))
            }
            false => String::new(),
        };
        let settings = format!(
            "kind = 'vault-transit'\nendpoint = 'https://127.0.0.1:{}'\nmount = 't-tls'\nca_file = '{}'\n{client}
            auth = {{ method = 'token', token = 'root' }}",
            bao.tls_port,
            file(ca)
        );
        build(&settings).unwrap()
    };
    works(section("server.pem", true).as_ref(), "a").await;
    let answer = section("other.pem", true).generate(&ek("a"), &context("one")).await;
    assert!(matches!(&answer, Err(Error::Unavailable(why)) if why.contains("ertificate")), "{answer:?}");
    let answer = section("server.pem", false).generate(&ek("a"), &context("one")).await;
    assert!(matches!(&answer, Err(Error::Denied(why)) if why.contains("CertificateRequired")), "{answer:?}");
}

#[tokio::test]
async fn the_next_endpoint_is_asked_when_one_is_away() {
    let bao = or_skip!(shared());
    bao.mount_transit("t-endpoints");
    bao.root("POST", "t-endpoints/keys/a", json!({}));
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let kms = build(&format!(
        "kind = 'vault-transit'\nendpoint = ['http://127.0.0.1:{away}', 'http://127.0.0.1:{}']\n\
         mount = 't-endpoints'\nauth = {{ {} }}",
        bao.port,
        token("root")
    ))
    .unwrap();
    let answer = kms.generate(&ek("a"), &context("one")).await;
    assert!(matches!(answer, Err(Error::Unavailable(_))), "one attempt a call: {answer:?}");
    works(kms.as_ref(), "a").await;
}

/// K-10. What is not what was asked for is refused, and what is no server's answer is "not available".
#[tokio::test]
async fn an_answer_that_lies_is_refused() {
    let long = format!("vault:v1:{}", "A".repeat(2000));
    let port = fake(move |asked, _| {
        let answer = match asked.split(' ').nth(1).unwrap() {
            "/v1/auth/token/lookup-self" => json!({ "data": { "ttl": 0 } }),
            "/v1/transit/encrypt/long" => json!({ "data": { "ciphertext": long } }),
            "/v1/transit/encrypt/odd" => json!({ "data": { "ciphertext": "vault:v0:AAAA" } }),
            "/v1/transit/encrypt/none" => json!({ "data": {} }),
            "/v1/transit/decrypt/short" => json!({ "data": { "plaintext": "AAAA" } }),
            "/v1/transit/decrypt/odd" => json!({ "data": { "plaintext": "not base64" } }),
            "/v1/transit/keys/a" => json!({ "data": { "name": "b", "latest_version": 1, "keys": {} } }),
            "/v1/transit/keys/away" => return (307, String::new()),
            "/v1/transit/keys/late" => return (412, String::new()),
            "/v1/transit/keys/broken" => return (200, "<html>".into()),
            other => panic!("{other}"),
        };
        (200, answer.to_string())
    });
    let kms = transit(port, "transit", &token("t"));
    for name in ["long", "odd", "none"] {
        let answer = kms.generate(&ek(name), &context("one")).await;
        assert!(matches!(answer, Err(Error::Malformed(_))), "{name}: {answer:?}");
    }
    let wrapped = WrappedDek::new("vault:v1:AAAA");
    for name in ["short", "odd"] {
        let answer = kms.unwrap(&ek(name), None, &wrapped, &context("one")).await;
        assert!(matches!(answer, Err(Error::Malformed(_))), "{name}: {answer:?}");
    }
    for name in ["a", "broken"] {
        let answer = kms.describe(&ek(name)).await;
        assert!(matches!(answer, Err(Error::Malformed(_))), "{name}: {answer:?}");
    }
    for name in ["away", "late"] {
        let answer = kms.describe(&ek(name)).await;
        assert!(matches!(answer, Err(Error::Unavailable(_))), "{name}: {answer:?}");
    }
}

/// HashiCorp's engine knows no soft-delete: then an EK can't be locked, which is said, and nothing is done.
#[tokio::test]
async fn without_soft_delete_there_is_no_lock() {
    let port = fake(|asked, _| {
        let answer = match asked.rsplit_once(' ').unwrap().0 {
            "GET /v1/auth/token/lookup-self" => json!({ "data": { "ttl": 0 } }),
            "GET /v1/transit/keys/a" => {
                json!({ "data": { "name": "a", "latest_version": 3, "keys": { "1": 1795622129 } } })
            }
            other => panic!("{other}"),
        };
        (200, answer.to_string())
    });
    let kms = transit(port, "transit", &token("t"));
    let info = kms.describe(&ek("a")).await.unwrap();
    assert_eq!((info.state, info.version.as_deref()), (State::Enabled, Some("3")));
    for (answer, operation) in
        [(kms.disable(&ek("a")).await, "disable"), (kms.enable(&ek("a")).await, "enable")]
    {
        assert_eq!(answer, Err(Error::Unsupported { kind: "vault-transit", operation }));
    }
}

#[test]
fn a_section_that_cannot_be_used_says_why() {
    let good = "kind = 'vault-transit'\nendpoint = 'https://vault:8200'\n";
    let auth = "auth = { method = 'token', token = 't' }\n";
    let kv = "kind = 'vault-kv'\nendpoint = 'https://vault:8200'\n";
    assert!(build(&format!("{good}{auth}")).is_ok());
    for (section, parts) in [
        (good.to_owned(), &["auth"][..]),
        (format!("{good}{auth}mont = 'x'"), &["mont"]),
        (format!("{good}auth = {{ method = 'token', token = 't', tken = '' }}"), &["tken"]),
        (format!("{good}auth = {{ method = 'ldap' }}"), &["ldap", "approle", "kubernetes"]),
        (format!("{good}auth = {{ method = 'kubernetes', role = 'r' }}"), &["auth.jwt", "/var/run/secrets"]),
        (
            format!("{good}auth = {{ method = 'token', token = {{ file = '/no/such' }} }}"),
            &["auth.token", "/no/such"],
        ),
        (format!("{good}{auth}mount = '../sys'"), &["mount: '../sys'", "Write"]),
        (format!("{good}{auth}mount = ''"), &["mount: ''", "Write"]),
        (format!("{good}{auth}namespace = 'a b'"), &["namespace: 'a b'", "Write"]),
        (format!("{good}{auth}key_file = '/k'"), &["certificate_file", "too"]),
        (format!("{good}{auth}certificate_file = '/k'"), &["key_file", "too"]),
        (
            format!("kind = 'vault-kv'\nendpoint = ['https://a', 'b']\n{auth}"),
            &["endpoint: 'b'", "https://HOST:PORT"],
        ),
        (format!("kind = 'vault-kv'\nendpoint = []\n{auth}"), &["endpoint: missing", "https://HOST:PORT"]),
        (format!("kind = 'vault-kv'\nendpoint = 'http://vault:8200'\n{auth}"), &["not encrypted", "https"]),
        (format!("{kv}{auth}transit = {{ key = 'a b' }}"), &["transit.key: 'a b'", "Write"]),
        (format!("{kv}{auth}version = 3"), &["version: 3", "1 or 2"]),
        (format!("{kv}{auth}prefix = 'a//b'"), &["prefix: 'a//b'", "Write"]),
    ] {
        let why = build(&section).err().unwrap_or_else(|| panic!("{section}: is taken"));
        assert!(parts.iter().all(|part| why.contains(part)), "{section}: {why}");
    }
}
