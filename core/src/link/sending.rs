//! What goes out on the connection that has the say, and what its far side says about that.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::session::{Barrier, Session};
use super::{Change, Link, Role, State, Surroundings};
use crate::effect::{Effect, Envelope, LinkEffect};
use crate::id::TaskId;
use crate::limits;
use crate::outbox::Sending;
use crate::protocol::{DaemonMessage, Said, Wire};
use crate::task::Cut;
use crate::time::Millis;

impl Link {
    const fn live(&mut self) -> Option<&mut Session> {
        match &mut self.state {
            State::Live(session) => Some(session),
            State::Idle | State::Waiting { .. } | State::Opening(_) => None,
        }
    }

    /// The session of a connection, from its first frame on.
    fn session(&mut self, role: Role) -> Option<&mut Session> {
        match (role, &mut self.state, &mut self.probe) {
            (Role::Main, State::Live(session), _) => Some(session),
            (Role::Main, State::Opening(opening), _) | (Role::Probe, _, Some(opening)) => opening.session(),
            (Role::Main | Role::Probe | Role::Leaving, _, _) => None,
        }
    }

    /// Something came from the far application.
    pub(crate) fn heard(&mut self, role: Role, now: Millis) {
        if let Some(session) = self.session(role) {
            session.heard = now;
        }
    }

    /// Frames up to `n` left the transport.
    pub(crate) fn flushed(&mut self, role: Role, n: u64, now: Millis) {
        let silent = self.silent;
        let Some(session) = self.session(role) else { return };
        session.flushed(n);
        if bug!(WatchdogFedOnTheWay) {
            session.heard = now;
        }
        if silent {
            session.start_grace(now);
        }
    }

    /// The ping that was frame `n` was answered.
    pub(crate) fn pong(&mut self, n: u64, s: &mut Surroundings<'_>) -> Change {
        let Some(session) = self.live() else { return Change::None };
        if session.ping.is_none_or(|(frame, _)| frame != n) {
            s.counters.misbehaved += 1;
            return Change::None;
        }
        session.ping = None;
        session.ponged = true;
        session.next_ping = s.now.mono + limits::PING;
        let passed = session.barrier.take_if(|barrier| barrier.n <= n || bug!(AnyPongPasses));
        if session.has_barriers() {
            self.mute = 0;
            self.silent = false;
        }
        passed.map_or(Change::None, |barrier| Change::Delivered(barrier.n))
    }

    /// Sends a message that nobody waits for.
    pub(crate) fn send(&mut self, message: impl Into<DaemonMessage>, out: &mut Vec<Effect>) {
        self.post(Sending { message: Box::new(message.into()), len: None, secret: None }, None, false, out);
    }

    /// Sends a message whose delivery matters. In version 2 of the wire it bears a number.
    pub(crate) fn send_owed(&mut self, sending: Sending, seq: Option<u64>, out: &mut Vec<Effect>) {
        self.post(sending, seq, true, out);
    }

    fn post(&mut self, sending: Sending, seq: Option<u64>, owed: bool, out: &mut Vec<Effect>) {
        let Some(session) = self.live() else { return };
        let n = session.next_frame();
        if owed {
            session.owed = n;
        }
        let Sending { message, len, secret } = sending;
        let envelope = (session.wire == Wire::Two).then_some(Envelope { seq, len });
        out.push(Effect::Link(LinkEffect::Send { epoch: session.epoch, n, message, secret, envelope }));
    }

    /// The number of the frame that is sent next.
    pub(crate) const fn next_frame(&self) -> u64 {
        match &self.state {
            State::Live(session) => session.sent.saturating_add(1),
            State::Idle | State::Waiting { .. } | State::Opening(_) => 0,
        }
    }

    /// Sends a task's output.
    pub(crate) fn send_output(&mut self, task: TaskId, cut: Cut, out: &mut Vec<Effect>) {
        let Some(session) = self.live() else { return };
        let n = session.next_frame();
        session.owed = n;
        let bytes = cut.text.len() as u64;
        session.window.push_back((n, bytes));
        session.in_window = session.in_window.saturating_add(bytes);
        let Cut { text, pieces, stretch } = cut;
        out.push(Effect::Link(LinkEffect::Output { epoch: session.epoch, n, task, text, pieces, stretch }));
    }

    /// Says what is no message. Only in version 2 of the wire.
    pub(crate) fn say(&mut self, said: Said, out: &mut Vec<Effect>) {
        let Some(session) = self.live() else { return };
        let n = session.next_frame();
        out.push(Effect::Link(LinkEffect::Say { epoch: session.epoch, n, said }));
    }

    /// Whether the transport can take more output.
    pub(crate) fn has_room(&self) -> bool {
        match &self.state {
            State::Live(session) => session.in_window < limits::WINDOW && session.window.len() < limits::WINDOW_FRAMES,
            State::Idle | State::Waiting { .. } | State::Opening(_) => false,
        }
    }

    /// Whether a barrier is to be set behind what was sent: at once when something undelivered was sent, and
    /// now and then to see whether anybody is there.
    pub(crate) fn wants_barrier(&self, now: Millis) -> bool {
        let State::Live(session) = &self.state else { return false };
        let due = session.ping.is_none() && now >= session.next_ping;
        let owed = session.has_barriers() && session.owed > session.covered;
        session.barrier.is_none() && (owed || due)
    }

    /// Sets it: a ping, unless one is out already that a silent server does not answer.
    pub(crate) fn set_barrier(&mut self, now: Millis, out: &mut Vec<Effect>) {
        let silent = self.silent;
        let Some(session) = self.live() else { return };
        if session.ping.is_none() {
            let (epoch, n) = (session.epoch, session.next_frame());
            session.ping = Some((n, now));
            out.push(Effect::Link(if session.wire == Wire::Two {
                LinkEffect::Say { epoch, n, said: Said::Ping(n) }
            } else {
                LinkEffect::Ping { epoch, n }
            }));
        }
        if !session.has_barriers() {
            return;
        }
        if session.mute_due == Millis(u64::MAX) {
            session.mute_due = now + limits::LINK_SILENCE;
        }
        session.covered = session.sent;
        session.barrier = Some(Barrier { n: session.sent, due: None });
        if silent {
            session.start_grace(now);
        }
    }

    /// When a heartbeat is due, it is: says so once.
    pub(crate) fn take_heartbeat(&mut self, now: Millis) -> bool {
        let Some(session) = self.live() else { return false };
        let due = now >= session.heartbeat;
        if due {
            session.heartbeat = now + limits::HEARTBEAT;
        }
        due
    }
}
