//! What a way to the server has to be able to do: connect, send, receive, close.

use std::future::Future;
use std::task::{Context, Poll};

use bytes::Bytes;
use makima_core::input::LinkCause;
use makima_core::protocol::Wire;

/// A way to the server. One of these is used for one connection.
pub trait Transport: Send + 'static {
    /// What connecting gives.
    type Connection: Connection;

    /// Connects, within a time of its own, once.
    ///
    /// # Errors
    /// Says why there is no connection.
    fn connect(self) -> impl Future<Output = Result<Self::Connection, LinkCause>> + Send;
}

/// A connection that stands. Its two directions are polled by one task and never wait for each other, which
/// is why this is made of polls and not of two futures that would both need the connection.
///
/// An error ends it: nothing may be called afterwards.
pub trait Connection: Send + 'static {
    /// What both ends agreed to speak.
    fn wire(&self) -> Wire;

    /// What comes from the far side.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, LinkCause>>;

    /// Whether there is room for one more frame.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkCause>>;

    /// Takes a frame to be sent, after [`poll_ready`](Self::poll_ready) said that there is room. It may be
    /// kept back until the next flush.
    ///
    /// # Errors
    /// Where the connection has broken, or the frame can never be sent.
    fn send(&mut self, frame: Frame<'_>) -> Result<(), LinkCause>;

    /// Hands everything to the kernel that was taken, and answers to what was received with it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkCause>>;

    /// Tells the far side that nothing more will be sent. Its answer is received as [`Received::Closed`].
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkCause>>;

    /// How many bytes the kernel has taken: by this it is known whether a write moves at all.
    fn written(&self) -> u64;
}

/// A frame to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A text message. It has to be UTF-8.
    Text(&'a [u8]),
    /// A ping.
    Ping([u8; 8]),
}

impl Frame<'_> {
    /// How many bytes it carries.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Ping(payload) => payload.len(),
        }
    }
}

/// What came from the far side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A text message.
    Text(String),
    /// A binary message of this many bytes, which the wire does not have.
    Binary(usize),
    /// A ping; its answer waits for the next flush.
    Ping,
    /// The answer to a ping.
    Pong(Bytes),
    /// The far side sends nothing more, and this is what it said about it. Our part of the farewell, where it
    /// is still owed, waits for the next flush.
    Closed(String),
}
