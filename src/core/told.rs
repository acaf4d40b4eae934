//! What one event says, by its reason and the beginning of its message.

use serde::{Deserialize, Serialize};

use crate::pod::Event;
use crate::termination::Cause;

/// One thing that an event told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// The kubelet killed a container for this cause.
    Kill(Cause),
    /// `Stopping container`.
    Stopping,
    /// This probe failed.
    Unhealthy(Cause),
    /// `SandboxChanged`.
    SandboxChanged,
    /// The whole pod is ended, for this cause.
    PodEnded(Cause),
}

/// The container of `spec.containers{app}`.
fn container_of(field_path: &str) -> &str {
    let inside = field_path.split_once('{').map(|(_, rest)| rest);
    inside.and_then(|rest| rest.strip_suffix('}')).unwrap_or("")
}

/// What an event tells, and of which container. Messages: pkg/kubelet/kuberuntime/kuberuntime_manager.go
/// (`computePodActions`), kuberuntime_container.go (`killContainer`), pkg/kubelet/prober/prober.go.
pub fn read(event: &Event) -> Option<(Told, &str)> {
    // client-go's aggregation keeps one message of many (tools/record/events_cache.go).
    let message = event.message.strip_prefix("(combined from similar events): ").unwrap_or(&event.message);
    let by_path = container_of(&event.involved_object.field_path);
    match event.reason.as_str() {
        "Killing" => read_killing(message, by_path),
        "Unhealthy" if message.starts_with("Liveness probe") => {
            Some((Told::Unhealthy(Cause::LivenessProbe), by_path))
        }
        "Unhealthy" if message.starts_with("Startup probe") => {
            Some((Told::Unhealthy(Cause::StartupProbe), by_path))
        }
        "SandboxChanged" => Some((Told::SandboxChanged, "")),
        // The reasons that the pod's status will give, see `facts.rs`.
        "Evicted" => Some((Told::PodEnded(Cause::Evicted), "")),
        "DeadlineExceeded" => Some((Told::PodEnded(Cause::DeadlineExceeded), "")),
        "Preempting" => Some((Told::PodEnded(Cause::Preempted), "")),
        _ => None,
    }
}

fn read_killing<'a>(message: &'a str, by_path: &'a str) -> Option<(Told, &'a str)> {
    if let Some(name) = message.strip_prefix("Stopping container ") {
        return Some((Told::Stopping, name));
    }
    if message.starts_with("FailedPostStartHook") {
        return (!by_path.is_empty()).then_some((Told::Kill(Cause::PostStartHook), by_path));
    }
    let rest = message.strip_prefix("Init container ").or_else(|| message.strip_prefix("Container "))?;
    let (name, why) = rest.split_once(' ')?;
    let cause = [
        ("failed liveness probe", Cause::LivenessProbe),
        ("failed startup probe", Cause::StartupProbe),
        ("definition changed", Cause::DefinitionChanged),
        ("resize requires restart", Cause::Resized),
    ]
    .into_iter()
    .find_map(|(prefix, cause)| why.starts_with(prefix).then_some(cause))?;
    Some((Told::Kill(cause), name))
}
