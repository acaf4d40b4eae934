//! A simulated API server as a process of its own: many realistic pods for benchmarks, or the demo's workloads
//! to point anything at. Prints its URL, then at its end the truth, one line a series.
//!
//! ```text
//! cargo run --release --example simulated-api-server -- --pods 10000 --rate 100 --seconds 60
//! curl -s 'http://127.0.0.1:8001/api/v1/pods?limit=1'
//! ```

use std::io::Write;
use std::time::Duration;

use clap::Parser;
use exitcode_exporter::sim::{Cluster, ClusterSettings, Load, LoadSettings, Settings};
use tokio::net::TcpListener;
use tokio::time::sleep;

/// A simulated API server.
#[derive(Parser)]
struct Options {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8001")]
    listen: String,
    /// Pods of about 12 KB.
    #[arg(long, default_value_t = 1_000)]
    pods: u32,
    /// Container ends a second; each is three writes.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// How long containers end; the server goes on until Ctrl-C.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Containers begin to end when so many watches are open.
    #[arg(long, default_value_t = 1)]
    watches: usize,
    /// Percent of the container ends after which another pod takes the place of the container's pod.
    #[arg(long, default_value_t = 2)]
    replaced: u8,
    /// At Ctrl-C containers end no more and the truth is printed, and the server goes on until the next Ctrl-C.
    #[arg(long)]
    linger: bool,
    /// Lets the demo's workloads live, too.
    #[arg(long)]
    workloads: bool,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Exits when containers have ended, instead of at Ctrl-C.
    #[arg(long)]
    exit: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let api = Settings { history: 100_000, ..Settings::default() };
    let mut cluster = Cluster::new(ClusterSettings { api, seed: options.seed, ..ClusterSettings::default() });
    let settings = LoadSettings {
        pods: options.pods,
        seed: options.seed,
        replaced_percent: options.replaced,
        ..LoadSettings::default()
    };
    let mut load = Load::fill(cluster.server().store(), cluster.clock(), settings);
    let served = cluster.server().serve(TcpListener::bind(&options.listen).await?)?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", served.url())?;
    let work = async {
        let mut watches = cluster.server().faults().watches();
        watches.wait_for(|open| *open >= options.watches).await.ok();
        if options.workloads {
            cluster.begin();
        }
        load.churn(options.rate, Duration::from_secs(options.seconds)).await;
        if options.exit {
            // What was written last is still on its way.
            sleep(Duration::from_secs(5)).await;
        } else {
            std::future::pending().await
        }
    };
    tokio::select! {
        () = work => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    cluster.stop().await;
    for line in load.truth().lines().into_iter().chain(cluster.truth().lines()) {
        writeln!(out, "{line}")?;
    }
    if options.linger {
        writeln!(out, "end")?;
        tokio::signal::ctrl_c().await?;
    }
    Ok(())
}
