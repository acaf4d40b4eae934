//! The web configuration file: TLS, users, headers and the rate limit, in the format of the Prometheus exporter-toolkit.
//!
//! It and the files that it names are read again when they changed: a connection or a request looks, at most once a
//! second. What can't be used is told in one log line, and what was in use stays in use.

mod file;
mod sans;
mod settings;
mod tls;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use tokio::time::Instant;
use tokio_rustls::rustls;

use file::Files;
pub(super) use settings::RateLimit;
use settings::Settings;

use super::auth::basic::PasswordHash;
use crate::text::{clean, cut};

/// How old the last look at the files may be.
const FRESH: Duration = Duration::from_secs(1);
/// How long a connection or a request waits for a look at the files.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// A web configuration that can't be used: one line with the file, the key and what is wrong. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("web configuration {}: {}", shown(.file), clean(.problem))]
pub struct WebConfigError {
    /// The configuration file.
    pub file: PathBuf,
    /// The key, and what is wrong with it.
    pub problem: String,
}

fn shown(path: &Path) -> String {
    clean(&path.display().to_string()).into_owned()
}

/// What is in use now.
pub(super) struct Web {
    /// The TLS of new connections; none: plain HTTP.
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether a connection needs a verified client certificate.
    pub(super) client_certificates: bool,
    /// Headers of every answer.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Bcrypt hashes by user; none: no passwords are asked for.
    pub(super) users: BTreeMap<String, PasswordHash>,
    /// How often it may be asked.
    pub(super) rate_limit: Option<RateLimit>,
}

impl fmt::Debug for Web {
    /// Without the users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Web").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

impl Web {
    /// Whether only those who prove who they are may read.
    pub(super) fn authenticates(&self) -> bool {
        self.client_certificates || !self.users.is_empty()
    }

    fn read(path: &Path, files: &mut Files) -> Result<Self, String> {
        let text = files.text(path)?;
        let settings = Settings::parse(&text)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let tls = settings.tls.as_ref().map(|tls| tls.load(folder, files)).transpose()?;
        Ok(Self {
            tls,
            client_certificates: settings.tls.is_some_and(|tls| tls.requires_certificate()),
            headers: settings.headers,
            users: settings.users,
            rate_limit: settings.rate_limit,
        })
    }
}

/// The file, what it said when it could last be used, and when somebody last looked.
#[derive(Debug)]
pub(super) struct WebFile {
    path: PathBuf,
    /// Whether passwords can't be used beside what else is asked for.
    no_users: bool,
    now: RwLock<Arc<Web>>,
    seen: Mutex<Seen>,
    looked: tokio::sync::Mutex<Instant>,
}

/// What the last look showed.
#[derive(Debug)]
struct Seen {
    files: Files,
    problem: Option<String>,
}

impl WebFile {
    /// Reads the file and all that it names. `no_users` if passwords can't be used beside what else is asked for.
    pub(super) fn open(path: &Path, no_users: bool) -> Result<Self, WebConfigError> {
        let mut files = Files::default();
        let wrong = |problem| WebConfigError { file: path.to_owned(), problem };
        let web = Web::read(path, &mut files).map_err(wrong)?;
        if no_users && !web.users.is_empty() {
            return Err(wrong(PASSWORDS_AND_TOKENS.to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            no_users,
            now: RwLock::new(Arc::new(web)),
            seen: Mutex::new(Seen { files, problem: None }),
            looked: tokio::sync::Mutex::new(Instant::now()),
        })
    }

    /// What is in use, without a look at the files.
    pub(super) fn known(&self) -> Arc<Web> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is in use, after a look at the files if the last one is over a second ago.
    pub(super) async fn current(self: &Arc<Self>) -> Arc<Web> {
        if let Ok(mut looked) = tokio::time::timeout(LOOK_WITHIN, self.looked.lock()).await
            && looked.elapsed() >= FRESH
        {
            let file = Arc::clone(self);
            // A file system that hangs delays one connection or request a second, and stops none.
            let look = tokio::task::spawn_blocking(move || file.look());
            let _ = tokio::time::timeout(LOOK_WITHIN, look).await;
            *looked = Instant::now();
        }
        self.known()
    }

    /// Reads the files again if one of them changed.
    fn look(&self) {
        // Somebody whose file system hangs is still looking.
        let Ok(mut seen) = self.seen.try_lock() else { return };
        if !seen.files.changed() {
            return;
        }
        let mut files = Files::default();
        let read = Web::read(&self.path, &mut files).and_then(|web| self.allowed(web));
        let problem = match read {
            Ok(web) => {
                *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(web);
                tracing::info!(file = %self.path.display(), "the web configuration has changed and is in use");
                None
            }
            Err(problem) => Some(problem),
        };
        if let Some(problem) = problem.as_ref().filter(|problem| seen.problem.as_ref() != Some(problem)) {
            let problem = cut(problem, 500);
            tracing::warn!(file = %self.path.display(), problem, "the web configuration can't be used: the last one stays in use");
        }
        *seen = Seen { files, problem };
    }

    /// A file that is changed, or cut off, must not open what was closed.
    fn allowed(&self, web: Web) -> Result<Web, String> {
        let known = self.known();
        if known.tls.is_some() != web.tls.is_some() {
            return Err("tls_server_config can't be added or removed without a restart".to_owned());
        }
        if known.authenticates() && !web.authenticates() {
            return Err("users or client certificates can't be given up without a restart".to_owned());
        }
        if self.no_users && !web.users.is_empty() {
            return Err(PASSWORDS_AND_TOKENS.to_owned());
        }
        Ok(web)
    }
}

const PASSWORDS_AND_TOKENS: &str = "basic_auth_users can't be used together with --auth kubernetes";

#[cfg(test)]
mod tests;
