//! One simulated pod with everything that writes its status: scheduler, kubelet, controllers. The order of the
//! writes and the words of the events are those of the recordings of real kubelets.

use std::sync::Arc;

use super::clock::SimClock;
use super::ids::Ids;
use super::kinds::Resource;
use super::objects::{ContainerObject, PodObject, Ran, Record, RunState, Stage, is_init};
use super::recorder::{About, Note, Recorder};
use super::script::{Death, Script, Step};
use super::store::Store;
use super::truth::{Ended, Truth};
use crate::termination::{ContainerType, Outcome, PodFailure, Workload};
use crate::time::Timestamp;

/// What the pods of a simulated cluster share.
#[derive(Clone)]
pub(super) struct World {
    pub(super) store: Arc<Store>,
    pub(super) clock: SimClock,
    pub(super) truth: Truth,
    /// Longest back-off between restarts in milliseconds. (Kubernetes: 5 minutes.)
    pub(super) max_backoff_ms: u64,
}

/// A pod and its kubelet.
pub(super) struct Kubelet<'a> {
    pub(super) world: &'a World,
    pub(super) script: &'a Script,
    pub(super) workload: Workload,
    pub(super) ids: &'a mut Ids,
    pub(super) recorder: &'a mut Recorder,
    pub(super) pod: PodObject,
}

impl Kubelet<'_> {
    /// Writes the pod as it is now.
    pub(super) fn write(&mut self) {
        let object = self.pod.json(self.world.clock.seconds());
        self.world.store.put(Resource::Pods, object);
    }

    pub(super) async fn sleep_ms(&self, ms: u64) {
        self.world.clock.sleep_ms(ms).await;
    }

    pub(super) fn now(&self) -> Timestamp {
        self.world.clock.seconds()
    }

    pub(super) fn about(&self) -> About {
        // The kubelet knows a static pod by its configuration's hash, not by its mirror's uid.
        let mirror = self.pod.annotations.iter().find(|(key, _)| *key == "kubernetes.io/config.mirror");
        About {
            kind: "Pod",
            namespace: self.pod.namespace,
            name: self.pod.name.clone(),
            uid: mirror.map_or_else(|| self.pod.uid.clone(), |(_, hash)| hash.clone()),
            node: self.pod.node,
        }
    }

    pub(super) fn note(&mut self, note: Note<'_>) {
        let about = self.about();
        self.recorder.record(self.ids, &about, note);
    }

    /// An event of the kubelet about the whole pod.
    pub(super) fn pod_event(&mut self, kind: &'static str, reason: &'static str, message: &str) {
        self.note(Note { kind, reason, message, field: "", source: "kubelet" });
    }

    /// An event of the kubelet about a container.
    pub(super) fn event(&mut self, index: usize, kind: &'static str, reason: &'static str, message: &str) {
        let Some(container) = self.pod.containers.get(index) else { return };
        let list = if is_init(container.spec.kind) { "initContainers" } else { "containers" };
        let field = format!("spec.{list}{{{}}}", container.spec.name);
        self.note(Note { kind, reason, message, field: &field, source: "kubelet" });
    }

    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.pod.containers.iter().position(|c| c.spec.name == name)
    }

    fn ended(&self, container: &ContainerObject, outcome: Outcome) -> Ended {
        Ended {
            workload: self.workload.clone(),
            container: container.spec.name.into(),
            container_type: container.spec.kind,
            outcome,
        }
    }

    /// Counts an end that the next write shows.
    pub(super) fn count(&self, index: usize, outcome: Outcome) {
        if let Some(container) = self.pod.containers.get(index) {
            self.world.truth.terminated(self.ended(container, outcome));
        }
    }

    pub(super) fn count_restart(&self, index: usize, after: Outcome) {
        if let Some(container) = self.pod.containers.get(index) {
            self.world.truth.restarted(self.ended(container, after));
        }
    }

    pub(super) fn fail(&mut self, reason: &'static str, message: &str, failure: PodFailure) {
        (self.pod.phase, self.pod.reason, self.pod.message) = ("Failed", reason, message.to_owned());
        self.world.truth.pod_failed(self.workload.clone(), failure);
    }

    /// Makes the pod, binds it and starts what can be started.
    pub(super) async fn start(&mut self) {
        self.write();
        self.sleep_ms(50).await;
        self.pod.stage = Stage::Scheduled;
        self.write();
        let message =
            format!("Successfully assigned {}/{} to {}", self.pod.namespace, self.pod.name, self.pod.node);
        self.note(Note {
            kind: "Normal",
            reason: "Scheduled",
            message: &message,
            field: "",
            source: "default-scheduler",
        });
        self.sleep_ms(100).await;
        self.pod.stage = Stage::Synced;
        self.write();
        self.sleep_ms(700).await;
        self.start_containers().await;
    }

    /// Starts the containers whose turn it is: the next init container, or else everything.
    pub(super) async fn start_containers(&mut self) {
        for index in 0..self.pod.containers.len() {
            let Some(container) = self.pod.containers.get(index) else { return };
            let spec = container.spec;
            let fresh = matches!(container.state, RunState::Waiting(..)) && container.id.is_none();
            // What fails to start is written only once it has failed: see `dies`.
            if fresh && !spec.post_start && self.starts(spec.name) {
                self.launch(index).await;
            }
            let waits = spec.kind == ContainerType::Init
                && self.pod.containers.get(index).is_some_and(|c| !completed(c));
            if waits {
                self.write();
                return;
            }
        }
        self.pod.phase = "Running";
        if self.pod.containers.iter().any(ContainerObject::runs) {
            self.write();
        }
    }

    /// Whether this container can be started at all.
    fn starts(&self, name: &str) -> bool {
        fn fails(steps: &[Step], name: &str) -> bool {
            steps.iter().any(|step| match step {
                Step::Dies(n, Death::StartError) => *n == name,
                Step::Repeat(_, steps) => fails(steps, name),
                _ => false,
            })
        }
        !fails(self.script.life, name)
    }

    /// Starts a container: events and a new id, no write.
    pub(super) async fn launch(&mut self, index: usize) {
        let Some(image) = self.pod.containers.get(index).map(|c| c.image.clone()) else { return };
        let pulled =
            format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
        self.event(index, "Normal", "Pulled", &pulled);
        self.event(index, "Normal", "Created", "Container created");
        self.sleep_ms(200).await;
        self.event(index, "Normal", "Started", "Container started");
        let (id, now) = (self.ids.container(), self.now());
        if let Some(container) = self.pod.containers.get_mut(index) {
            container.id = Some(id);
            container.state = RunState::Running(now);
        }
    }

    /// The record of a container that runs and ends now.
    pub(super) fn record(&self, index: usize, outcome: Outcome, message: &str) -> Option<Record> {
        let container = self.pod.containers.get(index)?;
        let RunState::Running(from) = container.state else { return None };
        let to = self.now();
        let id = container.id.clone()?;
        Some(Record { outcome, message: message.to_owned(), ran: Some(Ran { from, to, id }) })
    }
}

pub(super) fn completed(container: &ContainerObject) -> bool {
    matches!(&container.state, RunState::Terminated(r) if r.outcome.exit_code.0 == Some(0))
}
