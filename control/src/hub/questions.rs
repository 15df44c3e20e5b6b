//! Commands that are answered by a message of their own, and those who wait for the answer.
//!
//! The wire has no number that would tell which answer belongs to which command. So of each task and each kind of answer
//! one command is under way at a time; the others wait for it. A daemon that has come says first what it did not get
//! delivered before, and behind that it pings, to learn when that has arrived: nothing is asked before.
//!
//! Where an answer may come late or never, because a link broke in version 1 or this server was started anew, its
//! kind is in doubt. A daemon does a task's commands in order, so a harmless one, `mergeStatus`, clears that up: once
//! it is answered, nothing of before can come any more. Of its own answers as many are left out as may be old: it is
//! asked once more for each.

use std::collections::VecDeque;

use makima_core::protocol::{DaemonCommand, DaemonMessage, MergeStatus, Wire};
use makima_core::time::Millis;
use uuid::Uuid;

use super::task::Life;
use super::{Answer, Effect, Hub, SessionId, What};

/// Questions about one task that may be open at once.
pub const QUESTIONS: usize = 64;

/// Questions that may be open at once about all tasks.
const ALL_QUESTIONS: usize = 1_000;

/// A daemon is not waited for any longer than this: all that it does at a command takes less.
const GIVE_UP: Millis = Millis::seconds(30 * 60);

/// A daemon that has not pinged for so long does not do it after what it says.
const UNPINGED: Millis = Millis::seconds(15);

/// As many old answers to `mergeStatus` are reckoned with; more would take as many links that broke at the right moment.
const OLD: u32 = 31;

/// One question of a client's. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuestionId(pub u64);

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The daemon's answer.
    Heard(Box<DaemonMessage>),
    /// It is not known whether it was done.
    Unknown,
}

/// Which message answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Branches,
    Status,
    Merge,
    Gate,
    Action,
    Clone,
    Target,
}

/// What is asked about one task in one kind, oldest first. Only the first is under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    open: VecDeque<Question>,
    /// Since when, counted in questions, an answer to one that is not open any more may come.
    doubt: Option<u64>,
    /// Of `mergeStatus`: how many such answers may come.
    old: u32,
}

#[derive(Clone, Debug)]
struct Question {
    /// None for one of our own.
    id: Option<QuestionId>,
    command: Box<DaemonCommand>,
    asked: Option<Asked>,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    session: SessionId,
    since: Millis,
    /// How many were asked before.
    n: u64,
    /// How many answers come before the one that counts.
    before: u32,
}

impl Kind {
    /// By which message this is answered, if by any.
    pub(super) const fn of(command: &DaemonCommand) -> Option<Self> {
        match command {
            DaemonCommand::ListBranches(_) => Some(Self::Branches),
            DaemonCommand::MergeStatus(_) => Some(Self::Status),
            DaemonCommand::MergeStart(_)
            | DaemonCommand::MergeResolve(_)
            | DaemonCommand::MergeCommit(_)
            | DaemonCommand::MergeAbort(_)
            | DaemonCommand::MergeSkip(_) => Some(Self::Merge),
            DaemonCommand::CheckMergeComplete(_) => Some(Self::Gate),
            DaemonCommand::RetryCompletionAction(_) => Some(Self::Action),
            DaemonCommand::CloneWorktree(_) => Some(Self::Clone),
            DaemonCommand::CheckTargetExists(_) => Some(Self::Target),
            DaemonCommand::Authenticated(_)
            | DaemonCommand::SpawnTask(_)
            | DaemonCommand::PauseTask(_)
            | DaemonCommand::ResumeTask(_)
            | DaemonCommand::InterruptTask(_)
            | DaemonCommand::SendMessage(_)
            | DaemonCommand::InjectSiblingContext(_)
            | DaemonCommand::ServerError(_) => None,
        }
    }

    /// Whether asking twice comes to the same as asking once.
    const fn is_harmless(self) -> bool {
        match self {
            Self::Branches | Self::Status | Self::Gate | Self::Action | Self::Target => true,
            Self::Merge | Self::Clone => false,
        }
    }

    /// Whether an old answer could be taken for a new one, and `mergeStatus` can tell. (A path is looked at beside a
    /// task's commands, and its answer says which it is.)
    const fn is_doubted(self) -> bool {
        match self {
            Self::Branches | Self::Merge | Self::Gate | Self::Action | Self::Clone => true,
            Self::Status | Self::Target => false,
        }
    }
}

impl Line {
    /// The first one was asked, and its answers may come still or never.
    fn lost(&mut self, kind: Kind, asked: Asked, n: u64) {
        if kind.is_doubted() {
            self.doubt = Some(n);
        }
        if kind == Kind::Status {
            self.old = self.old.saturating_add(asked.before).saturating_add(1).min(OLD);
        }
    }
}

impl Hub {
    /// A client asks a task's daemon.
    pub(super) fn ask(
        &mut self,
        now: Millis,
        id: Uuid,
        question: QuestionId,
        command: Box<DaemonCommand>,
        out: &mut Vec<Effect>,
    ) -> Answer {
        let Some(kind) = Kind::of(&command) else { return Answer::Ignored };
        let Some(task) = self.tasks.get(&id) else { return Answer::NoSuchTask };
        let Some(holder) = task.life.daemon() else { return Answer::Unassigned };
        if kind == Kind::Action && !matches!(task.life, Life::Ended { .. }) {
            return Answer::NotEnded;
        }
        if self.daemons.get(&holder).is_none_or(|daemon| daemon.session.is_none()) {
            return Answer::Away(holder);
        }
        if self.open_questions(Some(id)) >= QUESTIONS || self.open_questions(None) >= ALL_QUESTIONS {
            return Answer::Full;
        }
        let line = self.line((id, kind));
        line.open.push_back(Question { id: Some(question), command, asked: None });
        self.ask_next(now, (id, kind), out);
        Answer::Done
    }

    /// How many wait, about one task or all.
    fn open_questions(&self, of: Option<Uuid>) -> usize {
        let lines = self.questions.iter().filter(|((task, _), _)| of.is_none_or(|of| of == *task));
        lines.fold(0, |sum, (_, line)| sum.saturating_add(line.open.len()))
    }

    /// Of a task that was there before this server an answer may come to what was asked then.
    fn line(&mut self, key: (Uuid, Kind)) -> &mut Line {
        let restored = self.tasks.get(&key.0).is_some_and(|task| task.restored);
        let doubt = (restored && key.1.is_doubted()).then_some(self.asked);
        let old = u32::from(restored && key.1 == Kind::Status);
        self.questions.entry(key).or_insert_with(|| Line { doubt, old, ..Line::default() })
    }

    /// Asks what comes next, if nothing is under way and the daemon is there.
    fn ask_next(&mut self, now: Millis, key: (Uuid, Kind), out: &mut Vec<Effect>) {
        let Some(holder) = self.tasks.get(&key.0).and_then(|task| task.life.daemon()) else { return };
        let session = self.daemons.get(&holder).and_then(|daemon| daemon.session);
        let open = session.filter(|session| session.live && (session.wire == Wire::One || session.ready));
        let Some(session) = open else { return };
        let Some(line) = self.questions.get_mut(&key) else { return };
        let Some(first) = line.open.front_mut().filter(|first| first.asked.is_none()) else { return };
        if line.doubt.is_some() {
            return self.clear_up(now, key.0, out);
        }
        first.asked = Some(Asked { session: session.id, since: now, n: self.asked, before: line.old });
        self.asked = self.asked.saturating_add(1);
        let command = first.command.clone();
        for _ in 0..=line.old {
            match session.wire {
                Wire::One => out.push(Effect::Send { session: session.id, command: command.clone() }),
                Wire::Two => self.order(holder, key.0, What::Words(command.clone()), out),
            }
        }
    }

    /// Asks what is answered only after everything of before.
    fn clear_up(&mut self, now: Millis, id: Uuid, out: &mut Vec<Effect>) {
        let line = self.line((id, Kind::Status));
        if !line.open.iter().any(|question| question.id.is_none()) {
            let command = Box::new(MergeStatus { task_id: id }.into());
            line.open.push_back(Question { id: None, command, asked: None });
        }
        self.ask_next(now, (id, Kind::Status), out);
    }

    /// A daemon answers. What nobody asked for, or not over this connection, is ignored.
    pub(super) fn answered(
        &mut self,
        now: Millis,
        daemon: Uuid,
        (id, kind): (Uuid, Kind),
        message: DaemonMessage,
        out: &mut Vec<Effect>,
    ) -> Answer {
        let held = self.tasks.get(&id).is_some_and(|task| task.life.daemon() == Some(daemon));
        let line = self.questions.get_mut(&(id, kind)).filter(|_| held);
        let Some(Line { open, doubt, .. }) = line else { return self.unasked() };
        // Something of before, of which it is not known what it answers.
        if doubt.is_some() {
            return self.unasked();
        }
        let Some(asked) = open.front_mut().and_then(|first| first.asked.as_mut()) else { return self.unasked() };
        if asked.before > 0 {
            asked.before = asked.before.saturating_sub(1);
            return Answer::Done;
        }
        let n = asked.n;
        if let Some(Question { id: Some(question), .. }) = open.pop_front() {
            out.push(Effect::Answered { question, reply: Reply::Heard(Box::new(message)) });
        }
        if kind == Kind::Status {
            self.cleared_up(now, id, n, out);
        }
        self.ask_next(now, (id, kind), out);
        self.tidy_questions(id);
        Answer::Done
    }

    /// What was in doubt before the question of this number is not any more.
    fn cleared_up(&mut self, now: Millis, id: Uuid, n: u64, out: &mut Vec<Effect>) {
        let mut clear = Vec::new();
        for ((task, kind), line) in &mut self.questions {
            if *task == id && line.doubt.take_if(|since| *since <= n).is_some() {
                clear.push(*kind);
            }
        }
        for kind in clear {
            self.ask_next(now, (id, kind), out);
        }
    }

    fn unasked(&mut self) -> Answer {
        self.ignored.unused = self.ignored.unused.saturating_add(1);
        Answer::Ignored
    }

    /// The first question of a line was asked, and nobody knows whether it was heard.
    fn lost_question(&mut self, key: (Uuid, Kind), out: &mut Vec<Effect>) {
        let Some(line) = self.questions.get_mut(&key) else { return };
        let Some(asked) = line.open.front().and_then(|first| first.asked) else { return };
        line.lost(key.1, asked, self.asked);
        if let Some(first) = line.open.front_mut().filter(|_| key.1.is_harmless()) {
            first.asked = None;
        } else if let Some(Question { id: Some(question), .. }) = line.open.pop_front() {
            out.push(Effect::Answered { question, reply: Reply::Unknown });
        }
    }

    /// A daemon may have lost what it was asked, all of it.
    pub(super) fn lost_questions(&mut self, daemon: Uuid, out: &mut Vec<Effect>) {
        for key in self.keys_of(daemon) {
            self.lost_question(key, out);
        }
    }

    /// What is asked about a daemon's tasks.
    fn keys_of(&self, daemon: Uuid) -> Vec<(Uuid, Kind)> {
        let of_daemon = |id: &Uuid| self.tasks.get(id).and_then(|task| task.life.daemon()) == Some(daemon);
        self.questions.keys().filter(|(id, _)| of_daemon(id)).copied().collect()
    }

    /// A connection is over. In version 1 what was asked over it may have been heard or not; in version 2 the numbers
    /// bring it there, and the answer back.
    pub(super) fn lost_link(&mut self, session: SessionId, wire: Wire, out: &mut Vec<Effect>) {
        if wire == Wire::Two {
            return;
        }
        let over = |line: &Line| line.open.front().and_then(|first| first.asked).is_some_and(|a| a.session == session);
        let lost: Vec<_> = self.questions.iter().filter(|(_, line)| over(line)).map(|(key, _)| *key).collect();
        for key in lost {
            self.lost_question(key, out);
        }
    }

    /// A daemon pings: whatever it had to say from before it has said.
    pub(super) fn pinged(&mut self, now: Millis, session: SessionId, out: &mut Vec<Effect>) -> Answer {
        let Some(daemon) = self.sessions.get(&session).copied() else { return Answer::Over };
        if let Some(session) = self.daemons.get_mut(&daemon).and_then(|daemon| daemon.session.as_mut())
            && !std::mem::replace(&mut session.live, true)
        {
            for key in self.keys_of(daemon) {
                self.ask_next(now, key, out);
            }
        }
        Answer::Done
    }

    /// A daemon's heartbeat. What it does not answer for too long it will not answer any more.
    pub(super) fn beat(&mut self, now: Millis, daemon: Uuid, out: &mut Vec<Effect>) {
        let Some(session) = self.daemons.get_mut(&daemon).and_then(|daemon| daemon.session.as_mut()) else { return };
        let lasted = now.since(session.since);
        session.told = 0;
        // One that never pings has said by now what it had to.
        session.live |= lasted > UNPINGED;
        self.tell_all(daemon, out);
        for key in self.keys_of(daemon) {
            let asked = self.questions.get(&key).and_then(|line| line.open.front()?.asked);
            if asked.is_some_and(|asked| now.since(asked.since) > GIVE_UP) {
                self.give_up(key, out);
            }
            if let Some(line) = self.questions.get_mut(&key).filter(|_| asked.is_none() && lasted > GIVE_UP) {
                line.old = 0;
            }
            self.ask_next(now, key, out);
        }
    }

    fn give_up(&mut self, key: (Uuid, Kind), out: &mut Vec<Effect>) {
        let Some(line) = self.questions.get_mut(&key) else { return };
        let Some(asked) = line.open.front().and_then(|first| first.asked) else { return };
        line.lost(key.1, asked, self.asked);
        if let Some(Question { id: Some(question), .. }) = line.open.pop_front() {
            out.push(Effect::Answered { question, reply: Reply::Unknown });
        }
    }

    /// Forgets about a task of which nothing is asked and nothing in doubt.
    fn tidy_questions(&mut self, id: Uuid) {
        // After a restart a line that is there is one that is not in doubt.
        if self.tasks.get(&id).is_some_and(|task| !task.restored) {
            self.questions
                .retain(|(task, _), line| *task != id || !line.open.is_empty() || line.doubt.is_some() || line.old > 0);
        }
    }

    /// Says where questions contradict themselves.
    pub(super) fn check_questions(&self) -> Result<(), String> {
        for ((id, kind), line) in &self.questions {
            if line.open.iter().skip(1).any(|question| question.asked.is_some()) {
                return Err(format!("task {id}: two of {kind:?} are under way"));
            }
            if line.doubt.is_some() && line.open.front().is_some_and(|first| first.asked.is_some()) {
                return Err(format!("task {id}: {kind:?} is in doubt, and one is under way"));
            }
        }
        Ok(())
    }
}
