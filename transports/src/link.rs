//! A connection as its user sees it: a handle to send on, events that come back.

use makima_core::effect::{Piece, Way};
use makima_core::id::Epoch;
use makima_core::input::LinkCause;
use makima_core::protocol::Wire;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::client::{Options, Timeouts};
use crate::endpoint::Endpoint;
use crate::transport::Transport;
use crate::websocket::WebSocket;
use crate::{longpoll, pump};

/// Something to be sent. `n` is the caller's number for it, from small to large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// One message.
    Message {
        /// Its number.
        n: u64,
        /// Its JSON.
        text: String,
    },
    /// A task's output: a `taskOutput` for each piece.
    Output {
        /// The number that they share.
        n: u64,
        /// Whose output it is.
        task: Uuid,
        /// What the pieces are cut from.
        text: String,
        /// The pieces, in order.
        pieces: Vec<Piece>,
    },
    /// A ping that the far side has to answer.
    Ping {
        /// Its number, which the answer bears.
        n: u64,
    },
    /// Take no more commands: a poll that is held open is let finish, and what it brings is still told, as its answer
    /// may be the only one that carries them; none is opened after it. Sending goes on until then, and then the
    /// connection is closed. On a WebSocket it is [`Outgoing::Close`].
    Quiesce,
    /// Send what was given before, then close. What is given afterwards is dropped.
    Close,
}

/// What happens on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It stands, and this is spoken on it. Long-poll says so before it has sent anything: the first message that it
    /// is given, which has to be `authenticate`, opens the session.
    Up(Wire),
    /// It is gone, or never stood. Comes exactly once, and nothing after it.
    Down(LinkCause),
    /// A text message came.
    Frame(String),
    /// A binary message of this many bytes came: nothing that this wire knows.
    Binary(usize),
    /// The kernel has everything up to this number; by long-poll, the server has. Said for the newest only.
    Flushed(u64),
    /// The far side answered the ping of this number.
    Pong(u64),
}

/// One attempt at a connection, and the connection that comes of it. Dropping it is [`Outgoing::Close`].
#[derive(Debug)]
pub struct LinkHandle {
    queue: mpsc::UnboundedSender<Outgoing>,
    closing: CancellationToken,
    quiescing: CancellationToken,
    _close_on_drop: DropGuard,
}

impl LinkHandle {
    /// Has it sent. Never blocks: how much may be under way at once is the caller's affair, who hears of
    /// [`LinkEvent::Flushed`]. On a connection that is gone it is dropped without a word.
    pub fn send(&self, outgoing: Outgoing) {
        match outgoing {
            _ if self.closing.is_cancelled() => {}
            // Not by way of the queue: the time that a close may take runs from now, however full that is.
            Outgoing::Close => self.closing.cancel(),
            Outgoing::Quiesce => self.quiescing.cancel(),
            Outgoing::Message { .. } | Outgoing::Output { .. } | Outgoing::Ping { .. } => {
                // Fails only where the connection is gone.
                let _ = self.queue.send(outgoing);
            }
        }
    }
}

/// Connects to a server, in a task of its own on the current runtime. What happens is told under the name `epoch`;
/// when nobody takes the events, reading stops. Over a WebSocket sending goes on.
#[must_use = "a handle that is dropped closes its connection"]
pub fn open(endpoint: Endpoint, way: Way, epoch: Epoch, events: mpsc::Sender<(Epoch, LinkEvent)>) -> LinkHandle {
    open_with(endpoint, Options::default(), way, epoch, events)
}

/// As [`open`], with other options.
#[must_use = "a handle that is dropped closes its connection"]
pub fn open_with(
    endpoint: Endpoint,
    options: Options,
    way: Way,
    epoch: Epoch,
    events: mpsc::Sender<(Epoch, LinkEvent)>,
) -> LinkHandle {
    let timeouts = options.timeouts;
    match way {
        Way::WebSocket => open_on(WebSocket::new(endpoint, options), timeouts, epoch, events),
        Way::LongPoll => {
            let (handle, link) = new(timeouts, epoch, events);
            tokio::spawn(longpoll::run(endpoint, options, link));
            handle
        }
    }
}

/// As [`open`], by any transport.
#[must_use = "a handle that is dropped closes its connection"]
pub fn open_on(
    transport: impl Transport,
    timeouts: Timeouts,
    epoch: Epoch,
    events: mpsc::Sender<(Epoch, LinkEvent)>,
) -> LinkHandle {
    let (handle, link) = new(timeouts, epoch, events);
    tokio::spawn(pump::run(transport, link));
    handle
}

/// Both ends of what a handle and its task share.
fn new(timeouts: Timeouts, epoch: Epoch, events: mpsc::Sender<(Epoch, LinkEvent)>) -> (LinkHandle, pump::Link) {
    let (queue, queued) = mpsc::unbounded_channel();
    let (closing, quiescing) = (CancellationToken::new(), CancellationToken::new());
    let link =
        pump::Link { epoch, timeouts, queue: queued, closing: closing.clone(), quiescing: quiescing.clone(), events };
    (LinkHandle { queue, _close_on_drop: closing.clone().drop_guard(), closing, quiescing }, link)
}
