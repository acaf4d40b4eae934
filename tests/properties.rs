//! What holds for any input: no panic, counters that never decrease, each end counted once.

#![cfg(test)]

mod support;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use exitcode_exporter::core::{Effect, Input, Options, Scope, State};
use exitcode_exporter::pod::{Event, Pod};
use exitcode_exporter::time::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::disk::Disk;
use support::pods::{PodBuilder, START, pod};
use support::recording::{counts, merged};
use support::reference::{Counted, Reference};

const ALL: Scope = Scope(0);

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::default() }
}

// ---- Any JSON in any field ----

fn recorded() -> &'static [Value] {
    static OBJECTS: OnceLock<Vec<Value>> = OnceLock::new();
    OBJECTS.get_or_init(|| {
        let strip = |mut object: Value| {
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
            object
        };
        merged("kubelet-1.36").into_iter().map(|line| strip(line.object)).collect()
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![Just(i64::from(i32::MAX)), Just(i64::from(i32::MIN)), Just(i64::MAX), Just(-1), Just(0)]
            .prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        prop_oneof![
            Just("2026-01-01T00:00:00Z"),
            Just("0000-00-00T00:00:00Z"),
            Just("9999-12-31T23:59:59.999999999Z"),
            Just("-009999-01-01T00:00:00Z"),
            Just("Killing"),
            Just("Container  failed liveness probe"),
            Just("spec.containers{"),
            Just("Always"),
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z]{0,12}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Goes down by these choices and puts the value where they end.
fn put(object: &mut Value, path: &[u8], value: Value) {
    let Some((choice, rest)) = path.split_first() else {
        *object = value;
        return;
    };
    let choice = usize::from(*choice);
    match object {
        Value::Array(items) if !items.is_empty() => {
            let index = choice % items.len();
            put(&mut items[index], rest, value);
        }
        Value::Object(fields) if !fields.is_empty() => {
            let index = choice % fields.len();
            if let Some(field) = fields.values_mut().nth(index) {
                put(field, rest, value);
            }
        }
        _ => *object = value,
    }
}

fn apply_object(state: &mut State, object: Value, how: u8, now: Timestamp) -> Vec<Effect> {
    let input = if object.get("involvedObject").is_some() {
        serde_json::from_value::<Event>(object).ok().map(|event| Input::Event(Box::new(event)))
    } else {
        serde_json::from_value::<Pod>(object).ok().map(Box::new).map(|pod| match how % 4 {
            0 => Input::PodDeleted(ALL, pod),
            1 => Input::PodListed(ALL, pod),
            _ => Input::PodSeen(ALL, pod),
        })
    };
    input.map(|input| state.apply(input, now)).unwrap_or_default()
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn any_json_in_any_field_of_a_pod_or_event_panics_nowhere(
        start in any::<prop::sample::Index>(),
        changes in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..9), any_json(), any::<u8>()), 40),
    ) {
        let objects = recorded();
        let first = start.index(objects.len());
        let mut state = State::new(Options { scopes: 1, events: true, copy_labels: vec!["app".into()], pod_label: true });
        let mut now = Timestamp(START);
        state.apply(Input::ListBegins(ALL), now);
        state.apply(Input::Listed { scope: ALL, whole: true }, now);
        for (step, (path, value, how)) in changes.into_iter().enumerate() {
            let mut object = objects[(first + step) % objects.len()].clone();
            put(&mut object, &path, value);
            now = now.plus_ms(400);
            for effect in apply_object(&mut state, object, how, now) {
                if let Effect::Terminated(termination) = effect {
                    prop_assert!(termination.count > 0);
                    let _ = (termination.signal(), termination.outcome.exit_code.to_string());
                }
            }
        }
        state.settle_all(now);
        state.apply(Input::Tick, Timestamp(i64::MAX));
    }
}

// ---- A small kubelet ----

#[derive(Clone, Debug)]
struct Run {
    id: Option<String>,
    restarts: i64,
    /// Code of the latest attempt, if it has ended.
    ended: Option<i64>,
    last: Last,
    started: i64,
}

#[derive(Clone, Debug)]
enum Last {
    None,
    Record(String, i64),
    /// The kubelet made it up.
    MadeUp,
}

#[derive(Clone, Debug)]
struct Machine {
    uid: u32,
    name: String,
    mirror: bool,
    version: u64,
    containers: [Run; 2],
}

const NAMES: [&str; 2] = ["app", "proxy"];

impl Run {
    fn new(uid: u32) -> Self {
        Self { id: Some(format!("{uid}-0")), restarts: 0, ended: None, last: Last::None, started: 0 }
    }

    fn end(&mut self, code: i64) {
        if self.id.is_some() && self.ended.is_none() {
            self.ended = Some(code);
        }
    }

    fn restart(&mut self, uid: u32, second: i64) {
        match (self.id.take(), self.ended.take()) {
            (Some(id), Some(code)) => {
                self.last = Last::Record(id, code);
                self.restarts += 1;
            }
            (Some(id), None) => {
                self.id = Some(id);
                return;
            }
            (None, _) => {} // restartCount went up when the kubelet noticed that it was gone
        }
        self.id = Some(format!("{uid}-{}", self.restarts));
        self.started = second;
    }

    /// Gone from the runtime behind the kubelet's back.
    fn vanish(&mut self) {
        if self.id.is_some() && self.ended.is_none() {
            self.id = None;
            self.restarts += 1;
            self.last = Last::MadeUp;
        }
    }

    /// Attempts that have ended.
    fn ends(&self) -> u64 {
        u64::try_from(self.restarts).unwrap() + u64::from(self.ended.is_some())
    }

    /// The newest attempt. What was removed behind the kubelet's back raises restartCount before the next begins.
    fn newest(&self) -> u64 {
        u64::try_from(self.restarts).unwrap() - u64::from(self.id.is_none())
    }

    fn show(&self, pod: PodBuilder, waiting: bool) -> PodBuilder {
        let pod = pod.restarted(self.restarts);
        let pod = match &self.last {
            Last::None => pod,
            Last::Record(id, code) => pod.last(id, *code, "Error", 0, 1),
            Last::MadeUp => pod.used_to_run(),
        };
        match (&self.id, self.ended) {
            (Some(id), None) => pod.running(id, self.started),
            (Some(id), Some(code)) if waiting => {
                pod.crashed(id, code, "Error", self.started, self.started + 1)
            }
            (Some(id), Some(code)) => pod.ended(id, code, "Error", self.started, self.started + 1),
            (None, _) => pod.waiting("ContainerCreating"),
        }
    }
}

impl Machine {
    fn new(uid: u32, mirror: bool) -> Self {
        let containers = [Run::new(uid), Run::new(uid)];
        Self { uid, name: format!("pod-{uid}"), mirror, version: 1, containers }
    }

    fn object(&self, waiting: bool) -> PodBuilder {
        let mut pod = pod(&self.name).uid(&format!("uid-{}", self.uid)).version(self.version);
        if self.mirror {
            pod = pod.mirror_of(&self.name).uid(&format!("mirror-{}", self.version / 7));
        }
        for (run, name) in self.containers.iter().zip(NAMES) {
            pod = run.show(pod.container(name), waiting);
        }
        pod
    }
}

/// An exporter and a reference that see the same objects.
struct Watched {
    state: State,
    reference: Reference,
    now: Timestamp,
    effects: Vec<Effect>,
    listed: bool,
    seen: BTreeMap<String, PodBuilder>,
    /// What is saved, and how many effects were by then.
    disk: Disk,
    saved: usize,
    /// Every so many steps the process dies.
    crash_every: Option<usize>,
}

impl Watched {
    fn new() -> Self {
        Self {
            state: State::new(Options { scopes: 1, events: true, ..Options::default() }),
            reference: Reference::default(),
            now: Timestamp(START),
            effects: Vec::new(),
            listed: false,
            seen: BTreeMap::new(),
            disk: Disk::default(),
            saved: 0,
            crash_every: None,
        }
    }

    /// With saved state, and a crash every so many steps.
    fn crashing(every: usize) -> Self {
        let mut watched = Self { crash_every: Some(every), ..Self::new() };
        watched.state.track();
        watched
    }

    fn save(&mut self) {
        self.disk.save(&mut self.state);
        self.saved = self.effects.len();
    }

    /// What was not saved was not shown either; another process goes on from what was.
    fn crash(&mut self) {
        self.effects.truncate(self.saved);
        let options = Options { scopes: 1, events: true, ..Options::default() };
        let (state, effects) = self.disk.restore(options, self.now);
        self.state = state;
        self.effects.extend(effects);
    }

    fn apply(&mut self, input: Input) {
        self.now = self.now.plus_ms(300);
        self.effects.extend(self.state.apply(input, self.now));
    }

    fn sees(&mut self, pod: &PodBuilder) {
        self.reference.observe(&pod.json(), !self.listed);
        self.apply(Input::PodSeen(ALL, pod.build()));
        self.seen.insert(pod.json()["metadata"]["name"].to_string(), pod.clone());
    }

    fn sees_deleted(&mut self, pod: &PodBuilder) {
        self.reference.observe(&pod.json(), false);
        self.apply(Input::PodDeleted(ALL, pod.build()));
    }

    fn lists(&mut self, pods: &[PodBuilder]) {
        self.apply(Input::ListBegins(ALL));
        for pod in pods {
            self.reference.observe(&pod.json(), !self.listed);
            self.apply(Input::PodListed(ALL, pod.build()));
        }
        self.apply(Input::Listed { scope: ALL, whole: true });
        self.listed = true;
    }

    fn settle(&mut self) {
        self.now = self.now.plus_ms(5000);
        self.apply(Input::Tick);
    }

    fn counted(&self) -> BTreeMap<Counted, u64> {
        counts(self.effects.iter().filter_map(|effect| match effect {
            Effect::Terminated(t) => Some((
                (
                    t.subject.workload.namespace.to_string(),
                    t.pod.to_string(),
                    t.subject.container.to_string(),
                    t.outcome.exit_code.to_string(),
                    t.outcome.reason.to_string(),
                ),
                u64::from(t.count),
            )),
            _ => None,
        }))
    }

    fn ends(&self) -> u64 {
        self.counted().values().sum()
    }

    fn restarts(&self) -> u64 {
        self.effects
            .iter()
            .map(|effect| match effect {
                Effect::Restarted { count, .. } => u64::from(*count),
                _ => 0,
            })
            .sum()
    }
}

/// One step: what happens in the cluster, to which pod and container, and what of it the exporter sees.
type Step = (u8, u8, u8, u8);

#[derive(Default)]
struct Totals {
    /// Ends and restarts of all pods, those that are gone included.
    ends: u64,
    restarts: u64,
}

/// Runs the cluster and the exporter; `loss` of 256 objects are not seen. At the end all that is there is listed.
fn run(steps: &[Step], loss: u8, watched: &mut Watched) -> Totals {
    let mut machines: Vec<Machine> = (0..3).map(|uid| Machine::new(uid, uid == 2)).collect();
    let mut next = 3;
    let mut gone = Totals::default();
    let mut baseline = Totals::default();
    let mut cut = 0_u8;
    let split = steps.len() / 4;
    for (index, (action, which, code, sight)) in steps.iter().enumerate() {
        let second = i64::try_from(index).unwrap();
        if index == split {
            // The first list; what came before counts nothing.
            gone = Totals::default();
            for machine in &mut machines {
                for run in machine.containers.iter_mut().filter(|run| run.id.is_none()) {
                    run.restart(machine.uid, second);
                }
            }
            watched.lists(&machines.iter().map(|machine| machine.object(true)).collect::<Vec<_>>());
            watched.save();
            for run in machines.iter().flat_map(|machine| &machine.containers) {
                baseline.ends += run.ends();
                baseline.restarts += run.newest();
            }
        }
        let place = usize::from(*which) % machines.len();
        let machine = &mut machines[place];
        let run = &mut machine.containers[usize::from(*which / 16) % 2];
        machine.version += 1;
        match action % 16 {
            0..=5 => run.end(i64::from(*code % 5)),
            6..=10 => run.restart(machine.uid, second),
            11 => run.vanish(),
            12 => {
                run.end(i64::from(*code % 5));
                run.restart(machine.uid, second);
                run.end(i64::from(*code % 3));
            }
            13 if !machine.mirror => {
                let machine = machines.remove(place);
                for run in &machine.containers {
                    gone.ends += run.ends();
                    gone.restarts += run.newest();
                }
                if index >= split {
                    watched.sees_deleted(&machine.object(true));
                }
                machines.push(Machine::new(next, false));
                next += 1;
                if index >= split {
                    watched.sees(&machines[machines.len() - 1].object(true));
                }
                continue;
            }
            _ => {}
        }
        if index < split {
            continue;
        }
        if let Some(every) = watched.crash_every {
            if code % 3 == 0 {
                watched.save();
            }
            if index % every == 0 {
                watched.crash();
                watched.lists(&machines.iter().map(|machine| machine.object(true)).collect::<Vec<_>>());
            }
        }
        let object = machines[place].object(sight % 2 == 0);
        cut = cut.saturating_sub(1);
        if *sight > 250 {
            cut = 10;
        } else if cut == 1 {
            watched.lists(&machines.iter().map(|machine| machine.object(true)).collect::<Vec<_>>());
        } else if cut == 0 && *sight >= loss {
            watched.sees(&object);
            if sight % 5 == 0 {
                watched.sees(&object);
            }
        }
    }
    if steps.len() / 4 == steps.len() {
        watched.lists(&[]);
    }
    let all: Vec<_> = machines.iter().map(|machine| machine.object(true)).collect();
    watched.lists(&all);
    watched.settle();
    for run in machines.iter().flat_map(|machine| &machine.containers) {
        gone.ends += run.ends();
        gone.restarts += run.newest();
    }
    Totals { ends: gone.ends - baseline.ends, restarts: gone.restarts - baseline.restarts }
}

proptest! {
    #![proptest_config(config(160))]

    #[test]
    fn whatever_is_lost_or_seen_twice_each_end_counts_once(
        steps in prop::collection::vec(any::<Step>(), 8..120),
        loss in 0_u8..200,
    ) {
        let mut totals = Vec::new();
        for loss in [0, loss] {
            let mut watched = Watched::new();
            let truth = run(&steps, loss, &mut watched);
            prop_assert_eq!(watched.counted(), watched.reference.counts.clone());
            prop_assert_eq!((watched.ends(), watched.restarts()), (truth.ends, truth.restarts));
            totals.push(watched.ends());
            // The same once more, as after any number of re-lists.
            let before = watched.effects.len();
            for object in watched.seen.clone().values() {
                let mut object = object.json();
                object["metadata"]["resourceVersion"] = json!("1");
                apply_object(&mut watched.state, object, 2, watched.now);
            }
            prop_assert_eq!(watched.effects.len(), before);
        }
        prop_assert_eq!(totals[0], totals[1]);
    }
}

proptest! {
    #![proptest_config(config(200))]

    /// A pod that comes and goes while nobody looks leaves no trace, so none does here.
    #[test]
    fn a_crash_at_any_moment_loses_and_invents_nothing(
        steps in prop::collection::vec(any::<Step>(), 8..120),
        every in 1_usize..12,
    ) {
        let steps: Vec<Step> = steps.into_iter().map(|(a, b, c, d)| (if a % 16 == 13 { 0 } else { a }, b, c, d)).collect();
        let mut watched = Watched::crashing(every);
        let truth = run(&steps, 0, &mut watched);
        prop_assert_eq!((watched.ends(), watched.restarts()), (truth.ends, truth.restarts));
    }
}

// ---- Statuses that no kubelet would write ----

fn any_status() -> impl Strategy<Value = PodBuilder> {
    let id = prop_oneof![Just(""), Just("a"), Just("b"), Just("c"), Just("d")];
    let record = (id.clone(), 0..4_i64).prop_map(|(id, code)| {
        if id.is_empty() {
            json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}})
        } else {
            json!({"terminated": {"exitCode": code, "reason": "Error", "containerID": id}})
        }
    });
    let restarts = prop_oneof![0..6_i64, Just(i64::from(i32::MAX))];
    let state = prop_oneof![
        Just(json!({"running": {}})),
        Just(json!({"waiting": {}})),
        Just(json!({})),
        record.clone()
    ];
    let last = prop_oneof![Just(json!({})), record];
    (id, restarts, state, last).prop_map(|(id, restarts, state, last)| {
        pod("web")
            .container("app")
            .status("containerID", json!(id))
            .restarted(restarts)
            .status("state", state)
            .status("lastState", last)
    })
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn any_sequence_of_statuses_seen_again_counts_nothing_again(
        statuses in prop::collection::vec(any_status(), 1..20),
    ) {
        let mut watched = Watched::new();
        watched.lists(&[]);
        for status in &statuses {
            watched.sees(status);
            watched.settle();
            let (ends, restarts) = (watched.ends(), watched.restarts());
            watched.sees(status);
            watched.settle();
            prop_assert_eq!((watched.ends(), watched.restarts()), (ends, restarts));
            prop_assert!(watched.restarts() <= watched.ends(), "a restart follows an end");
        }
    }
}
