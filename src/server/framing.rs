//! Requests that two servers in a row could read differently: request smuggling lives from that difference.
//!
//! No request here needs a body, so one that brings any is answered and its connection closed: nobody finds a second
//! request in it. The rest of RFC 9112 (both lengths, bad chunks, folded lines, a space before the colon) is hyper's.

use axum::http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode, Version};
use axum::response::Response;

use super::line;

/// What to do after the head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Answer, and wait for the next request.
    Plain,
    /// Answer, and close: there is a body.
    Last,
    /// Refuse, and close: it is not clear which host is meant (RFC 9112, 3.2).
    Unclear,
}

impl Framing {
    /// How a request is framed.
    pub(super) fn of(version: Version, headers: &HeaderMap) -> Self {
        let hosts = headers.get_all(HOST).iter().count();
        if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
            return Self::Unclear;
        }
        let empty = headers.get_all(CONTENT_LENGTH).iter().all(|length| length == "0");
        if empty && !headers.contains_key(TRANSFER_ENCODING) { Self::Plain } else { Self::Last }
    }
}

/// The answer to an unclear request.
pub(super) fn refuse() -> Response {
    line(StatusCode::BAD_REQUEST, "exactly one Host header is needed")
}
