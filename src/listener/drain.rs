//! The end of the process, step by step.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How long connections that are cut may take to notice.
const CUT: Duration = Duration::from_secs(1);

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Nothing of it.
    Serving,
    /// Not ready any more, and still accepting: whoever sends requests here is to find others first. Answers end their
    /// connections.
    Leaving,
    /// Nothing is accepted; what is at work goes on, what is idle closes.
    Closing,
    /// All ends now.
    Cutting,
}

/// Sets it. It is over when every [`Phases`] is gone.
pub(super) struct Drain(watch::Sender<Phase>);

/// Sees it. A connection holds one.
#[derive(Clone)]
pub(super) struct Phases(watch::Receiver<Phase>);

impl Drain {
    pub(super) fn new() -> Self {
        Self(watch::channel(Phase::Serving).0)
    }

    pub(super) fn phases(&self) -> Phases {
        Phases(self.0.subscribe())
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.0.send_replace(phase);
    }

    /// Waits until every connection has ended.
    pub(super) async fn over(&self) {
        self.0.closed().await;
    }

    /// Ends what is left.
    pub(super) async fn cut(&self) {
        self.enter(Phase::Cutting);
        timeout(CUT, self.over()).await.ok();
    }
}

impl Phases {
    pub(super) fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// The next phase.
    pub(super) async fn next(&mut self) -> Phase {
        match self.0.changed().await {
            Ok(()) => *self.0.borrow_and_update(),
            // Nobody is left to say more.
            Err(_) => Phase::Cutting,
        }
    }
}
