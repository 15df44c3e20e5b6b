//! Agents that take one message at a time, by the Agent Client Protocol: what is said to them, and when.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::bench::{Bench, TASK, config, prepared};
use super::talking::Talk;
use crate::agent::{Acp, Agent, Permissions};
use crate::config::Config;
use crate::effect::{Signal, Work};
use crate::id::TaskId;
use crate::input::{ExitStatus, Outcome, Stage};
use crate::protocol::Wire;

const READY: &str = r#"{"jsonrpc":"2.0","id":"makima-initialize","result":{"protocolVersion":1,"agentCapabilities":{"loadSession":true}}}"#;
const SESSION: &str = r#"{"jsonrpc":"2.0","id":"makima-session","result":{"sessionId":"its own"}}"#;
const WORDS: &str = r#"{"jsonrpc":"2.0","method":"session/update","params":{"update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"hm"}}}}"#;

fn settings() -> Config {
    let agent = Agent::Acp(Acp { program: Vec::from(["it".to_string()]), permissions: Permissions::default() });
    Config { agent, ..config() }
}

fn begun() -> Talk {
    let mut bench = Bench::with(settings());
    bench.open_session(Wire::Two);
    bench.running(TASK, "");
    Talk { bench, log: 0, names: Vec::new() }
}

/// What it was told last is with it: the method, and what else tells it apart.
fn took(talk: &mut Talk) -> String {
    let Work::Stdin { n, text } = talk.bench.work("Stdin").clone() else { panic!("it was told nothing") };
    talk.bench.done("Stdin", Outcome::Done);
    let said: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let at = |place: &str| said.pointer(place).and_then(serde_json::Value::as_str).unwrap_or_default().to_string();
    let text = at("/params/prompt/0/text") + &at("/params/cwd");
    talk.names.push((text.clone(), at("/id")));
    format!("{n} {} {text}", at("/method"))
}

/// The turn of that message is over.
fn over(talk: &mut Talk, message: &str, stop: &str) -> Vec<String> {
    let (_, name) = talk.names.iter().rev().find(|(said, _)| said == message).expect("it was told that").clone();
    talk.says(&format!(r#"{{"jsonrpc":"2.0","id":"{name}","result":{{"stopReason":"{stop}"}}}}"#))
}

fn open() -> Talk {
    let mut talk = begun();
    assert_eq!(took(&mut talk), "1 initialize ");
    talk.says(READY);
    assert_eq!(took(&mut talk), format!("2 session/new /t/{TASK}"));
    talk.says(SESSION);
    assert_eq!(took(&mut talk), "3 session/prompt do it");
    talk
}

fn is_told_nothing(talk: &Talk) -> bool {
    !talk.bench.asked.values().any(|(_, work)| matches!(work, Work::Stdin { .. }))
}

/// Protects an agent from two turns at once, and a message from a task that ends over it.
#[test]
fn a_message_waits_for_the_turn_to_end() {
    let mut talk = open();
    talk.message("m");
    assert!(is_told_nothing(&talk));
    talk.says(WORDS);
    let out = over(&mut talk, "do it", "end_turn");
    assert!(out.iter().any(|line| line.contains("turn over")), "{out:?}");
    assert_eq!(took(&mut talk), "4 session/prompt m");
    let out = talk.says(WORDS);
    assert!(out.iter().any(|line| line.ends_with("progress: message 1: seen")), "{out:?}");
    over(&mut talk, "m", "end_turn");
    // There is no word for an end.
    assert!(matches!(talk.bench.work("Signal"), Work::Signal { signal: Signal::Interrupt }));
    assert!(is_told_nothing(&talk));
    assert_eq!(talk.ends(), "Conclude Done None");
}

/// Protects the work of an agent that is interrupted: its turn is broken off, and only then is it signalled.
#[test]
fn it_is_signalled_once_its_turn_is_broken_off() {
    let mut talk = open();
    talk.bench.tell(TASK, "interruptTask", r#""graceful":true"#);
    assert_eq!(took(&mut talk), "4 session/cancel ");
    assert!(!talk.bench.asked.values().any(|(_, work)| matches!(work, Work::Signal { .. })));
    over(&mut talk, "do it", "cancelled");
    assert!(matches!(talk.bench.work("Signal"), Work::Signal { signal: Signal::Interrupt }));
    assert_eq!(talk.ends(), "Conclude Interrupted Some(\"interrupted\")");
}

/// Protects an agent from being told its plan, or asked for a session, twice by a daemon that has lost its journal; and a
/// message from being told it before that is known.
#[test]
fn a_life_that_knows_nothing_says_nothing_again() {
    for (handed, next) in [(3, None), (2, Some("3 session/prompt do it")), (1, Some("2 session/new /t/"))] {
        let talk = begun();
        let mut bench = Bench::with(settings());
        bench.specs = talk.bench.specs;
        bench.open_session(Wire::Two);
        bench.again(&[(TASK, Stage::Started(prepared()))]);
        let mut talk = Talk { bench, log: 0, names: Vec::new() };
        talk.bench.done("Attach", Outcome::Started { pid: 9, handed });
        talk.bench.done("Thaw", Outcome::Done);
        assert_eq!(took(&mut talk), "1 initialize ", "whoever hands it over knows that it did");
        // What was heard before stands in the log.
        talk.says(&if handed > 1 { format!("{READY}\n{SESSION}") } else { READY.to_string() });
        match next {
            Some(next) => assert!(took(&mut talk).starts_with(next)),
            None => assert!(is_told_nothing(&talk)),
        }
    }
}

/// Protects a session of before from being lost, and one that is in use from a second who goes on with it.
#[test]
fn who_continues_it_goes_on_with_its_session() {
    let next = TaskId(uuid::Uuid::from_u128(0x77));
    let continued = |bench: &mut Bench| {
        let fields = format!(
            r#""taskName":"next","plan":"more","depth":0,"isOrchestrator":false,"continueFromTaskId":"{TASK}""#
        );
        bench.tell(next, "spawnTask", &fields);
        bench.done("Accept", Outcome::Done);
        bench.done("Prepare", Outcome::Prepared(prepared()));
        bench.done("Start", Outcome::Started { pid: 10, handed: 0 });
    };
    let mut talk = open();
    talk.says(WORDS);
    talk.message("m");
    talk.bench.exit(ExitStatus::Signal(9));
    talk.bench.done("Empty", Outcome::Emptied { killed: 0, log_end: talk.log });
    talk.bench.done("Commit", Outcome::Committed(None));
    talk.bench.done("Conclude", Outcome::Done);
    continued(&mut talk.bench);
    let mut talk = Talk { bench: talk.bench, log: 0, names: Vec::new() };
    took(&mut talk);
    talk.says(READY);
    assert!(took(&mut talk).starts_with("2 session/load"));
    talk.says(r#"{"jsonrpc":"2.0","id":"makima-session","result":null}"#);
    // What it had taken up stands in the session; what it had not is said.
    assert_eq!(took(&mut talk), "3 session/prompt m");
    over(&mut talk, "m", "end_turn");
    assert_eq!(took(&mut talk), "4 session/prompt more");
    let mut talk = open();
    continued(&mut talk.bench);
    let mut talk = Talk { bench: talk.bench, log: 0, names: Vec::new() };
    took(&mut talk);
    talk.says(READY);
    assert!(took(&mut talk).starts_with("2 session/new"));
}
