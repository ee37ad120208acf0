//! What a request's own headers choose: the key, the context, and what the client is told of them.

mod support;

use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use s3veil::kms::EkName;
use s3veil::s3::headers::ENVELOPE;
use s3veil::seal::Envelope;
use support::client::{Reply, get, put, send};
use support::memory::MemoryStore;
use support::proxy::{Proxy, pattern};
use support::upload::{Upload, inner};

const SSE: &str = "x-amz-server-side-encryption";
const KEY_ID: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const CONTEXT: &str = "x-amz-server-side-encryption-context";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
const KMS: (&str, &str) = (SSE, "aws:kms");

/// `team-*` may be named in most places, nothing else in `locked/`.
const POLICY: &str = r#"
[[policy]]
bucket = "*"
ek = "s3veil-dev-key"
client_eks = ["team-*", "missing"]
[[policy]]
bucket = "b"
prefix = "locked/"
ek = "s3veil-dev-key"
locked = true
[[policy]]
bucket = "b"
prefix = "invoices/"
ek = "team-invoices"
[[policy]]
bucket = "plain"
mode = "passthrough"
"#;

async fn start() -> (MemoryStore, Proxy) {
    let store = MemoryStore::start().await;
    // The EKs must be there before the policy is.
    let before = Proxy::start(&store.endpoint, support::proxy::SEALED).await;
    for ek in ["team-a", "team-b", "team-invoices", "other"] {
        before.kms().create(&EkName::parse(ek).unwrap()).await.unwrap();
    }
    let proxy = Proxy::run(before.keys, &store.endpoint, "min_part_bytes = 0", POLICY).await;
    (store, proxy)
}

/// The EK that the stored object names.
fn ek_of(store: &MemoryStore, path: &str) -> String {
    let headers = store.get(path).unwrap().headers;
    Envelope::parse(headers[&ENVELOPE].to_str().unwrap()).unwrap().header().ek.clone()
}

async fn head(to: SocketAddr, path: &str) -> Reply {
    send(to, "HEAD", path, &[], b"").await
}

/// A context that no object's metadata has room for.
fn long_context() -> String {
    BASE64_STANDARD.encode(format!(r#"{{"a":"{}"}}"#, "b".repeat(2000)))
}

fn shown(reply: &Reply) -> (&str, &str, &str) {
    (reply.header(SSE), reply.header(KEY_ID), reply.header(BUCKET_KEY))
}

#[tokio::test]
async fn a_request_names_its_key_in_every_form() {
    let (store, proxy) = start().await;
    for (headers, ek, expected) in [
        (&[][..], "s3veil-dev-key", ("aws:kms", "s3veil-dev-key", "")),
        (&[KMS], "s3veil-dev-key", ("aws:kms", "s3veil-dev-key", "")),
        (&[KMS, (KEY_ID, "team-a")], "team-a", ("aws:kms", "team-a", "")),
        (&[KMS, (KEY_ID, "arn:aws:kms:team-b")], "team-b", ("aws:kms", "team-b", "")),
        (&[KMS, (KEY_ID, "alias/team-a")], "team-a", ("aws:kms", "team-a", "")),
        (
            &[KMS, (KEY_ID, "arn:aws:kms:eu-west-1:111122223333:alias/team-a"), (BUCKET_KEY, "true")],
            "team-a",
            ("aws:kms", "team-a", "true"),
        ),
        (&[KMS, (BUCKET_KEY, "false")], "s3veil-dev-key", ("aws:kms", "s3veil-dev-key", "")),
        (&[(SSE, "AES256")], "s3veil-dev-key", ("AES256", "", "")),
    ] {
        let written = send(proxy.address, "PUT", "/b/k", headers, b"secret").await;
        assert_eq!(written.status, 200, "{headers:?}: {}", written.code());
        assert_eq!(shown(&written), expected, "{headers:?}");
        assert_eq!(ek_of(&store, "/b/k"), ek, "{headers:?}");
        let read = get(proxy.address, "/b/k").await;
        assert_eq!((read.bytes(), shown(&read)), (&b"secret"[..], expected), "{headers:?}");
        assert_eq!(shown(&head(proxy.address, "/b/k").await), expected, "{headers:?}");
    }
    // The store is told nothing of it.
    let sent = store.take_seen();
    assert!(!sent.iter().any(|seen| seen.headers.keys().any(|name| name.as_str().starts_with(SSE))));
}

#[tokio::test]
async fn what_the_rule_does_not_allow_is_refused_and_stores_nothing() {
    let (store, proxy) = start().await;
    for (path, headers, status, code) in [
        ("/b/k", &[KMS, (KEY_ID, "other")][..], 403, "AccessDenied"),
        ("/b/k", &[KMS, (KEY_ID, "missing")], 400, "KMS.NotFoundException"),
        ("/b/k", &[KMS, (KEY_ID, "team-none")], 400, "KMS.NotFoundException"),
        ("/b/k", &[KMS, (KEY_ID, "no such name")], 400, "KMS.NotFoundException"),
        ("/b/locked/k", &[KMS, (KEY_ID, "team-a")], 403, "AccessDenied"),
        ("/b/invoices/k", &[KMS, (KEY_ID, "team-a")], 403, "AccessDenied"),
        // As a store that tidies keys up would have it.
        ("/b//locked/k", &[KMS, (KEY_ID, "team-a")], 403, "AccessDenied"),
        ("/b/k", &[(KEY_ID, "team-a")], 400, "InvalidArgument"),
        ("/b/k", &[(SSE, "AES256"), (KEY_ID, "team-a")], 400, "InvalidArgument"),
        ("/b/k", &[(SSE, "aws:kms:dsse")], 400, "InvalidArgument"),
        ("/b/k", &[(SSE, "aes256")], 400, "InvalidArgument"),
        ("/b/k", &[KMS, (BUCKET_KEY, "perhaps")], 400, "InvalidArgument"),
        ("/b/k", &[KMS, (CONTEXT, "not base64!")], 400, "InvalidArgument"),
        ("/b/k", &[KMS, (CONTEXT, long_context().leak())], 400, "InvalidArgument"),
        ("/b/k", &[(CONTEXT, "eyJhIjoiYiJ9")], 400, "InvalidArgument"),
    ] {
        for (method, query) in [("PUT", ""), ("POST", "?uploads")] {
            let reply = send(proxy.address, method, &format!("{path}{query}"), headers, b"").await;
            assert_eq!(
                (reply.status.as_u16(), reply.code().as_str()),
                (status, code),
                "{method} {path} {headers:?}"
            );
        }
    }
    assert!(store.paths().is_empty() && store.uploads().is_empty());
    // The rule's own key may be named even where no other may.
    for path in ["/b/locked/k", "/b/invoices/k"] {
        let own = if path.contains("locked") { "s3veil-dev-key" } else { "team-invoices" };
        let reply = send(proxy.address, "PUT", path, &[KMS, (KEY_ID, own)], b"").await;
        assert_eq!(reply.status, 200, "{}", reply.code());
        assert_eq!(ek_of(&store, path), own);
    }
    // A context for the key that a locked rule has.
    let context = [KMS, (CONTEXT, "eyJhIjoiYiJ9")];
    assert_eq!(send(proxy.address, "PUT", "/b/locked/c", &context, b"x").await.status, 200);
    assert_eq!(get(proxy.address, "/b/locked/c").await.bytes(), b"x");
}

#[tokio::test]
async fn a_read_names_no_method() {
    let (_store, proxy) = start().await;
    put(proxy.address, "/b/k", b"x").await;
    for header in [KMS, (KEY_ID, "team-a"), (CONTEXT, "e30=")] {
        for method in ["GET", "HEAD"] {
            let reply = send(proxy.address, method, "/b/k", &[header], b"").await;
            assert_eq!(reply.status, 400, "{method} {header:?}");
        }
    }
}

#[tokio::test]
async fn a_context_is_bound_kept_and_never_shown_on_a_read() {
    let (store, proxy) = start().await;
    let context = BASE64_STANDARD.encode(r#"{ "department": "10103.0", "a": "é" }"#);
    let headers = [KMS, (CONTEXT, context.as_str()), ("x-amz-meta-own", "1")];
    let body = pattern(100_000);
    let written = send(proxy.address, "PUT", "/b/k", &headers, &body).await;
    assert_eq!(written.status, 200, "{}", written.code());
    // In its one form: sorted, without spaces.
    let canonical = BASE64_STANDARD.encode(r#"{"a":"é","department":"10103.0"}"#);
    assert_eq!(written.header(CONTEXT), canonical);
    let stored = store.get("/b/k").unwrap();
    assert_eq!(stored.headers["x-amz-meta-s3veil-context"], canonical.as_str());
    for reply in [get(proxy.address, "/b/k").await, head(proxy.address, "/b/k").await] {
        assert_eq!(reply.status, 200);
        assert!(!reply.headers.contains_key("x-amz-meta-s3veil-context"));
        assert_eq!(reply.header("x-amz-meta-own"), "1");
    }
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), body);
    // A copy has the context that the copy's request gives: none.
    let copied = send(proxy.address, "PUT", "/b/copy", &[("x-amz-copy-source", "/b/k")], b"").await;
    assert_eq!(copied.status, 200, "{}", copied.code());
    assert!(!store.get("/b/copy").unwrap().headers.contains_key("x-amz-meta-s3veil-context"));
    assert_eq!(get(proxy.address, "/b/copy").await.bytes(), body);
    let again = [("x-amz-copy-source", "/b/copy"), KMS, (CONTEXT, "eyJ4IjoieSJ9")];
    assert_eq!(send(proxy.address, "PUT", "/b/copy", &again, b"").await.status, 200);
    assert_eq!(get(proxy.address, "/b/copy").await.bytes(), body);

    // Another context, or none, opens nothing: not even with the keys at hand.
    for other in [None, Some(BASE64_STANDARD.encode(r#"{"a":"é","department":"10103.1"}"#)), Some("!".into())]
    {
        let mut object = stored.clone();
        object.headers.remove("x-amz-meta-s3veil-context");
        if let Some(other) = &other {
            object.headers.insert("x-amz-meta-s3veil-context", other.parse().unwrap());
        }
        store.put("/b/k", object);
        let reply = get(proxy.address, "/b/k").await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (500, "InternalError"), "{other:?}");
    }
    // And no client makes one up.
    let own = [("x-amz-meta-s3veil-context", canonical.as_str())];
    assert_eq!(send(proxy.address, "PUT", "/b/k", &own, b"").await.code(), "InvalidArgument");
}

#[tokio::test]
async fn an_upload_has_the_key_and_the_context_that_it_began_with() {
    let (store, proxy) = start().await;
    let chosen = [KMS, (KEY_ID, "team-a"), (CONTEXT, "eyJhIjoiYiJ9"), (BUCKET_KEY, "true")];
    let created = send(proxy.address, "POST", "/b/k?uploads", &chosen, b"").await;
    assert_eq!(shown(&created), ("aws:kms", "team-a", "true"));
    assert_eq!(created.header(CONTEXT), "eyJhIjoiYiJ9");
    let upload = Upload { to: proxy.address, path: "/b/k".into(), id: inner(&created, "UploadId") };
    let part = upload.send_part(1, &[], &pattern(70_000)).await;
    assert_eq!(shown(&part), ("aws:kms", "team-a", "true"));
    let done = upload.complete(&[(1, part.header("etag").to_owned())]).await;
    assert_eq!((done.status.as_u16(), shown(&done)), (200, ("aws:kms", "team-a", "true")));
    assert_eq!(ek_of(&store, "/b/k"), "team-a");
    let read = get(proxy.address, "/b/k").await;
    assert_eq!((read.bytes(), shown(&read)), (&pattern(70_000)[..], ("aws:kms", "team-a", "true")));
}

#[tokio::test]
async fn a_copy_changes_the_key_and_a_place_without_seals_keeps_the_stores_own() {
    let (store, proxy) = start().await;
    put(proxy.address, "/b/k", b"secret").await;
    let to_team = [("x-amz-copy-source", "/b/k"), KMS, (KEY_ID, "team-b")];
    let copied = send(proxy.address, "PUT", "/b/k", &to_team, b"").await;
    assert_eq!((copied.status.as_u16(), shown(&copied).1), (200, "team-b"), "onto itself, for another key");
    assert_eq!(ek_of(&store, "/b/k"), "team-b");
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), b"secret");
    let denied = [("x-amz-copy-source", "/b/k"), KMS, (KEY_ID, "team-b")];
    assert_eq!(send(proxy.address, "PUT", "/b/locked/k", &denied, b"").await.code(), "AccessDenied");
    store.take_seen();
    let plain = send(proxy.address, "PUT", "/plain/k", &[KMS, (KEY_ID, "of the store")], b"x").await;
    assert_eq!(plain.status, 200);
    assert_eq!(store.take_seen()[0].headers[KEY_ID], "of the store");
}
