//! The slim shapes of what the API sends: only the fields that are read, so that decoding a pod of 12 KB
//! costs a fifth of the full type and nothing of it (no environment value, no command) stays in memory.
//!
//! Null and missing are alike everywhere; a time that can't be read is no time. A field of the wrong JSON
//! type makes the object undecodable, which costs that object only (see `watch`).

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use crate::text::cut;
use crate::time::Timestamp;

/// Anything that is listed and watched.
pub trait Object: serde::de::DeserializeOwned + Send + 'static {
    /// The object's metadata.
    fn metadata(&self) -> &Metadata;
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The longest name that is kept: the API allows 253 bytes for names that it checks, and does not check all (the kind
/// and name of an owner reference may be anything, of any length).
const LONGEST_NAME: usize = 256;
/// The longest image that is kept: a name of 255 bytes with a tag of 128 and a digest.
const LONGEST_IMAGE: usize = 512;

/// A text of at most so many bytes: what is longer is cut.
fn bounded<'de, D: Deserializer<'de>>(deserializer: D, most: usize) -> Result<String, D::Error> {
    let mut text: String = or_default(deserializer)?;
    if text.len() > most {
        text = cut(&text, most).to_owned();
    }
    Ok(text)
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    bounded(deserializer, LONGEST_NAME)
}

fn optional_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.map(|text| cut(&text, LONGEST_NAME).to_owned()))
}

fn image<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    bounded(deserializer, LONGEST_IMAGE)
}

/// A list that may be null and may hold nulls.
fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let items: Option<Vec<Option<T>>> = Option::deserialize(deserializer)?;
    Ok(items.unwrap_or_default().into_iter().flatten().collect())
}

/// A map that may be null and may hold nulls.
fn map<'de, D>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    let items: Option<BTreeMap<String, Option<String>>> = Option::deserialize(deserializer)?;
    let short = |value: Option<String>| {
        let value = value.unwrap_or_default();
        if value.len() > LONGEST_NAME { cut(&value, LONGEST_NAME).to_owned() } else { value }
    };
    Ok(items.unwrap_or_default().into_iter().map(|(k, v)| (k, short(v))).collect())
}

/// A time; containerd writes 1970 as the start of what could not be started.
fn time<'de, D>(deserializer: D) -> Result<Option<Timestamp>, D::Error>
where
    D: Deserializer<'de>,
{
    let text: Option<std::borrow::Cow<'de, str>> = Option::deserialize(deserializer)?;
    Ok(text.and_then(|text| Timestamp::parse(&text)).filter(|time| *time > Timestamp::default()))
}

/// Present and not null, whatever it holds.
fn present<'de, D>(deserializer: D) -> Result<bool, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(Option::<IgnoredAny>::deserialize(deserializer)?.is_some())
}

/// `metadata` of any object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Name.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// Namespace; empty for cluster-scoped objects.
    #[serde(deserialize_with = "name")]
    pub namespace: String,
    /// Unique over the cluster's life.
    #[serde(deserialize_with = "name")]
    pub uid: String,
    /// Opaque; compared as a number only within one uid.
    #[serde(deserialize_with = "name")]
    pub resource_version: String,
    /// Prefix that the API server made the name from.
    #[serde(deserialize_with = "name")]
    pub generate_name: String,
    /// Labels.
    #[serde(deserialize_with = "map")]
    pub labels: BTreeMap<String, String>,
    /// The annotations that are read.
    #[serde(deserialize_with = "or_default")]
    pub annotations: Annotations,
    /// Owners; at most one is the controller.
    #[serde(deserialize_with = "list")]
    pub owner_references: Vec<OwnerReference>,
    /// When the object was made, on the API server's clock.
    #[serde(deserialize_with = "time")]
    pub creation_timestamp: Option<Timestamp>,
    /// When it is to be gone: time of the delete plus the grace period, on the API server's clock.
    #[serde(deserialize_with = "time")]
    pub deletion_timestamp: Option<Timestamp>,
    /// Seconds.
    pub deletion_grace_period_seconds: Option<i64>,
}

impl Metadata {
    /// The owner that controls this object, if it has one.
    #[must_use]
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller)
    }
}

/// The annotations that are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Annotations {
    /// Marks the mirror of a static pod and holds its identity on the node.
    #[serde(rename = "kubernetes.io/config.mirror", deserialize_with = "optional_name")]
    pub mirror: Option<String>,
}

/// `metadata.ownerReferences[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// Group and version, as in `apps/v1`.
    #[serde(deserialize_with = "name")]
    pub api_version: String,
    /// Kind, as in `ReplicaSet`.
    #[serde(deserialize_with = "name")]
    pub kind: String,
    /// Name.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// Uid.
    #[serde(deserialize_with = "name")]
    pub uid: String,
    /// Whether this owner is the managing controller.
    #[serde(deserialize_with = "or_default")]
    pub controller: bool,
}

/// An object of which only the metadata is read (`PartialObjectMetadata`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MetadataOnly {
    /// Its metadata.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Its metadata.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// What was asked for.
    #[serde(deserialize_with = "or_default")]
    pub spec: PodSpec,
    /// What the kubelet reports.
    #[serde(deserialize_with = "or_default")]
    pub status: PodStatus,
}

impl Object for Pod {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// `spec` of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Where it was bound to.
    #[serde(deserialize_with = "name")]
    pub node_name: String,
    /// Always, OnFailure or Never.
    #[serde(deserialize_with = "name")]
    pub restart_policy: String,
    /// Seconds.
    pub termination_grace_period_seconds: Option<i64>,
    /// Init containers and sidecars.
    #[serde(deserialize_with = "list")]
    pub init_containers: Vec<ContainerSpec>,
    /// App containers.
    #[serde(deserialize_with = "list")]
    pub containers: Vec<ContainerSpec>,
    /// Ephemeral containers.
    #[serde(deserialize_with = "list")]
    pub ephemeral_containers: Vec<ContainerSpec>,
    /// Pod-level resources.
    #[serde(deserialize_with = "or_default")]
    pub resources: Resources,
    /// Operating system, where it is named.
    #[serde(deserialize_with = "or_default")]
    pub os: Os,
    /// Labels that the node must have.
    #[serde(deserialize_with = "map")]
    pub node_selector: BTreeMap<String, String>,
}

/// `spec.os`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Os {
    /// linux or windows.
    #[serde(deserialize_with = "name")]
    pub name: String,
}

/// A container's entry in the spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerSpec {
    /// Name, unique in the pod.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// Always makes an init container a sidecar.
    #[serde(deserialize_with = "name")]
    pub restart_policy: String,
    /// Resources.
    #[serde(deserialize_with = "or_default")]
    pub resources: Resources,
    /// Liveness probe.
    pub liveness_probe: Option<Probe>,
    /// Startup probe.
    pub startup_probe: Option<Probe>,
    /// Hooks.
    #[serde(deserialize_with = "or_default")]
    pub lifecycle: Lifecycle,
}

/// `resources` of a container or pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Limits.
    #[serde(deserialize_with = "or_default")]
    pub limits: Limits,
}

/// `resources.limits`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Whether there is a memory limit.
    #[serde(deserialize_with = "present")]
    pub memory: bool,
}

/// The timing of a probe, as it was written; see the methods for the defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Probe {
    /// Seconds.
    pub initial_delay_seconds: Option<i64>,
    /// Seconds; the API server defaults it to 10.
    pub period_seconds: Option<i64>,
    /// The API server defaults it to 3.
    pub failure_threshold: Option<i64>,
}

impl Probe {
    /// The shortest time in milliseconds from a container's start to its kill by this probe.
    #[must_use]
    pub fn shortest_kill_ms(&self) -> i64 {
        let failures = self.failure_threshold.unwrap_or(3).saturating_sub(1).max(0);
        let period = self.period_seconds.unwrap_or(10).max(0);
        let delay = self.initial_delay_seconds.unwrap_or(0).max(0);
        failures.saturating_mul(period).saturating_add(delay).saturating_mul(1000)
    }
}

/// `lifecycle` of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lifecycle {
    /// Whether there is a postStart hook.
    #[serde(deserialize_with = "present")]
    pub post_start: bool,
}

/// `status` of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// Pending, Running, Succeeded, Failed or Unknown.
    #[serde(deserialize_with = "name")]
    pub phase: String,
    /// Why it is in this phase.
    #[serde(deserialize_with = "name")]
    pub reason: String,
    /// Conditions.
    #[serde(deserialize_with = "list")]
    pub conditions: Vec<Condition>,
    /// Init containers and sidecars.
    #[serde(deserialize_with = "list")]
    pub init_container_statuses: Vec<ContainerStatus>,
    /// App containers.
    #[serde(deserialize_with = "list")]
    pub container_statuses: Vec<ContainerStatus>,
    /// Ephemeral containers.
    #[serde(deserialize_with = "list")]
    pub ephemeral_container_statuses: Vec<ContainerStatus>,
}

/// `status.conditions[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Type.
    #[serde(rename = "type", deserialize_with = "name")]
    pub kind: String,
    /// True, False or Unknown.
    #[serde(deserialize_with = "name")]
    pub status: String,
    /// Reason.
    #[serde(deserialize_with = "name")]
    pub reason: String,
    /// When the status changed.
    #[serde(deserialize_with = "time")]
    pub last_transition_time: Option<Timestamp>,
}

/// A container's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Name.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// Runtime and id of the latest attempt.
    #[serde(rename = "containerID", deserialize_with = "name")]
    pub container_id: String,
    /// How often it was started again.
    #[serde(deserialize_with = "or_default")]
    pub restart_count: i32,
    /// Image.
    #[serde(deserialize_with = "image")]
    pub image: String,
    /// Whether the startup probe (or the lack of one) let it count as started.
    pub started: Option<bool>,
    /// The latest attempt.
    #[serde(deserialize_with = "or_default")]
    pub state: ContainerState,
    /// The attempt before it.
    #[serde(deserialize_with = "or_default")]
    pub last_state: ContainerState,
}

/// `state` and `lastState`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// Not yet, or not any more, running.
    pub waiting: Option<Waiting>,
    /// Running.
    pub running: Option<Running>,
    /// Ended.
    pub terminated: Option<Terminated>,
}

/// `state.waiting`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// Why.
    #[serde(deserialize_with = "name")]
    pub reason: String,
}

/// `state.running`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Running {
    /// Since when.
    #[serde(deserialize_with = "time")]
    pub started_at: Option<Timestamp>,
}

/// `state.terminated`: the record of an attempt that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    /// Exit code.
    #[serde(deserialize_with = "or_default")]
    pub exit_code: i32,
    /// Reason.
    #[serde(deserialize_with = "name")]
    pub reason: String,
    /// What the container wrote to its termination log; may hold anything.
    #[serde(deserialize_with = "or_default")]
    pub message: String,
    /// Start.
    #[serde(deserialize_with = "time")]
    pub started_at: Option<Timestamp>,
    /// End.
    #[serde(deserialize_with = "time")]
    pub finished_at: Option<Timestamp>,
    /// The attempt's id; empty in a record that the kubelet made up.
    #[serde(rename = "containerID", deserialize_with = "name")]
    pub container_id: String,
}

/// A core/v1 event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Event {
    /// Its metadata.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// What it is about.
    #[serde(deserialize_with = "or_default")]
    pub involved_object: ObjectReference,
    /// A word, as in `Killing`.
    #[serde(deserialize_with = "name")]
    pub reason: String,
    /// A sentence.
    #[serde(deserialize_with = "or_default")]
    pub message: String,
    /// Normal or Warning.
    #[serde(rename = "type", deserialize_with = "name")]
    pub kind: String,
    /// How often it happened, the dropped ones included.
    #[serde(deserialize_with = "or_default")]
    pub count: i32,
    /// First time.
    #[serde(deserialize_with = "time")]
    pub first_timestamp: Option<Timestamp>,
    /// Latest time.
    #[serde(deserialize_with = "time")]
    pub last_timestamp: Option<Timestamp>,
    /// Time, in events written by newer clients.
    #[serde(deserialize_with = "time")]
    pub event_time: Option<Timestamp>,
    /// Repetition, in events written by newer clients.
    #[serde(deserialize_with = "or_default")]
    pub series: EventSeries,
    /// Who wrote it.
    #[serde(deserialize_with = "or_default")]
    pub source: EventSource,
}

impl Object for Event {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Event {
    /// The latest time that the event tells of, on its reporter's clock.
    #[must_use]
    pub fn latest(&self) -> Option<Timestamp> {
        [self.series.last_observed_time, self.last_timestamp, self.event_time, self.first_timestamp]
            .into_iter()
            .flatten()
            .max()
    }

    /// How often it happened, the dropped ones included; at least 1.
    #[must_use]
    pub fn occurrences(&self) -> u32 {
        u32::try_from(self.count.max(self.series.count)).unwrap_or(0).max(1)
    }
}

/// `source` of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EventSource {
    /// The node, for events of a kubelet.
    #[serde(deserialize_with = "name")]
    pub host: String,
}

/// `involvedObject` of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectReference {
    /// Kind.
    #[serde(deserialize_with = "name")]
    pub kind: String,
    /// Namespace.
    #[serde(deserialize_with = "name")]
    pub namespace: String,
    /// Name.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// Uid; for static pods their config.mirror annotation.
    #[serde(deserialize_with = "name")]
    pub uid: String,
    /// As in `spec.containers{app}`.
    #[serde(deserialize_with = "name")]
    pub field_path: String,
}

/// `series` of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EventSeries {
    /// How often.
    #[serde(deserialize_with = "or_default")]
    pub count: i32,
    /// Latest time.
    #[serde(deserialize_with = "time")]
    pub last_observed_time: Option<Timestamp>,
}
