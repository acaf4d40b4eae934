//! The dashboards keep the rules of Grafana's dashboard-linter, and ours: what can be checked of the files alone.
//!
//! That every query returns data is tested with real servers in `tests/e2e/panels.py`.

#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

#[path = "support/promql.rs"]
mod promql;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use promql::{Selector, selectors};

/// What is wrong: dashboard, panel or variable, and why.
type Faults = Vec<String>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn dashboards() -> Vec<(String, Value)> {
    let mut paths: Vec<_> = fs::read_dir(root().join("dashboards"))
        .expect("there is a folder of dashboards")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "there are dashboards");
    paths
        .iter()
        .map(|path| (name(path), serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()))
        .collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// The panels that ask something.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "/panels").filter(|panel| text(panel, "/type") != "row")
}

fn queries(panel: &Value) -> impl Iterator<Item = &str> {
    list(panel, "/targets").map(|target| text(target, "/expr"))
}

/// Checks each panel of each dashboard.
fn check(fault: impl Fn(&Value) -> Option<String>) {
    let mut faults = Faults::new();
    for (file, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            faults.extend(fault(panel).map(|why| format!("{file}: {}: {why}", text(panel, "/title"))));
        }
    }
    assert_eq!(faults, Faults::new());
}

/// A word in a query that is a metric: ours, a recorded one, or one of those whom we look at beside.
fn is_metric(word: &str) -> bool {
    const OTHERS: [&str; 6] = ["container_", "kube_", "node_", "prober_", "process_", "exitcode_"];
    const LABELS: [&str; 2] = ["container_type", "node_name"];
    (word.contains(':') || word == "ALERTS" || OTHERS.iter().any(|prefix| word.starts_with(prefix)))
        && !LABELS.contains(&word)
}

fn found(query: &str) -> Vec<Selector<'_>> {
    selectors(query, is_metric)
}

#[test]
fn each_has_one_data_source_variable_and_every_query_uses_it() {
    for (file, dashboard) in dashboards() {
        let sources: Vec<_> =
            list(&dashboard, "/templating/list").filter(|it| text(it, "/type") == "datasource").collect();
        assert_eq!(sources.len(), 1, "{file}");
        assert_eq!(text(sources[0], "/name"), "datasource", "{file}");
        assert_eq!(text(sources[0], "/label"), "Data source", "{file}");
        assert_eq!(text(sources[0], "/query"), "prometheus", "{file}");
        assert!(dashboard.get("__inputs").is_none(), "{file}: asks for inputs when provisioned");
        for annotation in list(&dashboard, "/annotations/list").filter(|it| it.get("expr").is_some()) {
            assert_eq!(text(annotation, "/datasource/uid"), "${datasource}", "{file}: {annotation}");
        }
        for variable in list(&dashboard, "/templating/list").filter(|it| text(it, "/type") == "query") {
            assert_eq!(text(variable, "/datasource/uid"), "${datasource}", "{file}: {variable}");
            assert_eq!(variable["refresh"], 2, "{file}: {variable} must follow the time range");
        }
    }
    check(|panel| {
        let mut uses = list(panel, "/targets").chain([panel]).map(|it| text(it, "/datasource/uid"));
        uses.any(|uid| uid != "${datasource}").then(|| "a data source of its own".to_owned())
    });
}

#[test]
fn none_can_be_edited_in_place_and_all_have_the_classic_schema_and_their_own_id() {
    let mut ids = BTreeSet::new();
    for (file, dashboard) in dashboards() {
        assert_eq!(dashboard["editable"], false, "{file}");
        assert_eq!(dashboard["schemaVersion"], 42, "{file}");
        assert!(dashboard.get("id").is_none(), "{file}: an id belongs to one Grafana");
        assert!(ids.insert(text(&dashboard, "/uid").to_owned()), "{file}: uid used twice");
        assert!(text(&dashboard, "/uid").len() <= 40, "{file}");
        let panels: Vec<_> = list(&dashboard, "/panels").map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(
            panels.iter().collect::<BTreeSet<_>>().len(),
            panels.len(),
            "{file}: a panel's id used twice"
        );
    }
}

#[test]
fn every_panel_has_a_title_and_says_how_to_read_it() {
    check(|panel| {
        (text(panel, "/title").is_empty() || text(panel, "/description").len() < 40)
            .then(|| "no title, or no description to speak of".to_owned())
    });
}

#[test]
fn every_panel_has_a_unit() {
    const UNITS: [&str; 7] = ["none", "short", "bytes", "percentunit", "s", "cps", "dateTimeFromNow"];
    check(|panel| {
        let unit = text(panel, "/fieldConfig/defaults/unit");
        (!UNITS.contains(&unit)).then(|| format!("unit {unit:?}"))
    });
}

#[test]
fn every_query_is_closed_and_asks_for_a_metric() {
    check(|panel| {
        let bad = queries(panel).find(|query| {
            let pairs = ["()", "[]", "{}"].iter().all(|pair| {
                let (open, close) = pair.split_at(1);
                query.matches(open).count() == query.matches(close).count()
            });
            // Brackets within regular expressions come in pairs too.
            !pairs || found(query).is_empty() || query.matches('"').count() % 2 != 0
        });
        bad.map(str::to_owned).or_else(|| queries(panel).next().is_none().then(|| "no query".to_owned()))
    });
}

#[test]
fn every_rate_is_over_the_rate_interval() {
    check(|panel| {
        queries(panel)
            .flat_map(found)
            .find(|it| matches!(it.function, Some("rate" | "irate")) && it.range != Some("$__rate_interval"))
            .map(|it| format!("{it:?}"))
    });
}

#[test]
fn every_counter_is_read_through_a_rate_or_an_increase() {
    check(|panel| {
        queries(panel)
            .flat_map(found)
            .find(|it| {
                it.metric.ends_with("_total") && !matches!(it.function, Some("rate" | "irate" | "increase"))
            })
            .map(|it| format!("{it:?}"))
    });
}

/// Counters of the cluster are the same in each of several exporters: the highest counts, and only then comes a sum.
#[test]
fn two_exporters_count_once() {
    const ONCE: &str = "max without (instance, pod, job, service, endpoint) (increase(";
    check(|panel| {
        let rises = queries(panel).flat_map(|query| {
            query.match_indices("increase(exitcode_").map(|(at, _)| query.split_at(at + 9))
        });
        // Each exporter's own metrics are shown by instance.
        rises
            .filter(|(_, metric)| !metric.starts_with("exitcode_exporter_"))
            .find(|(before, _)| !before.ends_with(ONCE))
            .map(|(before, _)| before.to_owned())
    });
}

/// "No data" tells nobody what to do. Where others' metrics are asked, the text names the one that is missing.
#[test]
fn a_panel_without_data_says_what_is_missing() {
    check(|panel| {
        let says = text(panel, "/fieldConfig/defaults/noValue");
        let foreign: Vec<_> = queries(panel)
            .flat_map(found)
            .map(|it| it.metric)
            .filter(|metric| {
                ["container_", "kube_", "node_", "prober_"].iter().any(|p| metric.starts_with(p))
            })
            .collect();
        let named = foreign.is_empty() || foreign.iter().any(|metric| says.contains(metric));
        (says.is_empty() || !named).then(|| format!("says {says:?} without {foreign:?}"))
    });
}

/// Ten thousand workloads: what draws all of them over time reads few recorded series, never one for each container.
#[test]
fn drawings_over_time_of_all_workloads_read_recorded_series_of_namespaces() {
    for (file, dashboard) in dashboards().iter().filter(|(_, it)| text(it, "/uid") != "exitcode-workload") {
        for panel in panels(dashboard).filter(|panel| text(panel, "/type") == "timeseries") {
            for selector in queries(panel).flat_map(found) {
                let heavy = selector.metric.starts_with("exitcode_container_")
                    || selector.metric.starts_with("exitcode_pod_")
                    || selector.metric.starts_with("namespace_workload_container:");
                assert!(!heavy, "{file}: {}: {selector:?}", text(panel, "/title"));
            }
        }
    }
}

#[test]
fn variables_of_workloads_are_asked_within_their_namespace() {
    for (file, dashboard) in dashboards() {
        for variable in list(&dashboard, "/templating/list") {
            if ["workload", "workload_type"].contains(&text(variable, "/name")) {
                let query = text(variable, "/query/query");
                assert!(query.contains(r#"namespace="$namespace""#), "{file}: {query}");
            }
        }
    }
}

/// The container, its workload and its runbook are one click away from each row.
#[test]
fn every_row_of_a_table_leads_on() {
    check(|panel| {
        if text(panel, "/type") != "table" {
            return None;
        }
        let overrides = panel.pointer("/fieldConfig/overrides").unwrap().to_string();
        let columns = queries(panel).collect::<String>();
        let workload =
            !columns.contains("namespace, workload") || overrides.contains("/d/exitcode-workload?");
        (!workload || !overrides.contains("${runbooks:raw}")).then(|| "a row without links".to_owned())
    });
}

#[test]
fn links_between_dashboards_and_to_variables_lead_to_what_is_there() {
    let all = dashboards();
    let ids: BTreeSet<_> = all.iter().map(|(_, dashboard)| text(dashboard, "/uid")).collect();
    // kubernetes-mixin's dashboard of one workload: its uid is the MD5 of k8s-resources-workload.json.
    let mixin = "a164a7f0339f99e89cea5cb47e9be617";
    let variables = |uid: &str| -> BTreeSet<&str> {
        let dashboard = all.iter().find(|(_, dashboard)| text(dashboard, "/uid") == uid);
        dashboard
            .into_iter()
            .flat_map(|(_, it)| list(it, "/templating/list"))
            .map(|it| text(it, "/name"))
            .collect()
    };
    for (file, dashboard) in &all {
        let here = variables(text(dashboard, "/uid"));
        let mut links = Vec::new();
        collect(dashboard, &mut links);
        for url in links {
            for used in url.split("${").skip(1).filter_map(|rest| rest.split(['}', ':', '.']).next()) {
                assert!(used.starts_with("__") || here.contains(used), "{file}: {url}: no variable {used}");
            }
            let Some(to) = url.strip_prefix("/d/").and_then(|rest| rest.split('?').next()) else { continue };
            assert!(ids.contains(to) || to == mixin, "{file}: {url}");
            for given in url.split("var-").skip(1).filter_map(|rest| rest.split('=').next()) {
                assert!(to == mixin || variables(to).contains(given), "{file}: {url}: {to} has no {given}");
            }
        }
    }
}

/// Every URL in it.
fn collect<'a>(value: &'a Value, links: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            links.extend(fields.get("url").and_then(Value::as_str).filter(|url| !url.is_empty()));
            fields.values().for_each(|field| collect(field, links));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, links)),
        _ => {}
    }
}

#[test]
fn kustomize_and_the_folder_hold_the_same_dashboards() {
    let kustomization = fs::read_to_string(root().join("dashboards/kustomization.yaml")).unwrap();
    let named: BTreeSet<_> = kustomization
        .lines()
        .filter_map(|line| line.trim().strip_prefix("files: [")?.strip_suffix(']'))
        .map(str::to_owned)
        .collect();
    assert_eq!(named, dashboards().into_iter().map(|(file, _)| file).collect());
    assert!(kustomization.contains(r#"grafana_dashboard: "1""#));
}
