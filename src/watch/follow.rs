//! The loop over attempts: list if need be, watch, and decide how to go on after each end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::decode::{self, Unreadable};
use super::http::{self, ANSWER_WITHIN, BodyError, Lines};
use super::stats::STEADY_MS;
use super::{EventKind, Failure, FailureReason, Health, Update};
use crate::pod::Object;

const JSON: &str = "application/json";
/// Objects on a page: with pods of 12 KB a page is 3 MB.
const PAGE: u32 = 250;
/// The largest page that is held. A larger one is asked for again in smaller pieces.
const LARGEST_PAGE: usize = 64 << 20;
/// No list has more pages: one that does never ends.
const MOST_PAGES: u32 = 20_000;
/// How long one page may take.
const PAGE_WITHIN: Duration = Duration::from_secs(120);
/// How long the objects of a streaming list may take.
const STREAMING_LIST_WITHIN: Duration = Duration::from_secs(600);
/// A connection that stayed up for this long was healthy.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// A watch that ends sooner and says nothing has failed.
const AT_ONCE: Duration = Duration::from_millis(STEADY_MS as u64);
/// After so many silent connections in a row the version is given up: it may be of another history of the cluster.
const SILENCES: u8 = 2;
/// So many unreadable objects of one attempt are logged one by one.
const UNREADABLE_LOGGED: u32 = 5;

/// Why an attempt stopped.
#[derive(Debug)]
enum Stop {
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
enum Streaming {
    Try,
    /// It failed: the next list is paged, in case the stream is what does not work.
    NotNext,
    /// The server does not know it.
    Refused,
}

/// What is open for a stream that shows a list.
#[derive(Debug)]
struct Listing {
    whole: bool,
    until: Instant,
}

/// One target's list and watch.
pub(super) struct Follower<T> {
    client: kube::Client,
    health: Arc<Health>,
    updates: mpsc::Sender<Update<T>>,
    /// What to resume from; none where a list is needed.
    version: Option<String>,
    streaming: Streaming,
    page: u32,
    backoff: Backoff,
    /// Whether the last sign of life was followed by silence: then only a line is the next one.
    silent: bool,
    /// Connections in a row that fell silent without a line.
    silences: u8,
    /// Since when this attempt's stream is open, and how many lines it had.
    connected: Option<Instant>,
    lines: u64,
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
            let listing = Listing { whole: true, until: Instant::now() + STREAMING_LIST_WITHIN };
            return self.read(stream, Some(listing)).await;
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

    /// Begins a streaming list and returns its stream, or makes a paged list and returns nothing.
    async fn list(&mut self) -> Result<Option<Lines>, Stop> {
        if self.streaming == Streaming::Try {
            let url = self.health.target().streaming_list(watch_seconds());
            match http::get(&self.client, &url, JSON, ANSWER_WITHIN).await {
                Ok(response) => {
                    self.send(Update::ListBegins).await?;
                    return Ok(Some(Lines::new(response.into_body())));
                }
                Err(failure) if refuses_streaming(&failure) => {
                    debug!(target = %self.health.target(), %failure, "no streaming list here, asking for pages");
                    self.streaming = Streaming::Refused;
                }
                Err(failure) => return Err(self.list_failed(failure, "watch")),
            }
        }
        match self.list_pages().await {
            Ok(()) => Ok(None),
            Err(Stop::Failed(failure)) => Err(self.list_failed(failure, "list")),
            Err(Stop::ReceiverGone) => Err(Stop::ReceiverGone),
        }
    }

    fn list_failed(&mut self, failure: Failure, verb: &str) -> Stop {
        self.health.list_failed();
        if self.streaming == Streaming::Try {
            self.streaming = Streaming::NotNext;
        }
        self.explain(failure, verb).into()
    }

    fn list_succeeded(&mut self, version: String) {
        self.health.list_succeeded();
        self.version = Some(version);
        if self.streaming == Streaming::NotNext {
            self.streaming = Streaming::Try;
        }
    }

    /// Lists page by page; what is held at any moment is one page.
    async fn list_pages(&mut self) -> Result<(), Stop> {
        let (mut whole, mut next, mut version, mut body) = (true, None::<String>, None, Vec::new());
        for number in 0..MOST_PAGES {
            self.fetch_page(next.as_deref(), &mut body).await?;
            let page = decode::page(&body).map_err(|place| {
                Failure::new(FailureReason::Undecodable, format!("the list can't be read: {place}"))
            })?;
            if number == 0 {
                self.send(Update::ListBegins).await?;
            }
            for item in page.items {
                whole &= self.listed(item).await?;
            }
            // The pages of a list are of one moment; the first one's version is the safe one if they were not.
            let version = version.get_or_insert(page.version);
            next = page.next;
            if next.is_none() {
                let version = std::mem::take(version);
                self.send(Update::ListDone { whole }).await?;
                self.list_succeeded(version);
                return Ok(());
            }
        }
        Err(Failure::new(FailureReason::Other, format!("the list has more than {MOST_PAGES} pages")).into())
    }

    /// Gets a page, in smaller pieces if it is too large.
    async fn fetch_page(&mut self, next: Option<&str>, body: &mut Vec<u8>) -> Result<(), Failure> {
        loop {
            let url = self.health.target().page(self.page, next);
            let deadline = Instant::now() + PAGE_WITHIN;
            let response = http::get(&self.client, &url, JSON, ANSWER_WITHIN).await?;
            match http::collect(response.into_body(), body, LARGEST_PAGE, deadline).await {
                Ok(()) => return Ok(()),
                Err(BodyError::Failed(failure)) => return Err(failure),
                Err(BodyError::TooLarge) if self.page > 1 => self.page = (self.page / 4).max(1),
                Err(BodyError::TooLarge) => {
                    let detail = format!("a single object is larger than {} MiB", LARGEST_PAGE >> 20);
                    return Err(Failure::new(FailureReason::Undecodable, detail));
                }
            }
        }
    }

    /// Passes on an object of a list. False if it proves that the list has a hole.
    async fn listed(&mut self, item: &RawValue) -> Result<bool, Stop> {
        match decode::object(item) {
            Ok(object) => {
                self.send(Update::Listed(object)).await?;
                Ok(true)
            }
            Err(unreadable) => {
                self.unreadable(&unreadable);
                let Some(uid) = unreadable.uid else { return Ok(false) };
                self.send(Update::StillThere(uid)).await?;
                Ok(true)
            }
        }
    }

    /// Reads a stream to its end. `listing` is there while the stream shows a list.
    async fn read(&mut self, mut stream: Lines, mut listing: Option<Listing>) -> Result<(), Stop> {
        let ended = self.read_lines(&mut stream, &mut listing).await;
        match (ended, listing) {
            (Err(Stop::Failed(failure)), Some(_)) => {
                if failure.code.is_some_and(|code| code != 410) {
                    self.streaming = Streaming::Refused;
                }
                Err(self.list_failed(failure, "watch"))
            }
            (Ok(()), Some(_)) => {
                let detail = "the streaming list ended before it was complete";
                Err(self.list_failed(Failure::new(FailureReason::Connection, detail), "watch"))
            }
            (Err(Stop::Failed(failure)), None) => Err(self.explain(failure, "watch").into()),
            (ended, _) => ended,
        }
    }

    async fn read_lines(&mut self, stream: &mut Lines, listing: &mut Option<Listing>) -> Result<(), Stop> {
        let connected = Instant::now();
        self.connected = Some(connected);
        let mut steady = self.silent;
        loop {
            let line = tokio::select! {
                line = stream.next() => line.map_err(|failure| self.interrupted(failure))?,
                () = sleep_until(connected + AT_ONCE), if !steady => {
                    steady = true;
                    self.works();
                    continue;
                }
            };
            let Some(line) = line else { return Ok(()) };
            match decode::line(stream.get(line)) {
                Ok(line) => self.line(&line, listing).await?,
                Err(_) if stream.ended() => {
                    let detail = "the connection was cut in the middle of an event";
                    return Err(Failure::new(FailureReason::Connection, detail).into());
                }
                Err(place) => {
                    self.version = None;
                    let detail = format!("the watch can't be read: {place}");
                    return Err(Failure::new(FailureReason::Undecodable, detail).into());
                }
            }
            if listing.as_ref().is_some_and(|listing| Instant::now() > listing.until) {
                return Err(Failure::new(FailureReason::Timeout, "the streaming list does not end").into());
            }
        }
    }

    /// The stream broke: decides whether the version is still good.
    fn interrupted(&mut self, failure: Failure) -> Failure {
        match failure.reason {
            FailureReason::Timeout => {
                self.silent = true;
                self.silences = if self.lines == 0 { self.silences + 1 } else { 0 };
                if self.silences >= SILENCES {
                    (self.silences, self.version) = (0, None);
                }
            }
            // A line that is too long stays so; a list can do without it.
            FailureReason::Undecodable => self.version = None,
            _ => {}
        }
        failure
    }

    /// One line of a watch.
    async fn line(&mut self, line: &decode::Line<'_>, listing: &mut Option<Listing>) -> Result<(), Stop> {
        let Some(kind) = EventKind::parse(&line.kind) else {
            self.health.stats().count_failure(FailureReason::Other);
            debug!(target = %self.health.target(), "a watch event of an unknown type is left out");
            return Ok(());
        };
        self.health.saw(kind);
        if kind == EventKind::Error {
            self.version = None;
            return Err(Failure::of_status(&decode::status(line.object)).into());
        }
        (self.lines, self.silent) = (self.lines + 1, false);
        self.works();
        match kind {
            EventKind::Added => self.changed(line.object, listing, Update::Added).await,
            EventKind::Modified => self.changed(line.object, listing, Update::Modified).await,
            EventKind::Deleted => self.deleted(line.object, listing).await,
            EventKind::Bookmark | EventKind::Error => self.bookmark(line.object, listing).await,
        }
    }

    async fn changed(
        &mut self,
        raw: &RawValue,
        listing: &mut Option<Listing>,
        update: fn(T) -> Update<T>,
    ) -> Result<(), Stop> {
        if let Some(listing) = listing {
            listing.whole &= self.listed(raw).await?;
            return Ok(());
        }
        match decode::object::<T>(raw) {
            Ok(object) => {
                self.advance(&object.metadata().resource_version);
                self.send(update(object)).await
            }
            Err(unreadable) => {
                self.unreadable(&unreadable);
                self.advance(unreadable.version.as_deref().unwrap_or_default());
                Ok(())
            }
        }
    }

    async fn deleted(&mut self, raw: &RawValue, listing: &Option<Listing>) -> Result<(), Stop> {
        let (object, unreadable) = decode::gone::<T>(raw);
        let version = match (&object, &unreadable) {
            (Some(object), _) => object.metadata().resource_version.clone(),
            (None, unreadable) => unreadable.as_ref().and_then(|u| u.version.clone()).unwrap_or_default(),
        };
        if let Some(unreadable) = unreadable {
            self.unreadable(&unreadable);
        }
        if listing.is_none() {
            self.advance(&version);
        }
        match object {
            Some(object) => self.send(Update::Deleted(object)).await,
            None => Ok(()),
        }
    }

    async fn bookmark(&mut self, raw: &RawValue, listing: &mut Option<Listing>) -> Result<(), Stop> {
        let (version, ends) = decode::bookmark(raw);
        match listing {
            None => {
                self.advance(&version.unwrap_or_default());
                self.send(Update::Bookmark).await
            }
            Some(open) if ends => {
                let whole = open.whole;
                let version = version.ok_or_else(|| {
                    Failure::new(FailureReason::Undecodable, "the end of the streaming list names no version")
                })?;
                self.send(Update::ListDone { whole }).await?;
                self.list_succeeded(version);
                *listing = None;
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }

    fn advance(&mut self, version: &str) {
        if let (false, Some(current)) = (version.is_empty(), &mut self.version) {
            version.clone_into(current);
        }
    }

    async fn send(&mut self, update: Update<T>) -> Result<(), Stop> {
        self.updates.send(update).await.map_err(|_| Stop::ReceiverGone)
    }

    fn works(&self) {
        if self.health.works() {
            info!(resource = self.health.target().resource, "watching {} works again", self.health.target());
        }
    }

    fn unreadable(&mut self, object: &Unreadable) {
        self.health.stats().count_undecodable();
        self.unreadable = self.unreadable.saturating_add(1);
        if self.unreadable <= UNREADABLE_LOGGED {
            let uid: String = object.uid.as_deref().unwrap_or("unknown").chars().take(64).collect();
            let resource = self.health.target().resource;
            warn!(resource, %uid, place = %object.place, "an object can't be read and is left out");
        }
    }

    /// A refusal for want of a permission names the permission.
    fn explain(&self, mut failure: Failure, verb: &str) -> Failure {
        if failure.reason == FailureReason::Forbidden {
            let (target, resource) = (self.health.target(), self.health.target().resource);
            failure.detail = format!(
                "cannot {verb} {target}: grant verb {verb} on resource {resource} ({})",
                failure.detail
            );
        }
        failure
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

/// Whether the server does not know, or does not allow, streaming lists.
fn refuses_streaming(failure: &Failure) -> bool {
    matches!(failure.code, Some(400 | 404 | 405 | 406 | 415 | 422 | 501))
}

/// The server ends a watch after this time; spread, so that many watches do not end at once.
fn watch_seconds() -> u32 {
    fastrand::u32(240..=330)
}
