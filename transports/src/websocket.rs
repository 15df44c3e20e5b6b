//! WebSocket as a transport.

use std::task::{Context, Poll, ready};

use futures_util::{FutureExt, SinkExt, StreamExt};
use makima_core::input::LinkCause;
use makima_core::protocol::Wire;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::MAX_MESSAGE;
use crate::cause;
use crate::client::Options;
use crate::endpoint::Endpoint;
use crate::handshake;
use crate::outward::Outward;
use crate::transport::{Connection, Frame, Received, Transport};

/// Kept for as long as the connection lives, so small.
const READ_BUFFER: usize = 16 << 10;

/// What tungstenite may keep back of its own: answers for a server that pings without end and reads nothing.
/// Beyond it the newest answer takes the place of the one before.
const MAX_KEPT_BACK: usize = 64 << 10;

/// Connects by WebSocket: an HTTP request that is answered with an upgrade.
#[derive(Clone, Debug)]
pub struct WebSocket {
    endpoint: Endpoint,
    options: Options,
}

impl WebSocket {
    /// To that server, in that way.
    #[must_use]
    pub fn new(endpoint: Endpoint, options: Options) -> Self {
        Self { endpoint, options }
    }
}

impl Transport for WebSocket {
    type Connection = WebSocketConnection;

    async fn connect(self) -> Result<WebSocketConnection, LinkCause> {
        let (socket, wire) = handshake::upgrade(&self.endpoint, &self.options).await?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_KEPT_BACK)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let socket = Outward::new(socket);
        let stream = WebSocketStream::from_raw_socket(socket, Role::Client, Some(config)).await;
        Ok(WebSocketConnection { stream, wire })
    }
}

/// A WebSocket that stands.
#[derive(Debug)]
pub struct WebSocketConnection {
    stream: WebSocketStream<Outward>,
    wire: Wire,
}

impl Connection for WebSocketConnection {
    fn wire(&self) -> Wire {
        self.wire
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, LinkCause>> {
        loop {
            let message = match ready!(self.stream.poll_next_unpin(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(Err(self.fail(&error))),
                None => return Poll::Ready(Err(cause::broken(&WsError::ConnectionClosed))),
            };
            return Poll::Ready(Ok(match message {
                Message::Text(text) => Received::Text(text.as_str().to_owned()),
                Message::Binary(bytes) => Received::Binary(bytes.len()),
                Message::Ping(_) => Received::Ping,
                Message::Pong(payload) => Received::Pong(payload),
                Message::Close(frame) => Received::Closed(farewell(frame.as_ref())),
                // Only ever written.
                Message::Frame(_) => continue,
            }));
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkCause>> {
        self.stream.get_mut().poll_room(cx).map_err(|error| cause::broken(&error.into()))
    }

    fn send(&mut self, frame: Frame<'_>) -> Result<(), LinkCause> {
        let (opcode, payload) = match &frame {
            Frame::Text(text) => (OpCode::Data(Data::Text), *text),
            Frame::Ping(payload) => (OpCode::Control(Control::Ping), payload.as_slice()),
        };
        self.stream.get_mut().frame(opcode, payload).map_err(|error| cause::broken(&error))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkCause>> {
        self.stream.poll_flush_unpin(cx).map_err(|error| cause::broken(&error))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkCause>> {
        self.stream.poll_close_unpin(cx).map_err(|error| cause::broken(&error))
    }

    fn written(&self) -> u64 {
        self.stream.get_ref().written()
    }
}

impl WebSocketConnection {
    /// Tells the far side what it did wrong, as far as that goes without waiting.
    fn fail(&mut self, error: &WsError) -> LinkCause {
        let code = if matches!(error, WsError::Capacity(_)) {
            Some(CloseCode::Size)
        } else if matches!(error, WsError::Utf8(_)) {
            Some(CloseCode::Invalid)
        } else {
            matches!(error, WsError::Protocol(_)).then_some(CloseCode::Protocol)
        };
        if let Some(code) = code {
            let frame = CloseFrame { code, reason: "".into() };
            // Whether it arrives or not, this connection is over.
            let _ = self.stream.close(Some(frame)).now_or_never();
        }
        cause::broken(error)
    }
}

fn farewell(frame: Option<&CloseFrame>) -> String {
    let Some(frame) = frame else { return "without a reason".to_owned() };
    let code = u16::from(frame.code);
    let meaning = match code {
        1000 => "done",
        1001 => "going away",
        1008 => "against its policy",
        1009 => "too large",
        1011 => "server error",
        1012 => "restarting",
        1013 => "try again later",
        _ => "",
    };
    cause::shown(&format!("{code} {meaning} {}", frame.reason))
}
