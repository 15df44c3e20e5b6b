//! What an agent writes, made for people: of one that tells how it gets on by lines of JSON its text, the tools that it uses
//! and what it has cost; of any other just what it writes.

mod acp;

use console::style;
use makima_core::agent::acp::{Line as AcpLine, line as acp_line};
use makima_core::agent::claude::{Block, Ended, INITIALIZE, Line, dollars, line};
use serde_json::Value;

/// Bytes of a line that is waited for; a longer one is shown as it stands.
const LONGEST: usize = 1 << 20;

/// Lines of a change that are shown.
const CHANGED: usize = 40;

/// What kind of agent it is that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It has said nothing yet by which it could be told.
    Unknown,
    /// It tells how it gets on, as Claude Code does.
    Tells,
    /// The same by the Agent Client Protocol.
    Acp,
    /// It is to be shown as it is.
    Plain,
}

/// Makes text for people of an agent's output, which comes in pieces.
#[derive(Clone, Debug)]
pub(super) struct Renderer {
    kind: Kind,
    /// A line that may be JSON and has not ended.
    held: String,
    acp: acp::Shown,
    /// The folder that it works in: its files are shown as they are called there.
    folder: String,
}

impl Renderer {
    /// `raw`: what it writes is left as it is, whatever that is.
    pub(super) const fn new(raw: bool) -> Self {
        Self {
            kind: if raw { Kind::Plain } else { Kind::Unknown },
            held: String::new(),
            acp: acp::Shown::new(),
            folder: String::new(),
        }
    }

    /// The next piece, as far as it can be shown.
    pub(super) fn take(&mut self, text: &str) -> String {
        let mut shown = String::new();
        for piece in text.split_inclusive('\n') {
            if self.kind == Kind::Plain {
                shown.push_str(piece);
                continue;
            }
            self.held.push_str(piece);
            let may_be_json = self.held.trim_start().starts_with('{') && self.held.len() < LONGEST;
            if may_be_json && !self.held.ends_with('\n') {
                continue;
            }
            let line = std::mem::take(&mut self.held);
            shown.push_str(&if may_be_json { self.line(line) } else { self.acp.after_text(line) });
        }
        shown
    }

    fn inner(&self, shown: &str) -> String {
        if self.folder.len() > 1 { shown.replace(&self.folder, "") } else { shown.to_string() }
    }

    /// What is left of a line that never ended.
    pub(super) fn rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    fn line(&mut self, text: String) -> String {
        if self.kind == Kind::Unknown {
            self.kind = kind_of(&text);
        }
        match self.kind {
            Kind::Tells => {
                let said = line(&text);
                if let Line::Turn(turn) = &said {
                    self.folder = turn.folder.clone() + "/";
                }
                rendered(&said, &text).map(|shown| self.inner(&shown)).unwrap_or(text)
            }
            Kind::Acp => self.acp.line(&text).unwrap_or(text),
            Kind::Plain | Kind::Unknown => text,
        }
    }
}

/// The line tells that answers the first that an agent is told, whenever that comes: what is run before an agent may write JSON
/// as well.
fn kind_of(text: &str) -> Kind {
    let is_first = |name: &str| name == INITIALIZE;
    match (line(text), acp_line(text)) {
        (Line::Answered { request, .. }, _) if is_first(&request) => Kind::Tells,
        (_, AcpLine::Answered { request, .. }) if is_first(&request) => Kind::Acp,
        _ => Kind::Unknown,
    }
}

/// A line of JSON for people; none where it is none of the agent's.
fn rendered(said: &Line, text: &str) -> Option<String> {
    if let Line::Unreadable(_) = said {
        return None;
    }
    Some(if let Line::Reply(reply) = said {
        let deeper = if reply.inside.is_some() { "  " } else { "" };
        reply.blocks.iter().map(|part| block(part, text, deeper)).collect()
    } else if let Line::Ended(ended) = said {
        summed_up(ended)
    } else {
        String::new()
    })
}

fn block(part: &Block, text: &str, deeper: &str) -> String {
    match part {
        Block::Text(words) if words.trim().is_empty() => String::new(),
        Block::Text(words) => format!("{deeper}{}\n", words.trim()),
        Block::Tool { id, name, about } => {
            let head = style(format!("{deeper}● {name}")).cyan();
            let about = if about.is_empty() { String::new() } else { format!(" {about}") };
            format!("{head}{about}\n{}", change(text, id, deeper))
        }
        Block::Other => String::new(),
    }
}

/// What the use of a tool changes in a file, where it says so.
fn change(text: &str, id: &str, deeper: &str) -> String {
    let line: Value = serde_json::from_str(text).unwrap_or_default();
    let blocks = line.pointer("/message/content").and_then(Value::as_array);
    let of_use = |block: &&Value| block.get("id").and_then(Value::as_str) == Some(id);
    let Some(input) = blocks.into_iter().flatten().find(of_use).and_then(|block| block.get("input")) else {
        return String::new();
    };
    let text = |field: &str| input.get(field).and_then(Value::as_str).unwrap_or_default();
    changed(text("old_string"), &[text("new_string"), text("content")], deeper)
}

/// What goes, and what comes.
fn changed(old: &str, new: &[&str], deeper: &str) -> String {
    let gone = old.lines().map(|line| style(format!("{deeper}  - {line}")).red().to_string());
    let come = new.iter().flat_map(|text| text.lines());
    let come = come.map(|line| style(format!("{deeper}  + {line}")).green().to_string());
    let all: Vec<String> = gone.chain(come).collect();
    let more = all.len().saturating_sub(CHANGED);
    let mut shown: String = all.into_iter().take(CHANGED).map(|line| line + "\n").collect();
    if more > 0 {
        shown.push_str(&format!("{deeper}  … {more} more lines\n"));
    }
    shown
}

fn summed_up(ended: &Ended) -> String {
    let [read, written] = ended.tokens;
    let cost = ended.cost.map(|cost| format!("{}, ", dollars(cost))).unwrap_or_default();
    let sum = style(format!("— {cost}{read} tokens read, {written} written\n")).dim().to_string();
    match ended.error() {
        Some(why) => format!("{}\n{sum}", style(format!("✗ {why}")).red()),
        None => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str =
        "{\"type\":\"control_response\",\"response\":{\"subtype\":\"success\",\"request_id\":\"makima-initialize\"}}\n";

    fn shown(pieces: &[&str]) -> String {
        let mut renderer = Renderer::new(false);
        let mut shown: String = pieces.iter().map(|piece| renderer.take(piece)).collect();
        shown.push_str(&renderer.rest());
        shown
    }

    /// Protects scripts: what they write is shown as it is and when it comes, JSON too.
    #[test]
    fn what_a_script_writes_is_left_as_it_is() {
        let mut renderer = Renderer::new(false);
        assert_eq!(renderer.take("half a li"), "half a li");
        assert_eq!(renderer.take("ne\n{\"a\":"), "ne\n");
        assert_eq!(renderer.take("1}\n{\"b\":"), "{\"a\":1}\n");
        assert_eq!(renderer.rest(), "{\"b\":");
        assert_eq!(shown(&["{\"type\":\"result\"}\n", "{"]), "{\"type\":\"result\"}\n{");
    }

    /// Protects people from an agent's own lines, where what sets its worktree up writes one of JSON before the agent begins.
    #[test]
    fn an_agent_is_known_by_its_own_line_however_late_that_comes() {
        let text = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"I will."}]}}"#;
        assert_eq!(shown(&["{\"installed\":3}\n", "done\n", READY, text, "\n"]), "{\"installed\":3}\ndone\nI will.\n");
        let acp = "{\"jsonrpc\":\"2.0\",\"id\":\"makima-initialize\",\"result\":{\"protocolVersion\":1}}\n";
        assert_eq!(shown(&["{\"installed\":3}\n", acp]), "{\"installed\":3}\n");
    }

    #[test]
    fn an_agents_text_tools_changes_and_cost_are_shown() {
        let begun = r#"{"type":"system","subtype":"init","cwd":"/w"}"#;
        let text = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"I will.\n"}]}}"#;
        let tool = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"t","name":"Edit","input":{"file_path":"/w/a.rs","old_string":"one\ntwo","new_string":"three"}}]}}"#;
        let end = r#"{"type":"result","subtype":"success","is_error":false,"result":"I will.","total_cost_usd":0.25,"usage":{"input_tokens":3,"output_tokens":4}}"#;
        let (first, second) = READY.split_at(20);
        let pieces = [first, second, "warning: on stderr\n", begun, "\n", text, "\n", tool, "\n", end, "\n"];
        assert_eq!(
            shown(&pieces),
            "warning: on stderr\nI will.\n● Edit a.rs\n  - one\n  - two\n  + three\n— $0.2500, 3 tokens read, 4 written\n"
        );
    }

    #[test]
    fn a_failure_says_why_and_what_is_unknown_says_nothing() {
        let other = r#"{"type":"system","subtype":"status"}"#;
        let end = r#"{"type":"result","subtype":"success","is_error":true,"result":"Not logged in"}"#;
        let text = shown(&[READY, other, "\n", end, "\n{ no json\n"]);
        assert_eq!(text, "✗ Not logged in\n— 0 tokens read, 0 written\n{ no json\n");
    }

    /// Protects a terminal from a file of ten thousand lines.
    #[test]
    fn of_a_large_change_a_part_is_shown() {
        let content = "x\\n".repeat(CHANGED + 5);
        let tool = format!(
            r#"{{"type":"assistant","message":{{"content":[{{"type":"tool_use","id":"t","name":"Write","input":{{"file_path":"a","content":"{content}"}}}}]}}}}"#
        );
        let text = shown(&[READY, &tool, "\n"]);
        assert_eq!(text.lines().count(), CHANGED + 2);
        assert!(text.ends_with("  … 5 more lines\n"), "{text}");
    }
}
