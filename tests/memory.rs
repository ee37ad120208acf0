//! Promise 5: memory per request is constant. 200 uploads, then 200 downloads, of 64 MiB each at once through the real
//! program, which may not come over 256 MiB.
//!
//! The store is in this process and keeps nothing: an upload is counted and thrown away, and what is downloaded is one
//! sealed object, uploaded before, that all requests share. So the other process's memory is s3veil's alone.

#![allow(clippy::disallowed_methods)] // Reads of bodies are counted, not gathered.

mod support;

use std::convert::Infallible;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1 as client;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3veil::aws::sign::BodyHash;
use support::client::signed;
use support::proxy::{ACCESS_KEY, SECRET_KEY};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

const CLIENTS: usize = 200;
const SIZE: usize = 64 * 1024 * 1024;
const LIMIT_KIB: u64 = 256 * 1024;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The one object that is kept: its sealed bytes and its headers.
#[derive(Default)]
struct Kept(Mutex<(Bytes, HeaderMap)>);

fn pieces(body: Bytes) -> Body {
    let pieces = (0..body.len()).step_by(65_536).map(move |at| {
        let end = body.len().min(at + 65_536);
        Ok(Frame::data(body.slice(at..end)))
    });
    StreamBody::new(futures_util::stream::iter(pieces.collect::<Vec<_>>())).boxed_unsync()
}

async fn store(kept: Arc<Kept>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (parts, mut body) = request.into_parts();
    let keep = parts.uri.path() == "/b/kept";
    let mut taken = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref().filter(|_| keep) {
            taken.extend_from_slice(data);
        }
    }
    let mut response = Response::new(Empty::new().map_err(|never: Infallible| match never {}).boxed_unsync());
    if parts.method == Method::PUT && keep {
        let named = |name: &HeaderName| name.as_str().starts_with("x-amz-meta-");
        let headers = parts
            .headers
            .iter()
            .filter(|(name, _)| named(name))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        *kept.0.lock().unwrap() = (taken.freeze(), headers);
    } else if parts.method == Method::GET {
        let (bytes, headers) = kept.0.lock().unwrap().clone();
        *response.headers_mut() = headers;
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        *response.body_mut() = pieces(bytes);
    }
    response.headers_mut().insert(header::ETAG, HeaderValue::from_static("\"e\""));
    Ok(response)
}

async fn start_store() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let kept = Arc::new(Kept::default());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = kept.clone();
            let service = service_fn(move |request| store(kept.clone(), request));
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

struct Proxy(Child, SocketAddr, #[allow(dead_code)] TempDir);

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Proxy {
    async fn start(store: SocketAddr) -> Self {
        let directory = TempDir::new().unwrap();
        let keys = directory.path().join("keys");
        s3veil::kms::local::init_dev(&keys).await.unwrap();
        let port = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let config = format!(
            r#"
            listen = "127.0.0.1:{port}"
            log.level = "warn"
            # The store's payload is bare, so that what it keeps is the object itself.
            store = {{ endpoint = "http://{store}", payload = "unsigned", credentials.default = {{ access_key = "a", secret_key = "b" }} }}
            kms.local = {{ kind = "local", path = "{keys}", master_key = {{ file = "{keys}/master.key" }} }}
            policy = [{{ bucket = "*", ek = "s3veil-dev-key" }}]
            auth.identities = [{{ name = "t", access_key = "{ACCESS_KEY}", secret_key = "{SECRET_KEY}" }}]
            "#,
            keys = keys.display()
        );
        let file = directory.path().join("proxy.toml");
        fs::write(&file, config).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_s3veil"))
            .args(["serve", "--config", file.to_str().unwrap()])
            // Each thread's part of the heap keeps some of what it frees: as many threads on every machine.
            .env("TOKIO_WORKER_THREADS", "4")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let proxy = Self(child, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), directory);
        let start = Instant::now();
        while TcpStream::connect(proxy.1).await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "the proxy does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        proxy
    }

    /// The most memory that the process has had, in KiB.
    fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// One request on a connection of its own; the bytes of the answer are counted.
async fn exchange(to: SocketAddr, method: &str, path: &str, body: Bytes) -> usize {
    let length = body.len().to_string();
    let head = signed(to, method, path, &[("content-length", length.as_str())], BodyHash::Unsigned);
    let (mut sender, connection) =
        client::handshake(TokioIo::new(TcpStream::connect(to).await.unwrap())).await.unwrap();
    tokio::spawn(connection);
    let mut response = sender.send_request(head.map(|()| pieces(body))).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut count = 0;
    while let Some(frame) = response.body_mut().frame().await {
        count += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_transfers_at_once_in_256_mib() {
    let proxy = Proxy::start(start_store().await).await;
    let to = proxy.1;
    let body = Bytes::from(vec![7; SIZE]);
    exchange(to, "PUT", "/b/kept", body.clone()).await;
    for method in ["PUT", "GET"] {
        let all: Vec<_> = (0..CLIENTS)
            .map(|at| {
                let (path, body, expected) = match method {
                    "PUT" => (format!("/b/{at}"), body.clone(), 0),
                    _ => ("/b/kept".to_owned(), Bytes::new(), SIZE),
                };
                tokio::spawn(async move { assert_eq!(exchange(to, method, &path, body).await, expected) })
            })
            .collect();
        for one in all {
            one.await.unwrap();
        }
        println!("after {CLIENTS} {method}: {} MiB at most", proxy.peak() / 1024);
        assert!(proxy.peak() < LIMIT_KIB, "{method}: {} KiB", proxy.peak());
    }
}
