//! Two servers that know nothing but the wire's tables: one takes it as literally as can be, one loosely. Both
//! keep a ledger of what they were told, and fail the run where that cannot be true.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use makima_core::id::{Epoch, TaskId};
use makima_core::needs;
use makima_core::protocol::{
    Authenticated, DaemonCommand, DaemonMessage, Said, ServerError, SpawnTask, TaskStatusChange, Wire,
};
use uuid::Uuid;

use super::act::Speech;
use super::log::tokens;
use super::second::Numbers;
use super::sightings::Sightings;
use super::trust::Trust;
use crate::holds;

/// How a server reads the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// A closed list of statuses, one line an output, reconciles by heartbeat, answers no pings.
    Literal,
    /// Takes what comes, answers pings, asks again for tasks that it heard nothing of.
    Loose,
}

/// Something on its way to the daemon.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A command, under its number in version 2; none that can be read where it is rubbish.
    Command(Option<u64>, Option<Box<DaemonCommand>>),
    /// The answer to the ping that was this frame.
    Pong(u64),
    /// What a frame of version 2 says beside a message.
    Said(Said),
}

/// One connection.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// Connections so far: outputs of different ones are told apart by it.
    pub(super) number: u32,
    pub(super) wire: Wire,
    pub(super) authenticated: bool,
    /// Version 2: the daemon has said how it stands.
    pub(super) ready: bool,
    /// Another has taken its place: nothing more is heard of it.
    pub(super) over: bool,
    /// Version 2: tasks whose output was asked for from an earlier place.
    pub(super) rewinding: BTreeSet<TaskId>,
    /// Frames on their way to the daemon.
    pub(super) replies: VecDeque<Reply>,
}

/// The server.
#[derive(Clone, Debug)]
pub struct Server {
    pub(super) manner: Manner,
    pub(super) speech: Speech,
    /// Connections so far.
    connections: u32,
    pub(super) sessions: BTreeMap<Epoch, Session>,
    /// The session that has the say.
    pub(super) current: Option<Epoch>,
    /// Kills of the daemon so far.
    life: u32,
    pub(super) ledger: BTreeMap<TaskId, Entry>,
    /// Tasks that it asked for, as it asked.
    pub(super) asked: BTreeMap<TaskId, SpawnTask>,
    /// Version 2 of the wire.
    pub(super) numbers: Numbers,
    /// The next daemon that says who it is is turned away with this code.
    rejects: Option<&'static str>,
    /// It tells the newest acknowledgement only, where several are due.
    pub(super) gathers: bool,
    /// What it may count on beside the ledger.
    pub(super) trust: Trust,
    /// What it was told, and how often.
    pub(super) seen: Sightings,
    /// The question that each task needs a person for, as far as it was told.
    pub(super) asked_people: BTreeMap<TaskId, u64>,
}

/// What the server was told about one task.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) accepted: bool,
    status: Option<String>,
    /// Changes of its status that were told, each with the life of the daemon that told it.
    steps: BTreeSet<(u32, String, String)>,
    /// The life of the daemon that told the newest.
    life: u32,
    pub(super) complete: Option<(bool, Option<String>)>,
    /// The newest token of each stream, over all sessions.
    pub(super) tokens: [u32; 2],
    /// The same, in the present session: which one, and the newest token.
    pub(super) now: [(u32, u32); 2],
    action: bool,
    /// The session in which its end was told.
    ended_in: Option<u32>,
    /// A line that was begun: in which session, and of which stream.
    pub(super) open: Option<(u32, usize)>,
}

impl Entry {
    /// The daemon took it on. Where it had been refused before, this is another attempt.
    fn accept(&mut self) {
        if !self.accepted {
            self.accepted = true;
            self.complete = None;
            self.ended_in = None;
        }
    }
}

const STATUSES: [&str; 8] = ["pending", "preparing", "running", "paused", "finishing", "done", "failed", "interrupted"];

impl Server {
    /// A server that nobody has connected to yet.
    #[must_use]
    pub fn new(manner: Manner, speech: Speech) -> Self {
        Self {
            manner,
            speech,
            connections: 0,
            sessions: BTreeMap::new(),
            current: None,
            life: 0,
            ledger: BTreeMap::new(),
            asked: BTreeMap::new(),
            numbers: Numbers::default(),
            rejects: None,
            gathers: false,
            trust: Trust::default(),
            seen: Sightings::default(),
            asked_people: BTreeMap::new(),
        }
    }

    /// Turns the next daemon that says who it is away. False where that is already so.
    pub fn reject(&mut self, code: &'static str) -> bool {
        let news = !self.is_open() && self.rejects.is_none();
        if news {
            self.rejects = Some(code);
        }
        news
    }

    /// A daemon connected.
    pub(super) fn connected(&mut self, epoch: Epoch, wire: Wire) {
        self.connections += 1;
        let session = Session {
            number: self.connections,
            wire,
            authenticated: false,
            ready: false,
            over: false,
            rewinding: BTreeSet::new(),
            replies: VecDeque::new(),
        };
        self.sessions.insert(epoch, session);
    }

    /// A connection is gone.
    pub(super) fn disconnected(&mut self, epoch: Epoch) {
        self.sessions.remove(&epoch);
        self.current = self.current.filter(|current| *current != epoch);
    }

    fn session(&mut self) -> Option<&mut Session> {
        self.sessions.get_mut(&self.current?)
    }

    /// Whether commands can be given: version 2 keeps them for a daemon that is away.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.current.is_some() || self.numbers.epoch != 0
    }

    /// Whether nothing is on its way to the daemon.
    pub(super) fn is_quiet(&self) -> bool {
        let quiet = |session: &Session| session.replies.is_empty() && (session.ready || session.wire == Wire::One);
        let current = self.current.and_then(|current| self.sessions.get(&current));
        current.is_some_and(quiet) && self.numbers.orders.is_empty()
    }

    /// Sends a command, if somebody is there to hear it, or will be.
    pub fn say(&mut self, command: impl Into<DaemonCommand>) {
        let command = command.into();
        if let DaemonCommand::SpawnTask(spawn) = &command {
            self.asked.entry(TaskId(spawn.task_id)).or_insert_with(|| spawn.clone());
        }
        self.give(Some(Box::new(command)));
    }

    /// Sends a line that is no command.
    pub(super) fn say_rubbish(&mut self) {
        self.give(None);
    }

    fn give(&mut self, command: Option<Box<DaemonCommand>>) {
        let keeps = self.speech == Speech::Two;
        match self.session() {
            Some(session) if session.wire == Wire::One => session.replies.push_back(Reply::Command(None, command)),
            Some(_) => self.order(command),
            None if keeps => self.order(command),
            None => {}
        }
    }

    /// A ping reached it.
    pub(super) fn pinged(&mut self, epoch: Epoch, n: u64) {
        if self.manner == Manner::Loose
            && let Some(session) = self.sessions.get_mut(&epoch).filter(|session| !session.over)
        {
            session.replies.push_back(Reply::Pong(n));
        }
    }

    /// A message reached it. `tokens` tells how much output a task has written by now.
    pub(super) fn hear(&mut self, epoch: Epoch, message: &DaemonMessage, tokens: impl Fn(TaskId) -> Option<[u32; 2]>) {
        if self.sessions.get(&epoch).is_none_or(|session| session.over) {
            return;
        }
        // What is sent is what arrives: the wire's own form is read back.
        let line = message.write();
        let message = DaemonMessage::read(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
        self.trust.hear(&message);
        match message {
            DaemonMessage::Authenticate(_) => self.authenticate(epoch),
            DaemonMessage::Heartbeat(beat) => self.heartbeat(&beat.active_tasks),
            DaemonMessage::TaskStatusChange(change) => {
                assert!(STATUSES.contains(&change.new_status.as_str()), "the status `{}` is none", change.new_status);
                assert!(STATUSES.contains(&change.old_status.as_str()), "the status `{}` is none", change.old_status);
                self.status(&change);
            }
            DaemonMessage::TaskProgress(progress) => {
                if progress.summary == "accepted" {
                    self.entry(progress.task_id).accept();
                }
                if let Some(needs) = needs::read(&progress.summary) {
                    self.seen.see("a person", if needs.is_some() { "is needed" } else { "is needed no more" });
                    let task = TaskId(progress.task_id);
                    match needs.and_then(needs::question) {
                        Some(question) => drop(self.asked_people.insert(task, question)),
                        None => drop(self.asked_people.remove(&task)),
                    }
                }
            }
            DaemonMessage::TaskOutput(output) => {
                self.seen.see("output", if output.is_partial { "part of a line" } else { "a line" });
                self.numbers.places.insert(TaskId(output.task_id), None);
                self.output(output.task_id, &output.output, output.is_partial);
            }
            DaemonMessage::CompletionActionResult(result) => {
                self.seen.see("action", if result.success { "done" } else { "failed" });
                self.entry(result.task_id).action = true;
            }
            DaemonMessage::TaskComplete(end) => {
                let task = TaskId(end.task_id);
                // The end may have got its number before the daemon could hear of the loss.
                let written = tokens(task).filter(|_| !self.numbers.forgotten.contains(&task));
                self.complete(end.task_id, (end.success, end.error), written);
            }
            DaemonMessage::RegisterToolKey(_)
            | DaemonMessage::RevokeToolKey(_)
            | DaemonMessage::BranchList(_)
            | DaemonMessage::MergeStatusResponse(_)
            | DaemonMessage::MergeResult(_)
            | DaemonMessage::MergeCompleteCheck(_)
            | DaemonMessage::DaemonDirectories(_)
            | DaemonMessage::CloneWorktreeResult(_)
            | DaemonMessage::CheckTargetExistsResult(_) => {
                assert!(self.is_authenticated(), "{line} came before `authenticate`");
            }
        }
    }

    /// The daemon has a new life: what it was about to tell may never be told.
    pub fn daemon_killed(&mut self) {
        self.sessions.clear();
        self.current = None;
        self.life += 1;
    }

    /// In one life of the daemon each status follows from the one before, unless it was told before.
    fn status(&mut self, change: &TaskStatusChange) {
        let life = self.life;
        let entry = self.entry(change.task_id);
        if change.new_status == "preparing" {
            entry.accept();
        }
        let step = (life, change.old_status.clone(), change.new_status.clone());
        let before = entry.status.as_deref().unwrap_or("pending");
        let follows = before == change.old_status || entry.life != life || change.old_status == change.new_status;
        assert!(follows || entry.steps.contains(&step), "{before} of {} is followed by {step:?}", change.task_id);
        entry.status = Some(change.new_status.clone());
        entry.life = life;
        entry.steps.insert(step);
    }

    fn is_authenticated(&self) -> bool {
        self.current.is_some()
    }

    pub(super) fn entry(&mut self, task: Uuid) -> &mut Entry {
        assert!(self.is_authenticated(), "a task is told about before `authenticated`");
        self.ledger.entry(TaskId(task)).or_default()
    }

    fn authenticate(&mut self, epoch: Epoch) {
        let rejects = self.rejects.take();
        let Some(session) = self.sessions.get_mut(&epoch) else { return };
        holds!(OneLink, !session.authenticated, "`authenticate` came twice");
        if let Some(code) = rejects {
            self.seen.see("rejected", code);
            let error = ServerError { code: code.to_string(), message: "not now".to_string() };
            return session.replies.push_back(Reply::Command(None, Some(Box::new(error.into()))));
        }
        session.authenticated = true;
        let authenticated = Authenticated { daemon_id: Uuid::from_u128(1) };
        session.replies.push_back(Reply::Command(None, Some(Box::new(authenticated.into()))));
        let wire = session.wire;
        // The newest has the say; what the one before had on its way still gets there.
        if let Some(before) = self.current.replace(epoch).and_then(|before| self.sessions.get_mut(&before)) {
            self.seen.see("session", "superseded");
            before.over = true;
        }
        self.seen.see("wire", if wire == Wire::One { "one" } else { "two" });
        if wire == Wire::Two {
            return self.say_hello(epoch);
        }
        // What is not known to be applied is told without a number here.
        for command in self.numbers.give_up() {
            self.give(command);
        }
        for spawn in self.to_ask_again() {
            self.say(spawn);
        }
    }

    /// What it asks for again over a connection of version 1.
    pub(super) fn to_ask_again(&self) -> Vec<SpawnTask> {
        let heard = |id: &TaskId| self.ledger.get(id).is_some_and(|entry| entry.accepted || entry.complete.is_some());
        let asked = self.asked.iter().filter(|(id, _)| self.manner == Manner::Loose && !heard(id));
        asked.map(|(_, spawn)| spawn.clone()).collect()
    }

    /// Reconciles: what the daemon took on and does not name any more is lost, unless its end was told.
    fn heartbeat(&self, active: &[Uuid]) {
        assert!(self.is_authenticated(), "a heartbeat came before `authenticated`");
        for (id, entry) in &self.ledger {
            let lost = entry.accepted && entry.complete.is_none() && !active.contains(&id.0);
            holds!(NamedAsItIs, !lost, "a heartbeat leaves out {id}, whose end was not told");
        }
    }

    /// The name of the session that has the say. Those of version 2 are one, as far as output is concerned: it goes on.
    fn number(&self) -> u32 {
        let session = self.current.and_then(|current| self.sessions.get(&current));
        session.map_or(0, |session| if self.speech == Speech::Two { u32::MAX } else { session.number })
    }

    pub(super) fn output(&mut self, task: Uuid, output: &str, is_partial: bool) {
        let session = self.number();
        let mut again = false;
        let entry = self.entry(task);
        assert!(!output.contains('\n'), "an output has more than one line: {output:?}");
        holds!(EndBehindOutput, entry.ended_in != Some(session), "output came behind the end of {task}");
        let open = entry.open.take().filter(|(begun, _)| *begun == session);
        let mut of = open.map(|(_, stream)| stream);
        for token in tokens(output) {
            let (stream, number) = match token.split_at_checked(1) {
                Some(("o", number)) => (0, number),
                Some(("e", number)) => (1, number),
                _ => panic!("{token:?} is no output of ours"),
            };
            assert!(
                of.is_none_or(|of| of == stream),
                "a line of {task} has both streams in it, or stands within another"
            );
            of = Some(stream);
            let number: u32 = number.parse().unwrap_or_else(|_| panic!("{token:?} is no output of ours"));
            let next = match entry.now[stream] {
                // In one session a stream is whole and in order.
                (seen, last) if seen == session => number == last + 1,
                // A new one begins where something may have been lost, and never behind that.
                _ => number <= entry.tokens[stream] + 1,
            };
            holds!(OutputWhole, next, "output {token:?} of {task} came out of order: {:?}", entry.now[stream]);
            again |= number <= entry.tokens[stream];
            entry.now[stream] = (session, number);
            entry.tokens[stream] = entry.tokens[stream].max(number);
        }
        entry.open = of.filter(|_| is_partial).map(|stream| (session, stream));
        if again {
            self.seen.see("output", "again");
        }
    }

    fn complete(&mut self, task: Uuid, end: (bool, Option<String>), written: Option<[u32; 2]>) {
        let session = self.number();
        let unknown = end.1.as_deref() == Some("not known to this daemon");
        let again = self.ledger.get(&TaskId(task)).is_some_and(|entry| entry.complete.is_some());
        self.seen.see(
            "end",
            if again {
                "again"
            } else if unknown {
                "unknown"
            } else {
                "first"
            },
        );
        let entry = self.entry(task);
        if unknown {
            holds!(NothingLost, !entry.accepted, "{task} was taken on and is not known any more");
            return;
        }
        if let Some(before) = &entry.complete {
            holds!(EndsOnce, !entry.accepted || *before == end, "{task} ended twice: as {before:?} and as {end:?}");
        }
        if entry.accepted {
            let seen = entry.tokens;
            holds!(
                EndBehindOutput,
                written.is_none_or(|all| all == seen),
                "{task} ended before its output: {seen:?} of {written:?}"
            );
            let status = entry.status.as_deref();
            let ended = matches!(status, Some("done" | "failed" | "interrupted"));
            holds!(EndsOnce, ended, "{task} ended with the status {status:?}");
            assert!((status == Some("done")) == end.0, "{task} ended as {status:?} with success {}", end.0);
        }
        entry.complete = Some(end);
        entry.ended_in = Some(session);
    }

    /// Tasks that the daemon took on.
    pub fn accepted(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.ledger.iter().filter(|(_, entry)| entry.accepted).map(|(id, _)| *id)
    }

    /// How a task ended, as the server was told.
    #[must_use]
    pub fn end(&self, task: TaskId) -> Option<&(bool, Option<String>)> {
        self.ledger.get(&task)?.complete.as_ref()
    }

    /// Whether the server was told how the task's completion action went.
    #[must_use]
    pub fn knows_action(&self, task: TaskId) -> bool {
        self.ledger.get(&task).is_some_and(|entry| entry.action)
    }
}
