//! The ledger once more, the slow and plain way: an oracle for recordings and random sequences. It reads the
//! API's JSON itself and forgets nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

type Key = (String, String);

/// namespace, pod, container, exit code, reason.
pub type Counted = (String, String, String, String, String);

#[derive(Default)]
pub struct Reference {
    accounted: BTreeMap<Key, i64>,
    attempts: BTreeMap<Key, BTreeMap<String, i64>>,
    last_id: BTreeMap<Key, String>,
    seen: BTreeMap<Key, BTreeSet<String>>,
    ran: BTreeSet<Key>,
    pub counts: BTreeMap<Counted, u64>,
    /// What is accounted for without being counted.
    pub baseline: BTreeMap<Key, i64>,
}

fn text(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn id_of(record: Option<&Value>) -> String {
    record.map(|record| text(record, "/containerID")).unwrap_or_default()
}

impl Reference {
    pub fn observe(&mut self, pod: &Value, baseline: bool) {
        let identity = match pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror") {
            Some(mirror) => format!("{mirror}@{}", text(pod, "/spec/nodeName")),
            None => text(pod, "/metadata/uid"),
        };
        let mirror = identity.contains('@');
        for group in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
            let statuses = pod.pointer(&format!("/status/{group}")).and_then(Value::as_array);
            for status in statuses.into_iter().flatten() {
                self.container(pod, &identity, status, baseline, mirror);
            }
        }
    }

    fn container(&mut self, pod: &Value, identity: &str, status: &Value, baseline: bool, mirror: bool) {
        let key = (identity.to_owned(), text(status, "/name"));
        let id = text(status, "/containerID");
        let restarts = status.pointer("/restartCount").and_then(Value::as_i64).unwrap_or(0);
        let state = status.pointer("/state/terminated");
        let last = status.pointer("/lastState/terminated");
        let waiting = status.pointer("/state/waiting").is_some();
        let used_to_run = |r: &Value| text(r, "/message").contains("used to be Running");
        if (!id.is_empty() && !waiting)
            || last.is_some_and(|r| !id_of(Some(r)).is_empty() || used_to_run(r))
            || restarts > 0
        {
            self.ran.insert(key.clone());
        }
        let made_up = |record: Option<&Value>| record.is_some() && id_of(record).is_empty();
        let ran = self.ran.contains(&key);
        if made_up(state) && !ran {
            return;
        }
        let fresh = !self.accounted.contains_key(&key);
        let accounted = self.accounted.get(&key).copied().unwrap_or(0);
        let old = self.last_id.get(&key).cloned().unwrap_or_default();
        let attempts = self.attempts.entry(key.clone()).or_default();
        let after_old = (!old.is_empty() && old != id && ran).then(|| attempts[&old] + 1);
        if !id.is_empty() && !attempts.contains_key(&id) {
            // Also above the attempt that the old id was: a new id never is an attempt that has ended.
            let least = if old.is_empty() { 0 } else { accounted.max(after_old.unwrap_or(0)) };
            attempts.insert(id.clone(), restarts.max(least));
        }
        let last_id = id_of(last);
        let attempt = if !id.is_empty() {
            attempts[&id]
        } else if !last_id.is_empty() {
            *attempts.entry(last_id.clone()).or_insert(restarts)
        } else {
            attempts.get(&old).copied().unwrap_or(restarts)
        };
        let ended = (state.is_some() && !made_up(state))
            || (!last_id.is_empty() && (last_id == id || id.is_empty()))
            || (made_up(state) && !id.is_empty());
        let mut expected = if ended {
            attempt + 1
        } else if id.is_empty() && made_up(last) {
            restarts.max(1)
        } else {
            attempt
        };
        expected = expected.max(after_old.unwrap_or(0));
        if !id.is_empty() {
            self.last_id.insert(key.clone(), id);
        }
        let new = usize::try_from((expected - accounted).max(0)).unwrap();
        self.accounted.insert(key.clone(), accounted.max(expected));
        let seen = self.seen.entry(key.clone()).or_default();
        let visible: Vec<&Value> = [last, state]
            .into_iter()
            .flatten()
            .filter(|record| !id_of(Some(record)).is_empty() && seen.insert(id_of(Some(record))))
            .collect();
        if baseline || (fresh && mirror && restarts > 0) {
            *self.baseline.entry(key).or_default() += i64::try_from(new).unwrap();
            return;
        }
        let used = visible.len().min(new);
        let mut rest = new - used;
        for record in &visible[visible.len() - used..] {
            self.count(pod, &key.1, record, 1);
        }
        let invented = [state, last].into_iter().find(|record| made_up(*record)).flatten();
        if let Some(record) = invented.filter(|_| rest > 0) {
            self.count(pod, &key.1, record, 1);
            rest -= 1;
        }
        if rest > 0 {
            let nobody = serde_json::json!({"reason": "NotObserved"});
            self.count(pod, &key.1, &nobody, rest as u64);
        }
    }

    fn count(&mut self, pod: &Value, container: &str, record: &Value, count: u64) {
        let code = record.pointer("/exitCode").map_or("unknown".into(), ToString::to_string);
        let key = (
            text(pod, "/metadata/namespace"),
            text(pod, "/metadata/name"),
            container.to_owned(),
            code,
            text(record, "/reason"),
        );
        *self.counts.entry(key).or_default() += count;
    }
}
