//! Lines as two versions of the program were seen to say them, cut to what is read of them.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::tests::cases;
use crate::time::Millis;

fn ended(text: &str) -> Ended {
    let Line::Ended(ended) = line(text) else { panic!("{text}") };
    ended
}

fn reply(text: &str) -> Reply {
    let Line::Reply(reply) = line(text) else { panic!("{text}") };
    reply
}

fn question(text: &str) -> Question {
    let Line::Asks(question) = line(text) else { panic!("{text}") };
    question
}

/// Protects the start of a turn from being read as one version alone tells it.
#[test]
fn a_turn_says_who_it_is() {
    let new = r#"{"cwd":"/w","session_id":"s","model":"m","permissionMode":"default","type":"system","subtype":"init",
        "mcp_servers":[{"name":"a","status":"connected"},{"name":"b","status":"failed"}],"claude_code_version":"2.1.330"}"#;
    let turn = Turn {
        session: "s".into(),
        model: "m".into(),
        permissions: "default".into(),
        folder: "/w".into(),
        version: Some("2.1.330".into()),
        broken_servers: Vec::from(["b".to_owned()]),
    };
    assert_eq!(line(new), Line::Turn(turn.clone()));
    let old = r#"{"type":"system","subtype":"init","session_id":"s","model":"m","permissionMode":"default","mcp_servers":[]}"#;
    assert_eq!(
        line(old),
        Line::Turn(Turn { version: None, folder: String::new(), broken_servers: Vec::new(), ..turn })
    );
}

/// Protects people from seeing anything but what was said to them and done.
#[test]
fn a_reply_is_read_a_block_at_a_time() {
    let text = r#"{"type":"assistant","message":{"role":"assistant","content":[{"type":"text","text":"One."}]},
        "parent_tool_use_id":null,"aborted":true,"user_message_uuids":["u"]}"#;
    let cut = Reply {
        blocks: Vec::from([Block::Text("One.".into())]),
        cut: true,
        of: Vec::from(["u".to_owned()]),
        ..Reply::default()
    };
    assert_eq!(reply(text), cut);
    let inside =
        r#"{"type":"assistant","message":{"content":[{"type":"thinking","thinking":"…"}]},"parent_tool_use_id":"t"}"#;
    let inside = reply(inside);
    assert_eq!((inside.blocks, inside.inside), (Vec::from([Block::Other]), Some("t".to_owned())));
    let failed = r#"{"type":"assistant","message":{"model":"<synthetic>","content":[{"type":"text","text":"Invalid API key"}]},
        "error":"authentication_failed"}"#;
    assert_eq!(reply(failed).failed.as_deref(), Some("authentication_failed"));
    assert!(reply(r#"{"type":"assistant"}"#).blocks.is_empty());
}

/// Protects the line that people read of a tool: what it is used for, in one line, and no more of it than that.
#[test]
fn a_tool_is_told_by_what_says_it_best() {
    let about = |input: &str| {
        let tool = r#"{"type":"tool_use","id":"t","name":"N","input":INPUT}"#.replace("INPUT", input);
        let text = r#"{"type":"assistant","message":{"content":[TOOL]}}"#.replace("TOOL", &tool);
        match reply(&text).blocks.pop() {
            Some(Block::Tool { id, name, about }) if (id.as_str(), name.as_str()) == ("t", "N") => about,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(about(r#"{"description":"d","command":"make\n test\u0007"}"#), "make  test");
    assert_eq!(about(r#"{"content":"c","file_path":"/w/a.rs"}"#), "/w/a.rs");
    assert_eq!(about(r#"{"x":[1]}"#), r#"{"x":[1]}"#);
    assert_eq!(about("{}"), "");
    let long = about(&r#"{"command":"LONG"}"#.replace("LONG", &"é".repeat(500)));
    assert_eq!((long.chars().count(), long.ends_with('…')), (121, true));
}

/// Protects users' messages: which of them is in the conversation is known by name, never by counting.
#[test]
fn how_far_a_message_has_come_is_told_by_its_name() {
    for (word, state) in [
        ("queued", MessageState::Queued),
        ("started", MessageState::Started),
        ("completed", MessageState::Completed),
        ("cancelled", MessageState::Cancelled),
    ] {
        let text = r#"{"type":"command_lifecycle","command_uuid":"u","state":"STATE"}"#.replace("STATE", word);
        assert_eq!(line(&text), Line::Message { message: "u".into(), state });
    }
    let strange = r#"{"type":"command_lifecycle","command_uuid":"u","state":"lost"}"#;
    assert_eq!(line(strange), Line::Other("command_lifecycle".into()));
    let echo = r#"{"type":"user","message":{"role":"user","content":"Go"},"uuid":"u","isReplay":true}"#;
    assert_eq!(line(echo), Line::TakenUp { message: "u".into() });
    let note = r#"{"type":"user","message":{"role":"user","content":[{"type":"text","text":"[Request interrupted by user]"}]}}"#;
    assert_eq!(line(note), Line::Other("user".into()));
    let tools = r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","is_error":true},
        {"tool_use_id":"b","type":"tool_result"}]},"tool_use_result":"text"}"#;
    let tool = |id: &str, failed| ToolEnd { id: id.into(), failed };
    assert_eq!(line(tools), Line::Tools(Vec::from([tool("a", true), tool("b", false)])));
}

/// Protects a task from ending well where it did not: the word "success" alone means nothing.
#[test]
fn how_a_turn_went_is_not_taken_from_its_name() {
    let good = ended(
        r#"{"type":"result","subtype":"success","is_error":false,"result":"Done.","terminal_reason":"completed",
        "total_cost_usd":0.00162,"usage":{"input_tokens":40,"cache_creation_input_tokens":10,"cache_read_input_tokens":50,"output_tokens":61},"permission_denials":[{}],
        "user_message_uuids":["u"]}"#,
    );
    let whole = Ended {
        success: true,
        text: Some("Done.".into()),
        reason: Some("completed".into()),
        cost: Some(1_620),
        tokens: [100, 61],
        denials: 1,
        of: Vec::from(["u".to_owned()]),
        ..Ended::default()
    };
    assert_eq!((good.error(), good), (None, whole));
    let refused = ended(
        r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":401,"result":"Invalid API key",
        "terminal_reason":"api_error"}"#,
    );
    assert_eq!(refused.error().as_deref(), Some("Invalid API key (the API answered 401)"));
    let broken =
        ended(r#"{"type":"result","subtype":"error_during_execution","is_error":true,"errors":["one","two"]}"#);
    assert_eq!(broken.error().as_deref(), Some("one; two"));
    assert_eq!(ended(r#"{"type":"result","subtype":"error_max_turns"}"#).error().as_deref(), Some("error_max_turns"));
    assert_eq!(ended(r#"{"type":"result"}"#).error().as_deref(), Some("the agent did not say why"));
    assert!(!ended(r#"{"type":"result","subtype":"success","is_error":true}"#).success);
    assert!(ended(r#"{"type":"result","subtype":"success","origin":{"kind":"task-notification"}}"#).unasked);
    for (dollars, cost) in [("-1", 0), ("1e30", u64::MAX), ("5.4", 5_400_000)] {
        let text = r#"{"type":"result","total_cost_usd":COST}"#.replace("COST", dollars);
        assert_eq!(ended(&text).cost, Some(cost), "{dollars}");
    }
}

/// Protects what is waited for, and what is not: a key that is refused, commands that run on.
#[test]
fn trouble_and_what_runs_on_are_told() {
    let retry = r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":572,"error_status":null}"#;
    let tried = Retry { attempt: 1, most: 10, after: Millis(572), status: None };
    assert_eq!(line(retry), Line::Retry(tried));
    let Line::Retry(refused) = line(&retry.replace("null", "401")) else { panic!("it is one") };
    assert_eq!(refused.status, Some(401));
    let limit = r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1796083200}}"#;
    assert_eq!(line(limit), Line::Limit { until: Some(1_796_083_200) });
    assert_eq!(line(&limit.replace("rejected", "allowed_warning")), Line::Limit { until: None });
    let behind = r#"{"type":"system","subtype":"background_tasks_changed","tasks":[{"task_id":"a"},{"task_id":"b"}]}"#;
    assert_eq!(line(behind), Line::Background { running: Vec::from(["a".to_string(), "b".to_string()]) });
    let denied = r#"{"type":"system","subtype":"permission_denied","tool_name":"Write","message":"no"}"#;
    assert_eq!(line(denied), Line::Denied { tool: "Write".into(), why: "no".into() });
    let other = r#"{"type":"system","subtype":"model_fallback","fallback_model":"b","content":"Switched"}"#;
    assert_eq!(line(other), Line::OtherModel { model: "b".into(), why: "Switched".into() });
    assert_eq!(line(r#"{"type":"conversation_reset","new_conversation_id":"c"}"#), Line::Reset);
}

/// Protects a tool's input on its way to a person and back: nothing in it is read and written anew.
#[test]
fn a_question_goes_back_as_it_came() {
    let text = r#"{"type":"control_request","request_id":"q","request":{"subtype":"can_use_tool","tool_name":"Write",
        "input":{"z":1.0,"file_path":"/w/a","n":123456789012345678901234567890},"tool_use_id":"t"}}"#;
    let input = r#"{"z":1.0,"file_path":"/w/a","n":123456789012345678901234567890}"#;
    let asked = question(text);
    let whole = Question {
        request: "q".into(),
        of_use: "t".into(),
        tool: "Write".into(),
        about: "/w/a".into(),
        input: input.into(),
        for_a_person: false,
    };
    assert_eq!(asked, whole);
    let allowed = r#"{"type":"control_response","response":{"subtype":"success","request_id":"q","response":{"behavior":"allow","updatedInput":INPUT}}}"#;
    assert_eq!(answer("q", Verdict::With { input: &asked.input }), allowed.replace("INPUT", input) + "\n");
    assert_eq!(answer("q", Verdict::With { input: "{\"a\":\r\n1}" }), allowed.replace("INPUT", r#"{"a":1}"#) + "\n");
    for wrong in ["", "[1]", "{", "null"] {
        assert_eq!(answer("q", Verdict::With { input: wrong }), allowed.replace("INPUT", "{}") + "\n");
    }
    assert_eq!(line(r#"{"type":"control_cancel_request","request_id":"q"}"#), Line::AsksNoMore { request: "q".into() });
    let unknown = r#"{"type":"control_request","request_id":"q","request":{"subtype":"hook_callback"}}"#;
    assert_eq!(line(unknown), Line::Wants { request: "q".into(), what: "hook_callback".into() });
    let refused = r#"{"response":{"error":"no","request_id":"q","subtype":"error"},"type":"control_response"}"#;
    assert_eq!(refuse("q", "no"), refused.to_string() + "\n");
    let empty = question(r#"{"type":"control_request","request_id":"q","request":{"subtype":"can_use_tool"}}"#);
    assert_eq!((empty.input.as_str(), empty.about.as_str()), ("{}", ""));
}

/// Protects a person's answer: the questions go back with it, else it is refused.
#[test]
fn a_question_to_a_person_is_answered_with_its_questions() {
    let text = r#"{"type":"control_request","request_id":"q","request":{"subtype":"can_use_tool","tool_name":"AskUserQuestion",
        "input":{"questions":[{"question":"Which?","options":[{"label":"Red"}]}]}}}"#;
    let asked = question(text);
    assert!(asked.for_a_person);
    let input = answers(&asked.input, [("Which?", "Red")]).expect("it asks something");
    let input: Value = serde_json::from_str(&input).expect("JSON");
    assert_eq!(input.pointer("/answers/Which?").and_then(Value::as_str), Some("Red"));
    assert_eq!(input.pointer("/questions/0/question").and_then(Value::as_str), Some("Which?"));
    assert_eq!(answers("{}", []), None);
    assert_eq!(answers("nothing", []), None);
}

/// Protects requests and their answers from being mixed up.
#[test]
fn what_it_was_asked_is_answered_by_name() {
    let fine = r#"{"type":"control_response","response":{"subtype":"success","request_id":"i","response":{"still_queued":["u"]}}}"#;
    let queued = Vec::from(["u".to_owned()]);
    assert_eq!(line(fine), Line::Answered { request: "i".into(), error: None, queued });
    let bad = r#"{"type":"control_response","response":{"subtype":"error","request_id":"i","error":"Unsupported"}}"#;
    assert_eq!(
        line(bad),
        Line::Answered { request: "i".into(), error: Some("Unsupported".into()), queued: Vec::new() }
    );
    let said = |it| request("r", it);
    let known =
        |what: &str| r#"{"request":WHAT,"request_id":"r","type":"control_request"}"#.replace("WHAT", what) + "\n";
    assert_eq!(said(Request::Initialize), known(r#"{"subtype":"initialize"}"#));
    assert_eq!(said(Request::Interrupt { with_queued: false }), known(r#"{"subtype":"interrupt"}"#));
    assert_eq!(
        said(Request::Interrupt { with_queued: true }),
        known(r#"{"cancel_queued":true,"subtype":"interrupt"}"#)
    );
    assert_eq!(
        said(Request::TakeBack { message: "u" }),
        known(r#"{"message_uuid":"u","subtype":"cancel_async_message"}"#)
    );
    assert_eq!(
        said(Request::Permissions { mode: "default" }),
        known(r#"{"mode":"default","subtype":"set_permission_mode"}"#)
    );
    assert_eq!(said(Request::End), known(r#"{"subtype":"end_session"}"#));
    let denied = r#"{"type":"control_response","response":{"subtype":"success","request_id":"q","response":{"behavior":"deny","message":"no"REST}}}"#;
    assert_eq!(answer("q", Verdict::Deny { why: "no", interrupt: false }), denied.replace("REST", "") + "\n");
    assert_eq!(
        answer("q", Verdict::Deny { why: "no", interrupt: true }),
        denied.replace("REST", r#","interrupt":true"#) + "\n"
    );
}

#[test]
fn what_is_not_known_is_kept_by_name_and_what_is_no_json_is_not() {
    assert_eq!(line("{\"type\":\"stream_event\"}\n"), Line::Other("stream_event".into()));
    assert_eq!(line(r#"{"type":"system","subtype":"hook_started"}"#), Line::Other("system/hook_started".into()));
    assert_eq!(line(r#"{"no_type":1}"#), Line::Other(String::new()));
    for text in ["", "null", "[{}]", "{", "plain text", "{}{}"] {
        assert!(matches!(line(text), Line::Unreadable(_)), "{text}");
    }
    let deep = "{\"a\":".repeat(100_000);
    assert!(matches!(line(&deep), Line::Unreadable(_)));
}

/// Words that lines are made of.
const WORDS: [&str; 32] = [
    "type",
    "subtype",
    "system",
    "init",
    "assistant",
    "user",
    "result",
    "success",
    "message",
    "content",
    "text",
    "tool_use",
    "tool_result",
    "control_request",
    "request",
    "can_use_tool",
    "control_response",
    "response",
    "error",
    "input",
    "questions",
    "total_cost_usd",
    "origin",
    "kind",
    "tasks",
    "errors",
    "isReplay",
    "uuid",
    "state",
    "command_lifecycle",
    "queued",
    "api_retry",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![4 => proptest::sample::select(&WORDS[..]).prop_map(ToString::to_string), 1 => ".{0,8}"]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(word(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// One line of JSON.
fn is_a_line(text: &str) -> bool {
    let whole = text.ends_with('\n') && text.matches('\n').count() == 1 && !text.contains('\r');
    whole && serde_json::from_str::<Value>(text).is_ok()
}

proptest! {
    #![proptest_config(cases(500))]

    /// Protects the daemon from whatever an agent says: something is read of any line, and what is said back is one line.
    #[test]
    fn any_line_is_read_and_any_answer_is_one_line(it in value(), text in ".{0,40}", other in "(?s).{0,40}") {
        let _ = line(&text);
        if let Line::Asks(question) = line(&it.to_string()) {
            let allowed = answer(&question.request, Verdict::With { input: &question.input });
            prop_assert!(is_a_line(&allowed));
        }
        let said = [
            message(&other, &text),
            answer(&text, Verdict::With { input: &other }),
            answer(&text, Verdict::Deny { why: &other, interrupt: true }),
            request(&other, Request::TakeBack { message: &text }),
        ];
        prop_assert!(said.iter().all(|text| is_a_line(text)));
    }
}
