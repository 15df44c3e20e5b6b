//! The server of the fleet: the real hub, with all that surrounds it in place of sockets and a disk.

use std::collections::{BTreeMap, VecDeque};

use makima_control::hub::{
    Answer, Effect, End, Event, Hub, Input, QuestionId, Record, Said, SessionId, Snapshot, Tell,
};
use makima_core::effect::{self, Envelope, Stretch};
use makima_core::id::TaskId;
use makima_core::protocol::{self, DaemonMessage, Meta, Wire};
use makima_core::time::Millis;
use uuid::Uuid;

use super::line::Way;
use crate::holds;
use crate::world::{Frame, Reply};

/// A connection: of which machine, and which of its.
pub(super) type Wired = (usize, Way);

/// What waits until what was decided before it is on the disk.
#[derive(Clone, Debug)]
enum Waits {
    Effect(Effect),
    /// The answer to a ping of version 1.
    Pong(Wired, u64),
    /// Whoever asked for this task is told that it is kept.
    Kept(u8),
}

/// A connection that is open.
#[derive(Clone, Copy, Debug)]
struct Session {
    wire: Wire,
    /// None until the daemon has said who it is.
    id: Option<SessionId>,
}

/// What leaves the server.
#[derive(Clone, Debug)]
pub(super) enum Out {
    Say(Wired, Reply),
    /// It ends the connection.
    HangUp(Wired),
    Kept(u8),
}

/// The hub, its disk, and its connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub(super) hub: Hub,
    /// What is on the disk.
    pub(super) kept: Snapshot,
    pub(super) text: BTreeMap<Uuid, String>,
    pub(super) ends: BTreeMap<Uuid, End>,
    waits: VecDeque<Waits>,
    sessions: BTreeMap<Wired, Session>,
    ends_of: BTreeMap<SessionId, Wired>,
    next: u64,
    /// All that was written, if it is to be kept.
    pub(super) written: Option<Vec<Effect>>,
    /// Questions that were not answered, and about which task each is.
    pub(super) questions: BTreeMap<QuestionId, Uuid>,
}

impl Server {
    /// Something comes in. Whatever is decided waits until it is written.
    pub(super) fn step(&mut self, now: Millis, input: Input) -> Answer {
        let mut out = Vec::new();
        let answer = self.hub.step(now, input, &mut out);
        self.waits.extend(out.into_iter().map(Waits::Effect));
        if let Err(why) = self.hub.check() {
            panic!("the hub contradicts itself: {why}");
        }
        answer
    }

    /// Whoever asked for this task is told, once it is written.
    pub(super) fn tell_kept(&mut self, task: u8) {
        self.waits.push_back(Waits::Kept(task));
    }

    pub(super) fn connected(&mut self, end: Wired, wire: Wire) {
        self.sessions.insert(end, Session { wire, id: None });
    }

    pub(super) fn gone(&mut self, now: Millis, end: Wired) {
        if let Some(id) = self.sessions.remove(&end).and_then(|session| session.id) {
            self.ends_of.remove(&id);
            self.step(now, Input::Gone { session: id });
        }
    }

    /// A frame came. Gives back whether the connection is to be ended.
    pub(super) fn heard(&mut self, now: Millis, end: Wired, frame: Frame) -> bool {
        let Some(Session { wire, id }) = self.sessions.get(&end).copied() else { return false };
        let Some(session) = id else {
            let Frame::Message(message, ..) = frame else { panic!("{frame:?} before the daemon says who it is") };
            self.introduced(now, end, wire, &message);
            return false;
        };
        let answer = match (frame, wire) {
            (Frame::Message(message, ..), Wire::One) => {
                self.step(now, Input::Message { session, message: as_it_arrives(&message) })
            }
            (Frame::Ping(n), _) => {
                let answer = self.step(now, Input::Pinged { session });
                self.waits.push_back(Waits::Pong(end, n));
                answer
            }
            (Frame::Message(message, envelope, stretch), Wire::Two) => {
                let said = Box::new(enveloped(&message, envelope.unwrap_or_default(), stretch));
                self.step(now, Input::Said { session, said })
            }
            (Frame::Said(said), _) => self.step(now, Input::Said { session, said: Box::new(plain(said)) }),
        };
        answer.ends_the_session()
    }

    fn introduced(&mut self, now: Millis, end: Wired, wire: Wire, message: &DaemonMessage) {
        let DaemonMessage::Authenticate(daemon) = as_it_arrives(message) else {
            panic!("{} before the daemon says who it is", message.kind())
        };
        self.next += 1;
        let session = SessionId(self.next);
        self.sessions.insert(end, Session { wire, id: Some(session) });
        self.ends_of.insert(session, end);
        let input = Input::Connected {
            session,
            fresh: Uuid::from_u128(0x2000 + u128::from(self.next)),
            machine: daemon.machine_id,
            hostname: daemon.hostname,
            max_tasks: daemon.max_concurrent_tasks,
            wire,
            way: effect::Way::WebSocket,
        };
        self.step(now, input);
    }

    /// Writes all that has gathered, in one: what waited for that leaves.
    pub(super) fn write(&mut self) -> Vec<Out> {
        let mut out = Vec::new();
        while let Some(waits) = self.waits.pop_front() {
            match waits {
                Waits::Kept(task) => out.push(Out::Kept(task)),
                Waits::Pong(end, n) => out.push(Out::Say(end, Reply::Pong(n))),
                Waits::Effect(effect) => out.extend(self.done(effect)),
            }
        }
        let unfinished = self.kept.tasks.iter().filter(|task| task.spawn.is_some()).count();
        assert_eq!(self.hub.unfinished(), unfinished, "what is on the disk is not what the hub knows");
        out
    }

    fn done(&mut self, effect: Effect) -> Option<Out> {
        if let Some(written) = &mut self.written {
            written.push(effect.clone());
        }
        match effect {
            Effect::Record(record) => {
                self.keep(record);
                None
            }
            Effect::Output { task, offset, text } => {
                holds!(EndBehindOutput, !self.ends.contains_key(&task), "output of {task} after its end");
                let all = self.text.entry(task).or_default();
                holds!(OutputWhole, all.len() as u64 == offset, "the output of {task} has a hole");
                all.push_str(&text);
                self.kept.grow(task, &text);
                None
            }
            Effect::Send { session, command } => self.say(session, Reply::Command(None, Some(command))),
            Effect::Numbered { session, seq, command } => self.say(session, Reply::Command(Some(seq), Some(command))),
            Effect::Tell { session, tell } => self.say(session, Reply::Said(told(tell))),
            Effect::Close { session } => self.ends_of.get(&session).copied().map(Out::HangUp),
            Effect::Answered { question, .. } => {
                assert!(self.questions.remove(&question).is_some(), "nobody waits for an answer to {question:?}");
                None
            }
        }
    }

    fn say(&self, session: SessionId, reply: Reply) -> Option<Out> {
        if let Reply::Command(_, Some(command)) = &reply
            && let protocol::DaemonCommand::SpawnTask(spawn) = &**command
        {
            let kept = self.kept.tasks.iter().find(|kept| kept.id == spawn.task_id).expect("a task that is kept");
            let well = |need: &Uuid| self.ends.get(need).is_some_and(|end| end.success);
            holds!(InOrder, kept.after.iter().all(well), "{} is begun before what it needs", spawn.task_id);
            assert!(kept.daemon.is_some(), "{} is begun by a daemon that may not be the one", spawn.task_id);
        }
        Some(Out::Say(self.ends_of.get(&session).copied()?, reply))
    }

    fn keep(&mut self, record: Record) {
        if let Record::Event { task, n, event, .. } = &record {
            let kept = self.kept.tasks.iter().find(|kept| kept.id == *task).expect("a task that is kept");
            assert_eq!(kept.events + 1, *n, "an event of {task} is missing");
            if let Event::End(end) = event {
                holds!(EndsOnce, self.ends.insert(*task, end.clone()).is_none(), "{task} ended twice");
            }
        }
        self.kept.keep(record);
    }

    /// It is killed, and begins again with what is on the disk: with all that was decided, or without what was not written.
    pub(super) fn crash(&mut self, written: bool) {
        if written {
            drop(self.write());
        }
        self.waits.clear();
        self.sessions.clear();
        self.ends_of.clear();
        // Whoever waited for an answer is told that the server went away.
        self.questions.clear();
        self.hub = Hub::restore(self.kept.clone());
        if let Err(why) = self.hub.check() {
            panic!("a hub that was begun again contradicts itself: {why}");
        }
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_written(&self) -> bool {
        self.waits.is_empty()
    }

    /// The machine of a daemon, by the name that it has here.
    pub(super) fn machine_of(&self, daemon: Uuid) -> &str {
        let daemon = self.kept.daemons.iter().find(|kept| kept.id == daemon);
        daemon.map_or("", |daemon| daemon.machine.as_str())
    }

    /// Tasks that have not ended, and who has each.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = (TaskId, Option<Uuid>)> + '_ {
        self.kept.tasks.iter().filter(|task| task.spawn.is_some()).map(|task| (TaskId(task.id), task.daemon))
    }
}

/// What is sent is what arrives: the wire's own form is read back.
fn as_it_arrives(message: &DaemonMessage) -> DaemonMessage {
    let line = message.write();
    DaemonMessage::read(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
}

fn enveloped(message: &DaemonMessage, envelope: Envelope, stretch: Option<Stretch>) -> Said {
    let (off, end) = (stretch.map(|stretch| stretch.off), stretch.map(|stretch| stretch.end));
    let meta = Meta { off, end, len: envelope.len };
    Said { seq: envelope.seq, body: Some(as_it_arrives(message)), meta, ..Said::default() }
}

fn plain(said: protocol::Said) -> Said {
    match said {
        protocol::Said::Ack(n) => Said { ack: Some(n), ..Said::default() },
        protocol::Said::Hello(hello) => Said { hello: Some(hello), ..Said::default() },
        protocol::Said::Ping(n) => Said { ping: Some(n), ..Said::default() },
        protocol::Said::Pong(_) => Said::default(),
        protocol::Said::Got(_) | protocol::Said::Rewind(_) => panic!("the daemon says {said:?}"),
    }
}

fn told(tell: Tell) -> protocol::Said {
    match tell {
        Tell::Hello(hello) => protocol::Said::Hello(hello),
        Tell::Ack(n) => protocol::Said::Ack(n),
        Tell::Got(place) => protocol::Said::Got(place),
        Tell::Rewind(place) => protocol::Said::Rewind(place),
        Tell::Pong(n) => protocol::Said::Pong(n),
    }
}
