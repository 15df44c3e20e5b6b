//! What those may count on who trust the daemon, beside what the server's ledger knows: keys that are good for as long as
//! an agent needs them, an answer to each question, ends that are on the disk.

use std::collections::{BTreeMap, BTreeSet};

use makima_core::effect::{Effect, Envelope, LinkEffect, Work};
use makima_core::id::{SecretId, TaskId};
use makima_core::limits;
use makima_core::notice::{Notice, Party};
use makima_core::protocol::{DaemonCommand, DaemonMessage};
use makima_core::time::Millis;

use super::World;
use super::act::Speech;
use super::git::Gate;
use super::server::Manner;
use crate::holds;

/// What was asked and told so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust {
    /// The keys that the server was told, and whether they are good.
    keys: BTreeMap<TaskId, bool>,
    /// Whose agent is started before the server knows its key: that was said.
    early: BTreeSet<TaskId>,
    /// Questions by what answers them: those that were certainly asked, all of them, and the answers.
    asked: BTreeMap<(TaskId, &'static str), [u64; 3]>,
    /// When the daemon was told something last.
    pub(super) said: Millis,
    /// The daemon has found that pings are not answered.
    pub(super) no_pongs: bool,
}

impl Trust {
    /// A message reached the server, for the first time where it bears a number.
    pub(super) fn hear(&mut self, message: &DaemonMessage) {
        match message {
            DaemonMessage::RegisterToolKey(key) => {
                self.keys.insert(TaskId(key.task_id), true);
            }
            DaemonMessage::RevokeToolKey(key) => {
                self.keys.insert(TaskId(key.task_id), false);
            }
            DaemonMessage::BranchList(answer) => self.answered(answer.task_id, message),
            DaemonMessage::MergeStatusResponse(answer) => self.answered(answer.task_id, message),
            DaemonMessage::MergeResult(answer) => self.answered(answer.task_id, message),
            DaemonMessage::MergeCompleteCheck(answer) => self.answered(answer.task_id, message),
            DaemonMessage::CloneWorktreeResult(answer) => self.answered(answer.task_id, message),
            DaemonMessage::CheckTargetExistsResult(answer) => self.answered(answer.task_id, message),
            DaemonMessage::CompletionActionResult(answer) => self.answered(answer.task_id, message),
            DaemonMessage::Authenticate(_)
            | DaemonMessage::Heartbeat(_)
            | DaemonMessage::TaskStatusChange(_)
            | DaemonMessage::TaskProgress(_)
            | DaemonMessage::TaskOutput(_)
            | DaemonMessage::TaskComplete(_)
            | DaemonMessage::DaemonDirectories(_) => {}
        }
    }

    fn answered(&mut self, task: uuid::Uuid, message: &DaemonMessage) {
        self.asked.entry((TaskId(task), message.kind())).or_default()[2] += 1;
    }

    /// The server asks something. Of a task that it was not told of yet the answer may be taken back.
    pub(super) fn ask(&mut self, command: &DaemonCommand, known: impl Fn(TaskId) -> bool) {
        let (task, answer) = match command {
            DaemonCommand::ListBranches(body) => (body.task_id, "branchList"),
            DaemonCommand::MergeStatus(body) => (body.task_id, "mergeStatusResponse"),
            DaemonCommand::MergeStart(body) => (body.task_id, "mergeResult"),
            DaemonCommand::MergeResolve(body) => (body.task_id, "mergeResult"),
            DaemonCommand::MergeCommit(body) => (body.task_id, "mergeResult"),
            DaemonCommand::MergeAbort(body) => (body.task_id, "mergeResult"),
            DaemonCommand::MergeSkip(body) => (body.task_id, "mergeResult"),
            DaemonCommand::CheckMergeComplete(body) => (body.task_id, "mergeCompleteCheck"),
            DaemonCommand::CloneWorktree(body) => (body.task_id, "cloneWorktreeResult"),
            DaemonCommand::CheckTargetExists(body) => (body.task_id, "checkTargetExistsResult"),
            DaemonCommand::RetryCompletionAction(body) => (body.task_id, "completionActionResult"),
            DaemonCommand::Authenticated(_)
            | DaemonCommand::ServerError(_)
            | DaemonCommand::SpawnTask(_)
            | DaemonCommand::PauseTask(_)
            | DaemonCommand::ResumeTask(_)
            | DaemonCommand::SendMessage(_)
            | DaemonCommand::InterruptTask(_)
            | DaemonCommand::InjectSiblingContext(_) => return,
        };
        let count = self.asked.entry((TaskId(task), answer)).or_default();
        count[0] += u64::from(known(TaskId(task)));
        count[1] += 1;
    }
}

impl World {
    /// Orchestrators that run and have subtasks.
    pub(super) fn lenders(&self) -> usize {
        let asked = &self.server.asked;
        let has_subtask = |id: &TaskId| asked.values().any(|spawn| spawn.parent_task_id == Some(id.0));
        let lends = |id: &&TaskId| asked.get(*id).is_some_and(|spawn| spawn.is_orchestrator) && has_subtask(id);
        self.machine.running().iter().filter(lends).count()
    }

    /// What must hold of everything that the daemon wants done.
    pub(super) fn check_effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Link(LinkEffect::Send { message, secret, .. }) => {
                let due = if let DaemonMessage::Authenticate(_) = **message {
                    Some(SecretId::DaemonKey)
                } else if let DaemonMessage::RegisterToolKey(key) = &**message {
                    Some(SecretId::ToolKey(TaskId(key.task_id)))
                } else {
                    None
                };
                holds!(
                    SecretsHidden,
                    *secret == due,
                    "`{}` goes out with {secret:?} in it, and not with {due:?}",
                    message.kind()
                );
            }
            Effect::Work { task, work: Work::Start(_), .. } => {
                let orchestrator = self.server.asked.get(task).is_some_and(|spawn| spawn.is_orchestrator);
                let trust = &self.server.trust;
                let known = trust.keys.contains_key(task) || trust.early.contains(task);
                assert!(!orchestrator || known, "{task} starts, and its server does not know its key");
            }
            Effect::Work { task, work: Work::Discard | Work::Spare | Work::Purge | Work::Forget, .. } => {
                holds!(
                    NothingLost,
                    self.server.end(*task).is_some(),
                    "{task} goes, and the server does not know its end"
                );
                let parent = self.server.asked.get(task).and_then(|spawn| spawn.parent_task_id);
                let at_work =
                    |parent| self.daemon.statuses().any(|(id, status)| id == TaskId(parent) && !status.is_end());
                assert!(!parent.is_some_and(at_work), "{task} goes, and its orchestrator is at work");
            }
            Effect::Tell(Notice::Task { task, what })
                if what.starts_with("the server does not know the agent's key") =>
            {
                self.server.trust.early.insert(*task);
            }
            Effect::Tell(Notice::Misbehaved { who: Party::Executor, what }) => {
                assert!(what == "an effect that was cancelled was not answered", "the machine is blamed: {what}");
            }
            Effect::Tell(Notice::NoPongs) => self.server.trust.no_pongs = true,
            Effect::Link(_) | Effect::Work { .. } | Effect::Cancel { .. } | Effect::Tell(_) | Effect::Exit(_) => {}
        }
    }

    /// Time has passed: a server that says nothing is not taken for one that is there.
    pub(super) fn check_silence(&self) {
        let watched = self.server.manner == Manner::Loose && !self.server.trust.no_pongs;
        if watched && self.now.mono >= self.server.trust.said + limits::LINK_SILENCE {
            holds!(
                FoundBroken,
                self.daemon.link_state() != "connected",
                "nobody has said anything for 45 s, and the link stands"
            );
        }
    }

    /// What must hold of what is told about a task.
    pub(super) fn check_told(&self, message: &DaemonMessage, envelope: Option<&Envelope>) {
        if let DaemonMessage::TaskComplete(end) = message {
            self.check_end_told(TaskId(end.task_id), envelope);
        } else if let DaemonMessage::TaskOutput(output) = message {
            let task = TaskId(output.task_id);
            let again = self.machine.folder(task).is_some_and(|folder| folder.closed_before);
            assert!(!again, "{task} sends output, whose end was told in an earlier life of the daemon");
        } else if let DaemonMessage::MergeCompleteCheck(answer) = message {
            let gate = Gate {
                can_complete: answer.can_complete,
                unmerged: answer.unmerged_branches.clone(),
                merged: answer.merged_count as usize,
                skipped: answer.skipped_count as usize,
            };
            let folder = self.machine.folder(TaskId(answer.task_id));
            let so = folder.is_some_and(|folder| folder.merges.gates.contains(&gate));
            assert!(so || gate == Gate::default(), "{gate:?} was never so of {}", answer.task_id);
        }
    }

    /// It is on the disk, or that was tried for long enough; and nothing that the server has lies behind it.
    fn check_end_told(&self, task: TaskId, envelope: Option<&Envelope>) {
        let Some(folder) = self.machine.folder(task).filter(|_| self.server.accepted().any(|id| id == task)) else {
            return;
        };
        let written = folder.end.is_some() || folder.concludes >= u32::from(limits::RECORD_TRIES);
        holds!(WrittenFirst, written, "the end of {task} is told before it is written down");
        // Where processes cannot be ended, an end is taken that this life of the daemon has read up to.
        let excused = folder.torn || folder.unkillable && self.incarnation > 1;
        let place = self.server.numbers.places.get(&task).copied().flatten();
        let places = place.zip(envelope.and_then(|envelope| envelope.len));
        let behind = places.is_some_and(|(place, len)| place > len);
        holds!(EndBehindOutput, excused || !behind, "{task} has output behind its end: {places:?}");
    }

    /// What must hold once everything has come to its end.
    pub(super) fn check_trusted(&self) {
        let trust = &self.server.trust;
        for task in self.server.accepted() {
            assert!(trust.keys.get(&task) != Some(&true), "the key of {task} is good after its end");
        }
        for folder in self.machine.folders().filter(|_| !self.server.numbers.doubt) {
            assert!(folder.mixed_up.is_none(), "{}", folder.mixed_up.as_deref().unwrap_or_default());
        }
        // Only there is each thing said once, and only if nothing is on its way all has been.
        if self.server.speech != Speech::Two || self.server.numbers.doubt || !self.server.is_quiet() {
            return;
        }
        for ((task, answer), [asked, most, told]) in &trust.asked {
            let own = u64::from(*answer == "completionActionResult" && self.kind(*task).branch);
            let told = told.saturating_sub(own);
            assert!(
                (*asked..=*most).contains(&told),
                "{told} times `{answer}` of {task}, asked for {asked} to {most} times"
            );
        }
    }
}
