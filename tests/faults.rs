//! Every fault of the API server, fault by fault, against the whole exporter: what the metrics and /readyz show, that no
//! end is lost or counted twice, that it recovers by itself, and how often it asks.

#![cfg(test)]
#![allow(clippy::unwrap_used)] // in the helpers, too

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use exitcode_exporter::exporter;
use exitcode_exporter::options::Options;
use exitcode_exporter::sim::{
    ApiError, Cluster, ClusterSettings, Ended, Fault, Load, LoadSettings, Matcher, Resource, Settings,
    StreamFault, Verb,
};
use exitcode_exporter::watch::MAX_REQUESTS_IN_TEN_MINUTES;
use support::scrape;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

/// A cluster under load and an exporter that watches it, under the paused clock.
struct Rig {
    cluster: Cluster,
    load: Load,
    address: SocketAddr,
}

/// What is compared: all labels, or only those that a new list can't take away. Of two ends between two looks
/// the API withholds the record of the first, and events are of use only in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    AllLabels,
    Containers,
}

impl Rig {
    /// Begins with whatever faults `prepare` lays out.
    async fn start(pods: u32, prepare: impl FnOnce(&Cluster)) -> Self {
        let api = Settings { history: 100_000, ..Settings::default() };
        let cluster = Cluster::new(ClusterSettings { api, ..ClusterSettings::default() });
        // No pod is replaced: what vanishes in an outage with its pod is withheld by the API, not lost by us.
        let settings = LoadSettings { pods, replaced_percent: 0, ..LoadSettings::default() };
        let load = Load::fill(cluster.server().store(), cluster.clock(), settings);
        prepare(&cluster);
        let options = Options::read(["exitcode-exporter".into()]).ok().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = cluster.server().client();
        tokio::spawn(async move {
            exporter::run(
                client,
                &options,
                options.access().unwrap(),
                vec![listener],
                std::future::pending(),
            )
            .await
            .unwrap();
        });
        Self { cluster, load, address }
    }

    /// Begins in good health.
    async fn healthy() -> Self {
        let rig = Self::start(100, |_| {}).await;
        rig.cluster.server().faults().watches().wait_for(|open| *open >= 2).await.unwrap();
        rig
    }

    async fn get(&self, path: &'static str) -> (u16, String) {
        scrape::get(self.address, path, "").await
    }

    async fn metrics(&self) -> BTreeMap<String, u64> {
        scrape::numbers(&self.get("/metrics").await.1)
    }

    /// What was not counted as it was done.
    async fn differences(&self, compare: Compare) -> Vec<String> {
        let name = "exitcode_container_terminations_total{";
        let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for (series, count) in self.metrics().await {
            if let Some(labels) = series.strip_prefix(name) {
                sums.entry(compare.key(labels)).or_default().0 += count;
            }
        }
        for (ended, count) in self.load.truth().terminations {
            sums.entry(compare.key(&labels(&ended))).or_default().1 += count;
        }
        assert!(sums.len() > 10, "{sums:?}");
        let differ = sums.into_iter().filter(|(_, (shown, done))| shown != done);
        differ.map(|(key, (shown, done))| format!("{key}: shown {shown}, done {done}")).collect()
    }

    /// The failures of the watch of pods, by reason.
    async fn failures(&self) -> Vec<(String, u64)> {
        let start = "exitcode_exporter_watch_failures_total{";
        let of_pods = |(series, count): (String, u64)| {
            let labels = series.strip_prefix(start)?;
            let reason = labels.split("reason=\"").nth(1)?.split('"').next()?;
            (labels.contains("resource=\"pods\"") && count > 0).then(|| (reason.to_owned(), count))
        };
        self.metrics().await.into_iter().filter_map(of_pods).collect()
    }

    async fn metric(&self, name: &str) -> u64 {
        self.metrics().await.get(name).copied().unwrap_or_else(|| panic!("no {name}"))
    }

    /// The most requests for pods in any ten minutes; pages after the first of a list not counted.
    fn most_requests(&self) -> usize {
        let asked: Vec<Instant> = self
            .cluster
            .server()
            .faults()
            .requests()
            .into_iter()
            .filter(|asked| asked.call.as_ref().is_some_and(|c| c.resource == Resource::Pods && !c.continued))
            .map(|asked| asked.at)
            .collect();
        let window = |from: &Instant| {
            asked.iter().filter(|at| **at >= *from && **at < *from + Duration::from_secs(600)).count()
        };
        asked.iter().map(window).max().unwrap_or(0)
    }

    /// A container ends every second.
    async fn churn(&mut self, seconds: u64) {
        for _ in 0..seconds {
            sleep(Duration::from_secs(1)).await;
            self.load.end_one();
        }
    }
}

impl Compare {
    fn key(self, labels: &str) -> String {
        let labels = labels.trim_end_matches('}').split(',');
        let kept = labels.filter(|label| {
            self == Self::AllLabels
                || !["exit_code=", "reason=", "cause="].iter().any(|name| label.starts_with(name))
        });
        let mut kept: Vec<&str> = kept.collect();
        kept.sort_unstable();
        kept.join(",")
    }
}

fn labels(ended: &Ended) -> String {
    let Ended { workload: w, container, container_type, outcome: o } = ended;
    format!(
        "namespace=\"{}\",workload_type=\"{}\",workload=\"{}\",container=\"{container}\",\
         container_type=\"{container_type}\",exit_code=\"{}\",reason=\"{}\",cause=\"{}\"",
        w.namespace, w.workload_type, w.name, o.exit_code, o.reason, o.cause
    )
}

fn pods() -> Matcher {
    Matcher::any().of(Resource::Pods)
}

/// Requests fail for five minutes while containers go on ending; then all is well again.
async fn outage(name: &str, fault: Fault, reason: &str, words: &str) {
    let mut rig = Rig::healthy().await;
    rig.churn(10).await;
    assert_eq!(rig.get("/readyz").await.0, 200, "{name}");
    let server = rig.cluster.server().clone();
    server.faults().always(pods(), fault);
    server.faults().strike(pods(), StreamFault::End);
    rig.churn(300).await;
    let (code, why) = rig.get("/readyz").await;
    assert_eq!(code, 503, "{name}: {why}");
    assert!(why.contains(words), "{name}: {why}");
    assert_eq!(rig.get("/livez").await.0, 200);
    server.faults().clear();
    rig.churn(60).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.get("/readyz").await.0, 200, "{name}");
    let failures = rig.failures().await;
    assert_eq!(failures.len(), 1, "{name}: {failures:?}");
    assert_eq!(failures[0].0, reason, "{name}");
    assert!((5..=30).contains(&failures[0].1), "{name}: {failures:?}");
    assert_eq!(
        rig.differences(Compare::AllLabels).await,
        Vec::<String>::new(),
        "{name}: nothing was withheld"
    );
    assert!(rig.most_requests() <= MAX_REQUESTS_IN_TEN_MINUTES, "{name}: {}", rig.most_requests());
}

#[tokio::test(start_paused = true)]
async fn refusals_are_told_apart_and_survived() {
    let refuse = |code| Fault::Refuse(ApiError::new(code, "not now"));
    outage("401", refuse(401), "unauthorized", "unauthorized: the API server answered 401").await;
    outage(
        "403",
        refuse(403),
        "forbidden",
        "forbidden: cannot watch pods at cluster scope: grant verb watch",
    )
    .await;
    outage("429", refuse(429), "throttled", "throttled: the API server answered 429").await;
    outage("500", refuse(500), "server_error", "server_error: the API server answered 500").await;
    outage("503", refuse(503), "server_error", "server_error: the API server answered 503").await;
    let page = Fault::RefuseRaw(502, "<html>a proxy</html>".to_owned());
    outage("502", page, "server_error", "server_error: the API server answered 502 Bad Gateway").await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_and_one_that_hangs_up_are_survived() {
    outage("never", Fault::NeverAnswer, "timeout", "did not answer within 30 s").await;
    outage("empty", Fault::Empty, "connection", "ended the watch at once and said nothing").await;
}

/// Open streams break in every way, one way at a time.
#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_resumed_or_listed_again() {
    let error = |code| StreamFault::Error(ApiError::new(code, "SECRET"));
    for (name, strike, reason, compare, lists) in [
        ("cut", StreamFault::Cut, Some("connection"), Compare::AllLabels, 1),
        ("cut in an event", StreamFault::CutInEvent, Some("connection"), Compare::AllLabels, 1),
        ("end", StreamFault::End, None, Compare::AllLabels, 1),
        ("silence", StreamFault::Silence, Some("timeout"), Compare::AllLabels, 1),
        ("expired", error(410), Some("expired"), Compare::Containers, 4),
        ("error", error(500), Some("server_error"), Compare::Containers, 4),
    ] {
        let mut rig = Rig::healthy().await;
        for _ in 0..3 {
            rig.churn(20).await;
            rig.cluster.server().faults().strike(pods(), strike.clone());
            rig.churn(if name == "silence" { 100 } else { 20 }).await;
        }
        sleep(Duration::from_secs(30)).await;
        let failures = rig.failures().await;
        let expected: Vec<_> = reason.map(|reason| (reason.to_owned(), 3)).into_iter().collect();
        assert_eq!(failures, expected, "{name}");
        let listed = "exitcode_exporter_lists_total{resource=\"pods\",result=\"success\"}";
        assert_eq!(rig.metric(listed).await, lists, "{name}");
        assert_eq!(rig.differences(compare).await, Vec::<String>::new(), "{name}");
        assert_eq!(rig.get("/readyz").await.0, 200, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_noticed_within_ninety_seconds() {
    let mut rig = Rig::healthy().await;
    rig.churn(10).await;
    rig.cluster.server().faults().strike(pods(), StreamFault::Silence);
    rig.churn(88).await;
    assert_eq!(rig.failures().await, []);
    rig.churn(5).await;
    assert_eq!(rig.failures().await, [("timeout".to_owned(), 1)]);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.differences(Compare::AllLabels).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_continue_token_expires_begins_again_and_counts_nothing_twice() {
    let mut rig = Rig::start(600, |cluster| {
        let faults = cluster.server().faults();
        let streaming = pods().verbs(&[Verb::StreamingList]);
        faults.always(streaming, Fault::Refuse(ApiError::new(422, "sendInitialEvents is forbidden")));
        faults.next(2, pods().continued(true), Fault::ExpireContinue);
    })
    .await;
    rig.cluster.server().faults().watches().wait_for(|open| *open >= 2).await.unwrap();
    rig.churn(60).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.failures().await, [("expired".to_owned(), 2)]);
    assert_eq!(rig.metric("exitcode_exporter_lists_total{resource=\"pods\",result=\"failure\"}").await, 2);
    assert_eq!(rig.metric("exitcode_exporter_lists_total{resource=\"pods\",result=\"success\"}").await, 1);
    assert_eq!(rig.metric("exitcode_exporter_pods").await, 600);
    assert_eq!(rig.differences(Compare::AllLabels).await, Vec::<String>::new());
}

/// Behind a load balancer the next server may lag. What it shows is old, and nothing of it counts again.
#[tokio::test(start_paused = true)]
async fn a_new_list_from_a_server_that_lags_behind_counts_nothing_twice() {
    let mut rig = Rig::healthy().await;
    let then = rig.cluster.server().store().revision();
    rig.churn(60).await;
    let faults = rig.cluster.server().faults();
    faults.always(pods().verbs(&[Verb::StreamingList]), Fault::Refuse(ApiError::new(422, "no")));
    faults.next(1, pods().verbs(&[Verb::List]), Fault::AsOf(then));
    faults.strike(pods(), StreamFault::Error(ApiError::new(410, "too old resource version")));
    rig.churn(60).await;
    sleep(Duration::from_secs(30)).await;
    let pages = rig.cluster.server().faults().requests();
    assert!(pages.iter().any(|asked| asked.call.as_ref().is_some_and(|call| call.verb == Verb::List)));
    assert_eq!(rig.failures().await, [("expired".to_owned(), 1)]);
    assert_eq!(rig.differences(Compare::Containers).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_costs_that_object_only() {
    let mut rig = Rig::healthy().await;
    rig.churn(20).await;
    let bad = r#"{"type":"ADDED","object":{"metadata":{"name":{"a":"SECRET"},"uid":"bad"}}}"#;
    rig.cluster.server().faults().strike(pods(), StreamFault::Send(format!("{bad}\n")));
    rig.churn(20).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.metric("exitcode_exporter_undecodable_objects_total{resource=\"pods\"}").await, 1);
    assert_eq!((rig.failures().await, rig.get("/readyz").await.0), (vec![], 200));
    assert_eq!(rig.differences(Compare::AllLabels).await, Vec::<String>::new());
}

/// Events only explain: without them everything is counted, and the exporter is ready.
#[tokio::test(start_paused = true)]
async fn without_the_permission_for_events_everything_is_counted() {
    let mut rig = Rig::start(100, |cluster| {
        let events = Matcher::any().of(Resource::Events);
        cluster.server().faults().always(events, Fault::Refuse(ApiError::new(403, "events is forbidden")));
    })
    .await;
    rig.cluster.server().faults().watches().wait_for(|open| *open >= 1).await.unwrap();
    rig.churn(200).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.get("/readyz").await.0, 200);
    assert_eq!(rig.metric("exitcode_exporter_synced{resource=\"events\"}").await, 0);
    assert_eq!(rig.metric("exitcode_exporter_synced{resource=\"pods\"}").await, 1);
    let forbidden = "exitcode_exporter_watch_failures_total{resource=\"events\",reason=\"forbidden\"}";
    assert!(rig.metric(forbidden).await > 5);
    assert_eq!(rig.differences(Compare::Containers).await, Vec::<String>::new());
}
