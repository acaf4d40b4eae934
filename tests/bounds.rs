//! Memory does not grow with what came and went.

#![cfg(test)]

mod support;

use exitcode_exporter::core::{Effect, Input, Options, OwnerAnswer, OwnerFound, Scope, Sizes, State};
use exitcode_exporter::pod::{Metadata, Pod};
use exitcode_exporter::time::Timestamp;
use support::pods::{START, liveness_kill, pod, stopping};
use support::world::World;

const ALL: Scope = Scope(0);
const PODS: usize = 200_000;

/// What is left when all is gone and a quarter of an hour has passed.
const NOTHING: Sizes =
    Sizes { pods: 0, gone: 0, owners: 0, pods_with_evidence: 0, histories: 0, pending: 0, names: 0 };

struct Passing {
    state: State,
    now: Timestamp,
    ended: usize,
    most: Sizes,
}

impl Passing {
    fn apply(&mut self, input: Input) {
        for effect in self.state.apply(input, self.now) {
            match effect {
                Effect::LookUp(key) => {
                    let found = OwnerFound::Found(Box::new(Metadata {
                        name: key.name.to_string(),
                        generate_name: "batch-".into(),
                        ..Metadata::default()
                    }));
                    self.apply(Input::Owner(OwnerAnswer { namespace: key.namespace, uid: key.uid, found }));
                }
                Effect::Terminated(_) => self.ended += 1,
                _ => {}
            }
        }
        let (most, now) = (&mut self.most, self.state.sizes());
        most.pods = most.pods.max(now.pods);
        most.gone = most.gone.max(now.gone);
        most.owners = most.owners.max(now.owners);
        most.pods_with_evidence = most.pods_with_evidence.max(now.pods_with_evidence);
        most.pending = most.pending.max(now.pending);
        most.names = most.names.max(now.names);
    }
}

/// A decoded pod of a Job of its own, by number; decoding it anew each time would only take time.
fn job_pod(like: &Pod, number: usize) -> Box<Pod> {
    let mut pod = like.clone();
    pod.metadata.name = format!("batch-{number}");
    pod.metadata.uid = format!("uid-of-batch-{number}");
    for owner in &mut pod.metadata.owner_references {
        owner.name = format!("job-{number}");
        owner.uid = format!("uid-of-job-{number}");
    }
    for status in &mut pod.status.container_statuses {
        status.container_id = format!("id-{number}");
        if let Some(record) = &mut status.state.terminated {
            record.container_id = format!("id-{number}");
        }
    }
    Box::new(pod)
}

#[test]
fn two_hundred_thousand_short_lived_pods_leave_nothing_behind() {
    let run = || pod("batch").owned_by("Job", "job").restart_policy("Never").container("app");
    let (running, ended) =
        (run().running("id", 0).build(), run().phase("Failed").ended("id", 3, "Error", 0, 5).build());
    let stop = stopping("batch", "app", 4).build();
    let mut passing = Passing {
        state: State::new(Options { scopes: 1, events: true, ..Options::default() }),
        now: Timestamp(START),
        ended: 0,
        most: Sizes::default(),
    };
    passing.apply(Input::ListBegins(ALL));
    passing.apply(Input::Listed { scope: ALL, whole: true });
    for number in 0..PODS {
        passing.now = passing.now.plus_ms(10);
        passing.apply(Input::PodSeen(ALL, job_pod(&running, number)));
        if number % 40 == 0 {
            let mut event = stop.clone();
            event.metadata.uid = format!("event-{number}");
            event.involved_object.uid = format!("uid-of-batch-{number}");
            passing.apply(Input::Event(event));
        }
        passing.apply(Input::PodSeen(ALL, job_pod(&ended, number)));
        passing.apply(Input::PodDeleted(ALL, job_pod(&ended, number)));
    }
    assert_eq!(passing.ended, PODS);
    let most = passing.most;
    assert!(most.pods <= 1 && most.pending <= 300, "{most:?}");
    assert!(most.gone <= 50_000, "{most:?}");
    // Owners of the last ten minutes, at most 10,000 and those of the minute between two sweeps; each in two tables.
    assert!(most.owners <= 40_000 && most.names <= 40_000, "{most:?}");
    assert!(most.pods_with_evidence <= 1000, "{most:?}");
    for _ in 0..30 {
        passing.now = passing.now.plus_ms(60_000);
        passing.apply(Input::Tick);
    }
    let left = passing.state.sizes();
    assert_eq!(left, NOTHING);
}

#[test]
fn the_events_of_a_rollout_are_forgotten_after_their_use() {
    let mut world = World::new();
    let web = |number: usize| {
        pod(&format!("web-{number}"))
            .label("pod-template-hash", "5c8")
            .owned_by("ReplicaSet", "web-5c8")
            .container("app")
    };
    for number in 0..5000 {
        let name = format!("web-{number}");
        world.sees(&web(number).running("a", 0));
        world.event(&stopping(&name, "app", 10));
        world.sees_deleted(&web(number).deleted(10, 30).ended("a", 143, "Error", 0, 11));
        if number % 2 == 0 {
            // Events of pods that are gone already, as after a new list of events.
            world.event(&stopping(&name, "app", 10).again(2, 10));
        }
    }
    assert_eq!(world.ends().len(), 5000);
    world.effects.clear(); // they share names with the state
    for _ in 0..12 {
        world.wait(60_000);
    }
    assert_eq!(world.state.sizes(), NOTHING);
}

#[test]
fn events_of_pods_that_nobody_knows_are_bounded_and_forgotten() {
    let mut world = World::new();
    let stop = stopping("web", "app", 10).build();
    for number in 0..120_000 {
        let mut event = stop.clone();
        event.involved_object.uid = format!("stranger-{number}");
        world.apply(Input::Event(event));
    }
    let sizes = world.state.sizes();
    assert!(sizes.pods_with_evidence <= 50_000, "{sizes:?}");
    for _ in 0..4 {
        world.wait(60_000);
    }
    assert_eq!(world.state.sizes(), NOTHING);
}

#[test]
fn an_endless_crash_loop_takes_no_more_memory_than_its_first_hours() {
    let mut world = World::new();
    let looping = || pod("web").container("app").probe("livenessProbe", 0, 10);
    let mut texts = Vec::new();
    for attempt in 0..600_i64 {
        let (id, start) = (format!("{attempt:08}"), attempt * 60);
        world.sees(&looping().restarted(attempt).running(&id, start));
        world.event(&liveness_kill("web", "app", start).again(attempt + 1, start + 30));
        world.sees(&looping().restarted(attempt).crashed(&id, 137, "Error", start, start + 30));
        world.wait(60_000);
        if attempt % 200 == 199 {
            texts.push(format!("{:?}", world.state).len());
        }
    }
    assert_eq!(world.ends().len(), 600);
    // The numbers in it grow by some digits.
    assert!(texts[2] < texts[0] + 400, "{texts:?}");
}
