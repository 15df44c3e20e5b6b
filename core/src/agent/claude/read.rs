//! What Claude Code says, a line at a time.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::time::Millis;

/// What a line of its standard output says. Fields that are not there, or are of another kind than they were, are left
/// out: two versions of it differ in more than they share with a third.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A turn begins: it says who it is at the start of each, not once.
    Turn(Turn),
    /// A part of a reply that is complete.
    Reply(Reply),
    /// Tools have come to an end.
    Tools(Vec<ToolEnd>),
    /// A user's message goes into the conversation now.
    TakenUp {
        /// The name that the message was given.
        message: String,
    },
    /// How far a user's message has come.
    Message {
        /// The name that it was given.
        message: String,
        /// How far.
        state: MessageState,
    },
    /// A turn is over.
    Ended(Ended),
    /// The model could not be reached, or would not answer; it is tried again.
    Retry(Retry),
    /// It wants to know whether a tool may be used.
    Asks(Question),
    /// It wants something else of us.
    Wants {
        /// The name that it gave it.
        request: String,
        /// What.
        what: String,
    },
    /// It does not want to know that any more.
    AsksNoMore {
        /// Which question.
        request: String,
    },
    /// Something that it was asked is done, or is not.
    Answered {
        /// What it was.
        request: String,
        /// Why it was not done.
        error: Option<String>,
        /// Users' messages that still wait, where it was an interrupt.
        queued: Vec<String>,
    },
    /// How it stands with what the user may use of the model.
    Limit {
        /// When that is reached: until when nothing is answered, in seconds since 1970. None where all is well.
        until: Option<u64>,
    },
    /// These run behind the conversation, and no others.
    Background {
        /// Their names.
        running: Vec<String>,
    },
    /// A command, or an agent of its own, has begun that may run behind the conversation.
    JobBegun {
        /// Its name.
        job: String,
        /// The use of a tool that began it.
        tool: String,
        /// Whether it runs behind the conversation, where it says so.
        behind: Option<bool>,
    },
    /// It has ended.
    JobEnded {
        /// Its name.
        job: String,
    },
    /// A tool was not allowed, and nobody was asked.
    Denied {
        /// Which tool.
        tool: String,
        /// In its own words.
        why: String,
    },
    /// Another model answers from here on.
    OtherModel {
        /// Which.
        model: String,
        /// In its own words.
        why: String,
    },
    /// The conversation so far is forgotten.
    Reset,
    /// Something else: what it calls it.
    Other(String),
    /// No object of JSON.
    Unreadable(String),
}

/// Who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Its own name of the conversation, under which that can be gone on with.
    pub session: String,
    /// The model that answers.
    pub model: String,
    /// What it may do unasked, in its own words.
    pub permissions: String,
    /// The folder that it works in.
    pub folder: String,
    /// Its version, where it says so.
    pub version: Option<String>,
    /// Tool servers that it was given and that do not work.
    pub broken_servers: Vec<String>,
}

/// A part of a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// What is in it.
    pub blocks: Vec<Block>,
    /// The tool in which another agent of its own says it.
    pub inside: Option<String>,
    /// It was cut off.
    pub cut: bool,
    /// It is no reply, but tells why there is none: in a word of the program's.
    pub failed: Option<String>,
    /// The users' messages that it answers.
    pub of: Vec<String>,
}

/// What a part of a reply is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// Text for people.
    Text(String),
    /// A tool is used.
    Tool {
        /// The name of this use.
        id: String,
        /// Which tool.
        name: String,
        /// What it is used for, in a few words.
        about: String,
    },
    /// Thoughts, or something else that is not for people.
    Other,
}

/// A tool has come to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolEnd {
    /// The use.
    pub id: String,
    /// Whether it failed, was denied, or was broken off.
    pub failed: bool,
}

/// How far a user's message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// It waits for the turn to end.
    Queued,
    /// It is in the conversation.
    Started,
    /// It is answered, also if that was long ago.
    Completed,
    /// It was taken back.
    Cancelled,
}

/// How a turn went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Whether it went well. What it calls a success may be none.
    pub success: bool,
    /// The last that it said, or why it failed.
    pub text: Option<String>,
    /// How it came to its end, in its own words.
    pub reason: Option<String>,
    /// What the API answered, where that was the reason.
    pub status: Option<u16>,
    /// What the conversation has cost so far, in millionths of a dollar.
    pub cost: Option<u64>,
    /// Tokens read and written in this turn.
    pub tokens: [u64; 2],
    /// Uses of tools that were denied.
    pub denials: usize,
    /// Nobody asked for this turn: a command behind the conversation came to its end.
    pub unasked: bool,
    /// The users' messages that it answers.
    pub of: Vec<String>,
}

/// Another attempt is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// The how manieth.
    pub attempt: u64,
    /// Of so many at most.
    pub most: u64,
    /// When, from now.
    pub after: Millis,
    /// What the API answered; none where there was no answer.
    pub status: Option<u16>,
}

/// It wants to know whether a tool may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Question {
    /// The name of the question.
    pub request: String,
    /// Which tool.
    pub tool: String,
    /// The name of the use of it.
    pub of_use: String,
    /// What it is to be used for, in a few words.
    pub about: String,
    /// What it is to be used with, as JSON.
    pub input: String,
    /// It is a question to a person, with answers to choose from: the tool is only how it is asked.
    pub for_a_person: bool,
}

impl Ended {
    /// Why the turn failed, for people. None where it did not.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        if self.success {
            return None;
        }
        let why = self.text.as_deref().or(self.reason.as_deref()).unwrap_or(UNSAID);
        Some(match self.status {
            Some(status) => format!("{why} (the API answered {status})"),
            None => why.to_string(),
        })
    }
}

/// Why something failed, where it does not say so.
const UNSAID: &str = "the agent did not say why";

/// The tool by which people are asked.
const ASK: &str = "AskUserQuestion";

/// Letters of a tool's input that are shown, at most.
const ABOUT: usize = 120;

/// Reads a line, which may end in a newline.
#[must_use]
pub fn line(text: &str) -> Line {
    let it: Value = match serde_json::from_str(text) {
        Ok(it @ Value::Object(_)) => it,
        Ok(_) => return Line::Unreadable("it is no object".to_string()),
        Err(error) => return Line::Unreadable(error.to_string()),
    };
    let (kind, of) = (text_at(&it, "type"), text_at(&it, "subtype"));
    match (kind.as_str(), of.as_str()) {
        ("system", "init") => Line::Turn(turn(&it)),
        ("system", "api_retry") => Line::Retry(retry(&it)),
        ("rate_limit_event", _) => Line::Limit { until: limit(&it) },
        ("system", "background_tasks_changed") => {
            Line::Background { running: list(&it, "tasks").iter().map(|job| text_at(job, "task_id")).collect() }
        }
        ("system", "task_started") => Line::JobBegun {
            job: text_at(&it, "task_id"),
            tool: text_at(&it, "tool_use_id"),
            behind: it.get("is_backgrounded").and_then(Value::as_bool),
        },
        ("system", "task_notification") => Line::JobEnded { job: text_at(&it, "task_id") },
        ("system", "permission_denied") => {
            Line::Denied { tool: text_at(&it, "tool_name"), why: text_at(&it, "message") }
        }
        ("system", "model_fallback") => {
            Line::OtherModel { model: text_at(&it, "fallback_model"), why: text_at(&it, "content") }
        }
        ("assistant", _) => Line::Reply(reply(&it)),
        ("user", _) => user(&it),
        ("result", _) => Line::Ended(ended(&it)),
        ("command_lifecycle", _) => message(&it),
        ("control_request", _) => question(&it, text),
        ("control_cancel_request", _) => Line::AsksNoMore { request: text_at(&it, "request_id") },
        ("control_response", _) => answered(&it),
        ("conversation_reset", _) => Line::Reset,
        _ => other(&it),
    }
}

fn turn(it: &Value) -> Turn {
    let broken = |server: &&Value| text_at(server, "status") == "failed";
    Turn {
        session: text_at(it, "session_id"),
        model: text_at(it, "model"),
        permissions: text_at(it, "permissionMode"),
        folder: text_at(it, "cwd"),
        version: may(it, "claude_code_version"),
        broken_servers: list(it, "mcp_servers").iter().filter(broken).map(|server| text_at(server, "name")).collect(),
    }
}

fn retry(it: &Value) -> Retry {
    Retry {
        attempt: number(it, "attempt"),
        most: number(it, "max_retries"),
        after: Millis(number(it, "retry_delay_ms")),
        status: status(it, "error_status"),
    }
}

fn reply(it: &Value) -> Reply {
    let message = it.get("message").unwrap_or(&Value::Null);
    Reply {
        // A text alone is a block.
        blocks: match may(message, "content") {
            Some(text) => Vec::from([Block::Text(text)]),
            None => list(message, "content").iter().map(block).collect(),
        },
        inside: may(it, "parent_tool_use_id"),
        cut: flag(it, "aborted"),
        failed: may(it, "error").or_else(|| flag(it, "is_api_error_message").then(String::new)),
        of: texts(it, "user_message_uuids"),
    }
}

fn block(it: &Value) -> Block {
    match text_at(it, "type").as_str() {
        "text" => Block::Text(text_at(it, "text")),
        "tool_use" => Block::Tool {
            id: text_at(it, "id"),
            name: text_at(it, "name"),
            about: it.get("input").map(about).unwrap_or_default(),
        },
        _ => Block::Other,
    }
}

/// What a tool is used for: what says it best of its input, in one line.
fn about(input: &Value) -> String {
    const BEST: [&str; 8] = ["command", "file_path", "path", "pattern", "url", "query", "description", "prompt"];
    let nothing = input.as_object().is_some_and(serde_json::Map::is_empty);
    let whole = || if nothing { String::new() } else { input.to_string() };
    let said = BEST.iter().find_map(|key| may(input, key)).unwrap_or_else(whole);
    let line: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    crate::policy::cut(line.trim(), ABOUT)
}

fn user(it: &Value) -> Line {
    if flag(it, "isReplay") {
        return Line::TakenUp { message: text_at(it, "uuid") };
    }
    let blocks = list(it.get("message").unwrap_or(&Value::Null), "content").iter();
    let ends: Vec<ToolEnd> = blocks
        .filter(|block| text_at(block, "type") == "tool_result")
        .map(|block| ToolEnd { id: text_at(block, "tool_use_id"), failed: flag(block, "is_error") })
        .collect();
    if ends.is_empty() { other(it) } else { Line::Tools(ends) }
}

fn message(it: &Value) -> Line {
    let state = match text_at(it, "state").as_str() {
        "queued" => MessageState::Queued,
        "started" => MessageState::Started,
        "completed" => MessageState::Completed,
        "cancelled" => MessageState::Cancelled,
        _ => return other(it),
    };
    Line::Message { message: text_at(it, "command_uuid"), state }
}

/// Tokens that it has read: new ones, and such as its model knew before, which are most of them.
const READ: [&str; 3] = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];

fn ended(it: &Value) -> Ended {
    let success = text_at(it, "subtype") == "success" && !flag(it, "is_error");
    let errors = texts(it, "errors").join("; ");
    let usage = it.get("usage").unwrap_or(&Value::Null);
    Ended {
        success,
        text: may(it, "result").or((!errors.is_empty()).then_some(errors)),
        reason: may(it, "terminal_reason").or_else(|| may(it, "subtype").filter(|subtype| subtype != "success")),
        status: status(it, "api_error_status"),
        cost: it.get("total_cost_usd").and_then(Value::as_f64).map(millionths),
        tokens: [
            READ.iter().map(|kind| number(usage, kind)).fold(0, u64::saturating_add),
            number(usage, "output_tokens"),
        ],
        denials: list(it, "permission_denials").len(),
        unasked: it.pointer("/origin/kind").and_then(Value::as_str) == Some("task-notification"),
        of: texts(it, "user_message_uuids"),
    }
}

/// Of a dollar; what no sum can be is none, or as much as there can be.
fn millionths(dollars: f64) -> u64 {
    // The conversion saturates, and takes what is no number for 0.
    (dollars * 1e6 + 0.5) as u64
}

/// The input of a tool as it stands there: numbers too great for this reader go back as they came.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    request: Input<'a>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

fn limit(it: &Value) -> Option<u64> {
    let info = it.get("rate_limit_info").filter(|info| text_at(info, "status") == "rejected")?;
    info.get("resetsAt").and_then(Value::as_u64)
}

fn question(it: &Value, text: &str) -> Line {
    let Some(request) = it.get("request").filter(|request| text_at(request, "subtype") == "can_use_tool") else {
        let what = it.get("request").map(|request| text_at(request, "subtype")).unwrap_or_default();
        return Line::Wants { request: text_at(it, "request_id"), what };
    };
    let input = serde_json::from_str::<Asked<'_>>(text).ok().and_then(|asked| asked.request.input);
    let tool = text_at(request, "tool_name");
    Line::Asks(Question {
        request: text_at(it, "request_id"),
        about: request.get("input").map(about).unwrap_or_default(),
        input: input.map_or("{}", RawValue::get).to_string(),
        for_a_person: tool == ASK || flag(request, "requires_user_interaction"),
        of_use: text_at(request, "tool_use_id"),
        tool,
    })
}

fn answered(it: &Value) -> Line {
    let response = it.get("response").unwrap_or(&Value::Null);
    let failed = text_at(response, "subtype") == "error";
    let why = || may(response, "error").unwrap_or_else(|| UNSAID.to_string());
    Line::Answered {
        request: text_at(response, "request_id"),
        error: failed.then(why),
        queued: response.get("response").map(|body| texts(body, "still_queued")).unwrap_or_default(),
    }
}

fn other(it: &Value) -> Line {
    let kinds = [may(it, "type"), may(it, "subtype")];
    Line::Other(kinds.into_iter().flatten().filter(|kind| !kind.is_empty()).collect::<Vec<_>>().join("/"))
}

fn may(it: &Value, key: &str) -> Option<String> {
    it.get(key).and_then(Value::as_str).map(ToString::to_string)
}

fn text_at(it: &Value, key: &str) -> String {
    may(it, key).unwrap_or_default()
}

fn flag(it: &Value, key: &str) -> bool {
    it.get(key).and_then(Value::as_bool).unwrap_or_default()
}

/// A number of something that there is no part of; older versions say parts of milliseconds.
fn number(it: &Value, key: &str) -> u64 {
    let value = it.get(key);
    // The conversion saturates, and takes what is no number for 0.
    let part = || value.and_then(Value::as_f64).map(|number| (number + 0.5) as u64);
    value.and_then(Value::as_u64).or_else(part).unwrap_or_default()
}

fn status(it: &Value, key: &str) -> Option<u16> {
    it.get(key).and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok())
}

fn list<'a>(it: &'a Value, key: &str) -> &'a [Value] {
    it.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn texts(it: &Value, key: &str) -> Vec<String> {
    list(it, key).iter().filter_map(Value::as_str).map(ToString::to_string).collect()
}
