//! After the agent: its tree is emptied, its work committed, checked and handed over, its end written down and told.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::NOTHING;
use super::bench::{Bench, OTHER, TASK, prepared};
use crate::input::{Change, ExitStatus, Input, Outcome, Prepared, Stop};
use crate::limits;
use crate::protocol::{Said, Wire};
use crate::time::Millis;
use crate::view::TaskState;

const BRANCH: &str = r#""completionAction":"branch","repoUrl":"/repo""#;
const MERGE: &str = r#""completionAction":"merge","repoUrl":"/repo","targetBranch":"main""#;

/// A task whose agent has ended with that.
fn ended(fields: &str, code: i32) -> Bench {
    let mut bench = Bench::open(Wire::Two);
    bench.spawn(TASK, fields);
    bench.done("Accept", Outcome::Done);
    bench.done("Prepare", Outcome::Prepared(Prepared { checks: Vec::from(["make".into()]), ..prepared() }));
    bench.done("Start", Outcome::Started { pid: 9, handed: 0 });
    bench.exit(ExitStatus::Code(code));
    assert_eq!(bench.at(TASK), TaskState::Emptying);
    bench
}

fn emptied(bench: &mut Bench) -> Vec<String> {
    bench.done("Empty", Outcome::Emptied { killed: 0, log_end: 0 })
}

fn committed(bench: &mut Bench) -> Vec<String> {
    let note = Some("a note".into());
    let change = Change { commit: "c0ffee0123456789".into(), files: 1, insertions: 2, deletions: 3, note };
    bench.done("Commit", Outcome::Committed(Some(change)))
}

fn force(bench: &mut Bench) -> Vec<String> {
    bench.tell(TASK, "interruptTask", r#""graceful":false"#)
}

/// Protects work from being lost on its way from the agent to where it was to go, and the server from an end before it is
/// written down.
#[test]
fn work_is_brought_in_step_by_step() {
    let mut bench = ended(BRANCH, 0);
    assert_eq!(bench.timer(), Some(limits::EMPTY.0));
    assert_eq!(
        bench.done("Empty", Outcome::Emptied { killed: 2, log_end: 0 }),
        ["Commit", "#8 progress: ended processes that the agent left behind: 2"]
    );
    assert_eq!(bench.timer(), Some(limits::COMMIT.0));
    assert_eq!(
        committed(&mut bench),
        [
            "Check",
            "#9 progress: committed c0ffee0123 on makima/a-task-00000000-0000-0000-0000-000000000007: 1 file, +2 -3; a note",
            "#10 progress: running 1 check"
        ]
    );
    assert_eq!(bench.timer(), Some(limits::CHECKS.0));
    assert_eq!(
        bench.done("Check", Outcome::Checked { failed: None }),
        ["Deliver", "#11 progress: the checks have passed"]
    );
    assert_eq!(bench.timer(), Some(limits::ACTION.0));
    assert_eq!(
        bench.done("Deliver", Outcome::Delivered { message: "it is there".into(), url: None }),
        ["Conclude Done None", "#12 progress: it is there"]
    );
    assert_eq!(bench.timer(), Some(limits::RECORD.0));
    assert_eq!(
        bench.done("Conclude", Outcome::Done),
        ["#13 action true it is there", "#14 finishing -> done", "#15 (len 0) complete true"]
    );
    assert_eq!((bench.at(TASK), bench.daemon.untold(), bench.daemon.unended()), (TaskState::Done, 1, 0));
    let last = bench.daemon.core.numbers.next() - 1;
    assert_eq!(bench.said(Said::Ack(last - 1)), NOTHING);
    assert_eq!(bench.daemon.untold(), 1);
    assert_eq!(bench.said(Said::Ack(last)), ["Close"]);
    assert_eq!(bench.daemon.untold(), 0);
    assert!(bench.daemon.tasks[&TASK].is_handed_over());
}

/// Protects people from work that is handed over though it should not be, and from work that is not though it should.
#[test]
fn what_is_handed_over_depends_on_how_it_went() {
    let mut bench = ended(MERGE, 0);
    emptied(&mut bench);
    committed(&mut bench);
    let mut failed = bench.clone();
    assert_eq!(
        failed.done("Check", Outcome::Checked { failed: Some("`make` failed".into()) }),
        ["Conclude Done None", "#10 progress: `make` failed"]
    );
    assert_eq!(
        failed.done("Conclude", Outcome::Done),
        [
            "#11 action false not done: `make` failed; the work is kept as commit c0ffee0123",
            "#12 finishing -> done",
            "#13 (len 0) complete true"
        ]
    );
    assert!(!failed.daemon.tasks[&TASK].is_handed_over());
    assert_eq!(bench.failed("Check", "no"), ["Conclude Done None", "#10 progress: the checks could not be run: no"]);
    let mut bench = ended(MERGE, 1);
    emptied(&mut bench);
    assert_eq!(
        committed(&mut bench),
        [
            "Conclude Failed Some(\"the script ended with exit code 1\")",
            "#8 progress: committed c0ffee0123 on makima/a-task-00000000-0000-0000-0000-000000000007: 1 file, +2 -3; a note"
        ]
    );
    assert_eq!(
        bench.done("Conclude", Outcome::Done),
        [
            "#9 action false not done, since the task did not succeed; the work is kept as commit c0ffee0123",
            "#10 finishing -> failed",
            "#11 (len 0) complete false the script ended with exit code 1"
        ]
    );
    let mut bench = ended(BRANCH, 1);
    emptied(&mut bench);
    assert_eq!(
        committed(&mut bench),
        [
            "Deliver",
            "#8 progress: committed c0ffee0123 on makima/a-task-00000000-0000-0000-0000-000000000007: 1 file, +2 -3; a note"
        ]
    );
    assert_eq!(
        bench.failed("Deliver", "no"),
        ["Conclude Failed Some(\"the script ended with exit code 1\")", "#9 progress: no"]
    );
}

/// The same of what cannot be done, and of what need not be.
#[test]
fn an_action_that_cannot_be_done_says_so() {
    let mut bench = ended(r#""completionAction":"fly""#, 0);
    emptied(&mut bench);
    let mut nothing = bench.clone();
    assert_eq!(nothing.done("Commit", Outcome::Committed(None)), ["Conclude Done None", "#8 progress: no changes"]);
    assert_eq!(
        nothing.done("Conclude", Outcome::Done),
        [
            "#9 action false `fly` is not an action that makima can do",
            "#10 finishing -> done",
            "#11 (len 0) complete true"
        ]
    );
    committed(&mut bench);
    assert_eq!(
        bench.done("Check", Outcome::Checked { failed: None }),
        ["Conclude Done None", "#10 progress: the checks have passed"]
    );
    assert_eq!(
        bench.done("Conclude", Outcome::Done),
        [
            "#11 action false `fly` is not an action that makima can do; the work is kept as commit c0ffee0123",
            "#12 finishing -> done",
            "#13 (len 0) complete true"
        ]
    );
    let mut bench = ended("", 0);
    emptied(&mut bench);
    committed(&mut bench);
    assert_eq!(
        bench.done("Check", Outcome::Checked { failed: None }),
        ["Conclude Done None", "#10 progress: the checks have passed"]
    );
    assert_eq!(bench.done("Conclude", Outcome::Done), ["#11 finishing -> done", "#12 (len 0) complete true"]);
    let mut bench = ended(r#""completionAction":"branch""#, 0);
    emptied(&mut bench);
    committed(&mut bench);
    assert_eq!(
        bench.done("Check", Outcome::Checked { failed: None }),
        ["Conclude Done None", "#10 progress: the checks have passed"]
    );
}

/// Protects a task from processes that cannot be ended: they are not waited for without end.
#[test]
fn emptying_is_tried_some_times() {
    let mut bench = ended(BRANCH, 0);
    assert_eq!(bench.failed("Empty", "no"), ["Empty", "#8 progress: the agent's processes could not be ended: no"]);
    assert_eq!(bench.failed("Empty", "no"), ["Empty", "#9 progress: the agent's processes could not be ended: no"]);
    assert_eq!(bench.failed("Empty", "no"), ["Commit", "#10 progress: the agent's processes could not be ended: no"]);
    assert_eq!(bench.at(TASK), TaskState::Committing);
    let mut bench = ended(BRANCH, 0);
    assert_eq!(bench.ring(), ["after 30000 ms", "cancel Empty"]);
    assert_eq!(
        bench.ring(),
        [
            "after 30000 ms",
            "tell: a bug in makima: an effect that was cancelled was not answered",
            "Empty",
            "#8 progress: the agent's processes could not be ended: it took too long and was given up"
        ]
    );
}

/// Protects work from a disk that is full for a while.
#[test]
fn what_there_is_no_room_for_waits_for_some() {
    let full = || Outcome::NoRoom("the disk is full".into());
    let mut bench = ended(BRANCH, 0);
    assert_eq!(
        bench.done("Empty", full()),
        ["#8 progress: no room for the end of its log, which waits for some: the disk is full"]
    );
    assert_eq!((bench.at(TASK), bench.timer()), (TaskState::OutOfRoom, Some(5_000)));
    assert_eq!(bench.pass(Millis(4_999)), NOTHING);
    assert_eq!(bench.ring(), ["after 1 ms", "Empty"]);
    assert_eq!(bench.done("Empty", full()), NOTHING);
    assert_eq!(bench.ring(), ["after 5000 ms", "Empty"]);
    emptied(&mut bench);
    assert_eq!(
        bench.done("Commit", full()),
        ["#9 progress: no room for the commit, which waits for some: the disk is full"]
    );
    assert_eq!((bench.at(TASK), bench.timer()), (TaskState::OutOfRoom, Some(5_000)));
    let mut forced = bench.clone();
    assert_eq!(
        force(&mut forced),
        ["Commit", "#10 progress: what is under way is let come to its end; the rest is skipped"]
    );
    assert_eq!(
        forced.done("Commit", full()),
        [
            "Conclude Interrupted Some(\"interrupted\")",
            "#11 progress: the work could not be committed: the disk is full"
        ]
    );
    let mut stopped = bench.clone();
    assert_eq!(stopped.step(Input::Stop { how: Stop::Graceful }), ["Commit"]);
    assert_eq!(
        stopped.done("Commit", full()),
        [
            "Conclude Failed Some(\"the work could not be committed: the disk is full\")",
            "#10 progress: the work could not be committed: the disk is full"
        ]
    );
    for _ in 0..limits::COMMIT_TRIES - 2 {
        bench.ring();
        let out = bench.done("Commit", full());
        assert!(out.is_empty(), "it is said once: {out:?}");
    }
    bench.ring();
    assert_eq!(
        bench.done("Commit", full()),
        [
            "Conclude Failed Some(\"the work could not be committed: the disk is full\")",
            "#10 progress: the work could not be committed: the disk is full"
        ]
    );
}

/// Protects work from a person's impatience: what is under way is let come to its end, the rest is skipped.
#[test]
fn a_forced_interrupt_skips_what_is_not_under_way() {
    let mut bench = ended(BRANCH, 0);
    assert_eq!(bench.tell(TASK, "interruptTask", r#""graceful":true"#), ["#8 finishing -> finishing"]);
    assert_eq!(force(&mut bench), ["#9 progress: what is under way is let come to its end; the rest is skipped"]);
    assert_eq!(bench.timer(), Some(limits::EMPTY.0));
    assert_eq!(force(&mut bench), NOTHING);
    assert_eq!(emptied(&mut bench), ["Commit"]);
    assert_eq!(bench.timer(), Some(limits::FORCED_GIT.0));
    assert_eq!(
        committed(&mut bench),
        [
            "Conclude Interrupted Some(\"interrupted\")",
            "#10 progress: committed c0ffee0123 on makima/a-task-00000000-0000-0000-0000-000000000007: 1 file, +2 -3; a note"
        ]
    );
    assert_eq!(
        bench.done("Conclude", Outcome::Done),
        [
            "#11 action false skipped by a forced interrupt; the work is kept as commit c0ffee0123",
            "#12 finishing -> interrupted",
            "#13 (len 0) complete false interrupted"
        ]
    );
    let mut bench = ended(BRANCH, 0);
    bench.failed("Empty", "no");
    emptied(&mut bench);
    bench.pass(Millis(10_000));
    force(&mut bench);
    assert_eq!(bench.timer(), Some(limits::FORCED_GIT.0));
    let mut bench = ended(BRANCH, 0);
    emptied(&mut bench);
    committed(&mut bench);
    assert_eq!(
        force(&mut bench),
        ["cancel Check", "#10 progress: what is under way is let come to its end; the rest is skipped"]
    );
    assert_eq!(
        bench.failed("Check", "called off"),
        ["Conclude Interrupted Some(\"interrupted\")", "#11 progress: the checks could not be run: called off"]
    );
    assert_eq!(
        bench.done("Conclude", Outcome::Done),
        [
            "#12 action false skipped by a forced interrupt; the work is kept as commit c0ffee0123",
            "#13 finishing -> interrupted",
            "#14 (len 0) complete false interrupted"
        ]
    );
    let mut bench = ended(BRANCH, 0);
    emptied(&mut bench);
    committed(&mut bench);
    bench.done("Check", Outcome::Checked { failed: None });
    assert_eq!(force(&mut bench), ["#11 progress: what is under way is let come to its end; the rest is skipped"]);
    assert_eq!(bench.timer(), Some(limits::FORCED_GIT.0));
    assert_eq!(
        bench.done("Deliver", Outcome::Delivered { message: "it is there".into(), url: None }),
        ["Conclude Interrupted Some(\"interrupted\")", "#12 progress: it is there"]
    );
}

/// A step of it that nobody answers is called off, and given up.
#[test]
fn a_commit_that_takes_too_long_is_given_up() {
    let mut bench = ended(BRANCH, 0);
    emptied(&mut bench);
    assert_eq!(bench.ring(), ["after 600000 ms", "cancel Commit"]);
    assert_eq!(
        bench.ring(),
        [
            "after 30000 ms",
            "tell: a bug in makima: an effect that was cancelled was not answered",
            "Conclude Failed Some(\"the work could not be committed: it took too long and was given up\")",
            "#8 progress: the work could not be committed: it took too long and was given up"
        ]
    );
    assert_eq!(
        bench.done("Conclude", Outcome::Done),
        [
            "#9 action false the work could not be committed",
            "#10 finishing -> failed",
            "#11 (len 0) complete false the work could not be committed: it took too long and was given up"
        ]
    );
}

/// Protects the server from an end that is not written down: that is tried for a while.
#[test]
fn an_end_is_told_once_it_is_written_down() {
    let conclude = || {
        let mut bench = ended("", 0);
        emptied(&mut bench);
        bench.done("Commit", Outcome::Committed(None));
        assert_eq!(bench.at(TASK), TaskState::Concluding);
        bench
    };
    let mut bench = conclude();
    assert_eq!(bench.failed("Conclude", "no"), ["#9 progress: the end cannot be written down yet: no"]);
    assert_eq!((bench.at(TASK), bench.timer()), (TaskState::Unwritten, Some(5_000)));
    assert_eq!(bench.pass(Millis(4_999)), NOTHING);
    assert_eq!(bench.ring(), ["after 1 ms", "Conclude Done None"]);
    let mut late = bench.clone();
    assert_eq!(late.ring(), ["after 60000 ms", "cancel Conclude"]);
    assert_eq!(
        late.ring(),
        [
            "after 30000 ms",
            "tell: a bug in makima: an effect that was cancelled was not answered",
            "#10 progress: the end cannot be written down yet: it took too long and was given up"
        ]
    );
    for n in 2..limits::RECORD_TRIES {
        bench.failed("Conclude", "no");
        assert_eq!(bench.at(TASK), TaskState::Unwritten, "{n}");
        bench.ring();
    }
    assert_eq!(
        bench.failed("Conclude", "no"),
        [
            "#20 progress: the end cannot be written down: after a restart it may be told once more",
            "#21 finishing -> done",
            "#22 (len 0) complete true"
        ]
    );
    let mut bench = conclude();
    bench.failed("Conclude", "no");
    assert_eq!(bench.step(Input::Stop { how: Stop::Graceful }), ["Conclude Done None"]);
    assert_eq!(
        bench.failed("Conclude", "no"),
        ["#10 progress: the end cannot be written down before the daemon ends: no"]
    );
    assert_eq!((bench.at(TASK), bench.daemon.report().busy), (TaskState::Left, 0));
    let mut bench = Bench::open(Wire::Two);
    bench.spawn(TASK, "");
    assert_eq!(bench.failed("Accept", "no"), ["Conclude Failed Some(\"the task could not be written down: no\")"]);
    assert_eq!(bench.daemon.report().busy, 0);
    let crate::effect::Work::Conclude { spec, .. } = bench.work("Conclude") else { panic!("it does not end") };
    assert!(spec.is_some(), "its next life knows nothing else of it");
}

/// Protects people from an end whose reason is cut out, or said of what went well.
#[test]
fn why_it_ended_is_told() {
    let mut told = Vec::new();
    for status in [
        ExitStatus::Code(0),
        ExitStatus::Code(3),
        ExitStatus::Signal(9),
        ExitStatus::NotSetUp(2),
        ExitStatus::Unknown,
        ExitStatus::Lost,
    ] {
        let mut bench = Bench::open(Wire::Two);
        bench.running(TASK, "");
        bench.exit(status);
        emptied(&mut bench);
        bench.done("Commit", Outcome::Committed(None));
        let out = bench.done("Conclude", Outcome::Done);
        told.push(format!("{status:?}: {}", out.join(", ")));
    }
    assert_eq!(
        told,
        [
            "Code(0): #9 finishing -> done, #10 (len 0) complete true",
            "Code(3): #9 finishing -> failed, #10 (len 0) complete false the script ended with exit code 3",
            "Signal(9): #9 finishing -> failed, #10 (len 0) complete false the script was ended by signal 9",
            "NotSetUp(2): #9 finishing -> failed, #10 (len 0) complete false the set-up failed with exit code 2",
            "Unknown: #9 finishing -> failed, #10 (len 0) complete false the script ended, and its exit code is not known",
            "Lost: #9 finishing -> failed, #10 (len 0) complete false the supervisor was killed"
        ]
    );
}

/// Protects the steps of an end from answers that are of what was under way before.
#[test]
fn late_answers_of_the_agents_time_say_nothing_about_its_end() {
    let mut bench = Bench::open(Wire::Two);
    bench.running(TASK, "");
    bench.tell(TASK, "interruptTask", r#""graceful":true"#);
    let signal = bench.id("Signal");
    bench.exit(ExitStatus::Code(0));
    let late = |bench: &Bench| {
        let mut bench = bench.clone();
        let at = bench.at(TASK);
        let out = bench.step(Input::Done { id: signal, outcome: Outcome::Failed("no".into()) });
        assert_eq!((out.as_slice(), bench.at(TASK)), (&[][..], at));
    };
    late(&bench);
    emptied(&mut bench);
    late(&bench);
    bench.done("Commit", Outcome::Committed(None));
    assert_eq!(bench.at(TASK), TaskState::Concluding);
    late(&bench);
}

/// Protects the counters from an agent's end that is told after it was killed, and tells of one that is told twice.
#[test]
fn the_end_of_an_agent_that_was_killed_is_awaited() {
    let mut bench = Bench::open(Wire::Two);
    bench.running(TASK, "");
    let agent = bench.daemon.tasks[&TASK].agent().expect("it runs");
    force(&mut bench);
    let killed = Input::Exited { id: agent, status: ExitStatus::Signal(9) };
    assert_eq!(bench.step(killed.clone()), NOTHING);
    assert_eq!((bench.at(TASK), bench.daemon.counters().stale_effects), (TaskState::Emptying, 0));
    bench.step(killed);
    assert_eq!(bench.daemon.counters().stale_effects, 1);
}

/// Protects people from silence about an action of a task that never began.
#[test]
fn a_task_that_never_began_has_done_its_action_on_nothing() {
    let mut bench = Bench::with(crate::config::Config { max_tasks: 1, ..super::bench::config() });
    bench.open_session(Wire::Two);
    bench.running(OTHER, "");
    bench.spawn(TASK, BRANCH);
    bench.done("Accept", Outcome::Done);
    assert_eq!(bench.tell(TASK, "interruptTask", r#""graceful":true"#), ["Conclude Interrupted Some(\"interrupted\")"]);
    assert_eq!(
        bench.done("Conclude", Outcome::Done),
        ["#9 action true no changes", "#10 pending -> interrupted", "#11 (len 0) complete false interrupted"]
    );
}
