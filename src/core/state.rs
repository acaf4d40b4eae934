//! The state: one value that takes inputs in and gives effects out.

use std::sync::Arc;

use super::evidence::{About, EvidenceStore};
use super::history::History;
use super::kept::Kept;
use super::memory::{Gone, Names};
use super::observation::{identity, static_identity};
use super::pending::{Item, Pending};
use super::pods::KnownPod;
use super::workload::Owners;
use super::{BaselineReason, Effect, Input, OwnerAnswer, Scope};
use crate::pod::{Event, Pod};
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

impl Sizes {
    /// How many rows all of it would take, saved.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.pods + self.gone + self.owners + self.pods_with_evidence + self.histories + self.pending
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ScopeState {
    /// The first list is in.
    pub(super) listed: bool,
    /// Number of the list that runs, or ran last.
    pub(super) generation: u32,
    /// A list was completed in this process.
    pub(super) complete: bool,
}

/// All that is known, and what of it is still to be counted.
#[derive(Debug)]
pub struct State {
    pub(super) options: Options,
    pub(super) pods: Kept<Arc<str>, KnownPod>,
    pub(super) scopes: Vec<ScopeState>,
    pub(super) gone: Gone,
    pub(super) owners: Owners,
    pub(super) evidence: EvidenceStore,
    pub(super) history: History,
    pub(super) pending: Pending,
    pub(super) names: Names,
    /// Number of the input: the order of observation.
    pub(super) input: u64,
    pub(super) swept: Timestamp,
    /// Static pods among the pods whose mirror is gone.
    pub(super) absent: usize,
    /// What the first look at a pod shows counts, too: there is no second one.
    pub(super) first_look_counts: bool,
}

impl State {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let scopes = vec![ScopeState::default(); usize::from(options.scopes.max(1))];
        Self {
            options,
            scopes,
            pods: Kept::default(),
            gone: Gone::default(),
            owners: Owners::default(),
            evidence: EvidenceStore::default(),
            history: History::default(),
            pending: Pending::default(),
            names: Names::default(),
            input: 0,
            swept: Timestamp::default(),
            absent: 0,
            first_look_counts: false,
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
        self.pending.first().map(|(_, due)| due).filter(|_| !self.is_catching_up())
    }

    /// How many pods are known.
    #[must_use]
    pub fn pods(&self) -> usize {
        self.pods.len() - self.absent
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

    pub(super) fn scope(&mut self, scope: Scope) -> Option<&mut ScopeState> {
        self.scopes.get_mut(usize::from(scope.0))
    }

    fn list_begins(&mut self, scope: Scope) {
        if let Some(state) = self.scope(scope) {
            state.generation = state.generation.wrapping_add(1);
        }
    }

    fn still_there(&mut self, scope: Scope, uid: &str) {
        let Some(generation) = self.scope(scope).map(|state| state.generation) else { return };
        if let Some(known) = self.pods.get_mut_unsaved(uid) {
            known.generation = generation;
        }
        // The mirror of a static pod is known by another name; its account outlives any absence.
    }

    /// What the list did not hold is gone.
    fn listed(&mut self, scope: Scope, whole: bool, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(state) = self.scope(scope) else { return };
        let ScopeState { generation, listed, complete } = *state;
        (state.listed, state.complete) = (true, true);
        if !complete && self.is_tracked() && self.has_listed() {
            self.pending.postpone(now);
        }
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
                self.absent += 1;
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

    fn event(&mut self, event: &Event, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.is_of_another_namespace(event) {
            return;
        }
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

    /// Who may write events in one namespace could name a pod of another by its uid. The API server sees to it that an
    /// event lies in the namespace that it names.
    fn is_of_another_namespace(&self, event: &Event) -> bool {
        let about = &event.involved_object;
        let of_static = || self.pods.get(static_identity(&about.uid, &event.source.host).as_str());
        let Some(known) = self.pods.get(about.uid.as_str()).or_else(of_static) else { return false };
        let namespace = Arc::clone(&self.owners.peek(&known.owner).workload().namespace);
        !namespace.is_empty() && *namespace != *about.namespace
    }

    fn owner(&mut self, answer: &OwnerAnswer, now: Timestamp, effects: &mut Vec<Effect>) {
        let answered = self.owners.answer(answer, now, effects);
        let waits = |item: &Item| item.place.owner.id().is_some_and(|id| answered.contains(id));
        for number in self.pending.all(waits) {
            self.settle(number, false, now, effects);
        }
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
        let before = self.pods.len();
        self.pods.retain(|_, known| known.absent_since.is_none_or(|at| now.since(at) < ABSENT_MIRROR_MS));
        self.absent -= before - self.pods.len();
        let mirrors: std::collections::HashSet<&str> =
            self.pods.values().filter_map(|known| known.event_uid.as_deref()).collect();
        let pods = &self.pods;
        self.evidence.sweep(now, |uid| pods.contains_key(uid) || mirrors.contains(uid));
        self.names.sweep();
    }
}
