//! A map that knows which of its rows changed since they were saved. Nothing is noted, and it costs nothing, where
//! nothing is saved.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet, hash_map};
use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::rows::{Batch, Row, Table, Unreadable};

/// Rows of one table of the saved state.
#[derive(Clone, Debug)]
pub struct Kept<K, V> {
    rows: HashMap<K, V>,
    /// Keys of the rows that changed or went; `None` where nothing is saved.
    changed: Option<HashSet<K>>,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { rows: HashMap::new(), changed: None }
    }
}

impl<K: Clone + Eq + Hash, V> Kept<K, V> {
    /// From now on, changes are noted.
    pub fn track(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// Every row passes for changed.
    pub fn note_all(&mut self) {
        if let Some(changed) = &mut self.changed {
            changed.extend(self.rows.keys().cloned());
        }
    }

    /// Whether changes are noted.
    pub fn is_tracked(&self) -> bool {
        self.changed.is_some()
    }

    /// A row as it was saved: no change.
    pub fn restore(&mut self, key: K, value: V) {
        self.rows.insert(key, value);
    }

    /// The row of this key.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.rows.get(key)
    }

    /// The row of this key, to change.
    pub fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.note(key);
        self.rows.get_mut(key)
    }

    /// The row of this key, to change in what is not saved of it.
    pub fn get_mut_unsaved<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.rows.get_mut(key)
    }

    /// The row of this key, to change; made if it is not there.
    pub fn get_or_insert_with(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        if let Some(changed) = &mut self.changed {
            changed.insert(key.clone());
        }
        self.rows.entry(key.clone()).or_insert_with(make)
    }

    /// Whether there is such a row.
    pub fn contains_key<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.rows.contains_key(key)
    }

    /// Sets a row.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(changed) = &mut self.changed {
            changed.insert(key.clone());
        }
        self.rows.insert(key, value)
    }

    /// Takes a row out.
    pub fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.note(key);
        self.rows.remove(key)
    }

    /// Takes a row out to work on it; [`Kept::put_back`] follows.
    pub fn take_out<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.rows.remove(key)
    }

    /// Puts back what was taken out; `changed` if what is saved of it is another.
    pub fn put_back(&mut self, key: K, value: V, changed: bool) {
        if changed {
            self.insert(key, value);
        } else {
            self.rows.insert(key, value);
        }
    }

    /// Drops the rows for which this is false.
    pub fn retain(&mut self, mut stays: impl FnMut(&K, &V) -> bool) {
        let changed = &mut self.changed;
        self.rows.retain(|key, value| {
            let stays = stays(key, value);
            if let (false, Some(changed)) = (stays, changed.as_mut()) {
                changed.insert(key.clone());
            }
            stays
        });
    }

    /// All rows, in no order.
    pub fn iter(&self) -> hash_map::Iter<'_, K, V> {
        self.rows.iter()
    }

    /// All rows, in no order, to change in what is not saved of them, or before anything is.
    pub fn values_mut_unsaved(&mut self) -> impl Iterator<Item = &mut V> {
        self.rows.values_mut()
    }

    /// All values, in no order.
    pub fn values(&self) -> hash_map::Values<'_, K, V> {
        self.rows.values()
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn note<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some(changed) = &mut self.changed
            && let Some((key, _)) = self.rows.get_key_value(key)
        {
            changed.insert(key.clone());
        }
    }
}

impl<K: Clone + Eq + Hash + DeserializeOwned, V: DeserializeOwned> Kept<K, V> {
    /// Takes in a row as it was saved.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn restore_row(&mut self, row: &Row<'_>) -> Result<(), Unreadable> {
        let (key, value) = row.read()?;
        self.restore(key, value);
        Ok(())
    }
}

impl<K: Clone + Eq + Hash + Serialize, V: Serialize> Kept<K, V> {
    /// Puts what changed into the batch; from here on it passes for saved.
    pub fn save(&mut self, table: Table, batch: &mut Batch) {
        for key in self.changed.iter_mut().flat_map(HashSet::drain) {
            batch.set(table, &key, self.rows.get(&key));
        }
    }
}
