//! Tables for people: which columns, and what to do next.

use std::cmp::Reverse;
use std::fmt::Write;

use super::next;
use super::output::Style;
use super::rows::Row;
use super::table::{self, Column, Give, Line, Paint};
use crate::board;
use crate::options::{By, Output};
use crate::termination::signal_name;
use crate::text::clean;

/// So many commands stand under a table.
const COMMANDS: usize = 3;

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

/// A table, and under it what to do next.
pub fn table(rows: &[Row], style: &Style<'_>) -> String {
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
}
