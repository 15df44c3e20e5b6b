//! What waits to be sent, as frames.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use makima_core::effect::Piece;
use makima_core::protocol::write_task_output;
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

use crate::link::Outgoing;
use crate::transport::Frame;

/// Lines are laid one behind the other into a buffer of this size, and it is used again as soon as they are
/// sent: no allocation for a line.
const BUFFER: usize = 16 << 10;

/// Pings that are remembered as unanswered; the oldest is forgotten first.
const PINGS: usize = 16;

/// Turns what is queued into frames, one at a time.
pub(crate) struct Outbox {
    queue: UnboundedReceiver<Outgoing>,
    output: Option<Output>,
    line: String,
    buffer: BytesMut,
    taken: Option<u64>,
    pings: VecDeque<u64>,
}

/// A task's output, part of which has been sent.
struct Output {
    n: u64,
    task: Uuid,
    text: String,
    pieces: std::vec::IntoIter<Piece>,
}

impl Outbox {
    pub(crate) fn new(queue: UnboundedReceiver<Outgoing>) -> Self {
        Self { queue, output: None, line: String::new(), buffer: BytesMut::new(), taken: None, pings: VecDeque::new() }
    }

    /// The next frame; none when the queue was closed and is empty.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        loop {
            if let Some(frame) = self.next_piece() {
                return Poll::Ready(Some(frame));
            }
            let Some(outgoing) = std::task::ready!(self.queue.poll_recv(cx)) else {
                return Poll::Ready(None);
            };
            if let Some(frame) = self.begin(outgoing) {
                return Poll::Ready(Some(frame));
            }
        }
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

    fn begin(&mut self, outgoing: Outgoing) -> Option<Frame> {
        match outgoing {
            Outgoing::Message { n, text } => {
                self.taken = Some(n);
                Some(Frame::Text(Bytes::from(text)))
            }
            Outgoing::Ping { n } => {
                self.taken = Some(n);
                if self.pings.len() == PINGS {
                    self.pings.pop_front();
                }
                self.pings.push_back(n);
                Some(Frame::Ping(n.to_be_bytes()))
            }
            Outgoing::Output { n, task, text, pieces } => {
                self.output = Some(Output { n, task, text, pieces: pieces.into_iter() });
                None
            }
            // Never queued.
            Outgoing::Close => None,
        }
    }

    fn next_piece(&mut self) -> Option<Frame> {
        let output = self.output.as_mut()?;
        let piece = output.pieces.next();
        if output.pieces.len() == 0 {
            self.taken = Some(output.n);
        }
        let Some(piece) = piece else {
            self.output = None;
            return None;
        };
        // A piece that does not lie in its text would be the caller's error; no link dies of it.
        let text = output.text.get(piece.start as usize..piece.end as usize).unwrap_or_default();
        self.line.clear();
        write_task_output(&mut self.line, output.task, text, piece.partial);
        if self.buffer.capacity() < self.line.len() {
            self.buffer.reserve(BUFFER.max(self.line.len()));
        }
        self.buffer.extend_from_slice(self.line.as_bytes());
        Some(Frame::Text(self.buffer.split().freeze()))
    }
}
