//! Statistics that the watches and the look-ups keep themselves, shown with the exporter's own metrics.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;

use crate::store::{StateHealth, StateSnapshot};
use crate::time::Timestamp;

/// What a watch of one kind of resource has done since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchSnapshot {
    /// pods or events.
    pub resource: &'static str,
    /// Whether a list is in and the watch goes on from it.
    pub synced: bool,
    /// Counts by kind: added, modified, deleted, bookmark, error.
    pub events: Vec<(&'static str, u64)>,
    /// Counts by reason: expired, forbidden, unauthorized, throttled, server_error, connection, timeout,
    /// undecodable, other.
    pub failures: Vec<(&'static str, u64)>,
    /// Lists that succeeded.
    pub lists_succeeded: u64,
    /// Lists that failed.
    pub lists_failed: u64,
    /// Objects that could not be decoded.
    pub undecodable: u64,
    /// When the last event or bookmark came.
    pub last_event: Option<Timestamp>,
}

impl WatchSnapshot {
    /// The words of the label `event`.
    pub const EVENTS: [&'static str; 5] = ["added", "modified", "deleted", "bookmark", "error"];
    /// The words of the label `reason`.
    pub const FAILURES: [&'static str; 9] = [
        "expired",
        "forbidden",
        "unauthorized",
        "throttled",
        "server_error",
        "connection",
        "timeout",
        "undecodable",
        "other",
    ];
}

/// What the owner look-ups have come to since the start; what was answered from the cache is counted with the
/// effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnerSnapshot {
    /// Found.
    pub found: u64,
    /// Gone.
    pub not_found: u64,
    /// Not allowed.
    pub forbidden: u64,
    /// Slower than the limit.
    pub timeout: u64,
    /// Any other failure.
    pub error: u64,
}

/// Where the statistics come from that others keep.
#[derive(Clone)]
pub struct Sources {
    /// One snapshot a resource, `pods` and `events` always among them.
    pub watches: Arc<dyn Fn() -> Vec<WatchSnapshot> + Send + Sync>,
    /// The owner look-ups.
    pub owners: Arc<dyn Fn() -> OwnerSnapshot + Send + Sync>,
    /// The saved state, where there is one.
    pub state: Option<Arc<StateHealth>>,
    /// Whether events about nodes are among those that are watched.
    pub node_events: bool,
}

/// Nothing watched, nothing looked up: for tests and until there is a cluster.
impl Default for Sources {
    fn default() -> Self {
        let idle = |resource| WatchSnapshot { resource, ..WatchSnapshot::default() };
        Self {
            watches: Arc::new(move || vec![idle("events"), idle("pods")]),
            owners: Arc::new(OwnerSnapshot::default),
            state: None,
            node_events: false,
        }
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// The statistics that others keep.
#[derive(Debug)]
pub(super) struct External {
    pub(super) sources: Sources,
    /// Look-ups that were answered from what was known.
    pub(super) cached: Counter,
}

impl Collector for External {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let watches = (self.sources.watches)();
        gauges(
            &mut encoder,
            "synced",
            "Whether a list is in and the watch goes on from it",
            &watches,
            |w| f64::from(u8::from(w.synced)),
        )?;
        gauges(
            &mut encoder,
            "last_event_timestamp_seconds",
            "When the last event or bookmark of the watch came",
            &watches,
            |w| w.last_event.map_or(0.0, Timestamp::as_seconds),
        )?;
        let help = "Whether events about nodes are watched: they tell of kills for want of memory on a node.";
        let node_events = encoder.encode_descriptor("node_events_watched", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(self.sources.node_events)).encode(node_events)?;
        let undecodable =
            watches.iter().map(|w| ([("resource", w.resource)], w.undecodable)).collect::<Vec<_>>();
        counters(&mut encoder, "undecodable_objects", "Objects that could not be decoded", &undecodable)?;
        self.encode_pairs(&mut encoder, &watches)?;
        if let Some(state) = &self.sources.state {
            encode_state(&mut encoder, state.snapshot())?;
        }
        let owners = (self.sources.owners)();
        let results = [
            ("found", owners.found),
            ("cached", self.cached.get()),
            ("not_found", owners.not_found),
            ("forbidden", owners.forbidden),
            ("timeout", owners.timeout),
            ("error", owners.error),
        ];
        let results = results.map(|(word, count)| ([("result", word)], count));
        counters(&mut encoder, "owner_lookups", "Look-ups of owners by result", &results)
    }
}

impl External {
    fn encode_pairs(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        watches: &[WatchSnapshot],
    ) -> Result<(), fmt::Error> {
        let pairs = |label: &'static str, of: fn(&WatchSnapshot) -> Vec<(&'static str, u64)>| {
            let each = watches.iter().flat_map(move |w| {
                of(w).into_iter().map(move |(word, n)| ([("resource", w.resource), (label, word)], n))
            });
            each.collect::<Vec<_>>()
        };
        let events = pairs("event", |w| complete(&WatchSnapshot::EVENTS, &w.events));
        counters(encoder, "watch_events", "Events of the watch by kind", &events)?;
        let failures = pairs("reason", |w| complete(&WatchSnapshot::FAILURES, &w.failures));
        counters(encoder, "watch_failures", "Lists and watches that failed, by reason", &failures)?;
        let lists = pairs("result", |w| vec![("success", w.lists_succeeded), ("failure", w.lists_failed)]);
        counters(encoder, "lists", "Lists by result", &lists)
    }
}

fn encode_state(encoder: &mut DescriptorEncoder<'_>, state: StateSnapshot) -> Result<(), fmt::Error> {
    let mut gauge = |name, help, value: f64| {
        let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    };
    let last = state.last_save.map_or(0.0, Timestamp::as_seconds);
    gauge("state_last_save_timestamp_seconds", "When the state was saved last; 0 until then.", last)?;
    gauge("state_save_duration_seconds", "How long the last save took.", state.duration.as_secs_f64())?;
    let help = "Size of the file of the saved state.";
    let size = encoder.encode_descriptor("state_size_bytes", help, None, MetricType::Gauge)?;
    ConstGauge::new(i64::try_from(state.bytes).unwrap_or(i64::MAX)).encode(size)?;
    let help = "Saves of the state that failed.";
    let encoder = encoder.encode_descriptor("state_save_failures", help, None, MetricType::Counter)?;
    ConstCounter::new(state.failures).encode(encoder)
}

/// The count of each word of a closed set, 0 where the source has none.
fn complete(words: &[&'static str], counts: &[(&'static str, u64)]) -> Vec<(&'static str, u64)> {
    let count = |word| counts.iter().filter(|(w, _)| *w == word).map(|(_, n)| n).sum();
    words.iter().map(|word| (*word, count(*word))).collect()
}

fn counters<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: &[([(&'static str, &'static str); N], u64)],
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Counter)?;
    for (labels, count) in rows {
        ConstCounter::new(*count).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

fn gauges<N>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    watches: &[WatchSnapshot],
    value: fn(&WatchSnapshot) -> N,
) -> Result<(), fmt::Error>
where
    ConstGauge<N>: EncodeMetric,
{
    let mut family = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
    for watch in watches {
        ConstGauge::new(value(watch)).encode(family.encode_family(&[("resource", watch.resource)])?)?;
    }
    Ok(())
}
