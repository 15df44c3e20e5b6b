//! What each command of the server's asks for, and the truth where it cannot apply.

use alloc::format;
use alloc::string::{String, ToString};

use uuid::Uuid;

use crate::effect::Effect;
use crate::id::{SecretId, TaskId};
use crate::limits;
use crate::link::Role;
use crate::notice::{Notice, Party};
use crate::outbox::Report;
use crate::policy::{self, BranchName, RepositoryUrl};
use crate::protocol::{DaemonCommand, SpawnTask};
use crate::step::Step;
use crate::task::{Action, Event, Spec, Task};

const UNKNOWN: &str = "not known to this daemon";
const NOT_YET: &str = "this version of makima cannot do that yet";

/// For commands that have no message of their own to answer with.
const NO_ANSWER: Option<fn(String) -> Report> = None;

impl Step<'_> {
    pub(crate) fn command(&mut self, role: Role, command: DaemonCommand, credentials: Option<SecretId>) {
        // The one that is leaving was open before.
        let open = match role {
            Role::Main => self.daemon.core.link.is_live(),
            Role::Probe => false,
            Role::Leaving => true,
        };
        let opens = matches!(command, DaemonCommand::Authenticated(_) | DaemonCommand::ServerError(_));
        if !open && !opens {
            return self.misbehaved(Party::Server, format!("`{}` came before `authenticated`", command.kind()));
        }
        self.apply(role, command, credentials);
    }

    /// What each command asks for.
    pub(crate) fn apply(&mut self, role: Role, command: DaemonCommand, credentials: Option<SecretId>) {
        match command {
            DaemonCommand::Authenticated(_) => self.authenticated(role),
            DaemonCommand::ServerError(error) if role != Role::Probe && self.daemon.core.link.is_authenticated() => {
                self.daemon.core.counters.server_errors += 1;
                self.out.push(Effect::Tell(Notice::ServerError { code: error.code, message: error.message }));
            }
            DaemonCommand::ServerError(error) => self.rejected(role, error.code, error.message),
            DaemonCommand::SpawnTask(spawn) => self.spawn(spawn, credentials),
            DaemonCommand::InterruptTask(body) => self.interrupt(TaskId(body.task_id), body.graceful),
            DaemonCommand::SendMessage(body) => self.message(TaskId(body.task_id), body.message),
            DaemonCommand::PauseTask(body) => self.not_yet(body.task_id, NO_ANSWER),
            DaemonCommand::ResumeTask(body) => self.not_yet(body.task_id, NO_ANSWER),
            DaemonCommand::InjectSiblingContext(body) => self.not_yet(body.task_id, NO_ANSWER),
            DaemonCommand::ListBranches(body) => self.not_yet(body.task_id, Some(|_| Report::NoBranches)),
            DaemonCommand::MergeStatus(body) => self.not_yet(body.task_id, Some(|_| Report::NoMerge)),
            DaemonCommand::MergeStart(body) => self.not_yet(body.task_id, Some(Report::MergeRefused)),
            DaemonCommand::MergeResolve(body) => self.not_yet(body.task_id, Some(Report::MergeRefused)),
            DaemonCommand::MergeCommit(body) => self.not_yet(body.task_id, Some(Report::MergeRefused)),
            DaemonCommand::MergeAbort(body) => self.not_yet(body.task_id, Some(Report::MergeRefused)),
            DaemonCommand::MergeSkip(body) => self.not_yet(body.task_id, Some(Report::MergeRefused)),
            DaemonCommand::CheckMergeComplete(body) => self.not_yet(body.task_id, Some(|_| Report::CannotComplete)),
            DaemonCommand::RetryCompletionAction(body) => self.not_yet(body.task_id, Some(Report::action_refused)),
            DaemonCommand::CloneWorktree(body) => self.not_yet(body.task_id, Some(Report::CloneRefused)),
            DaemonCommand::CheckTargetExists(body) => {
                self.not_yet(body.task_id, Some(move |_| Report::NoTarget(body.target_dir)));
            }
        }
    }

    fn interrupt(&mut self, task: TaskId, graceful: bool) {
        if self.daemon.tasks.contains_key(&task) {
            self.task(task, Event::Interrupt { graceful });
        } else {
            self.unknown(task, Some(Report::Complete { success: false, error: Some(UNKNOWN.to_string()) }));
        }
    }

    fn message(&mut self, task: TaskId, message: String) {
        if self.daemon.tasks.contains_key(&task) {
            self.on_task(task, |task, s| task.message(message, s));
        } else {
            self.unknown(task, None);
        }
    }

    /// A command that this version knows and cannot carry out: answered, and never in silence. `answer` makes
    /// the command's own answer, where it has one, from the reason.
    fn not_yet<F: FnOnce(String) -> Report>(&mut self, task: Uuid, answer: Option<F>) {
        let task = TaskId(task);
        if !self.daemon.tasks.contains_key(&task) {
            return self.unknown(task, answer.map(|answer| answer(UNKNOWN.to_string())));
        }
        self.on_task(task, |task, s| match answer {
            Some(answer) => task.answer(answer(NOT_YET.to_string()), NOT_YET, s),
            None => task.inapplicable(Some(NOT_YET), s),
        });
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
        let waiting = self.daemon.index.waiting.len();
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
        // It was not known before: that must not be told again once it is.
        self.daemon.core.loose.forget(id);
        let arrival = self.next_arrival();
        let full = waiting > 0 || self.daemon.index.busy >= self.daemon.config.max_tasks as usize;
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
