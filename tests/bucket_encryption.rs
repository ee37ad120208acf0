//! Put-, Get- and DeleteBucketEncryption: the default that clients set, as every replica sees it and no rule is weakened.

mod support;

use std::time::{Duration, Instant};

use http::Method;
use s3veil::kms::EkName;
use s3veil::s3::headers::ENVELOPE;
use s3veil::seal::Envelope;
use support::client::{Reply, get, put, send};
use support::memory::{Fault, MemoryStore};
use support::proxy::Proxy;
use support::upload::{Upload, inner};

const KEY_ID: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const SSE: &str = "x-amz-server-side-encryption";

const POLICY: &str = r#"
[[policy]]
bucket = "*"
ek = "s3veil-dev-key"
client_eks = ["team-*"]
[[policy]]
bucket = "*"
prefix = "invoices/"
ek = "invoices"
locked = true
[[policy]]
bucket = "locked"
ek = "s3veil-dev-key"
locked = true
[[policy]]
bucket = "plain"
mode = "passthrough"
"#;

async fn start() -> (MemoryStore, Proxy) {
    start_with("").await
}

async fn start_with(more: &str) -> (MemoryStore, Proxy) {
    let store = MemoryStore::start().await;
    let before = Proxy::start(&store.endpoint, support::proxy::SEALED).await;
    for ek in ["team-a", "team-b", "invoices"] {
        before.kms().create(&EkName::parse(ek).unwrap()).await.unwrap();
    }
    let policy = format!("{POLICY}{more}");
    let proxy = Proxy::run(before.keys, &store.endpoint, "min_part_bytes = 0", &policy).await;
    (store, proxy)
}

fn configuration(algorithm: &str, key: Option<&str>, more: &str) -> String {
    let key = key.map(|key| format!("<KMSMasterKeyID>{key}</KMSMasterKeyID>")).unwrap_or_default();
    format!(
        "<ServerSideEncryptionConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Rule>\
         <ApplyServerSideEncryptionByDefault><SSEAlgorithm>{algorithm}</SSEAlgorithm>{key}\
         </ApplyServerSideEncryptionByDefault>{more}</Rule></ServerSideEncryptionConfiguration>"
    )
}

async fn set(proxy: &Proxy, bucket: &str, algorithm: &str, key: Option<&str>, more: &str) -> Reply {
    let document = configuration(algorithm, key, more);
    send(proxy.address, "PUT", &format!("/{bucket}?encryption"), &[], document.as_bytes()).await
}

async fn clear(proxy: &Proxy, bucket: &str) -> Reply {
    send(proxy.address, "DELETE", &format!("/{bucket}?encryption"), &[], b"").await
}

/// Writes an object; gives its EK in the envelope, and what the client is told.
async fn sealed_under(
    store: &MemoryStore,
    proxy: &Proxy,
    path: &str,
    headers: &[(&str, &str)],
) -> (String, String) {
    let reply = send(proxy.address, "PUT", path, headers, b"secret").await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.code());
    let envelope = store.get(path).unwrap().headers[&ENVELOPE].to_str().unwrap().to_owned();
    let ek = Envelope::parse(&envelope).unwrap().header().ek.clone();
    assert_eq!(get(proxy.address, path).await.bytes(), b"secret");
    (ek, reply.header(SSE).to_owned())
}

#[tokio::test]
async fn a_default_is_set_shown_used_and_removed() {
    let (store, proxy) = start().await;
    let none = get(proxy.address, "/b?encryption").await;
    assert_eq!(
        (none.status.as_u16(), none.code().as_str()),
        (404, "ServerSideEncryptionConfigurationNotFoundError")
    );
    assert!(String::from_utf8_lossy(none.bytes()).contains("s3veil-dev-key"), "which key it is meanwhile");

    for (algorithm, key, ek, shown) in [
        ("aws:kms", Some("team-a"), "team-a", "aws:kms"),
        ("aws:kms", Some("arn:aws:kms:team-b"), "team-b", "aws:kms"),
        ("aws:kms", None, "s3veil-dev-key", "aws:kms"),
        ("AES256", None, "s3veil-dev-key", "AES256"),
    ] {
        let reply = set(&proxy, "b", algorithm, key, "<BucketKeyEnabled>true</BucketKeyEnabled>").await;
        assert_eq!(reply.status, 200, "{}", reply.code());
        let read = get(proxy.address, "/b?encryption").await;
        assert_eq!(inner(&read, "SSEAlgorithm"), algorithm);
        assert_eq!(inner(&read, "KMSMasterKeyID"), key.unwrap_or_default());
        assert_eq!(inner(&read, "BucketKeyEnabled"), "true");
        assert_eq!(sealed_under(&store, &proxy, "/b/k", &[]).await, (ek.into(), shown.into()));
        let bucket_key = get(proxy.address, "/b/k").await;
        let expected = if algorithm == "aws:kms" { "true" } else { "" };
        assert_eq!(bucket_key.header("x-amz-server-side-encryption-bucket-key-enabled"), expected);
        // Uploads and copies too.
        let upload = Upload::start(proxy.address, "/b/parts", &[]).await;
        let part = upload.part(1, b"part").await;
        assert_eq!(upload.complete(&[(1, part)]).await.status, 200);
        let copied = send(proxy.address, "PUT", "/b/copy", &[("x-amz-copy-source", "/b/k")], b"").await;
        for reply in [get(proxy.address, "/b/parts").await, copied] {
            assert_eq!(reply.header(SSE), shown);
            assert_eq!(reply.header(KEY_ID), if shown == "aws:kms" { ek } else { "" });
        }
        // Other buckets have their own.
        assert_eq!(sealed_under(&store, &proxy, "/other/k", &[]).await.0, "s3veil-dev-key");
        // No client sees where it is kept.
        let listing = get(proxy.address, "/b?list-type=2&prefix=.s3veil").await;
        assert!(!String::from_utf8_lossy(listing.bytes()).contains("<Key>"));
    }
    assert_eq!(clear(&proxy, "b").await.status, 204);
    assert_eq!(get(proxy.address, "/b?encryption").await.status, 404);
    assert_eq!(sealed_under(&store, &proxy, "/b/k", &[]).await, ("s3veil-dev-key".into(), "aws:kms".into()));
    assert_eq!(clear(&proxy, "b").await.status, 204, "as S3, also where there is none");
    assert!(!store.paths().iter().any(|path| path.contains(".s3veil")));
}

#[tokio::test]
async fn the_request_outranks_the_default_and_a_locked_rule_both() {
    let (store, proxy) = start().await;
    assert_eq!(set(&proxy, "b", "aws:kms", Some("team-a"), "").await.status, 200);
    let kms = (SSE, "aws:kms");
    let named = [kms, (KEY_ID, "team-b")];
    assert_eq!(sealed_under(&store, &proxy, "/b/k", &named).await.0, "team-b");
    assert_eq!(sealed_under(&store, &proxy, "/b/k", &[kms]).await.0, "team-a");
    assert_eq!(
        sealed_under(&store, &proxy, "/b/k", &[(SSE, "AES256")]).await,
        ("team-a".into(), "AES256".into())
    );
    assert_eq!(
        sealed_under(&store, &proxy, "/b/invoices/k", &[]).await,
        ("invoices".into(), "aws:kms".into())
    );
    let refused = send(proxy.address, "PUT", "/b/invoices/k", &named, b"").await;
    assert_eq!(refused.code(), "AccessDenied");

    let locked = set(&proxy, "locked", "aws:kms", Some("team-a"), "").await;
    assert_eq!((locked.status.as_u16(), locked.code().as_str()), (403, "AccessDenied"));
    // What weakens nothing may be said.
    assert_eq!(set(&proxy, "locked", "aws:kms", Some("s3veil-dev-key"), "").await.status, 200);
    assert_eq!(sealed_under(&store, &proxy, "/locked/k", &[]).await.0, "s3veil-dev-key");
}

#[tokio::test]
async fn mistakes_are_told_when_they_are_made() {
    let (store, proxy) = start().await;
    for (document, status, code) in [
        (configuration("aws:kms", Some("team-none"), ""), 400, "KMS.NotFoundException"),
        (configuration("aws:kms", Some("no name"), ""), 400, "KMS.NotFoundException"),
        (
            configuration("aws:kms", Some(&format!("arn:aws:kms:{}:team-a", "x".repeat(9000))), ""),
            400,
            "KMS.NotFoundException",
        ),
        (configuration("aws:kms", Some("else"), ""), 403, "AccessDenied"),
        (configuration("AES256", Some("team-a"), ""), 400, "InvalidArgument"),
        (configuration("rot13", None, ""), 400, "MalformedXML"),
        (configuration("aws:kms:dsse", None, ""), 501, "NotImplemented"),
        ("<a/>".into(), 400, "MalformedXML"),
        (String::new(), 400, "MalformedXML"),
    ] {
        let reply = send(proxy.address, "PUT", "/b?encryption", &[], document.as_bytes()).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{document}");
    }
    assert!(store.paths().is_empty());
    // Where nothing is sealed the store's own encryption is meant.
    store.take_seen();
    set(&proxy, "plain", "AES256", None, "").await;
    assert_eq!(store.take_seen().len(), 1, "passed on as it came");
}

#[tokio::test]
async fn a_bucket_can_refuse_customers_keys() {
    let (_store, proxy) = start().await;
    let blocked = "<BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType></BlockedEncryptionTypes>";
    let open = "<BlockedEncryptionTypes><EncryptionType>NONE</EncryptionType></BlockedEncryptionTypes>";
    let customer = [
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-server-side-encryption-customer-key", "pO3upElrwuEXSoFwCfnZPdSsmt/xWeFa0N9KgDijwVs="),
        ("x-amz-server-side-encryption-customer-key-md5", "DWygnHRtgiJ77HCm+1rvHw=="),
    ];
    for (types, status) in [("", 200), (blocked, 403), (open, 200)] {
        assert_eq!(set(&proxy, "b", "aws:kms", None, types).await.status, 200);
        let shown = get(proxy.address, "/b?encryption").await;
        assert_eq!(inner(&shown, "EncryptionType"), if types == blocked { "SSE-C" } else { "" });
        assert_eq!(send(proxy.address, "PUT", "/b/k", &customer, b"x").await.status, status, "{types}");
    }
}

/// Both use one store. The other one learns of it within the time that an answer may be old.
#[tokio::test]
async fn every_replica_writes_under_it_within_seconds() {
    let (store, proxy) = start().await;
    let other = Proxy::run(proxy.keys.clone(), &store.endpoint, "min_part_bytes = 0", POLICY).await;
    for (round, ek) in ["team-a", "team-b"].into_iter().enumerate() {
        // The other one has just looked.
        let before = sealed_under(&store, &other, "/b/k", &[]).await.0;
        assert_eq!(before, ["s3veil-dev-key", "team-a"][round]);
        assert_eq!(set(&proxy, "b", "aws:kms", Some(ek), "").await.status, 200);
        assert_eq!(sealed_under(&store, &proxy, "/b/k", &[]).await.0, ek, "at once where it was set");
        let set_at = Instant::now();
        loop {
            let asked = Instant::now();
            if sealed_under(&store, &other, "/b/k", &[]).await.0 == ek {
                break;
            }
            assert!(asked - set_at < Duration::from_secs(5), "{ek} was set {:?} ago", asked - set_at);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!(clear(&proxy, "b").await.status, 204);
}

/// Of writers that race one stands, whole.
#[tokio::test]
async fn racing_writers_leave_one_of_their_defaults() {
    let (store, proxy) = start().await;
    let other = Proxy::run(proxy.keys.clone(), &store.endpoint, "min_part_bytes = 0", POLICY).await;
    let writers = (0..32).map(|n| {
        let to = if n % 2 == 0 { proxy.address } else { other.address };
        async move {
            let ek = if n % 4 < 2 { "team-a" } else { "team-b" };
            let document = configuration("aws:kms", Some(ek), "");
            match n % 8 {
                7 => send(to, "DELETE", "/b?encryption", &[], b"").await,
                6 => send(to, "PUT", "/b/k", &[], b"secret").await,
                _ => send(to, "PUT", "/b?encryption", &[], document.as_bytes()).await,
            }
        }
    });
    for reply in futures_util::future::join_all(writers).await {
        assert!(reply.status.is_success(), "{}", reply.code());
    }
    let shown = get(proxy.address, "/b?encryption").await;
    let ek = if shown.status == 404 { "s3veil-dev-key".to_owned() } else { inner(&shown, "KMSMasterKeyID") };
    assert!(["team-a", "team-b", "s3veil-dev-key"].contains(&ek.as_str()), "{ek}");
    assert_eq!(
        inner(&get(other.address, "/b?encryption").await, "KMSMasterKeyID"),
        inner(&shown, "KMSMasterKeyID")
    );
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), b"secret");
}

/// What the store has made of it is believed as little as anything else there.
#[tokio::test]
async fn a_default_that_was_forged_or_damaged_lets_nothing_be_written() {
    let (store, proxy) = start().await;
    assert_eq!(set(&proxy, "b", "aws:kms", Some("team-a"), "").await.status, 200);
    assert_eq!(set(&proxy, "c", "aws:kms", Some("team-b"), "").await.status, 200);
    let at = |bucket: &str| format!("/{bucket}/.s3veil/encryption/{bucket}/default");
    let right = store.get(&at("b")).unwrap();
    assert!(!String::from_utf8_lossy(&right.body).contains("team-a"), "it is sealed");
    let of_another_bucket = store.get(&at("c")).unwrap();
    let mut flipped = right.clone();
    flipped.body[20] ^= 1;
    let mut plain = right.clone();
    plain.headers.remove(ENVELOPE);
    for wrong in [of_another_bucket, flipped, plain] {
        // A replica that has not read the right one.
        let fresh = Proxy::run(proxy.keys.clone(), &store.endpoint, "", POLICY).await;
        store.put(&at("b"), wrong);
        for (method, path) in [("PUT", "/b/k"), ("POST", "/b/k?uploads"), ("GET", "/b?encryption")] {
            let reply = send(fresh.address, method, path, &[], b"").await;
            let (status, text) = (reply.status.as_u16(), String::from_utf8_lossy(reply.bytes()).into_owned());
            assert!(
                [400, 500, 503].contains(&status) && text.contains("DeleteBucketEncryption"),
                "{method} {path}: {text}"
            );
        }
        // Where it has no say, and the way out.
        assert_eq!(put(fresh.address, "/b/invoices/k", b"x").await.status, 200);
        assert_eq!(clear(&fresh, "b").await.status, 204);
        assert_eq!(put(fresh.address, "/b/k", b"x").await.status, 200);
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_lets_nothing_be_written_under_a_wrong_key() {
    let (store, proxy) = start().await;
    store.fail_next_of(Method::GET, Fault::Status(500));
    let reply = put(proxy.address, "/b/k", b"x").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (503, "ServiceUnavailable"));
    assert_eq!(put(proxy.address, "/b/k", b"x").await.status, 200);
}

#[tokio::test]
async fn a_client_that_the_store_refuses_sets_nothing() {
    let (store, proxy) = start().await;
    for (method, code) in [("PUT", "AccessDenied"), ("DELETE", "AccessDenied"), ("GET", "AccessDenied")] {
        store.fail_next_of(Method::GET, Fault::Refuse("AccessDenied"));
        let document = configuration("aws:kms", Some("team-a"), "");
        let reply = send(proxy.address, method, "/b?encryption", &[], document.as_bytes()).await;
        assert_eq!(reply.code(), code, "{method}");
    }
    // Nor does an answer that is none let anybody.
    store.fail_next_of(Method::GET, Fault::Status(500));
    assert_eq!(set(&proxy, "b", "aws:kms", Some("team-a"), "").await.code(), "ServiceUnavailable");
    assert!(store.paths().is_empty());
}

#[tokio::test]
async fn a_bucket_made_anew_has_no_default() {
    for state in ["", "[state]\nbucket = \"state\"\n"] {
        let (store, proxy) = start_with(state).await;
        assert_eq!(set(&proxy, "b", "aws:kms", Some("team-a"), "").await.status, 200);
        let kept: Vec<_> = store.paths();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].starts_with("/state/"), !state.is_empty(), "{kept:?}");
        let deleted = send(proxy.address, "DELETE", "/b", &[], b"").await;
        assert_eq!(deleted.status, 204, "{}", deleted.code());
        assert!(store.paths().is_empty());
        assert_eq!(get(proxy.address, "/b?encryption").await.status, 404);
        assert_eq!(sealed_under(&store, &proxy, "/b/k", &[]).await.0, "s3veil-dev-key");
    }
}
