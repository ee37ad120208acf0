//! How clients, identities and stores are put together: https with a CA of one's own, identities and their store
//! credentials, virtual hosts, trusted mode, passthrough.

mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;

use http::Request;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use s3veil::aws::sign::BodyHash;
use support::client::{exchange, full, get, put, send, signed};
use support::memory::{Fault, MemoryStore};
use support::proxy::{Proxy, SEALED, start};
use support::tls::Authority;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// TLS in front of a store: gives the port, and notes the name that was asked for (SNI).
async fn tls(store: &MemoryStore) -> (u16, String, Arc<std::sync::Mutex<Vec<String>>>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    let config = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = store.endpoint.trim_start_matches("http://").to_owned();
    let names = Arc::<std::sync::Mutex<Vec<String>>>::default();
    let seen = names.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, behind, seen) = (acceptor.clone(), behind.clone(), seen.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                seen.lock().unwrap().extend(stream.get_ref().1.server_name().map(str::to_owned));
                let mut store = TcpStream::connect(behind).await.unwrap();
                tokio::io::copy_bidirectional(&mut stream, &mut store).await.ok();
            });
        }
    });
    (port, cert.pem(), names)
}

#[tokio::test]
async fn https_to_the_store_with_a_ca_of_ones_own() {
    let store = MemoryStore::start().await;
    let (port, pem, names) = tls(&store).await;
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    let endpoint = format!("https://localhost:{port}");
    // Roots of the system do not know the store: nothing is sent.
    let wary = Proxy::start(&endpoint, SEALED).await;
    assert_eq!(put(wary.address, "/b/k", b"x").await.status, 503);
    assert!(store.take_seen().is_empty());

    let proxy = Proxy::start_with(&endpoint, &format!("ca_file = {ca:?}"), SEALED).await;
    assert_eq!(put(proxy.address, "/b/k", b"hello").await.status, 200);
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), b"hello");
    let seen = store.take_seen();
    assert_eq!(seen[0].headers["x-amz-content-sha256"], "UNSIGNED-PAYLOAD", "TLS covers the body");
    // But AWS asks for a checksum where an object is locked.
    let lock = [("x-amz-object-lock-legal-hold", "ON")];
    assert_eq!(send(proxy.address, "PUT", "/b/k", &lock, b"hello").await.status, 200);
    assert_eq!(store.take_seen()[0].headers["x-amz-trailer"], "x-amz-checksum-crc32c");
    assert!(names.lock().unwrap().iter().all(|name| name == "localhost"));
}

/// Signed by the right authority is not enough: a certificate has its time and its names. Nothing is sent past one that is not
/// good, and what cannot be verified is not asked in plain either.
#[tokio::test]
async fn a_store_whose_certificate_is_not_good_gets_nothing() {
    let (authority, stranger) = (Authority::new("of the store"), Authority::new("of the store"));
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    for (what, issued, host, good) in [
        ("a good one", authority.issue(2100), "127.0.0.1", true),
        ("expired", authority.issue(2020), "127.0.0.1", false),
        ("of another host", authority.issue(2100), "127.0.0.2", false),
        ("of another authority of that name", stranger.issue(2100), "127.0.0.1", false),
    ] {
        let store = MemoryStore::start().await;
        let (certificate, key) = (&issued.certificate, &issued.key);
        let port = serve_tls(&store, certificate, key, host).await;
        let endpoint = format!("https://{host}:{port}");
        let proxy = Proxy::start_with(&endpoint, &format!("ca_file = {ca:?}"), SEALED).await;
        for method in ["PUT", "GET", "HEAD", "DELETE"] {
            let reply = send(proxy.address, method, "/b/k", &[], b"").await;
            assert_eq!(reply.status == 503, !good, "{what}, {method}: {}", reply.status);
        }
        assert_eq!(store.take_seen().is_empty(), !good, "{what}");
    }
}

/// TLS with this certificate in front of a store, at an address of loopback.
async fn serve_tls(store: &MemoryStore, certificate: &str, key: &str, host: &str) -> u16 {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    let config = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = store.endpoint.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut store = TcpStream::connect(behind).await.unwrap();
                tokio::io::copy_bidirectional(&mut stream, &mut store).await.ok();
            });
        }
    });
    port
}

/// No upload could ever be completed, and each form would hold as much in memory.
#[test]
fn a_least_part_beyond_s3s_longest_is_a_mistake() {
    let store = |bytes: u64| {
        let text = format!(
            "endpoint = 'http://127.0.0.1:1'\nmin_part_bytes = {bytes}\n\
             credentials.default = {{ access_key = 'a', secret_key = 's' }}"
        );
        toml::from_str::<s3veil::backend::Config>(&text)
            .unwrap()
            .build(s3veil::metrics::Metrics::default().store())
    };
    assert!(store(5 << 30).is_ok());
    let why = store((5 << 30) + 1).err().unwrap();
    for words in ["store.min_part_bytes: '5368709121'", "5368709120", "Write the least"] {
        assert!(why.contains(words), "{why} lacks {words}");
    }
}

#[tokio::test]
async fn over_http_a_checksum_covers_the_sealed_bytes() {
    let (store, proxy) = start(SEALED).await;
    put(proxy.address, "/b/k", b"hello").await;
    let headers = store.take_seen().remove(0).headers;
    assert_eq!(headers["x-amz-content-sha256"], "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    assert_eq!(headers["x-amz-trailer"], "x-amz-checksum-crc32c");
    assert!(!headers.contains_key("content-encoding"));
    let proxy = Proxy::start_with(&store.endpoint, "payload = \"unsigned\"", SEALED).await;
    put(proxy.address, "/b/k", b"hello").await;
    assert_eq!(store.take_seen().remove(0).headers["x-amz-content-sha256"], "UNSIGNED-PAYLOAD");
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), b"hello");
}

#[tokio::test]
async fn identities_go_on_with_their_own_store_credentials() {
    let store = MemoryStore::start().await;
    let more = format!("store = \"readers\"\n{SEALED}");
    let credentials = "credentials.readers = { access_key = \"reader\", secret_key = \"r\" }";
    let proxy = Proxy::start_with(&store.endpoint, credentials, &more).await;
    put(proxy.address, "/b/k", b"hello").await;
    let sent = store.take_seen().remove(0).headers;
    assert!(sent["authorization"].to_str().unwrap().contains("Credential=reader/"));
}

#[tokio::test]
async fn a_bucket_in_the_host_name() {
    let store = MemoryStore::start().await;
    let more = format!("{SEALED}[auth]\ndomains = [\"s3.test\"]\n");
    let proxy = Proxy::start_with(&store.endpoint, "", &more).await;
    let mut request = signed(proxy.address, "PUT", "/k", &[("content-length", "1")], BodyHash::Unsigned);
    // The host is signed: a request for another one is refused.
    request.headers_mut().insert("host", "b.s3.test".parse().unwrap());
    assert_eq!(exchange(proxy.address, request.map(|()| full("x"))).await.unwrap().status, 403);
    let request =
        support::client::signed_for("b.s3.test", "PUT", "/k", &[("content-length", "1")], BodyHash::Unsigned);
    assert_eq!(exchange(proxy.address, request.map(|()| full("x"))).await.unwrap().status, 200);
    assert_eq!(store.paths(), ["/b/k"]);
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), b"x", "path style beside it");
}

#[tokio::test]
async fn trusted_mode_needs_no_signature() {
    let store = MemoryStore::start().await;
    let proxy =
        Proxy::start_with(&store.endpoint, "", &format!("{SEALED}[auth]\nmode = \"trusted\"\n")).await;
    let request = |method: &str, body: &'static str| {
        let host = proxy.address.to_string();
        let request = Request::builder().method(method).uri("/b/k").header("host", host);
        request.header("content-length", body.len()).body(full(body)).unwrap()
    };
    assert_eq!(exchange(proxy.address, request("PUT", "hello")).await.unwrap().status, 200);
    assert!(store.get("/b/k").unwrap().headers.contains_key("x-amz-meta-s3veil"));
    assert_eq!(exchange(proxy.address, request("GET", "")).await.unwrap().bytes(), b"hello");
}

#[tokio::test]
async fn anonymous_requests_are_refused_and_preflights_pass_unsigned() {
    let (store, proxy) = start(SEALED).await;
    let request = |method: &str| {
        let host = proxy.address.to_string();
        Request::builder()
            .method(method)
            .uri("/b/k")
            .header("host", host)
            .header("origin", "http://o")
            .body(full(""))
            .unwrap()
    };
    assert_eq!(exchange(proxy.address, request("GET")).await.unwrap().code(), "AccessDenied");
    assert!(store.take_seen().is_empty());
    exchange(proxy.address, request("OPTIONS")).await.unwrap();
    let seen = store.take_seen().remove(0).headers;
    assert!(!seen.contains_key("authorization") && seen["origin"] == "http://o");
}

#[tokio::test]
async fn passthrough_and_deny() {
    let policy = "[[policy]]\nbucket = \"*\"\nek = \"s3veil-dev-key\"\n\
                  [[policy]]\nbucket = \"b\"\nprefix = \"open/\"\nmode = \"passthrough\"\n\
                  [[policy]]\nbucket = \"b\"\nprefix = \"no/\"\nmode = \"deny\"\n";
    let (store, proxy) = start(policy).await;
    assert_eq!(put(proxy.address, "/b/open/k", b"hello").await.status, 200);
    assert_eq!(store.get("/b/open/k").unwrap().body, b"hello");
    assert_eq!(get(proxy.address, "/b/open/k").await.bytes(), b"hello");
    // A body that fails its check is not forwarded whole either.
    let bad =
        send(proxy.address, "PUT", "/b/open/k", &[("x-amz-checksum-crc32", "AAAAAA==")], b"other").await;
    assert_eq!(bad.code(), "BadDigest");
    assert_eq!(store.get("/b/open/k").unwrap().body, b"hello");
    // What was sealed before the rule changed is still opened.
    put(proxy.address, "/b/sealed", b"old").await;
    let other = "[[policy]]\nbucket = \"*\"\nmode = \"passthrough\"\n";
    let text = send(proxy.address, "GET", "/b/no/k", &[], b"").await;
    assert_eq!(text.code(), "AccessDenied");
    for method in ["PUT", "HEAD", "DELETE"] {
        assert_eq!(send(proxy.address, method, "/b/no/k", &[], b"").await.status, 403);
    }
    let opened = Proxy::start_beside(&proxy, &store.endpoint, other).await;
    assert_eq!(get(opened.address, "/b/sealed").await.bytes(), b"old");
    let range = send(opened.address, "GET", "/b/sealed", &[("range", "bytes=1-1")], b"").await;
    assert_eq!(range.bytes(), b"l");
}

#[tokio::test]
async fn config_check_asks_the_store() {
    let store = MemoryStore::start().await;
    let more = "access_key = \"other\", secret_key = \"other-secret\"";
    let more = format!("credentials.other = {{ {more} }}");
    let proxy = Proxy::start_with(&store.endpoint, &more, SEALED).await;
    let backend = &proxy.app.rooms.backend;
    assert_eq!(backend.check().await, Ok(Vec::new()));
    assert_eq!(store.take_seen().len(), 2, "with each of the credentials");

    store.fail_next(Fault::Refuse("AccessDenied"));
    let notes = backend.check().await.unwrap();
    assert!(
        notes.len() == 1 && notes[0].contains("'default': the store answers 403 AccessDenied"),
        "{notes:?}"
    );
    for (code, words) in [
        ("InvalidAccessKeyId", "store.credentials.default: the store answers 403 InvalidAccessKeyId"),
        ("SignatureDoesNotMatch", "Correct access_key and secret_key"),
        ("AuthorizationHeaderMalformed", "store.region: 'us-east-1'"),
        ("RequestTimeTooSkewed", "clock"),
    ] {
        store.fail_next(Fault::Refuse(code));
        let why = backend.check().await.unwrap_err();
        assert!(why.contains(words) && !why.contains("store-secret"), "{why}");
    }
    store.fail_next(Fault::Status(503));
    assert!(backend.check().await.unwrap_err().contains("store.endpoint: 'http://127.0.0.1"));
    let away = Proxy::start("http://127.0.0.1:1", SEALED).await;
    let why = away.app.rooms.backend.check().await.unwrap_err();
    assert!(why.contains("store.endpoint: 'http://127.0.0.1:1'") && why.contains("Start the store"), "{why}");
}

#[tokio::test]
async fn the_admin_listener_changes_nothing_without_its_token() {
    let store = MemoryStore::start().await;
    let with = |token: &str| format!("{SEALED}[admin]\nlisten = \"127.0.0.1:0\"\n{token}");
    let proxy = Proxy::start(&store.endpoint, &with("token = \"0123456789abcdef\"")).await;
    let tokenless = Proxy::start(&store.endpoint, &with("")).await;
    let (admin, closed) = (proxy.admin().await, tokenless.admin().await);
    for (to, method, path, authorization, status) in [
        (admin, "GET", "/healthz", "", 200),
        (admin, "GET", "/metrics", "", 200),
        (admin, "POST", "/cache/flush", "Bearer 0123456789abcdef", 200),
        (admin, "POST", "/cache/flush", "Bearer 0123456789abcdeg", 401),
        (admin, "POST", "/cache/flush", "Bearer ", 401),
        (admin, "POST", "/cache/flush", "Basic 0123456789abcdef", 401),
        (admin, "POST", "/cache/flush", "", 401),
        (admin, "GET", "/cache/flush", "Bearer 0123456789abcdef", 405),
        (admin, "POST", "/metrics", "", 405),
        (admin, "GET", "/", "", 200),
        (admin, "GET", "/status.json", "", 200),
        (admin, "GET", "/policy", "", 401),
        (admin, "GET", "/policy", "Bearer 0123456789abcdef", 200),
        (admin, "POST", "/policy", "Bearer 0123456789abcdef", 405),
        (admin, "GET", "/other", "", 404),
        (closed, "GET", "/policy", "Bearer ", 403),
        (closed, "POST", "/cache/flush", "Bearer ", 403),
        (closed, "GET", "/healthz", "", 200),
    ] {
        let request = Request::builder().method(method).uri(path).header("authorization", authorization);
        let reply = exchange(to, request.body(full("")).unwrap()).await.unwrap();
        assert_eq!(reply.status.as_u16(), status, "{method} {path} {authorization:?}");
        assert!(!String::from_utf8_lossy(reply.bytes()).contains("0123456789abcdef"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_wins_over_the_file_and_names_it() {
    let (_store, proxy) = start(SEALED).await;
    let keys = proxy.keys.path().join("keys");
    let file = proxy.keys.path().join("elsewhere.toml");
    let text = format!(
        r#"
        store = {{ endpoint = "http://127.0.0.1:1", credentials.default = {{ access_key = "a", secret_key = "s" }} }}
        kms.local = {{ kind = "local", path = {keys:?}, master_key = {{ env = "S3VEIL_MASTER_KEY" }} }}
        policy = [{{ bucket = "*", ek = "s3veil-dev-key" }}]
        auth.identities = [{{ name = "a", access_key = "a", secret_key = "s" }}]
        "#
    );
    std::fs::write(&file, text).unwrap();
    let check = |more: &[(&str, &str)]| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_s3veil"))
            .args(["config", "check"])
            .env("S3VEIL_CONFIG", &file)
            .env("S3VEIL_TOOLS", "of the tests")
            // What Kubernetes tells of a service named s3veil.
            .env("S3VEIL_SERVICE_HOST", "10.0.0.1")
            .env("S3VEIL_PORT", "tcp://10.0.0.1:8333")
            .env("S3VEIL_PORT_8333_TCP_ADDR", "10.0.0.1")
            // And of others whose names begin so.
            .env("S3VEIL_ADMIN_SERVICE_HOST", "10.0.0.2")
            .env("S3VEIL_ADMIN_SERVICE_PORT_ADMIN", "9333")
            .env("S3VEIL_ADMIN_PORT", "tcp://10.0.0.2:9333")
            .env("S3VEIL_GATEWAY_PORT_8333_TCP_PROTO", "tcp")
            .env("S3VEIL_MASTER_KEY", std::fs::read_to_string(keys.join("master.key")).unwrap().trim())
            .envs(more.iter().copied())
            .output()
            .unwrap();
        String::from_utf8([done.stdout, done.stderr].concat()).unwrap()
    };
    // Nothing listens there, which is said.
    assert!(check(&[]).contains("store.endpoint: 'http://127.0.0.1:1'"), "{}", check(&[]));
    let moved = check(&[("S3VEIL_STORE__ENDPOINT", "http://127.0.0.1:2")]);
    assert!(moved.contains("store.endpoint: 'http://127.0.0.1:2'"), "{moved}");
    let unknown = check(&[("S3VEIL_STOR__ENDPOINT", "x")]);
    assert!(unknown.contains("S3VEIL_STOR") && unknown.contains("no such key"), "{unknown}");
}

/// What a bucket policy of the store may ask for, beside who signed: `aws:Referer`, `aws:UserAgent`.
#[tokio::test]
async fn a_policy_of_the_store_sees_where_a_request_comes_from() {
    let (store, proxy) = start(SEALED).await;
    put(proxy.address, "/b/k", b"hello").await;
    store.take_seen();
    let from = [("referer", "http://www.example.com/"), ("user-agent", "reader/1")];
    assert_eq!(send(proxy.address, "GET", "/b/k", &from, b"").await.bytes(), b"hello");
    let seen = store.take_seen();
    for (name, value) in from {
        assert!(seen.iter().all(|seen| seen.headers[name] == value), "{name}");
    }
}
