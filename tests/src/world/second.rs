//! Version 2 of the wire as a server lives by it: commands are kept until they are applied, messages are applied once,
//! output is put where it belongs. What the daemon must never do is asserted here.

use std::collections::{BTreeMap, BTreeSet};

use makima_core::effect::{Envelope, Stretch};
use makima_core::id::{Epoch, TaskId};
use makima_core::protocol::{DaemonCommand, DaemonMessage, Hello, Place, Said, TaskOutput, Wire};

use super::act::Speech;
use super::server::{Reply, Server};
use crate::holds;

/// What a server of version 2 keeps.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    /// Of its own; 0 until it has said how it stands.
    pub(super) epoch: u64,
    last: u64,
    /// What is not known to be applied; none is a line that nobody can read.
    pub(super) orders: BTreeMap<u64, Option<Box<DaemonCommand>>>,
    /// The daemon's series, and the last of it that was applied.
    theirs: (u64, u64),
    /// Where each task's output stands; unknown where some came without a place.
    pub(super) places: BTreeMap<TaskId, Option<u64>>,
    /// Tasks whose output it had, and said so, and has lost, and of which nothing has come since.
    pub(super) forgotten: BTreeSet<TaskId>,
    /// Stretches of output that were put where they belong.
    laid: u64,
    /// Lines that were begun.
    begun: BTreeMap<TaskId, bool>,
    /// The daemon may have lost numbers that it gave out: it was killed while nothing could be written down, or its
    /// journal was not trusted.
    pub(super) doubt: bool,
}

impl Numbers {
    /// The numbers cannot go on. Gives back what was not known to be applied and does no harm if it was: a message would
    /// be said twice.
    pub(super) fn give_up(&mut self) -> Vec<Option<Box<DaemonCommand>>> {
        let orders = std::mem::take(&mut self.orders);
        if self.last > 0 {
            self.epoch += 1;
            self.last = 0;
        }
        let message =
            |order: &Option<Box<DaemonCommand>>| matches!(order.as_deref(), Some(DaemonCommand::SendMessage(_)));
        orders.into_values().filter(|order| !message(order)).collect()
    }
}

impl Server {
    /// Gives a command its number; it is kept until it is known to be applied.
    pub(super) fn order(&mut self, command: Option<Box<DaemonCommand>>) {
        if let Some(command) = &command {
            self.trust.ask(command, |task| self.ledger.get(&task).is_some_and(|entry| entry.accepted));
        }
        let numbers = &mut self.numbers;
        numbers.last += 1;
        numbers.orders.insert(numbers.last, command.clone());
        let seq = numbers.last;
        let session = self.current.and_then(|current| self.sessions.get_mut(&current));
        if let Some(session) = session.filter(|session| session.ready) {
            session.replies.push_back(Reply::Command(Some(seq), command));
        }
    }

    pub(super) fn say_hello(&mut self, epoch: Epoch) {
        let numbers = &mut self.numbers;
        numbers.epoch = numbers.epoch.max(1_000);
        let live = |task: &&TaskId| self.ledger.get(task).is_some_and(|entry| entry.complete.is_none());
        let place = |(task, off): (&TaskId, &Option<u64>)| Some(Place { task: task.0, off: (*off)? });
        let hello = Hello {
            epoch: numbers.epoch,
            of: numbers.theirs.0,
            applied: numbers.theirs.1,
            tasks: numbers.places.iter().filter(|(task, _)| live(task)).filter_map(place).collect(),
        };
        if let Some(session) = self.sessions.get_mut(&epoch) {
            session.replies.push_back(Reply::Said(Said::Hello(hello)));
        }
    }

    /// Whether a message over this connection is news to it.
    pub(super) fn takes(&self, epoch: Epoch, envelope: Option<&Envelope>) -> bool {
        let stands = self.sessions.get(&epoch).is_some_and(|session| !session.over);
        let number = envelope.and_then(|envelope| envelope.seq);
        stands && number.is_none_or(|seq| seq > self.numbers.theirs.1)
    }

    /// A frame of version 2 that bears a message.
    pub(super) fn hear_second(
        &mut self,
        epoch: Epoch,
        message: &DaemonMessage,
        (envelope, stretch): (Envelope, Option<Stretch>),
        tokens: impl Fn(TaskId) -> Option<[u32; 2]>,
    ) {
        let Some(session) = self.sessions.get_mut(&epoch).filter(|session| !session.over) else { return };
        assert!(session.wire == Wire::Two, "an envelope in a session of version 1");
        let bare = matches!(
            message,
            DaemonMessage::Authenticate(_) | DaemonMessage::Heartbeat(_) | DaemonMessage::TaskOutput(_)
        );
        assert!(bare == envelope.seq.is_none(), "{} with the number {:?}", message.kind(), envelope.seq);
        if let Some(seq) = envelope.seq {
            assert!(session.ready, "a number before the daemon said how it stands");
            let applied = &mut self.numbers.theirs.1;
            holds!(AppliedOnce, seq <= *applied + 1, "number {seq} follows {applied}");
            let again = seq <= *applied;
            *applied = seq.max(*applied);
            if self.gathers && matches!(session.replies.back(), Some(Reply::Said(Said::Ack(_)))) {
                session.replies.pop_back();
            }
            session.replies.push_back(Reply::Said(Said::Ack(*applied)));
            self.seen.see("number", if again { "again" } else { "new" });
            if again {
                return;
            }
        }
        match (message, stretch) {
            (DaemonMessage::TaskOutput(output), Some(stretch)) => self.placed(epoch, output, stretch),
            (DaemonMessage::TaskOutput(_), None) => panic!("output without a place"),
            (message, _) => self.hear(epoch, message, tokens),
        }
    }

    /// What it acknowledges in the session that has the say, if that is one in which it may.
    pub(super) fn acknowledging(&self) -> Option<Vec<u64>> {
        let session = self.sessions.get(&self.current?).filter(|session| session.ready)?;
        let ack = |reply: &Reply| if let Reply::Said(Said::Ack(n)) = reply { Some(*n) } else { None };
        Some(session.replies.iter().filter_map(ack).collect())
    }

    /// What a frame of version 2 says that bears no message.
    pub(super) fn hear_said(&mut self, epoch: Epoch, said: &Said) {
        let Some(session) = self.sessions.get_mut(&epoch).filter(|session| !session.over) else { return };
        match said {
            Said::Hello(hello) => self.hello(epoch, hello),
            Said::Ack(n) => {
                holds!(AppliedOnce, *n <= self.numbers.last, "{n} was never said");
                self.numbers.orders.retain(|seq, _| seq > n);
            }
            Said::Ping(n) => session.replies.push_back(Reply::Said(Said::Pong(*n))),
            Said::Pong(_) => {}
            Said::Got(_) | Said::Rewind(_) => panic!("the daemon says {said:?}"),
        }
    }

    fn hello(&mut self, epoch: Epoch, hello: &Hello) {
        let numbers = &mut self.numbers;
        if hello.epoch != numbers.theirs.0 {
            let first = numbers.theirs == (0, 0);
            let may = first || numbers.doubt || self.speech == Speech::Stripped;
            holds!(NothingLost, may, "the daemon's numbers begin anew, and nothing of them was lost");
            self.seen.see("numbers", if first { "first" } else { "anew" });
            numbers.theirs = (hello.epoch, 0);
        }
        assert!(hello.epoch != 0 && hello.of == numbers.epoch, "{hello:?} answers another series");
        let kept = numbers.orders.keys().next().map_or(numbers.last, |first| first - 1);
        if !(kept..=numbers.last).contains(&hello.applied) {
            holds!(AppliedOnce, numbers.doubt, "{} was applied, of {kept}", hello.applied);
            return self.renumber(epoch);
        }
        numbers.orders.retain(|seq, _| *seq > hello.applied);
        for place in &hello.tasks {
            let known = numbers.places.entry(TaskId(place.task)).or_insert(Some(0));
            *known = Some(known.unwrap_or(place.off));
        }
        for (id, entry) in &self.ledger {
            let named = hello.tasks.iter().any(|place| place.task == id.0);
            holds!(
                NamedAsItIs,
                !entry.accepted || entry.complete.is_some() || named,
                "{id} is not named, and has not ended"
            );
        }
        let orders: Vec<_> = self.numbers.orders.iter().map(|(seq, order)| (*seq, order.clone())).collect();
        if let Some(session) = self.sessions.get_mut(&epoch) {
            assert!(!session.ready, "`hello` came twice");
            session.ready = true;
            session.replies.extend(orders.into_iter().map(|(seq, order)| Reply::Command(Some(seq), order)));
        }
    }

    /// The daemon has lost what it had applied: all that it has to know is told again, in the next session.
    fn renumber(&mut self, epoch: Epoch) {
        self.seen.see("numbers", "given up");
        if let Some(session) = self.sessions.get_mut(&epoch) {
            session.over = true;
        }
        let orders = self.numbers.give_up();
        let lost = |id: &TaskId| self.ledger.get(id).is_none_or(|entry| !entry.accepted && entry.complete.is_none());
        let spawns: Vec<_> = self.asked.iter().filter(|(id, _)| lost(id)).map(|(_, spawn)| spawn.clone()).collect();
        for spawn in spawns {
            self.order(Some(Box::new(spawn.into())));
        }
        for order in orders {
            self.order(order);
        }
    }

    /// Output that says where it belongs.
    fn placed(&mut self, epoch: Epoch, output: &TaskOutput, stretch: Stretch) {
        let task = TaskId(output.task_id);
        let tell = |off| Place { task: task.0, off };
        let Some(session) = self.sessions.get_mut(&epoch) else { return };
        let ended = self.ledger.get(&task).is_some_and(|entry| entry.complete.is_some());
        let place = self.numbers.places.entry(task).or_insert(Some(0)).get_or_insert(stretch.off);
        let begun = self.numbers.begun.entry(task).or_default();
        let closes = stretch.off == stretch.end && stretch.off == *place && *begun && !output.is_partial;
        if ended {
            return session.replies.push_back(Reply::Said(Said::Got(tell(stretch.end))));
        }
        if stretch.end <= *place && !closes {
            self.seen.see("output", "dropped");
            return session.replies.push_back(Reply::Said(Said::Got(tell(*place))));
        }
        if stretch.off != *place {
            self.seen.see("output", "rewound");
            if session.rewinding.insert(task) {
                session.replies.push_back(Reply::Said(Said::Rewind(tell(*place))));
            }
            return;
        }
        session.rewinding.remove(&task);
        self.numbers.forgotten.remove(&task);
        self.numbers.laid += 1;
        // More and more seldom all that it had is gone; not where the next session may be one that knows of no places.
        let may_forget = self.speech == Speech::Two && *place > 0;
        if may_forget && self.numbers.laid >= 8 && self.numbers.laid.is_power_of_two() {
            session.rewinding.insert(task);
            self.numbers.forgotten.insert(task);
            session.replies.push_back(Reply::Said(Said::Rewind(tell(0))));
            (*place, *begun) = (0, false);
            let entry = self.entry(output.task_id);
            (entry.tokens, entry.now, entry.open) = Default::default();
            return self.seen.see("output", "lost");
        }
        *place = stretch.end;
        *begun = output.is_partial && (*begun || !output.output.is_empty());
        session.replies.push_back(Reply::Said(Said::Got(tell(stretch.end))));
        self.seen.see("output", if closes { "closed" } else { "placed" });
        let mut lines = output.output.split('\n').peekable();
        while let Some(line) = lines.next() {
            let partial = lines.peek().is_none() && output.is_partial;
            if !(partial && line.is_empty()) {
                self.output(output.task_id, line, partial);
            }
        }
    }

    /// A task of which nothing was heard yet. In version 2 none is lost on the way to the daemon, however the link
    /// breaks.
    pub(super) fn unheard_of(&self) -> Option<TaskId> {
        let heard = |id: &TaskId| self.ledger.get(id).is_some_and(|entry| entry.accepted || entry.complete.is_some());
        let mut asked = self.asked.keys().filter(|_| self.speech == Speech::Two);
        asked.find(|id| !heard(id)).copied()
    }

    /// Some of what the daemon did may not be known to it any more.
    pub(super) const fn doubt(&mut self) {
        self.numbers.doubt = true;
    }
}
