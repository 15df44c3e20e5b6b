//! What is said to an agent, a line at a time.

use alloc::string::{String, ToString};

use serde_json::{Value, json};

use crate::agent::{TOOLS, TOOLS_WORD, Tools};

/// Something that it is asked. It answers under the name that the request is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Which version it speaks, and what it can do.
    Initialize,
    /// A session in this folder.
    New {
        /// The worktree.
        folder: &'a str,
        /// What offers it tools to lead subtasks by.
        tools: Option<&'a Tools>,
    },
    /// A session of before is gone on with, in this folder.
    Load {
        /// Its name.
        session: &'a str,
        /// The worktree.
        folder: &'a str,
        /// What offers it tools to lead subtasks by.
        tools: Option<&'a Tools>,
    },
    /// It works in another way from now on.
    Mode {
        /// Its session.
        session: &'a str,
        /// Which of its ways.
        mode: &'a str,
    },
    /// A user says this, and a turn begins.
    Prompt {
        /// Its session.
        session: &'a str,
        /// What is said.
        text: &'a str,
    },
}

/// Something that is asked of the agent, under a name of the asker's.
#[must_use]
pub fn request(name: &str, request: Request<'_>) -> String {
    let (method, params) = match request {
        Request::Initialize => {
            let capabilities = json!({ "fs": { "readTextFile": false, "writeTextFile": false }, "terminal": false });
            let client = json!({ "name": "makima", "version": env!("CARGO_PKG_VERSION") });
            ("initialize", json!({ "protocolVersion": 1, "clientCapabilities": capabilities, "clientInfo": client }))
        }
        Request::New { folder, tools } => ("session/new", json!({ "cwd": folder, "mcpServers": servers(tools) })),
        Request::Load { session, folder, tools } => {
            ("session/load", json!({ "sessionId": session, "cwd": folder, "mcpServers": servers(tools) }))
        }
        Request::Mode { session, mode } => ("session/set_mode", json!({ "sessionId": session, "modeId": mode })),
        Request::Prompt { session, text } => {
            ("session/prompt", json!({ "sessionId": session, "prompt": [{ "type": "text", "text": text }] }))
        }
    };
    line(&json!({ "jsonrpc": "2.0", "id": name, "method": method, "params": params }))
}

/// Servers of tools that it is to start. Variables that are not named it hands on by itself.
fn servers(tools: Option<&Tools>) -> Value {
    let of = |tools: &Tools| {
        let variable = |(name, value): (&str, String)| json!({ "name": name, "value": value });
        let env: Value = tools.variables().into_iter().map(variable).collect();
        json!({ "name": TOOLS, "command": tools.program, "args": [TOOLS_WORD], "env": env })
    };
    tools.into_iter().map(of).collect()
}

/// The turn is to be broken off.
#[must_use]
pub fn cancel(session: &str) -> String {
    line(&json!({ "jsonrpc": "2.0", "method": "session/cancel", "params": { "sessionId": session } }))
}

/// The answer to a question, whose name is JSON: that choice, or none of them.
#[must_use]
pub fn answer(question: &str, choice: Option<&str>) -> String {
    let outcome = match choice {
        Some(choice) => json!({ "outcome": "selected", "optionId": choice }),
        None => json!({ "outcome": "cancelled" }),
    };
    line(&json!({ "jsonrpc": "2.0", "id": name(question), "result": { "outcome": outcome } }))
}

/// By the codes of JSON-RPC: nothing that we do.
pub const NOT_OFFERED: i32 = -32601;
/// Nothing that could be read.
pub const INVALID: i32 = -32600;

/// What it wants it does not get.
#[must_use]
pub fn refuse(question: &str, code: i32, why: &str) -> String {
    let error = json!({ "code": code, "message": why });
    line(&json!({ "jsonrpc": "2.0", "id": name(question), "error": error }))
}

fn name(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or(Value::Null)
}

/// One line: inside of JSON there is no newline that is not written out.
fn line(it: &Value) -> String {
    let mut line = it.to_string();
    line.push('\n');
    line
}
