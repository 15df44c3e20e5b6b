use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Answer, Api, Cut, End, Kind, Request, Script, Turn};

/// For anything that should happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// For what should not.
const MOMENT: Duration = Duration::from_millis(300);

fn started(script: Script) -> Api {
    Api::start(script).expect("a port")
}

/// A main request with this as the user's words.
fn asks(text: &str) -> Value {
    talks(&json!([{ "role": "user", "content": [{ "type": "text", "text": text }] }]))
}

fn talks(messages: &Value) -> Value {
    json!({ "model": "m", "max_tokens": 100, "stream": true, "tools": [{ "name": "Bash" }], "messages": messages })
}

/// What a client has got.
struct Got {
    status: u16,
    head: String,
    body: String,
    /// The connection was reset.
    is_reset: bool,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// The events, and whether the answer has come to its end.
    fn events(&self) -> (Vec<Value>, bool) {
        let (mut text, mut rest, mut is_whole) = (String::new(), self.body.as_str(), false);
        while let Some((size, after)) = rest.split_once("\r\n") {
            let size = usize::from_str_radix(size, 16).expect("a size");
            text += &after[..size];
            rest = after[size..].strip_prefix("\r\n").expect("the end of a chunk");
            is_whole = size == 0;
        }
        let event = |event: &str| {
            let (kind, data) = event.split_once("\ndata: ").expect("data");
            let data: Value = serde_json::from_str(data).expect("JSON");
            assert_eq!(kind.strip_prefix("event: "), data["type"].as_str());
            data
        };
        (text.split_terminator("\n\n").map(event).collect(), is_whole)
    }
}

fn connect(api: &Api) -> TcpStream {
    let stream = TcpStream::connect(api.url().trim_start_matches("http://")).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

fn send(api: &Api, method: &str, path: &str, headers: &str, body: &str) -> Got {
    let (mut stream, length) = (connect(api), body.len());
    let head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all((head + body).as_bytes()).expect("room");
    let mut bytes = Vec::new();
    let is_reset = stream.read_to_end(&mut bytes).is_err();
    let text = String::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).map_or(0, |status| status.parse().expect("a status"));
    Got { status, head: head.to_ascii_lowercase(), body: body.to_owned(), is_reset }
}

fn post(api: &Api, body: &Value) -> Got {
    send(api, "POST", "/v1/messages?beta=true", "", &body.to_string())
}

/// What an answer in one block says.
fn text_of(got: &Got) -> String {
    let (events, _) = got.events();
    events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect()
}

/// Waits for the end of the newest request.
fn end_of(api: &Api) -> Request {
    assert!(api.wait_until(|requests| requests.last().is_some_and(|request| request.end.is_some()), PATIENCE));
    api.requests().pop().expect("a request")
}

#[test]
fn a_streamed_answer_has_the_events_of_the_api() {
    let turn =
        Turn::text("Größe: 8 \u{1f980} {x}").thinking("Hm, well.").tool("Bash", json!({ "command": ["{x}", 1] }));
    let turn = turn.chunk(3).usage("output_tokens", 7).usage("cache_read_input_tokens", 5);
    let api = started(Script::new().turn(turn).variable("x", "ls"));
    let (events, is_whole) = post(&api, &asks("go")).events();
    assert!(is_whole);
    let deltas = |kind: &str, field: &str| -> String {
        let deltas = events.iter().map(|event| &event["delta"]).filter(|delta| delta["type"] == kind);
        deltas.map(|delta| delta[field].as_str().expect("a text")).collect()
    };
    assert_eq!(deltas("thinking_delta", "thinking"), "Hm, well.");
    assert_eq!(deltas("text_delta", "text"), "Größe: 8 \u{1f980} ls");
    assert_eq!(deltas("input_json_delta", "partial_json"), r#"{"command":["ls",1]}"#);
    assert!(!deltas("signature_delta", "signature").is_empty());
    let mut kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    kinds.dedup();
    let block = ["content_block_start", "content_block_delta", "content_block_stop"];
    let all = [&["message_start", "ping"], &block[..], &block[..], &block[..], &["message_delta", "message_stop"]];
    assert_eq!(kinds, all.concat());
    let begun = &events[0]["message"];
    assert_eq!((&begun["content"], &begun["stop_reason"], &begun["model"]), (&json!([]), &Value::Null, &json!("m")));
    assert_eq!((&begun["usage"]["output_tokens"], &begun["usage"]["cache_read_input_tokens"]), (&json!(1), &json!(5)));
    let end = &events[events.len() - 2];
    assert_eq!((&end["delta"]["stop_reason"], &end["usage"]["output_tokens"]), (&json!("tool_use"), &json!(7)));
    let request = end_of(&api);
    assert_eq!((request.answer, request.end, request.deltas), (Answer::Turn(0), Some(End::Whole), 3 + 5 + 7));
}

#[test]
fn an_answer_that_is_not_streamed_is_one_message() {
    let api = started(Script::new().turn(Turn::text("a").tool("Read", json!({})).stop_reason("refusal")));
    let mut body = asks("go");
    body["stream"] = false.into();
    let got = post(&api, &body);
    let message = got.json();
    assert_eq!((got.status, &message["type"], &message["stop_reason"]), (200, &json!("message"), &json!("refusal")));
    assert_eq!(message["content"][0], json!({ "type": "text", "text": "a" }));
    assert_eq!(message["content"][1]["input"], json!({}));
    assert!(got.head.contains("request-id: req_"), "{}", got.head);
    assert!(!end_of(&api).is_streamed);
}

#[test]
fn turns_answer_in_order_and_only_whom_they_suit() {
    let script = Script::new()
        .turn(Turn::text("b").when("beta"))
        .turn(Turn::text("of the session").when_request(|request| request.session.as_deref() == Some("s")))
        .turn(Turn::text("twice").repeat(2))
        .turn(Turn::text("once").when_ever("alpha"))
        .fallback(Turn::text("last"))
        .side(Turn::text("side"));
    let api = started(script);
    let told: Vec<String> = ["alpha", "beta", "beta"].map(|text| text_of(&post(&api, &asks(text)))).into();
    assert_eq!(told, ["twice", "b", "twice"]);
    let result = json!({ "type": "tool_result", "tool_use_id": "t", "content": "beta" });
    let result = json!([
        { "role": "user", "content": "alpha" },
        { "role": "assistant", "content": "x" },
        { "role": "user", "content": [result] },
    ]);
    assert_eq!(text_of(&post(&api, &talks(&result))), "once");
    assert_eq!(text_of(&post(&api, &asks("alpha"))), "last");
    api.push(Turn::text("more"));
    assert_eq!(text_of(&post(&api, &asks("alpha"))), "more");
    let session = send(&api, "POST", "/v1/messages", "X-Claude-Code-Session-Id: s\r\n", &asks("x").to_string());
    assert_eq!(text_of(&session), "of the session");
    let mut probe = asks("x");
    probe["max_tokens"] = 1.into();
    assert_eq!(text_of(&post(&api, &probe)), "side");
    let answers: Vec<Answer> = api.requests().into_iter().map(|request| request.answer).collect();
    let turns = [2, 0, 2, 3].map(Answer::Turn);
    assert_eq!(answers, [&turns[..], &[Answer::Fallback, Answer::Turn(4), Answer::Turn(1), Answer::Side]].concat());
}

#[test]
fn errors_are_those_of_the_api() {
    let script = Script::new()
        .turn(Turn::error(429, "slow down").header("retry-after", "2"))
        .turn(Turn::error(400, "no money").error_type("billing_error"))
        .key("right");
    let api = started(script);
    let body = asks("go").to_string();
    let wrong = send(&api, "POST", "/v1/messages", "X-Api-Key: wrong\r\n", &body);
    assert_eq!((wrong.status, &wrong.json()["error"]["type"]), (401, &json!("authentication_error")));
    let slow = send(&api, "POST", "/v1/messages", "X-Api-Key: right\r\n", &body);
    let expected = json!({ "type": "rate_limit_error", "message": "slow down" });
    assert_eq!((slow.status, &slow.json()["error"]), (429, &expected));
    assert!(slow.head.contains("\r\nretry-after: 2\r\n"), "{}", slow.head);
    let money = send(&api, "POST", "/v1/messages", "Authorization: Bearer right\r\n", &body);
    assert_eq!((money.status, &money.json()["error"]["type"]), (400, &json!("billing_error")));
    let answers: Vec<Answer> = api.requests().into_iter().map(|request| request.answer).collect();
    assert_eq!(answers, [Answer::Refused, Answer::Turn(0), Answer::Turn(1)]);
}

#[test]
fn an_answer_breaks_where_it_is_told_to() {
    let turn = Turn::text("abcdefgh").chunk(2);
    let script = Script::new()
        .turn(turn.clone().stream_error(1, "overloaded_error"))
        .turn(turn.clone().cut(3, Cut::Reset))
        .turn(turn.clone().cut(2, Cut::Close))
        .turn(turn.clone().cut(0, Cut::Reset))
        .turn(turn.clone().cut(0, Cut::Close));
    let api = started(script);
    let got = post(&api, &asks("go"));
    let (events, is_whole) = got.events();
    assert_eq!((text_of(&got).as_str(), is_whole), ("ab", true));
    let error = events.last().expect("an event");
    assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!("overloaded_error")));
    assert_eq!(end_of(&api).end, Some(End::StreamError));
    for (text, is_reset) in [("abcdef", true), ("abcd", false)] {
        let got = post(&api, &asks("go"));
        assert_eq!((text_of(&got).as_str(), got.events().1, got.is_reset), (text, false, is_reset));
        assert_eq!((end_of(&api).end, end_of(&api).deltas), (Some(End::Cut), text.len() / 2));
    }
    for is_reset in [true, false] {
        let got = post(&api, &asks("go"));
        assert_eq!((got.status, got.is_reset), (0, is_reset));
    }
}

#[test]
fn who_hangs_is_silent_until_the_client_goes_or_the_server_stops() {
    let api = started(Script::new().turn(Turn::text("abcd").chunk(2).hang(1).repeat(0)));
    let ask = |api: &Api| {
        let (mut stream, body) = (connect(api), asks("go").to_string());
        write!(stream, "POST /v1/messages HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).expect("room");
        stream
    };
    let first = ask(&api);
    assert!(api.wait_until(|requests| requests.iter().any(|request| request.deltas == 1), PATIENCE));
    assert!(!api.wait_until(|requests| requests.iter().any(|request| request.end.is_some()), MOMENT));
    drop(first);
    assert_eq!(end_of(&api).end, Some(End::Gone));
    let mut second = ask(&api);
    assert!(api.wait_for(2, PATIENCE) && !api.wait_for(3, Duration::ZERO));
    let url = api.url();
    drop(api);
    let mut text = String::new();
    second.read_to_string(&mut text).expect("a close");
    assert!(TcpStream::connect(url.trim_start_matches("http://")).is_err(), "the port is free");
}

#[test]
fn pauses_are_kept_and_end_with_the_client() {
    let turn = Turn::text("abc").chunk(1).delay(Duration::from_millis(60)).first_delay(Duration::from_millis(120));
    let api = started(Script::new().turn(turn).turn(Turn::text("x").first_delay(PATIENCE * 10)));
    let begin = Instant::now();
    assert_eq!(text_of(&post(&api, &asks("go"))), "abc");
    assert!(begin.elapsed() >= Duration::from_millis(300));
    let (mut stream, body) = (connect(&api), asks("go").to_string());
    write!(stream, "POST /v1/messages HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).expect("room");
    assert!(api.wait_for(2, PATIENCE));
    drop(stream);
    assert_eq!(end_of(&api).end, Some(End::Gone));
}

#[test]
fn a_connection_is_used_again() {
    let api = started(Script::new().turn(Turn::text("one")).turn(Turn::error(500, "no")).turn(Turn::text("three")));
    let (mut stream, mut body) = (connect(&api), asks("go"));
    body["stream"] = false.into();
    let body = body.to_string();
    let (begin, end) = body.split_at(10);
    let (head, rest) = ("POST /v1/messages HTTP/1.1\r\n", end.len());
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\na\r\n{begin}\r\n{rest:x};x=y\r\n{end}\r\n0\r\n\r\n");
    let plain = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
    for (request, status) in [(&chunked, "200"), (&plain, "500"), (&plain, "200")] {
        stream.write_all(request.as_bytes()).expect("room");
        let (mut lines, mut length) = (Vec::new(), 0);
        while lines.last().is_none_or(|line: &String| !line.trim().is_empty()) {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a line");
            length =
                line.strip_prefix("content-length: ").map_or(length, |text| text.trim().parse().expect("a number"));
            lines.push(line);
        }
        assert_eq!(lines[0].split(' ').nth(1), Some(status));
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer).expect("an answer");
    }
}

#[test]
fn what_is_not_about_messages_is_answered_too() {
    let api = started(Script::new().count_tokens(12));
    let statuses =
        [("HEAD", "/"), ("GET", "/api/hello"), ("GET", "/v1/models?limit=1"), ("GET", "/x"), ("POST", "/v1/messages")]
            .map(|(method, path)| send(&api, method, path, "", "").status);
    assert_eq!(statuses, [200, 200, 200, 404, 400]);
    let count = send(&api, "POST", "/v1/messages/count_tokens?beta=true", "", &asks("go").to_string());
    assert_eq!(count.json(), json!({ "input_tokens": 12 }));
    assert!(api.requests().is_empty());
    assert_eq!(api.others().last().map(String::as_str), Some("POST /v1/messages/count_tokens"));
    assert_eq!(api.others().len(), 6);
}

#[test]
fn the_directory_is_the_one_that_a_request_names_last() {
    let call = Turn::call("Write", json!({ "file_path": "{cwd}/a" })).repeat(0);
    let api = started(Script::new().turn(call).variable("cwd", "/else"));
    let path = |body: &Value| {
        let (events, _) = post(&api, body).events();
        let deltas = events.iter().filter_map(|event| event["delta"]["partial_json"].as_str());
        let input: Value = serde_json::from_str(&deltas.collect::<String>()).expect("JSON");
        input["file_path"].as_str().map(str::to_owned)
    };
    let mut body = asks("Primary working directory: /not/this");
    assert_eq!(path(&body).as_deref(), Some("/else/a"));
    body["system"] = json!([{ "type": "text", "text": "# Environment\n - Primary working directory: /one two\n - x" }]);
    assert_eq!(path(&body).as_deref(), Some("/one two/a"));
    let update = "# Environment update\n - Primary working directory: /three (was /one two)";
    body["messages"] = json!([{ "role": "user", "content": "go" }, { "role": "system", "content": update }]);
    assert_eq!(path(&body).as_deref(), Some("/three/a"));
}

#[test]
fn main_and_side_are_told_by_the_shape() {
    let api = started(Script::new());
    let kind = |field: &str, value: Value| {
        let mut body = asks("go");
        body[field] = value;
        post(&api, &body);
        end_of(&api).kind
    };
    assert_eq!(kind("model", json!("small")), Kind::Main);
    assert_eq!(kind("stream", json!(false)), Kind::Main);
    assert_eq!(kind("output_config", json!({ "format": { "type": "json_schema" } })), Kind::Main);
    assert_eq!(kind("max_tokens", json!(1)), Kind::Side);
    assert_eq!(kind("tools", json!([])), Kind::Side);
    assert_eq!(kind("tools", json!([{ "name": "WebSearch" }])), Kind::Side);
    assert_eq!(kind("tool_choice", json!({ "type": "tool", "name": "Bash" })), Kind::Side);
    let summary = "\nYour task is to create a detailed summary of it";
    assert_eq!(kind("messages", json!([{ "role": "user", "content": summary }])), Kind::Side);
}

#[test]
fn what_the_user_and_the_tools_have_said_is_found() {
    let steered = "The user sent a new message while you were working:\nsteer\n\nit\n\nThis is how Claude Code works.\n\n\
                   The user sent a new message while you were working:\nsteer\n\nIMPORTANT: After completing it, answer.";
    let results = json!([
        { "type": "tool_result", "tool_use_id": "1", "content": "plain" },
        { "type": "tool_result", "tool_use_id": "2", "content": [{ "type": "text", "text": "x" }], "is_error": true },
    ]);
    let messages = json!([
        { "role": "user", "content": [
            { "type": "text", "text": "<system-reminder>steer</system-reminder>" },
            { "type": "text", "text": "go\n" },
        ] },
        { "role": "system", "content": "# Environment\nsteer" },
        { "role": "assistant", "content": [{ "type": "text", "text": "steer" }] },
        { "role": "user", "content": results },
        { "role": "system", "content": [{ "type": "text", "text": steered }] },
    ]);
    let api = started(Script::new());
    post(&api, &talks(&messages));
    assert_eq!(api.user_texts(), ["go", "steer\n\nit", "steer"]);
    let request = api.newest().expect("a request");
    assert_eq!(request.times_said("steer"), 2);
    assert_eq!(request.newest_text(), "plain\nx\nsteer\n\nit\nsteer");
    let results: Vec<_> =
        api.tool_results().into_iter().map(|result| (result.id, result.text, result.is_error)).collect();
    assert_eq!(results, [("1".into(), "plain".into(), false), ("2".into(), "x".into(), true)]);
}
