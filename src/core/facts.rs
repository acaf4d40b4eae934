//! What a pod object tells about the end of its containers: deletion, disruption, completion.

use serde::{Deserialize, Serialize};

use crate::pod::{ContainerSpec, ContainerStatus, Pod};
use crate::termination::Cause;
use crate::time::Timestamp;

/// A tolerance for times that Kubernetes cuts to whole seconds.
pub(super) const SECOND: i64 = 1000;

/// The kubelet gives every container at least this grace (pkg/kubelet/kuberuntime, `minimumGracePeriodInSeconds`).
const LEAST_GRACE_SECONDS: i64 = 2;

/// What is remembered of a pod's deletion, over all its objects: a delete sets deletionTimestamp to now plus the
/// grace, a later one may only shorten it, and the kubelet's last update writes grace 0 and moves the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// When it was asked for, on the API server's clock.
    pub requested: Timestamp,
    /// When the grace is over, on the API server's clock; `None` if only grace 0 was seen.
    pub deadline: Option<Timestamp>,
    /// The grace in milliseconds, as the kubelet takes it.
    pub grace_ms: i64,
}

/// A word of the pod's status that says why the whole pod is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What `status.reason` means.
    pub cause: Cause,
    /// The input with which it was first seen.
    pub first_seen: u64,
}

/// The condition DisruptionTarget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disruption {
    /// What its reason means.
    pub cause: Cause,
    /// Its transition.
    pub at: Option<Timestamp>,
}

/// What a pod object, and those before it, tell about the end of its containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The pod is being deleted. Never set for a mirror pod: deleting a mirror ends nothing.
    pub deletion: Option<Deletion>,
    /// `status.reason`.
    pub failure: Option<Failure>,
    /// DisruptionTarget.
    pub disruption: Option<Disruption>,
    /// The phase is Failed or Succeeded.
    pub terminal: bool,
    /// The phase is Failed.
    pub failed: bool,
    /// The pod's own work is over since then: what still runs is stopped.
    pub work_over: Option<Timestamp>,
    /// restartPolicy is Never.
    pub never_restarts: bool,
    /// It mirrors a static pod.
    pub mirror: bool,
}

impl Facts {
    /// The facts of an object, after those of the objects before it.
    pub fn of(pod: &Pod, before: &Self, input: u64) -> Self {
        let mirror = pod.metadata.annotations.mirror.is_some();
        let failed = pod.status.phase == "Failed";
        Self {
            deletion: if mirror { None } else { deletion(pod, before.deletion) },
            failure: failure(pod).filter(|_| failed).map(|cause| match before.failure {
                Some(known) if known.cause == cause => known,
                _ => Failure { cause, first_seen: input },
            }),
            disruption: disruption(pod),
            terminal: failed || pod.status.phase == "Succeeded",
            failed,
            work_over: work_over(pod),
            never_restarts: pod.spec.restart_policy == "Never",
            mirror,
        }
    }
}

fn deletion(pod: &Pod, before: Option<Deletion>) -> Option<Deletion> {
    let Some(at) = pod.metadata.deletion_timestamp else { return before };
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0).max(0);
    let grace_ms = grace.saturating_mul(SECOND);
    let kubelets = grace.max(LEAST_GRACE_SECONDS).saturating_mul(SECOND);
    if grace > 0 {
        let requested = at.plus_ms(-grace_ms);
        let earlier = before.filter(|deletion| deletion.deadline.is_some());
        return Some(Deletion {
            requested: earlier.map_or(requested, |deletion| deletion.requested.min(requested)),
            deadline: Some(at),
            grace_ms: kubelets,
        });
    }
    Some(before.unwrap_or_else(|| {
        let spec = pod.spec.termination_grace_period_seconds.unwrap_or(30).max(0);
        Deletion { requested: at.plus_ms(-spec.saturating_mul(SECOND)), deadline: None, grace_ms: kubelets }
    }))
}

/// `status.reason`: pkg/kubelet/eviction (Evicted), pkg/kubelet/preemption (Preempting), pkg/kubelet/nodeshutdown
/// (Terminated; NodeShutdown before 1.22), pkg/kubelet/active_deadline.go (DeadlineExceeded).
fn failure(pod: &Pod) -> Option<Cause> {
    match pod.status.reason.as_str() {
        "Evicted" => Some(Cause::Evicted),
        "Preempting" => Some(Cause::Preempted),
        "Terminated" | "NodeShutdown" | "Shutdown" => Some(Cause::NodeShutdown),
        "DeadlineExceeded" => Some(Cause::DeadlineExceeded),
        "NodeLost" => Some(Cause::NodeLost),
        _ => None,
    }
}

/// DisruptionTarget (k8s.io/api/core/v1, `PodReason…`): it counts once a deletion or the phase Failed follows it.
fn disruption(pod: &Pod) -> Option<Disruption> {
    let condition =
        pod.status.conditions.iter().find(|c| c.kind == "DisruptionTarget" && c.status == "True")?;
    let cause = match condition.reason.as_str() {
        "PreemptionByScheduler" => Cause::Preempted,
        "EvictionByEvictionAPI" => Cause::Drained,
        "DeletionByTaintManager" | "DeletionByDeviceTaintManager" => Cause::NodeTaint,
        "DeletionByPodGC" => Cause::NodeLost,
        "TerminationByKubelet" => Cause::Evicted,
        _ => return None,
    };
    Some(Disruption { cause, at: condition.last_transition_time })
}

/// Since when all app containers have ended for good, or an init container has failed for good.
fn work_over(pod: &Pod) -> Option<Timestamp> {
    let init_failed = || {
        pod.status
            .init_container_statuses
            .iter()
            .filter(|status| !is_sidecar(&pod.spec.init_containers, &status.name))
            .filter_map(|status| status.state.terminated.as_ref())
            .find(|record| record.exit_code != 0 && pod.spec.restart_policy == "Never")
            .map(|record| record.finished_at.unwrap_or(Timestamp(i64::MIN)))
    };
    apps_over(pod).or_else(init_failed)
}

fn apps_over(pod: &Pod) -> Option<Timestamp> {
    let apps = &pod.status.container_statuses;
    let needs_success = match pod.spec.restart_policy.as_str() {
        "Never" => false,
        "OnFailure" => true,
        _ => return None,
    };
    if apps.is_empty() || apps.len() < pod.spec.containers.len() {
        return None;
    }
    let end = |status: &ContainerStatus| {
        let record = status.state.terminated.as_ref()?;
        (record.exit_code == 0 || !needs_success).then(|| record.finished_at.unwrap_or(Timestamp(i64::MIN)))
    };
    apps.iter().map(end).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Whether the init container of this name is a sidecar.
pub fn is_sidecar(init_containers: &[ContainerSpec], name: &str) -> bool {
    init_containers.iter().any(|spec| spec.name == name && spec.restart_policy == "Always")
}
