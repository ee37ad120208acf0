//! What is counted of the S3 port: connections, what is turned away, TLS, the end of the process.

use prometheus::{IntCounter, IntGauge, IntGaugeVec};

use super::Maker;

/// The metrics of the S3 port.
pub struct ListenerMetrics {
    /// Connections of clients, from their first byte to their end.
    pub connections: IntGauge,
    /// Connections that were closed at once: there were enough.
    pub shed_connections: IntCounter,
    /// Requests that were answered with SlowDown: there were enough.
    pub shed_in_flight: IntCounter,
    /// Connections that came to no TLS.
    pub handshake_failures: IntCounter,
    /// 1 from when the process is asked to end.
    pub draining: IntGauge,
    certificate_expiry: IntGaugeVec,
}

impl ListenerMetrics {
    pub(super) fn declare(make: &Maker<'_>) -> Self {
        let shed = make.counters(
            "s3veil_shed_total",
            "Turned away by the limit that was reached (connections, in_flight)",
            &["limit"],
        );
        Self {
            connections: make.gauge("s3veil_connections", "Connections of clients to the S3 port"),
            // Both are there from the start, so that a rise from none is seen.
            shed_connections: shed.with_label_values(&["connections"]),
            shed_in_flight: shed.with_label_values(&["in_flight"]),
            handshake_failures: make.counter(
                "s3veil_tls_handshake_failures_total",
                "Connections to the S3 port that came to no TLS: refused certificates, no version in common, plain HTTP, too \
                 slow",
            ),
            draining: make.gauge("s3veil_draining", "1 once the process has been asked to end, else 0"),
            // Without labels, but a family: what has no TLS has no certificate that could expire, at 0 or at any other time.
            certificate_expiry: make.gauges(
                "s3veil_tls_certificate_expiry_timestamp_seconds",
                "When the S3 port's certificate, or one that it is sent with, expires first, in Unix time",
                &[],
            ),
        }
    }

    /// When the certificate in use expires, in Unix time; none where there is no TLS.
    pub fn certificate_expires(&self, at: Option<i64>) {
        match at {
            Some(at) => self.certificate_expiry.with_label_values::<&str>(&[]).set(at),
            None => self.certificate_expiry.reset(),
        }
    }
}
