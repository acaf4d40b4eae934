//! The words in which the workloads of the simulated cluster are written down: what a pod looks like, and what
//! happens to it.

use crate::termination::{Cause, ContainerType, ExitCode, Outcome, Reason};

/// A workload and the life of its pods, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// Its namespace.
    pub namespace: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What controls its pods.
    pub owner: Owner,
    /// The node of its pods.
    pub node: &'static str,
    /// Its pods.
    pub pod: PodSpec,
    /// When the first pod is made, in milliseconds after the cluster's begin.
    pub begins_ms: u64,
    /// What happens to a pod.
    pub life: &'static [Step],
    /// The time between the end of one pod's life and the next pod, in milliseconds.
    pub pause_ms: u64,
}

/// What controls a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A Deployment by its ReplicaSet.
    Deployment,
    /// An Argo Rollout by its ReplicaSet.
    Rollout,
    /// A StatefulSet.
    StatefulSet,
    /// A DaemonSet.
    DaemonSet,
    /// One Job for all the pods.
    Job,
    /// A new Job with a generated name for each pod.
    GeneratedJob,
    /// A new Job of a CronJob for each pod.
    CronJob,
    /// A custom kind with a generated name, new for each pod.
    Workflow,
    /// Nothing.
    Bare,
    /// The node itself: the pod is the mirror of a static pod.
    Static,
}

impl Owner {
    /// The label `workload_type`.
    #[must_use]
    pub const fn workload_type(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::Rollout => "rollout",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
            Self::Job | Self::GeneratedJob => "job",
            Self::CronJob => "cronjob",
            Self::Workflow => "workflow",
            Self::Bare => "barepod",
            Self::Static => "staticpod",
        }
    }
}

/// `restartPolicy` of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Containers are always restarted.
    Always,
    /// Containers are restarted unless they exit with 0.
    OnFailure,
    /// Containers are not restarted.
    Never,
}

/// What a pod looks like.
#[derive(Clone, Copy, Debug)]
pub struct PodSpec {
    /// `restartPolicy`.
    pub restart: Restart,
    /// `terminationGracePeriodSeconds`.
    pub grace: i64,
    /// `activeDeadlineSeconds`.
    pub deadline: Option<i64>,
    /// A finalizer that keeps the object after its deletion.
    pub finalizer: Option<&'static str>,
    /// Its containers, init containers first.
    pub containers: &'static [Container],
}

/// A container in a pod's spec.
#[derive(Clone, Copy, Debug)]
pub struct Container {
    /// Its name.
    pub name: &'static str,
    /// What kind.
    pub kind: ContainerType,
    /// Its command, run by a shell.
    pub command: &'static str,
    /// `resources.limits.memory`.
    pub memory: Option<&'static str>,
    /// Liveness probe.
    pub liveness: Option<Probe>,
    /// Startup probe; it never succeeds.
    pub startup: Option<Probe>,
    /// A postStart hook; it always fails.
    pub post_start: bool,
}

/// A probe's timing in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// `periodSeconds`.
    pub period: i64,
    /// `failureThreshold`.
    pub failures: i64,
}

/// What happens to a pod next.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// The pod is made, bound to its node, and its containers are started.
    Start,
    /// So many milliseconds pass.
    Run(u64),
    /// The named container ends this way; it is restarted if the pod restarts its containers.
    Dies(&'static str, Death),
    /// The steps are taken so many times; for ever if that is 0.
    Repeat(u32, &'static [Step]),
    /// The pod ends as a whole.
    Over(Over),
    /// Somebody deletes the mirror of a static pod; the kubelet makes it again under another uid.
    MirrorDeleted,
}

/// How a container ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// By itself, or by a signal from nobody knows where, with this exit code.
    Exit(i32),
    /// The same, with a termination message.
    ExitSaying(i32, &'static str),
    /// It could not be started at all.
    StartError,
    /// The kernel killed it, or a process in it, at its memory limit; it left this exit code.
    OomLimit(i32),
    /// The kernel killed it because the node ran out of memory.
    OomNode,
    /// Its liveness probe failed; it left this exit code (137: it outlived its grace period).
    Liveness(i32),
    /// Its startup probe failed.
    Startup(i32),
    /// Its postStart hook failed.
    PostStart,
    /// Its image was changed in the pod.
    Redefined(i32),
    /// Its resources were changed in the pod in a way that needs a restart.
    Resized(i32),
    /// The pod's sandbox was gone.
    SandboxChanged(i32),
    /// The node crashed: the runtime only knows that it ended.
    NodeCrashed,
    /// It was removed behind the kubelet's back: the kubelet makes up a record.
    Vanished,
    /// It ended twice between two status writes; only the second end is ever shown.
    Twice(i32),
}

/// How a pod ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Its app container ends by itself with this code and is not restarted; its sidecars are stopped and
    /// leave the second code.
    Finished(i32, i32),
    /// It is deleted; its containers leave this code (137: they outlive the grace period).
    Deleted(i32),
    /// It is deleted with grace period 0 while it runs: nothing shows the end of its containers.
    Forced,
    /// It is evicted through the eviction API.
    Drained(i32),
    /// A pod of higher priority takes its place.
    Preempted(i32),
    /// A NoExecute taint of its node evicts it.
    Tainted(i32),
    /// The kubelet evicts it: the node is low on memory.
    Evicted(i32),
    /// Its node shuts down.
    NodeShutdown(i32),
    /// It ran longer than activeDeadlineSeconds.
    Deadline(i32),
    /// Its node was gone, the garbage collector ended it, and the node came back.
    NodeLost(i32),
    /// The kubelet rejects it: it never ran, although a made-up record says 137.
    Rejected,
}

impl Death {
    /// What is counted for it.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        let (code, reason, cause) = match self {
            Self::Exit(code) | Self::ExitSaying(code, _) | Self::Twice(code) => return by_itself(code),
            Self::StartError => (128, Reason::StartError, Cause::StartFailed),
            Self::OomLimit(code) => (code, Reason::OomKilled, Cause::OomLimit),
            Self::OomNode => (137, Reason::OomKilled, Cause::OomNode),
            Self::Liveness(code) => return ended_by(Cause::LivenessProbe, code),
            Self::Startup(code) => return ended_by(Cause::StartupProbe, code),
            Self::PostStart => return ended_by(Cause::PostStartHook, 137),
            Self::Redefined(code) => return ended_by(Cause::DefinitionChanged, code),
            Self::Resized(code) => return ended_by(Cause::Resized, code),
            Self::SandboxChanged(code) => return ended_by(Cause::SandboxChanged, code),
            Self::NodeCrashed => (255, Reason::Unknown, Cause::Lost),
            Self::Vanished => (137, Reason::ContainerStatusUnknown, Cause::Lost),
        };
        Outcome { exit_code: ExitCode(Some(code)), reason, cause }
    }
}

/// An end that a container brought about itself, or that somebody outside brought about.
#[must_use]
pub fn by_itself(code: i32) -> Outcome {
    let cause = match code {
        0 => Cause::Completed,
        132 | 133 | 134 | 135 | 136 | 139 | 159 => Cause::FatalSignal,
        129..=158 => Cause::Killed,
        _ => Cause::Application,
    };
    ended_by(cause, code)
}

/// An end with the runtime's own word for it.
#[must_use]
pub fn ended_by(cause: Cause, code: i32) -> Outcome {
    let reason = if code == 0 { Reason::Completed } else { Reason::Error };
    Outcome { exit_code: ExitCode(Some(code)), reason, cause }
}
