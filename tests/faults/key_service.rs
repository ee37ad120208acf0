//! The same between s3veil and a KMS: OpenBao, asked anew for each request.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::answers::{CHANGES, HARMLESS};
use crate::lane::{new, old};
use crate::relay::{Changed, Fault, Kind, Relay, Way};
use crate::servers;
use crate::support::client::{Reply, get, put};
use crate::support::memory::{Contents, MemoryStore};
use crate::support::proxy::{Proxy, SEALED};
use crate::vault_server::{Bao, ROOT};

/// Longer than all attempts of a call to a KMS (10 s).
const PATIENCE: Duration = Duration::from_secs(15);

/// A request that needs the KMS: to make a key, or to open one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Generate,
    Unwrap,
}

struct Line {
    store: MemoryStore,
    relay: Relay,
    proxy: Proxy,
    before: Contents,
}

impl Line {
    async fn start(bao: &Bao, ek: &str) -> Self {
        bao.root("POST", &format!("transit/keys/{ek}"), json!({}));
        let store = MemoryStore::start().await;
        let relay = Relay::start(([127, 0, 0, 1], bao.port).into()).await;
        let settings = format!(
            "kind = 'vault-transit'\nendpoint = '{}'\nmount = 'transit'\nauth = {{ method = 'token', token = '{ROOT}' }}",
            relay.endpoint()
        );
        let policy = SEALED.replace("s3veil-dev-key", ek);
        let proxy =
            Proxy::start_with_kms(&store.endpoint, &settings, &format!("[cache]\nttl_secs = 0\n{policy}"))
                .await;
        assert_eq!(put(proxy.address, "/b/k", &old()).await.status, 200);
        let before = store.contents();
        Self { store, relay, proxy, before }
    }

    /// Asks it, and looks whether the answer is right, or says that the KMS is away or wrong, and whether all is as before
    /// or as it should be.
    async fn ask(&self, need: Need, what: &str) -> Reply {
        self.store.restore(self.before.clone());
        let to = self.proxy.address;
        let asked = async {
            match need {
                Need::Generate => put(to, "/b/k", &new()).await,
                Need::Unwrap => get(to, "/b/k").await,
            }
        };
        let reply =
            tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{what}: it hangs"));
        if reply.status != 200 {
            let code = reply.code();
            let known = ["ServiceUnavailable", "InternalError"].contains(&&*code) || code.starts_with("KMS.");
            assert!(reply.status.as_u16() >= 400 && known, "{what}: {} {code}", reply.status);
            assert!(reply.status != 503 || !reply.header("retry-after").is_empty(), "{what}");
            assert!(self.store.contents() == self.before, "{what}: nothing is stored without a key");
        } else if need == Need::Unwrap {
            assert_eq!(reply.bytes(), old(), "{what}");
            assert!(self.store.contents() == self.before, "{what}");
        }
        reply
    }

    /// What a write that was told to be done has left, with nothing in the way.
    async fn holds(&self, reply: &Reply, need: Need, what: &str) {
        let wanted = if need == Need::Generate && reply.status == 200 { new() } else { old() };
        let begun = Instant::now();
        loop {
            let read = get(self.proxy.address, "/b/k").await;
            if read.status == 200 {
                assert_eq!(read.bytes(), wanted, "{what}");
                return;
            }
            // The circuit is open for a second or two after the third failure in a row.
            assert!(read.status == 503 && begun.elapsed() < PATIENCE, "{what}: {read:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn lengths(&self, need: Need) -> [(Way, usize); 2] {
        self.relay.arm(None);
        assert_eq!(self.ask(need, "nothing in the way").await.status, 200);
        let (_, [asking, answering]) = self.relay.disarm();
        [(Way::Asking, asking), (Way::Answering, answering)]
    }

    async fn quiet(&self, connections: usize) {
        let begun = Instant::now();
        let (metrics, live) = (&self.proxy.app.metrics, || self.relay.live());
        while live() > connections || metrics.in_flight.get() > 0 || metrics.listener.connections.get() > 0 {
            assert!(begun.elapsed() < PATIENCE, "{} connections to the KMS, not {connections}", live());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn started() -> Option<Bao> {
    let bao = Bao::start().map_err(|why| servers::skip(&why)).ok()?;
    bao.mount_transit("transit");
    Some(bao)
}

/// A call is tried again, so that no client sees a connection that broke once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_reset_at_every_byte_is_not_seen() {
    let Some(bao) = started() else { return };
    let cases = Arc::<Mutex<Vec<_>>>::default();
    let mut running = Vec::new();
    for lane in 0..24 {
        let line = Line::start(&bao, &format!("reset-{lane}")).await;
        if lane == 0 {
            for need in [Need::Generate, Need::Unwrap] {
                for (way, length) in line.lengths(need).await {
                    cases.lock().unwrap().extend((0..length).map(|at| (need, way, at)));
                }
            }
            println!("{} resets", cases.lock().unwrap().len());
        }
        let cases = cases.clone();
        running.push(tokio::spawn(async move {
            line.lengths(Need::Unwrap).await;
            let connections = line.relay.live();
            loop {
                let Some((need, way, at)) = cases.lock().unwrap().pop() else { break };
                let what = format!("{need:?}, {way:?}, {at}");
                line.relay.arm(Some(Fault { way, at, kind: Kind::Reset, always: false }));
                let reply = line.ask(need, &what).await;
                line.relay.disarm();
                assert_eq!(reply.status, 200, "{what}: {}", reply.code());
                line.holds(&reply, need, &what).await;
            }
            line.quiet(connections).await;
        }));
    }
    for line in running {
        line.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_kms_that_breaks_off_or_is_silent_is_away_and_comes_back() {
    let Some(bao) = started() else { return };
    let mut running = Vec::new();
    for need in [Need::Generate, Need::Unwrap] {
        for (way, kind, always, third) in [Way::Asking, Way::Answering].into_iter().flat_map(|way| {
            [(Kind::Reset, true), (Kind::Half, true), (Kind::Stall, false), (Kind::Stall, true)]
                .into_iter()
                .flat_map(move |(kind, always)| (0..3).map(move |third| (way, kind, always, third)))
        }) {
            let line = Line::start(&bao, &format!("broken-{}", running.len())).await;
            running.push(tokio::spawn(async move {
                let length = line.lengths(need).await[way as usize].1;
                let at = length * third / 3;
                let what = format!("{need:?}, {way:?}, {kind:?}, {at}, always: {always}");
                line.relay.arm(Some(Fault { way, at, kind, always }));
                let begun = Instant::now();
                let reply = line.ask(need, &what).await;
                let took = begun.elapsed();
                line.relay.disarm();
                let expected = if always { 503 } else { 200 };
                assert_eq!(reply.status, expected, "{what}: {}", reply.code());
                let patience = Duration::from_secs(if kind == Kind::Stall { 14 } else { 8 });
                assert!(took < patience, "{what}: {took:?}");
                line.holds(&reply, need, &what).await;
                line.quiet(2).await;
            }));
        }
    }
    for line in running {
        line.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answers_of_a_kms_that_are_none() {
    let Some(bao) = started() else { return };
    let mut running = Vec::new();
    for (name, change) in CHANGES {
        let line = Line::start(&bao, &format!("changed-{}", running.len())).await;
        running.push(tokio::spawn(async move {
            for need in [Need::Generate, Need::Unwrap] {
                let what = format!("{need:?}: {name}");
                line.relay.change("POST", move |message| change(&message));
                let reply = line.ask(need, &what).await;
                let (met, _) = line.relay.disarm();
                assert!(met > 0, "{what}: it was not met");
                line.holds(&reply, need, &what).await;
                assert!(reply.status == 200 || !HARMLESS.contains(&name), "{what}: {}", reply.code());
            }
            line.quiet(2).await;
        }));
    }
    for (number, text) in [
        "500 Internal Server Error",
        "503 Service Unavailable",
        "429 Too Many Requests",
        "412 Precondition Failed",
    ]
    .into_iter()
    .enumerate()
    {
        let line = Line::start(&bao, &format!("status-{number}")).await;
        running.push(tokio::spawn(async move {
            line.relay.change("POST", move |_| {
                Changed::to(
                    format!("HTTP/1.1 {text}\r\ncontent-length: 13\r\n\r\n{{\"errors\":[]}}").into_bytes(),
                )
            });
            for need in [Need::Generate, Need::Unwrap] {
                let reply = line.ask(need, text).await;
                assert_eq!(reply.status, 503, "{text}: {}", reply.code());
            }
            line.relay.disarm();
        }));
    }
    for line in running {
        line.await.unwrap();
    }
}
