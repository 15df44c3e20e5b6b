//! The wire, byte for byte: lines as existing programs' own serializers write them.

use std::collections::{BTreeMap, BTreeSet};

use makima_core::protocol::{DaemonCommand, DaemonMessage, Unreadable, UnreadableKind};
use proptest::prelude::*;
use serde_json::{Value, json};

const COMMANDS: &str = include_str!("vectors/commands.ndjson");
const MESSAGES: &str = include_str!("vectors/messages.ndjson");
const OLD: &str = include_str!("vectors/commands-old-servers.ndjson");

const TASK: &str = "6f1c3b0a-4a38-4c5e-9d0b-0d5a2a6c7e11";

#[test]
fn commands_come_back_as_they_were() {
    for line in COMMANDS.lines() {
        assert_eq!(DaemonCommand::read(line).expect(line).write(), line);
    }
}

#[test]
fn messages_come_back_as_they_were() {
    for line in MESSAGES.lines() {
        assert_eq!(DaemonMessage::read(line).expect(line).write(), line);
    }
}

#[test]
fn every_type_stands_in_the_vectors() {
    let commands: BTreeSet<&str> = COMMANDS.lines().map(|line| DaemonCommand::read(line).expect(line).kind()).collect();
    let messages: BTreeSet<&str> = MESSAGES.lines().map(|line| DaemonMessage::read(line).expect(line).kind()).collect();
    assert_eq!(DaemonCommand::TYPES.len(), 19);
    assert_eq!(DaemonMessage::TYPES.len(), 16);
    assert_eq!(commands, DaemonCommand::TYPES.iter().copied().collect());
    assert_eq!(messages, DaemonMessage::TYPES.iter().copied().collect());
}

#[test]
fn what_older_servers_send_comes_back_in_full() {
    let written: Vec<String> = OLD.lines().map(|line| DaemonCommand::read(line).expect(line).write()).collect();
    let expected = [
        r#"{"type":"spawnTask","taskId":"6f1c3b0a-4a38-4c5e-9d0b-0d5a2a6c7e11","taskName":"","plan":"Add a retry to the uploader","repoUrl":"https://example.com/team/repo","baseBranch":"main","targetBranch":null,"parentTaskId":null,"depth":0,"isOrchestrator":false,"targetRepoPath":null,"completionAction":null,"continueFromTaskId":null,"copyFiles":null}"#,
        r#"{"type":"spawnTask","taskId":"6f1c3b0a-4a38-4c5e-9d0b-0d5a2a6c7e12","taskName":"","plan":"Split the work and merge it","repoUrl":"https://example.com/team/repo","baseBranch":"main","targetBranch":null,"parentTaskId":null,"depth":0,"isOrchestrator":true,"targetRepoPath":null,"completionAction":null,"continueFromTaskId":null,"copyFiles":null}"#,
        r#"{"type":"spawnTask","taskId":"6f1c3b0a-4a38-4c5e-9d0b-0d5a2a6c7e13","taskName":"","plan":"No repository","repoUrl":null,"baseBranch":null,"targetBranch":null,"parentTaskId":null,"depth":1,"isOrchestrator":false,"targetRepoPath":null,"completionAction":null,"continueFromTaskId":null,"copyFiles":null}"#,
    ];
    assert_eq!(written, expected);
}

#[track_caller]
fn refused(line: &str, kind: UnreadableKind, says: &str) {
    let error = DaemonCommand::read(line).expect_err(line);
    assert_eq!(error.kind, kind, "{line}: {error}");
    assert_eq!(error.to_string(), says, "{line}");
}

#[test]
fn what_is_no_message_is_refused() {
    use UnreadableKind::NotAMessage;
    refused("", NotAMessage, "not a JSON object");
    refused("null", NotAMessage, "not a JSON object");
    refused("\"authenticated\"", NotAMessage, "not a JSON object");
    refused(&format!(r#"["pauseTask","{TASK}"]"#), NotAMessage, "not a JSON object");
    refused("\u{feff}{}", NotAMessage, "not a JSON object");
    refused("{", NotAMessage, "column 1: EOF while parsing an object");
    refused("{}", NotAMessage, "column 2: missing field `type`");
    refused(r#"{"type":7}"#, NotAMessage, "column 9: invalid type: integer, expected a string");
    refused(r#"{"type":null}"#, NotAMessage, "column 12: invalid type: null, expected a string");
    let twice = format!(r#"{{"type":"pauseTask","taskId":"{TASK}","type":"resumeTask"}}"#);
    refused(&twice, NotAMessage, "column 74: duplicate field `type`");
    let trailing = format!(r#"{{"type":"pauseTask","taskId":"{TASK}"}} {{}}"#);
    refused(&trailing, NotAMessage, "column 70: trailing characters");
    let unended = format!(r#"{{"type":"pauseTask","taskId":"{TASK}""#);
    refused(&unended, NotAMessage, "column 67: EOF while parsing an object");
}

#[test]
fn the_place_of_an_error_is_counted_over_all_lines_of_a_message() {
    let line = "{\n \"type\": \"pauseTask\",\n \"taskId\": 7\n}";
    refused(
        line,
        UnreadableKind::WrongField,
        "column 36: `pauseTask`: invalid type: integer, expected a formatted UUID string",
    );
}

#[test]
fn types_of_the_other_direction_and_of_tomorrow_are_unknown() {
    for name in DaemonMessage::TYPES.iter().chain(&["", "spawntask", "pause", "paus\u{e9}"]) {
        refused(&json!({"type": name}).to_string(), UnreadableKind::UnknownType, &format!("`{name}`: unknown type"));
    }
    for name in DaemonCommand::TYPES {
        let error = DaemonMessage::read(&json!({"type": name}).to_string()).expect_err(name);
        assert_eq!(error.kind, UnreadableKind::UnknownType);
    }
    // The name is somebody else's text: short and printable.
    let long = json!({"type": format!("a\u{1b}[31m{}", "b".repeat(1_000))}).to_string();
    let shown = DaemonCommand::read(&long).expect_err("unknown").to_string();
    assert!(shown.chars().count() < 90 && !shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn wrong_fields_are_refused_with_type_and_place() {
    let refused = |line: &str, says| refused(line, UnreadableKind::WrongField, says);
    refused(r#"{"type":"pauseTask"}"#, "column 20: `pauseTask`: missing field `taskId`");
    refused(r#"{"type":"pauseTask","taskId":"x"}"#, "column 32: `pauseTask`: not a UUID");
    refused(
        &format!(r#"{{"taskId":"{TASK}","type":"pauseTask","taskId":"{TASK}"}}"#),
        "column 76: `pauseTask`: duplicate field `taskId`",
    );
    for (graceful, says) in [
        ("1", "invalid type: integer, expected a boolean"),
        ("\"true\"", "invalid type: string, expected a boolean"),
        ("null", "invalid type: null, expected a boolean"),
        ("[true]", "invalid type: sequence, expected a boolean"),
        ("{}", "invalid type: map, expected a boolean"),
    ] {
        let line = format!(r#"{{"type":"interruptTask","taskId":"{TASK}","graceful":{graceful}}}"#);
        let error = DaemonCommand::read(&line).expect_err(&line);
        assert_eq!((error.message_type.as_deref(), error.reason.as_str()), (Some("interruptTask"), says));
        assert!(error.column > 0, "{error}");
    }
}

/// What a `spawnTask` says with this `depth`.
fn depth(number: &str) -> Result<DaemonCommand, Unreadable> {
    DaemonCommand::read(&format!(
        r#"{{"type":"spawnTask","taskId":"{TASK}","plan":"p","depth":{number},"isOrchestrator":false}}"#
    ))
}

#[test]
fn integers_are_integers_in_range() {
    for number in ["0", "-1", "2147483647", "-2147483648"] {
        assert!(depth(number).is_ok(), "{number}");
    }
    for number in ["1.0", "1e0", "1.5", "2147483648", "-2147483649", "1e400", "18446744073709551616", "\"1\"", "01"] {
        assert!(depth(number).is_err(), "{number}");
    }
    let count = |number: &str| {
        let check = r#""canComplete":false,"unmergedBranches":[],"skippedCount":0"#;
        let line = format!(r#"{{"type":"mergeCompleteCheck","taskId":"{TASK}",{check},"mergedCount":{number}}}"#);
        DaemonMessage::read(&line).is_ok()
    };
    assert!(count("4294967295"));
    assert!(!count("4294967296") && !count("-1") && !count("1.0"));
}

#[test]
fn ids_are_read_in_every_form_and_written_in_one() {
    let simple = TASK.replace('-', "");
    let forms =
        [TASK.to_string(), TASK.to_uppercase(), simple.clone(), format!("{{{TASK}}}"), format!("urn:uuid:{TASK}")];
    for form in forms {
        let command = DaemonCommand::read(&json!({"type": "pauseTask", "taskId": form}).to_string()).expect(&form);
        assert_eq!(command.write(), format!(r#"{{"type":"pauseTask","taskId":"{TASK}"}}"#));
    }
    for form in ["", "6f1c3b0a", &format!("{simple}0"), &format!(" {TASK}"), &format!("({TASK})")] {
        assert!(DaemonCommand::read(&json!({"type": "pauseTask", "taskId": form}).to_string()).is_err(), "{form}");
    }
}

/// The names of the fields that some vector of a type leaves `null`.
fn optional_fields<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, BTreeSet<String>> {
    let mut optional: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in lines {
        let object = object(line);
        let nulls = object.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name.clone());
        optional.entry(object["type"].to_string()).or_default().extend(nulls);
    }
    optional
}

fn object(line: &str) -> serde_json::Map<String, Value> {
    serde_json::from_str(line).expect(line)
}

#[test]
fn absent_and_null_are_the_same_where_a_field_is_optional() {
    let optional = optional_fields(COMMANDS.lines().chain(MESSAGES.lines()));
    let count: usize = optional.values().map(BTreeSet::len).sum();
    assert_eq!(count, 16, "the tables have so many optional fields: {optional:?}");
    for line in COMMANDS.lines().chain(MESSAGES.lines()) {
        let object = object(line);
        for name in object.keys().filter(|name| *name != "type") {
            let (mut absent, mut null) = (object.clone(), object.clone());
            absent.remove(name);
            null.insert(name.clone(), Value::Null);
            let (absent, null) = (Value::from(absent).to_string(), Value::from(null).to_string());
            let may = optional[&object["type"].to_string()].contains(name);
            if DaemonCommand::TYPES.contains(&object["type"].as_str().expect("a string")) {
                let (absent, null) = (DaemonCommand::read(&absent), DaemonCommand::read(&null));
                assert_eq!(absent.is_ok(), may || name == "taskName" && line.contains("spawnTask"), "{name} of {line}");
                assert_eq!(null.is_ok(), may, "{name} of {line}");
                assert!(!may || absent == null, "{name} of {line}");
            } else {
                let (absent, null) = (DaemonMessage::read(&absent), DaemonMessage::read(&null));
                assert_eq!((absent.is_ok(), null.is_ok()), (may, may), "{name} of {line}");
                assert!(!may || absent == null, "{name} of {line}");
            }
        }
    }
}

#[test]
fn unknown_fields_are_ignored_however_deep_they_are() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for unknown in ["1", "null", r#"{"type":"x","taskId":[{}]}"#, "1e999", r#""\u0000""#, &deep] {
        let line = format!(r#"{{"new":{unknown},"type":"pauseTask","taskId":"{TASK}","also":{unknown}}}"#);
        let command = DaemonCommand::read(&line).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(command.write(), format!(r#"{{"type":"pauseTask","taskId":"{TASK}"}}"#));
    }
    let branch =
        r#"{"name":"n","taskId":null,"isMerged":false,"lastCommit":"c","new":{"a":[1]},"lastCommitMessage":"m"}"#;
    let line = format!(r#"{{"type":"branchList","taskId":"{TASK}","branches":[{branch}]}}"#);
    let message = DaemonMessage::read(&line).expect(&line);
    assert_eq!(message.write(), line.replace(r#""new":{"a":[1]},"#, ""));
}

#[test]
fn order_space_and_escapes_make_no_difference() {
    let line = format!(" {{\n\t\"taskId\" : \"{TASK}\" ,\r\n \"type\":\"pause\\u0054ask\" }} \n");
    assert_eq!(
        DaemonCommand::read(&line).expect("readable").write(),
        format!(r#"{{"type":"pauseTask","taskId":"{TASK}"}}"#)
    );
}

/// Stands for a secret in a message.
const SECRET: &str = "hunter2";

/// Every place in `value` where a string stands, but for the type.
fn string_places(value: &Value, at: &str, places: &mut Vec<String>) {
    match value {
        Value::String(_) if at != "/type" => places.push(at.to_string()),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(n, value)| string_places(value, &format!("{at}/{n}"), places));
        }
        Value::Object(object) => {
            object.iter().for_each(|(name, value)| string_places(value, &format!("{at}/{name}"), places));
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What may be wrong with a line.
#[derive(Clone, Debug)]
enum Fault {
    None,
    Without(prop::sample::Index),
    Instead(prop::sample::Index, Value),
    Twice(prop::sample::Index),
    OtherType(&'static str),
    CutAt(prop::sample::Index),
    Between(prop::sample::Index, char),
    Behind,
}

fn fault() -> impl Strategy<Value = Fault> {
    let index = any::<prop::sample::Index>;
    let values = [
        json!(SECRET),
        json!([SECRET]),
        json!({SECRET: SECRET}),
        json!(null),
        json!(true),
        json!(1.5),
        json!(-7),
        json!(format!("{SECRET}, expected {SECRET} at line 1")),
    ];
    prop_oneof![
        Just(Fault::None),
        index().prop_map(Fault::Without),
        (index(), prop::sample::select(values.to_vec())).prop_map(|(at, value)| Fault::Instead(at, value)),
        index().prop_map(Fault::Twice),
        prop::sample::select([DaemonCommand::TYPES, DaemonMessage::TYPES].concat()).prop_map(Fault::OtherType),
        index().prop_map(Fault::CutAt),
        (index(), any::<char>()).prop_map(|(at, c)| Fault::Between(at, c)),
        Just(Fault::Behind),
    ]
}

/// A line of the vectors with the secret in one of its strings, and a fault.
fn spoil(line: &str, place: prop::sample::Index, fault: &Fault) -> String {
    let mut value: Value = serde_json::from_str(line).expect(line);
    let mut places = Vec::new();
    string_places(&value, "", &mut places);
    if let Some(at) = (!places.is_empty()).then(|| place.get(&places)).and_then(|at| value.pointer_mut(at)) {
        *at = json!(format!("a {SECRET} z"));
    }
    let object = value.as_object_mut().expect(line);
    let name = |at: &prop::sample::Index, object: &serde_json::Map<String, Value>| {
        let names: Vec<String> = object.keys().filter(|name| *name != "type").cloned().collect();
        at.get(&names).clone()
    };
    match fault {
        Fault::Without(at) => drop(object.remove(&name(at, object))),
        Fault::Instead(at, new) => drop(object.insert(name(at, object), new.clone())),
        Fault::Twice(at) => {
            let name = name(at, object);
            return format!("{{\"{name}\":{},{}", json!(SECRET), &value.to_string()[1..]);
        }
        Fault::OtherType(kind) => drop(object.insert("type".to_string(), json!(kind))),
        Fault::None | Fault::CutAt(_) | Fault::Between(..) | Fault::Behind => {}
    }
    let text = value.to_string();
    let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    match fault {
        Fault::CutAt(at) => text[..*at.get(&ends)].to_string(),
        Fault::Between(at, c) => {
            let (before, behind) = text.split_at(*at.get(&ends));
            format!("{before}{c}{behind}")
        }
        Fault::Behind => format!("{text} {SECRET}"),
        Fault::None | Fault::Without(_) | Fault::Instead(..) | Fault::Twice(_) | Fault::OtherType(_) => text,
    }
}

fn check_error(error: &Unreadable, line: &str) {
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error}\n{line}");
    let typed = error.message_type.is_some();
    assert_eq!(typed, error.kind != UnreadableKind::NotAMessage, "{error}\n{line}");
    let placed = error.column > 0 || error.reason == "not a JSON object" || error.kind == UnreadableKind::UnknownType;
    assert!(placed && error.column <= line.len() + 1, "{error}\n{line}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn errors_never_repeat_a_value(
        line in prop::sample::select(COMMANDS.lines().chain(MESSAGES.lines()).chain(OLD.lines()).collect::<Vec<_>>()),
        place: prop::sample::Index,
        fault in fault(),
    ) {
        let line = spoil(line, place, &fault);
        for error in [DaemonCommand::read(&line).err(), DaemonMessage::read(&line).err()].into_iter().flatten() {
            check_error(&error, &line);
        }
    }

    #[test]
    fn what_can_be_read_comes_back_the_same(
        line in prop::sample::select(COMMANDS.lines().chain(MESSAGES.lines()).collect::<Vec<_>>()),
        place: prop::sample::Index,
        fault in fault(),
    ) {
        let line = spoil(line, place, &fault);
        if let Ok(command) = DaemonCommand::read(&line) {
            prop_assert_eq!(&DaemonCommand::read(&command.write()), &Ok(command));
        }
        if let Ok(message) = DaemonMessage::read(&line) {
            prop_assert_eq!(&DaemonMessage::read(&message.write()), &Ok(message));
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(
        text in r#"[ \t]{0,2}\{?("(type|taskId|depth|é|\\u[0-9a-d]{0,4})?"?[:,]?|[\[\]{}0-9.eE+-]|true|null|.){0,40}\}?"#,
    ) {
        for error in [DaemonCommand::read(&text).err(), DaemonMessage::read(&text).err()].into_iter().flatten() {
            let _ = error.to_string();
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = (DaemonCommand::read(&text), DaemonMessage::read(&text));
    }
}
