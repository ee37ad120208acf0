//! The access log: a line for each request, when it has ended. Alone in its file and in one test, since others would race for
//! what is logged.

mod support;

use std::sync::{Arc, Mutex};

use http_body_util::BodyExt as _;
use s3veil::aws::sign::BodyHash;
use serde_json::Value;
use support::client::{exchange, full, get, put, send, signed};
use support::memory::{Fault, MemoryStore};
use support::proxy::{Proxy, SEALED, SECRET_KEY, pattern};

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The access log's lines since the last call.
    fn take(&self) -> Vec<Value> {
        let text = self.text();
        self.0.lock().unwrap().clear();
        assert!(!text.contains(SECRET_KEY));
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["target"] == "access").collect()
    }

    /// The only one of them, once it is there: a client does not wait for its end.
    async fn one(&self) -> Value {
        let start = std::time::Instant::now();
        while !self.text().contains("\"target\":\"access\"") {
            assert!(start.elapsed().as_secs() < 30, "no line");
            tokio::task::yield_now().await;
        }
        let mut lines = self.take();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0)
    }
}

/// `expected`: the values of these fields, as JSON.
fn has(line: &Value, expected: Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name} of {line}");
    }
}

#[tokio::test]
async fn a_line_tells_how_a_request_went() {
    let lines = Lines::default();
    let writer = lines.clone();
    let log =
        tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
    let _on_this_thread = tracing::subscriber::set_default(log);
    let store = MemoryStore::start().await;
    let proxy = Proxy::start(&store.endpoint, SEALED).await;
    lines.take();
    done(&lines, &proxy).await;
    refused(&lines, &store, &proxy).await;
    broken_off(&lines, &store, &proxy).await;
    which_id(&lines, &proxy).await;
    assert_eq!(proxy.app.metrics.in_flight.get(), 0);
}

/// What is done is told with the key that sealed it.
async fn done(lines: &Lines, proxy: &Proxy) {
    let to = proxy.address;
    let object = serde_json::json!({
        "bucket": "b", "key": "dir/k", "identity": "test", "ek": "s3veil-dev-key", "status": 200, "why": null
    });
    put(to, "/b/dir/k", &pattern(1000)).await;
    let written = lines.one().await;
    has(&written, object.clone());
    has(&written, serde_json::json!({ "operation": "PutObject", "bytes_in": 1000, "bytes_out": 0 }));
    assert!(written["head_micros"].as_u64().unwrap() > 0);

    let reply = get(to, "/b/dir/k").await;
    // What is for the log alone does not leave.
    assert!(!reply.headers.keys().any(|name| name.as_str().contains("veil")), "{:?}", reply.headers);
    let read = lines.one().await;
    has(&read, object.clone());
    has(&read, serde_json::json!({ "operation": "GetObject", "bytes_in": 0, "bytes_out": 1000 }));
    assert!(read["micros"].as_u64() >= read["head_micros"].as_u64());

    send(to, "HEAD", "/b/dir/k", &[], b"").await;
    let looked = lines.one().await;
    has(&looked, object);
    has(&looked, serde_json::json!({ "operation": "HeadObject", "bytes_out": 0 }));

    // With AES256 no client is told the EK.
    send(to, "PUT", "/b/s3", &[("x-amz-server-side-encryption", "AES256")], b"x").await;
    has(&lines.one().await, serde_json::json!({ "ek": "s3veil-dev-key" }));
    let reply = get(to, "/b/s3").await;
    assert_eq!(reply.header("x-amz-server-side-encryption"), "AES256");
    has(&lines.one().await, serde_json::json!({ "ek": "s3veil-dev-key" }));
}

/// What is refused is told in words, at a level that says whose fault it is, and never with the query: a signature may be there.
async fn refused(lines: &Lines, store: &MemoryStore, proxy: &Proxy) {
    let to = proxy.address;
    get(to, "/b/.s3veil/x").await;
    let line = lines.one().await;
    has(
        &line,
        serde_json::json!({ "status": 403, "level": "INFO", "blame": "client", "bucket": "b", "key": ".s3veil/x" }),
    );
    assert!(line["why"].as_str().unwrap().contains("AccessDenied"), "{line}");

    store.fail_next(Fault::Close);
    store.fail_next(Fault::Close);
    get(to, "/b/dir/k").await;
    let line = lines.one().await;
    has(&line, serde_json::json!({ "status": 503, "level": "WARN", "blame": "store" }));

    let path = "/b/dir/k?X-Amz-Signature=very-secret&X-Amz-Security-Token=hidden";
    let mut head = signed(to, "GET", path, &[], BodyHash::Unsigned);
    head.headers_mut().remove("authorization");
    exchange(to, head.map(|()| full(""))).await.unwrap();
    let line = lines.one().await;
    has(
        &line,
        serde_json::json!({ "path": "/b/dir/k", "identity": "-", "operation": "Unknown", "level": "INFO" }),
    );
    assert!(!line.to_string().contains("very-secret") && !line.to_string().contains("hidden"), "{line}");
}

/// An answer has a line of its own kind if it is broken off, if its client leaves, and if that leaves before there is one.
async fn broken_off(lines: &Lines, store: &MemoryStore, proxy: &Proxy) {
    let to = proxy.address;
    put(to, "/b/large", &pattern(16 << 20)).await;
    store.change("/b/large", |object| object.body[10 << 20] ^= 1);
    lines.take();
    assert!(get(to, "/b/large").await.body.is_err());
    let line = lines.one().await;
    has(&line, serde_json::json!({ "status": 200, "level": "WARN", "ek": "s3veil-dev-key" }));
    assert!(line["why"].as_str().unwrap().contains("broken off"), "{line}");
    assert!(line["bytes_out"].as_u64().unwrap() < 10 << 20, "{line}");

    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = signed(to, "GET", "/b/large", &[], BodyHash::Unsigned).map(|()| full(""));
    let mut body = sender.send_request(request).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    connection.abort();
    let line = lines.one().await;
    has(&line, serde_json::json!({ "status": 200, "level": "INFO", "why": "the client went away" }));

    let held = store.hold_next_of(http::Method::GET);
    let request = signed(to, "GET", "/b/dir/k", &[], BodyHash::Unsigned).map(|()| full(""));
    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let waiting = tokio::spawn(async move { sender.send_request(request).await.is_ok() });
    held.met().await;
    connection.abort();
    let line = lines.one().await;
    has(
        &line,
        serde_json::json!({ "status": 499, "operation": "GetObject", "key": "dir/k", "level": "INFO" }),
    );
    held.release();
    assert!(!waiting.await.unwrap());
}

/// The id that the client sees: the store's, which the store's log has too, or where it was not asked s3veil's own.
async fn which_id(lines: &Lines, proxy: &Proxy) {
    for (path, own) in [("/b/none", false), ("/b/.s3veil/k", true)] {
        let reply = get(proxy.address, path).await;
        let seen = reply.header("x-amz-request-id");
        let line = lines.one().await;
        match own {
            true => has(&line, serde_json::json!({ "id": seen, "store_id": null })),
            false => has(&line, serde_json::json!({ "store_id": "THESTORE" })),
        }
    }
}
