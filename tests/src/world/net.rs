//! The link: frames in order, lost when it breaks, and breaks that nobody tells of.

use std::collections::VecDeque;

use makima_core::effect::LinkEffect;
use makima_core::id::Epoch;
use makima_core::input::{Input, LinkCause};
use makima_core::protocol::{DaemonMessage, TaskOutput};
use makima_core::time::Millis;

use super::act::Refusal;

/// What nobody has acknowledged for so long ends a connection.
const USER_TIMEOUT: Millis = Millis::seconds(45);

/// One connection at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Net {
    state: State,
    /// A connection that is over.
    old: Option<Epoch>,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Down,
    Asked(Epoch),
    Up(Up),
}

#[derive(Clone, Debug)]
struct Up {
    epoch: Epoch,
    /// Broken, and the daemon does not know.
    dead: bool,
    /// What has not reached the server, and since when it is on the way.
    frames: VecDeque<(Millis, Frame)>,
    sent: u64,
    flushed: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Frame {
    Message(Box<DaemonMessage>),
    Ping(u64),
}

impl Net {
    /// The daemon wants something of the link. True where that ended the connection.
    pub(super) fn take(&mut self, now: Millis, effect: LinkEffect) -> bool {
        match effect {
            LinkEffect::Connect { epoch } => {
                let was_up = self.is_up();
                self.old = self.epoch().or(self.old);
                self.state = State::Asked(epoch);
                was_up
            }
            LinkEffect::Send { epoch, n, message, .. } => {
                self.push(now, epoch, n, [Frame::Message(message)]);
                false
            }
            LinkEffect::Output { epoch, n, task, text, pieces } => {
                let frames = pieces.into_iter().map(|piece| {
                    let output = text[piece.start as usize..piece.end as usize].to_string();
                    Frame::Message(Box::new(TaskOutput { task_id: task.0, output, is_partial: piece.partial }.into()))
                });
                self.push(now, epoch, n, frames);
                false
            }
            LinkEffect::Ping { epoch, n } => {
                self.push(now, epoch, n, [Frame::Ping(n)]);
                false
            }
            LinkEffect::Close { epoch } => {
                let ours = self.epoch() == Some(epoch) || matches!(self.state, State::Asked(asked) if asked == epoch);
                let was_up = ours && self.is_up();
                if ours {
                    self.old = Some(epoch);
                    self.state = State::Down;
                }
                was_up
            }
        }
    }

    fn push(&mut self, now: Millis, epoch: Epoch, n: u64, frames: impl IntoIterator<Item = Frame>) {
        if let State::Up(up) = &mut self.state {
            assert!(epoch == up.epoch, "a frame goes out on a connection that is over");
            assert!(n == up.sent + 1, "frame {n} follows frame {}", up.sent);
            up.sent = n;
            up.frames.extend(frames.into_iter().map(|frame| (now, frame)));
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        matches!(&self.state, State::Up(up) if !up.dead)
    }

    pub(super) const fn epoch(&self) -> Option<Epoch> {
        match &self.state {
            State::Up(up) => Some(up.epoch),
            State::Down | State::Asked(_) => None,
        }
    }

    pub(super) fn accept(&mut self) -> Option<Input> {
        let State::Asked(epoch) = self.state else { return None };
        self.state = State::Up(Up { epoch, dead: false, frames: VecDeque::new(), sent: 0, flushed: 0 });
        Some(Input::LinkUp { epoch })
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) -> Option<Input> {
        let State::Asked(epoch) = self.state else { return None };
        self.state = State::Down;
        let cause = match refusal {
            Refusal::Unreachable => LinkCause::Unreachable("connection refused".to_string()),
            Refusal::Proxy => LinkCause::Refused {
                status: 403,
                by_server: false,
                html: true,
                retry_after: None,
                detail: "<html>".to_string(),
            },
            Refusal::Key => LinkCause::Refused {
                status: 401,
                by_server: true,
                html: false,
                retry_after: None,
                detail: "no such key".to_string(),
            },
        };
        Some(Input::LinkDown { epoch, cause })
    }

    pub(super) fn deliver(&mut self) -> Option<Frame> {
        let State::Up(up) = &mut self.state else { return None };
        if up.dead { None } else { up.frames.pop_front().map(|(_, frame)| frame) }
    }

    pub(super) fn flush(&mut self) -> Option<Input> {
        let State::Up(up) = &mut self.state else { return None };
        let news = up.sent > up.flushed;
        up.flushed = up.sent;
        news.then_some(Input::Flushed { epoch: up.epoch, n: up.sent })
    }

    /// Breaks it. What is on the way is lost.
    pub(super) fn cut(&mut self, told: bool) -> Option<Input> {
        let State::Up(up) = &mut self.state else { return None };
        up.dead = true;
        told.then(|| self.give_up("connection reset")).flatten()
    }

    /// When TCP gives the connection up: nobody has taken what it carries for too long.
    pub(super) fn deadline(&self) -> Option<Millis> {
        let State::Up(up) = &self.state else { return None };
        up.frames.front().map(|(since, _)| *since + USER_TIMEOUT)
    }

    /// The connection is over, and the daemon is told.
    pub(super) fn give_up(&mut self, why: &str) -> Option<Input> {
        let epoch = self.epoch()?;
        self.old = Some(epoch);
        self.state = State::Down;
        Some(Input::LinkDown { epoch, cause: LinkCause::Broken(why.to_string()) })
    }

    /// Something arrives from a connection that is over.
    pub(super) fn stale(&self) -> Option<Input> {
        let epoch = self.old.filter(|old| Some(*old) != self.epoch())?;
        Some(Input::Pong { epoch, n: 1 })
    }
}
