//! Copies as the policy judges them: what may go where, and that it is the object which was looked at.

mod support;

use http::{HeaderMap, Method};
use support::client::{Reply, get, put, send};
use support::memory::{Fault, MemoryStore, Object};
use support::proxy::{pattern, start};
use support::upload::{Upload, inner};

/// Sealed places, one that also reads plain objects, and a plain one.
const PLACES: &str = r#"
[[policy]]
bucket = "*"
ek = "s3veil-dev-key"
[[policy]]
bucket = "mixed"
ek = "s3veil-dev-key"
plaintext = "read"
[[policy]]
bucket = "plain"
mode = "passthrough"
[[policy]]
bucket = "b"
prefix = "denied/"
mode = "deny"
"#;

async fn copy(to: std::net::SocketAddr, path: &str, source: &str, more: &[(&str, &str)]) -> Reply {
    let headers = [&[("x-amz-copy-source", source)], more].concat();
    send(to, "PUT", path, &headers, b"").await
}

/// An object written past s3veil.
fn plain_object(store: &MemoryStore, path: &str, body: &[u8]) {
    let headers = HeaderMap::from_iter([
        (http::header::ETAG, "\"e\"".parse().unwrap()),
        ("x-amz-meta-a".parse().unwrap(), "1".parse().unwrap()),
    ]);
    store.put(path, Object { body: body.to_vec(), headers });
}

fn has(store: &MemoryStore, path: &str, plain: &[u8]) -> bool {
    store.get(path).unwrap().body.windows(32).any(|window| window == &plain[..32])
}

#[tokio::test]
async fn plaintext_comes_to_lie_only_where_the_policy_says() {
    let (store, proxy) = start(PLACES).await;
    let body = pattern(200_000);
    for source in ["b", "mixed", "plain"] {
        let path = format!("/{source}/k");
        assert_eq!(send(proxy.address, "PUT", &path, &[("x-amz-meta-a", "1")], &body).await.status, 200);
        for target in ["b", "c", "mixed", "plain"] {
            let path = format!("/{target}/from-{source}");
            let reply = copy(proxy.address, &path, &format!("{source}/k"), &[]).await;
            assert_eq!(reply.status, 200, "{path}: {}", reply.code());
            assert_ne!(inner(&reply, "ETag"), "", "{path}");
            assert_eq!(has(&store, &path, &body), target == "plain", "{path}");
            let read = get(proxy.address, &path).await;
            assert!(read.bytes() == body && read.header("x-amz-meta-a") == "1", "{path}");
            let sse = read.headers.contains_key("x-amz-server-side-encryption");
            assert_eq!(sse, target != "plain", "{path}");
        }
    }
    plain_object(&store, "/mixed/old", &body);
    assert_eq!(copy(proxy.address, "/mixed/new", "mixed/old", &[]).await.status, 200);
    assert!(!has(&store, "/mixed/new", &body));
}

#[tokio::test]
async fn a_plain_object_does_not_leave_where_none_is_served() {
    let (store, proxy) = start(PLACES).await;
    let upload = Upload::start(proxy.address, "/plain/up", &[]).await;
    plain_object(&store, "/b/k", b"written past s3veil");
    let before = store.paths();
    for target in ["/plain/k", "/b/other", &format!("{}&partNumber=1", upload.at())] {
        assert_eq!(copy(proxy.address, target, "b/k", &[]).await.code(), "AccessDenied", "{target}");
    }
    for source in ["b/denied/k", "b/.s3veil/uploads/x/record", "b/%2Es3veil/uploads/x/record"] {
        assert_eq!(copy(proxy.address, "/plain/k", source, &[]).await.code(), "AccessDenied", "{source}");
    }
    for target in ["/b/denied/k", "/b/.s3veil/k"] {
        assert_eq!(copy(proxy.address, target, "plain/k", &[]).await.code(), "AccessDenied", "{target}");
    }
    assert_eq!(store.paths(), before);
}

/// What the look found (a key, or that there is none) is true of no other object.
#[tokio::test]
async fn a_copy_is_of_the_object_that_was_looked_at() {
    let (store, proxy) = start(PLACES).await;
    for (source, target) in [("/b/k", "/b/t"), ("/plain/k", "/plain/t")] {
        put(proxy.address, source, b"one").await;
        let held = store.hold_next_of(Method::PUT);
        let copied = tokio::spawn(async move { copy(proxy.address, target, &source[1..], &[]).await });
        held.met().await;
        put(proxy.address, source, b"another").await;
        held.release();
        assert_eq!(copied.await.unwrap().code(), "ServiceUnavailable", "{source}");
        assert!(store.get(target).is_none(), "{source}");
        assert_eq!(copy(proxy.address, target, &source[1..], &[]).await.status, 200, "{source}");
        assert_eq!(get(proxy.address, target).await.bytes(), b"another", "{source}");
    }
}

#[tokio::test]
async fn a_source_that_is_refused_is_refused_in_the_stores_words() {
    let (store, proxy) = start(PLACES).await;
    put(proxy.address, "/b/k", b"x").await;
    // The HEAD has no words: they are those of the GET that follows.
    for (status, code) in [(404, "NoSuchBucket"), (405, "MethodNotAllowed"), (400, "InvalidArgument")] {
        store.fail_next_of(Method::HEAD, Fault::Status(status));
        store.fail_next_of(Method::GET, Fault::Refuse(code));
        assert_eq!(copy(proxy.address, "/b/t", "b/k", &[]).await.code(), code);
    }
    for name in ["x-amz-metadata-directive", "x-amz-tagging-directive"] {
        let reply = copy(proxy.address, "/b/t", "b/k", &[(name, "BOTH")]).await;
        assert_eq!(reply.code(), "InvalidArgument", "{name}");
    }
    assert_eq!(store.paths(), ["/b/k"]);
}

/// A header speaks of the source, or of the target: each goes where it belongs when s3veil reads the one and writes the
/// other.
#[tokio::test]
async fn headers_of_a_copy_go_to_the_source_or_to_the_target() {
    let (store, proxy) = start(PLACES).await;
    put(proxy.address, "/b/k", b"x").await;
    store.take_seen();
    let headers = [
        ("x-amz-source-expected-bucket-owner", "111111111111"),
        ("x-amz-expected-bucket-owner", "222222222222"),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-metadata-directive", "REPLACE"),
        ("x-amz-meta-new", "1"),
    ];
    assert_eq!(copy(proxy.address, "/plain/t", "b/k", &headers).await.status, 200);
    let seen = store.take_seen();
    for request in &seen {
        let reads = request.method != Method::PUT;
        let owner = if reads { "111111111111" } else { "222222222222" };
        assert_eq!(request.headers["x-amz-expected-bucket-owner"], owner, "{request:?}");
        // Where nothing is sealed, the store's own encryption is the client's to choose.
        assert_eq!(request.headers.contains_key("x-amz-server-side-encryption"), !reads, "{request:?}");
        let of_source =
            |name: &str| name.starts_with("x-amz-source") || name.starts_with("x-amz-copy-source");
        assert!(!request.headers.keys().any(|name| of_source(name.as_str())), "{request:?}");
    }
    assert_eq!(seen.len(), 3, "a look, a read, a write");
    assert_eq!(get(proxy.address, "/plain/t").await.header("x-amz-meta-new"), "1");
}

/// A customer's key goes to the store only where nothing is sealed: there it is the store's own affair.
#[tokio::test]
async fn a_customer_key_goes_along_where_nothing_is_sealed() {
    const OWN: &str = "x-amz-server-side-encryption-customer-";
    const SOURCE: &str = "x-amz-copy-source-server-side-encryption-customer-";
    let (store, proxy) = start(PLACES).await;
    put(proxy.address, "/plain/k", b"x").await;
    let upload = Upload::start(proxy.address, "/plain/up", &[]).await;
    let part = format!("{}&partNumber=1", upload.at());
    let (source, own) =
        ("pO3upElrwuEXSoFwCfnZPdSsmt/xWeFa0N9KgDijwVs=", "6b+WOZ1T3cqZMxgThRcXAQBrS5mXKdDUphvpxptl9/4=");
    let mut headers = Vec::new();
    for (begins, key, md5) in
        [(SOURCE, source, "DWygnHRtgiJ77HCm+1rvHw=="), (OWN, own, "arxBvwY2V4SiOne6yppVPQ==")]
    {
        let fields = [("algorithm", "AES256"), ("key", key), ("key-md5", md5)];
        headers.extend(fields.map(|(name, value)| (format!("{begins}{name}"), value)));
    }
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    for target in ["/plain/t", &part] {
        store.take_seen();
        let reply = copy(proxy.address, target, "plain/k", &headers).await;
        assert_eq!(reply.status, 200, "{target}: {}", reply.code());
        let [read, write] = &store.take_seen()[..] else { panic!("{target}: a read and a write") };
        let key = format!("{OWN}key");
        assert_eq!(
            (&read.headers[&key], &write.headers[&key]),
            (&source.parse().unwrap(), &own.parse().unwrap())
        );
    }
}
