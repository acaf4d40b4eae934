//! The exporter as a whole: inputs from the watches, the look-ups and the clock go into the core, one at a time;
//! its effects are published; the server shows what is published.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::core::{Effect, Input, OwnerAnswer, State};
use crate::exposition::OwnMetrics;
use crate::options::Options;
use crate::owners::{OwnerClient, OwnerStats};
use crate::pod::Metadata;
use crate::publish::{Published, Readiness};
use crate::rows::Batch;
use crate::server::{self, Access, Limits};
use crate::sources::Watches;
use crate::store::{Resuming, SaveOutcome, Saver, StateHealth, Watched, fault};
use crate::time::{Clock, Timestamp};

/// Inputs that wait for the core. Bounded: while it is full, nothing more is read from the API server.
const INPUTS: usize = 256;
/// How often time passes for the core and the series when nothing else happens.
const TICK: Duration = Duration::from_secs(10);
/// How often series are looked through for those past their time to live.
const EXPIRE_EVERY_MS: i64 = 10_000;
/// So many more rows may wait for a disk than there are: what came and went meanwhile leaves a row, too.
const ROWS_TOO_MANY: usize = 50_000;
/// How long the last save may take.
const LAST_SAVE: Duration = Duration::from_secs(3);

/// Why the exporter ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Died {
    /// A task that must run for ever has ended.
    #[error("the {0} task has ended, and without it no count is right")]
    Task(&'static str),
}

/// Runs on a cluster until `shutdown`: watches, counts and serves. Returns once the requests in flight are answered.
///
/// # Errors
/// If one of its tasks dies: what is served would no longer be true.
pub async fn run(
    client: Client,
    options: &Options,
    access: Access,
    listeners: Vec<TcpListener>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Died> {
    access.explain();
    let clock = Clock::start();
    let watches = Watches::new(options, clock);
    let owner_stats = Arc::new(OwnerStats::default());
    let health = options.state_dir.is_some().then(Arc::<StateHealth>::default);
    let own = OwnMetrics::new(watches.sources(&owner_stats, health.clone()));
    let readiness = readiness(watches.readiness(), health.clone());
    let published = Arc::new(Published::new(options.publish(access.authenticates()), own, clock, readiness));
    if health.is_some() {
        published.track();
    }
    let exporter = Exporter {
        state_dir: options.state_dir.clone().zip(health),
        watched: Watched {
            namespaces: options.watched_namespaces(),
            excluded: options.excluded_namespaces(),
        },
        owners: Arc::new(OwnerClient::new(client.clone(), owner_stats)),
        published: Arc::clone(&published),
        client,
        watches,
        clock,
    };
    let (stop, stopped) = watch::channel(false);
    let mut counting = tokio::spawn(exporter.count(stopped.clone()));
    let limits = Limits::default();
    let router = server::router(published, &limits, access.clone());
    let mut serving = tokio::spawn(server::serve(listeners, router, limits, access, told(stopped)));
    let died = tokio::select! {
        () = shutdown => None,
        ended = &mut counting => Some(ended.ok().and_then(Result::err).unwrap_or(Died::Task("counting"))),
        _ = &mut serving => Some(Died::Task("serving")),
    };
    let _ = stop.send(true);
    if let Some(died) = died {
        return Err(died);
    }
    let _ = counting.await;
    let _ = serving.await;
    Ok(())
}

/// Ready while the state is kept, if it is to be, and the watches work.
fn readiness(watches: Readiness, health: Option<Arc<StateHealth>>) -> Readiness {
    match health {
        None => watches,
        Some(health) => Arc::new(move || health.ready().and_then(|()| watches())),
    }
}

async fn told(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// All that counting needs, before it begins.
struct Exporter {
    state_dir: Option<(PathBuf, Arc<StateHealth>)>,
    watched: Watched,
    owners: Arc<OwnerClient>,
    published: Arc<Published>,
    client: Client,
    watches: Watches,
    clock: Clock,
}

impl Exporter {
    async fn count(self, stopped: watch::Receiver<bool>) -> Result<(), Died> {
        let core = tokio::select! {
            core = self.begin() => core,
            () = told(stopped.clone()) => return Ok(()),
        };
        let (inputs, received) = mpsc::channel(INPUTS);
        let mut tasks = JoinSet::new();
        self.watches.start(&self.client, &inputs, &mut tasks);
        drop(inputs);
        core.run(received, tasks, stopped).await
    }

    /// The core, empty or as it was saved.
    async fn begin(&self) -> Core {
        let mut core = Core {
            state: State::new(self.watches.core_options()),
            published: Arc::clone(&self.published),
            owners: Arc::clone(&self.owners),
            lookups: JoinSet::new(),
            clock: self.clock,
            saver: None,
            unsaved: false,
            expired: self.clock.now(),
        };
        let Some((dir, health)) = &self.state_dir else { return core };
        let resuming = Resuming { dir, watched: &self.watched, health, clock: self.clock };
        let series = self.published.options.series.clone();
        let core_options = self.watches.core_options();
        let (kept, saver, effects) = resuming.begin(&self.client, core_options, series).await;
        core.state = kept.state;
        core.saver = Some(saver);
        self.published.resume(kept.series, kept.board, self.clock.now());
        core.carry_out(effects);
        core
    }
}

/// The one task that owns the state.
struct Core {
    state: State,
    published: Arc<Published>,
    owners: Arc<OwnerClient>,
    lookups: JoinSet<OwnerAnswer>,
    clock: Clock,
    /// Where the state is saved, if it is.
    saver: Option<Saver>,
    /// Something may have changed since the last save.
    unsaved: bool,
    /// When series were looked through for those past their time last.
    expired: Timestamp,
}

impl Core {
    async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut tasks: JoinSet<()>,
        stopped: watch::Receiver<bool>,
    ) -> Result<(), Died> {
        let mut stopped = std::pin::pin!(told(stopped));
        loop {
            let wake = self.wake();
            let save_at = self.save_at();
            let input = tokio::select! {
                () = &mut stopped => break,
                _ = tasks.join_next() => return Err(Died::Task("watch")),
                outcome = written(&mut self.saver) => {
                    self.written(outcome);
                    continue;
                }
                () = tokio::time::sleep_until(save_at.unwrap_or(wake)), if save_at.is_some() => {
                    self.save();
                    continue;
                }
                Some(input) = inputs.recv() => input,
                Some(Ok(answer)) = self.lookups.join_next() => Input::Owner(answer),
                () = tokio::time::sleep_until(wake) => Input::Tick,
            };
            self.apply(input);
        }
        self.end().await;
        Ok(())
    }

    /// When time must pass: something is due, or it is time to forget what is old.
    fn wake(&self) -> tokio::time::Instant {
        let tick = tokio::time::Instant::now() + TICK;
        self.state.next_due().map_or(tick, |due| self.clock.instant(due).min(tick))
    }

    fn apply(&mut self, input: Input) {
        trace(&input);
        let now = self.clock.now();
        self.expire(now);
        let effects = self.state.apply(input, now);
        self.carry_out(effects);
        self.unsaved = true;
        if !self.published.is_open() && self.state.has_listed() {
            self.published.open(self.clock.now());
        }
    }

    /// Lets go of series past their time; not of those that could not be shown yet, for want of a disk.
    fn expire(&mut self, now: Timestamp) {
        let due = now.since(self.expired) >= EXPIRE_EVERY_MS;
        if due && self.saver.as_ref().is_none_or(Saver::works) {
            self.expired = now;
            self.published.expire(now);
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        self.publish(&effects);
        for effect in effects {
            if let Effect::LookUp(key) = effect {
                let owners = Arc::clone(&self.owners);
                self.lookups.spawn(async move { owners.answer(&key).await });
            }
        }
    }

    fn publish(&self, effects: &[Effect]) {
        let now = self.clock.now();
        for effect in effects {
            self.published.apply(effect, now);
        }
        self.published.own.set_pods(self.state.pods());
        self.published.own.set_pending(self.state.pending_terminations());
    }

    /// Nothing is saved in the middle of the first list: what it has not shown yet would pass for new.
    fn save_at(&self) -> Option<tokio::time::Instant> {
        self.saver.as_ref().filter(|_| self.unsaved && self.state.has_listed())?.due()
    }

    fn save(&mut self) {
        let Some(saver) = &mut self.saver else { return };
        let rows = self.state.sizes().rows() + self.published.series_len();
        if saver.unsaved() > 2 * rows + ROWS_TOO_MANY {
            saver.save_all_next();
            self.state.note_all();
            self.published.note_all();
        }
        let mut batch = Batch::default();
        self.state.save(&mut batch);
        self.published.save(&mut batch);
        saver.write(batch);
        self.unsaved = false;
    }

    fn written(&mut self, outcome: SaveOutcome) {
        match outcome {
            SaveOutcome::Saved => {
                self.published.saved(self.clock.now());
                fault::point("after-publish");
            }
            SaveOutcome::NotSaved => {
                self.published.not_saved();
                self.unsaved = true;
            }
            SaveOutcome::Lost => {
                self.state.note_all();
                self.published.note_all();
                self.unsaved = true;
            }
        }
    }

    /// Waits for the batch on its way, if there is one.
    async fn finish_writing(&mut self) {
        if self.saver.as_ref().is_some_and(|saver| saver.due().is_none()) {
            let outcome = written(&mut self.saver).await;
            self.written(outcome);
        }
    }

    /// What waits is part of the saved state; without one it is counted with what is known, since a last scrape may
    /// still see it.
    async fn end(mut self) {
        if self.saver.is_none() {
            let now = self.clock.now();
            let effects = self.state.settle_all(now);
            self.publish(&effects);
            return;
        }
        let last = async {
            self.finish_writing().await;
            if self.state.has_listed() {
                self.save();
            }
            self.finish_writing().await;
        };
        if tokio::time::timeout(LAST_SAVE, last).await.is_err() {
            tracing::error!("the disk is too slow: the last second is not saved");
        }
    }
}

/// Which version of which pod is taken in: with the time of the last save it tells what was known at any moment.
fn trace(input: &Input) {
    let (how, pod) = match input {
        Input::PodListed(_, pod) => ("listed", pod),
        Input::PodSeen(_, pod) => ("seen", pod),
        Input::PodDeleted(_, pod) => ("deleted", pod),
        _ => return,
    };
    let Metadata { namespace, name, uid, resource_version, .. } = &pod.metadata;
    tracing::trace!(namespace, pod = name, uid, resource_version, how, "a pod is read");
}

/// What came of the batch on its way; for ever if there is none.
async fn written(saver: &mut Option<Saver>) -> SaveOutcome {
    match saver {
        Some(saver) => saver.written().await,
        None => std::future::pending().await,
    }
}
