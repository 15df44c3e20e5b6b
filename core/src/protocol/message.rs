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
    begin_task_output(out, task);
    finish_task_output(out, output, is_partial);
}

/// The part of that which is the same for all of a task's output.
pub fn begin_task_output(out: &mut String, task: Uuid) {
    out.push_str(r#"{"type":"taskOutput","taskId":""#);
    out.push_str(task.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    out.push_str(r#"","output":""#);
}

/// The rest.
pub fn finish_task_output(out: &mut String, output: &str, is_partial: bool) {
    push_escaped(out, output);
    out.push_str(if is_partial { r#"","isPartial":true}"# } else { r#"","isPartial":false}"# });
}

/// Appends the inside of a JSON string, escaped as `serde_json` does it. What needs no escape is copied in
/// one go: `serde_json` without `std` can only write to a string of its own, a copy more for every line.
fn push_escaped(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some((clean, byte, tail)) = split_at_escape(rest) {
        out.push_str(clean);
        match byte {
            b'"' => out.push_str(r#"\""#),
            b'\\' => out.push_str(r"\\"),
            b'\n' => out.push_str(r"\n"),
            b'\r' => out.push_str(r"\r"),
            b'\t' => out.push_str(r"\t"),
            0x08 => out.push_str(r"\b"),
            0x0c => out.push_str(r"\f"),
            _ => {
                // Writing to a `String` cannot fail.
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
        rest = tail;
    }
    out.push_str(rest);
}

/// What stands before the first byte that JSON escapes, that byte, and what stands behind it.
fn split_at_escape(text: &str) -> Option<(&str, u8, &str)> {
    let at = find_escape(text.as_bytes())?;
    // All such bytes are ASCII: characters of their own.
    let (clean, rest) = text.split_at_checked(at)?;
    let (byte, tail) = rest.split_at_checked(1)?;
    Some((clean, *byte.as_bytes().first()?, tail))
}

/// Where the first byte stands that JSON escapes. Bytes near by one at a time, for text that is JSON itself;
/// then in blocks without a branch inside, which compilers turn into vector instructions.
fn find_escape(bytes: &[u8]) -> Option<usize> {
    const NEAR: usize = 8;
    const BLOCK: usize = 16;
    let escaped = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    let (near, far) = bytes.split_at_checked(NEAR).unwrap_or((bytes, &[]));
    if let Some(at) = near.iter().position(escaped) {
        return Some(at);
    }
    let (blocks, _) = far.as_chunks::<BLOCK>();
    let clean = blocks.iter().take_while(|block| !block.iter().fold(false, |any, byte| any | escaped(byte))).count();
    let start = near.len() + clean * BLOCK;
    bytes.get(start..)?.iter().position(escaped).map(|at| start + at)
}
