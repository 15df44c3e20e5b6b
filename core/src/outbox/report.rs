//! What there is to tell a server, and how the wire says it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::{SecretId, TaskId};
use crate::input::Branch;
use crate::limits;
use crate::needs;
use crate::protocol::{
    BranchInfo, BranchList, CheckTargetExistsResult, CloneWorktreeResult, CompletionActionResult, DaemonDirectories,
    DaemonMessage, MergeCompleteCheck, MergeResult, MergeStatusResponse, RegisterToolKey, RevokeToolKey, TaskComplete,
    TaskProgress, TaskStatusChange,
};
use crate::task::{Completion, Status};

/// One thing to tell about a task. The wire's message is made when it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The status changed; the same twice where a command could not apply.
    Status {
        /// What it was.
        old: Status,
        /// What it is.
        new: Status,
    },
    /// A step. Only the newest is kept while it cannot be sent.
    Progress(String),
    /// The task was taken on. Kept like a status.
    Accepted,
    /// What it needs a person for, if it needs one. Kept like a status; only the newest matters.
    Needs(Option<String>),
    /// The key by which the task's agent speaks to the server.
    ToolKey(SecretId),
    /// That key is void.
    RevokeKey,
    /// How the completion action went.
    Completion(Completion),
    /// The task has ended.
    Complete {
        /// Whether the agent did what it was to do.
        success: bool,
        /// Why not.
        error: Option<String>,
    },
    /// Answers `listBranches`.
    Branches(Vec<Branch>),
    /// Answers `mergeStatus`; no files where none is under way.
    MergeStatus(Option<MergeOpen>),
    /// Answers a command that moves a merge.
    Merge(MergeWent),
    /// Answers `checkMergeComplete`.
    Gate(Gate),
    /// Answers `cloneWorktree`.
    Cloned {
        /// For people.
        message: String,
        /// Where it was cloned to, if it was.
        to: Option<String>,
    },
    /// Answers `checkTargetExists`.
    Target {
        /// The path.
        path: String,
        /// Whether something is there.
        exists: bool,
    },
    /// Where things lie on this machine. About no task.
    Directories {
        /// The working directory.
        working: String,
        /// Where finished work is cloned to.
        home: String,
        /// One folder per task.
        worktrees: String,
    },
}

/// A merge that is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct MergeOpen {
    pub(crate) source: Option<String>,
    pub(crate) conflicts: Vec<String>,
}

/// How a step of a merge went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct MergeWent {
    pub(crate) success: bool,
    pub(crate) message: String,
    pub(crate) commit: Option<String>,
    pub(crate) conflicts: Vec<String>,
}

impl MergeWent {
    /// It did not, and why.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// It did.
    pub(crate) fn done(message: impl Into<String>) -> Self {
        Self { success: true, message: message.into(), ..Self::default() }
    }
}

/// How far an orchestrator is with its subtasks' branches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Gate {
    pub(crate) can_complete: bool,
    pub(crate) unmerged: Vec<String>,
    pub(crate) merged: u32,
    pub(crate) skipped: u32,
}

impl Report {
    /// As the wire has it. A secret is not in it.
    pub(crate) fn message(&self, task: TaskId) -> DaemonMessage {
        let task_id = task.0;
        match self {
            Self::Status { old, new } => {
                TaskStatusChange { task_id, old_status: old.as_str().to_string(), new_status: new.as_str().to_string() }
                    .into()
            }
            Self::Progress(summary) => TaskProgress { task_id, summary: summary.clone() }.into(),
            Self::Accepted => TaskProgress { task_id, summary: "accepted".to_string() }.into(),
            Self::Needs(what) => TaskProgress { task_id, summary: needs::told(what.as_deref()) }.into(),
            Self::ToolKey(_) => RegisterToolKey { task_id, key: String::new() }.into(),
            Self::RevokeKey => RevokeToolKey { task_id }.into(),
            Self::Completion(Completion { success, message, url }) => {
                let (message, pr_url) = (message.clone(), url.clone());
                CompletionActionResult { task_id, success: *success, message, pr_url }.into()
            }
            Self::Complete { success, error } => {
                TaskComplete { task_id, success: *success, error: error.clone() }.into()
            }
            Self::Branches(branches) => BranchList { task_id, branches: listed(branches) }.into(),
            Self::MergeStatus(open) => {
                let MergeOpen { source, conflicts } = open.clone().unwrap_or_default();
                let conflicted_files = cut(conflicts);
                let in_progress = open.is_some();
                MergeStatusResponse { task_id, in_progress, source_branch: source, conflicted_files }.into()
            }
            Self::Merge(MergeWent { success, message, commit, conflicts }) => MergeResult {
                task_id,
                success: *success,
                message: message.clone(),
                commit_sha: commit.clone(),
                conflicts: (!conflicts.is_empty()).then(|| cut(conflicts.clone())),
            }
            .into(),
            Self::Gate(Gate { can_complete, unmerged, merged, skipped }) => MergeCompleteCheck {
                task_id,
                can_complete: *can_complete,
                unmerged_branches: cut(unmerged.clone()),
                merged_count: *merged,
                skipped_count: *skipped,
            }
            .into(),
            Self::Cloned { message, to } => {
                let (message, target_dir) = (message.clone(), to.clone());
                CloneWorktreeResult { task_id, success: to.is_some(), message, target_dir }.into()
            }
            Self::Target { path, exists } => {
                CheckTargetExistsResult { task_id, exists: *exists, target_dir: path.clone() }.into()
            }
            Self::Directories { working, home, worktrees } => DaemonDirectories {
                working_directory: working.clone(),
                home_directory: home.clone(),
                worktrees_directory: worktrees.clone(),
            }
            .into(),
        }
    }

    /// The secret that goes into the message.
    pub(super) const fn secret(&self) -> Option<SecretId> {
        if let Self::ToolKey(key) = self { Some(*key) } else { None }
    }

    /// A command that moves a merge was not carried out.
    pub(crate) fn merge_refused(message: String) -> Self {
        Self::Merge(MergeWent::refused(message))
    }

    /// `retryCompletionAction` was not carried out.
    pub(crate) const fn action_refused(message: String) -> Self {
        Self::Completion(Completion { success: false, message, url: None })
    }

    /// `cloneWorktree` was not carried out.
    pub(crate) const fn clone_refused(message: String) -> Self {
        Self::Cloned { message, to: None }
    }

    /// Whether it answers a command and tells nothing new about the task. Only such are ever dropped.
    pub(super) const fn is_answer(&self) -> bool {
        match self {
            Self::Accepted
            | Self::Needs(_)
            | Self::ToolKey(_)
            | Self::RevokeKey
            | Self::Completion(_)
            | Self::Complete { .. }
            | Self::Directories { .. } => false,
            Self::Status { old, new } => *old as u8 == *new as u8,
            Self::Progress(_)
            | Self::Branches(_)
            | Self::MergeStatus(_)
            | Self::Merge(_)
            | Self::Gate(_)
            | Self::Cloned { .. }
            | Self::Target { .. } => true,
        }
    }
}

/// A list that fits into a message; what does not is counted by its last entry.
fn cut(list: Vec<String>) -> Vec<String> {
    shorten(list, String::len, |more| format!("… and {more} more"))
}

fn listed(branches: &[Branch]) -> Vec<BranchInfo> {
    let info = |branch: &Branch| BranchInfo {
        name: branch.name.clone(),
        task_id: branch.task.map(|task| task.0),
        is_merged: branch.merged,
        last_commit: branch.commit.clone(),
        last_commit_message: branch.subject.clone(),
    };
    let length = |info: &BranchInfo| {
        info.name.len().saturating_add(info.last_commit_message.len()).saturating_add(limits::LIST_ENTRY)
    };
    shorten(branches.iter().map(info).collect(), length, |more| BranchInfo {
        name: format!("… and {more} more"),
        task_id: None,
        is_merged: false,
        last_commit: String::new(),
        last_commit_message: String::new(),
    })
}

fn shorten<T>(mut list: Vec<T>, length: impl Fn(&T) -> usize, more: impl FnOnce(usize) -> T) -> Vec<T> {
    let mut room = limits::LIST_BYTES;
    let fits = |entry: &&T| {
        // In JSON a character of a name may take six.
        let fits = room.checked_sub(length(entry).saturating_mul(6).saturating_add(limits::LIST_ENTRY));
        room = fits.unwrap_or_default();
        fits.is_some()
    };
    let kept = list.iter().take_while(fits).count();
    let left = list.len().saturating_sub(kept);
    if left > 0 {
        list.truncate(kept);
        list.push(more(left));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_too_long_says_so_in_its_last_entry() {
        let names: Vec<String> = (0..100_000).map(|n| format!("folder/file-{n}")).collect();
        let cut = cut(names.clone());
        assert!(cut.len() < names.len());
        assert_eq!(cut.last(), Some(&format!("… and {} more", names.len() - (cut.len() - 1))));
        let bytes: usize = cut.iter().map(String::len).sum();
        assert!(bytes <= limits::LIST_BYTES);
        let few = names.get(..3).expect("three").to_vec();
        assert_eq!(super::cut(few.clone()), few);
    }

    /// Protects people from being told that a merge went well, or has no conflicts, where it is otherwise.
    #[test]
    fn a_merge_is_told_of_as_it_went() {
        let told = |went| {
            let message = Report::Merge(went).message(TaskId(uuid::Uuid::nil()));
            let DaemonMessage::MergeResult(it) = message else { panic!("{message:?} is of no merge") };
            (it.success, it.message, it.conflicts)
        };
        assert_eq!(told(MergeWent::done("merged")), (true, "merged".to_string(), None));
        let conflicts = alloc::vec!["a".to_string()];
        let refused = MergeWent { conflicts: conflicts.clone(), ..MergeWent::refused("no") };
        assert_eq!(told(refused), (false, "no".to_string(), Some(conflicts)));
    }

    #[test]
    fn each_branch_is_listed() {
        let commit = "c0ffee".to_string();
        let branch = Branch { name: "a".to_string(), task: None, merged: true, commit, subject: String::new() };
        let names: Vec<String> = listed(&[branch]).into_iter().map(|info| info.name).collect();
        assert_eq!(names, ["a"]);
    }
}
