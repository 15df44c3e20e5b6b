//! Tasks that go on with what another task's agent was told and did.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use uuid::Uuid;

use super::bench::{Bench, TASK, config, prepared};
use super::talking::{INIT, READY, Talk, WELL};
use crate::agent::{Agent, Claude};
use crate::config::{Compat, Config};
use crate::effect::{Arg, Work};
use crate::id::TaskId;
use crate::input::{ExitStatus, Outcome, Prepared, Stage};
use crate::limits;
use crate::protocol::Wire;
use crate::time::Millis;
use crate::view::TaskState;

/// One that goes on with it.
const NEXT: TaskId = TaskId(Uuid::from_u128(0x77));

/// Where the conversation of the first is.
fn file() -> String {
    format!("file of {TASK}")
}

/// Its agent is killed, and its work committed.
fn killed(talk: &mut Talk) {
    talk.bench.exit(ExitStatus::Signal(9));
    talk.bench.done("Empty", Outcome::Emptied { killed: 0, log_end: talk.log });
    talk.bench.done("Commit", Outcome::Committed(None));
    talk.bench.done("Conclude", Outcome::Done);
}

/// A task that continues the first with this plan: how its agent's conversation is called, as its command line has it.
fn continued(bench: &mut Bench, task: TaskId, plan: &str) -> Vec<String> {
    continued_from(bench, task, plan, prepared())
}

/// The same, with what is found of the other.
fn continued_from(bench: &mut Bench, task: TaskId, plan: &str, found: Prepared) -> Vec<String> {
    let fields =
        format!(r#""taskName":"next","plan":"{plan}","depth":0,"isOrchestrator":false,"continueFromTaskId":"{TASK}""#);
    bench.tell(task, "spawnTask", &fields);
    bench.done("Accept", Outcome::Done);
    bench.done("Prepare", Outcome::Prepared(found));
    let Work::Start(launch) = bench.work("Start").clone() else { panic!("it is not started") };
    let words = launch.argv.into_iter().map(|arg| match arg {
        Arg::Text(text) => text,
        Arg::PlanFile => "the plan".to_string(),
        Arg::Conversation(id) => format!("file of {id}"),
    });
    let words: Vec<String> = words.collect();
    let from = words.iter().position(|word| word == "--session-id" || word == "--resume").unwrap_or(words.len());
    words.iter().skip(from).take_while(|word| *word != "-p").cloned().collect()
}

/// Its conversation is found, and nothing of what was left stands in it.
fn found() -> Prepared {
    Prepared { recalled: Some(Vec::new()), ..prepared() }
}

/// It was started, and tells that it is ready: what it is told.
fn told(mut bench: Bench, count: usize) -> (Talk, Vec<String>) {
    bench.done("Start", Outcome::Started { pid: 10, handed: 0 });
    let mut talk = Talk { bench, log: 0, names: Vec::new() };
    assert_eq!(talk.took(), "initialize");
    talk.says(READY);
    // All of it is on its way at once; the last is answered first.
    let mut told: Vec<String> = (0..count).map(|_| talk.took()).collect();
    told.reverse();
    (talk, told)
}

/// Protects what an agent had been told when it was killed: the next one is told the rest of it, under the same names, in the
/// same conversation.
#[test]
fn who_goes_on_is_told_what_was_left() {
    let mut talk = Talk::at_work();
    talk.message("m");
    talk.took();
    let names = talk.names.clone();
    killed(&mut talk);
    // It has taken it up, but an agent writes down later what stands in its conversation: that was not found.
    let mut lost = talk.bench.clone();
    assert_eq!(continued(&mut lost, NEXT, ""), ["--session-id", &TASK.to_string()]);
    assert_eq!(told(lost, 3).1, ["do it", "m", "Go on where you were."]);
    let mut bench = talk.bench;
    assert_eq!(continued_from(&mut bench, NEXT, "", found()), ["--resume", &file()]);
    let (mut talk, told) = told(bench, 3);
    assert_eq!(told, ["do it", "m", "Go on where you were."]);
    let again = |content: &str| talk.names.iter().find(|(said, _)| said == content).cloned();
    let before = |content: &str| names.iter().find(|(said, _)| said == content).cloned();
    assert!(again("do it").is_some());
    assert_eq!((again("do it"), again("m")), (before("do it"), before("m")));
    // All of it has to be done with.
    talk.says(&talk.started("do it"));
    talk.says(INIT);
    talk.says(WELL);
    talk.says(&talk.started("m"));
    talk.says(&talk.started("Go on where you were."));
    talk.says(WELL);
    assert_eq!(talk.took(), "end_session");
}

/// Protects what was said to an agent that had ended, as whoever said it could not know.
#[test]
fn who_goes_on_is_told_what_came_too_late() {
    let mut talk = Talk::at_work();
    talk.bench.exit(ExitStatus::Signal(9));
    let out = talk.message("late");
    assert!(
        out.iter()
            .any(|line| line.ends_with("message 1: not taken up, as the agent has ended; who goes on with it is told"))
    );
    talk.bench.done("Empty", Outcome::Emptied { killed: 0, log_end: talk.log });
    talk.bench.done("Commit", Outcome::Committed(None));
    talk.bench.done("Conclude", Outcome::Done);
    talk.message("later");
    let mut bench = talk.bench;
    continued(&mut bench, NEXT, "more");
    let (_, told) = told(bench, 4);
    assert_eq!(told, ["do it", "late", "later", "more"]);
}

/// Protects a conversation that is gone on with a second time, and one that is gone on with before it was begun.
#[test]
fn it_is_gone_on_with_as_far_as_it_has_come() {
    // It was told its plan, and has not taken it up.
    let mut talk = Talk::open();
    killed(&mut talk);
    let mut bench = talk.bench;
    assert_eq!(continued(&mut bench, NEXT, "more"), ["--session-id", &TASK.to_string()]);
    let (_, told_next) = told(bench, 2);
    assert_eq!(told_next, ["do it", "more"]);
    // It was not heard to take it up, but its conversation is found, and in that it has.
    let mut talk = Talk::open();
    let plan = talk.names.iter().find(|(said, _)| said == "do it").map(|(_, name)| Uuid::parse_str(name).unwrap());
    killed(&mut talk);
    let mut bench = talk.bench;
    let found = Prepared { recalled: Some(Vec::from_iter(plan)), ..prepared() };
    assert_eq!(continued_from(&mut bench, NEXT, "more", found), ["--resume", &file()]);
    let (_, told_next) = told(bench, 1);
    assert_eq!(told_next, ["more"]);
    // It had done all that it was told.
    let mut talk = Talk::at_work();
    talk.says(WELL);
    talk.took();
    talk.ends();
    talk.bench.done("Conclude", Outcome::Done);
    let mut bench = talk.bench;
    assert_eq!(continued(&mut bench, NEXT, "more"), ["--resume", &file()]);
    let (mut talk, told_next) = told(bench, 1);
    assert_eq!(told_next, ["more"]);
    // While one is at it, another branches off.
    let third = TaskId(Uuid::from_u128(0x78));
    let fork = ["--resume", &file(), "--fork-session", "--session-id", &third.to_string()];
    assert_eq!(continued(&mut talk.bench, third, "other"), fork);
    let (_, told_third) = told(talk.bench, 1);
    assert_eq!(told_third, ["other"]);
    // Of one that has not begun there is nothing to branch off from.
    let mut talk = Talk::open();
    assert_eq!(continued(&mut talk.bench, NEXT, "other"), ["--session-id", &NEXT.to_string()]);
}

/// Protects a conversation from a daemon that has lost its journal.
#[test]
fn of_a_task_that_only_its_folder_tells_of_the_conversation_is_there() {
    let mut talk = Talk::at_work();
    killed(&mut talk);
    let mut bench = Bench::with(Config { agent: Agent::Claude(Claude::default()), ..config() });
    bench.specs = talk.bench.specs;
    bench.open_session(Wire::Two);
    let end =
        crate::task::End { status: crate::task::EndStatus::Failed, error: None, completion: None, log_end: talk.log };
    bench.again(&[(TASK, Stage::Ended(end))]);
    assert_eq!(continued_from(&mut bench, NEXT, "", found()), ["--resume", &file()]);
}

/// Protects servers that mean the worktree alone, and plans from agents that they are nothing for.
#[test]
fn a_plain_server_means_the_worktree_unless_it_is_configured_otherwise() {
    for (compat, expected) in [(false, ["--session-id", &NEXT.to_string()]), (true, ["--resume", &file()])] {
        let compat = Compat { continues_conversation: compat, ..Compat::default() };
        let agent = Agent::Claude(Claude::default());
        let mut bench = Bench::with(Config { agent, compat, ..config() });
        bench.open_session(Wire::One);
        bench.running(TASK, "");
        let mut talk = Talk { bench, log: 0, names: Vec::new() };
        talk.took();
        talk.says(READY);
        talk.took();
        talk.says(&talk.started("do it"));
        talk.says(WELL);
        killed(&mut talk);
        assert_eq!(continued(&mut talk.bench, NEXT, "more"), expected);
    }
    let mut bench = Bench::open(Wire::Two);
    bench.running(TASK, "");
    bench.daemon.config.agent = Agent::Claude(Claude::default());
    let out = bench.tell(
        NEXT,
        "spawnTask",
        &format!(r#""taskName":"n","plan":"p","depth":0,"isOrchestrator":false,"continueFromTaskId":"{TASK}""#),
    );
    let why = "the task that is to be continued was done by shell, and this daemon's agent is claude: start it with \
               `--agent shell`";
    assert!(out.iter().any(|line| line.ends_with(&format!("complete false {why}"))), "{out:?}");
}

/// Protects a script that is continued without a word from being told one.
#[test]
fn a_script_is_run_again() {
    let mut bench = Bench::open(Wire::Two);
    bench.running(TASK, "");
    assert_eq!(continued(&mut bench, NEXT, ""), [""; 0]);
    assert_eq!(bench.specs[&NEXT].plan, "do it");
}

/// Protects a user's message that a daemon could not write down, as its disk was full, and had handed over before it was killed.
#[test]
fn what_an_earlier_life_told_it_is_waited_for() {
    let mut talk = Talk::at_work();
    talk.bench.again(&[(TASK, Stage::Started(prepared()))]);
    talk.bench.done("Attach", Outcome::Started { pid: 9, handed: 3 });
    talk.bench.done("Thaw", Outcome::Done);
    talk.says(WELL);
    assert_eq!(talk.bench.at(TASK), TaskState::Running, "it may take that up now");
    talk.says(INIT);
    talk.bench.pass(limits::RETURNS);
    talk.says(WELL);
    talk.bench.pass(Millis(limits::RETURNS.0 - 1));
    assert_eq!(talk.bench.at(TASK), TaskState::Running);
    talk.bench.pass(Millis(1));
    assert_eq!(talk.took(), "end_session");
}
