//! What a web configuration says: every key of the exporter-toolkit's format is honoured or refused by its name.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};

use super::tls::TlsSettings;
use super::yaml::{self, Section};
use crate::duration::PromDuration;
use crate::server::auth::basic::PasswordHash;

/// The headers that the format allows, with their only values where they have such.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];
/// The most users: each has a hash to be checked at every reload.
const MOST_USERS: usize = 1000;
/// The most costly hash: seconds each. The time doubles with each step.
const MOST_COSTLY: u32 = 16;

/// How often it may be asked: a bucket of `burst` requests that gets one every `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct RateLimit {
    pub(in crate::server) interval: Duration,
    pub(in crate::server) burst: u32,
}

/// The file.
pub(super) struct Settings {
    pub(super) tls: Option<TlsSettings>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) users: BTreeMap<String, PasswordHash>,
    pub(super) rate_limit: Option<RateLimit>,
}

impl Settings {
    /// Reads the text of the file. The error names the key.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let values = yaml::parse(text)?;
        let top = Section::top(&values);
        top.only(&["tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"])?;
        let tls = top.section("tls_server_config", "tls_server_config.")?;
        Ok(Self {
            tls: tls.map(|section| TlsSettings::parse(&section)).transpose()?.flatten(),
            headers: headers(&top)?,
            users: users(&top)?,
            rate_limit: rate_limit(&top)?,
        })
    }
}

fn headers(top: &Section<'_>) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let Some(http) = top.section("http_server_config", "http_server_config.")? else { return Ok(Vec::new()) };
    http.only(&["http2", "headers"])?;
    // Either way it is HTTP/1.1 that is spoken: a client that can speak HTTP/2 learns so in the handshake.
    http.flag("http2")?;
    let Some(headers) = http.section("headers", "http_server_config.headers.")? else {
        return Ok(Vec::new());
    };
    headers.only(&HEADERS.map(|(name, _)| name))?;
    let mut found = Vec::new();
    for (name, allowed) in HEADERS {
        let Some(value) = headers.text(name)? else { continue };
        if !allowed.is_empty() && !allowed.contains(&value) {
            return Err(headers.wrong(name, &format!("'{value}' is not {}", allowed.join(" or "))));
        }
        let value =
            HeaderValue::from_str(value).map_err(|_| headers.wrong(name, "it can't be sent in a header"))?;
        let name = HeaderName::try_from(name).map_err(|_| headers.wrong(name, "it is no header"))?;
        found.push((name, value));
    }
    Ok(found)
}

fn users(top: &Section<'_>) -> Result<BTreeMap<String, PasswordHash>, String> {
    let mut users = BTreeMap::new();
    for (user, hash) in top.map("basic_auth_users")?.into_iter().flatten() {
        let wrong = |problem: &str| format!("basic_auth_users.{user}: {problem}");
        if user.contains(':') {
            return Err(wrong("a user's name can't hold a colon"));
        }
        let hash = hash.as_str().and_then(PasswordHash::parse);
        let hash = hash.ok_or_else(|| {
            wrong("it is no bcrypt hash, like what `htpasswd -nBC 10 USER` prints after the colon")
        })?;
        if hash.cost() > MOST_COSTLY {
            let cost = hash.cost();
            return Err(wrong(&format!(
                "a cost of {cost} takes too long; at most {MOST_COSTLY}, and 10 is usual"
            )));
        }
        users.insert(user.clone(), hash);
    }
    if users.len() > MOST_USERS {
        return Err(format!("basic_auth_users: there are more than {MOST_USERS}"));
    }
    Ok(users)
}

fn rate_limit(top: &Section<'_>) -> Result<Option<RateLimit>, String> {
    let Some(limit) = top.section("rate_limit", "rate_limit.")? else { return Ok(None) };
    limit.only(&["interval", "burst"])?;
    let burst = limit.number("burst")?.unwrap_or(0);
    let interval = match limit.number("interval") {
        Ok(Some(0)) | Ok(None) => return Ok(None),
        Ok(Some(_)) => return Err(limit.wrong("interval", "it is not a duration like 1s")),
        Err(_) => limit.text("interval")?.unwrap_or("0"),
    };
    let PromDuration(interval) =
        interval.parse().map_err(|error| limit.wrong("interval", &format!("it is {error}")))?;
    if interval.is_zero() {
        return Ok(None);
    }
    match u32::try_from(burst) {
        Ok(burst) if burst > 0 => Ok(Some(RateLimit { interval, burst })),
        _ => Err(limit.wrong("burst", "it must be at least 1, or nothing would ever be answered")),
    }
}
