//! The whole exporter with saved state, against the simulated cluster: what is shown before, while and after it is
//! gone for a while. The clock is paused; the wall clock that each start reads is not, and so goes back each time.

#![cfg(test)]
#![allow(clippy::unwrap_used)] // in the helpers, too

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use exitcode_exporter::exporter;
use exitcode_exporter::options::Options;
use exitcode_exporter::sim::{
    ApiError, Cluster, ClusterSettings, Fault, Load, LoadSettings, Matcher, Resource, Settings,
};
use support::scrape;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const PROMETHEUS: &str = "X-Prometheus-Scrape-Timeout-Seconds: 10\r\n";

/// A cluster under load, and an exporter that comes and goes.
struct Rig {
    cluster: Cluster,
    load: Load,
    dir: PathBuf,
    running: Option<Running>,
    more: Vec<String>,
}

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Rig {
    fn new(name: &str) -> Self {
        Self::with(name, Settings::default())
    }

    fn with(name: &str, api: Settings) -> Self {
        let dir = std::env::temp_dir().join(format!("exitcode-saved-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let api = Settings { history: 100_000, ..api };
        let cluster = Cluster::new(ClusterSettings { api, ..ClusterSettings::default() });
        let settings = LoadSettings { pods: 60, replaced_percent: 0, ..LoadSettings::default() };
        let load = Load::fill(cluster.server().store(), cluster.clock(), settings);
        Self { cluster, load, dir, running: None, more: Vec::new() }
    }

    async fn start(&mut self) {
        let arguments = ["exitcode-exporter".to_owned(), format!("--state-dir={}", self.dir.display())];
        let arguments = arguments.into_iter().chain(self.more.clone()).map(Into::into);
        let options = Options::read(arguments).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = self.cluster.server().client();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async move { drop(stopped.await) };
            exporter::run(client, &options, options.access().unwrap(), vec![listener], stopped)
                .await
                .unwrap();
        });
        self.running = Some(Running { address, stop, task });
    }

    async fn ready(&mut self) {
        self.start().await;
        while self.get("/readyz").await.0 != 200 {
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.stop.send(()).unwrap();
        running.task.await.unwrap();
    }

    async fn get(&self, path: &str) -> (u16, String) {
        scrape::get(self.running.as_ref().unwrap().address, path, "").await
    }

    /// The sum of the terminations shown to whoever sends these headers; `None` for no answer yet.
    async fn shown(&self, headers: &str) -> Option<u64> {
        let address = self.running.as_ref().unwrap().address;
        let (status, text) = scrape::get(address, "/metrics", headers).await;
        let of_terminations = |(name, count): (String, u64)| {
            name.starts_with("exitcode_container_terminations_total{").then_some(count)
        };
        (status == 200).then(|| scrape::numbers(&text).into_iter().filter_map(of_terminations).sum())
    }

    async fn metric(&self, name: &str) -> u64 {
        scrape::numbers(&self.get("/metrics").await.1).get(name).copied().unwrap()
    }

    /// So many containers end, ten each second, and settle.
    async fn ends(&mut self, count: usize) {
        for number in 0..count {
            self.load.end_one();
            if number % 10 == 9 {
                sleep(Duration::from_secs(1)).await;
            }
        }
        sleep(Duration::from_secs(5)).await;
    }

    fn truth(&self) -> u64 {
        self.load.truth().terminations.values().sum()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[tokio::test(start_paused = true)]
async fn counting_goes_on_after_a_restart_and_what_ended_meanwhile_counts_once() {
    let mut rig = Rig::new("goes-on");
    rig.ready().await;
    for _ in 0..5 {
        rig.ends(40).await;
        assert_eq!(rig.shown("").await, Some(rig.truth()));
        rig.stop().await;
        rig.ends(15).await;
        rig.ready().await;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(rig.shown("").await, Some(rig.truth()));
    }
    assert_eq!(rig.metric("exitcode_exporter_baselines_total{reason=\"first_list\"}").await, 0);
    assert_eq!(rig.metric("exitcode_exporter_state_save_failures_total").await, 0);
}

#[tokio::test(start_paused = true)]
async fn restored_series_show_prometheus_what_they_were_and_then_what_the_downtime_added() {
    let mut rig = Rig::new("restored");
    rig.ready().await;
    rig.ends(40).await;
    sleep(Duration::from_secs(70)).await;
    let before = rig.shown(PROMETHEUS).await;
    assert_eq!(before, Some(rig.truth()));
    rig.stop().await;
    rig.ends(30).await;
    rig.ready().await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.shown("").await, Some(rig.truth()), "others see the truth at once");
    for _ in 0..5 {
        assert_eq!(rig.shown(PROMETHEUS).await, before);
        sleep(Duration::from_secs(10)).await;
    }
    sleep(Duration::from_secs(20)).await;
    assert_eq!(rig.shown(PROMETHEUS).await, Some(rig.truth()));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_shown_until_the_first_list_is_in() {
    let mut rig = Rig::new("first-list");
    rig.ready().await;
    rig.ends(40).await;
    rig.stop().await;
    let pods = || Matcher::any().of(Resource::Pods);
    rig.cluster.server().faults().always(pods(), Fault::Refuse(ApiError::new(503, "starting")));
    rig.start().await;
    sleep(Duration::from_secs(60)).await;
    let (status, text) = rig.get("/metrics").await;
    assert_eq!((status, text.as_str()), (503, "not yet: the first list of pods is not in\n"));
    assert_eq!(rig.get("/readyz").await.0, 503);
    rig.cluster.server().faults().clear();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.shown("").await, Some(rig.truth()));
}

/// The disk fails for a minute: what was saved last is shown, readiness says why, and nothing is lost.
#[tokio::test(start_paused = true)]
async fn while_nothing_can_be_saved_nothing_new_is_shown() {
    let mut rig = Rig::new("unsaved");
    rig.ready().await;
    rig.ends(40).await;
    let before = rig.shown("").await;
    assert_eq!(before, Some(rig.truth()));
    rig.stop().await;
    // A directory in place of the file can neither be read nor written.
    let file = rig.dir.join("state.redb");
    fs::rename(&file, rig.dir.join("away")).unwrap();
    fs::create_dir(&file).unwrap();
    rig.start().await;
    rig.ends(20).await;
    let (status, why) = rig.get("/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(why, "the saved state cannot be read: Is a directory (os error 21)\n");
    assert_eq!(rig.shown("").await, None);
    fs::remove_dir(&file).unwrap();
    fs::rename(rig.dir.join("away"), &file).unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!((rig.get("/readyz").await.0, rig.shown("").await), (200, Some(rig.truth())));
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_ask_which_cluster_it_is_everything_else_works() {
    let mut rig = Rig::with("no-uid", Settings { hides_cluster: true, ..Settings::default() });
    for _ in 0..3 {
        rig.ready().await;
        rig.ends(20).await;
        assert_eq!(rig.shown("").await, Some(rig.truth()));
        rig.stop().await;
    }
    let asked = rig.cluster.server().faults().requests();
    let about_it = asked.iter().filter(|asked| asked.uri == "/api/v1/namespaces/kube-system").count();
    assert_eq!(about_it, 3, "once a start: a refusal is an answer");
}

#[tokio::test(start_paused = true)]
async fn the_page_and_the_api_show_the_last_terminations_again() {
    let mut rig = Rig::new("board");
    rig.ready().await;
    rig.ends(40).await;
    let before = rig.get("/api/v1/terminations?limit=1000").await.1;
    rig.stop().await;
    rig.ready().await;
    assert_eq!(rig.get("/api/v1/terminations?limit=1000").await.1, before);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_removed_while_it_is_used_is_saved_anew() {
    let mut rig = Rig::new("removed");
    rig.ready().await;
    rig.ends(40).await;
    fs::remove_file(rig.dir.join("state.redb")).unwrap();
    rig.ends(10).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(rig.shown("").await, Some(rig.truth()));
    rig.stop().await;
    rig.ends(10).await;
    rig.ready().await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.shown("").await, Some(rig.truth()));
}

/// A namespace that was left out for a while begins anew: what ended there meanwhile is nobody's.
#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_watched_again_begins_with_a_baseline() {
    let mut rig = Rig::new("again");
    rig.ready().await;
    rig.ends(40).await;
    rig.stop().await;
    let before = rig.by_namespace();
    let first = before.keys().next().unwrap().clone();
    rig.more = vec![format!("--exclude-namespaces={first}")];
    rig.ready().await;
    rig.ends(60).await;
    rig.stop().await;
    rig.more.clear();
    rig.ready().await;
    sleep(Duration::from_secs(5)).await;
    let missed = rig.by_namespace()[&first] - before[&first];
    assert!(missed > 0);
    assert_eq!(rig.shown("").await, Some(rig.truth() - missed));
}

/// Pods come and go all the time: the series of what is gone go all the same.
#[tokio::test(start_paused = true)]
async fn series_end_in_time_however_much_else_happens() {
    let mut rig = Rig::new("expiry");
    rig.more = vec!["--series-ttl=5m".to_owned()];
    rig.ready().await;
    rig.ends(40).await;
    let store = rig.cluster.server().store().clone();
    store.put(Resource::Pods, ended_pod());
    rig.ends(10).await;
    let label = "exitcode_container_terminations_total{namespace=\"gone\"";
    let shows_it = |text: String| text.lines().any(|line| line.starts_with(label));
    assert!(shows_it(rig.get("/metrics").await.1));
    store.delete(Resource::Pods, "gone", "one-shot").unwrap();
    for _ in 0..400 {
        sleep(Duration::from_secs(1)).await;
        rig.load.end_one();
    }
    assert!(!shows_it(rig.get("/metrics").await.1));
}

fn ended_pod() -> serde_json::Value {
    serde_json::json!({
        "metadata": {"name": "one-shot", "namespace": "gone", "uid": "one-shot", "resourceVersion": "1"},
        "spec": {"nodeName": "node-1", "restartPolicy": "Never", "containers": [{"name": "app"}]},
        "status": {"phase": "Failed", "containerStatuses": [{
            "name": "app", "restartCount": 0, "containerID": "c://1", "image": "i",
            "state": {"terminated": {"exitCode": 3, "reason": "Error", "containerID": "c://1",
                "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:10Z"}},
        }]},
    })
}

/// Pods of namespaces that were not watched before are a baseline, as at a first start; those of namespaces that
/// are not watched any more are nobody's concern.
#[tokio::test(start_paused = true)]
async fn other_namespaces_than_before_begin_with_a_baseline() {
    let mut rig = Rig::new("namespaces");
    rig.ends(10).await;
    let before = rig.by_namespace();
    let first = before.keys().next().unwrap().clone();
    rig.more = vec![format!("--exclude-namespaces={first}")];
    rig.ready().await;
    rig.ends(60).await;
    rig.stop().await;
    rig.more.clear();
    rig.ready().await;
    sleep(Duration::from_secs(5)).await;
    let since = |namespace: &str, ended: u64| ended - before.get(namespace).copied().unwrap_or(0);
    let mut ended = rig.by_namespace();
    assert!(since(&first, ended.remove(&first).unwrap()) > 0);
    let others: u64 = ended.iter().map(|(namespace, ended)| since(namespace, *ended)).sum();
    assert!(others > 0);
    assert_eq!(rig.shown("").await, Some(others));
}

impl Rig {
    fn by_namespace(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (ended, count) in self.load.truth().terminations {
            *sums.entry(ended.workload.namespace.to_string()).or_default() += count;
        }
        sums
    }
}
