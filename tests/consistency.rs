//! What is written speaks of what there is: rules, dashboards, runbooks, README and docs against the code, and the other
//! way round.

#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

#[path = "support/promql.rs"]
mod promql;
#[path = "support/vocabulary.rs"]
mod vocabulary;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use exitcode_exporter::termination::Cause;
use serde_json::Value;

use promql::{Selector, selectors};
use vocabulary::{Vocabulary, pages};

/// Labels that Prometheus, the rules or options add.
const ADDED: [&str; 15] = [
    "alert",
    "alertname",
    "alertstate",
    "cluster",
    "endpoint",
    "instance",
    "job",
    "le",
    "pod",
    "service",
    "severity",
    "shipped",
    "team",
    "app",
    "__name__",
];

/// Words that look like metrics of ours and are names of other things.
const OTHER_THINGS: [&str; 1] = ["exitcode_exporter"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file that people read or import: its path within the project and its text as they see it, with the quotes of its
/// queries and without those around them.
struct Document {
    path: String,
    text: String,
}

/// All of them, wherever they are.
fn documents() -> Vec<Document> {
    let mut paths: Vec<_> =
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|name| root().join(name)).into();
    for folder in ["dashboards", "deploy", "runbooks", "docs"] {
        walk(&root().join(folder), &mut paths);
    }
    let wanted = ["md", "json", "yml", "yaml", "toml"];
    paths.retain(|path| path.extension().is_some_and(|it| wanted.iter().any(|wanted| it == *wanted)));
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = read(path);
            let text = if path.extension().is_some_and(|it| it == "json") {
                let mut lines = Vec::new();
                strings(&serde_json::from_str(&text).unwrap(), &mut lines);
                lines.join("\n")
            } else {
                text.lines().map(unquoted).collect::<Vec<_>>().join("\n")
            };
            Document { path: path.strip_prefix(root()).unwrap().display().to_string(), text }
        })
        .collect()
}

/// All strings in it, each on its line.
fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.replace('\n', " ")),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| strings(field, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A line of YAML or text: quotes that were escaped stand alone, and those that made it necessary are gone.
fn unquoted(line: &str) -> String {
    let inner = line.split_once(": \"").filter(|_| line.contains("\\\""));
    inner.map_or_else(
        || line.to_owned(),
        |(key, rest)| format!("{key}: {}", rest.trim_end_matches('"').replace("\\\"", "\"")),
    )
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() { walk(&entry.path(), found) } else { found.push(entry.path()) }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
}

/// The documents in a folder; there must be some, since others refer to them.
fn in_folder(folder: &str) -> Vec<Document> {
    let found: Vec<_> = documents().into_iter().filter(|it| it.path.starts_with(folder)).collect();
    assert!(!found.is_empty(), "{folder} is missing, and README, rules and dashboards lead to it");
    found
}

/// Words of letters, digits, `_` and `:`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':')))
        .map(|word| word.trim_matches(':'))
}

/// The names that the rules record.
fn recorded() -> BTreeSet<String> {
    let rules = in_folder("deploy/rules");
    let lines = rules.iter().flat_map(|rules| rules.text.lines());
    lines.filter_map(|line| line.trim().strip_prefix("- record: ")).map(str::to_owned).collect()
}

#[test]
fn every_metric_that_is_named_exists() {
    let (code, recorded) = (Vocabulary::new(), recorded());
    let mut unknown = BTreeSet::new();
    for document in documents() {
        for word in
            words(&document.text).filter(|word| word.contains("exitcode_") || word.starts_with("exitcode:"))
        {
            // `exitcode_exporter_*` and `..._total` name several: what they begin with must exist.
            let several = word.ends_with('_') && code.families.iter().any(|family| family.starts_with(word));
            let known =
                code.metrics.contains_key(word) || code.families.contains(word) || recorded.contains(word);
            if !(known || several || OTHER_THINGS.contains(&word)) {
                unknown.insert(format!("{}: {word}", document.path));
            }
        }
    }
    assert_eq!(unknown, BTreeSet::new());
}

/// What is wrong with a matcher: a label that the metric has not, or a value that the label can't read.
fn fault(code: &Vocabulary, selector: &Selector<'_>, matcher: (&str, &str, &str)) -> Option<String> {
    let (label, operator, value) = matcher;
    let labels = code.metrics.get(selector.metric).or_else(|| code.labels_of_record(selector.metric));
    if labels.is_some_and(|labels| !labels.contains(label) && !ADDED.contains(&label)) {
        return Some(format!("{} has no label {label}", selector.metric));
    }
    let values = code.values(selector.metric, label)?;
    let choices: Vec<_> = if operator.ends_with('~') { value.split('|').collect() } else { vec![value] };
    let possible = |choice: &&str| {
        let begins = choice.trim_end_matches(".+").trim_end_matches(".*");
        let any = begins.len() < choice.len() && values.iter().any(|value| value.starts_with(begins));
        choice.is_empty() || choice.contains(['$', '%', '…']) || any || values.contains(*choice)
    };
    choices.iter().find(|choice| !possible(choice)).map(|choice| format!("{label} never reads {choice:?}"))
}

#[test]
fn every_label_and_value_that_is_asked_for_exists() {
    let code = Vocabulary::new();
    let mut faults = BTreeSet::new();
    let mut checked = 0;
    for document in documents() {
        for line in document
            .text
            .lines()
            .filter(|line| !line.starts_with("exitcode_container_terminations_total{namespace"))
        {
            let ours = |word: &str| word.starts_with("exitcode") || word.contains(":exitcode_");
            for selector in selectors(line, ours) {
                for matcher in &selector.matchers {
                    checked += 1;
                    faults.extend(
                        fault(&code, &selector, *matcher).map(|why| format!("{}: {why}", document.path)),
                    );
                }
            }
        }
    }
    assert_eq!(faults, BTreeSet::new());
    assert!(checked > 100, "only {checked} matchers were found: is the search broken?");
}

/// `cause="…"` stands in prose and in links to the API, too, away from any metric.
#[test]
fn every_cause_that_is_named_exists() {
    let mut faults = BTreeSet::new();
    let mut checked = 0;
    for document in documents() {
        for label in ["cause=", "cause=~", "cause!=", "cause!~"] {
            for rest in document.text.split(label).skip(1) {
                let rest = rest.strip_prefix('"').unwrap_or(rest);
                let end = rest
                    .find(|c: char| !(c.is_ascii_lowercase() || matches!(c, '_' | '|')))
                    .unwrap_or(rest.len());
                // A pattern is held against the words where it stands with its metric.
                let pattern = rest[end..].starts_with(['.', '$', '~', '(']);
                for word in rest[..end].split('|').filter(|word| !word.is_empty() && !pattern) {
                    checked += 1;
                    if Cause::from_word(word).is_none() && word != "overflow" {
                        faults.insert(format!("{}: {word}", document.path));
                    }
                }
            }
        }
    }
    assert_eq!(faults, BTreeSet::new());
    assert!(checked > 100, "only {checked} were found: is the search broken?");
}

#[test]
fn every_metric_and_every_cause_is_in_the_readme() {
    let readme = read(&root().join("README.md"));
    let rows: BTreeSet<_> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let missing: Vec<_> = Vocabulary::new()
        .families
        .into_iter()
        .filter(|family| {
            !(rows.contains(family.as_str()) || family.starts_with("process_") && rows.contains("process_*"))
        })
        .chain(
            Cause::ALL
                .iter()
                .map(|cause| cause.as_str().to_owned())
                .filter(|cause| !rows.contains(cause.as_str())),
        )
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

/// The page and the anchor of a link, from what follows the base: `137?namespace=…#oom_limit`.
fn target(link: &str) -> (&str, Option<&str>) {
    let end = link.find(['"', '\'', '\\', ' ', '\n', ')', '`']).unwrap_or(link.len());
    // A template's own blanks and quotes end nothing: what counts is before them, or the anchor at the very end.
    let (path, anchor) =
        link[..end].split_once('#').map_or((&link[..end], None), |(path, anchor)| (path, Some(anchor)));
    (path.split(['?', '{', '<']).next().unwrap_or(path), anchor)
}

/// The anchors of a page, with those of its translation, which must be the same.
fn check_link(faults: &mut BTreeSet<String>, from: &str, page: &str, anchor: Option<&str>) {
    for folder in ["runbooks", "runbooks/ko"] {
        let path = root().join(folder).join(format!("{page}.md"));
        let Ok(text) = fs::read_to_string(&path) else {
            faults.insert(format!("{from}: there is no {folder}/{page}.md"));
            continue;
        };
        let there = anchor.is_none_or(|anchor| text.contains(&format!("id=\"{anchor}\"")));
        if !there {
            faults.insert(format!("{from}: {folder}/{page}.md has no anchor {}", anchor.unwrap_or_default()));
        }
    }
}

#[test]
fn every_runbook_link_of_a_rule_leads_to_a_page_and_an_anchor() {
    let mut faults = BTreeSet::new();
    let mut checked = 0;
    for rules in in_folder("deploy/rules") {
        for line in rules.text.lines().filter(|line| line.contains("runbook_url:")) {
            let (_, link) = line.split_once("/runbooks/").expect("a link to a runbook");
            let anchor = link.trim_end_matches(['\'', '"']).rsplit_once('#').map(|(_, anchor)| anchor);
            check_link(&mut faults, &rules.path, target(link).0, anchor);
            checked += 1;
        }
    }
    assert_eq!(faults, BTreeSet::new());
    assert!(checked > 20, "only {checked} links were found: is the search broken?");
}

/// Ends with 137 whose cause has a section of its own; the others have no sender, or another exit code.
fn causes_of_137() -> impl Iterator<Item = Cause> {
    Cause::ALL.iter().copied().filter(|cause| {
        use Cause::{Application, Completed, FatalSignal, StartFailed, Unknown};
        !matches!(cause, Application | Completed | FatalSignal | StartFailed | Unknown)
    })
}

#[test]
fn every_runbook_link_of_a_dashboard_leads_to_a_page_and_an_anchor() {
    let mut faults = BTreeSet::new();
    for dashboard in in_folder("dashboards").iter().filter(|it| it.path.ends_with(".json")) {
        for link in dashboard.text.lines().filter_map(|line| line.strip_prefix("${runbooks:raw}")) {
            if link.starts_with("${__data.fields.page}") {
                assert!(link.ends_with("#${__data.fields.cause}"), "{}: {link}", dashboard.path);
                pages().keys().for_each(|page| check_link(&mut faults, &dashboard.path, page, None));
                causes_of_137()
                    .for_each(|cause| check_link(&mut faults, &dashboard.path, "137", Some(cause.as_str())));
            } else {
                let (page, anchor) = target(link);
                check_link(&mut faults, &dashboard.path, page, anchor);
            }
        }
    }
    assert_eq!(faults, BTreeSet::new());
}

/// The dashboards choose the page in PromQL, the log line and the pages in code: the same one.
#[test]
fn dashboards_choose_the_same_page_for_an_exit_code_as_the_log() {
    let pages = pages();
    let codes = |page: &str| pages[page].iter().map(i32::to_string).collect::<Vec<_>>().join("|");
    let own: Vec<_> = pages
        .iter()
        .filter(|(page, codes)| matches!(&codes[..], [code] if code.to_string() == **page))
        .map(|(page, _)| page.parse::<i32>().unwrap())
        .collect::<BTreeSet<_>>()
        .iter()
        .map(i32::to_string)
        .collect();
    let others: BTreeSet<_> = pages.keys().copied().filter(|page| page.parse::<i32>().is_err()).collect();
    assert_eq!(
        others,
        BTreeSet::from(["other", "signals", "windows"]),
        "a page that the dashboards don't know"
    );
    for dashboard in in_folder("dashboards") {
        for query in dashboard.text.lines().filter(|line| line.contains(r#""page", "other""#)) {
            for wanted in [
                format!(r#""page", "$1", "exit_code", "({})""#, own.join("|")),
                format!(r#""page", "signals", "exit_code", "{}""#, codes("signals")),
            ] {
                assert!(query.contains(&wanted), "{}: {wanted} is not in {query}", dashboard.path);
            }
        }
    }
}

/// One place to set the base of links: the rules' source. The dashboards' variable begins with the same.
#[test]
fn rules_and_dashboards_begin_their_links_alike() {
    let source = read(&root().join("deploy/rules/source.toml"));
    let base = source.lines().find_map(|line| line.strip_prefix("runbooks = \"")?.strip_suffix('"')).unwrap();
    for dashboard in in_folder("dashboards").iter().filter(|it| it.path.ends_with(".json")) {
        let mut begins = dashboard.text.lines().filter(|line| line.ends_with("/runbooks/")).peekable();
        assert!(begins.peek().is_some(), "{}: no base for its links", dashboard.path);
        assert!(begins.all(|begin| begin == format!("{base}/")), "{}: not {base}/", dashboard.path);
    }
}

#[test]
fn files_that_documents_lead_to_are_there() {
    let mut missing = BTreeSet::new();
    for document in
        documents().iter().filter(|it| it.path.ends_with(".md") && !it.path.starts_with("runbooks"))
    {
        let folder = root().join(&document.path).parent().unwrap().to_owned();
        for link in document.text.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next()) {
            if !link.is_empty() && !link.contains("://") && !folder.join(link).exists() {
                missing.insert(format!("{}: {link}", document.path));
            }
        }
    }
    assert_eq!(missing, BTreeSet::new());
}
