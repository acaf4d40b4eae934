//! The whole exporter watches a simulated cluster, and counts exactly what was done in it.
#![allow(clippy::unwrap_used)] // in the helpers, too

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use exitcode_exporter::exporter;
use exitcode_exporter::options::Options;
use exitcode_exporter::sim::{Cluster, ClusterSettings, Counts, Ended, Load, LoadSettings, Settings};
use exitcode_exporter::termination::Workload;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::sleep;

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
            exporter::run(client, &options, vec![listener], shutdown).await.unwrap();
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
    let (shown, expected) = (shown(metrics), expected(truth));
    let keys: std::collections::BTreeSet<&String> = shown.keys().chain(expected.keys()).collect();
    let count = |of: &BTreeMap<String, u64>, key: &String| of.get(key).copied().unwrap_or(0);
    keys.into_iter()
        .map(|key| (key, count(&shown, key), count(&expected, key)))
        .filter(|(_, shown, done)| shown != done)
        .map(|(key, shown, done)| format!("{key}: shown {shown}, done {done}"))
        .collect()
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
