//! The rate limit: a bucket of requests that fills again one by one.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::web::RateLimit;

/// How full the bucket is, in time: an empty one is full again after `burst` intervals.
#[derive(Debug, Default)]
pub(super) struct Bucket(Mutex<Option<Instant>>);

impl Bucket {
    /// Takes one request, if there is one.
    pub(super) fn take(&self, limit: RateLimit) -> bool {
        let now = Instant::now();
        let mut full_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = full_at.unwrap_or(now).max(now) + limit.interval;
        let allowed = next.duration_since(now) <= limit.interval.saturating_mul(limit.burst).min(LONGEST);
        if allowed {
            *full_at = Some(next);
        }
        allowed
    }
}

/// No bucket takes longer to fill: the clock can't count further than that.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_one_each_interval() {
        let bucket = Bucket::default();
        let limit = RateLimit { interval: Duration::from_secs(1), burst: 3 };
        let take = |n: usize| (0..n).filter(|_| bucket.take(limit)).count();
        assert_eq!(take(10), 3);
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(take(10), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(take(10), 1);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(take(10), 3);
    }
}
