//! The conditions of a pod, which follow from the state of its containers.

use serde_json::{Value, json};

use super::objects::{ContainerObject, PodObject, RunState};
use super::pod_json::time;
use super::script::Restart;
use crate::termination::ContainerType;
use crate::time::Timestamp;

impl PodObject {
    /// All conditions, as the kubelet writes them.
    pub(super) fn conditions(&mut self, now: Timestamp) -> Vec<Value> {
        let sandbox = self.containers.iter().any(|c| c.id.is_some() || c.last.is_some()) && !self.terminal();
        let incomplete = self.incomplete();
        let unready = self.names(|c| c.spec.kind != ContainerType::Init && !c.ready());
        let not_ready = match self.over() {
            Some(word) => Some((word, None)),
            None => unready.map(|names| {
                ("ContainersNotReady", Some(format!("containers with unready status: [{names}]")))
            }),
        };
        let not_initialized = incomplete.map(|names| {
            ("ContainersNotInitialized", Some(format!("containers with incomplete status: [{names}]")))
        });
        let mut conditions = vec![
            self.condition("PodReadyToStartContainers", sandbox, now),
            self.unless("Initialized", not_initialized, now),
            self.unless("Ready", not_ready.clone(), now),
            self.unless("ContainersReady", not_ready, now),
            self.condition("PodScheduled", true, now),
        ];
        conditions.extend(self.disruption());
        conditions
    }

    fn disruption(&self) -> Option<Value> {
        let disruption = self.disruption.as_ref()?;
        Some(json!({
            "type": "DisruptionTarget", "observedGeneration": disruption.generation, "status": "True",
            "lastProbeTime": null, "lastTransitionTime": time(disruption.at), "reason": disruption.reason,
            "message": disruption.message,
        }))
    }

    /// The names of some containers; `None` if there are none.
    fn names(&self, keep: impl Fn(&ContainerObject) -> bool) -> Option<String> {
        let names = self.containers.iter().filter(|c| keep(c)).map(|c| c.spec.name);
        Some(names.collect::<Vec<_>>().join(" ")).filter(|names| !names.is_empty())
    }

    /// The init containers and sidecars for which the others wait.
    fn incomplete(&self) -> Option<String> {
        let waits = |c: &ContainerObject| match c.spec.kind {
            ContainerType::Init => !c.ready(),
            ContainerType::Sidecar => c.id.is_none() && c.last.is_none(),
            ContainerType::App | ContainerType::Ephemeral => false,
        };
        self.names(waits).filter(|_| !self.terminal())
    }

    /// Why it is not ready any more if its own work is over.
    fn over(&self) -> Option<&'static str> {
        let codes =
            self.containers.iter().filter(|c| c.spec.kind == ContainerType::App).map(|c| match &c.state {
                RunState::Terminated(record) => record.outcome.exit_code.0,
                RunState::Running(_) | RunState::Waiting(..) => None,
            });
        let codes: Option<Vec<i32>> = codes.collect();
        let failed = codes.map(|codes| codes.iter().any(|code| *code != 0));
        match (self.phase, self.spec.restart, failed) {
            ("Failed", _, _) | (_, Restart::Never, Some(true)) => Some("PodFailed"),
            ("Succeeded", _, _) | (_, Restart::Never | Restart::OnFailure, Some(false)) => {
                Some("PodCompleted")
            }
            _ => None,
        }
    }

    /// A condition that holds unless there is a reason, with a message or without.
    fn unless(
        &mut self,
        name: &'static str,
        why: Option<(&'static str, Option<String>)>,
        now: Timestamp,
    ) -> Value {
        let mut condition = self.condition(name, why.is_none(), now);
        if let Some((reason, message)) = why {
            condition["reason"] = reason.into();
            if let Some(message) = message {
                condition["message"] = message.into();
            }
        }
        condition
    }

    /// A condition; it remembers since when it is as it is.
    pub(super) fn condition(&mut self, name: &'static str, status: bool, now: Timestamp) -> Value {
        let since = self.conditions.entry(name).or_insert((status, now));
        if since.0 != status {
            *since = (status, now);
        }
        json!({
            "type": name, "observedGeneration": self.generation,
            "status": if status { "True" } else { "False" },
            "lastProbeTime": null, "lastTransitionTime": time(since.1),
        })
    }
}
