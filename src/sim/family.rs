//! The controllers of simulated pods: their objects, and the names and labels that they give to pods.

use std::sync::Arc;

use serde_json::{Value, json};

use super::ids::Ids;
use super::kinds::Resource;
use super::objects::OwnerRef;
use super::script::{Owner, Script};
use super::store::Store;
use crate::termination::Workload;
use crate::time::Timestamp;

/// What a controller gives to a pod that it makes.
pub(super) struct Birth {
    pub(super) name: String,
    pub(super) generate_name: Option<String>,
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) annotations: Vec<(&'static str, String)>,
    pub(super) owner: Option<OwnerRef>,
    pub(super) finalizers: Vec<&'static str>,
}

/// The controllers of one workload.
pub(super) struct Family {
    store: Arc<Store>,
    script: Script,
    /// The template's hash.
    hash: String,
    /// The object at the top, if it outlives pods.
    top: Option<OwnerRef>,
    /// The controller of the pods, if it outlives them.
    controller: Option<OwnerRef>,
    /// The controller of the last pod, if it goes with it.
    passing: Option<(Resource, String)>,
    /// Minutes since 1970, by which CronJobs name their Jobs.
    minute: i64,
}

impl Family {
    /// Makes the objects that outlive pods.
    pub(super) fn new(store: &Arc<Store>, script: &Script, ids: &mut Ids, now: Timestamp) -> Self {
        let mut family = Self {
            store: Arc::clone(store),
            script: *script,
            hash: ids.hash(),
            top: None,
            controller: None,
            passing: None,
            minute: now.0.div_euclid(60_000),
        };
        let name = script.name.to_owned();
        family.top = match script.owner {
            Owner::Deployment => Some(family.make(ids, Resource::Deployments, &name, None, None)),
            Owner::Rollout => Some(family.make(ids, Resource::Rollouts, &name, None, None)),
            Owner::StatefulSet => Some(family.make(ids, Resource::StatefulSets, &name, None, None)),
            Owner::DaemonSet => Some(family.make(ids, Resource::DaemonSets, &name, None, None)),
            Owner::Job => Some(family.make(ids, Resource::Jobs, &name, None, None)),
            Owner::CronJob => Some(family.make(ids, Resource::CronJobs, &name, None, None)),
            Owner::GeneratedJob | Owner::Workflow | Owner::Bare | Owner::Static => None,
        };
        family.controller = match script.owner {
            Owner::Deployment | Owner::Rollout => {
                let name = format!("{name}-{}", family.hash);
                let top = family.top.clone();
                Some(family.make(ids, Resource::ReplicaSets, &name, None, top.as_ref()))
            }
            Owner::StatefulSet | Owner::DaemonSet | Owner::Job => family.top.clone(),
            _ => None,
        };
        family
    }

    /// The labels of what is counted for it.
    pub(super) fn workload(&self) -> Workload {
        Workload {
            namespace: self.script.namespace.into(),
            workload_type: self.script.owner.workload_type().into(),
            name: self.script.name.into(),
        }
    }

    fn make(
        &self,
        ids: &mut Ids,
        resource: Resource,
        name: &str,
        generate_name: Option<&str>,
        owner: Option<&OwnerRef>,
    ) -> OwnerRef {
        let uid = ids.uid();
        let mut metadata = json!({"namespace": self.script.namespace, "name": name, "uid": uid});
        if let Some(prefix) = generate_name {
            metadata["generateName"] = prefix.into();
        }
        if let Some(owner) = owner {
            metadata["ownerReferences"] = owner.json();
        }
        self.store.put(resource, json!({"metadata": metadata, "spec": {}, "status": {}}));
        OwnerRef { api_version: resource.api_version(), kind: resource.kind(), name: name.to_owned(), uid }
    }

    /// Removes the controller of the last pod if it goes with it.
    pub(super) fn bury(&mut self) {
        if let Some((resource, name)) = self.passing.take() {
            self.store.delete(resource, self.script.namespace, &name);
        }
    }

    /// The controller of the next pod.
    fn controller(&mut self, ids: &mut Ids) -> Option<OwnerRef> {
        let Script { owner, name, .. } = self.script;
        let (resource, name, prefix) = match owner {
            Owner::GeneratedJob => (Resource::Jobs, format!("{name}-{}", ids.suffix()), true),
            Owner::Workflow => (Resource::Workflows, format!("{name}-{}", ids.suffix()), true),
            Owner::CronJob => {
                self.minute = self.minute.saturating_add(1);
                (Resource::Jobs, format!("{name}-{:08}", self.minute), false)
            }
            _ => return self.controller.clone(),
        };
        let prefix = prefix.then(|| format!("{}-", self.script.name));
        let made = self.make(ids, resource, &name, prefix.as_deref(), self.top.as_ref());
        self.passing = Some((resource, name));
        Some(made)
    }

    /// Names, labels and owner of the next pod.
    pub(super) fn birth(&mut self, ids: &mut Ids, now: Timestamp) -> Birth {
        let Script { owner, name, node, .. } = self.script;
        let controller = self.controller(ids);
        let generated = |prefix: String, ids: &mut Ids| (prefix.clone() + &ids.suffix(), Some(prefix));
        let controller_name = controller.as_ref().map(|owner| owner.name.clone()).unwrap_or_default();
        let (pod, generate_name) = match owner {
            Owner::StatefulSet => (format!("{name}-0"), Some(format!("{name}-"))),
            Owner::Bare => (name.to_owned(), None),
            Owner::Static => (format!("{name}-{node}"), None),
            Owner::Workflow => (format!("{controller_name}-step-{}", ids.suffix()), None),
            _ => generated(format!("{controller_name}-"), ids),
        };
        let (mut annotations, mut owner_ref) = (Vec::new(), controller);
        if owner == Owner::Static {
            annotations = self.mirror(now);
            owner_ref = Some(OwnerRef {
                api_version: "v1",
                kind: "Node",
                name: node.to_owned(),
                uid: node_uid(node),
            });
        }
        let uid = owner_ref.as_ref().map(|owner| owner.uid.clone()).unwrap_or_default();
        let jobs = matches!(owner, Owner::Job | Owner::GeneratedJob | Owner::CronJob);
        Birth {
            labels: self.labels(&pod, &controller_name, &uid),
            name: pod,
            generate_name,
            annotations,
            owner: owner_ref,
            finalizers: if jobs { vec!["batch.kubernetes.io/job-tracking"] } else { Vec::new() },
        }
    }

    fn labels(&self, pod: &str, controller: &str, uid: &str) -> Vec<(&'static str, String)> {
        let Script { owner, name, .. } = self.script;
        let hash = self.hash.clone();
        let mut labels = vec![("app", name.to_owned()), ("team", team(name).to_owned())];
        labels.extend(match owner {
            Owner::Deployment => vec![("pod-template-hash", hash)],
            Owner::Rollout => vec![("rollouts-pod-template-hash", hash)],
            Owner::StatefulSet => vec![
                ("apps.kubernetes.io/pod-index", "0".to_owned()),
                ("controller-revision-hash", format!("{name}-{hash}")),
                ("statefulset.kubernetes.io/pod-name", pod.to_owned()),
            ],
            Owner::DaemonSet => {
                vec![("controller-revision-hash", hash), ("pod-template-generation", "1".to_owned())]
            }
            Owner::Job | Owner::GeneratedJob | Owner::CronJob => vec![
                ("batch.kubernetes.io/controller-uid", uid.to_owned()),
                ("batch.kubernetes.io/job-name", controller.to_owned()),
                ("controller-uid", uid.to_owned()),
                ("job-name", controller.to_owned()),
            ],
            Owner::Workflow => vec![("workflows.argoproj.io/workflow", controller.to_owned())],
            Owner::Bare | Owner::Static => Vec::new(),
        });
        labels
    }

    fn mirror(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        vec![
            ("kubernetes.io/config.hash", self.hash.clone()),
            ("kubernetes.io/config.mirror", self.hash.clone()),
            ("kubernetes.io/config.seen", now.to_string()),
            ("kubernetes.io/config.source", "file".to_owned()),
        ]
    }
}

/// A label for `--copy-label` to copy.
fn team(name: &str) -> &'static str {
    match name.len() % 3 {
        0 => "checkout",
        1 => "search",
        _ => "platform",
    }
}

/// The uid of a node.
pub(super) fn node_uid(node: &str) -> String {
    Ids::new(node.bytes().map(u64::from).sum()).uid()
}

/// A node object.
pub(super) fn node(name: &str) -> Value {
    json!({"metadata": {"name": name, "uid": node_uid(name)}, "spec": {}, "status": {}})
}
