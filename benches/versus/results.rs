//! What was measured, as it is written to the file and read from it again: every round of every peer.

use serde::{Deserialize, Serialize};

/// A run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    /// Cores, and what else they did.
    pub machine: String,
    pub rounds: usize,
    pub cases: Vec<Outcome>,
    pub memory: Vec<Memory>,
}

/// All rounds of one load on one store.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub store: String,
    pub load: String,
    pub peers: Vec<Taken>,
}

/// What one peer did in it: a round for each turn, in the order of the rounds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Taken {
    pub peer: String,
    /// Why it can't do this load, or could not until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unable: Option<String>,
    pub rounds: Vec<Round>,
}

/// A turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    pub p50_us: f64,
    pub p99_us: f64,
    pub seconds: f64,
    pub requests: usize,
    /// Of plaintext; of a listing, its documents'.
    pub bytes: u64,
    /// CPU seconds of the proxy; none for the store itself.
    pub cpu_s: Option<f64>,
    pub store_cpu_s: f64,
    /// Bytes of memory at most.
    pub peak_bytes: Option<u64>,
    /// For each of the client's requests. Of a listing, for all of its pages.
    pub store_requests: Option<f64>,
    pub kms_calls: Option<f64>,
}

/// The most memory with many clients at once.
#[derive(Debug, Serialize, Deserialize)]
pub struct Memory {
    pub store: String,
    pub peer: String,
    pub load: String,
    pub clients: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unable: Option<String>,
    pub round: Option<Round>,
}

impl Round {
    /// Requests a second. All requests of a load are alike, so this compares throughputs too.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// Megabytes (10^6) a second.
    pub fn mb_per_s(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds
    }

    /// CPU seconds of the proxy for 10^9 bytes.
    pub fn cpu_per_gb(&self) -> Option<f64> {
        Some(self.cpu_s? / (self.bytes as f64 / 1e9))
    }
}

impl Outcome {
    /// What a peer did, if it did it to the end.
    pub fn taken(&self, peer: &str) -> Option<&Taken> {
        self.peers.iter().find(|taken| taken.peer == peer && taken.unable.is_none())
    }

    /// A figure of one peer beside the same of another: put together within each round, of which the median.
    pub fn beside(
        &self,
        (peer, other): (&str, &str),
        figure: impl Fn(&Round) -> Option<f64>,
        together: impl Fn(f64, f64) -> f64,
    ) -> Option<f64> {
        let (own, base) = (self.taken(peer)?, self.taken(other)?);
        let pairs = own.rounds.iter().zip(&base.rounds);
        let values = pairs.map(|(own, base)| Some(together(figure(own)?, figure(base)?)));
        values.collect::<Option<Vec<_>>>().and_then(median)
    }

    /// How many times as fast as another a peer is.
    pub fn rate(&self, peer: &str, other: &str) -> Option<f64> {
        self.beside((peer, other), |round| Some(round.rate()), |own, base| own / base)
    }

    /// Whether its requests move bodies.
    pub fn moves(&self) -> bool {
        !self.load.starts_with("list")
    }
}

impl Taken {
    /// The median of a figure over the rounds.
    pub fn median(&self, figure: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        self.rounds.iter().map(figure).collect::<Option<Vec<_>>>().and_then(median)
    }
}

/// None of nothing, and none of what is no number.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let value = match values.len() % 2 {
        _ if values.is_empty() => return None,
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    };
    value.is_finite().then_some(value)
}
