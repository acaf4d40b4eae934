//! The state: one value that takes inputs in and gives effects out.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cause::{Case, Verdict, Witness, decide};
use super::evidence::{About, EvidenceStore, History, Kill};
use super::facts::Facts;
use super::ledger::End;
use super::memory::{Gone, Names};
use super::observation::{Seen, cut, identity, is_windows, seen_containers, static_identity};
use super::pending::{Ended, Item, MOST, Pending, Place, WAIT_MS, What};
use super::pods::{Container, KnownPod, Last, Unexplained};
use super::workload::{Owners, Resolved};
use super::{BaselineReason, Effect, Input, OwnerAnswer, Scope};
use crate::pod::{Event, Pod};
use crate::termination::{
    Cause, Evidence, ExitCode, Outcome, PodFailure, Reason, Subject, Termination, Workload,
};
use crate::time::Timestamp;

/// How often what is old is forgotten.
const SWEEP_MS: i64 = 60_000;
/// The accounts of a static pod outlive its mirror by this long: the mirror may be made again.
const ABSENT_MIRROR_MS: i64 = 24 * 3600 * 1000;

/// What shapes the counts.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Pod labels whose values go onto the counters, in order.
    pub copy_labels: Vec<String>,
    /// Whether the pod's name goes onto the counters.
    pub pod_label: bool,
    /// How many lists there are: one, or one for each of `--namespaces`.
    pub scopes: u16,
    /// Whether events are watched: without them nothing waits for one.
    pub events: bool,
}

/// How much a [`State`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Pods, absent mirrors of static pods included.
    pub pods: usize,
    /// Identities of pods that are gone.
    pub gone: usize,
    /// Owners, workloads and owners of owners.
    pub owners: usize,
    /// Pods that events told about.
    pub pods_with_evidence: usize,
    /// Containers whose probes' kills an event confirmed.
    pub histories: usize,
    /// Ends that wait.
    pub pending: usize,
    /// Shared names.
    pub names: usize,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct ScopeState {
    /// The first list is in.
    listed: bool,
    /// Number of the list that runs, or ran last.
    generation: u32,
}

/// All that is known, and what of it is still to be counted.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    #[serde(skip)]
    options: Options,
    pods: HashMap<Arc<str>, KnownPod>,
    scopes: Vec<ScopeState>,
    gone: Gone,
    owners: Owners,
    evidence: EvidenceStore,
    history: History,
    pending: Pending,
    #[serde(skip)]
    names: Names,
    /// Number of the input: the order of observation.
    input: u64,
    swept: Timestamp,
}

/// One pod object while it is taken in.
struct Look<'a> {
    pod: &'a Pod,
    known: KnownPod,
    facts: Facts,
    place: Place,
    baseline: bool,
    now: Timestamp,
}

impl State {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let scopes = vec![ScopeState::default(); usize::from(options.scopes.max(1))];
        Self {
            options,
            scopes,
            pods: HashMap::new(),
            gone: Gone::default(),
            owners: Owners::default(),
            evidence: EvidenceStore::default(),
            history: History::default(),
            pending: Pending::default(),
            names: Names::default(),
            input: 0,
            swept: Timestamp::default(),
        }
    }

    /// Takes in what happened. `now` is the exporter's own clock and never goes back.
    pub fn apply(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.input += 1;
        match input {
            Input::ListBegins(scope) => self.list_begins(scope),
            Input::PodListed(scope, pod) | Input::PodSeen(scope, pod) => {
                self.pod(scope, &pod, now, &mut effects);
            }
            Input::StillThere(scope, uid) => self.still_there(scope, &uid),
            Input::Listed { scope, whole } => self.listed(scope, whole, now, &mut effects),
            Input::PodDeleted(scope, pod) => self.pod_deleted(scope, &pod, now, &mut effects),
            Input::Event(event) => self.event(&event, now, &mut effects),
            Input::Owner(answer) => self.owner(&answer, now, &mut effects),
            Input::Tick => {}
        }
        self.settle_due(now, &mut effects);
        self.sweep(now);
        effects
    }

    /// When something that waits is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.pending.first().map(|(_, due)| due)
    }

    /// How many pods are known.
    #[must_use]
    pub fn pods(&self) -> usize {
        self.pods.len()
    }

    /// How many terminations wait to be counted.
    #[must_use]
    pub fn pending_terminations(&self) -> usize {
        self.pending.terminations()
    }

    /// How much is held in memory: what a test of bounds looks at.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        Sizes {
            pods: self.pods.len(),
            gone: self.gone.len(),
            owners: self.owners.len(),
            pods_with_evidence: self.evidence.pods(),
            histories: self.history.len(),
            pending: self.pending.len(),
            names: self.names.len(),
        }
    }

    /// Counts all that waits with what is known: for the end of a process without saved state.
    pub fn settle_all(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some((number, _)) = self.pending.first() {
            self.settle(number, true, now, &mut effects);
        }
        effects
    }

    fn scope(&mut self, scope: Scope) -> Option<&mut ScopeState> {
        self.scopes.get_mut(usize::from(scope.0))
    }

    fn list_begins(&mut self, scope: Scope) {
        if let Some(state) = self.scope(scope) {
            state.generation = state.generation.wrapping_add(1);
        }
    }

    fn still_there(&mut self, scope: Scope, uid: &str) {
        let Some(generation) = self.scope(scope).map(|state| state.generation) else { return };
        if let Some(known) = self.pods.get_mut(uid) {
            known.generation = generation;
        }
        // The mirror of a static pod is known by another name; its account outlives any absence.
    }

    /// What the list did not hold is gone.
    fn listed(&mut self, scope: Scope, whole: bool, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(state) = self.scope(scope) else { return };
        let ScopeState { generation, listed } = *state;
        state.listed = true;
        if !listed && self.scopes.iter().all(|state| state.listed) {
            effects.push(Effect::Baseline(BaselineReason::FirstList));
        }
        if !whole {
            return;
        }
        let absent = |known: &KnownPod| known.scope == scope && known.generation != generation;
        let gone: Vec<_> =
            self.pods.iter().filter(|(_, known)| absent(known)).map(|(id, _)| Arc::clone(id)).collect();
        for identity in gone {
            self.forget(&identity, now, effects);
        }
    }

    fn pod_deleted(&mut self, scope: Scope, pod: &Pod, now: Timestamp, effects: &mut Vec<Effect>) {
        let identity = self.names.get(&identity(pod));
        let replaced = self.pods.get(&identity).is_some_and(|known| !known.is_this_object(&pod.metadata.uid));
        if replaced {
            return; // another mirror of the same static pod took its place
        }
        self.pod(scope, pod, now, effects);
        self.forget(&identity, now, effects);
    }

    /// The pod is gone. It never counts again; a static pod's accounts stay, since only its mirror is gone.
    fn forget(&mut self, identity: &Arc<str>, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(known) = self.pods.get_mut(identity) else { return };
        if known.is_mirror() {
            if known.absent_since.is_none() {
                known.absent_since = Some(now);
                self.owners.remove_pod(&known.owner, now, effects);
            }
            return;
        }
        if let Some(known) = self.pods.remove(identity) {
            self.owners.remove_pod(&known.owner, now, effects);
            if known.containers.iter().any(|container| container.account.is_running()) {
                effects.push(Effect::UnobservedPod);
            }
            self.gone.remember(identity, now);
            if self.pending.of(identity).is_empty() {
                self.evidence.forget(identity);
            }
        }
    }

    fn pod(&mut self, scope: Scope, pod: &Pod, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(ScopeState { listed, generation }) = self.scope(scope).copied() else { return };
        let identity = self.names.get(&identity(pod));
        if identity.is_empty() || self.gone.contains(&identity) {
            return;
        }
        let fresh = !self.pods.contains_key(&identity);
        let mut known = self.pods.remove(&identity).unwrap_or_else(|| {
            let namespace = self.names.get(&pod.metadata.namespace);
            let owner = self.owners.of_pod(pod, &namespace, now, effects);
            self.owners.add_pod(&owner, effects);
            KnownPod::new(scope, owner, pod)
        });
        known.generation = generation;
        if !known.is_newer(pod) {
            self.pods.insert(identity, known);
            return;
        }
        if known.absent_since.take().is_some() {
            self.owners.add_pod(&known.owner, effects);
        }
        let facts = Facts::of(pod, &known.facts(), self.input);
        let place = self.place(pod, &identity, &known);
        let baseline = fresh && !listed;
        let mut look = Look { pod, known, facts, place, baseline, now };
        for seen in seen_containers(pod) {
            self.container(&mut look, &seen, effects);
        }
        self.pod_failure(&mut look, effects);
        let Look { mut known, facts, place, .. } = look;
        known.set_facts(facts);
        self.refresh_pending(&known, &facts, &place.event_uid);
        self.pods.insert(identity, known);
        self.settle_pod(&place.event_uid, now, effects);
    }

    fn place(&mut self, pod: &Pod, identity: &Arc<str>, known: &KnownPod) -> Place {
        let value = |key: &String| pod.metadata.labels.get(key).map_or("", String::as_str);
        let mut extra: Vec<Arc<str>> =
            self.options.copy_labels.iter().map(|key| self.names.get(value(key))).collect();
        if self.options.pod_label {
            extra.push(self.names.get(&pod.metadata.name));
        }
        let event_uid = known.event_uid.as_ref().unwrap_or(identity);
        Place {
            identity: Arc::clone(identity),
            event_uid: Arc::clone(event_uid),
            owner: known.owner.clone(),
            namespace: self.names.get(&pod.metadata.namespace),
            pod: pod.metadata.name.as_str().into(),
            node: self.names.get(&pod.spec.node_name),
            extra: extra.into(),
        }
    }

    /// Takes in one container's status.
    fn container(&mut self, look: &mut Look<'_>, seen: &Seen<'_>, effects: &mut Vec<Effect>) {
        let known_before = look.known.containers.len();
        let index = look.known.container_index(seen.status, &mut self.names);
        let Some(container) = look.known.containers.get_mut(index) else { return };
        let change = container.account.observe(seen.status);
        let attempt = container.account.attempt();
        if change.restart_count_fell {
            effects.push(Effect::Baseline(BaselineReason::RestartCountDecreased));
        }
        // A mirror is made without statuses: its containers are first seen in a later object.
        let fresh = index >= known_before;
        let mirror_baseline = fresh && look.facts.mirror && seen.status.restart_count > 0;
        let counts = !look.baseline && !mirror_baseline;
        if counts {
            let from = change.attempt_before;
            self.restarts_of_earlier(look, index, from, change.accounted_before, effects);
        }
        for end in &change.ends {
            self.ended(look, seen, index, end, counts, attempt);
        }
        self.post_start_failed(look, seen, index);
        if let Some(container) = look.known.containers.get_mut(index) {
            container.note_running(seen.status, look.facts.deletion.is_some());
        }
    }

    /// The kubelet says that the postStart hook failed only once the container waits for its next attempt.
    fn post_start_failed(&mut self, look: &Look<'_>, seen: &Seen<'_>, index: usize) {
        if let Some(container) = look.known.containers.get(index).filter(|_| seen.post_start_failed())
            && let Last::Waiting(number) = container.last
            && let Some(What::Ended(ended)) = self.pending.get_mut(number).map(|item| &mut item.what)
            && let Some(case) = ended.case.as_mut()
        {
            case.post_start_failed = true;
        }
    }

    /// Restarts that followed ends which were accounted for before: the newest is that of the end decided last,
    /// or of one that still waits; of those before it nothing was visible.
    fn restarts_of_earlier(
        &mut self,
        look: &mut Look<'_>,
        index: usize,
        from: u32,
        accounted: u32,
        effects: &mut Vec<Effect>,
    ) {
        let Some(container) = look.known.containers.get(index) else { return };
        let to = container.account.attempt().min(accounted);
        let restarts = to.saturating_sub(from);
        if restarts == 0 {
            return;
        }
        let mut unseen = restarts;
        let mut outcome = Outcome::NOT_OBSERVED;
        if to == accounted {
            unseen -= 1;
            match container.last {
                Last::Known(known) => outcome = known,
                Last::None => {}
                Last::Waiting(number) => {
                    if let Some(What::Ended(ended)) = self.pending.get_mut(number).map(|i| &mut i.what) {
                        ended.restarts = ended.restarts.saturating_add(1);
                        self.restarted(look, index, Outcome::NOT_OBSERVED, unseen, effects);
                        return;
                    }
                }
            }
            self.restarted(look, index, outcome, 1, effects);
        }
        self.restarted(look, index, Outcome::NOT_OBSERVED, unseen, effects);
    }

    fn restarted(
        &mut self,
        look: &Look<'_>,
        index: usize,
        outcome: Outcome,
        count: u32,
        effects: &mut Vec<Effect>,
    ) {
        let Some(container) = look.known.containers.get(index).filter(|_| count > 0) else { return };
        let workload = self.owners.resolve(&look.place.owner, look.now, effects).workload();
        let subject = Subject {
            workload: workload.clone(),
            container: Arc::clone(&container.name),
            container_type: container.container_type,
            extra: Arc::clone(&look.place.extra),
        };
        effects.push(Effect::Restarted { subject, outcome, count });
        self.owners.tell_pods(&workload, effects);
    }

    /// Puts an end among what waits; most are settled with the same input.
    fn ended(
        &mut self,
        look: &mut Look<'_>,
        seen: &Seen<'_>,
        index: usize,
        end: &End<'_>,
        counts: bool,
        attempt_now: u32,
    ) {
        let (first, count, record, made_up) = match *end {
            End::Recorded { attempt, record } => (attempt, 1, Some(record), false),
            End::MadeUp { attempt, record } => (attempt, 1, Some(record), true),
            End::NotObserved { attempt, count } => (attempt, count, None, false),
        };
        let Some(container) = look.known.containers.get_mut(index) else { return };
        container.container_type = seen.container_type;
        let restarts = if counts { attempt_now.saturating_sub(first).min(count) } else { 0 };
        let skew = self.evidence.skew(&look.place.node);
        let followed = attempt_now > first;
        let case = record.map(|record| {
            let mut case = seen.case(look.pod, record, made_up, look.facts, self.input);
            case.followed = followed;
            case.finished_at_api = record.finished_at.map(|at| at.plus_ms(skew));
            case.started = container.started_of(&record.container_id);
            case.ran_into_deletion = container.ran_into_deletion && !followed;
            case.own_code_before = container.own_code_before(first);
            case
        });
        let ended = Ended {
            container: Arc::clone(&container.name),
            container_type: seen.container_type,
            attempt: first.saturating_add(count - 1),
            count,
            restarts,
            case,
            counts,
            restart_count: u32::try_from(seen.status.restart_count).unwrap_or(0),
            image: self.names.get(&seen.status.image),
            message: record.map(|r| r.message.as_str()).filter(|m| !m.is_empty()).map(cut),
            windows: is_windows(look.pod),
        };
        let number = self.wait(look, What::Ended(Box::new(ended)));
        if let Some(container) = look.known.containers.get_mut(index) {
            container.last = Last::Waiting(number);
        }
    }

    fn wait(&mut self, look: &Look<'_>, what: What) -> u64 {
        self.owners.hold(&look.place.owner);
        self.pending.push(Item {
            place: look.place.clone(),
            what,
            due: look.now.plus_ms(WAIT_MS),
            asked: false,
        })
    }

    /// A pod that failed as a whole, once per identity.
    fn pod_failure(&mut self, look: &mut Look<'_>, _effects: &mut Vec<Effect>) {
        if look.known.failure_counted || !look.facts.failed {
            return;
        }
        let reason = look.pod.status.reason.as_str();
        let failure = match look.facts.disruption.map(|disruption| disruption.cause) {
            Some(Cause::NodeLost) if reason.is_empty() => PodFailure::NodeLost,
            _ if reason.is_empty() => return,
            _ => PodFailure::parse(reason),
        };
        look.known.failure_counted = true;
        if !look.baseline {
            self.wait(look, What::Failed(failure));
        }
    }

    /// What waits knows what the newest object tells; the rules compare times.
    fn refresh_pending(&mut self, known: &KnownPod, facts: &Facts, event_uid: &str) {
        if self.pending.is_empty() {
            return;
        }
        for number in self.pending.of(event_uid) {
            let Some(What::Ended(ended)) = self.pending.get_mut(number).map(|item| &mut item.what) else {
                continue;
            };
            let container = known.containers.iter().find(|container| container.name == ended.container);
            let followed = container.is_some_and(|c| c.account.attempt() > ended.attempt);
            if let Some(case) = ended.case.as_mut() {
                case.facts = *facts;
                case.followed |= followed;
            }
        }
    }

    fn event(&mut self, event: &Event, now: Timestamp, effects: &mut Vec<Effect>) {
        match self.evidence.observe(event, now) {
            Some(About::Pod { uid, kill }) => {
                if let Some(kill) = kill {
                    self.late_kill(&uid, &event.source.host, &kill, now);
                }
                self.settle_pod(&uid, now, effects);
            }
            Some(About::Node(node)) => {
                for number in self.pending.all(|item| item.place.node == node) {
                    self.settle(number, false, now, effects);
                }
            }
            None => {}
        }
    }

    /// A kill that explains the end decided last, but came after its wait: what is counted stays, but it explains
    /// nothing later, and tells what such a kill leaves.
    fn late_kill(&mut self, uid: &Arc<str>, host: &str, kill: &Kill, now: Timestamp) {
        let known = match self.pods.get_mut(uid) {
            Some(known) => Some(known),
            None => self.pods.get_mut(static_identity(uid, host).as_str()),
        };
        let Some(known) = known else { return };
        let owner = known.owner.clone();
        let Some(container) = known.container_mut(&kill.container) else { return };
        let Some(end) = container.unexplained.take_if(|end| end.was_killed(kill.at)) else { return };
        let name = Arc::clone(&container.name);
        self.evidence.use_up(uid, &name, end.finished_at);
        if matches!(kill.cause, Cause::LivenessProbe | Cause::StartupProbe) {
            let workload = self.owners.peek(&owner).workload();
            self.history.confirm(&workload, &name, end.exit_code, end.reason, kill.cause, now);
        }
    }

    fn owner(&mut self, answer: &OwnerAnswer, now: Timestamp, effects: &mut Vec<Effect>) {
        let answered = self.owners.answer(answer, now, effects);
        let waits = |item: &Item| item.place.owner.uid().is_some_and(|uid| answered.contains(uid));
        for number in self.pending.all(waits) {
            self.settle(number, false, now, effects);
        }
    }

    fn settle_pod(&mut self, event_uid: &str, now: Timestamp, effects: &mut Vec<Effect>) {
        for number in self.pending.of(event_uid) {
            self.settle(number, false, now, effects);
        }
    }

    /// Counts what is due, and the oldest where too many wait.
    fn settle_due(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        while let Some((number, due)) = self.pending.first() {
            if due > now && self.pending.len() <= MOST {
                return;
            }
            self.settle(number, true, now, effects);
        }
    }

    /// Counts an item if all of it is known, or if it is due.
    fn settle(&mut self, number: u64, due: bool, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(owner) = self.pending.get(number).map(|item| item.place.owner.clone()) else { return };
        let first_try = self.pending.first_try(number);
        let resolved =
            if first_try { self.owners.resolve(&owner, now, effects) } else { self.owners.peek(&owner) };
        let workload = match resolved {
            Resolved::Final(workload) => workload,
            Resolved::Waiting(workload) if due => {
                self.owners.give_up(&owner, now);
                workload
            }
            Resolved::Waiting(_) => return,
        };
        let verdict = self.verdict(number, &workload, now);
        let may_change = verdict.is_some_and(|verdict| verdict.may_change);
        if may_change && self.options.events && !due {
            return;
        }
        self.owners.release(&owner);
        let Some(item) = self.pending.remove(number) else { return };
        match item.what {
            What::Failed(failure) => {
                let extra = item.place.extra;
                effects.push(Effect::PodFailed { workload: workload.clone(), extra, failure });
            }
            What::Ended(ended) => {
                self.learn(&item.place, &ended, verdict, &workload, number, now);
                if !ended.counts && ended.restarts == 0 {
                    return;
                }
                count(&item.place, *ended, verdict, &workload, now, effects);
            }
        }
        self.owners.tell_pods(&workload, effects);
    }

    fn verdict(&mut self, number: u64, workload: &Workload, now: Timestamp) -> Option<Verdict> {
        let item = self.pending.get_mut(number)?;
        let What::Ended(ended) = &mut item.what else { return None };
        let attempt = ended.attempt;
        let case = ended.case.as_mut()?;
        let known = self.pods.get(&item.place.identity);
        let container = known.and_then(|known| known.container(&ended.container));
        if let Some(code) = container.and_then(|container| container.own_code_before(attempt)) {
            case.own_code_before = Some(code);
        }
        let place = &item.place;
        let case = &*case;
        let witness = Witness {
            history: self.history.probe(workload, &ended.container, case.exit_code, case.reason, now),
            ..self.evidence.witness(&place.event_uid, &place.node, &ended.container, case)
        };
        Some(decide(case, &witness))
    }

    /// What a decision teaches for later ones: the labels of the restart that may follow, the code with which
    /// the container ends on its own, and what a probe's kill leaves.
    fn learn(
        &mut self,
        place: &Place,
        ended: &Ended,
        verdict: Option<Verdict>,
        workload: &Workload,
        number: u64,
        now: Timestamp,
    ) {
        let outcome = outcome(ended, verdict);
        let known = self.pods.get_mut(&place.identity);
        if let Some(container) = known.and_then(|known| known.container_mut(&ended.container)) {
            if container.last == Last::Waiting(number) {
                container.last = Last::Known(outcome);
            }
            container.note_own_end(ended.attempt, &outcome);
            container.unexplained = match (&ended.case, verdict) {
                (Some(case), Some(verdict)) if verdict.may_change => Some(Box::new(Unexplained::of(case))),
                _ => None,
            };
        }
        let (Some(verdict), Some(case)) = (verdict, ended.case.as_ref()) else { return };
        let probe = matches!(verdict.cause, Cause::LivenessProbe | Cause::StartupProbe);
        if probe && verdict.evidence == Evidence::Event {
            self.confirm(workload, &ended.container, case, verdict.cause, now);
        } else if !ended.counts
            && let Some((cause, kills)) =
                self.evidence.earlier_probe_kill(&place.event_uid, &ended.container, case)
            && (kills > ended.attempt || (verdict.cause == Cause::Killed && case.reason == Reason::Error))
        {
            // Listed at start: the kubelet had killed this container for the probe before, and what it leaves
            // now is what such a kill leaves.
            self.confirm(workload, &ended.container, case, cause, now);
        }
        self.evidence.use_up(&place.event_uid, &ended.container, case.finished_at);
    }

    fn confirm(
        &mut self,
        workload: &Workload,
        container: &Arc<str>,
        case: &Case,
        cause: Cause,
        now: Timestamp,
    ) {
        self.history.confirm(workload, container, case.exit_code, case.reason, cause, now);
    }

    /// Forgets what is old, once a minute.
    fn sweep(&mut self, now: Timestamp) {
        if now.since(self.swept) < SWEEP_MS {
            return;
        }
        self.swept = now;
        self.gone.sweep(now);
        self.owners.sweep(now);
        self.history.sweep(now);
        self.pods.retain(|_, known| known.absent_since.is_none_or(|at| now.since(at) < ABSENT_MIRROR_MS));
        let mirrors: std::collections::HashSet<&str> =
            self.pods.values().filter_map(|known| known.event_uid.as_deref()).collect();
        let pods = &self.pods;
        self.evidence.sweep(now, |uid| pods.contains_key(uid) || mirrors.contains(uid));
        self.names.sweep();
    }
}

fn outcome(ended: &Ended, verdict: Option<Verdict>) -> Outcome {
    match (&ended.case, verdict) {
        (Some(case), Some(verdict)) => {
            Outcome { exit_code: ExitCode(Some(case.exit_code)), reason: case.reason, cause: verdict.cause }
        }
        _ => Outcome::NOT_OBSERVED,
    }
}

/// The effects of a decided end.
fn count(
    place: &Place,
    ended: Ended,
    verdict: Option<Verdict>,
    workload: &Workload,
    now: Timestamp,
    effects: &mut Vec<Effect>,
) {
    let outcome = outcome(&ended, verdict);
    let subject = Subject {
        workload: workload.clone(),
        container: ended.container,
        container_type: ended.container_type,
        extra: Arc::clone(&place.extra),
    };
    let restarted = Effect::Restarted { subject: subject.clone(), outcome, count: ended.restarts };
    if !ended.counts {
        // A baseline, but the restart that followed it while it was decided is no part of it.
        effects.push(restarted);
        return;
    }
    effects.push(Effect::Terminated(Box::new(Termination {
        subject,
        outcome,
        count: ended.count,
        evidence: verdict.map_or(Evidence::None, |verdict| verdict.evidence),
        pod: Arc::clone(&place.pod),
        node: Arc::clone(&place.node),
        started_at: ended.case.as_ref().and_then(|case| case.started_at),
        finished_at: ended.case.as_ref().and_then(|case| case.finished_at),
        counted_at: now,
        restart_count: ended.restart_count,
        image: ended.image,
        message: ended.message,
        windows: ended.windows,
    })));
    if ended.restarts > 0 {
        effects.push(restarted);
    }
}

impl Container {
    fn note_own_end(&mut self, attempt: u32, outcome: &Outcome) {
        if outcome.cause == Cause::Application
            && let Some(code) = outcome.exit_code.0
        {
            self.own_end = Some((attempt, code));
        }
    }
}
