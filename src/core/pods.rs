//! What is kept of one pod: kept small, since a cluster has up to 150,000 of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Scope;
use super::cause::Case;
use super::evidence::between;
use super::facts::Facts;
use super::ledger::{Account, hash};
use super::memory::Names;
use super::workload::PodOwner;
use crate::pod::{ContainerStatus, Pod};
use crate::termination::{ContainerType, Outcome, Reason};
use crate::time::Timestamp;

/// A pod that is known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KnownPod {
    /// Which list shows it.
    pub scope: Scope,
    /// The list that showed it last.
    #[serde(skip)]
    pub generation: u32,
    /// Hash of the API object's uid, which for a mirror is not the identity.
    object: u64,
    /// Its resource version where that is a number. Not saved: what is listed after a start is newer.
    #[serde(skip)]
    version: Option<u64>,
    /// Whose it is.
    pub owner: PodOwner,
    /// Its containers.
    pub containers: Vec<Container>,
    /// What earlier objects told; only for pods that are being ended.
    facts: Option<Box<Facts>>,
    /// Its failure as a whole is accounted for.
    pub failure_counted: bool,
    /// For a mirror: the annotation by which events name the static pod.
    pub event_uid: Option<Arc<str>>,
    /// For a mirror: since when there is no such object.
    pub absent_since: Option<Timestamp>,
}

/// The end that the next restart follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Last {
    /// None was seen.
    #[default]
    None,
    /// It waits under this number.
    Waiting(u64),
    /// It was counted under these labels.
    Known(Outcome),
}

/// A container of a pod that is known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: Arc<str>,
    /// What kind.
    pub container_type: ContainerType,
    /// Which of its attempts ended.
    pub account: Account,
    /// The end that the next restart follows.
    pub last: Last,
    /// The latest attempt that ended on its own, and its code.
    pub own_end: Option<(u32, i32)>,
    /// Id and `started` of the last running status.
    started: Option<(u64, bool)>,
    /// It was seen running while the pod was being deleted.
    pub ran_into_deletion: bool,
    /// The end decided last, where an event could still have explained it.
    pub unexplained: Option<Box<Unexplained>>,
}

/// An end that was decided without the event that might have explained it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unexplained {
    started_at: Option<Timestamp>,
    /// Its end, on the node's clock.
    pub finished_at: Option<Timestamp>,
    /// Its code.
    pub exit_code: i32,
    /// Its word.
    pub reason: Reason,
}

impl Unexplained {
    /// The end of this case.
    pub fn of(case: &Case) -> Self {
        Self {
            started_at: case.started_at,
            finished_at: case.finished_at,
            exit_code: case.exit_code,
            reason: case.reason,
        }
    }

    /// Whether a kill at this time ended it.
    pub fn was_killed(&self, at: Timestamp) -> bool {
        between(self.started_at, at, self.finished_at)
    }
}

impl KnownPod {
    /// A pod seen for the first time.
    pub fn new(scope: Scope, owner: PodOwner, pod: &Pod) -> Self {
        let statuses = pod.status.container_statuses.len() + pod.status.init_container_statuses.len();
        Self {
            scope,
            generation: 0,
            object: 0,
            version: None,
            owner,
            containers: Vec::with_capacity(statuses),
            facts: None,
            failure_counted: false,
            event_uid: pod.metadata.annotations.mirror.as_deref().map(Into::into),
            absent_since: None,
        }
    }

    /// Whether this pod mirrors a static one.
    pub fn is_mirror(&self) -> bool {
        self.event_uid.is_some()
    }

    /// Whether the API object with this uid is the one seen last.
    pub fn is_this_object(&self, uid: &str) -> bool {
        self.object == hash(uid)
    }

    /// Notes the object's version; false for one older than what was applied. Versions are compared within one
    /// uid, and only where both are numbers, as Kubernetes 1.35 allows.
    pub fn is_newer(&mut self, pod: &Pod) -> bool {
        let object = hash(&pod.metadata.uid);
        let version = pod.metadata.resource_version.parse().ok();
        let older = self.object == object && version.is_some() && version < self.version;
        if !older {
            (self.object, self.version) = (object, version);
        }
        !older
    }

    /// What the objects so far told.
    pub fn facts(&self) -> Facts {
        self.facts.as_deref().copied().unwrap_or_default()
    }

    /// Keeps what must be remembered of the facts.
    pub fn set_facts(&mut self, facts: Facts) {
        let lasting = facts.deletion.is_some() || facts.failure.is_some();
        self.facts = lasting.then(|| Box::new(facts));
    }

    /// The container of this name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| &*container.name == name)
    }

    /// The container of this name, to change.
    pub fn container_mut(&mut self, name: &str) -> Option<&mut Container> {
        self.containers.iter_mut().find(|container| &*container.name == name)
    }

    /// Where the container of this status is, adding it if it is new.
    pub fn container_index(&mut self, status: &ContainerStatus, names: &mut Names) -> usize {
        let found = self.containers.iter().position(|container| *container.name == status.name);
        found.unwrap_or_else(|| {
            self.containers.push(Container {
                name: names.get(&status.name),
                container_type: ContainerType::App,
                account: Account::default(),
                last: Last::None,
                own_end: None,
                started: None,
                ran_into_deletion: false,
                unexplained: None,
            });
            self.containers.len() - 1
        })
    }
}

impl Container {
    /// Notes what a status tells of the attempt that runs.
    pub fn note_running(&mut self, status: &ContainerStatus, deleting: bool) {
        if status.state.running.is_none() {
            return;
        }
        let id = hash(&status.container_id);
        self.started = status.started.map(|started| (id, started));
        self.ran_into_deletion = deleting;
    }

    /// `started` in the last running status of the attempt with this id.
    pub fn started_of(&self, container_id: &str) -> Option<bool> {
        let (id, started) = self.started?;
        (id == hash(container_id)).then_some(started)
    }

    /// The code with which the attempt right before this one ended on its own.
    pub fn own_code_before(&self, attempt: u32) -> Option<i32> {
        let (before, code) = self.own_end?;
        (before.checked_add(1) == Some(attempt)).then_some(code)
    }
}
