//! The machine's clocks, as the core takes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use makima_core::time::{Millis, Now};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// However far away the next deadline is, the driver looks at the clocks this often: a machine that wakes
/// from sleep does not tell anybody.
const LOOK: Duration = Duration::from_secs(10);

/// The clocks now.
#[must_use]
pub fn now() -> Now {
    let mono = millis(clock_gettime(ClockId::Boottime));
    let awake = millis(clock_gettime(ClockId::Monotonic));
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        mono: Millis(mono),
        asleep: Millis(mono.saturating_sub(awake)),
        unix: Millis(u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// How long to wait for a deadline of the core's.
#[must_use]
pub fn until(deadline: Option<Millis>, now: Now) -> Duration {
    deadline.map_or(LOOK, |due| Duration::from_millis(due.since(now.mono).0).min(LOOK))
}

fn millis(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000)
}
