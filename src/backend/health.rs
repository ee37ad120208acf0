//! What is known of the store's health, from the requests that went to it; and a question where there were none lately.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Backend, Error, StoreResponse};
use crate::metrics::StoreMetrics;
use crate::s3::error::chain;

/// For how long an answer says that the store is up, and a request without one that it is away.
const RECENT: Duration = Duration::from_secs(5);
const RECENT_AWAY: Duration = Duration::from_secs(1);

/// How long the store may take for a question about nothing else. Whoever asks for readiness has little patience.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers, or has not been asked yet.
    Up {
        /// How long it took to the head of the last answer to a question about its health.
        took: Option<Duration>,
    },
    /// It has not answered since, or only that it can't.
    Away {
        /// Since when.
        since: Instant,
        /// What the last request got.
        why: String,
    },
}

/// What requests have found.
pub(super) struct Known {
    state: Mutex<State>,
    /// One question at a time.
    asking: tokio::sync::Mutex<()>,
    metrics: StoreMetrics,
}

#[derive(Default)]
struct State {
    /// When it was last heard of, whatever was heard.
    seen: Option<Instant>,
    took: Option<Duration>,
    away: Option<(Instant, String)>,
}

impl Known {
    pub(super) fn new(metrics: StoreMetrics) -> Self {
        Self { state: Mutex::default(), asking: tokio::sync::Mutex::default(), metrics }
    }

    pub(super) fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    /// It has answered.
    pub(super) fn answered(&self) {
        let mut state = self.lock();
        state.seen = Some(Instant::now());
        if state.away.take().is_some() {
            self.metrics.up(true);
            tracing::info!("the store answers again");
        }
    }

    /// It has not, or says that it can't.
    pub(super) fn silent(&self, why: String) {
        let mut state = self.lock();
        let now = Instant::now();
        state.seen = Some(now);
        match &mut state.away {
            Some((_, last)) => *last = why,
            away => {
                tracing::warn!(%why, "the store is away");
                *away = Some((now, why));
                self.metrics.up(false);
            }
        }
    }

    fn health(&self) -> (Health, bool) {
        let state = self.lock();
        let (health, recent) = match &state.away {
            None => (Health::Up { took: state.took }, RECENT),
            Some((since, why)) => (Health::Away { since: *since, why: why.clone() }, RECENT_AWAY),
        };
        (health, state.seen.is_some_and(|at| at.elapsed() < recent))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend {
    /// Whether the store answers, at once or nearly so. One that has not been heard of lately is asked; a refusal is an answer,
    /// too, unless it is of s3veil's own credentials: then nothing can be done there.
    pub async fn health(&self) -> Health {
        let (health, recent) = self.known.health();
        if recent {
            return health;
        }
        let Ok(_one) = self.known.asking.try_lock() else { return health };
        let begun = Instant::now();
        match timeout(PATIENCE, self.ask("default")).await {
            Ok(Ok(_)) => {
                self.known.answered();
                self.known.lock().took = Some(begun.elapsed());
            }
            Ok(Err(why)) => self.known.silent(why),
            Err(_) => self.known.silent(format!("no answer in {} s", PATIENCE.as_secs())),
        }
        self.known.health().0
    }

    /// The store's address, for whoever wants to know.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// Takes note of how a request went. What the store says of itself by a status of 500 or more may be about one object, and
    /// says nothing here; nor does what is the request's own fault, or its body's.
    pub(super) fn note(&self, result: &Result<StoreResponse, Error>) {
        match result {
            Ok(answer) if answer.status().is_server_error() => {}
            Ok(_) => self.known.answered(),
            Err(Error::Unreachable(why)) if broken_by_body(why.as_ref()) => {}
            Err(why @ (Error::Unreachable(_) | Error::Timeout | Error::Elsewhere(..))) => {
                self.known.silent(chain(why));
            }
            Err(Error::Sign(_) | Error::Address(_) | Error::Credentials(_) | Error::NoCredentials { .. }) => {
            }
        }
    }
}

/// Whether the request ended because its own body did: a client that went away, or sent what it did not announce.
fn broken_by_body(why: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(why);
    while let Some(error) = next {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_user) {
            return true;
        }
        next = error.source();
    }
    false
}
