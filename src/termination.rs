//! The field's words: what a container's end is called in metrics, logs and pages.
//!
//! Every set here is closed, so that no cluster can grow the number of series by inventing words.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Declares a closed set of words: an enum, the list of its members and their text.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every member, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word, as labels and logs show it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The member with this word, if there is one.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What kind of container of a pod this is.
    ContainerType {
        /// Listed in `spec.containers`.
        App => "container",
        /// Listed in `spec.initContainers`, runs to its end before the app containers start.
        Init => "init_container",
        /// An init container with restartPolicy Always.
        Sidecar => "sidecar_container",
        /// Listed in `spec.ephemeralContainers` (`kubectl debug`).
        Ephemeral => "ephemeral_container",
    }
}

words! {
    /// `state.terminated.reason`: the words of the kubelet and the container runtimes.
    Reason {
        /// Exit code 0.
        Completed => "Completed",
        /// Any other exit code, without more to say.
        Error => "Error",
        /// The kernel's out-of-memory killer struck in the container's cgroup.
        OomKilled => "OOMKilled",
        /// containerd could not start the process (exit code 128).
        StartError => "StartError",
        /// Docker could not start the process.
        ContainerCannotRun => "ContainerCannotRun",
        /// Made up by the kubelet: it could not find the container any more.
        ContainerStatusUnknown => "ContainerStatusUnknown",
        /// What a runtime says of containers that ended while it was down (exit code 255).
        Unknown => "Unknown",
        /// Made up by the kubelet when a restart rule restarts the whole pod.
        RestartingAllContainers => "RestartingAllContainers",
        /// CRI-O: a system call that the seccomp profile forbids.
        SeccompKilled => "seccomp killed",
        /// Any other word, or none.
        Other => "Other",
        /// The API never showed a record of this termination.
        NotObserved => "NotObserved",
    }
}

impl Reason {
    /// The reason as labels show it: a word that is not listed, or none, is "Other".
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match Self::from_word(word) {
            Some(Self::NotObserved) | None => Self::Other,
            Some(reason) => reason,
        }
    }
}

words! {
    /// Who or what ended the container.
    Cause {
        /// The process could not be started.
        StartFailed => "start_failed",
        /// Killed by the kernel at the container's or the pod's own memory limit.
        OomLimit => "oom_limit",
        /// Killed by the kernel because the node ran out of memory.
        OomNode => "oom_node",
        /// Gone with a crash of the node, the runtime, or behind the kubelet's back.
        Lost => "lost",
        /// The kubelet evicted the pod (node pressure or a local storage limit).
        Evicted => "evicted",
        /// A pod of higher priority took the place.
        Preempted => "preempted",
        /// Evicted through the eviction API (`kubectl drain`, autoscalers).
        Drained => "drained",
        /// A NoExecute taint on the node, or a device's.
        NodeTaint => "node_taint",
        /// The node was shutting down.
        NodeShutdown => "node_shutdown",
        /// The pod or Job ran longer than activeDeadlineSeconds.
        DeadlineExceeded => "deadline_exceeded",
        /// The node is gone; the pod garbage collector ended the pod.
        NodeLost => "node_lost",
        /// The liveness probe failed.
        LivenessProbe => "liveness_probe",
        /// The startup probe failed.
        StartupProbe => "startup_probe",
        /// The postStart hook failed.
        PostStartHook => "post_start_hook",
        /// The container's definition in the pod was changed.
        DefinitionChanged => "definition_changed",
        /// An in-place resize needed a restart.
        Resized => "resized",
        /// The pod's sandbox was gone or had changed.
        SandboxChanged => "sandbox_changed",
        /// The pod was deleted and the container outlived its grace period.
        GracePeriodExceeded => "grace_period_exceeded",
        /// The pod was deleted and the container ended within its grace period.
        PodDeleted => "pod_deleted",
        /// A sidecar or ephemeral container was stopped because the pod's own work was over.
        PodCompleted => "pod_completed",
        /// It ended by itself with exit code 0.
        Completed => "completed",
        /// A signal that a process raises by its own fault (SIGSEGV, SIGABRT, …).
        FatalSignal => "fatal_signal",
        /// Any other signal, sender unknown.
        Killed => "killed",
        /// It ended by itself with any other exit code.
        Application => "application",
        /// The exit code is not known.
        Unknown => "unknown",
    }
}

impl Cause {
    /// Ends that are part of normal operation: logged at DEBUG, and no alert above info counts them.
    #[must_use]
    pub const fn is_expected(self) -> bool {
        matches!(self, Self::Completed | Self::PodCompleted | Self::PodDeleted)
    }
}

words! {
    /// What a cause was decided by.
    Evidence {
        /// The pod's own status and spec.
        Status => "status",
        /// An event of the kubelet.
        Event => "event",
        /// Earlier terminations of the same container that an event had confirmed.
        History => "history",
        /// Nothing but the exit code.
        None => "none",
    }
}

words! {
    /// `status.reason` of a pod in phase Failed.
    PodFailure {
        /// The kubelet evicted it.
        Evicted => "Evicted",
        /// Preempted for a critical pod on its node.
        Preempting => "Preempting",
        /// Ended by the node's shutdown.
        Terminated => "Terminated",
        /// Ended by the node's shutdown (older kubelets).
        NodeShutdown => "NodeShutdown",
        /// Ran longer than activeDeadlineSeconds.
        DeadlineExceeded => "DeadlineExceeded",
        /// The kubelet failed while it admitted the pod.
        UnexpectedAdmissionError => "UnexpectedAdmissionError",
        /// Rejected by the topology manager.
        TopologyAffinityError => "TopologyAffinityError",
        /// Rejected by the CPU manager.
        SmtAlignmentError => "SMTAlignmentError",
        /// Rejected: the node does not match the pod's node affinity.
        NodeAffinity => "NodeAffinity",
        /// Rejected: bound to another node's name.
        NodeName => "NodeName",
        /// Rejected: a host port is taken.
        NodePorts => "NodePorts",
        /// Rejected: a taint that the pod does not tolerate.
        TaintToleration => "TaintToleration",
        /// Rejected: not enough CPU on the node.
        OutOfCpu => "OutOfcpu",
        /// Rejected: not enough memory on the node.
        OutOfMemory => "OutOfmemory",
        /// Rejected: not enough ephemeral storage on the node.
        OutOfEphemeralStorage => "OutOfephemeral-storage",
        /// Rejected: the node runs its maximum of pods.
        OutOfPods => "OutOfpods",
        /// Rejected: not enough of any other resource.
        OutOfExtendedResource => "OutOfExtendedResource",
        /// Rejected: the node's operating system.
        PodOsNotSupported => "PodOSNotSupported",
        /// Rejected: the node's operating system does not match the pod's label.
        PodOsSelectorNodeLabelDoesNotMatch => "PodOSSelectorNodeLabelDoesNotMatch",
        /// Rejected: the restartPolicy of an init container is not supported.
        InitContainerRestartPolicyForbidden => "InitContainerRestartPolicyForbidden",
        /// Rejected: supplemental groups policy not supported on the node.
        SupplementalGroupsPolicyNotSupported => "SupplementalGroupsPolicyNotSupported",
        /// Rejected: the pod's feature is not supported on the node.
        PodFeatureUnsupported => "PodFeatureUnsupported",
        /// Rejected: pod-level resources are not supported on the node.
        PodLevelResourcesNotAdmitted => "PodLevelResourcesNotAdmittedReason",
        /// Too many volumes attached to the node.
        VolumeAttachmentLimitExceeded => "VolumeAttachmentLimitExceeded",
        /// Rejected: a sysctl that the node does not allow.
        SysctlForbidden => "SysctlForbidden",
        /// Rejected: AppArmor is not available.
        AppArmor => "AppArmor",
        /// The node is gone; the pod garbage collector ended the pod.
        NodeLost => "NodeLost",
        /// Any other word.
        Other => "Other",
    }
}

impl PodFailure {
    /// The failure as labels show it: `OutOf<any resource>` folds into one word, unlisted words into "Other".
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match Self::from_word(word) {
            Some(failure) => failure,
            None if word.starts_with("OutOf") => Self::OutOfExtendedResource,
            None => Self::Other,
        }
    }
}

/// The exit code as reported; `None` where no record was visible. Negative codes come from Windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExitCode(pub Option<i32>);

impl ExitCode {
    /// No record was visible.
    pub const UNKNOWN: Self = Self(None);

    /// The signal that ended the process, by the shells' and runtimes' convention of 128 + n (n = 1 to 31).
    #[must_use]
    pub fn signal(self) -> Option<u8> {
        let n = self.0?.checked_sub(128)?;
        u8::try_from(n).ok().filter(|n| (1..=31).contains(n))
    }
}

impl fmt::Display for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(code) => write!(f, "{code}"),
            None => f.write_str("unknown"),
        }
    }
}

/// The name of a signal on Linux (amd64 and arm64), 1 to 31.
#[must_use]
pub fn signal_name(signal: u8) -> &'static str {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    usize::from(signal).checked_sub(1).and_then(|i| NAMES.get(i)).copied().unwrap_or("")
}

/// The three labels of an end: what, in whose words, by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Outcome {
    /// The exit code.
    pub exit_code: ExitCode,
    /// The kubelet's or the runtime's word.
    pub reason: Reason,
    /// Who ended it.
    pub cause: Cause,
}

impl Outcome {
    /// An attempt that ended between two status writes: a fact without a record.
    pub const NOT_OBSERVED: Self =
        Self { exit_code: ExitCode::UNKNOWN, reason: Reason::NotObserved, cause: Cause::Unknown };
}

/// The top controller of a pod, by the labels that kubernetes-mixin made standard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// Namespace of the pod.
    pub namespace: Arc<str>,
    /// deployment, statefulset, daemonset, job, cronjob, barepod, staticpod, or any other kind in lower case.
    pub workload_type: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// A container of a workload: the subject of every counter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// The workload.
    pub workload: Workload,
    /// The container's name.
    pub container: Arc<str>,
    /// What kind of container.
    pub container_type: ContainerType,
    /// Values of the labels of `--copy-label`, in the order of the options, then the pod's name with `--pod-label`.
    pub extra: Arc<[Arc<str>]>,
}

/// One counted termination with all that the log line and the board show of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Termination {
    /// Whose.
    pub subject: Subject,
    /// Its labels.
    pub outcome: Outcome,
    /// How many: more than one only where no record was visible.
    pub count: u32,
    /// What decided the cause.
    pub evidence: Evidence,
    /// The pod's name.
    pub pod: Arc<str>,
    /// The node's name, empty if never scheduled.
    pub node: Arc<str>,
    /// Start of the attempt, if a record showed it.
    pub started_at: Option<Timestamp>,
    /// End of the attempt, if a record showed it.
    pub finished_at: Option<Timestamp>,
    /// When it was counted, on the exporter's clock.
    pub counted_at: Timestamp,
    /// `restartCount` of the status that showed it.
    pub restart_count: u32,
    /// The image, as the status names it.
    pub image: Arc<str>,
    /// The termination message, cut at 1 KiB. It may hold anything: it goes to the log, and elsewhere only on request.
    pub message: Option<Box<str>>,
    /// True for ends on Windows, where codes over 128 are no signals.
    pub windows: bool,
}

impl Termination {
    /// The signal that ended it, if the exit code tells one.
    #[must_use]
    pub fn signal(&self) -> Option<u8> {
        if self.windows { None } else { self.outcome.exit_code.signal() }
    }
}
