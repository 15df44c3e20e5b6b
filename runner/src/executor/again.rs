//! Reads once more what was read of the tasks' logs before: the journal holds no output, only what was read of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use makima_core::id::TaskId;
use makima_core::input::{Chunk, Part};

use super::mask::Secrets;
use super::reader::Reader;
use super::record::Folder;

/// Logs that may be open at once.
const OPEN: usize = 32;

/// The logs of the tasks in a home, to be read as they were read before.
#[derive(Debug)]
pub struct Again {
    tasks: PathBuf,
    secrets: Secrets,
    readers: BTreeMap<TaskId, Reader>,
}

impl Again {
    /// Those in this folder, which has one for each task. What is a secret must be known already.
    #[must_use]
    pub const fn new(tasks: PathBuf, secrets: Secrets) -> Self {
        Self { tasks, secrets, readers: BTreeMap::new() }
    }

    /// The text of a chunk. None where the log does not hold it any more, or it would be another one.
    pub fn parts(&mut self, task: TaskId, chunk: &Chunk) -> Option<Vec<Part>> {
        if self.readers.len() > OPEN {
            self.readers.clear();
        }
        let folder = Folder::at(&self.tasks.join(task.to_string()));
        let reader = self.readers.entry(task).or_insert_with(|| Reader::new(folder, self.secrets.clone()));
        reader.again(chunk).ok().flatten()
    }
}
