//! The makima daemon as a pure, deterministic state machine.
//!
//! One way in, [`input::Input`]; one way out, [`effect::Effect`]. No clock, no chance, no I/O: time and a
//! seed come in with the inputs.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::wildcard_enum_match_arm
    )
)]

extern crate alloc;

/// Whether a bug of the zoo is out here: never, but in a build that has the zoo.
#[cfg(feature = "zoo")]
macro_rules! bug {
    ($name:ident) => {
        $crate::zoo::is_out($crate::zoo::Bug::$name)
    };
}
#[cfg(not(feature = "zoo"))]
macro_rules! bug {
    ($name:ident) => {
        false
    };
}

pub mod agent;
pub mod allowance;
mod boot;
mod command;
mod config;
pub mod cost;
mod counters;
mod daemon;
mod digest;
pub mod effect;
pub mod forge;
pub mod held;
pub mod id;
mod index;
pub mod input;
pub mod limits;
mod link;
mod look;
pub mod needs;
pub mod notice;
mod numbers;
mod outbox;
pub mod policy;
pub mod protocol;
pub mod record;
pub mod reduce;
pub mod report;
mod retain;
pub mod rng;
mod room;
mod second;
pub mod snapshot;
mod step;
pub mod task;
#[cfg(test)]
mod tests;
pub mod time;
pub mod view;
pub mod wants;
#[cfg(feature = "zoo")]
pub mod zoo;

pub use config::{Compat, Config};
pub use counters::Counters;
pub use daemon::Daemon;
pub use retain::{Keep, Part};

/// Whether this build has bugs that can be let out: whoever carries effects out for people refuses to be built on it.
pub const HAS_ZOO: bool = cfg!(feature = "zoo");
