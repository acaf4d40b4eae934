//! The exporter as a whole: inputs from the watches, the look-ups and the clock go into the core, one at a time;
//! its effects are published; the server shows what is published.

use std::future::Future;
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
use crate::publish::Published;
use crate::server::{self, Access, Limits};
use crate::sources::Watches;
use crate::time::Clock;

/// Inputs that wait for the core. Bounded: while it is full, nothing more is read from the API server.
const INPUTS: usize = 256;
/// How often time passes for the core and the series when nothing else happens.
const TICK: Duration = Duration::from_secs(10);

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
    let (inputs, received) = mpsc::channel(INPUTS);
    let mut tasks = JoinSet::new();
    let watches = Watches::start(&client, options, clock, &inputs, &mut tasks);
    drop(inputs);
    let owner_stats = Arc::new(OwnerStats::default());
    let own = OwnMetrics::new(watches.sources(&owner_stats));
    let published =
        Arc::new(Published::new(options.publish(access.authenticates()), own, clock, watches.readiness()));
    let core = Core {
        state: State::new(watches.core_options()),
        published: Arc::clone(&published),
        owners: Arc::new(OwnerClient::new(client, owner_stats)),
        lookups: JoinSet::new(),
        clock,
    };
    let (stop, stopped) = watch::channel(false);
    let mut counting = tokio::spawn(core.run(received, stopped.clone()));
    let limits = Limits::default();
    let router = server::router(published, &limits, access.clone());
    let mut serving = tokio::spawn(server::serve(listeners, router, limits, access, told(stopped)));
    let died = tokio::select! {
        () = shutdown => None,
        _ = tasks.join_next() => Some(Died::Task("watch")),
        _ = &mut counting => Some(Died::Task("counting")),
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

async fn told(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The one task that owns the state.
struct Core {
    state: State,
    published: Arc<Published>,
    owners: Arc<OwnerClient>,
    lookups: JoinSet<OwnerAnswer>,
    clock: Clock,
}

impl Core {
    async fn run(mut self, mut inputs: mpsc::Receiver<Input>, stopped: watch::Receiver<bool>) {
        let mut stopped = std::pin::pin!(told(stopped));
        loop {
            let wake = self.wake();
            let input = tokio::select! {
                () = &mut stopped => break,
                Some(input) = inputs.recv() => input,
                Some(Ok(answer)) = self.lookups.join_next() => Input::Owner(answer),
                () = tokio::time::sleep_until(wake) => Input::Tick,
            };
            self.apply(input);
        }
        // Without saved state, what waits is counted with what is known: a last scrape may still see it.
        let now = self.clock.now();
        let effects = self.state.settle_all(now);
        self.publish(&effects);
    }

    /// When time must pass: something is due, or it is time to forget what is old.
    fn wake(&self) -> tokio::time::Instant {
        let tick = tokio::time::Instant::now() + TICK;
        self.state.next_due().map_or(tick, |due| self.clock.instant(due).min(tick))
    }

    fn apply(&mut self, input: Input) {
        let now = self.clock.now();
        if input == Input::Tick {
            self.published.expire(now);
        }
        let effects = self.state.apply(input, now);
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
}
