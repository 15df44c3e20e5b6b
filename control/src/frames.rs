//! Frames of version 2 as the hub takes them, whichever way they came.

use std::sync::atomic::Ordering;

use makima_core::protocol::{DaemonMessage, Frame};

use crate::app::App;
use crate::engine::Unheard;
use crate::hub::{Said, SessionId};

/// Reads a frame and has it heard. One that cannot be read is counted, and the session goes on.
pub(crate) fn hear(app: &App, id: SessionId, text: &str) -> Result<(), Unheard> {
    let frame = match Frame::read(text) {
        Ok(frame) => frame,
        Err(reason) => {
            unreadable(app, id, &reason.to_string());
            return Ok(());
        }
    };
    let body = frame.body.and_then(|body| match DaemonMessage::read(body.get()) {
        Ok(message) => Some(message),
        Err(reason) => {
            // Its number counts all the same: it would be no better the next time.
            unreadable(app, id, &reason.to_string());
            None
        }
    });
    let said = Said {
        seq: frame.seq,
        ack: frame.ack,
        body,
        meta: frame.meta.unwrap_or_default(),
        hello: frame.hello,
        ping: frame.ping,
    };
    app.engine.hear_said(id, said)
}

/// Counted every time, logged ever more rarely: a daemon that talks rubbish does not fill the log with it.
pub(crate) fn unreadable(app: &App, id: SessionId, reason: &str) {
    let count = app.engine.unreadable.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    if count.is_power_of_two() {
        tracing::warn!(session = id.0, reason, count, "a frame that cannot be read");
    }
}
