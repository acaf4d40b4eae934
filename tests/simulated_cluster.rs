//! The simulated cluster behaves as the recordings of real kubelets show it, and its truth covers every cause.

#![cfg(test)]
#![allow(clippy::unwrap_used)] // in the helpers, too

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::time::Duration;

use exitcode_exporter::sim::store::Query;
use exitcode_exporter::sim::{Cluster, ClusterSettings, Resource, Settings, workloads::WORKLOADS};
use exitcode_exporter::termination::Cause;
use flate2::read::GzDecoder;
use serde_json::Value;

/// Runs some workloads for a time; the whole history stays readable.
async fn run(names: &[&str], time: Duration) -> Cluster {
    let api = Settings { history: 1_000_000, ..Settings::default() };
    let mut cluster = Cluster::new(ClusterSettings { api, ..ClusterSettings::default() });
    let scripts: Vec<_> = WORKLOADS.iter().filter(|s| names.is_empty() || names.contains(&s.name)).collect();
    for script in scripts {
        cluster.run(&[*script]);
    }
    tokio::time::sleep(time).await;
    cluster.stop().await;
    cluster
}

/// All changes as `(TYPE, object)`.
fn changes(cluster: &Cluster) -> Vec<(Resource, &'static str, Value)> {
    let changes = cluster.server().store().changes_after(1, usize::MAX).unwrap();
    let render = |object: &exitcode_exporter::sim::store::Object| {
        let mut text = Vec::new();
        object.content.render(object.revision, &mut text);
        serde_json::from_slice(&text).unwrap()
    };
    let kind = |change: &exitcode_exporter::sim::store::Change| match (&change.before, change.deleted) {
        (_, true) => "DELETED",
        (None, false) => "ADDED",
        (Some(_), false) => "MODIFIED",
    };
    changes.iter().map(|c| (c.after.resource, kind(c), render(&c.after))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Times are shown as seconds after the first, ids by letters in the order of their appearance.
#[derive(Default)]
struct Plain {
    ids: Vec<String>,
}

impl Plain {
    fn id(&mut self, id: &Value) -> String {
        let Some(id) = id.as_str() else { return "-".to_owned() };
        let index = self.ids.iter().position(|known| known == id).unwrap_or_else(|| {
            self.ids.push(id.to_owned());
            self.ids.len() - 1
        });
        char::from(b'A' + u8::try_from(index).unwrap()).to_string()
    }

    fn state(&mut self, state: &Value) -> String {
        let terminated = &state["terminated"];
        if terminated.is_object() {
            let id = self.id(&terminated["containerID"]);
            return format!("{} {} {id}", terminated["exitCode"], text(&terminated["reason"]));
        }
        match &state["waiting"]["reason"] {
            Value::String(reason) => reason.clone(),
            _ if state["running"].is_object() => "running".to_owned(),
            _ => "-".to_owned(),
        }
    }

    fn pod(&mut self, kind: &str, pod: &Value) -> String {
        let status = &pod["status"];
        let mut line = format!("{kind} {}", text(&status["phase"]));
        if status["reason"].is_string() {
            line += &format!(" {}", text(&status["reason"]));
        }
        if pod["metadata"]["deletionTimestamp"].is_string() {
            line += &format!(" deleted/{}", pod["metadata"]["deletionGracePeriodSeconds"]);
        }
        for condition in status["conditions"].as_array().into_iter().flatten() {
            if condition["type"] == "DisruptionTarget" || condition["type"] == "Ready" {
                let reason = condition["reason"].as_str().map(|r| format!("({r})")).unwrap_or_default();
                line += &format!(" {}={}{reason}", text(&condition["type"]), text(&condition["status"]));
            }
        }
        for list in ["initContainerStatuses", "containerStatuses"] {
            for c in status[list].as_array().into_iter().flatten() {
                let id = self.id(&c["containerID"]);
                line += &format!(
                    " | {} {} {id} started={} {} last={}",
                    text(&c["name"]),
                    c["restartCount"],
                    c["started"],
                    self.state(&c["state"]),
                    self.state(&c["lastState"]),
                );
            }
        }
        line
    }
}

/// The writes of pods and events as lines.
fn story(cluster: &Cluster) -> Vec<String> {
    let mut plain = Plain::default();
    let lines = changes(cluster).into_iter().filter_map(|(resource, kind, object)| match resource {
        Resource::Pods => Some(plain.pod(kind, &object)),
        Resource::Events => Some(format!(
            "  {} {} {} n={}: {}",
            text(&object["type"]),
            text(&object["reason"]),
            object["involvedObject"]["fieldPath"].as_str().unwrap_or("-"),
            object["count"],
            text(&object["message"]).split(" in pod ").next().unwrap(),
        )),
        _ => None,
    });
    lines.collect()
}

#[tokio::test(start_paused = true)]
async fn every_cause_appears_within_a_minute() {
    let cluster = run(&[], Duration::from_secs(60)).await;
    let counts = cluster.truth();
    let causes: BTreeSet<&str> = counts.terminations.keys().map(|e| e.outcome.cause.as_str()).collect();
    let all: BTreeSet<&str> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
    assert_eq!(causes, all);
    let rate = counts.terminations.values().sum::<u64>();
    assert!((60..400).contains(&rate), "{rate} terminations in a minute");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_makes_the_same_cluster() {
    let one = run(&[], Duration::from_secs(30)).await;
    let two = run(&[], Duration::from_secs(30)).await;
    assert_eq!(one.truth(), two.truth());
    assert_eq!(story(&one).len(), story(&two).len());
}

/// As pod app-error-68fbdf85b9-n6xt9 of the recording kubelet-1.35, but for the moment in which the back-off
/// is shown: there with the restart, since its back-off is shorter than the time between two syncs.
#[tokio::test(start_paused = true)]
async fn a_crash_loop_is_written_as_a_real_kubelet_writes_it() {
    let cluster = run(&["checkout"], Duration::from_secs(24)).await;
    let expected = "\
ADDED Pending
MODIFIED Pending
  Normal Scheduled - n=1: Successfully assigned shop/checkout-h-s to node-1
MODIFIED Pending Ready=False(ContainersNotReady) | app 0 - started=false ContainerCreating last=-
  Normal Pulled spec.containers{app} n=1: Container image \"registry.example.com/shop/checkout:1.4\" already present on machine and can be accessed by the pod
  Normal Created spec.containers{app} n=1: Container created
  Normal Started spec.containers{app} n=1: Container started
MODIFIED Running Ready=True | app 0 A started=true running last=-
MODIFIED Running Ready=False(ContainersNotReady) | app 0 A started=false 1 Error A last=-
  Normal Pulled spec.containers{app} n=2: Container image \"registry.example.com/shop/checkout:1.4\" already present on machine and can be accessed by the pod
  Normal Created spec.containers{app} n=2: Container created
  Normal Started spec.containers{app} n=2: Container started
MODIFIED Running Ready=True | app 1 B started=true running last=1 Error A
  Warning BackOff spec.containers{app} n=1: Back-off restarting failed container app
MODIFIED Running Ready=False(ContainersNotReady) | app 1 B started=false 1 Error B last=1 Error A
MODIFIED Running Ready=False(ContainersNotReady) | app 1 B started=false CrashLoopBackOff last=1 Error B
  Normal Pulled spec.containers{app} n=3: Container image \"registry.example.com/shop/checkout:1.4\" already present on machine and can be accessed by the pod
  Normal Created spec.containers{app} n=3: Container created
  Normal Started spec.containers{app} n=3: Container started
MODIFIED Running Ready=True | app 2 C started=true running last=1 Error B";
    let story = story(&cluster).join("\n");
    let name = story.split("shop/checkout-").nth(1).unwrap().split(' ').next().unwrap();
    let story = story.replace(name, "h-s");
    assert_eq!(story.lines().take(20).collect::<Vec<_>>().join("\n"), expected);
}

/// As pod quiet of the recording kubelet-1.35.
#[tokio::test(start_paused = true)]
async fn a_deletion_is_written_as_a_real_kubelet_writes_it() {
    let cluster = run(&["stubborn"], Duration::from_secs(12)).await;
    let story = story(&cluster);
    let from = story.iter().position(|line| line.contains("deleted")).unwrap();
    assert_eq!(
        story[from..].join("\n"),
        "\
MODIFIED Running deleted/2 Ready=True | app 0 A started=true running last=-
  Normal Killing spec.containers{app} n=1: Stopping container app
MODIFIED Failed deleted/2 Ready=False(PodFailed) | app 0 A started=false 137 Error A last=-
MODIFIED Failed deleted/0 Ready=False(PodFailed) | app 0 A started=false 137 Error A last=-
DELETED Failed deleted/0 Ready=False(PodFailed) | app 0 A started=false 137 Error A last=-"
    );
}

/// As pod deadlocked-bfp6c of the recording kubelet-1.35: no write shows the end before the restart.
#[tokio::test(start_paused = true)]
async fn a_liveness_kill_is_written_as_a_real_kubelet_writes_it() {
    let cluster = run(&["log-agent"], Duration::from_secs(9)).await;
    let story = story(&cluster);
    let from = story.iter().position(|line| line.contains("Unhealthy")).unwrap();
    assert_eq!(
        story[from..].join("\n"),
        "  Warning Unhealthy spec.containers{app} n=1: Liveness probe failed: 
  Warning Unhealthy spec.containers{app} n=2: Liveness probe failed: 
  Normal Killing spec.containers{app} n=1: Container app failed liveness probe, will be restarted
  Normal Pulled spec.containers{app} n=2: Container image \"registry.example.com/infra/log-agent:1.4\" already present on machine and can be accessed by the pod
  Normal Created spec.containers{app} n=2: Container created
  Normal Started spec.containers{app} n=2: Container started
MODIFIED Running Ready=True | app 1 B started=true running last=137 Error A"
    );
}

/// Recorded: 238 probe kills, 26 events. A count shows later what was dropped.
#[tokio::test(start_paused = true)]
async fn events_of_a_pod_are_dropped_after_25_of_a_type() {
    let cluster = run(&["log-agent"], Duration::from_secs(1_200)).await;
    let kills: u64 = cluster.truth().terminations.values().sum();
    let killing: Vec<u64> = changes(&cluster)
        .into_iter()
        .filter(|(_, _, object)| object["reason"] == "Killing")
        .map(|(_, _, object)| object["count"].as_u64().unwrap())
        .collect();
    assert!(kills > 60, "{kills}");
    assert!((6..12).contains(&killing.len()), "{killing:?}");
    assert!(killing[..6] == [1, 2, 3, 4, 5, 6], "{killing:?}");
}

#[tokio::test(start_paused = true)]
async fn no_object_outlives_its_use() {
    let cluster = run(&[], Duration::from_secs(3_600)).await;
    let mut objects = BTreeMap::new();
    for resource in Resource::ALL {
        let all = cluster.server().store().snapshot(&Query::all(*resource), u64::MAX).unwrap();
        objects.insert(resource.plural(), all.len());
    }
    assert!(objects["pods"] <= WORKLOADS.len(), "{objects:?}");
    assert!(objects["jobs"] <= 6 && objects["workflows"] <= 1, "{objects:?}");
    assert!(objects["events"] < 4_000, "{objects:?}");
}

/// What differs between any two pods, or that no test of ours depends on, made alike.
fn alike(value: &Value, known: &mut BTreeMap<String, String>) -> Value {
    const LEFT_OUT: [&str; 7] =
        ["volumeMounts", "podIP", "podIPs", "hostIP", "hostIPs", "imageID", "allocatedResources"];
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, _)| !LEFT_OUT.contains(&key.as_str()))
            .map(|(key, value)| match key.as_str() {
                "resources" => (key.clone(), "resources".into()),
                "image" => (key.clone(), "image".into()),
                "qosClass" => (key.clone(), "class".into()),
                _ => (key.clone(), alike(value, known)),
            })
            .collect(),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(|item| alike(item, known)).collect();
            items.sort_by_key(|item| text(&item["type"]));
            items.into()
        }
        Value::String(text) if text.starts_with("containerd://") => {
            let next = format!("id {}", known.len());
            known.entry(text.clone()).or_insert(next).clone().into()
        }
        // Node and machine decide how long things take.
        Value::String(text) if text.ends_with('Z') && text.starts_with("20") => "time".into(),
        Value::String(text) if text.starts_with("back-off ") => "back-off".into(),
        Value::String(text) if text == "panic: cart is empty\n" => "boom\n".into(),
        other => other.clone(),
    }
}

/// The statuses of a pod, one after the other, without repetitions.
fn statuses<'a>(pods: impl Iterator<Item = &'a Value>) -> Vec<Value> {
    let mut known = BTreeMap::new();
    let mut statuses: Vec<Value> = pods.map(|pod| alike(&pod["status"], &mut known)).collect();
    statuses.dedup();
    statuses
}

/// The statuses that a real kubelet wrote for a pod.
fn recorded(pod: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/kubelet-1.35/pods.ndjson.gz");
    let reader = BufReader::new(GzDecoder::new(std::fs::File::open(path).unwrap()));
    let lines = reader.lines().map_while(Result::ok);
    let events: Vec<Value> = lines.filter_map(|line| serde_json::from_str(&line).ok()).collect();
    let objects = events.iter().map(|event| &event["object"]);
    statuses(objects.filter(|object| object["metadata"]["name"] == pod))
}

async fn simulated(workload: &str, time: Duration) -> Vec<Value> {
    let cluster = run(&[workload], time).await;
    let changes = changes(&cluster);
    let name = changes.iter().find(|c| c.0 == Resource::Pods).unwrap().2["metadata"]["name"].clone();
    let pods = changes.iter().filter(|c| c.0 == Resource::Pods && c.2["metadata"]["name"] == name);
    statuses(pods.map(|(_, _, object)| object))
}

/// Every field of every status, but for the moments and the machine.
#[tokio::test(start_paused = true)]
async fn whole_statuses_are_those_of_the_recordings() {
    let cases = [
        ("checkout", 60, "app-error-68fbdf85b9-n6xt9", 12),
        ("log-agent", 60, "deadlocked-bfp6c", 5),
        ("stubborn", 12, "quiet", 5),
        ("low-priority", 12, "low-prio", 7),
        ("too-big", 12, "too-big", 3),
        ("with-init", 60, "with-init-58dbdb4f89-w6pnd", 8),
        ("no-binary", 60, "cannot-run-dc6f9bc86-pnc44", 8),
    ];
    for (workload, seconds, pod, writes) in cases {
        let (real, ours) = (recorded(pod), simulated(workload, Duration::from_secs(seconds)).await);
        for n in 0..writes {
            assert_eq!(ours.get(n), real.get(n), "{workload}, write {n}");
        }
    }
}
