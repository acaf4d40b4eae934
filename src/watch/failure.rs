//! What can go wrong between us and the API server, in the closed set of words that the metrics use, and in a
//! sentence that an operator can act on. No sentence holds anything of an object.

use std::error::Error;
use std::fmt;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::Target;

/// Why a list or a watch failed: the `reason` label of `exitcode_exporter_watch_failures_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureReason {
    /// 410: the resource version or the continue token is too old.
    Expired,
    /// 403.
    Forbidden,
    /// 401, or no credentials to present.
    Unauthorized,
    /// 429.
    Throttled,
    /// Any 5xx.
    ServerError,
    /// Not reached, cut, or closed at once with nothing said.
    Connection,
    /// No answer within 30 s, or silence for 90 s.
    Timeout,
    /// An answer that is not what was asked for.
    Undecodable,
    /// Anything else.
    Other,
}

impl FailureReason {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 9] = [
        Self::Expired,
        Self::Forbidden,
        Self::Unauthorized,
        Self::Throttled,
        Self::ServerError,
        Self::Connection,
        Self::Timeout,
        Self::Undecodable,
        Self::Other,
    ];

    /// The word, as labels and logs show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Forbidden => "forbidden",
            Self::Unauthorized => "unauthorized",
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Undecodable => "undecodable",
            Self::Other => "other",
        }
    }

    /// The reason of an HTTP status, or of the `code` of a Status object.
    #[must_use]
    pub const fn of_code(code: u16) -> Self {
        match code {
            410 => Self::Expired,
            403 => Self::Forbidden,
            401 => Self::Unauthorized,
            429 => Self::Throttled,
            500..=599 => Self::ServerError,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request, or the stream that answered it, failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Failure {
    /// In one word.
    pub reason: FailureReason,
    /// In a sentence.
    pub detail: String,
    /// The HTTP status, if there was an answer.
    pub code: Option<u16>,
    /// How long the server asked us to wait.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure without an answer.
    pub(crate) fn new(reason: FailureReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), code: None, retry_after: None }
    }

    /// From an answer other than success.
    pub(crate) fn of_answer(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let said = serde_json::from_slice::<Status>(body).unwrap_or_default();
        let detail = match said.message.as_deref().map(plain) {
            Some(message) if !message.is_empty() => format!("the API server answered {status}: {message}"),
            _ => format!("the API server answered {status}"),
        };
        Self {
            reason: FailureReason::of_code(status.as_u16()),
            detail,
            code: Some(status.as_u16()),
            retry_after: headers.get(header::RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?)),
        }
    }

    /// From an ERROR event inside a watch. Its message may quote an object, so only its reason is told.
    pub(crate) fn of_status(status: &Status) -> Self {
        let code = status.code.and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
        let word = status.reason.as_deref().map(plain).filter(|word| !word.is_empty());
        let word = word.as_deref().unwrap_or("no reason given");
        Self {
            reason: FailureReason::of_code(code),
            detail: format!("the API server ended the watch with error {code} ({word})"),
            code: Some(code),
            retry_after: status.details.as_ref().and_then(|d| d.retry_after_seconds).map(Duration::from_secs),
        }
    }

    /// A refusal for want of a permission names the permission.
    pub(super) fn naming_permission(mut self, target: &Target, verb: &str) -> Self {
        if self.reason == FailureReason::Forbidden {
            let resource = target.resource;
            self.detail =
                format!("cannot {verb} {target}: grant verb {verb} on resource {resource} ({})", self.detail);
        }
        self
    }

    /// From a request that got no answer.
    pub(crate) fn of_client(error: &kube::Error) -> Self {
        match auth_error(error) {
            Some(words) => Self::new(FailureReason::Unauthorized, words),
            None => Self::new(
                FailureReason::Connection,
                format!("no connection to the API server: {}", words(error)),
            ),
        }
    }
}

/// An error of the client without the names of its layers.
pub(super) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Service(inner) => chain(inner.as_ref()),
        error => chain(error),
    }
}

/// The parts of a Status object that are read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) code: Option<i64>,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) details: Option<StatusDetails>,
}

/// `details` of a Status object.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct StatusDetails {
    pub(crate) retry_after_seconds: Option<u64>,
}

/// Text from a server as one short printable line.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect::<String>().trim().to_owned()
}

/// `Retry-After`: seconds, or a date of the server's clock compared with ours (RFC 9110, 10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(value).ok()?;
    SystemTime::from(at).duration_since(SystemTime::now()).ok()
}

/// Failed credentials, without what a credential command printed: it may be the token.
fn auth_error(error: &kube::Error) -> Option<String> {
    use kube::client::AuthError;
    let auth = match error {
        kube::Error::Auth(auth) => auth,
        kube::Error::Service(inner) => inner.downcast_ref::<AuthError>()?,
        _ => return None,
    };
    Some(auth_words(auth))
}

/// What is wrong with the credentials, without anything that may be one.
pub(super) fn auth_words(error: &kube::client::AuthError) -> String {
    use kube::client::AuthError;
    match error {
        // Its arguments and environment may hold a secret too.
        AuthError::AuthExecRun { out, .. } => format!("the credential command failed: {}", out.status),
        AuthError::AuthExecStart(error) => format!("the credential command can't be run: {error}"),
        AuthError::AuthExecParse(_) => "what the credential command printed can't be read".to_owned(),
        AuthError::ReadTokenFile(error, path) => {
            format!("the token file {} can't be read: {error}", path.display())
        }
        AuthError::InvalidBearerToken(_) => "the token can't be sent in a header".to_owned(),
        _ => "the credentials can't be prepared".to_owned(),
    }
}

/// An error and its sources as one line; a source that the error already tells is left out.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = error.source();
    }
    plain(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        assert_eq!(retry_after("17"), Some(Duration::from_secs(17)));
        assert_eq!(retry_after(" 0 "), Some(Duration::ZERO));
        assert_eq!(retry_after("-1"), None);
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), None, "the past asks for nothing");
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(7_258_118_400);
        let until = || at.duration_since(SystemTime::now()).unwrap();
        let longest = until();
        let wait = retry_after("Wed, 01 Jan 2200 00:00:00 GMT").unwrap();
        assert!((until()..=longest).contains(&wait), "{wait:?}");
    }

    #[test]
    fn an_in_stream_error_never_tells_its_message() {
        let status = Status {
            code: Some(500),
            reason: Some("InternalError".to_owned()),
            message: Some("unable to decode \"PASSWORD=hunter2\"".to_owned()),
            details: None,
        };
        assert_eq!(
            Failure::of_status(&status).to_string(),
            "server_error: the API server ended the watch with error 500 (InternalError)"
        );
    }

    #[test]
    fn an_answer_tells_its_status_message_but_no_page_of_a_proxy() {
        let status = br#"{"kind":"Status","code":429,"message":"too many\nrequests"}"#;
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("3"));
        let failure = Failure::of_answer(StatusCode::TOO_MANY_REQUESTS, &headers, status);
        let text = "throttled: the API server answered 429 Too Many Requests: too many requests";
        assert_eq!(failure.to_string(), text);
        assert_eq!(failure.retry_after, Some(Duration::from_secs(3)));
        let page = Failure::of_answer(StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"<html>secret</html>");
        assert_eq!(page.to_string(), "server_error: the API server answered 502 Bad Gateway");
    }

    #[test]
    fn every_reason_has_its_own_word() {
        let words: std::collections::BTreeSet<_> = FailureReason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(words.len(), FailureReason::ALL.len());
    }
}
