//! What events told: recent kills, probe failures and out-of-memory kills, all bounded.
//!
//! Events explain; they never make or raise a count, since the kubelet drops them. They come before or after
//! the status, twice, and aggregated; they are matched by the times on the node's clock, and each explains one end.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cause::{Case, Witness};
use super::facts::SECOND;
use super::kept::Kept;
use super::ledger::hash;
use super::told::{Told, read};
use crate::pod::Event;
use crate::rows::{Batch, Row, Table, Unreadable};
use crate::termination::Cause;
use crate::time::Timestamp;

/// Facts kept of one pod. Bounded: a crash loop goes on for ever; the newest explain.
const FACTS_PER_POD: usize = 48;
/// Pods with facts. Bounded: a rollout of thousands writes an event for each; the oldest go first.
const PODS: usize = 50_000;
/// SystemOOM times kept of one node, and nodes kept.
const OOMS_PER_NODE: usize = 32;
const NODES: usize = 20_000;
/// How long facts of a pod that is not known stay: it may be about to be seen, or is gone. A dead connection of the
/// pods' watch is noticed after 90 s.
const STRANGERS_MS: i64 = 180_000;
/// A probe failed at most so long before the kubelet stopped the container for it.
const UNHEALTHY_MS: i64 = 2000;
/// A SystemOOM is at most so far from the end that it explains.
const SYSTEM_OOM_MS: i64 = 2000;
/// Differences of clocks below this are the delay of events and the cut to whole seconds.
const LEAST_SKEW_MS: i64 = 4000;
/// Samples of a node's clock that count.
const SKEW_SAMPLES: usize = 8;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fact {
    told: Told,
    /// Empty for the pod.
    container: Box<str>,
    at: Timestamp,
    /// Of the event object and its count: the same twice is one.
    event: (u64, u32),
    used: bool,
}

impl Fact {
    fn kill(&self) -> Option<Kill> {
        match self.told {
            Told::Kill(cause) => Some(Kill { container: self.container.clone(), cause, at: self.at }),
            Told::Stopping | Told::Unhealthy(_) | Told::SandboxChanged | Told::PodEnded(_) => None,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct PodFacts {
    facts: Vec<Fact>,
    arrived: Timestamp,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Node {
    ooms: VecDeque<Timestamp>,
    /// API server's clock minus the node's, as samples that each include the event's delay.
    skews: VecDeque<i64>,
}

/// Everything that events told.
#[derive(Clone, Debug, Default)]
pub struct EvidenceStore {
    pods: Kept<Arc<str>, PodFacts>,
    order: VecDeque<Arc<str>>,
    nodes: Kept<Box<str>, Node>,
}

impl EvidenceStore {
    /// Takes in an event. The answer names the pod (as the event does) or node that it tells something new about.
    pub fn observe(&mut self, event: &Event, now: Timestamp) -> Option<About> {
        let at = event.latest()?;
        self.sample_clock(event);
        if event.involved_object.kind == "Node" {
            // The API server lets an event name no namespace only in `default`: elsewhere it is not the node's own.
            if event.reason != "SystemOOM" || !event.involved_object.namespace.is_empty() {
                return None;
            }
            let node = self.node(&event.involved_object.name)?;
            if !node.ooms.contains(&at) {
                push_bounded(&mut node.ooms, at, OOMS_PER_NODE);
            }
            return Some(About::Node(event.involved_object.name.as_str().into()));
        }
        let (told, container) = read(event)?;
        let uid: Arc<str> = event.involved_object.uid.as_str().into();
        let seen = (hash(&event.metadata.uid), event.occurrences());
        let fact = Fact { told, container: container.into(), at, event: seen, used: false };
        let kill = fact.kill();
        self.add(&uid, fact, now).then_some(About::Pod { uid, kill })
    }

    fn add(&mut self, uid: &Arc<str>, fact: Fact, now: Timestamp) -> bool {
        if !self.pods.contains_key(uid) {
            if self.pods.len() >= PODS {
                self.forget_oldest();
            }
            self.order.push_back(Arc::clone(uid));
        }
        let pod = self.pods.get_or_insert_with(uid, PodFacts::default);
        pod.arrived = now;
        if pod.facts.iter().any(|known| known.event == fact.event && known.at == fact.at) {
            return false;
        }
        let same = |known: &Fact| known.told == fact.told && known.container == fact.container;
        if matches!(fact.told, Told::Unhealthy(_)) {
            pod.facts.retain(|known| !same(known) || known.at > fact.at);
        }
        if pod.facts.len() >= FACTS_PER_POD {
            let gone = pod.facts.iter().position(|known| known.used).unwrap_or(0);
            pod.facts.remove(gone);
        }
        pod.facts.push(fact);
        true
    }

    fn forget_oldest(&mut self) {
        while let Some(uid) = self.order.pop_front() {
            if self.pods.remove(&uid).is_some() {
                return;
            }
        }
    }

    fn node(&mut self, name: &str) -> Option<&mut Node> {
        if !self.nodes.contains_key(name) && self.nodes.len() >= NODES {
            return None;
        }
        Some(self.nodes.get_or_insert_with(&name.into(), Node::default))
    }

    /// An event that happened once tells the node's clock (its own times) and the API server's (when the object
    /// was made), and so their difference, plus its delay: the smallest of the latest samples is the best.
    fn sample_clock(&mut self, event: &Event) {
        let (Some(made), Some(first)) = (event.metadata.creation_timestamp, event.first_timestamp) else {
            return;
        };
        if event.occurrences() == 1
            && !event.source.host.is_empty()
            && let Some(node) = self.node(&event.source.host)
        {
            push_bounded(&mut node.skews, made.since(first), SKEW_SAMPLES);
        }
    }

    /// What the node's clock is behind the API server's, in milliseconds; 0 where no difference is certain: two
    /// of the latest samples must agree on the least, so that one late event proves nothing.
    pub fn skew(&self, node: &str) -> i64 {
        let Some(node) = self.nodes.get(node) else { return 0 };
        let mut samples: Vec<i64> = node.skews.iter().copied().collect();
        samples.sort_unstable();
        match samples.as_slice() {
            [least, next, _, ..] if next - least <= 2 * SECOND && least.abs() >= LEAST_SKEW_MS => *least,
            _ => 0,
        }
    }

    /// What events tell about this end of this container.
    pub fn witness(&self, uid: &str, node: &str, container: &str, case: &Case) -> Witness {
        let mut witness = Witness { system_oom: self.system_oom(node, case), ..Witness::default() };
        let Some(pod) = self.pods.get(uid) else { return witness };
        let own = |fact: &&Fact| &*fact.container == container && !fact.used && during(case, fact.at);
        for fact in pod.facts.iter().filter(own) {
            match fact.told {
                Told::Kill(cause) => witness.kill = Some(cause),
                Told::Stopping => witness.stopping = witness.stopping.max(Some(fact.at)),
                Told::Unhealthy(_) | Told::SandboxChanged | Told::PodEnded(_) => {}
            }
        }
        for fact in &pod.facts {
            match fact.told {
                Told::Unhealthy(cause) if &*fact.container == container => {
                    let before = witness.stopping.map(|stopping| stopping.since(fact.at));
                    if before.is_some_and(|ms| (0..=UNHEALTHY_MS).contains(&ms)) {
                        witness.unhealthy = Some(cause);
                    }
                }
                Told::SandboxChanged => witness.sandbox_changed |= near(case, fact.at),
                Told::PodEnded(cause) => {
                    if witness.pod_event.is_none_or(|(at, _)| fact.at < at) {
                        witness.pod_event = Some((fact.at, cause));
                    }
                }
                Told::Unhealthy(_) | Told::Kill(_) | Told::Stopping => {}
            }
        }
        witness
    }

    fn system_oom(&self, node: &str, case: &Case) -> bool {
        let Some(end) = case.finished_at else { return false };
        let ooms = self.nodes.get(node).map(|node| &node.ooms);
        ooms.is_some_and(|ooms| ooms.iter().any(|at| end.since(*at).abs() <= SYSTEM_OOM_MS))
    }

    /// A probe kill of an earlier attempt than this one, told by an event.
    pub fn earlier_probe_kill(&self, uid: &str, container: &str, case: &Case) -> Option<(Cause, u32)> {
        let started = case.started_at?;
        let facts = &self.pods.get(uid)?.facts;
        facts.iter().rev().find_map(|fact| match fact.told {
            Told::Kill(cause @ (Cause::LivenessProbe | Cause::StartupProbe))
                if &*fact.container == container && fact.at < started =>
            {
                Some((cause, fact.event.1))
            }
            _ => None,
        })
    }

    /// What was told of this container up to its end has explained it, and explains nothing later.
    pub fn use_up(&mut self, uid: &str, container: &str, end: Option<Timestamp>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        for fact in pod.facts.iter_mut().filter(|fact| &*fact.container == container) {
            fact.used |= end.is_none_or(|end| seconds(fact.at) <= seconds(end));
        }
    }

    /// The pod is gone.
    pub fn forget(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    /// How many pods there are facts of.
    pub fn pods(&self) -> usize {
        self.pods.len().max(self.order.len())
    }

    /// From now on, what changes is noted.
    pub fn track(&mut self) {
        self.pods.track();
        self.nodes.track();
    }

    /// Everything passes for changed.
    pub fn note_all(&mut self) {
        self.pods.note_all();
        self.nodes.note_all();
    }

    /// Puts what changed into the batch.
    pub fn save(&mut self, batch: &mut Batch) {
        self.pods.save(Table::Evidence, batch);
        self.nodes.save(Table::Nodes, batch);
    }

    /// Takes in a row as it was saved.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn restore(&mut self, row: &Row<'_>) -> Result<(), Unreadable> {
        match row.table {
            Table::Nodes => self.nodes.restore_row(row),
            _ => self.pods.restore_row(row),
        }
    }

    /// Goes on from the rows taken in.
    pub fn resume(&mut self, now: Timestamp) {
        for pod in self.pods.values_mut_unsaved() {
            pod.arrived = pod.arrived.min(now);
        }
        let mut order: Vec<_> = self.pods.iter().map(|(uid, pod)| (pod.arrived, Arc::clone(uid))).collect();
        order.sort_unstable();
        self.order = order.into_iter().map(|(_, uid)| uid).collect();
    }

    /// Forgets what was told about pods that nobody knows.
    pub fn sweep(&mut self, now: Timestamp, known: impl Fn(&str) -> bool) {
        self.pods.retain(|uid, pod| now.since(pod.arrived) < STRANGERS_MS || known(uid));
        let pods = &self.pods;
        self.order.retain(|uid| pods.contains_key(uid));
    }
}

/// What an event told something new about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// A pod.
    Pod {
        /// Its uid (for static pods: their config.mirror annotation).
        uid: Arc<str>,
        /// What the kubelet did, if it killed a container of it.
        kill: Option<Kill>,
    },
    /// The node of this name.
    Node(Arc<str>),
}

/// The kubelet killed a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// Which.
    pub container: Box<str>,
    /// Why.
    pub cause: Cause,
    /// When, on the node's clock.
    pub at: Timestamp,
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() >= most {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// Kubernetes cuts times to whole seconds, but for eventTime.
fn seconds(at: Timestamp) -> i64 {
    at.0.div_euclid(SECOND)
}

/// Between the attempt's start and end.
fn during(case: &Case, at: Timestamp) -> bool {
    between(case.started_at, at, case.finished_at)
}

/// Whether this time is between those of a start and an end, as far as they are known.
pub fn between(start: Option<Timestamp>, at: Timestamp, end: Option<Timestamp>) -> bool {
    start.is_none_or(|start| seconds(start) <= seconds(at))
        && end.is_none_or(|end| seconds(at) <= seconds(end))
}

/// The kubelet writes `SandboxChanged` when it finds out, which is before it stops what is left.
fn near(case: &Case, at: Timestamp) -> bool {
    case.started_at.is_none_or(|start| seconds(start) <= seconds(at))
        && case.finished_at.is_none_or(|end| at.since(end) <= 10 * SECOND)
}
