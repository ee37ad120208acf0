//! `/readyz`: whether requests can be served, the store and each KMS named.

use http::StatusCode;
use serde::Serialize;
use tokio::time::Instant;

use super::{Admin, Page, text};
use crate::{backend, kms};

/// How all that s3veil depends on is doing.
pub(super) struct Health {
    /// s3veil is asked to end, and takes no more than it has.
    pub draining: bool,
    pub store: StoreHealth,
    pub kms: Vec<KmsHealth>,
}

/// How the store is.
#[derive(Serialize)]
pub(super) struct StoreHealth {
    endpoint: String,
    pub up: bool,
    away_secs: Option<u64>,
    why: Option<String>,
    millis: Option<f64>,
}

/// How a KMS is.
#[derive(Serialize)]
pub(super) struct KmsHealth {
    pub name: String,
    pub up: bool,
    away_secs: Option<u64>,
    why: Option<String>,
    /// Keys of it are in the cache: while it is away, what they open and seal goes on.
    cached_keys_go_on: bool,
}

impl Health {
    /// A KMS that is away does not count while cached keys go on: taking every replica out at once would make an outage of the
    /// KMS one of everything.
    pub(super) fn ready(&self) -> bool {
        !self.draining && self.store.up && self.kms.iter().all(|kms| kms.up || kms.cached_keys_go_on)
    }

    /// A line for each.
    pub(super) fn page(&self) -> Page {
        let mut lines = String::new();
        if self.draining {
            lines.push_str("draining: s3veil has been asked to end\n");
        }
        lines.push_str(&line("store", &self.store.endpoint, self.store.away_secs, false, &self.store.why));
        for kms in &self.kms {
            lines.push_str(&line("kms", &kms.name, kms.away_secs, kms.cached_keys_go_on, &kms.why));
        }
        text(if self.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, lines)
    }
}

fn line(kind: &str, name: &str, away: Option<u64>, carries: bool, why: &Option<String>) -> String {
    match (away, why) {
        (Some(away), Some(why)) => {
            let rest = if carries { "; cached keys go on" } else { "" };
            format!("{kind} '{name}': away for {away} s{rest}: {why}\n")
        }
        _ => format!("{kind} '{name}': ok\n"),
    }
}

impl Admin {
    /// Asks whoever has not been heard of lately, all at once.
    pub(super) async fn health(&self) -> Health {
        let keys = &self.rooms.keys;
        let kms = self.kmss.iter().map(|(name, eks)| async move {
            KmsHealth::new(name, keys.health(name, eks).await, || keys.has_keys_of(name))
        });
        // It goes on though whoever asked has run out of patience: the next one finds what came of it.
        let rooms = self.rooms.clone();
        let store = tokio::spawn(async move { rooms.backend.health().await });
        let (store, kms) = tokio::join!(store, futures_util::future::join_all(kms));
        let store = store.unwrap_or_else(|why| {
            let why = format!("s3veil failed over it: {why}");
            backend::Health::Away { since: Instant::now(), why }
        });
        Health {
            draining: self.metrics.listener.draining.get() > 0,
            store: StoreHealth::new(self.rooms.backend.endpoint(), store),
            kms,
        }
    }
}

impl StoreHealth {
    fn new(endpoint: String, health: backend::Health) -> Self {
        match health {
            backend::Health::Up { took } => {
                let millis = took.map(|took| took.as_secs_f64() * 1000.0);
                Self { endpoint, up: true, away_secs: None, why: None, millis }
            }
            backend::Health::Away { since, why } => {
                let away_secs = Some(since.elapsed().as_secs());
                Self { endpoint, up: false, away_secs, why: Some(why), millis: None }
            }
        }
    }
}

impl KmsHealth {
    fn new(name: &str, health: kms::Health, carries: impl FnOnce() -> bool) -> Self {
        let name = name.to_owned();
        match health {
            kms::Health::Up => Self { name, up: true, away_secs: None, why: None, cached_keys_go_on: true },
            kms::Health::Away { since, why } => Self {
                name,
                up: false,
                away_secs: Some(since.elapsed().as_secs()),
                why: Some(why),
                cached_keys_go_on: carries(),
            },
        }
    }
}
