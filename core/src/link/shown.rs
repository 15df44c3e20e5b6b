//! The link as it is seen from outside: when it wants to be called, what must hold, how it stands.

use alloc::string::{String, ToString};

use super::opening::Opening;
use super::session::Session;
use super::{Link, State};
use crate::effect::Way;
use crate::protocol::Wire;
use crate::report::LinkReport;
use crate::time::Millis;
use crate::view::LinkState;

impl Link {
    /// When [`Link::tick`] has something to do, and what.
    pub(crate) fn deadline(&self) -> Option<(Millis, &'static str)> {
        let main = match &self.state {
            State::Idle => return None,
            State::Waiting { until } => Some((*until, "the next attempt to connect")),
            State::Opening(opening) => Some(opening.deadline()),
            State::Live(session) => session.deadline(self.silent),
        };
        let idle = self.is_live() && self.probe.is_none();
        let try_it = self.route.probe_at().filter(|_| idle).map(|due| (due, "a WebSocket to be tried"));
        let probe = self.probe.as_ref().map(Opening::deadline);
        let leaving = self.leaving.map(|(_, until)| (until, "the end of the connection before"));
        [main, try_it, probe, leaving].into_iter().flatten().min()
    }

    /// Where it stands.
    pub(crate) const fn at(&self) -> LinkState {
        match &self.state {
            State::Idle => LinkState::Idle,
            State::Waiting { .. } => LinkState::Waiting,
            State::Opening(opening) => opening.at(),
            State::Live(Session { way: Way::WebSocket, .. }) => LinkState::Open,
            State::Live(_) if self.probe.is_some() => LinkState::Trying,
            State::Live(_) => LinkState::Polling,
        }
    }

    /// What must hold between any two steps.
    pub(crate) fn check(&self) {
        match &self.state {
            State::Live(session) => session.check(),
            State::Opening(opening) => opening.check(),
            State::Idle | State::Waiting { .. } => {}
        }
        if let Some(probe) = &self.probe {
            assert!(self.is_live(), "a WebSocket is tried beside nothing");
            probe.check();
        }
    }

    /// For people and what watches over the daemon.
    pub(crate) fn report(&self, now: Millis) -> LinkReport {
        let waits = matches!(self.state, State::Waiting { .. });
        let again_in = self.deadline().filter(|_| waits).map(|(until, _)| until.since(now).0);
        let (state, live, failures) = (self.describe(), self.is_live(), self.failures);
        LinkReport {
            state,
            way: self.way().map(Way::name),
            wire: self.wire().map(Wire::number),
            live,
            failures,
            again_in,
        }
    }

    /// By which way it goes, while there is one.
    const fn way(&self) -> Option<Way> {
        match &self.state {
            State::Idle | State::Waiting { .. } => None,
            State::Opening(opening) => Some(opening.way),
            State::Live(session) => Some(session.way),
        }
    }

    /// For people: how the link stands.
    pub(crate) fn describe(&self) -> String {
        match &self.state {
            State::Idle => "not started",
            State::Waiting { .. } => "waiting to connect again",
            State::Opening(opening) => opening.describe(),
            State::Live(session) if session.way == Way::LongPoll => "connected by long-poll",
            State::Live(_) => "connected",
        }
        .to_string()
    }
}
