//! A stream that gives up on clients that do not take their answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Writing fails when nothing could be written for `stall`, or an answer is not all written after `total`.
pub(super) struct Impatient<S> {
    stream: S,
    stall: Duration,
    total: Duration,
    /// Is told when an answer first has to wait, and when all is written.
    note: Box<dyn Fn(bool) + Send>,
    /// When the answer that is being written first had to wait.
    behind_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    /// `note` is told when an answer first has to wait, and when all is written.
    pub(super) fn new(
        stream: S,
        stall: Duration,
        total: Duration,
        note: impl Fn(bool) + Send + 'static,
    ) -> Self {
        Self { stream, stall, total, note: Box::new(note), behind_since: None, timer: None }
    }

    /// What became of a write: progress ends the wait for it, and a wait ends in time.
    fn judge(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.timer = None;
            return result;
        }
        let now = Instant::now();
        if self.behind_since.is_none() {
            (self.note)(true);
        }
        let deadline = (now + self.stall).min(*self.behind_since.get_or_insert(now) + self.total);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        let timeout = || Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read"));
        timer.as_mut().poll(cx).map(|()| timeout())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when all that there was is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.behind_since.take().is_some() {
            (self.note)(false);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const STALL: Duration = Duration::from_secs(30);
    const TOTAL: Duration = Duration::from_secs(120);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_dropped_after_the_stall() {
        let (server, _client) = tokio::io::duplex(16);
        let mut server = Impatient::new(server, STALL, TOTAL, |_| {});
        let start = Instant::now();
        let error = server.write_all(&[0; 17]).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_trickles_is_dropped_after_the_total() {
        let (server, mut client) = tokio::io::duplex(16);
        let mut server = Impatient::new(server, STALL, TOTAL, |_| {});
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(20)).await;
                let _ = client.read_u8().await;
            }
        });
        let start = Instant::now();
        let error = server.write_all(&[0; 1000]).await.unwrap_err();
        assert_eq!((error.kind(), start.elapsed().as_secs()), (io::ErrorKind::TimedOut, 120));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_that_comes_to_the_end_is_served_for_ever() {
        let (server, mut client) = tokio::io::duplex(16);
        let mut server = Impatient::new(server, STALL, TOTAL, |_| {});
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(29)).await;
                all.push(client.read_u128().await.unwrap());
            }
            all.len()
        });
        for _ in 0..20 {
            server.write_all(&[0; 16]).await.unwrap();
            server.flush().await.unwrap();
        }
        assert_eq!(reader.await.unwrap(), 20);
    }
}
