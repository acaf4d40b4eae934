//! The resources that the simulated API server knows, and how a URL path names them.

/// A resource type. Pods and events are listed and watched; the others are owners that are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// core/v1 pods.
    Pods,
    /// core/v1 events.
    Events,
    /// core/v1 nodes, without namespaces.
    Nodes,
    /// apps/v1 replicasets.
    ReplicaSets,
    /// apps/v1 deployments.
    Deployments,
    /// apps/v1 statefulsets.
    StatefulSets,
    /// apps/v1 daemonsets.
    DaemonSets,
    /// batch/v1 jobs.
    Jobs,
    /// batch/v1 cronjobs.
    CronJobs,
    /// A custom kind that owns ReplicaSets as a Deployment does.
    Rollouts,
    /// A custom kind that owns pods.
    Workflows,
}

impl Resource {
    /// Every resource.
    pub const ALL: &'static [Self] = &[
        Self::Pods,
        Self::Events,
        Self::Nodes,
        Self::ReplicaSets,
        Self::Deployments,
        Self::StatefulSets,
        Self::DaemonSets,
        Self::Jobs,
        Self::CronJobs,
        Self::Rollouts,
        Self::Workflows,
    ];

    /// Group and version, as in `apps/v1`.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Pods | Self::Events | Self::Nodes => "v1",
            Self::ReplicaSets | Self::Deployments | Self::StatefulSets | Self::DaemonSets => "apps/v1",
            Self::Jobs | Self::CronJobs => "batch/v1",
            Self::Rollouts | Self::Workflows => "argoproj.io/v1alpha1",
        }
    }

    /// The kind, as in `ReplicaSet`.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Pods => "Pod",
            Self::Events => "Event",
            Self::Nodes => "Node",
            Self::ReplicaSets => "ReplicaSet",
            Self::Deployments => "Deployment",
            Self::StatefulSets => "StatefulSet",
            Self::DaemonSets => "DaemonSet",
            Self::Jobs => "Job",
            Self::CronJobs => "CronJob",
            Self::Rollouts => "Rollout",
            Self::Workflows => "Workflow",
        }
    }

    /// The name in URLs, as in `replicasets`.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Events => "events",
            Self::Nodes => "nodes",
            Self::ReplicaSets => "replicasets",
            Self::Deployments => "deployments",
            Self::StatefulSets => "statefulsets",
            Self::DaemonSets => "daemonsets",
            Self::Jobs => "jobs",
            Self::CronJobs => "cronjobs",
            Self::Rollouts => "rollouts",
            Self::Workflows => "workflows",
        }
    }

    /// Whether its objects live in namespaces.
    #[must_use]
    pub const fn namespaced(self) -> bool {
        !matches!(self, Self::Nodes)
    }

    /// The group alone, empty for core.
    #[must_use]
    pub fn group(self) -> &'static str {
        self.api_version().split_once('/').map_or("", |(group, _)| group)
    }

    /// The fields that a field selector may name besides `metadata.name` and `metadata.namespace`.
    #[must_use]
    pub const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Pods => &[
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "spec.hostNetwork",
                "status.phase",
                "status.podIP",
                "status.nominatedNodeName",
            ],
            Self::Events => &[
                "involvedObject.kind",
                "involvedObject.namespace",
                "involvedObject.name",
                "involvedObject.uid",
                "involvedObject.apiVersion",
                "involvedObject.resourceVersion",
                "involvedObject.fieldPath",
                "reason",
                "reportingComponent",
                "source",
                "type",
            ],
            _ => &[],
        }
    }
}

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Objects of a resource: one (with a name) or all, in one namespace or all.
    Objects {
        /// Which resource.
        resource: Resource,
        /// One namespace; all if absent.
        namespace: Option<String>,
        /// One object.
        name: Option<String>,
    },
    /// `/api/v1` or `/apis/GROUP/VERSION`: the resources of a group's version.
    Discovery(String),
    /// `/apis`: the groups.
    Groups,
    /// `/version`.
    Version,
    /// `/livez`, `/readyz` and `/healthz`.
    Health,
    /// The namespace kube-system, whose uid stands for the cluster.
    KubeSystem,
}

/// Reads a path as the API server does.
#[must_use]
pub fn target(path: &str) -> Option<Target> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["apis"] => Some(Target::Groups),
        ["api", "v1", "namespaces", "kube-system"] => Some(Target::KubeSystem),
        ["version"] => Some(Target::Version),
        ["livez" | "readyz" | "healthz"] => Some(Target::Health),
        ["api", version] => discovery((*version).to_owned()),
        ["apis", group, version] => discovery(format!("{group}/{version}")),
        ["api", version, rest @ ..] => objects(version, rest),
        ["apis", group, version, rest @ ..] => objects(&format!("{group}/{version}"), rest),
        _ => None,
    }
}

fn discovery(api_version: String) -> Option<Target> {
    Resource::ALL.iter().any(|r| r.api_version() == api_version).then_some(Target::Discovery(api_version))
}

fn objects(api_version: &str, rest: &[&str]) -> Option<Target> {
    let (namespace, plural, name) = match rest {
        ["namespaces", namespace, plural] => (Some(*namespace), *plural, None),
        ["namespaces", namespace, plural, name] => (Some(*namespace), *plural, Some(*name)),
        [plural] => (None, *plural, None),
        [plural, name] => (None, *plural, Some(*name)),
        _ => return None,
    };
    let resource = *Resource::ALL.iter().find(|r| r.api_version() == api_version && r.plural() == plural)?;
    let scoped = namespace.is_some();
    if scoped && !resource.namespaced() || name.is_some() && scoped != resource.namespaced() {
        return None;
    }
    Some(Target::Objects { resource, namespace: namespace.map(str::to_owned), name: name.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::{Resource, Target, target};

    #[test]
    fn paths_are_read_as_the_api_server_reads_them() {
        let objects = |resource, namespace: Option<&str>, name: Option<&str>| {
            Some(Target::Objects {
                resource,
                namespace: namespace.map(str::to_owned),
                name: name.map(str::to_owned),
            })
        };
        let cases = [
            ("/api/v1/pods", objects(Resource::Pods, None, None)),
            ("/api/v1/namespaces/shop/events", objects(Resource::Events, Some("shop"), None)),
            ("/api/v1/nodes/node-1", objects(Resource::Nodes, None, Some("node-1"))),
            ("/api/v1/namespaces/shop/nodes", None),
            ("/api/v1/pods/web-0", None),
            (
                "/apis/batch/v1/namespaces/shop/jobs/report",
                objects(Resource::Jobs, Some("shop"), Some("report")),
            ),
            ("/apis/argoproj.io/v1alpha1", Some(Target::Discovery("argoproj.io/v1alpha1".to_owned()))),
            ("/apis/example.com/v1", None),
            ("/api/v1/namespaces/shop/replicasets", None),
            ("/api/v1/namespaces/kube-system", Some(Target::KubeSystem)),
            ("/version", Some(Target::Version)),
            ("/", None),
        ];
        for (path, expected) in cases {
            assert_eq!(target(path), expected, "{path}");
        }
    }
}
