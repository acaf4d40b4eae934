//! Pods for load: about 12 KB of JSON each, rendered from a few bytes when they are sent.

use std::sync::Arc;

use fastrand::Rng;
use serde_json::{Value, json};

use super::load_template::{HASH, Slot, Template};
use super::store::Content;
use crate::termination::Outcome;
use crate::time::Timestamp;

/// Containers of each pod.
pub(super) const CONTAINERS: [&str; 2] = ["app", "proxy"];
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
