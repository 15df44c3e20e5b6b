//! Version 2 of the wire: numbers, acknowledgements, places. What `protocol::Frame` says, as it is lived by.

use alloc::string::ToString;
use alloc::vec::Vec;

use crate::id::TaskId;
use crate::link::{Change, Link, Role};
use crate::notice::Party;
use crate::numbers::Turn;
use crate::protocol::{Hello, Place, Said, Wire};
use crate::step::Step;
use crate::task::Task;

impl Step<'_> {
    /// What a frame of the connection that has the say says beside a message.
    pub(crate) fn said(&mut self, said: Said) {
        if let Said::Hello(hello) = said {
            return self.hello(&hello);
        }
        if self.daemon.core.link.wire() != Some(Wire::Two) {
            return self.misbehaved(Party::Server, "it speaks before it has said `hello`".to_string());
        }
        match said {
            Said::Hello(_) => {}
            Said::Ack(n) => self.applied(n),
            Said::Got(Place { task, off }) => {
                self.on_task(TaskId(task), |task, s| task.got(off, s));
            }
            Said::Rewind(Place { task, off }) => {
                self.daemon.core.counters.rewinds += 1;
                if !bug!(RewindIgnored) {
                    self.on_task(TaskId(task), |task, s| task.rewind(off, s));
                }
            }
            Said::Ping(n) => self.daemon.core.link.say(Said::Pong(n), self.out),
            Said::Pong(n) => self.pong(n),
        }
    }

    /// The server says how it stands: what it has not applied is said again under its number, then what is new.
    fn hello(&mut self, hello: &Hello) {
        if !self.daemon.core.link.awaits_greeting() {
            return self.misbehaved(Party::Server, "`hello` came when it was not due".to_string());
        }
        let core = &mut self.daemon.core;
        if core.inbox.greeted(hello.epoch) {
            // What still comes by the way before bears numbers that count no more.
            self.link(Link::drop_leaving);
        }
        let core = &mut self.daemon.core;
        if core.numbers.go_on(hello) {
            self.applied(hello.applied);
        } else {
            self.renumber();
        }
        let core = &mut self.daemon.core;
        let (of, applied) = core.inbox.stand();
        let known = self.daemon.index.not_closed.iter();
        let place = |id: &TaskId| Some(Place { task: id.0, off: self.daemon.tasks.get(id)?.place() });
        let own = Hello { epoch: core.numbers.epoch(), of, applied, tasks: known.filter_map(place).collect() };
        let change = self.link(|link, s| link.greeted(own, s));
        if change == Change::Opened {
            if !bug!(NothingIsSaidAgain) {
                self.say_again();
            }
            self.place_tasks(&hello.tasks);
        }
        self.link_changed(change);
    }

    /// The output of every task whose end the server does not know goes on from where the server stands.
    fn place_tasks(&mut self, places: &[Place]) {
        for id in self.daemon.index.not_closed.iter().copied().collect::<Vec<_>>() {
            let place = places.iter().find(|place| place.task == id.0).map(|place| place.off);
            let cuts = self.on_task(id, |task, s| task.placed(place, s));
            for cut in cuts.unwrap_or_default() {
                self.send_output(id, cut);
            }
        }
    }

    /// The server has applied everything of ours up to this number, for good.
    fn applied(&mut self, n: u64) {
        let Some(owners) = self.daemon.core.numbers.applied(n) else {
            return self.misbehaved(Party::Server, "it acknowledges what was never said".to_string());
        };
        for owner in owners {
            match owner {
                Some(id) => {
                    self.on_task(id, |task, s| task.applied(n, s));
                }
                None => {
                    self.daemon.core.loose.applied(n);
                }
            }
        }
    }

    /// Our numbers cannot go on: what is not known to be applied gets others.
    fn renumber(&mut self) {
        self.daemon.core.counters.renumbered += 1;
        let core = &mut self.daemon.core;
        core.numbers.renumber(&mut core.rng);
        self.forget_numbers();
    }

    /// A session without numbers is open: those that were given count no more.
    pub(crate) fn drop_numbers(&mut self) {
        self.daemon.core.numbers.drop_series();
        self.forget_numbers();
    }

    fn forget_numbers(&mut self) {
        self.daemon.core.loose.renumber();
        for id in self.daemon.index.talking.clone() {
            self.on_task(id, |task, _| task.renumber());
        }
    }

    /// Says again what bears a number and is not known to be applied.
    fn say_again(&mut self) {
        let core = &mut self.daemon.core;
        for (seq, owner) in core.numbers.waiting() {
            let n = core.link.next_frame();
            let sending = match owner {
                Some(id) => self.daemon.tasks.get_mut(&id).and_then(|task| task.send_again(seq, n)),
                None => core.loose.send_again(seq, n),
            };
            if let Some(sending) = sending {
                core.link.send_owed(sending, Some(seq), self.out);
            }
            self.touched.extend(owner);
        }
    }

    /// The number that the next message bears, where messages bear numbers.
    fn next_number(&self) -> Option<u64> {
        (self.daemon.core.link.wire() == Some(Wire::Two)).then(|| self.daemon.core.numbers.next())
    }

    /// Sends what is to be told about no task that is known here.
    pub(crate) fn send_loose(&mut self) {
        loop {
            let seq = self.next_number();
            let core = &mut self.daemon.core;
            let Some(sending) = core.loose.send(u64::MAX, core.link.next_frame(), seq) else { return };
            if seq.is_some() {
                core.numbers.given(None);
            }
            core.link.send_owed(sending, seq, self.out);
        }
    }

    /// Sends what is to be told about this task and may be by now.
    pub(crate) fn send_reports(&mut self, id: TaskId) {
        loop {
            let seq = self.next_number();
            let core = &mut self.daemon.core;
            let n = core.link.next_frame();
            let Some(sending) = self.daemon.tasks.get_mut(&id).and_then(|task: &mut Task| task.send(n, seq)) else {
                return;
            };
            if seq.is_some() {
                core.numbers.given(Some(id));
            }
            core.link.send_owed(sending, seq, self.out);
        }
    }

    /// Tells the server what has been applied of its numbers, where that is news.
    pub(crate) fn acknowledge(&mut self) {
        let core = &mut self.daemon.core;
        if core.link.wire() == Some(Wire::Two)
            && let Some(applied) = core.inbox.acknowledge()
        {
            let applied = if bug!(AckOffByOne) { applied.saturating_add(1) } else { applied };
            core.link.say(Said::Ack(applied), self.out);
        }
    }

    pub(crate) fn pong(&mut self, n: u64) {
        let change = self.link(|link, s| link.pong(n, s));
        self.link_changed(change);
    }

    /// A number came, with a message or with what cannot be read. True where what bears it is to be applied.
    pub(crate) fn take_number(&mut self, role: Role, seq: Option<u64>) -> bool {
        let Some(seq) = seq else { return true };
        let numbered = self.daemon.core.link.wire() == Some(Wire::Two);
        let turn = match role {
            Role::Main if numbered => self.daemon.core.inbox.take(seq),
            // Before it has said how it stands.
            Role::Main | Role::Probe => Turn::Gap,
            // What comes late by the way before counts as far as it fits: the rest comes by the new way.
            Role::Leaving => match self.daemon.core.inbox.take(seq) {
                Turn::Gap => Turn::Again,
                turn @ (Turn::Next | Turn::Again) => turn,
            },
        };
        match turn {
            Turn::Next => {}
            Turn::Again => self.daemon.core.counters.duplicate_commands += 1,
            Turn::Gap if role == Role::Probe => {}
            Turn::Gap => {
                self.daemon.core.counters.out_of_order += 1;
                self.misbehaved(Party::Server, "a number came that is not the next one".to_string());
                let change = self.link(|link, s| link.break_off(s));
                self.link_changed(change);
            }
        }
        turn == Turn::Next || turn == Turn::Again && bug!(AppliedTwice)
    }
}
