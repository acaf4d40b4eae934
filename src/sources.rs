//! What is watched: pods in each scope, and the events that tell who killed a container.

use std::sync::Arc;

use kube::Client;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::core::{self, Input, Scope};
use crate::exposition::{OwnerSnapshot, Sources, WatchSnapshot};
use crate::options::Options;
use crate::owners::{LookupResult, OwnerStats};
use crate::pod::{Event, Pod};
use crate::publish::Readiness;
use crate::store::StateHealth;
use crate::time::{Clock, Timestamp};
use crate::watch::{self, EventKind, FailureReason, Health, Stats, Target, Update};

/// Updates that wait between a watch and the core's queue.
const UPDATES: usize = 64;
/// Where the API server keeps events about nodes.
pub const NODE_EVENTS: &str = "default";
/// The kubelet's events that explain no end: the API server leaves them out, and a rollout of thousands of pods
/// costs nothing.
const IRRELEVANT: [&str; 22] = [
    "AllocatedResources",
    "BackOff",
    "Created",
    "DNSConfigForming",
    "Failed",
    "FailedCreatePodSandBox",
    "FailedMount",
    "FailedSync",
    "ImageGCFailed",
    "InvalidDiskCapacity",
    "NodeAllocatableEnforced",
    "NodeHasDiskPressure",
    "NodeHasNoDiskPressure",
    "NodeHasSufficientMemory",
    "NodeHasSufficientPID",
    "NodeReady",
    "ProbeWarning",
    "Pulled",
    "Pulling",
    "Rebooted",
    "Started",
    "Starting",
];

/// The watches that run.
pub struct Watches {
    pods: Vec<(Scope, Arc<Health>)>,
    events: Vec<Arc<Health>>,
    pod_stats: Arc<Stats>,
    event_stats: Arc<Stats>,
    core: core::Options,
    node_events: bool,
    clock: Clock,
}

impl Watches {
    /// One watch for pods and one for events, in all namespaces or in each of `--namespaces`.
    pub fn new(options: &Options, clock: Clock) -> Self {
        let namespaces = options.watched_namespaces();
        let excluded = options.excluded_namespaces();
        let scopes: Vec<Option<String>> = match namespaces.as_slice() {
            [] => vec![None],
            names => names.iter().cloned().map(Some).collect(),
        };
        let mut watches = Self {
            pods: Vec::new(),
            events: Vec::new(),
            pod_stats: Arc::default(),
            event_stats: Arc::default(),
            core: core::Options {
                copy_labels: options.copied_keys(),
                pod_label: options.pod_label,
                scopes: u16::try_from(scopes.len()).unwrap_or(u16::MAX),
                events: options.events,
            },
            node_events: options.events && sees_node_events(&namespaces),
            clock,
        };
        for (index, namespace) in scopes.iter().enumerate() {
            let scope = Scope(u16::try_from(index).unwrap_or(u16::MAX));
            let target = target_pods(namespace.as_deref(), &excluded);
            let health = Arc::new(Health::new(target, Arc::clone(&watches.pod_stats), clock));
            watches.pods.push((scope, health));
            if options.events {
                let target = target_events(namespace.as_deref(), &excluded);
                let health = Arc::new(Health::new(target, Arc::clone(&watches.event_stats), clock));
                watches.events.push(health);
            }
        }
        say_what_is_missing(options, &namespaces);
        watches
    }

    /// Starts them.
    pub fn start(&self, client: &Client, inputs: &mpsc::Sender<Input>, tasks: &mut JoinSet<()>) {
        for (scope, health) in &self.pods {
            let scope = *scope;
            spawn(client, Arc::clone(health), inputs, tasks, move |update| Some(pod_input(scope, update)));
        }
        for health in &self.events {
            spawn(client, Arc::clone(health), inputs, tasks, event_input);
        }
    }

    /// What the core must know of the watches.
    pub fn core_options(&self) -> core::Options {
        self.core.clone()
    }

    /// Ready once the first list of pods is in, and as long as their watch works; events only explain.
    pub fn readiness(&self) -> Readiness {
        let (pods, clock) = (self.pods.clone(), self.clock);
        Arc::new(move || pods.iter().try_for_each(|(_, health)| health.ready(clock.now())))
    }

    /// Where the exporter's own metrics come from.
    pub fn sources(&self, owners: &Arc<OwnerStats>, state: Option<Arc<StateHealth>>) -> Sources {
        let pods = self.pods.iter().map(|(_, health)| Arc::clone(health)).collect();
        let watched = [
            ("events", self.events.clone(), Arc::clone(&self.event_stats)),
            ("pods", pods, Arc::clone(&self.pod_stats)),
        ];
        let (owners, clock) = (Arc::clone(owners), self.clock);
        Sources {
            watches: Arc::new(move || {
                let now = clock.now();
                watched
                    .iter()
                    .map(|(resource, healths, stats)| snapshot(resource, healths, stats, now))
                    .collect()
            }),
            owners: Arc::new(move || owner_snapshot(&owners)),
            state,
            node_events: self.node_events,
        }
    }
}

/// Whether the namespace of events about nodes is watched; none means all.
fn sees_node_events(namespaces: &[String]) -> bool {
    namespaces.is_empty() || namespaces.iter().any(|name| name == NODE_EVENTS)
}

fn say_what_is_missing(options: &Options, namespaces: &[String]) {
    let effect = "causes that only an event can tell fall back to status and history";
    if !options.events {
        tracing::info!(effect, "events are not watched");
    } else if !sees_node_events(namespaces) {
        tracing::info!(
            namespace = NODE_EVENTS,
            effect = "an out-of-memory kill by the node without the runtime's word reads killed",
            "events about nodes are out of sight: their namespace is not watched"
        );
    }
}

fn target(resource: &'static str, namespace: Option<&str>, selector: &[String]) -> Target {
    let target = match namespace {
        Some(namespace) => Target::all(resource).in_namespace(namespace),
        None => Target::all(resource),
    };
    if selector.is_empty() { target } else { target.selecting(selector.join(",")) }
}

fn pod_selector(excluded: &[String]) -> Vec<String> {
    excluded.iter().map(|namespace| format!("metadata.namespace!={namespace}")).collect()
}

/// The pods of a namespace, or of all.
pub fn target_pods(namespace: Option<&str>, excluded: &[String]) -> Target {
    target("pods", namespace, &pod_selector(excluded))
}

/// The events of a namespace, or of all, that may explain an end.
pub fn target_events(namespace: Option<&str>, excluded: &[String]) -> Target {
    let mut selector = vec!["source=kubelet".to_owned()];
    selector.extend(IRRELEVANT.iter().map(|reason| format!("reason!={reason}")));
    // Events about nodes stay in sight even if pods of that namespace are not counted.
    let excluded: Vec<_> = excluded.iter().filter(|name| *name != NODE_EVENTS).cloned().collect();
    selector.extend(pod_selector(&excluded));
    target("events", namespace, &selector)
}

fn spawn<T: crate::pod::Object>(
    client: &Client,
    health: Arc<Health>,
    inputs: &mpsc::Sender<Input>,
    tasks: &mut JoinSet<()>,
    convert: impl Fn(Update<T>) -> Option<Input> + Send + 'static,
) {
    let (updates, mut received) = mpsc::channel(UPDATES);
    tasks.spawn(watch::run(client.clone(), health, updates));
    let inputs = inputs.clone();
    tasks.spawn(async move {
        while let Some(update) = received.recv().await {
            let Some(input) = convert(update) else { continue };
            if inputs.send(input).await.is_err() {
                return;
            }
        }
    });
}

fn pod_input(scope: Scope, update: Update<Pod>) -> Input {
    match update {
        Update::ListBegins => Input::ListBegins(scope),
        Update::Listed(pod) => Input::PodListed(scope, Box::new(pod)),
        Update::StillThere(uid) => Input::StillThere(scope, uid),
        Update::ListDone { whole } => Input::Listed { scope, whole },
        Update::Added(pod) | Update::Modified(pod) => Input::PodSeen(scope, Box::new(pod)),
        Update::Deleted(pod) => Input::PodDeleted(scope, Box::new(pod)),
        Update::Bookmark => Input::Tick,
    }
}

/// An event object that is deleted (after an hour) tells nothing new.
fn event_input(update: Update<Event>) -> Option<Input> {
    match update {
        Update::Listed(event) | Update::Added(event) | Update::Modified(event) => {
            Some(Input::Event(Box::new(event)))
        }
        Update::ListBegins
        | Update::StillThere(_)
        | Update::ListDone { .. }
        | Update::Deleted(_)
        | Update::Bookmark => None,
    }
}

fn snapshot(resource: &'static str, healths: &[Arc<Health>], stats: &Stats, now: Timestamp) -> WatchSnapshot {
    WatchSnapshot {
        resource,
        synced: !healths.is_empty() && healths.iter().all(|health| health.ready(now).is_ok()),
        events: EventKind::ALL.iter().map(|kind| (kind.as_str(), stats.events(*kind))).collect(),
        failures: FailureReason::ALL
            .iter()
            .map(|reason| (reason.as_str(), stats.failures(*reason)))
            .collect(),
        lists_succeeded: stats.lists_succeeded(),
        lists_failed: stats.lists_failed(),
        undecodable: stats.undecodable(),
        last_event: stats.last_event(),
    }
}

fn owner_snapshot(stats: &OwnerStats) -> OwnerSnapshot {
    OwnerSnapshot {
        found: stats.lookups(LookupResult::Found),
        not_found: stats.lookups(LookupResult::NotFound),
        forbidden: stats.lookups(LookupResult::Forbidden),
        timeout: stats.lookups(LookupResult::Timeout),
        error: stats.lookups(LookupResult::Error),
    }
}
