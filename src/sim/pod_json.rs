//! The JSON of pods.

use serde_json::{Map, Value, json};

use super::objects::{ContainerObject, OwnerRef, PodObject, Ran, Record, RunState, Stage, is_init};
use super::script::{Probe, Restart};
use crate::termination::ContainerType;
use crate::time::Timestamp;

impl OwnerRef {
    pub(super) fn json(&self) -> Value {
        json!([{
            "apiVersion": self.api_version, "kind": self.kind, "name": self.name, "uid": self.uid,
            "controller": true, "blockOwnerDeletion": true,
        }])
    }
}

impl PodObject {
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
                let mut scheduled = self.condition("PodScheduled", true, now);
                if let Some(fields) = scheduled.as_object_mut() {
                    // The scheduler does not set it.
                    fields.remove("observedGeneration");
                }
                status["conditions"] = json!([scheduled]);
            }
            Stage::Rejected => {
                status["observedGeneration"] = self.generation.into();
                status["startTime"] = time(self.created);
            }
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
