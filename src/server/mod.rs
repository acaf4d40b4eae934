//! The HTTP server: reads what is published, and nothing else.
//!
//! | path | answers |
//! |---|---|
//! | `/metrics` | the counts, in the format and encoding that the client asks for |
//! | `/livez`, `/-/healthy` | 200 while the process serves |
//! | `/readyz`, `/-/ready` | 200 once the first list is in, else 503 and why |
//! | `/api/v1/terminations` | the last terminations as JSON |
//! | `/runbooks/`, `/runbooks/NAME` | the runbooks as pages, with the names of the link in their commands |
//! | `/runbooks/NAME.md`, `/runbooks/ko/NAME.md` | the same as they are written |
//! | `/` | the last terminations, each with its runbook, and links to these |
//! | `/style.css` | the look of the pages |

mod access;
mod auth;
mod bucket;
mod connection;
mod framing;
mod gate;
mod health;
mod layout;
mod listen;
mod metrics;
mod negotiate;
mod pages;
mod runbooks;
mod stall;
mod terminations;
mod web;
mod words;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;

pub use access::{Access, AccessError};
pub use connection::serve;
pub use listen::{ListenError, bind};
pub use web::WebConfigError;

use gate::{Handle, Holding};

use crate::publish::Published;

/// The longest that a request may ask a new series to read 0.
pub const MAX_ZERO_FOR: Duration = Duration::from_secs(3600);

/// What a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. For one more, the client with the most loses one that is idle or not read.
    pub connections: usize,
    /// Connections at once from one address. For one more, an idle one of the same address is closed.
    pub connections_per_client: usize,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for a whole request head, which is also how long a connection may idle.
    pub header_read: Duration,
    /// Time from a request's head to its answer's.
    pub request: Duration,
    /// Time without a byte taken of an answer.
    pub write_stall: Duration,
    /// Time for a whole answer to be taken.
    pub write_total: Duration,
    /// Large answers held at once; more wait for the time of a request, and one that is not read gives way.
    pub answers: usize,
    /// Large answers held at once for one address.
    pub answers_per_client: usize,
    /// Time for requests in flight at shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_client: 64,
            handshake: Duration::from_secs(10),
            header_read: Duration::from_secs(10),
            request: Duration::from_secs(30),
            write_stall: Duration::from_secs(30),
            write_total: Duration::from_secs(120),
            answers: 8,
            answers_per_client: 4,
            drain: Duration::from_secs(4),
        }
    }
}

/// What the handlers share.
#[derive(Clone, Debug)]
struct App {
    published: Arc<Published>,
    /// Encoding takes memory and a lock: two at once.
    encoders: Arc<Semaphore>,
}

/// A large answer and its place, given back when its last byte is written or its client is gone.
struct Held {
    bytes: Vec<u8>,
    _place: Option<Holding>,
}

impl Held {
    fn bytes(bytes: Vec<u8>, place: Option<Holding>) -> Bytes {
        Bytes::from_owner(Self { bytes, _place: place })
    }
}

/// Waits for a place for a large answer; without a connection there is nothing to be bounded.
async fn hold(handle: Option<Extension<Handle>>) -> Option<Holding> {
    match handle {
        Some(Extension(handle)) => handle.hold().await,
        None => None,
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// All paths, for those who may read them.
pub fn router(published: Arc<Published>, limits: &Limits, access: Access) -> Router {
    let app = App { published, encoders: Arc::new(Semaphore::new(2)) };
    let limit = limits.request;
    Router::new()
        .route("/", get(pages::index))
        .route("/metrics", get(metrics::metrics))
        .route("/livez", get(health::live))
        .route("/-/healthy", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/-/ready", get(health::ready))
        .route("/api/v1/terminations", get(terminations::terminations))
        .route("/runbooks", get(runbooks::without_slash))
        .route("/runbooks/", get(runbooks::index))
        .route("/runbooks/{name}", get(runbooks::page))
        .route("/runbooks/ko/{name}", get(runbooks::korean))
        .route("/style.css", get(layout::style))
        .fallback(pages::not_found)
        .method_not_allowed_fallback(pages::method_not_allowed)
        .with_state(app)
        .layer(middleware::from_fn_with_state(access, access::guard))
        .layer(middleware::from_fn_with_state(limit, within))
        .layer(middleware::map_response(secured))
}

/// Ends a request that takes too long.
async fn within(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the exporter is busy, try again\n").into_response(),
    }
}

/// No page loads anything, and no browser guesses a type.
async fn secured(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 3] = [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// One line of plain text.
fn line(status: StatusCode, text: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{text}\n")).into_response()
}
