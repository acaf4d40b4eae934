//! What is remembered of pods that are gone, and strings that many pods share.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::kept::Kept;
use super::ledger::hash;
use crate::termination::Workload;
use crate::time::Timestamp;

/// A late object of a deleted pod comes within seconds; the API server's watch cache spans minutes.
const REMEMBERED_MS: i64 = 10 * 60 * 1000;
/// Bounded: 50,000 pods in ten minutes are 83 a second.
const REMEMBERED: usize = 50_000;

/// Identities of pods that are gone: they never count again.
#[derive(Clone, Debug, Default)]
pub struct Gone {
    pub(super) identities: Kept<u64, Timestamp>,
    order: VecDeque<(Timestamp, u64)>,
}

impl Gone {
    /// This pod is gone.
    pub fn remember(&mut self, identity: &str, now: Timestamp) {
        if self.order.len() >= REMEMBERED {
            self.forget_first();
        }
        let hash = hash(identity);
        if self.identities.insert(hash, now).is_none() {
            self.order.push_back((now, hash));
        }
    }

    /// Whether this pod is known to be gone.
    pub fn contains(&self, identity: &str) -> bool {
        self.identities.contains_key(&hash(identity))
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Goes on from the identities that were saved.
    pub fn resume(&mut self, now: Timestamp) {
        // The clock of the process before may have been ahead.
        let mut order: Vec<_> = self.identities.iter().map(|(hash, at)| ((*at).min(now), *hash)).collect();
        order.sort_unstable();
        self.order = order.into();
    }

    /// Forgets those that are gone for long.
    pub fn sweep(&mut self, now: Timestamp) {
        while self.order.front().is_some_and(|(at, _)| now.since(*at) >= REMEMBERED_MS) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, hash)) = self.order.pop_front() {
            self.identities.remove(&hash);
        }
    }
}

/// One copy of each name.
#[derive(Debug, Default)]
pub struct Names {
    names: HashSet<Arc<str>>,
}

impl Names {
    /// The shared copy of this name.
    pub fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(shared) = self.names.get(name) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = name.into();
        self.names.insert(Arc::clone(&shared));
        shared
    }

    /// Makes a workload use the shared copies.
    pub fn share(&mut self, workload: &mut Workload) {
        for name in [&mut workload.namespace, &mut workload.workload_type, &mut workload.name] {
            *name = self.get(name);
        }
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Drops names that nobody uses.
    pub fn sweep(&mut self) {
        self.names.retain(|name| Arc::strong_count(name) > 1);
    }
}
