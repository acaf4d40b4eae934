//! One counter series.

use std::time::Duration;

use crate::time::Timestamp;

/// A counter with its birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The count.
    pub value: u64,
    /// What a young series shows: 0, or the count that it was restored with.
    pub floor: u64,
    /// When the series came to be in this process.
    pub born: Timestamp,
}

impl Sample {
    /// A series of the saved state: it shows what it was while it is young.
    pub(super) fn restored(value: i64) -> Self {
        let value = u64::try_from(value).unwrap_or(0);
        Self { value, floor: value, born: Timestamp(i64::MIN) }
    }

    /// The value as it is saved.
    pub(super) fn signed(&self) -> i64 {
        i64::try_from(self.value).unwrap_or(i64::MAX)
    }

    /// The same series with another value.
    pub(super) fn reading(self, value: i64) -> Self {
        Self { value: u64::try_from(value).unwrap_or(0), ..self }
    }

    pub(super) const fn new(born: Timestamp) -> Self {
        Self { value: 0, floor: 0, born }
    }

    /// The value to show. `increase()` does not see a series' first value, so while the series is younger than
    /// `zero_for` it shows where it began.
    #[must_use]
    pub fn shown(&self, zero_for: Option<Duration>, now: Timestamp) -> u64 {
        match zero_for {
            Some(zero_for) if now < self.born.plus(zero_for) => self.floor,
            _ => self.value,
        }
    }

    /// When it was created; unknown (the state keeps no births) for a restored series.
    #[must_use]
    pub fn created(&self) -> Option<Timestamp> {
        (self.floor == 0).then_some(self.born)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_young_series_shows_its_floor_to_those_who_ask_for_it() {
        let second = Duration::from_secs(1);
        for (age_ms, zero_for, floor, shown) in [
            (0, None, 0, 7),
            (0, Some(65 * second), 0, 0),
            (64_999, Some(65 * second), 0, 0),
            (65_000, Some(65 * second), 0, 7),
            (65_000, Some(120 * second), 0, 0),
            (0, Some(Duration::ZERO), 0, 7),
            (0, Some(65 * second), 5, 5),
            (65_000, Some(65 * second), 5, 7),
            (0, None, 5, 7),
            (-1, Some(second), 0, 0),
        ] {
            let born = Timestamp(1_000_000);
            let sample = Sample { value: 7, floor, born };
            assert_eq!(sample.shown(zero_for, born.plus_ms(age_ms)), shown, "{age_ms} ms, {zero_for:?}");
        }
    }
}
