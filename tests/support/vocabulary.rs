//! The code's own words: every metric with its labels, and what each label can read. Rendered, not listed, wherever
//! the code can be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use exitcode_exporter::core::{BaselineReason, Effect};
use exitcode_exporter::exposition::{Format, OwnMetrics, Sources, WatchSnapshot};
use exitcode_exporter::publish::{PublishOptions, Published};
use exitcode_exporter::runbook;
use exitcode_exporter::termination::{
    Cause, ContainerType, Evidence, ExitCode, Outcome, PodFailure, Reason, Subject, Termination, Workload,
};
use exitcode_exporter::time::{Clock, Timestamp};

/// Every metric and its labels.
pub struct Vocabulary {
    /// By name, with `_bucket`, `_sum` and `_count` of histograms; `le` is not among the labels.
    pub metrics: BTreeMap<String, BTreeSet<String>>,
    /// The families, as their TYPE lines name them.
    pub families: BTreeSet<String>,
    /// What the exporter's own metrics showed, by family and label: closed sets are complete from the start.
    shown: BTreeMap<(String, String), BTreeSet<String>>,
}

/// A termination with the exit code, on Windows or not.
pub fn termination(code: Option<i32>, windows: bool) -> Termination {
    Termination {
        subject: Subject {
            workload: Workload {
                namespace: "shop".into(),
                workload_type: "deployment".into(),
                name: "cart".into(),
            },
            container: "app".into(),
            container_type: ContainerType::App,
            extra: Arc::new([]),
        },
        outcome: Outcome { exit_code: ExitCode(code), reason: Reason::Error, cause: Cause::Killed },
        count: 1,
        evidence: Evidence::None,
        pod: "cart-0".into(),
        node: "node-1".into(),
        started_at: None,
        finished_at: None,
        counted_at: Timestamp(1_767_323_106_500),
        restart_count: 1,
        image: "app:1".into(),
        message: None,
        windows,
    }
}

/// The pages that explain exit codes, each with the codes from -1 to 300 that lead to it, outside of Windows.
pub fn pages() -> BTreeMap<&'static str, Vec<i32>> {
    let mut pages = BTreeMap::<_, Vec<i32>>::new();
    for code in -1..=300 {
        pages.entry(runbook::page(&termination(Some(code), false))).or_default().push(code);
    }
    pages.entry(runbook::page(&termination(Some(-1_073_741_819), true))).or_default();
    pages
}

/// One of everything, as a scrape shows it.
fn exposition() -> String {
    // Those of the saved state are there where there is one.
    let own = OwnMetrics::new(Sources { state: Some(Arc::default()), ..Sources::default() });
    let readiness = Arc::new(|| Ok(()));
    let published = Published::new(PublishOptions::default(), own, Clock::start(), readiness);
    let one = termination(Some(137), false);
    let workload = one.subject.workload.clone();
    for effect in [
        Effect::Restarted { subject: one.subject.clone(), outcome: one.outcome, count: 1 },
        Effect::WorkloadPods { workload: workload.clone(), pods: 1 },
        Effect::PodFailed { workload, extra: Arc::new([]), failure: PodFailure::Evicted },
        Effect::Terminated(Box::new(one)),
        Effect::Baseline(BaselineReason::FirstList),
    ] {
        published.apply(&effect, Timestamp(1_767_323_106_500));
    }
    String::from_utf8(published.render(Format::Text, None)).unwrap()
}

impl Vocabulary {
    /// Asks the code.
    pub fn new() -> Self {
        let mut all = Self { metrics: BTreeMap::new(), families: BTreeSet::new(), shown: BTreeMap::new() };
        for line in exposition().lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                all.families.insert(rest.split(' ').next().unwrap().to_owned());
            } else if !line.starts_with('#') {
                all.sample(line);
            }
        }
        all
    }

    fn sample(&mut self, line: &str) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let known = self.metrics.entry(name.to_owned()).or_default();
        // No value here holds a comma or a quote.
        for (label, value) in labels.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='))
        {
            if label != "le" {
                known.insert(label.to_owned());
                let value = value.trim_matches('"').to_owned();
                self.shown.entry((name.to_owned(), label.to_owned())).or_default().insert(value);
            }
        }
    }

    /// Everything that a label of a metric can read; `None` where the cluster decides.
    pub fn values(&self, metric: &str, label: &str) -> Option<BTreeSet<String>> {
        let words: Vec<&str> = match label {
            "cause" => Cause::ALL.iter().map(|it| it.as_str()).collect(),
            "container_type" => ContainerType::ALL.iter().map(|it| it.as_str()).collect(),
            "reason" if metric.contains("exitcode_pod_failures") => {
                PodFailure::ALL.iter().map(|it| it.as_str()).collect()
            }
            "reason" if metric.contains("exitcode_exporter_") => return self.shown(metric, label),
            "reason" => Reason::ALL.iter().map(|it| it.as_str()).collect(),
            "event" if metric.contains("exitcode_exporter_") => WatchSnapshot::EVENTS.to_vec(),
            "evidence" | "resource" | "result" => return self.shown(metric, label),
            _ => return None,
        };
        let full = "overflow"; // what all labels read when there is no room
        Some(words.into_iter().chain([full]).map(str::to_owned).collect())
    }

    fn shown(&self, metric: &str, label: &str) -> Option<BTreeSet<String>> {
        self.shown.get(&(metric.to_owned(), label.to_owned())).cloned()
    }

    /// Labels of a recorded series: those of the metric that it is made of, which its name tells.
    pub fn labels_of_record(&self, record: &str) -> Option<&BTreeSet<String>> {
        let word =
            record.split(':').find(|part| part.starts_with("exitcode_"))?.trim_start_matches("exitcode_");
        let metric = match word {
            "terminations" | "unexpected_terminations" if record.starts_with("node:") => {
                "exitcode_node_terminations_total"
            }
            "terminations" | "unexpected_terminations" => "exitcode_container_terminations_total",
            "restarts" => "exitcode_container_restarts_total",
            "pod_failures" => "exitcode_pod_failures_total",
            _ => return None,
        };
        self.metrics.get(metric)
    }
}
