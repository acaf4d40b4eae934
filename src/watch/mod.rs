//! Lists and watches a resource of the API for any slim type: resumes where a connection was cut, lists again
//! where the server says so, and backs off from every fault.
//!
//! # What it asks of the API server
//!
//! 1. A streaming list (`sendInitialEvents=true`): objects come one by one, so neither side holds a list. A server
//!    that refuses it is asked for pages instead, from then on.
//! 2. From there a watch with bookmarks. Every line moves the version to resume from, so that a cut
//!    connection, even in the middle of a line, loses nothing and repeats nothing.
//! 3. A new list (what is newest, never what an old watch cache holds) only when the server can't resume: after
//!    410, after an ERROR inside the stream, or when the stream is not understood.
//!
//! # How often
//!
//! After a failure the next attempt waits from under 1 s, doubling to 30 s, less up to a quarter of jitter; longer where
//! the server asks for it with `Retry-After` (up to 5 minutes). Only a connection that stayed up for a minute
//! makes the waits short again. An attempt is at most two requests (a list, then a watch) besides the second and
//! later pages of a list. So one target asks for at most [`MAX_REQUESTS_IN_TEN_MINUTES`] in any ten
//! minutes, whatever the server does.
//!
//! # What is noticed
//!
//! No headers within 30 s, or 90 s of silence: `timeout`. A watch that ends at once with nothing said: `connection`.
//! An object that can't be read costs that object only; neither it nor what serde says of it is logged.

mod backoff;
mod client;
mod decode;
mod failure;
mod follow;
pub(crate) mod http;
mod list;
mod once;
mod stats;
mod stream;
mod target;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::pod::Object;

pub use client::{ConnectError, connect, connect_to};
pub use failure::{Failure, FailureReason};
pub use once::{Listed, list_once};
pub use stats::{EventKind, Health, Stats, UNREADY_AFTER_MS};
pub use target::Target;
pub(crate) use target::escape;

/// The most requests in any ten minutes for one target, besides the second and later pages of lists.
pub const MAX_REQUESTS_IN_TEN_MINUTES: usize = 100;

/// What a list or a watch showed, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update<T> {
    /// A list begins, or begins again: what an unfinished one showed still holds, but its absences prove nothing.
    ListBegins,
    /// An object of the running list. A streaming list may show an object again if it changes meanwhile.
    Listed(T),
    /// An object of the running list that can't be read: the one with this uid is still there.
    StillThere(String),
    /// The list is complete: what it did not show is gone.
    ListDone {
        /// False if an object of it could not even be told by its uid, so that absence proves nothing.
        whole: bool,
    },
    /// An object is new.
    Added(T),
    /// An object changed.
    Modified(T),
    /// An object is gone; its last state, or its metadata only if that can't be read. May come during a streaming list.
    Deleted(T),
    /// Nothing changed, and the watch works.
    Bookmark,
}

/// Lists and watches the target of `health` until the receiver of `updates` is gone, through every fault.
///
/// The channel's bound is the back-pressure: while it is full, nothing more is read from the API server.
pub async fn run<T: Object>(client: kube::Client, health: Arc<Health>, updates: mpsc::Sender<Update<T>>) {
    let gone = updates.clone();
    tokio::select! {
        () = gone.closed() => {}
        () = follow::Follower::new(client, health, updates).follow() => {}
    }
}
