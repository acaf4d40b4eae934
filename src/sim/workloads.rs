//! The workloads of the demo: one row for each way in which containers end. Every cause appears within a minute.

use super::script::{Container, Death, Over, Owner, PodSpec, Probe, Restart, Script, Step};
use crate::termination::ContainerType;
use Death::*;
use Step::{Dies, MirrorDeleted, Repeat, Run, Start};

/// A node of its own for the workload that the node's memory ends: the kubelet's event names the node only, and
/// would explain every container that dies on it at the same moment.
pub const SMALL_NODE: &str = "node-4";

/// All nodes.
pub const NODES: &[&str] = &["node-1", "node-2", "node-3", SMALL_NODE];

const fn container(name: &'static str, kind: ContainerType, command: &'static str) -> Container {
    Container { name, kind, command, memory: None, liveness: None, startup: None, post_start: false }
}

const APP: Container = container("app", ContainerType::App, "exec /srv/app");
const PROXY: Container = container("proxy", ContainerType::Sidecar, "exec /usr/bin/proxy");
const MIGRATE: Container = container("migrate", ContainerType::Init, "exec /srv/migrate");
const PROBE: Option<Probe> = Some(Probe { period: 2, failures: 2 });

const PLAIN: &[Container] = &[APP];
const LIMITED: &[Container] = &[Container { memory: Some("64Mi"), ..APP }];
const PROBED: &[Container] = &[Container { liveness: PROBE, ..APP }];
const STARTING: &[Container] = &[Container { startup: PROBE, ..APP }];
const HOOKED: &[Container] = &[Container { post_start: true, ..APP }];
const WITH_INIT: &[Container] = &[MIGRATE, PROXY, APP];
const WITH_SIDECAR: &[Container] = &[PROXY, APP];
const WITH_PROBED_SIDECAR: &[Container] = &[Container { liveness: PROBE, ..PROXY }, APP];

/// A pod that runs for a while and dies, again and again.
macro_rules! crashes {
    ($death:expr) => {
        crashes!("app", 3_000, $death)
    };
    ($container:literal, $ms:literal, $death:expr) => {
        &[Start, Repeat(0, &[Run($ms), Dies($container, $death)])]
    };
}

/// The same a few times, then the pod is deleted: for ends that only an event explains, since a pod's events are
/// dropped after the first 25.
macro_rules! crashes_a_few_times {
    ($ms:literal, $death:expr) => {
        &[Start, Repeat(4, &[Run($ms), Dies("app", $death)]), Run(5_000), Step::Over(Over::Deleted(0))]
    };
}

/// A pod that runs for a while and is over.
macro_rules! ends {
    ($over:expr) => {
        &[Start, Run(6_000), Step::Over($over)]
    };
}

impl Script {
    const fn new(
        namespace: &'static str,
        name: &'static str,
        owner: Owner,
        containers: &'static [Container],
        life: &'static [Step],
    ) -> Self {
        let pod = PodSpec { restart: Restart::Always, grace: 2, deadline: None, finalizer: None, containers };
        Self { namespace, name, owner, node: "node-1", pod, begins_ms: 0, life, pause_ms: 15_000 }
    }

    const fn on(mut self, node: &'static str) -> Self {
        self.node = node;
        self
    }

    const fn restarts(mut self, restart: Restart) -> Self {
        self.pod.restart = restart;
        self
    }

    const fn grace(mut self, seconds: i64) -> Self {
        self.pod.grace = seconds;
        self
    }

    const fn deadline(mut self, seconds: i64) -> Self {
        self.pod.deadline = Some(seconds);
        self
    }

    const fn finalizer(mut self, finalizer: &'static str) -> Self {
        self.pod.finalizer = Some(finalizer);
        self
    }
}

const fn deployment(
    namespace: &'static str,
    name: &'static str,
    containers: &'static [Container],
    life: &'static [Step],
) -> Script {
    Script::new(namespace, name, Owner::Deployment, containers, life)
}

const fn job(name: &'static str, containers: &'static [Container], life: &'static [Step]) -> Script {
    Script::new("batch", name, Owner::Job, containers, life).restarts(Restart::Never)
}

/// The workloads.
pub const WORKLOADS: &[Script] = &[
    // Containers that end by themselves.
    deployment("shop", "checkout", PLAIN, crashes!(ExitSaying(1, "panic: cart is empty\n"))),
    deployment("shop", "shell-misuse", PLAIN, crashes!(Exit(2))),
    deployment("shop", "not-executable", PLAIN, crashes!(Exit(126))),
    deployment("shop", "typo", PLAIN, crashes!(Exit(127))),
    deployment("shop", "one-off", PLAIN, crashes!("app", 5_000, Exit(0))),
    deployment("shop", "image-resizer", PLAIN, crashes!("app", 4_000, Exit(139))),
    deployment("shop", "no-binary", PLAIN, &[Start, Repeat(0, &[Dies("app", StartError), Run(1_000)])]),
    deployment("shop", "with-init", WITH_INIT, crashes!("migrate", 2_000, Exit(3))),
    deployment("shop", "with-sidecar", WITH_SIDECAR, crashes!("proxy", 6_000, Exit(7))),
    Script::new("shop", "recommender", Owner::Rollout, PLAIN, crashes!("app", 7_000, Exit(134))),
    Script::new("kube-system", "kube-proxy", Owner::Static, PLAIN, STATIC_POD).on("node-2"),
    // Memory.
    Script::new("search", "index", Owner::StatefulSet, LIMITED, crashes!("app", 4_000, OomLimit(137))),
    deployment("search", "child-oom", LIMITED, crashes!("app", 5_000, OomLimit(1))),
    deployment("search", "unlimited", PLAIN, crashes!("app", 9_000, OomNode)).on(SMALL_NODE),
    // The kubelet ends a container.
    Script::new("infra", "log-agent", Owner::DaemonSet, PROBED, crashes!("app", 500, Liveness(137))),
    deployment("infra", "gateway", PROBED, crashes!("app", 2_000, Liveness(143))),
    deployment("infra", "mesh", WITH_PROBED_SIDECAR, crashes!("proxy", 5_000, Liveness(137))),
    deployment("infra", "slow-start", STARTING, crashes!("app", 500, Startup(137))),
    deployment("infra", "hooked", HOOKED, &[Start, Repeat(0, &[Dies("app", PostStart), Run(2_000)])]),
    deployment("infra", "patched", PLAIN, crashes_a_few_times!(20_000, Redefined(143))),
    Script::new("infra", "resized", Owner::StatefulSet, LIMITED, crashes_a_few_times!(22_000, Resized(137))),
    deployment("infra", "resandboxed", PLAIN, crashes_a_few_times!(24_000, SandboxChanged(137))),
    // The node, the runtime, or somebody on the node ends a container.
    deployment("infra", "power-cut", PLAIN, crashes!("app", 26_000, NodeCrashed)).on("node-3"),
    deployment("infra", "removed", PLAIN, crashes!("app", 28_000, Vanished)).on("node-3"),
    deployment("infra", "kill-nine", PLAIN, crashes!("app", 12_000, Exit(137))),
    deployment("infra", "too-fast", PLAIN, crashes!("app", 10_000, Twice(1))),
    // The pod ends as a whole.
    deployment("shop", "rolled-out", PLAIN, ends!(Over::Deleted(0))),
    deployment("shop", "stubborn", PLAIN, ends!(Over::Deleted(137))),
    deployment("search", "drained", PLAIN, ends!(Over::Drained(143))).on("node-2"),
    deployment("search", "low-priority", PLAIN, ends!(Over::Preempted(137))).grace(1),
    deployment("search", "tainted", PLAIN, ends!(Over::Tainted(143))).on("node-3"),
    deployment("search", "shut-down", PLAIN, ends!(Over::NodeShutdown(143))).on("node-3"),
    Script::new("search", "disk-eater", Owner::Bare, PLAIN, ends!(Over::Evicted(137))),
    Script::new("search", "database", Owner::StatefulSet, PLAIN, ends!(Over::NodeLost(143)))
        .on("node-3")
        .finalizer("example.com/detach-volumes"),
    Script::new("search", "forced", Owner::Bare, PLAIN, ends!(Over::Forced)),
    Script::new("search", "too-big", Owner::Bare, PLAIN, &[Step::Over(Over::Rejected)]),
    // Batch work.
    job("report", PLAIN, ends!(Over::Finished(3, 0))),
    job("etl", WITH_SIDECAR, ends!(Over::Finished(0, 143))),
    job("too-long", PLAIN, ends!(Over::Deadline(137))).deadline(6),
    Script::new("batch", "import", Owner::GeneratedJob, PLAIN, ends!(Over::Finished(0, 0)))
        .restarts(Restart::Never),
    Script::new("batch", "nightly", Owner::CronJob, PLAIN, NIGHTLY).restarts(Restart::OnFailure),
    Script::new("batch", "pipeline", Owner::Workflow, PLAIN, ends!(Over::Finished(1, 0)))
        .restarts(Restart::Never),
];

/// Fails, is restarted, and succeeds.
const NIGHTLY: &[Step] =
    &[Start, Run(3_000), Dies("app", Exit(42)), Run(3_000), Step::Over(Over::Finished(0, 0))];

const STATIC_POD: &[Step] =
    &[Start, Repeat(0, &[Run(8_000), Dies("app", Exit(1)), Run(5_000), MirrorDeleted])];
