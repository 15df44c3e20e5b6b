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

mod agent;
mod boot;
mod command;
mod config;
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
pub mod notice;
mod numbers;
mod outbox;
pub mod policy;
pub mod protocol;
pub mod record;
pub mod report;
mod retain;
pub mod rng;
mod room;
mod second;
pub mod snapshot;
mod step;
pub mod task;
pub mod time;
pub mod wants;

pub use config::{Compat, Config};
pub use counters::Counters;
pub use daemon::Daemon;
pub use retain::{Keep, Part};
