//! The demo: a simulated cluster on loopback, for the exporter to watch as if it were a real one.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use tokio::net::TcpListener;

use super::cluster::{Cluster, ClusterSettings};
use super::serve::Served;
use super::truth::Counts;

/// A running demo. Dropping it ends the cluster.
pub struct DemoCluster {
    cluster: Cluster,
    served: Served,
}

/// Starts the demo's cluster on a free port of loopback. Its workloads begin once a client watches pods, so
/// that its first list shows an empty cluster and no end is missed.
///
/// # Errors
/// If loopback has no free port.
pub async fn start(settings: ClusterSettings) -> io::Result<DemoCluster> {
    let cluster = Cluster::new(settings);
    let served = cluster.server().serve(TcpListener::bind(("127.0.0.1", 0)).await?)?;
    Ok(DemoCluster { cluster, served })
}

impl DemoCluster {
    /// The API server's URL, for [`kube::Config::new`].
    #[must_use]
    pub fn url(&self) -> String {
        self.served.url()
    }

    /// A configuration for a client of this cluster.
    ///
    /// # Errors
    /// Never in practice: the URL is made here.
    pub fn config(&self) -> Result<kube::Config, http::uri::InvalidUri> {
        Ok(kube::Config::new(self.url().parse()?))
    }

    /// Waits for the first watch (of pods or events), at most so long, then lets the workloads live.
    pub async fn begin(&mut self, patience: Duration) {
        let mut watches = self.cluster.server().faults().watches();
        let watched = watches.wait_for(|open| *open > 0);
        // Without a watch within this time the workloads live unseen.
        let _ = tokio::time::timeout(patience, watched).await;
        self.cluster.begin();
    }

    /// Ends all workloads where they are.
    pub async fn stop(&mut self) {
        self.cluster.stop().await;
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What was really done so far.
    #[must_use]
    pub fn truth(&self) -> Counts {
        self.cluster.truth()
    }
}

/// What to open and what to try, for the exporter that listens at `exporter` (as in `http://localhost:10137`).
#[must_use]
pub fn guide(exporter: &str, api_server: &str) -> String {
    let mut text = String::new();
    let lines = [
        "A simulated cluster runs inside this process; nothing of yours is touched. Ctrl-C ends it.",
        "",
        "Open",
        &format!("  {exporter}/                        the last terminations, each with its runbook"),
        &format!("  {exporter}/runbooks/               the runbooks"),
        &format!("  {exporter}/metrics                 the metrics"),
        "",
        "Try (counts rise within seconds; every cause shows within a minute)",
        &format!("  curl -s {exporter}/metrics | grep ^exitcode_container_terminations_total"),
        &format!("  curl -s {exporter}/metrics | grep 'exit_code=\"137\"'"),
        &format!("  curl -s '{exporter}/api/v1/terminations?exit_code=137&limit=5'"),
        &format!("  curl -s {exporter}/readyz"),
        "",
        "Ask Prometheus (scraping that address)",
        "  who kills containers with 137, and how often:",
        "    sum by (cause) (increase(exitcode_container_terminations_total{exit_code=\"137\"}[10m]))",
        "  the ten workloads that crash most:",
        "    topk(10, sum by (namespace, workload_type, workload)",
        "      (increase(exitcode_container_terminations_total{cause!~\"completed|pod_completed|pod_deleted\"}[10m])))",
        "  workloads that met their memory limit:",
        "    sum by (namespace, workload, container)",
        "      (increase(exitcode_container_terminations_total{cause=\"oom_limit\"}[10m])) > 0",
        "",
        &format!(
            "The simulated API server is {api_server}: kubectl --server {api_server} get --raw /api/v1/pods?limit=1"
        ),
    ];
    for line in lines {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{guide, start};
    use crate::sim::ClusterSettings;

    #[tokio::test]
    async fn the_demo_is_served_on_loopback_and_its_guide_names_the_address() {
        let mut demo = start(ClusterSettings::default()).await.unwrap();
        assert!(demo.url().starts_with("http://127.0.0.1:"));
        assert_eq!(demo.config().unwrap().cluster_url.to_string(), format!("{}/", demo.url()));
        demo.begin(Duration::ZERO).await;
        let text = guide("http://localhost:10137", &demo.url());
        assert!(text.contains("curl -s http://localhost:10137/metrics"));
        assert!(text.contains(&demo.url()));
        demo.stop().await;
    }
}
