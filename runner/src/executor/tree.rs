//! The processes of a task: which they are and how they are ended, in either of two ways.

use fs_err as fs;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::answer::lacks_room;
#[cfg(target_os = "linux")]
use super::kin::Kin;
use super::lines::Lines;
use super::proc;
use super::record::{Folder, Held, Intent, forgiving};
use crate::supervise::is_lent;

/// The environment variable that bears the mark of a task's start.
pub(super) const MARK: &str = "MAKIMA_TREE";

/// How processes are found, told apart and ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// By all that Linux has for it: `/proc`, control groups, descriptors of processes, adoption.
    Full,
    /// By what any unix has: file locks, process groups, and each supervisor that knows its own child.
    #[default]
    Portable,
}

impl Way {
    /// The way that was chosen; where there is only one, that.
    #[must_use]
    pub const fn chosen(portable: bool) -> Self {
        if portable || !cfg!(target_os = "linux") { Self::Portable } else { Self::Full }
    }

    /// In which run of the machine a start is made, for its record. What is started in the portable way needs none:
    /// no lock outlasts the machine's run.
    pub(super) fn boot(self) -> String {
        match self {
            Self::Full => proc::boot(),
            Self::Portable => String::new(),
        }
    }

    /// Whether a start that was recorded as made in `boot` may still have processes.
    pub(super) fn may_live(boot: &str) -> bool {
        match Self::of(boot) {
            Self::Full => boot == proc::boot(),
            Self::Portable => true,
        }
    }

    /// The way of a start, by its record.
    pub(super) const fn of(boot: &str) -> Self {
        if boot.is_empty() { Self::Portable } else { Self::Full }
    }
}

/// The number of a task's agent, for people, if that runs.
pub(crate) fn agent_of(folder: &Folder) -> Option<i32> {
    let agent = folder.held().ok()??.agent?;
    let runs = match Way::of(&folder.intent().ok()??.boot) {
        Way::Full => proc::identity(agent.pid) == Some(agent),
        Way::Portable => is_lent(folder.path()),
    };
    runs.then_some(agent.pid)
}

/// The processes of one start of a task.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    /// Known by what `/proc` says of them. Only here has a record's start of a process a meaning.
    #[cfg(target_os = "linux")]
    Full(Kin),
    /// Known by the locks that they hold.
    Portable(Lines),
}

/// What processes take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Bytes of memory.
    pub(super) memory: u64,
    pub(super) processes: u32,
}

/// How the end of a tree went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// None is left that can be ended. So many are known to have been alive beside the agent.
    Empty(u32),
    /// These could not be ended.
    Left(Vec<i32>),
    /// None is left but the supervisor, which has something to write down and no room for it: why.
    Owing(String),
}

/// Why nothing more can be written in a task's folder, where there is no room for it. Blocks.
pub(super) fn no_room(folder: &Folder) -> Option<String> {
    let path = folder.file("room");
    let written = fs::write(&path, [0; 4096]).and_then(|()| forgiving(fs::remove_file(&path)));
    let _ = fs::remove_file(&path);
    written.err().map(|failure| failure.to_string()).filter(|why| lacks_room(why))
}

impl Tree {
    /// The tree of a start: what is known of it is what the supervisor wrote down.
    pub(super) fn of(folder: &Folder, intent: &Intent, held: Option<&Held>) -> Self {
        match Way::of(&intent.boot) {
            #[cfg(target_os = "linux")]
            Way::Full => Self::Full(Kin::of(intent, held)),
            _ => Self::Portable(Lines::of(folder, intent, held)),
        }
    }

    /// The same; none if the machine was started since.
    pub(super) fn left(folder: &Folder, intent: &Intent, held: Option<&Held>) -> Option<Self> {
        Way::may_live(&intent.boot).then(|| Self::of(folder, intent, held))
    }

    /// Signals whoever is left of the tree though its supervisor is gone. Blocks.
    pub(super) fn signal_members(&self, signal: Signal) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Full(kin) => kin.signal_members(signal),
            // They can only be ended, if they are sure to be the agent's.
            Self::Portable(_) => {}
        }
    }

    /// Stops all of it where it stands, or lets it go on; none where only its supervisor can. Blocks.
    pub(super) fn hold(&self, still: bool) -> Option<Result<(), String>> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Full(kin) => Some(if still { kin.freeze() } else { kin.thaw() }),
            Self::Portable(_) => None,
        }
    }

    /// What its processes take. Blocks.
    pub(super) fn takes(&self) -> Result<Taken, String> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Full(kin) => Ok(kin.takes()),
            Self::Portable(_) => Err("in the portable way nobody knows which they are".to_owned()),
        }
    }

    /// Ends all of it, and looks whether anybody is left. Blocks.
    pub(super) fn end(&self) -> Ended {
        self.end_but(None)
    }

    /// The same, but for a supervisor that has something to write down and no room for it in this folder.
    pub(super) fn end_but(&self, heard_out: Option<&Folder>) -> Ended {
        match self {
            #[cfg(target_os = "linux")]
            Self::Full(kin) => kin.end(heard_out),
            Self::Portable(lines) => lines.end(),
        }
    }
}
