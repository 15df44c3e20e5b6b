//! Folders by name.

use std::path::{Path, PathBuf};

/// Where package managers keep what they have brought, so that not every task brings it anew. Not where they keep
/// settings or programs: what is written there is run by people.
pub(crate) const CACHES: &[&str] = &[
    "~/.cache",
    "~/.bun/install/cache",
    "~/.bundle/cache",
    "~/.cargo/git",
    "~/.cargo/registry",
    "~/.cargo/.package-cache",
    "~/.cargo/.package-cache-mutate",
    "~/.composer/cache",
    "~/.gradle/caches",
    "~/.gradle/daemon",
    "~/.gradle/native",
    "~/.gradle/wrapper",
    "~/.ivy2/cache",
    "~/.local/share/pnpm/store",
    "~/.m2/repository",
    "~/.npm",
    "~/.nuget/packages",
    "~/.pnpm-store",
    "~/.pub-cache/hosted",
    "~/.yarn/berry/cache",
    "~/go/pkg",
];

/// Devices to write to that can do nobody harm, and shared memory.
pub(super) const DEVICES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/shm",
];

/// Devices through which everything can be read. Disks are among those that are told by their kind.
pub(super) const OPEN_HEARTS: &[&str] = &["mem", "kmem", "port", "kcore"];

/// With the user's home folder for `~`.
pub(crate) fn in_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(below), Some(home)) => Path::new(&home).join(below),
        (Ok(_) | Err(_), _) => path.to_path_buf(),
    }
}
