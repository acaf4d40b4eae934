//! Looks up owners: their metadata only, at most eight at once, each within two seconds.
//!
//! An owner reference is written by whoever made the pod, so it may hold anything. Kind and API version become a path
//! only through a table or through what the API server's discovery names; the name is one escaped path segment, and what
//! no object can be called is not asked for.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::core::{OwnerAnswer, OwnerFound, OwnerKey};
use crate::pod::{Metadata, MetadataOnly};
use crate::watch::http::{self, BodyError};
use crate::watch::{Failure, FailureReason, escape};

/// How long a look-up may take once its turn has come, discovery included.
const WITHIN: Duration = Duration::from_secs(2);
/// How many run at once.
const AT_ONCE: usize = 8;
/// How many may wait for their turn; what comes on top is answered with `Unavailable` at once.
const WAITING: usize = 20_000;
/// How long a look-up may wait for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(30);
/// The largest metadata and discovery documents that are read.
const LARGEST: usize = 4 << 20;
/// How many kinds are remembered: a cluster has hundreds at most.
const KINDS: usize = 2_000;
/// How long a kind that the server does not know is taken as unknown.
const UNKNOWN_FOR: Duration = Duration::from_secs(300);

/// Metadata only; a server that can't do that sends the whole object, of which only the metadata is read.
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json";
const JSON: &str = "application/json";

/// The `result` label of `exitcode_exporter_owner_lookups_total`, less `cached`, which is no look-up of this client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LookupResult {
    /// Found.
    Found,
    /// Gone, or another object has its name.
    NotFound,
    /// Not allowed.
    Forbidden,
    /// Not answered in time.
    Timeout,
    /// Anything else.
    Error,
}

impl LookupResult {
    /// Every result, in the order of declaration.
    pub const ALL: [Self; 5] = [Self::Found, Self::NotFound, Self::Forbidden, Self::Timeout, Self::Error];

    /// The word, as labels show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NotFound => "not_found",
            Self::Forbidden => "forbidden",
            Self::Timeout => "timeout",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for LookupResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How look-ups ended.
#[derive(Debug, Default)]
pub struct OwnerStats([AtomicU64; LookupResult::ALL.len()]);

impl OwnerStats {
    /// Look-ups that ended so.
    #[must_use]
    pub fn lookups(&self, result: LookupResult) -> u64 {
        self.0[result as usize].load(Ordering::Relaxed)
    }

    fn count(&self, result: LookupResult) {
        self.0[result as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Asks the API server for owners.
#[derive(Debug)]
pub struct OwnerClient {
    client: Api,
    stats: Arc<OwnerStats>,
    turns: Semaphore,
    waiting: AtomicUsize,
    kinds: Mutex<HashMap<Kind, Known>>,
    /// One discovery at a time: look-ups of one new kind come in crowds.
    discovery: tokio::sync::Mutex<()>,
}

/// The client, which has no `Debug` of its own.
struct Api(Client);

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Api")
    }
}

/// API version and kind.
type Kind = (Arc<str>, Arc<str>);

/// What is known of a kind: how its URLs look, or since when the server does not know it.
#[derive(Clone, Debug)]
enum Known {
    Served(Resource),
    UnknownSince(Instant),
}

/// How the URLs of a kind look.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resource {
    plural: String,
    namespaced: bool,
}

/// Why a look-up found nothing.
#[derive(Debug)]
enum Missed {
    Gone,
    Failed(Failure),
}

impl From<Failure> for Missed {
    fn from(failure: Failure) -> Self {
        if failure.code == Some(404) { Self::Gone } else { Self::Failed(failure) }
    }
}

impl OwnerClient {
    /// A client that knows the built-in kinds.
    #[must_use]
    pub fn new(client: Client, stats: Arc<OwnerStats>) -> Self {
        Self {
            client: Api(client),
            stats,
            turns: Semaphore::new(AT_ONCE),
            waiting: AtomicUsize::new(0),
            kinds: Mutex::default(),
            discovery: tokio::sync::Mutex::default(),
        }
    }

    /// Looks up an owner and names it in the answer.
    pub async fn answer(&self, key: &OwnerKey) -> OwnerAnswer {
        let (namespace, uid) = (Arc::clone(&key.namespace), Arc::clone(&key.uid));
        OwnerAnswer { namespace, uid, found: self.lookup(key).await }
    }

    /// Looks up an owner. Ends within 32 s whatever the API server does: 30 s of waiting for a turn, 2 s of asking.
    pub async fn lookup(&self, key: &OwnerKey) -> OwnerFound {
        let (result, found) = match self.ask_in_turn(key).await {
            Ok(metadata) => (LookupResult::Found, OwnerFound::Found(Box::new(metadata))),
            Err(Missed::Gone) => (LookupResult::NotFound, OwnerFound::NotFound),
            Err(Missed::Failed(failure)) => {
                let result = match failure.reason {
                    FailureReason::Forbidden => LookupResult::Forbidden,
                    FailureReason::Timeout => LookupResult::Timeout,
                    _ => LookupResult::Error,
                };
                tracing::debug!(kind = %key.kind, %result, %failure, "looking up an owner failed");
                (result, OwnerFound::Unavailable)
            }
        };
        self.stats.count(result);
        found
    }

    async fn ask_in_turn(&self, key: &OwnerKey) -> Result<Metadata, Missed> {
        let _place = Place::take(&self.waiting)?;
        let late = |_| Failure::new(FailureReason::Timeout, "not looked up in time");
        let turn = timeout(TURN_WITHIN, self.turns.acquire()).await.map_err(late)?;
        // The semaphore is never closed; if it were, there would be no bound, but no failure either.
        let _turn = turn.ok();
        timeout(WITHIN, self.ask(key)).await.map_err(late)?
    }

    async fn ask(&self, key: &OwnerKey) -> Result<Metadata, Missed> {
        let path = format!("{}/{}", self.collection(key).await?, segment(&key.name)?);
        let found: MetadataOnly = self.get(&path, METADATA).await?;
        if found.metadata.uid == *key.uid { Ok(found.metadata) } else { Err(Missed::Gone) }
    }

    /// The path of the owner's collection, without a slash at its end.
    async fn collection(&self, key: &OwnerKey) -> Result<String, Missed> {
        let group_version = group_version_path(&key.api_version)?;
        let resource = match built_in(&key.api_version, &key.kind) {
            Some(plural) => Resource { plural: plural.to_owned(), namespaced: true },
            None => {
                self.discover((Arc::clone(&key.api_version), Arc::clone(&key.kind)), &group_version).await?
            }
        };
        let plural = segment(&resource.plural)?;
        if !resource.namespaced {
            return Ok(format!("{group_version}/{plural}"));
        }
        Ok(format!("{group_version}/namespaces/{}/{plural}", segment(&key.namespace)?))
    }

    /// Asks the server what it calls a kind, once.
    async fn discover(&self, kind: Kind, group_version: &str) -> Result<Resource, Missed> {
        if let Some(known) = self.known(&kind) {
            return known;
        }
        let _one = self.discovery.lock().await;
        if let Some(known) = self.known(&kind) {
            return known;
        }
        let resource = match self.get::<ResourceList>(group_version, JSON).await {
            Ok(list) => list.find(&kind.1),
            Err(Missed::Gone) => None,
            Err(missed) => return Err(missed),
        };
        let known = resource.clone().map_or_else(|| Known::UnknownSince(Instant::now()), Known::Served);
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if kinds.len() >= KINDS {
            kinds.clear();
        }
        kinds.insert(kind, known);
        resource.ok_or(Missed::Gone)
    }

    fn known(&self, kind: &Kind) -> Option<Result<Resource, Missed>> {
        match self.kinds.lock().unwrap_or_else(PoisonError::into_inner).get(kind)? {
            Known::Served(resource) => Some(Ok(resource.clone())),
            Known::UnknownSince(at) if at.elapsed() < UNKNOWN_FOR => Some(Err(Missed::Gone)),
            Known::UnknownSince(_) => None,
        }
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        accept: &'static str,
    ) -> Result<T, Missed> {
        let response = http::get(&self.client.0, path, accept, WITHIN).await?;
        let mut body = Vec::new();
        match http::collect(response.into_body(), &mut body, LARGEST, Instant::now() + WITHIN).await {
            Ok(()) => {}
            Err(BodyError::Failed(failure)) => return Err(failure.into()),
            Err(BodyError::TooLarge) => {
                return Err(Failure::new(FailureReason::Undecodable, "the answer is too large").into());
            }
        }
        serde_json::from_slice(&body)
            .map_err(|_| Failure::new(FailureReason::Undecodable, "the answer can't be read").into())
    }
}

/// A place in the queue, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, Failure> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) < WAITING {
            return Ok(place);
        }
        Err(Failure::new(FailureReason::Other, "too many look-ups are waiting"))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the API server serves in a group and version (`APIResourceList`).
#[derive(Debug, Deserialize)]
struct ResourceList {
    #[serde(default)]
    resources: Vec<ServedResource>,
}

#[derive(Debug, Deserialize)]
struct ServedResource {
    name: String,
    kind: String,
    namespaced: bool,
}

impl ResourceList {
    /// The resource of a kind; what has a slash in its name is a part of another (`pods/status`).
    fn find(self, kind: &str) -> Option<Resource> {
        let is_it = |served: &ServedResource| served.kind == kind && !served.name.contains('/');
        let served = self.resources.into_iter().find(is_it)?;
        Some(Resource { plural: served.name, namespaced: served.namespaced })
    }
}

/// The kinds that own nearly every pod, so that most clusters need no discovery.
fn built_in(api_version: &str, kind: &str) -> Option<&'static str> {
    Some(match (api_version, kind) {
        ("batch/v1", "Job") => "jobs",
        ("batch/v1", "CronJob") => "cronjobs",
        ("apps/v1", "ReplicaSet") => "replicasets",
        ("apps/v1", "Deployment") => "deployments",
        ("apps/v1", "StatefulSet") => "statefulsets",
        ("apps/v1", "DaemonSet") => "daemonsets",
        ("v1", "ReplicationController") => "replicationcontrollers",
        _ => return None,
    })
}

/// `/api/v1` for the core group, else `/apis/GROUP/VERSION`.
fn group_version_path(api_version: &str) -> Result<String, Missed> {
    match api_version.split_once('/') {
        None => Ok(format!("/api/{}", segment(api_version)?)),
        Some((group, version)) => Ok(format!("/apis/{}/{}", segment(group)?, segment(version)?)),
    }
}

/// One path segment. What the API server lets no object be called (`IsValidPathSegmentName` of apimachinery: ".", "..",
/// anything with "/" or "%") or nothing at all is gone without asking.
fn segment(text: &str) -> Result<String, Missed> {
    if matches!(text, "" | "." | "..") || text.contains(['/', '%']) || text.len() > 512 {
        return Err(Missed::Gone);
    }
    Ok(escape(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testing::{Answer, Log, server};

    fn key(api_version: &str, kind: &str, name: &str) -> OwnerKey {
        OwnerKey {
            namespace: "shop".into(),
            api_version: api_version.into(),
            kind: kind.into(),
            name: name.into(),
            uid: "u1".into(),
        }
    }

    fn job() -> OwnerKey {
        key("batch/v1", "Job", "nightly-1")
    }

    fn owner() -> Answer {
        Answer::ok(
            r#"{"kind":"PartialObjectMetadata","metadata":{"name":"x","uid":"u1","ownerReferences":null}}"#,
        )
    }

    fn client(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> (Arc<OwnerClient>, Log) {
        let (client, log) = server(move |_, asked| answer(&asked.url));
        (Arc::new(OwnerClient::new(client, Arc::default())), log)
    }

    fn results(owners: &OwnerClient) -> Vec<(&'static str, u64)> {
        let count = |result: LookupResult| (result.as_str(), owners.stats.lookups(result));
        LookupResult::ALL.into_iter().map(count).filter(|(_, n)| *n > 0).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn built_in_kinds_are_asked_for_as_metadata_only() {
        for (api_version, kind, path) in [
            ("batch/v1", "Job", "/apis/batch/v1/namespaces/shop/jobs/x"),
            ("batch/v1", "CronJob", "/apis/batch/v1/namespaces/shop/cronjobs/x"),
            ("apps/v1", "ReplicaSet", "/apis/apps/v1/namespaces/shop/replicasets/x"),
            ("apps/v1", "Deployment", "/apis/apps/v1/namespaces/shop/deployments/x"),
            ("apps/v1", "StatefulSet", "/apis/apps/v1/namespaces/shop/statefulsets/x"),
            ("apps/v1", "DaemonSet", "/apis/apps/v1/namespaces/shop/daemonsets/x"),
            ("v1", "ReplicationController", "/api/v1/namespaces/shop/replicationcontrollers/x"),
        ] {
            let (owners, log) = client(|_| owner());
            let found = owners.answer(&key(api_version, kind, "x")).await;
            let metadata = Metadata { name: "x".into(), uid: "u1".into(), ..Metadata::default() };
            assert_eq!(found.found, OwnerFound::Found(Box::new(metadata)));
            assert_eq!(&*found.uid, "u1");
            assert_eq!(log.urls(), [path]);
            assert_eq!(log.all()[0].headers["accept"], METADATA);
            assert_eq!(results(&owners), [("found", 1)]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_kinds_are_discovered_once() {
        let list = r#"{"resources":[
            {"name":"rollouts/status","kind":"Rollout","namespaced":true},
            {"name":"rollouts","kind":"Rollout","namespaced":true},
            {"name":"fleets","kind":"Fleet","namespaced":false}]}"#;
        let (owners, log) = client(move |url| if url.contains("x") { owner() } else { Answer::ok(list) });
        for kind in ["Rollout", "Rollout", "Fleet"] {
            owners.lookup(&key("argoproj.io/v1", kind, "x")).await;
        }
        assert_eq!(
            log.urls(),
            [
                "/apis/argoproj.io/v1",
                "/apis/argoproj.io/v1/namespaces/shop/rollouts/x",
                "/apis/argoproj.io/v1/namespaces/shop/rollouts/x",
                "/apis/argoproj.io/v1",
                "/apis/argoproj.io/v1/fleets/x",
            ]
        );
        assert_eq!(results(&owners), [("found", 3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_of_one_new_kind_discovers_it_once() {
        let list = r#"{"resources":[{"name":"rollouts","kind":"Rollout","namespaced":true}]}"#;
        let (owners, log) =
            client(move |url| if url.contains('x') { owner() } else { Answer::empty().wait(1).text(list) });
        let crowd = (0..8).map(|_| async { owners.lookup(&key("argoproj.io/v1", "Rollout", "x")).await });
        futures_util::future::join_all(crowd).await;
        assert_eq!(log.urls().iter().filter(|url| !url.contains('x')).count(), 1);
        assert_eq!(results(&owners), [("found", 8)]);
    }

    #[tokio::test(start_paused = true)]
    async fn discovery_and_look_up_share_the_two_seconds() {
        let list = r#"{"resources":[{"name":"rollouts","kind":"Rollout","namespaced":true}]}"#;
        let slow = Answer::empty().wait(1);
        let (owners, log) = client(move |url| match url {
            url if url.contains('x') => slow.clone().wait(1).text("{}"),
            _ => slow.clone().text(list),
        });
        let started = Instant::now();
        assert_eq!(owners.lookup(&key("argoproj.io/v1", "Rollout", "x")).await, OwnerFound::Unavailable);
        assert_eq!((started.elapsed(), log.count()), (WITHIN, 2));
        assert_eq!(results(&owners), [("timeout", 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_kind_is_asked_for_again_after_five_minutes() {
        for missing in [Answer::ok(r#"{"resources":[]}"#), Answer::refused(404, "no such group")] {
            let (owners, log) = client(move |_| missing.clone());
            for _ in 0..3 {
                assert_eq!(owners.lookup(&key("gone.io/v1", "Gone", "x")).await, OwnerFound::NotFound);
            }
            assert_eq!(log.urls(), ["/apis/gone.io/v1"]);
            tokio::time::advance(UNKNOWN_FOR).await;
            owners.lookup(&key("gone.io/v1", "Gone", "x")).await;
            assert_eq!(log.count(), 2);
            assert_eq!(results(&owners), [("not_found", 4)]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_other_answer_is_no_answer() {
        let cases = [
            (Answer::refused(404, "gone"), OwnerFound::NotFound, "not_found"),
            (Answer::ok(r#"{"metadata":{"uid":"another"}}"#), OwnerFound::NotFound, "not_found"),
            (Answer::refused(403, "no"), OwnerFound::Unavailable, "forbidden"),
            (Answer::refused(401, "who"), OwnerFound::Unavailable, "error"),
            (Answer::refused(429, "busy"), OwnerFound::Unavailable, "error"),
            (Answer::refused(500, "etcd"), OwnerFound::Unavailable, "error"),
            (Answer::ok("<html>"), OwnerFound::Unavailable, "error"),
            (Answer::ok("{").cut(), OwnerFound::Unavailable, "error"),
            (Answer::ok("x".repeat(LARGEST + 1)), OwnerFound::Unavailable, "error"),
            (Answer::ok("{").silence(), OwnerFound::Unavailable, "timeout"),
            (Answer::never(), OwnerFound::Unavailable, "timeout"),
        ];
        for (answer, found, result) in cases {
            let started = Instant::now();
            let (owners, log) = client(move |_| answer.clone());
            assert_eq!(owners.lookup(&job()).await, found, "{result}");
            assert_eq!((results(&owners), log.count()), (vec![(result, 1)], 1));
            assert!(started.elapsed() <= WITHIN);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reference_that_holds_anything_stays_within_its_path() {
        let (owners, log) = client(|_| owner());
        for name in ["", ".", "..", "../..", "a/b", "%2e%2e"] {
            assert_eq!(owners.lookup(&key("batch/v1", "Job", name)).await, OwnerFound::NotFound, "{name}");
        }
        for name in ["", ".", "..", "../..", "%2e%2e", "apps/..", "../v1", "a/b/c", "/v1", "apps/"] {
            assert_eq!(owners.lookup(&key(name, "Kind", "x")).await, OwnerFound::NotFound, "{name}");
        }
        assert_eq!(log.urls(), Vec::<String>::new());
        for name in ["a?watch=1", "a#b", "a b", "ü", "a\r\nHost: evil", "a&b=c", "\0"] {
            owners.lookup(&key("batch/v1", "Job", name)).await;
        }
        let prefix = "/apis/batch/v1/namespaces/shop/jobs/";
        let names: Vec<String> = log.urls().iter().map(|url| url.replace(prefix, "")).collect();
        assert_eq!(
            names,
            ["a%3Fwatch%3D1", "a%23b", "a%20b", "%C3%BC", "a%0D%0AHost%3A%20evil", "a%26b%3Dc", "%00"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_discovery_answer_stays_within_its_path_too() {
        let list = r#"{"resources":[{"name":"..","kind":"Rollout","namespaced":true}]}"#;
        let (owners, log) = client(move |_| Answer::ok(list));
        assert_eq!(owners.lookup(&key("argoproj.io/v1", "Rollout", "x")).await, OwnerFound::NotFound);
        assert_eq!(log.urls(), ["/apis/argoproj.io/v1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn eight_run_at_once_and_none_waits_for_ever() {
        let (owners, log) = client(|_| Answer::never());
        let started = Instant::now();
        let tasks: Vec<_> = (0..WAITING + 10)
            .map(|_| {
                let owners = Arc::clone(&owners);
                tokio::spawn(async move { owners.lookup(&job()).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(log.count(), AT_ONCE);
        assert_eq!(results(&owners), [("error", 10)], "what finds no place is answered at once");
        for task in tasks {
            assert!(matches!(task.await, Ok(OwnerFound::Unavailable)));
        }
        assert!(started.elapsed() <= TURN_WITHIN + WITHIN, "{:?}", started.elapsed());
        assert!(log.count() <= AT_ONCE * 16, "{} requests", log.count());
        assert_eq!(owners.waiting.load(Ordering::Relaxed), 0);
    }
}
