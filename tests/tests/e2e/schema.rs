//! The wire's JSON Schema: what it takes is what makima reads, and it stands in the documents as it is.

use std::path::Path;

use jsonschema::Validator;
use makima_core::protocol::{DaemonCommand, DaemonMessage, Frame};
use serde_json::{Map, Value, json};

use crate::support::Place;

const COMMANDS: &str = include_str!("../../../core/tests/vectors/commands.ndjson");
const MESSAGES: &str = include_str!("../../../core/tests/vectors/messages.ndjson");
const OLD: &str = include_str!("../../../core/tests/vectors/commands-old-servers.ndjson");

fn document() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema/makima-wire.json");
    let text = std::fs::read_to_string(path).expect("the schema is one of the documents");
    serde_json::from_str(&text).expect("JSON")
}

/// One of the document's definitions, ids being looked at too.
fn validator(definition: &str) -> Validator {
    let mut document = document();
    let root = document.as_object_mut().expect("an object");
    root.remove("anyOf");
    root.insert("$ref".to_owned(), json!(format!("#/$defs/{definition}")));
    jsonschema::options().should_validate_formats(true).build(&document).expect("a schema")
}

#[test]
fn the_document_is_what_the_program_prints() {
    let place = Place::new();
    let printed = place.makima(["protocol", "schema"]).done().code(0).json();
    let help = "makima protocol schema > docs/schema/makima-wire.json";
    assert!(printed == document(), "the wire has changed, or its words have; if that is wanted: {help}");
    assert!(jsonschema::meta::is_valid(&printed));
    let kinds = |of: &str| printed["$defs"][of]["oneOf"].as_array().map(Vec::len);
    assert_eq!((kinds("DaemonCommand"), kinds("DaemonMessage")), (Some(19), Some(16)));
}

/// This line with each field left out, and with each field of every other type.
fn spoilt(line: &str) -> Vec<Value> {
    let whole: Map<String, Value> = serde_json::from_str(line).expect("an object");
    let others = [Value::Null, json!(true), json!(7), json!(-7), json!("no id"), json!([7]), json!({}), json!([null])];
    let mut all = Vec::new();
    for field in whole.keys() {
        let mut without = whole.clone();
        without.remove(field);
        all.push(Value::Object(without));
        for other in &others {
            let mut with = whole.clone();
            with.insert(field.clone(), other.clone());
            all.push(Value::Object(with));
        }
    }
    all
}

/// The schema takes a line if and only if makima reads it.
#[track_caller]
fn agree(definition: &str, lines: &str, reads: impl Fn(&str) -> bool) {
    let validator = validator(definition);
    let (mut taken, mut refused) = (0, 0);
    for line in lines.lines() {
        let whole: Value = serde_json::from_str(line).expect("JSON");
        assert!(validator.is_valid(&whole), "{definition}: {line}");
        for value in spoilt(line) {
            let text = value.to_string();
            let is_read = reads(&text);
            assert_eq!(validator.is_valid(&value), is_read, "{definition}: {text}");
            if is_read { taken += 1 } else { refused += 1 }
        }
    }
    assert!(taken > 0 && refused > 0, "{definition}: {taken} were taken and {refused} refused");
}

#[test]
fn it_takes_every_line_that_is_read_and_none_that_is_not() {
    agree("DaemonCommand", &[COMMANDS, OLD].concat(), |text| DaemonCommand::read(text).is_ok());
    agree("DaemonMessage", MESSAGES, |text| DaemonMessage::read(text).is_ok());
}

#[test]
fn the_two_directions_are_told_apart_and_the_whole_document_takes_both() {
    let whole = jsonschema::validator_for(&document()).expect("a schema");
    let (commands, messages) = (validator("DaemonCommand"), validator("DaemonMessage"));
    for line in COMMANDS.lines().chain(OLD.lines()).map(|line| serde_json::from_str(line).expect("JSON")) {
        assert!(whole.is_valid(&line) && !messages.is_valid(&line), "{line}");
    }
    for line in MESSAGES.lines().map(|line| serde_json::from_str(line).expect("JSON")) {
        assert!(whole.is_valid(&line) && !commands.is_valid(&line), "{line}");
    }
    assert!(!whole.is_valid(&json!({ "type": "unheardOf" })));
}

#[test]
fn frames_of_version_two_are_in_it() {
    let place = json!({ "task": "0190a0e0-0000-7000-8000-00000000000a", "off": 7 });
    let message = json!({ "type": "heartbeat", "activeTasks": [] });
    let good = [
        json!({ "ack": 3 }),
        json!({ "seq": 7, "ack": 3, "body": message, "meta": { "len": 4096 } }),
        json!({ "hello": { "epoch": 1, "of": 0, "applied": 0, "tasks": [place] } }),
        json!({ "got": place }),
        json!({ "ping": 1 }),
    ];
    let bad = [json!({ "ack": "3" }), json!({ "got": {} }), json!({ "hello": {} }), json!({ "seq": -1 }), json!([])];
    let (daemon, server) = (validator("DaemonFrame"), validator("ServerFrame"));
    for frame in good.iter().chain(&bad) {
        assert_eq!(daemon.is_valid(frame), Frame::read(&frame.to_string()).is_ok(), "{frame}");
    }
    assert!(good.iter().all(|frame| daemon.is_valid(frame)) && !bad.iter().any(|frame| daemon.is_valid(frame)));
    assert!(!server.is_valid(&good[1]), "a server says no heartbeat");
    assert!(!daemon.is_valid(&json!({ "seq": 1, "body": { "type": "heartbeat" } })), "what is in it counts");
}
