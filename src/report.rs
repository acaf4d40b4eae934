//! The report: a cluster asked once, and a table of what has terminated and why.
//!
//! ```text
//! collect (lists, owners) ─► core::Visible (which ends, and their causes) ─► rows ─► output (people: tables, data: JSON and CSV)
//! ```
//!
//! It is no second opinion: ends and causes come from the account and the rules that the counters come from.

mod collect;
mod data;
mod next;
mod output;
mod people;
mod rows;
pub mod table;

use std::io::{self, IsTerminal, Write};

use kube::Client;

use crate::options::{Options, Report};
use crate::runbook::Runbooks;
use crate::text::clean;
use crate::time::{Clock, Timestamp};
use crate::watch::{self, ConnectError, Failure};
use table::Screen;

/// Why there is no report: one line.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// There is no way to the API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The pods can't be listed.
    #[error("{0}")]
    List(String),
    /// It can't be written.
    #[error("the report can't be written: {0}")]
    Write(#[from] io::Error),
}

impl From<Failure> for ReportError {
    fn from(failure: Failure) -> Self {
        Self::List(failure.detail)
    }
}

/// A report, written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    /// For standard output.
    pub text: String,
    /// Lines for standard error: what is missing, and why.
    pub notes: Vec<String>,
}

/// Asks the cluster that the options name, and prints the report.
///
/// # Errors
/// If the cluster can't be asked, or nobody takes the answer.
pub async fn print(options: &Options, report: &Report) -> Result<(), ReportError> {
    let client = watch::connect(options.kubeconfig.as_deref(), options.context.as_deref()).await?;
    let screen = Screen::of_stdout(io::stdout().is_terminal(), |name| std::env::var(name).ok());
    let printed = run(client, options, report, screen, Clock::start().now()).await?;
    match io::stdout().write_all(printed.text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // A reader that has seen enough (`head`) is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    for note in &printed.notes {
        let _ = writeln!(io::stderr(), "{}", clean(note));
    }
    Ok(())
}

/// Asks a cluster and writes the report for a screen, as of `now`.
///
/// # Errors
/// If the pods can't be listed.
pub async fn run(
    client: Client,
    options: &Options,
    report: &Report,
    screen: Screen,
    now: Timestamp,
) -> Result<Printed, ReportError> {
    let found = collect::collect(&client, options, report, now).await?;
    let rows = rows::rows(found.ends, report, now);
    let mut notes = found.notes;
    if rows.is_empty() {
        notes.insert(0, nothing(found.pods, report));
    }
    let runbooks = Runbooks::new(&options.runbook_url.0);
    let style =
        output::Style { report, one_namespace: found.one_namespace, runbooks: &runbooks, screen, now };
    let text = output::write(&rows, &style);
    Ok(Printed { text, notes })
}

fn nothing(pods: u64, report: &Report) -> String {
    let filtered = report.since.is_some() || !report.exit_code.is_empty() || !report.cause.is_empty();
    let what = if filtered { "shows an end that matches" } else { "shows an end" };
    format!("No container of {pods} pods {what}.")
}
