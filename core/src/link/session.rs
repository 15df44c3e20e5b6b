//! One connection to the server: its frames, its barriers, its signs of life.

use alloc::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::effect::Way;
use crate::id::Epoch;
use crate::limits;
use crate::protocol::Wire;
use crate::time::Millis;

/// One connection, from its first frame on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Session {
    /// The connection's name.
    pub(super) epoch: Epoch,
    pub(super) way: Way,
    pub(super) wire: Wire,
    pub(super) since: Millis,
    /// When the far side last gave a sign of life.
    pub(super) heard: Millis,
    pub(super) heartbeat: Millis,
    pub(super) next_ping: Millis,
    /// The ping under way: its frame and when it went out.
    pub(super) ping: Option<(u64, Millis)>,
    /// Whether any ping was answered.
    pub(super) ponged: bool,
    /// When another unanswered stretch makes the server count as mute once more.
    pub(super) mute_due: Millis,
    /// Frames given to the transport.
    pub(super) sent: u64,
    /// Frames that left it.
    pub(super) flushed: u64,
    /// The last frame whose delivery matters.
    pub(super) owed: u64,
    /// The barrier under way.
    pub(super) barrier: Option<Barrier>,
    /// The last frame that a barrier was set behind.
    pub(super) covered: u64,
    /// Output that was handed over and not flushed: frame and bytes.
    pub(super) window: VecDeque<(u64, u64)>,
    pub(super) in_window: u64,
}

/// Everything up to frame `n` counts as delivered when the ping that is frame `n` is answered; with a server
/// that answers none, once frame `n` was flushed and the session has lived on until `due`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Barrier {
    pub(super) n: u64,
    pub(super) due: Option<Millis>,
}

impl Session {
    pub(super) const fn new(epoch: Epoch, way: Way, wire: Wire, now: Millis) -> Self {
        Self {
            epoch,
            way,
            wire,
            since: now,
            heard: now,
            heartbeat: now,
            next_ping: now,
            ping: None,
            ponged: false,
            mute_due: Millis(u64::MAX),
            sent: 0,
            flushed: 0,
            owed: 0,
            barrier: None,
            covered: 0,
            window: VecDeque::new(),
            in_window: 0,
        }
    }

    /// It was authenticated: from here on it counts.
    pub(super) fn opened(self, now: Millis) -> Self {
        Self { since: now, heard: now, next_ping: now, heartbeat: now, ..self }
    }

    /// Frames up to `n` left the transport.
    pub(super) fn flushed(&mut self, n: u64) {
        self.flushed = self.flushed.max(n.min(self.sent));
        while let Some((_, bytes)) = self.window.pop_front_if(|(frame, _)| *frame <= self.flushed) {
            self.in_window = self.in_window.saturating_sub(bytes);
        }
    }

    /// Whether the answers to its pings say what was delivered: only what is not acknowledged has need of that.
    pub(super) fn has_barriers(&self) -> bool {
        self.wire == Wire::One
    }

    pub(super) const fn next_frame(&mut self) -> u64 {
        self.sent = self.sent.saturating_add(1);
        self.sent
    }

    /// With a silent server: the barrier's frame was flushed, now the session has to live on for a while.
    pub(super) fn start_grace(&mut self, now: Millis) {
        let flushed = self.flushed;
        if let Some(barrier) = &mut self.barrier
            && barrier.due.is_none()
            && (flushed >= barrier.n || bug!(GraceWithoutAFlush))
        {
            barrier.due = Some(now + limits::SILENT_GRACE);
        }
    }

    pub(super) fn deadline(&self, silent: bool) -> Option<(Millis, &'static str)> {
        let silent = silent && self.has_barriers();
        let watchdog = (!silent).then(|| (self.heard + limits::LINK_SILENCE, "a silent server"));
        let mute = (!silent && !self.ponged).then_some((self.mute_due, "pings that nobody answers"));
        let ping = self.ping.is_none().then_some((self.next_ping, "a ping"));
        let ping = ping.filter(|_| self.barrier.is_none());
        let grace = self.barrier.and_then(|barrier| barrier.due).map(|due| (due, "the grace of a silent server"));
        [Some((self.heartbeat, "a heartbeat")), watchdog, mute, ping, grace].into_iter().flatten().min()
    }

    /// What must hold between any two steps.
    pub(super) fn check(&self) {
        assert!(self.flushed <= self.sent, "more was flushed than sent");
        assert!(self.covered <= self.sent && self.owed <= self.sent, "a frame that was never sent counts");
        let window: u64 = self.window.iter().map(|(_, bytes)| bytes).sum();
        assert!(window == self.in_window, "the output window is miscounted");
    }
}
