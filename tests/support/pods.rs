//! Pods and events as prose: builders of the API's JSON, decoded through the shapes that the exporter reads.
//!
//! Times are seconds after [`START`]. A method about a container speaks of the one named last.

use exitcode_exporter::pod::{Event, Pod};
use exitcode_exporter::time::Timestamp;
use serde_json::{Value, json};

/// 2026-01-01T00:00:00Z in milliseconds.
pub const START: i64 = 1_767_225_600_000;

/// A time as Kubernetes writes it.
pub fn at(seconds: i64) -> String {
    Timestamp(START + seconds * 1000).to_string()
}

#[derive(Clone, Debug)]
pub struct PodBuilder {
    json: Value,
    /// Spec list, status list and place of the container named last.
    at: (&'static str, &'static str, usize),
}

/// A running pod without containers: namespace shop, on node-1, uid and name alike.
pub fn pod(name: &str) -> PodBuilder {
    let json = json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-of-{name}"), "resourceVersion": "1",
                     "labels": {}, "annotations": {}, "ownerReferences": [], "creationTimestamp": at(0)},
        "spec": {"nodeName": "node-1", "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
                 "initContainers": [], "containers": [], "ephemeralContainers": []},
        "status": {"phase": "Running", "conditions": [], "initContainerStatuses": [], "containerStatuses": [],
                   "ephemeralContainerStatuses": []},
    });
    PodBuilder { json, at: ("containers", "containerStatuses", 0) }
}

impl PodBuilder {
    pub fn json(&self) -> Value {
        self.json.clone()
    }

    pub fn build(&self) -> Box<Pod> {
        Box::new(serde_json::from_value(self.json.clone()).expect("a pod"))
    }

    /// Sets any field.
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        self.json.pointer_mut(parent).expect("a parent")[key] = value;
        self
    }

    pub fn uid(self, uid: &str) -> Self {
        self.with("/metadata/uid", json!(uid))
    }

    pub fn version(self, version: u64) -> Self {
        self.with("/metadata/resourceVersion", json!(version.to_string()))
    }

    pub fn label(self, key: &str, value: &str) -> Self {
        self.with(&format!("/metadata/labels/{key}"), json!(value))
    }

    pub fn on(self, node: &str) -> Self {
        self.with("/spec/nodeName", json!(node))
    }

    pub fn generated_from(self, prefix: &str) -> Self {
        self.with("/metadata/generateName", json!(prefix))
    }

    pub fn owned_by(self, kind: &str, name: &str) -> Self {
        self.owned_by_uid(kind, name, &format!("uid-of-{kind}-{name}"))
    }

    pub fn owned_by_uid(self, kind: &str, name: &str, uid: &str) -> Self {
        let owner = json!([{"apiVersion": "v1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
        self.with("/metadata/ownerReferences", owner)
    }

    /// Mirrors a static pod.
    pub fn mirror_of(self, annotation: &str) -> Self {
        let name = self.json["metadata"]["name"].as_str().expect("name").to_owned();
        self.with("/metadata/annotations", json!({"kubernetes.io/config.mirror": annotation}))
            .owned_by("Node", "node-1")
            .with("/metadata/name", json!(format!("{name}-node-1")))
    }

    pub fn restart_policy(self, policy: &str) -> Self {
        self.with("/spec/restartPolicy", json!(policy))
    }

    pub fn phase(self, phase: &str) -> Self {
        self.with("/status/phase", json!(phase))
    }

    /// Failed as a whole.
    pub fn failed(self, reason: &str) -> Self {
        self.phase("Failed").with("/status/reason", json!(reason))
    }

    pub fn disrupted(self, reason: &str, seconds: i64) -> Self {
        self.with(
            "/status/conditions",
            json!([{"type": "DisruptionTarget", "status": "True", "reason": reason,
                    "lastTransitionTime": at(seconds)}]),
        )
    }

    /// Deleted at that time, with so many seconds of grace.
    pub fn deleted(self, seconds: i64, grace: i64) -> Self {
        self.with("/metadata/deletionTimestamp", json!(at(seconds + grace)))
            .with("/metadata/deletionGracePeriodSeconds", json!(grace))
    }

    fn add(mut self, specs: &'static str, statuses: &'static str, name: &str) -> Self {
        let list = self.json["spec"][specs].as_array_mut().expect("specs");
        list.push(json!({"name": name}));
        self.at = (specs, statuses, list.len() - 1);
        self.json["status"][statuses].as_array_mut().expect("statuses").push(
            json!({"name": name, "restartCount": 0, "image": "shop/image:1", "state": {}, "lastState": {}}),
        );
        self
    }

    pub fn container(self, name: &str) -> Self {
        self.add("containers", "containerStatuses", name)
    }

    pub fn init_container(self, name: &str) -> Self {
        self.add("initContainers", "initContainerStatuses", name)
    }

    pub fn sidecar(self, name: &str) -> Self {
        self.init_container(name).spec("restartPolicy", json!("Always"))
    }

    pub fn ephemeral(self, name: &str) -> Self {
        self.add("ephemeralContainers", "ephemeralContainerStatuses", name)
    }

    /// Sets a field of the container's spec.
    pub fn spec(mut self, field: &str, value: Value) -> Self {
        self.json["spec"][self.at.0][self.at.2][field] = value;
        self
    }

    /// Sets a field of the container's status.
    pub fn status(mut self, field: &str, value: Value) -> Self {
        self.json["status"][self.at.1][self.at.2][field] = value;
        self
    }

    pub fn memory_limit(self) -> Self {
        self.spec("resources", json!({"limits": {"memory": "64Mi"}}))
    }

    /// Fails after `delay + 2 * period` seconds.
    pub fn probe(self, probe: &str, delay: i64, period: i64) -> Self {
        self.spec(
            probe,
            json!({"initialDelaySeconds": delay, "periodSeconds": period, "failureThreshold": 3}),
        )
    }

    pub fn restarted(self, times: i64) -> Self {
        self.status("restartCount", json!(times))
    }

    pub fn running(self, id: &str, since: i64) -> Self {
        self.status("containerID", json!(id))
            .status("started", json!(true))
            .status("state", json!({"running": {"startedAt": at(since)}}))
    }

    pub fn waiting(self, reason: &str) -> Self {
        self.status("state", json!({"waiting": {"reason": reason}}))
    }

    /// The latest attempt has ended.
    pub fn ended(self, id: &str, code: i64, reason: &str, start: i64, end: i64) -> Self {
        let state = json!({"terminated": record(id, code, reason, start, end)});
        self.status("containerID", json!(id)).status("state", state)
    }

    /// The attempt before the latest, or the latest if it waits for its restart.
    pub fn last(self, id: &str, code: i64, reason: &str, start: i64, end: i64) -> Self {
        self.status("lastState", json!({"terminated": record(id, code, reason, start, end)}))
    }

    /// Waits for the restart after this attempt.
    pub fn crashed(self, id: &str, code: i64, reason: &str, start: i64, end: i64) -> Self {
        self.status("containerID", json!(id)).last(id, code, reason, start, end).waiting("CrashLoopBackOff")
    }

    /// The kubelet could not find the container.
    pub fn used_to_run(self) -> Self {
        let message = "The container could not be located when the pod was deleted.  \
                       The container used to be Running";
        let made_up = json!({"exitCode": 137, "reason": "ContainerStatusUnknown", "message": message,
                             "startedAt": null, "finishedAt": null});
        self.status("lastState", json!({"terminated": made_up}))
    }

    /// The kubelet gave up on a container that it can't find.
    pub fn not_located(self) -> Self {
        let message = "The container could not be located when the pod was terminated";
        let made_up = json!({"exitCode": 137, "reason": "ContainerStatusUnknown", "message": message,
                             "startedAt": null, "finishedAt": null});
        self.status("state", json!({"terminated": made_up}))
    }
}

fn record(id: &str, code: i64, reason: &str, start: i64, end: i64) -> Value {
    json!({"exitCode": code, "reason": reason, "containerID": id, "startedAt": at(start), "finishedAt": at(end)})
}

#[derive(Clone, Debug)]
pub struct EventBuilder {
    json: Value,
}

/// An event of the kubelet on node-1 about a container of a pod.
pub fn event(pod: &str, container: &str, reason: &str, message: &str, seconds: i64) -> EventBuilder {
    let json = json!({
        "metadata": {"uid": format!("event-{pod}-{container}-{reason}-{message}"), "creationTimestamp": at(seconds)},
        "involvedObject": {"kind": "Pod", "namespace": "shop", "name": pod, "uid": format!("uid-of-{pod}"),
                           "fieldPath": format!("spec.containers{{{container}}}")},
        "reason": reason, "message": message, "type": "Normal", "count": 1,
        "firstTimestamp": at(seconds), "lastTimestamp": at(seconds),
        "source": {"component": "kubelet", "host": "node-1"},
    });
    EventBuilder { json }
}

/// `Killing`, with what follows the container's name.
pub fn killing(pod: &str, container: &str, why: &str, seconds: i64) -> EventBuilder {
    event(pod, container, "Killing", &format!("Container {container} {why}"), seconds)
}

pub fn liveness_kill(pod: &str, container: &str, seconds: i64) -> EventBuilder {
    killing(pod, container, "failed liveness probe, will be restarted", seconds)
}

pub fn stopping(pod: &str, container: &str, seconds: i64) -> EventBuilder {
    event(pod, container, "Killing", &format!("Stopping container {container}"), seconds)
}

pub fn system_oom(node: &str, seconds: i64) -> EventBuilder {
    event("", "", "SystemOOM", "System OOM encountered, victim process: app, pid: 1", seconds)
        .with("/involvedObject", json!({"kind": "Node", "name": node, "uid": node}))
}

impl EventBuilder {
    pub fn json(&self) -> Value {
        self.json.clone()
    }

    pub fn build(&self) -> Box<Event> {
        Box::new(serde_json::from_value(self.json.clone()).expect("an event"))
    }

    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        self.json.pointer_mut(parent).expect("a parent")[key] = value;
        self
    }

    /// The same event object once more.
    pub fn again(self, count: i64, seconds: i64) -> Self {
        self.with("/count", json!(count)).with("/lastTimestamp", json!(at(seconds)))
    }

    pub fn about(self, uid: &str) -> Self {
        self.with("/involvedObject/uid", json!(uid))
    }
}
