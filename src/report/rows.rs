//! Which ends are reported, put together into rows, in the order of the report.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::options::{By, Report};
use crate::termination::{Outcome, Subject, Termination};
use crate::time::Timestamp;

/// Ends of one container of a workload, or of a pod, with the same exit code, reason and cause.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The newest of them.
    pub newest: Termination,
    /// How many records there are.
    pub ends: u32,
    /// The pods that they are of, each with the restartCount of the container.
    restarts: BTreeMap<Arc<str>, u32>,
}

impl Row {
    /// Restarts of the containers behind the row, whatever they ended with.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.values().copied().map(u64::from).sum()
    }

    /// How many pods.
    #[must_use]
    pub fn pods(&self) -> usize {
        self.restarts.len()
    }

    fn add(&mut self, end: Termination) {
        self.ends += 1;
        self.restarts.insert(Arc::clone(&end.pod), end.restart_count);
        if age(&end) > age(&self.newest) {
            self.newest = end;
        }
    }
}

/// By this the newest is found, and always the same one.
fn age(end: &Termination) -> (Option<Timestamp>, Reverse<&str>) {
    (end.finished_at, Reverse(&end.pod))
}

/// What is alike in a row.
type Key = (Subject, Outcome, Option<Arc<str>>);

/// The rows: unexpected ends before expected ones, the newest first, then by name. Ends whose time is not known come last.
#[must_use]
pub fn rows(ends: Vec<Termination>, report: &Report, now: Timestamp) -> Vec<Row> {
    let mut rows: BTreeMap<Key, Row> = BTreeMap::new();
    for end in ends.into_iter().filter(|end| is_wanted(end, report, now)) {
        let pod = (report.by == By::Pod).then(|| Arc::clone(&end.pod));
        let key = (end.subject.clone(), end.outcome, pod);
        if let Some(row) = rows.get_mut(&key) {
            row.add(end);
        } else {
            let restarts = [(Arc::clone(&end.pod), end.restart_count)].into();
            rows.insert(key, Row { newest: end, ends: 1, restarts });
        }
    }
    let mut rows: Vec<Row> = rows.into_values().collect();
    // The sort is stable, and the map was in the order of names.
    rows.sort_by_key(|row| (row.newest.outcome.cause.is_expected(), Reverse(row.newest.finished_at)));
    rows
}

fn is_wanted(end: &Termination, report: &Report, now: Timestamp) -> bool {
    let code = end.outcome.exit_code.0;
    let recent = |at: Timestamp| report.since.is_none_or(|since| at.plus(since.0) >= now);
    end.finished_at.is_none_or(recent)
        && (report.exit_code.is_empty() || code.is_some_and(|code| report.exit_code.contains(&code)))
        && (report.cause.is_empty() || report.cause.contains(&end.outcome.cause))
}
