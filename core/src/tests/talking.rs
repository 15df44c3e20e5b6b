//! Agents that tell how they get on: what is said to them, and what becomes of what they say.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::Value;

use super::bench::{Bench, TASK, config, prepared};
use crate::agent::{Agent, Claude};
use crate::config::Config;
use crate::effect::Work;
use crate::input::{Chunk, ExitStatus, Input, Outcome, Part, Stage, Stream};
use crate::limits;
use crate::protocol::Wire;
use crate::view::TaskState;

const NOTHING: [&str; 0] = [];
pub(super) const INIT: &str =
    r#"{"type":"system","subtype":"init","session_id":"s","model":"m","claude_code_version":"2"}"#;
pub(super) const READY: &str =
    r#"{"type":"control_response","response":{"subtype":"success","request_id":"makima-initialize"}}"#;
pub(super) const WELL: &str =
    r#"{"type":"result","subtype":"success","is_error":false,"result":"done","total_cost_usd":0.5}"#;
const BUSY: &str = r#"{"type":"result","subtype":"success","is_error":true,"result":"busy","api_error_status":529}"#;

/// Without the number of the message.
fn plain(line: &str) -> String {
    match line.split_once(' ') {
        Some((number, rest)) if number.starts_with('#') => rest.to_string(),
        _ => line.to_string(),
    }
}

/// A task whose agent talks.
pub(super) struct Talk {
    pub(super) bench: Bench,
    /// Where the log ends.
    pub(super) log: u64,
    /// What it was told, by its content, and the name of each.
    pub(super) names: Vec<(String, String)>,
}

impl Talk {
    /// Its agent has just been started.
    pub(super) fn begun() -> Self {
        let agent = Agent::Claude(Claude::default());
        let mut bench = Bench::with(Config { agent, ..config() });
        bench.open_session(Wire::Two);
        bench.running(TASK, "");
        Self { bench, log: 0, names: Vec::new() }
    }

    /// It is ready, and has been handed its plan.
    pub(super) fn open() -> Self {
        let mut talk = Self::begun();
        talk.is_ready();
        talk
    }

    /// It is at work on its plan.
    pub(super) fn at_work() -> Self {
        Self::of(Self::begun().bench)
    }

    /// The same in a daemon that has just started it.
    pub(super) fn of(bench: Bench) -> Self {
        let mut talk = Self { bench, log: 0, names: Vec::new() };
        talk.is_ready();
        talk.says(&talk.started("do it"));
        talk.says(INIT);
        talk
    }

    fn is_ready(&mut self) {
        self.took();
        self.says(READY);
        self.took();
    }

    /// What comes of what a stream brings, beside that it goes to the server.
    pub(super) fn brings(&mut self, stream: Stream, text: &str) -> Vec<String> {
        let from = self.log;
        self.log += text.len() as u64;
        let (to, text) = (self.log, text.to_string());
        let line_end = text.ends_with('\n').then_some(to);
        let part = Part { stream, text, to, line_end };
        let chunk = Chunk { from, to, log: to, closed: false, begun: None, parts: Vec::from([part]) };
        self.reads(from, &Outcome::Chunk(chunk))
    }

    /// Answers all reads from there.
    fn reads(&mut self, place: u64, outcome: &Outcome) -> Vec<String> {
        let of_place = |work: &Work| matches!(work, Work::Read { from } if *from == place);
        let ids: Vec<_> = self.bench.asked.iter().filter(|(_, (_, work))| of_place(work)).map(|(id, _)| *id).collect();
        assert!(!ids.is_empty(), "nobody reads from {place}: {:?}", self.bench.asked);
        let mut out = Vec::new();
        for id in ids {
            self.bench.asked.remove(&id);
            out.extend(self.bench.step(Input::Done { id, outcome: outcome.clone() }));
        }
        out.retain(|line| !line.starts_with("output ") && !line.starts_with("Read {"));
        out.iter().map(|line| plain(line)).collect()
    }

    /// What comes of a line of its.
    pub(super) fn says(&mut self, line: &str) -> Vec<String> {
        self.brings(Stream::Stdout, &format!("{line}\n"))
    }

    /// What it was told last is with it, and what that is.
    pub(super) fn took(&mut self) -> String {
        let Work::Stdin { text, .. } = self.bench.work("Stdin").clone() else { panic!("it was told nothing") };
        self.bench.done("Stdin", Outcome::Done);
        let said: Value = serde_json::from_str(&text).expect("a line of JSON");
        let field = |pointer: &str| said.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_string();
        self.names.push((field("/message/content"), field("/uuid")));
        field("/message/content") + &field("/request/subtype") + &field("/response/response/behavior")
    }

    /// It says how far it has come with a message.
    fn is_at(&self, content: &str, state: &str) -> String {
        let (_, name) = self.names.iter().rev().find(|(said, _)| said == content).expect("it was told that");
        format!(r#"{{"type":"command_lifecycle","command_uuid":"{name}","state":"{state}"}}"#)
    }

    pub(super) fn started(&self, content: &str) -> String {
        self.is_at(content, "started")
    }

    pub(super) fn message(&mut self, text: &str) -> Vec<String> {
        self.bench.tell(TASK, "sendMessage", &format!(r#""message":"{text}""#))
    }

    /// How it ends, once its process has.
    pub(super) fn ends(&mut self) -> String {
        self.bench.exit(ExitStatus::Code(0));
        self.bench.done("Empty", Outcome::Emptied { killed: 0, log_end: self.log });
        self.concluded()
    }

    fn concluded(&mut self) -> String {
        let out = self.bench.done("Commit", Outcome::Committed(None));
        out.into_iter().find(|line| line.starts_with("Conclude")).expect("its end is written down")
    }
}

/// Protects a plan from being given to an agent that does not listen yet, and a task from ending with anything else than the
/// agent's own word.
#[test]
fn an_agent_gets_its_plan_once_it_is_ready_and_its_own_word_ends_the_task() {
    let mut talk = Talk::begun();
    assert_eq!(talk.took(), "initialize");
    assert!(talk.message("early").iter().any(|line| line.ends_with("message 1: queued")));
    let out = talk.says(READY);
    assert!(out.iter().filter(|line| line.starts_with("Stdin")).count() == 2, "{out:?}");
    assert_eq!((talk.took(), talk.took()), ("early".to_string(), "do it".to_string()));
    assert_eq!(talk.says(&talk.started("do it")), NOTHING);
    assert_eq!(talk.says(&talk.started("early")), ["progress: message 1: seen"]);
    assert_eq!(talk.says(INIT), ["progress: Claude Code 2, m"]);
    let text = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"words"}]}}"#;
    assert_eq!(talk.says(text), ["progress: agent: words"]);
    let tool = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"t","name":"Bash","input":{"command":"ls"}}]}}"#;
    assert_eq!(talk.says(tool), ["progress: tool: Bash: ls"]);
    let out = talk.says(WELL);
    assert_eq!(out.last().expect("a step"), "progress: turn over (0 tokens read, 0 written; $0.5000 so far)");
    assert_eq!((talk.took().as_str(), talk.bench.at(TASK)), ("end_session", TaskState::Ending));
    assert_eq!(talk.ends(), "Conclude Done None");
}

/// Protects a message from being cut off by the end of the turn before it.
#[test]
fn a_task_does_not_end_over_a_message() {
    let mut talk = Talk::at_work();
    talk.message("wait");
    assert_eq!(talk.took(), "wait");
    let out = talk.says(WELL);
    assert!(out.len() == 1 && out[0].contains("turn over"), "{out:?}");
    assert_eq!(talk.bench.at(TASK), TaskState::Running);
    talk.says(&talk.started("wait"));
    // A version that does not say when it is done with a message says that it is done with the turn.
    assert!(talk.says(WELL).iter().any(|line| line.contains("end_session")));
    assert_eq!(talk.message("too late").len(), 1);
    assert_eq!(talk.took(), "end_session");
    assert_eq!(talk.ends(), "Conclude Done None");
}

/// Protects whoever waits from minutes of attempts with a key that is refused.
#[test]
fn a_key_that_is_refused_ends_it_at_once() {
    let mut talk = Talk::at_work();
    let retry = r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":500,"error_status":STATUS}"#;
    let out = talk.says(&retry.replace("STATUS", "529"));
    assert_eq!(out, ["progress: the model's API answered 529; tried again in 1 second (attempt 1 of 10)"]);
    talk.says(&retry.replace("STATUS", "401"));
    assert_eq!(talk.took(), "end_session");
    let why = "the model's API does not let the agent in (it answered 401)";
    assert_eq!(talk.ends(), format!("Conclude Failed Some({why:?})"));
}

/// Protects work of a night from an hour in which the model is too busy.
#[test]
fn a_turn_that_fails_by_what_may_pass_is_tried_again_later_and_later() {
    let mut talk = Talk::at_work();
    for minutes in [1, 2, 4] {
        let out = talk.says(BUSY);
        assert!(out.iter().any(|line| line.contains(&format!("goes on in {minutes} minute"))), "{out:?}");
        assert_eq!(talk.bench.at(TASK), TaskState::Running);
        let out = talk.bench.ring();
        assert_eq!(out[0], format!("after {} ms", minutes * 60_000));
        let said = talk.took();
        assert!(said.starts_with("Your last turn was broken off"), "{said}");
        talk.says(&talk.started(&said));
        talk.says(INIT);
    }
    assert_eq!(talk.bench.daemon.report().tasks[0].messages, 0, "a word of ours is no user's message");
    // Once it is well again the next trouble is the first.
    let said = talk.names.last().map(|(said, _)| said.clone()).unwrap_or_default();
    talk.message("more");
    assert_eq!(talk.took(), "more");
    talk.says(WELL);
    talk.says(&talk.started("more"));
    assert!(talk.says(BUSY).iter().any(|line| line.contains("goes on in 1 minute")), "{said}");
}

/// Protects whoever says something while a turn waits to be tried again: the word to go on comes first, and a turn that goes
/// well makes it needless.
#[test]
fn a_turn_that_goes_well_ends_the_wait() {
    let mut talk = Talk::at_work();
    talk.says(BUSY);
    talk.message("more");
    talk.bench.ring();
    assert_eq!(talk.took(), "more");
    let word = talk.took();
    assert!(word.starts_with("Your last turn was broken off"));
    talk.says(BUSY);
    assert_eq!(talk.bench.timer(), Some(120_000));
    talk.says(&talk.started(&word));
    talk.says(INIT);
    talk.says(WELL);
    assert_eq!(talk.bench.timer(), Some(60_000), "only the message is waited for");
    talk.says(&talk.started("more"));
    assert!(talk.says(WELL).iter().any(|line| line.contains("end_session")));
}

/// Protects a night's work on an older version, which says of a model that was not reached only that a reply failed.
#[test]
fn an_older_version_tells_trouble_by_a_reply() {
    let mut talk = Talk::at_work();
    talk.says(r#"{"type":"assistant","message":{"content":[{"type":"text","text":"no"}]},"error":"server_error"}"#);
    let end = r#"{"type":"result","subtype":"success","is_error":true,"result":"no","terminal_reason":"completed"}"#;
    assert!(talk.says(end).iter().any(|line| line.contains("goes on in 1 minute")));
    let mut talk = Talk::at_work();
    assert!(talk.says(end).iter().any(|line| line.contains("end_session")));
    let retry = r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":1153.97,"error_status":529}"#;
    let mut talk = Talk::at_work();
    assert!(talk.says(retry)[0].contains("tried again in 2 seconds"));
}

/// Protects a task from an hour that never ends.
#[test]
fn trouble_is_not_waited_out_for_ever() {
    let mut talk = Talk::at_work();
    for _ in 0..limits::TROUBLES {
        talk.says(BUSY);
        talk.bench.ring();
        let said = talk.took();
        talk.says(&talk.started(&said));
    }
    talk.says(BUSY);
    assert_eq!(talk.took(), "end_session");
    assert_eq!(talk.ends(), "Conclude Failed Some(\"busy (the API answered 529)\")");
}

/// Protects an agent from being killed that would have ended by itself; and whoever asked for its end from one that will not.
#[test]
fn an_interrupt_is_its_own_word_first_and_then_signals() {
    let mut talk = Talk::at_work();
    let out = talk.bench.tell(TASK, "interruptTask", r#""graceful":true"#);
    assert!(out[1].ends_with("progress: interrupting the agent"), "{out:?}");
    assert_eq!(talk.took(), "interrupt");
    talk.says(
        r#"{"type":"result","subtype":"error_during_execution","is_error":true,"terminal_reason":"aborted_tools"}"#,
    );
    assert_eq!(talk.took(), "end_session");
    assert_eq!(talk.bench.ring(), ["after 10000 ms", "Signal { signal: Interrupt }"]);
    assert_eq!(talk.bench.ring(), ["after 5000 ms", "Signal { signal: Terminate }"]);
    let out = talk.bench.ring();
    assert!(out[0] == "after 5000 ms" && out.iter().any(|line| line == "Empty"), "{out:?}");
    talk.bench.done("Empty", Outcome::Emptied { killed: 1, log_end: talk.log });
    assert_eq!(talk.concluded(), "Conclude Interrupted Some(\"interrupted\")");
}

/// Protects the end of a turn that was over by itself when the interrupt came.
#[test]
fn where_no_turn_can_be_broken_off_it_is_asked_to_end() {
    let mut talk = Talk::at_work();
    talk.bench.tell(TASK, "interruptTask", r#""graceful":true"#);
    talk.says(WELL);
    assert_eq!((talk.took(), talk.took()), ("end_session".to_string(), "interrupt".to_string()));
    let mut talk = Talk::open();
    talk.bench.tell(TASK, "interruptTask", r#""graceful":true"#);
    assert_eq!(talk.took(), "end_session", "it was at rest");
    // A second word is a sterner one.
    talk.bench.tell(TASK, "interruptTask", r#""graceful":true"#);
    talk.bench.done("Empty", Outcome::Emptied { killed: 1, log_end: talk.log });
    assert_eq!(talk.concluded(), "Conclude Interrupted Some(\"interrupted\")");
}

/// Protects what somebody has stopped from being ended because it had just done its work.
#[test]
fn one_that_stands_still_is_not_asked_to_end() {
    let mut talk = Talk::at_work();
    talk.bench.tell(TASK, "pauseTask", "");
    talk.bench.done("Freeze", Outcome::Done);
    talk.says(WELL);
    assert_eq!(talk.bench.at(TASK), TaskState::Paused);
    talk.bench.tell(TASK, "resumeTask", "");
    talk.bench.done("Thaw", Outcome::Done);
    assert_eq!(talk.took(), "end_session");
}

/// Protects a task from an agent that does not tell what it takes up.
#[test]
fn what_an_agent_at_rest_does_not_take_up_is_not_waited_for() {
    let mut talk = Talk::at_work();
    talk.message("m");
    talk.took();
    talk.says(WELL);
    let out = talk.bench.ring();
    assert_eq!(out[0], "after 60000 ms");
    assert!(out[2].ends_with("the agent does not say whether it read 1 message"), "{out:?}");
    assert_eq!(talk.took(), "end_session");
    assert_eq!(talk.ends(), "Conclude Done None");
    // One that never says anything has done nothing.
    let mut talk = Talk::open();
    assert_eq!(talk.bench.ring()[0], "after 60000 ms");
    assert_eq!(talk.took(), "end_session");
    assert_eq!(talk.ends(), "Conclude Failed Some(\"the agent was told its plan, and said nothing for 1 minute\")");
}

/// Protects work behind a conversation from being ended with it.
#[test]
fn what_runs_behind_the_conversation_is_waited_for_and_come_back_to() {
    let jobs = |jobs: &str| format!(r#"{{"type":"system","subtype":"background_tasks_changed","tasks":[{jobs}]}}"#);
    let behind = || {
        let mut talk = Talk::at_work();
        talk.says(&jobs(r#"{"task_id":"b"}"#));
        talk.says(WELL);
        assert_eq!(talk.bench.at(TASK), TaskState::Running);
        talk
    };
    let mut talk = behind();
    talk.says(&jobs(""));
    assert_eq!(talk.bench.at(TASK), TaskState::Running, "it looks at what came of it");
    talk.says(INIT);
    talk.says(WELL);
    assert_eq!(talk.took(), "end_session");
    // It may not, and not all that runs ever ends.
    let mut talk = behind();
    talk.says(&jobs(""));
    assert_eq!(talk.bench.ring()[0], "after 10000 ms");
    assert_eq!(talk.took(), "end_session");
    let mut talk = behind();
    let out = talk.bench.ring();
    assert_eq!(out[0], "after 3600000 ms");
    assert!(out[3].ends_with("was silent for 60 minutes, and is not waited for any more"), "{out:?}");
    assert_eq!(talk.took(), "end_session");
}

/// Protects an agent's work from being judged before all that it said was heard.
#[test]
fn one_that_ends_by_itself_is_heard_out() {
    let end = |talk: &mut Talk, behind: u64| {
        let log_end = talk.log + behind;
        talk.bench.exit(ExitStatus::Code(1));
        talk.bench.done("Empty", Outcome::Emptied { killed: 0, log_end });
    };
    let mut talk = Talk::at_work();
    end(&mut talk, WELL.len() as u64 + 1);
    assert_eq!(talk.bench.at(TASK), TaskState::HearingOut);
    talk.says(WELL);
    assert_eq!(talk.concluded(), "Conclude Done None");
    // In the middle of a turn it has done nothing that it wanted, and what it said of that is told.
    let mut talk = Talk::at_work();
    talk.brings(Stream::Stderr, &format!("{}fatal: no more\n", "x".repeat(limits::LAST_WORDS)));
    end(&mut talk, 0);
    let concluded = talk.concluded();
    assert!(concluded.starts_with("Conclude Failed Some(\"the agent ended with exit code 1: xxx"), "{concluded}");
    assert!(concluded.ends_with("fatal: no more\")"), "{concluded}");
    // Nor has one that was told something else.
    let mut talk = Talk::at_work();
    talk.message("m");
    talk.took();
    talk.says(WELL);
    end(&mut talk, 0);
    let why = "the agent ended with exit code 1 before it had done all that it was told";
    assert_eq!(talk.concluded(), format!("Conclude Failed Some({why:?})"));
    // What could not be read is read once more.
    let mut talk = Talk::at_work();
    end(&mut talk, WELL.len() as u64 + 1);
    talk.reads(talk.log, &Outcome::Failed("no disk".into()));
    assert_eq!(talk.bench.ring()[0], format!("after {} ms", limits::READ_AGAIN.0));
    talk.says(WELL);
    assert_eq!(talk.concluded(), "Conclude Done None");
    // What cannot be had is not waited for.
    let mut talk = Talk::at_work();
    end(&mut talk, 9);
    assert_eq!(talk.bench.ring()[0], "after 30000 ms");
    assert_eq!(talk.bench.at(TASK), TaskState::Committing);
    let mut talk = Talk::at_work();
    end(&mut talk, 9);
    let from = talk.log;
    talk.reads(from, &Outcome::Chunk(Chunk { from, to: from, ..Chunk::default() }));
    assert_eq!(talk.bench.at(TASK), TaskState::Committing, "the log is shorter than it was");
}

/// Protects the daemon's memory from a line without an end, and a session from a line that is no JSON.
#[test]
fn what_cannot_be_read_is_passed_over_and_counted() {
    let mut talk = Talk::at_work();
    assert_eq!(
        talk.says("plain text"),
        ["tell: the agent misbehaves: a line could not be read: expected value at line 1 column 1"]
    );
    let half = "x".repeat(limits::AGENT_LINE / 2);
    for _ in 0..3 {
        assert_eq!(talk.brings(Stream::Stdout, &half), NOTHING);
    }
    assert_eq!(talk.says("the end"), ["tell: the agent misbehaves: lines that were too long and are passed over: 1"]);
    assert_eq!(talk.bench.daemon.counters().misbehaved, 2);
    assert_eq!(talk.brings(Stream::Stdout, &WELL[..20]), NOTHING);
    talk.says(&WELL[20..]);
    assert_eq!(talk.took(), "end_session", "what comes in pieces is one line");
}

/// Protects a task from an agent that nobody hears.
#[test]
fn one_that_cannot_be_heard_is_ended() {
    let mut talk = Talk::at_work();
    for _ in 1..limits::READ_TRIES {
        let place = talk.log;
        talk.reads(place, &Outcome::Failed("no disk".into()));
        talk.bench.ring();
    }
    let place = talk.log;
    talk.reads(place, &Outcome::Failed("no disk".into()));
    assert_eq!(talk.took(), "end_session");
    assert_eq!(talk.ends(), "Conclude Failed Some(\"what the agent says cannot be read: no disk\")");
}

/// Protects a message from being told twice, and a result from being lost, where the daemon went down in between.
#[test]
fn a_new_life_goes_on_listening_where_the_old_one_was() {
    let mut talk = Talk::at_work();
    talk.message("m");
    let started = Stage::Started(prepared());
    talk.bench.again(&[(TASK, started)]);
    talk.bench.done("Attach", Outcome::Started { pid: 9, handed: 3 });
    talk.bench.done("Thaw", Outcome::Done);
    // Under its number: whoever hands it over knows whether it did.
    assert!(matches!(talk.bench.work("Stdin"), Work::Stdin { n: 3, .. }));
    assert_eq!(talk.took(), "m");
    talk.says(&talk.started("m"));
    talk.says(WELL);
    assert!(matches!(talk.bench.work("Stdin"), Work::Stdin { n: 4, .. }));
    assert_eq!(talk.took(), "end_session");
    // The next life asks for the end once more, by the next means.
    talk.bench.again(&[(TASK, Stage::Started(prepared()))]);
    talk.bench.done("Attach", Outcome::Failed("the machine was restarted".into()));
    talk.bench.done("Empty", Outcome::Emptied { killed: 0, log_end: talk.log });
    assert_eq!(talk.concluded(), "Conclude Done None", "it had done its work");
}

/// Protects an agent from being told its plan twice by a daemon that has lost its journal.
#[test]
fn a_life_that_knows_nothing_listens_from_the_beginning() {
    let talk = Talk::at_work();
    let mut bench = Bench::with(Config { agent: Agent::Claude(Claude::default()), ..config() });
    bench.specs = talk.bench.specs;
    bench.open_session(Wire::Two);
    bench.again(&[(TASK, Stage::Started(prepared()))]);
    let mut talk = Talk { bench, log: 0, names: talk.names };
    talk.bench.done("Attach", Outcome::Started { pid: 9, handed: 2 });
    talk.bench.done("Thaw", Outcome::Done);
    assert_eq!(talk.took(), "initialize");
    talk.says(READY);
    talk.says(&talk.started("do it"));
    talk.says(INIT);
    talk.says(WELL);
    assert!(matches!(talk.bench.work("Stdin"), Work::Stdin { n: 3, .. }));
    assert_eq!(talk.took(), "end_session");
    // That it was asked to end before it learns from the answer.
    talk.bench.again(&[(TASK, Stage::Started(prepared()))]);
    talk.bench.done("Attach", Outcome::Started { pid: 9, handed: 3 });
    assert_eq!(talk.bench.at(TASK), TaskState::Ending);
}
