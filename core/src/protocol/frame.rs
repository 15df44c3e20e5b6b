//! Version 2 of the wire: the same messages, in envelopes that number, acknowledge and resume.
//!
//! Asked for by the header [`WIRE_HEADER`] in the handshake, and spoken only where the far side answers it. A frame is
//! one JSON object:
//!
//! ```json
//! {"seq":7,"ack":3,"body":{"type":"taskComplete",…},"meta":{"len":4096}}
//! ```
//!
//! - `seq` numbers what a side sends, from 1, under an epoch of its own, growing by one. Without it: `authenticate`,
//!   `authenticated`, an `error` before it or with which the session is ended, `heartbeat` and `taskOutput`; and what
//!   has no body.
//! - `ack`: everything of the far side's up to this number has been applied, and will be known after a restart. On any
//!   frame; `{"ack":3}` alone is one.
//! - `body`: a message of the tables, unchanged. A number that was applied before is not applied again.
//! - `meta`: of a `taskOutput`, `off` and `end`: the stretch of the task's output log that it stands for, in raw bytes.
//!   A receiver that stands at `off` takes it and stands at `end` then; one that stands at `end` or behind drops it; any
//!   other asks for `rewind`. Of a `taskComplete`, `len`: where the log ends.
//! - Frames without a body: `hello`, `got`, `rewind`, `ping`, `pong`, one of them in a frame.
//!
//! After `authenticated` both sides say [`Hello`], the server first; then numbers count. What the far side has not
//! applied by its `hello` is sent again under its number. A side whose numbers cannot go on where they stood (its state
//! is lost) takes another epoch and begins at 1. It says so in its `hello`; a server that learns only from the daemon's
//! `hello` that it has to, takes the epoch and ends the session, so that the next begins with it.
//!
//! - A number that is not the next after the last one applied is no number of this session: the session is ended, and
//!   what was missed comes again in the next. So is a number before the sender's `hello`.
//! - A body that cannot be read counts as applied if it bore a number: it would be no better the next time.
//! - A `taskOutput` without `off` has no place: it is taken as it comes, and no `got` answers it.
//! - `got` is said after the text is kept, for what was dropped too, with the place at which the receiver stands. Of a
//!   task that the receiver does not want output of (ended, unknown) it is the `end` of what was sent: nothing waits
//!   for such a task.
//! - After `rewind` the sender goes on from that place. Where the log has been cut there it sends one `taskOutput` from
//!   that place to where the log goes on, whose text says what is missing. A receiver asks once, and drops what does not
//!   fit until something does.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Unreadable;
use super::read;

/// The header of the handshake, and of every long-poll request, that asks for version 2 and grants it.
pub const WIRE_HEADER: &str = "makima-wire";

/// What stands in it.
pub const WIRE_VERSION: &str = "2";

/// What a frame says beside a message, or instead of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Said {
    /// Everything of the receiver's up to this number has been applied, for good.
    Ack(u64),
    /// How the sender stands.
    Hello(Hello),
    /// The sender has a task's output up to there, for good.
    Got(Place),
    /// The sender wants a task's output from there on.
    Rewind(Place),
    /// Is anybody there?
    Ping(u64),
    /// The answer to the ping of this number.
    Pong(u64),
}

/// Which version a session speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Wire {
    /// The messages of the tables as they are. What every server speaks.
    #[default]
    One,
    /// The same messages in envelopes.
    Two,
}

impl Wire {
    /// The version as a number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// One frame of version 2. Absent fields are left out; unknown ones are ignored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Frame<'a> {
    /// Its number among those of its sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Everything of the receiver's up to this number has been applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack: Option<u64>,
    /// A message of the tables, as it stands: to be read by `DaemonCommand::read` or `DaemonMessage::read`.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<alloc::collections::BTreeMap<String, serde_json::Value>>"))]
    pub body: Option<&'a RawValue>,
    /// What the tables have no room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
    /// How the sender stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hello: Option<Hello>,
    /// The sender has a task's output up to there, and will after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub got: Option<Place>,
    /// The sender wants a task's output from there on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewind: Option<Place>,
    /// Is anybody there? To be answered by the application itself, with the same number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping: Option<u64>,
    /// The answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pong: Option<u64>,
}

/// What goes with a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Meta {
    /// Of a `taskOutput`: where in the log it begins, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off: Option<u64>,
    /// Of a `taskOutput`: where it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
    /// Of a `taskComplete`: where the log ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub len: Option<u64>,
}

/// How a side stands when a session begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Hello {
    /// The epoch of the sender's own numbers.
    pub epoch: u64,
    /// The epoch of the receiver's numbers that `applied` belongs to; 0 where none was ever applied.
    #[serde(default)]
    pub of: u64,
    /// The last number of the receiver's that was applied.
    #[serde(default)]
    pub applied: u64,
    /// The tasks that the sender knows and whose end it does not know to be known; a server: with what it has of their
    /// output.
    #[serde(default)]
    pub tasks: Vec<Place>,
}

/// A place in a task's output log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Place {
    /// Which task.
    pub task: Uuid,
    /// Bytes from the beginning of the log.
    pub off: u64,
}

impl<'a> Frame<'a> {
    /// Reads one frame.
    ///
    /// # Errors
    /// It is no JSON object, or a field of the envelope is of another type. The error never repeats a value.
    pub fn read(text: &'a str) -> Result<Self, Unreadable> {
        read::object(text)
    }

    /// What it says beside a message, in the order in which it counts.
    pub fn said(&mut self) -> impl Iterator<Item = Said> + use<> {
        let said = [
            self.hello.take().map(Said::Hello),
            self.ack.map(Said::Ack),
            self.got.map(Said::Got),
            self.rewind.map(Said::Rewind),
            self.ping.map(Said::Ping),
            self.pong.map(Said::Pong),
        ];
        said.into_iter().flatten()
    }

    /// Writes it as one line of JSON, without a newline.
    #[must_use]
    pub fn write(&self) -> String {
        // Numbers, ids and what was JSON before: nothing here can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl From<Said> for Frame<'_> {
    fn from(said: Said) -> Self {
        let frame = Self::default();
        match said {
            Said::Ack(ack) => Self { ack: Some(ack), ..frame },
            Said::Hello(hello) => Self { hello: Some(hello), ..frame },
            Said::Got(got) => Self { got: Some(got), ..frame },
            Said::Rewind(rewind) => Self { rewind: Some(rewind), ..frame },
            Said::Ping(ping) => Self { ping: Some(ping), ..frame },
            Said::Pong(pong) => Self { pong: Some(pong), ..frame },
        }
    }
}

/// A message in an envelope, as one line of JSON. `body` is a message as it was written: it is laid in as it stands.
#[must_use]
pub fn envelope(seq: Option<u64>, body: &str, meta: Option<Meta>) -> String {
    // What goes around it is small, and what is in it may be long: it is not read once more.
    let (before, behind) = (Frame { seq, ..Frame::default() }.write(), Frame { meta, ..Frame::default() }.write());
    let (before, behind) = (before.trim_end_matches('}'), behind.trim_start_matches('{'));
    let comma = |needed: bool| if needed { "," } else { "" };
    alloc::format!("{before}{}\"body\":{body}{}{behind}", comma(seq.is_some()), comma(meta.is_some()))
}
