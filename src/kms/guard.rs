//! One KMS as the cache asks it: a few attempts in a bounded time, a circuit for each EK that opens when there is no answer,
//! and what is known of the KMS's health.
//!
//! The same for every KMS, so a provider makes one attempt per call and has no retries of its own. While the circuit of an
//! EK is open the KMS is not asked about it; then one call finds out whether there is an answer again. A refusal is an answer:
//! it closes the circuit as well as a key does. Each EK has its own, because some KMSs answer as if they were away when it is
//! one key that they can't read, and other EKs' objects must not suffer for it (promise 4).

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tracing::Instrument as _;
use tracing::field::Empty;

use super::{EkName, Error, Kms};
use crate::metrics::KmsMetrics;

/// How long a KMS may take for a call, all attempts together.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long for one attempt: a connection that died unseen leaves time for another.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Attempts of one call.
const ATTEMPTS: u32 = 3;

/// The longest pause before the second attempt; four times as long before the third.
const PAUSE: Duration = Duration::from_millis(100);

/// Calls about an EK in a row that fail until its circuit opens.
const FAILURES: u32 = 3;

/// How long a circuit stays open at first, and at the most: it doubles each time that there is still no answer.
const OPEN_MIN: Duration = Duration::from_secs(1);
const OPEN_MAX: Duration = Duration::from_secs(30);

/// EKs without an answer that are kept track of. So many are names that envelopes made up, and any more get no circuit.
const CIRCUITS_MAX: usize = 1000;

/// A KMS behind its circuits.
pub(super) struct Guard {
    kms: Box<dyn Kms>,
    state: Mutex<State>,
    /// One check of its health at a time.
    checking: tokio::sync::Mutex<()>,
    metrics: KmsMetrics,
}

#[derive(Debug, Default)]
struct State {
    /// Of the EKs that got no answer when they were last asked about.
    circuits: HashMap<EkName, Circuit>,
    /// When there was an answer about any EK.
    answered: Option<Instant>,
}

#[derive(Debug)]
struct Circuit {
    /// Since the first call of these that got no answer.
    since: Instant,
    /// What the last one got.
    why: String,
    /// How many there were, one after the other.
    failures: u32,
    /// Until when nothing is asked.
    open_until: Option<Instant>,
    /// How long it was open last.
    open_for: Duration,
    /// A call is finding out whether there is an answer again.
    trying: bool,
}

/// What is known of a KMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers, or has not been asked yet.
    Up,
    /// It has answered nothing, about any EK, since a call that got no answer.
    Away {
        /// Since when.
        since: Instant,
        /// What the last call got.
        why: String,
    },
}

impl State {
    fn health(&self) -> Health {
        let silent = |circuit: &&Circuit| self.answered.is_none_or(|at| at < circuit.since);
        match self.circuits.values().filter(silent).min_by_key(|circuit| circuit.since) {
            None => Health::Up,
            Some(circuit) => Health::Away { since: circuit.since, why: circuit.why.clone() },
        }
    }
}

impl Circuit {
    fn is_open(&self) -> bool {
        self.open_until.is_some_and(|until| Instant::now() < until)
    }
}

impl Guard {
    pub(super) fn new(kms: Box<dyn Kms>, metrics: KmsMetrics) -> Self {
        metrics.up(true);
        Self { kms, state: Mutex::default(), checking: tokio::sync::Mutex::new(()), metrics }
    }

    /// Shows in the metrics how it is.
    pub(super) fn show(&self) {
        self.metrics.up(self.lock().health() == Health::Up);
    }

    /// Asks about an EK, in time and not too often.
    ///
    /// Errors: the KMS's; [`Error::Unavailable`] at once while the EK's circuit is open.
    pub(super) async fn call<'a, T, F>(
        &'a self,
        ek: &'a EkName,
        operation: &'static str,
        ask: impl Fn(&'a dyn Kms) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.call_within(ek, operation, ATTEMPTS, ask).await
    }

    async fn call_within<'a, T, F>(
        &'a self,
        ek: &'a EkName,
        operation: &'static str,
        attempts: u32,
        ask: impl Fn(&'a dyn Kms) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let turn = self.admit(ek)?;
        let begun = Instant::now();
        // Whoever finds out whether there is an answer again tries once: the others wait for the outcome.
        let attempts = if turn.is_trial { 1 } else { attempts };
        let span = tracing::info_span!(
            "kms",
            otel.kind = "client",
            s3veil.kms = self.metrics.name(),
            s3veil.kms.operation = operation,
            s3veil.ek = ek.as_str(),
            s3veil.kms.result = Empty,
        );
        let result = self.attempts(ek, attempts, begun + TIMEOUT, &ask).instrument(span.clone()).await;
        span.record("s3veil.kms.result", outcome(&result));
        self.metrics.call(operation, outcome(&result), begun.elapsed());
        turn.end(&result);
        result
    }

    /// Asks about each of these EKs until there is an answer, for no other reason than to see whether one comes. Not while
    /// that is under way.
    pub(super) async fn check(&self, eks: &[EkName]) {
        let Ok(_one) = self.checking.try_lock() else { return };
        for ek in eks {
            let answer = self.call_within(ek, "describe", 1, |kms| kms.describe(ek)).await;
            if !matches!(answer, Err(Error::Unavailable(_))) {
                return;
            }
        }
    }

    /// What is known of the KMS, and whether that is from the last `recently`.
    pub(super) fn health(&self, recently: Duration) -> (Health, bool) {
        let state = self.lock();
        let health = state.health();
        let fresh = match health {
            Health::Up => state.answered.is_some_and(|at| at.elapsed() < recently),
            Health::Away { .. } => state.circuits.values().all(Circuit::is_open),
        };
        (health, fresh)
    }

    async fn attempts<'a, T, F>(
        &'a self,
        ek: &EkName,
        attempts: u32,
        deadline: Instant,
        ask: &impl Fn(&'a dyn Kms) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut pause = PAUSE;
        for left in (0..attempts).rev() {
            let until = deadline.min(Instant::now() + ATTEMPT_TIMEOUT);
            let result = timeout_at(until, ask(self.kms.as_ref())).await;
            let result = result.unwrap_or_else(|_| Err(Error::Unavailable("no answer in time".into())));
            match result {
                // Unless others have found out meanwhile that there is no sense in it.
                Err(Error::Unavailable(_))
                    if left > 0 && Instant::now() + pause < deadline && !self.is_open(ek) =>
                {
                    sleep(jitter(pause)).await;
                    pause *= 4;
                }
                result => return result,
            }
        }
        unreachable!("the last attempt returns")
    }

    fn is_open(&self, ek: &EkName) -> bool {
        self.lock().circuits.get(ek).is_some_and(Circuit::is_open)
    }

    fn admit<'a>(&'a self, ek: &'a EkName) -> Result<Turn<'a>, Error> {
        let mut state = self.lock();
        let is_trial = match state.circuits.get_mut(ek) {
            None => false,
            Some(circuit) if circuit.open_until.is_none() => false,
            Some(circuit) if circuit.is_open() || circuit.trying => {
                let why = &circuit.why;
                let error = format!("there was no answer just now, and it is asked again soon: {why}");
                return Err(Error::Unavailable(error));
            }
            Some(circuit) => {
                circuit.trying = true;
                true
            }
        };
        Ok(Turn { guard: self, ek, is_trial, ended: false })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self, ek: &EkName) {
        let mut state = self.lock();
        let before = state.health();
        state.circuits.remove(ek);
        state.answered = Some(Instant::now());
        if before != Health::Up {
            tracing::info!(kms = self.metrics.name(), "the KMS answers again");
            self.metrics.up(true);
        }
    }

    fn failed(&self, ek: &EkName, why: &str) {
        let mut state = self.lock();
        if state.circuits.len() >= CIRCUITS_MAX && !state.circuits.contains_key(ek) {
            return;
        }
        let before = state.health();
        let now = Instant::now();
        let circuit = state.circuits.entry(ek.clone()).or_insert_with(|| Circuit {
            since: now,
            why: String::new(),
            failures: 0,
            open_until: None,
            open_for: Duration::ZERO,
            trying: false,
        });
        why.clone_into(&mut circuit.why);
        circuit.failures = circuit.failures.saturating_add(1);
        // Calls that were under way when it opened count once.
        if circuit.failures >= FAILURES && !circuit.is_open() {
            circuit.open_for = (circuit.open_for * 2).clamp(OPEN_MIN, OPEN_MAX);
            circuit.open_until = Some(now + jitter(circuit.open_for));
        }
        if before == Health::Up && state.health() != Health::Up {
            tracing::warn!(kms = self.metrics.name(), %ek, why, "the KMS does not answer; cached keys go on");
            self.metrics.up(false);
        }
    }
}

/// Leave to ask once.
struct Turn<'a> {
    guard: &'a Guard,
    ek: &'a EkName,
    is_trial: bool,
    ended: bool,
}

impl Turn<'_> {
    fn end<T>(mut self, result: &Result<T, Error>) {
        self.ended = true;
        match result {
            Err(Error::Unavailable(why)) => self.guard.failed(self.ek, why),
            _ => self.guard.answered(self.ek),
        }
        self.stop_trying();
    }

    fn stop_trying(&self) {
        if self.is_trial
            && let Some(circuit) = self.guard.lock().circuits.get_mut(self.ek)
        {
            circuit.trying = false;
        }
    }
}

impl Drop for Turn<'_> {
    /// The caller has gone away in the middle of it: the next one tries.
    fn drop(&mut self) {
        if !self.ended {
            self.stop_trying();
        }
    }
}

/// Between half of it and all of it, so that many do not come at once.
pub(super) fn jitter(time: Duration) -> Duration {
    let mut byte = [0; 2];
    // Without random bytes all that is lost is the spread.
    getrandom::fill(&mut byte).ok();
    time / 2 + time.mul_f64(f64::from(u16::from_le_bytes(byte)) / f64::from(u16::MAX) / 2.0)
}

/// The label of a metric.
fn outcome<T>(result: &Result<T, Error>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(Error::NoSuchKey(_)) => "no-such-key",
        Err(Error::Disabled(_)) => "disabled",
        Err(Error::Denied(_)) => "denied",
        Err(Error::Unavailable(_)) => "unavailable",
        Err(Error::Malformed(_)) => "malformed",
        Err(Error::Exists(_) | Error::Unsupported { .. } | Error::NoSuchKms(_)) => "other",
    }
}
