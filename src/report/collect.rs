//! What is asked of the API server: events, pods, and the owners of the pods that show an end.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Client;
use tokio::task::JoinSet;

use crate::core::{OwnerAnswer, OwnerKey, Visible};
use crate::options::{Options, Report};
use crate::owners::{LookupResult, OwnerClient, OwnerStats};
use crate::pod::{Event, Pod};
use crate::sources::{NODE_EVENTS, target_events, target_pods};
use crate::termination::Termination;
use crate::time::Timestamp;
use crate::watch::{Failure, FailureReason, Listed, Target, list_once};

/// No list of pods has more pages: five million pods.
const POD_PAGES: u32 = 10_000;
/// So many pages of events explain ends, 50,000 events; in a larger cluster the report is about a few namespaces, or
/// does without the rest.
const EVENT_PAGES: u32 = 100;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Every record of an end.
    pub ends: Vec<Termination>,
    /// How many pods there are.
    pub pods: u64,
    /// One namespace was asked about.
    pub one_namespace: bool,
    /// What is missing, in sentences.
    pub notes: Vec<String>,
}

/// Asks once.
///
/// # Errors
/// If the pods of a namespace can't be listed; what explains them may be missing.
pub async fn collect(
    client: &Client,
    options: &Options,
    report: &Report,
    now: Timestamp,
) -> Result<Found, Failure> {
    let mut asking = Asking::new(client, now);
    let excluded = options.excluded_namespaces();
    let scopes = report.scopes(&options.namespaces, client.default_namespace());
    if options.events {
        asking.events(&scopes, &excluded).await?;
    }
    for namespace in &scopes {
        asking.pods(&target_pods(namespace.as_deref(), &excluded)).await?;
    }
    asking.owners().await;
    let one_namespace = matches!(scopes.as_slice(), [Some(_)]);
    Ok(Found { one_namespace, ..asking.found() })
}

/// A look at the cluster while it is taken.
struct Asking<'a> {
    client: &'a Client,
    visible: Visible,
    owners: Arc<OwnerClient>,
    owner_stats: Arc<OwnerStats>,
    lookups: JoinSet<OwnerAnswer>,
    pods: u64,
    notes: Vec<String>,
}

impl<'a> Asking<'a> {
    fn new(client: &'a Client, now: Timestamp) -> Self {
        let owner_stats = Arc::new(OwnerStats::default());
        Self {
            client,
            visible: Visible::new(now),
            owners: Arc::new(OwnerClient::new(client.clone(), Arc::clone(&owner_stats))),
            owner_stats,
            lookups: JoinSet::new(),
            pods: 0,
            notes: Vec::new(),
        }
    }

    /// Events of the namespaces, and those about nodes, which are in a namespace of their own.
    async fn events(&mut self, scopes: &[Option<String>], excluded: &[String]) -> Result<(), Failure> {
        use FailureReason::{Connection, Unauthorized};
        let mut failures = BTreeMap::new();
        let mut cut = false;
        for namespace in scopes {
            match self.list_events(&target_events(namespace.as_deref(), excluded)).await {
                Ok(listed) => cut |= !listed.whole,
                // Then pods can't be had either.
                Err(failure) if matches!(failure.reason, Connection | Unauthorized) => return Err(failure),
                Err(failure) => _ = failures.entry(failure.detail).or_insert(()),
            }
        }
        let seen = |namespace: &Option<String>| namespace.as_deref().is_none_or(|name| name == NODE_EVENTS);
        if !scopes.iter().any(seen) {
            let node_events = "involvedObject.kind=Node,reason=SystemOOM";
            // Not everybody may, and it matters to few ends.
            _ = self
                .list_events(&Target::all("events").in_namespace(NODE_EVENTS).selecting(node_events))
                .await;
        }
        let effect = "causes that only an event can tell fall back to status and history";
        self.notes.extend(failures.into_keys().map(|why| format!("No events: {effect}: {why}")));
        if cut {
            self.notes.push(format!("Not all events were read: {effect}"));
        }
        Ok(())
    }

    async fn list_events(&mut self, target: &Target) -> Result<Listed, Failure> {
        let visible = &mut self.visible;
        list_once(self.client, target, EVENT_PAGES, |event: Event| visible.event(event)).await
    }

    async fn pods(&mut self, target: &Target) -> Result<(), Failure> {
        let Self { visible, owners, lookups, .. } = self;
        let each = |pod: Pod| look_up(lookups, owners, visible.pod(pod));
        let listed = list_once(self.client, target, POD_PAGES, each).await?;
        self.pods += listed.objects;
        if listed.unreadable > 0 {
            self.notes.push(format!("{} pods can't be read and are left out", listed.unreadable));
        }
        Ok(())
    }

    /// Waits for the look-ups, each bounded in time, and those that they lead to.
    async fn owners(&mut self) {
        while let Some(answer) = self.lookups.join_next().await {
            let Ok(answer) = answer else { continue };
            let wanted = self.visible.owner(answer);
            look_up(&mut self.lookups, &self.owners, wanted);
        }
        let results = [LookupResult::Forbidden, LookupResult::Timeout, LookupResult::Error];
        let missed: Vec<_> = results
            .iter()
            .map(|result| (self.owner_stats.lookups(*result), result))
            .filter(|(count, _)| *count > 0)
            .map(|(count, result)| format!("{count} {result}"))
            .collect();
        if !missed.is_empty() {
            let effect = "their pods stand under the last owner that is known";
            self.notes.push(format!("Not all owners could be looked up ({}): {effect}", missed.join(", ")));
        }
    }

    fn found(self) -> Found {
        Found { ends: self.visible.ends(), pods: self.pods, notes: self.notes, one_namespace: false }
    }
}

fn look_up(lookups: &mut JoinSet<OwnerAnswer>, owners: &Arc<OwnerClient>, wanted: Vec<OwnerKey>) {
    for key in wanted {
        let owners = Arc::clone(owners);
        lookups.spawn(async move { owners.answer(&key).await });
    }
}
