//! The text of the pods for load: all that is alike in them, with gaps for what is not.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::load_pod::CONTAINERS;

/// Templates, which differ in size.
const TEMPLATES: usize = 8;

/// What stands between two pieces of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
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
    pub(super) pieces: Vec<(Box<str>, Option<Slot>)>,
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

/// The hash of every template.
pub(super) const HASH: &str = "68fbdf85b9";

fn pod(variables: usize) -> Value {
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
        "spec": spec(variables),
        "status": status(),
    })
}

fn spec(variables: usize) -> Value {
    let tolerations = ["not-ready", "unreachable"].map(|taint| {
        json!({
            "key": format!("node.kubernetes.io/{taint}"), "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 300,
        })
    });
    json!({
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
    })
}

fn status() -> Value {
    let conditions = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let conditions = conditions.map(|kind| {
        json!({
            "type": kind, "observedGeneration": 1, "status": "True", "lastProbeTime": null,
            "lastTransitionTime": "<created>",
        })
    });
    json!({
        "observedGeneration": 1, "phase": "Running", "hostIP": "10.0.0.1", "podIP": "10.244.0.2",
        "podIPs": [{"ip": "10.244.0.2"}], "startTime": "<created>", "qosClass": "Burstable",
        "conditions": conditions,
        "containerStatuses": "<statuses>",
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
