//! The task behind a handle: moves frames both ways until the connection ends.
//!
//! One task polls everything, so that nothing has to be shared or locked, and no direction waits for another:
//! a far side that does not read stops only what is sent, a user who takes no events only what is received.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use makima_core::id::Epoch;
use makima_core::input::LinkCause;
use makima_core::protocol::Wire;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, PollSender};

use crate::client::Timeouts;
use crate::link::{LinkEvent, Outgoing};
use crate::outbox::Outbox;
use crate::transport::{Connection, Received, Transport};

/// Bytes sent in one go before the other direction has its turn again.
const TURN: usize = 64 << 10;

/// Bytes after which there is a flush though more waits to be sent, so that `Flushed` keeps coming.
const UNFLUSHED: usize = 256 << 10;

/// What a task needs beside its transport.
pub(crate) struct Link {
    pub(crate) epoch: Epoch,
    pub(crate) timeouts: Timeouts,
    pub(crate) queue: UnboundedReceiver<Outgoing>,
    pub(crate) closing: CancellationToken,
    pub(crate) quiescing: CancellationToken,
    pub(crate) events: Sender<(Epoch, LinkEvent)>,
}

/// One connection, from the attempt to its end.
pub(crate) async fn run(transport: impl Transport, link: Link) {
    let (epoch, events) = (link.epoch, link.events.clone());
    // Nothing is held open here that could be let finish.
    let closing = async move {
        tokio::select! {
            () = link.closing.cancelled() => {}
            () = link.quiescing.cancelled() => {}
        }
    };
    let mut unwanted: Unwanted = Box::pin(unwanted(closing, link.events.clone()));
    let connected = tokio::select! {
        biased;
        () = &mut unwanted => Err(closed_here()),
        connected = transport.connect() => connected,
    };
    let cause = match connected {
        Err(cause) => cause,
        Ok(connection) => {
            let told = Told::new(epoch, connection.wire(), link.events);
            let mut pump = Pump::new(connection, link.timeouts, Outbox::new(link.queue), told, unwanted);
            let cause = poll_fn(|cx| pump.poll(cx)).await;
            // The socket is closed by now, even where nobody takes the last events.
            for event in pump.into_untold() {
                let _ = events.send((epoch, event)).await;
            }
            cause
        }
    };
    // Whoever does not listen any more does not miss it either.
    let _ = events.send((epoch, LinkEvent::Down(cause))).await;
}

type Unwanted = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Until the user wants no connection any more: says so, has dropped the handle, or listens no longer.
pub(crate) async fn unwanted(closing: impl Future<Output = ()>, events: Sender<(Epoch, LinkEvent)>) {
    tokio::select! {
        () = closing => {}
        () = events.closed() => {}
    }
}

pub(crate) fn closed_here() -> LinkCause {
    LinkCause::Closed("closed by this side".to_owned())
}

struct Pump<C> {
    connection: C,
    timeouts: Timeouts,
    outbox: Outbox,
    told: Told,
    /// None once it was heeded.
    unwanted: Option<Unwanted>,
    /// What the end will be called, once there is to be one.
    ending: Option<LinkCause>,
    farewell: Farewell,
    /// Bytes that were sent, or are owed, since the last complete flush.
    unflushed: usize,
    /// What a flush that completes now has brought to the kernel.
    sent: Option<u64>,
    stalled: Stall,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// How far the end has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// Nobody wants one.
    No,
    /// Everything of ours is sent, the close has to follow.
    Due,
    /// Ours is said; theirs is awaited.
    Said,
    /// They said theirs; ours, where it is owed, goes with the last flush.
    Heard,
    /// Nothing more can be sent.
    Cut,
    /// All is said on both sides.
    Over,
}

impl<C: Connection> Pump<C> {
    fn new(connection: C, timeouts: Timeouts, outbox: Outbox, told: Told, unwanted: Unwanted) -> Self {
        Self {
            connection,
            timeouts,
            outbox,
            told,
            unwanted: Some(unwanted),
            ending: None,
            farewell: Farewell::No,
            unflushed: 0,
            sent: None,
            stalled: Stall::new(timeouts.stall),
            deadline: None,
        }
    }

    fn into_untold(self) -> impl Iterator<Item = LinkEvent> {
        self.told.untold.into_iter().flatten()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkCause> {
        let mut moved = Ok(true);
        while matches!(moved, Ok(true)) {
            moved = self.turn(cx);
        }
        match moved.and_then(|_| self.check_time(cx)) {
            Ok(()) => Poll::Pending,
            Err(cause) => Poll::Ready(self.ending.take().unwrap_or(cause)),
        }
    }

    /// Moves what can be moved. Says whether anything did.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkCause> {
        self.check_time(cx)?;
        let told = self.told.poll(cx);
        let received = self.receive(cx)?;
        let written = self.write(cx).unwrap_or_else(|cause| self.cut(cause));
        if self.farewell == Farewell::Over { Err(closed_here()) } else { Ok(told | received | written) }
    }

    /// Nothing can be sent any more. But what the far side said before it went, and be it why, may still lie
    /// here to be received.
    fn cut(&mut self, cause: LinkCause) -> bool {
        self.end(cause);
        self.outbox.close();
        self.stalled.clear();
        self.farewell = Farewell::Cut;
        true
    }

    fn check_time(&mut self, cx: &mut Context<'_>) -> Result<(), LinkCause> {
        if self.unwanted.as_mut().is_some_and(|unwanted| unwanted.as_mut().poll(cx).is_ready()) {
            self.unwanted = None;
            self.outbox.close();
            self.end(closed_here());
        }
        if self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
            return Err(closed_here());
        }
        self.stalled.poll(cx, self.connection.written())
    }

    /// From now on there is only so much time left.
    fn end(&mut self, cause: LinkCause) {
        if self.ending.is_none() {
            self.ending = Some(cause);
            self.deadline = Some(Box::pin(sleep(self.timeouts.close)));
        }
    }

    /// Receives one thing, if the last one was taken.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkCause> {
        if self.told.is_full() || self.farewell == Farewell::Heard {
            return Ok(false);
        }
        let Poll::Ready(received) = self.connection.poll_receive(cx)? else {
            return Ok(false);
        };
        match received {
            Received::Text(text) => self.told.receive(LinkEvent::Frame(text)),
            Received::Binary(length) => self.told.receive(LinkEvent::Binary(length)),
            Received::Pong(payload) => {
                if let Some(n) = self.outbox.answered(&payload) {
                    self.told.receive(LinkEvent::Pong(n));
                }
            }
            Received::Ping => self.unflushed += 1,
            Received::Closed(text) if self.farewell == Farewell::Cut => {
                // A better reason than that it could not be written to.
                self.ending = self.ending.take().map(|ending| match ending {
                    LinkCause::Broken(_) => LinkCause::Closed(text),
                    ours @ (LinkCause::Closed(_)
                    | LinkCause::Unreachable(_)
                    | LinkCause::Refused { .. }
                    | LinkCause::Gone) => ours,
                });
                self.farewell = Farewell::Over;
            }
            Received::Closed(text) => {
                self.end(LinkCause::Closed(text));
                self.unflushed += 1;
                self.farewell = Farewell::Heard;
            }
        }
        Ok(true)
    }

    /// Sends and flushes what there is. Says whether something came of it.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkCause> {
        if self.farewell == Farewell::Cut {
            return Ok(false);
        }
        let more = self.send(cx)?;
        Ok(self.flush(cx, more)? | more)
    }

    /// Hands frames to the connection until there are no more, it has no more room, or the turn is over.
    /// Says whether there may be more.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkCause> {
        let mut moved = 0;
        while self.farewell == Farewell::No && moved < TURN {
            if self.connection.poll_ready(cx)?.is_pending() {
                self.stalled.begin(self.connection.written());
                break;
            }
            match self.outbox.poll_next(cx) {
                Poll::Ready(Some(frame)) => {
                    moved += frame.len().max(1);
                    self.connection.send(frame)?;
                }
                Poll::Ready(None) => self.farewell = Farewell::Due,
                Poll::Pending => break,
            }
        }
        self.unflushed += moved;
        self.sent = self.outbox.take_number().or(self.sent);
        Ok(moved >= TURN)
    }

    /// Flushes once everything is sent, and now and then where there is always more. Says whether something
    /// came of it.
    fn flush(&mut self, cx: &mut Context<'_>, more: bool) -> Result<bool, LinkCause> {
        let owed = if more { self.unflushed >= UNFLUSHED } else { self.unflushed > 0 || self.sent.is_some() };
        if owed {
            if self.connection.poll_flush(cx)?.is_pending() {
                self.stalled.begin(self.connection.written());
                return Ok(false);
            }
            self.unflushed = 0;
            self.stalled.clear();
            self.told.flushed(self.sent.take());
        }
        match self.farewell {
            Farewell::Heard => {
                self.farewell = Farewell::Over;
                Ok(true)
            }
            Farewell::Due if self.connection.poll_close(cx)?.is_ready() => {
                self.farewell = Farewell::Said;
                Ok(true)
            }
            Farewell::Due | Farewell::No | Farewell::Said | Farewell::Cut | Farewell::Over => Ok(owed),
        }
    }
}

/// Events on their way to the user. Bounded: one of each kind, and what waits to be told is not read beyond.
struct Told {
    epoch: Epoch,
    events: PollSender<(Epoch, LinkEvent)>,
    /// [`LinkEvent::Up`], the newest [`LinkEvent::Flushed`], and what was received: told in this order.
    untold: [Option<LinkEvent>; 3],
}

impl Told {
    fn new(epoch: Epoch, wire: Wire, events: Sender<(Epoch, LinkEvent)>) -> Self {
        Self { epoch, events: PollSender::new(events), untold: [Some(LinkEvent::Up(wire)), None, None] }
    }

    fn is_full(&self) -> bool {
        let [_, _, received] = &self.untold;
        received.is_some()
    }

    fn receive(&mut self, event: LinkEvent) {
        let [_, _, received] = &mut self.untold;
        *received = Some(event);
    }

    fn flushed(&mut self, n: Option<u64>) {
        let [_, flushed, _] = &mut self.untold;
        if let Some(n) = n {
            *flushed = Some(LinkEvent::Flushed(n));
        }
    }

    /// Tells one event. Says whether that was possible.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(next) = self.untold.iter_mut().find(|event| event.is_some()) else {
            return false;
        };
        let Poll::Ready(room) = self.events.poll_reserve(cx) else {
            return false;
        };
        // Where nobody listens any more it is forgotten, so that receiving goes on until the end.
        if let Some(event) = next.take().filter(|_| room.is_ok()) {
            let _ = self.events.send_item((self.epoch, event));
        }
        true
    }
}

/// Notices a write that makes no progress.
struct Stall {
    after: Duration,
    /// How much was written when it was last seen to move; none while nothing waits.
    waiting: Option<u64>,
    sleep: Pin<Box<Sleep>>,
}

impl Stall {
    fn new(after: Duration) -> Self {
        Self { after, waiting: None, sleep: Box::pin(sleep(after)) }
    }

    /// A write waits now, if it did not before.
    fn begin(&mut self, written: u64) {
        if self.waiting != Some(written) {
            self.waiting = Some(written);
            self.sleep.as_mut().reset(Instant::now() + self.after);
        }
    }

    fn clear(&mut self) {
        self.waiting = None;
    }

    fn poll(&mut self, cx: &mut Context<'_>, written: u64) -> Result<(), LinkCause> {
        let Some(before) = self.waiting else { return Ok(()) };
        if before != written {
            self.begin(written);
        }
        if self.sleep.as_mut().poll(cx).is_pending() {
            return Ok(());
        }
        let seconds = self.after.as_secs_f32();
        Err(LinkCause::Broken(format!("the server took nothing of what was sent for {seconds} s")))
    }
}
