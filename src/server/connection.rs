//! Accepting and serving connections, each within the limits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::BoxError;

use super::Limits;
use super::access::Access;
use super::auth::Client;
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
    access: Access,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopped) = watch::channel(false);
    let gate = Arc::new(Gate { limits, counts: Mutex::default() });
    let service = Service { router, access };
    let mut loops = JoinSet::new();
    for listener in listeners {
        loops.spawn(accept(listener, service.clone(), Arc::clone(&gate), stopped.clone()));
    }
    tokio::select! {
        () = shutdown => {}
        _ = loops.join_next() => {}
    }
    let _ = stop.send(true);
    while loops.join_next().await.is_some() {}
}

/// What is served, and to whom.
#[derive(Clone)]
struct Service {
    router: Router,
    access: Access,
}

async fn accept(
    listener: TcpListener,
    service: Service,
    gate: Arc<Gate>,
    mut stopped: watch::Receiver<bool>,
) {
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
                    connections.spawn(serve_one(stream, service.clone(), place, stopped.clone()));
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

async fn serve_one(stream: TcpStream, service: Service, place: Place, stopped: watch::Receiver<bool>) {
    let limits = place.gate.limits;
    // Answers are whole when they are written: nothing is gained by waiting for more.
    let _ = stream.set_nodelay(true);
    let result = match service.access.tls().await {
        None => {
            speak(impatient(stream, limits), service.router, &place, stopped).await.map_err(BoxError::from)
        }
        Some(config) => {
            let shaken = async {
                if !is_tls(&stream).await? {
                    return turn_away(stream).await.map(|()| None);
                }
                TlsAcceptor::from(config).accept(impatient(stream, limits)).await.map(Some)
            };
            match tokio::time::timeout(limits.handshake, shaken).await {
                Ok(Ok(Some(stream))) => {
                    speak(stream, service.router, &place, stopped).await.map_err(BoxError::from)
                }
                Ok(Ok(None)) => Ok(()),
                Ok(Err(error)) => Err(error.into()),
                Err(late) => Err(late.into()),
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

fn impatient(stream: TcpStream, limits: Limits) -> Impatient<TcpStream> {
    Impatient::new(stream, limits.write_stall, limits.write_total)
}

/// Whether a client that begins to speak begins with a TLS handshake.
async fn is_tls(stream: &TcpStream) -> io::Result<bool> {
    const HANDSHAKE: u8 = 0x16;
    let mut first = [0];
    // Nothing at all is no TLS either, and it does not matter.
    stream.peek(&mut first).await.map(|_| first == [HANDSHAKE])
}

/// Tells a client that speaks plain HTTP what is wrong, as Go's server does.
async fn turn_away(stream: TcpStream) -> io::Result<()> {
    const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Length: 34\r\nConnection: close\r\n\r\nthis port speaks HTTPS, not HTTP.\n";
    // What is closed with something unread is reset, and the answer lost.
    let _ = stream.try_read(&mut [0; MAX_HEAD]);
    stream.writable().await?;
    stream.try_write(ANSWER).map(|_| ())
}

async fn speak<S>(
    stream: S,
    router: Router,
    place: &Place,
    mut stopped: watch::Receiver<bool>,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let client = Client(place.client);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(client);
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(place.gate.limits.header_read)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(2 * MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => result,
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
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
