//! Taking in one pod object: which ends it shows, and which restarts.

use std::sync::Arc;

use super::facts::Facts;
use super::ledger::End;
use super::observation::{Seen, cut, identity, is_windows, seen_containers};
use super::pending::{Ended, Item, Place, WAIT_MS, What};
use super::pods::{KnownPod, Last};
use super::state::{ScopeState, State};
use super::{BaselineReason, Effect, Scope};
use crate::pod::Pod;
use crate::rows::fingerprint;
use crate::termination::{Cause, Outcome, PodFailure, Subject};
use crate::time::Timestamp;

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
    /// Takes in an object of a pod.
    pub(super) fn pod(&mut self, scope: Scope, pod: &Pod, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(ScopeState { listed, generation, .. }) = self.scope(scope).copied() else { return };
        let identity = self.names.get(&identity(pod));
        if identity.is_empty() || self.gone.contains(&identity) {
            return;
        }
        let fresh = !self.pods.contains_key(&identity);
        let mut known = self.pods.take_out(&identity).unwrap_or_else(|| {
            let namespace = self.names.get(&pod.metadata.namespace);
            let owner = self.owners.of_pod(pod, &namespace, now, effects);
            self.owners.add_pod(&owner, effects);
            KnownPod::new(scope, owner, pod)
        });
        known.generation = generation;
        let before = (self.pods.is_tracked() && !fresh).then(|| fingerprint(&known));
        if !known.is_newer(pod) {
            self.pods.put_back(identity, known, false);
            return;
        }
        if known.absent_since.take().is_some() {
            self.absent -= 1;
            self.owners.add_pod(&known.owner, effects);
        }
        let facts = Facts::of(pod, &known.facts(), self.input);
        let place = self.place(pod, &identity, &known);
        let baseline = fresh && !listed;
        let mut look = Look { pod, known, facts, place, baseline, now };
        for seen in seen_containers(pod) {
            self.container(&mut look, &seen, effects);
        }
        self.pod_failure(&mut look);
        let Look { mut known, facts, place, .. } = look;
        known.set_facts(facts);
        self.refresh_pending(&known, &facts, &place.event_uid);
        let changed = fresh || before.is_some_and(|before| before != fingerprint(&known));
        self.pods.put_back(identity, known, changed);
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
        let counts = self.first_look_counts || !(look.baseline || mirror_baseline);
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
    fn pod_failure(&mut self, look: &mut Look<'_>) {
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
}
