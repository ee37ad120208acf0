//! The streams of HTTP/2 whose clients must take what they are sent.
//!
//! A client that opens no window takes nothing, while its connection looks well: it answers pings, and no write waits. So each
//! stream that has been handed bytes is given up when they stay where they are for too long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Runs the streams of a connection.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) patience: Duration,
}

/// Since when the piece of an answer that was handed over last has waited to be taken; none while none does.
#[derive(Clone, Default)]
pub(super) struct Taking(Arc<Mutex<Option<Instant>>>);

tokio::task_local! {
    /// Of the stream whose task this is.
    static TAKING: Taking;
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let (taking, patience) = (Taking::default(), self.patience);
        tokio::spawn(TAKING.scope(taking.clone(), async move {
            tokio::select! {
                () = stream => {}
                () = taking.too_long(patience) => tracing::debug!("a client takes nothing of its answer; the stream is cut"),
            }
        }));
    }
}

impl Taking {
    /// That of the stream that is being served; none in HTTP/1, where a write waits.
    pub(super) fn current() -> Option<Self> {
        TAKING.try_with(Self::clone).ok()
    }

    /// A piece is handed over.
    pub(super) fn given(&self) {
        self.set(Some(Instant::now()));
    }

    /// The next one is asked for: the one before has been taken.
    pub(super) fn taken(&self) {
        self.set(None);
    }

    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    async fn too_long(&self, patience: Duration) {
        loop {
            let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // What is given from now on is not due before then.
            let due = since.unwrap_or_else(Instant::now) + patience;
            if since.is_some() && due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_stays_where_it_is_takes_too_long() {
        let patience = Duration::from_secs(60);
        let taking = Taking::default();
        let start = Instant::now();
        let client = taking.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                client.given();
                tokio::time::sleep(patience / 2).await;
                client.taken();
                // The store takes its time.
                tokio::time::sleep(patience * 3).await;
            }
            client.given();
        });
        taking.too_long(patience).await;
        assert_eq!(start.elapsed(), patience * 7 / 2 * 10 + patience);
    }
}
