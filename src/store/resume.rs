//! The start: going on from what was saved, as soon as that can be read.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;

use super::saver::Saver;
use super::{About, Begun, FORM, FileError, Kept, StateHealth, Store, Watched, cluster_uid, fault};
use crate::board::Board;
use crate::core::{self, Effect, State};
use crate::series::{Series, SeriesOptions};
use crate::time::Clock;

/// The pause before another attempt to read the file.
const AGAIN: Duration = Duration::from_secs(1);

/// What a start goes by.
#[derive(Clone, Copy, Debug)]
pub struct Resuming<'a> {
    /// The directory of the file.
    pub dir: &'a Path,
    /// What is watched now.
    pub watched: &'a Watched,
    /// Where to tell how it goes.
    pub health: &'a Arc<StateHealth>,
    /// The exporter's clock.
    pub clock: Clock,
}

impl Resuming<'_> {
    /// What was saved of this cluster, or nothing; where to save; and the effects of going on.
    pub async fn begin(
        &self,
        client: &Client,
        core: core::Options,
        series: SeriesOptions,
    ) -> (Kept, Saver, Vec<Effect>) {
        let cluster = cluster_uid(client, self.health).await;
        let writer = fastrand::u64(..);
        let empty = move || Kept {
            state: State::new(core.clone()),
            series: Series::new(series.clone()),
            board: Board::default(),
        };
        let begun = self.open(cluster.as_deref(), writer, empty.clone()).await;
        self.tell(&begun);
        let form = fault::form(FORM);
        let mut about =
            About { form, writer, cluster, watched: self.watched.clone(), saved_at: String::new() };
        let (mut kept, before) = match begun.restored {
            Some((kept, before)) => (kept, Some(before)),
            None => (empty(), None),
        };
        // Before anything is left out: what is not gone on with leaves the file, too.
        kept.state.track();
        let mut effects = Vec::new();
        if let Some(before) = before {
            let known = self.watched.known(&before.watched);
            effects = kept.state.resume(|name| self.watched.scope_of(name), &known, self.clock.now());
            about.cluster = about.cluster.or(before.cluster);
            tracing::info!(
                pods = kept.state.pods(),
                saved_at = before.saved_at,
                "counting goes on from the saved state"
            );
        }
        (kept, Saver::new(begun.store, about, Arc::clone(self.health), self.clock), effects)
    }

    /// Waits until the file can be read: to start without it would lose what it holds.
    async fn open(
        &self,
        cluster: Option<&str>,
        writer: u64,
        empty: impl Fn() -> Kept + Clone + Send + 'static,
    ) -> Begun {
        loop {
            let (dir, cluster) = (self.dir.to_owned(), cluster.map(str::to_owned));
            let (empty, now) = (empty.clone(), self.clock.now());
            let open = move || Store::begin(&dir, writer, cluster.as_deref(), empty, now);
            let error = match tokio::task::spawn_blocking(open).await {
                Ok(Ok(begun)) => return begun,
                Ok(Err(error)) => error,
                Err(_) => FileError::Damaged("reading it failed".to_owned()),
            };
            if self.health.problem(Some(format!("the saved state cannot be read: {error}"))) {
                tracing::error!(dir = %self.dir.display(), %error, "cannot read the saved state, and wait for it");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn tell(&self, begun: &Begun) {
        for note in &begun.notes {
            tracing::warn!("{note}");
        }
        let problem = begun.unwritable.as_ref().map(|error| format!("the state cannot be saved: {error}"));
        if let Some(problem) = &problem {
            self.health.failed();
            tracing::error!("{problem}; what is shown is what was saved last");
        }
        self.health.problem(problem);
    }
}
