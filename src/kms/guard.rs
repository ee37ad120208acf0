//! One KMS as the cache asks it: a few attempts in a bounded time, a circuit that opens when it is away, and what is
//! known of its health.
//!
//! The same for every KMS, so a provider makes one attempt per call and has no retries of its own. While the circuit is
//! open nothing is asked; then one call finds out whether the KMS is back. A refusal is an answer: it closes the circuit
//! as well as a key does.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{EkInfo, Error, Kms};
use crate::metrics::KmsMetrics;

/// How long a KMS may take for a call, all attempts together.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long for one attempt: a connection that died unseen leaves time for another.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Attempts of one call.
const ATTEMPTS: u32 = 3;

/// The longest pause before the second attempt; four times as long before the third.
const PAUSE: Duration = Duration::from_millis(100);

/// Calls in a row that fail until the circuit opens.
const FAILURES: u32 = 3;

/// How long the circuit stays open at first, and at the most: it doubles each time the KMS is still away.
const OPEN_MIN: Duration = Duration::from_secs(1);
const OPEN_MAX: Duration = Duration::from_secs(30);

/// A KMS behind its circuit.
pub(super) struct Guard {
    kms: Box<dyn Kms>,
    circuit: Mutex<Circuit>,
    /// One check of its health at a time.
    checking: tokio::sync::Mutex<()>,
    metrics: KmsMetrics,
}

#[derive(Debug)]
struct Circuit {
    /// Calls in a row that got no answer.
    failures: u32,
    /// Until when nothing is asked.
    open_until: Option<Instant>,
    /// How long it was open last.
    open_for: Duration,
    /// A call is finding out whether the KMS is back.
    trying: bool,
    health: Health,
    answered: Option<Instant>,
}

/// What is known of a KMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers, or has not been asked yet.
    Up,
    /// It does not.
    Away {
        /// Since the first call that got no answer.
        since: Instant,
        /// What the last one got.
        why: String,
        /// Whether it has ever answered this process.
        seen: bool,
    },
}

impl Guard {
    pub(super) fn new(kms: Box<dyn Kms>, metrics: KmsMetrics) -> Self {
        let circuit = Circuit {
            failures: 0,
            open_until: None,
            open_for: Duration::ZERO,
            trying: false,
            health: Health::Up,
            answered: None,
        };
        metrics.up(true);
        Self { kms, circuit: Mutex::new(circuit), checking: tokio::sync::Mutex::new(()), metrics }
    }

    /// Asks, in time and not too often.
    ///
    /// Errors: the KMS's; [`Error::Unavailable`] at once while the circuit is open.
    pub(super) async fn call<'a, T, F>(
        &'a self,
        operation: &'static str,
        ask: impl Fn(&'a dyn Kms) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let turn = self.admit()?;
        let begun = Instant::now();
        // Whoever finds out whether the KMS is back tries once: the others wait for the outcome.
        let attempts = if turn.is_trial { 1 } else { ATTEMPTS };
        let result = self.attempts(attempts, begun + TIMEOUT, &ask).await;
        self.metrics.call(operation, outcome(&result), begun.elapsed());
        turn.end(&result);
        result
    }

    /// Asks something for no other reason than to see whether an answer comes, unless that is under way.
    pub(super) async fn check<'a, F>(&'a self, ask: impl Fn(&'a dyn Kms) -> F)
    where
        F: Future<Output = Result<EkInfo, Error>>,
    {
        if let Ok(_one) = self.checking.try_lock() {
            self.call("describe", ask).await.ok();
        }
    }

    /// What is known of the KMS, and whether that is from the last `recently`.
    pub(super) fn health(&self, recently: Duration) -> (Health, bool) {
        let circuit = self.lock();
        let fresh = match circuit.health {
            Health::Up => circuit.answered.is_some_and(|at| at.elapsed() < recently),
            Health::Away { .. } => circuit.open_until.is_some_and(|until| until > Instant::now()),
        };
        (circuit.health.clone(), fresh)
    }

    async fn attempts<'a, T, F>(
        &'a self,
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
                    if left > 0 && Instant::now() + pause < deadline && !self.is_open() =>
                {
                    sleep(jitter(pause)).await;
                    pause *= 4;
                }
                result => return result,
            }
        }
        unreachable!("the last attempt returns")
    }

    fn is_open(&self) -> bool {
        self.lock().open_until.is_some_and(|until| until > Instant::now())
    }

    fn admit(&self) -> Result<Turn<'_>, Error> {
        let mut circuit = self.lock();
        let Some(until) = circuit.open_until else {
            return Ok(Turn { guard: self, is_trial: false, ended: false });
        };
        if Instant::now() < until || circuit.trying {
            let why = match &circuit.health {
                Health::Away { why, .. } => why.as_str(),
                Health::Up => "",
            };
            return Err(Error::Unavailable(format!(
                "it did not answer just now, and is asked again soon: {why}"
            )));
        }
        circuit.trying = true;
        Ok(Turn { guard: self, is_trial: true, ended: false })
    }

    fn lock(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self) {
        let mut circuit = self.lock();
        if circuit.health != Health::Up {
            tracing::info!(kms = self.metrics.name(), "the KMS answers again");
            self.metrics.up(true);
        }
        circuit.failures = 0;
        circuit.open_until = None;
        circuit.open_for = Duration::ZERO;
        circuit.health = Health::Up;
        circuit.answered = Some(Instant::now());
    }

    fn failed(&self, why: &str) {
        let mut circuit = self.lock();
        circuit.failures = circuit.failures.saturating_add(1);
        let now = Instant::now();
        let seen = circuit.answered.is_some();
        let since = match circuit.health {
            Health::Up => now,
            Health::Away { since, .. } => since,
        };
        if circuit.health == Health::Up {
            tracing::warn!(kms = self.metrics.name(), why, "the KMS does not answer; cached keys go on");
            self.metrics.up(false);
        }
        circuit.health = Health::Away { since, why: why.to_owned(), seen };
        if circuit.failures < FAILURES && circuit.open_until.is_none() {
            return;
        }
        // Calls that were under way when it opened count once.
        if circuit.open_until.is_some_and(|until| now < until) {
            return;
        }
        circuit.open_for = (circuit.open_for * 2).clamp(OPEN_MIN, OPEN_MAX);
        circuit.open_until = Some(now + jitter(circuit.open_for));
    }
}

/// Leave to ask once.
struct Turn<'a> {
    guard: &'a Guard,
    is_trial: bool,
    ended: bool,
}

impl Turn<'_> {
    fn end<T>(mut self, result: &Result<T, Error>) {
        self.ended = true;
        match result {
            Err(Error::Unavailable(why)) => self.guard.failed(why),
            _ => self.guard.answered(),
        }
        if self.is_trial {
            self.guard.lock().trying = false;
        }
    }
}

impl Drop for Turn<'_> {
    /// The caller has gone away in the middle of it: the next one tries.
    fn drop(&mut self) {
        if !self.ended && self.is_trial {
            self.guard.lock().trying = false;
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
