//! Raw requests with a limit on everything: on the wait for an answer, on silence, on the size of a body and
//! of a line. Memory and time stay bounded whatever the other side does.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Failure, FailureReason};

/// How long an answer's headers may take.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long a stream may be silent: the API server sends bookmarks about once a minute.
pub(crate) const SILENCE: Duration = Duration::from_secs(90);
/// The longest line of a watch. An object in etcd is at most about 1.5 MiB.
const LONGEST_LINE: usize = 32 << 20;
/// A line buffer that grew beyond this for a large object is given back.
const KEPT_BUFFER: usize = 1 << 20;
/// How much is read of the body of a refusal, and for how long.
const REFUSAL: (usize, Duration) = (64 << 10, Duration::from_secs(5));

/// Sends a GET and waits for the headers of a successful answer.
pub(crate) async fn get(
    client: &Client,
    path: &str,
    accept: &'static str,
    within: Duration,
) -> Result<Response<Body>, Failure> {
    let request = Request::get(path)
        .header(header::ACCEPT, accept)
        .body(Body::empty())
        .map_err(|_| Failure::new(FailureReason::Other, "the request can't be written as a URI"))?;
    send(client, request, within).await
}

/// Sends a request and waits for the headers of a successful answer.
pub(crate) async fn send(
    client: &Client,
    request: Request<Body>,
    within: Duration,
) -> Result<Response<Body>, Failure> {
    let response = timeout(within, client.send(request))
        .await
        .map_err(|_| {
            let detail = format!("the API server did not answer within {} s", within.as_secs());
            Failure::new(FailureReason::Timeout, detail)
        })?
        .map_err(|error| Failure::of_client(&error))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let mut said = Vec::new();
    // Whatever was read of the refusal is good enough.
    let _ = collect(body, &mut said, REFUSAL.0, Instant::now() + REFUSAL.1).await;
    Err(Failure::of_answer(head.status, &head.headers, &said))
}

/// Why a body could not be collected.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// It is larger than it may be.
    TooLarge,
    /// It was cut, or it stalled.
    Failed(Failure),
}

/// Reads a whole body into `into`, which is cleared first.
pub(crate) async fn collect(
    mut body: Body,
    into: &mut Vec<u8>,
    max: usize,
    deadline: Instant,
) -> Result<(), BodyError> {
    into.clear();
    loop {
        let until = deadline.min(Instant::now() + SILENCE);
        match frame(&mut body, until).await.map_err(BodyError::Failed)? {
            None => return Ok(()),
            Some(data) if into.len() + data.len() > max => return Err(BodyError::TooLarge),
            Some(data) => into.extend_from_slice(&data),
        }
    }
}

/// The next piece of a body, `None` at its end. Nothing is lost if this is dropped while it waits.
async fn frame(body: &mut Body, until: Instant) -> Result<Option<Bytes>, Failure> {
    loop {
        let next = timeout_at(until, body.frame())
            .await
            .map_err(|_| Failure::new(FailureReason::Timeout, "the API server fell silent"))?;
        match next {
            None => return Ok(None),
            Some(Err(error)) => {
                let detail = format!("the connection was cut: {}", super::failure::words(&error));
                return Err(Failure::new(FailureReason::Connection, detail));
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                } // else trailers: nothing to read in them
            }
        }
    }
}

/// Splits a body into lines while it comes in, each looked at once.
#[derive(Debug)]
pub(super) struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// Where the line that is being read starts.
    start: usize,
    /// Up to where there is no line end.
    searched: usize,
    /// When the wait for data becomes silence; kept over a dropped [`Lines::next`].
    silent_at: Option<Instant>,
    ended: bool,
}

impl Lines {
    pub(super) const fn new(body: Body) -> Self {
        Self { body, buffer: Vec::new(), start: 0, searched: 0, silent_at: None, ended: false }
    }

    /// Where the next line lies, see [`Lines::get`]; `None` at the end. Nothing is lost if this is dropped
    /// while it waits. What follows the last line end is a line too: whether it is whole shows when it is decoded.
    pub(super) async fn next(&mut self) -> Result<Option<Range<usize>>, Failure> {
        loop {
            if let Some(line) = self.split() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            if self.buffer.len() - self.start > LONGEST_LINE {
                let detail = format!("a line of the watch is longer than {} MiB", LONGEST_LINE >> 20);
                return Err(Failure::new(FailureReason::Undecodable, detail));
            }
            let until = *self.silent_at.get_or_insert_with(|| Instant::now() + SILENCE);
            let data = frame(&mut self.body, until).await?;
            self.silent_at = None;
            match data {
                Some(data) => self.fill(&data),
                None => self.ended = true,
            }
        }
    }

    /// The line that [`Lines::next`] found.
    pub(super) fn get(&self, line: Range<usize>) -> &[u8] {
        self.buffer.get(line).unwrap_or_default()
    }

    /// Whether the body is over, so that the line just found had no line end.
    pub(super) const fn ended(&self) -> bool {
        self.ended
    }

    fn split(&mut self) -> Option<Range<usize>> {
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            let end = match memchr::memchr(b'\n', rest) {
                Some(at) => self.searched + at,
                None if self.ended => self.buffer.len(),
                None => {
                    self.searched = self.buffer.len();
                    return None;
                }
            };
            let line = self.start..end;
            self.start = (end + 1).min(self.buffer.len());
            self.searched = self.start;
            if !self.get(line.clone()).trim_ascii().is_empty() {
                return Some(line);
            }
            if end == self.buffer.len() {
                return None;
            }
        }
    }

    fn fill(&mut self, data: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = Vec::new();
        }
        self.buffer.extend_from_slice(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines_of(pieces: &[&str]) -> Vec<String> {
        let mut lines = Lines::new(Body::empty());
        let mut found = Vec::new();
        for piece in pieces {
            lines.fill(piece.as_bytes());
            while let Some(line) = lines.split() {
                found.push(String::from_utf8_lossy(lines.get(line)).into_owned());
            }
        }
        while let Ok(Some(line)) = lines.next().await {
            found.push(String::from_utf8_lossy(lines.get(line)).into_owned());
        }
        found
    }

    #[tokio::test]
    async fn splits_lines_however_the_body_is_cut() {
        let text = "one\n\ntwo\r\n  \nthree";
        for cut in 0..=text.len() {
            let (left, right) = text.split_at(cut);
            assert_eq!(lines_of(&[left, right]).await, ["one", "two\r", "three"], "cut at {cut}");
        }
        let bytes: Vec<String> = text.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(lines_of(&bytes).await, ["one", "two\r", "three"]);
        assert_eq!(lines_of(&["one\n"]).await, ["one"]);
        assert_eq!(lines_of(&["\n", "\n"]).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn gives_the_buffer_of_a_large_line_back() {
        let mut lines = Lines::new(Body::empty());
        lines.fill(&vec![b'x'; 4 << 20]);
        lines.fill(b"\n");
        assert_eq!(lines.split(), Some(0..4 << 20));
        lines.fill(b"small\n");
        assert!(lines.buffer.capacity() < KEPT_BUFFER);
        assert_eq!(lines.split(), Some(0..5));
    }

    #[tokio::test]
    async fn a_line_without_end_is_given_up_at_its_bound() {
        let mut lines = Lines::new(Body::empty());
        lines.fill(&vec![b'x'; LONGEST_LINE + 1]);
        assert_eq!(lines.next().await.map_err(|f| f.reason), Err(FailureReason::Undecodable));
    }
}
