//! Time as the core knows it: whole milliseconds that came in with an input.

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
