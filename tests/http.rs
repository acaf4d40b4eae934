//! The server over real sockets: what it answers, and what it does not put up with.

#![cfg(test)]

#[path = "support/still.rs"]
mod still;

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use exitcode_exporter::core::Effect;
use exitcode_exporter::exposition::{OwnMetrics, Sources};
use exitcode_exporter::publish::{PublishOptions, Published};
use exitcode_exporter::server::{self, Access, Limits};
use exitcode_exporter::termination::{
    Cause, ContainerType, Evidence, ExitCode, Outcome, Reason, Subject, Termination, Workload,
};
use exitcode_exporter::time::Clock;
use still::Still;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Long enough for a busy machine; a test that waits for it fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// A limit that is to be hit.
const SHORT: Duration = Duration::from_millis(200);

fn termination(workload: &str) -> Termination {
    let now = Clock::start().now();
    Termination {
        subject: Subject {
            workload: Workload {
                namespace: "shop".into(),
                workload_type: "deployment".into(),
                name: workload.into(),
            },
            container: "app".into(),
            container_type: ContainerType::App,
            extra: Arc::new([]),
        },
        outcome: Outcome {
            exit_code: ExitCode(Some(137)),
            reason: Reason::OomKilled,
            cause: Cause::OomLimit,
        },
        count: 1,
        evidence: Evidence::Status,
        pod: format!("{workload}-0").into(),
        node: "node-1".into(),
        started_at: None,
        finished_at: Some(now),
        counted_at: now,
        restart_count: 0,
        image: "app:1".into(),
        message: Some("a line of its log".into()),
        windows: false,
    }
}

/// A running server.
struct Server {
    address: SocketAddr,
    published: Arc<Published>,
    ready: Arc<AtomicBool>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(limits: Limits, options: PublishOptions) -> Self {
        Self::start_at("127.0.0.1", limits, options).await
    }

    async fn start_at(ip: &str, limits: Limits, options: PublishOptions) -> Self {
        let access = Access::new(None, false).unwrap();
        let ready = Arc::new(AtomicBool::new(false));
        let is_ready = Arc::clone(&ready);
        let readiness = move || {
            if is_ready.load(Ordering::Relaxed) { Ok(()) } else { Err("the first list is not in".to_owned()) }
        };
        let published = Arc::new(Published::new(
            options,
            OwnMetrics::new(Sources::default()),
            Clock::start(),
            Arc::new(readiness),
        ));
        let listeners = server::bind(&[format!("{ip}:0").parse().unwrap()]).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let router = server::router(Arc::clone(&published), &limits, access.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server::serve(listeners, router, limits, access, async {
            let _ = stopped.await;
        }));
        Self { address, published, ready, stop, task }
    }

    async fn normal() -> Self {
        Self::start(Limits::default(), PublishOptions::default()).await
    }

    fn count(&self, workload: &str) {
        let effect = Effect::Terminated(Box::new(termination(workload)));
        self.published.apply(&effect, self.published.clock.now());
    }

    /// Enough series that an answer fits no socket buffer.
    fn count_many(&self) {
        for i in 0..60_000 {
            self.count(&format!("workload-with-a-long-name-{i}"));
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn request(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(head(method, target, headers, true).as_bytes()).await.unwrap();
        Answer::parse(&read_to_end(&mut stream).await)
    }

    async fn get(&self, target: &str) -> Answer {
        self.request("GET", target, &[]).await
    }
}

fn head(method: &str, target: &str, headers: &[(&str, &str)], close: bool) -> String {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head + if close { "Connection: close\r\n\r\n" } else { "\r\n" }
}

/// All until the server closes; a reset is a close too.
async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all))
        .await
        .expect("the server does not close");
    all
}

/// Metrics that do not come to their end.
fn assert_cut(answer: &[u8]) {
    let end = String::from_utf8_lossy(answer).contains("process_virtual_memory_max_bytes");
    assert!(!end, "{} bytes", answer.len());
}

/// An answer.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("no answer");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_lowercase(), value.to_owned())
        };
        Self { status, headers: lines.map(header).collect(), body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
const SCRAPER: (&str, &str) = ("X-Prometheus-Scrape-Timeout-Seconds", "10");

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let server = Server::normal().await;
    server.count("web");
    for (accept, content_type, end) in [
        (None, "text/plain; version=0.0.4; charset=utf-8", "\n"),
        (Some("text/plain"), "text/plain; version=0.0.4; charset=utf-8", "\n"),
        (Some(OPENMETRICS), "application/openmetrics-text; version=1.0.0; charset=utf-8", "\n# EOF\n"),
    ] {
        let headers: Vec<_> = accept.map(|accept| ("Accept", accept)).into_iter().collect();
        let answer = server.request("GET", "/metrics", &headers).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some(content_type));
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(
            answer.header("vary"),
            Some("Accept, Accept-Encoding, X-Prometheus-Scrape-Timeout-Seconds")
        );
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
        let series = "exitcode_container_terminations_total{namespace=\"shop\",workload_type=\"deployment\",\
                      workload=\"web\",container=\"app\",container_type=\"container\",exit_code=\"137\",\
                      reason=\"OOMKilled\",cause=\"oom_limit\"} 1\n";
        assert!(answer.text().contains(series) && answer.text().ends_with(end), "{}", answer.text());
        assert!(answer.text().contains("\nprocess_cpu_seconds_total "));
    }
}

#[tokio::test]
async fn gzip_holds_the_same_text() {
    let server = Server::normal().await;
    server.count("web");
    let answer = server.request("GET", "/metrics", &[("Accept-Encoding", "deflate, gzip")]).await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    let mut text = String::new();
    flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_string(&mut text).unwrap();
    assert!(text.contains("workload=\"web\"") && text.ends_with('\n'));
    let refused = server.request("GET", "/metrics", &[("Accept-Encoding", "gzip;q=0")]).await;
    assert_eq!(refused.header("content-encoding"), None);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = Server::normal().await;
    for target in ["/metrics", "/livez", "/", "/api/v1/terminations"] {
        let answer = server.request("HEAD", target, &[]).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{target}");
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert!(length > 0, "{target}");
        let get = server.get(target).await;
        assert_eq!(answer.header("content-type"), get.header("content-type"), "{target}");
    }
}

#[tokio::test]
async fn other_methods_and_paths_are_refused_and_every_answer_is_sealed() {
    let server = Server::normal().await;
    for (method, target, status, allow) in [
        ("GET", "/", 200, None),
        ("GET", "/metrics", 200, None),
        ("POST", "/metrics", 405, Some("GET,HEAD")),
        ("DELETE", "/api/v1/terminations", 405, Some("GET,HEAD")),
        ("OPTIONS", "/livez", 405, Some("GET,HEAD")),
        ("GET", "/metrics/", 404, None),
        ("GET", "/debug/pprof", 404, None),
        ("GET", "/../etc/passwd", 404, None),
        ("GET", "/metrics?zero_for=x", 400, None),
    ] {
        let answer = server.request(method, target, &[]).await;
        assert_eq!((answer.status, answer.header("allow")), (status, allow), "{method} {target}");
        let policy =
            answer.header("content-security-policy").map(|policy| policy.contains("default-src 'none'"));
        assert_eq!(policy, Some(true), "{method} {target}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{method} {target}");
        assert!(answer.header("content-type").is_some(), "{method} {target}");
        assert_eq!(answer.text().matches('\n').count().min(1), 1, "{method} {target}");
    }
}

#[tokio::test]
async fn a_young_series_reads_zero_for_scrapers_only_and_for_as_long_as_they_say() {
    let server = Server::normal().await;
    server.count("web");
    let at_once = [SCRAPER];
    for (target, headers, expected) in [
        ("/metrics", &[][..], "1"),
        ("/metrics", &at_once[..], "0"),
        ("/metrics?zero_for=1h", &at_once[..], "0"),
        ("/metrics?zero_for=0s", &at_once[..], "1"),
        ("/metrics?zero_for=0", &at_once[..], "1"),
        ("/metrics?zero_for=65s", &[][..], "1"),
        ("/metrics?collect=x&zero_for=0s", &at_once[..], "1"),
    ] {
        let answer = server.request("GET", target, headers).await;
        let line = answer.text().lines().find(|line| line.starts_with("exitcode_node_terminations_total{"));
        let value = line.and_then(|line| line.rsplit(' ').next());
        assert_eq!(value, Some(expected), "{target} {headers:?}");
    }
}

#[tokio::test]
async fn a_bad_zero_for_is_one_line() {
    let server = Server::normal().await;
    for (value, expected) in [
        ("x", "zero_for: 'x' is not a duration like 65s, 2m or 1h30m\n"),
        ("", "zero_for: '' is not a duration like 65s, 2m or 1h30m\n"),
        ("65", "zero_for: '65' is not a duration like 65s, 2m or 1h30m\n"),
        ("61m", "zero_for: '61m' is more than 1h\n"),
        ("a%0Ab", "zero_for: 'a\\nb' is not a duration like 65s, 2m or 1h30m\n"),
    ] {
        for headers in [&[][..], &[SCRAPER]] {
            let answer = server.request("GET", &format!("/metrics?zero_for={value}"), headers).await;
            assert_eq!((answer.status, answer.text()), (400, expected));
        }
    }
}

#[tokio::test]
async fn probes_tell_alive_from_ready() {
    let server = Server::normal().await;
    for ready in [false, true] {
        server.ready.store(ready, Ordering::Relaxed);
        for target in ["/livez", "/-/healthy"] {
            let answer = server.get(target).await;
            assert_eq!((answer.status, answer.text()), (200, "ok\n"));
        }
        for target in ["/readyz", "/-/ready"] {
            let answer = server.get(target).await;
            let expected = if ready { (200, "ok\n") } else { (503, "the first list is not in\n") };
            assert_eq!((answer.status, answer.text()), expected);
        }
    }
}

#[tokio::test]
async fn the_last_terminations_are_filtered_and_hide_their_messages() {
    let server = Server::normal().await;
    for workload in ["web", "db", "web"] {
        server.count(workload);
    }
    for (query, expected) in [
        ("", 3),
        ("?workload=web", 2),
        ("?workload=web&limit=1", 1),
        ("?namespace=other", 0),
        ("?namespace=shop&cause=oom_limit&exit_code=137", 3),
        ("?exit_code=unknown", 0),
        ("?exit_code=-1", 0),
        ("?cause=killed", 0),
    ] {
        let answer = server.get(&format!("/api/v1/terminations{query}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        assert_eq!(answer.json()["terminations"].as_array().unwrap().len(), expected, "{query}");
        assert!(!answer.text().contains("message"), "{}", answer.text());
    }
    let options = PublishOptions { show_messages: true, ..PublishOptions::default() };
    let server = Server::start(Limits::default(), options).await;
    server.count("web");
    let answer = server.get("/api/v1/terminations").await;
    assert_eq!(answer.json()["terminations"][0]["message"], "a line of its log");
}

#[tokio::test]
async fn a_bad_filter_is_one_line_of_json() {
    let server = Server::normal().await;
    for (query, expected) in [
        ("exit_code=x", "exit_code: 'x' is neither a number nor unknown"),
        ("limit=0", "limit: '0' is no number from 1 to 1000"),
        ("limit=1001", "limit: '1001' is no number from 1 to 1000"),
        ("limit=%22%0A", "limit: '\"\\n' is no number from 1 to 1000"),
        ("pod=x", "'pod' is no filter; there are namespace, workload, exit_code, cause, limit"),
    ] {
        let answer = server.get(&format!("/api/v1/terminations?{query}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (400, Some("application/json")));
        assert_eq!(answer.json(), serde_json::json!({ "error": expected }));
        assert_eq!(answer.text().matches('\n').count(), 1);
    }
    let answer = server.get("/api/v1/terminations?cause=oom").await;
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("cause: 'oom' is none of start_failed, oom_limit, "), "{error}");
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let server = Server::normal().await;
    let mut stream = server.connect().await;
    for close in [false, false, true] {
        stream.write_all(head("GET", "/livez", &[], close).as_bytes()).await.unwrap();
    }
    let all = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_to_its_end_is_cut_off() {
    let _still = Still::new();
    let server = Server::normal().await;
    for begun in ["", "GET", "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let mut stream = server.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        // Who comes later is served later: its time has begun.
        assert_eq!(server.get("/livez").await.status, 200);
        tokio::time::advance(Limits::default().header_read).await;
        let answer = read_to_end(&mut stream).await;
        assert_eq!(String::from_utf8_lossy(&answer), "", "{begun:?}");
    }
}

#[tokio::test]
async fn heads_are_bounded_and_bodies_are_not_read() {
    let server = Server::normal().await;
    let long = "x".repeat(17 * 1024);
    let answer = server.request("GET", "/livez", &[("X-Long", &long)]).await;
    assert_eq!(answer.status, 431);
    let answer = server.request("GET", &format!("/{long}"), &[]).await;
    assert!(matches!(answer.status, 414 | 431), "{}", answer.status);
    let many: Vec<_> = (0..200).map(|i| (format!("X-{i}"), "x")).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(server.request("GET", "/livez", &many).await.status, 431);
    // The body that is announced never comes, and nobody waits for it.
    let answer = server.request("GET", "/livez", &[("Content-Length", "1000000000")]).await;
    assert_eq!(answer.status, 200);
    let answer = server.request("POST", "/metrics", &[("Content-Length", "1000000000")]).await;
    assert_eq!(answer.status, 405);
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let server = Server::normal().await;
    for junk in ["\0\0\0\0\r\n\r\n", "\u{16}\u{3}\u{1}\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET\r\n\r\n"] {
        let mut stream = server.connect().await;
        stream.write_all(junk.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(answer.is_empty() || Answer::parse(&answer).status >= 400, "{junk:?}");
    }
    assert_eq!(server.get("/livez").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_scraper_that_does_not_read_holds_no_lock_and_is_dropped() {
    let _still = Still::new();
    let server = Server::normal().await;
    server.count_many();
    let mut hanging = server.connect().await;
    hanging.write_all(head("GET", "/metrics", &[], false).as_bytes()).await.unwrap();
    // One byte of the answer is there, so the rest is waiting for its reader.
    hanging.read_u8().await.unwrap();
    server.count("while-it-hangs");
    assert_eq!(server.get("/livez").await.status, 200);
    assert!(server.get("/metrics").await.text().contains("workload=\"while-it-hangs\""));
    tokio::time::advance(Limits::default().write_stall).await;
    assert_eq!(server.get("/livez").await.status, 200);
    assert_cut(&read_to_end(&mut hanging).await);
}

#[tokio::test]
async fn a_large_answer_that_is_not_read_gives_way_to_the_next() {
    let limits = Limits { answers: 1, ..Limits::default() };
    let server = Server::start(limits, PublishOptions::default()).await;
    server.count_many();
    let mut hanging = server.connect().await;
    hanging.write_all(head("GET", "/metrics", &[], false).as_bytes()).await.unwrap();
    hanging.read_u8().await.unwrap();
    assert_eq!(server.get("/livez").await.status, 200, "small answers need no place");
    assert_eq!(server.get("/metrics").await.status, 200);
    assert_cut(&read_to_end(&mut hanging).await);
}

#[tokio::test]
async fn one_client_keeps_its_share_of_the_connections_and_its_newest() {
    let limits = Limits { connections: 10, connections_per_client: 3, ..Limits::default() };
    let server = Server::start(limits, PublishOptions::default()).await;
    // Another address of the loopback network is another client.
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let other = other.connect(server.address).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut stream = server.connect().await;
        stream.write_all(head("GET", "/livez", &[], false).as_bytes()).await.unwrap();
        stream.read_u8().await.unwrap();
        held.push(stream);
    }
    let newest = held.split_off(17);
    for mut stream in held {
        assert!(read_to_end(&mut stream).await.ends_with(b"ok\n"), "answered, and then closed for another");
    }
    for mut stream in newest.into_iter().chain([other]) {
        let _ = stream.write_all(head("GET", "/readyz", &[], true).as_bytes()).await;
        let answers = String::from_utf8(read_to_end(&mut stream).await).unwrap();
        assert!(answers.ends_with("\r\n\r\nthe first list is not in\n"), "{answers}");
    }
}

#[tokio::test]
async fn shutdown_finishes_what_is_in_flight_and_takes_nothing_new() {
    // An address of its own: nobody else takes a port that is free again.
    let limits = Limits { drain: PATIENCE, ..Limits::default() };
    let server = Server::start_at("127.0.0.3", limits, PublishOptions::default()).await;
    server.count_many();
    let mut idle = server.connect().await;
    idle.write_all(head("GET", "/livez", &[], false).as_bytes()).await.unwrap();
    idle.read_u8().await.unwrap();
    let mut scrape = server.connect().await;
    scrape.write_all(head("GET", "/metrics", &[], false).as_bytes()).await.unwrap();
    scrape.read_u8().await.unwrap();
    server.stop.send(()).unwrap();
    let mut rest = b"H".to_vec();
    rest.extend(read_to_end(&mut scrape).await);
    let answer = Answer::parse(&rest);
    assert_eq!(
        answer.header("content-length"),
        Some(answer.body.len().to_string().as_str()),
        "all of it came"
    );
    read_to_end(&mut idle).await;
    tokio::time::timeout(PATIENCE, server.task).await.expect("the server does not end").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn shutdown_does_not_wait_for_those_who_do_not_read() {
    let limits = Limits { drain: SHORT, ..Limits::default() };
    let server = Server::start(limits, PublishOptions::default()).await;
    server.count_many();
    let mut hanging = server.connect().await;
    hanging.write_all(head("GET", "/metrics", &[], false).as_bytes()).await.unwrap();
    hanging.read_u8().await.unwrap();
    server.stop.send(()).unwrap();
    // The limit of a stalled write is 30 s: only the end of the drain can be sooner.
    tokio::time::timeout(Duration::from_secs(20), server.task)
        .await
        .expect("the server does not end")
        .unwrap();
}
