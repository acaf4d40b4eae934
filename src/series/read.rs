//! What is read of the series.

use super::saved::Values;
use super::{Sample, Series};
use crate::time::Timestamp;

impl Series {
    /// How many series are exposed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len + self.overflow_len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there may be, those of overflow aside.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.options.max_series
    }

    /// How many were removed to make room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// How many counts went to an overflow series.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Series of `exitcode_container_terminations_total`, by their labels.
    pub fn terminations(&self) -> impl Iterator<Item = (&str, Sample)> {
        let samples = self.containers.iter().filter_map(|(key, c)| Some((&**key, c.terminations?)));
        self.shown(Values::Terminations, samples)
    }

    /// Series of `exitcode_container_restarts_total`, by their labels.
    pub fn restarts(&self) -> impl Iterator<Item = (&str, Sample)> {
        let samples = self.containers.iter().filter_map(|(key, c)| Some((&**key, c.restarts?)));
        self.shown(Values::Restarts, samples)
    }

    /// Series of `exitcode_pod_failures_total`, by their labels.
    pub fn pod_failures(&self) -> impl Iterator<Item = (&str, Sample)> {
        self.shown(Values::PodFailures, self.pod_failures.iter().map(|(key, sample)| (&**key, *sample)))
    }

    /// Series of `exitcode_node_terminations_total`, by their labels.
    pub fn node_terminations(&self) -> impl Iterator<Item = (&str, Sample)> {
        self.shown(Values::Nodes, self.nodes.iter().map(|(key, sample)| (&**key, *sample)))
    }

    /// Series of `exitcode_container_last_termination_timestamp_seconds`, by their labels.
    pub fn last_terminations(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        self.last_terminations.iter().filter_map(|(key, at)| {
            Some((&**key, Timestamp(self.on_disk(Values::LastTerminations, key, at.0)?)))
        })
    }

    /// The samples as they are on disk, where the state is saved.
    fn shown<'a>(
        &'a self,
        values: Values,
        samples: impl Iterator<Item = (&'a str, Sample)> + 'a,
    ) -> impl Iterator<Item = (&'a str, Sample)> {
        samples.filter_map(move |(key, sample)| {
            Some((key, sample.reading(self.on_disk(values, key, sample.signed())?)))
        })
    }

    /// Series of `exitcode_workload_pods`, by their labels.
    pub fn pods(&self) -> impl Iterator<Item = (&str, u32)> {
        let shown = self.groups.iter().filter(|(_, group)| group.shows_pods);
        shown.filter_map(|(key, group)| Some((&**key, group.pods?)))
    }
}
