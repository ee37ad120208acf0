//! What an operator sees: metrics, readiness, the policy in force, what the status page draws.

mod support;

use std::sync::Arc;

use http_body_util::BodyExt as _;
use s3veil::aws::sign::BodyHash;
use serde_json::Value;
use support::client::{exchange, full, get, get_range, put, send, signed};
use support::memory::{Fault, MemoryStore};
use support::proxy::{Proxy, SECRET_KEY, pattern};
use support::upload::Upload;

const TOKEN: &str = "0123456789abcdef-token";

/// Objects from before are read in `/old`.
fn settings() -> String {
    format!(
        "[[policy]]\nbucket = '*'\nek = 's3veil-dev-key'\n\
         [[policy]]\nbucket = 'old'\nek = 's3veil-dev-key'\nplaintext = 'read'\n\
         [[policy]]\nbucket = 'b'\nprefix = 'team/'\nek = 's3veil-dev-key'\nclient_eks = ['team-*']\n\
         [[policy]]\nbucket = 'none'\nmode = 'deny'\n\
         [admin]\nlisten = '127.0.0.1:0'\ntoken = '{TOKEN}'\n"
    )
}

async fn start() -> (MemoryStore, Proxy) {
    let store = MemoryStore::start().await;
    let proxy = Proxy::start(&store.endpoint, &settings()).await;
    (store, proxy)
}

async fn page(proxy: &Proxy, path: &str) -> (u16, String) {
    let request = http::Request::get(path).header("authorization", format!("Bearer {TOKEN}"));
    let reply = exchange(proxy.admin().await, request.body(full("")).unwrap()).await.unwrap();
    (reply.status.as_u16(), String::from_utf8(reply.bytes().to_vec()).unwrap())
}

async fn document(proxy: &Proxy, path: &str) -> Value {
    let (status, text) = page(proxy, path).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// The value of one series, 0 where it is not there.
async fn metric(proxy: &Proxy, series: &str) -> f64 {
    let (_, text) = page(proxy, "/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn bytes_and_times_are_counted_where_they_are_spent() {
    let (_store, proxy) = start().await;
    let plain = pattern(200_000);
    put(proxy.address, "/b/k", &plain).await;
    assert_eq!(get(proxy.address, "/b/k").await.bytes(), plain);
    assert_eq!(get_range(proxy.address, "/b/k", "bytes=0-9").await.bytes(), &plain[..10]);
    let upload = Upload::start(proxy.address, "/b/parts", &[]).await;
    let part = upload.part(1, &plain).await;
    upload.complete(&[(1, part)]).await;

    assert_eq!(metric(&proxy, "s3veil_sealed_bytes_total").await, 400_000.0);
    assert_eq!(metric(&proxy, "s3veil_opened_bytes_total").await, 200_010.0);
    assert!(metric(&proxy, "s3veil_client_bytes_total{direction=\"in\"}").await >= 400_000.0);
    assert!(metric(&proxy, "s3veil_client_bytes_total{direction=\"out\"}").await >= 200_010.0);
    for direction in ["seal", "open"] {
        let spent =
            metric(&proxy, &format!("s3veil_crypto_seconds_total{{direction=\"{direction}\"}}")).await;
        assert!(spent > 0.0 && spent < 60.0, "{direction}: {spent}");
    }
    assert!(metric(&proxy, "s3veil_store_seconds_count{method=\"PUT\"}").await >= 3.0);
    assert_eq!(metric(&proxy, "s3veil_store_requests_total{method=\"GET\",status=\"206\"}").await, 1.0);
    assert_eq!(metric(&proxy, "s3veil_requests_total{operation=\"GetObject\",status=\"200\"}").await, 1.0);
    assert_eq!(metric(&proxy, "s3veil_requests_total{operation=\"GetObject\",status=\"206\"}").await, 1.0);
    assert_eq!(metric(&proxy, "s3veil_in_flight").await, 0.0);
    assert!(metric(&proxy, "process_resident_memory_bytes").await > 1e6);
    assert_eq!(
        metric(&proxy, &format!("s3veil_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))).await,
        1.0
    );
}

#[tokio::test]
async fn a_request_is_in_flight_until_its_body_has_ended() {
    let (_store, proxy) = start().await;
    put(proxy.address, "/b/k", &pattern(8 << 20)).await;
    let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = signed(proxy.address, "GET", "/b/k", &[], BodyHash::Unsigned).map(|()| full(""));
    let mut body = sender.send_request(request).await.unwrap().into_body();
    assert_eq!(metric(&proxy, "s3veil_in_flight").await, 1.0);
    assert_eq!(metric(&proxy, "s3veil_request_seconds_count{operation=\"GetObject\"}").await, 1.0);
    while let Some(frame) = body.frame().await {
        frame.unwrap();
    }
    assert_eq!(metric(&proxy, "s3veil_in_flight").await, 0.0);
    assert_eq!(metric(&proxy, "s3veil_bodies_cut_total{operation=\"GetObject\"}").await, 0.0);
}

#[tokio::test]
async fn what_does_not_authenticate_is_counted_at_the_head_and_in_the_body() {
    let (store, proxy) = start().await;
    put(proxy.address, "/b/k", &pattern(300_000)).await;
    let flip = |at: usize| {
        store.change("/b/k", |object| {
            let mut body = object.body.to_vec();
            body[at] ^= 1;
            object.body = body;
        })
    };
    let series = "s3veil_integrity_failures_total{operation=\"GetObject\"}";
    flip(40);
    assert_eq!(get(proxy.address, "/b/k").await.code(), "InternalError");
    assert_eq!(metric(&proxy, series).await, 1.0);
    flip(40);
    // Beyond what is opened before the head goes out.
    flip(200_000);
    assert!(get(proxy.address, "/b/k").await.body.is_err());
    assert_eq!(metric(&proxy, series).await, 2.0);
    assert_eq!(metric(&proxy, "s3veil_bodies_cut_total{operation=\"GetObject\"}").await, 1.0);
    flip(200_000);
    // A store that falls silent is no tampering.
    store.fail_next(Fault::StallAfter(150_000));
    let reply = get(proxy.address, "/b/k").await;
    assert!(reply.body.is_err(), "{} {}", reply.status, reply.received.len());
    assert_eq!(metric(&proxy, series).await, 2.0);
    assert_eq!(metric(&proxy, "s3veil_bodies_cut_total{operation=\"GetObject\"}").await, 2.0);
    assert_eq!(document(&proxy, "/status.json").await["integrity_failures"], 2);
}

#[tokio::test]
async fn refusals_of_senders_and_plain_objects_are_counted() {
    let (store, proxy) = start().await;
    put(proxy.address, "/b/k", b"sealed").await;
    let mut plain = store.get("/b/k").unwrap();
    (plain.headers, plain.body) = (Default::default(), "plain".into());
    store.put("/old/k", plain.clone());
    store.put("/b/plain", plain);
    assert_eq!(get(proxy.address, "/old/k").await.bytes(), b"plain");
    assert_eq!(get(proxy.address, "/b/plain").await.code(), "AccessDenied");
    assert_eq!(metric(&proxy, "s3veil_plaintext_reads_total").await, 1.0);

    let mut forged = signed(proxy.address, "GET", "/b/k", &[], BodyHash::Unsigned);
    let value = forged.headers()["authorization"].to_str().unwrap().to_owned();
    let turned: String =
        value.chars().rev().take(1).map(|last| if last == '0' { '1' } else { '0' }).collect();
    let value = format!("{}{turned}", &value[..value.len() - 1]);
    forged.headers_mut().insert("authorization", value.parse().unwrap());
    let unknown = value.replace("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLF");
    let mut other = signed(proxy.address, "GET", "/b/k", &[], BodyHash::Unsigned);
    other.headers_mut().insert("authorization", unknown.parse().unwrap());
    let anonymous = http::Request::get("/b/k").header("host", proxy.address.to_string()).body(()).unwrap();
    for (request, code) in
        [(forged, "SignatureDoesNotMatch"), (other, "InvalidAccessKeyId"), (anonymous, "AccessDenied")]
    {
        let reply = exchange(proxy.address, request.map(|()| full(""))).await.unwrap();
        assert_eq!(reply.code(), code);
        assert_eq!(metric(&proxy, &format!("s3veil_auth_failures_total{{reason=\"{code}\"}}")).await, 1.0);
    }
    let status = document(&proxy, "/status.json").await;
    assert_eq!(status["auth_failures"]["SignatureDoesNotMatch"], 1, "{status}");
    assert_eq!(status["plaintext_reads"], 1);
    assert_eq!(status["requests"]["total"]["4xx"], 4);
}

/// Whatever clients send, there are no more series than operations, statuses and codes.
#[tokio::test]
async fn no_client_makes_series() {
    let (_store, proxy) = start().await;
    let count =
        async || page(&proxy, "/metrics").await.1.lines().filter(|line| !line.starts_with('#')).count();
    let mut first = 0;
    for turn in 0..60 {
        for (method, path) in [
            ("GET", format!("/bucket-{turn}/key-{turn}?versionId={turn}")),
            ("PUT", format!("/bucket-{turn}/key-{turn}")),
            ("DELETE", format!("/b/{turn}")),
            ("POST", format!("/b/{turn}?unheard{turn}")),
            (&*format!("METHOD{turn}"), format!("/b/{turn}")),
            ("GET", format!("/{turn}%ff")),
        ] {
            send(proxy.address, method, &path, &[("x-amz-meta-a", "b")], b"").await;
            let stranger = http::Request::builder().method(method).uri(&path);
            let stranger = stranger.header("host", "h").header("authorization", format!("Scheme{turn} x"));
            exchange(proxy.address, stranger.body(full("")).unwrap()).await.unwrap();
        }
        if turn == 0 {
            first = count().await;
        }
    }
    assert_eq!(count().await, first);
}

#[tokio::test]
async fn readiness_names_the_store_and_says_why_it_is_away() {
    let (store, proxy) = start().await;
    let address = store.endpoint.clone();
    let (status, text) = page(&proxy, "/readyz").await;
    assert_eq!((status, text), (200, format!("store '{address}': ok\nkms 'local': ok\n")));
    // Requests that meet nobody say so at once.
    for fault in [Fault::Close, Fault::Close] {
        store.fail_next(fault);
    }
    assert_eq!(get(proxy.address, "/b/k").await.code(), "ServiceUnavailable");
    let (status, text) = page(&proxy, "/readyz").await;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains(&format!("store '{address}': away for 0 s: the store is not reachable")), "{text}");
    assert_eq!(metric(&proxy, "s3veil_store_up").await, 0.0);
    assert_eq!(document(&proxy, "/status.json").await["store"]["up"], false);
    // The next answer to anybody ends that.
    assert_eq!(get(proxy.address, "/b/k").await.code(), "NoSuchKey");
    assert_eq!(page(&proxy, "/readyz").await.0, 200);
    assert_eq!(metric(&proxy, "s3veil_store_up").await, 1.0);
}

#[tokio::test]
async fn a_store_that_knows_other_credentials_is_not_ready() {
    let store = MemoryStore::start().await;
    store.fail_next(Fault::Refuse("InvalidAccessKeyId"));
    let proxy = Proxy::start(&store.endpoint, &settings()).await;
    let (status, text) = page(&proxy, "/readyz").await;
    assert_eq!(status, 503);
    assert!(text.contains("store.credentials.default") && text.contains("InvalidAccessKeyId"), "{text}");
    // To list no buckets is no mistake.
    let store = MemoryStore::start().await;
    store.fail_next(Fault::Refuse("AccessDenied"));
    let proxy = Proxy::start(&store.endpoint, &settings()).await;
    assert_eq!(page(&proxy, "/readyz").await.0, 200);
}

/// A client that goes away, or sends what it should not, says nothing of the store.
#[tokio::test]
async fn a_client_that_breaks_off_does_not_make_the_store_away() {
    let (_store, proxy) = start().await;
    let short = futures_util::stream::iter([
        Ok(http_body::Frame::data(bytes::Bytes::from(pattern(100_000)))),
        Err(std::io::Error::other("gone")),
    ]);
    let head = signed(proxy.address, "PUT", "/b/k", &[("content-length", "200000")], BodyHash::Unsigned);
    let request = head.map(|()| http_body_util::StreamBody::new(short).boxed_unsync());
    assert!(exchange(proxy.address, request).await.is_none());
    let head = [("x-amz-checksum-crc32", "AAAAAA==")];
    assert_eq!(send(proxy.address, "PUT", "/b/k", &head, b"body").await.code(), "BadDigest");
    // Nor does it count as the store's.
    assert_eq!(metric(&proxy, "s3veil_store_requests_total{method=\"PUT\",status=\"client\"}").await, 1.0);
    assert_eq!(
        metric(&proxy, "s3veil_store_requests_total{method=\"PUT\",status=\"unreachable\"}").await,
        0.0
    );
    assert_eq!(page(&proxy, "/readyz").await.0, 200);
    assert_eq!(metric(&proxy, "s3veil_store_up").await, 1.0);
}

#[tokio::test]
async fn the_policy_in_force_is_shown_with_the_state_of_its_keys() {
    let (_store, proxy) = start().await;
    let view = document(&proxy, "/policy").await;
    let rules = view["rules"].as_array().unwrap();
    let buckets: Vec<_> = rules.iter().map(|rule| rule["bucket"].as_str().unwrap()).collect();
    // Best first.
    assert_eq!(buckets.last(), Some(&"*"), "{buckets:?}");
    let team = rules.iter().find(|rule| rule["prefix"] == "team/").unwrap();
    let expected = serde_json::json!({
        "bucket": "b", "prefix": "team/", "mode": "seal", "ek": "s3veil-dev-key", "kms": "local", "plaintext": "deny",
        "locked": false, "client_eks": ["team-*"], "customer_keys": true, "anonymous": "refuse"
    });
    assert_eq!(*team, expected);
    assert_eq!(rules.iter().find(|rule| rule["bucket"] == "none").unwrap()["mode"], "deny");
    let eks = serde_json::json!([{ "kms": "local", "ek": "s3veil-dev-key", "state": "ok", "why": null }]);
    assert_eq!(view["eks"], eks);
    let identity = &view["identities"][0];
    assert_eq!((&identity["name"], &identity["store"]), (&"test".into(), &"default".into()));

    let name = s3veil::kms::EkName::parse("s3veil-dev-key").unwrap();
    proxy.kms().disable(&name).await.unwrap();
    assert_eq!(document(&proxy, "/policy").await["eks"][0]["state"], "disabled");
    for path in ["/policy", "/status.json", "/metrics", "/readyz", "/"] {
        let (_, text) = page(&proxy, path).await;
        assert!(![TOKEN, SECRET_KEY, "store-secret"].iter().any(|secret| text.contains(secret)), "{path}");
    }
}

#[tokio::test]
async fn the_status_has_what_the_page_draws() {
    let (_store, proxy) = start().await;
    put(proxy.address, "/b/k", b"one").await;
    get(proxy.address, "/b/k").await;
    get(proxy.address, "/b/none").await;
    page(&proxy, "/readyz").await;
    let status = document(&proxy, "/status.json").await;
    assert_eq!(status["ready"], true);
    assert_eq!(status["requests"]["total"], serde_json::json!({ "2xx": 2, "3xx": 0, "4xx": 1, "5xx": 0 }));
    assert_eq!(status["requests"]["by_operation"]["GetObject"], 2);
    let latency = &status["latency"];
    let (bounds, counts) = (latency["bounds"].as_array().unwrap(), latency["counts"].as_array().unwrap());
    assert_eq!(counts.len(), bounds.len() + 1);
    assert_eq!(counts.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), 3);
    assert_eq!(status["cache"]["write"]["miss"], 1);
    assert_eq!(status["kms"][0]["name"], "local");
    assert!(status["kms"][0]["calls"].as_u64().unwrap() > 0);
    assert_eq!(status["kms"][0]["failed_calls"], 0);
    assert_eq!((&status["bytes"]["sealed"], &status["bytes"]["opened"]), (&3.into(), &3.into()));
    assert_eq!(
        (&status["config"]["last_reload_successful"], &status["token_set"]),
        (&true.into(), &true.into())
    );
    assert!(status["uptime_secs"].as_f64().unwrap() > 0.0);
}

/// The store says "not you" to everything. That it says something makes it no more ready.
#[tokio::test]
async fn refused_credentials_stay_refused_until_they_are_taken() {
    let (store, proxy) = start().await;
    let address = store.endpoint.clone();
    for _ in 0..2 {
        store.fail_next(Fault::Refuse("InvalidAccessKeyId"));
    }
    let (status, text) = page(&proxy, "/readyz").await;
    assert_eq!(status, 503, "{text}");
    // A client's request is refused in the same way.
    assert_eq!(get(proxy.address, "/b/k").await.status, 403);
    let (status, text) = page(&proxy, "/readyz").await;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("InvalidAccessKeyId"), "{text}");
    put(proxy.address, "/b/k", b"taken").await;
    assert_eq!(page(&proxy, "/readyz").await, (200, format!("store '{address}': ok\nkms 'local': ok\n")));
}

/// What one request meets, another does not: a bucket that is elsewhere, an operation that takes its time.
#[tokio::test]
async fn one_bucket_or_one_slow_operation_does_not_make_the_store_away() {
    let (store, proxy) = start().await;
    store.fail_next(Fault::Redirect(301, "http://elsewhere.example/b/k"));
    assert_eq!(get(proxy.address, "/b/k").await.status, 500);
    assert_eq!(page(&proxy, "/readyz").await.0, 200);
    let held = store.hold_next_of(http::Method::DELETE);
    // The store's patience is 2 seconds here.
    assert_eq!(send(proxy.address, "DELETE", "/b/k", &[], b"").await.status, 503);
    assert_eq!(
        metric(&proxy, "s3veil_store_requests_total{method=\"DELETE\",status=\"timeout\"}").await,
        1.0
    );
    assert_eq!(metric(&proxy, "s3veil_store_up").await, 1.0);
    assert_eq!(page(&proxy, "/readyz").await.0, 200);
    held.release();
}

/// A web page of a stranger can have its own name lead to this machine.
#[tokio::test]
async fn on_loopback_only_names_of_this_machine_are_answered() {
    let (_store, proxy) = start().await;
    let admin = proxy.admin().await;
    for (host, status) in [
        ("127.0.0.1:9333", 200),
        ("localhost:9333", 200),
        ("[::1]:9333", 200),
        ("evil.example:9333", 403),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
    ] {
        let request = http::Request::get("/status.json").header("host", host).body(full("")).unwrap();
        assert_eq!(exchange(admin, request).await.unwrap().status.as_u16(), status, "{host}");
    }
}

/// Many ask at once and the store is asked once.
#[tokio::test]
async fn readiness_is_no_load_on_the_store() {
    let (store, proxy) = start().await;
    let admin = proxy.admin().await;
    let proxy = Arc::new(proxy);
    let asked = (0..20).map(|_| async move {
        let request = http::Request::get("/readyz").body(full("")).unwrap();
        exchange(admin, request).await.unwrap().status.as_u16()
    });
    assert!(futures_util::future::join_all(asked).await.iter().all(|status| *status == 200));
    let seen = store.take_seen();
    assert_eq!(seen.iter().filter(|seen| seen.path == "/").count(), 1, "{seen:?}");
    drop(proxy);
}
