//! What one room counts: handed out to it by name, so that it sees no other's.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use prometheus::{Counter, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// A status as a label. A store may answer with any three digits, and those that mean something are few.
pub(super) fn label(status: &StatusCode) -> &str {
    match status.canonical_reason() {
        Some(_) => status.as_str(),
        // Of s3veil's own making: a client that went away.
        None if status.as_u16() == 499 => status.as_str(),
        None => "other",
    }
}

/// What is counted of the store.
#[derive(Clone)]
pub struct StoreMetrics {
    pub(super) requests: IntCounterVec,
    pub(super) seconds: HistogramVec,
    pub(super) up: IntGauge,
}

impl StoreMetrics {
    /// A request has its answer, or none and a word why.
    pub fn request(&self, method: &Method, status: Result<StatusCode, &'static str>, took: Duration) {
        let status = match &status {
            Ok(status) => label(status),
            Err(why) => why,
        };
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::PUT => "PUT",
            Method::POST => "POST",
            Method::DELETE => "DELETE",
            Method::OPTIONS => "OPTIONS",
            _ => "other",
        };
        self.requests.with_label_values(&[method, status]).inc();
        self.seconds.with_label_values(&[method]).observe(took.as_secs_f64());
    }

    /// Whether the store answers.
    pub fn up(&self, up: bool) {
        self.up.set(up.into());
    }
}

/// What is counted of sealing, or of opening.
#[derive(Clone)]
pub struct CryptoMetrics {
    pub(super) bytes: IntCounter,
    pub(super) seconds: Counter,
}

impl CryptoMetrics {
    /// Does it to a chunk.
    pub fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        self.seconds.inc_by(begun.elapsed().as_secs_f64());
        done
    }

    /// So many plaintext bytes.
    pub fn bytes(&self, len: usize) {
        self.bytes.inc_by(len as u64);
    }
}

/// What is counted of one KMS.
#[derive(Clone)]
pub struct KmsMetrics {
    pub(super) name: String,
    pub(super) calls: IntCounterVec,
    pub(super) seconds: HistogramVec,
    pub(super) up: IntGaugeVec,
}

impl KmsMetrics {
    /// The KMS's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A call has ended.
    pub fn call(&self, operation: &str, result: &str, took: Duration) {
        self.calls.with_label_values(&[&self.name, operation, result]).inc();
        self.seconds.with_label_values(&[&self.name]).observe(took.as_secs_f64());
    }

    /// Whether the KMS answers.
    pub fn up(&self, up: bool) {
        self.up.with_label_values(&[&self.name]).set(up.into());
    }
}

/// What is counted of the DEKs kept for one use, writes or reads.
#[derive(Clone)]
pub struct DekCacheMetrics {
    /// It was there.
    pub hit: IntCounter,
    /// It had to be waited for.
    pub miss: IntCounter,
    /// It was fetched ahead of its time, and nobody waited.
    pub refresh: IntCounter,
}
