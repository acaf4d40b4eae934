//! Who may read: passwords of the web configuration, or bearer tokens that the cluster knows.
//!
//! It covers every path, also those that are not there, but the health checks: a kubelet has no password.

pub(super) mod basic;
mod cache;
pub(super) mod kubernetes;
mod turns;

use std::net::IpAddr;

use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;

use super::line;

/// The health checks, exactly as they are routed.
const OPEN: [&str; 4] = ["/livez", "/readyz", "/-/healthy", "/-/ready"];

/// Whether anybody may ask for this path.
pub(super) fn is_open(path: &str) -> bool {
    OPEN.contains(&path)
}

/// The address that a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client(pub(super) IpAddr);

impl Client {
    /// All whose address is not known are one client.
    pub(super) const UNKNOWN: Self = Self(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED));
}

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No credentials, or wrong ones: what to show instead.
    Unauthorized(&'static str),
    /// Known, but not allowed to.
    Forbidden(String),
    /// Too many are asking; it may be well to ask again.
    Busy,
    /// Whom to ask is not there, and why.
    Unavailable(String),
}

impl Refusal {
    /// The answer.
    pub(super) fn answer(&self) -> Response {
        match self {
            Self::Unauthorized(challenge) => {
                let mut response = line(StatusCode::UNAUTHORIZED, "unauthorized");
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
                response
            }
            Self::Forbidden(why) => line(StatusCode::FORBIDDEN, why),
            Self::Busy => {
                later(line(StatusCode::TOO_MANY_REQUESTS, "too many are asking who they are, try again"))
            }
            Self::Unavailable(why) => later(line(StatusCode::SERVICE_UNAVAILABLE, why)),
        }
    }
}

fn later(mut response: Response) -> Response {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The credentials of a scheme, from the only Authorization header.
fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return None };
    let (found, credentials) = value.to_str().ok()?.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then(|| credentials.trim_start_matches(' '))
}
