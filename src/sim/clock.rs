//! The simulated cluster's clock: tokio's, sped up or slowed down.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::time::{Clock, Timestamp};

/// Begins at the wall clock's time. Under tokio's paused clock it stands still with it.
#[derive(Clone, Copy, Debug)]
pub struct SimClock {
    origin: Timestamp,
    started: Instant,
    speed: u32,
}

impl SimClock {
    /// A clock that goes so many times as fast as tokio's; at least once.
    #[must_use]
    pub fn start(speed: u32) -> Self {
        Self { origin: Clock::start().now(), started: Instant::now(), speed: speed.max(1) }
    }

    /// The time now, with milliseconds.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.origin.plus(self.started.elapsed().saturating_mul(self.speed))
    }

    /// The time now in whole seconds, as Kubernetes writes it.
    #[must_use]
    pub fn seconds(&self) -> Timestamp {
        let ms = self.now().0;
        Timestamp(ms.saturating_sub(ms.rem_euclid(1_000)))
    }

    /// Waits for so many milliseconds of this clock.
    pub async fn sleep_ms(&self, ms: u64) {
        sleep(Duration::from_millis(ms) / self.speed).await;
    }
}
