//! The envelopes of version 2: read as they are written, and the messages in them unchanged.

use makima_core::protocol::{DaemonCommand, Frame, Hello, Meta, Place, envelope};
use uuid::Uuid;

const TASK: Uuid = Uuid::from_u128(0x1000_0000_0000_4000_8000_0000_0000_0001);

/// Protects other people's implementations: these are the bytes that the documents show.
#[test]
fn frames_have_pinned_bytes() {
    let body = r#"{"type":"pauseTask","taskId":"10000000-0000-4000-8000-000000000001"}"#;
    let line = envelope(Some(7), body, None);
    assert_eq!(line, format!(r#"{{"seq":7,"body":{body}}}"#));
    let frame = Frame::read(&line).expect("a frame");
    assert_eq!(frame.seq, Some(7));
    let body = DaemonCommand::read(frame.body.expect("a body").get()).expect("a command");
    assert_eq!(body.kind(), "pauseTask");

    let place = Place { task: TASK, off: 9 };
    let hello = Hello { epoch: 5, of: 6, applied: 7, tasks: vec![place] };
    let cases: [(Frame<'_>, &str); 6] = [
        (
            Frame { hello: Some(hello), ..Frame::default() },
            r#"{"hello":{"epoch":5,"of":6,"applied":7,"tasks":[{"task":"10000000-0000-4000-8000-000000000001","off":9}]}}"#,
        ),
        (Frame { ack: Some(3), ..Frame::default() }, r#"{"ack":3}"#),
        (
            Frame { got: Some(place), ..Frame::default() },
            r#"{"got":{"task":"10000000-0000-4000-8000-000000000001","off":9}}"#,
        ),
        (
            Frame { rewind: Some(place), ..Frame::default() },
            r#"{"rewind":{"task":"10000000-0000-4000-8000-000000000001","off":9}}"#,
        ),
        (Frame { ping: Some(1), ..Frame::default() }, r#"{"ping":1}"#),
        (Frame { pong: Some(1), ..Frame::default() }, r#"{"pong":1}"#),
    ];
    for (frame, bytes) in cases {
        assert_eq!(frame.write(), bytes);
        assert_eq!(Frame::read(bytes).expect("a frame").write(), bytes);
    }
    let output =
        r#"{"type":"taskOutput","taskId":"10000000-0000-4000-8000-000000000001","output":"a\nb","isPartial":false}"#;
    let meta = Meta { off: Some(10), end: Some(30), len: None };
    assert_eq!(envelope(None, output, Some(meta)), format!(r#"{{"body":{output},"meta":{{"off":10,"end":30}}}}"#));
}

/// Protects the session from whatever comes, and the log from what stood in it.
#[test]
fn what_is_no_frame_is_refused_without_its_values() {
    for (text, why) in [
        ("[1]", "not a JSON object"),
        ("", "not a JSON object"),
        (r#"{"seq":-1}"#, "invalid value: integer, expected u64"),
        (r#"{"seq":"hunter2"}"#, "invalid type: string, expected u64"),
        (r#"{"got":{"task":"hunter2","off":1}}"#, "not a UUID"),
        (r#"{"ping":1.5}"#, "invalid type: floating, expected u64"),
        (r#"{"ping":1"#, "EOF while parsing an object"),
    ] {
        let refused = Frame::read(text).expect_err(text);
        assert_eq!(refused.reason, why, "{text}");
    }
    assert!(Frame::read(r#"{"unknown":1,"meta":{"x":[]},"hello":{"epoch":1}}"#).is_ok());
}
