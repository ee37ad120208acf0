//! What is known of the store's health, from the requests that went to it; and a question where there were none lately.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::check::Trouble;
use super::{Backend, Error, StoreResponse, broken_by_body};
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
    away: Option<Away>,
}

struct Away {
    since: Instant,
    why: String,
    /// It answers, and does not know s3veil's credentials: only what succeeds with them ends that.
    refused: bool,
}

impl Known {
    pub(super) fn new(metrics: StoreMetrics) -> Self {
        Self { state: Mutex::default(), asking: tokio::sync::Mutex::default(), metrics }
    }

    pub(super) fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    /// It has answered: with success, or with a refusal that may be about one object.
    fn answered(&self, success: bool) {
        let mut state = self.lock();
        let refused = state.away.as_ref().is_some_and(|away| away.refused);
        if refused && !success {
            return;
        }
        state.seen = Some(Instant::now());
        if state.away.take().is_some() {
            tracing::info!("the store answers again");
        }
        // Also if it was another Backend that it was away for.
        self.metrics.up(true);
    }

    /// It has not, or says that it can't.
    fn silent(&self, why: String, refused: bool) {
        let mut state = self.lock();
        let now = Instant::now();
        state.seen = Some(now);
        let since = state.away.as_ref().map_or(now, |away| away.since);
        if state.away.is_none() {
            tracing::warn!(%why, "the store is away");
        }
        state.away = Some(Away { since, why, refused });
        self.metrics.up(false);
    }

    /// Nothing is known any more: whoever wants to know has to ask.
    fn doubt(&self) {
        self.lock().seen = None;
    }

    fn health(&self) -> (Health, bool) {
        let state = self.lock();
        let (health, recent) = match &state.away {
            None => (Health::Up { took: state.took }, RECENT),
            Some(away) => (Health::Away { since: away.since, why: away.why.clone() }, RECENT_AWAY),
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
                self.known.answered(true);
                self.known.lock().took = Some(begun.elapsed());
            }
            Ok(Err(Trouble { why, refused })) => self.known.silent(why, refused),
            Err(_) => self.known.silent(format!("no answer in {} s", PATIENCE.as_secs()), false),
        }
        self.known.health().0
    }

    /// Shows in the metrics how it is: after another store has been shown there.
    pub fn show(&self) {
        self.known.metrics.up(matches!(self.known.health().0, Health::Up { .. }));
    }

    /// The store's address, for whoever wants to know.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// Takes note of how a request went. What the store says of itself by a status of 500 or more, and a time that has run out,
    /// may be about one object, and where it points elsewhere about one bucket; what is the request's own fault, or its
    /// body's, says nothing.
    pub(super) fn note(&self, result: &Result<StoreResponse, Error>) {
        match result {
            Ok(answer) if answer.status().is_server_error() => {}
            Ok(answer) => self.known.answered(answer.status().is_success()),
            Err(Error::Unreachable(why)) if broken_by_body(why) => {}
            Err(why @ Error::Unreachable(_)) => self.known.silent(chain(why), false),
            Err(Error::Timeout) => self.known.doubt(),
            Err(Error::Elsewhere(..) | Error::Sign(_) | Error::Address(_)) => {}
            Err(Error::Credentials(_) | Error::NoCredentials { .. }) => {}
        }
    }
}
