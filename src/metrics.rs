//! Every metric, declared once. Label values are bounded: operations, status classes, blame.

mod listener;

pub use listener::ListenerMetrics;

use std::time::{Duration, SystemTime};

use http::StatusCode;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::s3::Blame;

/// The metrics of one process.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    errors: IntCounterVec,
    seconds: HistogramVec,
    /// Requests whose answer has not begun.
    pub in_flight: IntGauge,
    kms_calls: IntCounterVec,
    kms_seconds: HistogramVec,
    kms_up: IntGaugeVec,
    dek_cache: IntCounterVec,
    reloads: IntCounterVec,
    reload_good: IntGauge,
    reload_time: IntGauge,
    /// Those of the S3 port.
    pub listener: ListenerMetrics,
}

/// What is counted of one KMS.
#[derive(Clone)]
pub struct KmsMetrics {
    name: String,
    calls: IntCounterVec,
    seconds: HistogramVec,
    up: IntGaugeVec,
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

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new("s3veil_requests_total", "Requests by S3 operation and HTTP status"),
            &["operation", "status"],
        );
        let errors = IntCounterVec::new(
            Opts::new("s3veil_errors_total", "Errors of s3veil's own by operation and blame"),
            &["operation", "blame"],
        );
        let buckets: Vec<f64> =
            vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
        let seconds = HistogramVec::new(
            HistogramOpts::new("s3veil_request_seconds", "Time to the head of the answer by operation")
                .buckets(buckets.clone()),
            &["operation"],
        );
        let kms_calls = IntCounterVec::new(
            Opts::new(
                "s3veil_kms_calls_total",
                "Calls to a KMS by operation and result; attempts of one call count once",
            ),
            &["kms", "operation", "result"],
        );
        let kms_seconds = HistogramVec::new(
            HistogramOpts::new(
                "s3veil_kms_seconds",
                "Time that a call to a KMS took, all its attempts together",
            )
            .buckets(buckets),
            &["kms"],
        );
        let kms_up = IntGaugeVec::new(
            Opts::new("s3veil_kms_up", "1 while a KMS answers, 0 while it is away"),
            &["kms"],
        );
        let dek_cache = IntCounterVec::new(
            Opts::new(
                "s3veil_dek_cache_total",
                "DEKs asked of the cache by use (write, read) and result (hit, miss, refresh)",
            ),
            &["use", "result"],
        );
        let reloads = IntCounterVec::new(
            Opts::new(
                "s3veil_config_reloads_total",
                "Configurations read while running, by result (ok, failed)",
            ),
            &["result"],
        );
        // The names that Prometheus has for its own.
        let reload_good = IntGauge::new(
            "s3veil_config_last_reload_successful",
            "1 while the configuration in force is the one that was read last, 0 while that one can't be used",
        );
        let reload_time = IntGauge::new(
            "s3veil_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read, in Unix time",
        );
        let in_flight = IntGauge::new("s3veil_in_flight", "Requests whose answer has not begun");
        let built = "names and labels are constants that Prometheus allows";
        let metrics = Self {
            listener: ListenerMetrics::register(&registry),
            registry,
            requests: requests.expect(built),
            errors: errors.expect(built),
            seconds: seconds.expect(built),
            in_flight: in_flight.expect(built),
            kms_calls: kms_calls.expect(built),
            kms_seconds: kms_seconds.expect(built),
            kms_up: kms_up.expect(built),
            dek_cache: dek_cache.expect(built),
            reloads: reloads.expect(built),
            reload_good: reload_good.expect(built),
            reload_time: reload_time.expect(built),
        };
        for collector in [
            Box::new(metrics.requests.clone()) as Box<dyn prometheus::core::Collector>,
            Box::new(metrics.errors.clone()),
            Box::new(metrics.seconds.clone()),
            Box::new(metrics.in_flight.clone()),
            Box::new(metrics.kms_calls.clone()),
            Box::new(metrics.kms_seconds.clone()),
            Box::new(metrics.kms_up.clone()),
            Box::new(metrics.dek_cache.clone()),
            Box::new(metrics.reloads.clone()),
            Box::new(metrics.reload_good.clone()),
            Box::new(metrics.reload_time.clone()),
        ] {
            metrics.registry.register(collector).expect("each metric is registered once");
        }
        // Both are there from the start, so that a rise from none is seen.
        for result in ["ok", "failed"] {
            metrics.reloads.with_label_values(&[result]);
        }
        metrics.config_taken(SystemTime::now());
        metrics
    }
}

impl Metrics {
    /// A request has been answered, or its body has begun to stream.
    pub fn end(&self, operation: &str, status: StatusCode, blame: Option<Blame>, took: Duration) {
        self.requests.with_label_values(&[operation, status.as_str()]).inc();
        self.seconds.with_label_values(&[operation]).observe(took.as_secs_f64());
        if let Some(blame) = blame {
            let blame = match blame {
                Blame::Client => "client",
                Blame::Kms => "kms",
                Blame::Proxy => "proxy",
                Blame::Store => "store",
            };
            self.errors.with_label_values(&[operation, blame]).inc();
        }
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
