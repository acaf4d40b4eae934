//! The owners' part of the saved state.

use std::sync::Arc;

use super::{Answer, Owner, Owners, PodOwner, RETRY_MS};
use crate::core::Effect;
use crate::core::memory::Names;
use crate::rows::{Batch, Row, Table, Unreadable};
use crate::termination::Workload;
use crate::time::Timestamp;

impl Owners {
    /// From now on, what changes is noted.
    pub fn track(&mut self) {
        self.owners.track();
        self.climbed.track();
    }

    /// Everything passes for changed.
    pub fn note_all(&mut self) {
        self.owners.note_all();
        self.climbed.note_all();
    }

    /// Puts what changed into the batch.
    pub fn save(&mut self, batch: &mut Batch) {
        self.owners.save(Table::Owners, batch);
        self.climbed.save(Table::Climbed, batch);
    }

    /// Takes in a row as it was saved.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn restore(&mut self, row: &Row<'_>, names: &mut Names) -> Result<(), Unreadable> {
        if row.table == Table::Climbed {
            let (uid, (mut workload, asked)) = row.read::<Arc<str>, (Workload, Timestamp)>()?;
            names.share(&mut workload);
            self.climbed.restore(uid, (workload, asked));
        } else {
            let (uid, mut owner) = row.read::<Arc<str>, Owner>()?;
            names.share(&mut owner.workload);
            self.owners.restore(names.get(&uid), owner);
        }
        Ok(())
    }

    /// Goes on from the rows taken in: what was asked for is asked for again, at once where the answer may be gone
    /// soon. The pods follow with [`Owners::add_known_pod`].
    pub fn resume(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        for owner in self.owners.values_mut_unsaved().filter(|owner| owner.answer == Answer::Asked) {
            owner.answer = Answer::None;
            if &*owner.top.kind == "Job" {
                owner.answer = Answer::Asked;
                owner.go_on(&mut self.climbed, &mut self.in_flight, now, effects);
            }
        }
        // The clock of the process before may have been ahead.
        for owner in self.owners.values_mut_unsaved() {
            owner.idle = owner.idle.map(|since| since.min(now));
            if let Answer::Failed(retry) = owner.answer {
                owner.answer = Answer::Failed(retry.min(now.plus_ms(RETRY_MS)));
            }
        }
        for (_, asked) in self.climbed.values_mut_unsaved() {
            *asked = (*asked).min(now);
        }
        let mut idle: Vec<_> =
            self.owners.iter().filter_map(|(uid, owner)| Some((owner.idle?, Arc::clone(uid)))).collect();
        idle.sort_unstable();
        self.idle = idle.into();
    }

    /// A pod of this owner was known when the state was saved.
    pub fn add_known_pod(&mut self, owner: &PodOwner) {
        if let PodOwner::Owned(uid) = owner
            && let Some(owner) = self.owners.get_mut_unsaved(uid)
        {
            owner.pods += 1;
        }
        let pods = self.workloads.entry(self.peek(owner).workload()).or_default();
        *pods = pods.saturating_add(1);
    }

    /// All known pods are added: owners without any are idle, and of every workload its pods are told.
    pub fn all_known(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let left = self.owners.iter().filter(|(_, owner)| owner.pods == 0 && owner.idle.is_none());
        for uid in left.map(|(uid, _)| Arc::clone(uid)).collect::<Vec<_>>() {
            if let Some(owner) = self.owners.get_mut(&uid) {
                owner.idle = Some(now);
            }
            self.idle.push_back((now, uid));
        }
        for (workload, pods) in &self.workloads {
            effects.push(Effect::WorkloadPods { workload: workload.clone(), pods: *pods });
        }
    }

    /// The namespace of this owner's pods.
    pub fn namespace<'a>(&'a self, owner: &'a PodOwner) -> &'a str {
        match owner {
            PodOwner::Known(workload) => &workload.namespace,
            PodOwner::Owned(uid) => self.owners.get(uid).map_or("", |owner| &owner.direct.namespace),
        }
    }
}
