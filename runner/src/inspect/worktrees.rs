//! The tasks' worktrees, as the disk tells of them: whose each is, how large, and why it is still there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs_err as fs;
use makima_core::Keep;
use makima_core::id::TaskId;
use makima_core::input::{Leftover, Stage};
use makima_core::policy::counted;
use makima_core::time::Millis;
use uuid::Uuid;

use super::disk;
use crate::executor::{Trash, leftovers_in};

const DAY: u64 = 24 * 60 * 60;

/// One folder among the worktrees.
#[derive(Clone, Debug)]
pub struct Worktree {
    /// The folder.
    pub path: PathBuf,
    /// The task that it is named after; none where it bears another name.
    pub id: Option<TaskId>,
    /// Why it is there.
    pub why: Why,
    /// What is written down of its task, if anything that can be read is.
    pub task: Option<Leftover>,
    /// For how many seconds the server has known that its task ended; none where it does not.
    pub told: Option<u64>,
    /// Somebody took it out of the trash.
    pub wanted: bool,
    /// The task whose subtask it is has not ended: it may still be merged.
    pub needed: bool,
}

/// Whether a worktree may go, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Stays(String),
    /// It may go.
    Goes(String),
}

/// Why a worktree is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its agent runs.
    Runs,
    /// Its task has not ended, and no agent runs: it waits, is being prepared or finished, or its daemon is away.
    Unended,
    /// Its task ended so many seconds ago.
    Ended(u64),
    /// What is written down of its task cannot be read.
    Unreadable,
    /// Nothing is written down of any task that it could belong to.
    NoTask,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Runs => f.write_str("runs"),
            Self::Unended => f.write_str("has not ended"),
            Self::Ended(ago) if *ago < DAY => f.write_str("ended today"),
            Self::Ended(ago) => write!(f, "ended {} ago", counted(ago / DAY, "day")),
            Self::Unreadable => f.write_str("its task's record cannot be read"),
            Self::NoTask => f.write_str("no task known"),
        }
    }
}

impl Worktree {
    /// Whether it may go into the trash by itself. The rules are the daemon's own.
    #[must_use]
    pub fn fate(&self, keep: &Keep) -> Fate {
        match self.may_go() {
            Err(why) => Fate::Stays(why),
            Ok(_) if self.wanted => Fate::Stays("was taken out of the trash".to_owned()),
            Ok(_) if self.needed => Fate::Stays("its orchestrator has not ended".to_owned()),
            Ok(told) if keep.due(Millis::seconds(told)).is_some() => Fate::Goes(self.why.to_string()),
            Ok(told) => {
                let left = (keep.worktrees.0 / 1_000).saturating_sub(told).div_ceil(DAY);
                Fate::Stays(format!("{}, goes in {}", self.why, counted(left, "day")))
            }
        }
    }

    /// Whether somebody may put it into the trash: for how many seconds the server has known that its task ended.
    ///
    /// # Errors
    /// Why nobody may.
    pub fn may_go(&self) -> Result<u64, String> {
        match self.why {
            Why::Runs | Why::Unended | Why::Unreadable | Why::NoTask => Err(self.why.to_string()),
            Why::Ended(_) => self.told.ok_or_else(|| "ended, and its server does not know yet".to_owned()),
        }
    }

    /// Its task's status in a word; none where nothing is known of it.
    #[must_use]
    pub fn status(&self) -> Option<String> {
        Some(match &self.task.as_ref()?.stage {
            Stage::Accepted => "accepted".to_owned(),
            Stage::Started(_) => "started".to_owned(),
            Stage::Ended(end) => makima_core::task::Status::from(end.status).as_str().to_owned(),
        })
    }
}

/// The worktrees of a home, in the order of their names. Files among them are none.
///
/// # Errors
/// The folder cannot be listed. One that is not there has none.
pub fn worktrees(home: &Path) -> io::Result<Vec<Worktree>> {
    let listed = match fs::read_dir(home.join("worktrees")) {
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let tasks = home.join("tasks");
    // A home without tasks has none that could be read.
    let known = leftovers_in(&tasks).unwrap_or_default().tasks.into_iter();
    let mut known: BTreeMap<TaskId, Leftover> = known.map(|left| (left.spec.id, left)).collect();
    let has_ended = |left: &Leftover| matches!(left.stage, Stage::Ended(_));
    let unended: BTreeSet<TaskId> = known.values().filter(|left| !has_ended(left)).map(|left| left.spec.id).collect();
    let trash = Trash::of(home);
    let mut found = Vec::new();
    for entry in listed {
        let path = entry?.path();
        if !fs::symlink_metadata(&path).is_ok_and(|data| data.is_dir()) {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let id = Uuid::try_parse(&name).ok().map(TaskId);
        let task = id.and_then(|id| known.remove(&id));
        let why = why(home, id, task.as_ref());
        let told = id.and_then(|id| age(&tasks.join(id.to_string()).join("closed")));
        let parent = task.as_ref().and_then(|task| task.spec.parent);
        let needed = parent.is_some_and(|parent| unended.contains(&parent));
        found.push(Worktree { path, id, why, task, told, wanted: id.is_some_and(|id| trash.is_wanted(id)), needed });
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn why(home: &Path, id: Option<TaskId>, task: Option<&Leftover>) -> Why {
    let Some(id) = id else { return Why::NoTask };
    let record = home.join("tasks").join(id.to_string());
    match task {
        None if record.join("spec.json").exists() => Why::Unreadable,
        None => Why::NoTask,
        Some(_) if disk::agent(home, id).is_some() => Why::Runs,
        Some(Leftover { stage: Stage::Ended(_), .. }) => Why::Ended(age(&record.join("end.json")).unwrap_or_default()),
        Some(Leftover { stage: Stage::Accepted | Stage::Started(_), .. }) => Why::Unended,
    }
}

/// For how many seconds a file has been as it is; none where it is not there.
fn age(file: &Path) -> Option<u64> {
    let written = fs::metadata(file).and_then(|data| data.modified()).ok()?;
    Some(SystemTime::now().duration_since(written).unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_worktree_is_there_is_told_in_days() {
        let told = [Why::Ended(DAY - 1), Why::Ended(DAY), Why::Ended(3 * DAY + 5)].map(|why| why.to_string());
        assert_eq!(told, ["ended today", "ended 1 day ago", "ended 3 days ago"]);
    }
}
