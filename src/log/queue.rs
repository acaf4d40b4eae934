//! A queue between those who log and standard error.
//!
//! While the container runtime restarts, nobody reads a container's standard error, and after 64 KiB a write
//! to it blocks. The core must not wait for that: lines wait in a queue, which one thread writes out. When the
//! queue is full too, those who log wait: no line is ever dropped.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Lines that may wait: a few MB at most.
const LINES: usize = 4096;
/// How long the end of the program waits for lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between tries to ask a full queue for its end.
const PAUSE: Duration = Duration::from_millis(10);

enum Message {
    Line(Vec<u8>),
    /// Answered when all that came before is written.
    Flush(SyncSender<()>),
}

/// The writing end of the queue: one write is one line.
#[derive(Clone, Debug)]
pub(super) struct Queue(SyncSender<Message>);

impl Queue {
    /// A queue before `sink`, and the guard of its end.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub(super) fn before(sink: impl Write + Send + 'static) -> io::Result<(Self, Guard)> {
        let (sender, receiver) = sync_channel(LINES);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_out(&receiver, sink))?;
        Ok((Self(sender.clone()), Guard { sender: Some(sender), patience: PATIENCE }))
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.send(Message::Line(line.to_vec())).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_out(messages: &Receiver<Message>, mut sink: impl Write) {
    for message in messages {
        match message {
            // A line that can't be written has nowhere to be complained about.
            Message::Line(line) => _ = sink.write_all(&line),
            Message::Flush(done) => _ = done.send(()),
        }
    }
}

/// Writes out what waits when it is dropped, for at most a second. Keep it to the end of the program.
#[derive(Debug)]
#[must_use = "lines that wait at the end of the program are lost without it"]
pub struct Guard {
    sender: Option<SyncSender<Message>>,
    patience: Duration,
}

impl Guard {
    /// For lines that are written at once.
    pub(super) const fn none() -> Self {
        Self { sender: None, patience: PATIENCE }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(sender) = &self.sender else { return };
        let deadline = Instant::now() + self.patience;
        let (done, written) = sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(unsent)) = sender.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = unsent;
            std::thread::sleep(PAUSE);
        }
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A sink that stands still until it is let go.
    struct Sink {
        let_go: Option<mpsc::Receiver<()>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(let_go) = self.let_go.take() {
                let _ = let_go.recv();
            }
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up_and_loses_no_line() {
        let (go, let_go) = mpsc::channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let sink = Sink { let_go: Some(let_go), written: Arc::clone(&written) };
        let (mut queue, mut guard) = Queue::before(sink).unwrap();
        // Enough for a busy machine.
        guard.patience = Duration::from_secs(60);
        let lines: Vec<String> = (0..LINES).map(|i| format!("line {i}\n")).collect();
        for line in &lines {
            // Would never return if it waited for the sink.
            queue.write_all(line.as_bytes()).unwrap();
        }
        assert!(written.lock().unwrap().is_empty());
        go.send(()).unwrap();
        drop(guard);
        assert_eq!(String::from_utf8(written.lock().unwrap().clone()).unwrap(), lines.concat());
    }

    #[test]
    fn the_end_does_not_wait_for_ever() {
        let (_go, let_go) = mpsc::channel();
        let sink = Sink { let_go: Some(let_go), written: Arc::default() };
        let (mut queue, guard) = Queue::before(sink).unwrap();
        for _ in 0..LINES {
            queue.write_all(b"x\n").unwrap();
        }
        // Fails by never ending.
        drop(guard);
    }
}
