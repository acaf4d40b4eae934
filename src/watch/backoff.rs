//! How long to wait after a failure, and so how often the API server is asked at most.

use std::time::Duration;

/// The longest first wait.
const FIRST: Duration = Duration::from_millis(800);
/// The longest wait that is not asked for by the server.
const LONGEST: Duration = Duration::from_secs(30);
/// Jitter takes away up to this share of a wait.
const JITTER: f64 = 0.25;
/// A `Retry-After` beyond this is cut: a server may not silence the exporter for a day.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// Doubles from under a second to 30 s. Only a minute of health resets it, see [`Backoff::reset`].
#[derive(Debug, Default)]
pub(super) struct Backoff {
    step: u32,
}

impl Backoff {
    /// The wait after one more failure.
    pub(super) fn next(&mut self) -> Duration {
        let full = FIRST.saturating_mul(1_u32.checked_shl(self.step).unwrap_or(u32::MAX)).min(LONGEST);
        self.step = self.step.saturating_add(1).min(16);
        full.mul_f64(JITTER.mul_add(-fastrand::f64(), 1.0))
    }

    /// The wait after a failure for which the server may have asked for a longer one.
    pub(super) fn next_or(&mut self, asked: Option<Duration>) -> Duration {
        self.next().max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }

    /// Begins again from the first wait: a connection stayed up for a minute.
    pub(super) fn reset(&mut self) {
        self.step = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_under_a_second_to_thirty_with_jitter() {
        for _ in 0..100 {
            let mut backoff = Backoff::default();
            for full in [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0] {
                let wait = backoff.next().as_secs_f64();
                assert!(wait <= full && wait >= full * 0.75, "{wait} is not within 75 to 100 % of {full}");
            }
            backoff.reset();
            assert!(backoff.next() < Duration::from_secs(1));
        }
    }

    #[test]
    fn never_overflows() {
        let mut backoff = Backoff::default();
        for _ in 0..1000 {
            assert!(backoff.next() <= LONGEST);
        }
    }

    #[test]
    fn honours_what_the_server_asks_for_up_to_five_minutes() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next_or(Some(Duration::from_secs(17))), Duration::from_secs(17));
        assert_eq!(backoff.next_or(Some(Duration::from_secs(86_400))), Duration::from_secs(300));
        assert!(
            backoff.next_or(Some(Duration::ZERO)) > Duration::from_secs(2),
            "never sooner than without it"
        );
    }
}
