//! The core's part of the saved state: rows out, rows in, and what must be put right after a time away.

use std::sync::Arc;

use super::memory::Names;
use super::pods::KnownPod;
use super::state::{ScopeState, State};
use super::workload::PodOwner;
use super::{Effect, Scope};
use crate::rows::{Batch, Row, Table, Unreadable};
use crate::time::Timestamp;

/// The key of the only row of its table.
const ONLY: u8 = 0;

impl State {
    /// From now on, what changes is noted for [`State::save`].
    pub fn track(&mut self) {
        self.pods.track();
        self.gone.identities.track();
        self.owners.track();
        self.evidence.track();
        self.history.containers.track();
        self.pending.items.track();
    }

    /// Whether what changes is noted.
    #[must_use]
    pub fn is_tracked(&self) -> bool {
        self.pods.is_tracked()
    }

    /// Puts what changed since the last call into the batch.
    pub fn save(&mut self, batch: &mut Batch) {
        self.pods.save(Table::Pods, batch);
        self.gone.identities.save(Table::Gone, batch);
        self.owners.save(batch);
        self.evidence.save(batch);
        self.history.containers.save(Table::History, batch);
        self.pending.items.save(Table::Pending, batch);
        if !batch.is_empty() {
            batch.set(Table::Core, &ONLY, Some(&(self.input, self.pending.next_number())));
        }
    }

    /// All of it passes for changed: the file is lost.
    pub fn note_all(&mut self) {
        self.pods.note_all();
        self.gone.identities.note_all();
        self.owners.note_all();
        self.evidence.note_all();
        self.history.containers.note_all();
        self.pending.items.note_all();
    }

    /// Takes in a row as it was saved; [`State::resume`] follows the last one.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn restore(&mut self, row: &Row<'_>) -> Result<(), Unreadable> {
        match row.table {
            Table::Core => {
                let (_, (input, next)) = row.read::<u8, (u64, u64)>()?;
                self.input = input;
                self.pending.set_next_number(next);
            }
            Table::Pods => {
                let (identity, mut known) = row.read::<Arc<str>, KnownPod>()?;
                known.share(&mut self.names);
                self.pods.restore(self.names.get(&identity), known);
            }
            Table::Gone => self.gone.identities.restore_row(row)?,
            Table::Owners | Table::Climbed => self.owners.restore(row, &mut self.names)?,
            Table::Evidence | Table::Nodes => self.evidence.restore(row)?,
            Table::History => self.history.containers.restore_row(row)?,
            Table::Pending => self.pending.items.restore_row(row)?,
            _ => return Err(Unreadable),
        }
        Ok(())
    }

    /// Goes on from the rows taken in. `scope_of` tells which list shows the pods of a namespace, if any does, and
    /// `known` for each list whether all its namespaces were seen before: pods that are new in the first list of
    /// such a one came while nobody looked, and count from zero; else they are a baseline.
    pub fn resume(
        &mut self,
        scope_of: impl Fn(&str) -> Option<Scope>,
        known: &[bool],
        now: Timestamp,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (scope, known) in self.scopes.iter_mut().zip(known) {
            *scope = ScopeState { listed: *known, ..ScopeState::default() };
        }
        let owners = &self.owners;
        self.pods.retain(|_, known| scope_of(owners.namespace(&known.owner)).is_some());
        for known in self.pods.values_mut_unsaved() {
            known.scope = scope_of(owners.namespace(&known.owner)).unwrap_or(Scope(0));
        }
        self.absent = self.pods.values().filter(|known| known.absent_since.is_some()).count();
        self.owners.resume(now, &mut effects);
        for known in self.pods.values().filter(|known| known.absent_since.is_none()) {
            self.owners.add_known_pod(&known.owner);
        }
        self.owners.all_known(now, &mut effects);
        self.gone.resume(now);
        self.evidence.resume(now);
        for owner in self.pending.resume(now) {
            self.owners.hold(&owner);
            self.owners.ask(&owner, now, &mut effects);
        }
        self.swept = now;
        effects
    }

    /// Whether nothing may be decided for want of time: what a restart interrupted waits for the first list, and from
    /// then on as long as anything.
    pub(super) fn is_catching_up(&self) -> bool {
        self.is_tracked() && !self.has_listed()
    }

    /// Whether the first list of every scope is in, so that what is counted is the present.
    #[must_use]
    pub fn has_listed(&self) -> bool {
        self.scopes.iter().all(|scope| scope.complete)
    }
}

impl KnownPod {
    /// Names that many pods have are kept once.
    fn share(&mut self, names: &mut Names) {
        for container in &mut self.containers {
            container.name = names.get(&container.name);
        }
        match &mut self.owner {
            PodOwner::Known(workload) => names.share(workload),
            PodOwner::Owned(uid) => *uid = names.get(uid),
        }
    }
}
