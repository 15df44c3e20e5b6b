//! The hub: which daemon has which task, and what every task has come to.
//!
//! A pure machine. No clock, no chance, no I/O: time comes in with every input, and what is to be done goes
//! out as [`Effect`]s, in order. Any input is answered in any state; what makes no sense is ignored and counted.
//!
//! Architecture invariant: nothing that the hub sends may leave the process before the records that it put
//! out earlier are on disk. The hub only orders them; whoever performs the effects keeps that order.

mod assign;
mod check;
mod effect;
mod kept;
mod keys;
mod needs;
mod numbers;
mod questions;
mod restore;
mod siblings;
mod steer;
mod task;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use makima_core::effect::Way;
use makima_core::protocol::{Authenticated, DaemonCommand, DaemonMessage, SpawnTask, Wire};
use makima_core::time::Millis;
use uuid::Uuid;

pub use effect::{Answer, Effect, End, Event, Record, Tell};
use keys::Keys;
pub use numbers::{Numbers, Order, Ordered, Said, What};
use questions::{Kind, Line};
pub use questions::{QUESTIONS, QuestionId, Reply};
pub use restore::{DaemonState, Snapshot, TaskState};
pub(crate) use siblings::{COMMITTED, talks};
pub use steer::{AHEAD, Words};
use task::Task;
use tree::Children;
pub use tree::{Bounds, Kin, subtask};

/// Tasks that one daemon is given at once, those it runs and those it queues; more wait here. A daemon
/// refuses what goes beyond its own queue, and a refusal ends a task.
pub const PER_DAEMON: usize = 1_000;

/// Characters of a status that are kept; the rest is cut.
pub const STATUS: usize = 64;

/// Bytes of a summary, a message or an error that are kept; the rest is cut, with an ellipsis.
pub const TEXT: usize = 64 * 1024;

/// One connection of one daemon. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What comes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// A daemon has shown the right key.
    Connected {
        /// Its connection.
        session: SessionId,
        /// The id that it gets if its machine is a new one.
        fresh: Uuid,
        /// The machine, for good.
        machine: String,
        /// The machine, for people.
        hostname: String,
        /// How many tasks it runs at once.
        max_tasks: i32,
        /// What it speaks.
        wire: Wire,
        /// How it comes.
        way: Way,
    },
    /// That connection is over.
    Gone {
        /// Which.
        session: SessionId,
    },
    /// A daemon says something.
    Message {
        /// Over which connection.
        session: SessionId,
        /// What.
        message: DaemonMessage,
    },
    /// A daemon pings, in version 1: it takes what it said before for delivered once it is answered.
    Pinged {
        /// Over which connection.
        session: SessionId,
    },
    /// A daemon says something in version 2.
    Said {
        /// Over which connection.
        session: SessionId,
        /// What.
        said: Box<Said>,
    },
    /// A client wants this done.
    Create {
        /// The whole task, with its id.
        spawn: Box<SpawnTask>,
        /// What has to end well before it begins.
        after: Vec<Uuid>,
    },
    /// A task that has a key wants this done below it.
    Delegate {
        /// Which task asks.
        parent: Uuid,
        /// The task, with its id. What follows from its parent is filled in here.
        spawn: Box<SpawnTask>,
        /// What has to end well before it begins: only tasks below the one that asks.
        after: Vec<Uuid>,
        /// How much there may be.
        bounds: Bounds,
    },
    /// A client wants a task ended.
    Interrupt {
        /// Which.
        task: Uuid,
        /// Gently, or at once.
        graceful: bool,
    },
    /// A client wants a task to stand still, or to go on.
    Hold {
        /// Which.
        task: Uuid,
        /// To stand still.
        paused: bool,
    },
    /// A client wants a task's agent to be told something.
    Tell {
        /// Which.
        task: Uuid,
        /// The command by which it is told.
        command: Box<DaemonCommand>,
    },
    /// A client wants a task's daemon to do something and say how it went.
    Ask {
        /// Which.
        task: Uuid,
        /// The question, so that the answer finds its way back.
        question: QuestionId,
        /// The command that asks.
        command: Box<DaemonCommand>,
    },
}

/// What came in and could not be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// From a connection that is over or was superseded.
    pub stray: u64,
    /// About a task that this server does not know.
    pub unknown: u64,
    /// About a task that another daemon has.
    pub foreign: u64,
    /// About a task that has ended: mostly what a daemon delivers again because it was in doubt.
    pub late: u64,
    /// Of a kind that nobody here asked for.
    pub unused: u64,
}

/// One daemon, connected or not.
#[derive(Clone, Debug)]
struct Daemon {
    machine: String,
    hostname: String,
    max_tasks: i32,
    session: Option<Session>,
    seen: Millis,
    /// Its unfinished tasks, oldest first.
    tasks: BTreeMap<u64, Uuid>,
    numbers: Numbers,
}

/// A connection that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    id: SessionId,
    since: Millis,
    wire: Wire,
    way: Way,
    /// Version 2: the daemon has said how it stands.
    ready: bool,
    /// It has pinged: what it had to say from before it has said.
    live: bool,
    /// Version 1: how much was told since the last one that is told once.
    told: usize,
}

/// How a daemon stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonView {
    /// Its name here.
    pub id: Uuid,
    /// The machine, for good.
    pub machine: String,
    /// The machine, for people.
    pub hostname: String,
    /// Whether it is there now.
    pub connected: bool,
    /// What it speaks and how it comes, while it is there.
    pub link: Option<(Wire, Way)>,
    /// How many tasks it runs at once.
    pub max_tasks: i32,
    /// How many unfinished tasks it has, those that it queues too.
    pub active: usize,
    /// When it was last heard.
    pub seen: Millis,
}

/// The machine itself.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    daemons: BTreeMap<Uuid, Daemon>,
    machines: BTreeMap<String, Uuid>,
    sessions: BTreeMap<SessionId, Uuid>,
    tasks: BTreeMap<Uuid, Task>,
    /// Tasks that no daemon has, oldest first.
    waiting: BTreeMap<u64, Uuid>,
    /// Tasks that no daemon is given before others have ended, oldest first; and those others, with what needs them.
    held_back: BTreeMap<u64, Uuid>,
    needed: BTreeMap<Uuid, BTreeSet<Uuid>>,
    questions: BTreeMap<(Uuid, Kind), Line>,
    children: Children,
    keys: Keys,
    /// How many questions were asked.
    asked: u64,
    next_seq: u64,
    next_words: u64,
    ignored: Ignored,
}

impl Hub {
    /// Takes one input and appends what is to be done to `out`.
    pub fn step(&mut self, now: Millis, input: Input, out: &mut Vec<Effect>) -> Answer {
        match input {
            Input::Connected { session, fresh, machine, hostname, max_tasks, wire, way } => {
                let session = Session { id: session, since: now, wire, way, ready: false, live: false, told: 0 };
                self.connected(now, session, fresh, machine, hostname, max_tasks, out)
            }
            Input::Gone { session } => self.gone(now, session, out),
            Input::Message { session, message } => self.message(now, session, message, out),
            Input::Pinged { session } => self.pinged(now, session, out),
            Input::Said { session, said } => self.said(now, session, *said, out),
            Input::Create { spawn, after } => self.create(now, spawn, after, out),
            Input::Delegate { parent, spawn, after, bounds } => self.delegate(now, parent, *spawn, after, bounds, out),
            Input::Interrupt { task, graceful } => self.interrupt(now, task, graceful, out),
            Input::Hold { task, paused } => self.hold(now, task, paused, out),
            Input::Tell { task, command } => self.tell(task, command, out),
            Input::Ask { task, question, command } => self.ask(now, task, question, command, out),
        }
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        let here = self.waiting.len().saturating_add(self.held_back.len());
        self.daemons.values().fold(here, |sum, daemon| sum.saturating_add(daemon.tasks.len()))
    }

    /// Daemons that are there now.
    #[must_use]
    pub fn connected_daemons(&self) -> usize {
        self.sessions.len()
    }

    /// Whether what comes over this connection is heard.
    #[must_use]
    pub fn is_open(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// What came in and could not be used.
    #[must_use]
    pub fn ignored(&self) -> Ignored {
        self.ignored
    }

    /// Every daemon ever seen.
    pub fn daemons(&self) -> impl Iterator<Item = DaemonView> + '_ {
        self.daemons.iter().map(|(id, daemon)| DaemonView {
            id: *id,
            machine: daemon.machine.clone(),
            hostname: daemon.hostname.clone(),
            connected: daemon.session.is_some(),
            link: daemon.session.map(|session| (session.wire, session.way)),
            max_tasks: daemon.max_tasks,
            active: daemon.tasks.len(),
            seen: daemon.seen,
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one input, taken apart once")]
    fn connected(
        &mut self,
        now: Millis,
        session: Session,
        fresh: Uuid,
        machine: String,
        hostname: String,
        max_tasks: i32,
        out: &mut Vec<Effect>,
    ) -> Answer {
        let id = self.machines.get(&machine).copied().unwrap_or(fresh);
        let taken = self.daemons.get(&id).is_some_and(|daemon| daemon.machine != machine);
        if taken || self.sessions.contains_key(&session.id) {
            self.ignored.stray = self.ignored.stray.saturating_add(1);
            return Answer::Ignored;
        }
        // A second connection of the same machine: the first is one that the daemon has given up.
        if let Some(old) = self.daemons.get_mut(&id).and_then(|daemon| daemon.session.take()) {
            self.sessions.remove(&old.id);
            out.push(Effect::Close { session: old.id });
            self.lost_link(old.id, old.wire, out);
        }
        let old = self.daemons.remove(&id);
        let (tasks, numbers) = old.map(|old| (old.tasks, old.numbers)).unwrap_or_default();
        out.push(Effect::Record(Record::Daemon {
            id,
            machine: machine.clone(),
            hostname: hostname.clone(),
            max_tasks,
            seen: now,
        }));
        out.push(send(session.id, Authenticated { daemon_id: id }));
        self.machines.insert(machine.clone(), id);
        self.sessions.insert(session.id, id);
        let numbered = numbers.last > 0;
        let open = Some(session);
        self.daemons.insert(id, Daemon { machine, hostname, max_tasks, session: open, seen: now, tasks, numbers });
        match session.wire {
            Wire::One => {
                // What is told now is told without a number.
                if numbered {
                    self.renumber(now, id, out);
                }
                self.send_again(id, session.id, out);
            }
            Wire::Two => self.say_hello(now, id, session.id, out),
        }
        self.place_waiting(out);
        Answer::Done
    }

    fn gone(&mut self, now: Millis, session: SessionId, out: &mut Vec<Effect>) -> Answer {
        let Some(id) = self.sessions.remove(&session) else { return Answer::Ignored };
        let Some(daemon) = self.daemons.get_mut(&id) else { return Answer::Ignored };
        let wire = daemon.session.take().map(|session| session.wire);
        daemon.seen = now;
        out.push(Effect::Record(Record::Daemon {
            id,
            machine: daemon.machine.clone(),
            hostname: daemon.hostname.clone(),
            max_tasks: daemon.max_tasks,
            seen: now,
        }));
        if let Some(wire) = wire {
            self.lost_link(session, wire, out);
        }
        Answer::Done
    }

    fn message(&mut self, now: Millis, session: SessionId, message: DaemonMessage, out: &mut Vec<Effect>) -> Answer {
        let Some(id) = self.sessions.get(&session).copied() else {
            self.ignored.stray = self.ignored.stray.saturating_add(1);
            return Answer::Over;
        };
        if let Some(daemon) = self.daemons.get_mut(&id) {
            daemon.seen = now;
        }
        match message {
            DaemonMessage::Heartbeat(_) => {
                if self.wire(session) == Some(Wire::One) {
                    self.repeat_interruptions(now, id, out);
                }
                self.beat(now, id, out);
                Answer::Done
            }
            DaemonMessage::DaemonDirectories(_) => Answer::Done,
            DaemonMessage::TaskOutput(body) => self.output(id, body, out),
            DaemonMessage::TaskStatusChange(body) => self.status(now, id, body, out),
            DaemonMessage::TaskProgress(body) => self.progress(now, id, body, out),
            DaemonMessage::TaskComplete(body) => self.complete(now, id, body, out),
            DaemonMessage::CompletionActionResult(body) => self.completion(now, id, body, out),
            DaemonMessage::BranchList(ref body) => self.answered(now, id, (body.task_id, Kind::Branches), message, out),
            DaemonMessage::MergeStatusResponse(ref body) => {
                self.answered(now, id, (body.task_id, Kind::Status), message, out)
            }
            DaemonMessage::MergeResult(ref body) => self.answered(now, id, (body.task_id, Kind::Merge), message, out),
            DaemonMessage::MergeCompleteCheck(ref body) => {
                self.answered(now, id, (body.task_id, Kind::Gate), message, out)
            }
            DaemonMessage::CloneWorktreeResult(ref body) => {
                self.answered(now, id, (body.task_id, Kind::Clone), message, out)
            }
            DaemonMessage::CheckTargetExistsResult(ref body) => {
                self.answered(now, id, (body.task_id, Kind::Target), message, out)
            }
            DaemonMessage::RegisterToolKey(body) => self.register(id, body),
            DaemonMessage::RevokeToolKey(body) => self.revoke(id, &body),
            DaemonMessage::Authenticate(_) => {
                self.ignored.unused = self.ignored.unused.saturating_add(1);
                Answer::Ignored
            }
        }
    }
}

/// A command for a session.
fn send(session: SessionId, command: impl Into<DaemonCommand>) -> Effect {
    Effect::Send { session, command: Box::new(command.into()) }
}
