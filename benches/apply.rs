//! What the core takes for one changed pod: `cargo bench --bench apply`.
//!
//! 10,000 pods of two containers are known; each is seen again running, then crashed, then restarted. Decoding is
//! not part of it.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use exitcode_exporter::core::{Input, Options, Scope, State};
use exitcode_exporter::pod::Pod;
use exitcode_exporter::time::Timestamp;

const ALL: Scope = Scope(0);
const PODS: usize = 10_000;

fn main() {
    let mut now = Timestamp(1_767_225_600_000);
    let mut state = State::new(Options { scopes: 1, events: true, ..Options::default() });
    state.apply(Input::ListBegins(ALL), now);
    state.apply(Input::Listed { scope: ALL, whole: true }, now);
    for round in 0..4_i32 {
        for (name, status) in [("running", 0), ("crashed", 1), ("restarted", 2)] {
            let pods: Vec<_> = (0..PODS).filter_map(|number| pod(number, round, status)).collect();
            let begin = Instant::now();
            let mut effects = 0;
            for pod in pods {
                now = now.plus_ms(1);
                effects += state.apply(Input::PodSeen(ALL, pod), now).len();
            }
            let each = begin.elapsed() / u32::try_from(PODS).unwrap_or(1);
            println!("round {round}, {name}: {each:?} a pod, {effects} effects");
        }
    }
}

fn pod(number: usize, round: i32, status: i32) -> Option<Box<Pod>> {
    let id = |attempt: i32| format!("containerd://{number:032x}{attempt:032x}");
    let restarts = round + i32::from(status == 2);
    let state = match status {
        1 => r#"{"waiting": {"reason": "CrashLoopBackOff"}}"#,
        _ => r#"{"running": {"startedAt": "2026-01-01T00:00:00Z"}}"#,
    };
    let last = match status {
        0 => "{}".to_owned(),
        _ => format!(
            r#"{{"terminated": {{"exitCode": 3, "reason": "Error", "containerID": "{}",
                 "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:10Z"}}}}"#,
            id(round)
        ),
    };
    let current = id(restarts);
    let version = (round * 3 + status + 1) * 100_000;
    let group = number / 10;
    let text = format!(
        r#"{{"metadata": {{"name": "web-{group}-5c8-{number}", "namespace": "shop-{}", "uid": "uid-{number}",
                "resourceVersion": "{version}", "labels": {{"pod-template-hash": "5c8"}}, "ownerReferences": [
                {{"kind": "ReplicaSet", "name": "web-{group}-5c8", "uid": "rs-{group}", "controller": true}}]}},
            "spec": {{"nodeName": "node-{}", "restartPolicy": "Always", "containers": [{{"name": "app"}}, {{"name": "proxy"}}]}},
            "status": {{"phase": "Running", "containerStatuses": [
                {{"name": "app", "containerID": "{current}", "restartCount": {restarts}, "image": "shop/app:1",
                  "state": {state}, "lastState": {last}}},
                {{"name": "proxy", "containerID": "{}", "restartCount": 0, "image": "shop/proxy:1",
                  "state": {{"running": {{}}}}, "lastState": {{}}}}]}}}}"#,
        group % 20,
        number % 100,
        id(99),
    );
    serde_json::from_str(&text).ok()
}
