//! A core, the exporter's clock and the owners that look-ups find; what the core tells, as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use exitcode_exporter::core::{
    BaselineReason, Effect, Input, Options, OwnerAnswer, OwnerFound, Scope, State,
};
use exitcode_exporter::pod::Metadata;
use exitcode_exporter::termination::{Outcome, Subject, Workload};
use exitcode_exporter::time::Timestamp;
use serde_json::Value;

use super::pods::{EventBuilder, PodBuilder, START};

pub struct World {
    pub state: State,
    pub now: Timestamp,
    /// Every effect so far.
    pub effects: Vec<Effect>,
    told: usize,
    /// What look-ups find, by name. A look-up of another name stays without an answer.
    pub owners: BTreeMap<String, OwnerFound>,
}

pub const ALL: Scope = Scope(0);

impl World {
    /// Nothing is listed yet.
    pub fn before_the_first_list() -> Self {
        Self::with(Options { scopes: 1, events: true, ..Options::default() })
    }

    pub fn with(options: Options) -> Self {
        let state = State::new(options);
        Self { state, now: Timestamp(START), effects: Vec::new(), told: 0, owners: BTreeMap::new() }
    }

    /// The first list was empty.
    pub fn new() -> Self {
        let mut world = Self::before_the_first_list();
        world.lists(&[]);
        world.told();
        world
    }

    pub fn owner(mut self, name: &str, metadata: Value) -> Self {
        let metadata: Metadata = serde_json::from_value(metadata).expect("metadata");
        self.owners.insert(name.into(), OwnerFound::Found(Box::new(metadata)));
        self
    }

    pub fn apply(&mut self, input: Input) {
        let effects = self.state.apply(input, self.now);
        self.effects.extend(effects.iter().cloned());
        for effect in effects {
            if let Effect::LookUp(key) = effect
                && let Some(found) = self.owners.get(&*key.name).cloned()
            {
                self.apply(Input::Owner(OwnerAnswer { namespace: key.namespace, uid: key.uid, found }));
            }
        }
    }

    pub fn lists(&mut self, pods: &[&PodBuilder]) {
        self.lists_in(ALL, pods, true);
    }

    pub fn lists_in(&mut self, scope: Scope, pods: &[&PodBuilder], whole: bool) {
        self.apply(Input::ListBegins(scope));
        for pod in pods {
            self.apply(Input::PodListed(scope, pod.build()));
        }
        self.apply(Input::Listed { scope, whole });
    }

    pub fn sees(&mut self, pod: &PodBuilder) {
        self.apply(Input::PodSeen(ALL, pod.build()));
    }

    pub fn sees_deleted(&mut self, pod: &PodBuilder) {
        self.apply(Input::PodDeleted(ALL, pod.build()));
    }

    pub fn event(&mut self, event: &EventBuilder) {
        self.apply(Input::Event(event.build()));
    }

    pub fn wait(&mut self, ms: i64) {
        self.now = self.now.plus_ms(ms);
        self.apply(Input::Tick);
    }

    /// What was told since this was asked last: a line each, without the numbers of pods.
    pub fn told(&mut self) -> String {
        let mut text = String::new();
        for effect in &self.effects[self.told..] {
            write_effect(&mut text, effect);
        }
        self.told = self.effects.len();
        text
    }

    /// All ends so far, as (exit code, reason, cause, evidence, count).
    pub fn ends(&self) -> Vec<String> {
        let end = |effect: &Effect| match effect {
            Effect::Terminated(t) => {
                Some(format!("{} {} {}", t.outcome.exit_code, t.outcome.cause, t.evidence))
            }
            _ => None,
        };
        self.effects.iter().filter_map(end).collect()
    }

    /// The numbers of pods told last.
    pub fn pods(&self) -> BTreeMap<String, u32> {
        let pods = |effect: &Effect| match effect {
            Effect::WorkloadPods { workload, pods } => Some((workload_text(workload), *pods)),
            _ => None,
        };
        self.effects.iter().filter_map(pods).collect()
    }
}

fn workload_text(workload: &Workload) -> String {
    format!("{}/{}", workload.workload_type, workload.name)
}

fn labels(subject: &Subject, outcome: &Outcome) -> String {
    let Outcome { exit_code, reason, cause } = outcome;
    let kind = subject.container_type.as_str().trim_end_matches("container").trim_end_matches('_');
    let kind = if kind.is_empty() { String::new() } else { format!("{kind} ") };
    format!("{} {kind}{} {exit_code} {reason} {cause}", workload_text(&subject.workload), subject.container)
}

fn write_effect(text: &mut String, effect: &Effect) {
    let times = |count: u32| if count == 1 { String::new() } else { format!(" x{count}") };
    match effect {
        Effect::LookUp(key) => writeln!(text, "look up {} {}", key.kind, key.name),
        Effect::OwnerCached | Effect::WorkloadPods { .. } => Ok(()),
        Effect::Terminated(t) => {
            writeln!(text, "ended {} ({}){}", labels(&t.subject, &t.outcome), t.evidence, times(t.count))
        }
        Effect::Restarted { subject, outcome, count } => {
            writeln!(text, "restarted {}{}", labels(subject, outcome), times(*count))
        }
        Effect::PodFailed { workload, failure, .. } => {
            writeln!(text, "failed {} {failure}", workload_text(workload))
        }
        Effect::Baseline(BaselineReason::FirstList) => writeln!(text, "baseline of the first list"),
        Effect::Baseline(BaselineReason::RestartCountDecreased) => writeln!(text, "restartCount fell"),
        Effect::UnobservedPod => writeln!(text, "unobserved pod"),
    }
    .expect("text");
}
