//! The core: inputs in, effects out. Synchronous, without IO, without errors; one task owns it.

mod cause;
mod evidence;
mod facts;
mod history;
mod kept;
mod ledger;
mod look;
mod memory;
mod naming;
mod observation;
mod pending;
mod pods;
mod saved;
mod settle;
mod state;
mod told;
mod visible;
mod workload;

use std::sync::Arc;

pub use state::{Options, Sizes, State};
pub use visible::Visible;

use serde::{Deserialize, Serialize};

use crate::pod::{Event, Metadata, OwnerReference, Pod};
use crate::termination::{Outcome, PodFailure, Subject, Termination, Workload};

/// Which list and watch a pod came from: the index of its namespace in `--namespaces`, 0 for all namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scope(pub u16);

/// What the core is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A list of a scope begins, or begins again from its start.
    ListBegins(Scope),
    /// A pod as a list showed it.
    PodListed(Scope, Box<Pod>),
    /// An object of the running list that can't be read: the pod with this uid is still there.
    StillThere(Scope, String),
    /// The list is complete: what it did not hold is gone. `whole` is false if an object of it could not even
    /// be told by its uid, so that absence proves nothing.
    Listed {
        /// Which list.
        scope: Scope,
        /// Whether absence means gone.
        whole: bool,
    },
    /// A pod as the watch showed it, added or modified.
    PodSeen(Scope, Box<Pod>),
    /// A pod as the watch showed it when it was deleted.
    PodDeleted(Scope, Box<Pod>),
    /// An event.
    Event(Box<Event>),
    /// The answer to a look-up.
    Owner(OwnerAnswer),
    /// Time has passed.
    Tick,
}

/// An owner to look up: metadata only, once per uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OwnerKey {
    /// Namespace of the object that it owns.
    pub namespace: Arc<str>,
    /// The reference to it.
    pub api_version: Arc<str>,
    /// Its kind.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
}

/// What a look-up found.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnerAnswer {
    /// Namespace in which it was asked for.
    pub namespace: Arc<str>,
    /// Uid of the owner that was asked for.
    pub uid: Arc<str>,
    /// The answer.
    pub found: OwnerFound,
}

/// The outcomes of a look-up.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnerFound {
    /// Its metadata.
    Found(Box<Metadata>),
    /// It is gone, or another object has its name now.
    NotFound,
    /// Forbidden, timed out or failed: nothing is known.
    Unavailable,
}

/// What the core asks for or tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Look up this owner and answer with [`Input::Owner`].
    LookUp(OwnerKey),
    /// A look-up was answered from what is known.
    OwnerCached,
    /// A termination is counted.
    Terminated(Box<Termination>),
    /// A restart is counted, by the labels of the termination that it followed.
    Restarted {
        /// Whose.
        subject: Subject,
        /// Labels of the termination.
        outcome: Outcome,
        /// How many: more than one only where no record of the termination was visible.
        count: u32,
    },
    /// A pod failed as a whole.
    PodFailed {
        /// Whose.
        workload: Workload,
        /// As [`Subject::extra`].
        extra: Arc<[Arc<str>]>,
        /// Why.
        failure: PodFailure,
    },
    /// So many pods of this workload are known; sent at each change and with each count.
    WorkloadPods {
        /// Which.
        workload: Workload,
        /// How many.
        pods: u32,
    },
    /// A container's account was set without counting.
    Baseline(BaselineReason),
    /// A pod vanished with a container last seen running: its end was never shown.
    UnobservedPod,
}

/// Why an account was set without counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaselineReason {
    /// It was there at the first list after a start without saved state.
    FirstList,
    /// restartCount fell under a new container id: logs and runtime were wiped.
    RestartCountDecreased,
}

/// The reference to an owner, kept for climbing.
impl OwnerKey {
    /// From the reference that an object of `namespace` holds.
    #[must_use]
    pub fn new(namespace: &Arc<str>, owner: &OwnerReference) -> Self {
        Self {
            namespace: Arc::clone(namespace),
            api_version: owner.api_version.as_str().into(),
            kind: owner.kind.as_str().into(),
            name: owner.name.as_str().into(),
            uid: owner.uid.as_str().into(),
        }
    }
}
