//! JSON and CSV: rows for programs, in the words of the log line and the API.

use serde::Serialize;
use serde_json::Value;

use super::next;
use super::rows::Row;
use crate::board;
use crate::runbook::Runbooks;

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
pub fn json(rows: &[Row], runbooks: &Runbooks) -> String {
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

/// A line of headings, then a line a row.
pub fn csv(rows: &[Row], runbooks: &Runbooks) -> String {
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
