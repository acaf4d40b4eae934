//! `--auth kubernetes`: bearer tokens, checked by the API server.
//!
//! A TokenReview tells whose token it is, and a SubjectAccessReview whether they may `get` the nonResourceURL `/metrics`,
//! as with kube-rbac-proxy. What was found out holds for a minute, a refusal for ten seconds. A flood of wrong tokens
//! is four reviews a second of each client and 64 in all, and stands behind those whose token was right before.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, Request};
use kube::client::Body;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::cache::{Cache, Mark, Marker};
use super::turns::{Turn, Turns};
use super::{Client, Refusal, credentials};
use crate::text::{clean, cut};
use crate::watch::http::{self, BodyError};
use crate::watch::{Failure, FailureReason};

/// How long somebody may read without being asked about again.
const ALLOWED_FOR: Duration = Duration::from_secs(60);
/// How long a refusal holds: not longer than an operator waits who has just granted a right.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How long somebody who was allowed is renewed ahead of those who were not.
const KNOWN_FOR: Duration = Duration::from_secs(600);
/// What is remembered of those who are allowed, and of those who are not.
const REMEMBERED: (usize, usize) = (256, 1024);
/// Reviews at once; at once or waiting, in all and of one client.
const STRANGERS: (usize, usize, usize) = (4, 64, 4);
/// The same for those who were allowed before.
const KNOWN: (usize, usize, usize) = (4, 64, 16);
/// How long a refused client has a turn less.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a review may take.
const WITHIN: Duration = Duration::from_secs(4);
/// The largest answer that is read: a user may have many groups.
const LARGEST: usize = 1 << 20;

const CHALLENGE: Refusal = Refusal::Unauthorized("Bearer realm=\"exitcode-exporter\"");
const BAD_TOKEN: Refusal =
    Refusal::Unauthorized("Bearer realm=\"exitcode-exporter\", error=\"invalid_token\"");

/// The nonResourceURL that opens every path. Not each path its own: the role system:discovery, which every cluster gives to
/// all who are authenticated, holds `/api/*`.
const RIGHT: &str = "/metrics";

/// Asks the API server who may read.
pub(in crate::server) struct Reviewer {
    client: kube::Client,
    marker: Marker,
    allowed: Cache<Mark, Instant>,
    refused: Cache<Mark, (Instant, Refusal)>,
    strangers: Turns,
    known: Turns,
    /// Why the API server could not be asked the last time.
    problem: Mutex<Option<String>>,
}

/// Who a token belongs to, as the API server tells it and wants to hear it.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct User {
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    groups: Option<Vec<String>>,
    extra: Option<BTreeMap<String, Vec<String>>>,
}

/// TokenReview, as much of it as is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenReview {
    status: TokenStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenStatus {
    authenticated: bool,
    user: User,
}

/// SubjectAccessReview, as much of it as is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AccessReview {
    status: AccessStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AccessStatus {
    allowed: bool,
}

impl Reviewer {
    /// With nothing remembered; `None` where the system has no randomness.
    pub(in crate::server) fn new(client: kube::Client) -> Option<Self> {
        Some(Self {
            client,
            marker: Marker::new()?,
            allowed: Cache::new(REMEMBERED.0),
            refused: Cache::new(REMEMBERED.1),
            strangers: Turns::new(STRANGERS.0, STRANGERS.1, STRANGERS.2),
            known: Turns::new(KNOWN.0, KNOWN.1, KNOWN.2),
            problem: Mutex::default(),
        })
    }

    /// Whether a request carries the token of somebody who may read.
    pub(in crate::server) async fn admit(&self, headers: &HeaderMap, client: Client) -> Result<(), Refusal> {
        let token = credentials(headers, "Bearer").filter(|token| !token.is_empty()).ok_or(CHALLENGE)?;
        let key = self.marker.mark(&[token.as_bytes()]);
        if let Some(remembered) = self.remembered(&key) {
            return remembered;
        }
        let known = self.allowed.get(&key).is_some_and(|at| at.elapsed() < KNOWN_FOR);
        let turns = if known { &self.known } else { &self.strangers };
        let turn = turns.take(client).await.ok_or(Refusal::Busy)?;
        // Another request with the same token may have been first.
        if let Some(remembered) = self.remembered(&key) {
            return remembered;
        }
        self.review(token, key, turn).await
    }

    fn remembered(&self, key: &Mark) -> Option<Result<(), Refusal>> {
        if self.allowed.get(key).is_some_and(|at| at.elapsed() < ALLOWED_FOR) {
            return Some(Ok(()));
        }
        let (at, refusal) = self.refused.get(key)?;
        (at.elapsed() < REFUSED_FOR).then_some(Err(refusal))
    }

    async fn review(&self, token: &str, key: Mark, turn: Turn) -> Result<(), Refusal> {
        let charged = Charged(Some(turn));
        let asked = self.ask(token).await;
        self.note(asked.as_ref().err());
        match asked {
            Ok(Ok(())) => {
                self.allowed.put(key, Instant::now());
                charged.forgive();
                Ok(())
            }
            Ok(Err(refusal)) => {
                self.allowed.remove(&key);
                self.refused.put(key, (Instant::now(), refusal.clone()));
                Err(refusal)
            }
            // Not remembered: it says nothing about the token.
            Err(problem) => Err(Refusal::Unavailable(problem)),
        }
    }

    /// The outer error is that nobody could be asked.
    async fn ask(&self, token: &str) -> Result<Result<(), Refusal>, String> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token},
        });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let found: TokenReview =
            self.create(path, &review).await.map_err(|failure| problem("tokenreviews", &failure))?;
        let User { username, uid, groups, extra } = found.status.user;
        // No name: an answer that says yes and does not say to whom is no yes.
        if !found.status.authenticated || username.is_empty() {
            return Ok(Err(BAD_TOKEN));
        }
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
                "user": username, "uid": uid, "groups": groups, "extra": extra,
                "nonResourceAttributes": {"path": RIGHT, "verb": "get"},
            },
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let found: AccessReview =
            self.create(path, &review).await.map_err(|failure| problem("subjectaccessreviews", &failure))?;
        if found.status.allowed {
            return Ok(Ok(()));
        }
        let user = clean(cut(&username, 200)).into_owned();
        Ok(Err(Refusal::Forbidden(format!("{user} may not get the nonResourceURL {RIGHT}"))))
    }

    async fn create<T: DeserializeOwned>(
        &self,
        path: &str,
        review: &serde_json::Value,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + WITHIN;
        let request = Request::post(path)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(review.to_string().into_bytes()))
            .map_err(|_| Failure::new(FailureReason::Other, "the request can't be made"))?;
        let response = http::send(&self.client, request, WITHIN).await?;
        let mut body = Vec::new();
        match http::collect(response.into_body(), &mut body, LARGEST, deadline).await {
            Ok(()) => {}
            Err(BodyError::Failed(failure)) => return Err(failure),
            Err(BodyError::TooLarge) => {
                return Err(Failure::new(FailureReason::Undecodable, "the answer is too large"));
            }
        }
        // The answer holds the token: nothing of it may get into an error.
        serde_json::from_slice(&body)
            .map_err(|_| Failure::new(FailureReason::Undecodable, "the answer can't be read"))
    }

    /// One line when asking stops to work, and one when it works again.
    fn note(&self, problem: Option<&String>) {
        let mut last = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match (problem, last.as_ref()) {
            (Some(problem), last) if last != Some(problem) => {
                tracing::warn!("nobody can be let in: {problem}")
            }
            (None, Some(_)) => tracing::info!("the API server tells again who may read"),
            _ => {}
        }
        *last = problem.cloned();
    }
}

/// A turn that costs its client a place for a pause, unless the token was right. Also a client that goes away before
/// the answer, which drops the review, has made the API server work.
struct Charged(Option<Turn>);

impl Charged {
    /// Gives the turn back at once.
    fn forgive(mut self) {
        self.0 = None;
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        // Outside of a runtime nothing can wait, and nobody asks.
        if let (Some(turn), Ok(_)) = (self.0.take(), Handle::try_current()) {
            turn.keep_place(PAUSE);
        }
    }
}

/// Why nobody could be asked, in words for whoever asks: nothing of what the API server said.
fn problem(resource: &str, failure: &Failure) -> String {
    match failure.reason {
        FailureReason::Forbidden => format!("the exporter may not create {resource}"),
        FailureReason::Unauthorized => "the API server does not know the exporter's own token".to_owned(),
        reason => format!("the API server could not be asked to create {resource} ({reason}), try again"),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use axum::http::header::AUTHORIZATION;
    use axum::http::{Response, StatusCode};
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::service_fn;

    use super::*;

    type Log = Arc<Mutex<Vec<(String, Value)>>>;
    type Answer = (u16, Value);

    /// An API server whose answers are made from what it is asked; it notes what that was.
    fn api(answer: impl Fn(&str, &Value) -> Answer + Send + Sync + 'static) -> (Arc<Reviewer>, Log) {
        let log = Log::default();
        let (seen, answer) = (Arc::clone(&log), Arc::new(answer));
        let service = service_fn(move |request: Request<Body>| {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let path = head.uri.path().to_owned();
                let asked = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
                let (status, text) = answer(&path, &asked);
                seen.lock().unwrap().push((format!("{} {path}", head.method), asked));
                if status == 0 {
                    std::future::pending::<()>().await;
                }
                let response = Response::builder().status(status);
                Ok::<_, Infallible>(response.body(http_body_util::Full::from(text.to_string())).unwrap())
            }
        });
        (Arc::new(Reviewer::new(kube::Client::new(service, "default")).unwrap()), log)
    }

    fn prometheus() -> Value {
        json!({
            "username": "system:serviceaccount:monitoring:prometheus", "uid": "u1",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/pod-name": ["prometheus-0"]},
        })
    }

    /// Knows the token `good` as Prometheus, who may get /metrics, and `other` as somebody who may get nothing.
    fn cluster(path: &str, asked: &Value) -> Answer {
        if path.ends_with("tokenreviews") {
            let status = match asked["spec"]["token"].as_str() {
                Some("good") => json!({"authenticated": true, "user": prometheus()}),
                Some("other") => json!({"authenticated": true, "user": {"username": "other\u{1b}[0m"}}),
                Some("nobody") => json!({"authenticated": true}),
                _ => json!({"authenticated": false, "error": "unknown"}),
            };
            return (201, json!({"spec": asked["spec"], "status": status}));
        }
        let allowed = asked["spec"]["user"] == prometheus()["username"]
            && asked["spec"]["nonResourceAttributes"] == json!({"path": "/metrics", "verb": "get"});
        (201, json!({"status": {"allowed": allowed}}))
    }

    fn bearer(token: &str) -> HeaderMap {
        [(AUTHORIZATION, format!("Bearer {token}").parse().unwrap())].into_iter().collect()
    }

    fn client(number: u8) -> Client {
        Client(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)))
    }

    async fn admit(reviewer: &Reviewer, token: &str) -> Result<(), Refusal> {
        reviewer.admit(&bearer(token), client(1)).await
    }

    fn count(log: &Log) -> usize {
        log.lock().unwrap().len()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_the_cluster_knows_and_allows_is_let_in() {
        let (reviewer, log) = api(cluster);
        assert_eq!(admit(&reviewer, "good").await, Ok(()));
        let user = prometheus();
        assert_eq!(
            *log.lock().unwrap(),
            [
                (
                    "POST /apis/authentication.k8s.io/v1/tokenreviews".to_owned(),
                    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "good"}}),
                ),
                (
                    "POST /apis/authorization.k8s.io/v1/subjectaccessreviews".to_owned(),
                    json!({
                        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
                            "user": user["username"], "uid": user["uid"], "groups": user["groups"],
                            "extra": user["extra"],
                            "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
                        },
                    }),
                ),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_unknown_and_who_is_not_allowed_are_told_apart() {
        let (reviewer, log) = api(cluster);
        let forbidden =
            |user: &str| Err(Refusal::Forbidden(format!("{user} may not get the nonResourceURL /metrics")));
        for (token, expected, reviews) in [
            ("bad", Err(BAD_TOKEN), 1),
            ("nobody", Err(BAD_TOKEN), 1),
            ("other", forbidden("other\\u{1b}[0m"), 2),
            ("other", forbidden("other\\u{1b}[0m"), 0),
            ("", Err(CHALLENGE), 0),
        ] {
            let before = count(&log);
            // Refused clients have a turn less for a second.
            tokio::time::advance(PAUSE).await;
            tokio::task::yield_now().await;
            assert_eq!(admit(&reviewer, token).await, expected, "{token}");
            assert_eq!(count(&log) - before, reviews, "{token}");
        }
        for headers in
            [HeaderMap::new(), [(AUTHORIZATION, "Basic good".parse().unwrap())].into_iter().collect()]
        {
            assert_eq!(reviewer.admit(&headers, client(1)).await, Err(CHALLENGE));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_yes_holds_for_a_minute_and_a_no_for_ten_seconds() {
        let (reviewer, log) = api(cluster);
        for (token, seconds, reviews) in
            [("good", 0, 2), ("good", 59, 0), ("good", 1, 2), ("bad", 0, 1), ("bad", 9, 0), ("bad", 1, 1)]
        {
            let before = count(&log);
            tokio::time::advance(Duration::from_secs(seconds)).await;
            let admitted = admit(&reviewer, token).await.is_ok();
            assert_eq!((admitted, count(&log) - before), (token == "good", reviews), "{token} {seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_is_taken_away_is_gone_after_a_minute() {
        let revoked = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let now = Arc::clone(&revoked);
        let (reviewer, _) = api(move |path, asked| {
            if now.load(std::sync::atomic::Ordering::Relaxed) {
                return (201, json!({"status": {"authenticated": false}}));
            }
            cluster(path, asked)
        });
        assert_eq!(admit(&reviewer, "good").await, Ok(()));
        revoked.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(admit(&reviewer, "good").await, Ok(()));
        tokio::time::advance(ALLOWED_FOR).await;
        assert_eq!(admit(&reviewer, "good").await, Err(BAD_TOKEN));
    }

    #[tokio::test(start_paused = true)]
    async fn who_can_not_be_asked_about_is_not_refused_for_good_and_learns_no_secret() {
        let status = |code: u16| (code, json!({"kind": "Status", "code": code, "message": "SECRET"}));
        let again = |resource: &str, reason: &str| {
            format!("the API server could not be asked to create {resource} ({reason}), try again")
        };
        for (reviews, access, expected) in [
            (status(403), status(500), "the exporter may not create tokenreviews".to_owned()),
            (status(401), status(500), "the API server does not know the exporter's own token".to_owned()),
            (status(500), status(500), again("tokenreviews", "server_error")),
            (status(429), status(500), again("tokenreviews", "throttled")),
            ((0, json!(null)), status(500), again("tokenreviews", "timeout")),
            ((201, json!("SECRET")), status(500), again("tokenreviews", "undecodable")),
            ((201, json!({"a": "x".repeat(LARGEST)})), status(500), again("tokenreviews", "undecodable")),
            (
                (201, json!({"status": {"authenticated": true, "user": prometheus()}})),
                status(403),
                "the exporter may not create subjectaccessreviews".to_owned(),
            ),
        ] {
            let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
            let now = Arc::clone(&broken);
            let (reviewer, _) = api(move |path, asked| {
                if !now.load(std::sync::atomic::Ordering::Relaxed) {
                    return cluster(path, asked);
                }
                if path.ends_with("tokenreviews") { reviews.clone() } else { access.clone() }
            });
            let refused = admit(&reviewer, "good").await.unwrap_err();
            assert_eq!(refused, Refusal::Unavailable(expected));
            assert_eq!(refused.answer().status(), StatusCode::SERVICE_UNAVAILABLE);
            broken.store(false, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(admit(&reviewer, "good").await, Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_before_the_answer_has_a_turn_less_all_the_same() {
        let (reviewer, log) = api(|path, asked| match asked["spec"]["token"].as_str() {
            Some(token) if token.starts_with("slow") => (0, json!(null)),
            Some(_) | None => cluster(path, asked),
        });
        let gone: Vec<_> = (0..STRANGERS.2)
            .map(|i| {
                let reviewer = Arc::clone(&reviewer);
                tokio::spawn(async move { admit(&reviewer, &format!("slow{i}")).await })
            })
            .collect();
        while count(&log) < STRANGERS.2 {
            tokio::task::yield_now().await;
        }
        for request in gone {
            request.abort();
            assert!(request.await.unwrap_err().is_cancelled());
        }
        assert_eq!(admit(&reviewer, "good").await, Err(Refusal::Busy));
        // It is their places that are kept, not the turns of others.
        let began = Instant::now();
        assert_eq!(reviewer.admit(&bearer("nobody"), client(2)).await, Err(BAD_TOKEN));
        assert_eq!(began.elapsed(), Duration::ZERO);
        tokio::time::sleep(PAUSE + Duration::from_millis(1)).await;
        assert_eq!(admit(&reviewer, "good").await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_tokens_asks_little_and_keeps_nobody_out_who_was_right() {
        let (reviewer, log) = api(cluster);
        assert_eq!(reviewer.admit(&bearer("good"), client(200)).await, Ok(()));
        let (mut busy, mut bad, before) = (0, 0, count(&log));
        // For two minutes, 100 clients ask ten times a second.
        for tenth in 0..1200_u32 {
            for from in 0..100 {
                let token = format!("{tenth}-{from}");
                match reviewer.admit(&bearer(&token), client(from)).await {
                    Err(Refusal::Busy) => busy += 1,
                    refused => bad += usize::from(refused == Err(BAD_TOKEN)),
                }
            }
            assert_eq!(reviewer.admit(&bearer("good"), client(200)).await, Ok(()), "{tenth}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(busy + bad, 120_000);
        assert!(count(&log) - before <= 121 * STRANGERS.1 + 4, "{} reviews", count(&log) - before);
    }
}
