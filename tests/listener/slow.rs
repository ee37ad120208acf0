//! Clients that take their time: over a handshake, a head, a body, an answer, or doing nothing at all.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::support::client::{AnyBody, exchange, read};
use crate::support::memory::MemoryStore;
use crate::support::proxy::{Proxy, SEALED, pattern};
use crate::support::tls::{Authority, Mounted, connect, over_http2};
use crate::{get, metric, put, slow_put, until};

const SECOND: Duration = Duration::from_secs(1);

/// What no test waits for longer.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start(root: &str) -> (MemoryStore, Proxy) {
    let store = MemoryStore::start().await;
    let proxy = Proxy::start_with_root(&store.endpoint, root, SEALED).await;
    (store, proxy)
}

/// Waits until the other side closes, and says how long that took.
async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> Duration {
    let start = Instant::now();
    let mut buffer = [0; 4096];
    timeout(PATIENCE, async { while stream.read(&mut buffer).await.is_ok_and(|len| len > 0) {} })
        .await
        .expect("the connection is closed");
    start.elapsed()
}

#[tokio::test]
async fn heads_that_do_not_come() {
    let (_store, proxy) = start("limits.header_secs = 1").await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [&preface[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    for bytes in [
        &b""[..],
        b"P",
        b"PUT /b/k HT",
        b"GET /b/k HTTP/1.1\r\nHost: x\r\n",
        &preface[..23],
        preface,
        &settings,
    ] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let took = closed(&mut stream).await;
        assert!(
            took > SECOND * 8 / 10 && took < SECOND * 8,
            "{:?}: {took:?}",
            String::from_utf8_lossy(bytes)
        );
    }
    // Byte by byte does not make it longer.
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let start = Instant::now();
    let mut head = b"GET /b/k HTTP/1.1\r\nHost: ".iter().chain(std::iter::repeat(&b'x'));
    while timeout(PATIENCE, stream.write_all(&[*head.next().unwrap()])).await.unwrap().is_ok() {
        sleep(SECOND / 10).await;
        assert!(start.elapsed() < PATIENCE);
    }
    assert_eq!(metric(&proxy.app, "s3veil_connections").unwrap(), "0");
}

#[tokio::test]
async fn handshakes_that_do_not_come() {
    let authority = Authority::new("authority");
    let issued = authority.issue(2040);
    let directory = tempfile::tempdir().unwrap();
    let mounted = Mounted::new(directory.path(), &[("crt", &issued.certificate), ("key", &issued.key)]);
    let tls = format!(
        "tls = {{ certificate_file = {:?}, key_file = {:?} }}",
        mounted.path("crt"),
        mounted.path("key")
    );
    let (_store, proxy) = start(&format!("{tls}\nlimits.header_secs = 1")).await;
    for bytes in [&b""[..], &[22, 3, 1, 2, 0, 1]] {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let took = closed(&mut stream).await;
        assert!(took > SECOND * 8 / 10 && took < SECOND * 8, "{bytes:?}: {took:?}");
    }
    // A handshake that is over does not count for a request.
    for protocol in ["h2", "http/1.1"] {
        let client = authority.client(rustls::ALL_VERSIONS, &[protocol], None);
        for bytes in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
            let mut stream = connect(proxy.address, &client).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.flush().await.unwrap();
            let took = closed(&mut stream).await;
            assert!(took < SECOND * 8, "{protocol}: {took:?}");
        }
    }
}

async fn http1_on(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> (http1::SendRequest<AnyBody>, tokio::task::JoinHandle<()>) {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(async move { connection.await.unwrap_or_default() }))
}

#[tokio::test]
async fn connections_without_a_request() {
    let (_store, proxy) = start("limits.keep_alive_secs = 4\nlimits.header_secs = 1").await;
    let to = proxy.address;
    // HTTP/1: longer than a head may take, and not for good.
    let (mut sender, connection) = http1_on(TcpStream::connect(to).await.unwrap()).await;
    for _ in 0..2 {
        assert_eq!(read(sender.send_request(get(to, "/b/none")).await.unwrap()).await.status, 404);
        sleep(SECOND * 3 / 2).await;
        sender.ready().await.unwrap();
    }
    timeout(PATIENCE, connection).await.expect("the connection ends").unwrap();

    // The next head has no more time than the first.
    let mut stream = TcpStream::connect(to).await.unwrap();
    let whole = b"OPTIONS /b/none HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\n\r\n";
    stream.write_all(whole).await.unwrap();
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 ");
    sleep(SECOND / 4).await;
    stream.write_all(&whole[..20]).await.unwrap();
    let took = closed(&mut stream).await;
    assert!(took < SECOND * 8, "{took:?}");

    // HTTP/2, whose client answers pings.
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..2 {
        let answer = sender.send_request(over_http2(get(to, "/b/none"))).await.unwrap();
        assert_eq!(read(answer).await.status, 404);
        sleep(SECOND * 3 / 2).await;
        sender.ready().await.unwrap();
    }
    timeout(PATIENCE, connection).await.expect("the connection ends").unwrap().unwrap();
}

#[tokio::test]
async fn what_is_at_work_is_not_idle() {
    let (store, proxy) =
        start("limits.keep_alive_secs = 1\nlimits.header_secs = 1\nlimits.client_idle_secs = 4").await;
    let to = proxy.address;
    for http2 in [false, true] {
        // A body that takes longer than any head, and a store that does.
        let (pieces, request) = slow_put(to, "/b/k", 4);
        let upload = tokio::spawn(async move {
            let stream = TokioIo::new(TcpStream::connect(to).await.unwrap());
            if http2 {
                let (mut sender, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
                tokio::spawn(connection);
                read(sender.send_request(over_http2(request)).await.unwrap()).await
            } else {
                let (mut sender, connection) = http1::handshake(stream).await.unwrap();
                tokio::spawn(connection);
                read(sender.send_request(request).await.unwrap()).await
            }
        });
        for piece in ["a", "b", "c", "d"] {
            sleep(SECOND).await;
            pieces.send(piece.into()).await.unwrap();
        }
        drop(pieces);
        assert_eq!(upload.await.unwrap().status, 200, "HTTP/2: {http2}");
        let held = store.hold_next_of(http::Method::GET);
        let read = tokio::spawn(exchange(to, get(to, "/b/k")));
        held.met().await;
        sleep(SECOND * 5 / 4).await;
        held.release();
        assert_eq!(read.await.unwrap().unwrap().bytes(), b"abcd");
    }
}

#[tokio::test]
async fn bodies_that_stop() {
    let (_store, proxy) = start("limits.client_idle_secs = 1").await;
    let (pieces, request) = slow_put(proxy.address, "/b/k", 10);
    let upload = tokio::spawn(exchange(proxy.address, request));
    pieces.send("abc".into()).await.unwrap();
    let reply = timeout(PATIENCE, upload).await.expect("it ends").unwrap().expect("an answer");
    assert_eq!(reply.code(), "RequestTimeout");
}

const LONG: usize = 32 << 20;

/// A connection that keeps little by itself, so that what is not read is soon not taken.
async fn narrow(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn answers_that_nobody_takes() {
    let (_store, proxy) = start("limits.client_idle_secs = 2").await;
    let to = proxy.address;
    assert_eq!(exchange(to, put(to, "/b/k", pattern(LONG))).await.unwrap().status, 200);
    let at_work = || metric(&proxy.app, "s3veil_connections").unwrap();
    until("only the test is left", || at_work() == "0").await;

    // HTTP/1: what is sent is not read.
    let (mut sender, _connection) = http1_on(narrow(to).await).await;
    let mut answer = sender.send_request(get(to, "/b/k")).await.unwrap();
    let start = Instant::now();
    until("it is cut", || at_work() == "0").await;
    assert!(start.elapsed() > SECOND, "{:?}", start.elapsed());
    let mut taken = 0;
    while let Some(Ok(frame)) = answer.frame().await {
        taken += frame.into_data().unwrap().len();
    }
    assert!(taken < LONG, "{taken}");

    // One that takes a little all the time is not.
    let (mut sender, _connection) = http1_on(narrow(to).await).await;
    let mut answer = sender.send_request(get(to, "/b/k")).await.unwrap();
    let (start, mut taken, mut next) = (Instant::now(), 0, 0);
    while let Some(frame) = answer.frame().await {
        taken += frame.unwrap().into_data().unwrap().len();
        if taken > next {
            sleep(SECOND / 5).await;
            next = taken + LONG / 30;
        }
    }
    assert_eq!(taken, LONG);
    assert!(start.elapsed() > SECOND * 4, "{:?}", start.elapsed());
}

/// In HTTP/2 the connection looks well while a stream's client opens no window.
#[tokio::test]
async fn streams_that_nobody_takes() {
    let (_store, proxy) = start("limits.client_idle_secs = 2\nlimits.in_flight = 1").await;
    let to = proxy.address;
    assert_eq!(exchange(to, put(to, "/b/k", pattern(LONG))).await.unwrap().status, 200);
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut answer = sender.send_request(over_http2(get(to, "/b/k"))).await.unwrap();
    assert_eq!(answer.status(), 200);
    let again = || async {
        let mut sender = sender.clone();
        let answer = sender.send_request(over_http2(get(to, "/b/none"))).await.unwrap();
        read(answer).await.status.as_u16()
    };
    assert_eq!(again().await, 503, "the one place is taken");
    let start = Instant::now();
    while again().await != 404 {
        assert!(start.elapsed() < PATIENCE);
        sleep(SECOND / 10).await;
    }
    // The stream is gone, and its connection is not.
    let broken = loop {
        match answer.frame().await {
            Some(Ok(_)) => {}
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(broken, "it must not look whole");
    assert_eq!(again().await, 404);
}
