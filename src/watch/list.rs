//! Lists: as a stream where the server can, else page by page. What is held at any moment is one object or one page.

use std::time::Duration;

use kube::Client;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::debug;

use super::decode;
use super::follow::{Follower, JSON, Stop, Streaming, watch_seconds};
use super::http::{self, ANSWER_WITHIN, BodyError, Lines};
use super::{Failure, FailureReason, Target, Update};
use crate::pod::Object;

/// Objects on a page: with pods of 12 KB a page is 3 MB.
pub(super) const PAGE: u32 = 250;
/// The largest page that is held. A larger one is asked for again in smaller pieces.
const LARGEST_PAGE: usize = 64 << 20;
/// No list has more pages: one that does never ends.
pub(super) const MOST_PAGES: u32 = 20_000;
/// How long one page may take.
const PAGE_WITHIN: Duration = Duration::from_secs(120);

impl<T: Object> Follower<T> {
    /// Begins a streaming list and returns its stream, or makes a paged list and returns nothing.
    pub(super) async fn list(&mut self) -> Result<Option<Lines>, Stop> {
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

    pub(super) fn list_failed(&mut self, failure: Failure, verb: &str) -> Stop {
        self.health.list_failed();
        // Who is not let in or too early learns nothing about streams.
        let unrelated = matches!(failure.code, Some(401 | 429));
        if self.streaming == Streaming::Try && !unrelated {
            self.streaming = Streaming::NotNext;
        }
        self.explain(failure, verb).into()
    }

    pub(super) fn list_succeeded(&mut self, version: String) {
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
            let target = self.health.target();
            fetch_page(&self.client, target, &mut self.page, next.as_deref(), &mut body).await?;
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

    /// Passes on an object of a list. False if it proves that the list has a hole.
    pub(super) async fn listed(&mut self, item: &RawValue) -> Result<bool, Stop> {
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
}

/// Gets a page of at most `size` objects, in smaller pieces from then on if it is too large.
pub(super) async fn fetch_page(
    client: &Client,
    target: &Target,
    size: &mut u32,
    next: Option<&str>,
    body: &mut Vec<u8>,
) -> Result<(), Failure> {
    loop {
        let url = target.page(*size, next);
        let deadline = Instant::now() + PAGE_WITHIN;
        let response = http::get(client, &url, JSON, ANSWER_WITHIN).await?;
        match http::collect(response.into_body(), body, LARGEST_PAGE, deadline).await {
            Ok(()) => return Ok(()),
            Err(BodyError::Failed(failure)) => return Err(failure),
            Err(BodyError::TooLarge) if *size > 1 => *size = (*size / 4).max(1),
            Err(BodyError::TooLarge) => {
                let detail = format!("a single object is larger than {} MiB", LARGEST_PAGE >> 20);
                return Err(Failure::new(FailureReason::Undecodable, detail));
            }
        }
    }
}

/// Whether the server does not know, or does not allow, streaming lists.
fn refuses_streaming(failure: &Failure) -> bool {
    matches!(failure.code, Some(400 | 404 | 405 | 406 | 415 | 422 | 501))
}
