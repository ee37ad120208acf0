//! No faster than told: for commands that share a store with those who serve from it.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// So many of something a second: requests, or bytes.
#[derive(Debug)]
pub struct Pace {
    per_second: NonZeroU64,
    /// When the next one may begin.
    next: Mutex<Instant>,
}

impl Pace {
    /// So many a second.
    pub fn new(per_second: NonZeroU64) -> Self {
        Self { per_second, next: Mutex::new(Instant::now()) }
    }

    /// Waits until what was taken before is paid for.
    pub async fn take(&self, amount: u64) {
        let begin = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = (*next).max(Instant::now());
            *next = begin + Duration::from_secs_f64(amount as f64 / self.per_second.get() as f64);
            begin
        };
        sleep_until(begin).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_is_paid_for_by_the_next() {
        let (pace, start) = (Pace::new(NonZeroU64::new(100).unwrap()), Instant::now());
        pace.take(250).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        pace.take(1).await;
        assert_eq!(start.elapsed().as_millis() / 100, 25);
        tokio::time::advance(Duration::from_secs(60)).await;
        let idle = Instant::now();
        // Time that nobody used is not saved up.
        pace.take(100).await;
        pace.take(100).await;
        assert_eq!(idle.elapsed().as_millis() / 100, 10);
    }
}
