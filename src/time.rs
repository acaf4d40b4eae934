//! Points in time as values: the core never asks a clock.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// From RFC 3339 text, as Kubernetes writes times.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_millisecond()))
    }

    /// Seconds since 1970, with fractions: the unit of Prometheus.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // exact until the year 287396
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Time since `earlier` in milliseconds; negative if this is before it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This time and `ms` milliseconds (which may be negative).
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// This time and a duration.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        self.plus_ms(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }
}

/// RFC 3339 in UTC; whole seconds without a fraction.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

/// A clock that never jumps: the wall clock of the start, moved on by the monotonic clock. Waits and
/// retention go by it, so a step of the wall clock ends or prolongs none of them; under tokio's paused
/// clock it stands still with it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Timestamp,
    started: tokio::time::Instant,
}

impl Clock {
    /// A clock that starts at the wall clock's time.
    #[must_use]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: Timestamp::default().plus(wall), started: tokio::time::Instant::now() }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.origin.plus(self.started.elapsed())
    }

    /// The instant at which this clock shows `at`; now, if that has passed.
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> tokio::time::Instant {
        let ms = u64::try_from(at.since(self.origin)).unwrap_or(0);
        self.started + Duration::from_millis(ms)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::start()
    }
}
