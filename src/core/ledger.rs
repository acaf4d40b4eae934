//! Which attempts of a container ended: one account per container, moved on by every status that is seen.
//!
//! An *attempt* is one run of a container; attempt n exists once the kubelet reports restartCount n. A status
//! tells how many attempts have ended at least (`expected`); what is more than `accounted` is new, and each is
//! counted once: by its record where one is visible, else as a fact whose exit code nobody knows.
//!
//! `accounted` never falls, so whatever order, loss or repetition of statuses is seen, nothing counts twice.

use serde::{Deserialize, Serialize};

use crate::pod::{ContainerStatus, Terminated};

/// How many container ids an account remembers. The kubelet shows two at a time and may go back to an earlier
/// one for a moment; bounded, since a crash loop makes a new one every few minutes for ever.
const REMEMBERED_IDS: usize = 8;

/// The kubelet's message in a made-up `lastState`, when a container that ran is gone from the runtime
/// (pkg/kubelet/kubelet_pods.go, `convertToAPIContainerStatuses`).
const USED_TO_BE_RUNNING: &str = "used to be Running";

/// A container id that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SeenId {
    hash: u64,
    /// The attempt that this id is: restartCount (and offset) when it was first seen.
    attempt: u32,
    /// Whether a record of its end was seen.
    ended: bool,
}

/// The account of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    ids: Vec<SeenId>,
    /// Hash of the id seen last in `status.containerID`, 0 for none.
    current: u64,
    /// Ends accounted for, counted or taken as baseline.
    accounted: u32,
    /// The newest attempt known: so many restarts there were.
    attempt: u32,
    /// Added to restartCount after it fell.
    offset: u32,
    /// Whether it ever ran: made-up records of containers that never ran stand for nothing.
    ran: bool,
    /// Whether the status seen last showed it running.
    running: bool,
}

/// An end to count. Its number is the attempt that ended: attempt n was followed by another if n < [`Account::attempt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<'a> {
    /// With its record.
    Recorded {
        /// The attempt.
        attempt: u32,
        /// The record.
        record: &'a Terminated,
    },
    /// With a record that the kubelet made up: it has no id.
    MadeUp {
        /// The attempt.
        attempt: u32,
        /// The record.
        record: &'a Terminated,
    },
    /// `count` attempts from `attempt` on, of which no record is visible.
    NotObserved {
        /// The first of them.
        attempt: u32,
        /// How many.
        count: u32,
    },
}

/// What a status changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change<'a> {
    /// Ends to count, oldest first.
    pub ends: Vec<End<'a>>,
    /// `accounted` before.
    pub accounted_before: u32,
    /// `attempt` before.
    pub attempt_before: u32,
    /// restartCount fell under a new id: logs and runtime were wiped.
    pub restart_count_fell: bool,
}

impl Account {
    /// Takes in a status. What it shows as ended, more than was accounted for, is in the answer.
    pub fn observe<'a>(&mut self, status: &'a ContainerStatus) -> Change<'a> {
        let mut change =
            Change { accounted_before: self.accounted, attempt_before: self.attempt, ..Change::default() };
        let last = status.last_state.terminated.as_ref();
        let state = status.state.terminated.as_ref();
        self.running = status.state.running.is_some();
        self.ran |= has_run(status);
        if !self.ran && state.is_some_and(is_made_up) {
            return change;
        }
        let expected = self.expected(status, &mut change);
        let new = expected.saturating_sub(self.accounted);
        change.ends = self.settle(new, last, state);
        self.accounted = self.accounted.max(expected);
        self.remember_current(status);
        change
    }

    /// The number of attempts that have ended at least.
    fn expected(&mut self, status: &ContainerStatus, change: &mut Change<'_>) -> u32 {
        let id = hash(&status.container_id);
        let last = status.last_state.terminated.as_ref();
        let state = status.state.terminated.as_ref();
        let last_id = last.map_or(0, |record| hash(&record.container_id));
        let replaced = (self.current != 0 && self.current != id && self.ran)
            .then(|| self.attempt_of(self.current).unwrap_or(self.attempt).saturating_add(1));
        let restarts = self.effective_restarts(status, id, replaced, change);
        let attempt = if id != 0 {
            self.attempt_or_insert(id, restarts)
        } else if last_id != 0 {
            self.attempt_or_insert(last_id, restarts)
        } else {
            // Gone from the runtime: restartCount tells the attempt that comes next, or is the one that is gone.
            let least = if last.is_some_and(is_made_up) { restarts.saturating_sub(1) } else { 0 };
            self.attempt_of(self.current).map_or(restarts, |attempt| attempt.max(least))
        };
        self.attempt = self.attempt.max(attempt);
        let ended = state.is_some_and(|record| !is_made_up(record))
            || (last_id != 0 && (last_id == id || id == 0))
            || (id != 0 && state.is_some_and(is_made_up));
        let shown = if ended {
            attempt.saturating_add(1)
        } else if id == 0 && last.is_some_and(is_made_up) {
            restarts.max(1)
        } else {
            attempt
        };
        shown.max(replaced.unwrap_or(0))
    }

    /// restartCount and the offset. A new id never is an attempt that has ended already: where restartCount
    /// says so (it fell, or the kubelet had taken back what it added for a moment), the account stands.
    fn effective_restarts(
        &mut self,
        status: &ContainerStatus,
        id: u64,
        replaced: Option<u32>,
        change: &mut Change<'_>,
    ) -> u32 {
        let restarts = u32::try_from(status.restart_count).unwrap_or(0).saturating_add(self.offset);
        if id == 0 || self.attempt_of(id).is_some() || self.current == 0 {
            return restarts;
        }
        let least = self.accounted.max(replaced.unwrap_or(0));
        let current = self.attempt_of(self.current).unwrap_or(self.attempt);
        if restarts < least {
            if restarts < current {
                self.offset = self.offset.saturating_add(least - restarts);
                change.restart_count_fell = true;
            }
            return least;
        }
        restarts
    }

    /// Which ends the `new` ones are: the newest are those with a record that was not seen before; one may be
    /// a made-up record; the rest are facts without a record.
    fn settle<'a>(
        &mut self,
        new: u32,
        last: Option<&'a Terminated>,
        state: Option<&'a Terminated>,
    ) -> Vec<End<'a>> {
        let made_up = [state, last].into_iter().flatten().find(|record| is_made_up(record));
        let mut records: Vec<&Terminated> =
            [last, state].into_iter().flatten().filter(|record| self.first_sight(record)).collect();
        let mut left = usize::try_from(new).unwrap_or(usize::MAX);
        records.drain(..records.len().saturating_sub(left));
        left -= records.len();
        if let Some(record) = made_up.filter(|_| left > 0) {
            let newest = state.is_some_and(is_made_up);
            records.insert(if newest { records.len() } else { 0 }, record);
            left -= 1;
        }
        let unseen = u32::try_from(left).unwrap_or(u32::MAX);
        let mut attempt = self.accounted;
        let mut ends = Vec::new();
        if unseen > 0 {
            ends.push(End::NotObserved { attempt, count: unseen });
            attempt = attempt.saturating_add(unseen);
        }
        for record in records {
            ends.push(if is_made_up(record) {
                End::MadeUp { attempt, record }
            } else {
                End::Recorded { attempt, record }
            });
            attempt = attempt.saturating_add(1);
        }
        ends
    }

    /// Whether this record has an id and was not seen before. The first word stands: containerd may turn
    /// Error into OOMKilled later.
    fn first_sight(&mut self, record: &Terminated) -> bool {
        let id = hash(&record.container_id);
        if id == 0 {
            return false;
        }
        if let Some(seen) = self.ids.iter_mut().find(|seen| seen.hash == id) {
            return !std::mem::replace(&mut seen.ended, true);
        }
        // An id that no status named: an attempt before the current one.
        let attempt = self.attempt.saturating_sub(1);
        self.insert(SeenId { hash: id, attempt, ended: true });
        true
    }

    fn remember_current(&mut self, status: &ContainerStatus) {
        let id = hash(&status.container_id);
        if id != 0 {
            self.current = id;
        }
    }

    fn attempt_of(&self, id: u64) -> Option<u32> {
        self.ids.iter().find(|seen| seen.hash == id && id != 0).map(|seen| seen.attempt)
    }

    fn attempt_or_insert(&mut self, id: u64, attempt: u32) -> u32 {
        self.attempt_of(id).unwrap_or_else(|| {
            self.insert(SeenId { hash: id, attempt, ended: false });
            attempt
        })
    }

    /// Bounded: the oldest id that is not the current one goes.
    fn insert(&mut self, seen: SeenId) {
        if self.ids.len() >= REMEMBERED_IDS
            && let Some(oldest) = self.ids.iter().position(|seen| seen.hash != self.current)
        {
            self.ids.remove(oldest);
        }
        self.ids.reserve_exact(1);
        self.ids.push(seen);
    }

    /// The newest attempt known; so many restarts there were.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether the status seen last showed it running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running
    }
}

/// A record without an id was made up by the kubelet, which could not find the container.
fn is_made_up(record: &Terminated) -> bool {
    record.container_id.is_empty()
}

fn has_run(status: &ContainerStatus) -> bool {
    let last = status.last_state.terminated.as_ref();
    (!status.container_id.is_empty() && status.state.waiting.is_none())
        || last.is_some_and(|record| !is_made_up(record) || record.message.contains(USED_TO_BE_RUNNING))
        || status.restart_count > 0
}

/// FNV-1a of a container id, 0 for none. The ids of one container are compared with each other only, and the
/// same number must come out after an upgrade of the exporter, so no hasher of the standard library will do.
#[must_use]
pub fn hash(id: &str) -> u64 {
    if id.is_empty() {
        return 0;
    }
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.max(1)
}
