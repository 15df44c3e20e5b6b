//! Daemon to server: 16 messages.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

super::wire! {
    /// What a daemon can tell a server.
    pub enum DaemonMessage {
        /// The first message on every connection.
        "authenticate" Authenticate {
            /// The daemon's key.
            api_key: String,
            /// The machine, for good.
            machine_id: String,
            /// The machine, for people.
            hostname: String,
            /// How many tasks run at once here.
            max_concurrent_tasks: i32,
        }
        /// I am here, and these tasks' ends you have not been told yet.
        "heartbeat" Heartbeat {
            /// Pending and paused ones too.
            active_tasks: Vec<Uuid>,
        }
        /// What the agent wrote: one line, or a piece of one.
        "taskOutput" TaskOutput {
            /// Which task.
            task_id: Uuid,
            /// Without its newline.
            output: String,
            /// The line goes on in the next piece.
            is_partial: bool,
        }
        /// A task's status is another one now.
        "taskStatusChange" TaskStatusChange {
            /// Which task.
            task_id: Uuid,
            /// What it was.
            old_status: String,
            /// What it is.
            new_status: String,
        }
        /// A step, for people.
        "taskProgress" TaskProgress {
            /// Which task.
            task_id: Uuid,
            /// The step.
            summary: String,
        }
        /// The task has ended.
        "taskComplete" TaskComplete {
            /// Which task.
            task_id: Uuid,
            /// Whether the agent did what it was to do.
            success: bool,
            /// Why not.
            error: Option<String>,
        }
        /// An orchestrator got a key for the mesh API.
        "registerToolKey" RegisterToolKey {
            /// Which task.
            task_id: Uuid,
            /// The key.
            key: String,
        }
        /// That key is void.
        "revokeToolKey" RevokeToolKey {
            /// Which task.
            task_id: Uuid,
        }
        /// Answers `listBranches`.
        "branchList" BranchList {
            /// The orchestrator.
            task_id: Uuid,
            /// Its subtasks' branches.
            branches: Vec<BranchInfo>,
        }
        /// Answers `mergeStatus`.
        "mergeStatusResponse" MergeStatusResponse {
            /// The orchestrator.
            task_id: Uuid,
            /// A merge waits for its commit.
            in_progress: bool,
            /// Of which branch.
            source_branch: Option<String>,
            /// What is still in conflict.
            conflicted_files: Vec<String>,
        }
        /// Answers every command that moves a merge.
        "mergeResult" MergeResult {
            /// The orchestrator.
            task_id: Uuid,
            /// Whether it was done.
            success: bool,
            /// For people.
            message: String,
            /// The commit, where one was made.
            commit_sha: Option<String>,
            /// Where there were some.
            conflicts: Option<Vec<String>>,
        }
        /// Answers `checkMergeComplete`.
        "mergeCompleteCheck" MergeCompleteCheck {
            /// The orchestrator.
            task_id: Uuid,
            /// Nothing is left to merge.
            can_complete: bool,
            /// What is left.
            unmerged_branches: Vec<String>,
            /// How many are merged.
            merged_count: u32,
            /// How many are meant not to be.
            skipped_count: u32,
        }
        /// How a completion action went.
        "completionActionResult" CompletionActionResult {
            /// Which task.
            task_id: Uuid,
            /// Whether it was done.
            success: bool,
            /// For people.
            message: String,
            /// The pull request's page.
            pr_url: Option<String>,
        }
        /// Where things lie on this machine.
        "daemonDirectories" DaemonDirectories {
            /// The daemon's working directory.
            working_directory: String,
            /// Where finished work is cloned to.
            home_directory: String,
            /// One folder per task.
            worktrees_directory: String,
        }
        /// Answers `cloneWorktree`.
        "cloneWorktreeResult" CloneWorktreeResult {
            /// Which task.
            task_id: Uuid,
            /// Whether it was done.
            success: bool,
            /// For people.
            message: String,
            /// Where it was cloned to.
            target_dir: Option<String>,
        }
        /// Answers `checkTargetExists`.
        "checkTargetExistsResult" CheckTargetExistsResult {
            /// Which task.
            task_id: Uuid,
            /// Whether it is there.
            exists: bool,
            /// The path that was checked.
            target_dir: String,
        }
    }
}

/// One branch of a subtask.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BranchInfo {
    /// Its full name.
    pub name: String,
    /// Read from the name where that bears one.
    pub task_id: Option<Uuid>,
    /// Whether the orchestrator's worktree has it.
    pub is_merged: bool,
    /// Short id of its newest commit.
    pub last_commit: String,
    /// That commit's subject.
    pub last_commit_message: String,
}

/// Appends the JSON of one `taskOutput` to `out`: the same bytes as [`DaemonMessage::write`], without
/// building the message first. Output is the one thing that comes a million times.
pub fn write_task_output(out: &mut String, task: Uuid, output: &str, is_partial: bool) {
    out.push_str(r#"{"type":"taskOutput","taskId":""#);
    // Writing to a `String` cannot fail.
    let _ = write!(out, "{}", task.as_hyphenated());
    out.push_str(r#"","output":"#);
    out.push_str(&serde_json::to_string(output).unwrap_or_default());
    out.push_str(if is_partial { r#","isPartial":true}"# } else { r#","isPartial":false}"# });
}
