//! What follows the end of a container: records, back-off and restarts, as the kubelet writes them.

use super::kubelet::{Kubelet, completed};
use super::objects::{Record, RunState};
use super::script::Restart;
use crate::termination::{ContainerType, ExitCode, Outcome};

const CRASH_LOOP: &str = "CrashLoopBackOff";

impl Kubelet<'_> {
    /// Whether a container is started again after this exit code.
    fn restarts(&self, index: usize, code: ExitCode) -> bool {
        let sidecar = self.pod.containers.get(index).is_some_and(|c| c.spec.kind == ContainerType::Sidecar);
        let init = self.pod.containers.get(index).is_some_and(|c| c.spec.kind == ContainerType::Init);
        match self.script.pod.restart {
            _ if sidecar => true,
            _ if init && code.0 == Some(0) => false,
            Restart::Always => true,
            Restart::OnFailure => code.0 != Some(0),
            Restart::Never => false,
        }
    }

    /// A container ended and the kubelet shows `state.terminated` before it does anything else.
    pub(super) async fn exited(&mut self, index: usize, record: Record) {
        let outcome = record.outcome;
        self.count(index, outcome);
        if let Some(container) = self.pod.containers.get_mut(index) {
            container.state = RunState::Terminated(record.clone());
        }
        let restarts = self.restarts(index, outcome.exit_code);
        let wait = self.backoff_ms(index);
        if restarts && wait > 0 {
            self.back_off_event(index);
        }
        self.write();
        if !restarts {
            if self.pod.containers.get(index).is_some_and(completed) {
                self.start_containers().await;
            }
            return;
        }
        if wait > 0 {
            // The next sync of the pod shows the back-off.
            self.sleep_ms(1_000).await;
            self.show_back_off(index, record.clone());
            self.sleep_ms(wait).await;
        }
        self.restart(index, record, false).await;
    }

    /// The kubelet itself ended a container: the next write shows it restarted, or backing off.
    pub(super) async fn killed(&mut self, index: usize, record: Record, backs_off: bool) {
        let wait = self.backoff_ms(index);
        if !self.restarts(index, record.outcome.exit_code) {
            return self.exited(index, record).await;
        }
        if backs_off && wait > 0 {
            self.count(index, record.outcome);
            self.back_off_event(index);
            self.show_back_off(index, record.clone());
            self.sleep_ms(wait).await;
            return self.restart(index, record, false).await;
        }
        self.restart(index, record, true).await;
    }

    /// Starts a container again; the write shows its end, too, if none did before.
    async fn restart(&mut self, index: usize, record: Record, first_shown: bool) {
        self.launch(index).await;
        if first_shown {
            self.count(index, record.outcome);
        }
        self.count_restart(index, record.outcome);
        if let Some(container) = self.pod.containers.get_mut(index) {
            container.restarts = container.restarts.saturating_add(1);
            container.last = Some(record);
        }
        self.write();
    }

    /// How long the kubelet waits before the next restart: the first comes at once.
    pub(super) fn backoff_ms(&self, index: usize) -> u64 {
        let restarts = self.pod.containers.get(index).map_or(0, |c| c.restarts);
        match u32::try_from(restarts).unwrap_or(0) {
            0 => 0,
            n => 10_000_u64.saturating_mul(1 << (n - 1).min(5)).min(self.world.max_backoff_ms),
        }
    }

    fn pod_text(&self) -> String {
        format!("{}_{}({})", self.pod.name, self.pod.namespace, self.pod.uid)
    }

    pub(super) fn back_off_event(&mut self, index: usize) {
        let Some(name) = self.pod.containers.get(index).map(|c| c.spec.name) else { return };
        let message = format!("Back-off restarting failed container {name} in pod {}", self.pod_text());
        self.event(index, "Warning", "BackOff", &message);
    }

    pub(super) fn show_back_off(&mut self, index: usize, record: Record) {
        let (seconds, pod) = (self.backoff_ms(index) / 1_000, self.pod_text());
        if let Some(container) = self.pod.containers.get_mut(index) {
            let name = container.spec.name;
            let message = format!("back-off {seconds}s restarting failed container={name} pod={pod}");
            container.state = RunState::Waiting(CRASH_LOOP, message);
            container.last = Some(record);
        }
        self.write();
    }

    /// A start of a container that failed: the kubelet shows it as waiting, with the record in lastState.
    pub(super) async fn failed_start(&mut self, index: usize, why: &'static str, text: &str, record: Record) {
        let outcome = record.outcome;
        self.pod.phase = "Running";
        self.count(index, outcome);
        let after = self.pod.containers.get(index).and_then(|c| c.last.as_ref()).map(|r| r.outcome);
        if let Some(container) = self.pod.containers.get_mut(index) {
            container.state = RunState::Waiting(why, text.to_owned());
            container.id = record.ran.as_ref().map(|ran| ran.id.clone());
            container.last = Some(record.clone());
            if after.is_some() {
                container.restarts = container.restarts.saturating_add(1);
            }
        }
        if let Some(after) = after {
            self.count_restart(index, after);
        }
        self.write();
        let wait = self.backoff_ms(index);
        self.sleep_ms(1_000).await;
        if wait > 0 {
            self.back_off_event(index);
            self.show_back_off(index, record);
            self.sleep_ms(wait).await;
        }
    }

    /// The container is gone from the runtime: the kubelet makes up a record and counts a restart.
    pub(super) async fn vanished(&mut self, index: usize, outcome: Outcome) {
        self.count(index, outcome);
        self.count_restart(index, outcome);
        let message =
            "The container could not be located when the pod was deleted.  The container used to be Running";
        if let Some(container) = self.pod.containers.get_mut(index) {
            container.id = None;
            container.state = RunState::Waiting("ContainerCreating", String::new());
            container.last = Some(Record { outcome, message: message.to_owned(), ran: None });
            container.restarts = container.restarts.saturating_add(1);
        }
        self.write();
        self.sleep_ms(1_000).await;
        self.launch(index).await;
        if let Some(container) = self.pod.containers.get_mut(index) {
            container.last = None;
        }
        self.write();
    }

    /// A container ended, was restarted and ended again before the kubelet wrote anything.
    pub(super) async fn twice(&mut self, index: usize, outcome: Outcome) {
        self.launch(index).await;
        self.sleep_ms(1_000).await;
        let Some(second) = self.record(index, outcome, "") else { return };
        self.launch(index).await;
        self.count(index, Outcome::NOT_OBSERVED);
        self.count(index, outcome);
        self.count_restart(index, Outcome::NOT_OBSERVED);
        self.count_restart(index, outcome);
        if let Some(container) = self.pod.containers.get_mut(index) {
            container.restarts = container.restarts.saturating_add(2);
            container.last = Some(second);
        }
        self.write();
    }
}
