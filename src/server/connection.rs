//! Accepting and serving connections, each within the limits.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, rustls};
use tower::BoxError;

use super::access::{Access, Standing};
use super::auth::Client;
use super::framing::{self, Framing};
use super::gate::{Asked, Gate, Place};
use super::stall::Impatient;
use super::{Limits, secured};

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
    let gate = Gate::new(limits);
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
                if let Some(place) = gate.enter(Client(peer.ip().to_canonical())) {
                    connections.spawn(serve_one(stream, service.clone(), place, stopped.clone()));
                }
                // Whoever has to leave for this one gets the time to do so.
                tokio::task::yield_now().await;
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
    // Answers are whole when they are written: nothing is gained by waiting for more.
    let _ = stream.set_nodelay(true);
    let result = tokio::select! {
        result = shake_and_speak(stream, service, &place, stopped) => result,
        () = place.connection().told_to_leave() => Err("its place was needed".into()),
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn shake_and_speak(
    stream: TcpStream,
    service: Service,
    place: &Place,
    stopped: watch::Receiver<bool>,
) -> Result<(), BoxError> {
    let Some(config) = service.access.tls().await else {
        return Ok(speak(impatient(stream, place), service, None, place, stopped).await?);
    };
    let shaken = async {
        if !is_tls(&stream).await? {
            return turn_away(stream).await.map(|()| None);
        }
        TlsAcceptor::from(Arc::clone(&config)).accept(impatient(stream, place)).await.map(Some)
    };
    match tokio::time::timeout(place.limits().handshake, shaken).await?? {
        Some(stream) => Ok(speak(stream, service, Some(config), place, stopped).await?),
        None => Ok(()),
    }
}

fn impatient(stream: TcpStream, place: &Place) -> Impatient<TcpStream> {
    let Limits { write_stall, write_total, .. } = place.limits();
    let connection = Arc::clone(place.connection());
    Impatient::new(stream, write_stall, write_total, move |behind| connection.behind(behind))
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
    service: Service,
    tls: Option<Arc<rustls::ServerConfig>>,
    place: &Place,
    mut stopped: watch::Receiver<bool>,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (client, handle, connection) = (place.client(), place.handle.clone(), Arc::clone(place.connection()));
    let Service { router, access } = service;
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(handle.clone());
        let framing = Framing::of(request.version(), request.headers());
        let (asked, answer) = (connection.asked(), router.call(request));
        let (access, tls) = (access.clone(), tls.clone());
        async move {
            let mut answer = match framing {
                Framing::Plain | Framing::Last => answer.await.unwrap_or_else(|never| match never {}),
                Framing::Unclear => secured(framing::refuse()).await,
            };
            // Whoever comes with the next request shakes hands anew, so that what has changed holds for them too.
            let last = match access.standing(tls.as_ref()) {
                Standing::Good => framing != Framing::Plain,
                Standing::Old => true,
                // Looked at only now, after the request has had a look at the file. Most clients ask once more on a new
                // connection when an old one is closed so; an answer of whatever kind would fail a scrape.
                Standing::Void => return Err(Outdated),
            };
            if last {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer.map(|body| Tracked { body, _asked: asked }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(place.limits().header_read)
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

/// Why a connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("its handshake was before a change, and client certificates are required")]
struct Outdated;

/// The body of an answer: the request is worked on until all of it is handed over.
struct Tracked {
    body: Body,
    _asked: Asked,
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
