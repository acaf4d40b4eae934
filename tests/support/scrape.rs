//! Asking the exporter over HTTP, on a thread of its own so that the paused clock stands meanwhile.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;

/// Status and body.
pub async fn get(address: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let answer = answer.await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// Whole numbers by series.
pub fn numbers(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        // Gauges read as "1.0".
        Some((name.to_owned(), value.trim_end_matches(".0").parse().ok()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}
