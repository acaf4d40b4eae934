//! Recorded kubelets with their events dropped, late, twice or missing, with other clocks and with crashes put in:
//! what the probes killed is named so, and nothing else is.

#![cfg(test)]
#![allow(clippy::print_stderr)] // the figures, with --nocapture

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use exitcode_exporter::core::{Effect, Input, Options};
use exitcode_exporter::termination::Cause;
use exitcode_exporter::time::Timestamp;
use serde_json::{Value, json};
use support::recording::{Line, Replay, input, json_lines, latest_time, merged};

/// A recorded line and when it came, on the exporter's clock.
#[derive(Clone)]
struct Arrived {
    at: Timestamp,
    line: Line,
}

const RECORDINGS: [&str; 3] = ["kubelet-1.35", "kubelet-1.35-long", "kubelet-1.36"];
const WITH_KILLS: [&str; 2] = ["kubelet-1.35-long", "kubelet-1.36"];

fn recorded(recording: &str) -> Vec<Arrived> {
    static LINES: [OnceLock<Vec<Arrived>>; 3] = [const { OnceLock::new() }; 3];
    let index = RECORDINGS.iter().position(|name| *name == recording).expect("a recording");
    let lines = LINES[index].get_or_init(|| {
        let mut at = Timestamp::default();
        let mut arrive = |line: Line| {
            at = at.max(latest_time(&line.object).unwrap_or_default());
            Arrived { at, line }
        };
        merged(recording)
            .into_iter()
            .map(|mut line| {
                if let Some(metadata) = line.object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
                    metadata.remove("managedFields");
                }
                arrive(line)
            })
            .collect()
    });
    lines.clone()
}

fn is_event(line: &Line) -> bool {
    line.object.get("involvedObject").is_some()
}

/// Plays the lines at their times; what is due between two of them is settled between them.
fn play(mut lines: Vec<Arrived>, events: bool) -> Replay {
    lines.sort_by_key(|arrived| arrived.at);
    let mut replay = Replay::new(Options { scopes: 1, events, ..Options::default() });
    for Arrived { at, line } in lines {
        while let Some(due) = replay.state.next_due().filter(|due| *due < at) {
            replay.now = replay.now.max(due);
            replay.apply(Input::Tick);
        }
        replay.now = replay.now.max(at);
        if let Some(input) = input(&line) {
            replay.apply(input);
        }
    }
    replay.wait(3000);
    replay
}

/// pod, container, start, end.
type Run = (String, String, Option<Timestamp>, Option<Timestamp>);

/// Container ids by the run that their records tell.
fn ids(lines: &[Arrived]) -> BTreeMap<Run, String> {
    let mut ids = BTreeMap::new();
    for Arrived { line, .. } in lines {
        let pod = line.object["metadata"]["name"].as_str().unwrap_or_default();
        for (container, record) in records(&line.object) {
            let time = |name: &str| record[name].as_str().and_then(Timestamp::parse).filter(|at| at.0 > 0);
            let id = record["containerID"].as_str().unwrap_or_default();
            let id = id.rsplit('/').next().unwrap_or_default().to_owned();
            if !id.is_empty() {
                ids.insert((pod.to_owned(), container.to_owned(), time("startedAt"), time("finishedAt")), id);
            }
        }
    }
    ids
}

fn records(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"]
        .into_iter()
        .flat_map(|group| object["status"][group].as_array().into_iter().flatten())
        .flat_map(|status| {
            let name = status["name"].as_str().unwrap_or_default();
            ["/state/terminated", "/lastState/terminated"]
                .into_iter()
                .filter_map(|path| status.pointer(path))
                .map(move |record| (name, record))
        })
}

/// The causes by container id.
fn causes(lines: &[Arrived], replay: &Replay) -> BTreeMap<String, Cause> {
    let ids = ids(lines);
    let mut causes = BTreeMap::new();
    for t in replay.terminations() {
        let run = (t.pod.to_string(), t.subject.container.to_string(), t.started_at, t.finished_at);
        if let Some(id) = ids.get(&run) {
            causes.insert(id.clone(), t.outcome.cause);
        }
    }
    causes
}

/// What the kubelet's own log says the probes killed.
fn killed_by_probes(recording: &str) -> BTreeSet<String> {
    json_lines(recording, "kills.ndjson.gz")
        .iter()
        .filter(|kill| {
            let message = kill["message"].as_str().unwrap_or_default();
            message.contains("failed liveness probe") || message.contains("failed startup probe")
        })
        .map(|kill| kill["container_id"].as_str().expect("id").to_owned())
        .collect()
}

fn by_probe(cause: Cause) -> bool {
    matches!(cause, Cause::LivenessProbe | Cause::StartupProbe)
}

#[test]
fn at_least_99_percent_of_the_probes_kills_are_named_and_nothing_else() {
    let (mut named, mut all) = (0, 0);
    for recording in WITH_KILLS {
        let lines = recorded(recording);
        let kills = killed_by_probes(recording);
        let causes = causes(&lines, &play(lines.clone(), true));
        for (id, cause) in &causes {
            assert!(!by_probe(*cause) || kills.contains(id), "{recording} {id} {cause}");
        }
        // A kill whose end no status ever showed has no cause: it is counted as not observed.
        let ended: Vec<_> = kills.iter().filter(|id| causes.contains_key(*id)).collect();
        let right = ended.iter().filter(|id| by_probe(causes[**id])).count();
        eprintln!("{recording}: {right} of {} kills that ended, {} in the log", ended.len(), kills.len());
        (named, all) = (named + right, all + ended.len());
    }
    assert!(named * 100 >= all * 99, "{named} of {all}");
}

/// Miscalled and all terminations, measured by what the undisturbed recording is called (which `recordings.rs`
/// compares with what was done).
fn miscalled(
    disturb: impl Fn(&mut Vec<Arrived>),
    runs: impl Fn(&[Arrived], &Replay) -> BTreeMap<String, Cause>,
    events: bool,
) -> (usize, usize, Vec<String>) {
    let (mut wrong, mut all, mut which) = (0, 0, Vec::new());
    for recording in RECORDINGS {
        let lines = recorded(recording);
        let truth = truth(recording);
        let mut disturbed = lines;
        disturb(&mut disturbed);
        let replay = play(disturbed.clone(), events);
        for (id, cause) in runs(&disturbed, &replay) {
            all += 1;
            if truth.get(&id).is_some_and(|right| *right != cause) {
                wrong += 1;
                which.push(format!("{recording} {} {cause}, not {}", id.get(..12).unwrap_or(""), truth[&id]));
            }
        }
    }
    (wrong, all, which)
}

fn truth(recording: &str) -> &'static BTreeMap<String, Cause> {
    static TRUTH: [OnceLock<BTreeMap<String, Cause>>; 3] = [const { OnceLock::new() }; 3];
    let index = RECORDINGS.iter().position(|name| *name == recording).expect("a recording");
    TRUTH[index].get_or_init(|| {
        let lines = recorded(recording);
        causes(&lines, &play(lines.clone(), true))
    })
}

#[track_caller]
fn at_most_1_in_500(name: &str, disturb: impl Fn(&mut Vec<Arrived>)) {
    let (wrong, all, which) = miscalled(disturb, causes, true);
    eprintln!("{name}: {wrong} of {all}\n{}", which.join("\n"));
    assert!(wrong * 500 <= all, "{name}: {wrong} of {all}:\n{}", which.join("\n"));
}

/// A small generator of numbers, so that a failure can be repeated.
fn numbers(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    }
}

#[test]
fn half_of_the_pods_objects_may_be_missing() {
    for seed in [1, 2] {
        at_most_1_in_500("half of the pod objects", |lines| {
            let mut next = numbers(seed);
            lines.retain(|arrived| is_event(&arrived.line) || next().is_multiple_of(2));
        });
    }
}

fn shift(value: &mut Value, ms: i64) {
    if let Some(at) = value.as_str().and_then(Timestamp::parse).filter(|at| at.0 > 0) {
        *value = json!(at.plus_ms(ms).to_string());
    }
}

/// All times that the kubelet writes.
fn shift_node_clock(lines: &mut [Arrived], ms: i64) {
    for Arrived { line, .. } in lines {
        let object = &mut line.object;
        if object.get("involvedObject").is_some() {
            let kubelets = object.pointer("/source/host").is_some();
            for path in ["/firstTimestamp", "/lastTimestamp", "/eventTime"].iter().filter(|_| kubelets) {
                object.pointer_mut(path).into_iter().for_each(|time| shift(time, ms));
            }
            continue;
        }
        for group in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
            let statuses = object["status"][group].as_array_mut();
            for status in statuses.into_iter().flatten() {
                for path in [
                    "/state/running/startedAt",
                    "/state/terminated/startedAt",
                    "/state/terminated/finishedAt",
                    "/lastState/terminated/startedAt",
                    "/lastState/terminated/finishedAt",
                ] {
                    status.pointer_mut(path).into_iter().for_each(|time| shift(time, ms));
                }
            }
        }
        let conditions = object["status"]["conditions"].as_array_mut();
        for condition in conditions.into_iter().flatten() {
            if condition["reason"] == "TerminationByKubelet" {
                shift(&mut condition["lastTransitionTime"], ms);
            }
        }
    }
}

#[test]
fn the_clocks_of_node_and_api_server_may_be_two_or_thirty_seconds_apart() {
    for ms in [-30_000, -2000, 2000, 30_000] {
        at_most_1_in_500(&format!("node clock {ms} ms"), |lines| shift_node_clock(lines, ms));
    }
}

fn delay_events(lines: &mut [Arrived], ms: i64) {
    for arrived in lines.iter_mut().filter(|arrived| is_event(&arrived.line)) {
        arrived.at = arrived.at.plus_ms(ms);
    }
}

#[test]
fn events_may_be_a_second_late() {
    at_most_1_in_500("events 1 s late", |lines| delay_events(lines, 1000));
}

#[test]
fn events_that_come_after_the_wait_cost_few_causes() {
    for ms in [2000, 3000] {
        let (wrong, all, which) = miscalled(|lines| delay_events(lines, ms), causes, true);
        eprintln!("events {ms} ms late: {wrong} of {all}\n{}", which.join("\n"));
        assert!(wrong * 50 <= all, "{wrong} of {all}:\n{}", which.join("\n"));
    }
}

#[test]
fn events_may_come_twice() {
    at_most_1_in_500("events twice", |lines| {
        let again: Vec<_> = lines.iter().filter(|arrived| is_event(&arrived.line)).cloned().collect();
        lines.extend(again);
    });
}

#[test]
fn without_events_about_a_quarter_is_miscalled_and_nothing_is_called_a_liveness_kill() {
    for events in [false, true] {
        let no_events = |lines: &mut Vec<Arrived>| lines.retain(|arrived| !is_event(&arrived.line));
        let (wrong, all, which) = miscalled(no_events, causes, events);
        let wrong_words: BTreeSet<_> = which
            .iter()
            .filter_map(|line| line.split_once(' ')?.1.split_once(' '))
            .map(|(_, words)| words)
            .collect();
        eprintln!("no events: {wrong} of {all}; {wrong_words:?}");
        assert!(wrong * 10 <= all * 3, "{wrong} of {all}");
    }
}

/// Changes every record of these runs, and takes the `Killing` events of that time away.
fn crash_instead(lines: &mut Vec<Arrived>, chosen: &BTreeSet<String>, change: impl Fn(&mut Value)) {
    let runs: BTreeMap<Run, String> = ids(lines).into_iter().filter(|(_, id)| chosen.contains(id)).collect();
    lines.retain(|arrived| {
        let object = &arrived.line.object;
        let at = object.get("lastTimestamp").and_then(Value::as_str).and_then(Timestamp::parse);
        let pod = object.pointer("/involvedObject/name").and_then(Value::as_str).unwrap_or_default();
        !(object["reason"] == "Killing"
            && runs.keys().any(|(name, _, start, end)| name == pod && *start <= at && at <= *end))
    });
    for Arrived { line, .. } in lines {
        for group in ["initContainerStatuses", "containerStatuses"] {
            let statuses = line.object["status"][group].as_array_mut();
            for status in statuses.into_iter().flatten() {
                for path in ["/state/terminated", "/lastState/terminated"] {
                    let record = status.pointer_mut(path);
                    let id = |record: &Value| record["containerID"].as_str().unwrap_or_default().to_owned();
                    if let Some(record) = record.filter(|r| chosen.iter().any(|one| id(r).ends_with(one))) {
                        change(record);
                    }
                }
            }
        }
    }
}

#[test]
fn crashes_between_the_probes_kills_are_none_of_them() {
    type Change = fn(&mut Value);
    let at_start: Change = |record| record["finishedAt"] = record["startedAt"].clone();
    let abort: Change = |record| record["exitCode"] = json!(134);
    let segmentation_fault: Change = |record| record["exitCode"] = json!(139);
    let own_code: Change = |record| record["exitCode"] = json!(1);
    let crashes = [
        ("kill -9 at the start", at_start, Cause::Killed),
        ("134", abort, Cause::FatalSignal),
        ("139", segmentation_fault, Cause::FatalSignal),
        ("1", own_code, Cause::Application),
    ];
    for recording in WITH_KILLS {
        let kills = killed_by_probes(recording);
        for (name, change, cause) in crashes {
            let chosen: BTreeSet<_> = kills.iter().skip(3).step_by(7).cloned().collect();
            let mut lines = recorded(recording);
            crash_instead(&mut lines, &chosen, change);
            let causes = causes(&lines, &play(lines.clone(), true));
            let called: Vec<_> = chosen.iter().filter_map(|id| causes.get(id)).collect();
            assert!(called.len() * 10 >= chosen.len() * 9, "{recording} {name}: {called:?}");
            assert!(called.iter().all(|called| **called == cause), "{recording} {name}: {called:?}");
            for (id, called) in &causes {
                assert!(!by_probe(*called) || kills.contains(id), "{recording} {name}: {id}");
            }
            let others = kills.iter().filter(|id| !chosen.contains(*id));
            let missed = others.filter(|id| causes.get(*id).is_some_and(|called| !by_probe(*called))).count();
            assert!(
                missed * 100 <= kills.len(),
                "{recording} {name}: {missed} kills are called something else"
            );
        }
    }
}

#[test]
fn nothing_is_called_a_probes_kill_that_was_none_whatever_happens_to_the_events() {
    for recording in WITH_KILLS {
        let kills = killed_by_probes(recording);
        for seed in 0..2 {
            let mut next = numbers(seed);
            let mut lines = recorded(recording);
            lines.retain(|arrived| !is_event(&arrived.line) || next().is_multiple_of(2));
            for arrived in lines.iter_mut().filter(|arrived| is_event(&arrived.line)) {
                arrived.at = arrived.at.plus_ms(i64::try_from(next() % 5000).expect("small"));
            }
            let replay = play(lines.clone(), true);
            for (id, cause) in causes(&lines, &replay) {
                assert!(!by_probe(cause) || kills.contains(&id), "{recording} {id} {cause}");
            }
            assert!(replay.effects.iter().any(|effect| matches!(effect, Effect::Terminated(_))));
        }
    }
}
