//! Pods as the kubelet's status writes leave them.

use std::collections::BTreeMap;

use super::script::{Container, PodSpec};
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
    pub(super) fn ready(&self) -> bool {
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
    /// The pod's generation then.
    pub(super) generation: i64,
}

/// A controller.
#[derive(Clone, Debug)]
pub(super) struct OwnerRef {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) uid: String,
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
}

/// Whether a container stands among the init containers.
pub(super) fn is_init(kind: ContainerType) -> bool {
    matches!(kind, ContainerType::Init | ContainerType::Sidecar)
}
