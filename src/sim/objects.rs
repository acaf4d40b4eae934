//! Pods as the kubelet's status writes leave them, and their JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::script::{Container, PodSpec, Probe, Restart};
use crate::termination::{ContainerType, Outcome};
use crate::time::Timestamp;

/// `state.terminated`.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) outcome: Outcome,
    pub(super) message: String,
    /// Absent in a record that the kubelet made up.
    pub(super) ran: Option<Ran>,
}

/// When a container ran, and its id.
#[derive(Clone, Debug)]
pub(super) struct Ran {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) id: String,
}

/// `state`.
#[derive(Clone, Debug)]
pub(super) enum RunState {
    Waiting(&'static str, String),
    Running(Timestamp),
    Terminated(Record),
}

/// A container's spec and status.
#[derive(Clone, Debug)]
pub(super) struct ContainerObject {
    pub(super) spec: Container,
    pub(super) image: String,
    pub(super) memory: Option<String>,
    pub(super) id: Option<String>,
    pub(super) restarts: i32,
    pub(super) state: RunState,
    pub(super) last: Option<Record>,
}

impl ContainerObject {
    pub(super) fn runs(&self) -> bool {
        matches!(self.state, RunState::Running(_))
    }

    /// Init containers and containers whose startup probe never succeeds are never ready while they run.
    fn ready(&self) -> bool {
        match &self.state {
            RunState::Running(_) => self.spec.startup.is_none() && self.spec.kind != ContainerType::Init,
            RunState::Terminated(record) => {
                self.spec.kind == ContainerType::Init && record.outcome.exit_code.0 == Some(0)
            }
            RunState::Waiting(..) => false,
        }
    }
}

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Created,
    Scheduled,
    /// The kubelet has written its status.
    Synced,
    /// The kubelet rejected it: a status without containers.
    Rejected,
}

/// A condition that says why a pod ends.
#[derive(Clone, Debug)]
pub(super) struct Disruption {
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) at: Timestamp,
}

/// A controller.
#[derive(Clone, Debug)]
pub(super) struct OwnerRef {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) uid: String,
}

impl OwnerRef {
    pub(super) fn json(&self) -> Value {
        json!([{
            "apiVersion": self.api_version, "kind": self.kind, "name": self.name, "uid": self.uid,
            "controller": true, "blockOwnerDeletion": true,
        }])
    }
}

/// A pod.
#[derive(Clone, Debug)]
pub(super) struct PodObject {
    pub(super) namespace: &'static str,
    pub(super) name: String,
    pub(super) generate_name: Option<String>,
    pub(super) uid: String,
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) annotations: Vec<(&'static str, String)>,
    pub(super) owner: Option<OwnerRef>,
    pub(super) finalizers: Vec<&'static str>,
    pub(super) created: Timestamp,
    pub(super) deletion: Option<(Timestamp, i64)>,
    pub(super) generation: i64,
    pub(super) node: &'static str,
    pub(super) spec: PodSpec,
    pub(super) stage: Stage,
    pub(super) phase: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) disruption: Option<Disruption>,
    /// Status, and since when, of each condition.
    pub(super) conditions: BTreeMap<&'static str, (bool, Timestamp)>,
    pub(super) containers: Vec<ContainerObject>,
}

impl PodObject {
    /// Whether nothing more will run in it.
    pub(super) fn terminal(&self) -> bool {
        matches!(self.phase, "Failed" | "Succeeded")
    }

    /// The object at this moment; the conditions remember since when they are as they are.
    pub(super) fn json(&mut self, now: Timestamp) -> Value {
        json!({"metadata": self.metadata(), "spec": self.spec_json(), "status": self.status(now)})
    }

    fn metadata(&self) -> Value {
        let mut metadata = json!({
            "name": self.name, "namespace": self.namespace, "uid": self.uid, "generation": self.generation,
            "creationTimestamp": time(self.created),
        });
        let pairs = |pairs: &[(&'static str, String)]| -> Map<String, Value> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_str().into())).collect()
        };
        set(&mut metadata, "labels", !self.labels.is_empty(), || pairs(&self.labels).into());
        set(&mut metadata, "annotations", !self.annotations.is_empty(), || pairs(&self.annotations).into());
        set(&mut metadata, "finalizers", !self.finalizers.is_empty(), || json!(self.finalizers));
        if let Some(prefix) = &self.generate_name {
            metadata["generateName"] = prefix.as_str().into();
        }
        if let Some(owner) = &self.owner {
            metadata["ownerReferences"] = owner.json();
        }
        if let Some((at, grace)) = self.deletion {
            metadata["deletionTimestamp"] = time(at);
            metadata["deletionGracePeriodSeconds"] = grace.into();
        }
        metadata
    }

    fn spec_json(&self) -> Value {
        let of = |init: bool| -> Vec<Value> {
            let wanted = self.containers.iter().filter(|c| is_init(c.spec.kind) == init);
            wanted.map(container_spec).collect()
        };
        let mut spec = json!({
            "containers": of(false),
            "restartPolicy": match self.spec.restart {
                Restart::Always => "Always",
                Restart::OnFailure => "OnFailure",
                Restart::Never => "Never",
            },
            "terminationGracePeriodSeconds": self.spec.grace, "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default", "serviceAccount": "default", "securityContext": {},
            "schedulerName": "default-scheduler", "priority": 0, "enableServiceLinks": true,
            "preemptionPolicy": "PreemptLowerPriority",
        });
        let init = of(true);
        set(&mut spec, "initContainers", !init.is_empty(), || init.into());
        set(&mut spec, "nodeName", self.stage > Stage::Created, || self.node.into());
        if let Some(seconds) = self.spec.deadline {
            spec["activeDeadlineSeconds"] = seconds.into();
        }
        spec
    }

    fn status(&mut self, now: Timestamp) -> Value {
        let limited = self.containers.iter().any(|c| c.memory.is_some());
        let mut status = json!({
            "phase": self.phase, "qosClass": if limited { "Burstable" } else { "BestEffort" },
        });
        set(&mut status, "reason", !self.reason.is_empty(), || self.reason.into());
        set(&mut status, "message", !self.message.is_empty(), || self.message.as_str().into());
        match self.stage {
            Stage::Created => {}
            Stage::Scheduled => {
                let scheduled = self.condition("PodScheduled", true, now);
                status["conditions"] = json!([scheduled]);
            }
            Stage::Rejected => status["startTime"] = time(self.created),
            Stage::Synced => {
                status["conditions"] = self.conditions(now).into();
                status["observedGeneration"] = self.generation.into();
                status["hostIP"] = "10.0.0.1".into();
                status["startTime"] = time(self.created);
                let of = |init: bool| -> Vec<Value> {
                    let wanted = self.containers.iter().filter(|c| is_init(c.spec.kind) == init);
                    wanted.map(container_status).collect()
                };
                let init = of(true);
                set(&mut status, "initContainerStatuses", !init.is_empty(), || init.into());
                status["containerStatuses"] = of(false).into();
            }
        }
        status
    }

    fn conditions(&mut self, now: Timestamp) -> Vec<Value> {
        let names = |keep: &dyn Fn(&ContainerObject) -> bool| -> Vec<&str> {
            self.containers.iter().filter(|c| keep(c)).map(|c| c.spec.name).collect()
        };
        let lasting = |c: &ContainerObject| c.spec.kind != ContainerType::Init;
        let unready = names(&|c| lasting(c) && !c.ready());
        let started = self.containers.iter().any(|c| c.id.is_some() || c.last.is_some());
        let incomplete = if self.terminal() {
            Vec::new()
        } else {
            names(&|c| match c.spec.kind {
                ContainerType::Init => !c.ready(),
                ContainerType::Sidecar => c.id.is_none() && c.last.is_none(),
                ContainerType::App | ContainerType::Ephemeral => false,
            })
        };
        let over = self.over();
        let readiness = match over {
            Some(word) => (word, String::new()),
            None => {
                ("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
            }
        };
        let ready = over.is_none() && unready.is_empty();
        let initialized = format!("containers with incomplete status: [{}]", incomplete.join(" "));
        let mut conditions = Vec::new();
        if let Some(d) = &self.disruption {
            conditions.push(json!({
                "type": "DisruptionTarget", "observedGeneration": self.generation, "status": "True",
                "lastProbeTime": null, "lastTransitionTime": time(d.at), "reason": d.reason,
                "message": d.message,
            }));
        }
        let because = |condition: Value, reason: &str, message: &str| {
            let mut condition = condition;
            if condition["status"] == "False" {
                condition["reason"] = reason.into();
                set(&mut condition, "message", !message.is_empty(), || message.into());
            }
            condition
        };
        let done = incomplete.is_empty();
        let terminal = self.terminal();
        conditions.push(self.condition("PodReadyToStartContainers", started && !terminal, now));
        let condition = self.condition("Initialized", done, now);
        conditions.push(because(condition, "ContainersNotInitialized", &initialized));
        for name in ["Ready", "ContainersReady"] {
            let condition = self.condition(name, ready, now);
            conditions.push(because(condition, readiness.0, &readiness.1));
        }
        conditions.push(self.condition("PodScheduled", true, now));
        conditions
    }

    /// Why it is not ready any more if its own work is over.
    fn over(&self) -> Option<&'static str> {
        let mut apps = self.containers.iter().filter(|c| c.spec.kind == ContainerType::App);
        let failed = self.containers.iter().any(
            |c| matches!(&c.state, RunState::Terminated(record) if record.outcome.exit_code.0 != Some(0)),
        );
        let ended = apps.all(|c| matches!(c.state, RunState::Terminated(_)));
        match self.phase {
            "Failed" => Some("PodFailed"),
            "Succeeded" => Some("PodCompleted"),
            _ if self.spec.restart == Restart::Never && ended && failed => Some("PodFailed"),
            _ if self.spec.restart != Restart::Always && ended && !failed => Some("PodCompleted"),
            _ => None,
        }
    }

    fn condition(&mut self, name: &'static str, status: bool, now: Timestamp) -> Value {
        let since = self.conditions.entry(name).or_insert((status, now));
        if since.0 != status {
            *since = (status, now);
        }
        json!({
            "type": name, "observedGeneration": self.generation,
            "status": if status { "True" } else { "False" },
            "lastProbeTime": null, "lastTransitionTime": time(since.1),
        })
    }
}

/// Whether a container stands among the init containers.
pub(super) fn is_init(kind: ContainerType) -> bool {
    matches!(kind, ContainerType::Init | ContainerType::Sidecar)
}

fn set(object: &mut Value, key: &str, present: bool, value: impl FnOnce() -> Value) {
    if present {
        object[key] = value();
    }
}

/// A time as Kubernetes writes it.
pub(super) fn time(at: Timestamp) -> Value {
    at.to_string().into()
}

fn container_spec(container: &ContainerObject) -> Value {
    let spec = &container.spec;
    let mut json = json!({
        "name": spec.name, "image": container.image, "command": ["sh", "-c", spec.command],
        "resources": resources(container), "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent",
    });
    let probe = |probe: &Probe| {
        json!({
            "exec": {"command": ["sh", "-c", "test -e /healthy"]}, "timeoutSeconds": 1,
            "periodSeconds": probe.period, "successThreshold": 1, "failureThreshold": probe.failures,
        })
    };
    if let Some(liveness) = &spec.liveness {
        json["livenessProbe"] = probe(liveness);
    }
    if let Some(startup) = &spec.startup {
        json["startupProbe"] = probe(startup);
    }
    set(
        &mut json,
        "lifecycle",
        spec.post_start,
        || json!({"postStart": {"exec": {"command": ["sh", "-c", "exit 1"]}}}),
    );
    set(&mut json, "restartPolicy", spec.kind == ContainerType::Sidecar, || "Always".into());
    json
}

fn resources(container: &ContainerObject) -> Value {
    match &container.memory {
        Some(memory) => json!({"limits": {"memory": memory}, "requests": {"memory": memory}}),
        None => json!({}),
    }
}

fn container_status(container: &ContainerObject) -> Value {
    let running = container.runs();
    let mut json = json!({
        "name": container.spec.name, "state": state(&container.state),
        "lastState": container.last.as_ref().map_or_else(|| json!({}), |r| json!({"terminated": record(r)})),
        "ready": container.ready(), "restartCount": container.restarts, "image": container.image,
        "imageID": "", "started": running && container.spec.startup.is_none(),
    });
    if let Some(id) = &container.id {
        json["containerID"] = id.as_str().into();
        json["imageID"] = "sha256:b8df1caf49f20390c4ccfd3bbc5f56a32c2904e8f289639d3fc8f82807f05bb0".into();
        json["resources"] = resources(container);
        set(
            &mut json,
            "allocatedResources",
            container.memory.is_some(),
            || json!({"memory": container.memory}),
        );
    }
    json
}

fn state(state: &RunState) -> Value {
    match state {
        RunState::Waiting(reason, message) if message.is_empty() => json!({"waiting": {"reason": reason}}),
        RunState::Waiting(reason, message) => json!({"waiting": {"reason": reason, "message": message}}),
        RunState::Running(since) => json!({"running": {"startedAt": time(*since)}}),
        RunState::Terminated(r) => json!({"terminated": record(r)}),
    }
}

fn record(record: &Record) -> Value {
    let mut json = json!({
        "exitCode": record.outcome.exit_code.0, "reason": record.outcome.reason.as_str(),
        "startedAt": null, "finishedAt": null,
    });
    set(&mut json, "message", !record.message.is_empty(), || record.message.as_str().into());
    if let Some(Ran { from, to, id }) = &record.ran {
        json["startedAt"] = time(*from);
        json["finishedAt"] = time(*to);
        json["containerID"] = id.as_str().into();
    }
    json
}
