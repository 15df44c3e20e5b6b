//! What the server asks of the daemon.

use makima_core::agent::{Answer, Verdict};
use makima_core::id::TaskId;
use makima_core::policy::BranchName;
use makima_core::protocol::{
    CheckMergeComplete, CheckTargetExists, CloneWorktree, DaemonCommand, InjectSiblingContext, InterruptTask,
    ListBranches, MergeAbort, MergeCommit, MergeResolve, MergeSkip, MergeStart, MergeStatus, PauseTask, ResumeTask,
    RetryCompletionAction, SendMessage, ServerError, SpawnTask,
};

use super::{Act, TASKS, TaskKind, World, task_id};

impl World {
    /// The server says something. It is there to be heard.
    pub(super) fn say(&mut self, act: Act) -> bool {
        if let Act::Spawn { task, .. } | Act::Interrupt { task, .. } | Act::Message { task } | Act::Other { task, .. } =
            act
            && self.machine.folder(task_id(task)).is_some_and(|folder| folder.forgotten)
        {
            // Nobody asks for what was over and done with months ago.
            return false;
        }
        match act {
            // Nobody goes on with what has not begun.
            Act::Spawn { task, kind: TaskKind { continues: true, .. } } if !self.has_begun(continued(task)) => {
                return false;
            }
            Act::Spawn { task, kind } => self.spawn(task, kind),
            Act::Interrupt { task, graceful } => {
                self.server.say(InterruptTask { task_id: task_id(task).0, graceful });
            }
            Act::Message { task } => {
                let task_id = task_id(task).0;
                let message = self.answer_of_a_person(task).unwrap_or_else(|| {
                    self.messages += 1;
                    self.messages.to_string()
                });
                self.server.say(SendMessage { task_id, message });
            }
            Act::Complain => self.server.say(ServerError { code: "x".to_string(), message: "y".to_string() }),
            Act::Rubbish => self.server.say_rubbish(),
            Act::Other { task, which } => self.server.say(other(task_id(task), which)),
            Act::Accept
            | Act::Refuse(_)
            | Act::Reject { .. }
            | Act::Deliver
            | Act::Answer
            | Act::Flush
            | Act::Cut { .. }
            | Act::Stale
            | Act::Perform { .. }
            | Act::Write { .. }
            | Act::Exit { .. }
            | Act::Advance
            | Act::Pass(_)
            | Act::Sleep
            | Act::Clock { .. }
            | Act::Months
            | Act::Stop { .. }
            | Act::Sync
            | Act::Trouble
            | Act::Rotate
            | Act::Kill { .. }
            | Act::Outage { .. } => return false,
        }
        true
    }

    /// What a person answers where the task's agent asks something, as far as the server was told.
    pub(super) fn answer_of_a_person(&self, task: u8) -> Option<String> {
        let question = self.server.asked_people.get(&task_id(task)).copied()?;
        let verdict = if question.is_multiple_of(2) { Verdict::Allow } else { Verdict::Deny(None) };
        Some(Answer { question, verdict }.write())
    }

    fn has_begun(&self, task: TaskId) -> bool {
        self.machine.folder(task).is_some_and(|folder| folder.starts > 0)
    }

    fn spawn(&mut self, task: u8, kind: TaskKind) {
        let kind = *self.kinds[usize::from(task)].get_or_insert(kind);
        self.server.say(spawn(task_id(task), kind));
    }
}

/// The task that it continues, if it continues any.
fn continued(task: u8) -> TaskId {
    task_id(task.checked_sub(1).unwrap_or(TASKS - 1))
}

fn before(task: TaskId) -> TaskId {
    (0..TASKS).find(|known| task_id(*known) == task).map_or(task, continued)
}

/// Asks for a task of that kind.
pub(crate) fn spawn(task: TaskId, kind: TaskKind) -> SpawnTask {
    let parent = task_id(if task == task_id(0) { TASKS } else { 0 });
    SpawnTask {
        repo_url: kind.local.then(|| "/repository".to_string()),
        parent_task_id: kind.subtask.then_some(parent.0),
        depth: i32::from(kind.subtask),
        is_orchestrator: kind.orchestrator,
        completion_action: kind.branch.then(|| "branch".to_string()),
        continue_from_task_id: kind.continues.then(|| before(task).0),
        ..plain(task)
    }
}

/// One of the commands about what is there.
pub(crate) fn other(task: TaskId, which: u8) -> DaemonCommand {
    let other = task_id(which / 15 % TASKS);
    let task_id = task.0;
    let text = || "x".to_string();
    let branch = || BranchName::of(PLAN, other).to_string();
    match which % 15 {
        0 => PauseTask { task_id }.into(),
        1 => ResumeTask { task_id }.into(),
        2 => ListBranches { task_id }.into(),
        3 => MergeStart { task_id, source_branch: if which < 240 { branch() } else { text() } }.into(),
        4 => MergeAbort { task_id }.into(),
        5 => CheckMergeComplete { task_id }.into(),
        6 => CloneWorktree { task_id, target_dir: text() }.into(),
        7 => CheckTargetExists { task_id, target_dir: text() }.into(),
        8 => MergeStatus { task_id }.into(),
        9 => {
            let strategy = if which < 120 { "ours".to_string() } else { text() };
            MergeResolve { task_id, file: text(), strategy }.into()
        }
        10 => MergeCommit { task_id, message: text() }.into(),
        11 => MergeSkip { task_id, subtask_id: other.0, reason: text() }.into(),
        12 => InjectSiblingContext {
            task_id,
            sibling_task_id: task_id,
            sibling_name: text(),
            sibling_status: text(),
            progress_summary: None,
            changed_files: Vec::new(),
        }
        .into(),
        13 => SpawnTask { repo_url: Some("-x".to_string()), ..plain(REFUSED) }.into(),
        _ => RetryCompletionAction {
            task_id,
            task_name: text(),
            action: ["branch", "merge", "pr", "none"][usize::from(which / 15 % 4)].to_string(),
            target_repo_path: text(),
            target_branch: None,
        }
        .into(),
    }
}

/// What every task is to do.
const PLAN: &str = "do something";

/// A task that is refused each time.
const REFUSED: TaskId = task_id(TASKS + 1);

/// A task without anything that it could do without.
fn plain(task: TaskId) -> SpawnTask {
    SpawnTask::new(task.0, PLAN.to_string())
}
