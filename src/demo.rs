//! The demo: the exporter as it is, on a simulated cluster inside the process.

use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::exporter;
use crate::options::Options;
use crate::server::Access;
use crate::sim::{ClusterSettings, demo};
use crate::watch::{self, ConnectError};

/// How long the workloads wait for the exporter's first watch.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the demo could not run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The simulated API server found no port.
    #[error("cannot start the simulated cluster: {0}")]
    Start(#[from] io::Error),
    /// The simulated API server's address is no URL.
    #[error("cannot use the simulated cluster's address: {0}")]
    Address(#[from] http::uri::InvalidUri),
    /// There is no way to the simulated API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The exporter ended by itself.
    #[error(transparent)]
    Died(#[from] exporter::Died),
}

/// Runs a simulated cluster and the exporter on it until `shutdown`; prints what to open and to try.
///
/// # Errors
/// If one of them can't start, or the exporter dies.
pub async fn run(
    options: &Options,
    access: Access,
    listeners: Vec<TcpListener>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), DemoError> {
    if options.state_dir.is_some() {
        tracing::info!("the demo saves no state: each start is another cluster");
    }
    let options = &Options { state_dir: None, ..options.clone() };
    let mut cluster = demo::start(ClusterSettings::default()).await?;
    let client = watch::connect_to(cluster.config()?)?;
    let address = listeners.first().and_then(|listener| listener.local_addr().ok());
    let guide = demo::guide(&base_url(address, access.is_tls()), &cluster.url());
    // Nobody may be reading: that is no reason to end.
    let _ = writeln!(io::stdout(), "{guide}");
    let exporter = exporter::run(client, options, access, listeners, shutdown);
    let mut exporter = std::pin::pin!(exporter);
    tokio::select! {
        ended = &mut exporter => return Ok(ended?),
        () = cluster.begin(PATIENCE) => {}
    }
    let ended = exporter.await;
    cluster.stop().await;
    Ok(ended?)
}

fn base_url(address: Option<SocketAddr>, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    match address {
        Some(address) if !address.ip().is_unspecified() => format!("{scheme}://{address}"),
        Some(address) => format!("{scheme}://localhost:{}", address.port()),
        None => format!("{scheme}://localhost"),
    }
}
