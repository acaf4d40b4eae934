//! Where the core's effects become what people see: counts, board, own metrics and log, in one place.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::board::{Board, Query};
use crate::core::Effect;
use crate::exposition::{self, Format, OwnMetrics, View};
use crate::log;
use crate::rows::Batch;
use crate::runbook::Runbooks;
use crate::series::{Series, SeriesOptions};
use crate::termination::Termination;
use crate::time::{Clock, Timestamp};

/// How things are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishOptions {
    /// Bounds and labels of the series.
    pub series: SeriesOptions,
    /// How long a new series reads 0 for scrapers that do not say it themselves.
    pub zero_for: Duration,
    /// Whether OpenMetrics gets `_created` lines.
    pub openmetrics_created: bool,
    /// Whether the API shows termination messages.
    pub show_messages: bool,
    /// Links to runbooks.
    pub runbooks: Runbooks,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            series: SeriesOptions::default(),
            zero_for: Duration::from_secs(65),
            openmetrics_created: false,
            show_messages: false,
            runbooks: Runbooks::default(),
        }
    }
}

/// Whether the exporter is ready, or why it is not.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What is published: one task writes, the server reads. The locks are held for as long as it takes to change
/// or to copy, never across IO.
pub struct Published {
    series: Mutex<Series>,
    board: Mutex<Board>,
    /// Metrics about the exporter.
    pub own: OwnMetrics,
    /// How things are shown.
    pub options: PublishOptions,
    /// The clock that series are born and asked by.
    pub clock: Clock,
    readiness: Readiness,
    /// What is shown is the present, or was saved as the present; false until the first list after a start is in.
    open: AtomicBool,
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Published {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(options: PublishOptions, own: OwnMetrics, clock: Clock, readiness: Readiness) -> Self {
        Self {
            series: Mutex::new(Series::new(options.series.clone())),
            board: Mutex::default(),
            own,
            options,
            clock,
            readiness,
            open: AtomicBool::new(true),
        }
    }

    /// From now on, nothing is shown that is not saved, and nothing at all before [`Published::open`].
    pub fn track(&self) {
        self.open.store(false, Ordering::Relaxed);
        self.series().track();
        self.board().track();
    }

    /// Goes on from what was saved.
    pub fn resume(&self, series: Series, board: Board, now: Timestamp) {
        *self.series() = series;
        *self.board() = board;
        self.series().resume(now);
        self.series().track();
        self.board().track();
    }

    /// The first list is in: the counts may be read.
    pub fn open(&self, now: Timestamp) {
        if !self.is_open() {
            self.series().open(now);
            self.open.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the counts may be read.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Puts what is not saved into the batch.
    pub fn save(&self, batch: &mut Batch) {
        self.series().save(batch);
        self.board().save(batch);
    }

    /// The batch is on disk, and what it holds is shown.
    pub fn saved(&self, now: Timestamp) {
        self.series().saved(now);
        self.board().saved();
    }

    /// The batch could not be written.
    pub fn not_saved(&self) {
        self.series().not_saved();
    }

    /// All that was saved is lost, and must be saved anew.
    pub fn note_all(&self) {
        self.series().note_all();
        self.board().note_all();
    }

    /// Shows what the core tells.
    pub fn apply(&self, effect: &Effect, now: Timestamp) {
        self.series().apply(effect, now);
        match effect {
            Effect::Terminated(termination) => self.note(termination),
            Effect::OwnerCached => self.own.owner_cached(),
            Effect::Baseline(reason) => self.own.baseline(*reason),
            Effect::UnobservedPod => self.own.unobserved_pod(),
            Effect::LookUp(_)
            | Effect::Restarted { .. }
            | Effect::PodFailed { .. }
            | Effect::WorkloadPods { .. } => {}
        }
    }

    fn note(&self, termination: &Termination) {
        self.own.evidence(termination.evidence, termination.count);
        if let Some(finished) = termination.finished_at {
            self.own.detection_delay(termination.counted_at.since(finished));
        }
        self.board().add(termination.clone());
        log::termination(termination, &self.options.runbooks);
    }

    /// Lets go of series past their time to live. Call it about once a minute.
    pub fn expire(&self, now: Timestamp) {
        self.series().expire(now);
    }

    /// The whole of /metrics. It takes tens of milliseconds for 100,000 series: call it where blocking is allowed.
    #[must_use]
    pub fn render(&self, format: Format, zero_for: Option<Duration>) -> Vec<u8> {
        let now = self.clock.now();
        let process = exposition::render_process(format);
        let view = View { format, zero_for, created: self.options.openmetrics_created, now };
        let series = self.series();
        let mut out = Vec::with_capacity(32 * 1024 + series.len() * 256);
        exposition::render(&mut out, &series, &self.own, &process, view);
        out
    }

    /// How many series are exposed.
    #[must_use]
    pub fn series_len(&self) -> usize {
        self.series().len()
    }

    /// The last terminations that match, newest first.
    #[must_use]
    pub fn terminations(&self, query: &Query) -> Vec<Arc<Termination>> {
        self.board().query(query)
    }

    /// Whether the exporter is ready.
    ///
    /// # Errors
    /// Why it is not, in a sentence.
    pub fn ready(&self) -> Result<(), String> {
        (self.readiness)()
    }

    fn series(&self) -> MutexGuard<'_, Series> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::termination::{Cause, ContainerType, Evidence, ExitCode, Outcome, Reason, Subject, Workload};

    /// An out-of-memory kill of container `app` of Deployment `name` in `shop`.
    pub(crate) fn termination(name: &str) -> Termination {
        Termination {
            subject: Subject {
                workload: Workload {
                    namespace: "shop".into(),
                    workload_type: "deployment".into(),
                    name: name.into(),
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
            pod: format!("{name}-0").into(),
            node: "node-1".into(),
            started_at: Timestamp::parse("2026-01-02T03:04:05Z"),
            finished_at: Timestamp::parse("2026-01-02T03:05:05Z"),
            counted_at: Timestamp::parse("2026-01-02T03:05:06.500Z").unwrap(),
            restart_count: 3,
            image: "registry.example/app:1".into(),
            message: None,
            windows: false,
        }
    }
}
