//! The ledger's branches that the recordings don't show, each with its source in Kubernetes: statuses in, ends out.
//! Every sum is compared with the reference ledger's.

#![cfg(test)]

mod support;

use serde_json::json;
use support::pods::{PodBuilder, pod};
use support::reference::Reference;
use support::world::World;

fn web() -> PodBuilder {
    pod("web").container("app")
}

/// Plays the steps; each is an object and what it tells, `;` between the lines. The labels of the one container
/// are left out. Nothing may wait for long: what waits is waited for after the last step.
#[track_caller]
fn check(steps: &[(PodBuilder, &str)]) {
    let mut world = World::with(exitcode_exporter::core::Options {
        scopes: 1,
        events: false, // nothing waits: each step tells what it changed
        ..Default::default()
    });
    world.lists(&[]);
    world.told();
    let mut reference = Reference::default();
    for (step, (pod, expected)) in steps.iter().enumerate() {
        world.sees(pod);
        reference.observe(&pod.json(), false);
        let told = world.told().replace("barepod/web app ", "");
        let told: Vec<_> = told.lines().map(str::trim).collect();
        assert_eq!(told.join("; "), *expected, "step {step}");
        let counted: u64 = world
            .effects
            .iter()
            .map(|effect| match effect {
                exitcode_exporter::core::Effect::Terminated(t) => u64::from(t.count),
                _ => 0,
            })
            .sum();
        assert_eq!(counted, reference.counts.values().sum::<u64>(), "step {step}, against the reference");
    }
    // The whole history once more, as after a re-list, tells nothing new.
    if let Some((pod, _)) = steps.last() {
        world.lists(&[pod]);
        world.lists(&[pod]);
        assert_eq!(world.told(), "", "again");
    }
}

const LOST: &str = "ended 137 ContainerStatusUnknown lost (status)";
const LOST_RESTART: &str = "restarted 137 ContainerStatusUnknown lost";
const UNSEEN: &str = "ended unknown NotObserved unknown (none)";
const UNSEEN_RESTART: &str = "restarted unknown NotObserved unknown";

#[test]
fn a_container_gone_from_the_runtime_used_to_be_running() {
    // pkg/kubelet/kubelet_pods.go, convertToAPIContainerStatuses: a container that the old status shows running and
    // the runtime does not know is set to waiting, with a made-up lastState, and restartCount goes up by one.
    let gone = web().restarted(1).waiting("ContainerCreating").used_to_run();
    check(&[
        (web().running("a", 0), ""),
        (gone, LOST),
        (web().restarted(1).used_to_run().running("b", 20), LOST_RESTART),
        (web().restarted(1).crashed("b", 3, "Error", 20, 30), "ended 3 Error application (status)"),
    ]);
}

#[test]
fn a_container_gone_while_its_pod_is_deleted_has_no_higher_restart_count() {
    // The same place: "If the pod was not deleted, then it's been restarted. Increment restart count."
    check(&[
        (
            web().restarted(2).running("c", 0),
            "ended unknown NotObserved unknown (none) x2; restarted unknown NotObserved unknown x2",
        ),
        (web().restarted(2).deleted(10, 30).status("containerID", json!("")).waiting("").used_to_run(), LOST),
    ]);
}

#[test]
fn a_container_first_seen_gone_used_to_be_running_once() {
    check(&[(web().waiting("ContainerCreating").used_to_run(), LOST)]);
}

#[test]
fn a_container_gone_twice_counts_twice() {
    check(&[
        (web().running("a", 0), ""),
        (web().restarted(1).waiting("").used_to_run(), LOST),
        (web().restarted(1).used_to_run().running("b", 20), LOST_RESTART),
        (web().restarted(2).waiting("").used_to_run(), LOST),
    ]);
}

#[test]
fn a_container_in_an_unknown_state_ends_once_also_if_it_comes_back() {
    // convertToAPIContainerStatuses, ContainerStateUnknown: terminated with 137 and restartCount of the old status + 1,
    // which is taken back when the runtime answers again.
    let unknown = || web().restarted(1).status("containerID", json!("a")).not_located();
    check(&[
        (web().running("a", 0), ""),
        (unknown(), LOST),
        (unknown(), ""),
        (web().running("a", 0), ""),
        (web().crashed("a", 3, "Error", 0, 50), ""), // its end is accounted for
        (
            web().restarted(1).last("a", 3, "Error", 0, 50).running("b", 60),
            "restarted 137 ContainerStatusUnknown lost",
        ),
        (
            web()
                .restarted(1)
                .last("b", 4, "Error", 60, 70)
                .status("containerID", json!("b"))
                .waiting("CrashLoopBackOff"),
            "ended 4 Error application (status)",
        ),
    ]);
}

#[test]
fn a_restart_count_that_rises_under_the_same_id_is_ignored() {
    check(&[
        (web().running("a", 0), ""),
        (web().restarted(1).running("a", 0), ""),
        (web().running("a", 0), ""),
        (web().crashed("a", 3, "Error", 0, 50), "ended 3 Error application (status)"),
    ]);
}

#[test]
fn a_made_up_record_counts_nothing_where_the_real_one_is_visible() {
    // The real record in lastState was made-up in state before: the end was counted, the first word stands.
    check(&[
        (web().running("a", 0), ""),
        (web().status("containerID", json!("a")).not_located(), LOST),
        (
            web().restarted(1).last("a", 0, "Completed", 0, 9).running("b", 20),
            "restarted 137 ContainerStatusUnknown lost",
        ),
    ]);
    // Both at once: the attempt before the latest has its real record, the latest a made-up one.
    check(&[
        (web().running("a", 0), ""),
        (
            web().restarted(1).last("a", 3, "Error", 0, 9).status("containerID", json!("b")).not_located(),
            &format!("ended 3 Error application (status); restarted 3 Error application; {LOST}"),
        ),
    ]);
}

#[test]
fn all_containers_restarted_by_a_rule_are_made_up_records_of_what_ran() {
    // pkg/kubelet/kubelet_pods.go, RestartAllContainersOnContainerExits: reason RestartingAllContainers, no id.
    let made_up = json!({"terminated": {"exitCode": 137, "reason": "RestartingAllContainers"}});
    check(&[
        (web().running("a", 0), ""),
        (
            web().status("containerID", json!("a")).status("state", made_up),
            "ended 137 RestartingAllContainers lost (status)",
        ),
    ]);
}

#[test]
fn a_container_that_never_ran_has_no_end() {
    // pkg/kubelet/kubelet_pods.go: containers of a rejected pod, and init containers of a failed one.
    check(&[(web().failed("OutOfmemory").not_located(), "failed barepod/web OutOfmemory")]);
    check(&[
        (web().waiting("ContainerCreating"), ""),
        (web().failed("Evicted").not_located(), "failed barepod/web Evicted"),
    ]);
    // An id that was only seen in `waiting` (the runtime made it and could not start it) did not run.
    check(&[
        (web().status("containerID", json!("a")).waiting("CreateContainerError"), ""),
        (web().failed("Evicted").not_located(), "failed barepod/web Evicted"),
    ]);
}

#[test]
fn a_container_whose_status_is_gone_has_ended_once_its_id_is_replaced() {
    check(&[
        (web().running("a", 0), ""),
        (pod("web"), ""),
        (web().waiting("ContainerCreating"), UNSEEN),
        (web().restarted(1).running("b", 20), UNSEEN_RESTART),
        (web().restarted(1).crashed("b", 3, "Error", 20, 30), "ended 3 Error application (status)"),
    ]);
}

#[test]
fn records_that_vanish_count_nothing_again() {
    // The kubelet garbage-collects dead containers (pkg/kubelet/kuberuntime/kuberuntime_gc.go): lastState goes.
    check(&[
        (web().running("a", 0), ""),
        (web().crashed("a", 3, "Error", 0, 9), "ended 3 Error application (status)"),
        (web().status("containerID", json!("a")).waiting("CrashLoopBackOff"), ""),
        (web().crashed("a", 3, "Error", 0, 9), ""),
        (web().restarted(1).running("b", 20), "restarted 3 Error application"),
        (web().restarted(1).last("a", 3, "Error", 0, 9).running("b", 20), ""),
    ]);
}

#[test]
fn a_record_that_changes_its_words_is_counted_by_the_first() {
    // containerd sets OOMKilled when it hears of the event, which may be after the exit (internal/cri/server/events.go).
    check(&[
        (web().running("a", 0), ""),
        (web().crashed("a", 1, "Error", 0, 9), "ended 1 Error application (status)"),
        (web().crashed("a", 137, "OOMKilled", 0, 9), ""),
    ]);
}

#[test]
fn a_restart_count_that_fell_under_a_new_id_goes_on_from_the_account() {
    // pkg/kubelet/kuberuntime/kuberuntime_container.go, calcRestartCountByLogDir: without the container and its logs
    // the count begins at 0.
    check(&[
        (
            web().restarted(5).crashed("f", 1, "Error", 0, 9),
            "ended unknown NotObserved unknown (none) x5; restarted unknown NotObserved unknown x5; ended 1 Error application (status)",
        ),
        (web().running("g", 20), "restartCount fell; restarted 1 Error application"),
        (web().crashed("g", 2, "Error", 20, 30), "ended 2 Error application (status)"),
        (web().restarted(1).last("g", 2, "Error", 20, 30).running("h", 40), "restarted 2 Error application"),
        (web().restarted(1).crashed("h", 3, "Error", 40, 50), "ended 3 Error application (status)"),
    ]);
}

#[test]
fn a_lower_restart_count_without_a_new_id_changes_nothing() {
    for lower in [web().running("f", 0), web().waiting("ContainerCreating"), pod("web")] {
        let id_gone = lower.json().pointer("/status/containerStatuses/0/state/waiting").is_some();
        check(&[
            (
                web().restarted(5).running("f", 0),
                "ended unknown NotObserved unknown (none) x5; restarted unknown NotObserved unknown x5",
            ),
            (lower, if id_gone { UNSEEN } else { "" }),
        ]);
    }
}

#[test]
fn a_restart_count_that_jumps_is_counted_at_once_whatever_its_height() {
    let most = 2_147_483_647_i64;
    check(&[
        (web().running("a", 0), ""),
        (
            web().restarted(most).running("z", 20),
            "ended unknown NotObserved unknown (none) x2147483647; restarted unknown NotObserved unknown x2147483647",
        ),
        (web().restarted(most).crashed("z", 1, "Error", 20, 30), "ended 1 Error application (status)"),
    ]);
    // And falls back: the account stands, later ends count.
    check(&[
        (
            web().restarted(most).running("z", 20),
            "ended unknown NotObserved unknown (none) x2147483647; restarted unknown NotObserved unknown x2147483647",
        ),
        (web().restarted(1).running("a", 30), &format!("restartCount fell; {UNSEEN}; {UNSEEN_RESTART}")),
        (web().restarted(1).crashed("a", 3, "Error", 30, 40), "ended 3 Error application (status)"),
    ]);
}

#[test]
fn a_negative_restart_count_is_none() {
    check(&[(web().restarted(-7).crashed("a", 1, "Error", 0, 9), "ended 1 Error application (status)")]);
}

#[test]
fn two_ends_between_two_statuses_leave_the_older_without_a_code() {
    check(&[
        (web().running("a", 0), ""),
        (
            web()
                .restarted(2)
                .last("b", 3, "Error", 10, 19)
                .status("containerID", json!("c"))
                .ended("c", 4, "Error", 20, 29),
            "ended unknown NotObserved unknown (none); restarted unknown NotObserved unknown; \
             ended 3 Error application (status); restarted 3 Error application; ended 4 Error application (status)",
        ),
    ]);
}

#[test]
fn an_id_that_comes_back_for_a_moment_counts_nothing() {
    check(&[
        (web().crashed("a", 3, "Error", 0, 9), "ended 3 Error application (status)"),
        (web().restarted(1).last("a", 3, "Error", 0, 9).running("b", 10), "restarted 3 Error application"),
        (web().crashed("a", 3, "Error", 0, 9), UNSEEN), // the id seen last is replaced: it ended
        (web().restarted(1).last("a", 3, "Error", 0, 9).running("b", 10), ""),
        (web().restarted(1).crashed("b", 4, "Error", 10, 20), ""),
        (web().restarted(2).last("b", 4, "Error", 10, 20).running("c", 30), UNSEEN_RESTART),
    ]);
}

#[test]
fn a_crash_loop_counts_each_end_for_ever() {
    let mut world = World::new();
    for attempt in 0..1000_i64 {
        let (id, start) = (format!("id-{attempt}"), attempt * 10);
        world.sees(&web().restarted(attempt).running(&id, start));
        world.sees(&web().restarted(attempt).crashed(&id, 3, "Error", start, start + 5));
        world.wait(10_000);
    }
    assert_eq!(world.ends().len(), 1000);
    let sizes = world.state.sizes();
    assert!(sizes.pods == 1 && sizes.pending == 0 && sizes.names < 20, "{sizes:?}");
}
