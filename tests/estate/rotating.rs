//! Objects under another EK, without their bodies moving; and what still needs which EK.

use std::process::Command;

use crate::servers;
use crate::site::Site;
use crate::support::client::{get, send};
use crate::support::proxy::pattern;
use crate::support::upload::Upload;

fn key(site: &Site, arguments: &[&str]) {
    let done = Command::new(env!("CARGO_BIN_EXE_s3veil"))
        .args(["key", "--config", site.configuration.to_str().unwrap()])
        .args(arguments)
        .output()
        .unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

const HEADERS: [(&str, &str); 3] =
    [("content-type", "text/x-test"), ("x-amz-meta-color", "blue"), ("x-amz-tagging", "team=red")];

#[tokio::test(flavor = "multi_thread")]
async fn an_ek_can_be_retired() {
    for store in [servers::minio(), servers::seaweedfs()] {
        let Some(site) = Site::before(store).await else { continue };
        let (proxy, name) = (site.proxy.address, site.store.name);
        for ek in ["next", "third"] {
            key(&site, &["create", ek]);
        }
        assert_eq!(site.client("PUT", "/bucket", b"").await.status, 200);
        let body = pattern(200_000);
        for path in ["/bucket/dir/a%20b%20%2B", "/bucket/%C3%BCber"] {
            assert_eq!(send(proxy, "PUT", path, &HEADERS, &body).await.status, 200, "{name}");
        }
        assert_eq!(site.client("PUT", "/bucket/empty", b"").await.status, 200);
        let parts = [(1, pattern(5 << 20)), (2, pattern(10))];
        assert_eq!(Upload::whole(proxy, "/bucket/parts", &parts).await.status, 200);
        site.direct("PUT", "/bucket/plain", &[], b"plain").await;
        let stored = site.direct("GET", "/bucket/parts", &[], b"").await;

        let dry = site.done(&["rotate", "s3://bucket", "--to", "next"]).await;
        assert_eq!((dry.count("to do with --apply"), dry.count("left, plain")), (4, 1), "{name}");
        let none = site
            .done(&["rotate", "s3://bucket", "--to", "next", "--where", "ek=third", "--apply", "--no-report"])
            .await;
        assert_eq!(none.count("left, under another EK"), 4, "{name}");
        let done = site
            .done(&["rotate", "s3://bucket", "--to", "next", "--where", "ek=s3veil-dev-key", "--apply"])
            .await;
        assert_eq!(done.count("need EK 'next' of kms 'local'"), 4, "{name}: {done:?}");
        assert_eq!(done.count("need EK 's3veil-dev-key' of kms 'local'"), 0, "{name}");
        let again = site.done(&["rotate", "s3://bucket", "--to", "next", "--apply", "--no-report"]).await;
        assert_eq!(again.count("already so"), 4, "{name}");

        // No object needs the old one: with it locked and s3veil started anew, all are read.
        key(&site, &["disable", "s3veil-dev-key"]);
        let verified = site.done(&["verify", "s3://bucket", "--allow-plain"]).await;
        assert_eq!((verified.count("good"), verified.count("plain")), (4, 1), "{name}");
        key(&site, &["enable", "s3veil-dev-key"]);
        for path in ["/bucket/dir/a%20b%20%2B", "/bucket/%C3%BCber"] {
            let reply = get(proxy, path).await;
            assert!(reply.bytes() == body, "{name}");
            assert_eq!(
                (reply.header("content-type"), reply.header("x-amz-meta-color")),
                ("text/x-test", "blue"),
                "{name}"
            );
            let tags = site.client("GET", &format!("{path}?tagging"), b"").await;
            assert!(String::from_utf8_lossy(tags.bytes()).contains("<Value>red</Value>"), "{name}");
        }
        let reply = get(proxy, "/bucket/parts").await;
        assert!(reply.bytes() == [pattern(5 << 20), pattern(10)].concat(), "{name}");
        assert_eq!(reply.header("x-amz-server-side-encryption-aws-kms-key-id"), "next", "{name}");
        let now = site.direct("GET", "/bucket/parts", &[], b"").await;
        assert!(now.bytes() == stored.bytes(), "{name}: the body was not touched");
        assert_ne!(now.header("x-amz-meta-s3veil"), stored.header("x-amz-meta-s3veil"), "{name}");
        assert_eq!(site.left("bucket").await, (0, 0), "{name}");
    }
}

/// An old version can't be put under another EK: the report says that it needs the old one.
#[tokio::test(flavor = "multi_thread")]
async fn the_report_counts_old_versions() {
    let Some(site) = Site::minio().await else { return };
    key(&site, &["create", "next"]);
    assert_eq!(site.client("PUT", "/box", b"").await.status, 200);
    let versioned = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    site.direct("PUT", "/box?versioning", &[], versioned).await;
    site.client("PUT", "/box/k", b"one").await;
    site.client("PUT", "/box/k", b"two").await;
    let done = site.done(&["rotate", "s3://box", "--to", "next", "--apply"]).await;
    assert_eq!(done.count("need EK 'next' of kms 'local'"), 1, "{done:?}");
    assert_eq!(done.count("need EK 's3veil-dev-key' of kms 'local', old versions"), 2);
    assert_eq!(get(site.proxy.address, "/box/k").await.bytes(), b"two");
}

/// A client's context is bound into the key's wrapping, and its own key is its own.
#[tokio::test(flavor = "multi_thread")]
async fn contexts_go_on_and_clients_keys_are_let_be() {
    let Some(site) = Site::minio().await else { return };
    let proxy = site.proxy.address;
    key(&site, &["create", "next"]);
    assert_eq!(site.client("PUT", "/box", b"").await.status, 200);
    let context = [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-context", "eyJ0ZWFtIjoicmVkIn0="),
    ];
    assert_eq!(send(proxy, "PUT", "/box/context", &context, b"bound").await.status, 200);
    let own = [
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-server-side-encryption-customer-key", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="),
        ("x-amz-server-side-encryption-customer-key-md5", "KYvwGXoFFJ42a2u2GDWhwQ=="),
    ];
    let reply = send(proxy, "PUT", "/box/own", &own, b"mine").await;
    assert_eq!(reply.status, 200, "{}", reply.code());
    let done = site.done(&["rotate", "s3://box", "--to", "next", "--apply", "--no-report"]).await;
    assert_eq!((done.count("rotated"), done.count("left, under their clients' own keys")), (1, 1));
    assert_eq!(get(proxy, "/box/context").await.bytes(), b"bound");
    assert_eq!(send(proxy, "GET", "/box/own", &own, b"").await.bytes(), b"mine");
    let verified = site.done(&["verify", "s3://box"]).await;
    assert_eq!((verified.count("good"), verified.count("not verified, under clients' own keys")), (1, 1));
    let back = site.run_with(&site.passing, &["migrate", "s3://box", "--decrypt", "--apply"]).await;
    assert_eq!((back.count("opened"), back.count("left, under their clients' own keys")), (1, 1), "{back:?}");
}
