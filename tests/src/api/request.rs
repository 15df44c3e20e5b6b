//! What was asked.

use std::collections::BTreeSet;

use serde_json::Value;

use super::http::Head;

/// One of these tells a main loop.
const MAIN_TOOLS: [&str; 8] = ["Bash", "Edit", "Write", "Read", "bash", "edit", "write", "read"];

/// Side requests that keep the tools of the main loop, for its prompt cache, begin with one of these.
const SIDE_TEXTS: [&str; 3] =
    ["[SUGGESTION MODE", "CRITICAL: Respond with TEXT ONLY", "Your task is to create a detailed summary"];

/// In front of each message that came while the agent worked, in a text of its own.
const STEERED: &str = "The user sent a new message while you were working:\n";

/// Behind such a message: what the agent says of it, in one version or another.
const STEERED_END: [&str; 2] = ["\n\nThis is how Claude Code", "\n\nIMPORTANT: After"];

/// What an agent adds to the user's words.
const REMINDER: &str = "<system-reminder>";

/// In front of the working directory, in a line of the system prompt or of a reminder.
const DIRECTORY: [&str; 2] = ["Primary working directory: ", "Working directory: "];

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The agent's own loop, or a subagent's: it has the tools to work with.
    Main,
    /// A title, a summary, a probe: without tools, for one token, with a tool or a format that is prescribed.
    Side,
}

/// What has answered a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The turn of this index.
    Turn(usize),
    /// The script's fallback: no turn was left that suits.
    Fallback,
    /// The script's answer to side requests.
    Side,
    /// A 401: the key is another one.
    Refused,
}

/// How an answer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it is sent.
    Whole,
    /// It was an HTTP error.
    Error,
    /// By an `error` event.
    StreamError,
    /// The connection was cut.
    Cut,
    /// The client did not wait for the rest, or the server was stopped.
    Gone,
}

/// What a tool has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// The call that it is of.
    pub id: String,
    /// Its words.
    pub text: String,
    /// Whether it went wrong.
    pub is_error: bool,
}

/// A `POST` to `/v1/messages`.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it is for.
    pub kind: Kind,
    /// What answers it.
    pub answer: Answer,
    /// The model that is asked for.
    pub model: String,
    /// The agent's session, where it tells.
    pub session: Option<String>,
    /// How often the client has tried before, where it tells.
    pub retry: Option<u32>,
    /// Whether the answer is streamed.
    pub is_streamed: bool,
    /// The working directory, where the system prompt or a reminder names it.
    pub cwd: Option<String>,
    /// Names of the tools.
    pub tools: BTreeSet<String>,
    /// The system prompt.
    pub system: String,
    /// The field `messages`.
    pub messages: Value,
    /// Deltas of the answer that are sent.
    pub deltas: usize,
    /// How the answer has ended, once it has.
    pub end: Option<End>,
}

impl Request {
    pub(super) fn new(head: &Head, body: &Value) -> Self {
        let (kind, messages) = (kind_of(body), body["messages"].clone());
        let system = texts(&body["system"]).join("\n");
        let names = items(&body["tools"]).filter_map(|tool| tool["name"].as_str());
        Self {
            kind,
            answer: Answer::Fallback,
            model: body["model"].as_str().unwrap_or_default().to_owned(),
            session: head.field("x-claude-code-session-id").map(str::to_owned).or_else(|| session_of(body)),
            retry: head.field("x-stainless-retry-count").and_then(|count| count.parse().ok()),
            is_streamed: body["stream"] == true,
            cwd: directory(&system, &messages),
            tools: names.map(str::to_owned).collect(),
            system,
            messages,
            deltas: 0,
            end: None,
        }
    }

    /// All that the user has said, oldest first, without line ends behind it: prompts, and what was sent while the agent
    /// worked. Reminders, which the agent puts in front of a prompt, and results of tools are left out. Messages that
    /// waited for the same turn may be one text.
    #[must_use]
    pub fn user_texts(&self) -> Vec<String> {
        let own = items(&self.messages).flat_map(own_texts);
        own.flat_map(|(role, text)| said(role, text)).map(str::to_owned).collect()
    }

    /// How often the user has said this in the conversation: how many times a message has been taken up.
    #[must_use]
    pub fn times_said(&self, part: &str) -> usize {
        self.user_texts().iter().map(|text| text.matches(part).count()).sum()
    }

    /// All results of tools, oldest first.
    #[must_use]
    pub fn tool_results(&self) -> Vec<ToolResult> {
        let all = items(&self.messages).flat_map(|message| items(&message["content"]));
        let results = all.filter(|block| block["type"] == "tool_result");
        let read = |block: &Value| ToolResult {
            id: block["tool_use_id"].as_str().unwrap_or_default().to_owned(),
            text: texts(&block["content"]).join("\n"),
            is_error: block["is_error"] == true,
        };
        results.map(read).collect()
    }

    /// What came behind the last answer, and is to be reacted to: words of the user and results of tools, without what
    /// the agent adds to them. Where that is all there is, it is that: so the end of a background task is told.
    #[must_use]
    pub fn newest_text(&self) -> String {
        let newest = newest(&self.messages);
        let said: Vec<&str> = newest.iter().flat_map(|(role, text)| said(role, text)).collect();
        let all = newest.iter().map(|(_, text)| *text);
        if said.is_empty() { all.collect::<Vec<_>>().join("\n") } else { said.join("\n") }
    }
}

/// What a text has of the user.
fn said<'a>(role: &str, text: &'a str) -> Vec<&'a str> {
    if role == "user" && !text.starts_with(REMINDER) {
        return vec![text.trim_end_matches('\n')];
    }
    let end = |text: &'a str| STEERED_END.iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
    let steered = text.split(STEERED).skip(1);
    steered.map(|text| text.get(..end(text)).unwrap_or(text).trim_end()).collect()
}

/// Tells by the shape, and never by the model's name. A prescribed format is not looked at: with the tools of a main loop
/// it makes no side request, and without them it is one anyway.
fn kind_of(body: &Value) -> Kind {
    let tools: Vec<&str> = items(&body["tools"]).filter_map(|tool| tool["name"].as_str()).collect();
    let newest: Vec<&str> = newest(&body["messages"]).into_iter().map(|(_, text)| text).collect();
    let begin = newest.join("\n").trim_start().to_owned();
    let is_side = SIDE_TEXTS.iter().any(|text| begin.starts_with(text))
        || body["max_tokens"] == 1
        || body["tool_choice"]["type"] == "tool"
        || !tools.iter().any(|name| MAIN_TOOLS.contains(name));
    if is_side { Kind::Side } else { Kind::Main }
}

/// The session in the metadata: its user is a text that is itself JSON.
fn session_of(body: &Value) -> Option<String> {
    let user: Value = serde_json::from_str(body["metadata"]["user_id"].as_str()?).ok()?;
    Some(user["session_id"].as_str()?.to_owned())
}

/// The working directory that was named last: in the system prompt, or in what else the agent says by itself.
fn directory(system: &str, messages: &Value) -> Option<String> {
    let mut found = None;
    let mut look = |text: &str| {
        for line in text.lines() {
            let line = line.trim().trim_start_matches("- ");
            let named = DIRECTORY.iter().find_map(|begin| line.strip_prefix(begin));
            found = named.map(|path| current(path).to_owned()).or(found.take());
        }
    };
    look(system);
    for message in items(messages) {
        let own = own_texts(message).into_iter().filter(|(role, text)| *role == "system" || text.starts_with(REMINDER));
        own.for_each(|(_, text)| look(text));
    }
    found
}

/// The directory as it is now: a session that is resumed in another one is told of both.
fn current(named: &str) -> &str {
    named.strip_suffix(')').and_then(|named| named.split_once(" (was ")).map_or(named, |(now, _)| now).trim()
}

/// Texts behind the last message of the assistant, each with its role.
fn newest(messages: &Value) -> Vec<(&str, &str)> {
    let mut newest = Vec::new();
    for message in items(messages) {
        let role = message["role"].as_str().unwrap_or_default();
        if role == "assistant" {
            newest.clear();
        } else {
            newest.extend(texts(&message["content"]).into_iter().map(|text| (role, text)));
        }
    }
    newest
}

/// A message's texts without results of tools, each with the role; those of the assistant are left out.
fn own_texts(message: &Value) -> Vec<(&str, &str)> {
    let role = message["role"].as_str().unwrap_or_default();
    let own = blocks(&message["content"]).into_iter().filter(|(kind, _)| *kind == "text" && role != "assistant");
    own.flat_map(|(_, texts)| texts).map(|text| (role, text)).collect()
}

/// All texts of a content, with those in results of tools.
fn texts(content: &Value) -> Vec<&str> {
    blocks(content).into_iter().flat_map(|(_, texts)| texts).collect()
}

/// The blocks of a content, each with its type and its texts. A content that is only a text is one block.
fn blocks(content: &Value) -> Vec<(&str, Vec<&str>)> {
    if let Some(text) = content.as_str() {
        return vec![("text", vec![text])];
    }
    items(content).filter_map(block).collect()
}

/// A block's type and texts; of some types nothing is read.
fn block(block: &Value) -> Option<(&str, Vec<&str>)> {
    match block["type"].as_str()? {
        "text" => Some(("text", block["text"].as_str().into_iter().collect())),
        "tool_result" => Some(("tool_result", texts(&block["content"]))),
        _ => None,
    }
}

/// The items of a list; anything else has none.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
