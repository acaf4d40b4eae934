//! Whose pod it is: controllers climbed to the top, each owner looked up at most once per uid.

mod saved;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kept::Kept;
use super::naming::{cron_job_of, known_at_sight, own_name, workload, workload_of};
use super::{Effect, OwnerAnswer, OwnerFound, OwnerKey};
use crate::pod::Pod;
use crate::termination::Workload;
use crate::time::Timestamp;

/// Owners of owners: a Workflow over a Job over a CronJob is three. Bounded against a cycle.
const LEVELS: usize = 8;
/// Owners kept after their last pod is gone, and for how long: the next pod is often the same owner's.
const IDLE: usize = 10_000;
const IDLE_MS: i64 = 10 * 60 * 1000;
/// A look-up that failed is tried again after this.
const RETRY_MS: i64 = 10 * 60 * 1000;

/// Where a pod's workload comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodOwner {
    /// The pod itself tells.
    Known(Workload),
    /// The owner of this id must be climbed.
    Owned(Arc<str>),
}

impl PodOwner {
    /// The id of the owner to climb.
    pub fn id(&self) -> Option<&Arc<str>> {
        match self {
            Self::Known(_) => None,
            Self::Owned(id) => Some(id),
        }
    }
}

/// What an owner is known by. Owners and what they own share a namespace, and a reference may be forged: what a pod says
/// never reaches what is known in another namespace.
fn id(namespace: &str, uid: &str) -> Arc<str> {
    format!("{namespace}/{uid}").into()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    /// Not asked.
    None,
    /// Asked; no answer yet.
    Asked,
    /// Climbed to the top.
    Final,
    /// A look-up failed; may be asked again after this time.
    Failed(Timestamp),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Owner {
    /// The pods' controller.
    direct: OwnerKey,
    /// The last owner known on the way up.
    top: OwnerKey,
    /// The owners above the direct one, on the way up.
    above: Vec<Arc<str>>,
    workload: Workload,
    answer: Answer,
    #[serde(skip)]
    pods: u32,
    /// Terminations that wait for it.
    #[serde(skip)]
    held: u32,
    /// Since when without pods.
    idle: Option<Timestamp>,
}

/// The owners and workloads of the pods that are known.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    owners: Kept<Arc<str>, Owner>,
    workloads: HashMap<Workload, u32>,
    idle: VecDeque<(Timestamp, Arc<str>)>,
    /// The workloads of owners of owners (the CronJob of many Jobs), and when they were asked for last.
    climbed: Kept<Arc<str>, (Workload, Timestamp)>,
    /// Uids that were asked for and not answered yet, and the direct owners whose climbs wait there: many meet at one.
    in_flight: HashMap<Arc<str>, Vec<Arc<str>>>,
}

/// What is known of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// The top.
    Final(Workload),
    /// The last owner known; an answer is on its way.
    Waiting(Workload),
}

impl Resolved {
    /// The workload as far as it is known.
    pub fn workload(self) -> Workload {
        match self {
            Self::Final(workload) | Self::Waiting(workload) => workload,
        }
    }
}

impl Owners {
    /// Where the pod's workload comes from. A Job is asked about at once: it may be gone when its pod ends.
    pub fn of_pod(
        &mut self,
        pod: &Pod,
        namespace: &Arc<str>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> PodOwner {
        let Some(controller) = pod.metadata.controller() else {
            return PodOwner::Known(workload(namespace, "barepod", own_name(&pod.metadata)));
        };
        if let Some(known) = known_at_sight(pod, controller, namespace) {
            return PodOwner::Known(known);
        }
        let key = OwnerKey::new(namespace, controller);
        let id = id(&key.namespace, &key.uid);
        if !self.owners.contains_key(&id) {
            self.owners.insert(Arc::clone(&id), Owner::new(key));
        }
        let owner = PodOwner::Owned(id);
        if controller.kind == "Job" {
            self.ask(&owner, now, effects);
        }
        owner
    }

    /// The workload, asking for what is not known yet.
    pub fn resolve(&mut self, owner: &PodOwner, now: Timestamp, effects: &mut Vec<Effect>) -> Resolved {
        if let PodOwner::Owned(uid) = owner {
            match self.owners.get(uid).map(|owner| owner.answer) {
                Some(Answer::Final | Answer::Failed(_)) => effects.push(Effect::OwnerCached),
                Some(Answer::None | Answer::Asked) | None => {}
            }
        }
        self.ask(owner, now, effects);
        self.peek(owner)
    }

    /// Asks for what is not known yet.
    pub fn ask(&mut self, owner: &PodOwner, now: Timestamp, effects: &mut Vec<Effect>) {
        let PodOwner::Owned(uid) = owner else { return };
        let due = match self.owners.get(uid).map(|owner| owner.answer) {
            Some(Answer::None) => true,
            Some(Answer::Failed(retry)) => retry <= now,
            Some(Answer::Asked | Answer::Final) | None => false,
        };
        if due && let Some(owner) = self.owners.get_mut(uid) {
            // A failed climb goes on from where it failed; the answer known till then stays usable.
            if owner.answer == Answer::None {
                owner.answer = Answer::Asked;
            } else {
                owner.answer = Answer::Failed(now.plus_ms(RETRY_MS));
            }
            let before = owner.workload.clone();
            owner.go_on(&mut self.climbed, &mut self.in_flight, now, effects);
            let (after, pods) = (owner.workload.clone(), owner.pods);
            if before != after {
                self.move_pods(&before, &after, pods, effects);
            }
        }
    }

    /// The workload as far as it is known.
    pub fn peek(&self, owner: &PodOwner) -> Resolved {
        match owner {
            PodOwner::Known(workload) => Resolved::Final(workload.clone()),
            PodOwner::Owned(uid) => match self.owners.get(uid) {
                Some(owner) => match owner.answer {
                    Answer::Final | Answer::Failed(_) => Resolved::Final(owner.workload.clone()),
                    Answer::None | Answer::Asked => Resolved::Waiting(owner.workload.clone()),
                },
                None => Resolved::Final(workload(&"".into(), "", "")),
            },
        }
    }

    /// Takes in the answer to a look-up. Returns the ids of the pods' controllers that it was asked for.
    pub fn answer(
        &mut self,
        answer: &OwnerAnswer,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Vec<Arc<str>> {
        let mut answered = Vec::new();
        let mut moved = Vec::new();
        for direct in self.in_flight.remove(&id(&answer.namespace, &answer.uid)).unwrap_or_default() {
            let Some(owner) = self.owners.get_mut(&direct) else { continue };
            if owner.top.uid != answer.uid || owner.answer == Answer::Final {
                continue;
            }
            let before = owner.workload.clone();
            owner.climb(&answer.found, now);
            if owner.answer == Answer::Asked {
                owner.go_on(&mut self.climbed, &mut self.in_flight, now, effects);
            }
            if owner.answer == Answer::Final && self.climbed.len() < IDLE {
                for uid in &owner.above {
                    self.climbed.insert(id(&answer.namespace, uid), (owner.workload.clone(), now));
                }
            }
            moved.push((before, owner.workload.clone(), owner.pods));
            answered.push(direct);
        }
        for (before, after, pods) in moved {
            if before != after {
                self.move_pods(&before, &after, pods, effects);
            }
        }
        answered
    }

    /// No answer came in time: the last owner known is the workload.
    pub fn give_up(&mut self, owner: &PodOwner, now: Timestamp) {
        if let PodOwner::Owned(uid) = owner
            && let Some(owner) = self.owners.get_mut(uid)
            && owner.answer == Answer::Asked
        {
            owner.answer = Answer::Failed(now.plus_ms(RETRY_MS));
        }
    }

    /// A pod of this owner is known now.
    pub fn add_pod(&mut self, owner: &PodOwner, effects: &mut Vec<Effect>) {
        if let PodOwner::Owned(uid) = owner
            && let Some(owner) = self.owners.get_mut_unsaved(uid)
        {
            owner.pods += 1;
            if owner.idle.is_some()
                && let Some(owner) = self.owners.get_mut(uid)
            {
                owner.idle = None;
            }
        }
        let workload = self.peek(owner).workload();
        self.change(workload, 1, effects);
    }

    /// A pod of this owner is gone.
    pub fn remove_pod(&mut self, owner: &PodOwner, now: Timestamp, effects: &mut Vec<Effect>) {
        let workload = self.peek(owner).workload();
        self.change(workload, -1, effects);
        if let PodOwner::Owned(uid) = owner
            && let Some(owner) = self.owners.get_mut_unsaved(uid)
        {
            owner.pods = owner.pods.saturating_sub(1);
            if owner.pods == 0
                && let Some(owner) = self.owners.get_mut(uid)
            {
                owner.idle = Some(now);
                self.idle.push_back((now, Arc::clone(uid)));
            }
        }
    }

    /// The workload was counted on: tells how many pods it has.
    pub fn tell_pods(&self, workload: &Workload, effects: &mut Vec<Effect>) {
        let pods = self.workloads.get(workload).copied().unwrap_or(0);
        effects.push(Effect::WorkloadPods { workload: workload.clone(), pods });
    }

    /// A termination waits for this owner, which must not be forgotten meanwhile.
    pub fn hold(&mut self, owner: &PodOwner) {
        if let PodOwner::Owned(uid) = owner
            && let Some(owner) = self.owners.get_mut_unsaved(uid)
        {
            owner.held += 1;
        }
    }

    /// A termination that waited is counted.
    pub fn release(&mut self, owner: &PodOwner) {
        if let PodOwner::Owned(uid) = owner
            && let Some(owner) = self.owners.get_mut_unsaved(uid)
        {
            owner.held = owner.held.saturating_sub(1);
        }
    }

    /// Forgets owners whose pods are gone for long, or are too many.
    pub fn sweep(&mut self, now: Timestamp) {
        self.climbed.retain(|_, (_, asked)| now.since(*asked) < IDLE_MS);
        for _ in 0..self.idle.len() {
            let Some((since, uid)) = self.idle.front().cloned() else { return };
            if now.since(since) < IDLE_MS && self.idle.len() <= IDLE {
                return;
            }
            self.idle.pop_front();
            match self.owners.get(&uid) {
                Some(owner) if owner.idle != Some(since) => {}
                Some(owner) if owner.held > 0 => self.idle.push_back((since, uid)),
                Some(_) | None => drop(self.owners.remove(&uid)),
            }
        }
    }

    /// How many owners, workloads and owners of owners are kept.
    pub fn len(&self) -> usize {
        self.owners.len() + self.workloads.len() + self.climbed.len() + self.idle.len() + self.in_flight.len()
    }

    fn change(&mut self, workload: Workload, by: i32, effects: &mut Vec<Effect>) {
        if by == 0 {
            return;
        }
        let known = self.workloads.entry(workload.clone()).or_default();
        *known = known.saturating_add_signed(by);
        let pods = *known;
        if pods == 0 {
            self.workloads.remove(&workload);
        }
        effects.push(Effect::WorkloadPods { workload, pods });
    }

    fn move_pods(&mut self, from: &Workload, to: &Workload, pods: u32, effects: &mut Vec<Effect>) {
        let pods = i32::try_from(pods).unwrap_or(i32::MAX);
        self.change(from.clone(), -pods, effects);
        self.change(to.clone(), pods, effects);
    }
}

impl Owner {
    fn new(key: OwnerKey) -> Self {
        Self {
            workload: workload_of(&key, &key.name),
            direct: key.clone(),
            top: key,
            above: Vec::new(),
            answer: Answer::None,
            pods: 0,
            held: 0,
            idle: None,
        }
    }

    /// One level up, or the end of the climb.
    fn climb(&mut self, found: &OwnerFound, now: Timestamp) {
        match found {
            OwnerFound::Found(metadata) => match metadata.controller() {
                Some(parent) if self.above.len() < LEVELS && !self.has_passed(&parent.uid) => {
                    self.top = OwnerKey::new(&self.direct.namespace, parent);
                    self.above.push(Arc::clone(&self.top.uid));
                    self.workload = workload_of(&self.top, &parent.name);
                    self.answer = Answer::Asked;
                }
                Some(_) | None => {
                    self.workload = workload_of(&self.top, own_name(metadata));
                    self.answer = Answer::Final;
                }
            },
            OwnerFound::NotFound => {
                if let Some(cron_job) = cron_job_of(&self.top) {
                    self.workload = workload(&self.top.namespace, "cronjob", cron_job);
                }
                self.answer = Answer::Final;
            }
            OwnerFound::Unavailable => self.answer = Answer::Failed(now.plus_ms(RETRY_MS)),
        }
    }

    /// Owners that own each other end the climb.
    fn has_passed(&self, uid: &str) -> bool {
        &*self.direct.uid == uid || self.above.iter().any(|above| &**above == uid)
    }

    /// Asks for the owner that the climb has come to, unless another climb has found its top or is asking now.
    fn go_on(
        &mut self,
        climbed: &mut Kept<Arc<str>, (Workload, Timestamp)>,
        in_flight: &mut HashMap<Arc<str>, Vec<Arc<str>>>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let asked_for = id(&self.top.namespace, &self.top.uid);
        if let Some((workload, asked)) = climbed.get_mut(&asked_for) {
            *asked = now;
            self.workload = workload.clone();
            self.answer = Answer::Final;
            effects.push(Effect::OwnerCached);
            return;
        }
        let waiting = in_flight.entry(asked_for).or_default();
        if waiting.is_empty() {
            effects.push(Effect::LookUp(self.top.clone()));
        }
        let direct = id(&self.direct.namespace, &self.direct.uid);
        if !waiting.contains(&direct) {
            waiting.push(direct);
        }
    }
}
