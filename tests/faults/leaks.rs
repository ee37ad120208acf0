//! Thousands of faults before the real program, which is looked at from outside: memory, files, connections.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::Request;
use tempfile::TempDir;

use crate::relay::{Fault, Kind, Relay, Way};
use crate::support::client::{attempt, exchange, full, get, put};
use crate::support::memory::MemoryStore;
use crate::support::program::Program;
use crate::support::proxy::pattern;

/// Faults of one round, and rounds of which the first ones fill what fills once.
const ROUND: usize = 300;
const FIRST: usize = 2;
const MORE: usize = 4;

/// What a fault may leave in bytes: nothing, but the heap is not given back page by page. A connection's buffer alone is
/// more.
const LEFT: u64 = 1024;

async fn gauges(admin: SocketAddr) -> [u64; 2] {
    let request = Request::get("/metrics").header("host", "localhost").body(full("")).unwrap();
    let reply = exchange(admin, request).await.unwrap();
    let text = String::from_utf8(reply.bytes().to_vec()).unwrap();
    let of = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap().parse().unwrap()
    };
    [of("s3veil_connections"), of("s3veil_in_flight")]
}

/// Reads and writes of three chunks, each of which breaks somewhere.
async fn round(to: SocketAddr, relay: &Relay) {
    let body = pattern(150_000);
    for number in 0..ROUND {
        let (way, writes) = (if number % 2 == 0 { Way::Asking } else { Way::Answering }, number % 3 == 0);
        let length = if (way == Way::Asking) == writes { 150_000 } else { 1000 };
        let kind = [Kind::Reset, Kind::Close, Kind::Half][number / 2 % 3];
        relay.arm(Some(Fault { way, at: number * 7919 % length, kind, always: false }));
        match writes {
            true => drop(put(to, "/b/k", &body).await),
            false => {
                // What breaks off at once may come to nothing at all.
                let Some(reply) = attempt(to, "/b/k", &[]).await else { continue };
                assert!(!reply.status.is_success() || body.starts_with(&reply.received), "{number}");
            }
        }
        relay.disarm();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_left_of_thousands() {
    let directory = TempDir::new().unwrap();
    let store = MemoryStore::start().await;
    let relay = Relay::start(store.endpoint.trim_start_matches("http://").parse().unwrap()).await;
    let inner = format!(
        r#"endpoint = "{}", idle_timeout_secs = 1, credentials.default = {{ access_key = "a", secret_key = "s" }}"#,
        relay.endpoint()
    );
    let admin = Program::free_address();
    let file = Program::configure(directory.path(), &inner, &format!("admin.listen = \"{admin}\"")).await;
    let program = Program::start(&file);
    let to = program.address;
    assert_eq!(put(to, "/b/k", &pattern(150_000)).await.status, 200);
    // One connection to the store is left, which a whole answer was the last to come on.
    let settled = async || {
        let begun = Instant::now();
        assert!(get(to, "/b/k").await.bytes() == pattern(150_000));
        while gauges(admin).await != [0, 0] || relay.live() != 1 {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?} {}", gauges(admin).await, relay.live());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    for _ in 0..FIRST {
        round(to, &relay).await;
    }
    settled().await;
    // The least of some looks: the connection that metrics were asked on may still be closing.
    let mut files = program.files();
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        files = files.min(program.files());
    }
    let memory = program.memory();
    for _ in 0..MORE {
        round(to, &relay).await;
    }
    settled().await;
    let (memory, grown) = (memory, program.memory().saturating_sub(memory));
    println!("{memory} KiB after {} faults, {grown} KiB more after {} more", FIRST * ROUND, MORE * ROUND);
    assert!(grown * 1024 < (MORE * ROUND) as u64 * LEFT, "{grown} KiB more");
    let begun = Instant::now();
    while program.files() > files {
        assert!(begun.elapsed() < Duration::from_secs(20), "{} files, not {files}", program.files());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
