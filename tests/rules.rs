//! The rules as checked in: made from their source, complete, and each tested where it fires.

#![cfg(test)]
#![cfg(test)]
#![allow(clippy::print_stdout)] // what could not be checked is said

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(project().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_rule_files_are_what_their_source_says() {
    let generate = project().join("deploy/rules/generate");
    match Command::new("python3").arg(generate).arg("--check").output() {
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("No module named 'tomllib'") => {
            println!("not checked: Python is older than 3.11");
        }
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => println!("not checked: no Python ({error})"),
    }
}

#[test]
fn both_rule_files_hold_the_same_rules() {
    let plain = read("deploy/rules/exitcode.rules.yml");
    let manifest = read("deploy/rules/prometheusrule.yaml");
    let rules = |text: &str| text.split_once("groups:").expect("groups").1.replace(' ', "");
    assert_eq!(rules(&plain), rules(&manifest));
}

#[test]
fn every_alert_says_what_how_often_and_where_to_read_on() {
    let rules = read("deploy/rules/exitcode.rules.yml");
    let alerts = rules.matches("- alert: ").count();
    for key in ["keep_firing_for: 10m", "severity: ", "summary: ", "description: ", "runbook_url: "] {
        let with = rules.lines().filter(|line| line.trim_start().starts_with(key)).count();
        assert_eq!(with, alerts, "alerts with {key}");
    }
}

#[test]
fn every_alert_is_tested_where_it_fires() {
    let rules = read("deploy/rules/exitcode.rules.yml");
    let tests = ["workloads", "storms", "exporter"]
        .map(|name| read(&format!("tests/rules/{name}.test.yml")))
        .join("\n");
    let fires = |alert: &str| {
        let names = [
            format!("alertname: {alert}\n        exp_alerts:\n"),
            format!("alertname: {alert}, exp_alerts: []"),
        ];
        names.iter().all(|name| tests.contains(name))
    };
    let alerts: BTreeSet<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let missing: Vec<_> = alerts.into_iter().filter(|alert| !fires(alert)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "alerts without a case that fires and one that is silent");
}
