//! The records of all tasks, as a new life of the daemon reads them.

use std::io;
use std::path::Path;

use fs_err as fs;
use makima_core::id::TaskId;
use makima_core::input::Leftover;
use uuid::Uuid;

use super::mask::Secrets;
use super::record::{Folder, RecordError};
use crate::home::Home;

/// What earlier lives of the daemon left.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// The tasks, in the order of their ids.
    pub tasks: Vec<Leftover>,
    /// Why others could not be read. They are left where they are.
    pub unreadable: Vec<RecordError>,
}

/// Reads what earlier lives of the daemon left in the tasks' folders.
///
/// # Errors
/// The folder that holds them cannot be listed.
pub fn leftovers(home: &Home) -> io::Result<Leftovers> {
    leftovers_in(&home.tasks())
}

/// The same, of a home that is not ours to hold.
///
/// # Errors
/// The folder cannot be listed.
pub fn leftovers_in(tasks: &Path) -> io::Result<Leftovers> {
    let mut found = Leftovers::default();
    for entry in fs::read_dir(tasks)? {
        let path = entry?.path();
        let id = path.file_name().and_then(|name| Uuid::try_parse(&name.to_string_lossy()).ok());
        let Some(id) = id.map(TaskId) else { continue };
        let read = Folder::at(&path).leftover().and_then(|leftover| match leftover {
            Some(leftover) if leftover.spec.id != id => Err(RecordError::Garbled {
                path,
                what: format!("it is the record of the task {}, in another task's folder", leftover.spec.id),
            }),
            other => Ok(other),
        });
        match read {
            Ok(leftover) => found.tasks.extend(leftover),
            Err(why) => {
                tracing::warn!("a task's record cannot be read and is left as it is: {why}");
                found.unreadable.push(why);
            }
        }
    }
    found.tasks.sort_by_key(|leftover| leftover.spec.id);
    Ok(found)
}

impl Leftovers {
    /// Has everything masked from now on that stood in the URLs of tasks whose output may still be read.
    pub fn know_credentials(&self, home: &Home, secrets: &Secrets) {
        for left in self.tasks.iter().filter(|left| !left.closed) {
            if let (Some(id), Some(value)) = (left.spec.credentials, Folder::of(home, left.spec.id).credentials()) {
                secrets.set(id, value);
            }
        }
    }
}
