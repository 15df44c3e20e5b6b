//! Server to daemon: 19 commands.

use alloc::string::String;
use alloc::vec::Vec;

use uuid::Uuid;

super::wire! {
    /// What a server can tell a daemon.
    pub enum DaemonCommand {
        /// The session is open.
        "authenticated" Authenticated {
            /// The name under which the server knows this daemon.
            daemon_id: Uuid,
        }
        /// Run a task.
        "spawnTask" SpawnTask {
            /// The task's name on the wire, for good.
            task_id: Uuid,
            /// For people and commit messages. Older servers leave it out: it is read as empty.
            #[serde(default)]
            task_name: String,
            /// What the agent is to do.
            plan: String,
            /// A URL or a local path.
            repo_url: Option<String>,
            /// Where the work starts: a branch, a tag or a full commit id.
            base_branch: Option<String>,
            /// Where a merge goes.
            target_branch: Option<String>,
            /// The orchestrator that this is a subtask of.
            parent_task_id: Option<Uuid>,
            /// 0 top level, 1 subtask, 2 sub-subtask. Never a reason to refuse.
            depth: i32,
            /// Whether it spawns subtasks.
            is_orchestrator: bool,
            /// The user's own repository, outside the daemon's home.
            target_repo_path: Option<String>,
            /// `none`, `branch`, `merge` or `pr`; absent or empty is `none`.
            completion_action: Option<String>,
            /// Start from that task's worktree.
            continue_from_task_id: Option<Uuid>,
            /// Files to bring along from the parent's worktree.
            copy_files: Option<Vec<String>>,
        }
        /// Stop the task's processes for a while.
        "pauseTask" PauseTask {
            /// Which task.
            task_id: Uuid,
        }
        /// Let a paused task go on.
        "resumeTask" ResumeTask {
            /// Which task.
            task_id: Uuid,
        }
        /// End it, gently or at once.
        "interruptTask" InterruptTask {
            /// Which task.
            task_id: Uuid,
            /// Gently: ask first, kill later.
            graceful: bool,
        }
        /// Say this to the running agent.
        "sendMessage" SendMessage {
            /// Which task.
            task_id: Uuid,
            /// The user's words.
            message: String,
        }
        /// Tell the agent how a sibling gets on.
        "injectSiblingContext" InjectSiblingContext {
            /// The task that is told.
            task_id: Uuid,
            /// The task it is told about.
            sibling_task_id: Uuid,
            /// That task's name.
            sibling_name: String,
            /// That task's status.
            sibling_status: String,
            /// What it has done so far.
            progress_summary: Option<String>,
            /// What it has changed so far.
            changed_files: Vec<String>,
        }
        /// Asks for the branches of that task's subtasks.
        "listBranches" ListBranches {
            /// The orchestrator.
            task_id: Uuid,
        }
        /// Begin to merge a branch in the orchestrator's worktree.
        "mergeStart" MergeStart {
            /// The orchestrator.
            task_id: Uuid,
            /// What is merged.
            source_branch: String,
        }
        /// Asks how a merge stands.
        "mergeStatus" MergeStatus {
            /// The orchestrator.
            task_id: Uuid,
        }
        /// Settle one conflicted file.
        "mergeResolve" MergeResolve {
            /// The orchestrator.
            task_id: Uuid,
            /// The conflicted file.
            file: String,
            /// `ours` or `theirs`.
            strategy: String,
        }
        /// Commit the merge.
        "mergeCommit" MergeCommit {
            /// The orchestrator.
            task_id: Uuid,
            /// The commit's message.
            message: String,
        }
        /// Take the merge back.
        "mergeAbort" MergeAbort {
            /// The orchestrator.
            task_id: Uuid,
        }
        /// That subtask is meant not to be merged.
        "mergeSkip" MergeSkip {
            /// The orchestrator.
            task_id: Uuid,
            /// The subtask.
            subtask_id: Uuid,
            /// Why.
            reason: String,
        }
        /// Is every subtask's branch merged or skipped?
        "checkMergeComplete" CheckMergeComplete {
            /// The orchestrator.
            task_id: Uuid,
        }
        /// Do a completion action again, or another one.
        "retryCompletionAction" RetryCompletionAction {
            /// Which task.
            task_id: Uuid,
            /// For people.
            task_name: String,
            /// `branch`, `merge` or `pr`.
            action: String,
            /// Where to.
            target_repo_path: String,
            /// Which branch of it.
            target_branch: Option<String>,
        }
        /// Files and history to another folder.
        "cloneWorktree" CloneWorktree {
            /// Which task.
            task_id: Uuid,
            /// New or empty.
            target_dir: String,
        }
        /// Asks whether a path is there.
        "checkTargetExists" CheckTargetExists {
            /// Which task.
            task_id: Uuid,
            /// The path.
            target_dir: String,
        }
        /// Something went wrong at the server's.
        "error" ServerError {
            /// For programs.
            code: String,
            /// For people.
            message: String,
        }
    }
}

impl SpawnTask {
    /// A task at the top for this plan, and nothing more said of it.
    #[must_use]
    pub const fn new(task_id: Uuid, plan: String) -> Self {
        Self {
            task_id,
            task_name: String::new(),
            plan,
            repo_url: None,
            base_branch: None,
            target_branch: None,
            parent_task_id: None,
            depth: 0,
            is_orchestrator: false,
            target_repo_path: None,
            completion_action: None,
            continue_from_task_id: None,
            copy_files: None,
        }
    }
}
