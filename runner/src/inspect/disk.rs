//! What the disk tells of a home, whoever runs there. Only what is cheap: nothing is walked that an agent fills.

use std::path::Path;

use fs_err as fs;
use makima_core::id::TaskId;
use makima_core::input::Stage;
use makima_core::report::{TASKS, TaskReport};
use serde::{Deserialize, Serialize};

use crate::executor::{Folder, agent_of, leftovers_in};

/// What there is on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Bytes that are free where the home lies; none where that cannot be told.
    pub free_bytes: Option<u64>,
    /// Bytes of the journal's segments.
    pub journal_bytes: u64,
    /// The journal's newest segment.
    pub segment: Option<String>,
    /// Bytes of the output logs of the tasks that are told one by one.
    pub log_bytes: u64,
}

impl Disk {
    /// Looks at a home.
    #[must_use]
    pub fn of(home: &Path) -> Self {
        let free = rustix::fs::statvfs(home).ok().map(|found| found.f_bavail.saturating_mul(found.f_frsize));
        let mut disk = Self { free_bytes: free, ..Self::default() };
        for entry in fs::read_dir(home.join("journal")).into_iter().flatten().flatten() {
            let size = entry.metadata().map_or(0, |data| data.len());
            disk.journal_bytes = disk.journal_bytes.saturating_add(size);
            let name = entry.file_name().to_string_lossy().into_owned();
            // They are numbered so that their names sort.
            if name.starts_with("journal-") && disk.segment.as_ref().is_none_or(|newest| *newest < name) {
                disk.segment = Some(name);
            }
        }
        disk
    }
}

/// The length of a task's output log.
#[must_use]
pub fn log_length(home: &Path, task: TaskId) -> u64 {
    fs::metadata(folder(home, task).log()).map_or(0, |data| data.len())
}

/// The process of a task's agent, if that runs.
#[must_use]
pub fn agent(home: &Path, task: TaskId) -> Option<i32> {
    agent_of(&folder(home, task))
}

fn folder(home: &Path, task: TaskId) -> Folder {
    Folder::at(&home.join("tasks").join(task.to_string()))
}

/// The tasks that a daemon left here and that the server does not know to have ended; and how many more there are.
#[must_use]
pub fn tasks(home: &Path) -> (Vec<TaskReport>, usize) {
    let left = leftovers_in(&home.join("tasks")).unwrap_or_default();
    let open: Vec<_> = left.tasks.into_iter().filter(|left| !left.closed).collect();
    let more = open.len().saturating_sub(TASKS);
    let told = open.into_iter().take(TASKS).map(|left| TaskReport {
        id: left.spec.id,
        name: left.spec.name,
        status: match left.stage {
            Stage::Accepted => "accepted",
            Stage::Started(_) => "started",
            Stage::Ended(_) => "ended",
        }
        .to_owned(),
        delivered: left.delivered,
        messages: 0,
        needs: None,
        outbox: 0,
    });
    (told.collect(), more)
}
