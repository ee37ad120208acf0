//! What s3veil says of itself while it works: its metrics, once a second.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::exchange;

/// One look.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Since the load began.
    pub at: Duration,
    pub resident: u64,
    pub files: u64,
    pub cpu: f64,
    pub connections: u64,
    pub in_flight: u64,
}

impl Sample {
    pub fn resident_mib(&self) -> f64 {
        self.resident as f64 / 1_048_576.0
    }

    pub fn json(&self) -> Value {
        json!({
            "s": self.at.as_secs_f64(), "resident": self.resident, "files": self.files, "cpu_s": self.cpu,
            "connections": self.connections, "in_flight": self.in_flight,
        })
    }
}

pub struct Watch {
    admin: SocketAddr,
    begun: Instant,
}

impl Watch {
    pub fn new(admin: SocketAddr) -> Self {
        Self { admin, begun: Instant::now() }
    }

    pub async fn look(&self) -> Result<Sample, String> {
        let text = exchange::plain(self.admin, "/metrics").await?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<f64>().ok()).ok_or(format!("no {name} among the metrics"))
        };
        Ok(Sample {
            at: self.begun.elapsed(),
            resident: value("process_resident_memory_bytes")? as u64,
            files: value("process_open_fds")? as u64,
            cpu: value("process_cpu_seconds_total")?,
            connections: value("s3veil_connections")? as u64,
            in_flight: value("s3veil_in_flight")? as u64,
        })
    }

    /// A sample each second until then.
    pub async fn sample(&self, until: Instant) -> Result<Vec<Sample>, String> {
        let began = Instant::now();
        let mut samples = Vec::new();
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        while Instant::now() < until {
            ticks.tick().await;
            let sample = self.look().await?;
            let at = began.elapsed();
            if samples.len() % 60 == 0 {
                println!(
                    "minute {:>3}: {:.1} MiB, {} files, {} connections, {} requests in flight",
                    samples.len() / 60,
                    sample.resident_mib(),
                    sample.files,
                    sample.connections,
                    sample.in_flight
                );
            }
            samples.push(Sample { at, ..sample });
        }
        Ok(samples)
    }

    /// Waits until no client is connected, nothing is in flight, and no more files are open than at the start.
    ///
    /// Errors: it takes longer than `at_most`.
    pub async fn calm(&self, start: &Sample, at_most: Duration) -> Result<Sample, String> {
        let begun = Instant::now();
        loop {
            let sample = self.look().await?;
            if sample.connections == 0 && sample.in_flight == 0 && sample.files <= start.files {
                return Ok(sample);
            }
            if begun.elapsed() > at_most {
                return Err(format!(
                    "{} s after the last request: {sample:?}, at the start {start:?}",
                    at_most.as_secs()
                ));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// The slope of the straight line that is nearest to these points, by least squares; 0 for fewer than two.
pub fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let count = points.clone().count() as f64;
    let mean = |of: fn((f64, f64)) -> f64| points.clone().map(of).sum::<f64>() / count.max(1.0);
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let (over, under) = points
        .fold((0.0, 0.0), |(over, under), (px, py)| (over + (px - x) * (py - y), under + (px - x).powi(2)));
    if under > 0.0 { over / under } else { 0.0 }
}
