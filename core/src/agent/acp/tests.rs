//! Lines of agents, and talks with them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

use super::read::{Change, Choice, Line, Question, Tool, line};
use super::talk::{INITIALIZE, MODE, SESSION, Talk};
use super::write::{INVALID, NOT_OFFERED, Request, answer, cancel, refuse, request};
use crate::agent::talk::{Heard, Progress};
use crate::agent::{Permissions, Policy, Result, Verdict};
use crate::tests::cases;

const PLAN: Uuid = Uuid::from_u128(7);

/// A talk in a worktree, under that rule.
fn talk(policy: Policy) -> Talk {
    Talk::new("/w".to_string(), Permissions { policy, ..Permissions::default() }, None, None)
}

fn answered(name: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"{name}","result":{result}}}"#)
}

fn failed(name: &str, why: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"{name}","error":{{"code":-32000,"message":"{why}"}}}}"#)
}

fn update(what: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"session/update","params":{{"sessionId":"s","update":{what}}}}}"#)
}

fn asks(id: &str, kind: &str, path: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"session/request_permission","params":{{"sessionId":"s","toolCall":{{
        "toolCallId":"t","title":"Do it","kind":"{kind}","locations":[{{"path":"{path}"}}]}},
        "options":[{{"optionId":"y","kind":"allow_once"}},{{"optionId":"n","kind":"reject_once"}}]}}}}"#
    )
}

/// What comes of a line, in words.
fn heard(talk: &mut Talk, line: &str) -> Vec<String> {
    let words = |heard: Heard| {
        if let Heard::Tell(what) = heard {
            what
        } else if let Heard::Say(line) = heard {
            let it: Value = serde_json::from_str(&line).expect("JSON");
            let at = |place: &str| it.pointer(place).map(ToString::to_string).unwrap_or_default();
            format!("say {}{}{}", at("/method"), at("/result/outcome/optionId"), at("/error/code"))
        } else if let Heard::Message { name, state } = heard {
            format!("message {} {state:?}", name.as_u128())
        } else {
            format!("{heard:?}")
        }
    };
    talk.hear(line).into_iter().map(words).collect()
}

/// One that is open.
fn open(policy: Policy) -> Talk {
    let mut talk = talk(policy);
    heard(&mut talk, &answered(INITIALIZE, r#"{"protocolVersion":1}"#));
    heard(&mut talk, &answered(SESSION, r#"{"sessionId":"s"}"#));
    assert!(talk.is_open());
    talk
}

#[test]
fn a_talk_goes_from_its_opening_to_the_end_of_a_turn() {
    let mut talk = talk(Policy::AcceptEdits);
    assert!(Talk::opening().contains(r#""method":"initialize""#));
    let ready = r#"{"protocolVersion":1,"agentInfo":{"name":"it","title":"It","version":"2"},"agentCapabilities":{"loadSession":true}}"#;
    assert_eq!(heard(&mut talk, &answered(INITIALIZE, ready)), ["It 2", r#"say "session/new""#]);
    let session =
        r#"{"sessionId":"s","modes":{"currentModeId":"auto","availableModes":[{"id":"auto"},{"id":"default"}]}}"#;
    assert_eq!(heard(&mut talk, &answered(SESSION, session)), [r#"say "session/set_mode""#]);
    assert!(!talk.is_open() && talk.setup().is_none());
    assert_eq!(heard(&mut talk, &answered(MODE, "{}")), [""; 0]);
    assert_eq!((talk.is_open(), talk.setup(), talk.session()), (true, Some(3), Some("s")));
    assert!(talk.message("do it", PLAN).contains(r#""text":"do it""#));
    assert!(!talk.is_at_rest() && talk.awaits_its_model() && talk.done().is_none());
    let chunk = |text: &str| {
        update(&format!(r#"{{"sessionUpdate":"agent_message_chunk","content":{{"type":"text","text":"{text}"}}}}"#))
    };
    assert_eq!(heard(&mut talk, &chunk("I wi")), ["message 7 Seen"]);
    assert_eq!(heard(&mut talk, &chunk("ll.")), [""; 0]);
    let tool = |status: &str| {
        update(&format!(
            r#"{{"sessionUpdate":"tool_call","toolCallId":"t","title":"ls","kind":"execute","status":"{status}"}}"#
        ))
    };
    assert_eq!(heard(&mut talk, &tool("in_progress")), ["agent: I will."]);
    assert!(!talk.awaits_its_model(), "a tool may take as long as it takes");
    assert_eq!(heard(&mut talk, &tool("completed")), ["tool: execute: ls"]);
    heard(&mut talk, &update(r#"{"sessionUpdate":"usage_update","cost":{"amount":0.25,"currency":"USD"}}"#));
    let over = answered(&PLAN.to_string(), r#"{"stopReason":"end_turn","usage":{"inputTokens":3,"outputTokens":4}}"#);
    let sum = "turn over (3 tokens read, 4 written; $0.2500 so far)";
    assert_eq!(heard(&mut talk, &over), [sum, "message 7 Over", "TurnOver { well: true }"]);
    assert_eq!(talk.done(), Some(Result::Success));
    assert_eq!(talk.ended("how", "said"), Result::Success);
}

/// Protects a task from being said to be done that was not.
#[test]
fn what_is_no_good_end_is_none() {
    for (stop, why) in [("refusal", "its turn ended by refusal"), ("cancelled", "its turn was broken off")] {
        let mut talk = open(Policy::Full);
        talk.message("x", PLAN);
        heard(&mut talk, &answered(&PLAN.to_string(), &format!(r#"{{"stopReason":"{stop}"}}"#)));
        assert_eq!(talk.done(), Some(Result::Failure(why.to_string())));
    }
    let mut talk = open(Policy::Full);
    talk.message("x", PLAN);
    heard(&mut talk, &failed(&PLAN.to_string(), "no key"));
    assert_eq!(talk.done(), Some(Result::Failure("no key".to_string())));
    let mut talk = open(Policy::Full);
    talk.message("x", PLAN);
    assert_eq!(talk.ended("it ended", " why "), Result::Failure("it ended: why".to_string()));
    // Nor is one that never begins.
    let mut old = self::talk(Policy::Full);
    let told = heard(&mut old, &answered(INITIALIZE, r#"{"protocolVersion":2}"#));
    assert_eq!(told, [r#"Settled(Failure("the agent speaks version 2 of the Agent Client Protocol, and not 1"))"#]);
    let mut closed = self::talk(Policy::Full);
    heard(&mut closed, &answered(INITIALIZE, r#"{"protocolVersion":1}"#));
    let told = heard(&mut closed, &failed(SESSION, "Authentication required"));
    assert_eq!(told, [r#"Settled(Failure("the agent does not begin: Authentication required"))"#]);
}

/// Protects a machine from what its user did not allow.
#[test]
fn what_it_may_do_is_as_its_task_has_it() {
    let of = |policy, kind: &str, path: &str| heard(&mut open(policy), &asks("5", kind, path)).remove(0);
    assert_eq!(of(Policy::Full, "execute", ""), r#"say "y""#);
    assert_eq!(of(Policy::AcceptEdits, "edit", "/w/a/b"), r#"say "y""#);
    for (kind, path) in
        [("execute", "/w/a"), ("edit", "/w/../x"), ("edit", "/wx/a"), ("edit", "/w/.git/hooks/x"), ("edit", "")]
    {
        assert_eq!(of(Policy::AcceptEdits, kind, path), r#"say "n""#, "{kind} {path}");
    }
    assert_eq!(of(Policy::Ask, "edit", "/w/a"), "Asks(1)");
    let rules = Permissions {
        only_fenced: false,
        policy: Policy::AcceptEdits,
        allow: Vec::from(["execute".to_string(), "Do it".to_string()]),
        deny: Vec::from(["Do*".to_string()]),
    };
    let with = |rules: &Permissions| {
        let mut talk = Talk::new("/w".to_string(), rules.clone(), None, None);
        heard(&mut talk, &asks("5", "execute", "")).remove(0)
    };
    assert_eq!(with(&rules), r#"say "n""#, "what is denied goes first");
    assert_eq!(with(&Permissions { deny: Vec::new(), ..rules }), r#"say "y""#);
}

/// Protects an agent from the answer to another question, and from one to a question that is no more.
#[test]
fn a_question_is_answered_once_and_by_its_own_name() {
    let mut talk = open(Policy::Ask);
    talk.message("x", PLAN);
    heard(&mut talk, &asks(r#""q-1""#, "execute", ""));
    heard(&mut talk, &asks("6", "execute", ""));
    assert_eq!(talk.question().as_deref(), Some("question 1: execute: Do it (and 1 more)"));
    assert!(!talk.awaits_its_model());
    let said = talk.answer(1, &Verdict::Allow).expect("it waits");
    let Heard::Say(line) = &said[0] else { panic!("{said:?}") };
    assert_eq!(
        line,
        "{\"id\":\"q-1\",\"jsonrpc\":\"2.0\",\"result\":{\"outcome\":{\"optionId\":\"y\",\"outcome\":\"selected\"}}}\n"
    );
    assert!(talk.answer(1, &Verdict::Allow).is_err());
    assert!(talk.answer(2, &Verdict::Choose(Vec::new())).is_err());
    assert_eq!(talk.answer(2, &Verdict::Deny(Some("no".into()))).expect("it waits").len(), 2);
    heard(&mut talk, &asks("7", "execute", ""));
    heard(&mut talk, &update(r#"{"sessionUpdate":"tool_call_update","toolCallId":"t","status":"failed"}"#));
    assert_eq!(talk.question(), None);
    heard(&mut talk, &asks("8", "execute", ""));
    assert_eq!(talk.nobody_answers(4).len(), 2);
    assert!(talk.nobody_answers(4).is_empty());
    assert_eq!(heard(&mut talk, r#"{"id":9,"method":"fs/read_text_file"}"#)[0], "say -32601");
}

/// Protects an agent from waiting for ever for an answer to what was too long to be read.
#[test]
fn who_asks_with_too_many_words_is_told_so() {
    let mut talk = open(Policy::Full);
    let head = r#"{"jsonrpc":"2.0","id":5,"method":"session/request_permission","params":{"toolCall":{"content":[{"#;
    assert_eq!(talk.hear_head(head), Some(refuse("5", INVALID, "That was too long to be read.")));
    for nothing in
        [r#"{"jsonrpc":"2.0","method":"session/update","params":{"id":5,"#, r#"{"id":"p","result":{"a":"#, "x"]
    {
        assert_eq!(talk.hear_head(nothing), None, "{nothing}");
    }
    talk.was_begun(3);
    assert_eq!(talk.hear_head(head), None, "it may have been answered");
}

#[test]
fn a_turn_is_broken_off_before_the_end() {
    let mut talk = open(Policy::Full);
    assert!(talk.break_off().is_empty(), "there is none");
    let mut talk = open(Policy::Ask);
    talk.message("x", PLAN);
    heard(&mut talk, &asks("5", "execute", ""));
    let said = talk.break_off();
    assert!(said[0].contains("session/cancel"), "{said:?}");
    // Who waits for an answer cannot end its turn: what it asks is called off, also what it asks from there on.
    assert_eq!(said[1..], [answer("5", None)]);
    assert_eq!(talk.question(), None);
    assert_eq!(talk.hear(&asks("6", "execute", "")), [Heard::Say(answer("6", None))]);
    let told = heard(&mut talk, &answered(&PLAN.to_string(), r#"{"stopReason":"cancelled"}"#));
    assert_eq!(told.last().map(String::as_str), Some("Through"));
}

/// Protects a session of before, and a task whose agent has lost it.
#[test]
fn a_session_is_gone_on_with_where_there_is_one() {
    let begun = |loads: bool| {
        let mut talk = Talk::new("/w".to_string(), Permissions::default(), Some("old".to_string()), None);
        let can = format!(r#"{{"protocolVersion":1,"agentCapabilities":{{"loadSession":{loads}}}}}"#);
        let said = heard(&mut talk, &answered(INITIALIZE, &can));
        (talk, said)
    };
    let (mut talk, said) = begun(false);
    let told = "the agent cannot go on with a session of before: it begins another";
    assert_eq!(said, [told, r#"say "session/new""#]);
    heard(&mut talk, &answered(SESSION, r#"{"sessionId":"new"}"#));
    assert!(talk.is_anew(), "it knows nothing of before");
    let (mut talk, said) = begun(true);
    assert_eq!(said, [r#"say "session/load""#]);
    let chunk = update(r#"{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"long ago"}}"#);
    assert_eq!(heard(&mut talk, &chunk), [""; 0]);
    assert_eq!(heard(&mut talk, &answered(SESSION, "null")), [""; 0]);
    assert_eq!((talk.session(), talk.is_open(), talk.is_anew()), (Some("old"), true, false));
    let (mut talk, _) = begun(true);
    let told = heard(&mut talk, &failed(SESSION, "unknown"));
    assert_eq!(told, ["the agent does not go on with its session of before: unknown", r#"say "session/new""#]);
}

/// Protects an agent from being asked again for what it was asked before, by a daemon that has lost its journal.
#[test]
fn what_was_said_before_is_not_said_again() {
    let mut talk = talk(Policy::Full);
    talk.was_begun(3);
    assert_eq!(heard(&mut talk, &answered(INITIALIZE, r#"{"protocolVersion":1}"#)), [""; 0]);
    assert_eq!(heard(&mut talk, &answered(SESSION, r#"{"sessionId":"s"}"#)), [""; 0]);
    assert_eq!(talk.setup(), Some(2), "the third line was the plan");
    assert_eq!(heard(&mut talk, &asks("5", "execute", "")), [""; 0]);
    heard(&mut talk, &update(r#"{"sessionUpdate":"tool_call_update","toolCallId":"t","status":"completed"}"#));
    assert_eq!(heard(&mut talk, &asks("6", "execute", "")), [""; 0]);
    let said = talk.is_present();
    assert!(matches!(said.as_slice(), [Heard::Say(line)] if line.contains("\"id\":6")), "{said:?}");
    // Of one that had come to its second line the third is still to be said.
    let mut talk = self::talk(Policy::Full);
    talk.was_begun(1);
    assert_eq!(heard(&mut talk, &answered(INITIALIZE, r#"{"protocolVersion":1}"#)), [r#"say "session/new""#]);
}

#[test]
fn lines_are_read_as_they_are_meant() {
    let diff = r#"{"sessionUpdate":"tool_call_update","toolCallId":"t","content":[{"type":"diff","path":"/w/a","oldText":null,"newText":"x"}]}"#;
    let change = Change { path: "/w/a".into(), old: String::new(), new: "x".into() };
    let tool =
        Tool { id: "t".into(), paths: Vec::from(["/w/a".into()]), changes: Vec::from([change]), ..Tool::default() };
    assert_eq!(line(&update(diff)), Line::Tool(tool));
    let Line::Asks(Question { request, choices, .. }) = line(&asks("5", "edit", "/w/a")) else { panic!("it asks") };
    let choice = |id: &str, kind: &str| Choice { id: id.into(), kind: kind.into() };
    assert_eq!((request.as_str(), choices), ("5", Vec::from([choice("y", "allow_once"), choice("n", "reject_once")])));
    assert_eq!(line(&update(r#"{"sessionUpdate":"plan"}"#)), Line::Other("plan".into()));
    for text in ["", "null", "[{}]", "{", "plain text"] {
        assert!(matches!(line(text), Line::Unreadable(_)), "{text}");
    }
    let mut talk = open(Policy::Full);
    talk.message("x", PLAN);
    assert_eq!(
        talk.hear(&update(r#"{"sessionUpdate":"tool_call","toolCallId":"t"}"#)),
        [Heard::Message { name: PLAN, state: Progress::Seen }]
    );
}

proptest! {
    #![proptest_config(cases(300))]

    /// Protects an agent from a line that it cannot read: what is said is one line of JSON, whatever stands in it.
    #[test]
    fn what_is_said_is_one_line(text in "(?s).{0,40}", other in "(?s).{0,40}") {
        let tools = crate::agent::Tools { program: other.clone(), api_url: text.clone(), task: crate::id::TaskId(PLAN) };
        let said = [
            request(&text, Request::Prompt { session: &other, text: &text }),
            request(&text, Request::New { folder: &other, tools: Some(&tools) }),
            cancel(&text),
            answer(&other, Some(&text)),
            refuse(&text, NOT_OFFERED, &other),
        ];
        for line in said {
            prop_assert!(line.ends_with('\n') && line.matches('\n').count() == 1 && !line.contains('\r'));
            prop_assert!(serde_json::from_str::<Value>(&line).is_ok());
        }
    }
}
