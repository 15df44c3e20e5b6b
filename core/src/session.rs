//! One connection to the server: its frames, its barriers, its signs of life.

use alloc::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::time::Millis;

/// One connection, from its first frame on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) since: Millis,
    /// When the far side last gave a sign of life.
    pub(crate) heard: Millis,
    pub(crate) heartbeat: Millis,
    pub(crate) next_ping: Millis,
    /// The ping under way: its frame and when it went out.
    pub(crate) ping: Option<(u64, Millis)>,
    /// Whether any ping was answered.
    pub(crate) ponged: bool,
    /// When another unanswered stretch makes the server count as mute once more.
    pub(crate) mute_due: Millis,
    /// Frames given to the transport.
    pub(crate) sent: u64,
    /// Frames that left it.
    pub(crate) flushed: u64,
    /// The last frame whose delivery matters.
    pub(crate) owed: u64,
    /// The barrier under way.
    pub(crate) barrier: Option<Barrier>,
    /// The last frame that a barrier was set behind.
    pub(crate) covered: u64,
    /// Output that was handed over and not flushed: frame and bytes.
    pub(crate) window: VecDeque<(u64, u64)>,
    pub(crate) in_window: u64,
}

/// Everything up to frame `n` counts as delivered when the ping that is frame `n` is answered; with a server
/// that answers none, once frame `n` was flushed and the session has lived on until `due`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Barrier {
    pub(crate) n: u64,
    pub(crate) due: Option<Millis>,
}

impl Session {
    pub(crate) const fn new(now: Millis) -> Self {
        Self {
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
    pub(crate) fn opened(self, now: Millis) -> Self {
        Self { since: now, heard: now, next_ping: now, heartbeat: now + limits::HEARTBEAT, ..self }
    }

    /// Frames up to `n` left the transport.
    pub(crate) fn flushed(&mut self, n: u64) {
        self.flushed = self.flushed.max(n.min(self.sent));
        while let Some((_, bytes)) = self.window.pop_front_if(|(frame, _)| *frame <= self.flushed) {
            self.in_window = self.in_window.saturating_sub(bytes);
        }
    }

    pub(crate) const fn next_frame(&mut self) -> u64 {
        self.sent = self.sent.saturating_add(1);
        self.sent
    }

    /// With a silent server: the barrier's frame was flushed, now the session has to live on for a while.
    pub(crate) fn start_grace(&mut self, now: Millis) {
        let flushed = self.flushed;
        if let Some(barrier) = &mut self.barrier
            && barrier.due.is_none()
            && flushed >= barrier.n
        {
            barrier.due = Some(now + limits::SILENT_GRACE);
        }
    }

    pub(crate) fn deadline(&self, silent: bool) -> Option<(Millis, &'static str)> {
        let watchdog = (!silent).then(|| (self.heard + limits::LINK_SILENCE, "a silent server"));
        let mute = (!silent && !self.ponged).then_some((self.mute_due, "pings that nobody answers"));
        let ping = self.ping.is_none().then_some((self.next_ping, "a ping"));
        let ping = ping.filter(|_| self.barrier.is_none());
        let grace = self.barrier.and_then(|barrier| barrier.due).map(|due| (due, "the grace of a silent server"));
        [Some((self.heartbeat, "a heartbeat")), watchdog, mute, ping, grace].into_iter().flatten().min()
    }
}
