//! Probe kills that an event confirmed: they speak for later ones, whose events the kubelet drops.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cause::ProbeHistory;
use super::kept::Kept;
use crate::termination::{Cause, ExitCode, Reason, Workload};
use crate::time::Timestamp;

/// How long a confirmed probe kill speaks for later ones.
const HISTORY_MS: i64 = 24 * 3600 * 1000;
/// Containers with a history.
const HISTORIES: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    exit_code: ExitCode,
    reason: Reason,
    cause: Cause,
    at: Timestamp,
}

/// Probe kills that an event confirmed, by container of a workload.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub(super) containers: Kept<(Workload, Arc<str>), Vec<Confirmed>>,
}

impl History {
    /// An event confirmed that this code is what the probe's kill leaves.
    pub fn confirm(
        &mut self,
        workload: &Workload,
        container: &Arc<str>,
        exit_code: i32,
        reason: Reason,
        cause: Cause,
        now: Timestamp,
    ) {
        let key = (workload.clone(), Arc::clone(container));
        if self.containers.len() >= HISTORIES && !self.containers.contains_key(&key) {
            self.forget_oldest();
        }
        let confirmed = self.containers.get_or_insert_with(&key, Vec::new);
        let exit_code = ExitCode(Some(exit_code));
        confirmed.retain(|known| (known.exit_code, known.reason, known.cause) != (exit_code, reason, cause));
        confirmed.push(Confirmed { exit_code, reason, cause, at: now });
    }

    /// The probes whose kill of this container left this code and reason, as far as confirmed within a day.
    pub fn probe(
        &self,
        workload: &Workload,
        container: &Arc<str>,
        exit_code: i32,
        reason: Reason,
        now: Timestamp,
    ) -> ProbeHistory {
        let Some(confirmed) = self.containers.get(&(workload.clone(), Arc::clone(container))) else {
            return ProbeHistory::default();
        };
        let same = |known: &&Confirmed| {
            known.exit_code == ExitCode(Some(exit_code))
                && known.reason == reason
                && now.since(known.at) <= HISTORY_MS
        };
        let left_by = |cause| confirmed.iter().filter(same).any(|known| known.cause == cause);
        ProbeHistory { liveness: left_by(Cause::LivenessProbe), startup: left_by(Cause::StartupProbe) }
    }

    /// How many containers have a history.
    pub fn len(&self) -> usize {
        self.containers.len()
    }

    /// Forgets what is older than a day.
    pub fn sweep(&mut self, now: Timestamp) {
        self.containers
            .retain(|_, confirmed| confirmed.iter().any(|known| now.since(known.at) <= HISTORY_MS));
    }

    fn forget_oldest(&mut self) {
        let newest = |confirmed: &Vec<Confirmed>| confirmed.iter().map(|known| known.at).max();
        let oldest = self.containers.iter().min_by_key(|(_, confirmed)| newest(confirmed));
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.containers.remove(&key);
        }
    }
}
