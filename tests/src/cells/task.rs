//! What can happen to a task, by name.

use std::collections::BTreeMap;

use makima_core::Daemon;
use makima_core::effect::{Merge, Work};
use makima_core::id::{EffectId, TaskId};
use makima_core::input::{Boot, ExitStatus, Input, Outcome, Stage, Stop};
use makima_core::protocol::DaemonCommand;
use makima_core::task::{Spec, Status};
use makima_core::view::{LinkState, Role, TaskState};

use super::{Machine, UNKNOWN, impossible};
use crate::world::task_of;

/// All that can happen to one.
pub(super) const INPUTS: &[&str] = &[
    "spawnTask",
    "pauseTask",
    "resumeTask",
    "interruptTask, gracefully",
    "interruptTask, by force",
    "sendMessage",
    "injectSiblingContext",
    "listBranches",
    "mergeStart",
    "mergeStatus",
    "mergeResolve",
    "mergeCommit",
    "mergeAbort",
    "mergeSkip",
    "checkMergeComplete",
    "retryCompletionAction",
    "cloneWorktree",
    "checkTargetExists",
    "a slot is free",
    "its key is known",
    "a deadline",
    "its agent ends well",
    "its agent ends badly",
    "its agent has ended",
    "accept done",
    "accept failed",
    "prepare done",
    "prepare failed",
    "make key done",
    "make key failed",
    "start done",
    "start failed",
    "attach found it",
    "attach found no start",
    "attach failed",
    "freeze done",
    "freeze failed",
    "thaw done",
    "thaw failed",
    "empty done",
    "empty failed",
    "commit done",
    "commit has no room",
    "commit failed",
    "check done",
    "check failed",
    "deliver done",
    "deliver failed",
    "conclude done",
    "conclude failed",
    "forget done",
    BESIDE,
    LATE,
    "stop, gracefully",
    "stop, by force",
    "new life, no record",
    "new life, accepted",
    "new life, started",
    "new life, ended",
];

/// An answer to what is asked beside what a task does: messages and signals to its agent, its output, records, and what
/// its server wants to know. Where freezes and thaws are not waited for any more, theirs too.
const BESIDE: &str = "an answer beside it";

/// An answer to what is not waited for any more.
pub(super) const LATE: &str = "an answer comes too late";

pub(super) fn machine() -> Machine {
    let states = [UNKNOWN].into_iter().chain(TaskState::ALL.iter().map(|state| state.name())).collect();
    Machine { name: "task", states, inputs: INPUTS, never: impossible::TASK }
}

/// What was asked for and is not answered yet, and who started agents.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) works: BTreeMap<EffectId, (TaskId, Work)>,
    pub(super) agents: BTreeMap<EffectId, TaskId>,
    /// The last that was answered.
    pub(super) answered: BTreeMap<TaskId, EffectId>,
}

impl Asked {
    /// The task that is still being written down.
    pub(super) fn unwritten(&self, task: TaskId) -> Option<Spec> {
        let mut its = self.works.values().filter(|(of, _)| *of == task);
        its.find_map(|(_, work)| if let Work::Accept { spec } = work { Some((**spec).clone()) } else { None })
    }

    /// Whether this says that something was written down, or an agent started, in this life or in one before.
    pub(super) fn is_record(&self, input: &Input) -> bool {
        let Input::Done { id, outcome: Outcome::Done | Outcome::Started { .. } } = input else { return false };
        let work = self.works.get(id).map(|(_, work)| work);
        matches!(work, Some(Work::Accept { .. } | Work::Start(_) | Work::Attach | Work::Conclude { .. }))
    }

    /// What is to write the end of a task down, and which end that is.
    pub(super) fn conclusion(&self, task: TaskId) -> Option<(EffectId, &'static str)> {
        self.works.iter().filter(|(_, (of, _))| *of == task).find_map(|(id, (_, work))| {
            if let Work::Conclude { end, .. } = work { Some((*id, Status::from(end.status).as_str())) } else { None }
        })
    }

    /// What brings a task to its end, if that was asked for last: its processes are ended, its work is committed.
    pub(super) fn last_of_end(&self, task: TaskId) -> Option<(EffectId, Work)> {
        let mut its = self.works.iter().filter(|(_, (of, _))| *of == task);
        let (id, (_, work)) = its.rfind(|(_, (_, work))| matches!(work, Work::Empty | Work::Commit(_)))?;
        Some((*id, work.clone()))
    }

    /// The step of a merge that was asked for last.
    pub(super) fn last_merge(&self) -> Option<(EffectId, Merge)> {
        let (id, (_, work)) = self.works.last_key_value()?;
        if let Work::Merge(merge) = work { Some((*id, merge.clone())) } else { None }
    }
}

/// Which task an input is for, and what it is to it.
pub(super) fn named(input: &Input, daemon: &Daemon, asked: &Asked) -> Option<(TaskId, &'static str)> {
    match input {
        Input::Command { epoch, command, .. } => {
            let open = matches!(daemon.link_at(), LinkState::Open | LinkState::Polling | LinkState::Trying);
            let heard = match daemon.role(*epoch)? {
                Role::Main => open,
                Role::Probe => false,
                Role::Leaving => true,
            };
            let task = TaskId(task_of(command)?);
            heard.then(|| (task, command_name(command)))
        }
        Input::Done { id, outcome } => {
            let Some((task, work)) = asked.works.get(id) else {
                let (task, _) = asked.answered.iter().find(|(_, answered)| *answered == id)?;
                return Some((*task, LATE));
            };
            let name = match daemon.owner(*id) {
                Some(_) => answer(work, outcome, daemon.task_at(*task))?,
                None => LATE,
            };
            Some((*task, name))
        }
        Input::Exited { id, status } => {
            let task = *asked.agents.get(id)?;
            let name = match (has_agent(daemon.task_at(task)), *status == ExitStatus::Code(0)) {
                (true, true) => "its agent ends well",
                (true, false) => "its agent ends badly",
                (false, _) => "its agent has ended",
            };
            Some((task, name))
        }
        Input::Boot(_)
        | Input::Tick
        | Input::LinkUp { .. }
        | Input::LinkDown { .. }
        | Input::Unreadable { .. }
        | Input::Said { .. }
        | Input::Flushed { .. }
        | Input::Pong { .. }
        | Input::Journal { .. }
        | Input::Stop { .. } => None,
    }
}

/// Whether its agent is at work, or stands still.
const fn has_agent(at: Option<TaskState>) -> bool {
    use TaskState::{Ending, Paused, Pausing, Resuming, Running};
    matches!(at, Some(Running | Pausing | Paused | Resuming | Ending))
}

/// What a command is called, with what there is more than one of in two ways.
const fn command_name(command: &DaemonCommand) -> &'static str {
    if let DaemonCommand::InterruptTask(body) = command {
        return if body.graceful { "interruptTask, gracefully" } else { "interruptTask, by force" };
    }
    command.kind()
}

/// An answer to something that was asked for; none where that is no task's.
fn answer(work: &Work, outcome: &Outcome, at: Option<TaskState>) -> Option<&'static str> {
    let failed = matches!(outcome, Outcome::Failed(_) | Outcome::NoRoom(_));
    let either = |done, not| Some(if failed { not } else { done });
    match work {
        Work::Accept { .. } => either("accept done", "accept failed"),
        Work::Prepare(_) => either("prepare done", "prepare failed"),
        Work::Start(_) => either("start done", "start failed"),
        Work::Attach if *outcome == Outcome::NotStarted => Some("attach found no start"),
        Work::Attach => either("attach found it", "attach failed"),
        Work::MakeKey => either("make key done", "make key failed"),
        Work::Freeze if has_agent(at) => either("freeze done", "freeze failed"),
        Work::Thaw if has_agent(at) => either("thaw done", "thaw failed"),
        Work::Empty => either("empty done", "empty failed"),
        Work::Commit(_) if matches!(outcome, Outcome::NoRoom(_)) => Some("commit has no room"),
        Work::Commit(_) => either("commit done", "commit failed"),
        Work::Check(_) => either("check done", "check failed"),
        // The task's own, or one that was asked for again.
        Work::Deliver(_) if at == Some(TaskState::Delivering) => either("deliver done", "deliver failed"),
        Work::Conclude { .. } => either("conclude done", "conclude failed"),
        Work::Forget => either("forget done", BESIDE),
        Work::Deliver(_)
        | Work::Merge(_)
        | Work::Clone { .. }
        | Work::Freeze
        | Work::Thaw
        | Work::Measure
        | Work::Stdin { .. }
        | Work::Signal { .. }
        | Work::Read { .. }
        | Work::Delivered { .. }
        | Work::Close
        | Work::Discard
        | Work::Spare
        | Work::Purge => Some(BESIDE),
        Work::Look { .. } | Work::Expire { .. } | Work::Weigh { .. } => None,
    }
}

/// What happens to all tasks at once.
pub(super) fn of_all(input: &Input) -> Option<impl Fn(TaskId) -> &'static str + '_> {
    let is_forced = matches!(input, Input::Stop { how: Stop::Forced });
    let of = move |task| {
        if let Input::Boot(boot) = input {
            life(boot, task)
        } else if is_forced {
            "stop, by force"
        } else {
            "stop, gracefully"
        }
    };
    (matches!(input, Input::Boot(_) | Input::Stop { how: Stop::Graceful }) || is_forced).then_some(of)
}

/// The daemon has a new life: what it finds on the disk of a task.
fn life(boot: &Boot, task: TaskId) -> &'static str {
    match boot.leftovers.iter().find(|left| left.spec.id == task).map(|left| &left.stage) {
        None => "new life, no record",
        Some(Stage::Accepted) => "new life, accepted",
        Some(Stage::Started(_)) => "new life, started",
        Some(Stage::Ended(_)) => "new life, ended",
    }
}
