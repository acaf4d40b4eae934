//! What was really done in the simulated cluster: what an exporter that watches it must have counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::termination::{ContainerType, Outcome, PodFailure, Workload};

/// One series of terminations or restarts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ended {
    /// The workload.
    pub workload: Workload,
    /// The container.
    pub container: Arc<str>,
    /// What kind of container.
    pub container_type: ContainerType,
    /// Exit code, reason and cause.
    pub outcome: Outcome,
}

/// The counts. Terminations are counted in the moment in which a status first shows them, so that a test may
/// stop the cluster at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// `exitcode_container_terminations_total`.
    pub terminations: BTreeMap<Ended, u64>,
    /// `exitcode_container_restarts_total`.
    pub restarts: BTreeMap<Ended, u64>,
    /// `exitcode_pod_failures_total`.
    pub pod_failures: BTreeMap<(Workload, PodFailure), u64>,
    /// Pods that vanished with a container last seen running.
    pub unobserved_pods: u64,
}

impl Counts {
    /// One line a series, sorted: for prints and comparisons.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let series = |name: &str, ended: &Ended, count: &u64| {
            let Ended { workload: w, container, container_type, outcome: o } = ended;
            let Workload { namespace, workload_type, name: workload } = w;
            format!(
                "{name} {namespace} {workload_type}/{workload} {container_type} {container} \
                 {} {} {} {count}",
                o.exit_code, o.reason, o.cause
            )
        };
        let terminations = self.terminations.iter().map(|(ended, n)| series("termination", ended, n));
        let restarts = self.restarts.iter().map(|(ended, n)| series("restart", ended, n));
        let failures = self.pod_failures.iter().map(|((w, failure), n)| {
            format!("pod_failure {} {}/{} {failure} {n}", w.namespace, w.workload_type, w.name)
        });
        terminations.chain(restarts).chain(failures).collect()
    }
}

/// The truth, shared; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Truth(Arc<Mutex<Counts>>);

impl Truth {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// A termination was shown.
    pub fn terminated(&self, ended: Ended) {
        bump(&mut self.lock().terminations, ended);
    }

    /// A restart was shown, after this end.
    pub fn restarted(&self, ended: Ended) {
        bump(&mut self.lock().restarts, ended);
    }

    /// A pod was shown to have failed as a whole.
    pub fn pod_failed(&self, workload: Workload, failure: PodFailure) {
        bump(&mut self.lock().pod_failures, (workload, failure));
    }

    /// A pod vanished while a container ran.
    pub fn vanished(&self) {
        let mut counts = self.lock();
        counts.unobserved_pods = counts.unobserved_pods.saturating_add(1);
    }
}

fn bump<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K) {
    let count = counts.entry(key).or_insert(0);
    *count = count.saturating_add(1);
}
