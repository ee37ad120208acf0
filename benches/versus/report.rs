//! What the rounds gave, as a table for people and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::driver::Sample;

/// One peer's turn.
pub struct Turn {
    pub sample: Sample,
    /// CPU seconds of the proxy; none for the store itself.
    pub cpu: Option<f64>,
    /// Bytes of memory at most.
    pub peak: Option<u64>,
}

/// All rounds of one case: a list of turns for each peer, in the order of the rounds.
pub struct Outcome {
    pub store: &'static str,
    pub load: String,
    pub peers: Vec<(String, Vec<Turn>)>,
}

/// The head of the table.
pub const HEAD: &str = "\
| store | load | peer | p50 | p99 | MB/s | CPU s/GB | CPU µs/request | peak MiB | of nginx's MB/s | of direct's MB/s | p50 over nginx |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |";

impl Outcome {
    /// A row for each peer: medians of the rounds. Ratios are taken within each round, and their median is shown.
    pub fn rows(&self) -> String {
        let mut rows = String::new();
        for (name, turns) in &self.peers {
            let figures = Figures::of(turns);
            let ratio = |other: &str| {
                let base = self.turns(other)?;
                let ratios =
                    turns.iter().zip(base).map(|(a, b)| a.sample.throughput() / b.sample.throughput());
                Some(median(ratios))
            };
            let added = self.turns("nginx").map(|base| {
                let micros = |turn: &Turn| turn.sample.quantile(500).as_secs_f64() * 1e6;
                median(turns.iter().zip(base).map(|(a, b)| micros(a) - micros(b)))
            });
            let proxy = name != "direct";
            let show = |value: Option<f64>, digits: usize| match value {
                Some(value) if proxy => format!("{value:.digits$}"),
                _ => String::new(),
            };
            let added = added.filter(|_| proxy && name != "nginx").map(|micros| format!("{micros:+.0} µs"));
            writeln!(
                rows,
                "| {} | {} | {name} | {} | {} | {:.1} | {} | {} | {} | {} | {} | {} |",
                self.store,
                self.load,
                time(figures.p50),
                time(figures.p99),
                figures.throughput,
                show(figures.cpu_per_gb, 2),
                show(figures.cpu_per_request, 0),
                show(figures.peak.map(|bytes| bytes / 1_048_576.0), 0),
                show(ratio("nginx").filter(|_| name != "nginx"), 2),
                show(ratio("direct"), 2),
                added.unwrap_or_default(),
            )
            .expect("a string takes all");
        }
        rows
    }

    /// Every round's figures.
    pub fn json(&self) -> Value {
        let peers: Vec<Value> = self
            .peers
            .iter()
            .map(|(name, turns)| {
                let rounds: Vec<Value> = turns
                    .iter()
                    .map(|turn| {
                        json!({
                            "p50_us": turn.sample.quantile(500).as_secs_f64() * 1e6,
                            "p99_us": turn.sample.quantile(990).as_secs_f64() * 1e6,
                            "mb_per_s": turn.sample.throughput(),
                            "requests": turn.sample.latencies.len(),
                            "cpu_s": turn.cpu,
                            "peak_bytes": turn.peak,
                        })
                    })
                    .collect();
                json!({ "peer": name, "rounds": rounds })
            })
            .collect();
        json!({
            "store": self.store,
            "load": self.load,
            "peers": peers,
        })
    }

    fn turns(&self, peer: &str) -> Option<&Vec<Turn>> {
        self.peers.iter().find(|(name, _)| name == peer).map(|(_, turns)| turns)
    }
}

struct Figures {
    p50: Duration,
    p99: Duration,
    throughput: f64,
    cpu_per_gb: Option<f64>,
    cpu_per_request: Option<f64>,
    peak: Option<f64>,
}

impl Figures {
    fn of(turns: &[Turn]) -> Self {
        let over = |figure: &dyn Fn(&Turn) -> Option<f64>| -> Option<f64> {
            turns.iter().map(figure).collect::<Option<Vec<_>>>().map(median)
        };
        let latency = |thousandths| {
            Duration::from_secs_f64(median(
                turns.iter().map(|turn| turn.sample.quantile(thousandths).as_secs_f64()),
            ))
        };
        Self {
            p50: latency(500),
            p99: latency(990),
            throughput: median(turns.iter().map(|turn| turn.sample.throughput())),
            cpu_per_gb: over(&|turn| Some(turn.cpu? / (turn.sample.bytes as f64 / 1e9))),
            cpu_per_request: over(&|turn| Some(turn.cpu? * 1e6 / turn.sample.latencies.len() as f64)),
            peak: turns.iter().map(|turn| turn.peak).max().flatten().map(|bytes| bytes as f64),
        }
    }
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

fn time(time: Duration) -> String {
    match time.as_secs_f64() * 1e6 {
        micros if micros < 10_000.0 => format!("{micros:.0} µs"),
        micros => format!("{:.1} ms", micros / 1e3),
    }
}
