//! Sends what there is, a push at a time.

use std::collections::VecDeque;

use makima_core::effect::Piece;
use makima_core::input::LinkCause;
use makima_core::protocol::{Frame, envelope, write_task_output};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::request::{Answer, Caller};
use super::{Shared, Teller};
use crate::MAX_PUSH;
use crate::client::Timeouts;
use crate::link::Outgoing;

/// What sending takes.
pub(super) struct Pushes<'a> {
    pub(super) caller: Caller,
    pub(super) session: &'a str,
    pub(super) limits: Timeouts,
    pub(super) shared: &'a Shared,
    pub(super) teller: &'a Teller,
}

/// What `/push` is answered with.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(default)]
    ack: Option<u64>,
    #[serde(borrow, default)]
    frames: Vec<&'a RawValue>,
}

impl Pushes<'_> {
    /// Sends until it fails, or until told to finish and nothing is left.
    pub(super) async fn run(
        self,
        mut queue: UnboundedReceiver<Outgoing>,
        finish: &CancellationToken,
    ) -> Result<(), LinkCause> {
        let mut waiting = Waiting::default();
        loop {
            while waiting.bytes < MAX_PUSH
                && let Ok(outgoing) = queue.try_recv()
            {
                self.take(&mut waiting, outgoing);
            }
            if waiting.frames.is_empty() || (waiting.is_ack() && !queue.is_closed() && self.rides(&mut waiting)) {
                tokio::select! {
                    biased;
                    outgoing = queue.recv() => match outgoing {
                        Some(outgoing) => self.take(&mut waiting, outgoing),
                        None if waiting.frames.is_empty() => return Ok(()),
                        None => {}
                    },
                    () = self.polled(&waiting), if !waiting.frames.is_empty() => {}
                    () = finish.cancelled(), if !queue.is_closed() => queue.close(),
                }
            } else {
                self.push(&mut waiting).await?;
            }
        }
    }

    fn take(&self, waiting: &mut Waiting, outgoing: Outgoing) {
        let acked = waiting.take(outgoing);
        self.shared.acked.send_if_modified(|old| acked > std::mem::replace(old, acked.max(*old)));
    }

    /// Whether an acknowledgement that waits alone need not be pushed just now: no poll is open, and the next takes it
    /// along. Lets go of it if a poll has.
    fn rides(&self, waiting: &mut Waiting) -> bool {
        let poll = *self.shared.poll.borrow();
        if waiting.frames.front().is_some_and(|frame| frame.ack.is_some_and(|ack| ack <= poll.acked)) {
            // Flushed when that poll is answered, or with a number that comes after it.
            *self.shared.rode() = waiting.pop().and_then(|frame| frame.n);
            return true;
        }
        !poll.open
    }

    /// Until a poll is open, if something waits for that.
    async fn polled(&self, waiting: &Waiting) {
        if waiting.is_ack() {
            let mut poll = self.shared.poll.subscribe();
            let _ = poll.wait_for(|poll| poll.open).await;
        } else {
            std::future::pending().await
        }
    }

    async fn push(&self, waiting: &mut Waiting) -> Result<(), LinkCause> {
        let mut body = format!(r#"{{"session":{},"frames":["#, self.session);
        let mut newest = None;
        let mut first = true;
        while let Some(frame) = waiting.frames.front()
            && (first || body.len().saturating_add(frame.text.len()) < MAX_PUSH)
            && let Some(frame) = waiting.pop()
        {
            if !first {
                body.push(',');
            }
            first = false;
            body.push_str(&frame.text);
            newest = frame.n.or(newest);
        }
        body.push_str("]}");
        let answer = self.caller.post(body, self.limits.push).await?;
        let (ack, frames) = answered(&answer)?;
        self.teller.flushed(newest).await;
        if let Some(ack) = ack {
            self.teller.frame(&Frame { ack: Some(ack), ..Frame::default() }.write()).await;
        }
        for frame in frames {
            self.teller.frame(frame).await;
        }
        Ok(())
    }
}

/// What the server has applied, and what else it says.
pub(super) fn answered(answer: &Answer) -> Result<(Option<u64>, Vec<&str>), LinkCause> {
    let body: Body<'_> = answer.read()?;
    Ok((body.ack, body.frames.into_iter().map(RawValue::get).collect()))
}

/// Frames on their way into a push.
#[derive(Default)]
struct Waiting {
    frames: VecDeque<One>,
    bytes: usize,
}

/// One frame.
struct One {
    text: String,
    /// The caller's number, with the last frame that bears it.
    n: Option<u64>,
    /// What it acknowledges, if it does nothing else.
    ack: Option<u64>,
}

impl Waiting {
    /// Gives back what our side has said was applied.
    fn take(&mut self, outgoing: Outgoing) -> u64 {
        match outgoing {
            Outgoing::Message { n, text } => return self.message(n, text),
            Outgoing::Ping { n } => self.add(Frame { ping: Some(n), ..Frame::default() }.write(), Some(n), None),
            Outgoing::Output { n, task, text, pieces } => self.output(n, task, &text, &pieces),
            // Never queued.
            Outgoing::Quiesce | Outgoing::Close => {}
        }
        0
    }

    fn message(&mut self, n: u64, text: String) -> u64 {
        let (acked, alone) = Frame::read(&text).map_or((None, false), |frame| (frame.ack, is_ack(&frame)));
        self.add(text, Some(n), acked.filter(|_| alone));
        acked.unwrap_or(0)
    }

    /// Without a place in the log: whoever numbers output has made frames of it.
    fn output(&mut self, n: u64, task: Uuid, text: &str, pieces: &[Piece]) {
        let mut body = Vec::new();
        for (left, piece) in pieces.iter().enumerate().map(|(at, piece)| (pieces.len() - at - 1, piece)) {
            body.clear();
            let text = text.get(piece.start as usize..piece.end as usize).unwrap_or_default();
            write_task_output(&mut body, task, text, piece.partial);
            let frame = envelope(None, &String::from_utf8_lossy(&body), None);
            self.add(frame, (left == 0).then_some(n), None);
        }
    }

    fn add(&mut self, text: String, n: Option<u64>, ack: Option<u64>) {
        self.bytes = self.bytes.saturating_add(text.len());
        self.frames.push_back(One { text, n, ack });
    }

    fn pop(&mut self) -> Option<One> {
        let frame = self.frames.pop_front()?;
        self.bytes = self.bytes.saturating_sub(frame.text.len());
        Some(frame)
    }

    /// Whether nothing waits but one acknowledgement.
    fn is_ack(&self) -> bool {
        self.frames.len() == 1 && self.frames.front().is_some_and(|frame| frame.ack.is_some())
    }
}

/// Whether a frame says nothing else than what was applied.
fn is_ack(frame: &Frame<'_>) -> bool {
    frame.ack.is_some()
        && frame.seq.is_none()
        && frame.body.is_none()
        && frame.meta.is_none()
        && frame.hello.is_none()
        && frame.got.is_none()
        && frame.rewind.is_none()
        && frame.ping.is_none()
        && frame.pong.is_none()
}
