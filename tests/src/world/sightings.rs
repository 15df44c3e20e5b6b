//! What has happened in a run. A check that never gets to see what it is for checks nothing, so it is counted.

use std::collections::BTreeMap;

use makima_core::effect::{Effect, Exit, Signal, Way, Work};
use makima_core::id::TaskId;
use makima_core::notice::Notice;
use makima_core::protocol::DaemonCommand;
use makima_core::task::Status;
use uuid::Uuid;

use super::{Far, World};

/// How often each thing has happened: what kind of thing, and which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sightings(BTreeMap<(&'static str, &'static str), u64>);

impl Sightings {
    /// It happened once more.
    pub fn see(&mut self, kind: &'static str, which: &'static str) {
        self.add(kind, which, 1);
    }

    fn add(&mut self, kind: &'static str, which: &'static str, times: u64) {
        if times > 0 {
            *self.0.entry((kind, which)).or_default() += times;
        }
    }

    /// Everything that another run has seen happened as well.
    pub fn merge(&mut self, other: &Self) {
        for ((kind, which), times) in &other.0 {
            self.add(kind, which, *times);
        }
    }

    /// How often it happened.
    #[must_use]
    pub fn count(&self, kind: &str, which: &str) -> u64 {
        self.0.iter().find(|((k, w), _)| *k == kind && *w == which).map_or(0, |(_, times)| *times)
    }

    /// All of it.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        self.0.iter().map(|((kind, which), times)| (*kind, *which, *times))
    }
}

impl World {
    /// Everything that has been seen, wherever.
    #[must_use]
    pub fn sightings(&self) -> Sightings {
        let mut all = self.seen.clone();
        all.merge(&self.machine.seen);
        all.merge(&self.server.seen);
        for (name, times) in self.daemon.counters().all() {
            all.add("counted", name, times);
        }
        all
    }
}

impl<F: Far> World<F> {
    /// The daemon is about to be killed.
    pub(super) fn see_kill(&mut self, outage: bool) {
        for (name, times) in self.daemon.counters().all() {
            self.seen.add("counted", name, times);
        }
        let statuses: Vec<Status> = self.daemon.statuses().map(|(_, status)| status).collect();
        for status in statuses {
            self.seen.see("killed while", status.as_str());
        }
        self.seen.see("killed", if self.exit.is_some() { "after its end" } else { "at work" });
        if outage {
            self.seen.see("killed", "by an outage");
        }
    }

    pub(super) fn see_command(&mut self, command: &DaemonCommand) {
        let of = |task| self.daemon.statuses().find(|(id, _)| *id == TaskId(task)).map(|(_, status)| status);
        let Some(task) = task_of(command) else { return self.seen.see("command", command.kind()) };
        let name = if let DaemonCommand::InterruptTask(body) = command {
            if body.graceful { "interruptTask, gracefully" } else { "interruptTask, by force" }
        } else {
            command.kind()
        };
        self.seen.see(name, of(task).map_or("unknown", Status::as_str));
        if let DaemonCommand::SpawnTask(_) = command {
            let waiting = self.daemon.statuses().filter(|(_, status)| *status == Status::Pending).count();
            self.seen.see("spawn", if waiting >= 4 { "many wait" } else { "few wait" });
        }
    }

    pub(super) fn see_effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Work { work: Work::Signal { signal: Signal::Interrupt }, .. } => {
                self.seen.see("signal", "interrupt")
            }
            Effect::Work { work: Work::Signal { signal: Signal::Terminate }, .. } => {
                self.seen.see("signal", "terminate")
            }
            Effect::Work { work, .. } => self.seen.see("work", work.kind()),
            Effect::Cancel { .. } => self.seen.see("work", "cancel"),
            Effect::Exit(exit) => self.seen.see(
                "exit",
                match exit {
                    Exit::Stopped => "stopped",
                    Exit::Detached => "detached",
                    Exit::SessionOver => "session over",
                    Exit::KeyRefused => "key refused",
                    Exit::NotReached => "not reached",
                },
            ),
            Effect::Tell(notice) => self.seen.see(
                "told",
                match notice {
                    Notice::Linked { way: Way::WebSocket } => "linked",
                    Notice::Linked { way: Way::LongPoll } => "polling",
                    Notice::TurnsToPolling => "turns to polling",
                    Notice::LinkLost { .. } => "link lost",
                    Notice::Silent { what, .. } => what,
                    Notice::KeyRefused { .. } => "key refused",
                    Notice::ServerError { .. } => "server error",
                    Notice::Slept { .. } => "slept",
                    Notice::NoPongs => "no pongs",
                    Notice::Misbehaved { .. } => "misbehaved",
                    Notice::NotGone { .. } => "not gone",
                    Notice::NoMoreRoom { .. } => "no more room",
                    Notice::Needs { what: Some(_), .. } => "needs a person",
                    Notice::Needs { what: None, .. } => "needs nobody",
                    Notice::Ended { status, .. } => status,
                    Notice::Task { what, .. } if what.contains("killed") => "a stubborn agent is killed",
                    Notice::Task { what, .. } if what.contains("left behind") => "processes left behind",
                    Notice::Task { what, .. } if what.contains("too late") => "messages came too late",
                    Notice::Task { what, .. } if what.contains("in line") => "a place in line",
                    Notice::Task { what, .. } if what.contains("not reached") || what.contains("did not reach") => {
                        "an agent not reached"
                    }
                    Notice::Task { what, .. } if what.starts_with("turn over") => "a turn that went well",
                    Notice::Task { what, .. } if what.starts_with("turn failed") => "a turn that failed",
                    Notice::Task { what, .. } if what.contains("goes on in") => "a turn to be tried again",
                    Notice::Task { what, .. } if what.ends_with(": seen") => "a message that is seen",
                    Notice::Task { what, .. } if what.starts_with("denied") => "something denied",
                    Notice::Task { what, .. } if what.contains("does not say whether") => "an agent that does not tell",
                    Notice::Task { .. } => "a step",
                },
            ),
            Effect::Link(_) => {}
        }
    }
}

/// Which task a command names, if it names one.
pub(crate) const fn task_of(command: &DaemonCommand) -> Option<Uuid> {
    Some(match command {
        DaemonCommand::Authenticated(_) | DaemonCommand::ServerError(_) => return None,
        DaemonCommand::SpawnTask(body) => body.task_id,
        DaemonCommand::PauseTask(body) => body.task_id,
        DaemonCommand::ResumeTask(body) => body.task_id,
        DaemonCommand::SendMessage(body) => body.task_id,
        DaemonCommand::InterruptTask(body) => body.task_id,
        DaemonCommand::InjectSiblingContext(body) => body.task_id,
        DaemonCommand::ListBranches(body) => body.task_id,
        DaemonCommand::MergeStart(body) => body.task_id,
        DaemonCommand::MergeStatus(body) => body.task_id,
        DaemonCommand::MergeResolve(body) => body.task_id,
        DaemonCommand::MergeCommit(body) => body.task_id,
        DaemonCommand::MergeAbort(body) => body.task_id,
        DaemonCommand::MergeSkip(body) => body.task_id,
        DaemonCommand::CheckMergeComplete(body) => body.task_id,
        DaemonCommand::RetryCompletionAction(body) => body.task_id,
        DaemonCommand::CloneWorktree(body) => body.task_id,
        DaemonCommand::CheckTargetExists(body) => body.task_id,
    })
}
