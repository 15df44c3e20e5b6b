//! What a task may use up, and what is done when it has.

use alloc::format;
use alloc::string::String;

use super::bench::{Bench, TASK, config, prepared};
use super::talking::Talk;
use crate::agent::{Agent, Claude};
use crate::allowance::{Allowance, Then};
use crate::config::Config;
use crate::effect::{Signal, Work};
use crate::input::{ExitStatus, Outcome, Stage};
use crate::limits;
use crate::protocol::Wire;
use crate::time::Millis;
use crate::view::TaskState;

const MINUTE: Millis = Millis::seconds(60);

fn with(allowance: Allowance) -> Bench {
    let mut bench = Bench::with(Config { allowance, ..config() });
    bench.open_session(Wire::Two);
    bench.running(TASK, "");
    bench
}

fn has(out: &[String], text: &str) -> bool {
    out.iter().any(|line| line.ends_with(text))
}

/// Protects a user's night from an agent without an end: it is asked to end, and its work is kept.
#[test]
fn at_the_end_of_its_time_a_task_is_ended_and_is_no_success() {
    let mut bench = with(Allowance { time: Some(MINUTE), ..Allowance::default() });
    assert!(!has(&bench.pass(Millis::seconds(59)), "as long as it may"));
    let out = bench.pass(Millis::seconds(1));
    assert!(has(&out, "it has been at work for 1 minute, as long as it may"), "{out:?}");
    assert_eq!(bench.work("Signal"), &Work::Signal { signal: Signal::Interrupt });
    bench.exit(ExitStatus::Code(0));
    bench.done("Empty", Outcome::Emptied { killed: 0, log_end: 0 });
    bench.done("Commit", Outcome::Committed(None));
    assert!(
        matches!(bench.work("Conclude"), Work::Conclude { end, .. } if end.error.as_deref().is_some_and(|why| why.contains("as long as it may")))
    );
}

/// Protects whoever pauses a task: time in which it stands still is none that it was at work.
#[test]
fn time_in_which_it_stands_still_does_not_count_and_a_person_gives_as_much_again() {
    let mut bench = with(Allowance { time: Some(MINUTE), then: Then::Pause, ..Allowance::default() });
    bench.pass(Millis::seconds(50));
    bench.tell(TASK, "pauseTask", "");
    bench.done("Freeze", Outcome::Done);
    bench.pass(Millis::seconds(600));
    bench.tell(TASK, "resumeTask", "");
    bench.done("Thaw", Outcome::Done);
    assert!(!has(&bench.pass(Millis::seconds(9)), "as long as it may"));
    let out = bench.pass(Millis::seconds(2));
    assert!(has(&out, "progress: needs a person: it has been at work for 1 minute, as long as it may"), "{out:?}");
    bench.done("Freeze", Outcome::Done);
    assert_eq!(bench.at(TASK), TaskState::Paused);
    assert!(!has(&bench.pass(Millis::seconds(600)), "as long as it may"), "it is told once");
    let out = bench.tell(TASK, "resumeTask", "");
    assert!(has(&out, "progress: needs nobody any more"), "{out:?}");
    bench.done("Thaw", Outcome::Done);
    assert!(!has(&bench.pass(Millis::seconds(58)), "as long as it may"));
    assert!(has(&bench.pass(Millis::seconds(4)), "it has been at work for 2 minutes, as long as it may"));
}

/// Protects a limit from a tree that cannot be stopped: nobody but a person gives it as much again, and it is tried once more.
#[test]
fn who_cannot_be_made_to_stand_still_is_given_nothing() {
    let mut bench = with(Allowance { time: Some(MINUTE), then: Then::Pause, ..Allowance::default() });
    bench.pass(MINUTE);
    let out = bench.failed("Freeze", "not all obey");
    assert!(has(&out, "the agent could not be paused: not all obey") && !has(&out, "nobody any more"), "{out:?}");
    bench.done("Thaw", Outcome::Done);
    assert_eq!(bench.at(TASK), TaskState::Running);
    assert!(bench.asked.values().all(|(_, work)| *work != Work::Freeze), "not at once");
    bench.pass(limits::HELD_AGAIN);
    bench.done("Freeze", Outcome::Done);
    assert_eq!(bench.at(TASK), TaskState::Paused);
    assert!(has(&bench.tell(TASK, "resumeTask", ""), "progress: needs nobody any more"));
    bench.done("Thaw", Outcome::Done);
    assert!(!has(&bench.pass(Millis::seconds(50)), "as long as it may"), "as much again, from when it was used up");
}

/// Protects people from being asked for a task that has ended.
#[test]
fn who_has_ended_stands_still_for_nothing() {
    let mut bench = with(Allowance { time: Some(MINUTE), then: Then::Pause, ..Allowance::default() });
    bench.pass(MINUTE);
    bench.done("Freeze", Outcome::Done);
    let told = bench.tell(TASK, "interruptTask", r#""graceful":false"#);
    assert!(has(&told, "progress: needs nobody any more"), "{told:?}");
}

/// Protects a user's money.
#[test]
fn at_the_end_of_its_money_an_agent_is_broken_off() {
    let agent = Agent::Claude(Claude::default());
    let allowance = Allowance { cost: Some(1_500), ..Allowance::default() };
    let mut bench = Bench::with(Config { agent, allowance, ..config() });
    bench.open_session(Wire::Two);
    bench.running(TASK, "");
    let mut talk = Talk::of(bench);
    // There is something more for it: its turn is over, and it is not.
    talk.message("and that");
    talk.took();
    let turn = |cost: &str| {
        format!(r#"{{"type":"result","subtype":"success","is_error":false,"result":"ok","total_cost_usd":{cost}}}"#)
    };
    let out = talk.says(&turn("0.0016"));
    assert!(has(&out, "progress: it has cost $0.0016, and may $0.0015"), "{out:?}");
    assert_eq!(talk.took(), "end_session", "between two turns there is nothing to break off");
    assert_eq!(talk.ends(), "Conclude Failed Some(\"it has cost $0.0016, and may $0.0015\")");
}

/// Protects a user from learning of the last turn's price by the bill: it is told once that is known, and its work counts.
#[test]
fn what_the_last_turn_cost_is_told() {
    let agent = Agent::Claude(Claude::default());
    for then in [Then::End, Then::Pause] {
        let allowance = Allowance { cost: Some(1_500), then, ..Allowance::default() };
        let mut bench = Bench::with(Config { agent: agent.clone(), allowance, ..config() });
        bench.open_session(Wire::Two);
        bench.spawn(TASK, "");
        bench.done("Accept", Outcome::Done);
        bench.done("Prepare", Outcome::Prepared(crate::tests::bench::prepared()));
        let start = alloc::format!("{:?}", bench.work("Start"));
        assert_eq!(start.contains(r#""--max-budget-usd"), Text("0.0015")"#), then == Then::End, "{start}");
        bench.done("Start", Outcome::Started { pid: 9, handed: 0 });
        let mut talk = Talk::of(bench);
        let out = talk
            .says(r#"{"type":"result","subtype":"success","is_error":false,"result":"ok","total_cost_usd":0.0016}"#);
        assert!(has(&out, "progress: it has cost $0.0016, and may $0.0015"), "{out:?}");
        assert!(!has(&talk.says("{}"), "it has cost"), "once");
        assert_eq!(talk.took(), "end_session");
        assert_eq!(talk.ends(), "Conclude Done None");
    }
}

/// Protects the machine: what processes take is looked at while they run, and only then.
#[test]
fn what_processes_take_is_looked_at_while_they_run() {
    let allowance = Allowance { memory: Some(10 << 20), processes: Some(3), then: Then::Pause, ..Allowance::default() };
    let mut bench = with(allowance);
    let fine = Outcome::Measured { memory: 10 << 20, processes: 3 };
    bench.done("Measure", fine.clone());
    assert!(bench.asked.values().all(|(_, work)| *work != Work::Measure), "not all the time");
    bench.pass(limits::MEASURE);
    let out = bench.failed("Measure", "no /proc");
    assert!(has(&out, "what its processes take cannot be seen, and is not held: no /proc"), "{out:?}");
    bench.pass(limits::MEASURE);
    assert!(!has(&bench.failed("Measure", "no /proc"), "no /proc"), "it is told once");
    bench.pass(limits::MEASURE);
    let out = bench.done("Measure", Outcome::Measured { memory: (10 << 20) + 1, processes: 1 });
    assert!(has(&out, "needs a person: its processes take 11 MiB of memory, and may 10 MiB"), "{out:?}");
    bench.done("Freeze", Outcome::Done);
    bench.pass(MINUTE);
    assert!(bench.asked.values().all(|(_, work)| *work != Work::Measure), "it stands still");
    bench.tell(TASK, "resumeTask", "");
    bench.done("Thaw", Outcome::Done);
    bench.done("Measure", Outcome::Measured { memory: 20 << 20, processes: 6 });
    bench.pass(limits::MEASURE);
    let out = bench.done("Measure", Outcome::Measured { memory: 1, processes: 7 });
    assert!(has(&out, "needs a person: it has 7 processes, and may 6"), "{out:?}");
}

/// Protects a limit from a restart: what was used up stays so, and nobody waits for what the life before had asked.
#[test]
fn a_new_life_counts_on() {
    let mut bench =
        with(Allowance { time: Some(MINUTE), memory: Some(1 << 20), processes: None, ..Allowance::default() });
    bench.pass(Millis::seconds(40));
    bench.again(&[(TASK, Stage::Started(prepared()))]);
    bench.done("Attach", Outcome::Started { pid: 9, handed: 0 });
    bench.done("Thaw", Outcome::Done);
    bench.done("Measure", Outcome::Measured { memory: 1, processes: 1 });
    assert!(!has(&bench.pass(Millis::seconds(19)), "as long as it may"));
    assert!(has(&bench.pass(Millis::seconds(2)), "as long as it may"));
}
