//! Whoever may make a pod writes its owner references, its labels and its messages. What they write goes through the
//! whole exporter here, and is compared where people and programs read it: metrics in both formats, API, log and pages.

#![cfg(test)]

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use exitcode_exporter::core::Options;
use exitcode_exporter::exposition::{Format, OwnMetrics, Sources};
use exitcode_exporter::log::{self, LogFormat, LogLevel};
use exitcode_exporter::publish::{PublishOptions, Published};
use exitcode_exporter::series::SeriesOptions;
use exitcode_exporter::server::{self, Access, Limits};
use exitcode_exporter::time::Clock;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use support::pods::{PodBuilder, pod};
use support::world::World;
use tower::ServiceExt;

/// Quotes, a backslash, HTML, a line end, NUL, an ANSI escape, a bidi override, a line separator, and other languages.
const EVIL: &str = "\"'\\<b>&\n\r\0\u{1b}[31m\u{202e}\u{2028}é🦀";
/// The same as it may be shown, in a label, in JSON, in HTML and in a URL.
const LABEL: &str = r#"\"'\\<b>&\\n\\r\\u{0}\\u{1b}[31m\\u{202e}\\u{2028}é🦀"#;
const JSON: &str = r#"\"'\\<b>&\\n\\r\\u{0}\\u{1b}[31m\\u{202e}\\u{2028}é🦀"#;
const LOG: &str = r#"\"'\\<b>&\n\r\u{0}\u{1b}[31m\u{202e}\u{2028}é🦀"#;
const HTML: &str = r"&quot;&#39;\&lt;b&gt;&amp;\n\r\u{0}\u{1b}[31m\u{202e}\u{2028}é🦀";
const URL: &str = "%22%27%5C%3Cb%3E%26%0A%0D%00%1B%5B31m%E2%80%AE%E2%80%A8%C3%A9%F0%9F%A6%80";

/// Collects log lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that shows what a pod says.
struct Shown {
    text: String,
    openmetrics: String,
    api: String,
    page: String,
    runbook: String,
    log: String,
    json_log: String,
}

impl Shown {
    fn all(&self) -> [(&'static str, &str); 7] {
        [
            ("text", &self.text),
            ("openmetrics", &self.openmetrics),
            ("api", &self.api),
            ("page", &self.page),
            ("runbook", &self.runbook),
            ("log", &self.log),
            ("json log", &self.json_log),
        ]
    }
}

/// The pod is seen to run, and then to have ended.
async fn show(pod: impl Fn(u64) -> PodBuilder, message: &str) -> Shown {
    let options =
        Options { scopes: 1, copy_labels: vec!["team".into()], pod_label: true, ..Options::default() };
    let mut world = World::with(options);
    world.lists(&[]);
    world.sees(&pod(1).running("a", 0));
    world.sees(&with_message(pod(2).ended("a", 137, "OOMKilled", 0, 5), message));
    world.wait(60_000);
    let options = PublishOptions {
        series: SeriesOptions {
            copy_labels: vec!["team".into()],
            pod_label: true,
            ..SeriesOptions::default()
        },
        show_messages: true,
        ..PublishOptions::default()
    };
    let (published, log) = publish(&world, &options, LogFormat::Text);
    let (_, json_log) = publish(&world, &options, LogFormat::Json);
    let metrics = |format| String::from_utf8(published.render(format, None)).unwrap();
    Shown {
        text: metrics(Format::Text),
        openmetrics: metrics(Format::OpenMetrics),
        api: get(&published, "/api/v1/terminations?limit=1").await,
        page: get(&published, "/").await,
        runbook: get(&published, "/runbooks/137?namespace=shop&workload=web").await,
        log,
        json_log,
    }
}

fn publish(world: &World, options: &PublishOptions, format: LogFormat) -> (Arc<Published>, String) {
    let own = OwnMetrics::new(Sources::default());
    let published = Arc::new(Published::new(options.clone(), own, Clock::start(), Arc::new(|| Ok(()))));
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = log::subscriber(format, LogLevel::Debug, move || writer.clone());
    tracing::subscriber::with_default(subscriber, || {
        for effect in &world.effects {
            published.apply(effect, world.now);
        }
    });
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    (published, log)
}

async fn get(published: &Arc<Published>, target: &str) -> String {
    let access = Access::new(None, false).unwrap();
    let router = server::router(Arc::clone(published), &Limits::default(), access);
    let answer = router.oneshot(Request::get(target).body(Body::empty()).unwrap()).await.unwrap();
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// A pod of which everything is hostile that somebody can write, but for its namespace and its uid.
fn hostile(version: u64, evil: &str) -> PodBuilder {
    let pod = pod("web").version(version).owned_by(&format!("K{evil}"), evil).on(evil).container(evil);
    pod.with("/metadata/name", json!(evil))
        .with("/metadata/labels", json!({"team": evil}))
        .status("image", json!(evil))
}

fn with_message(pod: PodBuilder, message: &str) -> PodBuilder {
    pod.with("/status/containerStatuses/0/state/terminated/message", json!(message))
}

/// The lines that tell of the pod, without the time of day at the start of log lines.
fn lines(text: &str) -> Vec<&str> {
    let timeless = |line| str::split_once(line, " INFO ").map_or(line, |(_, line)| line);
    text.lines().filter(|line| line.contains("31m")).map(timeless).collect()
}

#[tokio::test]
async fn names_and_messages_of_any_content_are_shown_and_do_nothing() {
    let shown = show(|version| hostile(version, EVIL), EVIL).await;
    let workload = format!("namespace=\"shop\",workload_type=\"k{LABEL}\",workload=\"{LABEL}\"");
    let metrics = [
        format!(
            "exitcode_container_last_termination_timestamp_seconds{{{workload},container=\"{LABEL}\",\
             container_type=\"container\"}} 1767225605"
        ),
        format!(
            "exitcode_container_terminations_total{{{workload},container=\"{LABEL}\",container_type=\"container\",\
             exit_code=\"137\",reason=\"OOMKilled\",cause=\"oom_node\",team=\"{LABEL}\",pod=\"{LABEL}\"}} 1"
        ),
        format!("exitcode_node_terminations_total{{node=\"{LABEL}\",cause=\"oom_node\"}} 1"),
        format!("exitcode_workload_pods{{{workload}}} 1"),
    ];
    assert_eq!(lines(&shown.text), metrics);
    assert_eq!(lines(&shown.openmetrics), metrics);
    let link =
        format!("/runbooks/137?namespace=shop&workload_type=k{URL}&workload={URL}&container={URL}#oom_node");
    let row = format!(
        "\"namespace\":\"shop\",\"pod\":\"{JSON}\",\"node\":\"{JSON}\",\"workload_type\":\"k{JSON}\",\
         \"workload\":\"{JSON}\",\"container\":\"{JSON}\",\"container_type\":\"container\",\"exit_code\":137,\
         \"signal\":\"SIGKILL\",\"reason\":\"OOMKilled\",\"cause\":\"oom_node\",\"evidence\":\"status\",\
         \"started_at\":\"2026-01-01T00:00:00Z\",\"finished_at\":\"2026-01-01T00:00:05Z\",\"ran_for\":5.0,\
         \"restart_count\":0,\"image\":\"{JSON}\",\"message\":\"{JSON}\",\"runbook\":\"{link}\"}}"
    );
    assert_eq!(shown.api, format!("{{\"terminations\":[{{{row}]}}\n"));
    let (_, logged) = shown.json_log.split_once("\"target\":\"termination\",").unwrap();
    assert_eq!(logged, format!("{row}\n"));
    assert_eq!(
        lines(&shown.log),
        [format!(
            "termination: namespace=shop pod=\"{LOG}\" node=\"{LOG}\" workload_type=\"k{LOG}\" workload=\"{LOG}\" \
             container=\"{LOG}\" container_type=container exit_code=137 signal=SIGKILL reason=OOMKilled \
             cause=oom_node evidence=status started_at=2026-01-01T00:00:00Z finished_at=2026-01-01T00:00:05Z \
             ran_for=5.0 restart_count=0 image=\"{LOG}\" message=\"{LOG}\" runbook=\"{link}\""
        )]
    );
    let link = link.replace('&', "&amp;");
    let link = link.trim_start_matches('/');
    assert_eq!(
        lines(&shown.page),
        [format!(
            "<tr><td>2026-01-01T00:00:05Z</td><td>shop</td><td>k{HTML}/{HTML}</td><td>{HTML}</td>\
             <td>137 SIGKILL</td><td>OOMKilled</td><td><a href=\"{link}\">oom_node</a></td><td>5 s</td>\
             <td>{HTML}</td></tr>"
        )]
    );
    for (name, text) in shown.all() {
        let steers = |c: &char| exitcode_exporter::text::is_dangerous(*c) && !matches!(c, '\n' | '\t');
        assert_eq!(text.chars().find(steers), None, "{name}");
        assert!(!text.contains("<b>&") || !text.starts_with("<!DOCTYPE"), "{name}");
    }
}

#[tokio::test]
async fn a_runbook_shows_the_pod_and_does_not_put_it_into_a_command() {
    let of_web = |version| hostile(version, EVIL).owned_by("StatefulSet", "web");
    let shown = show(of_web, EVIL).await;
    assert_eq!(
        lines(&shown.runbook),
        [format!(
            "<tr><td>2026-01-01T00:00:05Z</td><td>137</td><td><a href=\"#oom_node\">oom_node</a></td><td>5 s</td>\
             <td>{HTML}</td></tr>"
        )]
    );
    assert!(shown.runbook.contains("<mark>POD</mark>"), "the placeholder stays open");
}

#[tokio::test]
async fn a_mebibyte_of_anything_is_cut() {
    for evil in ["x", "é", "\u{0}", "\"", "\u{202e}", "<", "\n"] {
        let long = evil.repeat((1 << 20) / evil.len());
        let shown = show(|version| hostile(version, &long), &long).await;
        for (name, text) in shown.all() {
            let longest = text.lines().map(str::len).max().unwrap_or(0);
            assert!(longest < 40_000, "{name} {evil:?}: a line of {longest} bytes");
            assert!(text.len() < 200_000, "{name} {evil:?}: {} bytes", text.len());
        }
        for line in shown.text.lines().filter(|line| line.contains("workload=\"")) {
            assert!(line.len() < 7 * 520 + 400, "{} bytes of labels", line.len());
        }
        let json: Value = serde_json::from_str(&shown.api).unwrap();
        let row = &json["terminations"][0];
        for (key, most) in [("workload", 256), ("pod", 256), ("node", 256), ("image", 512), ("message", 1024)]
        {
            // Each character that is shown as an escape is at most eight.
            let length = row[key].as_str().unwrap().len();
            assert!(length <= 8 * most && length >= most / 2, "{key} {evil:?}: {length}");
        }
    }
}

#[tokio::test]
async fn names_that_differ_only_where_they_are_cut_are_one_series() {
    let shown = show(
        |version| {
            let long = format!("{}{version}", "x".repeat(300));
            hostile(version, &long)
        },
        "",
    )
    .await;
    let found: Vec<_> =
        shown.text.lines().filter(|line| line.starts_with("exitcode_workload_pods{")).collect();
    assert_eq!(found.len(), 1, "{found:?}");
}
