//! The whole: an API server and the workloads that live in it.

use tokio::task::JoinSet;

use super::api::{ApiServer, Settings};
use super::clock::SimClock;
use super::family::node;
use super::kinds::Resource;
use super::kubelet::World;
use super::life::live;
use super::script::Script;
use super::truth::{Counts, Truth};
use super::workloads::{NODES, WORKLOADS};

/// How the simulated cluster goes.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// The API server.
    pub api: Settings,
    /// How many times as fast as tokio's clock the cluster's goes.
    pub speed: u32,
    /// What names and ids are made from: the same seed makes the same cluster.
    pub seed: u64,
    /// Longest back-off between restarts in milliseconds; Kubernetes has 5 minutes.
    pub max_backoff_ms: u64,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self { api: Settings::default(), speed: 1, seed: 1, max_backoff_ms: 10_000 }
    }
}

/// A simulated cluster. Dropping it ends its workloads.
pub struct Cluster {
    server: ApiServer,
    world: World,
    seed: u64,
    lives: JoinSet<()>,
}

impl Cluster {
    /// A cluster with nodes and no pods.
    #[must_use]
    pub fn new(settings: ClusterSettings) -> Self {
        let ClusterSettings { api, speed, seed, max_backoff_ms } = settings;
        let server = ApiServer::new(api);
        for name in NODES {
            server.store().put(Resource::Nodes, node(name));
        }
        let (store, clock) = (server.store().clone(), SimClock::start(speed));
        let world = World { store, clock, truth: Truth::default(), max_backoff_ms };
        Self { server, world, seed, lives: JoinSet::new() }
    }

    /// Lets the demo's workloads live.
    pub fn begin(&mut self) {
        self.run(WORKLOADS);
    }

    /// Lets these workloads live.
    pub fn run(&mut self, scripts: &[Script]) {
        for script in scripts {
            let number = u64::try_from(self.lives.len()).unwrap_or(0);
            let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(number);
            self.lives.spawn(live(self.world.clone(), *script, seed));
        }
    }

    /// Stops everything where it is; what is there stays as it was written.
    pub async fn stop(&mut self) {
        self.lives.shutdown().await;
    }

    /// The API server.
    #[must_use]
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// The cluster's clock.
    #[must_use]
    pub fn clock(&self) -> SimClock {
        self.world.clock
    }

    /// What was really done so far, as far as statuses have shown it.
    #[must_use]
    pub fn truth(&self) -> Counts {
        self.world.truth.counts()
    }
}
