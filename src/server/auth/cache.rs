//! What was found out about credentials, without the credentials.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::hmac;
use ring::rand::SystemRandom;

/// Credentials as nobody can read them: a hash with a key that only this process has.
pub(super) type Mark = [u8; 32];

/// Makes marks.
pub(super) struct Marker(hmac::Key);

impl Marker {
    /// With a key of its own; `None` where the system has no randomness.
    pub(super) fn new() -> Option<Self> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok().map(Self)
    }

    /// The mark of some parts. No two lists of parts have the same.
    pub(super) fn mark(&self, parts: &[&[u8]]) -> Mark {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        let mut mark = Mark::default();
        mark.copy_from_slice(context.sign().as_ref().get(..32).unwrap_or(&[0; 32]));
        mark
    }
}

/// A map that forgets what was put in first when it is full.
pub(super) struct Cache<K, V> {
    most: usize,
    inner: Mutex<Inner<K, V>>,
}

struct Inner<K, V> {
    put: u64,
    entries: HashMap<K, (u64, V)>,
}

impl<K: Copy + Eq + Hash, V: Clone> Cache<K, V> {
    /// For at most `most` entries.
    pub(super) fn new(most: usize) -> Self {
        Self { most, inner: Mutex::new(Inner { put: 0, entries: HashMap::new() }) }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.lock().entries.get(key).map(|(_, value)| value.clone())
    }

    pub(super) fn put(&self, key: K, value: V) {
        let mut inner = self.lock();
        if inner.entries.len() >= self.most && !inner.entries.contains_key(&key) {
            // A search through all, but only when full, and there are few.
            let oldest = inner.entries.iter().min_by_key(|(_, (put, _))| *put).map(|(key, _)| *key);
            oldest.map(|oldest| inner.entries.remove(&oldest));
        }
        inner.put += 1;
        let put = inner.put;
        inner.entries.insert(key, (put, value));
    }

    pub(super) fn remove(&self, key: &K) {
        self.lock().entries.remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K, V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_differ_by_part_and_by_process() {
        let marker = Marker::new().unwrap();
        let marks =
            [&[&b"ab"[..], b"c"][..], &[b"a", b"bc"], &[b"abc"], &[b"abc", b""]].map(|p| marker.mark(p));
        let distinct: std::collections::HashSet<_> = marks.iter().collect();
        assert_eq!(distinct.len(), marks.len());
        assert_eq!(marker.mark(&[b"abc"]), marks[2]);
        assert_ne!(Marker::new().unwrap().mark(&[b"abc"]), marks[2]);
    }

    #[test]
    fn a_full_cache_forgets_what_came_first() {
        let cache = Cache::new(2);
        for (key, value) in [(1, "a"), (2, "b"), (1, "c"), (3, "d")] {
            cache.put(key, value);
        }
        assert_eq!([cache.get(&1), cache.get(&2), cache.get(&3)], [Some("c"), None, Some("d")]);
    }
}
