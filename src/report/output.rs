//! The forms of a report.

use std::cmp::Reverse;
use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use super::next;
use super::rows::Row;
use super::table::{self, Column, Give, Line, Paint, Screen};
use crate::board;
use crate::options::{By, Output, Report};
use crate::runbook::Runbooks;
use crate::termination::signal_name;
use crate::text::clean;
use crate::time::Timestamp;

/// So many commands stand under a table.
const COMMANDS: usize = 3;

/// How to write.
#[derive(Clone, Debug)]
pub struct Style<'a> {
    /// What was asked for.
    pub report: &'a Report,
    /// One namespace was asked about, which needs no column.
    pub one_namespace: bool,
    /// Links to runbooks.
    pub runbooks: &'a Runbooks,
    /// Where it is shown.
    pub screen: Screen,
    /// Of when it is.
    pub now: Timestamp,
}

/// Writes the rows.
#[must_use]
pub fn write(rows: &[Row], style: &Style<'_>) -> String {
    match style.report.output {
        Output::Table | Output::Wide if rows.is_empty() => String::new(),
        Output::Table | Output::Wide => table(rows, style),
        Output::Json => json(rows, style.runbooks),
        Output::Csv => csv(rows, style.runbooks),
    }
}

/// A column and what it shows of a row.
type Shown = (Column, fn(&Row, &Style<'_>) -> String);

const fn column(title: &'static str, give: Give, cell: fn(&Row, &Style<'_>) -> String) -> Shown {
    (Column { title, give }, cell)
}

const NAMESPACE: Shown =
    column("NAMESPACE", Give::Then, |row, _| row.newest.subject.workload.namespace.to_string());
const WORKLOAD: Shown = column("WORKLOAD", Give::Then, |row, _| {
    let workload = &row.newest.subject.workload;
    format!("{}/{}", workload.workload_type, workload.name)
});
/// The workload as kubectl takes it, too, in fewer letters.
const SHORT_WORKLOAD: Shown = column("WORKLOAD", Give::Then, |row, _| {
    let workload = &row.newest.subject.workload;
    let kind = match &*workload.workload_type {
        "deployment" => "deploy",
        "statefulset" => "sts",
        "daemonset" => "ds",
        "replicaset" => "rs",
        "cronjob" => "cj",
        other => other,
    };
    format!("{kind}/{}", workload.name)
});
const POD: Shown = column("POD", Give::Then, |row, _| row.newest.pod.to_string());
const CONTAINER: Shown = column("CONTAINER", Give::Then, |row, _| row.newest.subject.container.to_string());
const CODE: Shown = column("CODE", Give::Nothing, |row, _| row.newest.outcome.exit_code.to_string());
const REASON: Shown = column("REASON", Give::Last, |row, _| row.newest.outcome.reason.to_string());
const CAUSE: Shown = column("CAUSE", Give::Last, |row, _| row.newest.outcome.cause.to_string());
const ENDS: Shown = column("ENDS", Give::Nothing, |row, _| row.ends.to_string());
const RESTARTS: Shown = column("RESTARTS", Give::Nothing, |row, _| row.restarts().to_string());
const LAST: Shown = column("LAST", Give::Nothing, |row, style| {
    row.newest.finished_at.map_or_else(String::new, |at| span(style.now.since(at)))
});

const SIGNAL: Shown =
    column("SIGNAL", Give::Nothing, |row, _| row.newest.signal().map_or("", signal_name).to_owned());
const EVIDENCE: Shown = column("EVIDENCE", Give::Nothing, |row, _| row.newest.evidence.to_string());
const RAN: Shown = column("RAN", Give::Nothing, |row, _| {
    let (start, end) = (row.newest.started_at, row.newest.finished_at);
    start.zip(end).map_or_else(String::new, |(start, end)| span(end.since(start)))
});
const NODE: Shown = column("NODE", Give::Then, |row, _| row.newest.node.to_string());
const RUNBOOK: Shown =
    column("RUNBOOK", Give::First, |row, style| next::runbook(&row.newest, style.runbooks));
const IMAGE: Shown = column("IMAGE", Give::First, |row, _| row.newest.image.to_string());
const MESSAGE: Shown = column("MESSAGE", Give::First, |row, _| {
    board::message(&row.newest).unwrap_or_default().trim_end().to_owned()
});

const TABLE: &[Shown] = &[NAMESPACE, WORKLOAD, CONTAINER, CODE, REASON, CAUSE, ENDS, RESTARTS, LAST];
/// On a screen that is too narrow for all: the cause says more than the reason, restarts more than records.
const NARROW_TABLE: &[Shown] = &[NAMESPACE, SHORT_WORKLOAD, CONTAINER, CODE, CAUSE, RESTARTS, LAST];
/// What wide tables add is about the newest end of the row.
const WIDE: &[Shown] = &[
    NAMESPACE, WORKLOAD, POD, CONTAINER, CODE, REASON, CAUSE, ENDS, RESTARTS, LAST, SIGNAL, EVIDENCE, RAN,
    NODE, RUNBOOK, IMAGE, MESSAGE,
];
const NARROW_WIDE: &[Shown] =
    &[NAMESPACE, SHORT_WORKLOAD, CONTAINER, CODE, CAUSE, RESTARTS, LAST, RAN, NODE, MESSAGE];

fn table(rows: &[Row], style: &Style<'_>) -> String {
    let (all, narrow) = match style.report.output {
        Output::Wide => (WIDE, NARROW_WIDE),
        Output::Table | Output::Json | Output::Csv => (TABLE, NARROW_TABLE),
    };
    let mut table = fill(rows, all, style);
    if !table::fits(&table.0, &table.1, style.screen) {
        table = fill(rows, narrow, style);
    }
    let (columns, lines) = table;
    let is_outcome = |index: usize| {
        columns.get(index).is_some_and(|column| matches!(column.title, "CODE" | "REASON" | "CAUSE"))
    };
    let mut out = table::write(&columns, &lines, is_outcome, style.screen);
    out.push_str(&commands(rows, style));
    out
}

/// By pod, the pod stands where its workload would; one namespace needs no column.
fn fill(rows: &[Row], shown: &[Shown], style: &Style<'_>) -> (Vec<Column>, Vec<Line>) {
    let has_pod = shown.iter().any(|(column, _)| column.title == "POD");
    let by_pod = style.report.by == By::Pod && !has_pod;
    let is_shown = |(column, _): &&Shown| !(style.one_namespace && column.title == "NAMESPACE");
    let instead = |it: &Shown| if by_pod && it.0.title == "WORKLOAD" { POD } else { *it };
    let shown: Vec<Shown> = shown.iter().filter(is_shown).map(instead).collect();
    let line = |row: &Row| Line {
        cells: shown.iter().map(|(_, cell)| or_dash(&clean(&cell(row, style)))).collect(),
        style: if row.newest.outcome.cause.is_expected() { Paint::Dim } else { Paint::Red },
    };
    (shown.iter().map(|(column, _)| *column).collect(), rows.iter().map(line).collect())
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// What to run next for the unexpected rows whose containers were restarted the most. Never cut: it is to be pasted.
fn commands(rows: &[Row], style: &Style<'_>) -> String {
    let mut worst: Vec<&Row> = rows.iter().filter(|row| !row.newest.outcome.cause.is_expected()).collect();
    worst.sort_by_key(|row| Reverse(row.restarts()));
    let mut out = String::new();
    for row in worst.into_iter().take(COMMANDS) {
        let end = &row.newest;
        let Some(command) = next::command(end) else { continue };
        let (workload, outcome) = (&end.subject.workload, end.outcome);
        let what = format!(
            "# {}/{}: {} {}, runbook {}",
            workload.workload_type,
            workload.name,
            outcome.exit_code,
            outcome.cause,
            next::runbook(end, style.runbooks)
        );
        _ = writeln!(out, "{}\n{command}", Paint::Dim.on(&clean(&what), style.screen));
    }
    if out.is_empty() { out } else { format!("\n{}\n{out}", Paint::Bold.on("NEXT", style.screen)) }
}

/// A time span in one or two units, as kubectl writes ages. One below zero (clocks differ) is none.
fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{small_unit}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

/// A row in the words of the log line and the API, about the newest end, and what the row adds.
#[derive(Serialize)]
struct Object<'a> {
    #[serde(flatten)]
    newest: board::Row<'a>,
    ends: u32,
    pods: usize,
    restarts: u64,
    next: Option<String>,
}

impl<'a> Object<'a> {
    fn new(row: &'a Row, runbooks: &Runbooks) -> Self {
        Self {
            newest: board::Row {
                runbook: next::runbook(&row.newest, runbooks),
                ..board::Row::new(&row.newest, runbooks, true)
            },
            ends: row.ends,
            pods: row.pods(),
            restarts: row.restarts(),
            next: next::command(&row.newest).filter(|_| !row.newest.outcome.cause.is_expected()),
        }
    }
}

/// An array, an object a line.
fn json(rows: &[Row], runbooks: &Runbooks) -> String {
    let objects = rows.iter().filter_map(|row| serde_json::to_string(&Object::new(row, runbooks)).ok());
    let objects: Vec<String> = objects.collect();
    if objects.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", objects.join(",\n")) }
}

/// The fields of [`Object`] in the order of a reader's interest.
const FIELDS: [&str; 23] = [
    "namespace",
    "workload_type",
    "workload",
    "pod",
    "container",
    "container_type",
    "exit_code",
    "reason",
    "cause",
    "ends",
    "pods",
    "restarts",
    "finished_at",
    "started_at",
    "ran_for",
    "signal",
    "evidence",
    "node",
    "image",
    "message",
    "restart_count",
    "runbook",
    "next",
];

fn csv(rows: &[Row], runbooks: &Runbooks) -> String {
    let mut out = FIELDS.join(",") + "\r\n";
    for row in rows {
        let Ok(object) = serde_json::to_value(Object::new(row, runbooks)) else { continue };
        let cells = FIELDS.iter().map(|field| cell(object.get(*field).unwrap_or(&Value::Null)));
        out.push_str(&cells.collect::<Vec<_>>().join(","));
        out.push_str("\r\n");
    }
    out
}

/// RFC 4180; a spreadsheet must not take what a container wrote for a formula.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => {
            let formula = if text.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
            if formula.is_empty() && !text.contains([',', '"']) {
                return text.clone();
            }
            format!("\"{formula}{}\"", text.replace('"', "\"\""))
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_kubectl_writes_ages() {
        const DAY: i64 = 86_400;
        for (seconds, expected) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (28_800, "8h"),
            (2 * DAY - 1, "47h"),
            (2 * DAY, "2d"),
            (3 * DAY + 3600, "3d1h"),
            (8 * DAY, "8d"),
            (400 * DAY, "400d"),
        ] {
            assert_eq!(span(seconds * 1000), expected, "{seconds} s");
        }
    }

    #[test]
    fn a_cell_is_quoted_where_it_must_be_and_is_no_formula() {
        for (value, expected) in [
            (Value::Null, ""),
            (137.into(), "137"),
            ((-1).into(), "-1"),
            ("plain 한글".into(), "plain 한글"),
            ("a,b".into(), "\"a,b\""),
            ("say \"x\"".into(), "\"say \"\"x\"\"\""),
            ("=1+1".into(), "\"'=1+1\""),
            ("@x".into(), "\"'@x\""),
        ] {
            assert_eq!(cell(&value), expected);
        }
    }
}
