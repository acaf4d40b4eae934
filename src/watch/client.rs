//! The way to the API server: where it is, who we are, and with which limits.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use http::{HeaderValue, Uri, header};
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::{BoxError, Service, ServiceBuilder};

use super::failure::{auth_words, chain};

/// How long a TCP connection may take to open.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long a TCP connection is idle before the kernel asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Why there is no way to the API server: one line, without any credential.
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
    /// The proxy can't be used.
    #[error("a proxy with the scheme {0:?} can't be used: only http:// can")]
    Proxy(String),
}

/// Makes a client. The first of these that is there: `kubeconfig` or `context`, the environment variable KUBECONFIG,
/// the pod's service account, `~/.kube/config`. With a kubeconfig, HTTPS_PROXY and NO_PROXY hold as for kubectl.
///
/// The client repeats nothing by itself, so that the stated request rate holds, and tells nothing of requests in the
/// log: who asks tells what failed. Service account tokens and the cluster's CA are read again within a minute of
/// their rotation.
///
/// # Errors
///
/// Nothing to connect to, or a configuration that can't be used. Whether the API server answers shows later.
pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Client, ConnectError> {
    let config = find(kubeconfig, context).await?;
    let server = config.cluster_url.authority().map_or("", |authority| authority.as_str());
    // What stands before an @ is a password.
    tracing::info!(server = server.rsplit('@').next(), "connecting to the API server");
    connect_to(config)
}

async fn find(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, ConnectError> {
    let named = std::env::var_os("KUBECONFIG").is_some_and(|paths| !paths.is_empty());
    if kubeconfig.is_some() || context.is_some() || named {
        return read(kubeconfig, context)
            .await
            .map_err(|error| ConnectError::Kubeconfig(kubeconfig_words(&error)));
    }
    let pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some().then(Config::incluster);
    match pod {
        Some(Ok(config)) => Ok(config),
        Some(Err(error)) => read(None, None).await.map_err(|_| ConnectError::ServiceAccount(chain(&error))),
        None => read(None, None).await.map_err(|error| ConnectError::Nowhere(kubeconfig_words(&error))),
    }
}

async fn read(path: Option<&Path>, context: Option<&str>) -> Result<Config, KubeconfigError> {
    let kubeconfig = match path {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    }?;
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options).await
}

/// A client for a configuration, by way of its proxy if it has one.
///
/// # Errors
///
/// A configuration that can't be used.
pub fn connect_to(mut config: Config) -> Result<Client, ConnectError> {
    let agent = HeaderValue::from_static(concat!("exitcode-exporter/", env!("CARGO_PKG_VERSION")));
    config.headers.push((header::USER_AGENT, agent));
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_WITHIN));
    tcp.set_keepalive(Some(KEEPALIVE));
    let Some(proxy) = proxy(&config, |name| std::env::var(name).ok()) else { return stack(&config, tcp) };
    if proxy.uri().scheme_str() != Some("http") {
        return Err(ConnectError::Proxy(proxy.uri().scheme_str().unwrap_or_default().to_owned()));
    }
    let tunnel = Tunnel::new(proxy.uri().clone(), tcp);
    match proxy.basic_auth() {
        Some(auth) => stack(&config, tunnel.with_auth(auth.clone())),
        None => stack(&config, tunnel),
    }
}

/// The middleware is kube's, less what retries and logs on its own.
fn stack<H>(config: &Config, connector: H) -> Result<Client, ConnectError>
where
    H: Service<Uri> + Clone + Send + Sync + 'static,
    H::Response: Connection + Read + Write + Send + Unpin + 'static,
    H::Future: Send + 'static,
    H::Error: Into<BoxError> + Error + Send + Sync + 'static,
{
    let connector = config.rustls_https_connector_with_connector(connector).map_err(tls)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(credentials)?)
        .layer(config.extra_headers_layer().map_err(credentials)?)
        .map_err(BoxError::from)
        .service(hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector));
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// The proxy of a kubeconfig. One that it names itself always holds; one of the environment not for this machine and not
/// for what NO_PROXY names.
fn proxy(config: &Config, environment: impl Fn(&str) -> Option<String>) -> Option<Intercept> {
    let url = config.proxy_url.as_ref()?.to_string();
    let variable = |names: [&str; 2]| names.iter().find_map(|name| environment(name)).unwrap_or_default();
    let of_environment =
        variable(["HTTPS_PROXY", "https_proxy"]).trim_end_matches('/') == url.trim_end_matches('/');
    let builder = Matcher::builder().all(url);
    if !of_environment {
        return builder.build().intercept(&config.cluster_url);
    }
    let host = config.cluster_url.host().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if here {
        None
    } else {
        builder.no(variable(["NO_PROXY", "no_proxy"])).build().intercept(&config.cluster_url)
    }
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
fn kubeconfig_words(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(_) => "it is not the YAML of a kubeconfig".to_owned(),
        KubeconfigError::CurrentContextNotSet => "it names no current context".to_owned(),
        KubeconfigError::LoadContext(name) => format!("there is no context {name:?}"),
        KubeconfigError::LoadClusterOfContext(name) => format!("there is no cluster {name:?}"),
        KubeconfigError::ReadConfig(error, path) => format!("{} can't be read: {error}", path.display()),
        error => chain(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::extract::Request;
    use http::StatusCode;
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::pod::Pod;
    use crate::time::Clock;
    use crate::watch::http::{ANSWER_WITHIN, get};
    use crate::watch::{FailureReason, Health, Target, Update, run};

    /// A server on loopback that answers by the token that it is shown, and notes what it is shown.
    async fn server(answer: fn(&str) -> (StatusCode, &'static str)) -> (Config, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let router = axum::Router::new().fallback(move |request: Request| {
            let header =
                |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
            let token = header(header::AUTHORIZATION).to_owned();
            log.lock().expect("no panic").push(format!("{} {token}", header(header::USER_AGENT)));
            async move { answer(&token) }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let uri = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (Config::new(uri.parse().expect("a URI")), seen)
    }

    #[tokio::test]
    async fn a_refused_request_is_not_repeated_inside_the_client() {
        for status in
            [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT]
        {
            let (mut config, seen) = server(|token| {
                let code = token.trim_start_matches("Bearer ").parse().unwrap_or(200);
                (StatusCode::from_u16(code).unwrap_or_default(), "")
            })
            .await;
            config.auth_info.token = Some(status.as_str().to_owned().into());
            let client = connect_to(config).expect("a client");
            let refused = get(&client, "/api/v1/pods", "application/json", ANSWER_WITHIN).await;
            assert_eq!(refused.map(|_| ()).map_err(|failure| failure.code), Err(Some(status.as_u16())));
            let agent = concat!("exitcode-exporter/", env!("CARGO_PKG_VERSION"));
            assert_eq!(*seen.lock().expect("no panic"), [format!("{agent} Bearer {}", status.as_str())]);
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_a_failure_of_the_connection() {
        // Bound, so that nobody else takes the port, and never listened on.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let uri = format!("http://{}", socket.local_addr().expect("an address"));
        let client = connect_to(Config::new(uri.parse().expect("a URI"))).expect("a client");
        let refused = get(&client, "/api/v1/pods", "application/json", ANSWER_WITHIN).await;
        let failure = refused.map(|_| ()).expect_err("nobody is there");
        assert_eq!(failure.reason, FailureReason::Connection);
        assert!(failure.detail.starts_with("no connection to the API server: "), "{failure}");
        assert!(failure.detail.contains("onnection refused"), "{failure}");
        drop(socket);
    }

    /// The token file is read again after 50 s by the wall clock, which no paused clock can shorten.
    #[tokio::test]
    #[ignore = "takes a minute"]
    async fn a_rotated_token_is_picked_up_without_a_restart() {
        let (mut config, seen) = server(|token| match token {
            "Bearer new" => (StatusCode::OK, r#"{"metadata":{"resourceVersion":"5"},"items":[]}"#),
            _ => (StatusCode::UNAUTHORIZED, ""),
        })
        .await;
        let file = std::env::temp_dir().join(format!("exitcode-exporter-token-{}", std::process::id()));
        std::fs::write(&file, "old").expect("a file");
        config.auth_info.token_file = Some(file.display().to_string());
        let client = connect_to(config).expect("a client");
        std::fs::write(&file, "new").expect("a file");
        let health = Arc::new(Health::new(Target::all("pods"), Arc::default(), Clock::start()));
        let (sender, mut updates) = tokio::sync::mpsc::channel(16);
        tokio::spawn(run::<Pod>(client, Arc::clone(&health), sender));
        let first = tokio::time::timeout(Duration::from_secs(90), updates.recv()).await.expect("in time");
        assert_eq!(first, Some(Update::ListBegins));
        let asked = seen.lock().expect("no panic").clone();
        assert!(asked.len() < 10 && asked.iter().any(|asked| asked.ends_with("Bearer old")), "{asked:?}");
        assert!(health.stats().failures(FailureReason::Unauthorized) > 4, "{asked:?}");
        std::fs::remove_file(file).expect("a file");
    }

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_used_is_told_in_a_line_without_its_content() {
        let directory =
            std::env::temp_dir().join(format!("exitcode-exporter-kubeconfig-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let file = directory.join("config");
        for (text, context, words) in [
            ("users: [{name: x, user: {token: SECRET", None, "it is not the YAML of a kubeconfig"),
            ("users: SECRET", None, "it is not the YAML of a kubeconfig"),
            ("", None, "it names no current context"),
            ("current-context: a", None, "there is no context \"a\""),
            ("current-context: a", Some("b"), "there is no context \"b\""),
        ] {
            std::fs::write(&file, text).expect("a file");
            let error = connect(Some(&file), context).await.map(|_| ()).expect_err(text);
            assert_eq!(error.to_string(), format!("the kubeconfig can't be used: {words}"));
        }
        std::fs::remove_dir_all(&directory).expect("a directory");
        let error = connect(Some(&file), None).await.map(|_| ()).expect_err("gone");
        let words = format!("the kubeconfig can't be used: {} can't be read: No such file", file.display());
        assert!(error.to_string().starts_with(&words), "{error}");
    }

    #[tokio::test]
    async fn the_failure_of_a_credential_command_does_not_tell_what_it_printed() {
        let kubeconfig = r#"
            {"current-context": "a", "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
             "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
             "users": [{"name": "a", "user": {"exec": {"apiVersion": "client.authentication.k8s.io/v1",
                 "command": "sh", "args": ["-c", "echo SECRET; exit 3"]}}}]}"#;
        for (exit, words) in [
            ("exit 3", "the credential command failed: exit status: 3"),
            ("exit 0", "what the credential command printed can't be read"),
        ] {
            let kubeconfig =
                Kubeconfig::from_yaml(&kubeconfig.replace("exit 3", exit)).expect("a kubeconfig");
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
            let error = connect_to(config.expect("a configuration")).map(|_| ()).expect_err(exit);
            assert_eq!(error.to_string(), format!("the credentials can't be used: {words}"));
        }
    }

    #[test]
    fn a_proxy_of_the_environment_holds_only_where_kubectl_would_use_it() {
        let used = |server: &str, url: &str, environment: &'static [(&str, &str)]| {
            let mut config = Config::new(server.parse().expect("a URI"));
            config.proxy_url = Some(url.parse().expect("a URI"));
            let get =
                |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
            proxy(&config, get).map(|proxy| proxy.uri().to_string())
        };
        let set = &[("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", "10.0.0.0/8,.internal")];
        let through = Some("http://proxy:3128/".to_owned());
        assert_eq!(used("https://k8s.example.com", "http://proxy:3128", set), through);
        assert_eq!(used("https://127.0.0.1:6443", "http://proxy:3128", set), None);
        assert_eq!(used("https://[::1]:6443", "http://proxy:3128", set), None);
        assert_eq!(used("https://localhost:6443", "http://proxy:3128", set), None);
        assert_eq!(used("https://10.1.2.3:6443", "http://proxy:3128", set), None);
        assert_eq!(used("https://api.internal:6443", "http://proxy:3128", set), None);
        assert_eq!(used("https://127.0.0.1:6443", "http://other:1", set), Some("http://other:1/".to_owned()));
        let mut config = Config::new("https://k8s.example.com".parse().expect("a URI"));
        config.proxy_url = Some("socks5://proxy:1080".parse().expect("a URI"));
        let error = connect_to(config).map(|_| ()).expect_err("no socks");
        assert_eq!(error.to_string(), "a proxy with the scheme \"socks5\" can't be used: only http:// can");
    }
}
