//! What is to be said to a daemon, and the two ways in which that gets to whoever says it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use makima_core::protocol::{DaemonCommand, Frame, Hello, Wire, envelope};
use tokio::sync::{Notify, mpsc};

use super::queue::Release;
use crate::hub::Tell;

/// Commands that may wait for a session. A daemon is sent at most three per task that it has (there are a thousand), some
/// hundred words and a thousand questions at once, so one whose commands pile up beyond this does not read; it is let go
/// and told again when it comes back.
pub(super) const COMMANDS: usize = 8 * 1024;

/// Bytes of frames in one answer; one that is larger goes by itself.
const ANSWER: usize = 1024 * 1024;

/// What a session is to do.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Send this, as it is.
    Text(String),
    /// The same, where it has a number and is therefore worth a poll of its own.
    Command(String),
    /// Version 2: say how we stand.
    Hello(Hello),
    /// Version 2: this is applied.
    Ack(u64),
    /// End, and say why.
    Close { code: &'static str, message: &'static str },
}

impl Outgoing {
    /// What is released, in the words of this wire.
    pub(super) fn new(release: Release, wire: Wire) -> Self {
        match release {
            Release::Send { command, .. } => Self::Text(worded(&command, None, wire)),
            Release::Numbered { seq, command, .. } => Self::Command(worded(&command, Some(seq), wire)),
            Release::Tell { tell, .. } => match tell {
                Tell::Hello(hello) => Self::Hello(hello),
                Tell::Ack(n) => Self::Ack(n),
                Tell::Got(place) => Self::frame(Frame { got: Some(place), ..Frame::default() }),
                Tell::Rewind(place) => Self::frame(Frame { rewind: Some(place), ..Frame::default() }),
                Tell::Pong(n) => Self::frame(Frame { pong: Some(n), ..Frame::default() }),
            },
            Release::Close { .. } => Self::Close { code: "superseded", message: "this machine has connected again" },
        }
    }

    fn frame(frame: Frame<'_>) -> Self {
        Self::Text(frame.write())
    }

    /// What goes over a socket; an error is the end.
    pub(crate) fn text(self) -> Result<String, (&'static str, &'static str)> {
        match self {
            Self::Text(text) | Self::Command(text) => Ok(text),
            Self::Hello(hello) => Ok(Frame { hello: Some(hello), ..Frame::default() }.write()),
            Self::Ack(n) => Ok(ack(n)),
            Self::Close { code, message } => Err((code, message)),
        }
    }
}

/// A command as this wire has it.
pub(crate) fn worded(command: &DaemonCommand, seq: Option<u64>, wire: Wire) -> String {
    match wire {
        Wire::One => command.write(),
        Wire::Two => envelope(seq, &command.write(), None),
    }
}

fn ack(n: u64) -> String {
    Frame { ack: Some(n), ..Frame::default() }.write()
}

/// The hub's end of a session.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) wire: Wire,
    pub(super) end: LineEnd,
}

/// Where a session takes what it is to say.
#[derive(Debug)]
pub(super) enum LineEnd {
    /// A task that holds a socket.
    Socket(mpsc::Sender<Outgoing>),
    /// Whichever request comes next.
    Mailbox(Arc<Mailbox>),
}

impl Line {
    /// False if it takes nothing more.
    pub(super) fn pass(&self, outgoing: Outgoing) -> bool {
        match &self.end {
            LineEnd::Socket(sender) => sender.try_send(outgoing).is_ok(),
            LineEnd::Mailbox(mailbox) => mailbox.put(outgoing),
        }
    }
}

/// What waits for the requests of a long-poll session.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    mail: Mutex<Mail>,
    woken: Notify,
}

#[derive(Debug, Default)]
struct Mail {
    commands: VecDeque<String>,
    /// What answers the daemon's own frames.
    answers: VecDeque<String>,
    ack: Option<u64>,
    hello: Option<Hello>,
    end: Option<(&'static str, &'static str)>,
    /// Which poll is the newest.
    poll: u64,
}

/// What is taken out of a mailbox for one answer.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) frames: Vec<String>,
    pub(crate) ack: Option<u64>,
    pub(crate) more: bool,
}

impl Mailbox {
    fn put(&self, outgoing: Outgoing) -> bool {
        let mut mail = self.lock();
        if mail.commands.len() >= COMMANDS || mail.answers.len() >= COMMANDS {
            mail.end = Some(("too_slow", "commands were not taken"));
            self.woken.notify_waiters();
            return false;
        }
        match outgoing {
            Outgoing::Text(text) => mail.answers.push_back(text),
            Outgoing::Command(text) => mail.commands.push_back(text),
            Outgoing::Hello(hello) => mail.hello = Some(hello),
            Outgoing::Ack(n) => mail.ack = mail.ack.max(Some(n)),
            Outgoing::Close { code, message } => mail.end = Some((code, message)),
        }
        self.woken.notify_waiters();
        true
    }

    /// How we stood when the session began. What was put before is told by other means.
    pub(crate) fn hello(&self) -> Option<Hello> {
        let mut mail = self.lock();
        mail.answers.clear();
        mail.hello.take()
    }

    /// Why the session has ended, if it has.
    pub(crate) fn end(&self) -> Option<(&'static str, &'static str)> {
        self.lock().end
    }

    /// The session has ended, if it had not before.
    pub(crate) fn close(&self, code: &'static str, message: &'static str) {
        let mut mail = self.lock();
        mail.end.get_or_insert((code, message));
        self.woken.notify_waiters();
    }

    /// For the answer to a push: what answers its frames.
    pub(crate) fn take_answers(&self) -> Taken {
        let mut mail = self.lock();
        Taken { ack: mail.ack.take(), frames: mail.answers.drain(..).collect(), more: false }
    }

    /// For the answer to a poll: waits until there is anything, the session ends, or a newer poll came.
    pub(crate) async fn poll(&self) -> Taken {
        let mine = {
            let mut mail = self.lock();
            mail.poll = mail.poll.saturating_add(1);
            mail.poll
        };
        self.woken.notify_waiters();
        loop {
            // Before the look, so that nothing put after it is missed.
            let woken = self.woken.notified();
            if let Some(taken) = self.take(mine) {
                return taken;
            }
            woken.await;
        }
    }

    fn take(&self, mine: u64) -> Option<Taken> {
        let mut mail = self.lock();
        if mail.poll != mine {
            return Some(Taken::default());
        }
        let mut taken = Taken::default();
        let mut bytes = 0_usize;
        let ack = mail.ack.take().map(ack);
        let answers: Vec<String> = mail.answers.drain(..).collect();
        taken.frames.extend(ack.into_iter().chain(answers));
        while let Some(next) = mail.commands.front() {
            bytes = bytes.saturating_add(next.len());
            if bytes > ANSWER && !taken.frames.is_empty() {
                taken.more = true;
                break;
            }
            taken.frames.extend(mail.commands.pop_front());
        }
        let over = mail.end.is_some();
        (over || !taken.frames.is_empty()).then_some(taken)
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
