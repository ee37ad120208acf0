//! Work that goes on though its client hangs up: what is half done, another request could not finish.

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// The work under way, of the whole process. Whoever ends the process waits for it.
#[derive(Clone, Debug)]
pub struct Detached(watch::Sender<()>);

impl Default for Detached {
    fn default() -> Self {
        Self(watch::channel(()).0)
    }
}

impl Detached {
    /// Begins it.
    pub(super) fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let under_way = self.0.subscribe();
        tokio::spawn(
            async move {
                let done = work.await;
                drop(under_way);
                done
            }
            .in_current_span(),
        )
    }

    /// How many are under way.
    pub fn count(&self) -> usize {
        self.0.receiver_count()
    }

    /// Waits until none is.
    pub async fn over(&self) {
        self.0.closed().await;
    }
}
