//! What must hold of every reader of bytes from outside, whatever they are: a function for each, which reads what it is
//! given and asserts. The programs in `fuzz/` hand it what libFuzzer makes up; the tests here hand it what lies in
//! `fuzz/corpus`, and changes of that.
//!
//! No part of a build that people get: there is this module only in tests and with the feature `fuzzing`.

mod journal;
mod outside;
mod people;
#[cfg(test)]
mod tests;

use std::path::Path;

use tempfile::TempDir;

use crate::{executor, supervise};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them. Each has a folder in `fuzz/corpus` and a program in `fuzz/fuzz_targets`.
pub const TARGETS: &[Target] = &[
    ("wire", outside::wire),
    ("frames", outside::frames),
    ("policy", outside::policy),
    ("forge", outside::forge),
    ("long_poll", makima_transports::fuzz::long_poll),
    ("events", outside::events),
    ("claude", outside::claude),
    ("acp", outside::acp),
    ("said", outside::said),
    ("config", people::config),
    #[cfg(feature = "server")]
    ("tasks", people::tasks),
    #[cfg(feature = "server")]
    ("requests", people::requests),
    ("journal", journal::journal),
    ("log", executor::fuzz::log),
    ("records", executor::fuzz::records),
    ("refs", executor::fuzz::refs),
    ("git", executor::fuzz::git),
    ("processes", executor::fuzz::processes),
    ("supervise", supervise::fuzz::supervise),
];

/// Hands bytes to a target.
///
/// # Panics
/// Something does not hold of them, or no target has this name.
pub fn run(name: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    assert!(found.is_some(), "there is no target `{name}`");
    if let Some((_, target)) = found {
        target(data);
    }
}

/// A folder for files that can only be read from a disk; in memory, where that can be had.
pub(crate) fn place() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap_or_else(|failure| unreachable!("there is no room for a folder: {failure}"))
}
