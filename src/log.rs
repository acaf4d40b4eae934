//! Logging: one line an event on standard error, as text or as one JSON object.
//!
//! Lines are written whole, with one write each, by a thread of their own: none is lost, and the core does not
//! wait for a reader of standard error until 4,096 lines do. Values of any content stay on their line and show
//! no control character.

mod queue;

use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

pub use queue::Guard;
use queue::Queue;

use crate::board::Row;
use crate::runbook::Runbooks;
use crate::termination::Termination;
use crate::text::{clean, is_dangerous};

/// Target of the lines of terminations.
pub const TERMINATION: &str = "termination";

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people: time, level, target, then `key=value`.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// What does not work.
    Error,
    /// What works, but not as it should.
    Warn,
    /// Unexpected terminations and what the exporter does.
    #[default]
    Info,
    /// Expected terminations too.
    Debug,
    /// Every pod object that is read, too.
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// Sends all log lines to standard error from now on; does nothing the second time.
pub fn init(format: LogFormat, level: LogLevel) -> Guard {
    match Queue::before(std::io::stderr()) {
        Ok((queue, guard)) => {
            let lines = subscriber(format, level, move || queue.clone());
            let _ = tracing::subscriber::set_global_default(lines);
            guard
        }
        Err(_) => {
            let _ = tracing::subscriber::set_global_default(subscriber(format, level, std::io::stderr));
            Guard::none()
        }
    }
}

/// A subscriber that writes lines to `writer`.
///
/// The level is for this crate; others speak from WARN up, and the Kubernetes client only of errors: it
/// writes the whole body of an answer that it can't read, environment values included, at WARN.
pub fn subscriber<W>(format: LogFormat, level: LogLevel, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = LevelFilter::from(level);
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("kube_client", LevelFilter::ERROR)
        .with_target("exitcode_exporter", level)
        .with_target(TERMINATION, level);
    // A reader that closed standard error is no reason to write there that it did, which would panic.
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines(format))
        .with_writer(writer)
        .log_internal_errors(false);
    tracing_subscriber::registry().with(filter).with(lines)
}

/// Logs one termination.
pub fn termination(termination: &Termination, runbooks: &Runbooks) {
    macro_rules! line {
        ($level:expr) => {
            if tracing::enabled!(target: "termination", $level) {
                let row = Row::new(termination, runbooks, false);
                let message = crate::board::message(termination);
                tracing::event!(
                    target: "termination",
                    $level,
                    namespace = row.namespace,
                    pod = row.pod,
                    node = row.node,
                    workload_type = row.workload_type,
                    workload = row.workload,
                    container = row.container,
                    container_type = row.container_type,
                    exit_code = row.exit_code,
                    signal = row.signal,
                    reason = row.reason,
                    cause = row.cause,
                    evidence = row.evidence,
                    started_at = row.started_at,
                    finished_at = row.finished_at,
                    ran_for = row.ran_for,
                    restart_count = row.restart_count,
                    image = row.image,
                    message = message,
                    runbook = row.runbook,
                );
            }
        };
    }
    if termination.outcome.cause.is_expected() {
        line!(tracing::Level::DEBUG);
    } else {
        line!(tracing::Level::INFO);
    }
}

/// The formatter of lines. It writes the fields itself: the termination message is a field of the name that
/// tracing gives to its own text, and must come out once, as a field like the others.
struct Lines(LogFormat);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields(event.metadata().fields().iter().map(|f| (f.name(), Value::Null)).collect());
        event.record(&mut fields);
        let time = format!("{:.3}", jiff::Timestamp::now());
        let (level, target) = (event.metadata().level().as_str(), event.metadata().target());
        match self.0 {
            LogFormat::Text => text(&mut out, &time, level, target, &fields.0),
            LogFormat::Json => json(&mut out, &time, level, target, fields.0),
        }
    }
}

fn text(
    out: &mut Writer<'_>,
    time: &str,
    level: &str,
    target: &str,
    fields: &[(&str, Value)],
) -> fmt::Result {
    write!(out, "{time} {level:>5} {target}:")?;
    let is_termination = target == TERMINATION;
    for (name, value) in fields {
        match value {
            Value::String(text) if *name == "message" && !is_termination => write!(out, " {}", clean(text))?,
            Value::String(text) if is_plain(text) => write!(out, " {name}={text}")?,
            Value::String(text) => write!(out, " {name}={}", quoted(text))?,
            Value::Null => write!(out, " {name}=\"\"")?,
            value => write!(out, " {name}={value}")?,
        }
    }
    out.write_char('\n')
}

/// Needs no quotes in `key=value`.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|c| is_dangerous(c) || c.is_whitespace() || matches!(c, '"' | '=' | '\\'))
}

/// In quotes, with the escapes of Rust and Go.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if is_dangerous(c) || matches!(c, '"' | '\\') { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out.push('"');
    out
}

fn json(
    out: &mut Writer<'_>,
    time: &str,
    level: &str,
    target: &str,
    fields: Vec<(&'static str, Value)>,
) -> fmt::Result {
    write!(out, "{{\"timestamp\":\"{time}\",\"level\":\"{level}\",\"target\":{}", Value::from(target))?;
    for (name, value) in fields {
        let value = match value {
            Value::String(text) => Value::from(clean(&text)),
            value => value,
        };
        let taken = matches!(name, "timestamp" | "level" | "target");
        write!(out, ",{}:{value}", Value::from(if taken { format!("{name}_") } else { name.to_owned() }))?;
    }
    out.write_str("}\n")
}

/// The declared fields of an event, null until recorded.
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        if let Some(slot) = self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            slot.1 = value;
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
pub(crate) mod tests;
