//! Traces of the real program, as a collector gets them.
#![allow(clippy::disallowed_methods)] // Bodies here are small.

mod support;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use rustix::process::Signal;
use support::client::{get, put, send};
use support::memory::{Fault, MemoryStore};
use support::program::Program;
use support::proxy::SECRET_KEY;
use tokio::net::TcpListener;

/// What has come: the path, the headers and what they brought.
type Came = (String, HeaderMap, Vec<u8>);

/// A collector that keeps everything.
#[derive(Clone)]
struct Collector {
    address: SocketAddr,
    came: Arc<Mutex<Vec<Came>>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let collector = Self { address: listener.local_addr().unwrap(), came: Arc::default() };
        let came = collector.came.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let came = came.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let came = came.clone();
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes().to_vec();
                        came.lock().unwrap().push((head.uri.path().to_owned(), head.headers, body));
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        collector
    }

    fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for (_, _, body) in self.came.lock().unwrap().iter() {
            let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
            for resource in request.resource_spans {
                let named = resource.resource.as_ref().unwrap().attributes.iter();
                let named = named.filter(|attribute| attribute.key == "service.name");
                assert_eq!(
                    named.map(|attribute| text(attribute.value.as_ref())).collect::<Vec<_>>(),
                    ["veil-test"]
                );
                spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        spans
    }
}

fn text(value: Option<&opentelemetry_proto::tonic::common::v1::AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    found.map(|attribute| text(attribute.value.as_ref())).unwrap_or_default()
}

/// Runs s3veil with these settings of `[traces]` under some requests, and ends it.
async fn run(settings: &str, requests: impl AsyncFnOnce(SocketAddr, &MemoryStore)) -> (Collector, String) {
    let (store, collector) = (MemoryStore::start().await, Collector::start().await);
    let directory = tempfile::tempdir().unwrap();
    let inside = format!(
        "endpoint = \"{}\", credentials.default = {{ access_key = \"a\", secret_key = \"store-secret\" }}",
        store.endpoint
    );
    let traces = format!(
        "[traces]\nendpoint = \"http://{}/\"\nservice_name = \"veil-test\"\n\
         headers = {{ authorization = \"Bearer of-the-collector\" }}\n{settings}",
        collector.address
    );
    let file = Program::configure(directory.path(), &inside, &traces).await;
    let mut program = Program::start(&file);
    requests(program.address, &store).await;
    // What is not sent yet is sent at the end.
    program.signal(Signal::TERM);
    let start = Instant::now();
    while program.ended().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", program.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (collector, program.log())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_span_and_what_it_asks_for_lies_within() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (collector, log) = run("", async |to, store| {
        assert_eq!(put(to, "/b/dir/k", b"hello").await.status, 200);
        assert_eq!(send(to, "GET", "/b/dir/k", &[("traceparent", PARENT)], b"").await.bytes(), b"hello");
        assert_eq!(get(to, "/b/.s3veil/x").await.status, 403);
        for _ in 0..2 {
            store.fail_next(Fault::Close);
        }
        assert_eq!(get(to, "/b/dir/k").await.status, 503);
        get(to, "/b/dir/k?X-Amz-Signature=very-secret").await;
    })
    .await;
    let spans = collector.spans();
    for (path, headers, _) in collector.came.lock().unwrap().iter() {
        assert_eq!(
            (path.as_str(), &headers["content-type"]),
            ("/v1/traces", &"application/x-protobuf".parse().unwrap())
        );
        assert_eq!(headers["authorization"], "Bearer of-the-collector");
    }
    let of = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let within = |name: &str, parent: &Span| {
        of(name).into_iter().find(|span| span.parent_span_id == parent.span_id).cloned()
    };

    let written = of("PutObject")[0];
    for (key, value) in [
        ("aws.s3.bucket", "b"),
        ("aws.s3.key", "dir/k"),
        ("s3veil.ek", "s3veil-dev-key"),
        ("s3veil.identity", "t"),
        ("http.response.status_code", "200"),
        ("s3veil.bytes_in", "5"),
    ] {
        assert_eq!(attribute(written, key), value, "{key}");
    }
    assert_eq!(written.kind, 2, "a server");
    let sent = within("store", written).expect("the request to the store");
    assert_eq!(
        (attribute(&sent, "http.request.method"), attribute(&sent, "http.response.status_code")),
        ("PUT".into(), "200".into())
    );
    assert_eq!((sent.kind, &sent.trace_id), (3, &written.trace_id));
    let wrapped = within("kms", written).expect("the call to the KMS");
    assert_eq!(attribute(&wrapped, "s3veil.kms.result"), "ok");
    assert!(sent.start_time_unix_nano >= written.start_time_unix_nano);
    assert!(sent.end_time_unix_nano <= written.end_time_unix_nano);

    // One in its client's own trace.
    let read = of("GetObject").into_iter().find(|span| attribute(span, "s3veil.bytes_out") == "5").unwrap();
    assert_eq!(hex::encode(&read.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex::encode(&read.parent_span_id), "b7ad6b7169203331");

    // Errors: whose fault it is not to be seen as a failure of the server.
    let status = |code: &str| {
        let span = spans
            .iter()
            .find(|span| attribute(span, "http.response.status_code") == code && span.kind == 2)
            .unwrap();
        (span.status.as_ref().map_or(0, |status| status.code), attribute(span, "error.message"))
    };
    assert!(matches!(status("403"), (0, why) if why.contains("AccessDenied")), "{:?}", status("403"));
    assert!(
        matches!(status("503"), (2, why) if why.contains("the store is not reachable")),
        "{:?}",
        status("503")
    );

    let all: Vec<u8> = collector.came.lock().unwrap().iter().flat_map(|(_, _, body)| body.clone()).collect();
    for secret in [SECRET_KEY, "store-secret", "very-secret", "of-the-collector"] {
        assert!(!all.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        assert!(!log.contains(secret), "{log}");
    }
    // The log's lines are as they are without traces.
    assert!(!log.contains("request{"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_a_share() {
    let (collector, _) = run("sample = 0.0\n", async |to, _| {
        for _ in 0..20 {
            get(to, "/b/k").await;
        }
    })
    .await;
    assert!(collector.spans().is_empty());
}

/// A collector that is away costs traces, and no request.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_all_goes_on() {
    let (collector, log) = run("", async |to, _| {
        for at in 0..20 {
            assert_eq!(put(to, &format!("/b/{at}"), b"x").await.status, 200);
        }
    })
    .await;
    assert!(collector.spans().len() >= 40, "{log}");
    let store = MemoryStore::start().await;
    let directory = tempfile::tempdir().unwrap();
    let inside = format!(
        "endpoint = \"{}\", credentials.default = {{ access_key = \"a\", secret_key = \"s\" }}",
        store.endpoint
    );
    let nobody = Program::free_address();
    let traces = format!("[traces]\nendpoint = \"http://{nobody}\"\n");
    let program = Program::start(&Program::configure(directory.path(), &inside, &traces).await);
    for at in 0..20 {
        assert_eq!(put(program.address, &format!("/b/{at}"), b"x").await.status, 200);
    }
}

#[test]
fn mistakes_name_the_key_the_value_and_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.toml");
    let good = "store = { endpoint = 'http://a', credentials.default = { access_key = 'a', secret_key = 'b' } }\n\
                kms.local = { kind = 'local', path = 'k', master_key = 'm' }\nauth.identities = []\n\
                policy = [{ bucket = '*', ek = 'e' }]\n[traces]\n";
    for (settings, expected) in [
        ("", &["traces", "endpoint: missing"][..]),
        ("endpoint = 'collector:4317'", &["traces.endpoint: 'collector:4317'", "http://HOST:4318"]),
        ("endpoint = 'http://c'\nsample = 1.5", &["traces.sample: '1.5'", "0 to 1"]),
        (
            "endpoint = 'http://c'\nheaders = { authorization = 7 }",
            &["traces.headers", "a secret is a string"],
        ),
        ("endpoint = 'http://c'\nother = 7", &["traces.other", "no such key"]),
    ] {
        std::fs::write(&file, format!("{good}{settings}")).unwrap();
        let error = s3veil::config::Config::load(&file, &[]).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "{error} lacks {part}");
        }
    }
}
