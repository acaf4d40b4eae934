//! Who may read, over what: the web configuration and `--auth`, asked for every connection and every request.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use tokio_rustls::rustls;

use super::auth::basic::Basic;
use super::auth::kubernetes::Reviewer;
use super::auth::{Client, Refusal, is_open};
use super::bucket::Bucket;
use super::line;
use super::web::{Web, WebConfigError, WebFile};

/// Why nobody can be let in: one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The web configuration can't be used.
    #[error(transparent)]
    Web(#[from] WebConfigError),
    /// The system has no randomness, and so no secrets.
    #[error("the system has no random numbers")]
    NoRandomness,
}

/// How a connection stands to the web configuration, which may have changed since its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing has changed.
    Good,
    /// Another handshake would be different: one more answer.
    Old,
    /// Another handshake would ask for a certificate, and nobody knows whether one could be shown: no answer.
    Void,
}

/// Who may read, over what. Cloning it is cheap.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    web: Option<Arc<WebFile>>,
    basic: Basic,
    tokens: bool,
    reviewer: Option<Reviewer>,
    bucket: Bucket,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("web", &self.0.web)
            .field("tokens", &self.0.tokens)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// By a web configuration and, with `tokens`, for bearer tokens that the cluster knows: nobody is let in until
    /// [`Access::asking`] tells whom to ask. Reads files: call it where blocking is allowed.
    ///
    /// # Errors
    /// If the web configuration can't be used, or asks for passwords beside tokens.
    pub fn new(web: Option<&Path>, tokens: bool) -> Result<Self, AccessError> {
        let web = web.map(|path| WebFile::open(path, tokens)).transpose()?.map(Arc::new);
        let basic = Basic::new().ok_or(AccessError::NoRandomness)?;
        Ok(Self(Arc::new(Inner { web, basic, tokens, reviewer: None, bucket: Bucket::default() })))
    }

    /// The same, asking this API server about tokens if it is asked for tokens.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn asking(&self, client: &kube::Client) -> Result<Self, AccessError> {
        if !self.0.tokens {
            return Ok(self.clone());
        }
        let reviewer = Reviewer::new(client.clone()).ok_or(AccessError::NoRandomness)?;
        let basic = Basic::new().ok_or(AccessError::NoRandomness)?;
        let web = self.0.web.clone();
        let inner = Inner { web, basic, tokens: true, reviewer: Some(reviewer), bucket: Bucket::default() };
        Ok(Self(Arc::new(inner)))
    }

    /// Whether only those who prove who they are may read: by a password, a token or a certificate.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        self.0.tokens || self.0.web.as_ref().is_some_and(|web| web.known().authenticates())
    }

    /// Logs what an operator should know of this choice.
    pub fn explain(&self) {
        if self.authenticates() && !self.is_tls() {
            tracing::warn!(
                "passwords and tokens come over plain HTTP, readable on the way: give --web.config.file a \
                 tls_server_config"
            );
        }
    }

    /// Whether it is TLS that is spoken.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.web.as_ref().is_some_and(|web| web.known().tls.is_some())
    }

    /// The TLS of a new connection.
    pub(super) async fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        // No change of the file brings TLS where there was none: no need for a look at it.
        if self.is_tls() { self.web().await?.tls.clone() } else { None }
    }

    /// What becomes of a connection that has shaken hands with this TLS.
    pub(super) fn standing(&self, tls: Option<&Arc<rustls::ServerConfig>>) -> Standing {
        let (Some(tls), Some(web)) = (tls, &self.0.web) else { return Standing::Good };
        let web = web.known();
        if web.tls.as_ref().is_none_or(|now| Arc::ptr_eq(now, tls)) {
            Standing::Good
        } else if web.client_certificates {
            Standing::Void
        } else {
            Standing::Old
        }
    }

    /// What holds for a request.
    async fn web_for(&self, path: &str) -> Option<Arc<Web>> {
        // A file system that hangs must not make the kubelet think that the exporter is dead.
        if is_open(path) { self.0.web.as_ref().map(|web| web.known()) } else { self.web().await }
    }

    async fn web(&self) -> Option<Arc<Web>> {
        match &self.0.web {
            Some(web) => Some(web.current().await),
            None => None,
        }
    }

    async fn admit(
        &self,
        web: Option<&Web>,
        path: &str,
        headers: &HeaderMap,
        client: Client,
    ) -> Result<(), Refusal> {
        if is_open(path) {
            return Ok(());
        }
        if self.0.tokens {
            return match &self.0.reviewer {
                Some(reviewer) => reviewer.admit(headers, client).await,
                None => Err(Refusal::Unavailable("there is no API server to ask".to_owned())),
            };
        }
        match web {
            Some(web) if !web.users.is_empty() => self.0.basic.admit(&web.users, headers, client).await,
            Some(_) | None => Ok(()),
        }
    }

    fn within_rate(&self, web: Option<&Web>, path: &str) -> bool {
        let limit = web.and_then(|web| web.rate_limit);
        // Whoever asks too often must not make the kubelet think that the exporter is dead.
        limit.is_none_or(|limit| is_open(path) || self.0.bucket.take(limit))
    }
}

/// Lets a request through or refuses it, and adds the headers that the web configuration names.
pub(super) async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    let web = access.web_for(request.uri().path()).await;
    let mut response = if access.within_rate(web.as_deref(), request.uri().path()) {
        let client = request.extensions().get::<Client>().copied().unwrap_or(Client::UNKNOWN);
        match access.admit(web.as_deref(), request.uri().path(), request.headers(), client).await {
            Ok(()) => next.run(request).await,
            Err(refusal) => refusal.answer(),
        }
    } else {
        line(StatusCode::TOO_MANY_REQUESTS, "too many requests, see rate_limit of the web configuration")
    };
    for (name, value) in web.iter().flat_map(|web| &web.headers) {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}
