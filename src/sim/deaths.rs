//! How single containers end: the steps around each kind of death, as a kubelet takes them.

use super::kubelet::Kubelet;
use super::objects::{Ran, Record};
use super::recorder::{About, Note};
use super::script::{Death, Probe, Restart};
use crate::termination::{ContainerType, Outcome};
use crate::time::Timestamp;

/// What containerd says of a command that does not exist.
const NO_SUCH_FILE: &str = "failed to create containerd task: failed to create shim task: OCI runtime create \
                            failed: runc create failed: unable to start container process: exec: \
                            \"/no/such/binary\": stat /no/such/binary: no such file or directory: unknown";

/// From the end of a process to the kubelet's notice of it.
const NOTICE_MS: u64 = 400;

impl Kubelet<'_> {
    /// A container ends.
    pub(super) async fn dies(&mut self, name: &str, death: Death) {
        let Some(index) = self.index(name) else { return };
        let outcome = death.outcome();
        match death {
            Death::Exit(_) | Death::OomLimit(_) | Death::NodeCrashed => {
                self.exits(index, outcome, "").await;
            }
            Death::ExitSaying(_, message) => self.exits(index, outcome, message).await,
            Death::OomNode => {
                self.system_oom();
                self.exits(index, outcome, "").await;
            }
            Death::StartError => self.start_error(index, outcome).await,
            Death::Liveness(_) => self.probe_kill(index, outcome, "Liveness", "liveness").await,
            Death::Startup(_) => self.probe_kill(index, outcome, "Startup", "startup").await,
            Death::PostStart => self.post_start(index, outcome).await,
            Death::Redefined(_) => self.redefined(index, outcome).await,
            Death::Resized(_) => self.resized(index, outcome).await,
            Death::SandboxChanged(_) => self.sandbox_changed(index, outcome).await,
            Death::Vanished => self.vanished(index, outcome).await,
            Death::Twice(_) => self.twice(index, outcome).await,
        }
    }

    async fn exits(&mut self, index: usize, outcome: Outcome, message: &str) {
        let Some(record) = self.record(index, outcome, message) else { return };
        self.sleep_ms(NOTICE_MS).await;
        self.exited(index, record).await;
    }

    /// Kubernetes: pkg/kubelet/oom/oom_watcher_linux.go; the node's uid is its name there.
    fn system_oom(&mut self) {
        let node = self.pod.node;
        let about = About { kind: "Node", namespace: "", name: node.to_owned(), uid: node.to_owned(), node };
        let message = "System OOM encountered, victim process: java, pid: 31337";
        let note = Note { kind: "Warning", reason: "SystemOOM", message, field: "", source: "kubelet" };
        self.recorder.record(self.ids, &about, note);
    }

    async fn start_error(&mut self, index: usize, outcome: Outcome) {
        let Some(image) = self.pod.containers.get(index).map(|c| c.image.clone()) else { return };
        let pulled =
            format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
        self.event(index, "Normal", "Pulled", &pulled);
        self.event(index, "Normal", "Created", "Container created");
        self.event(index, "Warning", "Failed", &format!("Error: {NO_SUCH_FILE}"));
        let ran = Ran { from: Timestamp(0), to: self.now(), id: self.ids.container() };
        self.sleep_ms(NOTICE_MS).await;
        let record = Record { outcome, message: NO_SUCH_FILE.to_owned(), ran: Some(ran) };
        self.failed_start(index, "RunContainerError", NO_SUCH_FILE, record).await;
    }

    async fn probe_kill(&mut self, index: usize, outcome: Outcome, probe: &'static str, word: &'static str) {
        let Some(spec) = self.pod.containers.get(index).map(|c| c.spec) else { return };
        let timing = if word == "startup" { spec.startup } else { spec.liveness };
        let Probe { period, failures } = timing.unwrap_or(Probe { period: 10, failures: 3 });
        for _ in 0..failures {
            self.sleep_ms(seconds(period)).await;
            self.event(index, "Warning", "Unhealthy", &format!("{probe} probe failed: "));
        }
        let name = spec.name;
        let message = match (self.script.pod.restart, spec.kind) {
            (_, ContainerType::Sidecar) => format!("Init container {name} failed {word} probe"),
            (Restart::Never, _) => format!("Stopping container {name}"),
            _ => format!("Container {name} failed {word} probe, will be restarted"),
        };
        self.stop(index, outcome, &message, true).await;
    }

    /// The kubelet stops a container and says why; it is restarted unless the pod forbids it.
    async fn stop(&mut self, index: usize, outcome: Outcome, message: &str, backs_off: bool) {
        self.event(index, "Normal", "Killing", message);
        self.sleep_ms(self.stop_ms(outcome.exit_code.0)).await;
        if let Some(record) = self.record(index, outcome, "") {
            self.killed(index, record, backs_off).await;
        }
    }

    /// How long a container takes to end after it was asked to: 137 means that it had to be killed.
    pub(super) fn stop_ms(&self, code: Option<i32>) -> u64 {
        if code == Some(137) { seconds(self.script.pod.grace) } else { 700 }
    }

    async fn post_start(&mut self, index: usize, outcome: Outcome) {
        self.launch(index).await;
        self.event(index, "Warning", "FailedPostStartHook", "PostStartHook failed");
        self.event(index, "Normal", "Killing", "FailedPostStartHook");
        self.sleep_ms(seconds(self.script.pod.grace)).await;
        let Some(record) = self.record(index, outcome, "") else { return };
        let text = format!(
            "Exec lifecycle hook ([sh -c exit 1]) for Container \"{}\" in Pod \"{}_{}({})\" failed - error: \
             command 'sh -c exit 1' exited with 1: , message: \"\"",
            self.pod.containers.get(index).map_or("", |c| c.spec.name),
            self.pod.name,
            self.pod.namespace,
            self.pod.uid,
        );
        self.failed_start(index, "PostStartHookError", &text, record).await;
    }

    async fn redefined(&mut self, index: usize, outcome: Outcome) {
        let Some(container) = self.pod.containers.get_mut(index) else { return };
        container.image.push_str(".1");
        let message = format!("Container {} definition changed, will be restarted", container.spec.name);
        self.changed(index, outcome, &message).await;
    }

    async fn resized(&mut self, index: usize, outcome: Outcome) {
        let Some(container) = self.pod.containers.get_mut(index) else { return };
        let larger = container.memory.as_deref() == Some("64Mi");
        container.memory = Some(if larger { "128Mi" } else { "64Mi" }.to_owned());
        let message = format!("Container {} resize requires restart", container.spec.name);
        self.changed(index, outcome, &message).await;
    }

    async fn changed(&mut self, index: usize, outcome: Outcome, message: &str) {
        self.pod.generation = self.pod.generation.saturating_add(1);
        self.write();
        self.sleep_ms(100).await;
        self.stop(index, outcome, message, false).await;
    }

    async fn sandbox_changed(&mut self, index: usize, outcome: Outcome) {
        let Some(name) = self.pod.containers.get(index).map(|c| c.spec.name) else { return };
        let why = "Pod sandbox changed, it will be killed and re-created.";
        self.pod_event("Normal", "SandboxChanged", why);
        self.stop(index, outcome, &format!("Stopping container {name}"), false).await;
    }
}

/// Seconds of a spec in milliseconds.
pub(super) fn seconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000)
}
