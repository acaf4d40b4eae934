//! How saving goes, for the metrics and the readiness.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::time::Timestamp;

/// How saving went so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StateSnapshot {
    /// When a batch was on disk last.
    pub last_save: Option<Timestamp>,
    /// How long that took.
    pub duration: Duration,
    /// The file's size in bytes.
    pub bytes: u64,
    /// How many saves failed.
    pub failures: u64,
}

/// How saving goes.
#[derive(Debug, Default)]
pub struct StateHealth {
    inner: Mutex<(StateSnapshot, Option<String>)>,
}

impl StateHealth {
    /// How saving went so far.
    #[must_use]
    pub fn snapshot(&self) -> StateSnapshot {
        self.lock().0
    }

    /// Whether what is counted is kept.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub fn ready(&self) -> Result<(), String> {
        self.lock().1.clone().map_or(Ok(()), Err)
    }

    /// Why nothing is kept, if so. Returns whether that is news.
    pub fn problem(&self, problem: Option<String>) -> bool {
        let mut inner = self.lock();
        let news = inner.1 != problem;
        inner.1 = problem;
        news
    }

    /// A batch is on disk.
    pub fn saved(&self, now: Timestamp, duration: Duration, bytes: u64) {
        let mut inner = self.lock();
        inner.0 = StateSnapshot { last_save: Some(now), duration, bytes, ..inner.0 };
    }

    /// A save failed.
    pub fn failed(&self) {
        self.lock().0.failures += 1;
    }

    fn lock(&self) -> MutexGuard<'_, (StateSnapshot, Option<String>)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
