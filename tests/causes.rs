//! The table of causes, rule by rule: what matches, what does not, and where the border is. A row is what the
//! exporter sees, in order, and what it then says of each end: exit code, cause, evidence.

#![cfg(test)]

mod support;

use serde_json::{Value, json};
use support::pods::{EventBuilder, PodBuilder, at, event, killing, liveness_kill, pod, stopping, system_oom};
use support::world::World;

enum Step {
    Pod(PodBuilder),
    Event(EventBuilder),
    /// Milliseconds pass.
    Wait(i64),
}

impl From<PodBuilder> for Step {
    fn from(pod: PodBuilder) -> Self {
        Self::Pod(pod)
    }
}

impl From<EventBuilder> for Step {
    fn from(event: EventBuilder) -> Self {
        Self::Event(event)
    }
}

impl From<i64> for Step {
    fn from(ms: i64) -> Self {
        Self::Wait(ms)
    }
}

macro_rules! check {
    ($($name:literal: [$($step:expr),+ $(,)?] => $ends:expr;)+) => {
        $(
            let mut world = World::new();
            $(match Step::from($step) {
                Step::Pod(pod) => world.sees(&pod),
                Step::Event(event) => world.event(&event),
                Step::Wait(ms) => world.wait(ms),
            })+
            world.wait(2000);
            let expected: &[&str] = &$ends;
            assert_eq!(world.ends(), expected, $name);
        )+
    };
}

fn web() -> PodBuilder {
    pod("web").container("app")
}

/// Fails first after 20 s: 2 periods of 10 s.
fn probed() -> PodBuilder {
    web().probe("livenessProbe", 0, 10)
}

/// As above, for the startup probe, and not started yet.
fn starting(id: &str, since: i64) -> PodBuilder {
    web().probe("startupProbe", 0, 10).running(id, since).status("started", json!(false))
}

fn startup() -> PodBuilder {
    web().probe("startupProbe", 0, 10)
}

// ---- Rules 1 to 3 ----

#[test]
fn a_failed_start_comes_first() {
    check! {
        "containerd": [web().crashed("a", 128, "StartError", 0, 5)] => ["128 start_failed status"];
        "docker": [web().crashed("a", 127, "ContainerCannotRun", 0, 5)] => ["127 start_failed status"];
        "also while the pod is deleted": [web().deleted(1, 30).ended("a", 128, "StartError", 0, 5)]
            => ["128 start_failed status"];
        "128 alone is a code": [web().crashed("a", 128, "Error", 0, 5)] => ["128 application status"];
    }
}

#[test]
fn out_of_memory_is_told_by_the_reason_and_by_the_node() {
    let pod_limit = json!({"limits": {"memory": "1Gi"}});
    check! {
        "the container's limit": [web().memory_limit().crashed("a", 137, "OOMKilled", 0, 50)] => ["137 oom_limit status"];
        "the pod's limit": [web().with("/spec/resources", pod_limit).crashed("a", 137, "OOMKilled", 0, 50)]
            => ["137 oom_limit status"];
        "no limit": [web().crashed("a", 137, "OOMKilled", 0, 50)] => ["137 oom_node status"];
        "before deletion": [web().memory_limit().deleted(1, 30).ended("a", 137, "OOMKilled", 0, 50)]
            => ["137 oom_limit status"];
        "a killed child": [web().memory_limit().crashed("a", 1, "OOMKilled", 0, 50)] => ["1 oom_limit status"];
        "a killed child, and 0": [web().memory_limit().crashed("a", 0, "OOMKilled", 0, 50)] => ["0 oom_limit status"];
        "an old mark, then deleted": [web().memory_limit().deleted(45, 30).ended("a", 143, "OOMKilled", 0, 50)]
            => ["143 pod_deleted status"];
        "an old mark, then killed by the probe":
            [probed().memory_limit().crashed("a", 143, "OOMKilled", 0, 50), liveness_kill("web", "app", 49)]
            => ["143 liveness_probe event"];
        "the node's event within 2 s": [system_oom("node-1", 52), web().memory_limit().crashed("a", 137, "OOMKilled", 0, 50)]
            => ["137 oom_node event"];
        "cgroup v1: a plain 137": [web().crashed("a", 137, "Error", 0, 50), system_oom("node-1", 48)]
            => ["137 oom_node event"];
        "more than 2 s away": [system_oom("node-1", 53), web().crashed("a", 137, "Error", 0, 50)]
            => ["137 killed none"];
        "another node": [system_oom("node-2", 50), web().crashed("a", 137, "Error", 0, 50)]
            => ["137 killed none"];
        "another code": [system_oom("node-1", 50), web().crashed("a", 1, "Error", 0, 50)]
            => ["1 application status"];
    }
}

#[test]
fn what_the_runtime_or_the_kubelet_lost_is_lost() {
    check! {
        "after a crash of containerd or the node": [web().crashed("a", 255, "Unknown", 0, 50)] => ["255 lost status"];
        "255 alone is a code": [web().crashed("a", 255, "Error", 0, 50)] => ["255 application status"];
        "gone behind the kubelet's back": [web().running("a", 0), web().restarted(1).waiting("").used_to_run()]
            => ["137 lost status"];
        "also while the pod is deleted": [
            web().running("a", 0),
            web().deleted(10, 30).status("containerID", json!("")).waiting("").used_to_run(),
        ] => ["137 lost status"];
        "before the kubelet ends its pod": [
            web().running("a", 0),
            web().status("containerID", json!("a")).not_located(),
            web().failed("Evicted").status("containerID", json!("a")).not_located(),
        ] => ["137 lost status"];
    }
}

#[test]
fn what_the_kubelet_lost_while_it_ended_the_pod_was_its_own_doing() {
    for (reason, cause) in [
        ("Evicted", "evicted"),
        ("Preempting", "preempted"),
        ("Terminated", "node_shutdown"),
        ("NodeAffinity", "lost"),
    ] {
        let mut world = World::new();
        world.sees(&web().running("a", 0));
        world.sees(&web().failed(reason).status("containerID", json!("a")).not_located());
        assert_eq!(world.ends(), [format!("137 {cause} status")]);
    }
    check! {
        "the reason before the record": [
            web().running("a", 0),
            web().failed("Evicted").running("a", 0),
            web().failed("Evicted").status("containerID", json!("a")).not_located(),
        ] => ["137 evicted status"];
        "as if it would start again": [
            web().running("a", 0),
            web().failed("Evicted").restarted(1).waiting("ContainerCreating").used_to_run(),
        ] => ["137 evicted status"];
        "and then not": [
            web().running("a", 0),
            web().failed("Evicted").restarted(1).not_located().used_to_run(),
        ] => ["137 evicted status"];
    }
}

// ---- Rule 4 ----

#[test]
fn a_status_reason_says_who_ended_the_pod() {
    for (reason, cause) in [
        ("Evicted", "evicted"),
        ("Preempting", "preempted"),
        ("Terminated", "node_shutdown"),
        ("NodeShutdown", "node_shutdown"),
        ("DeadlineExceeded", "deadline_exceeded"),
    ] {
        let mut world = World::new();
        world.sees(&web().running("a", 0));
        world.sees(&web().failed(reason).ended("a", 143, "Error", 0, 50));
        assert_eq!(world.ends(), [format!("143 {cause} status")]);
    }
    check! {
        "a reason of a pod that has not failed": [web().with("/status/reason", json!("Evicted")).crashed("a", 1, "Error", 0, 50)]
            => ["1 application status"];
        "a rejection is not the end of anything": [web().failed("NodeAffinity").ended("a", 1, "Error", 0, 50)]
            => ["1 application status"];
    }
}

#[test]
fn an_earlier_crash_stays_a_crash() {
    let sidecar_too = |pod: PodBuilder| pod.container("other").crashed("o", 1, "Error", 0, 20);
    check! {
        "told by an earlier object": [
            sidecar_too(web().running("a", 0)),
            sidecar_too(web().failed("Evicted").ended("a", 143, "Error", 0, 50)),
        ] => ["1 application status", "143 evicted status"];
        "told by the eviction's event": [
            event("web", "", "Evicted", "The node was low on resource: memory.", 45),
            sidecar_too(web().failed("Evicted").ended("a", 143, "Error", 0, 50)),
        ] => ["143 evicted status", "1 application status"];
        "told by the condition's time": [
            sidecar_too(web().failed("Evicted").disrupted("TerminationByKubelet", 45).ended("a", 143, "Error", 0, 50)),
        ] => ["143 evicted status", "1 application status"];
        "1 s of tolerance": [
            web().failed("Evicted").disrupted("TerminationByKubelet", 51).ended("a", 143, "Error", 0, 50),
        ] => ["143 evicted status"];
        "not 2": [
            web().failed("Evicted").disrupted("TerminationByKubelet", 52).ended("a", 1, "Error", 0, 50),
        ] => ["1 application status"];
    }
}

#[test]
fn a_disruption_explains_with_a_deletion_or_a_failure() {
    for (reason, cause) in [
        ("PreemptionByScheduler", "preempted"),
        ("EvictionByEvictionAPI", "drained"),
        ("DeletionByTaintManager", "node_taint"),
        ("DeletionByDeviceTaintManager", "node_taint"),
        ("TerminationByKubelet", "evicted"),
        ("DeletionByPodGC", "node_lost"),
    ] {
        let disrupted = || web().disrupted(reason, 40);
        let end = format!("143 {cause} status");
        check! {
            "with a deletion": [disrupted().running("a", 0), disrupted().deleted(40, 30).ended("a", 143, "Error", 0, 50)]
                => [&*end];
            "with a failure": [disrupted().phase("Failed").ended("a", 143, "Error", 0, 50)] => [&*end];
            "alone": [disrupted().crashed("a", 1, "Error", 0, 50)] => ["1 application status"];
            "after the crash": [disrupted().deleted(40, 30).ended("a", 1, "Error", 0, 20)]
                => ["1 application status"];
        }
    }
    check! {
        "a disruption that was taken back": [
            web().with("/status/conditions", json!([{"type": "DisruptionTarget", "status": "False",
                "reason": "EvictionByEvictionAPI", "lastTransitionTime": at(40)}])).deleted(40, 30).ended("a", 143, "Error", 0, 50),
        ] => ["143 pod_deleted status"];
        "an unknown reason": [web().disrupted("SomethingNew", 40).deleted(40, 30).ended("a", 143, "Error", 0, 50)]
            => ["143 pod_deleted status"];
    }
}

#[test]
fn the_end_of_a_pod_never_explains_an_attempt_that_another_followed() {
    let followed = |pod: PodBuilder| pod.restarted(1).last("a", 1, "Error", 0, 50).running("b", 55);
    check! {
        "deleted": [web().running("a", 0), followed(web().deleted(40, 30))] => ["1 application status"];
        "drained": [web().running("a", 0), followed(web().disrupted("EvictionByEvictionAPI", 40).deleted(40, 30))]
            => ["1 application status"];
        "evicted": [web().running("a", 0), followed(web().failed("Evicted"))] => ["1 application status"];
    }
}

#[test]
fn a_crash_loop_goes_on_crashing_while_its_pod_is_ended() {
    let looping = |code, pod: PodBuilder| {
        [
            web().crashed("a", 3, "Error", 0, 10),
            web().restarted(1).last("a", 3, "Error", 0, 10).running("b", 20),
            pod.restarted(1).last("a", 3, "Error", 0, 10).ended("b", code, "Error", 20, 30),
        ]
    };
    for (name, pod) in [
        ("deleted", web().deleted(29, 30)),
        ("drained", web().disrupted("EvictionByEvictionAPI", 29).deleted(29, 30)),
        ("evicted", web().failed("Evicted")),
    ] {
        let mut world = World::new();
        for object in looping(3, pod) {
            world.sees(&object);
        }
        assert_eq!(world.ends(), ["3 application status"; 2], "{name}");
    }
    let mut world = World::new();
    for object in looping(143, web().deleted(29, 30)) {
        world.sees(&object);
    }
    assert_eq!(world.ends(), ["3 application status", "143 pod_deleted status"]);
}

// ---- Rule 5 ----

#[test]
fn a_killing_event_says_what_the_kubelet_killed_a_container_for() {
    for (why, cause) in [
        ("failed liveness probe, will be restarted", "liveness_probe"),
        ("failed liveness probe", "liveness_probe"),
        ("failed startup probe, will be restarted", "startup_probe"),
        ("definition changed, will be restarted", "definition_changed"),
        ("definition changed", "definition_changed"),
        ("resize requires restart", "resized"),
    ] {
        let end = format!("137 {cause} event");
        let ended = || web().crashed("a", 137, "Error", 0, 50);
        check! {
            "before the status": [killing("web", "app", why, 45), ended()] => [&*end];
            "after the status": [ended(), killing("web", "app", why, 45)] => [&*end];
            "in the second of the end": [ended(), killing("web", "app", why, 50)] => [&*end];
            "in the second of the start": [ended(), killing("web", "app", why, 0)] => [&*end];
            "after the end": [ended(), killing("web", "app", why, 51)] => ["137 killed none"];
            "before the start": [web().crashed("a", 137, "Error", 10, 50), killing("web", "app", why, 9)]
                => ["137 killed none"];
            "of another container": [ended(), killing("web", "other", why, 45)] => ["137 killed none"];
            "of another pod": [ended(), killing("other", "app", why, 45)] => ["137 killed none"];
            "combined": [
                event("web", "app", "Killing", &format!("(combined from similar events): Container app {why}"), 45),
                ended(),
            ] => [&*end];
            "series": [
                killing("web", "app", why, 0).with("/lastTimestamp", Value::Null).with("/firstTimestamp", Value::Null)
                    .with("/eventTime", json!("2026-01-01T00:00:00.123456Z"))
                    .with("/series", json!({"count": 3, "lastObservedTime": "2026-01-01T00:00:45.123456Z"})),
                ended(),
            ] => [&*end];
            "eventTime": [
                killing("web", "app", why, 0).with("/lastTimestamp", Value::Null).with("/firstTimestamp", Value::Null)
                    .with("/eventTime", json!("2026-01-01T00:00:45.123456Z")),
                ended(),
            ] => [&*end];
        }
    }
    check! {
        "a message that only holds the words": [
            web().crashed("a", 137, "Error", 0, 50),
            event("web", "app", "Killing", "Not Container app failed liveness probe", 45),
        ] => ["137 killed none"];
        "another reason": [
            web().crashed("a", 137, "Error", 0, 50),
            event("web", "app", "Noticed", "Container app failed liveness probe", 45),
        ] => ["137 killed none"];
        "out of memory stands above": [
            liveness_kill("web", "app", 45),
            web().memory_limit().crashed("a", 137, "OOMKilled", 0, 50),
        ] => ["137 oom_limit status"];
        "deletion stands below": [
            liveness_kill("web", "app", 45),
            probed().deleted(46, 30).ended("a", 137, "Error", 0, 50),
        ] => ["137 liveness_probe event"];
    }
}

/// Events explain only what lies in their own namespace: who may write some elsewhere can't have an end misnamed.
#[test]
fn an_event_of_another_namespace_explains_nothing() {
    let foreign = |event: EventBuilder| event.with("/involvedObject/namespace", json!("elsewhere"));
    let ended = || web().crashed("a", 137, "Error", 0, 50);
    check! {
        "of a pod": [ended(), foreign(liveness_kill("web", "app", 49))] => ["137 killed none"];
        "of a node": [ended(), foreign(system_oom("node-1", 50))] => ["137 killed none"];
        "of a static pod": [
            pod("etcd").mirror_of("hash").container("etcd").crashed("a", 137, "Error", 0, 50),
            foreign(liveness_kill("etcd-node-1", "etcd", 49).about("hash")),
        ] => ["137 killed none"];
    }
}

#[test]
fn a_sidecar_is_killed_as_an_init_container() {
    let sidecar =
        || pod("web").sidecar("proxy").probe("livenessProbe", 0, 10).crashed("a", 137, "Error", 0, 50);
    let message = "Init container proxy failed liveness probe";
    check! {
        "by its message": [event("web", "", "Killing", message, 45), sidecar()] => ["137 liveness_probe event"];
        "another's": [event("web", "", "Killing", "Init container other failed liveness probe", 45), sidecar()]
            => ["137 killed none"];
    }
}

#[test]
fn a_failed_post_start_hook_kills() {
    let hooked = || web().spec("lifecycle", json!({"postStart": {"exec": {"command": ["false"]}}}));
    check! {
        "by the event": [hooked().ended("a", 137, "Error", 0, 2), event("web", "app", "Killing", "FailedPostStartHook", 1)]
            => ["137 post_start_hook event"];
        "by the status": [hooked().crashed("a", 137, "Error", 0, 2).waiting("PostStartHookError")]
            => ["137 post_start_hook status"];
        "a crash of its own": [hooked().crashed("a", 1, "Error", 0, 2)] => ["1 application status"];
    }
}

#[test]
fn a_stop_without_a_reason_of_the_pods_own_is_a_changed_sandbox() {
    check! {
        "nothing else ends it": [stopping("web", "app", 49), web().crashed("a", 137, "Error", 0, 50)]
            => ["137 sandbox_changed event"];
        "the pod is deleted": [stopping("web", "app", 49), web().deleted(48, 30).ended("a", 143, "Error", 0, 50)]
            => ["143 pod_deleted event"];
        "the pod has completed": [
            stopping("web", "app", 49),
            web().restart_policy("Never").phase("Failed").ended("a", 143, "Error", 0, 50),
        ] => ["143 killed none"];
        "a static pod was removed": [
            stopping("etcd-node-1", "etcd", 49).about("hash"),
            pod("etcd").mirror_of("hash").container("etcd").ended("a", 143, "Error", 0, 50),
        ] => ["143 pod_deleted event"];
        "a static pod's sandbox": [
            event("etcd-node-1", "", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.", 49).about("hash"),
            stopping("etcd-node-1", "etcd", 49).about("hash"),
            pod("etcd").mirror_of("hash").container("etcd").crashed("a", 143, "Error", 0, 50),
        ] => ["143 sandbox_changed event"];
    }
}

#[test]
fn probes_of_pods_that_do_not_restart_are_told_by_their_warning() {
    let unhealthy =
        |probe: &str, seconds| event("web", "app", "Unhealthy", &format!("{probe} probe failed: "), seconds);
    let run = || probed().restart_policy("Never");
    let ended = || run().phase("Failed").ended("a", 137, "Error", 0, 55);
    check! {
        "liveness": [unhealthy("Liveness", 50), stopping("web", "app", 50), ended()] => ["137 liveness_probe event"];
        "startup": [unhealthy("Startup", 49), stopping("web", "app", 50), ended()] => ["137 startup_probe event"];
        "2 s before": [unhealthy("Liveness", 48), stopping("web", "app", 50), ended()] => ["137 liveness_probe event"];
        "3 s before": [unhealthy("Liveness", 47), stopping("web", "app", 50), ended()] => ["137 killed none"];
        "after": [unhealthy("Liveness", 51), stopping("web", "app", 50), ended()] => ["137 killed none"];
        "readiness": [unhealthy("Readiness", 50), stopping("web", "app", 50), ended()] => ["137 killed none"];
        "deleted": [
            unhealthy("Liveness", 50),
            stopping("web", "app", 50),
            run().deleted(50, 5).ended("a", 137, "Error", 0, 55),
        ] => ["137 grace_period_exceeded event"];
        "a pod that restarts": [unhealthy("Liveness", 50), stopping("web", "app", 50), probed().crashed("a", 137, "Error", 0, 55)]
            => ["137 sandbox_changed event"];
    }
}

// ---- Rule 6 ----

#[test]
fn a_container_of_a_deleted_pod_ended_by_that() {
    check! {
        "after the request": [web().deleted(40, 30).ended("a", 143, "Error", 0, 41)] => ["143 pod_deleted status"];
        "with any code": [web().deleted(40, 30).ended("a", 0, "Completed", 0, 41)] => ["0 pod_deleted status"];
        "1 s of tolerance": [web().deleted(40, 30).ended("a", 143, "Error", 0, 39)] => ["143 pod_deleted status"];
        "not 2": [web().deleted(40, 30).ended("a", 1, "Error", 0, 38)] => ["1 application status"];
        "a later delete may shorten the grace": [
            web().deleted(40, 30).running("a", 0),
            web().deleted(60, 0).ended("a", 143, "Error", 0, 41),
        ] => ["143 pod_deleted status"];
        "the earliest request counts": [
            web().deleted(40, 60).running("a", 0),
            web().deleted(45, 5).ended("a", 143, "Error", 0, 41),
        ] => ["143 pod_deleted status"];
        "only grace 0 was seen: the spec's grace": [web().deleted(70, 0).ended("a", 143, "Error", 0, 41)]
            => ["143 pod_deleted status"];
        "only grace 0, before the spec's grace": [web().deleted(72, 0).ended("a", 1, "Error", 0, 40)]
            => ["1 application status"];
        "only grace 0 and a terminal phase": [web().phase("Failed").deleted(70, 0).ended("a", 1, "Error", 0, 41)]
            => ["1 application status"];
        "the same with the event": [
            stopping("web", "app", 40),
            web().phase("Failed").deleted(70, 0).ended("a", 1, "Error", 0, 41),
        ] => ["1 pod_deleted event"];
        "seen running while the pod was deleted, clocks far apart": [
            web().deleted(40, 30).running("a", 0),
            web().deleted(40, 30).ended("a", 143, "Error", 0, 11),
        ] => ["143 pod_deleted status"];
    }
}

#[test]
fn a_container_that_outlives_its_grace_period_is_killed() {
    let event_at = |seconds| stopping("web", "app", seconds);
    check! {
        "by the event": [event_at(40), web().deleted(40, 30).ended("a", 137, "Error", 0, 70)]
            => ["137 grace_period_exceeded event"];
        "1 s of tolerance": [event_at(40), web().deleted(40, 30).ended("a", 137, "Error", 0, 69)]
            => ["137 grace_period_exceeded event"];
        "not 2": [event_at(40), web().deleted(40, 30).ended("a", 137, "Error", 0, 68)] => ["137 pod_deleted event"];
        "another code": [event_at(40), web().deleted(40, 30).ended("a", 143, "Error", 0, 70)] => ["143 pod_deleted event"];
        "by the deadline": [web().deleted(40, 30).ended("a", 137, "Error", 0, 69)]
            => ["137 grace_period_exceeded status"];
        "before the deadline": [web().deleted(40, 30).ended("a", 137, "Error", 0, 68)] => ["137 pod_deleted status"];
        "the kubelet gives at least 2 s": [event_at(40), web().deleted(40, 1).ended("a", 137, "Error", 0, 40)]
            => ["137 pod_deleted event"];
        "at least 2 s, less the tolerance": [event_at(40), web().deleted(40, 1).ended("a", 137, "Error", 0, 41)]
            => ["137 grace_period_exceeded event"];
        "the last update writes grace 0 and moves the time": [
            web().deleted(40, 30).running("a", 0),
            web().deleted(75, 0).ended("a", 137, "Error", 0, 70),
        ] => ["137 grace_period_exceeded status"];
        "only grace 0 was seen: no overrun is claimed": [web().deleted(70, 0).ended("a", 137, "Error", 0, 71)]
            => ["137 pod_deleted status"];
        "a shortened grace": [
            web().deleted(40, 60).running("a", 0),
            web().deleted(42, 5).running("a", 0),
            web().deleted(42, 5).ended("a", 137, "Error", 0, 47),
        ] => ["137 grace_period_exceeded status"];
    }
}

#[test]
fn deletion_is_told_apart_with_clocks_thirty_seconds_apart() {
    // What an event that happened once tells of the clocks: its own time is the node's, its object's the API server's.
    let clocks = |skew: i64, n: i64| {
        event("web", "app", "Killing", &format!("Stopping container other{n}"), 5 + n)
            .with("/metadata/creationTimestamp", json!(at(5 + n + skew)))
    };
    for skew in [-30, 30] {
        let node = |seconds: i64| seconds - skew;
        check! {
            "a crash before the deletion stays a crash": [
                clocks(skew, 1), clocks(skew, 2), clocks(skew, 3),
                web().deleted(140, 30).ended("a", 1, "Error", node(50), node(130)),
            ] => ["1 application status"];
            "an end after it does not": [
                clocks(skew, 1), clocks(skew, 2), clocks(skew, 3),
                web().deleted(140, 30).ended("a", 1, "Error", node(50), node(145)),
            ] => ["1 pod_deleted status"];
            "nor is an overrun claimed too early": [
                clocks(skew, 1), clocks(skew, 2), clocks(skew, 3),
                web().deleted(140, 30).ended("a", 137, "Error", node(50), node(160)),
            ] => ["137 pod_deleted status"];
            "or too late": [
                clocks(skew, 1), clocks(skew, 2), clocks(skew, 3),
                web().deleted(140, 30).ended("a", 137, "Error", node(50), node(170)),
            ] => ["137 grace_period_exceeded status"];
        }
    }
}

// ---- Rule 7 ----

#[test]
fn what_still_runs_when_the_pods_work_is_over_is_stopped() {
    let job = |policy: &str, code: i64| {
        pod("job").restart_policy(policy).container("app").ended(
            "a",
            code,
            if code == 0 { "Completed" } else { "Error" },
            0,
            40,
        )
    };
    let sidecar = |pod: PodBuilder, end| pod.sidecar("proxy").ended("s", 143, "Error", 0, end);
    check! {
        "all apps have ended": [sidecar(job("Never", 0), 45)] => ["143 pod_completed status", "0 completed status"];
        "with Never by any code": [sidecar(job("Never", 3), 45)] => ["143 pod_completed status", "3 application status"];
        "with OnFailure only by 0": [sidecar(job("OnFailure", 3), 45)] => ["3 application status", "143 killed none"];
        "in the same second": [sidecar(job("OnFailure", 0), 40)] => ["143 pod_completed status", "0 completed status"];
        "not before, as both times are the node's": [sidecar(job("OnFailure", 0), 39)] => ["0 completed status", "143 killed none"];
        "never with Always": [sidecar(job("Always", 0), 45)] => ["0 completed status", "143 killed none"];
        "one app still runs": [sidecar(job("Never", 0).container("other").running("o", 0), 45)]
            => ["0 completed status", "143 killed none"];
        "an ephemeral container": [job("Never", 0).ephemeral("debug").ended("e", 137, "Error", 5, 45)]
            => ["0 completed status", "137 pod_completed status"];
        "an ephemeral container that left before": [job("Never", 0).ephemeral("debug").ended("e", 0, "Completed", 5, 15)]
            => ["0 completed status", "0 completed status"];
        "an init container failed for good": [
            pod("job").restart_policy("Never").sidecar("proxy").ended("s", 143, "Error", 0, 45)
                .init_container("setup").ended("i", 3, "Error", 0, 40).container("app").waiting("PodInitializing"),
        ] => ["143 pod_completed status", "3 application status"];
        "an app is never completed by its pod": [
            job("Never", 0).container("other").ended("o", 143, "Error", 0, 45),
        ] => ["0 completed status", "143 killed none"];
    }
}

// ---- Rule 8 ----

#[test]
fn a_startup_probes_kill_is_known_without_its_event() {
    let crashed = |code, end| startup().crashed("a", code, "Error", 0, end);
    check! {
        "not started yet": [starting("a", 0), crashed(137, 25)] => ["137 startup_probe status"];
        "SIGTERM": [starting("a", 0), crashed(143, 25)] => ["143 startup_probe status"];
        "the shortest time less 1 s": [starting("a", 0), crashed(137, 19)] => ["137 startup_probe status"];
        "before that": [starting("a", 0), crashed(137, 18)] => ["137 killed none"];
        "started": [startup().running("a", 0), crashed(137, 25)] => ["137 killed none"];
        "another code": [starting("a", 0), crashed(1, 25)] => ["1 application status"];
        "a fault of its own": [starting("a", 0), crashed(139, 25)] => ["139 fatal_signal status"];
        "the status of another attempt": [
            starting("z", 0),
            startup().restarted(1).last("z", 1, "Error", 0, 5).ended("a", 137, "Error", 0, 25),
        ] => ["1 application status", "137 killed none"];
        "no startup probe": [web().running("a", 0).status("started", json!(false)), web().crashed("a", 137, "Error", 0, 25)]
            => ["137 killed none"];
        "a code that an event confirmed": [
            starting("a", 0),
            crashed(1, 25),
            killing("web", "app", "failed startup probe, will be restarted", 25),
            starting("b", 30).restarted(1).last("a", 1, "Error", 0, 25),
            startup().restarted(1).crashed("b", 1, "Error", 30, 55),
        ] => ["1 startup_probe event", "1 startup_probe status"];
    }
}

#[test]
fn a_liveness_probes_kill_is_known_by_history() {
    // The first kill is told by its event, the second is not.
    let second = |code: i64, reason: &str, start, end| {
        vec![
            probed().crashed("a", 137, "Error", 0, 25),
            probed().restarted(1).last("a", 137, "Error", 0, 25).running("b", start),
            probed().restarted(1).crashed("b", code, reason, start, end),
        ]
    };
    for (name, code, reason, start, end, called) in [
        ("the same again", 137, "Error", 30, 55, "137 liveness_probe history"),
        ("the shortest time less 1 s", 137, "Error", 30, 49, "137 liveness_probe history"),
        ("before that", 137, "Error", 30, 48, "137 killed none"),
        ("another code", 1, "Error", 30, 55, "1 application status"),
        ("another reason", 137, "OOMKilled", 30, 55, "137 oom_node status"),
    ] {
        let mut world = World::new();
        world.event(&liveness_kill("web", "app", 24));
        for object in second(code, reason, start, end) {
            world.sees(&object);
        }
        world.wait(2000);
        assert_eq!(world.ends(), ["137 liveness_probe event", called], "{name}");
    }
}

#[test]
fn history_is_the_workloads_and_lasts_for_a_day() {
    let replica = |name: &str| {
        pod(name).label("pod-template-hash", "5c8").owned_by("ReplicaSet", "web-5c8").container("app").probe(
            "livenessProbe",
            0,
            10,
        )
    };
    for (hours, called) in
        [(1, "137 liveness_probe history"), (23, "137 liveness_probe history"), (25, "137 killed none")]
    {
        let mut world = World::new();
        world.event(&liveness_kill("web-1", "app", 24));
        world.sees(&replica("web-1").crashed("a", 137, "Error", 0, 25));
        world.wait(hours * 3_600_000);
        world.sees(&replica("web-2").crashed("b", 137, "Error", 0, 25));
        world.wait(2000);
        assert_eq!(world.ends(), ["137 liveness_probe event", called]);
    }
    check! {
        "of another container": [
            liveness_kill("web", "app", 24),
            probed().crashed("a", 137, "Error", 0, 25),
            probed().crashed("a", 137, "Error", 0, 25).container("b").probe("livenessProbe", 0, 10).crashed("b", 137, "Error", 0, 25),
        ] => ["137 liveness_probe event", "137 killed none"];
        "without a liveness probe": [
            liveness_kill("web", "app", 24),
            web().crashed("a", 137, "Error", 0, 25),
            web().restarted(1).crashed("b", 137, "Error", 30, 55),
        ] => ["137 liveness_probe event", "137 killed none"];
    }
}

#[test]
fn both_probes_of_a_container_keep_their_own_history() {
    let both = || startup().probe("livenessProbe", 0, 10);
    let startup_kill = |seconds| killing("web", "app", "failed startup probe, will be restarted", seconds);
    check! {
        "the same code for both": [
            both().running("a", 0).status("started", json!(false)),
            both().crashed("a", 1, "Error", 0, 25), startup_kill(24),
            both().restarted(1).running("b", 30),
            both().restarted(1).crashed("b", 1, "Error", 30, 60), liveness_kill("web", "app", 59),
            both().restarted(2).running("c", 70).status("started", json!(false)),
            both().restarted(2).crashed("c", 1, "Error", 70, 95), 2000,
            both().restarted(3).running("d", 100),
            both().restarted(3).crashed("d", 1, "Error", 100, 130),
        ] => ["1 startup_probe event", "1 liveness_probe event", "1 startup_probe status", "1 liveness_probe history"];
    }
}

#[test]
fn kills_that_were_told_before_the_start_count_as_confirmation() {
    let mut world = World::before_the_first_list();
    world.event(&liveness_kill("web", "app", 95).again(4, 95));
    world.lists(&[&probed().restarted(3).crashed("d", 137, "Error", 70, 96)]);
    world.wait(2000);
    world.sees(&probed().restarted(4).last("d", 137, "Error", 70, 96).running("e", 120));
    world.sees(&probed().restarted(4).crashed("e", 137, "Error", 120, 150));
    world.wait(2000);
    assert_eq!(world.ends(), ["137 liveness_probe history"]);
}

#[test]
fn an_event_that_comes_after_the_wait_confirms_for_later_and_explains_no_later_end() {
    let restarted = || probed().restarted(1).last("a", 137, "Error", 0, 25);
    check! {
        "the next kill is known by it": [
            probed().crashed("a", 137, "Error", 0, 25), 2000, liveness_kill("web", "app", 24),
            restarted().running("b", 26),
            restarted().crashed("b", 137, "Error", 26, 50),
        ] => ["137 killed none", "137 liveness_probe history"];
        "a crash in an attempt that began in the kill's second": [
            probed().crashed("a", 137, "Error", 0, 25), 2000,
            restarted().running("b", 25),
            restarted().crashed("b", 1, "Error", 25, 28),
            liveness_kill("web", "app", 25),
        ] => ["137 killed none", "1 application status"];
    }
}

#[test]
fn an_old_event_never_explains_a_later_end() {
    check! {
        "used by the end that it explained": [
            liveness_kill("web", "app", 25),
            probed().crashed("a", 137, "Error", 0, 25),
            probed().restarted(1).last("a", 137, "Error", 0, 25).ended("b", 1, "Error", 25, 30),
        ] => ["137 liveness_probe event", "1 application status"];
        "sent again": [
            liveness_kill("web", "app", 25),
            probed().crashed("a", 137, "Error", 0, 25),
            liveness_kill("web", "app", 25),
            probed().restarted(1).last("a", 137, "Error", 0, 25).ended("b", 1, "Error", 25, 30),
            liveness_kill("web", "app", 25),
        ] => ["137 liveness_probe event", "1 application status"];
        "two kills within a second": [
            probed().crashed("a", 143, "Error", 0, 25),
            probed().restarted(1).last("a", 143, "Error", 0, 25).ended("b", 1, "Error", 25, 25),
            liveness_kill("web", "app", 25).again(1, 25),
            liveness_kill("web", "app", 25).again(2, 25),
        ] => ["143 liveness_probe event", "1 liveness_probe event"];
        "counted up by a kill of its own": [
            liveness_kill("web", "app", 25),
            probed().crashed("a", 143, "Error", 0, 25),
            probed().restarted(1).last("a", 143, "Error", 0, 25).ended("b", 0, "Completed", 25, 50),
            liveness_kill("web", "app", 25).again(2, 50),
        ] => ["143 liveness_probe event", "0 liveness_probe event"];
    }
}

// ---- Rules 9 to 13 ----

#[test]
fn the_code_alone_says_the_rest() {
    let end = |code: i64| web().crashed("a", code, if code == 0 { "Completed" } else { "Error" }, 0, 50);
    check! {
        "0": [end(0)] => ["0 completed status"];
        "1": [end(1)] => ["1 application status"];
        "127": [end(127)] => ["127 application status"];
        "128": [end(128)] => ["128 application status"];
        "128 + 1": [end(129)] => ["129 killed none"];
        "128 + 31": [end(159)] => ["159 fatal_signal status"];
        "128 + 32": [end(160)] => ["160 application status"];
        "255": [end(255)] => ["255 application status"];
        "negative": [end(-1_073_741_819)] => ["-1073741819 application status"];
        "no record": [web().running("a", 0), web().restarted(1).running("b", 20)] => ["unknown unknown none"];
    }
    for signal in [4, 5, 6, 7, 8, 11, 31] {
        check! { "fatal": [end(128 + signal)] => [&*format!("{} fatal_signal status", 128 + signal)]; }
    }
    for windows in [
        web().with("/spec/os", json!({"name": "windows"})),
        web().with("/spec/nodeSelector", json!({"kubernetes.io/os": "windows"})),
    ] {
        check! { "no signals on Windows": [windows.crashed("a", 139, "Error", 0, 50)] => ["139 application status"]; }
    }
}
