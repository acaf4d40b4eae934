//! The loop over attempts: list if need be, watch, and decide how to go on after each end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::backoff::Backoff;
use super::decode::Unreadable;
use super::http::{self, ANSWER_WITHIN, Lines};
use super::list::PAGE;
use super::stats::STEADY_MS;
use super::stream::Listing;
use super::{Failure, FailureReason, Health, Update};
use crate::pod::Object;

pub(super) const JSON: &str = "application/json";
/// A connection that stayed up for this long was healthy.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// A watch that ends sooner and says nothing has failed.
pub(super) const AT_ONCE: Duration = Duration::from_millis(STEADY_MS as u64);
/// So many unreadable objects of one attempt are logged one by one.
const UNREADABLE_LOGGED: u32 = 5;

/// Why an attempt stopped.
#[derive(Debug)]
pub(super) enum Stop {
    Failed(Failure),
    /// Nobody wants to know any more.
    ReceiverGone,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// How the streaming list stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Streaming {
    Try,
    /// It failed: the next list is paged, in case the stream is what does not work.
    NotNext,
    /// The server does not know it.
    Refused,
}

/// One target's list and watch.
pub(super) struct Follower<T> {
    pub(super) client: kube::Client,
    pub(super) health: Arc<Health>,
    pub(super) updates: mpsc::Sender<Update<T>>,
    /// What to resume from; none where a list is needed.
    pub(super) version: Option<String>,
    pub(super) streaming: Streaming,
    pub(super) page: u32,
    backoff: Backoff,
    /// Whether the last sign of life was followed by silence: then only a line is the next one.
    pub(super) silent: bool,
    /// Connections in a row that fell silent without a line.
    pub(super) silences: u8,
    /// Since when this attempt's stream is open, and how many lines it had.
    pub(super) connected: Option<Instant>,
    pub(super) lines: u64,
    unreadable: u32,
}

impl<T: Object> Follower<T> {
    pub(super) fn new(client: kube::Client, health: Arc<Health>, updates: mpsc::Sender<Update<T>>) -> Self {
        Self {
            client,
            health,
            updates,
            version: None,
            streaming: Streaming::Try,
            page: PAGE,
            backoff: Backoff::default(),
            silent: false,
            silences: 0,
            connected: None,
            lines: 0,
            unreadable: 0,
        }
    }

    /// Attempt after attempt, until the receiver is gone.
    pub(super) async fn follow(mut self) {
        loop {
            let started = Instant::now();
            (self.connected, self.lines, self.unreadable) = (None, 0, 0);
            let next = match self.attempt().await {
                Err(Stop::ReceiverGone) => return,
                Err(Stop::Failed(failure)) => self.after_failure(&failure),
                Ok(()) => self.after_end(started),
            };
            sleep_until(next).await;
        }
    }

    /// Lists, if there is nothing to resume from, and watches until the stream ends.
    async fn attempt(&mut self) -> Result<(), Stop> {
        if self.version.is_none()
            && let Some(stream) = self.list().await?
        {
            return self.read(stream, Some(Listing::begin())).await;
        }
        let version = self.version.clone().unwrap_or_default();
        let url = self.health.target().watch(&version, watch_seconds());
        match http::get(&self.client, &url, JSON, ANSWER_WITHIN).await {
            Ok(response) => self.read(Lines::new(response.into_body()), None).await,
            Err(failure) => {
                if !can_resume(&failure) {
                    self.version = None;
                }
                Err(self.explain(failure, "watch").into())
            }
        }
    }

    pub(super) async fn send(&mut self, update: Update<T>) -> Result<(), Stop> {
        self.updates.send(update).await.map_err(|_| Stop::ReceiverGone)
    }

    pub(super) fn works(&self) {
        if self.health.works() {
            info!(resource = self.health.target().resource, "watching {} works again", self.health.target());
        }
    }

    pub(super) fn unreadable(&mut self, object: &Unreadable) {
        self.health.stats().count_undecodable();
        self.unreadable = self.unreadable.saturating_add(1);
        if self.unreadable <= UNREADABLE_LOGGED {
            let uid: String = object.uid.as_deref().unwrap_or("unknown").chars().take(64).collect();
            let resource = self.health.target().resource;
            warn!(resource, %uid, place = %object.place, "an object can't be read and is left out");
        }
    }

    pub(super) fn explain(&self, failure: Failure, verb: &str) -> Failure {
        failure.naming_permission(self.health.target(), verb)
    }

    fn was_healthy(&self) -> bool {
        self.connected.is_some_and(|since| since.elapsed() >= HEALTHY_AFTER)
    }

    /// Counts and tells a failure; returns when to try again.
    fn after_failure(&mut self, failure: &Failure) -> Instant {
        if self.was_healthy() {
            self.backoff.reset();
        }
        self.health.failed(failure);
        let wait = self.backoff.next_or(failure.retry_after);
        warn!(
            resource = self.health.target().resource,
            reason = %failure.reason,
            next_attempt_in = format!("{:.1}s", wait.as_secs_f64()),
            "watching {} failed: {}",
            self.health.target(),
            failure.detail
        );
        Instant::now() + wait
    }

    /// The server closed the watch: no failure if it had been of use. Attempts that end sooner than after a
    /// minute begin at least a back-off step apart.
    fn after_end(&mut self, started: Instant) -> Instant {
        let up = self.connected.map_or(Duration::ZERO, |since| since.elapsed());
        if self.lines == 0 && up < AT_ONCE {
            let detail = "the API server ended the watch at once and said nothing";
            return self.after_failure(&Failure::new(FailureReason::Connection, detail));
        }
        if self.was_healthy() {
            self.backoff.reset();
            return Instant::now();
        }
        (started + self.backoff.next()).max(Instant::now())
    }
}

/// Whether a watch that did not start may start from the same version later.
fn can_resume(failure: &Failure) -> bool {
    match failure.code {
        None | Some(401 | 403 | 408 | 429) => true,
        // The version is of the future: the cluster was restored from a backup, or the server lags behind.
        Some(500..=599) => !failure.detail.contains("Too large resource version"),
        Some(_) => false,
    }
}

/// The server ends a watch after this time; spread, so that many watches do not end at once.
pub(super) fn watch_seconds() -> u32 {
    fastrand::u32(240..=330)
}
