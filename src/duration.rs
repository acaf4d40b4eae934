//! Durations as Prometheus writes them: `65s`, `2m`, `1h30m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// A duration in the syntax of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PromDuration(pub Duration);

/// The text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a duration like 65s, 2m or 1h30m")]
pub struct NotADuration;

impl FromStr for PromDuration {
    type Err = NotADuration;

    /// Whole numbers with units, the larger before the smaller, each at most once; or `0`.
    fn from_str(text: &str) -> Result<Self, NotADuration> {
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let (mut rest, mut units, mut total) = (text, UNITS.iter(), 0_u64);
        while !rest.is_empty() {
            let (number, tail) = split_where(rest, |c| !c.is_ascii_digit());
            let (unit, tail) = split_where(tail, |c| !c.is_ascii_alphabetic());
            let number: u64 = number.parse().map_err(|_| NotADuration)?;
            // Going on from the last unit found is what keeps the order.
            let (_, ms) = units.find(|(name, _)| *name == unit).ok_or(NotADuration)?;
            total = number.checked_mul(*ms).and_then(|ms| total.checked_add(ms)).ok_or(NotADuration)?;
            rest = tail;
        }
        if text.is_empty() { Err(NotADuration) } else { Ok(Self(Duration::from_millis(total))) }
    }
}

fn split_where(text: &str, end: fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

impl fmt::Display for PromDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in UNITS {
            if ms >= size {
                write!(f, "{}{unit}", ms / size)?;
                ms %= size;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_durations_are_read_and_written() {
        for (text, ms, shown) in [
            ("65s", 65_000, "1m5s"),
            ("2m", 120_000, "2m"),
            ("1h", 3_600_000, "1h"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1d2h3m4s5ms", 93_784_005, "1d2h3m4s5ms"),
            ("500ms", 500, "500ms"),
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("2w", 1_209_600_000, "2w"),
        ] {
            let parsed: PromDuration = text.parse().unwrap();
            assert_eq!(
                (parsed, parsed.to_string().as_str()),
                (PromDuration(Duration::from_millis(ms)), shown)
            );
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            " ",
            "1",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "1 s",
            "1s ",
            "30m1h",
            "1s1s",
            "1S",
            "1sec",
            "1ms1s",
            "9999999999y",
            "99999999999999999999s",
            "１s",
            "1µs",
            "inf",
            "65s,2m",
        ] {
            assert_eq!(text.parse::<PromDuration>(), Err(NotADuration), "{text:?}");
        }
    }
}
