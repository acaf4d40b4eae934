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
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name)).into();
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

/// What people read, but for the runbooks, whose links their own tests follow.
fn prose() -> Vec<Document> {
    documents()
        .into_iter()
        .filter(|it| it.path.ends_with(".md") && !it.path.starts_with("runbooks"))
        .collect()
}

/// The anchor that GitHub gives a heading: lower case, without punctuation, blanks as hyphens.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// All anchors of a file: its headings, and those that it names itself.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(anchor);
    let named = text.split("id=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned);
    headings.chain(named).collect()
}

#[test]
fn links_of_documents_lead_to_files_and_anchors() {
    let (mut faults, mut checked) = (BTreeSet::new(), 0);
    for document in prose() {
        let here = root().join(&document.path);
        for link in document.text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()) {
            if link.contains("://") {
                continue;
            }
            checked += 1;
            let (path, anchor) =
                link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            let file = if path.is_empty() { here.clone() } else { here.parent().unwrap().join(path) };
            let there = file.exists()
                && anchor.is_none_or(|anchor| file.is_file() && anchors(&read(&file)).contains(anchor));
            if !there {
                faults.insert(format!("{}: {link}", document.path));
            }
        }
    }
    assert_eq!(faults, BTreeSet::new());
    assert!(checked > 60, "only {checked} links were found: is the search broken?");
}

/// Options of other programs, in commands and prose.
const OTHER_PROGRAMS: &[&str] = &[
    // cargo, rustc, git and our own scripts
    "--all-targets",
    "--bench",
    "--bin",
    "--binary",
    "--build-arg",
    "--help",
    "--ignored",
    "--label",
    "--licences",
    "--locked",
    "--minutes",
    "--no-deps",
    "--open",
    "--out",
    "--path",
    "--pods",
    "--record",
    "--release",
    "--remap-path-prefix",
    "--seconds",
    "--test",
    "--validate",
    "--version",
    "--write",
    // deploy/rules/generate
    "--dashboard",
    "--runbooks",
    "--scale",
    // kubectl, Helm, docker, gh, sha256sum
    "--as",
    "--cacert",
    "--clusterrole",
    "--serviceaccount",
    "--check",
    "--create-namespace",
    "--for",
    "--from-file",
    "--ignore-missing",
    "--image",
    "--namespace",
    "--predicate-type",
    "--previous",
    "--raw",
    "--repo",
    "--restart",
    "--reuse-values",
    "--saved",
    "--server-side",
    "--set",
    "--signer-workflow",
    "--tail",
    "--timeout",
    // Prometheus, Thanos, kube-rbac-proxy
    "--enable-feature",
    "--ignore-paths",
    "--query.replica-label",
];

#[test]
fn every_option_that_is_named_exists() {
    let command = <exitcode_exporter::options::Options as clap::CommandFactory>::command();
    let subcommands = command.get_subcommands().flat_map(clap::Command::get_arguments);
    let ours: BTreeSet<_> = command
        .get_arguments()
        .chain(subcommands)
        .filter_map(|argument| Some(format!("--{}", argument.get_long()?)))
        .collect();
    let (mut unknown, mut checked) = (BTreeSet::new(), 0);
    for document in prose() {
        for rest in
            document.text.split([' ', '`', '(', '"', '\'', '|', '[', '\n']).filter(|it| it.starts_with("--"))
        {
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.')))
                .unwrap_or(rest.len());
            let option = rest[..end].trim_end_matches('.');
            if option.trim_matches('-').is_empty() {
                continue;
            }
            checked += 1;
            if !ours.contains(option) && !OTHER_PROGRAMS.contains(&option) {
                unknown.insert(format!("{}: {option}", document.path));
            }
        }
    }
    assert_eq!(unknown, BTreeSet::new());
    assert!(checked > 50, "only {checked} options were found: is the search broken?");
}

/// SECURITY.md names the test that shows each promise.
#[test]
fn every_test_that_is_named_exists() {
    let mut sources = Vec::new();
    for folder in ["src", "tests"] {
        walk(&root().join(folder), &mut sources);
    }
    let names: BTreeSet<_> =
        sources.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
    let code: String =
        sources.iter().filter(|it| it.extension().is_some_and(|it| it == "rs")).map(|it| read(it)).collect();
    let text = read(&root().join("SECURITY.md"));
    let (_, attacks) = text.split_once("## Who could attack").expect("the attackers");
    let rows =
        attacks.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.rsplit('|').nth(1));
    let (mut missing, mut checked) = (BTreeSet::new(), 0);
    for word in rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
        checked += 1;
        let there =
            code.contains(&format!("fn {word}(")) || names.contains(word) || root().join(word).exists();
        if !(there
            || word.starts_with("cargo ")
            || root().join(format!(".github/workflows/{word}.yml")).exists())
        {
            missing.insert(word.to_owned());
        }
    }
    assert_eq!(missing, BTreeSet::new());
    assert!(checked > 20, "only {checked} were found: is the search broken?");
}

/// What runs with rights is pinned by commit, gets no more rights than it says, and leaves no token on the disk.
#[test]
fn workflows_pin_their_actions_and_name_their_rights() {
    let mut workflows = Vec::new();
    walk(&root().join(".github/workflows"), &mut workflows);
    assert!(workflows.len() >= 3, "workflows are missing");
    for path in workflows {
        let (text, name) = (read(&path), path.display().to_string());
        assert!(text.lines().any(|line| line.starts_with("permissions:")), "{name}: no permissions");
        for line in
            text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: "))
        {
            let (_, pinned) = line.split_once('@').unwrap_or_default();
            let (commit, version) = pinned.split_once(" # v").unwrap_or_default();
            let is_commit = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(line.starts_with("actions/") && is_commit && !version.is_empty(), "{name}: {line}");
        }
        let checkouts = text.matches("actions/checkout@").count();
        assert_eq!(
            text.matches("persist-credentials: false").count(),
            checkouts,
            "{name}: a token is left on the disk"
        );
    }
}
