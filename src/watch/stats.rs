//! What the watches tell of themselves: counters for the metrics, health for /readyz.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Failure, FailureReason, Target};
use crate::time::{Clock, Timestamp};

/// A connection that has been up for this long, in ms, ends a failure even if it has nothing to say.
pub(super) const STEADY_MS: i64 = 5_000;
/// A watch that has been failing for longer than this, in ms, makes the exporter unready.
pub const UNREADY_AFTER_MS: i64 = 120_000;

/// The `event` label of `exitcode_exporter_watch_events_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// ADDED.
    Added,
    /// MODIFIED.
    Modified,
    /// DELETED.
    Deleted,
    /// BOOKMARK.
    Bookmark,
    /// ERROR.
    Error,
}

impl EventKind {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 5] = [Self::Added, Self::Modified, Self::Deleted, Self::Bookmark, Self::Error];

    /// The word, as labels show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Bookmark => "bookmark",
            Self::Error => "error",
        }
    }

    /// From the `type` of a watch event.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "ADDED" => Self::Added,
            "MODIFIED" => Self::Modified,
            "DELETED" => Self::Deleted,
            "BOOKMARK" => Self::Bookmark,
            "ERROR" => Self::Error,
            _ => return None,
        })
    }
}

/// Counters of one resource, over all its targets. Nothing here ever goes down.
#[derive(Debug, Default)]
pub struct Stats {
    events: [AtomicU64; EventKind::ALL.len()],
    failures: [AtomicU64; FailureReason::ALL.len()],
    lists: [AtomicU64; 2],
    undecodable: AtomicU64,
    last_event_ms: AtomicI64,
}

impl Stats {
    /// Watch events of this kind.
    #[must_use]
    pub fn events(&self, kind: EventKind) -> u64 {
        self.events[kind as usize].load(Ordering::Relaxed)
    }

    /// Failures of lists and watches for this reason.
    #[must_use]
    pub fn failures(&self, reason: FailureReason) -> u64 {
        self.failures[reason as usize].load(Ordering::Relaxed)
    }

    /// Lists that came through whole.
    #[must_use]
    pub fn lists_succeeded(&self) -> u64 {
        self.lists[0].load(Ordering::Relaxed)
    }

    /// Lists that did not.
    #[must_use]
    pub fn lists_failed(&self) -> u64 {
        self.lists[1].load(Ordering::Relaxed)
    }

    /// Objects that could not be read, listed and watched.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.undecodable.load(Ordering::Relaxed)
    }

    /// When the latest watch event came in, bookmarks included, errors not.
    #[must_use]
    pub fn last_event(&self) -> Option<Timestamp> {
        Some(Timestamp(self.last_event_ms.load(Ordering::Relaxed))).filter(|at| at.0 != 0)
    }

    pub(super) fn count_failure(&self, reason: FailureReason) {
        self.failures[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_undecodable(&self) {
        self.undecodable.fetch_add(1, Ordering::Relaxed);
    }

    fn count_event(&self, kind: EventKind, now: Timestamp) {
        self.events[kind as usize].fetch_add(1, Ordering::Relaxed);
        if kind != EventKind::Error {
            self.last_event_ms.store(now.0, Ordering::Relaxed);
        }
    }
}

/// The state of one target's list and watch, and a handle on the counters of its resource.
#[derive(Debug)]
pub struct Health {
    target: Target,
    stats: Arc<Stats>,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    listed: bool,
    failing_since: Option<Timestamp>,
    last_failure: Option<String>,
}

impl Health {
    /// A target that nothing is known of yet. `stats` are shared by all targets of a resource.
    #[must_use]
    pub fn new(target: Target, stats: Arc<Stats>, clock: Clock) -> Self {
        Self { target, stats, clock, state: Mutex::default() }
    }

    /// What is listed and watched.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// The counters of its resource.
    #[must_use]
    pub const fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Whether a first list is in (`exitcode_exporter_synced`).
    #[must_use]
    pub fn listed(&self) -> bool {
        self.state().listed
    }

    /// Since when nothing has come through; none while the watch works.
    #[must_use]
    pub fn failing_since(&self) -> Option<Timestamp> {
        self.state().failing_since
    }

    /// The last failure in words, even if it is over.
    #[must_use]
    pub fn last_failure(&self) -> Option<String> {
        self.state().last_failure.clone()
    }

    /// Whether this target is good enough to answer 200 on /readyz.
    ///
    /// # Errors
    ///
    /// In a sentence: the first list is not in, or the watch has been failing for more than two minutes.
    pub fn ready(&self, now: Timestamp) -> Result<(), String> {
        let state = self.state().clone();
        let why = |text: String| match &state.last_failure {
            Some(failure) => format!("{text}: {failure}"),
            None => text,
        };
        let failing = state.failing_since.map(|since| now.since(since)).filter(|ms| *ms > UNREADY_AFTER_MS);
        match (state.listed, failing) {
            (false, _) => Err(why(format!("the first list of {} is not in", self.target))),
            (true, Some(ms)) => {
                Err(why(format!("the watch of {} has been failing for {} s", self.target, ms / 1000)))
            }
            (true, None) => Ok(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line of a watch came in.
    pub(super) fn saw(&self, kind: EventKind) {
        self.stats.count_event(kind, self.clock.now());
    }

    /// The watch works again, or still. True if it had been failing.
    pub(super) fn works(&self) -> bool {
        self.state().failing_since.take().is_some()
    }

    /// A list is in.
    pub(super) fn list_succeeded(&self) {
        self.stats.lists[0].fetch_add(1, Ordering::Relaxed);
        self.state().listed = true;
    }

    /// A list was given up.
    pub(super) fn list_failed(&self) {
        self.stats.lists[1].fetch_add(1, Ordering::Relaxed);
    }

    /// A list or a watch failed.
    pub(super) fn failed(&self, failure: &Failure) {
        self.stats.count_failure(failure.reason);
        let now = self.clock.now();
        let mut state = self.state();
        state.failing_since.get_or_insert(now);
        state.last_failure = Some(failure.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        Health::new(Target::all("pods"), Arc::default(), Clock::start())
    }

    #[tokio::test(start_paused = true)]
    async fn unready_until_the_first_list_is_in_and_says_why() {
        let health = health();
        let now = health.clock.now();
        assert_eq!(health.ready(now), Err("the first list of pods at cluster scope is not in".to_owned()));
        health.failed(&Failure::new(FailureReason::Connection, "connection refused"));
        assert_eq!(
            health.ready(now),
            Err("the first list of pods at cluster scope is not in: connection: connection refused"
                .to_owned())
        );
        health.list_succeeded();
        assert_eq!(health.ready(now), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn unready_after_two_minutes_of_failure_counted_from_the_first() {
        let health = health();
        health.list_succeeded();
        let start = health.clock.now();
        health.failed(&Failure::new(FailureReason::Timeout, "silent"));
        tokio::time::advance(std::time::Duration::from_secs(100)).await;
        health.failed(&Failure::new(FailureReason::Timeout, "silent"));
        assert_eq!(health.ready(start.plus_ms(120_000)), Ok(()));
        assert_eq!(
            health.ready(start.plus_ms(120_001)),
            Err("the watch of pods at cluster scope has been failing for 120 s: timeout: silent".to_owned())
        );
        assert!(health.works());
        assert!(!health.works());
        assert_eq!(health.ready(start.plus_ms(500_000)), Ok(()));
    }
}
