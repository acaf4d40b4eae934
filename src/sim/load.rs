//! Load: many realistic pods, and containers that end at a given rate, with the truth.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::clock::SimClock;
use super::kinds::Resource;
use super::load_pod::{CONTAINERS, LoadContainer, LoadEnd, LoadPod, LoadState};
use super::load_template::Template;
use super::script::{by_itself, ended_by};
use super::store::Store;
use super::truth::{Counts, Ended, Truth};
use crate::termination::{Cause, ContainerType, ExitCode, Outcome, Reason, Workload};
use crate::time::Timestamp;

/// Events that stay in the store.
const EVENTS: usize = 2_000;
/// Time between two rounds of ends.
const ROUND: Duration = Duration::from_millis(10);

/// How much there is.
#[derive(Clone, Debug)]
pub struct LoadSettings {
    /// Pods.
    pub pods: u32,
    /// Pods of one Deployment.
    pub per_workload: u32,
    /// Namespaces over which the Deployments are spread.
    pub namespaces: u32,
    /// Share of ends that come in pairs of which a status shows only the second, in percent.
    pub coalesced_percent: u8,
    /// Share of ends after which the pod is deleted and another takes its place, in percent.
    pub replaced_percent: u8,
    /// The seed of everything random.
    pub seed: u64,
}

impl Default for LoadSettings {
    fn default() -> Self {
        Self {
            pods: 1_000,
            per_workload: 10,
            namespaces: 20,
            coalesced_percent: 10,
            replaced_percent: 2,
            seed: 1,
        }
    }
}

/// Pods in a store, and the means to end their containers.
pub struct Load {
    store: Arc<Store>,
    clock: SimClock,
    settings: LoadSettings,
    pods: Vec<LoadPod>,
    next_number: u32,
    rng: Rng,
    truth: Truth,
    events: VecDeque<(Arc<str>, String)>,
    next_event: u64,
}

impl Load {
    /// Fills a store with pods whose containers all run.
    #[must_use]
    pub fn fill(store: &Arc<Store>, clock: SimClock, settings: LoadSettings) -> Self {
        let pods = pods(&settings, clock.seconds().plus_ms(-3_600_000));
        let load = Self {
            store: Arc::clone(store),
            clock,
            next_number: settings.pods,
            rng: Rng::with_seed(settings.seed),
            settings,
            pods,
            truth: Truth::default(),
            events: VecDeque::new(),
            next_event: 0,
        };
        for pod in &load.pods {
            load.write(pod);
        }
        load
    }

    /// What was done so far.
    #[must_use]
    pub fn truth(&self) -> Counts {
        self.truth.counts()
    }

    /// Ends containers at a rate (a second), for a time. Each end is three writes: terminated, backing off,
    /// running again.
    pub async fn churn(&mut self, rate: f64, time: Duration) {
        let begin = Instant::now();
        let (mut due, mut round) = (0.0, begin);
        while round.duration_since(begin) < time {
            round += ROUND;
            sleep_until(round).await;
            due += rate * ROUND.as_secs_f64();
            while due >= 1.0 {
                due -= 1.0;
                self.end_one();
            }
        }
    }

    /// A container that was not started in this very second: times are whole seconds, and two attempts of one
    /// second could not be told apart by them.
    fn pick(&mut self) -> Option<(usize, usize)> {
        let now = self.clock.seconds();
        (0..16).find_map(|_| {
            let pod = self.rng.choice(0..self.pods.len())?;
            let container = self.rng.usize(..CONTAINERS.len());
            let since = self.pods.get(pod)?.containers.get(container)?.since;
            (since < now).then_some((pod, container))
        })
    }

    /// Ends one container; none if all were started just now.
    pub fn end_one(&mut self) {
        let Some((pod, container)) = self.pick() else { return };
        let coalesced = self.rng.u8(..100) < self.settings.coalesced_percent;
        let replaced = self.rng.u8(..100) < self.settings.replaced_percent;
        let outcome = outcome(self.rng.usize(..OUTCOMES));
        if coalesced {
            return self.end_twice(pod, container, by_itself(1));
        }
        if outcome.cause == Cause::LivenessProbe {
            self.killing(pod, container);
        }
        self.count(pod, container, outcome, Truth::terminated);
        let to = self.clock.seconds();
        self.change(pod, container, |c| {
            c.state = LoadState::Terminated(LoadEnd { outcome, attempt: c.restarts, from: c.since, to });
        });
        if replaced {
            return self.replace(pod);
        }
        self.change(pod, container, |c| {
            c.last = Some(LoadEnd { outcome, attempt: c.restarts, from: c.since, to });
            c.state = LoadState::BackingOff;
        });
        self.count(pod, container, outcome, Truth::restarted);
        self.change(pod, container, |c| {
            (c.restarts, c.since, c.state) = (c.restarts.saturating_add(1), to, LoadState::Running);
        });
    }

    fn end_twice(&mut self, pod: usize, container: usize, outcome: Outcome) {
        let now = self.clock.seconds();
        for outcome in [Outcome::NOT_OBSERVED, outcome] {
            self.count(pod, container, outcome, Truth::terminated);
            self.count(pod, container, outcome, Truth::restarted);
        }
        self.change(pod, container, |c| {
            let attempt = c.restarts.saturating_add(1);
            c.last = Some(LoadEnd { outcome, attempt, from: now, to: now });
            (c.restarts, c.since) = (c.restarts.saturating_add(2), now);
        });
    }

    /// Deletes a pod, whose other container still runs, and makes another.
    fn replace(&mut self, index: usize) {
        self.truth.vanished();
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        let now = self.clock.seconds();
        let fresh = LoadContainer { restarts: 0, state: LoadState::Running, since: now, last: None };
        let Some(pod) = self.pods.get_mut(index) else { return };
        self.store.delete(Resource::Pods, &pod.namespace, &pod.name());
        (pod.number, pod.created, pod.containers) = (number, now, [fresh; 2]);
        let pod = pod.clone();
        self.write(&pod);
    }

    fn change(&mut self, pod: usize, container: usize, change: impl FnOnce(&mut LoadContainer)) {
        let Some(pod) = self.pods.get_mut(pod) else { return };
        if let Some(container) = pod.containers.get_mut(container) {
            change(container);
        }
        let pod = pod.clone();
        self.write(&pod);
    }

    fn write(&self, pod: &LoadPod) {
        let (namespace, name) = ((*pod.namespace).into(), pod.name().into());
        self.store.put_content(Resource::Pods, namespace, name, Arc::new(pod.clone()));
    }

    fn count(&self, pod: usize, container: usize, outcome: Outcome, count: fn(&Truth, Ended)) {
        let (Some(pod), Some(container)) = (self.pods.get(pod), CONTAINERS.get(container)) else { return };
        let workload = Workload {
            namespace: Arc::clone(&pod.namespace),
            workload_type: "deployment".into(),
            name: Arc::clone(&pod.workload),
        };
        let container_type = ContainerType::App;
        count(&self.truth, Ended { workload, container: (*container).into(), container_type, outcome });
    }

    /// The kubelet's event of a failed liveness probe; old events are forgotten.
    fn killing(&mut self, pod: usize, container: usize) {
        let (Some(pod), Some(container)) = (self.pods.get(pod), CONTAINERS.get(container)) else { return };
        self.next_event = self.next_event.saturating_add(1);
        let (now, name) = (self.clock.seconds().to_string(), format!("{}.{:x}", pod.name(), self.next_event));
        let event = json!({
            "metadata": {
                "name": name, "namespace": &*pod.namespace, "creationTimestamp": now,
                "uid": format!("00000000-0000-4000-b000-{:012}", self.next_event),
            },
            "involvedObject": {
                "kind": "Pod", "apiVersion": "v1", "namespace": &*pod.namespace, "name": pod.name(),
                "uid": pod.uid(), "fieldPath": format!("spec.containers{{{container}}}"),
            },
            "reason": "Killing", "type": "Normal", "count": 1,
            "message": format!("Container {container} failed liveness probe, will be restarted"),
            "source": {"component": "kubelet", "host": "node-1"}, "firstTimestamp": now,
            "lastTimestamp": now, "eventTime": null, "reportingComponent": "kubelet",
            "reportingInstance": "node-1",
        });
        self.events.push_back((Arc::clone(&pod.namespace), name));
        self.store.put(Resource::Events, event);
        if self.events.len() > EVENTS
            && let Some((namespace, name)) = self.events.pop_front()
        {
            self.store.delete(Resource::Events, &namespace, &name);
        }
    }
}

/// The pods, all made at this time.
fn pods(settings: &LoadSettings, created: Timestamp) -> Vec<LoadPod> {
    let templates = Template::all();
    let names: Vec<Arc<str>> = (0..settings.namespaces.max(1)).map(|n| format!("load-{n}").into()).collect();
    let fresh = LoadContainer { restarts: 0, state: LoadState::Running, since: created, last: None };
    let mut pods = Vec::new();
    let mut workload: Arc<str> = "".into();
    for number in 0..settings.pods {
        let group = number / settings.per_workload.max(1);
        if number % settings.per_workload.max(1) == 0 {
            workload = format!("service-{group}").into();
        }
        let (namespace, template) = (choose(&names, group), choose(&templates, number));
        let (Some(namespace), Some(template)) = (namespace, template) else { break };
        let workload = Arc::clone(&workload);
        pods.push(LoadPod { template, namespace, workload, number, created, containers: [fresh; 2] });
    }
    pods
}

fn choose<T: Clone>(from: &[T], number: u32) -> Option<T> {
    let number = usize::try_from(number).unwrap_or(0);
    from.get(number.checked_rem(from.len())?).cloned()
}

/// How many kinds of ends there are.
const OUTCOMES: usize = 9;

fn outcome(index: usize) -> Outcome {
    let named = |code, reason, cause| Outcome { exit_code: ExitCode(Some(code)), reason, cause };
    match index {
        0 => by_itself(0),
        1 => by_itself(2),
        2 => by_itself(139),
        3 => by_itself(143),
        4 => by_itself(255),
        5 => named(137, Reason::OomKilled, Cause::OomLimit),
        6 => named(128, Reason::StartError, Cause::StartFailed),
        7 => ended_by(Cause::LivenessProbe, 137),
        _ => by_itself(1),
    }
}
