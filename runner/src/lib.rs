//! What a makima daemon is made of around its core: the driver, the executor, the home folder; and the command
//! line on it.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

const _: () =
    assert!(!makima_core::HAS_ZOO, "bugs of the zoo are let out in tests alone: build this without the feature `zoo`");

#[cfg(feature = "server")]
pub mod cli;
pub mod clock;
pub mod config;
pub mod consent;
mod descriptors;
pub mod driver;
pub mod edge;
pub mod events;
pub mod executor;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
pub mod home;
pub mod inspect;
pub mod journal;
mod links;
pub mod logging;
pub mod mesh;
mod near;
pub mod news;
pub mod report;
pub mod rest;
pub mod roots;
pub mod sandbox;
pub mod server_file;
pub mod service;
pub mod supervise;
