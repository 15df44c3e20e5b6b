//! What every test of the real binary stands on: a place of its own, processes with bounded waits, git.

mod apart;
mod binary;
mod claude;
mod desk;
mod faults;
mod fleet;
mod forge;
mod http;
mod middle;
mod place;
mod proc;
mod repo;
mod servers;
mod stage;
mod terminal;

use std::time::{Duration, Instant};

pub(crate) use apart::{Innocent, apart};
pub(crate) use binary::makima as binary;
pub(crate) use desk::Reading;
pub(crate) use faults::Faults;
pub(crate) use fleet::Fleet;
pub(crate) use forge::Forge;
pub(crate) use http::status_as;
pub(crate) use middle::Manner;
pub(crate) use place::{Place, processes_with};
pub(crate) use proc::{Call, Done, Proc, becomes_nobody, mounts};
pub(crate) use repo::Repo;
pub(crate) use servers::{FakeServer, Peer, authenticated};
pub(crate) use stage::{Stage, spawn};

/// For whatever takes no longer than a moment, on a machine that has much else to do.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Looks again and again until there is an answer. Fails with `what` where there is none in time.
#[track_caller]
pub(crate) fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether all of this runs in the portable way.
pub(crate) fn portable() -> bool {
    std::env::var("MAKIMA_PORTABLE").is_ok_and(|chosen| !["", "0", "false"].contains(&chosen.as_str()))
}

/// Whether a test is left out, as the portable way does not promise what it asks for.
pub(crate) fn not_portable(why: &str) -> bool {
    if portable() {
        eprintln!("left out in the portable way: {why}");
    }
    portable()
}

/// A number from the environment, for sizes that a fast machine may have larger.
pub(crate) fn number(variable: &str, usual: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is to be a number, and is {text:?}")),
        Err(_) => usual,
    }
}
