//! What a single look at a cluster shows: every record of an end that its pods still hold, decided by the same
//! account and the same rules as the counters. There is no second look, so nothing is a baseline and nothing waits.

use super::{Effect, Input, Options, OwnerAnswer, OwnerKey, Scope, State};
use crate::pod::{ContainerStatus, Event, Pod};
use crate::termination::{Reason, Termination};
use crate::time::Timestamp;

/// One look at a cluster: events first, then pods, with the answers about their owners, then [`Visible::ends`].
///
/// Held are only pods that show an end. All is taken as seen at one moment, so a pod may be shown twice (a list that had
/// to begin again): each record counts once.
#[derive(Debug)]
pub struct Visible {
    state: State,
    now: Timestamp,
    ends: Vec<Termination>,
}

impl Visible {
    /// A look at this moment, on the clock of whoever looks.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        // With events, what an event could explain waits until all of them are known.
        let mut state = State::new(Options { events: true, scopes: 1, ..Options::default() });
        state.first_look_counts = true;
        Self { state, now, ends: Vec::new() }
    }

    /// Takes in an event. One that happened again tells when it happened first, too: a watch would have seen both, and
    /// the end that is visible may be that of the first.
    pub fn event(&mut self, event: Event) {
        if event.first_timestamp < event.latest() {
            let mut first = event.clone();
            (first.last_timestamp, first.event_time, first.series.last_observed_time) = (None, None, None);
            self.apply(Input::Event(Box::new(first)));
        }
        self.apply(Input::Event(Box::new(event)));
    }

    /// Takes in a pod. The owners must be looked up to know whose it is.
    pub fn pod(&mut self, pod: Pod) -> Vec<OwnerKey> {
        if shows_an_end(&pod) { self.apply(Input::PodSeen(Scope(0), Box::new(pod))) } else { Vec::new() }
    }

    /// Takes in what a look-up found, which may ask for the owner's owner.
    pub fn owner(&mut self, answer: OwnerAnswer) -> Vec<OwnerKey> {
        self.apply(Input::Owner(answer))
    }

    /// All records, in no order, each with its cause. Where no answer about an owner came, the last one known is the
    /// workload.
    #[must_use]
    pub fn ends(mut self) -> Vec<Termination> {
        self.state.learn_from_all(self.now);
        let effects = self.state.settle_all(self.now);
        self.take(effects);
        self.ends
    }

    fn apply(&mut self, input: Input) -> Vec<OwnerKey> {
        let effects = self.state.apply(input, self.now);
        self.take(effects)
    }

    /// Keeps the ends and returns what must be looked up. Ends without a record stay out: restartCount tells how many
    /// there were.
    fn take(&mut self, effects: Vec<Effect>) -> Vec<OwnerKey> {
        let mut wanted = Vec::new();
        for effect in effects {
            match effect {
                Effect::Terminated(end) if end.outcome.reason != Reason::NotObserved => self.ends.push(*end),
                Effect::LookUp(key) => wanted.push(key),
                Effect::Terminated(_)
                | Effect::OwnerCached
                | Effect::Restarted { .. }
                | Effect::PodFailed { .. }
                | Effect::WorkloadPods { .. }
                | Effect::Baseline(_)
                | Effect::UnobservedPod => {}
            }
        }
        wanted
    }
}

/// Whether any container of the pod has a record of an end.
fn shows_an_end(pod: &Pod) -> bool {
    let status = &pod.status;
    let lists =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let has_record = |status: &ContainerStatus| {
        status.state.terminated.is_some() || status.last_state.terminated.is_some()
    };
    lists.into_iter().flatten().any(has_record)
}
