//! The embedded makima control server: one person's tasks, the daemons that do them, and a small HTTP API.
//!
//! Daemons speak the wire over a WebSocket or by long-poll; clients speak JSON over HTTP. What happens is decided by a pure
//! machine, the [`hub`]; everything it decides is on disk before anybody hears of it.
//!
//! Architecture invariant: nothing is acknowledged before it is stored. A daemon's ping is answered, its
//! message acknowledged, a client's request is answered and a command goes out only after the records before it are committed.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod app;
mod clock;
mod config;
mod engine;
mod frames;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
mod http;
pub mod hub;
mod polls;
mod serve;
mod server;
mod socket;
pub mod store;

pub use config::{Config, Listen, StartError, Token};
pub use engine::{Activity, Counters};
pub use hub::Bounds;
pub use server::Server;
