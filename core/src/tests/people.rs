//! Tasks that need a person: their agent asks, or may use no more of its model.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::bench::{Bench, TASK, config, prepared};
use super::talking::{INIT, Talk, WELL};
use crate::agent::{Agent, Answer, Claude, Permissions, Policy, Verdict};
use crate::config::Config;
use crate::effect::Effect;
use crate::input::{ExitStatus, Outcome, Stage, Stream};
use crate::limits;
use crate::notice::Notice;
use crate::protocol::Wire;
use crate::time::Millis;
use crate::view::TaskState;

const ASKS: &str = r#"{"type":"control_request","request_id":"q1","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"ls"}}}"#;
const NO_MORE: &str = r#"{"type":"control_cancel_request","request_id":"q1"}"#;

/// A task at work whose agent asks people.
fn asking(wire: Wire) -> Talk {
    let permissions = Permissions { policy: Policy::Ask, ..Permissions::default() };
    let agent = Agent::Claude(Claude { permissions, ..Claude::default() });
    let mut bench = Bench::with(Config { agent, ..config() });
    bench.open_session(wire);
    bench.running(TASK, "");
    Talk::of(bench)
}

fn answer(talk: &mut Talk, question: u64, verdict: Verdict) -> Vec<String> {
    let text = Answer { question, verdict }.write().replace('"', "\\\"");
    talk.message(&text)
}

fn has(out: &[String], text: &str) -> bool {
    out.iter().any(|line| line.ends_with(text))
}

/// Protects an agent that waits for an answer, and a person who gives one: it is told once, and to that agent.
#[test]
fn a_question_waits_for_a_persons_answer() {
    let mut talk = asking(Wire::Two);
    let out = talk.says(ASKS);
    assert!(has(&out, "progress: needs a person: question 1: Bash: ls"), "{out:?}");
    let out = answer(&mut talk, 2, Verdict::Allow);
    assert!(has(&out, "progress: question 2 waits for no answer"), "{out:?}");
    let out = answer(&mut talk, 1, Verdict::Allow);
    assert!(has(&out, "progress: question 1: allowed") && has(&out, "progress: needs nobody any more"), "{out:?}");
    assert_eq!(talk.took(), "allow");
    let out = answer(&mut talk, 1, Verdict::Allow);
    assert!(has(&out, "progress: question 1 waits for no answer"), "{out:?}");
    // It need not be answered.
    talk.says(ASKS);
    let out = talk.says(NO_MORE);
    assert!(has(&out, "progress: needs nobody any more"), "{out:?}");
    talk.says(WELL);
    assert_eq!(talk.took(), "end_session");
    let out = answer(&mut talk, 3, Verdict::Deny(None));
    assert!(has(&out, "progress: question 3 waits for no answer"), "{out:?}");
    talk.bench.exit(ExitStatus::Code(0));
    let out = answer(&mut talk, 3, Verdict::Deny(None));
    assert!(has(&out, "progress: its agent waits for no answer"), "{out:?}");
}

/// Protects an agent from waiting for ever where nobody can say what was answered.
#[test]
fn where_nobody_can_answer_it_is_denied() {
    let mut talk = asking(Wire::One);
    let out = talk.says(ASKS);
    assert!(has(&out, "progress: denied, as its permissions are: Bash: ls"), "{out:?}");
    assert!(!out.iter().any(|line| line.contains("needs a person")), "{out:?}");
    assert_eq!(talk.took(), "deny");
}

/// Protects a question from a daemon that goes down while it waits, and its answer from coming before the agent is found.
#[test]
fn a_question_outlives_the_daemon() {
    let mut talk = asking(Wire::Two);
    talk.says(ASKS);
    talk.bench.again(&[(TASK, Stage::Started(prepared()))]);
    assert_eq!(talk.bench.daemon.report().tasks[0].needs.as_deref(), Some("question 1: Bash: ls"));
    let out = answer(&mut talk, 1, Verdict::Deny(Some("not that".to_string())));
    assert!(has(&out, "progress: question 1: denied: not that"), "{out:?}");
    talk.bench.done("Attach", Outcome::Started { pid: 9, handed: 2 });
    talk.bench.done("Thaw", Outcome::Done);
    assert_eq!(talk.took(), "deny");
}

/// Protects an agent whose user may use no more of its model from being asked again and again before that has changed, and one
/// whose machine has slept from waiting longer.
#[test]
fn a_usage_limit_is_waited_for() {
    let mut talk = asking(Wire::Two);
    let unix = talk.bench.now.unix.0;
    let until = unix / 1_000 + 3_600;
    talk.says(
        &r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":UNTIL}}"#
            .replace("UNTIL", &until.to_string()),
    );
    let failed =
        r#"{"type":"result","subtype":"success","is_error":true,"result":"Limit reached","api_error_status":429}"#;
    let out = talk.says(failed);
    assert!(
        has(&out, "progress: needs a person: a usage limit is reached; it goes on at 1970-01-01 02:23 UTC"),
        "{out:?}"
    );
    assert_eq!(talk.bench.at(TASK), TaskState::Running);
    for _ in 0..3 {
        assert_eq!(talk.bench.ring()[0], "after 900000 ms");
        assert!(!talk.bench.asked.values().any(|(_, work)| matches!(work, crate::effect::Work::Stdin { .. })));
    }
    talk.bench.now.unix.0 = until * 1_000;
    assert_eq!(talk.bench.ring()[0], "after 900000 ms");
    let word = talk.took();
    assert!(word.starts_with("Your last turn was broken off"), "{word}");
    talk.says(&talk.started(&word));
    talk.says(r#"{"type":"rate_limit_event","rate_limit_info":{"status":"allowed"}}"#);
    talk.says(INIT);
    talk.says(WELL);
    assert_eq!(talk.took(), "end_session");
}

/// Protects people from an agent of which nothing is heard; and an agent from being taken for stuck that is not.
#[test]
fn silence_is_told_once_where_the_model_is_waited_for() {
    let mut talk = Talk::at_work();
    let out = talk.bench.ring();
    assert_eq!(out[0], "after 330000 ms");
    assert!(out[1].ends_with("nothing was heard of the agent for 5 minutes; it is waited for"), "{out:?}");
    assert!(out[2].ends_with("progress: needs a person: nothing is heard of the agent"), "{out:?}");
    assert_eq!(talk.bench.timer(), None, "it is told once");
    let out = talk.says(INIT);
    assert!(out.iter().any(|line| line.ends_with("needs nobody any more")), "{out:?}");
    assert_eq!(talk.bench.timer(), Some(330_000));
    talk.says(r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"t","name":"Bash","input":{}}]}}"#);
    assert_eq!(talk.bench.timer(), None, "a tool may take as long as it takes");
    talk.says(r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t"}]}}"#);
    assert_eq!(talk.bench.timer(), Some(330_000));
}

/// Protects people from being told what was needed long ago, where the server was away meanwhile.
#[test]
fn of_what_is_needed_only_the_newest_is_told() {
    let mut talk = asking(Wire::Two);
    talk.bench.acked();
    talk.bench.cut();
    talk.says(ASKS);
    talk.says(NO_MORE);
    talk.says(&ASKS.replace("q1", "q2").replace("ls", "pwd"));
    talk.bench.next();
    let out = talk.bench.open_session(Wire::Two);
    let needs: Vec<&String> = out.iter().filter(|line| line.contains("needs ")).collect();
    assert!(matches!(needs.as_slice(), [one] if one.ends_with("needs a person: question 2: Bash: pwd")), "{out:?}");
}

/// Protects whoever waits for a task elsewhere: its end is told once, as it was.
#[test]
fn an_end_is_news_once() {
    let ends = |talk: &Talk| {
        let of_end = |effect: &&Effect| matches!(effect, Effect::Tell(Notice::Ended { .. }));
        talk.bench.last.iter().find(of_end).cloned()
    };
    let mut talk = asking(Wire::Two);
    talk.says(WELL);
    talk.took();
    talk.ends();
    talk.bench.done("Conclude", Outcome::Done);
    let (name, status, error) = ("a task".to_string(), "done", None);
    assert_eq!(ends(&talk), Some(Effect::Tell(Notice::Ended { task: TASK, name, status, error })));
    talk.bench.again(&[]);
    assert_eq!(ends(&talk), None);
}

/// Protects an agent that asked while no server was there from waiting for ever for one that has people who answer.
#[test]
fn a_question_that_nobody_can_answer_is_denied_in_the_end() {
    let mut talk = asking(Wire::Two);
    talk.bench.cut();
    talk.says(ASKS);
    assert!(talk.bench.daemon.report().tasks[0].needs.is_some());
    talk.bench.next();
    talk.bench.open_session(Wire::Two);
    talk.bench.wait(limits::UNANSWERED);
    assert!(talk.bench.daemon.report().tasks[0].needs.is_some(), "somebody may");
    talk.bench.cut();
    talk.bench.next();
    talk.bench.open_session(Wire::One);
    talk.says(INIT);
    // A server that is there has something to say.
    for _ in 0..4 {
        talk.bench.wait(Millis(limits::UNANSWERED.0 / 3));
        talk.bench.tell(TASK, "mergeStatus", "");
    }
    assert_eq!(talk.bench.daemon.report().tasks[0].needs, None);
    assert_eq!(talk.took(), "deny");
}

/// Protects a model's API from an agent that is told to go on again and again, as its limit is said to be past.
#[test]
fn a_limit_that_is_past_is_trouble_as_any_other() {
    let mut talk = asking(Wire::Two);
    talk.says(r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1}}"#);
    let failed = r#"{"type":"result","subtype":"success","is_error":true,"result":"Limit","api_error_status":429}"#;
    let out = talk.says(failed);
    assert!(out.iter().any(|line| line.contains("the agent goes on in 1 minute: a usage limit is reached")), "{out:?}");
    assert_eq!(talk.bench.ring()[0], "after 60000 ms");
}

/// Protects an agent from waiting for ever for an answer to what was too long to be read.
#[test]
fn who_asks_with_too_many_words_is_told_so() {
    let mut talk = Talk::at_work();
    talk.brings(Stream::Stdout, r#"{"type":"control_request","request_id":"q","request":{"a":""#);
    for _ in 0..2 {
        talk.brings(Stream::Stdout, &"x".repeat(limits::AGENT_LINE / 2));
    }
    let out = talk.says("\"}}");
    assert!(out.iter().any(|line| line.ends_with("asks with more words than can be read, and is told so")), "{out:?}");
    let refused = r#"{\"error\":\"That was too long to be read.\",\"request_id\":\"q\",\"subtype\":\"error\"}"#;
    assert!(out.iter().any(|line| line.starts_with("Stdin") && line.contains(refused)), "{out:?}");
}
