//! Daemon to server: 16 messages.

use alloc::string::String;
use alloc::vec::Vec;

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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
pub fn write_task_output(out: &mut Vec<u8>, task: Uuid, output: &str, is_partial: bool) {
    begin_task_output(out, task);
    finish_task_output(out, output, is_partial);
}

/// The part of that which is the same for all of a task's output.
pub fn begin_task_output(out: &mut Vec<u8>, task: Uuid) {
    out.extend_from_slice(br#"{"type":"taskOutput","taskId":""#);
    out.extend_from_slice(task.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    out.extend_from_slice(br#"","output":""#);
}

/// The rest.
pub fn finish_task_output(out: &mut Vec<u8>, output: &str, is_partial: bool) {
    push_escaped(out, output.as_bytes());
    out.extend_from_slice(if is_partial { br#"","isPartial":true}"# } else { br#"","isPartial":false}"# });
}

/// Bytes that are looked at together.
const BLOCK: usize = 16;

/// Stands for an escape by number.
const LONG: u8 = 1;

/// The letter behind the backslash as which JSON writes a byte; 0 where it is written as it is.
const fn escape(byte: u8) -> u8 {
    match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        0..0x20 => LONG,
        _ => 0,
    }
}

/// [`escape`] of every byte.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut rest = escapes.as_mut_slice();
    let mut byte = 0_u8;
    while let [first, others @ ..] = rest {
        *first = escape(byte);
        byte = byte.wrapping_add(1);
        rest = others;
    }
    escapes
};

/// Appends the inside of a JSON string, escaped as `serde_json` does it: blocks without anything to escape in
/// one go, others a byte at a time and without a branch for each, as agents write JSON and that is full of quotes.
fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let is_clean = |block: &&[u8; BLOCK]| {
        !block.iter().fold(false, |any, byte| any | (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\'))
    };
    let (mut blocks, last) = text.as_chunks();
    loop {
        let clean = blocks.iter().take_while(is_clean).count();
        let (clean, others) = blocks.split_at_checked(clean).unwrap_or((blocks, &[]));
        out.extend_from_slice(clean.as_flattened());
        let Some((block, behind)) = others.split_first() else { break };
        push_block(out, block);
        blocks = behind;
    }
    push_block(out, last);
}

/// Appends a block that may hold something to escape.
fn push_block(out: &mut Vec<u8>, block: &[u8]) {
    let mut laid = [0; 2 * BLOCK];
    let mut length = 0_usize;
    for byte in block {
        let escape = ESCAPES.get(usize::from(*byte)).copied().unwrap_or_default();
        if escape == LONG {
            return push_numbered(out, block);
        }
        // Two are laid always; one that is not wanted is laid over.
        let (first, second) = if escape == 0 { (*byte, 0) } else { (b'\\', escape) };
        // (Wrapping never happens, and need not be looked for.)
        if let Some([one, other]) = laid.get_mut(length..length.wrapping_add(2)) {
            (*one, *other) = (first, second);
        }
        length = length.wrapping_add(1 + usize::from(escape != 0));
    }
    out.extend_from_slice(laid.get(..length).unwrap_or_default());
}

/// The same for a block in which escapes by number stand.
#[cold]
fn push_numbered(out: &mut Vec<u8>, block: &[u8]) {
    let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' + half - 10 };
    for byte in block {
        match escape(*byte) {
            0 => out.push(*byte),
            LONG => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 0xf)]),
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
    }
}
