//! Reading a line of the wire, and saying what was wrong with one that could not be read.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use serde::Deserialize;

use crate::limits;

/// A line that could not be read. It holds no value of that line, so it may be logged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, thiserror::Error)]
pub struct Unreadable {
    /// What kind of trouble it was.
    pub kind: UnreadableKind,
    /// The line's `type` where it bore one, cut to a bounded length.
    pub message_type: Option<String>,
    /// What was expected and what was found, without the value.
    pub reason: String,
    /// Where in the message, in bytes from 1; 0 where it is the message as a whole.
    pub column: usize,
}

/// What kind of trouble a line gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum UnreadableKind {
    /// Not one JSON object with a `type`.
    NotAMessage,
    /// A `type` that this direction of the wire does not have.
    UnknownType,
    /// A field is missing, stands twice or is of another type.
    WrongField,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.column > 0 {
            write!(f, "column {}: ", self.column)?;
        }
        if let Some(kind) = &self.message_type {
            write!(f, "`{kind}`: ")?;
        }
        f.write_str(&self.reason)
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// The `type` of a JSON object, wherever in it that stands.
pub(crate) fn kind(text: &str) -> Result<Cow<'_, str>, Unreadable> {
    let not_a_message =
        |reason: String, column| Unreadable { kind: UnreadableKind::NotAMessage, message_type: None, reason, column };
    if !is_object(text) {
        return Err(not_a_message("not a JSON object".to_string(), 0));
    }
    serde_json::from_str::<Head<'_>>(text)
        .map(|head| head.kind)
        .map_err(|error| not_a_message(without_values(&error), place(text, &error)))
}

/// The whole message, once its `type` is known.
pub(crate) fn body<'a, T: Deserialize<'a>>(text: &'a str, kind: &str) -> Result<T, Unreadable> {
    serde_json::from_str(text).map_err(|error| Unreadable {
        kind: UnreadableKind::WrongField,
        message_type: Some(kind.to_string()),
        reason: without_values(&error),
        column: place(text, &error),
    })
}

/// A JSON object that has no `type`.
pub(crate) fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Unreadable> {
    let failed = |reason, column| Unreadable { kind: UnreadableKind::NotAMessage, message_type: None, reason, column };
    if !is_object(text) {
        return Err(failed("not a JSON object".to_string(), 0));
    }
    serde_json::from_str(text).map_err(|error| failed(without_values(&error), place(text, &error)))
}

/// serde also takes a list for a struct; the wire has objects only.
fn is_object(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{')
}

/// Where in all of `text` it went wrong: serde counts anew in every line, and a message may have several.
fn place(text: &str, error: &serde_json::Error) -> usize {
    let before = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    before.saturating_add(error.column())
}

/// The answer to a `type` that is not of this direction.
pub(crate) fn unknown(kind: &str) -> Unreadable {
    Unreadable {
        kind: UnreadableKind::UnknownType,
        message_type: Some(cut(kind)),
        reason: "unknown type".to_string(),
        column: 0,
    }
}

/// A `type` is the far side's text: what is kept of it is short and printable.
fn cut(kind: &str) -> String {
    kind.chars().take(limits::TYPE_SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// serde's own words with the value taken out: `invalid type: string "hunter2", expected i32` becomes
/// `invalid type: string, expected i32`. What stands in a message can be a secret.
fn without_values(error: &serde_json::Error) -> String {
    let full = error.to_string();
    let message = full.rsplit_once(" at line ").map_or(full.as_str(), |(message, _)| message);
    if message.starts_with("UUID") {
        return "not a UUID".to_string();
    }
    for lead in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = message.strip_prefix(lead) {
            let found = rest.split([' ', ',']).next().unwrap_or_default();
            let expected = rest.rsplit_once(", expected ").map_or("", |(_, expected)| expected);
            return format!("{lead}{found}, expected {expected}");
        }
    }
    message.to_string()
}
