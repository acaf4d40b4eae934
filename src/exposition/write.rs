//! The lines that both formats are made of.

use std::io::Write;

use super::Format;
use crate::time::Timestamp;

/// A metric family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// Name, without `_total`.
    pub(super) name: &'static str,
    /// counter or gauge.
    pub(super) kind: Kind,
    /// One line: a line break in it breaks Prometheus 2.42.
    pub(super) help: &'static str,
}

/// Metric types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its sample names end in `_total`.
    Counter,
    /// Any value.
    Gauge,
}

impl Family {
    /// HELP and TYPE. Text 0.0.4 knows a counter by its sample name, OpenMetrics by its family name.
    pub(super) fn head(&self, out: &mut Vec<u8>, format: Format) {
        let (kind, suffix) = match (self.kind, format) {
            (Kind::Counter, Format::Text) => ("counter", "_total"),
            (Kind::Counter, Format::OpenMetrics) => ("counter", ""),
            (Kind::Gauge, _) => ("gauge", ""),
        };
        for part in
            ["# HELP ", self.name, suffix, " ", self.help, "\n# TYPE ", self.name, suffix, " ", kind, "\n"]
        {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

/// A line up to its value.
pub(super) fn start(out: &mut Vec<u8>, name: &str, suffix: &str, labels: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    out.push(b'{');
    out.extend_from_slice(labels.as_bytes());
    out.extend_from_slice(b"} ");
}

/// A whole number and the end of the line.
pub(super) fn integer(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.push(b'\n');
}

/// Seconds since 1970 and the end of the line.
pub(super) fn seconds(out: &mut Vec<u8>, at: Timestamp) {
    float(out, at.as_seconds());
}

/// A number and the end of the line.
pub(super) fn float(out: &mut Vec<u8>, value: f64) {
    // Writing to a vector does not fail.
    let _ = writeln!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_whole() {
        let mut out = Vec::new();
        for value in [0, 7, 10, 1234567890, u64::MAX] {
            integer(&mut out, value);
        }
        seconds(&mut out, Timestamp(1_700_000_000_000));
        seconds(&mut out, Timestamp(1_700_000_000_120));
        seconds(&mut out, Timestamp(-1_500));
        float(&mut out, 18_446_744_073_709_552_000.0);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "0\n7\n10\n1234567890\n18446744073709551615\n1700000000\n1700000000.12\n-1.5\n18446744073709552000\n"
        );
    }
}
