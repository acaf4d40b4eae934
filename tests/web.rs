//! Who may read, over real sockets: TLS, client certificates, passwords, headers and the rate limit.

#![cfg(test)]

#[path = "support/still.rs"]
mod still;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use exitcode_exporter::exposition::{OwnMetrics, Sources};
use exitcode_exporter::publish::{PublishOptions, Published};
use exitcode_exporter::server::{self, Access, Limits};
use exitcode_exporter::time::Clock;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use still::Still;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Long enough for a busy machine; a test that waits for it fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// How old a look at the files may be.
const FRESH: Duration = Duration::from_secs(1);
/// Of the password `right`, with the least cost.
const HASH: &str = "$2y$04$FoLzTxYqspm7YRpFq3vFfuFvLTBzlsidZ.rLCvPudqH5UzJD4bXy2";

/// A folder of its own with an authority, removed at the end.
struct Place {
    folder: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Place {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("exitcode-access-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let place = Self { folder, authority };
        place.write("ca.crt", &place.authority.pem());
        place.serve_as("localhost");
        place
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new([name.to_owned()]).unwrap();
        (parameters.signed_by(&key, &self.authority).unwrap(), key)
    }

    /// Gives the server a new certificate for this name.
    fn serve_as(&self, name: &str) {
        let (certificate, key) = self.issue(name);
        self.write("tls.crt", &certificate.pem());
        self.write("tls.key", &key.serialize_pem());
    }

    async fn server(&self, text: &str) -> Server {
        let access = Access::new(Some(&self.write("web.yml", text)), false).unwrap();
        Server::start(access, Limits { handshake: PATIENCE, ..Limits::default() }).await
    }

    /// A client that trusts the authority, with a certificate for `name` if there is one.
    fn client(&self, name: Option<&str>, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots);
        let mut config = match name.map(|name| self.issue(name)) {
            Some((certificate, key)) => {
                let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
                builder
                    .with_client_auth_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
                    .unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A running server.
struct Server {
    address: std::net::SocketAddr,
}

impl Server {
    async fn start(access: Access, limits: Limits) -> Self {
        let options = PublishOptions::default();
        let own = OwnMetrics::new(Sources::default());
        let published = Arc::new(Published::new(options, own, Clock::start(), Arc::new(|| Ok(()))));
        let listeners = server::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let router = server::router(published, &limits, access.clone());
        tokio::spawn(server::serve(listeners, router, limits, access, std::future::pending()));
        Self { address }
    }

    async fn tls(&self, client: &TlsConnector, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        client.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
    }

    /// The status of /metrics over TLS; `None` if the connection does not come so far.
    async fn status(&self, client: &TlsConnector, name: &str) -> Option<u16> {
        let mut stream = self.tls(client, name).await.ok()?;
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        status(&ask(&mut stream, "/metrics", "").await)
    }

    async fn plain(&self, target: &str, headers: &str) -> String {
        ask(&mut TcpStream::connect(self.address).await.unwrap(), target, headers).await
    }
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, target: &str, headers: &str) -> String {
    let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).await;
    read_to_end(stream).await
}

async fn read_to_end<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut all = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all))
        .await
        .expect("the server does not close");
    String::from_utf8_lossy(&all).into_owned()
}

fn status(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1)?.parse().ok()
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    let encoded = base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {encoded}\r\n")
}

/// Lets the last look at the files be too old.
async fn grow_old() {
    tokio::time::advance(FRESH).await;
}

/// A request after which the connection stays.
const KEEP: &[u8] = b"GET /style.css HTTP/1.1\r\nHost: x\r\n\r\n";

/// Has a first request answered, and reads all of the answer.
async fn begin<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    stream.write_all(KEEP).await.unwrap();
    let mut answer = Vec::new();
    let body = |answer: &[u8]| answer.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
    while body(&answer).is_none() {
        answer.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(answer).unwrap();
    assert_eq!(status(&head), Some(200));
    let length = header(&head, "content-length").unwrap().parse().unwrap();
    stream.read_exact(&mut vec![0; length]).await.unwrap();
}

const ALL: &[&SupportedProtocolVersion] = &[&version::TLS12, &version::TLS13];
const PAIR: &str = "cert_file: tls.crt, key_file: tls.key";

#[tokio::test]
async fn scrapes_go_over_tls_1_2_and_1_3_and_over_http_1_1() {
    let place = Place::new("tls");
    let server = place.server(&format!("tls_server_config: {{{PAIR}}}")).await;
    for version in ALL {
        let client = place.client(None, &[version]);
        let mut stream = server.tls(&client, "localhost").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(status(&ask(&mut stream, "/metrics", "").await), Some(200));
    }
    let server = place.server(&format!("tls_server_config: {{{PAIR}, min_version: TLS13}}")).await;
    assert_eq!(server.status(&place.client(None, &[&version::TLS12]), "localhost").await, None);
    assert_eq!(server.status(&place.client(None, &[&version::TLS13]), "localhost").await, Some(200));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_speak_tls_is_told_or_cut_off_and_nobody_else_notices() {
    let _still = Still::new();
    let place = Place::new("garbage");
    let server = place.server(&format!("tls_server_config: {{{PAIR}}}")).await;
    let told = server.plain("/metrics", "").await;
    assert!(
        told.starts_with("HTTP/1.1 400 ") && told.ends_with("\r\n\r\nthis port speaks HTTPS, not HTTP.\n"),
        "{told}"
    );
    assert_eq!(header(&told, "Content-Length"), Some("34"));
    for garbage in [
        &b"\x16\x03\x01\xff\xff"[..],
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        &[0x16; 100_000],
        b"\x16",
        b"",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let _ = stream.write_all(garbage).await;
        // Who comes later is served later: its time has begun.
        assert_eq!(server.plain("/metrics", "").await, told);
        tokio::time::advance(PATIENCE).await;
        read_to_end(&mut stream).await;
    }
    assert_eq!(server.status(&place.client(None, ALL), "localhost").await, Some(200));
}

#[tokio::test(start_paused = true)]
async fn a_new_certificate_is_shown_to_the_next_connection_and_a_broken_one_to_none() {
    let _still = Still::new();
    let place = Place::new("renew");
    let server = place.server(&format!("tls_server_config: {{{PAIR}}}")).await;
    let client = place.client(None, ALL);
    assert_eq!(server.status(&client, "localhost").await, Some(200));
    place.serve_as("renewed");
    grow_old().await;
    assert_eq!(server.status(&client, "renewed").await, Some(200));
    assert_eq!(server.status(&client, "localhost").await, None);
    place.write("tls.crt", "broken");
    grow_old().await;
    assert_eq!(server.status(&client, "renewed").await, Some(200));
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_ends_with_the_answer_after_a_change() {
    let _still = Still::new();
    let place = Place::new("kept");
    let server = place.server(&format!("tls_server_config: {{{PAIR}}}")).await;
    let mut kept = server.tls(&place.client(None, ALL), "localhost").await.unwrap();
    begin(&mut kept).await;
    place.serve_as("renewed");
    grow_old().await;
    kept.write_all(KEEP).await.unwrap();
    let rest = read_to_end(&mut kept).await;
    assert!(rest.contains("HTTP/1.1 200 OK\r\n") && rest.contains("\r\nconnection: close\r\n"), "{rest}");
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_gets_no_answer_once_client_certificates_are_required() {
    let _still = Still::new();
    let place = Place::new("outdated");
    let server = place.server(&format!("tls_server_config: {{{PAIR}}}")).await;
    let mut kept = server.tls(&place.client(None, ALL), "localhost").await.unwrap();
    begin(&mut kept).await;
    let required = "client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert";
    place.write("web.yml", &format!("tls_server_config: {{{PAIR}, {required}}}"));
    grow_old().await;
    kept.write_all(KEEP).await.unwrap();
    let rest = read_to_end(&mut kept).await;
    assert!(!rest.contains("HTTP/1.1"), "{rest}");
    assert_eq!(server.status(&place.client(Some("prometheus"), ALL), "localhost").await, Some(200));
}

/// Answered while a look at the files can't end: the only thread for such is taken.
#[test]
fn health_checks_do_not_wait_for_the_file_system() {
    let place = Place::new("hung");
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let server = place.server(&format!("basic_auth_users: {{alice: {HASH}}}")).await;
        let (release, released) = std::sync::mpsc::channel::<()>();
        let hung = tokio::task::spawn_blocking(move || released.recv_timeout(PATIENCE));
        // Time stands still meanwhile: no limit on a look comes to its end.
        tokio::time::pause();
        tokio::time::advance(FRESH).await;
        for path in ["/livez", "/-/healthy"] {
            assert_eq!(status(&server.plain(path, "").await), Some(200), "{path}");
        }
        assert!(!hung.is_finished(), "it waited");
        release.send(()).unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn a_client_certificate_is_verified_and_its_authority_can_change() {
    let _still = Still::new();
    let (place, other) = (Place::new("mutual"), Place::new("other"));
    let tls = |more: &str| {
        format!("tls_server_config: {{{PAIR}, client_ca_file: ca.crt, client_auth_type: {more}}}")
    };
    let mut stranger = other.client(Some("stranger"), ALL);
    // The stranger trusts our server, but we do not trust its authority.
    let trusting = |name: Option<&str>, issuer: &Place| {
        let mut roots = RootCertStore::empty();
        roots.add(place.authority.der().clone()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let (certificate, key) = issuer.issue(name.unwrap());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        TlsConnector::from(Arc::new(
            builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap(),
        ))
    };
    assert!(stranger.config().alpn_protocols.len() == 2);
    stranger = trusting(Some("stranger"), &other);
    let (nobody, known) = (place.client(None, ALL), place.client(Some("prometheus"), ALL));
    for (policy, expected) in [
        ("NoClientCert", None),
        ("VerifyClientCertIfGiven", Some([Some(200), Some(200), None])),
        ("RequireAndVerifyClientCert", Some([None, Some(200), None])),
        ("RequireAndVerifyClientCert, client_allowed_sans: [prometheus]", Some([None, Some(200), None])),
        ("RequireAndVerifyClientCert, client_allowed_sans: [grafana]", Some([None, None, None])),
    ] {
        let Some(expected) = expected else {
            assert!(Access::new(Some(&place.write("web.yml", &tls(policy))), false).is_err());
            continue;
        };
        let server = place.server(&tls(policy)).await;
        let mut found = [None; 3];
        for (found, client) in found.iter_mut().zip([&nobody, &known, &stranger]) {
            *found = server.status(client, "localhost").await;
        }
        assert_eq!(found, expected, "{policy}");
    }
    let server = place.server(&tls("RequireAndVerifyClientCert")).await;
    assert_eq!(server.status(&stranger, "localhost").await, None);
    place.write("ca.crt", &other.authority.pem());
    grow_old().await;
    assert_eq!(server.status(&stranger, "localhost").await, Some(200));
    assert_eq!(server.status(&known, "localhost").await, None);
}

#[tokio::test]
async fn passwords_cover_every_path_but_the_health_checks() {
    let place = Place::new("basic");
    let server = place.server(&format!("basic_auth_users: {{alice: {HASH}}}")).await;
    let right = basic("alice", "right");
    for path in [
        "/",
        "/metrics",
        "/api/v1/terminations",
        "/runbooks/137",
        "/style.css",
        "/nowhere",
        "/livez/",
        "//livez",
        "/metrics?x=/livez",
    ] {
        let refused = server.plain(path, "").await;
        assert_eq!(status(&refused), Some(401), "{path}");
        assert_eq!(
            header(&refused, "www-authenticate"),
            Some("Basic realm=\"exitcode-exporter\", charset=\"UTF-8\"")
        );
        assert!(refused.ends_with("\r\n\r\nunauthorized\n"), "{refused}");
        assert_ne!(status(&server.plain(path, &right).await), Some(401), "{path}");
    }
    for path in ["/livez", "/readyz", "/-/healthy", "/-/ready", "/livez?verbose"] {
        assert_eq!(status(&server.plain(path, "").await), Some(200), "{path}");
    }
    for (headers, expected) in [
        (right.as_str(), 200),
        (&basic("alice", "wrong"), 401),
        (&basic("alice", ""), 401),
        (&basic("alice", "ri\0ght"), 401),
        (&basic("bob", "right"), 401),
        (&basic("", "right"), 401),
        (&right.replace("Basic ", "bAsIc   "), 200),
        (&right.replace("Basic", "Bearer"), 401),
        (&format!("{right}{right}"), 401),
        ("Authorization: Basic\r\n", 401),
        ("Authorization: Basic !!!\r\n", 401),
        ("Authorization: Basic YWxpY2U=\r\n", 401),
        ("Authorization: Basic /////w==\r\n", 401),
        (&basic("alice", &"x".repeat(9000)), 401),
    ] {
        assert_eq!(status(&server.plain("/metrics", headers).await), Some(expected), "{headers}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_who_is_removed_or_has_a_new_password_is_out_at_once() {
    let _still = Still::new();
    let place = Place::new("users");
    let users = |users: &str| format!("basic_auth_users: {{{users}}}");
    let server = place.server(&users(&format!("alice: {HASH}, bob: {HASH}"))).await;
    let (alice, bob) = (basic("alice", "right"), basic("bob", "right"));
    for user in [&alice, &bob] {
        assert_eq!(status(&server.plain("/metrics", user).await), Some(200));
    }
    let other = bcrypt::hash("other", 4).unwrap();
    place.write("web.yml", &users(&format!("alice: {other}")));
    grow_old().await;
    for user in [&alice, &bob] {
        assert_eq!(status(&server.plain("/metrics", user).await), Some(401));
    }
    assert_eq!(status(&server.plain("/metrics", &basic("alice", "other")).await), Some(200));
}

#[tokio::test]
async fn headers_of_the_configuration_are_on_every_answer_and_override_ours() {
    let place = Place::new("headers");
    let text = format!(
        "basic_auth_users: {{alice: {HASH}}}
http_server_config:
  headers: {{X-Frame-Options: deny, Content-Security-Policy: \"default-src 'self'\", Strict-Transport-Security: max-age=9}}"
    );
    let server = place.server(&text).await;
    for (path, headers) in [
        ("/", &*basic("alice", "right")),
        ("/metrics", ""),
        ("/livez", ""),
        ("/no", &basic("alice", "right")),
    ] {
        let answer = server.plain(path, headers).await;
        for (name, value) in [
            ("x-frame-options", "deny"),
            ("content-security-policy", "default-src 'self'"),
            ("strict-transport-security", "max-age=9"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(header(&answer, name), Some(value), "{path}");
        }
        assert_eq!(answer.matches("content-security-policy").count(), 1);
    }
}

#[tokio::test]
async fn the_rate_limit_spares_the_health_checks() {
    let place = Place::new("rate");
    let server = place.server("rate_limit: {interval: 1h, burst: 2}").await;
    let mut found = Vec::new();
    for path in ["/metrics", "/livez", "/", "/metrics", "/readyz"] {
        found.push(status(&server.plain(path, "").await));
    }
    assert_eq!(found, [200, 200, 200, 429, 200].map(Some));
}
