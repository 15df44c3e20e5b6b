//! The link to the server: one session machine, whatever carries the frames.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::counters::Counters;
use crate::effect::{Effect, LinkEffect};
use crate::id::{Epoch, SecretId, TaskId};
use crate::input::LinkCause;
use crate::limits;
use crate::notice::Notice;
use crate::protocol::{Authenticate, DaemonMessage};
use crate::report::LinkReport;
use crate::rng::Rng;
use crate::session::{Barrier, Session};
use crate::task::Cut;
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
    /// It is over; `authenticated` tells whether it ever was open.
    Lost { authenticated: bool },
    /// It is over: the server does not take the key.
    Refused,
    /// Everything up to this frame has been delivered.
    Delivered(u64),
}

/// The link to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Link {
    /// The newest attempt.
    epoch: Epoch,
    state: State,
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
    /// A connection was asked for.
    Connecting { due: Millis },
    /// It stands; the server has been told who we are.
    Authenticating { due: Millis, session: Session },
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

    /// Whether an input of this connection still counts. Counted where it does not.
    pub(crate) fn is_current(&self, epoch: Epoch, s: &mut Surroundings<'_>) -> bool {
        let open = !matches!(self.state, State::Idle | State::Waiting { .. });
        let current = open && epoch == self.epoch;
        s.counters.stale_frames += u64::from(!current);
        current
    }

    /// The connection stands: say who we are.
    pub(crate) fn up(&mut self, s: &mut Surroundings<'_>) {
        if !matches!(self.state, State::Connecting { .. }) {
            return;
        }
        let mut session = Session::new(s.now.mono);
        let hello = Authenticate {
            api_key: String::new(),
            machine_id: s.config.machine_id.clone(),
            hostname: s.config.hostname.clone(),
            max_concurrent_tasks: i32::try_from(s.config.max_tasks).unwrap_or(i32::MAX),
        };
        s.out.push(Effect::Link(LinkEffect::Send {
            epoch: self.epoch,
            n: session.next_frame(),
            message: Box::new(hello.into()),
            secret: Some(SecretId::DaemonKey),
        }));
        self.state = State::Authenticating { due: s.now.mono + limits::AUTHENTICATE, session };
    }

    /// The connection is gone, or could not be made.
    pub(crate) fn down(&mut self, cause: LinkCause, s: &mut Surroundings<'_>) -> Change {
        if let LinkCause::Refused { status: status @ (401 | 403), by_server: true, detail, .. } = cause {
            let code = alloc::format!("HTTP {status}");
            return self.refused(code, detail, s);
        }
        let change = self.over(s);
        let again_in = self.back_off(s);
        s.out.push(Effect::Tell(Notice::LinkLost { cause, again_in }));
        change
    }

    /// `authenticated` came.
    pub(crate) fn authenticated(&mut self, s: &mut Surroundings<'_>) -> Change {
        let State::Authenticating { session, .. } = &mut self.state else { return Change::None };
        s.counters.sessions += 1;
        s.out.push(Effect::Tell(Notice::Linked));
        self.state = State::Live(session.clone().opened(s.now.mono));
        Change::Opened
    }

    /// `error` came before `authenticated`.
    pub(crate) fn rejected(&mut self, code: String, message: String, s: &mut Surroundings<'_>) -> Change {
        if s.config.compat.refuses_key(&code) {
            return self.refused(code, message, s);
        }
        s.out.push(Effect::Tell(Notice::ServerError { code, message }));
        self.close(s);
        let change = self.over(s);
        self.back_off(s);
        change
    }

    fn refused(&mut self, code: String, message: String, s: &mut Surroundings<'_>) -> Change {
        s.counters.key_refused += 1;
        self.close(s);
        self.over(s);
        let again_in = limits::KEY_REFUSED;
        self.state = State::Waiting { until: s.now.mono + again_in };
        s.out.push(Effect::Tell(Notice::KeyRefused { code, message, again_in }));
        Change::Refused
    }

    /// The machine slept: nobody is at the other end any more.
    pub(crate) fn slept(&mut self, long: Millis, s: &mut Surroundings<'_>) -> Change {
        if matches!(self.state, State::Idle | State::Waiting { .. }) {
            return Change::None;
        }
        s.out.push(Effect::Tell(Notice::Slept { long }));
        self.close(s);
        // A ping that went out before the night says nothing about the server.
        if let State::Live(session) = &mut self.state {
            session.ping = None;
        }
        let change = self.over(s);
        self.state = State::Waiting { until: s.now.mono + Millis(1) };
        change
    }

    /// The daemon ends.
    pub(crate) fn shut(&mut self, s: &mut Surroundings<'_>) {
        self.close(s);
        self.state = State::Idle;
    }

    /// Something came from the far application.
    pub(crate) fn heard(&mut self, now: Millis) {
        if let State::Live(session) | State::Authenticating { session, .. } = &mut self.state {
            session.heard = now;
        }
    }

    /// Frames up to `n` left the transport.
    pub(crate) fn flushed(&mut self, n: u64, now: Millis) {
        let silent = self.silent;
        let (State::Live(session) | State::Authenticating { session, .. }) = &mut self.state else { return };
        session.flushed(n);
        if silent {
            session.start_grace(now);
        }
    }

    /// The ping that was frame `n` was answered.
    pub(crate) fn pong(&mut self, n: u64, s: &mut Surroundings<'_>) -> Change {
        let State::Live(session) = &mut self.state else { return Change::None };
        if session.ping.is_none_or(|(frame, _)| frame != n) {
            s.counters.misbehaved += 1;
            return Change::None;
        }
        session.ping = None;
        session.ponged = true;
        session.next_ping = s.now.mono + limits::PING;
        self.mute = 0;
        self.silent = false;
        match session.barrier.take_if(|barrier| barrier.n <= n) {
            Some(barrier) => Change::Delivered(barrier.n),
            None => Change::None,
        }
    }

    /// Sends a message. `owed`: its delivery matters.
    pub(crate) fn send(&mut self, message: Box<DaemonMessage>, owed: bool, out: &mut Vec<Effect>) {
        let State::Live(session) = &mut self.state else { return };
        let n = session.next_frame();
        if owed {
            session.owed = n;
        }
        out.push(Effect::Link(LinkEffect::Send { epoch: self.epoch, n, message, secret: None }));
    }

    /// The number of the frame that is sent next.
    pub(crate) const fn next_frame(&self) -> u64 {
        match &self.state {
            State::Live(session) => session.sent.saturating_add(1),
            State::Idle | State::Waiting { .. } | State::Connecting { .. } | State::Authenticating { .. } => 0,
        }
    }

    /// Sends a task's output.
    pub(crate) fn send_output(&mut self, task: TaskId, cut: Cut, out: &mut Vec<Effect>) {
        let State::Live(session) = &mut self.state else { return };
        let n = session.next_frame();
        session.owed = n;
        let bytes = cut.text.len() as u64;
        session.window.push_back((n, bytes));
        session.in_window = session.in_window.saturating_add(bytes);
        out.push(Effect::Link(LinkEffect::Output { epoch: self.epoch, n, task, text: cut.text, pieces: cut.pieces }));
    }

    /// Whether the transport can take more output.
    pub(crate) fn has_room(&self) -> bool {
        match &self.state {
            State::Live(session) => session.in_window < limits::WINDOW && session.window.len() < limits::WINDOW_FRAMES,
            State::Idle | State::Waiting { .. } | State::Connecting { .. } | State::Authenticating { .. } => false,
        }
    }

    /// Whether a barrier is to be set behind what was sent: at once when something undelivered was sent, and
    /// now and then to see whether anybody is there.
    pub(crate) fn wants_barrier(&self, now: Millis) -> bool {
        let State::Live(session) = &self.state else { return false };
        let due = session.ping.is_none() && now >= session.next_ping;
        session.barrier.is_none() && (session.owed > session.covered || due)
    }

    /// Sets it: a ping, unless one is out already that a silent server does not answer.
    pub(crate) fn set_barrier(&mut self, now: Millis, out: &mut Vec<Effect>) {
        let silent = self.silent;
        let State::Live(session) = &mut self.state else { return };
        if session.ping.is_none() {
            let n = session.next_frame();
            session.ping = Some((n, now));
            if session.mute_due == Millis(u64::MAX) {
                session.mute_due = now + limits::LINK_SILENCE;
            }
            out.push(Effect::Link(LinkEffect::Ping { epoch: self.epoch, n }));
        }
        session.covered = session.sent;
        session.barrier = Some(Barrier { n: session.sent, due: None });
        if silent {
            session.start_grace(now);
        }
    }

    /// When a heartbeat is due, it is: says so once.
    pub(crate) fn take_heartbeat(&mut self, now: Millis) -> bool {
        let State::Live(session) = &mut self.state else { return false };
        let due = now >= session.heartbeat;
        if due {
            session.heartbeat = now + limits::HEARTBEAT;
        }
        due
    }

    /// Deals with whatever time has brought.
    pub(crate) fn tick(&mut self, s: &mut Surroundings<'_>) -> Change {
        let now = s.now.mono;
        match &mut self.state {
            State::Waiting { until } if *until <= now => {
                self.connect(s);
                Change::None
            }
            State::Connecting { due } if *due <= now => self.unanswered("the attempt to connect", s),
            State::Authenticating { due, .. } if *due <= now => self.unanswered("`authenticate`", s),
            State::Live(_) => self.tick_live(s),
            State::Idle | State::Waiting { .. } | State::Connecting { .. } | State::Authenticating { .. } => {
                Change::None
            }
        }
    }

    fn tick_live(&mut self, s: &mut Surroundings<'_>) -> Change {
        let now = s.now.mono;
        let State::Live(session) = &mut self.state else { return Change::None };
        if !self.silent && now >= session.heard + limits::LINK_SILENCE {
            return self.unanswered("for 45 s", s);
        }
        if !session.ponged && !self.silent && now >= session.mute_due {
            session.mute_due = now + limits::LINK_SILENCE;
            self.count_mute(s);
        }
        let State::Live(session) = &mut self.state else { return Change::None };
        if self.silent {
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
        let change = self.over(s);
        let again_in = self.back_off(s);
        s.out.push(Effect::Tell(Notice::Silent { what, again_in }));
        change
    }

    fn connect(&mut self, s: &mut Surroundings<'_>) {
        self.epoch = Epoch(self.epoch.0.saturating_add(1));
        s.counters.connects += 1;
        self.state = State::Connecting { due: s.now.mono + limits::CONNECT };
        s.out.push(Effect::Link(LinkEffect::Connect { epoch: self.epoch }));
    }

    fn close(&self, s: &mut Surroundings<'_>) {
        if !matches!(self.state, State::Idle | State::Waiting { .. }) {
            s.out.push(Effect::Link(LinkEffect::Close { epoch: self.epoch }));
        }
    }

    /// Leaves the session behind.
    fn over(&mut self, s: &mut Surroundings<'_>) -> Change {
        let State::Live(session) = mem::take(&mut self.state) else { return Change::Lost { authenticated: false } };
        let now = s.now.mono;
        if now.since(session.since) >= limits::SESSION_GOOD {
            self.failures = 0;
        }
        if !session.ponged && session.ping.is_some_and(|(_, sent)| now.since(sent) >= limits::PONG_LATE) {
            self.count_mute(s);
        }
        Change::Lost { authenticated: true }
    }

    /// Full jitter in a window that doubles with each failure.
    fn back_off(&mut self, s: &mut Surroundings<'_>) -> Millis {
        let window = limits::BACKOFF_FIRST.0.checked_shl(self.failures).unwrap_or(u64::MAX).min(limits::BACKOFF_MAX.0);
        self.failures = self.failures.saturating_add(1).min(16);
        let again_in = Millis(s.rng.up_to(window).max(1));
        self.state = State::Waiting { until: s.now.mono + again_in };
        again_in
    }

    /// When [`Link::tick`] has something to do, and what.
    pub(crate) fn deadline(&self) -> Option<(Millis, &'static str)> {
        match &self.state {
            State::Idle => None,
            State::Waiting { until } => Some((*until, "the next attempt to connect")),
            State::Connecting { due } => Some((*due, "an attempt to connect that nobody answers")),
            State::Authenticating { due, .. } => Some((*due, "`authenticated` that does not come")),
            State::Live(session) => session.deadline(self.silent),
        }
    }

    /// What must hold between any two steps.
    pub(crate) fn check(&self) {
        if let State::Live(session) | State::Authenticating { session, .. } = &self.state {
            assert!(session.flushed <= session.sent, "more was flushed than sent");
            assert!(
                session.covered <= session.sent && session.owed <= session.sent,
                "a frame that was never sent counts"
            );
            let window: u64 = session.window.iter().map(|(_, bytes)| bytes).sum();
            assert!(window == session.in_window, "the output window is miscounted");
        }
    }

    /// For people and what watches over the daemon.
    pub(crate) fn report(&self, now: Millis) -> LinkReport {
        let waits = matches!(self.state, State::Waiting { .. });
        let again_in = self.deadline().filter(|_| waits).map(|(until, _)| until.since(now).0);
        LinkReport { state: self.describe(), live: self.is_live(), failures: self.failures, again_in }
    }

    /// For people: how the link stands.
    pub(crate) fn describe(&self) -> String {
        match &self.state {
            State::Idle => "not started",
            State::Waiting { .. } => "waiting to connect again",
            State::Connecting { .. } => "connecting",
            State::Authenticating { .. } => "authenticating",
            State::Live(_) => "connected",
        }
        .to_string()
    }
}
