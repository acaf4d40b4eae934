//! The last terminations, for people and for the API.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::rows::{self, Batch, Table, Unreadable};
use crate::runbook::Runbooks;
use crate::termination::{Cause, ExitCode, Termination, signal_name};
use crate::text::{clean, cut};

/// How many terminations are kept, and the most that a query returns.
pub const CAPACITY: usize = 1000;

/// The last terminations in the order in which they were counted.
#[derive(Debug, Default)]
pub struct Board {
    rows: VecDeque<Arc<Termination>>,
    /// Number of the row that comes next.
    next: u64,
    /// What of it is on disk; `None` where nothing is saved.
    on_disk: Option<OnDisk>,
}

/// Rows by number: shown are those that are on disk.
#[derive(Debug, Default)]
struct OnDisk {
    /// Rows before this one are on disk.
    saved: u64,
    /// Rows before this one are on their way.
    going: u64,
    /// Rows that are on disk, or on their way, and went.
    gone: Vec<u64>,
}

/// Which terminations are asked for; what is `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The namespace.
    pub namespace: Option<String>,
    /// The workload's name.
    pub workload: Option<String>,
    /// The exit code.
    pub exit_code: Option<ExitCode>,
    /// The cause.
    pub cause: Option<Cause>,
    /// At most so many.
    pub limit: Option<usize>,
}

impl Query {
    fn matches(&self, termination: &Termination) -> bool {
        let workload = &termination.subject.workload;
        self.namespace.as_deref().is_none_or(|namespace| namespace == &*workload.namespace)
            && self.workload.as_deref().is_none_or(|name| name == &*workload.name)
            && self.exit_code.is_none_or(|code| code == termination.outcome.exit_code)
            && self.cause.is_none_or(|cause| cause == termination.outcome.cause)
    }
}

impl Board {
    /// Adds the newest.
    pub fn add(&mut self, termination: Termination) {
        while self.rows.len() >= CAPACITY {
            let first = self.first();
            self.rows.pop_front();
            if let Some(on_disk) = self.on_disk.as_mut().filter(|on_disk| first < on_disk.going) {
                on_disk.gone.push(first);
            }
        }
        self.rows.push_back(Arc::new(termination));
        self.next += 1;
    }

    /// Number of the oldest row.
    fn first(&self) -> u64 {
        self.next - self.rows.len() as u64
    }

    /// From now on, rows are noted, and not shown until they are saved.
    pub fn track(&mut self) {
        let next = self.next;
        self.on_disk.get_or_insert(OnDisk { saved: next, going: next, gone: Vec::new() });
    }

    /// Puts what changed into the batch; [`Board::saved`] follows once it is on disk.
    pub fn save(&mut self, batch: &mut Batch) {
        let first = self.first();
        let Some(on_disk) = &mut self.on_disk else { return };
        for number in on_disk.gone.drain(..) {
            batch.set::<_, Termination>(Table::Board, &number.to_be_bytes(), None);
        }
        let from = on_disk.going.max(first);
        for (number, row) in (first..).zip(&self.rows).skip_while(|(number, _)| *number < from) {
            // Big-endian: rows are read in the order of their keys.
            batch.set(Table::Board, &number.to_be_bytes(), Some(&**row));
        }
        on_disk.going = self.next;
    }

    /// The batch is on disk.
    pub fn saved(&mut self) {
        if let Some(on_disk) = &mut self.on_disk {
            on_disk.saved = on_disk.saved.max(on_disk.going);
        }
    }

    /// Every row passes for unsaved, though what was shown stays shown.
    pub fn note_all(&mut self) {
        if let Some(on_disk) = &mut self.on_disk {
            on_disk.going = 0;
            on_disk.gone.clear();
        }
    }

    /// Takes in a row as it was saved. They come in the order of their numbers.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn restore(&mut self, row: &rows::Row<'_>) -> Result<(), Unreadable> {
        let (number, termination) = row.read::<[u8; 8], Termination>()?;
        self.add(termination);
        self.next = u64::from_be_bytes(number).checked_add(1).ok_or(Unreadable)?;
        Ok(())
    }

    /// What matches, newest first.
    #[must_use]
    pub fn query(&self, query: &Query) -> Vec<Arc<Termination>> {
        let limit = query.limit.unwrap_or(CAPACITY);
        let unsaved = self.on_disk.as_ref().map_or(0, |on_disk| self.next - on_disk.saved.max(self.first()));
        let shown = self.rows.iter().rev().skip(usize::try_from(unsaved).unwrap_or(usize::MAX));
        shown.filter(|row| query.matches(row)).take(limit).cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// A termination in the words of the log line. Text is as the API server gave it; serialised, it shows no control
/// character.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row<'a> {
    /// Namespace.
    #[serde(serialize_with = "cleaned")]
    pub namespace: &'a str,
    /// Pod.
    #[serde(serialize_with = "cleaned")]
    pub pod: &'a str,
    /// Node.
    #[serde(serialize_with = "cleaned")]
    pub node: &'a str,
    /// Workload type.
    #[serde(serialize_with = "cleaned")]
    pub workload_type: &'a str,
    /// Workload.
    #[serde(serialize_with = "cleaned")]
    pub workload: &'a str,
    /// Container.
    #[serde(serialize_with = "cleaned")]
    pub container: &'a str,
    /// Container type.
    pub container_type: &'static str,
    /// Exit code; null where it is not known.
    pub exit_code: Option<i32>,
    /// Name of the signal; null where the exit code tells none.
    pub signal: Option<&'static str>,
    /// Reason.
    pub reason: &'static str,
    /// Cause.
    pub cause: &'static str,
    /// What decided the cause.
    pub evidence: &'static str,
    /// RFC 3339; null where no record showed it.
    pub started_at: Option<String>,
    /// RFC 3339; null where no record showed it.
    pub finished_at: Option<String>,
    /// Seconds; null where it is not known.
    pub ran_for: Option<f64>,
    /// `restartCount` of the status.
    pub restart_count: u32,
    /// Image.
    #[serde(serialize_with = "cleaned")]
    pub image: &'a str,
    /// The termination message, cut at 1 KiB; null where there is none.
    #[serde(skip_serializing_if = "Hidden::is_hidden")]
    pub message: Hidden<'a>,
    /// Link to the runbook.
    pub runbook: String,
}

/// A value that is shown only on request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Hidden<'a> {
    /// Not even the key appears.
    Hidden,
    /// The value, if there is one.
    #[serde(serialize_with = "cleaned_option")]
    Shown(Option<&'a str>),
}

impl Hidden<'_> {
    fn is_hidden(&self) -> bool {
        *self == Self::Hidden
    }
}

impl<'a> Row<'a> {
    /// The row of a termination; its message, which may hold log lines, only if `messages` says so.
    #[must_use]
    pub fn new(termination: &'a Termination, runbooks: &Runbooks, messages: bool) -> Self {
        let Termination { subject, outcome, .. } = termination;
        Self {
            namespace: &subject.workload.namespace,
            pod: &termination.pod,
            node: &termination.node,
            workload_type: &subject.workload.workload_type,
            workload: &subject.workload.name,
            container: &subject.container,
            container_type: subject.container_type.as_str(),
            exit_code: outcome.exit_code.0,
            signal: termination.signal().map(signal_name),
            reason: outcome.reason.as_str(),
            cause: outcome.cause.as_str(),
            evidence: termination.evidence.as_str(),
            started_at: termination.started_at.map(|at| at.to_string()),
            finished_at: termination.finished_at.map(|at| at.to_string()),
            ran_for: ran_for(termination),
            restart_count: termination.restart_count,
            image: &termination.image,
            message: if messages { Hidden::Shown(message(termination)) } else { Hidden::Hidden },
            runbook: runbooks.link(termination),
        }
    }
}

/// The termination message, cut at 1 KiB of what was written.
#[must_use]
pub fn message(termination: &Termination) -> Option<&str> {
    const MOST: usize = 1024;
    termination.message.as_deref().map(|message| cut(message, MOST))
}

fn cleaned<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&clean(text))
}

#[allow(clippy::ref_option)] // the shape that serde asks for
fn cleaned_option<S: Serializer>(text: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    text.map(clean).serialize(serializer)
}

/// Seconds from start to end, never negative.
#[allow(clippy::cast_precision_loss)] // exact for 285,000 years
fn ran_for(termination: &Termination) -> Option<f64> {
    let ms = termination.finished_at?.since(termination.started_at?);
    Some(ms.max(0) as f64 / 1000.0)
}

#[cfg(test)]
mod tests;
