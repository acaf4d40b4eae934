//! Streams: every line of a watch, of which the first ones may show a list.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::decode;
use super::follow::{AT_ONCE, Follower, Stop, Streaming};
use super::http::Lines;
use super::{EventKind, Failure, FailureReason, Update};
use crate::pod::Object;

/// How long the objects of a streaming list may take.
const STREAMING_LIST_WITHIN: Duration = Duration::from_secs(600);
/// After so many silent connections in a row the version is given up: it may be of another history of the cluster.
const SILENCES: u8 = 2;

/// What is open for a stream that shows a list.
#[derive(Debug)]
pub(super) struct Listing {
    /// No object so far that proves a hole.
    whole: bool,
    until: Instant,
}

impl Listing {
    pub(super) fn begin() -> Self {
        Self { whole: true, until: Instant::now() + STREAMING_LIST_WITHIN }
    }
}

impl<T: Object> Follower<T> {
    /// Reads a stream to its end. `listing` is there while the stream shows a list.
    pub(super) async fn read(&mut self, mut stream: Lines, mut listing: Option<Listing>) -> Result<(), Stop> {
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
            let text = stream.get(line);
            match decode::whole_line(text) {
                Some((kind, object)) => {
                    self.alive(kind);
                    self.show(kind, object, listing.is_some()).await?;
                }
                None => self.line(text, stream.ended(), listing).await?,
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

    /// A line that is no readable object: a bookmark, an error, or worse. `last` if it had no line end.
    async fn line(&mut self, text: &[u8], last: bool, listing: &mut Option<Listing>) -> Result<(), Stop> {
        let line = decode::line(text).map_err(|place| {
            if last {
                let detail = "the connection was cut in the middle of an event";
                return Failure::new(FailureReason::Connection, detail);
            }
            self.version = None;
            Failure::new(FailureReason::Undecodable, format!("the watch can't be read: {place}"))
        })?;
        let Some(kind) = EventKind::parse(&line.kind) else {
            self.health.stats().count_failure(FailureReason::Other);
            debug!(target = %self.health.target(), "a watch event of an unknown type is left out");
            return Ok(());
        };
        self.alive(kind);
        match kind {
            EventKind::Added | EventKind::Modified => self.changed(kind, line.object, listing).await,
            EventKind::Deleted => self.deleted(line.object, listing.is_some()).await,
            EventKind::Bookmark => self.bookmark(line.object, listing).await,
            EventKind::Error => {
                self.version = None;
                Err(Failure::of_status(&decode::status(line.object)).into())
            }
        }
    }

    /// A line came in; anything but an error is a sign of life.
    fn alive(&mut self, kind: EventKind) {
        self.health.saw(kind);
        if kind != EventKind::Error {
            (self.lines, self.silent) = (self.lines + 1, false);
            self.works();
        }
    }

    /// Passes on an object that could be read.
    async fn show(&mut self, kind: EventKind, object: T, listing: bool) -> Result<(), Stop> {
        self.advance(&object.metadata().resource_version);
        self.send(match kind {
            EventKind::Deleted => Update::Deleted(object),
            _ if listing => Update::Listed(object),
            EventKind::Added => Update::Added(object),
            EventKind::Modified | EventKind::Bookmark | EventKind::Error => Update::Modified(object),
        })
        .await
    }

    async fn changed(
        &mut self,
        kind: EventKind,
        raw: &RawValue,
        listing: &mut Option<Listing>,
    ) -> Result<(), Stop> {
        if let Some(listing) = listing {
            listing.whole &= self.listed(raw).await?;
            return Ok(());
        }
        match decode::object::<T>(raw) {
            Ok(object) => self.show(kind, object, false).await,
            Err(unreadable) => {
                self.unreadable(&unreadable);
                self.advance(unreadable.version.as_deref().unwrap_or_default());
                Ok(())
            }
        }
    }

    async fn deleted(&mut self, raw: &RawValue, listing: bool) -> Result<(), Stop> {
        let (object, unreadable) = decode::gone::<T>(raw);
        if let Some(unreadable) = unreadable {
            self.unreadable(&unreadable);
            self.advance(unreadable.version.as_deref().unwrap_or_default());
        }
        match object {
            Some(object) => self.show(EventKind::Deleted, object, listing).await,
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

    /// Resumes after this version, unless a list is still needed.
    fn advance(&mut self, version: &str) {
        if let (false, Some(current)) = (version.is_empty(), &mut self.version) {
            version.clone_into(current);
        }
    }
}
