//! Ends that are accounted for but not yet counted: their cause or their owner may still become known. Bounded,
//! each with a deadline, and part of the state: stopping or saving at any moment loses nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cause::Case;
use super::kept::Kept;
use super::workload::PodOwner;
use crate::termination::{ContainerType, PodFailure};
use crate::time::Timestamp;

/// How long an end waits for an event or an owner. One for all, so that the oldest is due first.
pub const WAIT_MS: i64 = 2000;
/// Bounded: a node with 110 pods that crashes is far below it. More are counted with what is known.
pub const MOST: usize = 50_000;

/// Where an end was: what its labels and its log line need.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The pod's identity.
    pub identity: Arc<str>,
    /// The uid by which events name it.
    pub event_uid: Arc<str>,
    /// Whose it is.
    pub owner: PodOwner,
    /// Namespace.
    pub namespace: Arc<str>,
    /// The pod's name.
    pub pod: Arc<str>,
    /// The node's name.
    pub node: Arc<str>,
    /// Copied labels.
    pub extra: Arc<[Arc<str>]>,
}

/// The end of one attempt, or of several without a record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// The container's name.
    pub container: Arc<str>,
    /// What kind of container.
    pub container_type: ContainerType,
    /// The (last) attempt that ended.
    pub attempt: u32,
    /// How many.
    pub count: u32,
    /// So many of them were followed by another attempt.
    pub restarts: u32,
    /// What the record tells; `None` if there is none.
    pub case: Option<Case>,
    /// False for a baseline: it is decided only for the restart that may follow.
    pub counts: bool,
    /// `restartCount` of the status.
    pub restart_count: u32,
    /// Image.
    pub image: Arc<str>,
    /// Termination message.
    pub message: Option<Box<str>>,
    /// On Windows codes over 128 are no signals.
    pub windows: bool,
}

/// What waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum What {
    /// A container ended.
    Ended(Box<Ended>),
    /// A pod failed.
    Failed(PodFailure),
}

/// One thing that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Item {
    /// Where.
    pub place: Place,
    /// What.
    pub what: What,
    /// By when it is counted with what is known.
    pub due: Timestamp,
    /// Whether its owner was asked for.
    pub asked: bool,
}

/// All that waits, in the order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    pub(super) items: Kept<u64, Item>,
    order: BTreeSet<u64>,
    /// By the uid that events use.
    by_uid: HashMap<Arc<str>, Vec<u64>>,
    next: u64,
    /// Terminations among the items.
    terminations: usize,
}

impl Item {
    fn is_termination(&self) -> bool {
        matches!(&self.what, What::Ended(ended) if ended.counts)
    }
}

impl Pending {
    /// Adds an item and returns its number.
    pub fn push(&mut self, item: Item) -> u64 {
        let number = self.next;
        self.next += 1;
        self.terminations += usize::from(item.is_termination());
        self.by_uid.entry(Arc::clone(&item.place.event_uid)).or_default().push(number);
        self.items.insert(number, item);
        self.order.insert(number);
        number
    }

    /// The item of this number.
    pub fn get(&self, number: u64) -> Option<&Item> {
        self.items.get(&number)
    }

    /// The item of this number, to change.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut Item> {
        self.items.get_mut(&number)
    }

    /// Takes an item out.
    pub fn remove(&mut self, number: u64) -> Option<Item> {
        let item = self.items.remove(&number)?;
        self.order.remove(&number);
        self.terminations -= usize::from(item.is_termination());
        let uid = &item.place.event_uid;
        if let Some(numbers) = self.by_uid.get_mut(uid) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_uid.remove(uid);
            }
        }
        Some(item)
    }

    /// What waits about the pod that events name so.
    pub fn of(&self, event_uid: &str) -> Vec<u64> {
        self.by_uid.get(event_uid).cloned().unwrap_or_default()
    }

    /// What waits on a node, or for an owner.
    pub fn all(&self, matches: impl Fn(&Item) -> bool) -> Vec<u64> {
        let wanted = |number: &&u64| self.items.get(*number).is_some_and(&matches);
        self.order.iter().filter(wanted).copied().collect()
    }

    /// The oldest one.
    pub fn first(&self) -> Option<(u64, Timestamp)> {
        let number = *self.order.first()?;
        Some((number, self.items.get(&number)?.due))
    }

    /// Everything waits for a whole wait from now on.
    pub fn postpone(&mut self, now: Timestamp) {
        for item in self.items.values_mut_unsaved() {
            item.due = now.plus_ms(WAIT_MS);
        }
    }

    /// The number of the item that comes next.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// As [`Pending::next_number`], as it was saved.
    pub fn set_next_number(&mut self, next: u64) {
        self.next = next;
    }

    /// Goes on from the items that were saved, each with a whole wait before it: the events that were missed are
    /// about to be listed. Returns their owners, which are to be asked for again.
    pub fn resume(&mut self, now: Timestamp) -> Vec<PodOwner> {
        self.postpone(now);
        for item in self.items.values_mut_unsaved() {
            item.asked = false;
        }
        self.order = self.items.iter().map(|(number, _)| *number).collect();
        self.next = self.next.max(self.order.last().map_or(0, |last| last.saturating_add(1)));
        self.terminations = self.items.values().filter(|item| item.is_termination()).count();
        for number in &self.order {
            if let Some(item) = self.items.get(number) {
                self.by_uid.entry(Arc::clone(&item.place.event_uid)).or_default().push(*number);
            }
        }
        self.items.values().map(|item| item.place.owner.clone()).collect()
    }

    /// How many terminations wait to be counted.
    pub fn terminations(&self) -> usize {
        self.terminations
    }

    /// Whether this item was not tried before.
    pub fn first_try(&mut self, number: u64) -> bool {
        self.items.get_mut(&number).is_some_and(|item| !std::mem::replace(&mut item.asked, true))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }
}
