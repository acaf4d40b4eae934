//! What bounds the series: eviction for room, expiry by age.

use std::ops::Bound;
use std::sync::Arc;

use super::saved::Values;
use super::{Counters, Series, Table, labels};
use crate::termination::Workload;
use crate::time::Timestamp;

impl Series {
    /// The workload was counted on now.
    pub(super) fn touch(&mut self, workload: &Workload, now: Timestamp) -> Arc<str> {
        let key: Arc<str> = labels::workload(workload).into();
        let group = self.groups.entry(Arc::clone(&key)).or_default();
        self.idle.remove(&(group.counted, Arc::clone(&key)));
        group.counted = now;
        group.active = group.active.max(now);
        if !group.has_pods() {
            self.idle.insert((now, Arc::clone(&key)));
        }
        self.note_group(&key);
        key
    }

    /// After a change: the gauge of pods comes with the first counter, and nothing stays of a workload that has
    /// neither series nor pods.
    pub(super) fn settle(&mut self, key: &Arc<str>) {
        let Some(group) = self.groups.get(key).copied() else { return };
        if group.counters > 0 && group.pods.is_some() && !group.shows_pods && self.make_room(key) {
            self.len += 1;
            if let Some(group) = self.groups.get_mut(key) {
                group.shows_pods = true;
            }
        }
        if group.counters == 0 && !group.has_pods() {
            self.idle.remove(&(group.counted, Arc::clone(key)));
            self.groups.remove(key);
            self.note_group(key);
        }
    }

    /// Room for one more series, if need be at the cost of other workloads that have no pods.
    pub(super) fn make_room(&mut self, of: &Arc<str>) -> bool {
        while self.len >= self.options.max_series {
            let Some(oldest) = self.idle.iter().map(|(_, key)| key).find(|key| *key != of).cloned() else {
                return false;
            };
            let before = self.len;
            self.remove(&oldest);
            self.evicted += before.saturating_sub(self.len) as u64;
        }
        true
    }

    /// Removes all series of a workload.
    fn remove(&mut self, key: &Arc<str>) {
        let Some(group) = self.groups.remove(key) else { return };
        self.note_group(key);
        self.note_range(key);
        self.idle.remove(&(group.counted, Arc::clone(key)));
        let gone: usize = remove_range(&mut self.containers, key).iter().map(Counters::len).sum();
        let gone = gone
            + remove_range(&mut self.last_terminations, key).len()
            + remove_range(&mut self.pod_failures, key).len()
            + usize::from(group.shows_pods);
        self.len = self.len.saturating_sub(gone);
    }

    /// All series of a workload or node are about to go.
    fn note_range(&mut self, identity: &str) {
        if self.unsaved.is_none() {
            return;
        }
        for key in keys(&self.containers, identity) {
            self.note(Values::Terminations, &key);
            self.note(Values::Restarts, &key);
        }
        for (values, gone) in [
            (Values::LastTerminations, keys(&self.last_terminations, identity)),
            (Values::PodFailures, keys(&self.pod_failures, identity)),
            (Values::Nodes, keys(&self.nodes, identity)),
        ] {
            for key in gone {
                self.note(values, &key);
            }
        }
    }

    /// Removes what has not been counted on, and has had no pods, for the time to live. Nodes have no pods here:
    /// their series go by the last count alone.
    pub fn expire(&mut self, now: Timestamp) {
        let expired = |active: Timestamp| now >= active.plus(self.options.series_ttl);
        let groups: Vec<Arc<str>> = self
            .idle
            .iter()
            .map(|(_, key)| key)
            .filter(|key| self.groups.get(*key).is_none_or(|group| expired(group.active)))
            .cloned()
            .collect();
        let nodes: Vec<Box<str>> =
            self.node_counted.iter().filter(|(_, at)| expired(**at)).map(|(node, _)| node.clone()).collect();
        for key in &groups {
            self.remove(key);
        }
        for node in &nodes {
            self.note_node(node);
            self.note_range(node);
            self.node_counted.remove(node);
            self.len = self.len.saturating_sub(remove_range(&mut self.nodes, node).len());
        }
    }
}

/// The entries whose labels begin with `identity` and go on.
pub(super) fn entries<'a, V>(
    table: &'a Table<V>,
    identity: &str,
) -> impl Iterator<Item = (&'a Box<str>, &'a V)> + use<'a, V> {
    let from: Box<str> = format!("{identity},").into();
    let range = table.range::<str, _>((Bound::Included(&*from), Bound::Unbounded));
    range.take_while(move |(key, _)| key.starts_with(&*from))
}

fn keys<V>(table: &Table<V>, identity: &str) -> Vec<Box<str>> {
    entries(table, identity).map(|(key, _)| key.clone()).collect()
}

/// Removes the entries whose labels begin with `identity` and go on.
fn remove_range<V>(table: &mut Table<V>, identity: &str) -> Vec<V> {
    keys(table, identity).iter().filter_map(|key| table.remove(key)).collect()
}
