//! The forms of a report: tables for people, JSON and CSV for programs.

use super::rows::Row;
use super::table::Screen;
use super::{data, people};
use crate::options::{Output, Report};
use crate::runbook::Runbooks;
use crate::time::Timestamp;

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
        Output::Table | Output::Wide => people::table(rows, style),
        Output::Json => data::json(rows, style.runbooks),
        Output::Csv => data::csv(rows, style.runbooks),
    }
}
