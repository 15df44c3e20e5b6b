//! Pausing an agent and letting it go on.

use alloc::string::String;
use alloc::vec::Vec;

use super::NOTHING;
use super::bench::{Bench, TASK, prepared};
use crate::input::{Outcome, Stage};
use crate::protocol::Wire;
use crate::time::Millis;
use crate::view::TaskState;

fn running() -> Bench {
    let mut bench = Bench::open(Wire::Two);
    bench.running(TASK, "");
    bench
}

fn paused() -> Bench {
    let mut bench = running();
    pause(&mut bench);
    bench.done("Freeze", Outcome::Done);
    bench
}

fn pause(bench: &mut Bench) -> Vec<String> {
    bench.tell(TASK, "pauseTask", "")
}

fn resume(bench: &mut Bench) -> Vec<String> {
    bench.tell(TASK, "resumeTask", "")
}

fn message(bench: &mut Bench, text: &str) -> Vec<String> {
    bench.tell(TASK, "sendMessage", &alloc::format!(r#""message":"{text}""#))
}

/// Protects people from an agent that they take to stand still, or to go on, and that does not; and messages from an agent
/// that does not hear them.
#[test]
fn an_agent_stands_still_and_goes_on() {
    let mut bench = running();
    assert_eq!(pause(&mut bench), ["Freeze"]);
    assert_eq!((bench.at(TASK), bench.timer()), (TaskState::Pausing, Some(30_000)));
    assert_eq!(message(&mut bench, "one"), ["#7 progress: message 1: queued"]);
    assert_eq!(pause(&mut bench), ["#8 progress: it is to stand still already", "#9 running -> running"]);
    assert_eq!(bench.done("Freeze", Outcome::Done), ["#10 running -> paused"]);
    assert_eq!((bench.at(TASK), bench.timer()), (TaskState::Paused, None));
    assert_eq!(message(&mut bench, "two"), ["#11 progress: message 2: queued"]);
    assert_eq!(pause(&mut bench), ["#12 progress: it is to stand still already", "#13 paused -> paused"]);
    assert_eq!(resume(&mut bench), ["Thaw"]);
    assert_eq!(bench.at(TASK), TaskState::Resuming);
    assert_eq!(
        bench.done("Thaw", Outcome::Done),
        ["Stdin { n: 1, text: \"one\\n\" }", "Stdin { n: 2, text: \"two\\n\" }", "#14 paused -> running"]
    );
    assert_eq!((bench.at(TASK), bench.timer()), (TaskState::Running, None));
    assert_eq!(resume(&mut bench), ["#15 progress: it is not paused", "#16 running -> running"]);
}

/// Protects a wish that changes while it is carried out: the last word counts.
#[test]
fn who_changes_their_mind_is_heard_once_what_is_under_way_is_done() {
    let mut bench = running();
    pause(&mut bench);
    assert_eq!(resume(&mut bench), NOTHING);
    assert_eq!(bench.done("Freeze", Outcome::Done), ["Thaw", "#7 running -> paused"]);
    assert_eq!(pause(&mut bench), NOTHING);
    assert_eq!(bench.done("Thaw", Outcome::Done), ["Freeze", "#8 paused -> running"]);
    assert_eq!(bench.done("Freeze", Outcome::Done), ["#9 running -> paused"]);
    assert_eq!(bench.at(TASK), TaskState::Paused);
}

/// Protects a tree of which some stands and some does not: what could not be stopped is let go on as a whole.
#[test]
fn who_cannot_be_stopped_is_let_go_on() {
    let mut bench = running();
    pause(&mut bench);
    assert_eq!(bench.failed("Freeze", "no"), ["Thaw", "#7 progress: the agent could not be paused: no"]);
    assert_eq!(bench.at(TASK), TaskState::Resuming);
    assert_eq!(bench.done("Thaw", Outcome::Done), NOTHING);
    assert_eq!(bench.at(TASK), TaskState::Running);
}

/// Protects an agent from standing for ever unseen: nobody but us lets it go on. It is said once.
#[test]
fn who_cannot_be_let_go_on_is_tried_again() {
    let mut bench = running();
    pause(&mut bench);
    bench.failed("Freeze", "no");
    assert_eq!(bench.failed("Thaw", "not now"), ["#8 progress: the agent could not be let go on: not now"]);
    assert_eq!((bench.at(TASK), bench.timer()), (TaskState::Resuming, Some(30_000)));
    assert_eq!(bench.pass(Millis(29_999)), NOTHING);
    assert_eq!(message(&mut bench, "one"), ["#9 progress: message 1: queued"]);
    assert_eq!(bench.ring(), ["after 1 ms", "Thaw"]);
    assert_eq!(bench.failed("Thaw", "not now"), NOTHING);
    assert_eq!(bench.ring(), ["after 30000 ms", "Thaw"]);
    assert_eq!(bench.done("Thaw", Outcome::Done), ["Stdin { n: 1, text: \"one\\n\" }"]);
    assert_eq!((bench.at(TASK), bench.timer()), (TaskState::Running, None));
    pause(&mut bench);
    bench.failed("Freeze", "no");
    assert_eq!(bench.failed("Thaw", "not now"), ["#11 progress: the agent could not be let go on: not now"]);
    assert_eq!(pause(&mut bench), ["Freeze"]);
    assert_eq!(bench.done("Freeze", Outcome::Done), ["#12 running -> paused"]);
}

/// As it stands is how it stays, until somebody asks again.
#[test]
fn who_stands_and_cannot_be_let_go_on_is_paused() {
    let mut bench = paused();
    resume(&mut bench);
    assert_eq!(bench.failed("Thaw", "no"), ["#8 progress: the agent could not be let go on: no"]);
    assert_eq!((bench.at(TASK), bench.timer()), (TaskState::Paused, None));
    assert_eq!(resume(&mut bench), ["Thaw"]);
    assert_eq!(bench.done("Thaw", Outcome::Done), ["#9 paused -> running"]);
}

/// Protects people from an executor that never answers: nobody knows then how it stands.
#[test]
fn what_is_not_answered_is_called_off_and_given_up() {
    let mut bench = running();
    pause(&mut bench);
    assert_eq!(bench.ring(), ["after 30000 ms", "cancel Freeze"]);
    assert_eq!(
        bench.ring(),
        [
            "after 30000 ms",
            "tell: a bug in makima: an effect that was cancelled was not answered",
            "Thaw",
            "#7 progress: the agent could not be paused: it took too long and was given up"
        ]
    );
    assert_eq!(bench.at(TASK), TaskState::Resuming);
    assert_eq!(bench.done("Thaw", Outcome::Done), NOTHING);
    assert_eq!(bench.at(TASK), TaskState::Running);
    let counters = bench.daemon.counters();
    assert_eq!((counters.timeouts, counters.misbehaved, counters.dropped_reports), (2, 1, 0));
    let mut bench = paused();
    resume(&mut bench);
    assert_eq!(bench.ring(), ["after 30000 ms", "cancel Thaw"]);
    assert_eq!(
        bench.ring(),
        [
            "after 30000 ms",
            "tell: a bug in makima: an effect that was cancelled was not answered",
            "#8 progress: the agent could not be let go on: it took too long and was given up",
            "#9 paused -> running"
        ]
    );
    assert_eq!(bench.at(TASK), TaskState::Resuming, "it may go on, and it may stand");
    assert_eq!(bench.ring(), ["after 30000 ms", "Thaw"]);
}

/// Protects an agent from an answer that is another effect's.
#[test]
fn another_answer_says_nothing_of_how_it_stands() {
    let mut bench = running();
    pause(&mut bench);
    let freeze = bench.id("Freeze");
    bench.tell(TASK, "interruptTask", r#""graceful":true"#);
    assert_eq!(bench.failed("Signal", "gone"), ["#8 progress: the agent was not reached: gone"]);
    assert!(bench.asked.contains_key(&freeze));
    assert_eq!(bench.done("Freeze", Outcome::Done), ["Thaw", "#9 running -> paused"]);
    assert_eq!(bench.done("Thaw", Outcome::Done), ["#10 paused -> running"]);
}

fn again(bench: &mut Bench) -> Vec<String> {
    bench.again(&[(TASK, Stage::Started(prepared()))])
}

/// Protects an agent that was stopped by an earlier life of the daemon: it is stopped again or let go on, whichever is
/// wanted, and is not taken for what it was.
#[test]
fn a_new_life_finds_out_how_an_agent_stands() {
    let mut bench = paused();
    assert_eq!(
        again(&mut bench),
        [
            "Attach",
            "#2 progress: accepted",
            "#3 pending -> preparing",
            "#4 progress: worktree ready at c0ffee0123",
            "#5 progress: agent started (process 9)",
            "#6 preparing -> running",
            "#7 running -> paused"
        ]
    );
    assert_eq!(
        bench.done("Attach", Outcome::Started { pid: 9, handed: 0 }),
        ["Freeze", "#8 progress: the agent is in hand again (process 9)", "Read { from: 0 }"]
    );
    assert_eq!(
        bench.failed("Freeze", "no"),
        ["Thaw", "#9 progress: the agent could not be paused: no", "#10 paused -> running"]
    );
    assert_eq!(bench.at(TASK), TaskState::Resuming);
    assert_eq!(bench.done("Thaw", Outcome::Done), NOTHING);

    let mut bench = paused();
    again(&mut bench);
    assert_eq!(resume(&mut bench), ["#8 progress: it will not stand still"]);
    assert_eq!(
        bench.done("Attach", Outcome::Started { pid: 9, handed: 0 }),
        ["Thaw", "#9 progress: the agent is in hand again (process 9)", "Read { from: 0 }"]
    );
    assert_eq!(bench.done("Thaw", Outcome::Done), ["#10 paused -> running"]);
}

/// The same where something was under way about it.
#[test]
fn a_new_life_finds_out_what_was_done() {
    let mut bench = running();
    pause(&mut bench);
    assert_eq!(
        again(&mut bench),
        [
            "Attach",
            "#2 progress: accepted",
            "#3 pending -> preparing",
            "#4 progress: worktree ready at c0ffee0123",
            "#5 progress: agent started (process 9)",
            "#6 preparing -> running"
        ]
    );
    assert_eq!(
        bench.done("Attach", Outcome::Started { pid: 9, handed: 0 }),
        ["Freeze", "#7 progress: the agent is in hand again (process 9)", "Read { from: 0 }"]
    );
    assert_eq!(bench.done("Freeze", Outcome::Done), ["#8 running -> paused"]);

    let mut bench = paused();
    resume(&mut bench);
    assert_eq!(
        again(&mut bench),
        [
            "Attach",
            "#2 progress: accepted",
            "#3 pending -> preparing",
            "#4 progress: worktree ready at c0ffee0123",
            "#5 progress: agent started (process 9)",
            "#6 preparing -> running",
            "#7 running -> paused",
            "#8 paused -> running"
        ]
    );
    assert_eq!(
        bench.done("Attach", Outcome::Started { pid: 9, handed: 0 }),
        ["Thaw", "#9 progress: the agent is in hand again (process 9)", "Read { from: 0 }"]
    );
    assert_eq!(bench.done("Thaw", Outcome::Done), NOTHING);

    let mut bench = running();
    again(&mut bench);
    assert_eq!(
        bench.done("Attach", Outcome::Started { pid: 9, handed: 0 }),
        ["Thaw", "#7 progress: the agent is in hand again (process 9)", "Read { from: 0 }"]
    );
}

/// Protects an interrupt from an agent that stands still: it is let go on, to hear it.
#[test]
fn who_is_interrupted_goes_on_to_hear_it() {
    let mut bench = paused();
    assert_eq!(
        bench.tell(TASK, "interruptTask", r#""graceful":true"#),
        ["Thaw", "Signal { signal: Interrupt }", "#8 progress: interrupting the agent"]
    );
    assert_eq!(bench.at(TASK), TaskState::Ending);
    assert_eq!(pause(&mut bench), ["#9 progress: the agent is being ended", "#10 paused -> paused"]);
    assert_eq!(resume(&mut bench), ["#11 progress: the agent is being ended", "#12 paused -> paused"]);
}

/// Protects an agent's time to end from what is due beside it.
#[test]
fn letting_it_go_on_makes_an_interrupt_no_sterner() {
    for (wait, rings) in [(27_000, 0), (22_000, 1)] {
        let mut bench = running();
        pause(&mut bench);
        bench.failed("Freeze", "no");
        bench.failed("Thaw", "not now");
        bench.pass(Millis(wait));
        bench.tell(TASK, "interruptTask", r#""graceful":true"#);
        for _ in 0..rings {
            bench.ring();
        }
        assert_eq!(bench.ring(), ["after 3000 ms", "Thaw"]);
    }
}

/// Protects people from a pause that is taken for done where an agent is found again only to be ended.
#[test]
fn who_is_to_end_once_it_is_found_is_not_paused() {
    let mut bench = running();
    again(&mut bench);
    bench.tell(TASK, "interruptTask", r#""graceful":true"#);
    assert_eq!(pause(&mut bench), ["#7 progress: the agent is being ended", "#8 running -> running"]);
}
