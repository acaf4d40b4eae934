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
use super::turns::{Turn, Turns};
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
        let (compare, hash) = (self.compare, Arc::clone(&hash.text));
        // A task of its own: a client that goes away meanwhile ends its request, and pays all the same.
        let checked = tokio::spawn(check(move || compare(&password, &hash) && known, turn));
        match checked.await {
            Ok(Some(true)) => {
                self.right.put(mark, ());
                Ok(())
            }
            Ok(Some(false)) => Err(CHALLENGE),
            Ok(None) | Err(_) => Err(Refusal::Unavailable("the check failed".to_owned())),
        }
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

/// Compares, and after a wrong password keeps the turn. `None` if nothing could be compared.
async fn check(compare: impl FnOnce() -> bool + Send + 'static, turn: Turn) -> Option<bool> {
    let began = Instant::now();
    let right = tokio::task::spawn_blocking(compare).await.ok();
    if right != Some(true) {
        turn.keep(began.elapsed() * PAUSE);
    }
    right
}

fn user_and_password(encoded: &str) -> Option<(String, String)> {
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim_end()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use axum::http::header::AUTHORIZATION;

    use super::*;

    const HASH: &str = "$2y$04$zVHmKQtGGQob.b/Nc7l9NO8UlrYcW05FiuCj/SxsFO/ZtiN9.mNzy";

    fn users() -> BTreeMap<String, PasswordHash> {
        let hash = PasswordHash::parse(HASH).unwrap();
        ["alice", "bob"].map(|user| (user.to_owned(), hash.clone())).into()
    }

    fn headers(user: &str, password: &str) -> HeaderMap {
        let value = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
        [(AUTHORIZATION, value.parse().unwrap())].into_iter().collect()
    }

    fn client(number: u8) -> Client {
        Client(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)))
    }

    /// Passwords that are compared by equality, with a count of how often.
    fn counted(counter: &'static AtomicUsize, compare: Compare) -> (Arc<Basic>, &'static AtomicUsize) {
        (Arc::new(Basic::comparing(compare).unwrap()), counter)
    }

    #[tokio::test]
    async fn what_was_right_is_compared_once_and_what_was_wrong_each_time() {
        static COMPARED: AtomicUsize = AtomicUsize::new(0);
        let (basic, compared) = counted(&COMPARED, |password, _| {
            COMPARED.fetch_add(1, Ordering::Relaxed);
            password == "right"
        });
        let users = users();
        for (user, password, expected, times) in [
            ("alice", "right", Ok(()), 1),
            ("alice", "right", Ok(()), 1),
            ("bob", "right", Ok(()), 2),
            ("alice", "wrong", Err(CHALLENGE), 3),
            ("alice", "wrong", Err(CHALLENGE), 4),
            ("alice", "right", Ok(()), 4),
        ] {
            assert_eq!(basic.admit(&users, &headers(user, password), client(1)).await, expected);
            assert_eq!(compared.load(Ordering::Relaxed), times, "{user} {password}");
        }
    }

    #[tokio::test]
    async fn somebody_unknown_costs_a_comparison_and_is_never_let_in() {
        static COMPARED: AtomicUsize = AtomicUsize::new(0);
        let (basic, compared) = counted(&COMPARED, |_, hash| {
            assert_eq!(hash, HASH);
            COMPARED.fetch_add(1, Ordering::Relaxed);
            true
        });
        for user in ["carol", "", "alice\0", "Alice"] {
            let asked = basic.admit(&users(), &headers(user, "right"), client(1)).await;
            assert_eq!(asked, Err(CHALLENGE), "{user:?}");
        }
        assert_eq!(compared.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_takes_two_at_once_waits_in_a_short_queue_and_keeps_nobody_out_who_was_right() {
        static NOW: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let (basic, most) = counted(&MOST, |password, _| {
            MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            NOW.fetch_sub(1, Ordering::SeqCst);
            password == "right"
        });
        assert_eq!(basic.admit(&users(), &headers("alice", "right"), client(0)).await, Ok(()));
        let flood: Vec<_> = (0..400_usize)
            .map(|i| {
                let basic = Arc::clone(&basic);
                let from = client(u8::try_from(1 + i % 40).unwrap());
                tokio::spawn(async move {
                    basic.admit(&users(), &headers("alice", &format!("wrong{i}")), from).await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(basic.admit(&users(), &headers("alice", "right"), client(1)).await, Ok(()));
        let (mut wrong, mut busy) = (0, 0);
        for asked in flood {
            match asked.await.unwrap() {
                Err(Refusal::Busy) => busy += 1,
                refused => {
                    assert_eq!(refused, Err(CHALLENGE));
                    wrong += 1;
                }
            }
        }
        assert_eq!((wrong, busy), (WAITING.0, 400 - WAITING.0));
        assert!(most.load(Ordering::SeqCst) <= AT_ONCE);
        // Nothing is left behind: once the pauses are over, all turns are free again.
        tokio::time::sleep(Duration::from_secs(60)).await;
        for _ in 0..WAITING.0 {
            assert_eq!(basic.admit(&users(), &headers("bob", "right"), client(9)).await, Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_can_not_take_all_turns() {
        let basic = Arc::new(Basic::comparing(|_, _| false).unwrap());
        let flood: Vec<_> = (0..50)
            .map(|i| {
                let basic = Arc::clone(&basic);
                tokio::spawn(
                    async move { basic.admit(&users(), &headers("x", &i.to_string()), client(1)).await },
                )
            })
            .collect();
        tokio::task::yield_now().await;
        let other = basic.admit(&users(), &headers("bob", "wrong"), client(2)).await;
        assert_eq!(other, Err(CHALLENGE), "it has a turn of its own");
        let mut busy = 0;
        for asked in flood {
            busy += usize::from(asked.await.unwrap() == Err(Refusal::Busy));
        }
        assert_eq!(busy, 50 - WAITING.1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_before_the_answer_pays_for_a_wrong_password_all_the_same() {
        static BEGUN: AtomicUsize = AtomicUsize::new(0);
        static GONE: AtomicBool = AtomicBool::new(false);
        let (basic, begun) = counted(&BEGUN, |password, _| {
            BEGUN.fetch_add(1, Ordering::SeqCst);
            while password != "right" && !GONE.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            password == "right"
        });
        let wrong: Vec<_> = (0..AT_ONCE)
            .map(|i| {
                let basic = Arc::clone(&basic);
                let headers = headers("alice", &format!("wrong{i}"));
                tokio::spawn(async move { basic.admit(&users(), &headers, client(1)).await })
            })
            .collect();
        while begun.load(Ordering::SeqCst) < AT_ONCE {
            tokio::task::yield_now().await;
        }
        let took = Duration::from_secs(1);
        tokio::time::advance(took).await;
        for request in wrong {
            request.abort();
            assert!(request.await.unwrap_err().is_cancelled());
        }
        GONE.store(true, Ordering::SeqCst);
        let next = Instant::now();
        assert_eq!(basic.admit(&users(), &headers("alice", "right"), client(2)).await, Ok(()));
        assert!(next.elapsed() >= took * PAUSE, "{:?}", next.elapsed());
    }

    #[test]
    fn bcrypt_itself_is_asked() {
        let hash = PasswordHash::parse(&bcrypt::hash("right", 4).unwrap()).unwrap();
        let basic = Basic::new().unwrap();
        let compare = |password: &str| (basic.compare)(password, &hash.text);
        let long = "x".repeat(10_000);
        assert_eq!(["right", "wrong", "", "right\0", &long].map(compare), [true, false, false, false, false]);
        assert_eq!(format!("{hash:?}"), "PasswordHash");
    }
}
