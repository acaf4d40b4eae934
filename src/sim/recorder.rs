//! Events as the kubelet and the controllers write them, and the filter that lets most of them fall.
//!
//! Kubernetes: staging/src/k8s.io/client-go/tools/events and record/events_cache.go. Equal events become one
//! object with a rising count. Each object has 25 events, and one more every 5 minutes; what is dropped is
//! counted all the same, and the count shows it once a later event passes. (Kubelets keep this per pod and
//! type.) Events are forgotten after a quarter of an hour.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::clock::SimClock;
use super::ids::Ids;
use super::kinds::Resource;
use super::pod_json::time;
use super::store::Store;
use crate::time::Timestamp;

/// Events of a pod and a type that pass before the filter drops.
const BURST: f64 = 25.0;
/// Milliseconds until one more passes.
const REFILL_MS: f64 = 300_000.0;
/// The API server's --event-ttl; an hour by default in Kubernetes.
const TTL_MS: i64 = 900_000;

/// What an event is about.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) kind: &'static str,
    /// Namespace of the object, and of its events unless it has none.
    pub(super) namespace: &'static str,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) node: &'static str,
}

/// An event to write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note<'a> {
    /// `Normal` or `Warning`.
    pub(super) kind: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: &'a str,
    /// As in `spec.containers{app}`; empty for the whole pod.
    pub(super) field: &'a str,
    /// `kubelet`, or a controller's name.
    pub(super) source: &'static str,
}

struct Written {
    name: String,
    uid: String,
    first: Timestamp,
    count: u32,
}

/// The recorder of one workload's pods.
pub(super) struct Recorder {
    store: Arc<Store>,
    clock: SimClock,
    written: HashMap<String, Written>,
    /// Events left, and when that was, by object and type.
    buckets: HashMap<(String, &'static str), (f64, Timestamp)>,
    /// What is still in the store, oldest first.
    kept: VecDeque<(Timestamp, String, String)>,
}

impl Recorder {
    pub(super) fn new(store: Arc<Store>, clock: SimClock) -> Self {
        let (written, buckets, kept) = Default::default();
        Self { store, clock, written, buckets, kept }
    }

    /// The objects so far are gone: nothing is known of their events any more.
    pub(super) fn forget(&mut self) {
        self.written.clear();
        self.buckets.clear();
    }

    pub(super) fn record(&mut self, ids: &mut Ids, about: &About, note: Note<'_>) {
        let now = self.clock.now();
        self.expire(now);
        let key = format!("{}/{}/{}/{}/{}", about.uid, note.field, note.kind, note.reason, note.message);
        let seconds = self.clock.seconds();
        let written = self.written.entry(key).or_insert_with(|| Written {
            name: format!("{}.{}", about.name, ids.event()),
            uid: ids.uid(),
            first: seconds,
            count: 0,
        });
        written.count = written.count.saturating_add(1);
        let bucket = self.buckets.entry((about.uid.clone(), note.kind)).or_insert((BURST, now));
        if !passes(bucket, now) {
            return;
        }
        let event = event(about, note, written, seconds);
        let namespace = event["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        if written.count == 1 {
            self.kept.push_back((now, namespace, written.name.clone()));
        }
        self.store.put(Resource::Events, event);
    }

    fn expire(&mut self, now: Timestamp) {
        while self.kept.front().is_some_and(|(at, _, _)| now.since(*at) > TTL_MS) {
            if let Some((_, namespace, name)) = self.kept.pop_front() {
                self.store.delete(Resource::Events, &namespace, &name);
            }
        }
    }
}

#[allow(clippy::cast_precision_loss)] // milliseconds of hours
fn passes((left, at): &mut (f64, Timestamp), now: Timestamp) -> bool {
    *left = (*left + now.since(*at) as f64 / REFILL_MS).min(BURST);
    *at = now;
    if *left < 1.0 {
        return false;
    }
    *left -= 1.0;
    true
}

fn event(about: &About, note: Note<'_>, written: &Written, now: Timestamp) -> Value {
    let namespace = if about.namespace.is_empty() { "default" } else { about.namespace };
    let mut involved = json!({"kind": about.kind, "name": about.name, "uid": about.uid});
    if about.kind == "Pod" {
        involved["apiVersion"] = "v1".into();
        involved["namespace"] = about.namespace.into();
    }
    if !note.field.is_empty() {
        involved["fieldPath"] = note.field.into();
    }
    json!({
        "metadata": {
            "name": written.name, "namespace": namespace, "uid": written.uid,
            "creationTimestamp": time(written.first),
        },
        "involvedObject": involved, "reason": note.reason, "message": note.message, "type": note.kind,
        "source": {"component": note.source, "host": about.node},
        "firstTimestamp": time(written.first), "lastTimestamp": time(now), "count": written.count,
        "eventTime": null, "reportingComponent": note.source, "reportingInstance": about.node,
    })
}
