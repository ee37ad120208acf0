//! Promise 5: memory per request is constant. 200 uploads, then 200 downloads, of 64 MiB each at once through the real
//! program, which may not come over 256 MiB; the same with 64 parts of a multipart upload, and a composite object. A browser's
//! form holds one part, however long its file is.
//!
//! The store is in this process and keeps next to nothing: an upload is counted and thrown away, and what is downloaded is
//! one sealed object, uploaded before, that all requests share. So the other process's memory is s3veil's alone.

#![allow(clippy::disallowed_methods)] // Reads of bodies are counted, not gathered.

mod support;

use std::collections::{BTreeMap, HashMap};
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
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1 as client;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3veil::aws::sign::BodyHash;
use s3veil::s3::Query;
use s3veil::s3::range::{ContentRange, RangeSpec};
use support::client::signed;
use support::form::{Form, content_type};
use support::proxy::{ACCESS_KEY, SECRET_KEY};
use support::upload::Upload;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

const CLIENTS: usize = 200;
const PARTS: usize = 64;
const SIZE: usize = 64 * 1024 * 1024;
const LIMIT_KIB: u64 = 256 * 1024;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What is kept: one object, whole or in parts, and what s3veil itself keeps of uploads.
#[derive(Default)]
struct Kept {
    objects: Mutex<HashMap<String, (Bytes, HeaderMap)>>,
    parts: Mutex<BTreeMap<u32, Bytes>>,
}

fn pieces(body: Bytes) -> Body {
    let pieces = (0..body.len()).step_by(65_536).map(move |at| {
        let end = body.len().min(at + 65_536);
        Ok(Frame::data(body.slice(at..end)))
    });
    StreamBody::new(futures_util::stream::iter(pieces.collect::<Vec<_>>())).boxed_unsync()
}

async fn store(kept: Arc<Kept>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (parts, mut body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let query = Query::parse(parts.uri.query().unwrap_or_default()).unwrap();
    let keep = path == "/b/kept" || path.contains("/.s3veil/");
    let mut taken = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref().filter(|_| keep) {
            taken.extend_from_slice(data);
        }
    }
    let mut objects = kept.objects.lock().unwrap();
    let (status, text) = match (&parts.method, query.get("partNumber"), query.has("uploadId")) {
        (&Method::PUT, Some(number), _) => {
            let number = number.parse().unwrap();
            keep.then(|| kept.parts.lock().unwrap().insert(number, taken.freeze()));
            (200, String::new())
        }
        (&Method::POST, ..) if query.has("uploads") => {
            objects.insert(path, (Bytes::new(), described(&parts.headers)));
            (200, "<R><UploadId>u</UploadId></R>".to_owned())
        }
        (&Method::POST, ..) => {
            let whole: Vec<u8> = kept.parts.lock().unwrap().values().flatten().copied().collect();
            objects.get_mut(&path).unwrap().0 = whole.into();
            (200, "<R><ETag>e</ETag></R>".to_owned())
        }
        (&Method::GET, _, true) => {
            let part = |(number, body): (&u32, &Bytes)| {
                format!(
                    "<Part><PartNumber>{number}</PartNumber><ETag>e</ETag><Size>{}</Size></Part>",
                    body.len()
                )
            };
            let listed: String = kept.parts.lock().unwrap().iter().map(part).collect();
            (200, format!("<R><Bucket>b</Bucket><Key>kept</Key><UploadId>u</UploadId>{listed}</R>"))
        }
        (&Method::PUT, ..) => {
            keep.then(|| objects.insert(path, (taken.freeze(), described(&parts.headers))));
            (200, String::new())
        }
        (&Method::GET, ..) if objects.contains_key(&path) => {
            let (bytes, headers) = objects[&path].clone();
            return Ok(object(bytes, headers, &parts.headers));
        }
        (&Method::GET, ..) if query.has("list-type") => (200, "<R/>".to_owned()),
        _ => (404, "<R/>".to_owned()),
    };
    Ok(answer(status, HeaderMap::new(), text.into()))
}

fn described(headers: &HeaderMap) -> HeaderMap {
    let named = |name: &HeaderName| name.as_str().starts_with("x-amz-meta-");
    let named = headers.iter().filter(|(name, _)| named(name));
    named.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// An object, or the range of it that was asked for.
fn object(bytes: Bytes, mut headers: HeaderMap, asked: &HeaderMap) -> Response<Body> {
    let total = bytes.len() as u64;
    let spec = asked.get(header::RANGE).and_then(RangeSpec::parse);
    let Some((start, end)) = spec.and_then(|spec| spec.resolve(total)) else {
        return answer(200, headers, bytes);
    };
    headers.insert(header::CONTENT_RANGE, ContentRange { start, end, total }.to_header());
    answer(206, headers, bytes.slice(start as usize..end as usize))
}

fn answer(status: u16, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(pieces(body));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    *response.headers_mut() = headers;
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response.headers_mut().insert(header::ETAG, HeaderValue::from_static("\"e\""));
    response
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

/// So many requests at once, and what memory they took.
async fn at_once(
    proxy: &Proxy,
    clients: usize,
    method: &'static str,
    path: impl Fn(usize) -> String,
    body: Bytes,
) {
    let (to, expected) = (proxy.1, if method == "GET" { SIZE } else { 0 });
    let request = |at| {
        let (path, body) = (path(at), body.clone());
        tokio::spawn(async move { assert_eq!(exchange(to, method, &path, body).await, expected) })
    };
    let all: Vec<_> = (0..clients).map(request).collect();
    for one in all {
        one.await.unwrap();
    }
    println!("after {clients} {method}: {} MiB at most", proxy.peak() / 1024);
    assert!(proxy.peak() < LIMIT_KIB, "{method}: {} KiB", proxy.peak());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_transfers_at_once_in_256_mib() {
    let proxy = Proxy::start(start_store().await).await;
    let body = Bytes::from(vec![7; SIZE]);
    exchange(proxy.1, "PUT", "/b/kept", body.clone()).await;
    at_once(&proxy, CLIENTS, "PUT", |at| format!("/b/{at}"), body).await;
    at_once(&proxy, CLIENTS, "GET", |_| "/b/kept".to_owned(), Bytes::new()).await;
}

/// Of one upload, and of the parts of one object.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_parts_at_once_in_256_mib() {
    let proxy = Proxy::start(start_store().await).await;
    let upload = Upload::start(proxy.1, "/b/many", &[]).await;
    let part = |at: usize| format!("/b/many?partNumber={}&uploadId={}", at + 1, upload.id);
    at_once(&proxy, PARTS, "PUT", part, Bytes::from(vec![7; SIZE])).await;

    let quarter = vec![7; SIZE / 4];
    let parts: Vec<_> = (1..=4).map(|number| (number, quarter.clone())).collect();
    assert_eq!(Upload::whole(proxy.1, "/b/kept", &parts).await.status, 200);
    at_once(&proxy, PARTS, "GET", |_| "/b/kept".to_owned(), Bytes::new()).await;
}

/// Its file is gathered part by part: 8 MiB, and what grows on the way there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_form_in_the_memory_of_a_part() {
    let proxy = Proxy::start(start_store().await).await;
    let before = proxy.peak();
    let form = Bytes::from(Form::new("kept").signed(&[]).file("f", &vec![7; 4 * SIZE]).body());
    let request = Request::post("/b")
        .header("host", proxy.1.to_string())
        .header("content-type", content_type())
        .header("content-length", form.len())
        .body(pieces(form));
    let stream = TcpStream::connect(proxy.1).await.unwrap();
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(sender.send_request(request.unwrap()).await.unwrap().status(), 204);
    println!("a form of {} MiB: {} MiB more", 4 * SIZE / 1024 / 1024, (proxy.peak() - before) / 1024);
    assert!(proxy.peak() - before < 32 * 1024, "{} KiB more", proxy.peak() - before);
    assert_eq!(exchange(proxy.1, "GET", "/b/kept", Bytes::new()).await, 4 * SIZE);
}
