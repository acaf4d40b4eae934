//! The exporter's metrics about itself. Closed sets exist from the start, at 0.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::sources::{External, Sources};
use super::{Format, translate};
use crate::core::BaselineReason;
use crate::series::Series;
use crate::termination::Evidence;

/// One label.
type Label = [(&'static str, &'static str); 1];

/// Handles of all metrics about the exporter; clones share them.
#[derive(Clone, Debug)]
pub struct OwnMetrics {
    registry: Arc<Registry>,
    pods: Gauge,
    pending: Gauge,
    series: Gauge,
    series_limit: Gauge,
    series_evicted: Counter,
    series_overflowed: Counter,
    unobserved_pods: Counter,
    owners_cached: Counter,
    baselines: Family<Label, Counter>,
    evidence: Family<Label, Counter>,
    detection_delay: Histogram,
}

/// Seconds.
const DELAY_BUCKETS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0];

impl OwnMetrics {
    /// All metrics at 0.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        let mut own = Self {
            registry: Arc::default(),
            pods: Gauge::default(),
            pending: Gauge::default(),
            series: Gauge::default(),
            series_limit: Gauge::default(),
            series_evicted: Counter::default(),
            series_overflowed: Counter::default(),
            unobserved_pods: Counter::default(),
            owners_cached: Counter::default(),
            baselines: Family::default(),
            evidence: Family::default(),
            detection_delay: Histogram::new(DELAY_BUCKETS),
        };
        for reason in [BaselineReason::FirstList, BaselineReason::RestartCountDecreased] {
            let _ = own.baselines.get_or_create(&baseline_label(reason));
        }
        for evidence in Evidence::ALL {
            let _ = own.evidence.get_or_create(&evidence_label(*evidence));
        }
        own.registry = Arc::new(own.registered(sources));
        own
    }

    fn registered(&self, sources: Sources) -> Registry {
        let mut registry = Registry::with_prefix("exitcode_exporter");
        let build = Family::<[(&'static str, &'static str); 2], Gauge>::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION")), ("revision", revision())]).set(1);
        registry.register("build_info", "Version and revision of the exporter", build);
        registry.register("pods", "Pods now known", self.pods.clone());
        registry.register(
            "pending_terminations",
            "Terminations that are counted soon: they wait for a cause or an owner",
            self.pending.clone(),
        );
        registry.register("series", "Series of workloads and nodes now exposed", self.series.clone());
        registry.register("series_limit", "How many series there may be", self.series_limit.clone());
        registry.register(
            "series_evicted",
            "Series of workloads without pods that were removed to make room",
            self.series_evicted.clone(),
        );
        registry.register(
            "series_overflowed",
            "Counts that went to an overflow series for want of room",
            self.series_overflowed.clone(),
        );
        registry.register(
            "unobserved_pods",
            "Pods that vanished with a container last seen running: its end was never shown",
            self.unobserved_pods.clone(),
        );
        registry.register(
            "baselines",
            "Containers whose account was set without counting, by reason",
            self.baselines.clone(),
        );
        registry.register(
            "cause_evidence",
            "Terminations by what their cause was decided by",
            self.evidence.clone(),
        );
        registry.register(
            "detection_delay_seconds",
            "Time from finishedAt of a termination until it was counted",
            self.detection_delay.clone(),
        );
        registry.register_collector(Box::new(External { sources, cached: self.owners_cached.clone() }));
        registry
    }

    /// An account was set without counting.
    pub fn baseline(&self, reason: BaselineReason) {
        self.baselines.get_or_create(&baseline_label(reason)).inc();
    }

    /// The cause of so many terminations was decided by this.
    pub fn evidence(&self, evidence: Evidence, terminations: u32) {
        self.evidence.get_or_create(&evidence_label(evidence)).inc_by(u64::from(terminations));
    }

    /// A termination was counted so many milliseconds after its end; clocks may differ, so a negative delay is 0.
    #[allow(clippy::cast_precision_loss)] // exact to the millisecond for 285,000 years
    pub fn detection_delay(&self, ms: i64) {
        self.detection_delay.observe(ms.max(0) as f64 / 1000.0);
    }

    /// A pod vanished with a container last seen running.
    pub fn unobserved_pod(&self) {
        self.unobserved_pods.inc();
    }

    /// An owner was known already.
    pub fn owner_cached(&self) {
        self.owners_cached.inc();
    }

    /// So many pods are known.
    pub fn set_pods(&self, pods: usize) {
        self.pods.set(gauge(pods));
    }

    /// So many terminations wait.
    pub fn set_pending(&self, pending: usize) {
        self.pending.set(gauge(pending));
    }

    /// Takes over the state of the series table.
    pub(super) fn note_series(&self, series: &Series) {
        self.series.set(gauge(series.len()));
        self.series_limit.set(gauge(series.limit()));
        self.series_evicted.inner().store(series.evicted(), Ordering::Relaxed);
        self.series_overflowed.inner().store(series.overflowed(), Ordering::Relaxed);
    }

    /// All families in the order of their names.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        translate::translate(&text, format)
    }
}

/// The commit that this was built from, where the build named it.
#[must_use]
pub const fn revision() -> &'static str {
    match option_env!("EXITCODE_REVISION") {
        Some(revision) => revision,
        None => "unknown",
    }
}

fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

const fn baseline_label(reason: BaselineReason) -> Label {
    match reason {
        BaselineReason::FirstList => [("reason", "first_list")],
        BaselineReason::RestartCountDecreased => [("reason", "restart_count_decreased")],
    }
}

const fn evidence_label(evidence: Evidence) -> Label {
    [("evidence", evidence.as_str())]
}
