//! A message as server-sent events.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use super::http::Connection;
use super::script::Fault;
use super::shared::Shared;
use super::{Cut, End, Turn};

/// Before a cut: a reset that comes with the deltas hides them from the client.
const SETTLE: Duration = Duration::from_millis(250);

/// How a stream has ended, and what is to be done to the connection for it.
pub(super) enum Stop {
    /// It ends as any other answer does.
    Ended(End),
    /// It has to be cut.
    Cut(Cut),
}

/// One answer that is being sent.
pub(super) struct Stream<'a> {
    pub(super) connection: &'a Connection,
    pub(super) shared: &'a Shared,
    pub(super) turn: &'a Turn,
    /// The request's.
    pub(super) index: usize,
    /// Deltas so far.
    pub(super) sent: usize,
}

impl Stream<'_> {
    /// Sends all of it, or as much as the turn lets through.
    ///
    /// # Errors
    /// It did not come to its end.
    pub(super) fn send(&mut self, message: &Value) -> Result<(), Stop> {
        self.connection.begin(&self.shared.id("req")).map_err(gone)?;
        let mut begun = message.clone();
        begun["content"] = json!([]);
        begun["stop_reason"] = Value::Null;
        begun["usage"]["output_tokens"] = 1.into();
        self.event("message_start", json!({ "message": begun }))?;
        self.event("ping", json!({}))?;
        for (index, block) in message["content"].as_array().into_iter().flatten().enumerate() {
            self.block(index, block)?;
        }
        self.fault()?;
        let delta = json!({ "stop_reason": message["stop_reason"], "stop_sequence": null });
        self.event("message_delta", json!({ "delta": delta, "usage": message["usage"] }))?;
        self.event("message_stop", json!({}))?;
        self.connection.chunk("").map_err(gone)
    }

    /// One block, in deltas.
    fn block(&mut self, index: usize, block: &Value) -> Result<(), Stop> {
        let text = |field: &str| block[field].as_str().unwrap_or_default().to_owned();
        let (kind, field, whole) = match block["type"].as_str() {
            Some("tool_use") => ("input_json_delta", "partial_json", block["input"].to_string()),
            Some("thinking") => ("thinking_delta", "thinking", text("thinking")),
            _ => ("text_delta", "text", text("text")),
        };
        self.event("content_block_start", json!({ "index": index, "content_block": empty(block) }))?;
        let characters: Vec<char> = whole.chars().collect();
        for part in characters.chunks(self.turn.chunk) {
            self.fault()?;
            self.shared.pause(self.connection, self.turn.delay).map_err(Stop::Ended)?;
            let delta = json!({ "type": kind, field: String::from_iter(part) });
            self.event("content_block_delta", json!({ "index": index, "delta": delta }))?;
            self.sent += 1;
            self.shared.sent(self.index);
        }
        if let Some(signature) = block.get("signature") {
            let delta = json!({ "type": "signature_delta", "signature": signature });
            self.event("content_block_delta", json!({ "index": index, "delta": delta }))?;
        }
        self.event("content_block_stop", json!({ "index": index }))
    }

    /// What goes wrong after so many deltas, if it is now.
    fn fault(&self) -> Result<(), Stop> {
        match &self.turn.fault {
            Some((after, fault)) if self.sent >= *after => match fault {
                Fault::Error(kind) => {
                    let error = json!({ "type": kind, "message": "an error of the script" });
                    self.event("error", json!({ "error": error }))?;
                    self.connection.chunk("").map_err(gone)?;
                    Err(Stop::Ended(End::StreamError))
                }
                Fault::Cut(how) => {
                    self.shared.pause(self.connection, SETTLE).map_err(Stop::Ended)?;
                    Err(Stop::Cut(*how))
                }
                Fault::Hang => {
                    self.shared.hang(self.connection);
                    Err(Stop::Ended(End::Gone))
                }
            },
            Some(_) | None => Ok(()),
        }
    }

    fn event(&self, kind: &str, mut data: Value) -> Result<(), Stop> {
        data["type"] = kind.into();
        self.connection.chunk(&format!("event: {kind}\ndata: {data}\n\n")).map_err(gone)
    }
}

/// A block before its first delta.
fn empty(block: &Value) -> Value {
    let mut empty = block.clone();
    for (field, nothing) in
        [("text", json!("")), ("thinking", json!("")), ("signature", json!("")), ("input", json!({}))]
    {
        if let Some(value) = empty.get_mut(field) {
            *value = nothing;
        }
    }
    empty
}

/// Whoever cannot be written to has gone.
fn gone(_: io::Error) -> Stop {
    Stop::Ended(End::Gone)
}
