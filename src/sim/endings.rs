//! How whole pods end: deletions, disruptions, evictions, and pods whose work is done.

use super::deaths::seconds;
use super::kinds::Resource;
use super::kubelet::Kubelet;
use super::objects::{Disruption, Record, RunState, Stage};
use super::recorder::Note;
use super::script::{Over, by_itself, ended_by};
use crate::termination::{Cause, ContainerType, ExitCode, Outcome, PodFailure, Reason};
use crate::time::Timestamp;

impl Kubelet<'_> {
    /// The pod ends.
    pub(super) async fn over(&mut self, over: Over) {
        match over {
            Over::Finished(app, sidecar) => self.finished(app, sidecar).await,
            Over::Deleted(137) => self.deleted(ended_by(Cause::GracePeriodExceeded, 137)).await,
            Over::Deleted(code) => self.deleted(ended_by(Cause::PodDeleted, code)).await,
            Over::Forced => self.forced(),
            Over::Drained(code) => {
                self.disrupted("EvictionByEvictionAPI", "Eviction API: evicting");
                self.deleted(ended_by(Cause::Drained, code)).await;
            }
            Over::Preempted(code) => {
                let preemptor = self.ids.uid();
                let message = "default-scheduler: preempting to accommodate a higher priority pod";
                self.disrupted("PreemptionByScheduler", message);
                let message = format!("Preempted by pod {preemptor} on node {}", self.pod.node);
                self.controller_event("Preempted", &message, "default-scheduler");
                self.deleted(ended_by(Cause::Preempted, code)).await;
            }
            Over::Tainted(code) => {
                let message = format!("Marking for deletion Pod {}/{}", self.pod.namespace, self.pod.name);
                self.controller_event("TaintManagerEviction", &message, "taint-eviction-controller");
                self.disrupted("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
                self.deleted(ended_by(Cause::NodeTaint, code)).await;
            }
            Over::Evicted(code) => self.evicted(code).await,
            Over::NodeShutdown(code) => self.node_shutdown(code).await,
            Over::Deadline(code) => self.deadline(code).await,
            Over::NodeLost(code) => self.node_lost(code).await,
            Over::Rejected => self.rejected().await,
        }
    }

    fn controller_event(&mut self, reason: &'static str, message: &str, source: &'static str) {
        self.note(Note { kind: "Normal", reason, message, field: "", source });
    }

    fn disrupted(&mut self, reason: &'static str, message: &str) {
        self.disrupt(reason, message, self.now());
        self.write();
    }

    /// Sets the condition DisruptionTarget.
    fn disrupt(&mut self, reason: &'static str, message: &str, at: Timestamp) {
        let (message, generation) = (message.to_owned(), self.pod.generation);
        self.pod.disruption = Some(Disruption { reason, message, at, generation });
    }

    fn running(&self, keep: impl Fn(ContainerType) -> bool) -> Vec<usize> {
        let containers = self.pod.containers.iter().enumerate();
        containers.filter(|(_, c)| c.runs() && keep(c.spec.kind)).map(|(index, _)| index).collect()
    }

    fn stopping(&mut self) {
        for index in self.running(|_| true) {
            let name = self.pod.containers.get(index).map_or("", |c| c.spec.name);
            self.event(index, "Normal", "Killing", &format!("Stopping container {name}"));
        }
    }

    /// What still runs of these kinds has ended now; the next write shows it.
    fn end(&mut self, outcome: Outcome, keep: impl Fn(ContainerType) -> bool) {
        for index in self.running(keep) {
            let Some(record) = self.record(index, outcome, "") else { continue };
            self.count(index, outcome);
            if let Some(container) = self.pod.containers.get_mut(index) {
                container.state = RunState::Terminated(record);
                // The kubelet keeps no older containers of a pod that is over.
                container.last = None;
            }
        }
    }

    /// Stops all containers and waits for their end, which is not written yet.
    async fn stop_all(&mut self, outcome: Outcome) {
        self.stopping();
        self.sleep_ms(self.stop_ms(outcome.exit_code.0)).await;
    }

    fn terminal_phase(&self) -> &'static str {
        let failed = |state: &RunState| matches!(state, RunState::Terminated(record) if record.outcome.exit_code.0 != Some(0));
        // Sidecars do not decide.
        let mut deciding = self.pod.containers.iter().filter(|c| c.spec.kind != ContainerType::Sidecar);
        if deciding.any(|c| failed(&c.state)) { "Failed" } else { "Succeeded" }
    }

    async fn deleted(&mut self, outcome: Outcome) {
        let grace = self.pod.spec.grace;
        let at = self.now().plus_ms(grace.saturating_mul(1_000));
        self.pod.deletion = Some((at, grace));
        self.pod.generation = self.pod.generation.saturating_add(1);
        self.write();
        self.stop_all(outcome).await;
        self.end(outcome, |_| true);
        self.pod.phase = self.terminal_phase();
        self.write();
        self.sleep_ms(500).await;
        self.gone();
    }

    /// The kubelet's last word on a deleted pod, after which the API server removes it.
    fn gone(&mut self) {
        self.pod.deletion = Some((self.now(), 0));
        self.pod.finalizers.clear();
        self.write();
        self.remove();
    }

    /// Removes the object, if it is still there.
    pub(super) fn remove(&self) {
        self.world.store.delete(Resource::Pods, self.pod.namespace, &self.pod.name);
    }

    fn forced(&mut self) {
        self.world.truth.vanished();
        self.remove();
    }

    async fn finished(&mut self, app: i32, sidecar: i32) {
        self.end(by_itself(app), |kind| kind == ContainerType::App);
        self.write();
        self.sleep_ms(300).await;
        if !self.running(|_| true).is_empty() {
            let outcome = ended_by(Cause::PodCompleted, sidecar);
            self.stop_all(outcome).await;
            self.end(outcome, |_| true);
            self.write();
        }
        self.sleep_ms(500).await;
        self.pod.phase = self.terminal_phase();
        self.write();
        // The Job controller has counted it.
        self.pod.finalizers.clear();
        self.write();
    }

    async fn evicted(&mut self, code: i32) {
        let message = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 84012Ki. \
                       Container app was using 211404Ki, request is 0, has larger consumption of memory. ";
        self.pod_event("Warning", "Evicted", message);
        let at = self.now();
        let outcome = ended_by(Cause::Evicted, code);
        self.stop_all(outcome).await;
        self.disrupt("TerminationByKubelet", message, at);
        self.end(outcome, |_| true);
        self.fail("Evicted", message, PodFailure::Evicted);
        self.write();
    }

    /// Kubernetes: pkg/kubelet/nodeshutdown.
    async fn node_shutdown(&mut self, code: i32) {
        let message = "Pod was terminated in response to imminent node shutdown.";
        let at = self.now();
        let outcome = ended_by(Cause::NodeShutdown, code);
        self.stop_all(outcome).await;
        self.disrupt("TerminationByKubelet", message, at);
        self.end(outcome, |_| true);
        self.fail("Terminated", message, PodFailure::Terminated);
        self.write();
    }

    async fn deadline(&mut self, code: i32) {
        let message = "Pod was active on the node longer than the specified deadline";
        self.pod_event("Normal", "DeadlineExceeded", message);
        let outcome = ended_by(Cause::DeadlineExceeded, code);
        self.stop_all(outcome).await;
        self.end(outcome, |_| true);
        self.fail("DeadlineExceeded", message, PodFailure::DeadlineExceeded);
        self.write();
        self.sleep_ms(500).await;
        self.pod.finalizers.clear();
        self.write();
    }

    /// The garbage collector ends a pod of a node that is gone; a finalizer keeps it until the node is back
    /// and its kubelet stops the containers.
    async fn node_lost(&mut self, code: i32) {
        let message = "PodGC: node no longer exists";
        self.disrupt("DeletionByPodGC", message, self.now());
        self.fail("", "", PodFailure::NodeLost);
        self.write();
        self.pod.deletion = Some((self.now(), 0));
        self.pod.generation = self.pod.generation.saturating_add(1);
        self.write();
        self.sleep_ms(1_500).await;
        let outcome = ended_by(Cause::NodeLost, code);
        self.stop_all(outcome).await;
        self.end(outcome, |_| true);
        self.write();
        self.sleep_ms(500).await;
        self.pod.finalizers.clear();
        self.write();
        self.remove();
    }

    async fn rejected(&mut self) {
        self.write();
        self.sleep_ms(100).await;
        let why = "Node didn't have enough resource: memory, requested: 4398046511104, used: 67108864, \
                   capacity: 25276502016";
        self.pod_event("Warning", "OutOfmemory", why);
        self.pod.stage = Stage::Rejected;
        let message = format!("Pod was rejected: {why}");
        self.fail("OutOfmemory", &message, PodFailure::OutOfMemory);
        self.write();
        self.sleep_ms(seconds(5)).await;
        // A restarted kubelet makes up a record for a container that never was.
        self.pod.stage = Stage::Synced;
        let outcome = Outcome {
            exit_code: ExitCode(Some(137)),
            reason: Reason::ContainerStatusUnknown,
            cause: Cause::Unknown,
        };
        let message = "The container could not be located when the pod was terminated".to_owned();
        for container in &mut self.pod.containers {
            let record = Record { outcome, message: message.clone(), ran: None };
            container.state = RunState::Terminated(record);
        }
        self.write();
    }
}
