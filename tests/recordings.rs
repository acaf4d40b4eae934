//! Recorded streams of real kubelets, compared with what containerd reported and with what was done.

#![cfg(test)]

mod support;

use std::collections::BTreeMap;

use exitcode_exporter::core::Effect;
use exitcode_exporter::termination::PodFailure;
use support::recording::{Replay, counts, folder, json_lines, merged};
use support::reference::{Counted, Reference};

const RECORDINGS: [&str; 3] = ["kubelet-1.35", "kubelet-1.35-long", "kubelet-1.36"];

/// namespace, workload_type, workload, container, exit_code, cause.
type CauseKey = [String; 6];

fn causes(replay: &Replay) -> BTreeMap<CauseKey, u64> {
    counts(replay.terminations().map(|t| {
        let workload = &t.subject.workload;
        let key = [
            workload.namespace.to_string(),
            workload.workload_type.to_string(),
            workload.name.to_string(),
            t.subject.container.to_string(),
            t.outcome.exit_code.to_string(),
            t.outcome.cause.to_string(),
        ];
        (key, u64::from(t.count))
    }))
}

fn what_was_done(recording: &str) -> BTreeMap<CauseKey, u64> {
    let table = std::fs::read_to_string(folder(recording).join("causes.tsv")).expect("causes.tsv");
    let row = |line: &str| {
        let mut cells = line.split('\t').map(str::to_owned);
        let key = std::array::from_fn(|_| cells.next().expect("cell"));
        (key, cells.next().expect("count").parse().expect("number"))
    };
    table.lines().skip(1).map(row).collect()
}

#[test]
fn every_termination_of_the_three_minutes_is_named_as_was_done() {
    let replay = Replay::run("kubelet-1.35");
    assert_eq!(causes(&replay), what_was_done("kubelet-1.35"));
}

#[test]
fn every_termination_of_the_long_crash_loops_is_named_as_was_done() {
    let replay = Replay::run("kubelet-1.35-long");
    assert_eq!(causes(&replay), what_was_done("kubelet-1.35-long"));
}

/// By namespace, pod, container, exit code and reason.
fn by_pod(replay: &Replay) -> BTreeMap<Counted, u64> {
    counts(replay.terminations().map(|t| {
        let key = (
            t.subject.workload.namespace.to_string(),
            t.pod.to_string(),
            t.subject.container.to_string(),
            t.outcome.exit_code.to_string(),
            t.outcome.reason.to_string(),
        );
        (key, u64::from(t.count))
    }))
}

#[test]
fn the_counts_of_every_recording_are_the_reference_ledgers() {
    for recording in RECORDINGS {
        let mut reference = Reference::default();
        for line in merged(recording).iter().filter(|line| line.object.get("spec").is_some()) {
            reference.observe(&line.object, false);
        }
        assert_eq!(by_pod(&Replay::run(recording)), reference.counts, "{recording}");
    }
}

#[test]
fn a_container_that_never_ran_has_no_termination() {
    let replay = Replay::run("kubelet-1.35");
    assert_eq!(replay.terminations().filter(|t| &*t.pod == "too-big").count(), 0);
    let failures: Vec<_> = replay
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::PodFailed { workload, failure, .. } if &*workload.name == "too-big" => Some(*failure),
            _ => None,
        })
        .collect();
    assert_eq!(failures, [PodFailure::OutOfMemory]);
}

/// containerd's exits by (namespace, pod, container, exit code).
fn exits(recording: &str) -> BTreeMap<[String; 4], i64> {
    let mut exits = BTreeMap::new();
    for exit in json_lines(recording, "exits.ndjson.gz") {
        let text = |name: &str| exit[name].as_str().unwrap_or_default().to_owned();
        let key = [text("namespace"), text("pod"), text("container"), exit["exit_code"].to_string()];
        *exits.entry(key).or_default() += 1;
    }
    exits
}

/// What we counted less what containerd reported, where they differ.
fn differences(recording: &str) -> Vec<String> {
    let mut difference = exits(recording);
    difference.values_mut().for_each(|count| *count = -*count);
    for ((namespace, pod, container, code, _), count) in by_pod(&Replay::run(recording)) {
        *difference.entry([namespace, pod, container, code]).or_default() += i64::try_from(count).unwrap();
    }
    difference.retain(|_, count| *count != 0);
    difference.iter().map(|(key, count)| format!("{} {count:+}", key.join(" "))).collect()
}

#[test]
fn restarts_are_the_newest_attempts() {
    for recording in RECORDINGS {
        let replay = Replay::run(recording);
        let counted: u64 = replay
            .effects
            .iter()
            .map(|effect| match effect {
                Effect::Restarted { count, .. } => u64::from(*count),
                _ => 0,
            })
            .sum();
        let mut newest: BTreeMap<(String, String), i64> = BTreeMap::new();
        for line in merged(recording).iter().filter(|line| line.object.get("spec").is_some()) {
            let uid = line.object["metadata"]["uid"].to_string();
            for group in ["initContainerStatuses", "containerStatuses"] {
                for status in line.object["status"][group].as_array().into_iter().flatten() {
                    let restarts = status["restartCount"].as_i64().unwrap();
                    let key = (uid.clone(), status["name"].to_string());
                    let known = newest.entry(key).or_default();
                    *known = restarts.max(*known);
                }
            }
        }
        assert_eq!(counted, u64::try_from(newest.values().sum::<i64>()).unwrap(), "{recording}");
    }
}

#[test]
fn containerds_exits_are_counted_but_for_what_the_api_never_showed() {
    // A start that failed (128) has no exit in containerd, or one with 137. What else differs is named.
    let expected = [
        (
            "kubelet-1.35",
            vec![
                "shop cannot-run-dc6f9bc86-pnc44 app 128 +25",
                "shop deadlocked-bfp6c app 137 -1", // the recording's last second
                "shop forced app 137 -1",           // force-deleted: the API never showed an end
                "shop memory-hog-0 app 128 +1",
                "shop memory-hog-0 app 137 -1",
                "shop with-sidecar-6d6d688445-stwqm proxy 128 +1",
                "shop with-sidecar-6d6d688445-stwqm proxy 137 -1",
            ],
        ),
        (
            "kubelet-1.35-long",
            vec![
                "shop cannot-run-dc6f9bc86-zvt7f app 128 +73",
                // Two ends between two status writes: the code of one was never shown, its count is known.
                "shop slow-start-69568d4dd4-5pq8s app 137 -1",
                "shop slow-start-69568d4dd4-5pq8s app unknown +1",
            ],
        ),
        ("kubelet-1.36", vec!["shop cannot-run-559f4dc967-4qfdd app 128 +15"]),
    ];
    for (recording, named) in expected {
        assert_eq!(differences(recording), named, "{recording}");
    }
}

/// What was done to containers one by one, on Kubernetes 1.36: a folder for each phase.
#[test]
fn every_thing_that_ends_a_container_is_named_as_was_done() {
    for phase in ["acts", "lost", "node-oom", "own", "pressure", "probes", "taint"] {
        let recording = format!("causes-1.36/{phase}");
        let mut named = causes(&Replay::run(&recording));
        named.retain(|[namespace, ..], _| namespace == "e2e-causes");
        assert_eq!(named, what_was_done(&recording), "{phase}");
    }
}
