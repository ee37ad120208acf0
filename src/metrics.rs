//! Every metric, declared once. Label values are bounded: operations, status classes, blame.

use std::time::Duration;

use http::StatusCode;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use crate::s3::Blame;

/// The metrics of one process.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    errors: IntCounterVec,
    seconds: HistogramVec,
    /// Requests whose answer has not begun.
    pub in_flight: IntGauge,
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
        let buckets =
            vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
        let seconds = HistogramVec::new(
            HistogramOpts::new("s3veil_request_seconds", "Time to the head of the answer by operation")
                .buckets(buckets),
            &["operation"],
        );
        let in_flight = IntGauge::new("s3veil_in_flight", "Requests whose answer has not begun");
        let built = "names and labels are constants that Prometheus allows";
        let metrics = Self {
            registry,
            requests: requests.expect(built),
            errors: errors.expect(built),
            seconds: seconds.expect(built),
            in_flight: in_flight.expect(built),
        };
        for collector in [
            Box::new(metrics.requests.clone()) as Box<dyn prometheus::core::Collector>,
            Box::new(metrics.errors.clone()),
            Box::new(metrics.seconds.clone()),
            Box::new(metrics.in_flight.clone()),
        ] {
            metrics.registry.register(collector).expect("each metric is registered once");
        }
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

    /// All metrics in Prometheus' text form.
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}
