//! Who ended a container: an ordered list of rules, of which the first that matches decides.

use serde::{Deserialize, Serialize};

use super::facts::{Deletion, Facts, SECOND};
use crate::termination::{Cause, ContainerType, Evidence, ExitCode, Reason};
use crate::time::Timestamp;

/// SIGKILL, by the convention of 128 + n.
const SIGKILL: i32 = 137;
/// SIGTERM, by the convention of 128 + n.
const SIGTERM: i32 = 143;
/// SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS: a process raises them by its own fault.
const FATAL_SIGNALS: [u8; 7] = [4, 5, 6, 7, 8, 11, 31];

/// An end and what the API objects tell of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own that a rule asks for
pub struct Case {
    /// Exit code; always known here.
    pub exit_code: i32,
    /// The record's word.
    pub reason: Reason,
    /// The kubelet made the record up: it could not find the container.
    pub made_up: bool,
    /// Start of the attempt, on the node's clock.
    pub started_at: Option<Timestamp>,
    /// End of the attempt, on the node's clock.
    pub finished_at: Option<Timestamp>,
    /// The end on the API server's clock, where the difference of the clocks is known.
    pub finished_at_api: Option<Timestamp>,
    /// What kind of container.
    pub container_type: ContainerType,
    /// Another attempt followed.
    pub followed: bool,
    /// The container or the pod has a memory limit.
    pub memory_limit: bool,
    /// Shortest time in milliseconds to a kill by the liveness probe, if it has one.
    pub liveness_ms: Option<i64>,
    /// Shortest time in milliseconds to a kill by the startup probe, if it has one.
    pub startup_ms: Option<i64>,
    /// It has a postStart hook.
    pub post_start: bool,
    /// It waits with the reason PostStartHookError.
    pub post_start_failed: bool,
    /// `started` in the last running status of this attempt, if one was seen.
    pub started: Option<bool>,
    /// It was seen running while the pod was being deleted already.
    pub ran_into_deletion: bool,
    /// The attempt right before it ended on its own with this code.
    pub own_code_before: Option<i32>,
    /// On Windows codes over 128 are no signals.
    pub windows: bool,
    /// The input with which its record was first seen.
    pub seen: u64,
    /// What the pod tells.
    pub facts: Facts,
}

/// What events and history tell about an end. Times are on the node's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// A `Killing` event of this container between its start and its end: who the kubelet killed it for.
    pub kill: Option<Cause>,
    /// `Stopping container` between its start and its end.
    pub stopping: Option<Timestamp>,
    /// The probe that failed last, at most 2 s before `stopping`.
    pub unhealthy: Option<Cause>,
    /// A `SandboxChanged` event of the pod near the end.
    pub sandbox_changed: bool,
    /// The pod's own event for what `status.reason` says, or is about to say.
    pub pod_event: Option<(Timestamp, Cause)>,
    /// The node's `SystemOOM` within 2 s of the end.
    pub system_oom: bool,
    /// What earlier ends tell.
    pub history: ProbeHistory,
}

/// Whether an earlier end of the same container of the same workload with the same code and reason was confirmed
/// as the kill of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeHistory {
    /// Of the liveness probe.
    pub liveness: bool,
    /// Of the startup probe.
    pub startup: bool,
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Who ended it.
    pub cause: Cause,
    /// By what this was decided.
    pub evidence: Evidence,
    /// An event that is still on its way might say otherwise.
    pub may_change: bool,
}

type Rule = fn(&Case, &Witness) -> Option<(Cause, Evidence)>;

/// The table. What stands above wins; events that come late can't change what one of [`FIRM`] decided.
const FIRM: [Rule; 8] = [
    start_failed,
    out_of_memory,
    lost_by_who_ended_it,
    lost,
    pod_ended,
    killed_by_kubelet,
    pod_deleted,
    pod_completed,
];
const AFTER_EVENTS: [Rule; 7] = [
    child_out_of_memory,
    startup_probe_without_event,
    liveness_probe_without_event,
    completed,
    fatal_signal,
    killed,
    application,
];

/// Decides by the first rule that matches.
pub fn decide(case: &Case, witness: &Witness) -> Verdict {
    let first = |rules: &[Rule]| rules.iter().find_map(|rule| rule(case, witness));
    if let Some((cause, evidence)) = first(&FIRM) {
        return Verdict { cause, evidence, may_change: false };
    }
    let (cause, evidence) = first(&AFTER_EVENTS).unwrap_or((Cause::Application, Evidence::Status));
    Verdict { cause, evidence, may_change: an_event_could_explain(case, cause) }
}

/// Apps that catch SIGTERM end with any code, so whatever a probe or hook may have killed waits for the event;
/// so does a 137 or 143 that nothing explains.
fn an_event_could_explain(case: &Case, cause: Cause) -> bool {
    let hooked = case.liveness_ms.is_some() || case.startup_ms.is_some() || case.post_start;
    hooked || (cause == Cause::Killed && matches!(case.exit_code, SIGKILL | SIGTERM))
}

/// Rule 1: containerd reports StartError with 128, Docker ContainerCannotRun
/// (pkg/kubelet/kuberuntime/kuberuntime_container.go, `toKubeContainerStatus`; containerd internal/cri/server).
fn start_failed(case: &Case, _: &Witness) -> Option<(Cause, Evidence)> {
    matches!(case.reason, Reason::StartError | Reason::ContainerCannotRun)
        .then_some((Cause::StartFailed, Evidence::Status))
}

/// Rule 2: The runtime says OOMKilled when the cgroup's kill counter rose; the kubelet's OOM watcher writes SystemOOM
/// for a kill outside of any limit (pkg/kubelet/oom/oom_watcher_linux.go), which is all one sees on cgroup v1.
fn out_of_memory(case: &Case, witness: &Witness) -> Option<(Cause, Evidence)> {
    if case.exit_code != SIGKILL || !matches!(case.reason, Reason::OomKilled | Reason::Error) {
        return None;
    }
    if witness.system_oom {
        return Some((Cause::OomNode, Evidence::Event));
    }
    (case.reason == Reason::OomKilled).then(|| by_limit(case))
}

fn by_limit(case: &Case) -> (Cause, Evidence) {
    (if case.memory_limit { Cause::OomLimit } else { Cause::OomNode }, Evidence::Status)
}

/// Before rule 3: An evicted pod's containers are removed as soon as they are dead (pkg/kubelet/pod_workers.go,
/// `ShouldPodContentBeRemoved`), in 4 of 36 evictions before the kubelet had read how they ended, and it makes the
/// record up: what it can't find is its own doing.
fn lost_by_who_ended_it(case: &Case, witness: &Witness) -> Option<(Cause, Evidence)> {
    let failure = case.facts.failure.filter(|failure| case.made_up && case.seen >= failure.first_seen)?;
    pod_ended(case, witness).filter(|(cause, _)| *cause == failure.cause)
}

/// Rule 3: The kubelet could not find the container (pkg/kubelet/kubelet_pods.go, `convertToAPIContainerStatuses`),
/// or the runtime lost it in a crash (containerd internal/cri/server/restart.go: 255, Unknown).
fn lost(case: &Case, _: &Witness) -> Option<(Cause, Evidence)> {
    (case.made_up || matches!(case.reason, Reason::Unknown | Reason::ContainerStatusUnknown))
        .then_some((Cause::Lost, Evidence::Status))
}

/// Rule 4: The whole pod was ended: `status.reason` first, then DisruptionTarget (see `facts.rs` for their sources).
fn pod_ended(case: &Case, witness: &Witness) -> Option<(Cause, Evidence)> {
    if case.followed || ended_on_its_own_before(case) {
        return None;
    }
    let facts = &case.facts;
    if let Some(failure) = facts.failure {
        let event = witness.pod_event.map(|(at, _)| at);
        let node_times = [event, witness.stopping, facts.disruption.and_then(|d| d.at)];
        let after = match (node_times.into_iter().flatten().min(), case.finished_at) {
            (Some(began), Some(end)) => end.since(began) >= -SECOND,
            (Some(_), None) => true,
            (None, _) => case.seen >= failure.first_seen,
        };
        if after {
            return Some((failure.cause, Evidence::Status));
        }
    }
    // A restarted kubelet refuses a pod that it finds running (pkg/kubelet/kubelet.go, `canAdmitPod`), stops it, and
    // writes `status.reason` seconds later: the event is there before.
    if let (None, Some((at, cause)), Some(_)) = (facts.failure, witness.pod_event, witness.stopping)
        && case.finished_at.is_none_or(|end| end.since(at) >= -SECOND)
    {
        return Some((cause, Evidence::Event));
    }
    let disruption = facts.disruption?;
    let after = match facts.deletion {
        Some(deletion) => ended_by_deletion(case, witness, &deletion),
        None if facts.failed => match (disruption.at, case.finished_at) {
            (Some(began), Some(end)) => end.since(began) >= -SECOND,
            _ => true,
        },
        None => false,
    };
    after.then_some((disruption.cause, Evidence::Status))
}

/// Rule 5: The kubelet writes `Killing` before it stops a container (pkg/kubelet/kuberuntime/kuberuntime_container.go,
/// `killContainer`), with the reason that `computePodActions` found (kuberuntime_manager.go).
fn killed_by_kubelet(case: &Case, witness: &Witness) -> Option<(Cause, Evidence)> {
    if let Some(cause) = witness.kill {
        return Some((cause, Evidence::Event));
    }
    if case.post_start_failed {
        return Some((Cause::PostStartHook, Evidence::Status));
    }
    witness.stopping?;
    let facts = &case.facts;
    if facts.deletion.is_some() {
        return None;
    }
    if facts.never_restarts
        && let Some(probe) = witness.unhealthy
    {
        return Some((probe, Evidence::Event));
    }
    let sandbox =
        if facts.mirror { witness.sandbox_changed } else { !facts.terminal && facts.work_over.is_none() };
    sandbox.then_some((Cause::SandboxChanged, Evidence::Event))
}

/// Rule 6: The pod was being deleted (pkg/kubelet/pod_workers.go); one that is still there when its grace is over
/// gets SIGKILL. A static pod has no deletion in the API: `Stopping container` tells.
fn pod_deleted(case: &Case, witness: &Witness) -> Option<(Cause, Evidence)> {
    if case.followed || ended_on_its_own_before(case) {
        return None;
    }
    if case.facts.mirror {
        return witness.stopping.map(|_| (Cause::PodDeleted, Evidence::Event));
    }
    let deletion = case.facts.deletion?;
    if !ended_by_deletion(case, witness, &deletion) {
        return None;
    }
    let evidence = if witness.stopping.is_some() { Evidence::Event } else { Evidence::Status };
    let cause =
        if outlived_grace(case, witness, &deletion) { Cause::GracePeriodExceeded } else { Cause::PodDeleted };
    Some((cause, evidence))
}

/// Rule 7: When a pod's own work is over, the kubelet stops its sidecars (pkg/kubelet/kuberuntime, `computePodActions`)
/// and what else runs in it.
fn pod_completed(case: &Case, _: &Witness) -> Option<(Cause, Evidence)> {
    let stopped = matches!(case.container_type, ContainerType::Sidecar | ContainerType::Ephemeral);
    let over = case.facts.work_over.filter(|_| stopped && !case.followed)?;
    let after = case.finished_at.is_none_or(|end| end >= over);
    after.then_some((Cause::PodCompleted, Evidence::Status))
}

/// Rule 2, once 4 to 7 have not matched: a killed child leaves another code, and containerd's mark may be days old.
fn child_out_of_memory(case: &Case, _: &Witness) -> Option<(Cause, Evidence)> {
    (case.reason == Reason::OomKilled).then(|| by_limit(case))
}

/// Rule 8: The kubelet's event filter lets through 25 events and then one in 5 minutes
/// (k8s.io/client-go/tools/record/events_cache.go), so in a crash loop `Killing` stops; the status still tells
/// that the startup probe had not let the container count as started.
fn startup_probe_without_event(case: &Case, witness: &Witness) -> Option<(Cause, Evidence)> {
    if !could_be_probe(case, case.startup_ms?) {
        return None;
    }
    let confirmed = witness.history.startup;
    let usual = matches!(case.exit_code, SIGKILL | SIGTERM) || confirmed;
    match case.started {
        Some(false) if usual => Some((Cause::StartupProbe, Evidence::Status)),
        None if confirmed => Some((Cause::StartupProbe, Evidence::History)),
        _ => None,
    }
}

/// Rule 8: As above for the liveness probe, which only history can tell.
fn liveness_probe_without_event(case: &Case, witness: &Witness) -> Option<(Cause, Evidence)> {
    let not_started = case.startup_ms.is_some() && case.started == Some(false);
    (could_be_probe(case, case.liveness_ms?) && !not_started && witness.history.liveness)
        .then_some((Cause::LivenessProbe, Evidence::History))
}

/// Rule 9: Exit code 0.
fn completed(case: &Case, _: &Witness) -> Option<(Cause, Evidence)> {
    (case.exit_code == 0).then_some((Cause::Completed, Evidence::Status))
}

/// Rule 10: A signal that a process raises by its own fault.
fn fatal_signal(case: &Case, _: &Witness) -> Option<(Cause, Evidence)> {
    is_fatal(case).then_some((Cause::FatalSignal, Evidence::Status))
}

/// Rule 11: Any other signal, sender unknown.
fn killed(case: &Case, _: &Witness) -> Option<(Cause, Evidence)> {
    signal(case).map(|_| (Cause::Killed, Evidence::None))
}

/// Rule 12: Any other code.
fn application(_: &Case, _: &Witness) -> Option<(Cause, Evidence)> {
    Some((Cause::Application, Evidence::Status))
}

fn signal(case: &Case) -> Option<u8> {
    if case.windows { None } else { ExitCode(Some(case.exit_code)).signal() }
}

fn is_fatal(case: &Case) -> bool {
    signal(case).is_some_and(|signal| FATAL_SIGNALS.contains(&signal))
}

/// Not a crash by the process's own fault, and not before the probe could have failed often enough.
fn could_be_probe(case: &Case, shortest_ms: i64) -> bool {
    let long_enough = match (case.started_at, case.finished_at) {
        (Some(start), Some(end)) => end.since(start) >= shortest_ms - SECOND,
        _ => false,
    };
    long_enough && !is_fatal(case)
}

/// A crash loop goes on crashing while its pod is being ended.
fn ended_on_its_own_before(case: &Case) -> bool {
    case.own_code_before == Some(case.exit_code)
}

/// Whether the container ended because of the deletion. On one clock where that is possible: `Stopping container`
/// is on the node's; else by the order of observation; else across the clocks.
fn ended_by_deletion(case: &Case, witness: &Witness, deletion: &Deletion) -> bool {
    if witness.stopping.is_some() || case.ran_into_deletion {
        return true;
    }
    if deletion.deadline.is_none() && case.facts.terminal {
        return false;
    }
    case.finished_at_api.is_some_and(|end| end.since(deletion.requested) >= -SECOND)
}

/// Whether SIGKILL came because the grace was over.
fn outlived_grace(case: &Case, witness: &Witness, deletion: &Deletion) -> bool {
    let Some(deadline) = deletion.deadline.filter(|_| case.exit_code == SIGKILL) else { return false };
    match (witness.stopping, case.finished_at, case.finished_at_api) {
        (Some(stopping), Some(end), _) => end.since(stopping) >= deletion.grace_ms - SECOND,
        (None, _, Some(end)) => end.since(deadline) >= -SECOND,
        _ => false,
    }
}
