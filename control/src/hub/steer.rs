//! What people say to a task that is under way: stand still, go on, a message for its agent.
//!
//! Whether it is to stand still is a wish, and the last one counts: it may be told again, and is where nobody knows
//! whether it was heard. A message is told once. In version 2 its number sees to that; in version 1 it is written down as
//! told before it leaves, so that one which the link loses is lost rather than said twice.

use std::collections::VecDeque;

use makima_core::limits;
use makima_core::protocol::{DaemonCommand, PauseTask, ResumeTask, Wire};
use makima_core::time::Millis;
use uuid::Uuid;

use super::questions::Kind;
use super::task::{Life, Task};
use super::{Answer, Daemon, Effect, Event, Hub, Record, Session, What, send};

/// Words that a daemon is told at once: in version 2 more when it has acknowledged some, in version 1 with its heartbeat. A
/// session that is given more than it takes is let go, and what was on its way would be lost.
pub const AHEAD: usize = 256;

/// Something to tell a task's daemon once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// Its number here.
    pub n: u64,
    /// What is told.
    pub command: Box<DaemonCommand>,
}

/// What waits to be told about one task, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting {
    queue: VecDeque<Words>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn restored(words: Vec<Words>) -> Self {
        let mut waiting = Self::default();
        words.into_iter().for_each(|words| waiting.push(words));
        waiting
    }

    fn push(&mut self, words: Words) {
        self.bytes = self.bytes.saturating_add(weight(&words.command));
        self.queue.push_back(words);
    }

    fn pop(&mut self) -> Option<Words> {
        let words = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(weight(&words.command));
        Some(words)
    }

    /// As much as a daemon keeps for an agent.
    fn takes(&self, command: &DaemonCommand) -> bool {
        let bytes = self.bytes.saturating_add(weight(command));
        self.queue.len() < limits::MESSAGES && (self.queue.is_empty() || bytes <= limits::MESSAGE_BYTES)
    }

    /// Lets go of all of it, and says how many there were.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(self).queue.len()
    }
}

/// About how much memory a command takes.
fn weight(command: &DaemonCommand) -> usize {
    command.write().len()
}

/// A wish of people's, as the wire has it.
pub(super) fn hold(task: Uuid, paused: bool) -> DaemonCommand {
    if paused { PauseTask { task_id: task }.into() } else { ResumeTask { task_id: task }.into() }
}

impl Hub {
    /// A task is to stand still, or to go on.
    pub(super) fn hold(&mut self, now: Millis, id: Uuid, paused: bool, out: &mut Vec<Effect>) -> Answer {
        let Some(task) = self.tasks.get_mut(&id) else { return Answer::NoSuchTask };
        let holder = match &task.life {
            Life::Ended { .. } => return Answer::Ended,
            Life::Waiting { .. } => None,
            Life::Assigned { daemon, .. } => Some(*daemon),
        };
        // Nobody was told that it should stand still, so nobody has to be told that it may go on.
        let wish = (paused || holder.is_some()).then_some(paused);
        if holder.is_none() && task.hold == wish {
            return Answer::Done;
        }
        task.hold = wish;
        task.ordered.forget_hold();
        out.push(Effect::Record(Record::Hold { task: id, paused: task.hold }));
        let Some(holder) = holder else {
            // No daemon says so, as none has it yet.
            let summary =
                if paused { "it will stand still as soon as it would run" } else { "it will not stand still" };
            out.push(task.event(id, now, Event::Progress { summary: summary.to_owned() }));
            return Answer::Done;
        };
        match self.daemons.get(&holder).and_then(|daemon| daemon.session) {
            Some(Session { id: session, wire: Wire::One, .. }) => out.push(send(session, hold(id, paused))),
            Some(Session { wire: Wire::Two, .. }) => self.order_missing(holder, id, out),
            None => {}
        }
        Answer::Done
    }

    /// Something is to be told to a task's agent.
    pub(super) fn tell(&mut self, id: Uuid, command: Box<DaemonCommand>, out: &mut Vec<Effect>) -> Answer {
        let Some(task) = self.tasks.get_mut(&id) else { return Answer::NoSuchTask };
        if let Life::Ended { .. } = &task.life {
            return Answer::Ended;
        }
        if !task.words.takes(&command) {
            return Answer::Full;
        }
        let words = Words { n: self.next_words, command };
        self.next_words = self.next_words.saturating_add(1);
        out.push(Effect::Record(Record::Words { task: id, words: words.clone() }));
        task.words.push(words);
        self.tell_waiting(id, out);
        Answer::Done
    }

    /// Tells a task's daemon what waits for it, if it is there.
    pub(super) fn tell_waiting(&mut self, id: Uuid, out: &mut Vec<Effect>) {
        while let Some(task) = self.tasks.get_mut(&id) {
            let Life::Assigned { daemon: holder, .. } = task.life else { return };
            let Some(session) = self.daemons.get_mut(&holder).and_then(Daemon::takes_words) else { return };
            let Some(words) = task.words.pop() else { return };
            session.told = session.told.saturating_add(1);
            let session = *session;
            out.push(Effect::Record(Record::Told { n: words.n }));
            match session.wire {
                Wire::One => out.push(Effect::Send { session: session.id, command: words.command }),
                Wire::Two => self.order(holder, id, What::Words(words.command), out),
            }
        }
    }

    /// Tells a daemon what waits for it, of all of its tasks.
    pub(super) fn tell_all(&mut self, daemon: Uuid, out: &mut Vec<Effect>) {
        let Some(daemon) = self.daemons.get(&daemon) else { return };
        let waits = |id: &&Uuid| self.tasks.get(*id).is_some_and(|task| !task.words.queue.is_empty());
        let tasks: Vec<Uuid> = daemon.tasks.values().filter(waits).copied().collect();
        for id in tasks {
            self.tell_waiting(id, out);
        }
    }

    /// Something was told under a number that is void now, and nobody knows whether it was heard. (Of questions that is
    /// known elsewhere.)
    pub(super) fn told_in_vain(&mut self, now: Millis, id: Uuid, command: &DaemonCommand, out: &mut Vec<Effect>) {
        let live = |task: &&mut Task| matches!(task.life, Life::Assigned { .. }) && Kind::of(command).is_none();
        if let Some(task) = self.tasks.get_mut(&id).filter(live) {
            let summary = "the daemon's numbers began anew: a message may not have reached the agent".to_owned();
            out.push(task.event(id, now, Event::Progress { summary }));
        }
    }
}

impl Daemon {
    /// Its session, if it is there and is to be told any more just now.
    fn takes_words(&mut self) -> Option<&mut Session> {
        let session = self.session.as_mut()?;
        let takes = match session.wire {
            Wire::One => session.told < AHEAD,
            Wire::Two => session.ready && self.numbers.orders.len() < AHEAD,
        };
        takes.then_some(session)
    }
}

impl Task {
    /// What was never told is not told any more.
    pub(super) fn drop_words(&mut self, id: Uuid, now: Millis, out: &mut Vec<Effect>) {
        let left = self.words.clear();
        if left > 0 {
            let summary = format!("messages that came too late for the agent: {left}");
            out.push(self.event(id, now, Event::Progress { summary }));
        }
    }
}
