//! What to do next about a row: one command, and the runbook that goes on from there.

use crate::runbook::fill::{Names, Part, Placeholder};
use crate::runbook::library::Page;
use crate::runbook::{Runbooks, page};
use crate::termination::{Cause, ContainerType, Termination};

/// The first command to run, filled in; none where the names are not those of Kubernetes objects, since what is printed
/// here is pasted into a shell.
#[must_use]
pub fn command(end: &Termination) -> Option<String> {
    let mut names = Names::default();
    names.complete(Placeholder::Namespace, &end.subject.workload.namespace);
    names.complete(Placeholder::Container, &end.subject.container);
    names.complete(Placeholder::Pod, &end.pod);
    names.complete(Placeholder::Node, &end.node);
    let parts = names.fill(template(end));
    parts
        .into_iter()
        .map(|part| match part {
            Part::Text(text) | Part::Name(text) => Some(text),
            Part::Open(_) => None,
        })
        .collect()
}

/// Where the evidence is, by cause.
const fn template(end: &Termination) -> &'static str {
    match end.outcome.cause {
        // The only attempt has no previous one.
        Cause::Application | Cause::FatalSignal if end.restart_count == 0 => {
            "kubectl logs -n NAMESPACE POD -c CONTAINER --tail=100"
        }
        Cause::Application | Cause::FatalSignal => {
            "kubectl logs -n NAMESPACE POD -c CONTAINER --previous --tail=100"
        }
        Cause::OomNode | Cause::Lost | Cause::Evicted | Cause::NodeShutdown | Cause::NodeLost => {
            "kubectl describe node NODE"
        }
        Cause::OomLimit if matches!(end.subject.container_type, ContainerType::App) => {
            "kubectl get -n NAMESPACE pod POD -o jsonpath='{.spec.containers[?(@.name==\"CONTAINER\")].resources}'"
        }
        Cause::StartFailed
        | Cause::OomLimit
        | Cause::Preempted
        | Cause::Drained
        | Cause::NodeTaint
        | Cause::DeadlineExceeded
        | Cause::LivenessProbe
        | Cause::StartupProbe
        | Cause::PostStartHook
        | Cause::DefinitionChanged
        | Cause::Resized
        | Cause::SandboxChanged
        | Cause::GracePeriodExceeded
        | Cause::PodDeleted
        | Cause::PodCompleted
        | Cause::Completed
        | Cause::Killed
        | Cause::Unknown => "kubectl describe -n NAMESPACE pod POD",
    }
}

/// The runbook: a link where links lead to somewhere, else its file and section.
#[must_use]
pub fn runbook(end: &Termination, runbooks: &Runbooks) -> String {
    if !runbooks.base().starts_with('/') {
        return runbooks.link(end);
    }
    let (name, cause) = (page(end), end.outcome.cause.as_str());
    let section = Page::find(name).is_some_and(|page| page.has_anchor(cause));
    if section { format!("{name}#{cause}") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::tests::termination;

    #[test]
    fn every_cause_has_a_command_that_is_filled_in() {
        let mut end = termination("web");
        for &cause in Cause::ALL {
            for container_type in [ContainerType::App, ContainerType::Init] {
                (end.outcome.cause, end.subject.container_type) = (cause, container_type);
                let command = command(&end).expect("a command");
                assert!(command.starts_with("kubectl "), "{cause}: {command}");
                let open = Placeholder::ALL.iter().find(|open| command.contains(open.word()));
                assert_eq!(open, None, "{cause}: {command}");
            }
        }
    }

    #[test]
    fn nothing_that_is_no_name_reaches_a_shell() {
        let mut end = termination("web");
        end.outcome.cause = Cause::Killed;
        assert!(command(&end).is_some());
        for pod in ["", "a b", "$(reboot)", "a;b", "-rf", "a\nb"] {
            end.pod = pod.into();
            assert_eq!(command(&end), None, "{pod:?}");
        }
    }
}
