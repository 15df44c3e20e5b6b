//! What waits to be sent, as frames.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use crate::link::Outgoing;
use crate::transport::Frame;
use makima_core::effect::Piece;
use makima_core::protocol::{begin_task_output, finish_task_output};
use tokio::sync::mpsc::UnboundedReceiver;

/// Pings that are remembered as unanswered; the oldest is forgotten first.
const PINGS: usize = 16;

/// Turns what is queued into frames, one at a time.
pub(crate) struct Outbox {
    queue: UnboundedReceiver<Outgoing>,
    output: Option<Output>,
    /// The message that was given out last.
    message: Vec<u8>,
    taken: Option<u64>,
    pings: VecDeque<u64>,
}

/// A task's output, part of which has been sent.
struct Output {
    n: u64,
    /// How much of the message is the same for all of its lines.
    head: usize,
    text: String,
    pieces: std::vec::IntoIter<Piece>,
}

impl Outbox {
    pub(crate) fn new(queue: UnboundedReceiver<Outgoing>) -> Self {
        Self { queue, output: None, message: Vec::new(), taken: None, pings: VecDeque::new() }
    }

    /// The next frame; none when the queue was closed and is empty.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<'_>>> {
        while !self.next_piece() {
            match ready!(self.queue.poll_recv(cx)) {
                None => return Poll::Ready(None),
                Some(Outgoing::Message { n, text }) => {
                    self.taken = Some(n);
                    self.message = text.into_bytes();
                    break;
                }
                Some(Outgoing::Ping { n }) => {
                    self.taken = Some(n);
                    if self.pings.len() == PINGS {
                        self.pings.pop_front();
                    }
                    self.pings.push_back(n);
                    return Poll::Ready(Some(Frame::Ping(n.to_be_bytes())));
                }
                Some(Outgoing::Output { n, task, text, pieces }) => {
                    self.message.clear();
                    begin_task_output(&mut self.message, task);
                    self.output = Some(Output { n, head: self.message.len(), text, pieces: pieces.into_iter() });
                }
                // Never queued.
                Some(Outgoing::Close | Outgoing::Quiesce) => {}
            }
        }
        Poll::Ready(Some(Frame::Text(&self.message)))
    }

    /// The newest number all of whose frames were given out since this was last asked.
    pub(crate) fn take_number(&mut self) -> Option<u64> {
        self.taken.take()
    }

    /// Takes no more from now on; what is queued remains.
    pub(crate) fn close(&mut self) {
        self.queue.close();
    }

    /// The number of the ping of ours that is answered by this, if it is one.
    pub(crate) fn answered(&mut self, payload: &[u8]) -> Option<u64> {
        let n = u64::from_be_bytes(payload.try_into().ok()?);
        let at = self.pings.iter().position(|ping| *ping == n)?;
        // An answer to one ping may stand for all before it.
        self.pings.drain(..=at);
        Some(n)
    }

    /// Makes the next piece of the output under way the message. Says whether there is one.
    fn next_piece(&mut self) -> bool {
        let Some(output) = &mut self.output else { return false };
        let piece = output.pieces.next();
        if output.pieces.len() == 0 {
            self.taken = Some(output.n);
        }
        let Some(piece) = piece else {
            self.output = None;
            return false;
        };
        // A piece that does not lie in its text would be the caller's error; no link dies of it.
        let text = output.text.get(piece.start as usize..piece.end as usize).unwrap_or_default();
        self.message.truncate(output.head);
        finish_task_output(&mut self.message, text, piece.partial);
        true
    }
}
