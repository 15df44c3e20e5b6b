//! What an agent says by the Agent Client Protocol, made for people.

use std::collections::BTreeMap;

use console::style;
use makima_core::agent::acp::{Answer, INITIALIZE, Line, MODE, SESSION, Tool, line};
use makima_core::agent::claude::dollars;

use super::changed;

/// What has been shown so far.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    /// What it says now is news: before, it repeats a session of before.
    is_news: bool,
    /// Its text ended in the middle of a line.
    open_line: bool,
    tools: BTreeMap<String, Tool>,
    cost: Option<u64>,
}

impl Shown {
    pub(super) const fn new() -> Self {
        Self { is_news: false, open_line: false, tools: BTreeMap::new(), cost: None }
    }

    /// A line for people; none where it is none of the protocol's.
    pub(super) fn line(&mut self, text: &str) -> Option<String> {
        let said = line(text);
        if let Line::Unreadable(_) = said {
            return None;
        }
        if let Line::Answered { request, .. } = &said
            && request == SESSION
        {
            self.is_news = true;
        }
        if let (Line::Text(part), true) = (&said, self.is_news) {
            self.open_line = if part.is_empty() { self.open_line } else { !part.ends_with('\n') };
            return Some(part.clone());
        }
        let shown = match said {
            Line::Tool(news) if self.is_news => self.tool(news),
            Line::Answered { request, answer } if ![INITIALIZE, SESSION, MODE].contains(&request.as_str()) => {
                self.summed_up(answer)
            }
            Line::Cost(cost) => {
                self.cost = Some(cost);
                String::new()
            }
            Line::Answered { .. }
            | Line::Asks(_)
            | Line::Wants { .. }
            | Line::Text(_)
            | Line::Tool(_)
            | Line::Other(_)
            | Line::Unreadable(_) => String::new(),
        };
        Some(self.after_text(shown))
    }

    /// What is shown behind its text, on a line of its own.
    pub(super) fn after_text(&mut self, shown: String) -> String {
        if !shown.is_empty() && std::mem::take(&mut self.open_line) { format!("\n{shown}") } else { shown }
    }

    /// A tool is shown once it has come to its end.
    fn tool(&mut self, news: Tool) -> String {
        let before = self.tools.remove(&news.id).unwrap_or_default();
        let changes = if news.changes.is_empty() { before.changes } else { news.changes };
        let tool = Tool { title: news.title.or(before.title), kind: news.kind.or(before.kind), changes, ..news };
        let failed = match tool.status.as_deref() {
            Some("completed") => "",
            Some("failed") => " ✗",
            _ => {
                self.tools.insert(tool.id.clone(), tool);
                return String::new();
            }
        };
        let head = style(format!("● {}", tool.kind.as_deref().unwrap_or("tool"))).cyan();
        let changes: String = tool.changes.iter().map(|change| changed(&change.old, &[&change.new], "")).collect();
        format!("{head} {}{failed}\n{changes}", tool.title.as_deref().unwrap_or_default())
    }

    fn summed_up(&self, answer: Result<Answer, String>) -> String {
        let cost = self.cost.map(|cost| format!("{}, ", dollars(cost))).unwrap_or_default();
        match answer {
            Ok(Answer { stop, tokens: [read, written], .. }) => {
                let sum = style(format!("— {cost}{read} tokens read, {written} written\n")).dim();
                match stop.as_deref() {
                    Some("end_turn") => sum.to_string(),
                    other => format!("{}\n{sum}", style(format!("✗ {}", other.unwrap_or("it does not say how"))).red()),
                }
            }
            Err(why) => format!("{}\n", style(format!("✗ {why}")).red()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_text_tools_changes_and_end_are_shown() {
        let update =
            |what: &str| format!(r#"{{"jsonrpc":"2.0","method":"session/update","params":{{"update":{what}}}}}"#);
        let chunk = |text: &str| {
            update(&format!(r#"{{"sessionUpdate":"agent_message_chunk","content":{{"type":"text","text":"{text}"}}}}"#))
        };
        let tool = |more: &str| update(&format!(r#"{{"sessionUpdate":"tool_call_update","toolCallId":"t",{more}}}"#));
        let lines = [
            r#"{"jsonrpc":"2.0","id":"makima-initialize","result":{"protocolVersion":1}}"#.to_owned(),
            chunk("long ago"),
            r#"{"jsonrpc":"2.0","id":"makima-session","result":{"sessionId":"s"}}"#.to_owned(),
            chunk("I "),
            chunk("will."),
            tool(r#""title":"a.rs","kind":"edit","content":[{"type":"diff","path":"a.rs","oldText":"one","newText":"two"}]"#),
            tool(r#""status":"completed""#),
            tool(r#""title":"ls","kind":"execute","status":"failed""#),
            update(r#"{"sessionUpdate":"usage_update","cost":{"amount":0.25,"currency":"USD"}}"#),
            r#"{"jsonrpc":"2.0","id":"x","result":{"stopReason":"end_turn","usage":{"inputTokens":3,"outputTokens":4}}}"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":"y","error":{"code":1,"message":"no key"}}"#.to_owned(),
        ];
        let mut shown = Shown::new();
        let text: String = lines.iter().map(|line| shown.line(line).expect("it is one of the protocol")).collect();
        let expected =
            "I will.\n● edit a.rs\n  - one\n  + two\n● execute ls ✗\n— $0.2500, 3 tokens read, 4 written\n✗ no key\n";
        assert_eq!(text, expected);
        assert_eq!(shown.line("{ no json"), None);
    }
}
