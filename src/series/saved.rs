//! The series' part of the saved state. Nothing is shown that is not on disk: what changed since the last save shows
//! what it was then, so a counter that was read once never reads less after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use super::bounds::entries;
use super::{Counters, Group, Sample, Series, labels};
use crate::rows::{Batch, Row, Table, Unreadable};
use crate::time::Timestamp;

/// The tables of values, in the order of [`Unsaved::held`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    Terminations,
    Restarts,
    PodFailures,
    Nodes,
    LastTerminations,
}

impl Values {
    const ALL: [Self; 5] =
        [Self::Terminations, Self::Restarts, Self::PodFailures, Self::Nodes, Self::LastTerminations];

    const fn table(self) -> Table {
        match self {
            Self::Terminations => Table::Terminations,
            Self::Restarts => Table::Restarts,
            Self::PodFailures => Table::PodFailures,
            Self::Nodes => Table::NodeTerminations,
            Self::LastTerminations => Table::LastTerminations,
        }
    }
}

/// A series that changed since it was saved.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// What is on disk, and shown; `None` for a series that is not there yet.
    shown: Option<i64>,
    /// What is on its way to the disk.
    going: Going,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    Nothing,
    Value(Option<i64>),
}

/// What changed since it was saved.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    held: [BTreeMap<Box<str>, Held>; 5],
    groups: BTreeSet<Arc<str>>,
    nodes: BTreeSet<Box<str>>,
}

impl Series {
    /// From now on, changes are noted, and not shown until they are saved.
    pub fn track(&mut self) {
        self.unsaved.get_or_insert_default();
    }

    /// A series is about to change or to go.
    pub(super) fn note(&mut self, values: Values, key: &str) {
        if self.unsaved.is_none() {
            return;
        }
        let shown = self.value(values, key);
        if let Some(unsaved) = &mut self.unsaved
            && let Some(held) = unsaved.held.get_mut(values as usize)
            && !held.contains_key(key)
        {
            held.insert(key.into(), Held { shown, going: Going::Nothing });
        }
    }

    /// What all series of a workload have in common changed.
    pub(super) fn note_group(&mut self, key: &Arc<str>) {
        if let Some(unsaved) = &mut self.unsaved {
            unsaved.groups.insert(Arc::clone(key));
        }
    }

    /// A node was counted on, or goes.
    pub(super) fn note_node(&mut self, node: &str) {
        if let Some(unsaved) = &mut self.unsaved {
            unsaved.nodes.insert(node.into());
        }
    }

    /// The value to show of a series with this key and value.
    pub(super) fn on_disk(&self, values: Values, key: &str, value: i64) -> Option<i64> {
        let held = self.unsaved.as_ref().and_then(|unsaved| unsaved.held.get(values as usize)?.get(key));
        match held {
            None => Some(value),
            Some(held) => held.shown,
        }
    }

    fn value(&self, values: Values, key: &str) -> Option<i64> {
        let counters = || self.containers.get(key);
        match values {
            Values::Terminations => counters()?.terminations.as_ref().map(Sample::signed),
            Values::Restarts => counters()?.restarts.as_ref().map(Sample::signed),
            Values::PodFailures => self.pod_failures.get(key).map(Sample::signed),
            Values::Nodes => self.nodes.get(key).map(Sample::signed),
            Values::LastTerminations => self.last_terminations.get(key).map(|at| at.0),
        }
    }

    fn sample_mut(&mut self, values: Values, key: &str) -> Option<&mut Sample> {
        match values {
            Values::Terminations => self.containers.get_mut(key)?.terminations.as_mut(),
            Values::Restarts => self.containers.get_mut(key)?.restarts.as_mut(),
            Values::PodFailures => self.pod_failures.get_mut(key),
            Values::Nodes => self.nodes.get_mut(key),
            Values::LastTerminations => None,
        }
    }

    /// Puts what changed into the batch. [`Series::saved`] or [`Series::not_saved`] follows.
    pub fn save(&mut self, batch: &mut Batch) {
        let Some(mut unsaved) = self.unsaved.take() else { return };
        for (values, held) in Values::ALL.into_iter().zip(&mut unsaved.held) {
            for (key, held) in held.iter_mut() {
                let value = self.value(values, key);
                if held.going != Going::Value(value) {
                    held.going = Going::Value(value);
                    batch.set(values.table(), &**key, value.as_ref());
                }
            }
        }
        for key in mem::take(&mut unsaved.groups) {
            let group = self.groups.get(&key).filter(|group| group.counters > 0);
            let times = group.map(|group| (group.active, group.counted));
            batch.set(Table::Groups, &*key, times.as_ref());
        }
        for node in mem::take(&mut unsaved.nodes) {
            batch.set(Table::NodeCounted, &*node, self.node_counted.get(&node));
        }
        self.unsaved = Some(unsaved);
    }

    /// The batch is on disk: what it holds is shown from now on.
    pub fn saved(&mut self, now: Timestamp) {
        let Some(mut unsaved) = self.unsaved.take() else { return };
        for (values, held) in Values::ALL.into_iter().zip(&mut unsaved.held) {
            held.retain(|key, held| {
                let Going::Value(saved) = held.going else { return true };
                if held.shown.is_none()
                    && let Some(sample) = self.sample_mut(values, key)
                {
                    // A series is born when it is first shown.
                    sample.born = now;
                }
                (held.shown, held.going) = (saved, Going::Nothing);
                saved != self.value(values, key)
            });
        }
        self.unsaved = Some(unsaved);
    }

    /// The batch could not be written: it, or a later one that holds the same, is still to come.
    pub fn not_saved(&mut self) {
        if let Some(unsaved) = &mut self.unsaved {
            for held in unsaved.held.iter_mut().flat_map(BTreeMap::values_mut) {
                held.going = Going::Nothing;
            }
        }
    }

    /// Everything passes for unsaved, though what was shown stays shown: the file is lost.
    pub fn note_all(&mut self) {
        self.not_saved();
        for (key, counters) in &self.containers.iter().map(|(key, c)| (key.clone(), *c)).collect::<Vec<_>>() {
            for (values, sample) in
                [(Values::Terminations, counters.terminations), (Values::Restarts, counters.restarts)]
            {
                if sample.is_some() {
                    self.note(values, key);
                }
            }
        }
        for (values, keys) in [
            (Values::PodFailures, self.pod_failures.keys().cloned().collect::<Vec<_>>()),
            (Values::Nodes, self.nodes.keys().cloned().collect()),
            (Values::LastTerminations, self.last_terminations.keys().cloned().collect()),
        ] {
            for key in keys {
                self.note(values, &key);
            }
        }
        for key in self.groups.keys().cloned().collect::<Vec<_>>() {
            self.note_group(&key);
        }
        for node in self.node_counted.keys().cloned().collect::<Vec<_>>() {
            self.note_node(&node);
        }
    }

    /// Takes in a row as it was saved; [`Series::resume`] follows the last one.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn restore(&mut self, row: &Row<'_>) -> Result<(), Unreadable> {
        if row.table == Table::Groups {
            let (key, (active, counted)) = row.read::<Arc<str>, (Timestamp, Timestamp)>()?;
            self.groups.insert(key, Group { pods: Some(0), active, counted, ..Group::default() });
            return Ok(());
        }
        let (key, value) = row.read::<Box<str>, i64>()?;
        let sample = Sample::restored(value);
        match row.table {
            Table::Terminations => self.containers.entry(key).or_default().terminations = Some(sample),
            Table::Restarts => self.containers.entry(key).or_default().restarts = Some(sample),
            Table::PodFailures => drop(self.pod_failures.insert(key, sample)),
            Table::NodeTerminations => drop(self.nodes.insert(key, sample)),
            Table::LastTerminations => drop(self.last_terminations.insert(key, Timestamp(value))),
            Table::NodeCounted => drop(self.node_counted.insert(key, Timestamp(value))),
            _ => return Err(Unreadable),
        }
        Ok(())
    }

    /// Goes on from the rows taken in. How many pods each workload has is told next.
    pub fn resume(&mut self, now: Timestamp) {
        // The clock of the process before may have been ahead.
        for counted in self.node_counted.values_mut() {
            *counted = (*counted).min(now);
        }
        let overflow = self.overflow_keys();
        let is_overflow = |key: &str| overflow.iter().any(|other| other == key);
        let all = self.containers.values().map(Counters::len).sum::<usize>()
            + self.pod_failures.len()
            + self.nodes.len()
            + self.last_terminations.len();
        self.overflow_len =
            self.containers.iter().filter(|(key, _)| is_overflow(key)).map(|(_, c)| c.len()).sum::<usize>()
                + self.pod_failures.keys().chain(self.nodes.keys()).filter(|key| is_overflow(key)).count();
        self.len = all - self.overflow_len;
        for (key, group) in &mut self.groups {
            let containers = entries(&self.containers, key).map(|(_, counters)| counters.len());
            group.counters = containers.sum::<usize>() + entries(&self.pod_failures, key).count();
            group.shows_pods = group.counters > 0;
            (group.active, group.counted) = (group.active.min(now), group.counted.min(now));
            self.len += usize::from(group.shows_pods);
            self.idle.insert((group.counted, Arc::clone(key)));
        }
    }

    /// Reading begins now: the restored series show what they were restored with for a while from here on.
    pub fn open(&mut self, now: Timestamp) {
        let counters = self.containers.values_mut().flat_map(|c| [&mut c.terminations, &mut c.restarts]);
        let others = self.pod_failures.values_mut().chain(self.nodes.values_mut());
        for sample in counters.flatten().chain(others) {
            sample.born = now;
        }
    }

    fn overflow_keys(&self) -> [String; 3] {
        [
            labels::overflow(&super::CONTAINER_LABELS, &self.extra_names),
            labels::overflow(&super::FAILURE_LABELS, &self.extra_names),
            labels::overflow(&super::NODE_LABELS, &[]),
        ]
    }
}
