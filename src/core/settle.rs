//! Deciding what waits: at once where nothing more can be learned, else with the event or the owner, or when due.

use std::sync::Arc;

use super::Effect;
use super::cause::{Case, Verdict, Witness, decide};
use super::evidence::Kill;
use super::observation::static_identity;
use super::pending::{Ended, MOST, Place, What};
use super::pods::{Container, Last, Unexplained};
use super::state::State;
use super::workload::Resolved;
use crate::termination::{Cause, Evidence, ExitCode, Outcome, Reason, Subject, Termination, Workload};
use crate::time::Timestamp;

impl State {
    pub(super) fn settle_pod(&mut self, event_uid: &str, now: Timestamp, effects: &mut Vec<Effect>) {
        for number in self.pending.of(event_uid) {
            self.settle(number, false, now, effects);
        }
    }

    /// Counts what is due, and the oldest where too many wait.
    pub(super) fn settle_due(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.is_catching_up() && self.pending.len() <= MOST {
            return;
        }
        while let Some((number, due)) = self.pending.first() {
            if due > now && self.pending.len() <= MOST {
                return;
            }
            self.settle(number, true, now, effects);
        }
    }

    /// Counts an item if all of it is known, or if it is due.
    pub(super) fn settle(&mut self, number: u64, due: bool, now: Timestamp, effects: &mut Vec<Effect>) {
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
        } else if !ended.counts {
            self.confirm_by_earlier_kill(place, ended, verdict, workload, now);
        }
        self.evidence.use_up(&place.event_uid, &ended.container, case.finished_at);
    }

    /// Listed at start: the kubelet had killed this container for the probe before, and what it leaves now is what
    /// such a kill leaves.
    fn confirm_by_earlier_kill(
        &mut self,
        place: &Place,
        ended: &Ended,
        verdict: Verdict,
        workload: &Workload,
        now: Timestamp,
    ) {
        let Some(case) = ended.case.as_ref() else { return };
        if let Some((cause, kills)) =
            self.evidence.earlier_probe_kill(&place.event_uid, &ended.container, case)
            && (kills > ended.attempt || (verdict.cause == Cause::Killed && case.reason == Reason::Error))
        {
            self.confirm(workload, &ended.container, case, cause, now);
        }
    }

    /// Learns from all that waits what it tells of probes, before any of it is decided: where there is one look, an
    /// end may be explained by what another one teaches.
    pub(super) fn learn_from_all(&mut self, now: Timestamp) {
        for number in self.pending.all(|item| matches!(item.what, What::Ended(_))) {
            let Some(place) = self.pending.get(number).map(|item| item.place.clone()) else { continue };
            let workload = self.owners.peek(&place.owner).workload();
            let Some(verdict) = self.verdict(number, &workload, now) else { continue };
            let Some(What::Ended(ended)) = self.pending.get(number).map(|item| item.what.clone()) else {
                continue;
            };
            self.confirm_by_earlier_kill(&place, &ended, verdict, &workload, now);
        }
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

    /// A kill that explains the end decided last, but came after its wait: what is counted stays, but it explains
    /// nothing later, and tells what such a kill leaves.
    pub(super) fn late_kill(&mut self, uid: &Arc<str>, host: &str, kill: &Kill, now: Timestamp) {
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
