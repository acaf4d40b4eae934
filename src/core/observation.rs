//! What a pod object shows of each container.

use super::cause::Case;
use super::facts::{Facts, is_sidecar};
use crate::pod::{ContainerSpec, ContainerStatus, Pod, Terminated};
use crate::termination::{ContainerType, Reason};

/// Termination messages are cut at this many bytes; the kubelet allows 4096.
const MESSAGE_BYTES: usize = 1024;

/// A container's status with its place in the spec.
pub struct Seen<'a> {
    /// What kind of container.
    pub container_type: ContainerType,
    /// Its spec, if it has one.
    pub spec: Option<&'a ContainerSpec>,
    /// Its status.
    pub status: &'a ContainerStatus,
}

/// Every container that the status names: init containers and sidecars, app containers, ephemeral ones.
pub fn seen_containers(pod: &Pod) -> impl Iterator<Item = Seen<'_>> {
    let (spec, status) = (&pod.spec, &pod.status);
    let init = status.init_container_statuses.iter().map(|status| {
        let sidecar = is_sidecar(&spec.init_containers, &status.name);
        let container_type = if sidecar { ContainerType::Sidecar } else { ContainerType::Init };
        Seen::new(container_type, &spec.init_containers, status)
    });
    let apps = status
        .container_statuses
        .iter()
        .map(|status| Seen::new(ContainerType::App, &spec.containers, status));
    let ephemeral = status
        .ephemeral_container_statuses
        .iter()
        .map(|status| Seen::new(ContainerType::Ephemeral, &spec.ephemeral_containers, status));
    init.chain(apps).chain(ephemeral)
}

impl<'a> Seen<'a> {
    fn new(container_type: ContainerType, specs: &'a [ContainerSpec], status: &'a ContainerStatus) -> Self {
        let spec = specs.iter().find(|spec| spec.name == status.name);
        Self { container_type, spec, status }
    }

    /// The kubelet ended the attempt seen last because its postStart hook failed
    /// (pkg/kubelet/kuberuntime/kuberuntime_container.go, `ErrPostStartHook`).
    pub fn post_start_failed(&self) -> bool {
        self.status.state.waiting.as_ref().is_some_and(|waiting| waiting.reason == "PostStartHookError")
    }

    /// What the rules ask of the end that this record tells; what earlier objects told is left open.
    pub fn case(&self, pod: &Pod, record: &Terminated, made_up: bool, facts: Facts, input: u64) -> Case {
        let spec = self.spec;
        Case {
            exit_code: record.exit_code,
            reason: Reason::parse(&record.reason),
            made_up,
            started_at: record.started_at,
            finished_at: record.finished_at,
            finished_at_api: record.finished_at,
            container_type: self.container_type,
            followed: false,
            memory_limit: pod.spec.resources.limits.memory
                || spec.is_some_and(|spec| spec.resources.limits.memory),
            liveness_ms: spec.and_then(|spec| spec.liveness_probe).map(|probe| probe.shortest_kill_ms()),
            startup_ms: spec.and_then(|spec| spec.startup_probe).map(|probe| probe.shortest_kill_ms()),
            post_start: spec.is_some_and(|spec| spec.lifecycle.post_start),
            post_start_failed: self.post_start_failed(),
            started: None,
            ran_into_deletion: false,
            own_code_before: None,
            windows: is_windows(pod),
            seen: input,
            facts,
        }
    }
}

/// The pod's identity: its uid; for the mirror of a static pod the annotation and the node, since the mirror's
/// uid changes whenever it is made again. Empty for an object without either.
pub fn identity(pod: &Pod) -> String {
    match &pod.metadata.annotations.mirror {
        Some(annotation) => static_identity(annotation, &pod.spec.node_name),
        None => pod.metadata.uid.clone(),
    }
}

/// The identity of a static pod: its mirror's annotation and its node.
pub fn static_identity(annotation: &str, node: &str) -> String {
    format!("{annotation}@{node}")
}

/// Whether the pod runs on Windows, as far as it tells.
pub fn is_windows(pod: &Pod) -> bool {
    let selected = || pod.spec.node_selector.get("kubernetes.io/os").is_some_and(|os| os == "windows");
    pod.spec.os.name == "windows" || selected()
}

/// A termination message as it is kept.
pub fn cut(message: &str) -> Box<str> {
    crate::text::cut(message, MESSAGE_BYTES).into()
}
