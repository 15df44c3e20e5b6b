//! The far end of the wire, as far as the world of one daemon needs it.

use std::fmt::Debug;

use makima_core::effect::{Effect, Envelope};
use makima_core::id::Epoch;
use makima_core::protocol::{DaemonMessage, Wire};
use makima_core::time::Millis;

use super::act::Speech;
use super::machine::Machine;
use super::net::Frame;
use super::server::{Reply, Server};
use super::{SLOTS, World};

/// Whoever the daemon talks to: a server of the tables alone ([`Server`]), or the way to one that many daemons share.
pub trait Far: Sized + Clone + Debug {
    /// Which versions of the wire there are on the way there.
    fn speech(&self) -> Speech;

    /// The daemon has connected.
    fn connected(&mut self, epoch: Epoch, wire: Wire);

    /// A connection is gone.
    fn disconnected(&mut self, epoch: Epoch);

    /// A frame reached it. What the agents wrote so far is on the machine.
    fn hear(&mut self, epoch: Epoch, frame: &Frame, machine: &Machine);

    /// What reaches the daemon next over this connection.
    fn next(&mut self, epoch: Epoch) -> Option<Reply>;

    /// Some of what the daemon did may not be known to the daemon any more.
    fn doubt(&mut self);

    /// The daemon has a new life: what it was about to tell may never be told.
    fn daemon_killed(&mut self);

    /// The daemon is told something at this moment.
    fn speaks(&mut self, _now: Millis) {}

    /// What must hold of everything that the daemon wants done.
    fn check_effect(world: &mut World<Self>, effect: &Effect);

    /// What must hold of a message that reaches the far end over this connection.
    fn check_told(_world: &World<Self>, _epoch: Epoch, _message: &DaemonMessage, _envelope: Option<&Envelope>) {}

    /// Time has passed: what must hold of a far end that says nothing.
    fn check_silence(_world: &World<Self>) {}

    /// How many answers did not come in time so far, and whether this far end is known to answer no pings.
    fn found_wanting(world: &World<Self>) -> (u64, bool) {
        (world.daemon.counters().timeouts, false)
    }

    /// How many agents may run beyond the slots: those that lend theirs.
    fn lenders(_world: &World<Self>) -> usize {
        SLOTS as usize
    }
}

impl Far for Server {
    fn speech(&self) -> Speech {
        self.speech
    }

    fn connected(&mut self, epoch: Epoch, wire: Wire) {
        Self::connected(self, epoch, wire);
    }

    fn disconnected(&mut self, epoch: Epoch) {
        Self::disconnected(self, epoch);
    }

    fn hear(&mut self, epoch: Epoch, frame: &Frame, machine: &Machine) {
        let tokens = |task| machine.tokens(task);
        match frame {
            Frame::Message(message, Some(envelope), stretch) => {
                self.hear_second(epoch, message, (*envelope, *stretch), tokens);
            }
            Frame::Message(message, None, _) => Self::hear(self, epoch, message, tokens),
            Frame::Said(said) => self.hear_said(epoch, said),
            Frame::Ping(n) => self.pinged(epoch, *n),
        }
    }

    fn next(&mut self, epoch: Epoch) -> Option<Reply> {
        self.sessions.get_mut(&epoch)?.replies.pop_front()
    }

    fn doubt(&mut self) {
        Self::doubt(self);
    }

    fn daemon_killed(&mut self) {
        Self::daemon_killed(self);
    }

    fn speaks(&mut self, now: Millis) {
        self.trust.said = now;
    }

    fn check_effect(world: &mut World<Self>, effect: &Effect) {
        world.check_effect(effect);
    }

    fn check_told(world: &World<Self>, epoch: Epoch, message: &DaemonMessage, envelope: Option<&Envelope>) {
        // What comes late by a connection that is no more, or a second time, is told to nobody.
        if world.server.takes(epoch, envelope) {
            world.check_told(message, envelope);
        }
    }

    fn check_silence(world: &World<Self>) {
        world.check_silence();
    }

    fn found_wanting(world: &World<Self>) -> (u64, bool) {
        (world.daemon.counters().timeouts, world.server.trust.no_pongs)
    }

    fn lenders(world: &World<Self>) -> usize {
        world.lenders()
    }
}
