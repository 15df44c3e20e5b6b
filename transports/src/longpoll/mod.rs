//! Long-poll: version 2 of the wire over ordinary requests, for networks through which no WebSocket comes.
//!
//! A session is opened by the `authenticate` message; then one task asks for commands by a request that the server
//! holds open, and sends what there is by another. The two never share a connection: a request that is held would
//! stand before one that is in a hurry, and one goodbye of a server's would end both.
//!
//! Architecture invariant: a poll that is open is left alone as long as the link lives. Its answer may carry a
//! command that the server takes for told.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod open;
mod poll;
mod push;
mod request;

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use makima_core::id::Epoch;
use makima_core::input::LinkCause;
use makima_core::protocol::Wire;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::client::Options;
use crate::endpoint::Endpoint;
use crate::link::LinkEvent;
use crate::pump::{Link, closed_here, unwanted};
use open::Opened;
use poll::Polls;
use push::Pushes;
use request::Callers;

/// One connection, from the attempt to its end.
pub(crate) async fn run(endpoint: Endpoint, options: Options, link: Link) {
    let teller = Teller::new(link.epoch, link.events.clone());
    let cause = connection(&endpoint, &options, link, &teller).await;
    teller.tell(LinkEvent::Down(cause)).await;
}

async fn connection(endpoint: &Endpoint, options: &Options, mut link: Link, teller: &Teller) -> LinkCause {
    let limits = link.timeouts;
    let closing = link.closing.clone();
    let mut unwanted = pin!(unwanted(closing.cancelled(), link.events.clone()));
    let opened = async {
        let callers = Callers::new(endpoint, options).await?;
        teller.tell(LinkEvent::Up(Wire::Two)).await;
        open::open(callers, &mut link.queue, limits.handshake, teller).await
    };
    let Opened { callers, session } = tokio::select! {
        biased;
        () = &mut unwanted => return closed_here(),
        () = link.quiescing.cancelled() => return quiesced(),
        opened = opened => match opened {
            Ok(opened) => opened,
            Err(cause) => return cause,
        },
    };
    let shared = Shared::new();
    let finish = CancellationToken::new();
    let polls = Polls { caller: callers.poll, session: &session, limits, shared: &shared, teller };
    let pushes = Pushes { caller: callers.push, session: &session, limits, shared: &shared, teller };
    let mut polls = pin!(polls.run(&link.quiescing));
    let mut pushes = pin!(pushes.run(link.queue, &finish));
    let ending = tokio::select! {
        biased;
        () = &mut unwanted => closed_here(),
        // Every poll was let come to its end.
        polled = &mut polls => match polled {
            Ok(()) => quiesced(),
            Err(cause) => return cause,
        },
        // Well only where the handle was dropped and everything is sent.
        pushed = &mut pushes => return pushed.err().unwrap_or_else(closed_here),
    };
    // What was given before is still sent, in a time that has an end.
    finish.cancel();
    match timeout(limits.close, pushes).await {
        Ok(Err(cause)) => cause,
        Ok(Ok(())) | Err(_) => ending,
    }
}

fn quiesced() -> LinkCause {
    LinkCause::Closed("quiesced".to_owned())
}

/// What the two directions know of each other.
struct Shared {
    /// The highest number of the server's that our side said was applied.
    acked: watch::Sender<u64>,
    /// The poll that is open, or was last.
    poll: watch::Sender<OpenPoll>,
    /// The number of an acknowledgement that the open poll took along.
    rode: Mutex<Option<u64>>,
}

/// How a poll stands.
#[derive(Clone, Copy, Default)]
struct OpenPoll {
    /// Whether the server has it and has not answered it yet.
    open: bool,
    /// What it said was applied.
    acked: u64,
}

impl Shared {
    fn new() -> Self {
        Self { acked: watch::Sender::new(0), poll: watch::Sender::new(OpenPoll::default()), rode: Mutex::default() }
    }

    fn rode(&self) -> MutexGuard<'_, Option<u64>> {
        self.rode.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the user what happens, in order.
struct Teller {
    epoch: Epoch,
    events: mpsc::Sender<(Epoch, LinkEvent)>,
    flushed: Mutex<Option<u64>>,
}

impl Teller {
    fn new(epoch: Epoch, events: mpsc::Sender<(Epoch, LinkEvent)>) -> Self {
        Self { epoch, events, flushed: Mutex::default() }
    }

    /// Whoever does not listen any more does not miss it either.
    async fn tell(&self, event: LinkEvent) {
        let _ = self.events.send((self.epoch, event)).await;
    }

    async fn frame(&self, text: &str) {
        self.tell(LinkEvent::Frame(text.to_owned())).await;
    }

    /// The server has everything up to this number.
    async fn flushed(&self, n: Option<u64>) {
        let newer = {
            let mut flushed = self.flushed.lock().unwrap_or_else(PoisonError::into_inner);
            let newer = n > *flushed;
            *flushed = n.max(*flushed);
            newer
        };
        if let Some(n) = n.filter(|_| newer) {
            self.tell(LinkEvent::Flushed(n)).await;
        }
    }
}

/// A pause that a word ends early. Says whether it lasted.
async fn pause(time: std::time::Duration, word: &CancellationToken) -> bool {
    tokio::select! {
        () = sleep(time) => true,
        () = word.cancelled() => false,
    }
}
