//! What a turn comes to as a message of the API.

use serde_json::{Value, json};

use super::shared::Shared;
use super::{Request, Turn};

/// What stands for the signature of thoughts. No client can check it.
const SIGNATURE: &str = "c2NyaXB0ZWQ=";

/// The whole message with which this turn answers that request.
pub(super) fn message(shared: &Shared, request: &Request, turn: &Turn) -> Value {
    let usual = if turn.tools.is_empty() { "end_turn" } else { "tool_use" };
    let mut usage = json!({
        "input_tokens": 100,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 20,
    });
    for (field, tokens) in &turn.usage {
        usage[field] = tokens.clone();
    }
    json!({
        "id": shared.id("msg"),
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": content(shared, request, turn),
        "stop_reason": turn.stop_reason.as_deref().unwrap_or(usual),
        "stop_sequence": null,
        "usage": usage,
    })
}

/// Its blocks: thinking, words, calls of tools.
fn content(shared: &Shared, request: &Request, turn: &Turn) -> Vec<Value> {
    let cwd = request.cwd.as_deref();
    let mut blocks = Vec::new();
    if !turn.thinking.is_empty() {
        blocks.push(json!({ "type": "thinking", "thinking": turn.thinking, "signature": SIGNATURE }));
    }
    if !turn.text.is_empty() {
        blocks.push(json!({ "type": "text", "text": shared.fill(&turn.text, cwd) }));
    }
    for (name, input) in &turn.tools {
        let input = filled(input, &|text| shared.fill(text, cwd));
        blocks.push(json!({ "type": "tool_use", "id": shared.id("toolu"), "name": name, "input": input }));
    }
    blocks
}

/// A value with all its texts changed like that.
fn filled(value: &Value, fill: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => fill(text).into(),
        Value::Array(items) => items.iter().map(|item| filled(item, fill)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), filled(field, fill))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// The body of an error.
pub(super) fn error(kind: &str, message: &str, id: &str) -> Value {
    json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": id })
}
