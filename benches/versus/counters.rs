//! What a turn costs behind the proxy: requests to the store and calls of the KMS, as these count them themselves.

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::driver::once;
use super::kms;
use super::wire::Target;

/// Where both are read.
pub struct Counters {
    pub store: Target,
    pub kms: kms::Counter,
}

/// Counted up to a moment, or between two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counted {
    pub store: f64,
    pub kms: f64,
}

impl Counters {
    /// Reads both. MinIO counts a request a moment after it has answered, so it is read until it stands still.
    pub async fn read(&self) -> Result<Counted, String> {
        let mut store = self.of_store().await?;
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(4)).await;
            let again = self.of_store().await?;
            if again == store {
                return Ok(Counted { store, kms: self.kms.read().await? });
            }
            store = again;
        }
        Err("the store's count of requests does not stand still".into())
    }

    /// What came between two readings.
    pub fn between(&self, before: Counted, after: Counted) -> Counted {
        Counted { store: after.store - before.store, kms: (after.kms - before.kms - self.kms.own).max(0.0) }
    }

    async fn of_store(&self) -> Result<f64, String> {
        let path = "/minio/metrics/v3/api/requests";
        let text = once(&self.store, Method::GET, path, Bytes::new()).await?;
        let text = String::from_utf8_lossy(&text);
        Ok(sum(&text, |line| line.starts_with("minio_api_requests_total{") && line.contains("type=\"s3\"")))
    }
}

/// The sum of the values of some lines of Prometheus' text.
pub fn sum(text: &str, wanted: impl Fn(&str) -> bool) -> f64 {
    let values = text.lines().filter(|line| wanted(line)).filter_map(|line| line.rsplit(' ').next());
    values.filter_map(|value| value.parse::<f64>().ok()).sum()
}
