//! The lock of the agent's index, by which its own git and we keep out of each other's way.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;

use super::super::foreign::{self, SMALL};
use super::super::record::forgiving;
use super::super::scene::put_new;

/// How long an agent's git may take.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// What stands in a lock of ours. Git's are empty or an index.
const OURS: &[u8] = b"makima holds this while it merges\n";

/// Held while the index is read and another is put into its place.
pub(super) struct Lock {
    git: PathBuf,
}

impl Lock {
    /// Takes it. One of ours that is found was left by a life of the daemon that was killed: a task has one turn.
    /// Blocks, for a while at most.
    pub(super) fn take(git: &Path) -> io::Result<Self> {
        let until = Instant::now() + PATIENCE;
        let (path, own) = (git.join("index.lock"), git.join("index.makima"));
        loop {
            if foreign::read(&path, SMALL).is_ok_and(|content| content == OURS) {
                forgiving(fs::remove_file(&path))?;
            }
            put_new(&own, &mut &*OURS)?;
            // It is there with what stands in it, or not at all.
            match fs::hard_link(&own, &path) {
                Ok(()) => {
                    fs::remove_file(&own)?;
                    return Ok(Self { git: git.to_path_buf() });
                }
                Err(failure) if failure.kind() != io::ErrorKind::AlreadyExists => return Err(failure),
                Err(_) if Instant::now() < until => std::thread::sleep(LOOK),
                Err(_) => {
                    forgiving(fs::remove_file(&own))?;
                    return Err(io::Error::other(format!(
                        "a git of the agent's is at work in its repository, or was killed there: {} stands; try again, or remove it",
                        path.display()
                    )));
                }
            }
        }
    }

    /// The repository whose index it is.
    pub(super) fn git(&self) -> &Path {
        &self.git
    }

    /// Puts a copy of this in the place of the index.
    pub(super) fn put_index(&self, index: &Path) -> io::Result<()> {
        put_index(&self.git, index)
    }
}

/// The same, while it is held.
pub(super) fn put_index(git: &Path, index: &Path) -> io::Result<()> {
    let new = git.join("index.makima");
    put_new(&new, &mut fs::File::open(index)?)?;
    fs::rename(new, git.join("index"))
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(failure) = clear(&self.git) {
            tracing::warn!("a lock is left behind: {failure}");
        }
    }
}

/// Takes away a lock of ours, and what was being written beside it.
pub(super) fn clear(git: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(git).is_ok_and(|data| data.is_dir()) {
        return Ok(());
    }
    for name in ["index.makima", "makima.new"] {
        forgiving(fs::remove_file(git.join(name)))?;
    }
    let path = git.join("index.lock");
    if foreign::read(&path, SMALL).is_ok_and(|content| content == OURS) {
        forgiving(fs::remove_file(path))
    } else {
        Ok(())
    }
}
