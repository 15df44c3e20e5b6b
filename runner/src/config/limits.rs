//! What a task may use up.

use std::num::{NonZeroU32, NonZeroU64};

use makima_core::allowance::{Allowance, Then};
use makima_core::time::Millis;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

/// `[limits]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsFile {
    /// For how long its agent may be at work.
    pub minutes: Option<NonZeroU32>,
    /// What all its processes may take.
    pub memory_mib: Option<NonZeroU64>,
    /// How many processes it may have.
    pub processes: Option<NonZeroU32>,
    /// What its agent may cost, in dollars.
    #[serde(deserialize_with = "dollars")]
    pub cost: Option<f64>,
    /// What is done then: end or pause.
    pub then: Then,
}

/// A number of dollars.
pub(super) fn dollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let dollars = f64::deserialize(deserializer)?;
    if dollars.is_finite() && dollars > 0.0 && dollars < 1e9 {
        return Ok(Some(dollars));
    }
    Err(D::Error::custom("a cost is a number of dollars above 0"))
}

/// Of a dollar.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is above 0 and below 1e9 dollars")]
pub fn millionths(dollars: f64) -> u64 {
    (dollars * 1e6).round() as u64
}

impl LimitsFile {
    /// As the core has it.
    #[must_use]
    pub fn allowance(&self) -> Allowance {
        Allowance {
            time: self.minutes.map(|minutes| Millis::seconds(u64::from(minutes.get()) * 60)),
            memory: self.memory_mib.map(|mib| mib.get().saturating_mul(1 << 20)),
            processes: self.processes.map(NonZeroU32::get),
            cost: self.cost.map(millionths),
            then: self.then,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_in_the_units_of_people() {
        let read = |text: &str| toml::from_str::<LimitsFile>(text).map(|file| file.allowance());
        let all = read("minutes = 90\nmemory_mib = 2048\nprocesses = 200\ncost = 2.5\nthen = 'pause'").expect("limits");
        assert_eq!((all.time, all.memory), (Some(Millis::seconds(5_400)), Some(2 << 30)));
        assert_eq!((all.processes, all.cost, all.then), (Some(200), Some(2_500_000), Then::Pause));
        assert!(read("").expect("none").is_none());
        for wrong in ["minutes = 0", "cost = -1", "cost = nan", "then = 'stop'", "hours = 1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
