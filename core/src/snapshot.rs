//! The daemon's state in a form that can be written down and read back. Never the wire's types.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::daemon::{Core, Daemon};
use crate::digest;
use crate::id::TaskId;
use crate::index::Index;
use crate::task::Task;

/// The version of the form that this build writes, and the only one that it reads.
pub const VERSION: u32 = 1;

/// The whole state of a daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    version: u32,
    config: Config,
    core: Core,
    tasks: Vec<(TaskId, Task)>,
    /// Of all of the above.
    seal: u64,
}

/// Why a snapshot is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It was written by another version.
    #[error("the snapshot has version {found}; this makima reads version {VERSION}")]
    Version {
        /// The version that it has.
        found: u32,
    },
    /// What it holds does not add up to what was written.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
}

impl Daemon {
    /// The state as it stands between two steps.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            version: VERSION,
            config: self.config.clone(),
            core: self.core.clone(),
            tasks: self.tasks.iter().map(|(id, task)| (*id, task.clone())).collect(),
            seal: self.seal(),
        }
    }

    /// The digest is the state's; the settings belong to the snapshot too.
    fn seal(&self) -> u64 {
        digest::of(&(self.digest_anew(), &self.config))
    }

    /// The daemon that the snapshot was taken of.
    ///
    /// # Errors
    /// A snapshot of another version, or one that was damaged: it is refused, never misread.
    pub fn restore(snapshot: Snapshot) -> Result<Self, SnapshotError> {
        if snapshot.version != VERSION {
            return Err(SnapshotError::Version { found: snapshot.version });
        }
        let tasks: BTreeMap<TaskId, Task> = snapshot.tasks.into_iter().collect();
        let (config, core, index) = (snapshot.config, snapshot.core, Index::default());
        let mut daemon = Self { config, core, tasks, index, digest: 0 };
        if daemon.seal() != snapshot.seal || !daemon.tasks.values().all(Task::is_whole) {
            return Err(SnapshotError::Damaged("its contents do not match its digest".into()));
        }
        for id in daemon.tasks.keys().copied().collect::<Vec<_>>() {
            daemon.reindex(id);
        }
        daemon.restore_starved();
        daemon.rehash();
        Ok(daemon)
    }
}
