//! Lock files that a git which was killed has left. One blocks what it stands for until somebody takes it away.
//!
//! In a repository of ours each of them is ours. In one of the user's that is known by what was written down before git
//! was let write there; any other is somebody's who is at work there, and stays.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::blocking;
use super::git::GitError;
use super::reach::Held;
use super::record::{Folder, RecordError};
use super::trouble::Trouble;

/// One that is older belongs to nobody: ours hold the repository's mutex, and those of an earlier life of the daemon have
/// ended by then.
const LOCK_AGE: Duration = Duration::from_secs(5);

/// A branch of the user's that git writes, as a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Writing {
    /// What git takes for it, as bytes: a path need not be text.
    locks: Vec<Vec<u8>>,
}

/// Git is at work on a branch of the user's. Where it is not said to be `over`, what it has left is found by the record.
#[must_use]
pub(super) struct AtWork(Folder);

impl AtWork {
    /// Writes down that git is about to write a branch, by its full name.
    pub(super) async fn on(folder: &Folder, common: &Held, branch: &str) -> Result<Self, Trouble> {
        let branch = format!("{branch}.lock");
        // The branch may be what is checked out, and what is brought may end where the shared repository does.
        let locks = [branch.as_str(), "HEAD.lock", "shallow.lock"].map(|name| common.path().join(name));
        let locks = locks.map(|lock| lock.into_os_string().into_vec()).into();
        let folder = folder.clone();
        Ok(blocking(move || folder.writes(&Writing { locks }).map(|()| Self(folder))).await??)
    }

    /// What became of git. One that has ended by itself has left nothing.
    pub(super) fn over<T>(self, became: &Result<T, GitError>) -> io::Result<()> {
        match became {
            Err(
                GitError::Refused { code: None, .. }
                | GitError::TooLong { .. }
                | GitError::TooMuch { .. }
                | GitError::Cancelled,
            ) => Ok(()),
            Ok(_) | Err(GitError::Refused { .. } | GitError::NotRun { .. }) => self.0.writes_nothing(),
        }
    }
}

/// Takes away what a git has left that was killed as it wrote a branch of the user's for this task, wherever that was.
pub(super) async fn clear_written(folder: &Folder) -> Result<(), String> {
    let folder = folder.clone();
    blocking(move || clear_written_of(&folder)).await?.map_err(|why| why.to_string())
}

fn clear_written_of(folder: &Folder) -> Result<(), RecordError> {
    let Some(Writing { locks }) = folder.writing()? else { return Ok(()) };
    let since = folder.writes_since()?;
    for lock in locks {
        let lock = PathBuf::from(OsString::from_vec(lock));
        let is_ours = fs::symlink_metadata(&lock)
            .and_then(|data| data.modified())
            // Before that git was not at work.
            .is_ok_and(|written| written >= since);
        if is_ours {
            clear(&lock);
        }
    }
    Ok(folder.writes_nothing()?)
}

/// Takes away all lock files of a repository of ours; a young one is given the time to go by itself.
pub(super) async fn clear_all(git_dir: &Path) {
    let git_dir = git_dir.to_path_buf();
    // Where this breaks off, git says what is in its way.
    let _ = blocking(move || clear_all_of(&git_dir)).await;
}

fn clear_all_of(git_dir: &Path) {
    for name in ["packed-refs.lock", "HEAD.lock", "config.lock", "shallow.lock"] {
        clear(&git_dir.join(name));
    }
    let mut folders = vec![git_dir.join("refs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "lock") {
                clear(&path);
            }
        }
    }
}

/// Takes away one; a young one is given the time to go by itself. Blocks.
pub(super) fn clear(path: &Path) {
    let age = |path: &Path| {
        let written = fs::symlink_metadata(path).and_then(|data| data.modified()).ok()?;
        Some(SystemTime::now().duration_since(written).unwrap_or_default())
    };
    // One may be from a time that is yet to come.
    let until = Instant::now() + LOCK_AGE;
    while let Some(age) = age(path) {
        if age < LOCK_AGE && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
        } else {
            tracing::warn!("{} was left by a git that was killed; it is removed", path.display());
            let _ = fs::remove_file(path);
            return;
        }
    }
}
