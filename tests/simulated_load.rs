//! The load for benchmarks: realistic sizes, small memory, a rate of ends with the truth.

#![cfg(test)]
#![allow(clippy::unwrap_used)] // in the helpers, too

use std::sync::Arc;
use std::time::Duration;

use exitcode_exporter::pod::Pod;
use exitcode_exporter::sim::store::{Object, Query, Store};
use exitcode_exporter::sim::{Load, LoadSettings, Resource, clock::SimClock};

fn fill(pods: u32) -> (Arc<Store>, Load) {
    let store = Arc::new(Store::new(1_000_000));
    let settings = LoadSettings { pods, ..LoadSettings::default() };
    let load = Load::fill(&store, SimClock::start(1), settings);
    (store, load)
}

fn render(object: &Object) -> Vec<u8> {
    let mut text = Vec::new();
    object.content.render(object.revision, &mut text);
    text
}

#[tokio::test(start_paused = true)]
async fn pods_are_about_12_kb_and_readable() {
    let (store, _) = fill(200);
    let pods = store.snapshot(&Query::all(Resource::Pods), u64::MAX).unwrap();
    let sizes: Vec<usize> = pods.iter().map(|pod| render(pod).len()).collect();
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    assert!((11_000..13_500).contains(&mean), "{mean}");
    for object in &pods {
        let pod: Pod = serde_json::from_slice(&render(object)).unwrap();
        assert_eq!(pod.metadata.name, *object.name);
        assert_eq!(pod.metadata.resource_version, object.revision.to_string());
        assert_eq!(pod.status.container_statuses.len(), 2);
        assert!(pod.status.container_statuses.iter().all(|status| status.state.running.is_some()));
    }
}

#[tokio::test(start_paused = true)]
async fn containers_end_at_the_rate_that_is_asked_for() {
    let (store, mut load) = fill(500);
    let before = store.revision();
    load.churn(50.0, Duration::from_secs(20)).await;
    let truth = load.truth();
    let ends: u64 = truth.terminations.values().sum();
    // A tenth of 1,000 ends are pairs.
    assert!((1_080..1_130).contains(&ends), "{ends}");
    assert!(store.revision() - before > 2_800);
    let pods = store.snapshot(&Query::all(Resource::Pods), u64::MAX).unwrap();
    assert_eq!(pods.len(), 500);
}
