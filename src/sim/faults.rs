//! What can go wrong between a client and the API server, on request, and a log of what was asked.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::kinds::Resource;
use super::status::ApiError;

/// Requests that the log keeps.
const LOGGED: usize = 100_000;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Reads one object.
    Get,
    /// Lists, or asks for the next page of a list.
    List,
    /// Watches from a resource version on.
    Watch,
    /// Watches with `sendInitialEvents=true`.
    StreamingList,
}

/// What a request asks for, as far as faults tell requests apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What it does.
    pub verb: Verb,
    /// With what.
    pub resource: Resource,
    /// In this namespace; in all if absent.
    pub namespace: Option<String>,
    /// Whether it goes on with a list (`continue`).
    pub continued: bool,
}

/// Which requests a fault strikes; by default all.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    verbs: Option<Vec<Verb>>,
    resource: Option<Resource>,
    namespace: Option<String>,
    continued: Option<bool>,
}

impl Matcher {
    /// All requests.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Only those that do one of these.
    #[must_use]
    pub fn verbs(mut self, verbs: &[Verb]) -> Self {
        self.verbs = Some(verbs.to_vec());
        self
    }

    /// Only those for this resource.
    #[must_use]
    pub fn of(mut self, resource: Resource) -> Self {
        self.resource = Some(resource);
        self
    }

    /// Only those in this namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Only lists that go on (true), or that begin (false).
    #[must_use]
    pub fn continued(mut self, continued: bool) -> Self {
        self.continued = Some(continued);
        self
    }

    /// Whether it takes a request.
    #[must_use]
    pub fn takes(&self, call: &Call) -> bool {
        self.verbs.as_ref().is_none_or(|verbs| verbs.contains(&call.verb))
            && self.resource.is_none_or(|resource| resource == call.resource)
            && self.namespace.as_ref().is_none_or(|n| call.namespace.as_ref() == Some(n))
            && self.continued.is_none_or(|continued| continued == call.continued)
    }
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Refused with a `Status`, and `Retry-After` if it is set there.
    Refuse(ApiError),
    /// Refused with a code and a body that is no `Status`, as a proxy does.
    RefuseRaw(u16, String),
    /// Accepted and never answered.
    NeverAnswer,
    /// Answered after this time.
    Delay(Duration),
    /// Answered with 200 and an empty body.
    Empty,
    /// Answered rightly, but the connection breaks after so many bytes of the body.
    CutAfter(usize),
    /// Answered rightly, but after so many bytes of the body nothing more comes, and nothing is closed.
    SilentAfter(usize),
    /// A list: answered from the state of this revision, as by a server that lags behind.
    AsOf(u64),
    /// A list that goes on: answered with 410, its token has expired.
    ExpireContinue,
    /// A watch: answered with 200, one ERROR event with this status, and the end.
    ErrorEvent(ApiError),
}

/// What happens to watches that are open.
#[derive(Clone, Debug)]
pub enum StreamFault {
    /// The server ends them, as after their time.
    End,
    /// The connection breaks.
    Cut,
    /// The connection breaks in the middle of an event.
    CutInEvent,
    /// Nothing more comes, and nothing is closed.
    Silence,
    /// An ERROR event with this status, then the end.
    Error(ApiError),
    /// These bytes are sent as they are, then all goes on.
    Send(String),
}

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Logged {
    /// When.
    pub at: Instant,
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub uri: String,
    /// What it asked for, if that is known.
    pub call: Option<Call>,
}

struct Rule {
    matcher: Matcher,
    fault: Fault,
    /// How often it still strikes; for ever if absent.
    left: Option<usize>,
}

/// The handle by which tests make things go wrong and see what was asked.
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
    token: Mutex<Option<String>>,
    log: Mutex<VecDeque<Logged>>,
    streams: broadcast::Sender<(Matcher, StreamFault)>,
    open: watch::Sender<usize>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            rules: Mutex::default(),
            token: Mutex::default(),
            log: Mutex::default(),
            streams: broadcast::Sender::new(64),
            open: watch::Sender::new(0),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Faults {
    /// Strikes the next `times` requests that match. Earlier rules go first.
    pub fn next(&self, times: usize, matcher: Matcher, fault: Fault) {
        lock(&self.rules).push(Rule { matcher, fault, left: Some(times) });
    }

    /// Strikes every request that matches, until [`Self::clear`].
    pub fn always(&self, matcher: Matcher, fault: Fault) {
        lock(&self.rules).push(Rule { matcher, fault, left: None });
    }

    /// Nothing goes wrong any more, for requests to come.
    pub fn clear(&self) {
        lock(&self.rules).clear();
    }

    /// From now on requests need this bearer token, or none.
    pub fn require_token(&self, token: Option<&str>) {
        *lock(&self.token) = token.map(str::to_owned);
    }

    /// Strikes the watches that are open and match.
    pub fn strike(&self, matcher: Matcher, fault: StreamFault) {
        // Without an open watch there is nothing to strike.
        let _ = self.streams.send((matcher, fault));
    }

    /// How many watches are open, to wait for one.
    #[must_use]
    pub fn watches(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }

    /// The requests since the last call, oldest first.
    pub fn drain_log(&self) -> Vec<Logged> {
        lock(&self.log).drain(..).collect()
    }

    /// The requests so far, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Logged> {
        lock(&self.log).iter().cloned().collect()
    }

    pub(super) fn log(&self, request: Logged) {
        let mut log = lock(&self.log);
        if log.len() >= LOGGED {
            log.pop_front();
        }
        log.push_back(request);
    }

    pub(super) fn authorized(&self, bearer: Option<&str>) -> bool {
        lock(&self.token).as_ref().is_none_or(|token| bearer == Some(token.as_str()))
    }

    /// The fault that strikes this request, used up by that.
    pub(super) fn take(&self, call: &Call) -> Option<Fault> {
        let mut rules = lock(&self.rules);
        let index = rules.iter().position(|rule| rule.left != Some(0) && rule.matcher.takes(call))?;
        let rule = rules.get_mut(index)?;
        rule.left = rule.left.map(|left| left.saturating_sub(1));
        Some(rule.fault.clone())
    }

    pub(super) fn stream(&self) -> (broadcast::Receiver<(Matcher, StreamFault)>, Open) {
        self.open.send_modify(|open| *open = open.saturating_add(1));
        (self.streams.subscribe(), Open(self.open.clone()))
    }
}

/// Counts an open watch for as long as it lives.
pub(super) struct Open(watch::Sender<usize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open = open.saturating_sub(1));
    }
}
