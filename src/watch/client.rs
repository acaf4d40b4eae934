//! The way to the API server: where it is, who we are, and with which limits.

use std::path::Path;
use std::time::Duration;

use http::{HeaderValue, header};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

use super::failure::{auth_words, chain};

/// How long a TCP connection may take to open.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Why there is no way to the API server. A line of text without any credential.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a service account nor a kubeconfig.
    #[error("no cluster to connect to: not in a pod with a service account, and {0}")]
    Nowhere(String),
    /// The kubeconfig can't be used.
    #[error("the kubeconfig can't be used: {0}")]
    Kubeconfig(String),
    /// The service account can't be used.
    #[error("the service account can't be used: {0}")]
    ServiceAccount(String),
    /// The credentials can't be used.
    #[error("the credentials can't be used: {0}")]
    Credentials(String),
    /// Certificates or keys can't be used.
    #[error("certificates or keys can't be used: {0}")]
    Tls(String),
}

/// Makes a client. The first of these that is there: `kubeconfig` or `context`, the environment variable KUBECONFIG,
/// the pod's service account, `~/.kube/config`.
///
/// The client repeats nothing by itself, so that the stated request rate holds, and says nothing of requests in the
/// log above DEBUG: who asks tells what failed. Service account tokens and the cluster's CA are read again within a minute
/// of their rotation.
///
/// # Errors
///
/// Nothing to connect to, or a configuration that can't be used. Whether the API server answers shows later.
pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Client, ConnectError> {
    let mut config = find(kubeconfig, context).await?;
    let agent = HeaderValue::from_static(concat!("exitcode-exporter/", env!("CARGO_PKG_VERSION")));
    config.headers.push((header::USER_AGENT, agent));
    client(&config)
}

async fn find(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, ConnectError> {
    let asked_for = kubeconfig.is_some() || context.is_some();
    let named = std::env::var_os("KUBECONFIG").is_some_and(|paths| !paths.is_empty());
    if !asked_for && !named && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Config::incluster().map_err(|error| ConnectError::ServiceAccount(chain(&error)));
    }
    let read = match kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let kubeconfig = read.map_err(|error| {
        if asked_for || named {
            ConnectError::Kubeconfig(words(&error))
        } else {
            ConnectError::Nowhere(words(&error))
        }
    })?;
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| ConnectError::Kubeconfig(words(&error)))
}

/// The middleware is kube's, less what retries and logs on its own.
fn client(config: &Config) -> Result<Client, ConnectError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_WITHIN));
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    let connector = config.rustls_https_connector_with_connector(tcp).map_err(tls)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(credentials)?)
        .layer(config.extra_headers_layer().map_err(credentials)?)
        .map_err(BoxError::from)
        .service(hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector));
    Ok(Client::new(service, config.default_namespace.clone()))
}

fn tls(error: kube::Error) -> ConnectError {
    ConnectError::Tls(chain(&error))
}

fn credentials(error: kube::Error) -> ConnectError {
    ConnectError::Credentials(match &error {
        kube::Error::Auth(error) => auth_words(error),
        error => chain(error),
    })
}

/// An error of a kubeconfig; the parser's own words may quote the file, and with it a token.
fn words(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(_) => "it is not valid YAML of a kubeconfig".to_owned(),
        KubeconfigError::LoadContext(name) => format!("there is no context {name:?}"),
        KubeconfigError::LoadClusterOfContext(name) => format!("there is no cluster {name:?}"),
        error => chain(error),
    }
}
