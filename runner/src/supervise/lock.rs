//! Who supervises a task, and whether anybody of its agent's is left: whoever holds the locks in its folder.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};

const LOCK: &str = "supervisor.lock";

/// Held by the agent and by all that descends from it.
const LENT: &str = "agent.lock";

fn open(folder: &Path, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let path = folder.join(name);
    Ok(openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR)?)
}

/// Takes the lock, for as long as the descriptor is open.
pub(super) fn take(folder: &Path) -> io::Result<OwnedFd> {
    let lock = open(folder, LOCK, OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

/// A lock that every process inherits which is started while this is open.
pub(super) fn lend(folder: &Path) -> io::Result<OwnedFd> {
    let lock = open(folder, LENT, OFlags::RDWR | OFlags::CREATE)?;
    flock(&lock, FlockOperation::NonBlockingLockShared)?;
    Ok(lock)
}

/// Whether a supervisor lives, or one that waits for orders.
pub(crate) fn is_held(folder: &Path) -> bool {
    match open(folder, LOCK, OFlags::RDONLY | OFlags::CLOEXEC) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockShared).is_err(),
        Err(_) => false,
    }
}

/// Whether anybody lives who inherited the agent's lock.
pub(crate) fn is_lent(folder: &Path) -> bool {
    match open(folder, LENT, OFlags::RDWR | OFlags::CLOEXEC) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err(),
        Err(_) => false,
    }
}
