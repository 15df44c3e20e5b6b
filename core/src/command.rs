//! What each command of the server's asks for, and the truth where it cannot apply.

use alloc::format;
use alloc::string::{String, ToString};

use crate::daemon::Step;
use crate::id::{SecretId, TaskId};
use crate::limits;
use crate::notice::Notice;
use crate::outbox::Report;
use crate::policy::{self, BranchName, RepositoryUrl};
use crate::protocol::{DaemonCommand, SpawnTask};
use crate::task::{Action, Event, Spec, Task};

const UNKNOWN: &str = "not known to this daemon";
const NOT_YET: &str = "this version of makima cannot do that yet";

impl Step<'_> {
    pub(crate) fn command(&mut self, command: DaemonCommand, credentials: Option<SecretId>) {
        if !self.daemon.core.link.is_live() {
            return match command {
                DaemonCommand::Authenticated(_) => self.authenticated(),
                DaemonCommand::ServerError(error) => self.rejected(error.code, error.message),
                other => self.not_yet_open(&other),
            };
        }
        match command {
            DaemonCommand::Authenticated(_) => self.authenticated(),
            DaemonCommand::ServerError(error) => {
                self.daemon.core.counters.server_errors += 1;
                self.out.push(crate::effect::Effect::Tell(Notice::ServerError {
                    code: error.code,
                    message: error.message,
                }));
            }
            DaemonCommand::SpawnTask(spawn) => self.spawn(spawn, credentials),
            DaemonCommand::InterruptTask(body) => {
                let task = TaskId(body.task_id);
                if self.daemon.tasks.contains_key(&task) {
                    self.task(task, Event::Interrupt { graceful: body.graceful });
                } else {
                    let error = Some(UNKNOWN.to_string());
                    self.unknown(task, Some(Report::Complete { success: false, error }));
                }
            }
            DaemonCommand::SendMessage(body) => {
                let task = TaskId(body.task_id);
                if self.daemon.tasks.contains_key(&task) {
                    self.task(task, Event::Message(body.message));
                } else {
                    self.unknown(task, None);
                }
            }
            other => self.not_yet(other),
        }
    }

    /// Commands that this version knows and cannot carry out: each is answered, none in silence.
    fn not_yet(&mut self, command: DaemonCommand) {
        let merge = |known: bool| Report::MergeRefused(if known { NOT_YET } else { UNKNOWN }.to_string());
        let known = |id: &uuid::Uuid| self.daemon.tasks.contains_key(&TaskId(*id));
        let (task, report) = match command {
            DaemonCommand::PauseTask(body) => (body.task_id, None),
            DaemonCommand::ResumeTask(body) => (body.task_id, None),
            DaemonCommand::InjectSiblingContext(body) => (body.task_id, None),
            DaemonCommand::ListBranches(body) => (body.task_id, Some(Report::NoBranches)),
            DaemonCommand::MergeStatus(body) => (body.task_id, Some(Report::NoMerge)),
            DaemonCommand::MergeStart(body) => (body.task_id, Some(merge(known(&body.task_id)))),
            DaemonCommand::MergeResolve(body) => (body.task_id, Some(merge(known(&body.task_id)))),
            DaemonCommand::MergeCommit(body) => (body.task_id, Some(merge(known(&body.task_id)))),
            DaemonCommand::MergeAbort(body) => (body.task_id, Some(merge(known(&body.task_id)))),
            DaemonCommand::MergeSkip(body) => (body.task_id, Some(merge(known(&body.task_id)))),
            DaemonCommand::CheckMergeComplete(body) => (body.task_id, Some(Report::CannotComplete)),
            DaemonCommand::RetryCompletionAction(body) => {
                let message = if known(&body.task_id) { NOT_YET } else { UNKNOWN }.to_string();
                (body.task_id, Some(Report::Completion(crate::task::Completion { success: false, message })))
            }
            DaemonCommand::CloneWorktree(body) => {
                let message = if known(&body.task_id) { NOT_YET } else { UNKNOWN }.to_string();
                (body.task_id, Some(Report::CloneRefused(message)))
            }
            DaemonCommand::CheckTargetExists(body) => (body.task_id, Some(Report::NoTarget(body.target_dir))),
            // Carried out above.
            DaemonCommand::Authenticated(_)
            | DaemonCommand::SpawnTask(_)
            | DaemonCommand::InterruptTask(_)
            | DaemonCommand::SendMessage(_)
            | DaemonCommand::ServerError(_) => return,
        };
        let task = TaskId(task);
        if !self.daemon.tasks.contains_key(&task) {
            return self.unknown(task, report);
        }
        match report {
            None => {
                self.on_task(task, |task, s| task.inapplicable(Some(NOT_YET), s));
            }
            Some(report) => {
                self.daemon.core.counters.inapplicable += 1;
                self.on_task(task, |task, s| {
                    task.answer(Report::Progress(NOT_YET.to_string()), s);
                    task.answer(report, s);
                });
            }
        }
    }

    /// The command names a task that is not known here: `taskProgress` says so, and its own answer, if it has
    /// one, is empty.
    fn unknown(&mut self, task: TaskId, answer: Option<Report>) {
        self.daemon.core.counters.unknown_tasks += 1;
        self.loose(task, Report::Progress(UNKNOWN.to_string()));
        if let Some(answer) = answer {
            self.loose(task, answer);
        }
    }

    fn loose(&mut self, task: TaskId, report: Report) {
        let live = self.daemon.core.link.is_live();
        if !self.daemon.core.loose.push(task, report, 0, live) {
            self.daemon.core.counters.dropped_reports += 1;
        }
    }

    fn spawn(&mut self, spawn: SpawnTask, credentials: Option<SecretId>) {
        let id = TaskId(spawn.task_id);
        if self.daemon.tasks.contains_key(&id) {
            self.daemon.core.counters.duplicate_spawns += 1;
            self.on_task(id, Task::tell_again);
            return;
        }
        let waiting = self.daemon.index.waiting();
        let refusal = if waiting >= limits::WAITING_TASKS {
            Some(format!("{waiting} tasks wait here already, and that is the most that may"))
        } else if self.daemon.core.stopping.is_some() {
            Some("this daemon is about to end".to_string())
        } else {
            None
        };
        match refusal.map_or_else(|| specify(spawn, credentials), Err) {
            Ok(spec) => self.accept(spec, waiting),
            Err(why) => {
                self.daemon.core.counters.refused_tasks += 1;
                self.loose(id, Report::Progress(format!("refused: {why}")));
                self.loose(id, Report::Complete { success: false, error: Some(why) });
            }
        }
    }

    fn accept(&mut self, spec: Spec, waiting: usize) {
        let id = spec.id;
        let arrival = self.next_arrival();
        let full = self.daemon.index.is_full(self.daemon.config.max_tasks);
        let mut task = self.with_tasks(|_, s| Task::new(spec, arrival, s));
        if full {
            self.with_tasks(|_, s| task.tell_place(waiting.saturating_add(1), s));
        }
        self.daemon.tasks.insert(id, task);
        self.touched.insert(id);
    }
}

/// Applies the rules about names to what the server asks for.
fn specify(spawn: SpawnTask, credentials: Option<SecretId>) -> Result<Spec, String> {
    let id = TaskId(spawn.task_id);
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let name = policy::task_name(&spawn.task_name, &spawn.plan);
    let refused = |refused: policy::Refused| refused.to_string();
    if spawn.continue_from_task_id.is_some() {
        return Err(format!("continueFromTaskId: {NOT_YET}"));
    }
    Ok(Spec {
        id,
        branch: BranchName::of(&name, id),
        name,
        plan: spawn.plan,
        repository: given(spawn.repo_url).map(|url| RepositoryUrl::read(&url)).transpose().map_err(refused)?,
        credentials,
        base: given(spawn.base_branch).map(|base| policy::revision(&base)).transpose().map_err(refused)?,
        parent: spawn.parent_task_id.map(TaskId),
        depth: spawn.depth,
        action: match spawn.completion_action.as_deref() {
            None | Some("" | "none") => Action::None,
            Some("branch") => Action::Branch,
            Some(other) => Action::Other(policy::shorten(other, limits::NAME_SHOWN)),
        },
        target: given(spawn.target_repo_path),
    })
}
