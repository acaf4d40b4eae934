//! What a scrape reads: the series table and the exporter's own metrics, in text 0.0.4 or OpenMetrics 1.0.
//!
//! Families come in the order of their names and series in the order of their labels, so that two scrapes of
//! the same counts are the same bytes.

pub mod own;
mod process;
mod sources;
mod table;
mod translate;
mod write;

use std::time::Duration;

pub use own::OwnMetrics;
pub use sources::{OwnerSnapshot, Sources, WatchSnapshot};

use crate::series::Series;
use crate::time::Timestamp;

/// The formats that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The value of the Content-Type header.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// How a request wants the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The format.
    pub format: Format,
    /// Series younger than this show where they began; `None` for clients that are no scrapers.
    pub zero_for: Option<Duration>,
    /// Whether OpenMetrics gets `_created` lines.
    pub created: bool,
    /// The time now.
    pub now: Timestamp,
}

/// The own metrics as text, which need no lock on the series: render them first.
#[must_use]
pub fn render_process(format: Format) -> String {
    process::render(&metrics_process::collector::collect(), format)
}

/// The whole of /metrics but the process metrics, which come last; the caller holds the lock on the series, so
/// that the number of series shown is the number of series there.
pub fn render(out: &mut Vec<u8>, series: &Series, own: &OwnMetrics, process: &str, view: View) {
    own.note_series(series);
    let own = own.render(view.format);
    table::containers(out, series, view);
    out.extend_from_slice(own.as_bytes());
    table::others(out, series, view);
    out.extend_from_slice(process.as_bytes());
    if view.format == Format::OpenMetrics {
        out.extend_from_slice(b"# EOF\n");
    }
}

#[cfg(test)]
mod tests;
