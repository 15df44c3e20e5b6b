//! Who supervises a task: whoever holds the lock in its folder.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};

const LOCK: &str = "supervisor.lock";

fn open(folder: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = folder.join(LOCK);
    Ok(openat(CWD, &path, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?)
}

/// Takes the lock, for as long as the descriptor is open.
pub(super) fn take(folder: &Path) -> io::Result<OwnedFd> {
    let lock = open(folder, OFlags::RDWR | OFlags::CREATE)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

/// Whether a supervisor lives, or one that waits for orders.
pub(crate) fn is_held(folder: &Path) -> bool {
    match open(folder, OFlags::RDONLY) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockShared).is_err(),
        Err(_) => false,
    }
}
