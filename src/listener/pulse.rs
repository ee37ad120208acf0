//! What a connection is at, and when its client has taken too long over it.
//!
//! HTTP's own timeouts leave gaps: none begins before the protocol is known, HTTP/2 has none for a client that asks nothing, and
//! HTTP/1 has one for two things, the time for a head and the time between requests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::Limits;

/// How long a connection that was asked to end may take over it, once no request is at work.
const PARTING: Duration = Duration::from_secs(5);

/// The state of one connection.
pub(super) struct Pulse(Mutex<State>);

struct State {
    /// Requests at work, up to the ends of their answers.
    active: usize,
    /// Since when there has been none, or nothing has been sent of what is left of the last answer.
    idle_since: Instant,
    /// When the first byte of the next head came. HTTP/1 only.
    head_since: Option<Instant>,
    /// No request has come so far, so it is not known which protocol it is.
    fresh: bool,
    http2: bool,
    /// Bytes wait for the client to take others.
    writing: bool,
    /// When it was asked to end.
    parting: Option<Instant>,
}

/// What is to be done about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again then.
    Wait(Instant),
    /// Close it: it holds nothing that anybody waits for.
    Close(&'static str),
    /// Ask it to end: an answer may be on its way to a request that is on its way here.
    Part,
}

/// A request at work, or the rest of its body. It ends with the value.
pub(super) struct Beat(Arc<Pulse>);

impl Pulse {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            active: 0,
            idle_since: Instant::now(),
            head_since: None,
            fresh: true,
            http2: false,
            writing: false,
            parting: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is ready for its first request.
    pub(super) fn start(&self) {
        let mut state = self.state();
        (state.idle_since, state.head_since) = (Instant::now(), None);
    }

    /// Bytes have come.
    pub(super) fn read(&self) {
        let mut state = self.state();
        if state.active == 0 && !state.http2 && !state.fresh {
            state.head_since.get_or_insert_with(Instant::now);
        }
    }

    /// Bytes have been taken. In HTTP/2 they may be nothing but a ping.
    pub(super) fn wrote(&self) {
        let mut state = self.state();
        state.writing = false;
        if state.active == 0 && !state.http2 && !state.fresh {
            state.idle_since = Instant::now();
        }
    }

    /// A write has to wait. It has a time of its own.
    pub(super) fn waits_to_write(&self) {
        self.state().writing = true;
    }

    /// A request has come.
    pub(super) fn request(self: &Arc<Self>, http2: bool) -> Beat {
        let mut state = self.state();
        state.head_since = None;
        state.fresh = false;
        state.http2 = http2;
        drop(state);
        self.beat()
    }

    /// Something is at work that belongs to a request.
    pub(super) fn beat(self: &Arc<Self>) -> Beat {
        self.state().active += 1;
        Beat(self.clone())
    }

    /// It has been asked to end.
    pub(super) fn part(&self) {
        self.state().parting.get_or_insert_with(Instant::now);
    }

    pub(super) fn verdict(&self, limits: &Limits) -> Verdict {
        let now = Instant::now();
        let state = self.state();
        // Whatever happens until then can't make anything due before then.
        let later = now + limits.header.min(limits.keep_alive).min(PARTING);
        if state.active > 0 || state.writing {
            return Verdict::Wait(later);
        }
        let (due, verdict) = match (state.parting, state.head_since) {
            (Some(since), _) => {
                (since.max(state.idle_since) + PARTING, Verdict::Close("it was asked to end and did not"))
            }
            (None, _) if state.fresh => {
                (state.idle_since + limits.header, Verdict::Close("no request came in time"))
            }
            (None, Some(since)) => {
                (since + limits.header, Verdict::Close("the head of a request took too long"))
            }
            (None, None) => (state.idle_since + limits.keep_alive, Verdict::Part),
        };
        if due <= now { verdict } else { Verdict::Wait(due.min(later)) }
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.active -= 1;
        state.idle_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::LimitsConfig;
    use super::*;

    const HEADER: Duration = Duration::from_secs(30);
    const KEEP_ALIVE: Duration = Duration::from_secs(90);

    /// Waits as a connection does, and says what comes of it and after how long.
    async fn wait(pulse: &Pulse) -> (Verdict, u64) {
        let limits = LimitsConfig::default().build().unwrap();
        let start = Instant::now();
        loop {
            match pulse.verdict(&limits) {
                Verdict::Wait(until) => tokio::time::sleep_until(until).await,
                verdict => return (verdict, start.elapsed().as_secs()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_request_must_come() {
        let pulse = Pulse::new();
        tokio::time::advance(HEADER / 2).await;
        pulse.start();
        // Bytes alone are none.
        pulse.read();
        pulse.wrote();
        assert_eq!(wait(&pulse).await, (Verdict::Close("no request came in time"), 30));
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_there_is_more_time_than_within_a_head() {
        let pulse = Pulse::new();
        drop(pulse.request(false));
        assert_eq!(wait(&pulse).await, (Verdict::Part, 90));
        drop(pulse.request(false));
        tokio::time::advance(KEEP_ALIVE / 2).await;
        pulse.read();
        pulse.read();
        assert_eq!(wait(&pulse).await, (Verdict::Close("the head of a request took too long"), 30));
    }

    #[tokio::test(start_paused = true)]
    async fn pings_are_no_requests() {
        let pulse = Pulse::new();
        drop(pulse.request(true));
        tokio::time::advance(KEEP_ALIVE / 2).await;
        pulse.read();
        pulse.wrote();
        assert_eq!(wait(&pulse).await, (Verdict::Part, 45));
        pulse.part();
        let beat = pulse.request(true);
        let served = tokio::spawn(async move {
            tokio::time::sleep(KEEP_ALIVE).await;
            drop(beat);
        });
        assert_eq!(wait(&pulse).await, (Verdict::Close("it was asked to end and did not"), 95));
        served.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_at_work_or_waits_to_be_taken_is_let_be() {
        let pulse = Pulse::new();
        let beat = pulse.request(false);
        let limits = LimitsConfig::default().build().unwrap();
        for _ in 0..100 {
            tokio::time::advance(KEEP_ALIVE).await;
            pulse.read();
            assert!(matches!(pulse.verdict(&limits), Verdict::Wait(_)));
        }
        pulse.waits_to_write();
        drop(beat);
        tokio::time::advance(KEEP_ALIVE * 2).await;
        assert!(
            matches!(pulse.verdict(&limits), Verdict::Wait(_)),
            "the rest of an answer has a time of its own"
        );
        pulse.wrote();
        assert_eq!(wait(&pulse).await, (Verdict::Part, 90));
    }
}
