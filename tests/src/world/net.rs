//! The links: frames in order, lost when one breaks, and breaks that nobody tells of.

use std::collections::VecDeque;
use std::fmt::Write as _;

use makima_core::effect::{Envelope, LinkEffect, Stretch, Way};
use makima_core::id::Epoch;
use makima_core::input::{Input, LinkCause};
use makima_core::protocol::{DaemonMessage, Said, TaskOutput, Wire};
use makima_core::time::Millis;

use super::act::{Refusal, Speech};

/// What nobody has acknowledged for so long ends a connection.
const USER_TIMEOUT: Millis = Millis::seconds(45);

/// Every connection, and every attempt at one.
#[derive(Clone, Debug, Default)]
pub(super) struct Net {
    speech: Speech,
    asked: Vec<(Epoch, Way)>,
    up: Vec<Up>,
    /// A connection that is over.
    old: Option<Epoch>,
    /// What is on its way to the daemon from one that it has closed.
    late: VecDeque<Input>,
    /// Whose turn it is, where there are several.
    turn: usize,
}

#[derive(Clone, Debug)]
struct Up {
    epoch: Epoch,
    /// Broken, and the daemon does not know.
    dead: bool,
    /// The daemon wants no more of it than what is on the way.
    quiescing: bool,
    /// What has not reached the server, and since when it is on the way.
    frames: VecDeque<(Millis, Frame)>,
    sent: u64,
    flushed: u64,
}

impl Up {
    fn carries(&self) -> bool {
        !self.dead && !self.frames.is_empty()
    }
}

/// One frame of the daemon's.
#[derive(Clone, Debug)]
pub enum Frame {
    /// A message; in version 2 with what goes around it, and output with where it belongs.
    Message(Box<DaemonMessage>, Option<Envelope>, Option<Stretch>),
    /// What version 2 says beside messages.
    Said(Said),
    /// A ping of version 1.
    Ping(u64),
}

/// What came of an attempt.
pub(super) enum Attempt {
    Up(Epoch, Wire),
    Down(Box<Input>),
}

impl Net {
    pub(super) fn new(speech: Speech) -> Self {
        Self { speech, ..Self::default() }
    }

    /// Attempts from now on meet these versions of the wire.
    pub(super) const fn speak(&mut self, speech: Speech) {
        self.speech = speech;
    }

    /// Writes down what can still become of it. Whose turn it is says nothing where there are not several.
    pub(super) fn lay_open(&self, text: &mut String) {
        let Self { speech, asked, up, old, late, turn } = self;
        let turn = if up.len() > 1 { *turn } else { 0 };
        // Of what is on a broken connection it only matters since when it is on the way.
        let (dead, up): (Vec<&Up>, Vec<&Up>) = up.iter().partition(|up| up.dead);
        let dead: Vec<_> =
            dead.iter().map(|up| (up.epoch, up.quiescing, up.frames.front().map(|(since, _)| since))).collect();
        write!(text, "{:?}", (speech, asked, up, dead, old, late, turn)).expect("a string takes everything");
    }

    /// The daemon wants something of a link. Gives back the connection that this has ended.
    pub(super) fn take(&mut self, now: Millis, effect: LinkEffect) -> Option<Epoch> {
        match effect {
            LinkEffect::Connect { epoch, way } => self.asked.push((epoch, way)),
            LinkEffect::Send { epoch, n, message, envelope, .. } => {
                self.push(now, epoch, n, [Frame::Message(message, envelope, None)]);
            }
            LinkEffect::Output { epoch, n, task, text, pieces, stretch } => {
                assert!(stretch.is_none() || pieces.len() == 1, "a stretch in pieces");
                let frames = pieces.into_iter().map(|piece| {
                    let output = text[piece.start as usize..piece.end as usize].to_string();
                    let message = TaskOutput { task_id: task.0, output, is_partial: piece.partial };
                    Frame::Message(Box::new(message.into()), stretch.map(|_| Envelope::default()), stretch)
                });
                self.push(now, epoch, n, frames);
            }
            LinkEffect::Say { epoch, n, said } => self.push(now, epoch, n, [Frame::Said(said)]),
            LinkEffect::Ping { epoch, n } => self.push(now, epoch, n, [Frame::Ping(n)]),
            LinkEffect::Quiesce { epoch } => {
                self.up.iter_mut().filter(|up| up.epoch == epoch).for_each(|up| up.quiescing = true);
            }
            LinkEffect::Close { epoch } => {
                let asked = self.asked.iter().any(|(asked, _)| *asked == epoch);
                self.asked.retain(|(asked, _)| *asked != epoch);
                if asked || self.find(epoch).is_some() {
                    self.old = Some(epoch);
                    // It may have come to stand just then, and tells of its end all the same.
                    let stands = asked.then_some(Input::LinkUp { epoch, wire: Wire::One });
                    let cause = LinkCause::Closed("closed by this side".to_string());
                    self.late = stands.into_iter().chain([Input::LinkDown { epoch, cause }]).collect();
                }
                return self.remove(epoch).filter(|up| !up.dead).map(|up| up.epoch);
            }
        }
        None
    }

    fn push(&mut self, now: Millis, epoch: Epoch, n: u64, frames: impl IntoIterator<Item = Frame>) {
        if let Some(at) = self.find(epoch) {
            let up = &mut self.up[at];
            // An acknowledgement that must not be given leaves a gap.
            assert!(n > up.sent, "frame {n} follows frame {}", up.sent);
            up.sent = n;
            up.frames.extend(frames.into_iter().map(|frame| (now, frame)));
        }
    }

    fn find(&self, epoch: Epoch) -> Option<usize> {
        self.up.iter().position(|up| up.epoch == epoch)
    }

    fn remove(&mut self, epoch: Epoch) -> Option<Up> {
        self.find(epoch).map(|at| self.up.remove(at))
    }

    /// The next connection in turn for which something holds.
    fn next(&mut self, holds: impl Fn(&Up) -> bool) -> Option<&mut Up> {
        let count = self.up.len();
        let at = (0..count).map(|n| (self.turn + n) % count).find(|at| holds(&self.up[*at]))?;
        self.turn = at + 1;
        Some(&mut self.up[at])
    }

    /// Connections on which the daemon can be told something, the one whose turn it is first.
    pub(super) fn open(&self) -> Vec<(Epoch, bool)> {
        let open = self.up.iter().filter(|up| !up.dead).map(|up| (up.epoch, up.quiescing));
        let mut open: Vec<_> = open.collect();
        if !open.is_empty() {
            let first = self.turn % open.len();
            open.rotate_left(first);
        }
        open
    }

    /// It is the next one's turn.
    pub(super) const fn turn(&mut self) {
        self.turn += 1;
    }

    /// The first attempt under way comes to an end that the server likes.
    pub(super) fn accept(&mut self) -> Option<Attempt> {
        if self.asked.is_empty() {
            return None;
        }
        let (epoch, way) = self.asked.remove(0);
        let wire = match (self.speech, way) {
            (Speech::One, Way::LongPoll) => {
                let detail = "no such page".to_string();
                let cause = LinkCause::Refused { status: 404, by_server: true, html: false, retry_after: None, detail };
                return Some(Attempt::Down(Box::new(Input::LinkDown { epoch, cause })));
            }
            (Speech::One | Speech::Stripped, Way::WebSocket) => Wire::One,
            (Speech::Two, _) | (Speech::Stripped, Way::LongPoll) => Wire::Two,
        };
        let (dead, quiescing) = (false, false);
        self.up.push(Up { epoch, dead, quiescing, frames: VecDeque::new(), sent: 0, flushed: 0 });
        Some(Attempt::Up(epoch, wire))
    }

    /// Whether an attempt is under way.
    pub(super) const fn is_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether something is on its way to the server, and will get there.
    pub(super) fn carries(&self) -> bool {
        self.up.iter().any(Up::carries)
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) -> Option<Input> {
        if self.asked.is_empty() {
            return None;
        }
        let (epoch, _) = self.asked.remove(0);
        let answered = |status, by_server: bool, detail: &str| LinkCause::Refused {
            status,
            by_server,
            html: !by_server,
            retry_after: None,
            detail: detail.to_string(),
        };
        let cause = match refusal {
            Refusal::Unreachable => LinkCause::Unreachable("connection refused".to_string()),
            Refusal::Proxy => answered(403, false, "<html>"),
            Refusal::Key => answered(401, true, "no such key"),
            Refusal::Busy => LinkCause::Refused {
                status: 503,
                by_server: true,
                html: false,
                retry_after: Some(Millis::seconds(20)),
                detail: "later".to_string(),
            },
        };
        Some(Input::LinkDown { epoch, cause })
    }

    pub(super) fn deliver(&mut self) -> Option<(Epoch, Frame)> {
        let up = self.next(Up::carries)?;
        up.frames.pop_front().map(|(_, frame)| (up.epoch, frame))
    }

    pub(super) fn flush(&mut self) -> Option<Input> {
        let up = self.next(|up| up.sent > up.flushed)?;
        up.flushed = up.sent;
        Some(Input::Flushed { epoch: up.epoch, n: up.sent })
    }

    /// Breaks one. What is on the way is lost. Gives back which, and what the daemon is told.
    pub(super) fn cut(&mut self, told: bool) -> Option<(Epoch, Option<Input>)> {
        let up = self.next(|up| !up.dead)?;
        up.dead = true;
        let epoch = up.epoch;
        Some((epoch, told.then(|| self.give_up(epoch, "connection reset")).flatten()))
    }

    /// When TCP gives a connection up: nobody has taken what it carries for too long.
    pub(super) fn deadline(&self) -> Option<(Millis, Epoch)> {
        let due = |up: &Up| Some((up.frames.front()?.0 + USER_TIMEOUT, up.epoch));
        self.up.iter().filter_map(due).min()
    }

    /// A connection is over, and the daemon is told.
    pub(super) fn give_up(&mut self, epoch: Epoch, why: &str) -> Option<Input> {
        self.remove(epoch)?;
        self.old = Some(epoch);
        self.late.clear();
        Some(Input::LinkDown { epoch, cause: LinkCause::Broken(why.to_string()) })
    }

    /// Something arrives from a connection that is over.
    pub(super) fn stale(&mut self) -> Option<Input> {
        let epoch = self.old.filter(|old| self.find(*old).is_none())?;
        Some(self.late.pop_front().unwrap_or(Input::Pong { epoch, n: 1 }))
    }
}
