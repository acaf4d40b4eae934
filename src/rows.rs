//! The form in which everything that must outlive the process is saved: rows of keys and values, so that a change
//! costs as much as what changed. The core, the series and the board write and read rows; the store keeps them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Which collection a row belongs to. The numbers are part of the saved form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// The core's own few words.
    Core = 1,
    /// Pods and their accounts, by identity.
    Pods = 2,
    /// Identities of pods that are gone, by hash.
    Gone = 3,
    /// Owners of pods, by uid.
    Owners = 4,
    /// Workloads of owners of owners, by uid.
    Climbed = 5,
    /// What events told of pods, by uid.
    Evidence = 6,
    /// What events told of nodes, by name.
    Nodes = 7,
    /// Probe kills that an event confirmed, by container of a workload.
    History = 8,
    /// Ends that wait, by number.
    Pending = 9,
    /// Counters of terminations, by labels.
    Terminations = 20,
    /// Counters of restarts, by labels.
    Restarts = 21,
    /// Counters of failed pods, by labels.
    PodFailures = 22,
    /// Counters of terminations on nodes, by labels.
    NodeTerminations = 23,
    /// Times of the last terminations, by labels.
    LastTerminations = 24,
    /// What the series of a workload have in common, by labels.
    Groups = 25,
    /// The last count on each node, by label.
    NodeCounted = 26,
    /// The last terminations, by number.
    Board = 30,
}

impl Table {
    const ALL: [Self; 17] = [
        Self::Core,
        Self::Pods,
        Self::Gone,
        Self::Owners,
        Self::Climbed,
        Self::Evidence,
        Self::Nodes,
        Self::History,
        Self::Pending,
        Self::Terminations,
        Self::Restarts,
        Self::PodFailures,
        Self::NodeTerminations,
        Self::LastTerminations,
        Self::Groups,
        Self::NodeCounted,
        Self::Board,
    ];
}

/// A row that this version can't read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row of the saved state can't be read")]
pub struct Unreadable;

/// A row as it was saved.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Of which collection.
    pub table: Table,
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> Row<'a> {
    /// A row from its saved key (with the table in front) and value.
    ///
    /// # Errors
    /// If it belongs to no known table.
    pub fn new(key: &'a [u8], value: &'a [u8]) -> Result<Self, Unreadable> {
        let (number, key) = key.split_first().ok_or(Unreadable)?;
        let table = Table::ALL.into_iter().find(|table| *table as u8 == *number).ok_or(Unreadable)?;
        Ok(Self { table, key, value })
    }

    /// Key and value.
    ///
    /// # Errors
    /// If either is not what it should be.
    pub fn read<K: DeserializeOwned, V: DeserializeOwned>(&self) -> Result<(K, V), Unreadable> {
        Ok((whole(self.key)?, whole(self.value)?))
    }
}

fn whole<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(Unreadable),
    }
}

/// Changed rows that go to disk together, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Batch {
    /// Sets a row, or removes it.
    pub fn set<K: Serialize + ?Sized, V: Serialize>(&mut self, table: Table, key: &K, value: Option<&V>) {
        let key = postcard::to_extend(key, vec![table as u8]);
        let value = value.map(postcard::to_allocvec).transpose();
        // Neither can fail: memory grows, and all types know their lengths.
        if let (Ok(key), Ok(value)) = (key, value) {
            self.rows.insert(key, value);
        }
    }

    /// Adds what changed since; a later row replaces an earlier one.
    pub fn extend(&mut self, later: Self) {
        if self.rows.is_empty() {
            *self = later;
        } else {
            self.rows.extend(later.rows);
        }
    }

    /// Keys (with the table in front) and values; no value where the row goes.
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.rows.iter().map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// How many rows it changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// What serialises to these bytes, for comparing two values by what would be saved of them.
pub fn fingerprint<V: Serialize>(value: &V) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    if let Ok(bytes) = postcard::to_allocvec(value) {
        hasher.write(&bytes);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_as_it_was_set_and_nonsense_is_unreadable() {
        let mut batch = Batch::default();
        batch.set(Table::Gone, &7_u64, Some(&"seven"));
        batch.set::<u64, ()>(Table::Gone, &8, None);
        let rows: Vec<_> = batch.rows().collect();
        assert_eq!(rows.len(), 2);
        let row = Row::new(rows[0].0, rows[0].1.unwrap()).unwrap();
        assert_eq!((row.table, row.read::<u64, String>()), (Table::Gone, Ok((7, "seven".to_owned()))));
        assert_eq!(row.read::<u64, u8>(), Err(Unreadable), "more bytes than the value has");
        assert_eq!(row.read::<u64, (String, String)>(), Err(Unreadable), "fewer bytes than the value has");
        assert_eq!(rows[1].1, None);
        assert!(Row::new(&[99, 1], &[]).is_err(), "an unknown table");
        assert!(Row::new(&[], &[]).is_err(), "no key");
    }

    #[test]
    fn a_later_batch_wins() {
        let (mut first, mut second) = (Batch::default(), Batch::default());
        first.set(Table::Gone, &1_u64, Some(&1_u8));
        first.set(Table::Gone, &2_u64, Some(&1_u8));
        second.set::<u64, u8>(Table::Gone, &1, None);
        first.extend(second);
        assert_eq!(first.rows().filter(|(_, value)| value.is_none()).count(), 1);
        assert_eq!(first.len(), 2);
    }
}
