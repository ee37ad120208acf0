//! `/status.json`: what the status page draws. Counters only ever rise, so whoever asks twice has rates.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Admin;
use super::health::{KmsHealth, StoreHealth};
use crate::metrics::Readings;

/// How s3veil is doing.
#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    uptime_secs: f64,
    ready: bool,
    draining: bool,
    in_flight: u64,
    connections: u64,
    store: StoreHealth,
    kms: Vec<KmsStatus>,
    requests: Requests,
    latency: Latency,
    bytes: Bytes,
    crypto_seconds: Crypto,
    cache: Caches,
    integrity_failures: u64,
    plaintext_reads: u64,
    bodies_cut: u64,
    auth_failures: BTreeMap<String, u64>,
    shed: Shed,
    config: ConfigStatus,
    /// Whether there is a token to show for more.
    token_set: bool,
}

#[derive(Serialize)]
struct KmsStatus {
    #[serde(flatten)]
    health: KmsHealth,
    calls: u64,
    failed_calls: u64,
}

#[derive(Serialize)]
struct Requests {
    /// By class of status: `2xx` and so on.
    total: BTreeMap<String, u64>,
    by_operation: BTreeMap<String, u64>,
}

/// Times to the head of an answer: upper bounds in seconds, and how many fell within each and beyond them all.
#[derive(Serialize)]
struct Latency {
    bounds: Vec<f64>,
    counts: Vec<u64>,
}

#[derive(Serialize)]
struct Bytes {
    #[serde(rename = "in")]
    received: u64,
    out: u64,
    sealed: u64,
    opened: u64,
}

#[derive(Serialize)]
struct Crypto {
    seal: f64,
    open: f64,
}

#[derive(Serialize)]
struct Caches {
    write: Cache,
    read: Cache,
}

#[derive(Serialize)]
struct Cache {
    hit: u64,
    miss: u64,
    refresh: u64,
}

#[derive(Serialize)]
struct Shed {
    connections: u64,
    in_flight: u64,
}

#[derive(Serialize)]
struct ConfigStatus {
    last_reload_successful: bool,
    taken_at: u64,
}

impl Admin {
    pub(super) async fn status(&self) -> Status {
        let health = self.health().await;
        let ready = health.ready();
        let read = self.metrics.read();
        let sum = |name| read.sum(name) as u64;
        let bytes = read.by("s3veil_client_bytes_total", "direction");
        let crypto = read.by("s3veil_crypto_seconds_total", "direction");
        let shed = read.by("s3veil_shed_total", "limit");
        let (bounds, counts) = read.histogram("s3veil_request_seconds");
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_secs: self.metrics.uptime().as_secs_f64(),
            ready,
            draining: health.draining,
            in_flight: sum("s3veil_in_flight"),
            connections: sum("s3veil_connections"),
            store: health.store,
            kms: health.kms.into_iter().map(|health| kms(&read, health)).collect(),
            requests: requests(&read),
            latency: Latency { bounds, counts },
            bytes: Bytes {
                received: at(&bytes, "in"),
                out: at(&bytes, "out"),
                sealed: sum("s3veil_sealed_bytes_total"),
                opened: sum("s3veil_opened_bytes_total"),
            },
            crypto_seconds: Crypto {
                seal: crypto.get("seal").copied().unwrap_or_default(),
                open: crypto.get("open").copied().unwrap_or_default(),
            },
            cache: Caches { write: cache(&read, "write"), read: cache(&read, "read") },
            integrity_failures: sum("s3veil_integrity_failures_total"),
            plaintext_reads: sum("s3veil_plaintext_reads_total"),
            bodies_cut: sum("s3veil_bodies_cut_total"),
            auth_failures: counts_of(read.by("s3veil_auth_failures_total", "reason")),
            shed: Shed { connections: at(&shed, "connections"), in_flight: at(&shed, "in_flight") },
            config: ConfigStatus {
                last_reload_successful: sum("s3veil_config_last_reload_successful") == 1,
                taken_at: sum("s3veil_config_last_reload_success_timestamp_seconds"),
            },
            token_set: self.token.is_some(),
        }
    }
}

fn kms(read: &Readings, health: KmsHealth) -> KmsStatus {
    let results = read.by_where("s3veil_kms_calls_total", "result", ("kms", &health.name));
    let calls: f64 = results.values().sum();
    let good = results.get("ok").copied().unwrap_or_default();
    KmsStatus { health, calls: calls as u64, failed_calls: (calls - good) as u64 }
}

fn requests(read: &Readings) -> Requests {
    let mut total: BTreeMap<String, u64> =
        ["2xx", "3xx", "4xx", "5xx"].map(|class| (class.to_owned(), 0)).into();
    for (status, count) in read.by("s3veil_requests_total", "status") {
        let class = status.get(..1).unwrap_or_default();
        *total.entry(format!("{class}xx")).or_default() += count as u64;
    }
    Requests { total, by_operation: counts_of(read.by("s3veil_requests_total", "operation")) }
}

fn cache(read: &Readings, purpose: &str) -> Cache {
    let results = read.by_where("s3veil_dek_cache_total", "result", ("use", purpose));
    Cache { hit: at(&results, "hit"), miss: at(&results, "miss"), refresh: at(&results, "refresh") }
}

fn at(sums: &BTreeMap<String, f64>, label: &str) -> u64 {
    sums.get(label).copied().unwrap_or_default() as u64
}

fn counts_of(sums: BTreeMap<String, f64>) -> BTreeMap<String, u64> {
    sums.into_iter().map(|(label, sum)| (label, sum as u64)).collect()
}
