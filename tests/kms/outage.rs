//! A real KMS that is killed under load, and comes back (K-7).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Request;
use tokio::task::JoinHandle;

use crate::common::{build, ek};
use crate::kes_server::{ADMIN, Estate, api_key};
use crate::support::client::{Reply, exchange, full, get, put};
use crate::support::memory::MemoryStore;
use crate::support::proxy::Proxy;

/// Buckets of their own EKs: `cold` is not met before the outage.
const POLICY: &str = r#"
[cache]
ttl_secs = 3600
[[policy]]
bucket = "warm"
ek = "a"
[[policy]]
bucket = "cold*"
ek = "b"
[[policy]]
bucket = "plain"
mode = "passthrough"
[admin]
listen = "127.0.0.1:0"
"#;

/// Longer than all attempts of one call, and shorter than a client's patience.
const PATIENCE: Duration = Duration::from_secs(11);

async fn page(proxy: &Proxy, path: &str) -> (u16, String) {
    let request = Request::get(path).header("host", "localhost").body(full("")).unwrap();
    let reply = exchange(proxy.admin().await, request).await.unwrap();
    (reply.status.as_u16(), String::from_utf8(reply.bytes().to_vec()).unwrap())
}

/// How often the KMS was called, and got no answer.
async fn unanswered(proxy: &Proxy) -> u64 {
    let (_, metrics) = page(proxy, "/metrics").await;
    let lines = metrics.lines().filter(|line| line.starts_with("s3veil_kms_calls_total"));
    let lines = lines.filter(|line| line.contains("unavailable"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

fn is_turned_away(reply: &Reply) -> bool {
    reply.status == 503 && reply.code() == "ServiceUnavailable" && !reply.header("retry-after").is_empty()
}

/// Clients that go on reading and writing what is warm until they are told to stop; how often they did.
fn load(proxy: &Arc<Proxy>, stop: &Arc<AtomicBool>) -> (Vec<JoinHandle<()>>, Arc<AtomicUsize>) {
    let done = Arc::<AtomicUsize>::default();
    let client = |number: usize| {
        let (proxy, stop, done) = (proxy.clone(), stop.clone(), done.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let path = format!("/warm/{number}");
                assert_eq!(put(proxy.address, &path, b"hello").await.status, 200);
                assert_eq!(get(proxy.address, &path).await.bytes(), b"hello");
                assert_eq!(get(proxy.address, "/plain/k").await.bytes(), b"plain");
                done.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    ((0..4).map(client).collect(), done)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn k_07_cached_keys_go_on_others_are_turned_away_and_all_comes_back_by_itself() {
    let estate = or_skip!(Estate::new());
    let kes = estate.start().unwrap();
    let port = kes.port;
    let settings = estate.settings(&[kes.endpoint()], &api_key(ADMIN));
    let kms = build(&settings).unwrap();
    for name in ["a", "b"] {
        kms.create(&ek(name)).await.unwrap();
    }
    let store = MemoryStore::start().await;
    let proxy = Arc::new(Proxy::start_with_kms(&store.endpoint, &settings, POLICY).await);
    assert_eq!(put(proxy.address, "/plain/k", b"plain").await.status, 200);
    assert_eq!(put(proxy.address, "/cold/before", b"cold").await.status, 200);
    let ready = format!("store '{}': ok\nkms 'test': ok\n", store.endpoint);
    assert_eq!(page(&proxy, "/readyz").await, (200, ready.clone()));

    let stop = Arc::<AtomicBool>::default();
    let (clients, done) = load(&proxy, &stop);
    while done.load(Ordering::Relaxed) < 4 {
        tokio::task::yield_now().await;
    }
    drop(kes); // SIGKILL.

    // A storm on keys that are not there. Each gets its answer in time, and the KMS few calls.
    let storm: Vec<_> = (0..200)
        .map(|number| {
            let proxy = proxy.clone();
            tokio::spawn(async move {
                let begun = Instant::now();
                let reply = put(proxy.address, &format!("/cold-{}/k", number % 20), b"x").await;
                assert!(is_turned_away(&reply), "{} {}", reply.status, reply.code());
                assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
            })
        })
        .collect();
    for one in storm {
        one.await.unwrap();
    }
    // One call at a time for each of the twenty buckets, until the circuit was open.
    let calls = unanswered(&proxy).await;
    assert!((1..=40).contains(&calls), "{calls} calls for 200 requests");
    let begun = Instant::now();
    for number in 0..50 {
        assert!(is_turned_away(&put(proxy.address, &format!("/cold-{number}/k"), b"x").await));
    }
    let more = unanswered(&proxy).await - calls;
    // Each pause is longer than the one before, and none shorter than half a second.
    let most = 2 + begun.elapsed().as_secs();
    assert!(more <= most, "{more} calls for 50 requests while the circuit was open, not {most}");
    assert!(store.get("/cold-0/k").is_none(), "nothing half");

    // Cached keys have gone on all the while, and do.
    let (status, text) = page(&proxy, "/readyz").await;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("kms 'test': away for") && text.contains("cached keys go on"), "{text}");
    assert!(page(&proxy, "/metrics").await.1.contains("s3veil_kms_up{kms=\"test\"} 0"));
    assert_eq!(
        get(proxy.address, "/cold/before").await.bytes(),
        b"cold",
        "a key of the other EK is cached too"
    );
    let before = done.load(Ordering::Relaxed);
    while done.load(Ordering::Relaxed) < before + 8 {
        tokio::task::yield_now().await;
    }

    // Back on the same port: no restart of s3veil. Requests, and questions for readiness, find it out.
    let _kes = estate.start_at(port).unwrap();
    let back = async {
        while !put(proxy.address, "/cold-0/k", b"x").await.status.is_success() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), back)
        .await
        .expect("within the longest pause of the circuit");
    assert_eq!(page(&proxy, "/readyz").await, (200, ready));
    assert_eq!(get(proxy.address, "/cold-0/k").await.bytes(), b"x");

    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no request for a cached key has failed");
    }
}

/// What no key can be had for is not ready: nothing can be served.
#[tokio::test]
async fn without_any_cached_key_readiness_is_gone() {
    let estate = or_skip!(Estate::new());
    let kes = estate.start().unwrap();
    let settings = estate.settings(&[kes.endpoint()], &api_key(ADMIN));
    for name in ["a", "b"] {
        build(&settings).unwrap().create(&ek(name)).await.unwrap();
    }
    let store = MemoryStore::start().await;
    let policy = POLICY.replace("3600", "0");
    let proxy = Proxy::start_with_kms(&store.endpoint, &settings, &policy).await;
    drop(kes);
    assert!(is_turned_away(&put(proxy.address, "/warm/k", b"x").await));
    let (status, text) = page(&proxy, "/readyz").await;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("kms 'test': away for"), "{text}");
}
