//! One list and no watch, page by page: for whoever asks once.

use std::time::Duration;

use kube::Client;

use super::decode;
use super::list::{MOST_PAGES, fetch_page};
use super::{Failure, FailureReason, Target};
use crate::pod::Object;

/// Objects on a page, as kubectl asks for them: with pods of 12 KB a page is 6 MB, and one is held at a time.
const PAGE: u32 = 500;
/// How often one page is asked for again where the server is busy, and how often a list begins again.
const AGAIN: u32 = 3;
/// The longest wait before asking again.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What a list held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Objects that could be read; more than there are if the list had to begin again.
    pub objects: u64,
    /// Objects that could not.
    pub unreadable: u64,
    /// False if the list was given up at its bound.
    pub whole: bool,
}

/// Lists a target once, at most `pages` pages of it, and hands over each object as it comes. A list that the server can't
/// go on with begins again, so an object may come twice.
///
/// # Errors
///
/// If a page can't be had: the server is asked again only where it is busy or asks for it.
pub async fn list_once<T: Object>(
    client: &Client,
    target: &Target,
    pages: u32,
    mut each: impl FnMut(T),
) -> Result<Listed, Failure> {
    let (mut listed, mut next, mut body) = (Listed::default(), None::<String>, Vec::new());
    let (mut size, mut begun) = (PAGE, 1);
    for _ in 0..pages.min(MOST_PAGES) {
        match patiently(client, target, &mut size, next.as_deref(), &mut body).await {
            Ok(()) => {}
            Err(failure) if failure.reason == FailureReason::Expired && next.is_some() && begun < AGAIN => {
                (next, begun) = (None, begun + 1);
                continue;
            }
            Err(failure) => return Err(failure.naming_permission(target, "list")),
        }
        let page = decode::page(&body).map_err(|place| {
            Failure::new(FailureReason::Undecodable, format!("the list can't be read: {place}"))
        })?;
        for item in page.items {
            match decode::object(item) {
                Ok(object) => {
                    listed.objects += 1;
                    each(object);
                }
                Err(_) => listed.unreadable += 1,
            }
        }
        next = page.next;
        if next.is_none() {
            return Ok(Listed { whole: true, ..listed });
        }
    }
    Ok(listed)
}

/// A page, asked for again where the server is busy.
async fn patiently(
    client: &Client,
    target: &Target,
    size: &mut u32,
    next: Option<&str>,
    body: &mut Vec<u8>,
) -> Result<(), Failure> {
    let mut wait = Duration::from_secs(1);
    for _ in 0..AGAIN {
        match fetch_page(client, target, size, next, body).await {
            Err(failure)
                if matches!(failure.reason, FailureReason::Throttled | FailureReason::ServerError) =>
            {
                tokio::time::sleep(failure.retry_after.unwrap_or(wait).min(LONGEST_WAIT)).await;
                wait *= 2;
            }
            done => return done,
        }
    }
    fetch_page(client, target, size, next, body).await
}
