//! The counts that are published, bounded in number and in age.
//!
//! Tables are sorted by their rendered labels, which begin with the workload's identity: a workload's series
//! are one range, and rendering is one walk in order. Terminations and restarts share their keys.

mod bounds;
mod labels;
mod read;
mod sample;
mod saved;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use sample::Sample;

use saved::{Unsaved, Values};

use crate::core::Effect;
use crate::termination::{Outcome, PodFailure, Subject, Termination, Workload};
use crate::time::Timestamp;

/// What bounds the series and which labels they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesOptions {
    /// Label names of the copied pod labels, in the order of [`Subject::extra`].
    pub copy_labels: Vec<String>,
    /// Whether the pod's name follows them.
    pub pod_label: bool,
    /// How many series there may be. One overflow series a family may come on top.
    pub max_series: usize,
    /// How long a workload's series stay after its last pod is gone and its last count.
    pub series_ttl: Duration,
}

impl Default for SeriesOptions {
    fn default() -> Self {
        Self {
            copy_labels: Vec::new(),
            pod_label: false,
            max_series: 100_000,
            series_ttl: Duration::from_secs(7200),
        }
    }
}

/// Both counters of one label set.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    terminations: Option<Sample>,
    restarts: Option<Sample>,
}

impl Counters {
    fn len(&self) -> usize {
        usize::from(self.terminations.is_some()) + usize::from(self.restarts.is_some())
    }
}

/// What all series of a workload have in common.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// How many pods are known; `None` until that was told.
    pods: Option<u32>,
    /// The last count, or the moment its last pod was gone if that was later.
    active: Timestamp,
    /// The last count.
    counted: Timestamp,
    /// How many counter series it has.
    counters: usize,
    /// Whether the gauge of its pods is among the series.
    shows_pods: bool,
}

impl Group {
    fn has_pods(&self) -> bool {
        self.pods.is_some_and(|pods| pods > 0)
    }
}

/// Which of the counters of a container.
#[derive(Clone, Copy)]
enum Counter {
    Terminations,
    Restarts,
}

impl Counter {
    const fn values(self) -> Values {
        match self {
            Self::Terminations => Values::Terminations,
            Self::Restarts => Values::Restarts,
        }
    }
}

type Table<V> = BTreeMap<Box<str>, V>;

/// The counts.
#[derive(Debug)]
pub struct Series {
    options: SeriesOptions,
    extra_names: Vec<String>,
    containers: Table<Counters>,
    last_terminations: Table<Timestamp>,
    pod_failures: Table<Sample>,
    nodes: Table<Sample>,
    groups: BTreeMap<Arc<str>, Group>,
    /// Workloads without pods, by their last count: what goes first when room is needed.
    idle: BTreeSet<(Timestamp, Arc<str>)>,
    /// The last count on each node.
    node_counted: BTreeMap<Box<str>, Timestamp>,
    /// How many series there are, without those of overflow.
    len: usize,
    /// How many overflow series there are: at most one a counter.
    overflow_len: usize,
    evicted: u64,
    overflowed: u64,
    /// What changed since it was saved; `None` where nothing is saved.
    unsaved: Option<Box<Unsaved>>,
}

impl Series {
    /// No series yet.
    #[must_use]
    pub fn new(options: SeriesOptions) -> Self {
        let pod = options.pod_label.then(|| "pod".to_owned());
        let extra_names = options.copy_labels.iter().cloned().chain(pod).collect();
        Self {
            options,
            extra_names,
            containers: Table::new(),
            last_terminations: Table::new(),
            pod_failures: Table::new(),
            nodes: Table::new(),
            groups: BTreeMap::new(),
            idle: BTreeSet::new(),
            node_counted: BTreeMap::new(),
            len: 0,
            overflow_len: 0,
            evicted: 0,
            overflowed: 0,
            unsaved: None,
        }
    }

    /// Counts what the core tells; effects that count nothing are ignored.
    pub fn apply(&mut self, effect: &Effect, now: Timestamp) {
        match effect {
            Effect::Terminated(termination) => self.terminated(termination, now),
            Effect::Restarted { subject, outcome, count } => self.restarted(subject, outcome, *count, now),
            Effect::PodFailed { workload, extra, failure } => self.pod_failed(workload, extra, *failure, now),
            Effect::WorkloadPods { workload, pods } => self.workload_pods(workload, *pods, now),
            Effect::LookUp(_) | Effect::OwnerCached | Effect::Baseline(_) | Effect::UnobservedPod => {}
        }
    }

    fn terminated(&mut self, termination: &Termination, now: Timestamp) {
        let subject = &termination.subject;
        let group = self.touch(&subject.workload, now);
        let by = termination.count;
        self.count_container(&group, Counter::Terminations, subject, &termination.outcome, by, now);
        self.count_node(&group, &termination.node, termination.outcome.cause.as_str(), by, now);
        let ended = termination.finished_at.unwrap_or(termination.counted_at);
        self.note_last_termination(&group, subject, ended);
        self.settle(&group);
    }

    fn restarted(&mut self, subject: &Subject, outcome: &Outcome, by: u32, now: Timestamp) {
        let group = self.touch(&subject.workload, now);
        self.count_container(&group, Counter::Restarts, subject, outcome, by, now);
        self.settle(&group);
    }

    fn pod_failed(&mut self, workload: &Workload, extra: &[Arc<str>], failure: PodFailure, now: Timestamp) {
        let group = self.touch(workload, now);
        let mut key = labels::failure(workload, failure, &self.extra_names, extra);
        if !self.pod_failures.contains_key(key.as_str()) {
            if self.make_room(&group) {
                self.note_counter(&group);
            } else {
                key = labels::overflow(&FAILURE_LABELS, &self.extra_names);
                self.note_overflow(self.pod_failures.contains_key(key.as_str()), 1);
            }
        }
        self.note(Values::PodFailures, &key);
        count(self.pod_failures.entry(key.into()).or_insert(Sample::new(now)), 1);
        self.settle(&group);
    }

    fn workload_pods(&mut self, workload: &Workload, pods: u32, now: Timestamp) {
        let key = labels::workload(workload);
        // A workload without counters is remembered while it has pods: it may come to count (again), and must
        // not pass for one without pods then.
        if pods == 0 && !self.groups.contains_key(key.as_str()) {
            return;
        }
        let key: Arc<str> = key.into();
        let group = self.groups.entry(Arc::clone(&key)).or_default();
        let left = pods == 0 && group.has_pods();
        if left {
            group.active = now;
        }
        group.pods = Some(pods);
        if pods == 0 {
            self.idle.insert((group.counted, Arc::clone(&key)));
        } else {
            self.idle.remove(&(group.counted, Arc::clone(&key)));
        }
        if left {
            self.note_group(&key);
        }
        self.settle(&key);
    }

    fn count_container(
        &mut self,
        group: &Arc<str>,
        which: Counter,
        subject: &Subject,
        outcome: &Outcome,
        by: u32,
        now: Timestamp,
    ) {
        let mut key = labels::outcome(subject, outcome, &self.extra_names);
        if !self.has_counter(&key, which) {
            if self.make_room(group) {
                self.note_counter(group);
            } else {
                key = labels::overflow(&CONTAINER_LABELS, &self.extra_names);
                self.note_overflow(self.has_counter(&key, which), by);
            }
        }
        self.note(which.values(), &key);
        let counters = self.containers.entry(key.into()).or_default();
        let slot = match which {
            Counter::Terminations => &mut counters.terminations,
            Counter::Restarts => &mut counters.restarts,
        };
        count(slot.get_or_insert(Sample::new(now)), by);
    }

    fn has_counter(&self, key: &str, which: Counter) -> bool {
        self.containers.get(key).is_some_and(|counters| match which {
            Counter::Terminations => counters.terminations.is_some(),
            Counter::Restarts => counters.restarts.is_some(),
        })
    }

    fn count_node(&mut self, group: &Arc<str>, node: &str, cause: &str, by: u32, now: Timestamp) {
        let node = labels::node(node);
        let mut key = labels::node_cause(&node, cause);
        let exists = self.nodes.contains_key(key.as_str());
        if exists || self.make_room(group) {
            self.len += usize::from(!exists);
            self.note_node(&node);
            self.node_counted.insert(node.into(), now);
        } else {
            key = labels::overflow(&NODE_LABELS, &[]);
            self.note_overflow(self.nodes.contains_key(key.as_str()), by);
        }
        self.note(Values::Nodes, &key);
        count(self.nodes.entry(key.into()).or_insert(Sample::new(now)), by);
    }

    /// A gauge has no overflow series: without room it is not shown.
    fn note_last_termination(&mut self, group: &Arc<str>, subject: &Subject, ended: Timestamp) {
        let key = labels::container(subject);
        self.note(Values::LastTerminations, &key);
        if let Some(last) = self.last_terminations.get_mut(key.as_str()) {
            *last = ended.max(*last);
        } else if self.groups.get(group).is_some_and(|group| group.counters > 0) && self.make_room(group) {
            self.len += 1;
            self.last_terminations.insert(key.into(), ended);
        }
    }

    fn note_counter(&mut self, group: &Arc<str>) {
        self.len += 1;
        if let Some(group) = self.groups.get_mut(group) {
            group.counters += 1;
        }
    }

    fn note_overflow(&mut self, exists: bool, by: u32) {
        self.overflow_len += usize::from(!exists);
        self.overflowed = self.overflowed.saturating_add(u64::from(by));
    }
}

const FAILURE_LABELS: [&str; 4] = ["namespace", "workload_type", "workload", "reason"];
const NODE_LABELS: [&str; 2] = ["node", "cause"];
const CONTAINER_LABELS: [&str; 8] =
    ["namespace", "workload_type", "workload", "container", "container_type", "exit_code", "reason", "cause"];

fn count(sample: &mut Sample, by: u32) {
    sample.value = sample.value.saturating_add(u64::from(by));
}

#[cfg(test)]
mod tests;
