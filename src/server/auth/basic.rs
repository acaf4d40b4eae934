//! Basic authentication with bcrypt.
//!
//! A hash takes a twentieth of a second or more, by design. So what was right is remembered, and a flood of wrong
//! passwords gets only so much of the processor: two hashes at once, and after a wrong one a pause three times as long
//! before the next. Nobody waits for a flood who was right before.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axum::http::HeaderMap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::time::Instant;

use super::cache::{Cache, Mark, Marker};
use super::turns::Turns;
use super::{Client, Refusal, credentials};

/// Hashes at once.
const AT_ONCE: usize = 2;
/// Hashes at once or waiting, in all and of one client.
const WAITING: (usize, usize) = (16, 4);
/// Right passwords that are remembered.
const REMEMBERED: usize = 128;
/// How many times as long as a wrong hash took its turn is kept.
const PAUSE: u32 = 3;
/// What a client is asked for.
const CHALLENGE: Refusal = Refusal::Unauthorized("Basic realm=\"exitcode-exporter\", charset=\"UTF-8\"");

/// A bcrypt hash.
#[derive(Clone)]
pub(in crate::server) struct PasswordHash {
    text: Arc<str>,
    cost: u32,
}

impl PasswordHash {
    /// Of the text as htpasswd writes it; `None` if it is none.
    pub(in crate::server) fn parse(text: &str) -> Option<Self> {
        let parts = text.parse::<bcrypt::HashParts>().ok()?;
        Some(Self { text: text.into(), cost: parts.get_cost() })
    }

    /// The binary logarithm of how often it was hashed.
    pub(in crate::server) const fn cost(&self) -> u32 {
        self.cost
    }
}

impl fmt::Debug for PasswordHash {
    /// Without the hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

/// Compares a password with a hash.
type Compare = fn(&str, &str) -> bool;

/// Checks passwords.
pub(in crate::server) struct Basic {
    marker: Marker,
    right: Cache<Mark, ()>,
    turns: Turns,
    compare: Compare,
}

impl Basic {
    /// With nothing remembered; `None` where the system has no randomness.
    pub(in crate::server) fn new() -> Option<Self> {
        Self::comparing(|password, hash| bcrypt::verify(password, hash).unwrap_or(false))
    }

    fn comparing(compare: Compare) -> Option<Self> {
        let turns = Turns::new(AT_ONCE, WAITING.0, WAITING.1);
        Some(Self { marker: Marker::new()?, right: Cache::new(REMEMBERED), turns, compare })
    }

    /// Whether a request names one of these users with the right password.
    pub(in crate::server) async fn admit(
        &self,
        users: &BTreeMap<String, PasswordHash>,
        headers: &HeaderMap,
        client: Client,
    ) -> Result<(), Refusal> {
        let (user, password) = credentials(headers, "Basic").and_then(user_and_password).ok_or(CHALLENGE)?;
        let (known, hash) = self.hash(users, &user).ok_or(CHALLENGE)?;
        // The hash is part of the mark: a new password holds from the moment that it is read.
        let mark = self.marker.mark(&[user.as_bytes(), hash.text.as_bytes(), password.as_bytes()]);
        if known && self.right.get(&mark).is_some() {
            return Ok(());
        }
        let turn = self.turns.take(client).await.ok_or(Refusal::Busy)?;
        // Another request with the same password may have been first.
        if known && self.right.get(&mark).is_some() {
            return Ok(());
        }
        let (compare, hash, began) = (self.compare, Arc::clone(&hash.text), Instant::now());
        let compared = tokio::task::spawn_blocking(move || {
            let right = compare(&password, &hash);
            // Moved in, so that a client that goes away does not make room for another.
            (right, turn)
        });
        let (right, turn) =
            compared.await.map_err(|_| Refusal::Unavailable("the check failed".to_owned()))?;
        if known && right {
            self.right.put(mark, ());
            return Ok(());
        }
        turn.keep(began.elapsed() * PAUSE);
        Err(CHALLENGE)
    }

    /// The hash to compare with, and whether it is the user's. Somebody unknown is compared with the hash of somebody
    /// known, always the same, so that time tells nobody who exists.
    fn hash<'a>(
        &self,
        users: &'a BTreeMap<String, PasswordHash>,
        user: &str,
    ) -> Option<(bool, &'a PasswordHash)> {
        if let Some(hash) = users.get(user) {
            return Some((true, hash));
        }
        let mark = self.marker.mark(&[user.as_bytes()]);
        let any = mark.iter().fold(0_usize, |number, byte| (number << 1) ^ usize::from(*byte));
        users.values().nth(any % users.len().max(1)).map(|hash| (false, hash))
    }
}

fn user_and_password(encoded: &str) -> Option<(String, String)> {
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim_end()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
