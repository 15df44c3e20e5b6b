//! What is said to Claude Code, a line at a time. One line that it cannot read ends its session, so all of them are made here.

use alloc::boxed::Box;
use alloc::string::{String, ToString};

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Something that is asked of the program itself, not of the model. It answers under the name that the request is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Says that it is ready; until its first line it says nothing.
    Initialize,
    /// The turn is broken off. Messages that wait are next, unless they are taken back too.
    Interrupt {
        /// Whether messages that wait are taken back.
        with_queued: bool,
    },
    /// A message that still waits is taken back.
    TakeBack {
        /// The name that it was given.
        message: &'a str,
    },
    /// What it may do unasked from now on.
    Permissions {
        /// In its own words: `default`, `acceptEdits`, `bypassPermissions`.
        mode: &'a str,
    },
    /// The turn is broken off, what runs behind the conversation is ended, and so is the program.
    End,
}

/// What it is told where it wants to know whether a tool may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It may, as it asked.
    Allow,
    /// It may, with this instead.
    With {
        /// What a person wants it to be used with, as JSON.
        input: &'a str,
    },
    /// It may not.
    Deny {
        /// Why, for the model.
        why: &'a str,
        /// Whether the turn is broken off.
        interrupt: bool,
    },
}

/// A user's message. It may be said again under the same name, and is taken up once.
#[must_use]
pub fn message(text: &str, name: &str) -> String {
    line(&json!({ "type": "user", "message": { "role": "user", "content": text }, "uuid": name }))
}

/// Something that is asked of the program, under a name of the asker's.
#[must_use]
pub fn request(name: &str, request: Request<'_>) -> String {
    let request = match request {
        Request::Initialize => json!({ "subtype": "initialize" }),
        Request::Interrupt { with_queued: false } => json!({ "subtype": "interrupt" }),
        Request::Interrupt { with_queued: true } => json!({ "subtype": "interrupt", "cancel_queued": true }),
        Request::TakeBack { message } => json!({ "subtype": "cancel_async_message", "message_uuid": message }),
        Request::Permissions { mode } => json!({ "subtype": "set_permission_mode", "mode": mode }),
        Request::End => json!({ "subtype": "end_session" }),
    };
    line(&json!({ "type": "control_request", "request_id": name, "request": request }))
}

/// The answer to a question of its own, under the name that it gave that.
#[must_use]
pub fn answer(question: &str, verdict: Verdict<'_>) -> String {
    let (behavior, updated_input, message, interrupt) = match verdict {
        Verdict::Allow => ("allow", None, None, None),
        Verdict::With { input } => ("allow", Some(raw(input)), None, None),
        Verdict::Deny { why, interrupt } => ("deny", None, Some(why), interrupt.then_some(true)),
    };
    let response = Answer { behavior, updated_input, message, interrupt };
    line(&ControlResponse {
        kind: "control_response",
        response: Response { subtype: "success", request_id: question, response },
    })
}

/// What it wants is nothing that we do, and it is not to wait for that.
#[must_use]
pub fn refuse(request: &str, why: &str) -> String {
    let response = json!({ "subtype": "error", "request_id": request, "error": why });
    line(&json!({ "type": "control_response", "response": response }))
}

#[derive(Serialize)]
struct ControlResponse<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
struct Response<'a> {
    subtype: &'static str,
    request_id: &'a str,
    response: Answer<'a>,
}

#[derive(Serialize)]
struct Answer<'a> {
    behavior: &'static str,
    #[serde(rename = "updatedInput", skip_serializing_if = "Option::is_none")]
    updated_input: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interrupt: Option<bool>,
}

/// The input of a tool that asks a person, with the answers: to each question's text the label that was chosen. None where
/// it asks nothing.
#[must_use]
pub fn answers<'a>(input: &str, chosen: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let Value::Object(mut input) = object(input) else { return None };
    input.get("questions")?.as_array()?;
    let chosen = chosen.into_iter().map(|(question, label)| (question.to_string(), Value::from(label))).collect();
    input.insert("answers".to_string(), Value::Object(chosen));
    Some(Value::Object(input).to_string())
}

/// What is no object is none with nothing in it.
fn object(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => object,
        Ok(_) | Err(_) => json!({}),
    }
}

/// An object as it stands there, on one line.
fn raw(text: &str) -> Box<RawValue> {
    let object = object(text);
    let as_it_stands = (object != json!({}) && !text.contains(['\n', '\r'])).then(|| text.trim().to_string());
    let text = as_it_stands.unwrap_or_else(|| object.to_string());
    RawValue::from_string(text).unwrap_or_default()
}

/// One line: inside of JSON there is no newline that is not written out.
fn line(it: &impl Serialize) -> String {
    // Texts and names only: nothing in them cannot be written.
    let mut line = serde_json::to_string(it).unwrap_or_default();
    line.push('\n');
    line
}
