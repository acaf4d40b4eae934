//! Accepting and serving connections, each within the limits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Limits;
use super::stall::Impatient;

/// Bytes of a request head: line and headers. Prometheus sends about 500.
const MAX_HEAD: usize = 16 * 1024;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// Wait after accepting failed (no file descriptor is free): until one is, more tries are wasted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then lets requests in flight finish for as long as the limits say. An early return
/// means that a listener's task died: the process is no use without it.
pub async fn serve(
    listeners: Vec<TcpListener>,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopped) = watch::channel(false);
    let gate = Arc::new(Gate { limits, counts: Mutex::default() });
    let mut loops = JoinSet::new();
    for listener in listeners {
        loops.spawn(accept(listener, router.clone(), Arc::clone(&gate), stopped.clone()));
    }
    tokio::select! {
        () = shutdown => {}
        _ = loops.join_next() => {}
    }
    let _ = stop.send(true);
    while loops.join_next().await.is_some() {}
}

async fn accept(listener: TcpListener, router: Router, gate: Arc<Gate>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = told(&mut stopped) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Without a place the stream is dropped here, which closes it.
                if let Some(place) = gate.enter(peer.ip()) {
                    connections.spawn(serve_one(stream, router.clone(), place, stopped.clone()));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    // What is still there after that is dropped with the set.
    let _ = tokio::time::timeout(gate.limits.drain, drained).await;
}

/// Waits until the server is told to stop, or is gone.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn serve_one(stream: TcpStream, router: Router, place: Place, mut stopped: watch::Receiver<bool>) {
    let limits = place.gate.limits;
    // Answers are whole when they are written: nothing is gained by waiting for more.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Impatient::new(stream, limits.write_stall, limits.write_total));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(2 * MAX_HEAD)
        .serve_connection(io, TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Counts connections, in all and by client.
#[derive(Debug)]
struct Gate {
    limits: Limits,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

impl Gate {
    /// A place for one more connection of this client, if there is one.
    fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let client = client.to_canonical();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = counts.by_client.get(&client).copied().unwrap_or(0);
        if counts.all >= self.limits.connections || of_client >= self.limits.connections_per_client {
            return None;
        }
        counts.all += 1;
        counts.by_client.insert(client, of_client + 1);
        Some(Place { gate: Arc::clone(self), client })
    }
}

/// A place among the connections, free again when dropped.
#[derive(Debug)]
struct Place {
    gate: Arc<Gate>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.gate.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all = counts.all.saturating_sub(1);
        if let Entry::Occupied(mut entry) = counts.by_client.entry(self.client) {
            match entry.get().checked_sub(1) {
                Some(left) if left > 0 => *entry.get_mut() = left,
                Some(_) | None => _ = entry.remove(),
            }
        }
    }
}
