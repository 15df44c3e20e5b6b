//! Time as the core knows it: whole milliseconds that came in with an input.

use alloc::format;
use alloc::string::String;
use core::ops::Add;

use serde::{Deserialize, Serialize};

/// A point in time or a span, in milliseconds. What it counts from is said where it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Millis(pub u64);

impl Millis {
    /// A span of whole seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// How much later `self` is than `earlier`; zero where it is not later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Millis {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// The clocks at the moment an input came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Now {
    /// Monotonic and counted through sleep (`CLOCK_BOOTTIME`). Every wait of the link is on this clock.
    pub mono: Millis,
    /// How long the machine has slept since it booted. A jump of it means that every peer saw us vanish.
    pub asleep: Millis,
    /// Wall clock, since 1970 in UTC. Shown, and compared in days only: see [`Keep`](crate::retain::Keep).
    pub unix: Millis,
}

impl Now {
    /// Monotonic, and standing still while the machine sleeps: processes and disks do the same. Every wait of a
    /// task is on this clock.
    #[must_use]
    pub const fn awake(self) -> Millis {
        self.mono.since(self.asleep)
    }
}

/// A moment of the wall clock, since 1970, for people: to the minute.
#[must_use]
pub fn moment(unix: Millis) -> String {
    let minutes = unix.0 / 60_000;
    let (days, minutes) = (minutes / (24 * 60), minutes % (24 * 60));
    // The calendar repeats itself every 400 years. Counted from a first of March, leap days come last.
    let since = days.saturating_add(719_468);
    let (era, day) = (since / 146_097, since % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era.saturating_mul(400).saturating_add(year).saturating_add(later);
    format!("{year}-{month:02}-{date:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects people from a day that is none.
    #[test]
    fn a_moment_is_told_by_the_calendar() {
        for (seconds, told) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_709_164_800, "2024-02-29 00:00 UTC"),
            (1_796_083_200, "2026-12-01 00:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(moment(Millis::seconds(seconds)), told);
        }
    }
}
