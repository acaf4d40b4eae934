//! The whole output, compared as a whole.

use std::sync::Arc;

use super::*;
use crate::core::{BaselineReason, Effect};
use crate::publish::tests::termination;
use crate::series::SeriesOptions;
use crate::termination::{Evidence, PodFailure};

const NOW: Timestamp = Timestamp(1_767_323_106_500);

fn view(format: Format) -> View {
    View { format, zero_for: None, created: false, now: NOW }
}

fn text(series: &Series, own: &OwnMetrics, view: View) -> String {
    let mut out = Vec::new();
    render(&mut out, series, own, "# HELP process_x X.\n# TYPE process_x gauge\nprocess_x 1\n", view);
    String::from_utf8(out).unwrap()
}

/// Some of everything, and a label value that tries to break out.
fn some() -> (Series, OwnMetrics) {
    let mut series = Series::new(SeriesOptions {
        copy_labels: vec!["team".into()],
        pod_label: true,
        ..SeriesOptions::default()
    });
    let mut web = termination("web");
    web.subject.extra = Arc::new(["a\"b\\c\nd".into(), "web-0".into()]);
    let restarted = Effect::Restarted { subject: web.subject.clone(), outcome: web.outcome, count: 1 };
    let workload = web.subject.workload.clone();
    for effect in [
        Effect::Terminated(Box::new(termination("db"))),
        Effect::Terminated(Box::new(web.clone())),
        Effect::Terminated(Box::new(web.clone())),
        restarted,
        Effect::WorkloadPods { workload: workload.clone(), pods: 3 },
        Effect::PodFailed { workload, extra: web.subject.extra, failure: PodFailure::Evicted },
    ] {
        series.apply(&effect, NOW);
    }
    let own = OwnMetrics::new(Sources {
        watches: Arc::new(|| {
            let pods = WatchSnapshot {
                resource: "pods",
                synced: true,
                events: vec![("added", 7), ("bookmark", 2)],
                failures: vec![("expired", 1)],
                lists_succeeded: 2,
                lists_failed: 1,
                undecodable: 4,
                last_event: Some(NOW),
            };
            vec![pods, WatchSnapshot { resource: "events", ..WatchSnapshot::default() }]
        }),
        state: None,
        node_events: true,
        owners: Arc::new(|| OwnerSnapshot { found: 5, forbidden: 1, ..OwnerSnapshot::default() }),
    });
    own.set_pods(12);
    own.set_pending(1);
    own.baseline(BaselineReason::FirstList);
    own.evidence(Evidence::Status, 1);
    own.detection_delay(1500);
    own.detection_delay(-300);
    own.detection_delay(3_600_000);
    own.unobserved_pod();
    own.owner_cached();
    (series, own)
}

/// The file's text with the version of this build. Set `UPDATE` to write the files anew, then read the difference.
fn check(file: &str, actual: &str) {
    let path = format!("{}/src/exposition/testdata/{file}", env!("CARGO_MANIFEST_DIR"));
    let build = format!("version=\"{}\",revision=\"{}\"", env!("CARGO_PKG_VERSION"), own::revision());
    let actual = actual.replace(&build, "BUILD");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    for (line, (actual, expected)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(actual, expected, "line {} of {file}", line + 1);
    }
    assert_eq!(actual, expected);
}

#[test]
fn text_as_a_whole() {
    let (series, own) = some();
    check("some.txt", &text(&series, &own, view(Format::Text)));
}

#[test]
fn openmetrics_as_a_whole() {
    let (series, own) = some();
    check("some.openmetrics", &text(&series, &own, view(Format::OpenMetrics)));
}

#[test]
fn every_family_and_closed_set_is_there_before_anything_happened() {
    let (series, own) = (Series::new(SeriesOptions::default()), OwnMetrics::new(Sources::default()));
    check("empty.txt", &text(&series, &own, view(Format::Text)));
}

#[test]
fn two_scrapes_are_the_same_bytes() {
    let (series, own) = some();
    for format in [Format::Text, Format::OpenMetrics] {
        let first = text(&series, &own, view(format));
        assert_eq!(first, text(&series, &own, view(format)));
        assert_eq!(first, text(&some().0, &some().1, view(format)), "whatever the hash seeds");
    }
}

#[test]
fn created_lines_stand_with_their_series_and_only_in_openmetrics() {
    let (series, own) = some();
    let created = |format| text(&series, &own, View { created: true, ..view(format) });
    assert_eq!(created(Format::Text), text(&series, &own, view(Format::Text)));
    let labels = "{node=\"node-1\",cause=\"oom_limit\"}";
    let expected = format!(
        "exitcode_node_terminations_total{labels} 3\nexitcode_node_terminations_created{labels} 1767323106.5\n"
    );
    let openmetrics = created(Format::OpenMetrics);
    assert!(openmetrics.contains(&expected), "{openmetrics}");
    let lines = openmetrics.lines().filter(|line| line.contains("_created{")).count();
    assert_eq!(lines, 5, "two terminations, a restart, a node, a pod failure; no gauge");
}

#[test]
fn young_counters_read_zero_and_gauges_do_not() {
    let (series, own) = some();
    let zero_for = Some(Duration::from_secs(65));
    let young = text(&series, &own, View { zero_for, ..view(Format::Text) });
    let value = |text: &str, name: &str| {
        let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        lines.map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (name, at_once, after) in [
        ("exitcode_container_terminations_total", vec!["0", "0"], vec!["1", "2"]),
        ("exitcode_container_restarts_total", vec!["0"], vec!["1"]),
        ("exitcode_pod_failures_total", vec!["0"], vec!["1"]),
        ("exitcode_node_terminations_total", vec!["0"], vec!["3"]),
        ("exitcode_workload_pods", vec!["3"], vec!["3"]),
        (
            "exitcode_container_last_termination_timestamp_seconds",
            vec!["1767323105", "1767323105"],
            vec!["1767323105", "1767323105"],
        ),
    ] {
        assert_eq!(value(&young, name), at_once, "{name} young");
        let later = View { zero_for, now: NOW.plus_ms(65_000), ..view(Format::Text) };
        assert_eq!(value(&text(&series, &own, later), name), after, "{name} later");
        assert_eq!(value(&text(&series, &own, view(Format::Text)), name), after, "{name} for other clients");
    }
}

#[test]
fn no_value_can_break_a_line() {
    let mut series = Series::new(SeriesOptions::default());
    for hostile in ["\n# EOF\n", "\"} 1\nx{y=\"", "\\", "\u{0}\r\u{85}\u{2028}", &"é".repeat(1 << 19)] {
        let mut termination = termination(hostile);
        termination.node = hostile.into();
        termination.subject.container = hostile.into();
        series.apply(&Effect::Terminated(Box::new(termination)), NOW);
    }
    let text = text(&series, &OwnMetrics::new(Sources::default()), view(Format::OpenMetrics));
    let line_ok = |line: &str| {
        line.starts_with("# HELP ")
            || line.starts_with("# TYPE ")
            || line == "# EOF"
            || line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok())
    };
    for line in text.split('\n').filter(|line| !line.is_empty()) {
        assert!(line_ok(line) && line.len() < 20_000, "{line}");
    }
    assert_eq!(text.matches("\n# EOF").count(), 1);
}
