//! The end of the real program, by signals.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::support::client::{AnyBody, attempt, exchange, full, read};
use crate::support::memory::MemoryStore;
use crate::support::program::Program;
use crate::support::proxy::pattern;
use crate::support::tls::over_http2;
use crate::support::upload::Upload;
use crate::{get, put, slow_put, value};

/// More than lies between the two ends of a connection.
const LONG: usize = 32 << 20;

struct Served {
    program: Program,
    admin: SocketAddr,
    store: MemoryStore,
    _directory: TempDir,
}

impl Served {
    async fn start(root: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let store = MemoryStore::start().await;
        let inner = format!(
            r#"endpoint = "{}", credentials.default = {{ access_key = "a", secret_key = "s" }}"#,
            store.endpoint
        );
        let admin = Program::free_address();
        let more = format!("admin.listen = \"{admin}\"\n{root}");
        let file = Program::configure(directory.path(), &inner, &more).await;
        let program = Program::start(&file);
        assert_eq!(
            exchange(program.address, put(program.address, "/b/k", pattern(LONG))).await.unwrap().status,
            200
        );
        Self { program, admin, store, _directory: directory }
    }

    async fn metric(&self, name: &str) -> Option<String> {
        let request = http::Request::get("/metrics").header("host", "localhost").body(full("")).unwrap();
        let reply = exchange(self.admin, request).await?;
        value(&String::from_utf8_lossy(reply.bytes()), name)
    }

    /// Asked to end, and it has heard it.
    async fn terminate(&self, signal: Signal) {
        self.program.signal(signal);
        let start = Instant::now();
        while self.metric("s3veil_draining").await.as_deref() != Some("1") {
            assert!(start.elapsed() < Duration::from_secs(20));
            sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn http1(to: SocketAddr) -> http1::SendRequest<AnyBody> {
    let stream = TcpStream::connect(to).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn what_is_at_work_finishes_and_nothing_new_begins() {
    let mut served = Served::start("limits.drain_delay_secs = 4").await;
    let to = served.program.address;
    assert_eq!(served.metric("s3veil_draining").await.as_deref(), Some("0"));

    // At work: an upload and a download on HTTP/1, and each on one connection of HTTP/2; and two that are idle.
    let (pieces, request) = slow_put(to, "/b/up", 6);
    let upload = tokio::spawn(exchange(to, request));
    pieces.send("abc".into()).await.unwrap();
    let mut reader = http1(to).await;
    let download = reader.send_request(get(to, "/b/k")).await.unwrap();
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let (more_pieces, request) = slow_put(to, "/b/up2", 6);
    let mut other = sender.clone();
    let upload2 =
        tokio::spawn(async move { read(other.send_request(over_http2(request)).await.unwrap()).await });
    more_pieces.send("abc".into()).await.unwrap();
    let download2 = sender.send_request(over_http2(get(to, "/b/k"))).await.unwrap();
    let (mut idle, mut used) = (http1(to).await, http1(to).await);
    assert_eq!(read(used.send_request(get(to, "/b/none")).await.unwrap()).await.status, 404);

    served.terminate(Signal::TERM).await;
    // Not ready any more, and still accepting: whoever balances needs time to notice. Answers end their connections.
    let reply = attempt(to, "/b/none", &[]).await.expect("it still accepts");
    assert_eq!((reply.status.as_u16(), reply.header("connection")), (404, "close"));
    used.ready().await.unwrap();
    let reply = read(used.send_request(get(to, "/b/none")).await.unwrap()).await;
    assert_eq!(reply.header("connection"), "close");
    assert!(used.ready().await.is_err(), "and it has ended");

    let start = Instant::now();
    while TcpStream::connect(to).await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(20), "nothing new after the delay");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(
        idle.ready().await.is_err() || idle.send_request(get(to, "/b/none")).await.is_err(),
        "idle ones are closed"
    );
    let refused = sender.clone().send_request(over_http2(get(to, "/b/none"))).await;
    assert!(refused.is_err(), "HTTP/2 has been told as well");
    assert!(served.program.ended().is_none());
    assert_eq!(served.metric("s3veil_draining").await.as_deref(), Some("1"), "the admin listener goes on");

    let body = read(download).await;
    assert!(body.bytes() == pattern(LONG));
    assert!(read(download2).await.bytes() == pattern(LONG));
    for pieces in [pieces, more_pieces] {
        pieces.send("def".into()).await.unwrap();
    }
    assert_eq!(upload.await.unwrap().unwrap().status, 200);
    assert_eq!(upload2.await.unwrap().status, 200);
    drop(sender);
    connection.await.unwrap().unwrap();
    assert!(served.program.end().await.success());
    assert!(!served.program.log().contains("are cut"), "{}", served.program.log());
}

#[tokio::test]
async fn nothing_at_work_is_an_end_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut served = Served::start("limits.drain_secs = 600").await;
        let to = served.program.address;
        let mut used = http1(to).await;
        assert_eq!(read(used.send_request(get(to, "/b/none")).await.unwrap()).await.status, 404);
        let (_silent, start) = (TcpStream::connect(to).await.unwrap(), Instant::now());
        served.program.signal(signal);
        assert!(served.program.end().await.success());
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_second_signal_or_the_time_ends_it() {
    for (root, second) in [
        ("limits.drain_secs = 1", false),
        ("limits.drain_secs = 600", true),
        ("limits.drain_delay_secs = 600", true),
    ] {
        let mut served = Served::start(root).await;
        let to = served.program.address;
        let (pieces, request) = slow_put(to, "/b/up", 6);
        let upload = tokio::spawn(exchange(to, request));
        pieces.send("abc".into()).await.unwrap();
        let mut reader = http1(to).await;
        let mut download = reader.send_request(get(to, "/b/k")).await.unwrap();
        let start = Instant::now();
        served.terminate(Signal::TERM).await;
        if second {
            assert!(served.program.ended().is_none());
            served.program.signal(Signal::TERM);
        }
        assert!(served.program.end().await.success());
        assert!(start.elapsed() < Duration::from_secs(15), "{root}: {:?}", start.elapsed());
        let log = served.program.log();
        let why = if second { "asked to end a second time" } else { "limits.drain_secs is over" };
        assert!(log.contains("requests=2") && log.contains(why), "{root}: {log}");
        assert!(upload.await.unwrap().is_none(), "{root}: it has no answer");
        // What broke off does not look whole.
        let mut broken = false;
        while let Some(frame) = download.frame().await {
            broken |= frame.is_err();
        }
        assert!(broken, "{root}");
    }
}

/// A completion goes on without its client (another could not finish it), and the end of the process waits for it.
#[tokio::test]
async fn what_goes_on_without_its_client_is_waited_for() {
    let mut served = Served::start("").await;
    let to = served.program.address;
    let upload = Upload::start(to, "/b/parts", &[]).await;
    let list = [(1, upload.part(1, &pattern(6 << 20)).await)];
    let held = served.store.hold_next_of(http::Method::POST);
    let completing = tokio::spawn(async move { upload.complete(&list).await });
    held.met().await;
    // Its connection ends with it.
    completing.abort();
    served.terminate(Signal::TERM).await;
    let start = Instant::now();
    while TcpStream::connect(to).await.is_ok()
        || served.metric("s3veil_connections").await.as_deref() != Some("0")
    {
        assert!(start.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(10)).await;
    }
    // No connection is left, and it has been free to end for a while.
    sleep(Duration::from_millis(500)).await;
    assert!(served.program.ended().is_none(), "{}", served.program.log());
    held.release();
    let start = Instant::now();
    while served.program.ended().is_none() {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", served.program.log());
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(served.store.paths(), ["/b/k", "/b/parts"], "the object, and no state");
}
