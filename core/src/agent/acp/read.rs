//! Reads what an agent says.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One line of an agent's standard output.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// The answer to what it was asked under this name; or why it does not do it.
    Answered {
        /// The name.
        request: String,
        /// What it answers.
        answer: Result<Answer, String>,
    },
    /// It wants to know whether it may do something.
    Asks(Question),
    /// It wants something else of us.
    Wants {
        /// The name that it gave it, as JSON.
        request: String,
        /// What.
        method: String,
    },
    /// A part of what it says.
    Text(String),
    /// News of a tool.
    Tool(Tool),
    /// What it has cost so far, in millionths of a dollar.
    Cost(u64),
    /// Something that means nothing here, by its name.
    Other(String),
    /// It is no line of the protocol.
    Unreadable(String),
}

/// What it answers, as far as that matters here: each request has its own part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Which version of the protocol it speaks.
    pub version: Option<u64>,
    /// Its name and version.
    pub agent: Option<String>,
    /// Whether it can go on with a session of before.
    pub loads: bool,
    /// The name of its session.
    pub session: Option<String>,
    /// In which of its ways it works, and which there are.
    pub modes: Option<Modes>,
    /// Why its turn is over.
    pub stop: Option<String>,
    /// Tokens that the turn has read and written.
    pub tokens: [u64; 2],
}

/// Ways in which it works: what it asks for, say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// The present one.
    pub current: String,
    /// All of them.
    pub all: Vec<String>,
}

/// It wants to know whether it may do something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Question {
    /// The name of the question, as JSON.
    pub request: String,
    /// What is to be done.
    pub tool: Tool,
    /// What can be answered.
    pub choices: Vec<Choice>,
}

/// What can be answered to a question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choice {
    /// Its name.
    pub id: String,
    /// What it means: `allow_once`, `allow_always`, `reject_once`, `reject_always`.
    pub kind: String,
}

/// The use of a tool, as far as something was said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub id: String,
    /// What it does, for people.
    pub title: Option<String>,
    /// What kind of thing that is: `read`, `edit`, `execute`.
    pub kind: Option<String>,
    /// `pending`, `in_progress`, `completed`, `failed`.
    pub status: Option<String>,
    /// Files that it is about.
    pub paths: Vec<String>,
    /// Changes of files: what each was, and is to be.
    pub changes: Vec<Change>,
}

/// A change of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Change {
    /// Which file.
    pub path: String,
    /// What stood there.
    pub old: String,
    /// What stands there then.
    pub new: String,
}

/// Reads a line, which may end in a newline.
#[must_use]
pub fn line(text: &str) -> Line {
    let it: Value = match serde_json::from_str(text) {
        Ok(it @ Value::Object(_)) => it,
        Ok(_) => return Line::Unreadable("it is no object".to_string()),
        Err(error) => return Line::Unreadable(error.to_string()),
    };
    let method = text_at(&it, "/method");
    match (it.get("id").filter(|id| !id.is_null()), method.as_str()) {
        (Some(id), "") => Line::Answered { request: plain(id), answer: answered(&it) },
        (Some(id), "session/request_permission") => Line::Asks(question(id, &it)),
        (Some(id), _) => Line::Wants { request: id.to_string(), method },
        (None, "session/update") => update(it.pointer("/params/update").unwrap_or(&Value::Null)),
        (None, _) => Line::Other(method),
    }
}

fn update(it: &Value) -> Line {
    let what = text_at(it, "/sessionUpdate");
    match what.as_str() {
        "agent_message_chunk" => Line::Text(text_at(it, "/content/text")),
        "tool_call" | "tool_call_update" => Line::Tool(tool(it)),
        "usage_update" => match it.pointer("/cost/amount").and_then(Value::as_f64) {
            Some(amount) if text_at(it, "/cost/currency") == "USD" => Line::Cost((amount.max(0.0) * 1e6) as u64),
            Some(_) | None => Line::Other(what),
        },
        _ => Line::Other(what),
    }
}

fn question(id: &Value, it: &Value) -> Question {
    let choices = list(it, "/params/options")
        .iter()
        .map(|option| Choice { id: text_at(option, "/optionId"), kind: text_at(option, "/kind") });
    let tool = it.pointer("/params/toolCall").map(tool).unwrap_or_default();
    Question { request: id.to_string(), tool, choices: choices.collect() }
}

fn tool(it: &Value) -> Tool {
    let may = |field: &str| it.get(field).and_then(Value::as_str).map(ToString::to_string);
    let changes = list(it, "/content").iter().filter(|content| text_at(content, "/type") == "diff").map(|diff| {
        Change { path: text_at(diff, "/path"), old: text_at(diff, "/oldText"), new: text_at(diff, "/newText") }
    });
    let changes: Vec<Change> = changes.collect();
    let located = list(it, "/locations").iter().map(|place| text_at(place, "/path"));
    let paths = located.chain(changes.iter().map(|change| change.path.clone())).collect();
    let (title, kind, status) = (may("title"), may("kind"), may("status"));
    Tool { id: text_at(it, "/toolCallId"), title, kind, status, paths, changes }
}

/// Tokens that it has read: new ones, and such as its model knew before, which are most of them.
const READ: [&str; 3] = ["/usage/inputTokens", "/usage/cachedWriteTokens", "/usage/cachedReadTokens"];

fn answered(it: &Value) -> Result<Answer, String> {
    if let Some(error) = it.get("error") {
        let (why, more) = (text_at(error, "/message"), text_at(error, "/data/details"));
        let why = if why.is_empty() { "it does not say why".to_string() } else { why };
        return Err(if more.is_empty() { why } else { why + ": " + &more });
    }
    let it = it.get("result").unwrap_or(&Value::Null);
    let may = |place: &str| Some(text_at(it, place)).filter(|text| !text.is_empty());
    let number = |place: &str| it.pointer(place).and_then(Value::as_u64);
    let name = may("/agentInfo/title").or_else(|| may("/agentInfo/name"));
    let version = may("/agentInfo/version").map(|version| String::from(" ") + &version).unwrap_or_default();
    let ids = list(it, "/modes/availableModes").iter().map(|mode| text_at(mode, "/id")).collect();
    Ok(Answer {
        version: number("/protocolVersion"),
        agent: name.map(|name| name + &version),
        loads: it.pointer("/agentCapabilities/loadSession").and_then(Value::as_bool) == Some(true),
        session: may("/sessionId"),
        modes: may("/modes/currentModeId").map(|current| Modes { current, all: ids }),
        stop: may("/stopReason"),
        tokens: [
            READ.iter().filter_map(|kind| number(kind)).fold(0, u64::saturating_add),
            number("/usage/outputTokens").unwrap_or_default(),
        ],
    })
}

/// A name of ours is a text; whatever else comes back is none of ours.
fn plain(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), ToString::to_string)
}

fn text_at(it: &Value, place: &str) -> String {
    it.pointer(place).and_then(Value::as_str).unwrap_or_default().to_string()
}

fn list<'a>(it: &'a Value, place: &str) -> &'a [Value] {
    it.pointer(place).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
