//! What can happen to the merge in a task's worktree, by name.

use makima_core::Daemon;
use makima_core::effect::Merge;
use makima_core::id::TaskId;
use makima_core::input::{Input, Merging, Outcome};
use makima_core::policy::BranchName;
use makima_core::protocol::DaemonCommand;
use makima_core::view::TaskState;

use super::probe::is_end;
use super::{Machine, UNKNOWN, impossible};

/// No worktree yet.
const NOT_YET: &str = "no worktree yet";
/// The agent has ended, and the end is on its way.
const BROUGHT_IN: &str = "being brought in";
/// What the worktree itself says: none is under way, one with conflicts, one without; or it is in the trash.
pub(super) const NONE: &str = "none";
pub(super) const CONFLICTED: &str = "conflicted";
pub(super) const RESOLVED: &str = "resolved";
pub(super) const GONE: &str = "gone";

/// `mergeStart` of a subtask's branch that has not ended.
pub(super) const TOO_EARLY: &str = "mergeStart, too early";

/// All that can happen to it.
pub(super) const INPUTS: &[&str] = &[
    "listBranches",
    "mergeStart",
    TOO_EARLY,
    "mergeStatus",
    "mergeResolve",
    "mergeCommit",
    "mergeAbort",
    "mergeSkip",
    "checkMergeComplete",
    "the work is committed",
];

pub(super) fn machine() -> Machine {
    let states = vec![UNKNOWN, NOT_YET, NONE, CONFLICTED, RESOLVED, BROUGHT_IN, GONE];
    Machine { name: "merge", states, inputs: INPUTS, never: impossible::MERGE }
}

/// The command that is about a merge, by name.
pub(super) fn named(command: &DaemonCommand) -> Option<&'static str> {
    INPUTS.iter().copied().find(|input| *input == command.kind())
}

/// Where it stands when a command comes; `worktree` is what the worktree says.
pub(super) fn at(daemon: &Daemon, task: TaskId, worktree: &'static str) -> &'static str {
    match daemon.task_at(task) {
        None => UNKNOWN,
        Some(TaskState::Accepting | TaskState::Waiting | TaskState::Preparing) => NOT_YET,
        Some(
            TaskState::Emptying
            | TaskState::HearingOut
            | TaskState::Committing
            | TaskState::OutOfRoom
            | TaskState::Checking
            | TaskState::Delivering
            | TaskState::Concluding
            | TaskState::Unwritten
            | TaskState::Left,
        ) => BROUGHT_IN,
        Some(
            TaskState::MakingKey
            | TaskState::TellingKey
            | TaskState::Held
            | TaskState::Starting
            | TaskState::Attaching
            | TaskState::Running
            | TaskState::Pausing
            | TaskState::Paused
            | TaskState::Resuming
            | TaskState::Ending
            | TaskState::Done
            | TaskState::Failed
            | TaskState::Interrupted,
        ) => worktree,
    }
}

/// Whether a command asks for the work of a task that has not ended.
pub(super) fn too_early(input: &Input, daemon: &Daemon) -> bool {
    let Input::Command { command, .. } = input else { return false };
    let DaemonCommand::MergeStart(body) = &**command else { return false };
    let of = BranchName::task_of(&body.source_branch).and_then(|of| daemon.task_at(of));
    of.is_some_and(|at| !is_end(at))
}

/// Whether there is a worktree that can be merged into.
pub(super) fn is_there(at: &str) -> bool {
    [NONE, CONFLICTED, RESOLVED].contains(&at)
}

/// The same for what only looks and is answered now.
pub(super) fn seen_at(daemon: &Daemon, task: TaskId, worktree: &'static str) -> &'static str {
    if at(daemon, task, worktree) == BROUGHT_IN { BROUGHT_IN } else { worktree }
}

/// Whether a step only looks.
pub(super) const fn looks(merge: &Merge) -> bool {
    matches!(merge, Merge::List { .. } | Merge::Status)
}

/// The command that asked for a step. A list may be for either of two.
pub(super) const fn asked_by(merge: &Merge) -> &'static [&'static str] {
    match merge {
        Merge::List { .. } => &["listBranches", "checkMergeComplete"],
        Merge::Start { .. } => &["mergeStart"],
        Merge::Status => &["mergeStatus"],
        Merge::Resolve { .. } => &["mergeResolve"],
        Merge::Commit { .. } => &["mergeCommit"],
        Merge::Abort => &["mergeAbort"],
        Merge::Skip { .. } => &["mergeSkip"],
    }
}

/// What came of a step that was carried out; `now` is what the worktree says after it.
pub(super) fn came(merge: &Merge, outcome: &Outcome, before: &'static str, now: &'static str) -> &'static str {
    if matches!(outcome, Outcome::Failed(_) | Outcome::NoRoom(_)) {
        return "failed";
    }
    let Outcome::Merging(merging) = outcome else { return "told" };
    if before != now {
        return now;
    }
    match merging {
        Merging::Nothing | Merging::Open { .. } if looks(merge) => "told",
        Merging::Nothing => "refused: no merge is under way",
        Merging::NoBranch => "refused: no such branch",
        Merging::Already => "merged already",
        Merging::InTheWay(_) => "refused: changes are in the way",
        Merging::Busy(_) => "refused: another is under way",
        Merging::NoConflict => "refused: no such conflict",
        Merging::Open { conflicts, .. } if !conflicts.is_empty() => "refused: conflicts are left",
        Merging::Open { .. } => "told that it is under way",
        Merging::Committed(_) => "committed before",
        Merging::Aborted => super::STAYS,
        Merging::Skipped => "kept",
    }
}
