//! TLS of either version, HTTP/1.1 and HTTP/2 within, certificates that change, clients that show theirs.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::client::{Reply, exchange_on, full, signed, signed_for};
use crate::support::memory::MemoryStore;
use crate::support::proxy::{ACCESS_KEY, Proxy, SEALED, SECRET_KEY, pattern};
use crate::support::tls::{Authority, Issued, Mounted, ask, connect, http2, over_http2};
use crate::{get, metric, put, until};
use s3veil::aws::sign::BodyHash;

const BOTH: [&rustls::SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// s3veil with TLS, and whoever has issued its certificate.
struct Served {
    store: MemoryStore,
    proxy: Proxy,
    authority: Authority,
    mounted: Mounted,
    _directory: TempDir,
}

impl Served {
    /// `roots`: of clients; `more`: what else stands in `[tls]`.
    async fn start(roots: Option<&Authority>, more: &str, root: &str) -> Self {
        let authority = Authority::new("authority");
        let Issued { certificate, key } = authority.issue(2040);
        let directory = tempfile::tempdir().unwrap();
        let mut files = vec![("tls.crt", certificate.as_str()), ("tls.key", &key)];
        files.extend(roots.map(|roots| ("ca.crt", roots.pem.as_str())));
        let mounted = Mounted::new(directory.path(), &files);
        let tls = format!(
            "certificate_file = {:?}, key_file = {:?}",
            mounted.path("tls.crt"),
            mounted.path("tls.key")
        );
        let roots =
            roots.map(|_| format!(", client_ca_file = {:?}", mounted.path("ca.crt"))).unwrap_or_default();
        let store = MemoryStore::start().await;
        let root = format!("tls = {{ {tls}{roots}{more} }}\n{root}");
        let proxy = Proxy::start_with_root(&store.endpoint, &root, SEALED).await;
        Self { store, proxy, authority, mounted, _directory: directory }
    }

    fn metric(&self, name: &str) -> String {
        metric(&self.proxy.app, name).unwrap_or_default()
    }

    /// A GET on a connection of its own; None if there is no answer.
    async fn ask(&self, client: &Arc<ClientConfig>) -> Option<Reply> {
        let stream = connect(self.proxy.address, client).await.ok()?;
        exchange_on(stream, get(self.proxy.address, "/b/k")).await
    }
}

#[tokio::test]
async fn both_versions_and_both_protocols() {
    let served = Served::start(None, "", "").await;
    let to = served.proxy.address;
    let body = pattern(3_000_000);
    for version in BOTH {
        for protocol in ["h2", "http/1.1"] {
            let client = served.authority.client(&[version], &[protocol], None);
            let stream = connect(to, &client).await.unwrap();
            let spoken = stream.get_ref().1;
            assert_eq!(spoken.protocol_version(), Some(version.version));
            assert_eq!(spoken.alpn_protocol(), Some(protocol.as_bytes()));
            let read = if protocol == "h2" {
                let mut sender = http2(stream).await;
                assert_eq!(ask(&mut sender, put(to, "/b/k", body.clone())).await.unwrap().status, 200);
                ask(&mut sender, get(to, "/b/k")).await.unwrap()
            } else {
                assert_eq!(exchange_on(stream, put(to, "/b/k", body.clone())).await.unwrap().status, 200);
                exchange_on(connect(to, &client).await.unwrap(), get(to, "/b/k")).await.unwrap()
            };
            assert!(read.bytes() == body);
            assert!(served.store.get("/b/k").unwrap().body.len() > body.len());
        }
    }
    // HTTP/2 is preferred, and without ALPN it is HTTP/1.1.
    let client = served.authority.client(&BOTH, &["http/1.1", "h2"], None);
    assert_eq!(connect(to, &client).await.unwrap().get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(served.ask(&served.authority.client(&BOTH, &[], None)).await.unwrap().status, 200);
    let alien = served.authority.client(&BOTH, &["spdy/3"], None);
    assert!(connect(to, &alien).await.is_err(), "no protocol in common");
    assert_eq!(served.metric("s3veil_tls_certificate_expiry_timestamp_seconds"), "2208988800");
}

/// A signature covers the host: in HTTP/2 that is the target's, and no header.
#[tokio::test]
async fn signatures_over_http2() {
    let served = Served::start(None, "", "").await;
    let to = served.proxy.address;
    let client = served.authority.client(&BOTH, &["h2"], None);
    let mut sender = http2(connect(to, &client).await.unwrap()).await;
    assert_eq!(ask(&mut sender, put(to, "/b/k", "hello")).await.unwrap().status, 200);

    let other = signed_for("elsewhere:1", "GET", "/b/k", &[], BodyHash::Unsigned).map(|()| full(""));
    assert_eq!(ask(&mut sender, other).await.unwrap().bytes(), b"hello", "whatever name it is reached by");
    // Signed for one host and sent to another.
    let mut moved = over_http2(get(to, "/b/k"));
    let mut uri = moved.uri().clone().into_parts();
    uri.authority = Some("elsewhere:1".parse().unwrap());
    *moved.uri_mut() = http::Uri::from_parts(uri).unwrap();
    let reply = crate::support::client::read(sender.send_request(moved).await.unwrap()).await;
    assert_eq!(reply.code(), "SignatureDoesNotMatch");
    // Both, and they differ.
    let mut both = over_http2(get(to, "/b/k"));
    both.headers_mut().insert("host", "elsewhere:1".parse().unwrap());
    let reply = crate::support::client::read(sender.send_request(both).await.unwrap()).await;
    assert_eq!(reply.code(), "InvalidRequest");
    // A body whose length HTTP/2 need not say, S3 wants to know; a GET has none.
    let mut unknown = signed(to, "PUT", "/b/k", &[], BodyHash::Unsigned).map(|()| full("hello"));
    unknown.headers_mut().remove("content-length");
    let (_, stream) = crate::slow_put(to, "/b/k", 5);
    *unknown.body_mut() = stream.into_body();
    assert_eq!(ask(&mut sender, unknown).await.unwrap().code(), "MissingContentLength");
    // The connection has not suffered.
    assert_eq!(ask(&mut sender, get(to, "/b/k")).await.unwrap().bytes(), b"hello");
}

#[tokio::test]
async fn who_speaks_plainly_is_told() {
    let served = Served::start(None, "", "limits.header_secs = 1").await;
    let to = served.proxy.address;
    let failures = |served: &Served| served.metric("s3veil_tls_handshake_failures_total");
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(b"GET /b/k HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
    drop(stream);
    until("it is counted", || failures(&served) == "1").await;

    let mut garbage = TcpStream::connect(to).await.unwrap();
    garbage.write_all(&[0x80; 100]).await.unwrap();
    let mut nothing = Vec::new();
    garbage.read_to_end(&mut nothing).await.ok();
    assert!(nothing.is_empty());
    until("it is counted", || failures(&served) == "2").await;

    // A handshake that begins and does not go on.
    let mut half = TcpStream::connect(to).await.unwrap();
    half.write_all(&[22, 3, 1]).await.unwrap();
    half.read_to_end(&mut nothing).await.ok();
    until("it is counted", || failures(&served) == "3").await;

    // Who only looks whether the port is open has done nothing wrong.
    drop(TcpStream::connect(to).await.unwrap());
    until("it is gone", || served.metric("s3veil_connections") == "0").await;
    assert_eq!(failures(&served), "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_under_load() {
    let mut served = Served::start(None, "", "").await;
    let to = served.proxy.address;
    let client = served.authority.client(&BOTH, &["http/1.1"], None);
    assert_eq!(
        exchange_on(connect(to, &client).await.unwrap(), put(to, "/b/k", "x")).await.unwrap().status,
        200
    );
    let (ended, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (client, ended, done) = (client.clone(), ended.clone(), done.clone());
            tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    let stream = connect(to, &client).await.expect("a handshake under whichever certificate");
                    let reply = exchange_on(stream, get(to, "/b/k")).await.expect("an answer");
                    assert_eq!(reply.bytes(), b"x");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    // A connection that was there before goes on.
    let h2 = served.authority.client(&BOTH, &["h2"], None);
    let mut old = http2(connect(to, &h2).await.unwrap()).await;
    for year in 2041..2046 {
        let Issued { certificate, key } = served.authority.issue(year);
        served.mounted.put(&[("tls.crt", &certificate), ("tls.key", &key)]);
        let before = done.load(Ordering::Relaxed);
        until("some requests", || done.load(Ordering::Relaxed) > before + 8).await;
        let expires = served.metric("s3veil_tls_certificate_expiry_timestamp_seconds");
        let expected = rcgen::date_time_ymd(year, 1, 1).unix_timestamp().to_string();
        assert_eq!(expires, expected, "{year}");
        assert_eq!(ask(&mut old, get(to, "/b/k")).await.unwrap().bytes(), b"x");
    }
    // What does not fit together leaves the last one in force, and so does what is gone.
    let (one, other) = (served.authority.issue(2050), served.authority.issue(2051));
    let good = served.metric("s3veil_tls_certificate_expiry_timestamp_seconds");
    for files in [
        vec![("tls.crt", one.certificate.as_str()), ("tls.key", &other.key)],
        vec![("tls.crt", "none"), ("tls.key", &one.key)],
        vec![],
    ] {
        served.mounted.put(&files);
        let before = done.load(Ordering::Relaxed);
        until("some requests", || done.load(Ordering::Relaxed) > before + 8).await;
        assert_eq!(served.metric("s3veil_tls_certificate_expiry_timestamp_seconds"), good);
    }
    served.mounted.put(&[("tls.crt", &one.certificate), ("tls.key", &one.key)]);
    assert_eq!(served.ask(&client).await.unwrap().bytes(), b"x");
    assert_ne!(served.metric("s3veil_tls_certificate_expiry_timestamp_seconds"), good);
    ended.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
    assert_eq!(served.metric("s3veil_tls_handshake_failures_total"), "0");
}

#[tokio::test]
async fn clients_show_certificates() {
    let (theirs, stranger) = (Authority::new("clients"), Authority::new("strangers"));
    let (good, bad) = (theirs.issue(2040), stranger.issue(2040));
    for (more, without) in [
        ("", false),
        (", client_certificates = \"required\"", false),
        (", client_certificates = \"optional\"", true),
    ] {
        let served = Served::start(Some(&theirs), more, "").await;
        for version in BOTH {
            let client = |identity| served.authority.client(&[version], &[], identity);
            for (identity, answered) in [(None, without), (Some(&good), true), (Some(&bad), false)] {
                let reply = served.ask(&client(identity)).await;
                assert_eq!(reply.is_some(), answered, "{more} {version:?}");
            }
        }
        assert_ne!(served.metric("s3veil_tls_handshake_failures_total"), "0");
        // Other roots are taken as they come, and no session of before is a way round them.
        let resuming = served.authority.client(&BOTH, &[], Some(&good));
        assert!(served.ask(&resuming).await.is_some() && served.ask(&resuming).await.is_some());
        fs::write(served.mounted.path("ca.crt"), &stranger.pem).unwrap();
        assert!(served.ask(&resuming).await.is_none(), "{more}");
        let client = served.authority.client(&BOTH, &[], Some(&bad));
        assert!(served.ask(&client).await.is_some(), "{more}");
    }
}

#[tokio::test]
async fn bad_files_are_found_at_the_start_and_change_nothing_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let authority = Authority::new("authority");
    let (one, other) = (authority.issue(2040), authority.issue(2040));
    fs::write(path("tls.crt"), &one.certificate).unwrap();
    fs::write(path("tls.key"), &other.key).unwrap();
    let keys = directory.path().join("keys");
    s3veil::kms::local::init_dev(&keys).await.unwrap();
    let file = path("proxy.toml");
    let text = format!(
        r#"
        tls = {{ certificate_file = {:?}, key_file = {:?} }}
        store = {{ endpoint = "http://127.0.0.1:1", credentials.default = {{ access_key = "a", secret_key = "s" }} }}
        kms.local = {{ kind = "local", path = {keys:?}, master_key = {{ file = {:?} }} }}
        policy = [{{ bucket = "*", ek = "s3veil-dev-key" }}]
        auth.identities = [{{ name = "a", access_key = "a", secret_key = "s" }}]
        "#,
        path("tls.crt"),
        path("tls.key"),
        keys.join("master.key"),
    );
    fs::write(&file, text).unwrap();
    let run = || {
        let done =
            Command::new(env!("CARGO_BIN_EXE_s3veil")).args(["serve", "--config", &file]).output().unwrap();
        assert!(!done.status.success());
        String::from_utf8(done.stderr).unwrap()
    };
    let said = run();
    assert!(said.contains(&format!("{file}: tls.key_file: '{}'", path("tls.key"))), "{said}");
    assert!(said.contains("is not the key of the first certificate"), "{said}");
    fs::remove_file(path("tls.key")).unwrap();
    assert!(run().contains("tls.key_file: "), "{}", run());
}

/// A client that others wrote, with its own TLS, HTTP/2 and signatures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_speaks_http2() {
    let served = Served::start(None, "", "").await;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    fs::write(path("ca"), &served.authority.pem).unwrap();
    let body = pattern(2_000_000);
    fs::write(path("up"), &body).unwrap();
    let url = format!("https://localhost:{}/b/k", served.proxy.address.port());
    let user = format!("{ACCESS_KEY}:{SECRET_KEY}");
    let curl = |arguments: &[&str]| {
        Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--http2",
                "--noproxy",
                "*",
                "--cacert",
                &path("ca"),
                "--user",
                &user,
            ])
            .args([
                "--aws-sigv4",
                "aws:amz:us-east-1:s3",
                "--header",
                "x-amz-content-sha256: UNSIGNED-PAYLOAD",
            ])
            .args(["--write-out", "%{http_version} %{http_code}", &url])
            .args(arguments)
            .output()
    };
    let Ok(put) = curl(&["--upload-file", &path("up")]) else {
        return println!("skipped: curl is not installed");
    };
    assert_eq!(String::from_utf8_lossy(&put.stdout), "2 200", "{}", String::from_utf8_lossy(&put.stderr));
    let got = curl(&["--output", &path("down")]).unwrap();
    assert_eq!(String::from_utf8_lossy(&got.stdout), "2 200", "{}", String::from_utf8_lossy(&got.stderr));
    assert!(fs::read(path("down")).unwrap() == body);
}
