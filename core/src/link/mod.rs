//! The link to the server: one session machine, whatever carries the frames.
//!
//! One connection has the say. While it goes by long-poll, a WebSocket is tried beside it now and then; once it is
//! let in it has the say, and of the one before only the last answer is still heard.

mod opening;
mod route;
mod sending;
mod session;
mod shown;

use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use serde::{Deserialize, Serialize};

use self::opening::{Entered, Opening};
use self::route::Route;
use self::session::Session;
use crate::config::Config;
use crate::counters::Counters;
use crate::effect::{Effect, LinkEffect, Way};
use crate::id::Epoch;
use crate::input::LinkCause;
use crate::limits;
use crate::notice::Notice;
use crate::protocol::{Hello, Said, Wire};
use crate::rng::Rng;
use crate::time::{Millis, Now};

/// What the link can reach beside itself.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a Config,
    pub(crate) rng: &'a mut Rng,
    pub(crate) counters: &'a mut Counters,
    pub(crate) out: &'a mut Vec<Effect>,
}

/// What became of the session, for whoever has something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// It is open.
    Opened,
    /// It is over.
    Lost {
        /// Whether it ever was open.
        authenticated: bool,
        /// Whether long-poll is tried now, which was not before.
        turns: bool,
    },
    /// It is over: the server does not take the key.
    Refused,
    /// Everything up to this frame has been delivered.
    Delivered(u64),
}

/// What a connection is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has the say.
    Main,
    /// It is tried beside the one that has.
    Probe,
    /// It had the say, and its last answer may still come.
    Leaving,
}

/// The link to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Link {
    /// The newest attempt.
    epoch: Epoch,
    state: State,
    /// A WebSocket that is tried while polling.
    probe: Option<Opening>,
    /// The connection that another has followed, and until when it is waited for.
    leaving: Option<(Epoch, Millis)>,
    route: Route,
    /// Failures since the last good session: the exponent of the backoff.
    failures: u32,
    /// Sessions in a row in which no ping was answered.
    mute: u8,
    /// The server answers no pings: TCP alone judges the link.
    silent: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum State {
    /// The daemon has not started yet.
    #[default]
    Idle,
    /// The next attempt has its time.
    Waiting { until: Millis },
    /// An attempt is under way.
    Opening(Opening),
    /// The session is open.
    Live(Session),
}

impl Link {
    /// The daemon starts: connect. Of the life before only what is known of the server counts: not the pace.
    pub(crate) fn boot(&mut self, s: &mut Surroundings<'_>) {
        *self = Self { epoch: self.epoch, silent: self.silent, ..Self::default() };
        self.connect(s);
    }

    pub(crate) const fn is_live(&self) -> bool {
        matches!(self.state, State::Live(_))
    }

    /// Whether the server has let us in.
    pub(crate) const fn is_authenticated(&self) -> bool {
        match &self.state {
            State::Live(_) => true,
            State::Opening(opening) => opening.is_authenticated(),
            State::Idle | State::Waiting { .. } => false,
        }
    }

    /// What the open session speaks.
    pub(crate) const fn wire(&self) -> Option<Wire> {
        match &self.state {
            State::Live(session) => Some(session.wire),
            State::Idle | State::Waiting { .. } | State::Opening(_) => None,
        }
    }

    /// What this connection is to us; none where it is nothing any more.
    pub(crate) fn role(&self, epoch: Epoch) -> Option<Role> {
        let main = match &self.state {
            State::Idle | State::Waiting { .. } => None,
            State::Opening(opening) => Some(opening.epoch),
            State::Live(session) => Some(session.epoch),
        };
        if main == Some(epoch) || main.is_some() && bug!(FrameOfAnOldLink) {
            Some(Role::Main)
        } else if self.probe.as_ref().is_some_and(|probe| probe.epoch == epoch) {
            Some(Role::Probe)
        } else {
            self.leaving.filter(|(leaving, _)| *leaving == epoch).map(|_| Role::Leaving)
        }
    }

    /// A connection stands: say who we are.
    pub(crate) fn up(&mut self, role: Role, wire: Wire, s: &mut Surroundings<'_>) {
        match (role, &mut self.state, &mut self.probe) {
            (Role::Main, State::Opening(opening), _) | (Role::Probe, _, Some(opening)) => opening.up(wire, s),
            (Role::Main | Role::Probe | Role::Leaving, _, _) => {}
        }
    }

    /// A connection is gone, or could not be made.
    pub(crate) fn down(&mut self, role: Role, cause: LinkCause, s: &mut Surroundings<'_>) -> Change {
        match role {
            Role::Main => {}
            Role::Probe => {
                self.give_up_probe(s);
                return Change::None;
            }
            Role::Leaving => {
                self.leaving = None;
                return Change::None;
            }
        }
        if let LinkCause::Refused { status: status @ (401 | 403), by_server: true, detail, .. } = cause {
            let code = alloc::format!("HTTP {status}");
            return self.refused(code, detail, s);
        }
        let change = self.over(Some(&cause), s);
        let mut again_in = self.back_off(s);
        if let LinkCause::Refused { retry_after: Some(wait), .. } = &cause {
            again_in = (*wait).min(limits::RETRY_AFTER_MAX).max(Millis(s.rng.up_to(limits::BACKOFF_FIRST.0).max(1)));
            self.state = State::Waiting { until: s.now.mono + again_in };
        }
        s.out.push(Effect::Tell(Notice::LinkLost { cause, again_in }));
        change
    }

    /// `authenticated` came. None where it had come before.
    pub(crate) fn authenticated(&mut self, role: Role, s: &mut Surroundings<'_>) -> Option<Change> {
        let now = s.now.mono;
        match (role, &mut self.state, &mut self.probe) {
            (Role::Main, State::Opening(opening), _) => {
                let entered = opening.authenticated(now)?;
                Some(self.entered(entered, s))
            }
            (Role::Probe, _, Some(probe)) => {
                let entered = probe.authenticated(now)?;
                self.take_over(s);
                Some(self.entered(entered, s))
            }
            (Role::Main | Role::Probe | Role::Leaving, _, _) => None,
        }
    }

    fn entered(&mut self, entered: Entered, s: &mut Surroundings<'_>) -> Change {
        match entered {
            Entered::Open(session) => self.open(session, s),
            Entered::Greeting => Change::None,
        }
    }

    /// The WebSocket that was tried has the say from now on. The connection before it is let come to its end: its
    /// answer may carry a command.
    fn take_over(&mut self, s: &mut Surroundings<'_>) {
        let Some(probe) = self.probe.take() else { return };
        if let State::Live(session) = mem::replace(&mut self.state, State::Opening(probe)) {
            self.drop_leaving(s);
            self.leaving = Some((session.epoch, s.now.mono + limits::LEAVING));
            s.out.push(Effect::Link(LinkEffect::Quiesce { epoch: session.epoch }));
        }
        self.route.back_up();
    }

    /// Version 2: whether the server's greeting is what comes next.
    pub(crate) fn awaits_greeting(&self) -> bool {
        matches!(&self.state, State::Opening(opening) if opening.is_authenticated())
    }

    /// The server has said how it stands; `hello` is how we do. The session is open with that.
    pub(crate) fn greeted(&mut self, hello: Hello, s: &mut Surroundings<'_>) -> Change {
        let State::Opening(opening) = &self.state else { return Change::None };
        let Some(session) = opening.greeted() else { return Change::None };
        let change = self.open(session, s);
        self.say(Said::Hello(hello), s.out);
        change
    }

    fn open(&mut self, session: Session, s: &mut Surroundings<'_>) -> Change {
        s.counters.sessions += 1;
        s.counters.polling_sessions += u64::from(session.way == Way::LongPoll);
        s.out.push(Effect::Tell(Notice::Linked { way: session.way }));
        if session.way == Way::LongPoll {
            self.route.polling(s.now.mono);
        }
        self.state = State::Live(session);
        Change::Opened
    }

    /// `error` came before `authenticated`.
    pub(crate) fn rejected(&mut self, role: Role, code: String, message: String, s: &mut Surroundings<'_>) -> Change {
        match role {
            Role::Main => {}
            Role::Probe => {
                self.close_probe(s);
                self.give_up_probe(s);
                return Change::None;
            }
            Role::Leaving => return Change::None,
        }
        if s.config.compat.refuses_key(&code) {
            return self.refused(code, message, s);
        }
        s.out.push(Effect::Tell(Notice::ServerError { code, message }));
        self.close(s);
        let change = self.over(None, s);
        self.back_off(s);
        change
    }

    fn refused(&mut self, code: String, message: String, s: &mut Surroundings<'_>) -> Change {
        s.counters.key_refused += 1;
        self.close(s);
        self.leave(s);
        let again_in = limits::KEY_REFUSED;
        if !bug!(RefusedKeyIsTheEnd) {
            self.state = State::Waiting { until: s.now.mono + again_in };
        }
        s.out.push(Effect::Tell(Notice::KeyRefused { code, message, again_in }));
        Change::Refused
    }

    /// The server breaks the rules of the session: it is ended, and the next one sets it right.
    pub(crate) fn break_off(&mut self, s: &mut Surroundings<'_>) -> Change {
        self.close(s);
        let change = self.over(None, s);
        self.back_off(s);
        change
    }

    /// The machine slept: nobody is at the other end any more.
    pub(crate) fn slept(&mut self, long: Millis, s: &mut Surroundings<'_>) -> Change {
        if matches!(self.state, State::Idle | State::Waiting { .. }) {
            return Change::None;
        }
        s.out.push(Effect::Tell(Notice::Slept { long }));
        self.close(s);
        // A ping that went out before the night says nothing about the server.
        if let State::Live(session) = &mut self.state
            && !bug!(PingOfBeforeTheSleep)
        {
            session.ping = None;
        }
        let (authenticated, turns) = (self.leave(s).is_some(), false);
        self.state = State::Waiting { until: s.now.mono + Millis(1) };
        Change::Lost { authenticated, turns }
    }

    /// The daemon ends.
    pub(crate) fn shut(&mut self, s: &mut Surroundings<'_>) {
        self.close_probe(s);
        self.probe = None;
        self.drop_leaving(s);
        self.close(s);
        self.state = State::Idle;
    }

    /// Deals with whatever time has brought.
    pub(crate) fn tick(&mut self, s: &mut Surroundings<'_>) -> Change {
        let now = s.now.mono;
        if self.leaving.is_some_and(|(_, until)| until <= now) {
            self.drop_leaving(s);
        }
        if self.probe.as_ref().is_some_and(|probe| probe.due <= now) {
            self.close_probe(s);
            self.give_up_probe(s);
        }
        match &mut self.state {
            State::Waiting { until } if *until <= now => {
                self.connect(s);
                Change::None
            }
            State::Opening(opening) if opening.due <= now => {
                let what = opening.awaits();
                self.unanswered(what, s)
            }
            State::Live(_) => self.tick_live(s),
            State::Idle | State::Waiting { .. } | State::Opening(_) => Change::None,
        }
    }

    fn tick_live(&mut self, s: &mut Surroundings<'_>) -> Change {
        let now = s.now.mono;
        let State::Live(session) = &mut self.state else { return Change::None };
        let silent = self.silent && session.has_barriers();
        if !silent && now >= session.heard + limits::LINK_SILENCE {
            return self.unanswered("for 45 s", s);
        }
        if session.has_barriers() && !session.ponged && !silent && now >= session.mute_due {
            session.mute_due = now + limits::LINK_SILENCE;
            self.count_mute(s);
        }
        if self.probe.is_none() && self.route.probe_at().is_some_and(|due| due <= now) {
            self.try_websocket(s);
        }
        let State::Live(session) = &mut self.state else { return Change::None };
        if self.silent && session.has_barriers() {
            session.start_grace(now);
        }
        match session.barrier.take_if(|barrier| barrier.due.is_some_and(|due| due <= now)) {
            Some(barrier) => Change::Delivered(barrier.n),
            None => Change::None,
        }
    }

    /// One more stretch in which no ping was answered.
    fn count_mute(&mut self, s: &mut Surroundings<'_>) {
        self.mute = self.mute.saturating_add(1);
        if self.mute >= limits::MUTE_SESSIONS && !self.silent {
            self.silent = true;
            s.out.push(Effect::Tell(Notice::NoPongs));
        }
    }

    /// Nobody answers: the connection is dead.
    fn unanswered(&mut self, what: &'static str, s: &mut Surroundings<'_>) -> Change {
        s.counters.silences += 1;
        self.close(s);
        let change = self.over(None, s);
        let again_in = self.back_off(s);
        s.out.push(Effect::Tell(Notice::Silent { what, again_in }));
        change
    }

    fn next_epoch(&mut self) -> Epoch {
        self.epoch = Epoch(self.epoch.0.saturating_add(1));
        self.epoch
    }

    fn connect(&mut self, s: &mut Surroundings<'_>) {
        let epoch = self.next_epoch();
        self.state = State::Opening(Opening::connect(epoch, self.route.way(), s));
    }

    fn try_websocket(&mut self, s: &mut Surroundings<'_>) {
        self.route.probing();
        s.counters.probes += 1;
        let epoch = self.next_epoch();
        self.probe = Some(Opening::connect(epoch, Way::WebSocket, s));
    }

    fn give_up_probe(&mut self, s: &mut Surroundings<'_>) {
        self.probe = None;
        self.route.probe_failed(s.now.mono);
    }

    fn close_probe(&self, s: &mut Surroundings<'_>) {
        if let Some(probe) = &self.probe {
            s.out.push(Effect::Link(LinkEffect::Close { epoch: probe.epoch }));
        }
    }

    pub(crate) fn drop_leaving(&mut self, s: &mut Surroundings<'_>) {
        if let Some((epoch, _)) = self.leaving.take() {
            s.out.push(Effect::Link(LinkEffect::Close { epoch }));
        }
    }

    fn close(&self, s: &mut Surroundings<'_>) {
        let epoch = match &self.state {
            State::Idle | State::Waiting { .. } => return,
            State::Opening(opening) => opening.epoch,
            State::Live(session) => session.epoch,
        };
        s.out.push(Effect::Link(LinkEffect::Close { epoch }));
    }

    /// Leaves the connection behind, and says where the next one goes.
    fn over(&mut self, cause: Option<&LinkCause>, s: &mut Surroundings<'_>) -> Change {
        let way = match &self.state {
            State::Live(session) => session.way,
            State::Opening(opening) => opening.way,
            State::Idle | State::Waiting { .. } => self.route.way(),
        };
        let lived = self.leave(s);
        let turns = self.route.lost(s.now.mono, way, cause, lived);
        s.counters.ways_changed += u64::from(turns);
        let turns = turns && self.route.way() == Way::LongPoll;
        if turns {
            s.out.push(Effect::Tell(Notice::TurnsToPolling));
        }
        Change::Lost { authenticated: lived.is_some(), turns }
    }

    /// The same, without any word on what caused it. Says how long a session was open.
    fn leave(&mut self, s: &mut Surroundings<'_>) -> Option<Millis> {
        self.close_probe(s);
        self.probe = None;
        self.drop_leaving(s);
        let State::Live(session) = mem::take(&mut self.state) else { return None };
        let now = s.now.mono;
        let lived = now.since(session.since);
        if lived >= limits::SESSION_GOOD {
            self.failures = 0;
        }
        let late = session.ping.is_some_and(|(_, sent)| now.since(sent) >= limits::PONG_LATE);
        if session.has_barriers() && !session.ponged && late {
            self.count_mute(s);
        }
        Some(lived)
    }

    /// Full jitter in a window that doubles with each failure.
    fn back_off(&mut self, s: &mut Surroundings<'_>) -> Millis {
        let window = limits::BACKOFF_FIRST.0.checked_shl(self.failures).unwrap_or(u64::MAX).min(limits::BACKOFF_MAX.0);
        self.failures = self.failures.saturating_add(1).min(16);
        let again_in = Millis(s.rng.up_to(window).max(if bug!(BackoffOfNothing) { 0 } else { 1 }));
        self.state = State::Waiting { until: s.now.mono + again_in };
        again_in
    }
}
