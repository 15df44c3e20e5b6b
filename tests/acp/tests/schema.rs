//! What we say is what the protocol's own types take, and what they say we read.

use agent_client_protocol_schema::ProtocolVersion;
use agent_client_protocol_schema::v1::{
    AgentCapabilities, CancelNotification, ContentBlock, ContentChunk, Cost, Diff, Implementation, InitializeRequest,
    InitializeResponse, LoadSessionRequest, NewSessionRequest, NewSessionResponse, PermissionOption,
    PermissionOptionKind, PromptRequest, PromptResponse, RequestPermissionRequest, RequestPermissionResponse,
    SessionMode, SessionModeState, SessionNotification, SessionUpdate, SetSessionModeRequest, StopReason, TextContent,
    ToolCall, ToolCallContent, ToolCallLocation, ToolCallStatus, ToolCallUpdate, ToolCallUpdateFields, ToolKind,
    UsageUpdate,
};
use makima_core::agent::Tools;
use makima_core::agent::acp::{Choice, Line, Modes, Request, answer, cancel, line, request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Everything that stands in ours stands in theirs, in the same place.
fn is_in(ours: &Value, theirs: &Value, place: &str) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (name, value) in ours {
                let there = theirs.get(name).unwrap_or_else(|| panic!("the protocol knows no {place}/{name}"));
                is_in(value, there, &format!("{place}/{name}"));
            }
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{place}");
            ours.iter().zip(theirs).for_each(|(ours, theirs)| is_in(ours, theirs, place));
        }
        (ours, theirs) => assert_eq!(ours, theirs, "{place}"),
    }
}

/// A part of a line of ours is read by a type of the protocol's, and nothing of it is lost: what that type leaves out where it
/// is the default, it takes all the same.
#[track_caller]
fn takes<T: DeserializeOwned + Serialize>(said: &str, place: &str) {
    let it: Value = serde_json::from_str(said).expect("JSON");
    assert_eq!(it["jsonrpc"], "2.0");
    let part = it.pointer(place).unwrap_or_else(|| panic!("there is no {place}"));
    let read: T = serde_json::from_value(part.clone()).unwrap_or_else(|why| panic!("{why}: {part}"));
    is_in(part, &serde_json::to_value(read).expect("JSON"), place);
}

#[test]
fn what_we_say_is_of_the_protocol() {
    takes::<InitializeRequest>(&request("i", Request::Initialize), "/params");
    let (program, api_url) = ("/bin/makima".to_owned(), "http://127.0.0.1:7600".to_owned());
    let task = serde_json::from_value(json!("0190a5c4-0000-7000-8000-000000000000")).expect("an id");
    let tools = Tools { program, api_url, task };
    takes::<NewSessionRequest>(&request("n", Request::New { folder: "/w", tools: Some(&tools) }), "/params");
    takes::<LoadSessionRequest>(&request("l", Request::Load { session: "s", folder: "/w", tools: None }), "/params");
    takes::<SetSessionModeRequest>(&request("m", Request::Mode { session: "s", mode: "default" }), "/params");
    takes::<PromptRequest>(&request("p", Request::Prompt { session: "s", text: "do it\n" }), "/params");
    takes::<CancelNotification>(&cancel("s"), "/params");
    takes::<RequestPermissionResponse>(&answer("5", Some("yes")), "/result");
    takes::<RequestPermissionResponse>(&answer("5", None), "/result");
}

fn answered(result: &impl Serialize) -> Line {
    line(&json!({ "jsonrpc": "2.0", "id": "x", "result": result }).to_string())
}

fn update(update: SessionUpdate) -> Line {
    let params = SessionNotification::new("s", update);
    line(&json!({ "jsonrpc": "2.0", "method": "session/update", "params": params }).to_string())
}

#[test]
fn what_agents_answer_is_read() {
    let capabilities = AgentCapabilities::new().load_session(true);
    let about = Implementation::new("it", "2").title("It".to_string());
    let ready = InitializeResponse::new(ProtocolVersion::V1).agent_capabilities(capabilities).agent_info(about);
    let Line::Answered { request, answer: Ok(answer) } = answered(&ready) else { panic!("it is an answer") };
    assert_eq!((request.as_str(), answer.version, answer.loads), ("x", Some(1), true));
    assert_eq!(answer.agent.as_deref(), Some("It 2"));
    let modes = SessionModeState::new("auto", vec![SessionMode::new("default", "Manual")]);
    let Line::Answered { answer: Ok(answer), .. } = answered(&NewSessionResponse::new("s").modes(modes)) else {
        panic!("it is an answer")
    };
    let modes = Modes { current: "auto".to_string(), all: vec!["default".to_string()] };
    assert_eq!((answer.session.as_deref(), answer.modes), (Some("s"), Some(modes)));
    for (stop, name) in [
        (StopReason::EndTurn, "end_turn"),
        (StopReason::Cancelled, "cancelled"),
        (StopReason::Refusal, "refusal"),
        (StopReason::MaxTokens, "max_tokens"),
    ] {
        let Line::Answered { answer: Ok(answer), .. } = answered(&PromptResponse::new(stop)) else {
            panic!("it is an answer")
        };
        assert_eq!(answer.stop.as_deref(), Some(name));
    }
}

#[test]
fn what_agents_tell_is_read() {
    let text = ContentChunk::new(ContentBlock::Text(TextContent::new("words")));
    assert_eq!(update(SessionUpdate::AgentMessageChunk(text)), Line::Text("words".to_string()));
    let call = ToolCall::new("t", "ls").kind(ToolKind::Execute).status(ToolCallStatus::InProgress);
    let Line::Tool(tool) = update(SessionUpdate::ToolCall(call)) else { panic!("it is a tool") };
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    assert_eq!((tool.id.as_str(), of(&tool.title), of(&tool.kind)), ("t", "ls".to_string(), "execute".to_string()));
    let fields = ToolCallUpdateFields::new()
        .status(ToolCallStatus::Completed)
        .locations(vec![ToolCallLocation::new("/w/a")])
        .content(vec![ToolCallContent::Diff(Diff::new("/w/b", "new").old_text("old".to_string()))]);
    let Line::Tool(tool) = update(SessionUpdate::ToolCallUpdate(ToolCallUpdate::new("t", fields))) else {
        panic!("it is a tool")
    };
    assert_eq!((of(&tool.status).as_str(), tool.paths), ("completed", vec!["/w/a".to_string(), "/w/b".to_string()]));
    assert_eq!((tool.changes[0].old.as_str(), tool.changes[0].new.as_str()), ("old", "new"));
    let usage = UsageUpdate::new(1, 2).cost(Cost::new(0.25, "USD"));
    assert_eq!(update(SessionUpdate::UsageUpdate(usage)), Line::Cost(250_000));
}

#[test]
fn what_agents_ask_is_read() {
    let kinds = [
        (PermissionOptionKind::AllowOnce, "allow_once"),
        (PermissionOptionKind::AllowAlways, "allow_always"),
        (PermissionOptionKind::RejectOnce, "reject_once"),
        (PermissionOptionKind::RejectAlways, "reject_always"),
    ];
    let options = kinds.iter().map(|(kind, name)| PermissionOption::new(*name, *name, *kind)).collect();
    let fields = ToolCallUpdateFields::new().title("ls".to_string()).kind(ToolKind::Execute);
    let params = RequestPermissionRequest::new("s", ToolCallUpdate::new("t", fields), options);
    let asked = json!({ "jsonrpc": "2.0", "id": 5, "method": "session/request_permission", "params": params });
    let Line::Asks(question) = line(&asked.to_string()) else { panic!("it asks") };
    assert_eq!((question.request.as_str(), question.tool.title.as_deref()), ("5", Some("ls")));
    let choices = kinds.map(|(_, name)| Choice { id: name.to_string(), kind: name.to_string() });
    assert_eq!(question.choices, choices);
}
