//! The writer of the series table: labels are kept rendered, so a series is a copy and a number.

use super::write::{Family, Kind, integer, seconds, start};
use super::{Format, View};
use crate::series::{Sample, Series};

const LAST_TERMINATION: Family = Family {
    name: "exitcode_container_last_termination_timestamp_seconds",
    kind: Kind::Gauge,
    help: "When the container last terminated (finishedAt of the record, or when it was counted).",
};
const RESTARTS: Family = Family {
    name: "exitcode_container_restarts",
    kind: Kind::Counter,
    help: "Container restarts by how the container had terminated before.",
};
const TERMINATIONS: Family = Family {
    name: "exitcode_container_terminations",
    kind: Kind::Counter,
    help: "Container terminations by exit code, reason and cause.",
};
const NODE_TERMINATIONS: Family = Family {
    name: "exitcode_node_terminations",
    kind: Kind::Counter,
    help: "Container terminations by node and cause.",
};
const POD_FAILURES: Family = Family {
    name: "exitcode_pod_failures",
    kind: Kind::Counter,
    help: "Pods that failed as a whole, by reason.",
};
const WORKLOAD_PODS: Family = Family {
    name: "exitcode_workload_pods",
    kind: Kind::Gauge,
    help: "Pods now known of workloads that have counters.",
};

/// The families before the exporter's own, by name.
pub(super) fn containers(out: &mut Vec<u8>, series: &Series, view: View) {
    LAST_TERMINATION.head(out, view.format);
    for (labels, at) in series.last_terminations() {
        start(out, LAST_TERMINATION.name, "", labels);
        seconds(out, at);
    }
    counters(out, RESTARTS, series.restarts(), view);
    counters(out, TERMINATIONS, series.terminations(), view);
}

/// The families after the exporter's own, by name.
pub(super) fn others(out: &mut Vec<u8>, series: &Series, view: View) {
    counters(out, NODE_TERMINATIONS, series.node_terminations(), view);
    counters(out, POD_FAILURES, series.pod_failures(), view);
    WORKLOAD_PODS.head(out, view.format);
    for (labels, pods) in series.pods() {
        start(out, WORKLOAD_PODS.name, "", labels);
        integer(out, u64::from(pods));
    }
}

fn counters<'a>(
    out: &mut Vec<u8>,
    family: Family,
    samples: impl Iterator<Item = (&'a str, Sample)>,
    view: View,
) {
    family.head(out, view.format);
    let created = view.created && view.format == Format::OpenMetrics;
    for (labels, sample) in samples {
        start(out, family.name, "_total", labels);
        integer(out, sample.shown(view.zero_for, view.now));
        if let Some(born) = sample.created().filter(|_| created) {
            start(out, family.name, "_created", labels);
            seconds(out, born);
        }
    }
}
