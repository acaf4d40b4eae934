//! Pods for load: about 12 KB of JSON each, rendered from a few bytes when they are sent.

use std::sync::Arc;

use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::store::Content;
use crate::termination::Outcome;
use crate::time::Timestamp;

/// Containers of each pod.
pub(super) const CONTAINERS: [&str; 2] = ["app", "proxy"];
/// Templates, which differ in size.
const TEMPLATES: usize = 8;

/// What stands between two pieces of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Namespace,
    Name,
    Workload,
    Uid,
    Revision,
    Created,
    Statuses,
}

const SLOTS: [(&str, Slot); 7] = [
    ("<namespace>", Slot::Namespace),
    ("<name>", Slot::Name),
    ("<workload>", Slot::Workload),
    ("<uid>", Slot::Uid),
    ("<revision>", Slot::Revision),
    ("<created>", Slot::Created),
    ("\"<statuses>\"", Slot::Statuses),
];

/// A pod's text in pieces: each piece is followed by what its slot holds.
pub(super) struct Template {
    pieces: Vec<(Box<str>, Option<Slot>)>,
}

impl Template {
    /// The templates: 20 to 40 environment variables a container.
    pub(super) fn all() -> Vec<Arc<Self>> {
        let sizes =
            (0..TEMPLATES).map(|index| index.saturating_mul(20).div_ceil(TEMPLATES.saturating_sub(1)));
        sizes.map(|more| Arc::new(Self::new(more.saturating_add(20)))).collect()
    }

    fn new(variables: usize) -> Self {
        let text = pod(variables).to_string();
        let (mut rest, mut pieces) = (text.as_str(), Vec::new());
        loop {
            let found = SLOTS
                .iter()
                .filter_map(|(mark, slot)| Some((rest.find(mark)?, *mark, *slot)))
                .min_by_key(|f| f.0);
            let Some((at, mark, slot)) = found else { break };
            pieces.push((rest.get(..at).unwrap_or_default().into(), Some(slot)));
            rest = rest.get(at.saturating_add(mark.len())..).unwrap_or_default();
        }
        pieces.push((rest.into(), None));
        Self { pieces }
    }
}

/// How an attempt ended: code, reason and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadEnd {
    pub(super) outcome: Outcome,
    pub(super) attempt: u32,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

/// A container's status.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadContainer {
    pub(super) restarts: u32,
    pub(super) state: LoadState,
    pub(super) since: Timestamp,
    pub(super) last: Option<LoadEnd>,
}

/// A container's state.
#[derive(Clone, Copy, Debug)]
pub(super) enum LoadState {
    Running,
    BackingOff,
    Terminated(LoadEnd),
}

/// One version of a pod.
#[derive(Clone)]
pub(super) struct LoadPod {
    pub(super) template: Arc<Template>,
    pub(super) namespace: Arc<str>,
    pub(super) workload: Arc<str>,
    /// Distinguishes pods; never used twice.
    pub(super) number: u32,
    pub(super) created: Timestamp,
    pub(super) containers: [LoadContainer; 2],
}

impl LoadPod {
    pub(super) fn name(&self) -> String {
        format!("{}-{HASH}-{:05}", self.workload, self.number)
    }

    pub(super) fn uid(&self) -> String {
        format!("00000000-0000-4000-a000-{:012}", self.number)
    }

    fn statuses(&self) -> Value {
        let statuses = self.containers.iter().zip(CONTAINERS).enumerate();
        statuses.map(|(index, (container, name))| self.status(index, container, name)).collect()
    }

    fn status(&self, index: usize, container: &LoadContainer, name: &str) -> Value {
        let runs = matches!(container.state, LoadState::Running);
        let last = container.last.map_or_else(|| json!({}), |end| self.record(index, end));
        let state = match container.state {
            LoadState::Running => json!({"running": {"startedAt": container.since.to_string()}}),
            LoadState::BackingOff => json!({"waiting": {
                "reason": "CrashLoopBackOff",
                "message": format!("back-off 10s restarting failed container={name} pod={}", self.name()),
            }}),
            LoadState::Terminated(end) => self.record(index, end),
        };
        json!({
            "name": name, "state": state, "lastState": last, "ready": runs, "started": runs,
            "restartCount": container.restarts, "image": "registry.example.com/platform/service:2026.11.1",
            "imageID": "registry.example.com/platform/service@sha256:b8df1caf49f20390c4ccfd3bbc5f56a32c2904e8f289639d3fc8f82807f05bb0",
            "containerID": self.id(index, container.restarts),
            "volumeMounts": [{
                "name": "kube-api-access-wjcxf", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                "readOnly": true, "recursiveReadOnly": "Disabled",
            }],
        })
    }

    fn record(&self, index: usize, end: LoadEnd) -> Value {
        json!({"terminated": {
            "exitCode": end.outcome.exit_code.0, "reason": end.outcome.reason.as_str(),
            "startedAt": end.from.to_string(), "finishedAt": end.to.to_string(),
            "containerID": self.id(index, end.attempt),
        }})
    }

    fn id(&self, index: usize, attempt: u32) -> String {
        let container = u64::try_from(index).unwrap_or(0);
        let seed = u64::from(self.number).rotate_left(32) ^ u64::from(attempt).rotate_left(1) ^ container;
        let mut rng = Rng::with_seed(seed);
        format!("containerd://{:032x}{:032x}", rng.u128(..), rng.u128(..))
    }
}

impl Content for LoadPod {
    fn render(&self, revision: u64, out: &mut Vec<u8>) {
        for (piece, slot) in &self.template.pieces {
            out.extend_from_slice(piece.as_bytes());
            let text = match slot {
                Some(Slot::Namespace) => self.namespace.to_string(),
                Some(Slot::Name) => self.name(),
                Some(Slot::Workload) => self.workload.to_string(),
                Some(Slot::Uid) => self.uid(),
                Some(Slot::Revision) => revision.to_string(),
                Some(Slot::Created) => self.created.to_string(),
                Some(Slot::Statuses) => self.statuses().to_string(),
                None => String::new(),
            };
            out.extend_from_slice(text.as_bytes());
        }
    }

    fn field(&self, path: &str) -> String {
        match path {
            "spec.nodeName" => "node-1",
            "spec.restartPolicy" => "Always",
            "spec.schedulerName" => "default-scheduler",
            "spec.serviceAccountName" => "default",
            "status.phase" => "Running",
            _ => "",
        }
        .to_owned()
    }
}

/// The hash of every template.
const HASH: &str = "68fbdf85b9";

fn pod(variables: usize) -> Value {
    let tolerations = ["not-ready", "unreachable"].map(|taint| {
        json!({
            "key": format!("node.kubernetes.io/{taint}"), "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 300,
        })
    });
    let conditions = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let conditions = conditions.map(|kind| {
        json!({
            "type": kind, "observedGeneration": 1, "status": "True", "lastProbeTime": null,
            "lastTransitionTime": "<created>",
        })
    });
    json!({
        "metadata": {
            "name": "<name>", "generateName": "<workload>-68fbdf85b9-", "namespace": "<namespace>",
            "uid": "<uid>", "resourceVersion": "<revision>", "generation": 1,
            "creationTimestamp": "<created>",
            "labels": {
                "app.kubernetes.io/name": "<workload>", "app.kubernetes.io/part-of": "platform",
                "app.kubernetes.io/version": "2026.11.1", "pod-template-hash": HASH, "team": "checkout",
            },
            "annotations": {
                "prometheus.io/scrape": "true", "prometheus.io/port": "8080",
                "kubectl.kubernetes.io/restartedAt": "2026-11-01T08:00:00Z",
            },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "<workload>-68fbdf85b9",
                "uid": "303e781c-7c9a-49d8-9eed-59f45006af04", "controller": true,
                "blockOwnerDeletion": true,
            }],
            "managedFields": managed_fields(variables),
        },
        "spec": {
            "volumes": [{"name": "kube-api-access-wjcxf", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            ]}}],
            "containers": CONTAINERS.map(|name| container(name, variables)),
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default", "serviceAccount": "default", "nodeName": "node-1",
            "securityContext": {}, "schedulerName": "default-scheduler", "priority": 0,
            "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
            "tolerations": tolerations,
        },
        "status": {
            "observedGeneration": 1, "phase": "Running", "hostIP": "10.0.0.1", "podIP": "10.244.0.2",
            "podIPs": [{"ip": "10.244.0.2"}], "startTime": "<created>", "qosClass": "Burstable",
            "conditions": conditions,
            "containerStatuses": "<statuses>",
        },
    })
}

fn container(name: &str, variables: usize) -> Value {
    let probe = |path: &str| {
        json!({
            "httpGet": {"path": path, "port": 8080, "scheme": "HTTP"}, "timeoutSeconds": 1,
            "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
        })
    };
    json!({
        "name": name, "image": "registry.example.com/platform/service:2026.11.1",
        "args": ["--listen=:8080", "--log-format=json", "--config=/etc/service/config.yaml"],
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": (0..variables).map(|n| json!({
            "name": format!("SETTING_{n:02}"), "value": format!("http://svc-{n}:80"),
        })).collect::<Vec<_>>(),
        "resources": {
            "limits": {"memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"},
        },
        "livenessProbe": probe("/healthz"), "readinessProbe": probe("/readyz"),
        "volumeMounts": [{
            "name": "kube-api-access-wjcxf", "readOnly": true,
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        }],
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    })
}

fn managed_fields(variables: usize) -> Value {
    let env: Map<String, Value> = (0..variables)
        .map(|n| {
            let key = format!("k:{{\"name\":\"SETTING_{n:02}\"}}");
            (key, json!({".": {}, "f:name": {}, "f:value": {}}))
        })
        .collect();
    let containers: Map<String, Value> = CONTAINERS
        .iter()
        .map(|name| {
            let fields = json!({
                ".": {}, "f:args": {}, "f:env": env, "f:image": {}, "f:imagePullPolicy": {},
                "f:livenessProbe": {".": {}, "f:failureThreshold": {}, "f:httpGet": {}}, "f:name": {},
                "f:ports": {}, "f:readinessProbe": {}, "f:resources": {},
            });
            (format!("k:{{\"name\":\"{name}\"}}"), fields)
        })
        .collect();
    json!([{
        "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
        "time": "<created>", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {}, "f:ownerReferences": {}}, "f:spec": {
            "f:containers": containers, "f:dnsPolicy": {}, "f:restartPolicy": {},
        }},
    }, {
        "manager": "kubelet", "operation": "Update", "apiVersion": "v1", "time": "<created>",
        "fieldsType": "FieldsV1", "subresource": "status",
        "fieldsV1": {"f:status": {"f:conditions": {}, "f:containerStatuses": {}, "f:phase": {}, "f:podIP": {}}},
    }])
}
