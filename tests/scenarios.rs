//! Pods in, what is told out, as whole texts: what counts, what does not, and under which labels.

#![cfg(test)]

mod support;

use exitcode_exporter::core::{Effect, Input, Options, OwnerAnswer, OwnerFound, Scope};
use serde_json::json;
use support::pods::{PodBuilder, event, liveness_kill, pod, stopping};
use support::world::{ALL, World};

/// A bare pod with one container.
fn web() -> PodBuilder {
    pod("web").container("app")
}

#[track_caller]
fn check(world: &mut World, expected: &[&str]) {
    let told = world.told();
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}

// ---- The first list, later lists, the watch ----

#[test]
fn what_the_first_list_shows_counts_nothing_and_what_comes_after_counts() {
    let mut world = World::before_the_first_list();
    let crashed = web().restarted(3).crashed("c", 1, "Error", 10, 20);
    world.lists(&[&crashed]);
    check(&mut world, &["baseline of the first list"]);
    world.sees(&web().restarted(4).last("c", 1, "Error", 10, 20).running("d", 30));
    check(&mut world, &["restarted barepod/web app 1 Error application"]);
    world.sees(&web().restarted(4).crashed("d", 2, "Error", 30, 40));
    check(&mut world, &["ended barepod/web app 2 Error application (status)"]);
}

#[test]
fn a_first_list_that_begins_again_is_still_the_baseline() {
    let mut world = World::before_the_first_list();
    world.apply(Input::ListBegins(ALL));
    world.apply(Input::PodListed(ALL, web().restarted(3).crashed("c", 1, "Error", 10, 20).build()));
    world.lists(&[
        &web().restarted(3).crashed("c", 1, "Error", 10, 20),
        &pod("b").container("app").crashed("x", 1, "Error", 1, 2),
    ]);
    check(&mut world, &["baseline of the first list"]);
}

#[test]
fn a_restart_while_a_baseline_still_waits_for_its_cause_is_counted() {
    let mut world = World::before_the_first_list();
    let probed = || web().probe("livenessProbe", 0, 1);
    world.lists(&[&probed().restarted(3).crashed("c", 137, "Error", 10, 20)]);
    world.wait(500);
    world.sees(&probed().restarted(4).last("c", 137, "Error", 10, 20).running("d", 30));
    world.wait(2000);
    check(&mut world, &["baseline of the first list", "restarted barepod/web app 137 Error killed"]);
}

#[test]
fn a_pod_first_seen_after_the_first_list_counts_from_zero_through_the_watch_or_a_list() {
    let crashed = web().restarted(2).crashed("c", 1, "Error", 10, 20);
    let expected = [
        "ended barepod/web app unknown NotObserved unknown (none) x2",
        "restarted barepod/web app unknown NotObserved unknown x2",
        "ended barepod/web app 1 Error application (status)",
    ];
    let mut world = World::new();
    world.sees(&crashed);
    check(&mut world, &expected);
    let mut world = World::new();
    world.lists(&[&crashed]);
    check(&mut world, &expected);
}

#[test]
fn a_later_list_counts_the_difference() {
    let mut world = World::new();
    world.sees(&web().running("a", 0));
    world.lists(&[&web().restarted(3).last("c", 3, "Error", 20, 30).running("d", 40)]);
    check(
        &mut world,
        &[
            "ended barepod/web app unknown NotObserved unknown (none) x2",
            "restarted barepod/web app unknown NotObserved unknown x2",
            "ended barepod/web app 3 Error application (status)",
            "restarted barepod/web app 3 Error application",
        ],
    );
}

#[test]
fn the_same_object_again_counts_nothing() {
    let mut world = World::new();
    let crashed = web().restarted(0).crashed("a", 1, "Error", 10, 20);
    world.sees(&crashed);
    check(&mut world, &["ended barepod/web app 1 Error application (status)"]);
    world.sees(&crashed);
    world.lists(&[&crashed]);
    world.lists(&[&crashed]);
    check(&mut world, &[]);
}

#[test]
fn an_object_older_than_the_one_applied_is_ignored() {
    let mut world = World::new();
    world.sees(&web().version(10).running("a", 0));
    world.sees(&web().version(9).crashed("z", 1, "Error", 0, 1));
    check(&mut world, &[]);
    world.sees(&web().version(11).crashed("a", 1, "Error", 0, 5));
    check(&mut world, &["ended barepod/web app 1 Error application (status)"]);
}

#[test]
fn resource_versions_that_are_no_numbers_are_not_compared() {
    let mut world = World::new();
    world.sees(&web().with("/metadata/resourceVersion", json!("zz")).running("a", 0));
    world.sees(&web().with("/metadata/resourceVersion", json!("aa")).crashed("a", 1, "Error", 0, 5));
    check(&mut world, &["ended barepod/web app 1 Error application (status)"]);
}

#[test]
fn two_containers_of_a_pod_count_apart() {
    let mut world = World::new();
    world.sees(&pod("web").container("app").crashed("a", 1, "Error", 0, 5).container("proxy").crashed(
        "p",
        0,
        "Completed",
        0,
        5,
    ));
    check(
        &mut world,
        &[
            "ended barepod/web app 1 Error application (status)",
            "ended barepod/web proxy 0 Completed completed (status)",
        ],
    );
}

// ---- Pods that go ----

#[test]
fn the_object_inside_a_deletion_is_looked_at_before_the_pod_is_forgotten() {
    let mut world = World::new();
    world.sees(&web().running("a", 0));
    world.sees_deleted(&web().deleted(10, 30).ended("a", 143, "Error", 0, 11));
    check(&mut world, &["ended barepod/web app 143 Error pod_deleted (status)"]);
    assert_eq!(world.state.pods(), 0);
}

#[test]
fn a_pod_first_seen_in_its_deletion_counts() {
    let mut world = World::new();
    world.sees_deleted(&web().ended("a", 3, "Error", 0, 11));
    check(&mut world, &["ended barepod/web app 3 Error application (status)"]);
}

#[test]
fn a_deleted_pod_never_counts_again_for_ten_minutes() {
    let mut world = World::new();
    let ended = web().ended("a", 3, "Error", 0, 11);
    world.sees_deleted(&ended);
    world.told();
    for _ in 0..9 {
        world.wait(60_000);
        world.sees(&ended);
        world.lists(&[&ended]);
        world.sees_deleted(&ended);
    }
    check(&mut world, &[]);
    assert_eq!(world.state.pods(), 0);
}

#[test]
fn a_pod_of_the_same_name_and_another_uid_is_another_pod() {
    let mut world = World::new();
    world.sees(&web().ended("a", 3, "Error", 0, 11));
    world.sees_deleted(&web().ended("a", 3, "Error", 0, 11));
    world.sees(&web().uid("another").ended("b", 3, "Error", 20, 30));
    let line = "ended barepod/web app 3 Error application (status)";
    check(&mut world, &[line, line]);
}

#[test]
fn a_pod_that_vanishes_while_it_runs_is_unobserved_and_counts_no_end() {
    for force in [false, true] {
        let mut world = World::new();
        world.sees(&web().running("a", 0));
        if force {
            world.sees_deleted(&web().running("a", 0)); // kubectl delete --force: the object goes at once
        } else {
            world.lists(&[]);
        }
        check(&mut world, &["unobserved pod"]);
        world.lists(&[&web().crashed("a", 1, "Error", 0, 5)]);
        check(&mut world, &[]);
    }
}

#[test]
fn a_pod_that_vanishes_after_its_end_is_not_unobserved() {
    let mut world = World::new();
    world.sees(&web().restart_policy("Never").phase("Succeeded").ended("a", 0, "Completed", 0, 5));
    world.told();
    world.lists(&[]);
    check(&mut world, &[]);
}

#[test]
fn an_object_of_a_list_that_can_not_be_read_is_still_there() {
    let mut world = World::new();
    world.sees(&web().running("a", 0));
    world.apply(Input::ListBegins(ALL));
    world.apply(Input::StillThere(ALL, "uid-of-web".into()));
    world.apply(Input::Listed { scope: ALL, whole: true });
    check(&mut world, &[]);
    world.sees(&web().crashed("a", 1, "Error", 0, 5));
    check(&mut world, &["ended barepod/web app 1 Error application (status)"]);
}

#[test]
fn absence_from_a_list_that_is_not_whole_proves_nothing() {
    let mut world = World::new();
    world.sees(&web().running("a", 0));
    world.lists_in(ALL, &[], false);
    check(&mut world, &[]);
    assert_eq!(world.state.pods(), 1);
}

#[test]
fn each_scope_has_its_own_first_list_and_its_own_pods() {
    let mut world = World::with(Options { scopes: 2, events: true, ..Options::default() });
    let other = || pod("other").container("app");
    world.lists_in(Scope(0), &[&web().running("a", 0)], true);
    check(&mut world, &[]);
    world.lists_in(Scope(1), &[&other().restarted(4).running("x", 0)], true);
    check(&mut world, &["baseline of the first list"]);
    world.lists_in(Scope(0), &[&web().crashed("a", 1, "Error", 0, 5)], true);
    check(&mut world, &["ended barepod/web app 1 Error application (status)"]);
    world.lists_in(Scope(0), &[], true);
    assert_eq!(world.state.pods(), 1, "the other scope's pod stays");
}

// ---- Mirrors of static pods ----

fn mirror() -> PodBuilder {
    pod("etcd").uid("mirror-1").mirror_of("hash-1")
}

#[test]
fn a_mirror_made_again_under_another_uid_counts_nothing_twice() {
    let mut world = World::new();
    world.sees(&mirror().container("etcd").running("a", 0));
    world.sees(&mirror().container("etcd").crashed("a", 1, "Error", 0, 5));
    check(&mut world, &["ended staticpod/etcd etcd 1 Error application (status)"]);
    world.sees_deleted(&mirror().container("etcd").crashed("a", 1, "Error", 0, 5));
    world.sees(&mirror().uid("mirror-2"));
    world.sees(
        &mirror().uid("mirror-2").container("etcd").restarted(1).last("a", 1, "Error", 0, 5).running("b", 9),
    );
    check(&mut world, &["restarted staticpod/etcd etcd 1 Error application"]);
}

#[test]
fn a_mirror_that_vanishes_while_its_pod_runs_is_no_unobserved_pod() {
    let mut world = World::new();
    world.sees(&mirror().container("etcd").running("a", 0));
    world.lists(&[]);
    world.sees(&mirror().uid("mirror-2").container("etcd").running("a", 0));
    world.sees_deleted(&mirror().uid("mirror-2").container("etcd").running("a", 0));
    check(&mut world, &[]);
}

#[test]
fn the_deletion_of_an_earlier_mirror_does_not_touch_the_one_that_took_its_place() {
    let mut world = World::new();
    world.sees(&mirror().container("etcd").running("a", 0));
    world.sees(&mirror().uid("mirror-2").container("etcd").running("a", 0));
    world.sees_deleted(&mirror().container("etcd").crashed("z", 1, "Error", 0, 1));
    check(&mut world, &[]);
    assert_eq!(world.pods()["staticpod/etcd"], 1);
}

#[test]
fn a_mirror_first_seen_with_restarts_is_baseline() {
    let mut world = World::new();
    world.sees(&mirror().container("etcd").restarted(2).last("b", 1, "Error", 0, 5).running("c", 9));
    check(&mut world, &[]);
    world.sees(&mirror().container("etcd").restarted(2).crashed("c", 2, "Error", 9, 15));
    check(&mut world, &["ended staticpod/etcd etcd 2 Error application (status)"]);
}

#[test]
fn a_mirror_is_made_without_statuses_and_its_first_ones_are_baseline() {
    let mut world = World::new();
    world.sees(&mirror());
    world.sees(
        &mirror().version(2).container("etcd").restarted(2).last("b", 1, "Error", 0, 5).running("c", 9),
    );
    check(&mut world, &[]);
    world.sees(&mirror().version(3).container("etcd").restarted(2).crashed("c", 2, "Error", 9, 15));
    check(&mut world, &["ended staticpod/etcd etcd 2 Error application (status)"]);
}

#[test]
fn a_mirror_first_seen_without_restarts_counts_from_zero() {
    let mut world = World::new();
    world.sees(&mirror().container("etcd").crashed("a", 2, "Error", 9, 15));
    check(&mut world, &["ended staticpod/etcd etcd 2 Error application (status)"]);
}

#[test]
fn deleting_a_mirror_ends_nothing_and_explains_nothing() {
    let mut world = World::new();
    world.sees(&mirror().container("etcd").running("a", 0));
    world.sees(&mirror().deleted(10, 30).container("etcd").crashed("a", 1, "Error", 0, 12));
    check(&mut world, &["ended staticpod/etcd etcd 1 Error application (status)"]);
}

#[test]
fn events_of_a_static_pod_name_it_by_its_annotation() {
    let mut world = World::new();
    world.sees(&mirror().container("etcd").running("a", 0));
    world.event(&stopping("etcd-node-1", "etcd", 10).about("hash-1"));
    world.sees(&mirror().container("etcd").ended("a", 143, "Error", 0, 11));
    check(&mut world, &["ended staticpod/etcd etcd 143 Error pod_deleted (event)"]);
}

// ---- What never ran, Jobs, init and ephemeral containers ----

#[test]
fn a_rejected_pod_fails_without_a_termination() {
    let mut world = World::new();
    world.sees(&web().failed("OutOfmemory").not_located());
    check(&mut world, &["failed barepod/web OutOfmemory"]);
}

#[test]
fn init_containers_of_a_failed_pod_that_never_ran_have_no_termination() {
    let mut world = World::new();
    world.sees(
        &pod("web").init_container("setup").not_located().container("app").not_located().failed("Evicted"),
    );
    check(&mut world, &["failed barepod/web Evicted"]);
}

#[test]
fn a_container_that_waits_for_its_image_has_not_ended() {
    let mut world = World::new();
    world.sees(&web().waiting("ImagePullBackOff"));
    check(&mut world, &[]);
}

#[test]
fn jobs_and_pods_that_never_restart_count_by_their_state() {
    let mut world = World::new().owner("report", json!({"name": "report", "uid": "uid-of-Job-report"}));
    let run = || pod("report-x").owned_by("Job", "report").restart_policy("Never").container("app");
    world.sees(&run().running("a", 0));
    world.sees(&run().phase("Failed").ended("a", 3, "Error", 0, 5));
    check(&mut world, &["look up Job report", "ended job/report app 3 Error application (status)"]);
    world.sees_deleted(&run().phase("Failed").deleted(20, 30).deleted(20, 0).ended("a", 3, "Error", 0, 5));
    check(&mut world, &[]);
}

#[test]
fn init_containers_sidecars_and_ephemeral_containers_are_told_apart() {
    let mut world = World::new();
    world.sees(
        &pod("web")
            .init_container("setup")
            .ended("i", 0, "Completed", 0, 2)
            .sidecar("proxy")
            .crashed("s", 1, "Error", 2, 5)
            .container("app")
            .running("a", 5)
            .ephemeral("debug")
            .ended("e", 130, "Error", 6, 9),
    );
    check(
        &mut world,
        &[
            "ended barepod/web init setup 0 Completed completed (status)",
            "ended barepod/web sidecar proxy 1 Error application (status)",
            "ended barepod/web ephemeral debug 130 Error killed (none)",
        ],
    );
}

#[test]
fn a_start_that_failed_is_a_termination() {
    let mut world = World::new();
    let record = json!({"terminated": {"exitCode": 128, "reason": "StartError", "containerID": "a",
                                       "startedAt": "1970-01-01T00:00:00Z", "finishedAt": support::pods::at(3)}});
    world.sees(&web().status("containerID", json!("a")).status("state", record));
    check(&mut world, &["ended barepod/web app 128 StartError start_failed (status)"]);
}

// ---- Restarts: the labels of the end that they followed ----

#[test]
fn a_restart_has_the_labels_of_the_end_that_it_followed() {
    let mut world = World::new();
    world.sees(&web().memory_limit().running("a", 0));
    world.sees(&web().memory_limit().crashed("a", 137, "OOMKilled", 0, 5));
    check(&mut world, &["ended barepod/web app 137 OOMKilled oom_limit (status)"]);
    world.sees(&web().memory_limit().restarted(1).last("a", 137, "OOMKilled", 0, 5).running("b", 9));
    check(&mut world, &["restarted barepod/web app 137 OOMKilled oom_limit"]);
}

#[test]
fn a_restart_that_comes_while_the_end_waits_for_its_cause_gets_its_labels() {
    let mut world = World::new();
    let probed = || web().probe("livenessProbe", 0, 1);
    world.sees(&probed().crashed("a", 137, "Error", 0, 5));
    world.sees(&probed().restarted(1).last("a", 137, "Error", 0, 5).running("b", 6));
    check(&mut world, &[]);
    world.event(&liveness_kill("web", "app", 5));
    check(
        &mut world,
        &[
            "ended barepod/web app 137 Error liveness_probe (event)",
            "restarted barepod/web app 137 Error liveness_probe",
        ],
    );
}

#[test]
fn restarts_whose_ends_were_not_seen_are_counted_as_such() {
    let mut world = World::new();
    world.sees(&web().running("a", 0));
    world.sees(&web().restarted(2).running("c", 20));
    check(
        &mut world,
        &[
            "ended barepod/web app unknown NotObserved unknown (none) x2",
            "restarted barepod/web app unknown NotObserved unknown x2",
        ],
    );
}

// ---- Pods that fail as a whole ----

#[test]
fn a_pod_fails_once() {
    let mut world = World::new();
    let evicted = web().failed("Evicted").ended("a", 137, "Error", 0, 5);
    world.sees(&evicted);
    world.sees(&evicted);
    world.lists(&[&evicted]);
    world.sees_deleted(&evicted);
    check(&mut world, &["ended barepod/web app 137 Error evicted (status)", "failed barepod/web Evicted"]);
}

#[test]
fn a_pod_that_had_failed_at_the_first_list_is_baseline() {
    let mut world = World::before_the_first_list();
    world.lists(&[&web().failed("Evicted").not_located()]);
    world.sees(&web().failed("Evicted").not_located());
    check(&mut world, &["baseline of the first list"]);
}

#[test]
fn failures_have_a_closed_list_of_words() {
    for (reason, word) in [
        ("OutOfnvidia.com/gpu", "OutOfExtendedResource"),
        ("OutOfcpu", "OutOfcpu"),
        ("NodeShutdown", "NodeShutdown"),
        ("SomethingNew", "Other"),
    ] {
        let mut world = World::new();
        world.sees(&web().failed(reason).not_located());
        check(&mut world, &[&format!("failed barepod/web {word}")]);
    }
}

#[test]
fn a_pod_that_the_garbage_collector_ended_failed_by_its_lost_node() {
    let mut world = World::new();
    world.sees(&web().running("a", 0));
    world.sees(&web().running("a", 0).phase("Failed").disrupted("DeletionByPodGC", 10));
    world.sees_deleted(&web().running("a", 0).phase("Failed").disrupted("DeletionByPodGC", 10));
    check(&mut world, &["failed barepod/web NodeLost", "unobserved pod"]);
}

#[test]
fn other_disruptions_are_no_failures() {
    let mut world = World::new();
    world.sees(
        &web().restart_policy("Never").phase("Failed").disrupted("EvictionByEvictionAPI", 10).deleted(10, 30),
    );
    check(&mut world, &[]);
}

// ---- Whose pod it is ----

fn crashing(pod: PodBuilder) -> PodBuilder {
    pod.container("app").crashed("a", 1, "Error", 0, 5)
}

#[test]
fn a_workload_is_known_without_a_call_where_the_pod_tells() {
    for (pod, workload) in [
        (pod("alone"), "barepod/alone"),
        (pod("run-x7k2p").generated_from("run-"), "barepod/run"),
        (mirror(), "staticpod/etcd"),
        (
            pod("web-5c8-x").label("pod-template-hash", "5c8").owned_by("ReplicaSet", "web-5c8"),
            "deployment/web",
        ),
    ] {
        let mut world = World::new();
        world.sees(&crashing(pod));
        let container = "app 1 Error application (status)";
        check(&mut world, &[&format!("ended {workload} {container}")]);
    }
}

#[test]
fn owners_are_climbed_to_the_top() {
    let plain = |name: &str| json!({"name": name});
    let child = |name: &str, kind: &str, of: &str| {
        json!({"name": name, "ownerReferences":
            [{"apiVersion": "v1", "kind": kind, "name": of, "uid": format!("uid-of-{kind}-{of}"), "controller": true}]})
    };
    for (kind, name, found, asked, workload) in [
        ("StatefulSet", "db", vec![plain("db")], vec!["StatefulSet db"], "statefulset/db"),
        ("DaemonSet", "agent", vec![plain("agent")], vec!["DaemonSet agent"], "daemonset/agent"),
        ("ReplicaSet", "old", vec![plain("old")], vec!["ReplicaSet old"], "replicaset/old"),
        (
            "Job",
            "nightly-29123456",
            vec![child("nightly-29123456", "CronJob", "nightly"), plain("nightly")],
            vec!["Job nightly-29123456", "CronJob nightly"],
            "cronjob/nightly",
        ),
        (
            "Job",
            "import-9x2kf",
            vec![json!({"name": "import-9x2kf", "generateName": "import-"})],
            vec!["Job import-9x2kf"],
            "job/import",
        ),
        (
            "ReplicaSet",
            "shop-7d9",
            vec![child("shop-7d9", "Rollout", "shop"), plain("shop")],
            vec!["ReplicaSet shop-7d9", "Rollout shop"],
            "rollout/shop",
        ),
        (
            "Workflow",
            "build-abc",
            vec![json!({"name": "build-abc", "generateName": "build-"})],
            vec!["Workflow build-abc"],
            "workflow/build",
        ),
        // Owners that own each other.
        (
            "Ring",
            "a",
            vec![child("a", "Ring", "b"), child("b", "Ring", "a")],
            vec!["Ring a", "Ring b"],
            "ring/b",
        ),
    ] {
        let mut world = World::new();
        for metadata in found {
            let name = metadata["name"].as_str().expect("name").to_owned();
            world = world.owner(&name, metadata);
        }
        world.sees(&crashing(pod("p").owned_by(kind, name)));
        let end = format!("ended {workload} app 1 Error application (status)");
        let mut told: Vec<String> = world.told().lines().map(str::to_owned).collect();
        told.sort();
        let mut expected: Vec<String> = asked.iter().map(|asked| format!("look up {asked}")).collect();
        expected.push(end);
        expected.sort();
        assert_eq!(told, expected);
    }
}

#[test]
fn an_owner_that_is_gone_forbidden_or_slow_leaves_the_last_one_known() {
    for (name, found, workload) in [
        ("nightly-29123456", Some(OwnerFound::NotFound), "cronjob/nightly"),
        ("nightly-2912345", Some(OwnerFound::NotFound), "job/nightly-2912345"),
        ("report", Some(OwnerFound::NotFound), "job/report"),
        ("nightly-29123456", Some(OwnerFound::Unavailable), "job/nightly-29123456"),
        ("nightly-29123456", None, "job/nightly-29123456"),
    ] {
        let mut world = World::new();
        if let Some(found) = found.clone() {
            world.owners.insert(name.to_owned(), found);
        }
        world.sees(&crashing(pod("p").owned_by("Job", name).restart_policy("OnFailure")));
        if found.is_none() {
            world.wait(1999);
            check(&mut world, &[&format!("look up Job {name}")]);
            world.wait(1);
            check(&mut world, &[&format!("ended {workload} app 1 Error application (status)")]);
        } else {
            let lines =
                [format!("look up Job {name}"), format!("ended {workload} app 1 Error application (status)")];
            let told = world.told();
            assert_eq!(told.lines().collect::<Vec<_>>(), lines);
        }
    }
}

#[test]
fn each_owner_is_asked_for_once_and_a_job_at_the_first_sight_of_its_pod() {
    let cron = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "cron", "controller": true}]);
    let mut world = World::new()
        .owner("nightly-29123456", json!({"name": "nightly-29123456", "ownerReferences": cron}))
        .owner("nightly-29123457", json!({"name": "nightly-29123457", "ownerReferences": cron}))
        .owner("nightly", json!({"name": "nightly"}))
        .owner("db", json!({"name": "db"}));
    world.sees(&pod("one").owned_by("Job", "nightly-29123456").container("app"));
    check(&mut world, &["look up Job nightly-29123456", "look up CronJob nightly"]);
    world.sees(&pod("two").owned_by("Job", "nightly-29123456").container("app"));
    check(&mut world, &[]);
    world.sees(&pod("three").owned_by("Job", "nightly-29123457").container("app"));
    check(&mut world, &["look up Job nightly-29123457"]);
    world.sees(&pod("db-0").owned_by("StatefulSet", "db").container("app").running("a", 0));
    check(&mut world, &[]);
    world.sees(&crashing(pod("db-0").owned_by("StatefulSet", "db")));
    world.sees(&crashing(pod("db-1").owned_by("StatefulSet", "db")));
    check(
        &mut world,
        &[
            "look up StatefulSet db",
            "ended statefulset/db app 1 Error application (status)",
            "ended statefulset/db app 1 Error application (status)",
        ],
    );
}

#[test]
fn climbs_that_meet_at_an_owner_share_its_answer() {
    let cron = json!([{"kind": "CronJob", "name": "nightly", "uid": "cron", "controller": true}]);
    let mut world = World::new()
        .owner("job-1", json!({"name": "job-1", "ownerReferences": cron}))
        .owner("job-2", json!({"name": "job-2", "ownerReferences": cron}));
    world.sees(&crashing(pod("one").owned_by("Job", "job-1")));
    world.sees(&crashing(pod("two").owned_by("Job", "job-2")));
    check(&mut world, &["look up Job job-1", "look up CronJob nightly", "look up Job job-2"]);
    let metadata = serde_json::from_value(json!({"name": "nightly"})).expect("metadata");
    let found = OwnerFound::Found(Box::new(metadata));
    world.apply(Input::Owner(OwnerAnswer { namespace: "shop".into(), uid: "cron".into(), found }));
    let end = "ended cronjob/nightly app 1 Error application (status)";
    check(&mut world, &[end, end]);
}

/// A reference may hold any uid: what it says never reaches what is known in another namespace.
#[test]
fn a_forged_owner_takes_no_counts_from_another_namespace_and_gives_it_none() {
    let mut world = World::new();
    let forged = |name: &str| {
        crashing(pod(name).with("/metadata/namespace", json!("evil")).owned_by_uid("Job", "mine", "the-job"))
    };
    let real = |name: &str| crashing(pod(name).owned_by_uid("Job", "nightly-29123456", "the-job"));
    let cron = json!({"name": "nightly-29123456", "ownerReferences":
        [{"kind": "CronJob", "name": "nightly", "uid": "cron", "controller": true}]});
    for sees in [forged("one"), real("two"), forged("three"), real("four")] {
        world.sees(&sees);
    }
    for (namespace, uid, found) in [
        ("evil", "the-job", OwnerFound::NotFound),
        ("shop", "the-job", OwnerFound::Found(Box::new(serde_json::from_value(cron).expect("metadata")))),
        ("shop", "cron", OwnerFound::NotFound),
    ] {
        let (namespace, uid) = (namespace.into(), uid.into());
        world.apply(Input::Owner(OwnerAnswer { namespace, uid, found }));
    }
    let ended = |effect: &Effect| match effect {
        Effect::Terminated(t) => {
            let workload = &t.subject.workload;
            Some(format!("{} {}/{}", workload.namespace, workload.workload_type, workload.name))
        }
        _ => None,
    };
    let ends: Vec<_> = world.effects.iter().filter_map(ended).collect();
    let (evil, shop) = ("evil job/mine", "shop cronjob/nightly");
    assert_eq!(ends, [evil, evil, shop, shop]);
}

#[test]
fn owners_that_are_waited_for_by_many_are_asked_for_once() {
    let mut world = World::new();
    for name in ["p", "q"] {
        world.sees(&crashing(pod(name).owned_by("StatefulSet", "db")));
    }
    check(&mut world, &["look up StatefulSet db"]);
    world.wait(2000);
    let end = "ended statefulset/db app 1 Error application (status)";
    check(&mut world, &[end, end]);
}

#[test]
fn the_number_of_pods_of_a_workload_is_kept() {
    let mut world = World::new().owner(
        "nightly-29123456",
        json!({"name": "nightly-29123456", "ownerReferences":
        [{"kind": "CronJob", "name": "nightly", "uid": "cron", "controller": true}]}),
    );
    let web =
        |name| pod(name).label("pod-template-hash", "5c8").owned_by("ReplicaSet", "web-5c8").container("app");
    world.sees(&web("a"));
    world.sees(&web("b"));
    assert_eq!(world.pods()["deployment/web"], 2);
    world.sees(&web("b").running("x", 0));
    assert_eq!(world.pods()["deployment/web"], 2);
    world.sees_deleted(&web("a"));
    assert_eq!(world.pods()["deployment/web"], 1);
    world.lists(&[]);
    assert_eq!(world.pods()["deployment/web"], 0);
    // Pods move with their workload when its owner becomes known.
    world.sees(&pod("n").owned_by("Job", "nightly-29123456").container("app"));
    let pods = world.pods();
    assert_eq!((pods["job/nightly-29123456"], pods["cronjob/nightly"]), (0, 1));
    // Mirrors of static pods are counted while they are there.
    world.sees(&mirror());
    assert_eq!(world.pods()["staticpod/etcd"], 1);
    world.sees_deleted(&mirror());
    assert_eq!(world.pods()["staticpod/etcd"], 0);
    world.sees(&mirror().uid("mirror-2"));
    assert_eq!(world.pods()["staticpod/etcd"], 1);
}

// ---- The wait ----

#[test]
fn what_is_decided_is_told_at_once() {
    for (pod, end) in [
        (web().crashed("a", 1, "Error", 0, 5), "1 application status"),
        (web().crashed("a", 139, "Error", 0, 5), "139 fatal_signal status"),
        (web().crashed("a", 130, "Error", 0, 5), "130 killed none"),
        (web().probe("livenessProbe", 0, 1).crashed("a", 137, "OOMKilled", 0, 5), "137 oom_node status"),
        (web().probe("livenessProbe", 0, 1).crashed("a", 128, "StartError", 0, 5), "128 start_failed status"),
        (web().probe("readinessProbe", 0, 1).crashed("a", 1, "Error", 0, 5), "1 application status"),
        (
            web().probe("livenessProbe", 0, 1).deleted(4, 30).ended("a", 143, "Error", 0, 5),
            "143 pod_deleted status",
        ),
    ] {
        let mut world = World::new();
        world.sees(&pod);
        assert_eq!(world.ends(), [end]);
    }
}

#[test]
fn what_an_event_could_explain_waits_for_two_seconds() {
    let hook = json!({"postStart": {"exec": {"command": ["true"]}}});
    for (pod, end) in [
        (web().crashed("a", 137, "Error", 0, 5), "137 killed none"),
        (web().crashed("a", 143, "Error", 0, 5), "143 killed none"),
        (web().probe("livenessProbe", 0, 1).crashed("a", 0, "Completed", 0, 5), "0 completed status"),
        (web().probe("startupProbe", 0, 1).crashed("a", 1, "Error", 0, 5), "1 application status"),
        (web().spec("lifecycle", hook).crashed("a", 1, "Error", 0, 5), "1 application status"),
    ] {
        let mut world = World::new();
        world.sees(&pod);
        assert_eq!(world.state.pending_terminations(), 1);
        world.wait(1999);
        assert_eq!(world.ends(), [""; 0]);
        world.wait(1);
        assert_eq!(world.ends(), [end]);
        assert_eq!(world.state.pending_terminations(), 0);
    }
}

#[test]
fn without_events_nothing_waits_for_one() {
    let mut world = World::with(Options { scopes: 1, events: false, ..Options::default() });
    world.lists(&[]);
    world.sees(&web().probe("livenessProbe", 0, 1).crashed("a", 137, "Error", 0, 5));
    assert_eq!(world.ends(), ["137 killed none"]);
}

#[test]
fn an_event_explains_within_two_seconds_and_not_later() {
    for (ms, end) in [(1900, "137 liveness_probe event"), (2100, "137 killed none")] {
        let mut world = World::new();
        world.sees(&web().probe("livenessProbe", 0, 1).crashed("a", 137, "Error", 0, 5));
        world.wait(1000);
        world.wait(ms - 1000);
        world.event(&liveness_kill("web", "app", 5));
        assert_eq!(world.ends(), [end]);
    }
}

#[test]
fn what_waits_at_the_end_of_the_process_is_counted_with_what_is_known() {
    let mut world = World::new();
    world.sees(&web().crashed("a", 137, "Error", 0, 5));
    world.sees(&crashing(pod("db-0").owned_by("StatefulSet", "db")));
    let effects = world.state.settle_all(world.now);
    world.effects.extend(effects);
    check(
        &mut world,
        &[
            "look up StatefulSet db",
            "ended barepod/web app 137 Error killed (none)",
            "ended statefulset/db app 1 Error application (status)",
        ],
    );
    assert_eq!(world.state.next_due(), None);
}

#[test]
fn a_post_start_hook_that_failed_is_told_by_the_status_that_follows() {
    let hook = json!({"postStart": {"exec": {"command": ["false"]}}});
    let mut world = World::new();
    let hooked = || web().spec("lifecycle", hook.clone());
    world.sees(&hooked().ended("a", 137, "Error", 0, 5));
    world.sees(&hooked().crashed("a", 137, "Error", 0, 5).waiting("PostStartHookError"));
    check(&mut world, &["ended barepod/web app 137 Error post_start_hook (status)"]);
}

#[test]
fn copied_labels_and_the_pods_name_go_onto_the_counters() {
    let options = Options {
        scopes: 1,
        events: true,
        copy_labels: vec!["team".into(), "missing".into()],
        pod_label: true,
    };
    let mut world = World::with(options);
    world.lists(&[]);
    world.sees(&crashing(pod("web").label("team", "red")));
    let extra: Vec<Vec<String>> = world
        .effects
        .iter()
        .filter_map(|effect| match effect {
            exitcode_exporter::core::Effect::Terminated(t) => {
                Some(t.subject.extra.iter().map(ToString::to_string).collect())
            }
            _ => None,
        })
        .collect();
    assert_eq!(extra, [["red", "", "web"]]);
}

#[test]
fn events_alone_never_count() {
    let mut world = World::new();
    world.sees(&web().running("a", 0));
    world.event(&liveness_kill("web", "app", 5));
    world.event(&stopping("web", "app", 6));
    world.event(&event("stranger", "app", "Killing", "Stopping container app", 6));
    world.wait(5000);
    check(&mut world, &[]);
}
