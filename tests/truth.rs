//! The whole exporter watches a simulated cluster, and counts exactly what was done in it.

#![cfg(test)]
#![allow(clippy::unwrap_used)] // in the helpers, too

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use exitcode_exporter::exporter;
use exitcode_exporter::options::Options;
use exitcode_exporter::sim::{
    ApiError, Cluster, ClusterSettings, Counts, Ended, Fault, Load, LoadSettings, Matcher, Resource,
    Settings, StreamFault, Verb,
};
use exitcode_exporter::termination::Workload;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// An exporter that watches a cluster in this process, under the paused clock.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
}

impl Running {
    /// Starts it and waits until it watches pods and events.
    async fn start(cluster: &Cluster) -> Self {
        let options = Options::read(["exitcode-exporter".into()]).ok().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let client = cluster.server().client();
        let mut watches = cluster.server().faults().watches();
        tokio::spawn(async move {
            let shutdown = async { stopped.await.unwrap_or(()) };
            exporter::run(client, &options, options.access().unwrap(), vec![listener], shutdown)
                .await
                .unwrap();
        });
        watches.wait_for(|open| *open >= 2).await.unwrap();
        Self { address, stop }
    }

    /// The metrics once nothing waits any more; the exporter ends.
    async fn finish(self) -> String {
        sleep(Duration::from_secs(30)).await;
        let address = self.address;
        let text = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        let text = text.await.unwrap();
        self.stop.send(()).unwrap();
        text
    }
}

fn workload(w: &Workload) -> String {
    format!("namespace=\"{}\",workload_type=\"{}\",workload=\"{}\"", w.namespace, w.workload_type, w.name)
}

fn series(ended: &Ended) -> String {
    let Ended { workload: w, container, container_type, outcome } = ended;
    format!(
        "{},container=\"{container}\",container_type=\"{container_type}\",exit_code=\"{}\",reason=\"{}\",cause=\"{}\"",
        workload(w),
        outcome.exit_code,
        outcome.reason,
        outcome.cause
    )
}

/// What the metrics must show, by name and labels.
fn expected(truth: &Counts) -> BTreeMap<String, u64> {
    let terminations = truth.terminations.iter().map(|(e, n)| ("container_terminations", series(e), n));
    let restarts = truth.restarts.iter().map(|(e, n)| ("container_restarts", series(e), n));
    let failures = truth
        .pod_failures
        .iter()
        .map(|((w, failure), n)| ("pod_failures", format!("{},reason=\"{failure}\"", workload(w)), n));
    let all = terminations.chain(restarts).chain(failures);
    let mut lines: BTreeMap<String, u64> =
        all.map(|(name, labels, n)| (format!("exitcode_{name}_total{{{labels}}}"), *n)).collect();
    lines.insert("exitcode_exporter_unobserved_pods_total".to_owned(), truth.unobserved_pods);
    lines
}

fn shown(metrics: &str) -> BTreeMap<String, u64> {
    let names = [
        "exitcode_container_terminations_total{",
        "exitcode_container_restarts_total{",
        "exitcode_pod_failures_total{",
        "exitcode_exporter_unobserved_pods_total",
    ];
    let lines = metrics.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
    let parse = |line: &str| {
        let (labels, value) = line.rsplit_once(' ').unwrap();
        (labels.to_owned(), value.parse().unwrap())
    };
    lines.map(parse).collect()
}

/// The series that differ: what is shown, what was done.
fn differences(metrics: &str, truth: &Counts) -> Vec<String> {
    compare(&shown(metrics), &expected(truth))
}

fn compare(shown: &BTreeMap<String, u64>, expected: &BTreeMap<String, u64>) -> Vec<String> {
    let keys: BTreeSet<&String> = shown.keys().chain(expected.keys()).collect();
    let count = |of: &BTreeMap<String, u64>, key: &String| of.get(key).copied().unwrap_or(0);
    keys.into_iter()
        .map(|key| (key, count(shown, key), count(expected, key)))
        .filter(|(_, shown, done)| shown != done)
        .map(|(key, shown, done)| format!("{key}: shown {shown}, done {done}"))
        .collect()
}

/// The same counts without the labels that need more than the pod itself: an owner may be gone and an event
/// forgotten before a broken watch shows the pod.
fn by_container(series: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (key, count) in series {
        let labels =
            key.split(',').filter(|label| !["workload", "cause"].iter().any(|name| label.starts_with(name)));
        let key = labels.map(|label| label.trim_end_matches('}')).collect::<Vec<_>>().join(",");
        *sums.entry(key).or_insert(0) += count;
    }
    sums
}

#[tokio::test(start_paused = true)]
async fn every_end_of_a_simulated_cluster_is_counted_with_its_cause() {
    let mut cluster = Cluster::new(ClusterSettings::default());
    let exporter = Running::start(&cluster).await;
    cluster.begin();
    sleep(Duration::from_secs(600)).await;
    cluster.stop().await;
    let truth = cluster.truth();
    assert!(truth.terminations.values().sum::<u64>() > 1_000);
    assert_eq!(differences(&exporter.finish().await, &truth), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn every_end_under_load_is_counted_with_its_cause() {
    let api = Settings { history: 100_000, ..Settings::default() };
    let cluster = Cluster::new(ClusterSettings { api, ..ClusterSettings::default() });
    let settings = LoadSettings { pods: 2_000, ..LoadSettings::default() };
    let mut load = Load::fill(cluster.server().store(), cluster.clock(), settings);
    let exporter = Running::start(&cluster).await;
    load.churn(100.0, Duration::from_secs(15)).await;
    assert_eq!(differences(&exporter.finish().await, &load.truth()), Vec::<String>::new());
}

/// Nothing is lost or counted twice while the watch of pods breaks in every way that lets it go on from where it was,
/// and is refused in between. After an ERROR event a new list would withhold what ended meanwhile.
#[tokio::test(start_paused = true)]
async fn every_end_is_counted_once_although_the_watch_breaks_again_and_again() {
    let api = Settings { history: 100_000, ..Settings::default() };
    let mut cluster = Cluster::new(ClusterSettings { api, ..ClusterSettings::default() });
    let exporter = Running::start(&cluster).await;
    cluster.begin();
    let pods = || Matcher::any().of(Resource::Pods);
    let server = cluster.server().clone();
    let mut watches = server.faults().watches();
    let asked = || {
        let log = server.faults().drain_log();
        log.iter().filter_map(|request| request.call.as_ref()).filter(|call| pods().takes(call)).count()
    };
    let strikes = [StreamFault::End, StreamFault::Cut, StreamFault::CutInEvent, StreamFault::Silence];
    for (n, strike) in strikes.into_iter().cycle().take(20).enumerate() {
        sleep(Duration::from_secs(17)).await;
        // What the last strike left unused would keep this one from an open watch.
        server.faults().clear();
        watches.wait_for(|open| *open >= 2).await.unwrap();
        // Two watches that fall silent before they said anything would be reason for a new list.
        sleep(Duration::from_secs(1)).await;
        watches.wait_for(|open| *open >= 2).await.unwrap();
        asked();
        let refusal = [401, 403, 429, 500, 503].get(n % 5).copied().unwrap_or(500);
        server.faults().next(n % 3, pods(), Fault::Refuse(ApiError::new(refusal, "not now")));
        server.faults().next(n % 2, pods().verbs(&[Verb::Watch]), Fault::CutAfter(20_000));
        server.faults().strike(pods(), strike.clone());
        if matches!(strike, StreamFault::Silence) {
            // Silence is taken for a break after 90 s.
            sleep(Duration::from_secs(60)).await;
            assert_eq!(asked(), 0, "strike {n}");
            sleep(Duration::from_secs(31)).await;
            assert!(*watches.borrow() < 2 || asked() > 0, "strike {n} strikes nothing");
        } else {
            let broken = timeout(Duration::from_secs(1), watches.changed()).await;
            assert!(broken.is_ok(), "strike {n} strikes nothing");
        }
    }
    server.faults().clear();
    sleep(Duration::from_secs(180)).await;
    cluster.stop().await;
    let shown = by_container(shown(&exporter.finish().await));
    let done = by_container(expected(&cluster.truth()));
    assert!(done.len() > 30, "{done:?}");
    assert_eq!(compare(&shown, &done), Vec::<String>::new());
}
