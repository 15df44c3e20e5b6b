//! A new life of the daemon: what was known, and what the folders say, goes on.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::NOTHING;
use super::bench::{Bench, OTHER, TASK, config, prepared, same};
use crate::agent::{Agent, Claude};
use crate::config::Config;
use crate::id::SecretId;
use crate::input::{Boot, Change, ExitStatus, Input, Leftover, Outcome, Stage};
use crate::protocol::{DaemonCommand, Wire};
use crate::task::{End, EndStatus};
use crate::view::TaskState;

const ALL: &str = r#""isOrchestrator":true,"completionAction":"branch","repoUrl":"/repo""#;

fn change() -> Change {
    Change { commit: "c0ffee0123456789".into(), files: 1, insertions: 2, deletions: 3, note: None }
}

/// A task brought to each place that one can be at before its daemon ends.
pub(super) fn everywhere() -> Vec<Bench> {
    let mut all = Vec::new();
    let mut bench = Bench::open(Wire::Two);
    let keep = |bench: &Bench, all: &mut Vec<Bench>| all.push(bench.clone());
    let checks = crate::input::Prepared { checks: Vec::from(["make".into()]), ..prepared() };
    bench.spawn(TASK, ALL);
    keep(&bench, &mut all);
    bench.tell(TASK, "interruptTask", r#""graceful":true"#);
    keep(&bench, &mut all);
    bench = all[0].clone();
    bench.done("Accept", Outcome::Done);
    keep(&bench, &mut all);
    bench.tell(TASK, "pauseTask", "");
    bench.done("Prepare", Outcome::Prepared(checks));
    keep(&bench, &mut all);
    bench.done("MakeKey", Outcome::Key(SecretId::ToolKey(TASK)));
    keep(&bench, &mut all);
    bench.acked();
    keep(&bench, &mut all);
    let mut never = bench.clone();
    never.tell(TASK, "interruptTask", r#""graceful":true"#);
    keep(&never, &mut all);
    bench.tell(TASK, "resumeTask", "");
    keep(&bench, &mut all);
    for (work, outcome) in [
        ("Prepare", Outcome::Prepared(crate::input::Prepared { checks: Vec::from(["make".into()]), ..prepared() })),
        ("MakeKey", Outcome::Key(SecretId::ToolKey(TASK))),
    ] {
        bench.done(work, outcome);
    }
    bench.acked();
    keep(&bench, &mut all);
    bench.done("Start", Outcome::Started { pid: 9, handed: 0 });
    keep(&bench, &mut all);
    let mut ending = bench.clone();
    ending.tell(TASK, "interruptTask", r#""graceful":true"#);
    keep(&ending, &mut all);
    bench.exit(ExitStatus::Code(0));
    keep(&bench, &mut all);
    bench.done("Empty", Outcome::Emptied { killed: 0, log_end: 0 });
    keep(&bench, &mut all);
    bench.done("Commit", Outcome::Committed(Some(change())));
    keep(&bench, &mut all);
    bench.done("Check", Outcome::Checked { failed: None });
    keep(&bench, &mut all);
    bench.done("Deliver", Outcome::Delivered { message: "there".into(), url: None });
    keep(&bench, &mut all);
    bench.done("Conclude", Outcome::Done);
    keep(&bench, &mut all);
    all
}

/// Protects a task from being begun twice, ended twice, or forgotten: what it becomes follows from what was known and from
/// what its folder says.
#[test]
fn a_task_goes_on_from_what_is_known_and_what_is_found() {
    let end = End { status: EndStatus::Failed, error: Some("why".into()), completion: None, log_end: 0 };
    let mut rows = Vec::new();
    for bench in everywhere() {
        rows.push(bench.at(TASK).name().to_string());
        for stage in [None, Some(Stage::Accepted), Some(Stage::Started(prepared())), Some(Stage::Ended(end.clone()))] {
            let mut bench = bench.clone();
            let found: Vec<_> = stage.into_iter().map(|stage| (TASK, stage)).collect();
            let out = bench.again(&found);
            rows.push(format!("  {}: {}", bench.at(TASK).name(), out.join(", ")));
        }
    }
    same("lives.txt", include_str!("lives.txt"), &rows);
}

/// The same, where the daemon ends once more before anything is answered: nothing may come of that but the same.
#[test]
fn a_second_new_life_is_as_the_first() {
    for mut bench in everywhere() {
        let found = [(TASK, Stage::Started(prepared()))];
        bench.again(&found);
        let once = (bench.at(TASK), bench.asked.values().map(|(_, work)| work.clone()).collect::<Vec<_>>());
        bench.again(&found);
        let twice = (bench.at(TASK), bench.asked.values().map(|(_, work)| work.clone()).collect::<Vec<_>>());
        assert_eq!(once, twice);
    }
}

/// Protects an agent from being started twice, and a task from hanging on one that is gone.
#[test]
fn an_agent_is_looked_for_and_found_or_not() {
    let found = [(TASK, Stage::Started(prepared()))];
    let mut at = everywhere();
    let (starting, running, ending) = (at.remove(8), at.remove(8), at.remove(8));
    assert_eq!(
        [starting.at(TASK), running.at(TASK), ending.at(TASK)].map(TaskState::name),
        ["starting", "running", "ending"]
    );
    let mut rows = Vec::new();
    for bench in [&starting, &running, &ending] {
        rows.push(bench.at(TASK).name().to_string());
        let mut bench = bench.clone();
        bench.again(&found);
        assert_eq!(bench.timer(), Some(30_000));
        let mut asked = |bench: &Bench, how: &str| {
            let mut bench = bench.clone();
            rows.push(format!("  {how}"));
            for outcome in [Outcome::Started { pid: 9, handed: 0 }, Outcome::NotStarted, Outcome::Failed("no".into())] {
                let mut bench = bench.clone();
                let out = bench.done("Attach", outcome).join(", ");
                rows.push(format!("    {}: {out}", bench.at(TASK).name()));
            }
            let late = bench.ring();
            assert_eq!(late.last().map(String::as_str), Some("cancel Attach"));
            let out = bench.ring().join(", ");
            rows.push(format!("    {}: {out}", bench.at(TASK).name()));
        };
        asked(&bench, "not asked to end");
        bench.tell(TASK, "interruptTask", r#""graceful":true"#);
        asked(&bench, "asked to end");
        bench.tell(TASK, "interruptTask", r#""graceful":true"#);
        asked(&bench, "asked to end twice");
    }
    same("attached.txt", include_str!("attached.txt"), &rows);
}

/// Protects an agent that is looked for from a stop that is taken for a person's word, or is none.
#[test]
fn a_stop_counts_once_an_agent_is_found() {
    use crate::input::Stop;
    let found = [(TASK, Stage::Started(prepared()))];
    let mut at = everywhere();
    let (running, ending) = (at.remove(9), at.remove(9));
    let stop = |mut bench: Bench, how: &[crate::input::Stop]| {
        bench.again(&found);
        for how in how {
            bench.step(Input::Stop { how: *how });
        }
        bench.done("Attach", Outcome::Started { pid: 9, handed: 0 })
    };
    assert_eq!(
        stop(running.clone(), &[Stop::Graceful]),
        [
            "Thaw",
            "Signal { signal: Interrupt }",
            "#15 progress: the agent is in hand again (process 9)",
            "#16 progress: interrupting the agent",
            "Read { from: 0 }"
        ]
    );
    assert_eq!(
        stop(running.clone(), &[Stop::Graceful, Stop::Forced]),
        [
            "Thaw",
            "Empty",
            "#15 progress: the agent is in hand again (process 9)",
            "#16 running -> finishing",
            "Read { from: 0 }"
        ]
    );
    assert_eq!(
        stop(ending, &[Stop::Graceful]),
        [
            "Thaw",
            "Signal { signal: Interrupt }",
            "#16 progress: the agent is in hand again (process 9)",
            "Read { from: 0 }"
        ]
    );
}

/// Protects the executor's folders from two daemons: only a later life counts.
#[test]
fn a_daemon_is_not_started_twice() {
    let mut bench = Bench::open(Wire::Two);
    bench.running(TASK, "");
    let before = bench.daemon.digest();
    let asked = bench.asked.clone();
    assert_eq!(
        bench.step(Input::Boot(Boot { incarnation: 1, ..Boot::default() })),
        ["tell: a bug in makima: the daemon was started twice"]
    );
    bench.asked = asked;
    assert_eq!(bench.daemon.counters().misbehaved, 1);
    assert_eq!(bench.at(TASK), TaskState::Running);
    assert_ne!(bench.daemon.digest(), before, "it is counted");
}

/// What belongs to one life begins anew, what outlasts it does not.
#[test]
fn a_new_life_has_its_own_names_and_chance() {
    let mut bench = Bench::open(Wire::Two);
    bench.running(TASK, "");
    bench.step(Input::Journal { trouble: true });
    bench.step(Input::Stop { how: crate::input::Stop::Drain });
    let stale = bench.id("Read");
    assert_eq!(
        bench.again(&[(TASK, Stage::Started(prepared()))]),
        [
            "Attach",
            "#2 progress: accepted",
            "#3 pending -> preparing",
            "#4 progress: worktree ready at c0ffee0123",
            "#5 progress: agent started (process 9)",
            "#6 preparing -> running"
        ]
    );
    let attach = bench.id("Attach");
    assert_eq!((attach.incarnation, attach.n), (2, 1));
    assert!(!bench.daemon.core.inbox.is_in_trouble());
    assert_eq!(bench.daemon.owner(stale), None);
    assert_eq!(bench.step(Input::Done { id: stale, outcome: Outcome::Done }), NOTHING);
    assert_eq!(bench.daemon.counters().stale_effects, 1);
    assert_eq!(bench.spawn(OTHER, ""), ["Accept"]);
    let config = crate::config::Config { max_tasks: 9, ..super::bench::config() };
    bench.step(Input::Boot(Boot { incarnation: 3, seed: 3, config: Some(Box::new(config)), leftovers: Vec::new() }));
    assert_eq!(bench.daemon.report().max_tasks, 9);
}

/// Protects a task that only its folder tells of, and a server that was told that it is not known.
#[test]
fn a_task_that_is_found_is_taken_on() {
    let mut other = Bench::open(Wire::Two);
    other.running(TASK, "");
    let spec = other.specs[&TASK].clone();
    let mut bench = Bench::new();
    bench.cut();
    let left = |stage| Leftover { spec: spec.clone(), stage, delivered: 0, closed: false, skipped: Vec::new() };
    let boot = bench.boot(2, Vec::from([left(Stage::Started(prepared()))]));
    assert_eq!(boot, ["Attach", "connect websocket"]);
    assert_eq!((bench.at(TASK), bench.daemon.untold()), (TaskState::Attaching, 1));
    assert_eq!(
        bench.open_session(Wire::Two),
        [
            "tell: connected to the server",
            "say Hello(Hello { epoch: 59228078653302, of: 77, applied: 0, tasks: [Place { task: 00000000-0000-0000-0000-000000000007, off: 0 }] })",
            "#1 daemonDirectories",
            "#2 pending -> preparing",
            "heartbeat",
            "say Ping(6)"
        ]
    );
    assert_eq!(
        bench.done("Attach", Outcome::Started { pid: 9, handed: 0 }),
        ["Thaw", "#3 progress: the agent is in hand again (process 9)", "#4 preparing -> running", "Read { from: 0 }"]
    );
}

/// Protects a server that knows of an end from being told of it once more, and output from being sent twice.
#[test]
fn what_the_server_has_is_not_told_again() {
    let end = End { status: EndStatus::Done, error: None, completion: None, log_end: 10 };
    let left = |bench: &Bench, delivered, closed| Leftover {
        spec: bench.specs[&TASK].clone(),
        stage: Stage::Ended(end.clone()),
        delivered,
        closed,
        skipped: Vec::new(),
    };
    let mut bench = Bench::open(Wire::Two);
    bench.running(TASK, "");
    bench.acked();
    let closed = left(&bench, 4, true);
    let mut told = bench.clone();
    told.boot(2, Vec::from([closed]));
    assert_eq!(
        told.open_session(Wire::Two),
        [
            "tell: connected to the server",
            "say Hello(Hello { epoch: 50493934128055, of: 77, applied: 1, tasks: [] })",
            "#7 daemonDirectories",
            "heartbeat",
            "say Ping(5)"
        ]
    );
    assert_eq!((told.at(TASK), told.daemon.untold(), told.daemon.report().outbox), (TaskState::Done, 0, 1));
    let open = left(&bench, 4, false);
    bench.boot(2, Vec::from([open]));
    assert_eq!(
        bench.open_session(Wire::Two),
        [
            "tell: connected to the server",
            "say Hello(Hello { epoch: 50493934128055, of: 77, applied: 1, tasks: [Place { task: 00000000-0000-0000-0000-000000000007, off: 4 }] })",
            "#7 daemonDirectories",
            "heartbeat",
            "Read { from: 4 }",
            "say Ping(5)"
        ]
    );
    assert_eq!((bench.at(TASK), bench.daemon.untold()), (TaskState::Done, 1));
    assert_eq!(bench.daemon.report().tasks[0].delivered, 4);
}

/// What was told and is not known to have arrived is told again, and counted.
#[test]
fn what_is_told_again_is_counted() {
    let mut bench = Bench::open(Wire::Two);
    bench.running(TASK, "");
    bench.tell(OTHER, "listBranches", "");
    let mut cut = bench.clone();
    cut.cut();
    assert_eq!(cut.daemon.counters().resent, 8);
    let before = bench.daemon.counters().resent;
    bench.boot(2, Vec::new());
    let resent = bench.daemon.counters().resent - before;
    assert_eq!(resent, 8);
    assert_eq!(bench.step(Input::Tick), NOTHING);
}

/// Protects a server from old news of a task that is found after all, or whose end it knows.
#[test]
fn what_is_past_is_not_told_by_a_new_life() {
    let mut known = Bench::open(Wire::One);
    known.running(TASK, "");
    let spec = known.specs[&TASK].clone();
    let left =
        |stage, closed| Vec::from([Leftover { spec: spec.clone(), stage, delivered: 0, closed, skipped: Vec::new() }]);
    let mut bench = Bench::open(Wire::One);
    bench.tell(TASK, "listBranches", "");
    bench.boot(2, left(Stage::Started(prepared()), false));
    let nothing = ["tell: connected to the server", "daemonDirectories", "heartbeat", "ping"];
    let out = bench.open_session(Wire::One);
    assert!(!out.iter().any(|line| line.contains("not known") || line == "branchList"), "{out:?}");
    let end = End { status: EndStatus::Done, error: None, completion: None, log_end: 10 };
    known.boot(2, left(Stage::Ended(end), true));
    assert_eq!(known.open_session(Wire::One), nothing);
    assert!(known.asked.is_empty(), "all of its output is there");
    assert_eq!(known.spawn(TASK, ""), ["done -> done", "complete true"]);
}

/// Protects a message from being lost with the daemon that had it under way.
#[test]
fn a_message_that_was_on_its_way_is_sent_again_under_its_number() {
    let mut bench = Bench::open(Wire::Two);
    bench.running(TASK, "");
    bench.tell(TASK, "sendMessage", r#""message":"one""#);
    bench.again(&[(TASK, Stage::Started(prepared()))]);
    bench.done("Attach", Outcome::Started { pid: 9, handed: 0 });
    assert_eq!(bench.done("Thaw", Outcome::Done), ["Stdin { n: 1, text: \"one\\n\" }"]);
}

/// Protects a new connection from what still comes by one of an earlier life.
#[test]
fn connections_have_names_that_are_never_used_again() {
    let mut bench = Bench::open(Wire::Two);
    let before = bench.epoch;
    bench.boot(2, Vec::new());
    assert!(bench.epoch > before);
    assert_eq!(bench.daemon.role(before), None);
}

/// Protects a person's word from a restart: who was to end before it began is ended, found begun or not.
#[test]
fn who_was_to_end_ends_in_the_next_life_too() {
    let mut accepting = Bench::open(Wire::Two);
    accepting.spawn(TASK, ALL);
    let mut preparing = accepting.clone();
    preparing.done("Accept", Outcome::Done);
    let mut keying = preparing.clone();
    keying.done("Prepare", Outcome::Prepared(prepared()));
    for bench in [accepting, preparing, keying] {
        for asked in [false, true] {
            let mut bench = bench.clone();
            if asked {
                bench.tell(TASK, "interruptTask", r#""graceful":true"#);
                // The daemon's own stop is no word against a person's.
                bench.step(Input::Stop { how: crate::input::Stop::Graceful });
            }
            let mut found = bench.clone();
            found.again(&[(TASK, Stage::Started(prepared()))]);
            let out = found.done("Attach", Outcome::Started { pid: 9, handed: 0 });
            assert_eq!(out.iter().any(|line| line == "Signal { signal: Interrupt }"), asked, "{out:?}");
            bench.again(&[]);
            if bench.at(TASK) == TaskState::Accepting {
                bench.done("Accept", Outcome::Done);
            }
            assert_eq!(bench.at(TASK), if asked { TaskState::Concluding } else { TaskState::Preparing });
        }
    }
}

/// The same where the daemon's stop comes behind it in the same life.
#[test]
fn a_stop_takes_no_interrupt_back() {
    let mut bench = Bench::open(Wire::Two);
    bench.spawn(TASK, "");
    bench.done("Accept", Outcome::Done);
    bench.tell(TASK, "interruptTask", r#""graceful":true"#);
    bench.step(Input::Stop { how: crate::input::Stop::Graceful });
    bench.failed("Prepare", "called off");
    assert_eq!(bench.at(TASK), TaskState::Concluding);
}

/// Whether anything comes behind a status.
#[test]
fn three_statuses_are_ends() {
    use crate::task::Status;
    let all = [Status::Pending, Status::Preparing, Status::Running, Status::Paused, Status::Finishing];
    assert!(!all.iter().any(|status| status.is_end()));
    assert!([Status::Done, Status::Failed, Status::Interrupted].iter().all(|status| status.is_end()));
}

/// Protects a task from being taken for another's work, where the journal's commands are taken again under another
/// configuration.
#[test]
fn what_was_accepted_outweighs_what_is_configured_now() {
    let mut was = Bench::with(Config { agent: Agent::Claude(Claude::default()), ..config() });
    was.open_session(Wire::Two);
    was.spawn(TASK, "");
    let mut bench = Bench::new();
    bench.specs = was.specs;
    let text = r#""taskName":"","plan":"p","depth":0,"isOrchestrator":false"#;
    let text = format!(r#"{{"type":"spawnTask","taskId":"{TASK}",{text}}}"#);
    let command = Box::new(DaemonCommand::read(&text).expect("a command"));
    let taken = Input::Command { epoch: bench.epoch, seq: Some(1), command, credentials: None };
    bench.daemon.salvage(bench.now, taken);
    assert_eq!(bench.daemon.tasks[&TASK].conversation(), None, "it would be a script's");
    bench.again(&[(TASK, Stage::Started(prepared()))]);
    assert_eq!(bench.daemon.tasks[&TASK].conversation(), Some(TASK));
}
