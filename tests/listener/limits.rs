//! Sizes and numbers: heads, connections, requests at once.

use std::time::Duration;

use http::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use s3veil::aws::sign::BodyHash;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::client::{AnyBody, Reply, attempt, exchange, full, read, signed};
use crate::support::memory::MemoryStore;
use crate::support::proxy::{Proxy, SEALED, pattern};
use crate::{get, metric, put, slow_put, until};

async fn start(root: &str) -> (MemoryStore, Proxy) {
    let store = MemoryStore::start().await;
    let proxy = Proxy::start_with_root(&store.endpoint, root, SEALED).await;
    (store, proxy)
}

async fn http1(to: std::net::SocketAddr) -> http1::SendRequest<AnyBody> {
    let stream = TcpStream::connect(to).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut http1::SendRequest<AnyBody>, request: Request<AnyBody>) -> Reply {
    sender.ready().await.unwrap();
    read(sender.send_request(request).await.unwrap()).await
}

#[tokio::test]
async fn heads_have_a_size() {
    let (_store, proxy) = start("limits.header_bytes = 16384").await;
    let to = proxy.address;
    for (bytes, status) in [(12_000, 404), (20_000, 431), (200_000, 431)] {
        let long = "x".repeat(bytes);
        let request = signed(to, "GET", "/b/none", &[("x-long", &long)], BodyHash::Unsigned);
        let reply = exchange(to, request.map(|()| full(""))).await;
        // One that is far too long may not get to read the answer: it is cut while it still sends.
        let seen = reply.map(|reply| reply.status.as_u16());
        assert!(seen == Some(status) || (bytes > 100_000 && seen.is_none()), "{bytes}: {seen:?}");
        let request =
            signed(to, "GET", "/b/none", &[("x-long", &long)], BodyHash::Unsigned).map(|()| full(""));
        let seen = over_plain_http2(to, request).await;
        assert!(seen == Some(status) || (bytes > 100_000 && seen.is_none()), "HTTP/2, {bytes}: {seen:?}");
    }
}

/// HTTP/2 without TLS, by prior knowledge.
async fn over_plain_http2(to: std::net::SocketAddr, request: Request<AnyBody>) -> Option<u16> {
    let stream = TcpStream::connect(to).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::Builder::new(executor).handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = crate::support::tls::over_http2(request);
    sender.send_request(request).await.ok().map(|answer| answer.status().as_u16())
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_at_once() {
    let (_store, proxy) = start("limits.connections = 2").await;
    let to = proxy.address;
    let (mut one, two) = (http1(to).await, http1(to).await);
    assert_eq!(ask(&mut one, get(to, "/b/none")).await.status, 404);
    until("both count", || metric(&proxy.app, "s3veil_connections").unwrap() == "2").await;
    let mut three = TcpStream::connect(to).await.unwrap();
    let mut nothing = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), three.read_to_end(&mut nothing)).await.unwrap().ok();
    assert!(nothing.is_empty());
    assert!(attempt(to, "/b/none", &[]).await.is_none());
    assert_eq!(metric(&proxy.app, "s3veil_shed_total{limit=\"connections\"}").unwrap(), "2");
    // Those that are there go on, and there is room again once one has gone.
    assert_eq!(ask(&mut one, get(to, "/b/none")).await.status, 404);
    drop(two);
    until("one has gone", || metric(&proxy.app, "s3veil_connections").unwrap() == "1").await;
    assert_eq!(attempt(to, "/b/none", &[]).await.unwrap().status, 404);
}

#[tokio::test]
async fn requests_over_the_limit_are_told_to_slow_down() {
    let (store, proxy) = start("limits.in_flight = 1").await;
    let to = proxy.address;
    let mut idle = http1(to).await;
    assert_eq!(ask(&mut idle, put(to, "/b/k", "before")).await.status, 200);
    store.take_seen();
    let (pieces, request) = slow_put(to, "/b/slow", 6);
    let upload = tokio::spawn(exchange(to, request));
    pieces.send("abc".into()).await.unwrap();
    // The next piece is asked for once the first has been taken: the upload is at work.
    let _ = pieces.reserve().await.unwrap();
    let shed = || metric(&proxy.app, "s3veil_shed_total{limit=\"in_flight\"}").unwrap();
    until("the upload has its place", || metric(&proxy.app, "s3veil_in_flight").unwrap() != "0").await;

    store.take_seen();
    let reply = ask(&mut idle, get(to, "/b/k")).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (503, "SlowDown"));
    assert_eq!((reply.header("retry-after"), reply.header("content-type")), ("1", "application/xml"));
    assert_eq!(reply.header("x-amz-request-id").len(), 16);
    // Neither body nor signature count, and the connection is still good.
    let long = put(to, "/b/other", pattern(1_000_000));
    assert_eq!(ask(&mut idle, long).await.code(), "SlowDown");
    let unsigned = Request::get("/b/k").header("host", "x").body(full("")).unwrap();
    assert_eq!(ask(&mut idle, unsigned).await.code(), "SlowDown");
    let head = signed(to, "HEAD", "/b/k", &[], BodyHash::Unsigned).map(|()| full(""));
    let head = ask(&mut idle, head).await;
    assert_eq!((head.status.as_u16(), head.header("retry-after")), (503, "1"));
    assert_eq!(shed(), "4");
    assert!(store.take_seen().iter().all(|seen| seen.path == "/b/slow"), "the store heard of none");

    pieces.send("def".into()).await.unwrap();
    drop(pieces);
    assert_eq!(upload.await.unwrap().unwrap().status, 200);
    assert_eq!(ask(&mut idle, get(to, "/b/slow")).await.bytes(), b"abcdef");
    assert_eq!(shed(), "4");
}

/// A request is at work until its answer's body has ended or been given up.
#[tokio::test]
async fn an_answer_that_is_not_read_holds_its_place() {
    let (_store, proxy) = start("limits.in_flight = 1").await;
    let to = proxy.address;
    // More than the system takes between the two.
    assert_eq!(exchange(to, put(to, "/b/k", pattern(24 << 20))).await.unwrap().status, 200);
    let mut reader = http1(to).await;
    let answer = reader.send_request(get(to, "/b/k")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(attempt(to, "/b/none", &[]).await.unwrap().code(), "SlowDown");
    drop((answer, reader));
    until("its place is free", || metric(&proxy.app, "s3veil_connections").unwrap() == "0").await;
    assert_eq!(attempt(to, "/b/none", &[]).await.unwrap().status, 404);
    let answer = exchange(to, get(to, "/b/k")).await.unwrap();
    assert!(answer.bytes() == pattern(24 << 20));
    assert_eq!(attempt(to, "/b/none", &[]).await.unwrap().status, 404);
}

#[tokio::test]
async fn any_address_will_do() {
    let store = MemoryStore::start().await;
    let proxy = Proxy::start(&store.endpoint, SEALED).await;
    let Ok(listener) = tokio::net::TcpListener::bind("[::]:0").await else {
        return println!("skipped: there is no IPv6 here");
    };
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(s3veil::listener::serve(proxy.live.clone(), listener, std::future::pending::<()>));
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let reply = attempt(address.parse().unwrap(), "/b/none", &[]).await.unwrap();
        assert_eq!(reply.status, 404, "{address}");
    }
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.shutdown().await.unwrap();
}
