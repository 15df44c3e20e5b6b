//! What each command of the server's asks for, and the truth where it cannot apply.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};

use uuid::Uuid;

use crate::agent::{Agent, Sibling};
use crate::allowance::Allowance;
use crate::effect::{Effect, Side};
use crate::id::{SecretId, TaskId};
use crate::limits;
use crate::link::Role;
use crate::notice::{Notice, Party};
use crate::outbox::Report;
use crate::policy::{self, BranchName, InnerPath, RepositoryUrl};
use crate::protocol::{DaemonCommand, MergeResolve, MergeStart, RetryCompletionAction, SpawnTask, Wire};
use crate::step::Step;
use crate::task::{Action, Errand, Event, Spec, Surroundings, Task};

const UNKNOWN: &str = "not known to this daemon";

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
            DaemonCommand::PauseTask(body) => self.steer(TaskId(body.task_id), Task::pause),
            DaemonCommand::ResumeTask(body) => self.steer(TaskId(body.task_id), Task::resume),
            DaemonCommand::InjectSiblingContext(body) => {
                let sibling = Sibling {
                    name: body.sibling_name,
                    status: body.sibling_status,
                    summary: body.progress_summary,
                    files: body.changed_files,
                };
                self.steer(TaskId(body.task_id), |task, s| task.sibling(&sibling, s));
            }
            DaemonCommand::ListBranches(body) => self.errand(body.task_id, Errand::Branches),
            DaemonCommand::MergeStatus(body) => self.errand(body.task_id, Errand::Status),
            DaemonCommand::CheckMergeComplete(body) => self.errand(body.task_id, Errand::Gate),
            DaemonCommand::MergeStart(body) => self.merge_start(body),
            DaemonCommand::MergeResolve(body) => self.merge_resolve(body),
            DaemonCommand::MergeCommit(body) => {
                let message = policy::cut(body.message.trim(), limits::COMMIT_MESSAGE);
                let message = Some(message).filter(|message| !message.is_empty());
                self.errand(body.task_id, Errand::Commit { message });
            }
            DaemonCommand::MergeAbort(body) => self.errand(body.task_id, Errand::Abort),
            DaemonCommand::MergeSkip(body) => {
                let (child, why) = (TaskId(body.subtask_id), policy::cut(&body.reason, limits::REASON));
                self.errand(body.task_id, Errand::Skip { child, why });
            }
            DaemonCommand::RetryCompletionAction(body) => self.retry(body),
            DaemonCommand::CloneWorktree(body) => self.errand(body.task_id, Errand::Clone { to: body.target_dir }),
            DaemonCommand::CheckTargetExists(body) => self.look(TaskId(body.task_id), body.target_dir),
        }
    }

    fn merge_start(&mut self, body: MergeStart) {
        let branch = body.source_branch;
        let named = policy::revision(branch.strip_prefix("refs/heads/").unwrap_or(&branch));
        match named {
            Ok(branch) => {
                let task = TaskId(body.task_id);
                let known = self.children(task);
                let child = BranchName::task_of(&branch).filter(|id| known.iter().any(|child| child.task == *id));
                self.errand(body.task_id, Errand::Start { branch, child });
            }
            Err(why) => self.refused(TaskId(body.task_id), Report::merge_refused, why.to_string()),
        }
    }

    fn merge_resolve(&mut self, body: MergeResolve) {
        let side = match body.strategy.as_str() {
            "ours" => Side::Ours,
            "theirs" => Side::Theirs,
            other => {
                let other = policy::shorten(other, limits::NAME_SHOWN);
                let why = format!("`{other}` is no strategy; a file is settled by `ours` or `theirs`");
                return self.refused(TaskId(body.task_id), Report::merge_refused, why);
            }
        };
        self.errand(body.task_id, Errand::Resolve { file: body.file, side });
    }

    fn retry(&mut self, body: RetryCompletionAction) {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let asked = match (Action::read(Some(&body.action)).deed(), given(body.target_branch)) {
            (Ok(Some(deed)), into) => into.map(|into| policy::revision(&into)).transpose().map(|into| (deed, into)),
            (Ok(None) | Err(_), _) => {
                let action = policy::shorten(&body.action, limits::NAME_SHOWN);
                Err(policy::Refused(format!("`{action}` is not an action that makima can do")))
            }
        };
        match asked {
            Ok((deed, into)) => {
                let target = given(Some(body.target_repo_path));
                self.errand(body.task_id, Errand::Retry { deed, target, into });
            }
            Err(why) => self.refused(TaskId(body.task_id), Report::action_refused, why.to_string()),
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
        self.steer(task, |task, s| task.message(message, s));
    }

    /// A command that has no message of its own to answer with.
    fn steer(&mut self, task: TaskId, steer: impl FnOnce(&mut Task, &mut Surroundings<'_>)) {
        if self.on_task(task, steer).is_none() {
            self.unknown(task, None);
        }
    }

    /// A command that is answered by a message of its own.
    fn errand(&mut self, task: Uuid, errand: Errand) {
        let task = TaskId(task);
        if !self.daemon.tasks.contains_key(&task) {
            return self.unknown(task, Some(errand.refused(UNKNOWN.to_string())));
        }
        let children = self.children(task);
        self.on_task(task, |task, s| task.errand(errand, &children, s));
    }

    /// A command says what no task could be asked for.
    fn refused(&mut self, task: TaskId, answer: fn(String) -> Report, why: String) {
        if self.daemon.tasks.contains_key(&task) {
            self.on_task(task, |task, s| task.answer(answer(why.clone()), &why, s));
        } else {
            self.unknown(task, Some(answer(UNKNOWN.to_string())));
        }
    }

    /// The command names a task that is not known here: `taskProgress` says so, and its own answer, if it has
    /// one, is empty.
    pub(crate) fn unknown(&mut self, task: TaskId, answer: Option<Report>) {
        self.daemon.core.counters.unknown_tasks += 1;
        self.loose(task, Report::Progress(UNKNOWN.to_string()));
        if let Some(answer) = answer {
            self.loose(task, answer);
        }
    }

    pub(crate) fn loose(&mut self, task: TaskId, report: Report) {
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
        // Who asks again in a new session has not heard yet that it was refused in the one before, and will: a task that is
        // refused and begun is one whose end nobody would be told.
        let told = self.daemon.core.loose.end_under_way(id).filter(|why| *why != UNKNOWN).map(str::to_string);
        let (pending, free) = (self.daemon.index.pending, self.daemon.index.free(self.daemon.config.max_tasks));
        let waiting = pending.saturating_sub(free);
        let refusal = if told.is_some() {
            told
        } else if waiting >= limits::WAITING_TASKS {
            Some(format!("{waiting} tasks wait here already, and that is the most that may"))
        } else if self.daemon.core.stopping.is_some() {
            Some("this daemon is about to end".to_string())
        } else {
            None
        };
        match refusal.map_or_else(|| self.specify(spawn, credentials), Err) {
            Ok(spec) => self.accept(spec, (pending >= free).then(|| waiting.saturating_add(1))),
            Err(why) => {
                self.daemon.core.counters.refused_tasks += 1;
                self.loose(id, Report::Progress(format!("refused: {why}")));
                self.loose(id, Report::Complete { success: false, error: Some(why) });
            }
        }
    }

    fn specify(&self, mut spawn: SpawnTask, credentials: Option<SecretId>) -> Result<Spec, String> {
        let agent = &self.daemon.config.agent;
        // Two that wait for each other would do so for ever.
        let id = TaskId(spawn.task_id);
        spawn.parent_task_id = spawn.parent_task_id.filter(|parent| !self.is_below(TaskId(*parent), id));
        let conversation = match self.continued(&spawn) {
            Some(old) => {
                if spawn.plan.trim().is_empty() {
                    spawn.plan = old.same_again();
                }
                old.hand_on(agent, self.is_in_use(old))?
            }
            None => None,
        };
        let allowance = self.daemon.config.allowance.clone();
        Ok(Spec { conversation, allowance, ..specify(spawn, credentials, agent)? })
    }

    /// Whether a task is that one, or a subtask of it, or of a subtask's and so on.
    fn is_below(&self, task: TaskId, of: TaskId) -> bool {
        let mut climbed = BTreeSet::new();
        let parent = |task: &TaskId| self.daemon.tasks.get(task).and_then(Task::parent);
        core::iter::successors(Some(task), parent).take_while(|task| climbed.insert(*task)).any(|task| task == of)
    }

    /// The task that it continues, where that means what its agent was told and did, and not the worktree alone.
    fn continued(&self, spawn: &SpawnTask) -> Option<&Task> {
        let two = self.daemon.core.link.wire() == Some(Wire::Two);
        let old = self.daemon.tasks.get(&TaskId(spawn.continue_from_task_id?))?;
        (two || self.daemon.config.compat.continues_conversation).then_some(old)
    }

    /// Whether an agent is at the conversation of that task's, be it its own.
    fn is_in_use(&self, old: &Task) -> bool {
        let goes_on = |task: &Task| !task.has_ended() && task.conversation() == old.conversation();
        old.conversation().is_some() && self.daemon.tasks.values().any(goes_on)
    }

    /// `place`: where in line it is, if it has to wait for a slot.
    fn accept(&mut self, spec: Spec, place: Option<usize>) {
        let id = spec.id;
        // It was not known before: that must not be told again once it is.
        if !bug!(UnknownAfterAll) {
            self.daemon.core.loose.forget(id);
        }
        let arrival = self.next_arrival();
        let parent = spec.parent.and_then(|parent| self.daemon.tasks.get(&parent));
        let parent_here = parent.is_some_and(|parent| parent.works_on(spec.repository.as_ref()));
        let mut task = self.with_tasks(|_, s| Task::new(spec, arrival, parent_here, s));
        if let Some(place) = place {
            self.with_tasks(|_, s| task.tell_place(place, s));
        }
        self.daemon.tasks.insert(id, task);
        self.touched.insert(id);
    }
}

/// Applies the rules about names to what the server asks for.
fn specify(spawn: SpawnTask, credentials: Option<SecretId>, agent: &Agent) -> Result<Spec, String> {
    let id = TaskId(spawn.task_id);
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let name = policy::task_name(&spawn.task_name, &spawn.plan);
    let refused = |refused: policy::Refused| refused.to_string();
    let copy = spawn.copy_files.unwrap_or_default();
    if !copy.is_empty() && spawn.parent_task_id.is_none() {
        return Err("copyFiles come from the parent's worktree, and this task has no parent".to_string());
    }
    Ok(Spec {
        id,
        branch: BranchName::of(&name, id),
        name,
        plan: spawn.plan,
        repository: given(spawn.repo_url).map(|url| RepositoryUrl::read(&url)).transpose().map_err(refused)?,
        credentials,
        base: given(spawn.base_branch).map(|base| policy::revision(&base)).transpose().map_err(refused)?,
        continues: spawn.continue_from_task_id.map(TaskId),
        conversation: None,
        copy: copy.iter().map(|path| InnerPath::read(path)).collect::<Result<_, _>>().map_err(refused)?,
        parent: spawn.parent_task_id.map(TaskId),
        depth: spawn.depth,
        orchestrator: spawn.is_orchestrator,
        agent: agent.clone(),
        allowance: Allowance::default(),
        action: Action::read(spawn.completion_action.as_deref()),
        target: given(spawn.target_repo_path),
        into: given(spawn.target_branch).map(|into| policy::revision(&into)).transpose().map_err(refused)?,
    })
}
