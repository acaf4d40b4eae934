//! Clients that mean no good, over real sockets: what each gets, and that a scrape succeeds all the same.

#![cfg(test)]

#[path = "support/still.rs"]
mod still;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use exitcode_exporter::exposition::{OwnMetrics, Sources};
use exitcode_exporter::publish::{PublishOptions, Published};
use exitcode_exporter::server::{self, Access, Limits};
use exitcode_exporter::time::Clock;
use still::Still;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Long enough for a busy machine; a test that waits for it fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// A limit that is to be hit.
const SHORT: Duration = Duration::from_millis(200);
/// More connections than the server keeps, few enough for 1,024 file descriptors with both ends in this process.
const HELD: usize = 300;

/// A running server.
struct Server(SocketAddr);

impl Server {
    async fn start(limits: Limits) -> Self {
        let own = OwnMetrics::new(Sources::default());
        let options = PublishOptions::default();
        let published = Arc::new(Published::new(options, own, Clock::start(), Arc::new(|| Ok(()))));
        let listeners = server::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let access = Access::new(None, false).unwrap();
        let router = server::router(published, &limits, access.clone());
        tokio::spawn(server::serve(listeners, router, limits, access, std::future::pending()));
        Self(address)
    }

    /// A connection from this address of the loopback network.
    async fn connect(&self, from: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(self.0).await.unwrap()
    }

    /// All that the server says to these bytes until it closes the connection.
    async fn says(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect("127.0.0.1").await;
        let _ = stream.write_all(bytes).await;
        read_to_end(&mut stream).await
    }

    /// Whether a scraper gets its metrics.
    async fn is_scraped(&self) {
        let mut stream = self.connect("127.0.0.99").await;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\nprocess_"), "{answer}");
    }
}

/// All until the server closes; a reset is a close too.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all))
        .await
        .expect("the server does not close");
    String::from_utf8_lossy(&all).into_owned()
}

/// The status of each answer on a connection.
fn statuses(said: &str) -> Vec<u16> {
    let status = |answer: &str| answer.get(..3).and_then(|status| status.parse().ok());
    said.split("HTTP/1.1 ").skip(1).filter_map(status).collect()
}

/// Requests that two servers in a row could read differently.
#[tokio::test]
async fn what_may_be_read_in_two_ways_is_refused_or_read_once_and_the_connection_ends() {
    let server = Server::start(Limits::default()).await;
    let smuggled = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for (request, expected) in [
        (
            "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
            &[400][..],
        ),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\n0\r\n\r\n", &[400]),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n0\r\n\r\n", &[400]),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", &[400]),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", &[400]),
        (
            "POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            &[400],
        ),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", &[400]),
        ("GET /livez HTTP/1.1\r\nHost : x\r\n\r\n", &[400]),
        ("GET /livez HTTP/1.1\r\nHost: x\r\nX-A: a\r\n b\r\n\r\n", &[400]),
        ("GET /livez HTTP/1.1\r\nHost: x\r\nX-A: a\0b\r\n\r\n", &[400]),
        ("GET /livez HTTP/1.1\r\nHost: x\r\nX\x01: a\r\n\r\n", &[400]),
        ("GET  /livez HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
        ("GET /livez\r\n\r\n", &[400]),
        ("GET /livez HTTP/2.0\r\nHost: x\r\n\r\n", &[400]),
        ("GET /livez HTTP/1.1\r\nHost: x\r\nX-A: a\rb\r\n\r\n", &[400]),
        // The preface of HTTP/2.
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", &[]),
        // What has a body has no second request behind it.
        (
            "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            &[405],
        ),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n\r\n", &[405]),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[405]),
        ("GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345", &[200]),
        ("GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", &[200]),
        ("GET /livez HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", &[200]),
        ("GET /livez HTTP/1.1\r\n\r\n", &[400]),
        ("GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", &[400]),
        // What can be read in one way only, and asks for nothing special.
        ("GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", &[200, 200]),
        ("GET /livez HTTP/1.1\nHost: x\n\n", &[200, 200]),
        ("GET http://evil.example/livez HTTP/1.1\r\nHost: x\r\n\r\n", &[200, 200]),
        ("GET * HTTP/1.1\r\nHost: x\r\n\r\n", &[404, 200]),
        ("get /livez HTTP/1.1\r\nHost: x\r\n\r\n", &[405, 200]),
        ("CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n", &[404, 200]),
        (
            "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n\r\n",
            &[200, 200],
        ),
    ] {
        let said = server.says(format!("{request}{smuggled}").as_bytes()).await;
        assert_eq!(statuses(&said), expected, "{request:?}: {said}");
    }
    server.is_scraped().await;
}

/// Nothing is decoded before it is compared, and nothing is a file.
#[tokio::test]
async fn paths_and_parameters_are_taken_as_they_are() {
    let server = Server::start(Limits::default()).await;
    let page = |title| format!("<title>{title}");
    let (none, unknown) = ("not found; / lists what there is".to_owned(), page("There is no such runbook"));
    for (target, status, contains) in [
        ("/../livez", 404, none.clone()),
        ("//livez", 404, none.clone()),
        ("/./livez", 404, none.clone()),
        ("/%2e%2e/livez", 404, none.clone()),
        ("/%6civez", 404, none.clone()),
        ("/livez%00", 404, none.clone()),
        ("/livez%2f", 404, none.clone()),
        ("/livez/../metrics", 404, none.clone()),
        ("/livez;x", 404, none.clone()),
        ("/livez\\", 404, none.clone()),
        ("/livez%", 404, none.clone()),
        ("/livez%zz", 404, none.clone()),
        ("/\u{e9}", 404, none.clone()),
        ("/livez?%zz&=&&a=%ff", 200, "ok".into()),
        ("/metrics?zero_for=%zz", 400, "zero_for: '%zz' is not a duration".into()),
        ("/metrics?zero_for=%ff%00", 400, "zero_for: '\u{fffd}\\u{0}' is not a duration".into()),
        (
            "/api/v1/terminations?limit=%zz",
            400,
            "{\"error\":\"limit: '%zz' is no number from 1 to 1000\"}".into(),
        ),
        ("/runbooks/..", 404, unknown.clone()),
        ("/runbooks/%2e%2e%2fetc%2fpasswd", 404, unknown.clone()),
        ("/runbooks/%ff", 404, unknown.clone()),
        ("/runbooks/%zz", 404, unknown.clone()),
        ("/runbooks/137%00.md", 404, unknown),
        ("/runbooks/ko/%ff.md", 404, page("그런 런북은 없습니다")),
        (
            "/runbooks/137?namespace=%zz&pod=%ff%00",
            200,
            "<code>namespace</code>: what the link gives is not".into(),
        ),
        ("/runbooks/137?pod=%3Cscript%3E", 200, "<code>pod</code>: what the link gives is not".into()),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let said = server.says(head.as_bytes()).await;
        assert_eq!(statuses(&said), [status], "{target}");
        assert!(said.contains(&contains) && !said.contains("<script>"), "{target}: {said}");
    }
}

#[tokio::test]
async fn thousands_of_idle_connections_keep_no_scraper_out() {
    let server = Server::start(Limits::default()).await;
    for addresses in [1, 4, 100] {
        let mut held = VecDeque::new();
        for number in 0..5000 {
            held.push_back(server.connect(&format!("127.0.1.{}", number % addresses + 1)).await);
            if held.len() > HELD {
                held.pop_front();
            }
            if number % 500 == 0 {
                server.is_scraped().await;
            }
        }
        server.is_scraped().await;
    }
}

#[tokio::test]
async fn a_flood_of_resets_and_garbage_keeps_no_scraper_out() {
    let server = Server::start(Limits::default()).await;
    for number in 0..3000 {
        let mut stream = server.connect("127.0.1.1").await;
        let garbage: &[u8] = match number % 4 {
            0 => b"",
            1 => b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
            2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
            _ => b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        };
        let _ = stream.write_all(garbage).await;
        // Closed with something unread, or by force: a reset.
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
    server.is_scraped().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_in_is_cut_off_in_time() {
    let _still = Still::new();
    let server = Server::start(Limits::default()).await;
    let mut stream = server.connect("127.0.0.1").await;
    // Who comes later is served later: the time of the first one has begun, and each byte was read.
    server.is_scraped().await;
    for byte in b"GET /live" {
        stream.write_all(&[*byte]).await.unwrap();
        server.is_scraped().await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    server.is_scraped().await;
    let open = stream.try_read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(open, Err(std::io::ErrorKind::WouldBlock));
    tokio::time::advance(Duration::from_millis(1001)).await;
    assert_eq!(read_to_end(&mut stream).await, "");
}

#[tokio::test]
async fn a_body_is_never_read_however_long_it_is_and_however_slowly_it_comes() {
    let server = Server::start(Limits::default()).await;
    let mut slow = server.connect("127.0.0.1").await;
    slow.write_all(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx").await.unwrap();
    assert_eq!(statuses(&read_to_end(&mut slow).await), [405]);
    let mut long = server.connect("127.0.0.1").await;
    long.write_all(b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
    let mut sent = 0;
    // 1 GB, if somebody took it.
    while sent < 16_384 && long.write_all(&chunk).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 1000, "{sent} chunks were taken");
    server.is_scraped().await;
}

#[tokio::test]
async fn a_flood_of_pipelined_requests_is_answered_one_by_one_or_cut_off() {
    let server = Server::start(Limits::default()).await;
    let many = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5000);
    let last = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (mut reads, mut writes) = server.connect("127.0.0.1").await.into_split();
    // Its half is given back: to drop it would close it.
    let writing = tokio::spawn(async move { (writes.write_all((many + last).as_bytes()).await, writes) });
    let mut all = Vec::new();
    tokio::time::timeout(PATIENCE, reads.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!(statuses(&String::from_utf8(all).unwrap()).len(), 5001);
    writing.await.unwrap().0.unwrap();
    server.is_scraped().await;
    // Whoever asks and does not read is cut off: writing fails sooner or later.
    let server = Server::start(Limits { write_stall: SHORT, ..Limits::default() }).await;
    let mut deaf = server.connect("127.0.0.1").await;
    let flood = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    let asked = async { while deaf.write_all(flood.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, asked).await.expect("it may ask for ever");
    server.is_scraped().await;
}

#[tokio::test]
async fn a_client_that_closes_its_side_does_not_keep_its_connection() {
    // No limit on heads ends it while this test waits.
    let server = Server::start(Limits { header_read: PATIENCE * 2, ..Limits::default() }).await;
    for begun in [
        "",
        "GET /livez",
        "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut stream = server.connect("127.0.0.1").await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        read_to_end(&mut stream).await;
    }
    server.is_scraped().await;
}
