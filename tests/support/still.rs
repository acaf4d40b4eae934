//! Time that stands still but for `advance`, so that a machine that stalls hits no limit.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// Keeps tokio's paused clock from going on by itself when all wait, which may be for a socket: it does not while a
/// blocking task runs. After a minute of real time it does go on, so that limits end a test that hangs, and it fails.
pub struct Still(Sender<()>);

impl Still {
    pub fn new() -> Self {
        let (held, gone) = channel();
        tokio::task::spawn_blocking(move || gone.recv_timeout(Duration::from_secs(60)));
        Self(held)
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        assert!(self.0.send(()).is_ok() || std::thread::panicking(), "time went on by itself");
    }
}
