//! What the file of a conversation tells: which of the things that were said in it stand there. Claude Code writes down a message
//! as it takes it up: under its name; several at once as one text, under the name of the last; and one that came while a tool
//! was in use beside that.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::agent::Utterance;

/// A line of it, as far as it matters here.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    uuid: Option<String>,
    #[serde(default)]
    message: Option<Message>,
    #[serde(default)]
    attachment: Option<Attachment>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Value,
}

#[derive(Deserialize)]
struct Attachment {
    #[serde(default)]
    source_uuid: Option<String>,
}

/// Adds to `known` the names of those that stand in this line.
pub fn recall(line: &str, said: &[Utterance], known: &mut BTreeSet<Uuid>) {
    // Most lines are none of these, and long.
    if !said.iter().any(|said| line.contains(&said.name.hyphenated().encode_lower(&mut Uuid::encode_buffer())[..])) {
        return;
    }
    let Ok(entry) = serde_json::from_str::<Entry>(line) else { return };
    let place = |name: Option<String>| {
        let name = Uuid::parse_str(&name?).ok()?;
        said.iter().position(|said| said.name == name)
    };
    if let Some(at) = place(entry.attachment.and_then(|attachment| attachment.source_uuid)) {
        known.extend(said.get(at).map(|said| said.name));
    }
    if let (Some(at), "user") = (place(entry.uuid), entry.kind.as_str()) {
        let content = entry.message.map(|message| message.content).unwrap_or_default();
        let from = content.as_str().map_or(at, |text| first_of(text, said, at));
        known.extend(said.iter().take(at.saturating_add(1)).skip(from).map(|said| said.name));
    }
}

/// Whether this line, with its end, is a part of what was said; so is one that cannot be read. A conversation without any is none
/// for Claude Code: it does not go on with it, and does not begin one of that name either.
#[must_use]
pub fn is_said(line: &str) -> bool {
    match serde_json::from_str::<Entry>(line) {
        Ok(entry) => matches!(entry.kind.as_str(), "user" | "assistant"),
        Err(_) => line.ends_with('\n'),
    }
}

/// Where those begin that were taken up at once as this text, of which the last is at `last`.
fn first_of(text: &str, said: &[Utterance], last: usize) -> usize {
    let plain = |text: &str| text.split_whitespace().collect::<String>();
    let text = plain(text);
    let mut joined = String::new();
    let mut places: Vec<usize> = (0..=last).collect();
    places.reverse();
    let first = places.into_iter().find(|at| {
        let one = said.get(*at).map(|said| plain(&said.text)).unwrap_or_default();
        joined = one + &joined;
        joined == text
    });
    first.unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString as _;

    use super::*;

    fn said(n: u128, text: &str) -> Utterance {
        Utterance { name: Uuid::from_u128(n), text: text.to_string() }
    }

    fn user(n: u128, content: &str) -> String {
        format!(r#"{{"type":"user","uuid":"{}","message":{{"role":"user","content":{content}}}}}"#, Uuid::from_u128(n))
    }

    fn of(line: &str) -> Vec<u128> {
        let said = [said(1, "one"), said(2, "two"), said(3, "/three"), said(4, "four")];
        let mut known = BTreeSet::new();
        recall(line, &said, &mut known);
        known.into_iter().map(|name| name.as_u128()).collect()
    }

    /// Protects a message from being said again that stands in the conversation, and from not being said that does not.
    #[test]
    fn what_stands_there_is_known_under_whichever_name() {
        assert_eq!(of(&user(2, r#""two""#)), [2]);
        assert_eq!(of(&user(3, r#""one\ntwo\n /three""#)), [1, 2, 3]);
        assert_eq!(of(&user(3, r#""two\n /three""#)), [2, 3]);
        assert_eq!(of(&user(3, r#""something else""#)), [3], "its name says so");
        assert_eq!(of(&user(4, r#"[{"type":"text","text":"four"}]"#)), [4]);
        assert_eq!(of(&user(9, r#""one""#)), [0; 0], "of another name");
        let steered = format!(
            r#"{{"type":"attachment","uuid":"x","attachment":{{"type":"queued_command","prompt":"two","source_uuid":"{}"}}}}"#,
            Uuid::from_u128(2)
        );
        assert_eq!(of(&steered), [2]);
    }

    #[test]
    fn what_else_stands_there_says_nothing() {
        let name = Uuid::from_u128(1);
        for line in [
            String::new(),
            format!("{name}"),
            format!(r#"{{"type":"user","uuid":7,"message":"{name}"}}"#),
            format!(r#"{{"type":"assistant","uuid":"{name}"}}"#),
            format!(r#"{{"type":"queue-operation","operation":"enqueue","content":"{name}"}}"#),
        ] {
            assert_eq!(of(&line), [0; 0], "{line}");
        }
    }
}
