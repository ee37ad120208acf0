//! The S3 port: TLS and HTTP/2 (`listener/tls.rs`), what clients may take (`limits.rs`, `slow.rs`), and how it ends
//! (`drain.rs`).

#[path = "listener/drain.rs"]
mod drain;
#[path = "listener/limits.rs"]
mod limits;
#[path = "listener/slow.rs"]
mod slow;
mod support;
#[path = "listener/tls.rs"]
mod tls;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use s3veil::app::App;
use s3veil::aws::sign::BodyHash;
use support::client::{AnyBody, full, signed};
use tokio::sync::mpsc;

/// A signed request without a body.
fn get(to: SocketAddr, path: &str) -> Request<AnyBody> {
    signed(to, "GET", path, &[], BodyHash::Unsigned).map(|()| full(""))
}

/// A signed PUT.
fn put(to: SocketAddr, path: &str, body: impl Into<Bytes>) -> Request<AnyBody> {
    let body = body.into();
    let length = body.len().to_string();
    signed(to, "PUT", path, &[("content-length", &length)], BodyHash::Unsigned).map(|()| full(body))
}

/// A signed PUT whose body comes as the test sends it.
fn slow_put(to: SocketAddr, path: &str, length: usize) -> (mpsc::Sender<Bytes>, Request<AnyBody>) {
    let (pieces, mut from) = mpsc::channel::<Bytes>(1);
    let body = futures_util::stream::poll_fn(move |cx| {
        from.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    });
    let length = length.to_string();
    let request = signed(to, "PUT", path, &[("content-length", &length)], BodyHash::Unsigned);
    (pieces, request.map(|()| StreamBody::new(body).boxed_unsync()))
}

/// The value of a metric, by its whole name.
fn metric(app: &App, name: &str) -> Option<String> {
    value(&app.metrics.text(), name)
}

fn value(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
}

/// Waits until something is so, which must be soon.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
