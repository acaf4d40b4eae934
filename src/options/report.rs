//! The options of `report`.

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::Namespaces;
use super::values::InvalidValue;
use crate::duration::PromDuration;
use crate::termination::Cause;

/// What a row is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// A container of a workload.
    #[default]
    Workload,
    /// A container of a pod.
    Pod,
}

/// How the report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// A table for people, as wide as the terminal.
    #[default]
    Table,
    /// The same with more columns, termination messages among them.
    Wide,
    /// An array of objects.
    Json,
    /// Comma-separated values with a line of headings (RFC 4180).
    Csv,
}

/// What to report, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Report {
    /// What a row is about.
    #[arg(long, value_name = "WHAT", env = "EXITCODE_REPORT_BY", default_value = "workload")]
    pub by: By,

    /// Only what ended within this time, like 1h or 2d; ends whose time is not known stay.
    #[arg(long, value_name = "DURATION", env = "EXITCODE_REPORT_SINCE")]
    pub since: Option<PromDuration>,

    /// Only these exit codes, separated by commas.
    #[arg(
        long,
        value_name = "CODES",
        env = "EXITCODE_REPORT_EXIT_CODE",
        value_delimiter = ',',
        allow_negative_numbers = true,
        value_parser = code
    )]
    pub exit_code: Vec<i32>,

    /// Only these causes, separated by commas.
    #[arg(
        long,
        value_name = "CAUSES",
        env = "EXITCODE_REPORT_CAUSE",
        value_delimiter = ',',
        hide_possible_values = true,
        value_parser = causes()
    )]
    pub cause: Vec<Cause>,

    /// How to write it.
    #[arg(long, short, value_name = "FORM", env = "EXITCODE_REPORT_OUTPUT", default_value = "table")]
    pub output: Output,

    /// The same as --namespaces, in kubectl's words.
    #[arg(long, short, value_name = "NAMES")]
    pub namespace: Vec<Namespaces>,

    /// All namespaces, whatever else is said: what `report` does anyway, and `kubectl exitcode` only if told to.
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,

    /// Called as `kubectl exitcode`: the namespace of the context is the default.
    #[arg(skip)]
    pub plugin: bool,
}

fn code(text: &str) -> Result<i32, InvalidValue> {
    text.trim().parse().map_err(|_| InvalidValue::ExitCode)
}

fn causes() -> impl TypedValueParser<Value = Cause> {
    let words = PossibleValuesParser::new(Cause::ALL.iter().map(|cause| cause.as_str()));
    words.try_map(|word| Cause::from_word(&word).ok_or(InvalidValue::Cause))
}

impl Report {
    /// The namespaces to list: each of these, or all if there is `None` in the answer. `context` is the namespace of
    /// the kubeconfig's context.
    #[must_use]
    pub fn scopes(&self, watched: &[Namespaces], context: &str) -> Vec<Option<String>> {
        let named = Namespaces::distinct(&[watched, &self.namespace].concat());
        match named.as_slice() {
            _ if self.all_namespaces => vec![None],
            [] if self.plugin => vec![Some(context.to_owned())],
            [] => vec![None],
            names => names.iter().cloned().map(Some).collect(),
        }
    }
}
