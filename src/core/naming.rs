//! What a workload is called, by its top object or by what is known of it.

use std::sync::Arc;

use super::OwnerKey;
use crate::pod::{Metadata, OwnerReference, Pod};
use crate::termination::Workload;

/// A workload.
pub fn workload(namespace: &Arc<str>, workload_type: &str, name: &str) -> Workload {
    Workload { namespace: Arc::clone(namespace), workload_type: workload_type.into(), name: name.into() }
}

/// kubernetes-mixin's words: the kind in lower case.
pub fn workload_of(key: &OwnerKey, name: &str) -> Workload {
    workload(&key.namespace, &key.kind.to_lowercase(), name)
}

/// One-shot objects are made from a name prefix, so that a thousand runs are one series.
pub fn own_name(metadata: &Metadata) -> &str {
    let prefix = metadata.generate_name.trim_end_matches('-');
    if prefix.is_empty() { &metadata.name } else { prefix }
}

/// What the pod itself tells without a call: a static pod's node, and a Deployment by its ReplicaSet's suffix.
pub fn known_at_sight(pod: &Pod, controller: &OwnerReference, namespace: &Arc<str>) -> Option<Workload> {
    match controller.kind.as_str() {
        "Node" => {
            let name = &pod.metadata.name;
            let suffix = format!("-{}", controller.name);
            Some(workload(namespace, "staticpod", name.strip_suffix(&suffix).unwrap_or(name)))
        }
        "ReplicaSet" => {
            let hash = pod.metadata.labels.get("pod-template-hash").filter(|hash| !hash.is_empty())?;
            let name = controller.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
            (!name.is_empty()).then(|| workload(namespace, "deployment", name))
        }
        _ => None,
    }
}

/// A Job named `<name>-<8 digits>` was made by CronJob `<name>` (pkg/controller/cronjob, `getJobName`: the
/// scheduled time in minutes).
pub fn cron_job_of(key: &OwnerKey) -> Option<&str> {
    let (name, digits) = key.name.rsplit_once('-').filter(|_| &*key.kind == "Job")?;
    (digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty())
        .then_some(name)
}
