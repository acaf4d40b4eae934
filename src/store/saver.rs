//! When to write: at most once a second, one batch at a time, on a thread where blocking is allowed. What could not
//! be written is kept and goes with the next batch.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{About, CONTRADICTION, FileError, StateHealth, Store};
use crate::rows::Batch;
use crate::time::{Clock, Timestamp};

/// The least time between two saves.
const EVERY: Duration = Duration::from_secs(1);
/// The pause after a save that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// What came of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveOutcome {
    /// It is on disk.
    Saved,
    /// It is not, and goes with the next one.
    NotSaved,
    /// It is not, nor is anything: all must be saved anew.
    Lost,
}

#[derive(Debug)]
struct Written {
    store: Store,
    result: Result<u64, FileError>,
    took: Duration,
}

/// Writes batches, one at a time.
#[derive(Debug)]
pub struct Saver {
    /// `None` while a batch is on its way.
    store: Option<Store>,
    /// The same store, its file closed, in case that batch's is lost.
    spare: Store,
    about: About,
    unsaved: Arc<Batch>,
    writing: Option<JoinHandle<Option<Written>>>,
    next: Instant,
    health: Arc<StateHealth>,
    clock: Clock,
}

impl Saver {
    /// Writes to this store, from now on.
    #[must_use]
    pub fn new(store: Store, about: About, health: Arc<StateHealth>, clock: Clock) -> Self {
        Self {
            spare: store.closed(),
            store: Some(store),
            about,
            unsaved: Arc::default(),
            writing: None,
            next: Instant::now(),
            health,
            clock,
        }
    }

    /// When the next batch may be written; `None` while one is on its way.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.writing.is_none().then_some(self.next)
    }

    /// How many rows wait to be written.
    #[must_use]
    pub fn unsaved(&self) -> usize {
        self.unsaved.len()
    }

    /// Whether what is counted can be saved, as far as is known.
    #[must_use]
    pub fn works(&self) -> bool {
        self.health.ready().is_ok()
    }

    /// Forgets what could not be written: all is saved anew with the next batch, which must hold all.
    pub fn save_all_next(&mut self) {
        self.unsaved = Arc::default();
        for store in self.store.iter_mut().chain([&mut self.spare]) {
            store.write_all_next();
        }
    }

    /// Begins to write a batch; [`Saver::written`] tells what came of it. False if there is nothing to write.
    pub fn write(&mut self, batch: Batch) -> bool {
        Arc::make_mut(&mut self.unsaved).extend(batch);
        self.next = Instant::now() + EVERY;
        if self.unsaved.is_empty() {
            return false;
        }
        let Some(mut store) = self.store.take() else { return false };
        let mut about = self.about.clone();
        about.saved_at = self.clock.now().to_string();
        let batch = Arc::clone(&self.unsaved);
        self.writing = Some(tokio::task::spawn_blocking(move || {
            quietly(move || {
                let started = std::time::Instant::now();
                let result = store.write(&batch, &about);
                Written { store, result, took: started.elapsed() }
            })
        }));
        true
    }

    /// Waits for the batch on its way; for ever if there is none. Nothing is lost if this is dropped while it waits.
    pub async fn written(&mut self) -> SaveOutcome {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let written = writing.await.ok().flatten();
        self.writing = None;
        let now = self.clock.now();
        let Some(Written { store, result, took }) = written else {
            // redb found something that it takes for impossible.
            self.store = Some(self.spare.closed());
            return self.start_anew(&FileError::Damaged(CONTRADICTION.to_owned()), now);
        };
        self.store = Some(store);
        match result {
            Ok(bytes) => {
                self.spare = self.store.as_ref().map_or_else(|| self.spare.closed(), Store::closed);
                self.unsaved = Arc::default();
                self.health.saved(now, took, bytes);
                if self.health.problem(None) {
                    tracing::info!("the state is saved again");
                }
                SaveOutcome::Saved
            }
            Err(error @ FileError::Damaged(_)) => self.start_anew(&error, now),
            Err(error) => {
                self.failed(&error);
                SaveOutcome::NotSaved
            }
        }
    }

    /// A file that turned bad while it was written is moved aside, and another begun.
    fn start_anew(&mut self, error: &FileError, now: Timestamp) -> SaveOutcome {
        self.failed(error);
        let Some(store) = &mut self.store else { return SaveOutcome::NotSaved };
        match store.move_aside(now) {
            Ok(aside) => {
                let file = aside.map(|aside| aside.display().to_string());
                tracing::warn!(file, "the damaged state is moved aside, and saved anew from memory");
                self.spare = store.closed();
                self.unsaved = Arc::default();
                SaveOutcome::Lost
            }
            Err(_) => SaveOutcome::NotSaved,
        }
    }

    fn failed(&mut self, error: &FileError) {
        self.next = Instant::now() + AGAIN;
        self.health.failed();
        if self.health.problem(Some(format!("the state cannot be saved: {error}"))) {
            tracing::error!(%error, "cannot save the state; what is shown is what was saved last");
        }
    }
}

/// Runs what may panic on a damaged file, and keeps its panic from standard error.
pub fn quietly<T>(run: impl FnOnce() -> T) -> Option<T> {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                others(info);
            }
        }));
    });
    let outer = QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    QUIET.set(outer);
    result.ok()
}
