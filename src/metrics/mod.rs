//! Every metric, declared once. Label values are bounded: operations, statuses, S3's codes, names of the configuration.

mod listener;
mod parts;
mod read;

pub use listener::ListenerMetrics;
pub use parts::{CryptoMetrics, DekCacheMetrics, KmsMetrics, StoreMetrics};
pub use read::Readings;

use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use prometheus::core::Collector;
use prometheus::{
    CounterVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::s3::Code;

/// Bounds of the histograms of times, in seconds.
const SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// The metrics of one process.
pub struct Metrics {
    registry: Registry,
    started: Instant,
    requests: IntCounterVec,
    errors: IntCounterVec,
    seconds: HistogramVec,
    /// Requests whose answer has not ended.
    pub in_flight: IntGauge,
    /// Those of the S3 port.
    pub listener: ListenerMetrics,
    client_bytes: IntCounterVec,
    auth_failures: IntCounterVec,
    integrity_failures: IntCounterVec,
    bodies_cut: IntCounterVec,
    /// Objects without an envelope that were served.
    pub plaintext_reads: IntCounter,
    crypto_bytes: [IntCounter; 2],
    crypto_seconds: CounterVec,
    store: StoreMetrics,
    kms_calls: IntCounterVec,
    kms_seconds: HistogramVec,
    kms_up: IntGaugeVec,
    dek_cache: IntCounterVec,
    reloads: IntCounterVec,
    reload_good: IntGauge,
    reload_time: IntGauge,
}

/// Makes metrics and has them registered: each is there from its declaration on.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn register<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let metric = made.expect("names and labels are constants that Prometheus allows");
        self.0.register(Box::new(metric.clone())).expect("each metric is declared once");
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        self.register(HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels))
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let make = Maker(&registry);
        make.gauges("s3veil_build_info", "The version that runs; always 1", &["version"])
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let metrics = Self {
            started: Instant::now(),
            requests: make.counters(
                "s3veil_requests_total",
                "Requests by S3 operation and HTTP status",
                &["operation", "status"],
            ),
            errors: make.counters(
                "s3veil_errors_total",
                "Errors of s3veil's own by operation and blame",
                &["operation", "blame"],
            ),
            seconds: make.seconds(
                "s3veil_request_seconds",
                "Time to the head of the answer by operation",
                &["operation"],
            ),
            in_flight: make.gauge("s3veil_in_flight", "Requests whose answer has not ended"),
            listener: ListenerMetrics::declare(&make),
            client_bytes: make.counters(
                "s3veil_client_bytes_total",
                "Bytes of bodies from clients (in) and to them (out)",
                &["direction"],
            ),
            auth_failures: make.counters(
                "s3veil_auth_failures_total",
                "Requests whose sender was not known or proved, by the S3 code of the refusal",
                &["reason"],
            ),
            integrity_failures: make.counters(
                "s3veil_integrity_failures_total",
                "Objects or bodies of the store that did not authenticate, by the operation that met them",
                &["operation"],
            ),
            bodies_cut: make.counters(
                "s3veil_bodies_cut_total",
                "Answers that s3veil broke off after they had begun, by operation",
                &["operation"],
            ),
            plaintext_reads: make
                .counter("s3veil_plaintext_reads_total", "Objects without an envelope that were served"),
            crypto_bytes: [
                make.counter("s3veil_sealed_bytes_total", "Plaintext bytes that were sealed"),
                make.counter("s3veil_opened_bytes_total", "Plaintext bytes that were opened, of those that were asked for"),
            ],
            crypto_seconds: make.register(CounterVec::new(
                Opts::new(
                    "s3veil_crypto_seconds_total",
                    "Time in which chunks were sealed or opened, of all threads together",
                ),
                &["direction"],
            )),
            store: StoreMetrics {
                requests: make.counters(
                    "s3veil_store_requests_total",
                    "Requests to the store by method and status; unreachable, timeout; client where its body broke off",
                    &["method", "status"],
                ),
                seconds: make.seconds(
                    "s3veil_store_seconds",
                    "Time to the head of the store's answer, by method; with a body, the sending of it",
                    &["method"],
                ),
                up: make.gauge("s3veil_store_up", "1 while the store answers, 0 while it is away"),
            },
            kms_calls: make.counters(
                "s3veil_kms_calls_total",
                "Calls to a KMS by operation and result; attempts of one call count once",
                &["kms", "operation", "result"],
            ),
            kms_seconds: make.seconds(
                "s3veil_kms_seconds",
                "Time that a call to a KMS took, all its attempts together",
                &["kms"],
            ),
            kms_up: make.gauges("s3veil_kms_up", "1 while a KMS answers, 0 while it is away", &["kms"]),
            dek_cache: make.counters(
                "s3veil_dek_cache_total",
                "DEKs asked of the cache by use (write, read) and result (hit, miss, refresh)",
                &["use", "result"],
            ),
            reloads: make.counters(
                "s3veil_config_reloads_total",
                "Configurations read while running, by result (ok, failed)",
                &["result"],
            ),
            // The names that Prometheus has for its own.
            reload_good: make.gauge(
                "s3veil_config_last_reload_successful",
                "1 while the configuration in force is the one that was read last, 0 while that one can't be used",
            ),
            reload_time: make.gauge(
                "s3veil_config_last_reload_success_timestamp_seconds",
                "When the configuration in force was read, in Unix time",
            ),
            registry,
        };
        // Memory, CPU time and file descriptors, by the names that every process has them under.
        #[cfg(target_os = "linux")]
        metrics
            .registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("it is registered once");
        metrics.begin();
        metrics
    }
}

impl Metrics {
    /// What is there from the start, so that a rise from none is seen.
    fn begin(&self) {
        for result in ["ok", "failed"] {
            self.reloads.with_label_values(&[result]);
        }
        for direction in ["in", "out"] {
            self.client_bytes.with_label_values(&[direction]);
        }
        for operation in ["GetObject", "HeadObject"] {
            self.integrity_failures.with_label_values(&[operation]);
        }
        self.bodies_cut.with_label_values(&["GetObject"]);
        self.auth_failures.with_label_values(&[Code::SignatureDoesNotMatch.as_str()]);
        self.store.up.set(1);
        self.config_taken(SystemTime::now());
    }

    /// How long this process has been counting.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The head of an answer is ready.
    pub fn head(&self, operation: &str, status: StatusCode, took: Duration) {
        self.requests.with_label_values(&[operation, parts::label(&status)]).inc();
        self.seconds.with_label_values(&[operation]).observe(took.as_secs_f64());
    }

    /// A request is turned away before it is looked at.
    pub fn turned_away(&self, status: StatusCode) {
        self.requests.with_label_values(&["Unknown", parts::label(&status)]).inc();
    }

    /// An answer is an error of s3veil's own.
    pub fn error(&self, operation: &str, code: Code) {
        self.errors.with_label_values(&[operation, code.blame().as_str()]).inc();
        if code == Code::ObjectIntegrityError {
            self.tampered(operation);
        }
    }

    /// A request's sender was not known, or not proved.
    pub fn auth_failure(&self, code: Code) {
        self.auth_failures.with_label_values(&[code.as_str()]).inc();
    }

    /// What the store holds did not authenticate.
    pub fn tampered(&self, operation: &str) {
        self.integrity_failures.with_label_values(&[operation]).inc();
    }

    /// An answer was broken off.
    pub fn cut(&self, operation: &str) {
        self.bodies_cut.with_label_values(&[operation]).inc();
    }

    /// Bytes of bodies from clients.
    pub fn bytes_in(&self) -> IntCounter {
        self.client_bytes.with_label_values(&["in"])
    }

    /// Bytes of bodies to clients.
    pub fn bytes_out(&self) -> IntCounter {
        self.client_bytes.with_label_values(&["out"])
    }

    /// The configuration has been read again, and is in force or not.
    pub fn reload(&self, taken: bool) {
        self.reloads.with_label_values(&[if taken { "ok" } else { "failed" }]).inc();
        match taken {
            true => self.config_taken(SystemTime::now()),
            false => self.reload_good.set(0),
        }
    }

    fn config_taken(&self, now: SystemTime) {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.reload_good.set(1);
        self.reload_time.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// The metrics of the store.
    pub fn store(&self) -> StoreMetrics {
        self.store.clone()
    }

    /// What is counted of sealing.
    pub fn sealing(&self) -> CryptoMetrics {
        self.crypto(0, "seal")
    }

    /// What is counted of opening.
    pub fn opening(&self) -> CryptoMetrics {
        self.crypto(1, "open")
    }

    fn crypto(&self, which: usize, direction: &str) -> CryptoMetrics {
        let seconds = self.crypto_seconds.with_label_values(&[direction]);
        CryptoMetrics { bytes: self.crypto_bytes[which].clone(), seconds }
    }

    /// Shows no KMS as up or away until it says so itself: others are in force now.
    pub fn forget_kmss(&self) {
        self.kms_up.reset();
    }

    /// The metrics of the KMS of this name: one of the configuration's, so they are few.
    pub fn kms(&self, name: &str) -> KmsMetrics {
        KmsMetrics {
            name: name.to_owned(),
            calls: self.kms_calls.clone(),
            seconds: self.kms_seconds.clone(),
            up: self.kms_up.clone(),
        }
    }

    /// The metrics of the DEKs kept for one use: `write` or `read`.
    pub fn dek_cache(&self, purpose: &str) -> DekCacheMetrics {
        let counter = |result| self.dek_cache.with_label_values(&[purpose, result]);
        DekCacheMetrics { hit: counter("hit"), miss: counter("miss"), refresh: counter("refresh") }
    }

    /// All metrics in Prometheus' text form.
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// All metrics as they are now, to look them up.
    pub fn read(&self) -> Readings {
        Readings::new(self.registry.gather())
    }
}
