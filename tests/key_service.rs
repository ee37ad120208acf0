//! Keys at work in a whole s3veil: how often a KMS is asked, what readiness shows, how much metadata fits.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use s3veil::aws::sign::BodyHash;
use s3veil::kms::EkName;
use s3veil::s3::checksum::{Algorithm, Hasher};
use s3veil::seal::{Dek, Envelope, Header, Layout, Place, PlainLen, Sse};
use support::client::{AnyBody, Reply, exchange, full, get, send, signed};
use support::memory::MemoryStore;
use support::proxy::{Proxy, SEALED, start};
use tokio::net::TcpStream;

const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";

async fn admin_page(proxy: &Proxy, path: &str) -> (u16, String) {
    let request = http::Request::get(path).header("host", "localhost").body(full("")).unwrap();
    let reply = exchange(proxy.admin().await, request).await.unwrap();
    (reply.status.as_u16(), String::from_utf8(reply.bytes().to_vec()).unwrap())
}

/// The sum of a metric over all labels that hold `with`.
fn metric(page: &str, name: &str, with: &str) -> u64 {
    let lines = page.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(with));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

/// A client that keeps its connection.
struct Client {
    proxy: Arc<Proxy>,
    sender: SendRequest<AnyBody>,
}

impl Client {
    async fn connect(proxy: &Arc<Proxy>) -> Self {
        let stream = TcpStream::connect(proxy.address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { proxy: proxy.clone(), sender }
    }

    #[allow(clippy::disallowed_methods)] // The bodies are small.
    async fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let hash = BodyHash::Sha256(hex::encode(Hasher::digest(Algorithm::Sha256, body).value()));
        let mut request = signed(self.proxy.address, method, path, &[], hash).map(|()| full(body.to_vec()));
        request.headers_mut().insert("content-length", body.len().into());
        self.sender.ready().await.unwrap();
        let (parts, body) = self.sender.send_request(request).await.unwrap().into_parts();
        (parts.status.as_u16(), body.collect().await.unwrap().to_bytes().to_vec())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_writes_and_reads_of_four_buckets_cost_four_calls() {
    const OBJECTS: usize = 10_000;
    let store = MemoryStore::start().await;
    let proxy = Arc::new(Proxy::start(&store.endpoint, &format!("{SEALED}{ADMIN}")).await);
    for method in ["PUT", "GET"] {
        let next = Arc::<AtomicUsize>::default();
        let clients = (0..16).map(|_| {
            let (proxy, next) = (proxy.clone(), next.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(&proxy).await;
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= OBJECTS {
                        return;
                    }
                    let path = format!("/bucket-{}/{at}", at % 4);
                    let body = if method == "PUT" { at.to_string() } else { String::new() };
                    let (status, got) = client.ask(method, &path, body.as_bytes()).await;
                    assert_eq!(status, 200);
                    assert!(method == "PUT" || got == at.to_string().as_bytes());
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
    }
    let (_, page) = admin_page(&proxy, "/metrics").await;
    let calls = metric(&page, "s3veil_kms_calls_total", "kms=\"local\"");
    // One for each bucket, and the probe at the start wraps and unwraps one.
    assert_eq!(calls, 4 + 2, "{page}");
    let kept = |purpose: &str, result: &str| {
        metric(&page, "s3veil_dek_cache_total", &format!("result=\"{result}\",use=\"{purpose}\""))
    };
    assert_eq!((kept("write", "miss"), kept("read", "miss")), (4, 0));
    assert_eq!((kept("write", "hit"), kept("read", "hit")), (OBJECTS as u64 - 4, OBJECTS as u64));

    // Another replica has written nothing, and has to ask once for each bucket's DEK.
    let other = Arc::new(Proxy::start_beside(&proxy, &store.endpoint, &format!("{SEALED}{ADMIN}")).await);
    let mut client = Client::connect(&other).await;
    for at in 0..400 {
        assert_eq!(client.ask("GET", &format!("/bucket-{}/{at}", at % 4), b"").await.0, 200);
    }
    let (_, page) = admin_page(&other, "/metrics").await;
    assert_eq!(metric(&page, "s3veil_kms_calls_total", "operation=\"unwrap\""), 4 + 1, "{page}");
}

#[tokio::test]
async fn readiness_names_each_kms() {
    let store = MemoryStore::start().await;
    let proxy = Proxy::start(&store.endpoint, &format!("{SEALED}{ADMIN}")).await;
    let ready = format!("store '{}': ok\nkms 'local': ok\n", store.endpoint);
    assert_eq!(admin_page(&proxy, "/readyz").await, (200, ready));
    let (_, page) = admin_page(&proxy, "/metrics").await;
    assert_eq!(metric(&page, "s3veil_kms_up", "kms=\"local\""), 1);
}

/// A name and value of user metadata that count `bytes`.
fn metadata(bytes: usize) -> (&'static str, String) {
    ("x-amz-meta-note", "x".repeat(bytes - "note".len()))
}

async fn put_with(proxy: &Proxy, method: &str, path: &str, bytes: usize) -> Reply {
    let (name, value) = metadata(bytes);
    send(proxy.address, method, path, &[(name, &value)], b"").await
}

#[tokio::test]
async fn metadata_fits_up_to_s3s_limit_and_is_refused_beyond_before_anything_is_sent() {
    let (store, proxy) = start(SEALED).await;
    assert_eq!(put_with(&proxy, "PUT", "/b/k", 1400).await.status, 200);
    let stored = store.get("/b/k").unwrap();
    let envelope = stored.headers["x-amz-meta-s3veil"].len();
    let room = 2048 - "s3veil".len() - envelope;
    assert_eq!(put_with(&proxy, "PUT", "/b/k", room).await.status, 200);
    assert_eq!(get(proxy.address, "/b/k").await.header("x-amz-meta-note").len(), room - "note".len());

    store.take_seen();
    for (method, path) in [("PUT", "/b/k"), ("POST", "/b/k?uploads")] {
        // The envelope of an upload is a few bytes shorter: it has no length.
        let refused = put_with(&proxy, method, path, room + 16).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, "MetadataTooLarge"), "{path}");
        assert!(store.take_seen().is_empty(), "the store is not asked");
    }
    let refused = put_with(&proxy, "PUT", "/b/k", room + 1).await;
    let text = String::from_utf8_lossy(refused.bytes()).into_owned();
    assert!(text.contains(&format!("<MaxSizeAllowed>{room}</MaxSizeAllowed>")), "{text}");
    // A copy that brings metadata of its own is no way around it.
    let (name, value) = metadata(room + 1);
    let headers =
        [("x-amz-copy-source", "/b/k"), ("x-amz-metadata-directive", "REPLACE"), (name, value.as_str())];
    let refused = send(proxy.address, "PUT", "/b/copy", &headers, b"").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, "MetadataTooLarge"));
    assert!(store.get("/b/copy").is_none());
}

/// What each KMS leaves of S3's 2,048 bytes: wrapped DEK and version as long as it makes them. The docs have this table.
#[test]
fn room_for_user_metadata_by_kms() {
    for (kms, wrapped, version, at_least) in [
        ("kes, embedded keystore, every secret store", 76, 0, 1699),
        ("vault transit", 89, 0, 1682),
        ("google-kms", 113, 0, 1650),
        ("kmip and ciphertrust", 60, 36, 1667),
        ("aws-kms", 184, 36, 1502),
        ("azure, RSA 2048", 256, 32, 1411),
        ("azure, RSA 3072", 384, 32, 1240),
        ("azure, RSA 4096", 512, 32, 1070),
    ] {
        let header = Header {
            layout: Layout::Stream(PlainLen::new(5 << 30).unwrap()),
            kms: "production".into(),
            ek: EkName::parse(&"e".repeat(20)).unwrap().to_string(),
            ek_version: (version > 0).then(|| "v".repeat(version)),
            wrapped_dek: vec![7; wrapped],
            sse: Sse::Kms,
            context: None,
        };
        let place = Place { bucket: "b", key: "k" };
        let (envelope, _) = Envelope::seal(header, &Dek::from([1; 32]), place).unwrap();
        let room = 2048 - "s3veil".len() - envelope.encode().len();
        assert!(room >= at_least, "{kms}: {room}");
    }
}
