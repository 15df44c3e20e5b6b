//! By which way the next connection goes: a WebSocket, and where none can pass, long-poll.

use alloc::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::effect::Way;
use crate::input::LinkCause;
use crate::limits;
use crate::time::Millis;

/// What is known of the ways to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Route {
    /// The way that the next attempt goes.
    way: Way,
    /// When attempts at a WebSocket failed, lately.
    failed: VecDeque<Millis>,
    /// When sessions over one ended soon, lately.
    short: VecDeque<Millis>,
    /// There is no long-poll at this server, as far as is known until then.
    absent_until: Option<Millis>,
    /// While polling: when a WebSocket is tried next.
    probe_at: Option<Millis>,
    /// Tries so far.
    probes: u32,
}

impl Route {
    pub(super) const fn way(&self) -> Way {
        self.way
    }

    /// A connection that went by `way` is over: `lived` tells for how long a session was open on it, if one was. True
    /// where the next one goes another way.
    pub(super) fn lost(&mut self, now: Millis, way: Way, cause: Option<&LinkCause>, lived: Option<Millis>) -> bool {
        let before = self.way;
        match (way, lived) {
            (Way::WebSocket, None) => note(&mut self.failed, now),
            (Way::WebSocket, Some(lived)) if lived < limits::SESSION_SHORT => note(&mut self.short, now),
            (Way::WebSocket, Some(lived)) if lived >= limits::SESSION_GOOD => self.probes = 0,
            (Way::WebSocket | Way::LongPoll, Some(_)) => {}
            (Way::LongPoll, None) => {
                if cause.is_some_and(says_no_long_poll) {
                    self.absent_until = Some(now + limits::LONG_POLL_ABSENT);
                }
                self.way = Way::WebSocket;
                self.probe_at = None;
            }
        }
        let blocked = way == Way::WebSocket && cause.is_some_and(says_no_websocket);
        let often = self.failed.len() >= limits::WEBSOCKET_FAILURES || self.short.len() >= limits::WEBSOCKET_SHORT;
        let there = self.absent_until.is_none_or(|until| until <= now);
        if (blocked || often) && there && self.way == Way::WebSocket && way == Way::WebSocket {
            self.way = Way::LongPoll;
            self.failed.clear();
            self.short.clear();
        }
        self.way != before
    }

    /// A session by long-poll is open.
    pub(super) fn polling(&mut self, now: Millis) {
        self.probe_at = Some(now + self.pause());
    }

    /// When a WebSocket is to be tried beside it.
    pub(super) const fn probe_at(&self) -> Option<Millis> {
        self.probe_at
    }

    /// It is tried now.
    pub(super) fn probing(&mut self) {
        self.probe_at = None;
        self.probes = self.probes.saturating_add(1);
    }

    /// It did not come to a session.
    pub(super) fn probe_failed(&mut self, now: Millis) {
        self.probe_at = Some(now + self.pause());
    }

    /// It did, and takes over.
    pub(super) fn back_up(&mut self) {
        self.way = Way::WebSocket;
        self.probe_at = None;
    }

    fn pause(&self) -> Millis {
        let pause = limits::PROBE_FIRST.0.checked_shl(self.probes.min(16)).unwrap_or(u64::MAX);
        Millis(pause.min(limits::PROBE_MAX.0))
    }
}

/// One more time, and only those of late.
fn note(times: &mut VecDeque<Millis>, now: Millis) {
    times.push_back(now);
    times.retain(|time| now.since(*time) <= limits::WEBSOCKET_LATELY);
}

/// The handshake was answered in a way that says that no WebSocket passes. What a busy server or a gateway before one
/// that is away says is no such thing.
const fn says_no_websocket(cause: &LinkCause) -> bool {
    match cause {
        LinkCause::Refused { status: 401 | 403, by_server, .. } => !*by_server,
        LinkCause::Refused { status: 408 | 425 | 429 | 500 | 502..=504, .. } => false,
        LinkCause::Refused { .. } => true,
        LinkCause::Unreachable(_) | LinkCause::Gone | LinkCause::Closed(_) | LinkCause::Broken(_) => false,
    }
}

/// The server has no long-poll, or what stands before it lets none through.
const fn says_no_long_poll(cause: &LinkCause) -> bool {
    matches!(cause, LinkCause::Refused { status: 404 | 405, .. } | LinkCause::Refused { html: true, .. })
}
