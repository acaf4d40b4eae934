//! Recorded streams of real kubelets, compared with what containerd reported and with what was done.

mod support;

use std::collections::BTreeMap;

use support::recording::{Replay, counts, folder};

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
