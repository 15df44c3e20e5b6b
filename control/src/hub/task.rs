//! What a task has come to, and what a daemon's messages make of it.

use std::collections::BTreeSet;

use makima_core::id::TaskId;
use makima_core::policy::BranchName;
use makima_core::protocol::{
    CompletionActionResult, InterruptTask, SpawnTask, TaskComplete, TaskOutput, TaskProgress, TaskStatusChange, Wire,
};
use makima_core::task::Status;
use makima_core::time::Millis;
use uuid::Uuid;

use super::questions::Kind;
use super::steer::Waiting;
use super::{Answer, Effect, End, Event, Hub, Ordered, Record, STATUS, Session, SessionId, TEXT, send};

#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) seq: u64,
    pub(super) name: String,
    pub(super) status: String,
    /// The task that it is a subtask of, whether that is there or not.
    pub(super) parent: Option<Uuid>,
    /// What its agent has cost by its own account, in millionths of a dollar.
    pub(super) cost: u64,
    /// The newest step that says what was committed; let go of at the end.
    pub(super) committed: Option<String>,
    /// Its agent tells how it gets on: one that has turns.
    pub(super) talks: bool,
    pub(super) branch_known: bool,
    pub(super) events: u64,
    pub(super) bytes: u64,
    /// How far into the daemon's log that output reaches; none where some of it came without a place.
    pub(super) log_at: Option<u64>,
    /// Whether it ends within a line.
    pub(super) line_begun: bool,
    /// Over which connection the log was asked for from there on, since something was last taken.
    pub(super) rewinding: Option<SessionId>,
    pub(super) ordered: Ordered,
    /// What was wished last: that it stands still, or that it goes on.
    pub(super) hold: Option<bool>,
    /// What its agent is to be told, and its daemon was not yet.
    pub(super) words: Waiting,
    /// It was there before this server was started: what was asked about it then may be answered still.
    pub(super) restored: bool,
    pub(super) life: Life,
}

/// Where a task stands. It goes down this list and never back.
#[derive(Clone, Debug)]
pub(super) enum Life {
    /// No daemon has it yet. It is not given to any before the others that it needs have ended well.
    Waiting { spawn: Box<SpawnTask>, needs: BTreeSet<Uuid> },
    /// That daemon has it, for good.
    Assigned { daemon: Uuid, spawn: Box<SpawnTask>, asked: Option<Asked> },
    /// Its end has been told, and its plan let go.
    Ended { daemon: Option<Uuid> },
}

/// How somebody asked for a task to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Gracefully(Told),
    AtOnce,
}

/// Whether a daemon was told of a gentle wish. It takes a second one for a forced one, so it is told again only
/// when the first cannot be under way any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nobody can have been told.
    Never,
    /// Over this connection.
    Over(SessionId),
    /// Before this server was started, perhaps.
    Perhaps,
}

/// The status of a task of which nothing has been told.
pub(super) fn pending() -> String {
    Status::Pending.as_str().to_owned()
}

impl Life {
    pub(super) fn daemon(&self) -> Option<Uuid> {
        match self {
            Self::Waiting { .. } => None,
            Self::Assigned { daemon, .. } => Some(*daemon),
            Self::Ended { daemon } => *daemon,
        }
    }

    /// Takes the plan out of a task that waits, to give it to a daemon.
    pub(super) fn take_waiting(&mut self) -> Option<Box<SpawnTask>> {
        match std::mem::replace(self, Self::Ended { daemon: None }) {
            Self::Waiting { spawn, .. } => Some(spawn),
            other @ (Self::Assigned { .. } | Self::Ended { .. }) => {
                *self = other;
                None
            }
        }
    }
}

impl Task {
    pub(super) fn event(&mut self, id: Uuid, time: Millis, event: Event) -> Effect {
        self.events = self.events.saturating_add(1);
        Effect::Record(Record::Event { task: id, n: self.events, offset: self.bytes, time, event })
    }

    /// Puts text behind what there is.
    pub(super) fn write(&mut self, body: TaskOutput, out: &mut Vec<Effect>) {
        let mut text = body.output;
        self.line_begun = body.is_partial && if text.is_empty() { self.line_begun } else { !text.ends_with('\n') };
        if !body.is_partial {
            text.push('\n');
        }
        if !text.is_empty() {
            let offset = self.bytes;
            self.bytes = offset.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
            out.push(Effect::Output { task: body.task_id, offset, text });
        }
    }

    /// No message says outright that a commit was made. A text of the daemon's that bears the branch's whole
    /// name, task id and all, does.
    fn learn_branch(&mut self, id: Uuid, text: &str, out: &mut Vec<Effect>) {
        if self.branch_known {
            return;
        }
        let branch = BranchName::of(&self.name, TaskId(id));
        if text.contains(branch.as_str()) {
            self.branch_known = true;
            out.push(Effect::Record(Record::Branch { task: id, branch: branch.as_str().to_owned() }));
        }
    }
}

impl Hub {
    /// The task, if it is this daemon's and has not ended.
    pub(super) fn live(&mut self, daemon: Uuid, id: Uuid) -> Option<&mut Task> {
        let ignored = &mut self.ignored;
        let Some(task) = self.tasks.get_mut(&id) else {
            ignored.unknown = ignored.unknown.saturating_add(1);
            return None;
        };
        match &task.life {
            Life::Assigned { daemon: holder, .. } if *holder == daemon => Some(task),
            Life::Ended { .. } => {
                ignored.late = ignored.late.saturating_add(1);
                None
            }
            Life::Waiting { .. } | Life::Assigned { .. } => {
                ignored.foreign = ignored.foreign.saturating_add(1);
                None
            }
        }
    }

    /// Output without a place: it is taken as it comes, and from then on it is not known how far the log is had.
    pub(super) fn output(&mut self, daemon: Uuid, body: TaskOutput, out: &mut Vec<Effect>) -> Answer {
        let id = body.task_id;
        let Some(task) = self.live(daemon, id) else { return Answer::Ignored };
        if task.log_at.take().is_some() {
            out.push(Effect::Record(Record::Placed { task: id, at: None }));
        }
        task.write(body, out);
        Answer::Done
    }

    pub(super) fn status(
        &mut self,
        now: Millis,
        daemon: Uuid,
        body: TaskStatusChange,
        out: &mut Vec<Effect>,
    ) -> Answer {
        let Some(task) = self.live(daemon, body.task_id) else { return Answer::Ignored };
        let to = cut_chars(body.new_status, STATUS);
        if to == task.status {
            return Answer::Ignored;
        }
        task.status.clone_from(&to);
        let event = Event::Status { from: cut_chars(body.old_status, STATUS), to };
        out.push(task.event(body.task_id, now, event));
        Answer::Done
    }

    pub(super) fn progress(&mut self, now: Millis, daemon: Uuid, body: TaskProgress, out: &mut Vec<Effect>) -> Answer {
        let Some(task) = self.live(daemon, body.task_id) else { return Answer::Ignored };
        task.learn_branch(body.task_id, &body.summary, out);
        let summary = cut_bytes(body.summary, TEXT);
        task.heed(&summary);
        out.push(task.event(body.task_id, now, Event::Progress { summary }));
        Answer::Done
    }

    pub(super) fn completion(
        &mut self,
        now: Millis,
        daemon: Uuid,
        body: CompletionActionResult,
        out: &mut Vec<Effect>,
    ) -> Answer {
        // An action can be done again after the end; the end stays the last event all the same.
        if let Some(task) = self.tasks.get_mut(&body.task_id)
            && task.life.daemon() == Some(daemon)
            && body.success
        {
            task.learn_branch(body.task_id, &body.message, out);
        }
        let ended = self.tasks.get(&body.task_id).is_some_and(|task| matches!(task.life, Life::Ended { .. }));
        if ended {
            return self.answered(now, daemon, (body.task_id, Kind::Action), body.into(), out);
        }
        let Some(task) = self.live(daemon, body.task_id) else { return Answer::Ignored };
        let event = Event::Completion {
            success: body.success,
            message: cut_bytes(body.message, TEXT),
            pr_url: body.pr_url.map(|url| cut_bytes(url, TEXT)),
        };
        out.push(task.event(body.task_id, now, event));
        Answer::Done
    }

    pub(super) fn complete(&mut self, now: Millis, daemon: Uuid, body: TaskComplete, out: &mut Vec<Effect>) -> Answer {
        let Some(task) = self.live(daemon, body.task_id) else { return Answer::Ignored };
        if task.line_begun {
            let rest = TaskOutput { task_id: body.task_id, output: String::new(), is_partial: false };
            task.write(rest, out);
        }
        let error = body.error.map(|error| cut_bytes(error, TEXT));
        let status = end_status(&task.status, body.success, error.as_deref());
        self.end(now, body.task_id, End { status, success: body.success, error }, out);
        Answer::Done
    }

    pub(super) fn interrupt(&mut self, now: Millis, id: Uuid, graceful: bool, out: &mut Vec<Effect>) -> Answer {
        let Some(task) = self.tasks.get_mut(&id) else { return Answer::NoSuchTask };
        match &mut task.life {
            Life::Ended { .. } => Answer::Ended,
            Life::Waiting { .. } => {
                // Nobody has it, so nobody else can end it.
                let status = Status::Interrupted.as_str().to_owned();
                let error = Some(status.clone());
                self.end(now, id, End { status, success: false, error }, out);
                Answer::Done
            }
            Life::Assigned { daemon, asked, .. } => {
                let holder = *daemon;
                // A daemon takes a second gentle one for a forced one, so that is what it is here too.
                let forced = !graceful || asked.is_some();
                let session = self.daemons.get(daemon).and_then(|daemon| daemon.session);
                let told = session.map_or(Told::Never, |session| Told::Over(session.id));
                *asked = Some(if forced { Asked::AtOnce } else { Asked::Gracefully(told) });
                out.push(Effect::Record(Record::Interrupt { task: id, forced }));
                match session {
                    // In plain words: the first gentle one may have been lost.
                    Some(Session { id: session, wire: Wire::One, .. }) => {
                        out.push(send(session, InterruptTask { task_id: id, graceful: !forced }));
                    }
                    Some(_) => self.order_missing(holder, id, out),
                    None => {}
                }
                Answer::Done
            }
        }
    }

    /// A task ends, and with it whatever needs it, where it did not end well.
    pub(super) fn end(&mut self, now: Millis, id: Uuid, end: End, out: &mut Vec<Effect>) {
        let mut ends = vec![(id, end)];
        while let Some((id, end)) = ends.pop() {
            let success = end.success;
            self.end_one(now, id, end, out);
            let failed = |error| End { status: Status::Failed.as_str().to_owned(), success: false, error: Some(error) };
            ends.extend(self.need_ended(id, success).into_iter().map(|(id, why)| (id, failed(why))));
        }
        self.place_waiting(out);
    }

    fn end_one(&mut self, now: Millis, id: Uuid, end: End, out: &mut Vec<Effect>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if let Life::Waiting { .. } = task.life {
            // No daemon tells how it goes on, so nobody else does.
            let change = Event::Status { from: task.status.clone(), to: end.status.clone() };
            out.push(task.event(id, now, change));
        }
        let holder = task.life.daemon();
        task.drop_words(id, now, out);
        task.life = Life::Ended { daemon: holder };
        task.status.clone_from(&end.status);
        out.push(task.event(id, now, Event::End(end.clone())));
        let seq = task.seq;
        self.keys.forget(id);
        self.waiting.remove(&seq);
        self.held_back.remove(&seq);
        if let Some(daemon) = holder.and_then(|holder| self.daemons.get_mut(&holder)) {
            daemon.tasks.remove(&seq);
        }
        self.tell_siblings(id, &end, out);
    }
}

/// A daemon tells the end's status before the end; one that did not is judged by what it did tell.
fn end_status(told: &str, success: bool, error: Option<&str>) -> String {
    let [failed, interrupted] = [Status::Failed.as_str(), Status::Interrupted.as_str()];
    let status = match (success, error) {
        (true, _) => Status::Done.as_str(),
        (false, _) if told == interrupted || told == failed => told,
        (false, Some(error)) if error == interrupted => interrupted,
        (false, _) => failed,
    };
    status.to_owned()
}

fn cut_chars(text: String, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text,
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned(),
    }
}

fn cut_bytes(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
        text.push('…');
    }
    text
}
