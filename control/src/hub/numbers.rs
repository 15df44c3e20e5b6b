//! Version 2 of the wire: commands under numbers until they are known to be applied, messages applied once, output
//! placed where it belongs.

use std::collections::{BTreeMap, BTreeSet};

use makima_core::protocol::{
    DaemonCommand, DaemonMessage, Hello, InterruptTask, Meta, Place, SpawnTask, TaskOutput, Wire,
};
use makima_core::time::Millis;
use uuid::Uuid;

use super::steer::hold;
use super::task::{Asked, Life, Task};
use super::{Answer, Effect, Hub, Record, Session, SessionId, Tell};

/// One frame of version 2, as far as a daemon says one.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Its number.
    pub seq: Option<u64>,
    /// Everything of ours up to this number has been applied.
    pub ack: Option<u64>,
    /// The message, if it could be read.
    pub body: Option<DaemonMessage>,
    /// What goes with it.
    pub meta: Meta,
    /// How the daemon stands.
    pub hello: Option<Hello>,
    /// Are we there?
    pub ping: Option<u64>,
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Run the task.
    Spawn,
    /// End it gently.
    Gently,
    /// End it at once.
    AtOnce,
    /// Let it stand still.
    Pause,
    /// Let it go on.
    Resume,
    /// This, word by word.
    Words(Box<DaemonCommand>),
}

/// A command that has a number and is not known to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which task it is about.
    pub task: Uuid,
    /// What it asks for.
    pub what: What,
}

/// How the numbers between us and one daemon stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// The epoch of ours; 0 until there is one.
    pub epoch: u64,
    /// The last one that we gave out.
    pub last: u64,
    /// Commands that are not known to be applied: the newest numbers, without a gap.
    pub orders: BTreeMap<u64, Order>,
    /// The epoch of the daemon's.
    pub theirs: u64,
    /// The last of the daemon's that was applied.
    pub applied: u64,
}

/// Which commands about a task were given a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ordered(pub u8);

impl What {
    /// How it is kept.
    #[must_use]
    pub const fn bit(&self) -> u8 {
        match self {
            Self::Spawn => 1,
            Self::Gently => 2,
            Self::AtOnce => 4,
            Self::Pause => PAUSE,
            Self::Resume => RESUME,
            Self::Words(_) => 32,
        }
    }

    /// The one that is kept like this, with its words.
    #[must_use]
    pub fn kept(bit: u8, words: Option<DaemonCommand>) -> Option<Self> {
        match (bit, words) {
            (1, None) => Some(Self::Spawn),
            (2, None) => Some(Self::Gently),
            (4, None) => Some(Self::AtOnce),
            (PAUSE, None) => Some(Self::Pause),
            (RESUME, None) => Some(Self::Resume),
            (32, Some(words)) => Some(Self::Words(Box::new(words))),
            (_, _) => None,
        }
    }

    /// What it says, where that is kept word by word.
    #[must_use]
    pub fn words(&self) -> Option<&DaemonCommand> {
        match self {
            Self::Words(words) => Some(words),
            Self::Spawn | Self::Gently | Self::AtOnce | Self::Pause | Self::Resume => None,
        }
    }

    const fn hold(paused: bool) -> Self {
        if paused { Self::Pause } else { Self::Resume }
    }
}

const PAUSE: u8 = 8;
const RESUME: u8 = 16;

impl Ordered {
    /// The bits of wishes that a task stand still or go on.
    pub const HOLD: u8 = PAUSE | RESUME;

    const fn has(self, what: &What) -> bool {
        self.0 & what.bit() != 0
    }

    /// What is told word by word leaves no mark.
    pub const fn add(&mut self, what: &What) {
        if !matches!(what, What::Words(_)) {
            self.0 |= what.bit();
        }
    }

    /// The newest wish was not told yet.
    pub const fn forget_hold(&mut self) {
        self.0 &= !Self::HOLD;
    }
}

impl Hub {
    /// A daemon that speaks version 2 is let in: it hears how we stand, and commands once it has said how it does.
    pub(super) fn say_hello(&mut self, now: Millis, id: Uuid, session: SessionId, out: &mut Vec<Effect>) {
        if self.daemons.get(&id).is_some_and(|daemon| daemon.numbers.epoch == 0) {
            self.renumber(now, id, out);
        }
        let Some(daemon) = self.daemons.get(&id) else { return };
        let place = |task: &Uuid| Some(Place { task: *task, off: self.tasks.get(task)?.log_at? });
        let hello = Hello {
            epoch: daemon.numbers.epoch,
            of: daemon.numbers.theirs,
            applied: daemon.numbers.applied,
            tasks: daemon.tasks.values().filter_map(place).collect(),
        };
        out.push(Effect::Tell { session, tell: Tell::Hello(hello) });
    }

    /// Our numbers cannot go on: they begin anew, and all that the daemon has to know is told again.
    pub(super) fn renumber(&mut self, now: Millis, id: Uuid, out: &mut Vec<Effect>) {
        let Some(daemon) = self.daemons.get_mut(&id) else { return };
        // By the clock, so that it is another one also where all that we kept was lost.
        let epoch = now.0.max(daemon.numbers.epoch.saturating_add(1));
        let void = std::mem::take(&mut daemon.numbers.orders);
        daemon.numbers = Numbers { epoch, last: 0, orders: BTreeMap::new(), ..daemon.numbers };
        for task in daemon.tasks.values() {
            if let Some(task) = self.tasks.get_mut(task) {
                task.ordered = Ordered::default();
            }
        }
        out.push(Effect::Record(Record::Epoch { daemon: id, epoch }));
        for order in void.into_values() {
            if let What::Words(command) = order.what {
                self.told_in_vain(now, order.task, &command, out);
            }
        }
        self.lost_questions(id, out);
    }

    /// A frame came.
    pub(super) fn said(&mut self, now: Millis, session: SessionId, said: Said, out: &mut Vec<Effect>) -> Answer {
        let Some(id) = self.sessions.get(&session).copied() else {
            self.ignored.stray = self.ignored.stray.saturating_add(1);
            return Answer::Over;
        };
        let Some(daemon) = self.daemons.get_mut(&id) else { return Answer::Over };
        daemon.seen = now;
        if let Some(hello) = &said.hello {
            let answer = self.greeted(now, id, session, hello, out);
            if answer != Answer::Done {
                return answer;
            }
        }
        if let Some(ack) = said.ack {
            self.acked(id, ack, out);
            self.tell_all(id, out);
        }
        let answer = self.numbered(now, id, session, said.seq, said.body, said.meta, out);
        if let Some(n) = said.ping {
            out.push(Effect::Tell { session, tell: Tell::Pong(n) });
            self.pinged(now, session, out);
        }
        answer
    }

    /// How the daemon stands. What it has not applied is told again under its number, then what it was never told.
    fn greeted(&mut self, now: Millis, id: Uuid, session: SessionId, hello: &Hello, out: &mut Vec<Effect>) -> Answer {
        let Some(daemon) = self.daemons.get_mut(&id) else { return Answer::Over };
        let numbers = &mut daemon.numbers;
        if hello.epoch != numbers.theirs {
            (numbers.theirs, numbers.applied) = (hello.epoch, 0);
            out.push(Effect::Record(Record::Applied { daemon: id, epoch: hello.epoch, n: 0 }));
        }
        let applied = if hello.of == numbers.epoch { hello.applied } else { 0 };
        let kept = numbers.orders.keys().next().copied().unwrap_or(numbers.last.saturating_add(1));
        if applied > numbers.last || applied.saturating_add(1) < kept {
            // It has lost what it had applied, or we what we had given out.
            self.renumber(now, id, out);
            return Answer::Renumbered;
        }
        if let Some(session) = &mut daemon.session {
            session.ready = true;
        }
        self.acked(id, applied, out);
        self.forget_lost(id, hello);
        self.take_places(id, hello, out);
        let Some(daemon) = self.daemons.get(&id) else { return Answer::Over };
        for (seq, order) in &daemon.numbers.orders {
            let command = Box::new(self.command(order));
            out.push(Effect::Numbered { session, seq: *seq, command });
        }
        for task in daemon.tasks.values().copied().collect::<Vec<_>>() {
            self.order_missing(id, task, out);
            self.tell_waiting(task, out);
        }
        Answer::Done
    }

    /// Where it is not known how far a task's log is had, the daemon says from where on it will tell it.
    fn take_places(&mut self, id: Uuid, hello: &Hello, out: &mut Vec<Effect>) {
        for Place { task, off } in &hello.tasks {
            if let Some(known) = self.live(id, *task)
                && known.log_at.is_none()
            {
                known.log_at = Some(*off);
                out.push(Effect::Record(Record::Placed { task: *task, at: Some(*off) }));
            }
        }
    }

    /// What the daemon has applied and yet does not know it has lost: that is told anew.
    fn forget_lost(&mut self, id: Uuid, hello: &Hello) {
        let Some(daemon) = self.daemons.get(&id) else { return };
        let known: BTreeSet<Uuid> = hello.tasks.iter().map(|place| place.task).collect();
        let orders = daemon.numbers.orders.values().filter(|order| order.what.words().is_none());
        let under_way: BTreeSet<Uuid> = orders.map(|order| order.task).collect();
        for id in daemon.tasks.values().filter(|id| !known.contains(*id) && !under_way.contains(*id)) {
            if let Some(task) = self.tasks.get_mut(id) {
                task.ordered = Ordered::default();
            }
        }
    }

    /// Tells a daemon all about a task that it was never told.
    pub(super) fn order_missing(&mut self, to: Uuid, id: Uuid, out: &mut Vec<Effect>) {
        let Some(Task { life: Life::Assigned { asked, .. }, hold, .. }) = self.tasks.get(&id) else { return };
        let hold = hold.map(What::hold).filter(|_| asked.is_none());
        let asked = asked.map(|asked| match asked {
            Asked::Gracefully(_) => What::Gently,
            Asked::AtOnce => What::AtOnce,
        });
        for what in [Some(What::Spawn), hold, asked].into_iter().flatten() {
            if self.tasks.get(&id).is_some_and(|task| !task.ordered.has(&what)) {
                self.order(to, id, what, out);
            }
        }
    }

    /// Gives a command its number and sends it, if the daemon is there to hear it; else it is told when it is.
    pub(super) fn order(&mut self, to: Uuid, id: Uuid, what: What, out: &mut Vec<Effect>) {
        let (Some(daemon), Some(task)) = (self.daemons.get_mut(&to), self.tasks.get_mut(&id)) else { return };
        let Some(Session { id: session, ready: true, .. }) = daemon.session else { return };
        let seq = daemon.numbers.last.saturating_add(1);
        task.ordered.add(&what);
        let order = Order { task: id, what };
        daemon.numbers.last = seq;
        daemon.numbers.orders.insert(seq, order.clone());
        let command = Box::new(self.command(&order));
        out.push(Effect::Record(Record::Ordered { daemon: to, n: seq, order }));
        out.push(Effect::Numbered { session, seq, command });
    }

    /// What an order says.
    fn command(&self, order: &Order) -> DaemonCommand {
        let graceful = match (&order.what, self.tasks.get(&order.task)) {
            (What::Words(command), _) => return DaemonCommand::clone(command),
            (What::Pause, _) => return hold(order.task, true),
            (What::Resume, _) => return hold(order.task, false),
            (What::Spawn, Some(Task { life: Life::Assigned { spawn, .. }, .. })) => {
                return SpawnTask::clone(spawn).into();
            }
            // Of a task that has ended there is no plan any more. The number has to be said all the same, and this does
            // no harm.
            (What::Spawn | What::AtOnce, _) => false,
            (What::Gently, _) => true,
        };
        InterruptTask { task_id: order.task, graceful }.into()
    }

    /// The daemon has applied everything of ours up to this number, for good.
    fn acked(&mut self, id: Uuid, n: u64, out: &mut Vec<Effect>) {
        let Some(daemon) = self.daemons.get_mut(&id) else { return };
        if !daemon.session.is_some_and(|session| session.ready) || n > daemon.numbers.last {
            return;
        }
        let kept = daemon.numbers.orders.split_off(&n.saturating_add(1));
        let done = std::mem::replace(&mut daemon.numbers.orders, kept);
        if !done.is_empty() {
            out.push(Effect::Record(Record::Acked { daemon: id, n }));
        }
    }

    /// Applies a message, if it is the next one.
    #[expect(clippy::too_many_arguments, reason = "the fields of one frame, taken apart once")]
    fn numbered(
        &mut self,
        now: Millis,
        id: Uuid,
        session: SessionId,
        seq: Option<u64>,
        body: Option<DaemonMessage>,
        meta: Meta,
        out: &mut Vec<Effect>,
    ) -> Answer {
        if let Some(seq) = seq {
            let Some(daemon) = self.daemons.get_mut(&id) else { return Answer::Over };
            let numbers = &mut daemon.numbers;
            if !daemon.session.is_some_and(|session| session.ready) || seq > numbers.applied.saturating_add(1) {
                return Answer::OutOfOrder;
            }
            let again = seq <= numbers.applied;
            if !again {
                numbers.applied = seq;
                out.push(Effect::Record(Record::Applied { daemon: id, epoch: numbers.theirs, n: seq }));
            }
            out.push(Effect::Tell { session, tell: Tell::Ack(numbers.applied) });
            if again {
                return Answer::Ignored;
            }
        }
        match (body, meta) {
            (None, _) => Answer::Done,
            (Some(DaemonMessage::TaskOutput(body)), Meta { off: Some(off), end: Some(end), .. }) => {
                self.placed(id, session, body, off, end, out)
            }
            (Some(message), _) => self.message(now, session, message, out),
        }
    }

    /// Output that says where it belongs.
    fn placed(
        &mut self,
        daemon: Uuid,
        session: SessionId,
        body: TaskOutput,
        off: u64,
        end: u64,
        out: &mut Vec<Effect>,
    ) -> Answer {
        let id = body.task_id;
        let tell = |place: fn(Place) -> Tell, off| Effect::Tell { session, tell: place(Place { task: id, off }) };
        let Some(task) = self.live(daemon, id) else {
            // Nobody here wants it: nothing is to wait for it either.
            out.push(tell(Tell::Got, end));
            return Answer::Ignored;
        };
        let at = *task.log_at.get_or_insert(off);
        // An empty stretch at the very place where we stand ends the line that was begun there, and is no news else.
        let ends_line = off == at && end == at && task.line_begun && !body.is_partial;
        if end <= at && !ends_line {
            out.push(tell(Tell::Got, at));
            return Answer::Ignored;
        }
        if off != at {
            if task.rewinding != Some(session) {
                task.rewinding = Some(session);
                out.push(tell(Tell::Rewind, at));
            }
            return Answer::Ignored;
        }
        task.log_at = Some(end);
        task.rewinding = None;
        task.write(body, out);
        out.push(Effect::Record(Record::Placed { task: id, at: Some(end) }));
        out.push(tell(Tell::Got, end));
        Answer::Done
    }

    /// What a session speaks, if it is open.
    #[must_use]
    pub fn wire(&self, session: SessionId) -> Option<Wire> {
        let daemon = self.daemons.get(self.sessions.get(&session)?)?;
        daemon.session.map(|session| session.wire)
    }

    /// Whose session that is.
    #[must_use]
    pub fn daemon_of(&self, session: SessionId) -> Option<Uuid> {
        self.sessions.get(&session).copied()
    }

    /// Says where the numbers of a daemon contradict themselves.
    pub(super) fn check_numbers(numbers: &Numbers) -> Result<(), String> {
        let held = u64::try_from(numbers.orders.len()).unwrap_or(u64::MAX);
        let first = numbers.last.saturating_sub(held).saturating_add(1);
        let right = numbers.orders.keys().copied().eq(first..=numbers.last);
        if right { Ok(()) } else { Err(format!("orders with a gap before {}", numbers.last)) }
    }
}
