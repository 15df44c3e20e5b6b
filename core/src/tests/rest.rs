//! What has ended and rests, and what still hangs on it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::NOTHING;
use super::bench::{Bench, OTHER, SERVER, TASK, config};
use crate::config::Config;
use crate::effect::Work;
use crate::input::{Chunk, ExitStatus, Input, Merging, Outcome, Part, Stream, Weighed};
use crate::limits;
use crate::protocol::{Hello, Place, Said, Wire};
use crate::retain::Keep;
use crate::snapshot::Snapshot;
use crate::time::Millis;
use crate::view::TaskState;

const LOOK: Millis = Millis::seconds(60);

fn read(bench: &mut Bench, from: u64, lines: &[&str]) -> Vec<String> {
    let mut to = from;
    let part = |line: &&str| {
        to += line.len() as u64;
        Part { stream: Stream::Stdout, text: (*line).into(), to, line_end: Some(to) }
    };
    let parts: Vec<Part> = lines.iter().map(part).collect();
    bench.done("Read", Outcome::Chunk(Chunk { from, to, log: to, closed: false, begun: None, parts }))
}

/// Its agent ends, and all that follows is done.
fn end(bench: &mut Bench, code: i32, log_end: u64) {
    bench.exit(ExitStatus::Code(code));
    bench.done("Empty", Outcome::Emptied { killed: 0, log_end });
    bench.done("Commit", Outcome::Committed(None));
    bench.done("Conclude", Outcome::Done);
}

fn pong(bench: &mut Bench) -> Vec<String> {
    let ping = bench.daemon.core.link.next_frame() - 1;
    let epoch = bench.epoch;
    bench.step(Input::Pong { epoch, n: ping })
}

/// Each ping that is out is answered.
fn pongs(bench: &mut Bench) {
    for _ in 0..3 {
        let n = bench.daemon.core.link.next_frame();
        for ping in 1..n {
            let epoch = bench.epoch;
            bench.step(Input::Pong { epoch, n: ping });
        }
    }
}

/// The tasks that are weighed at the next look, since they could make room.
fn weighed(bench: &Bench) -> Vec<crate::id::TaskId> {
    let mut bench = bench.clone();
    bench.pass(LOOK);
    bench.done("Expire", Outcome::Done);
    let Work::Weigh { tasks } = bench.work("Weigh") else { panic!("nothing is weighed") };
    tasks.clone()
}

fn bounded() -> Bench {
    let keep = Keep { disk: Some(10), look: LOOK, ..Keep::default() };
    let mut bench = Bench::with(Config { keep, ..config() });
    bench.open_session(Wire::Two);
    bench.running(TASK, "");
    bench
}

/// Protects work that somebody still asks about, or that was not handed over, from making room.
#[test]
fn only_what_rests_makes_room() {
    let mut bench = bounded();
    assert_eq!(weighed(&bench), []);
    let mut failed = bench.clone();
    end(&mut failed, 1, 0);
    failed.acked();
    assert_eq!(weighed(&failed), [], "its work is nowhere else");
    let mut away = bench.clone();
    away.cut();
    end(&mut away, 0, 0);
    away.wait(LOOK);
    away.done("Expire", Outcome::Done);
    assert_eq!(away.work("Weigh"), &Work::Weigh { tasks: Vec::new() }, "its end cannot be told");
    end(&mut bench, 0, 0);
    assert_eq!(weighed(&bench), [], "its end is not told");
    bench.acked();
    assert_eq!(weighed(&bench), [TASK]);
    bench.tell(TASK, "mergeStatus", "");
    assert_eq!(weighed(&bench), [], "it is asked about");
    bench.done("Merge", Outcome::Merging(Merging::Nothing));
    assert_eq!(weighed(&bench), [], "the answer is on its way");
    bench.acked();
    assert_eq!(weighed(&bench), [TASK]);
    bench.pass(LOOK);
    bench.done("Expire", Outcome::Done);
    assert_eq!(bench.done("Weigh", Outcome::Weighed(Weighed { all: 100, tasks: Vec::from([(TASK, 50)]) })), ["Spare"]);
    assert_eq!(
        bench.done("Spare", Outcome::Done),
        [
            "tell: what is kept takes 1 MiB more than `keep.disk_gib` allows, and nothing more may go by itself: `makima worktree list` says why"
        ]
    );
    bench.pass(LOOK);
    bench.done("Expire", Outcome::Done);
    assert_eq!(bench.done("Weigh", Outcome::Weighed(Weighed { all: 50, tasks: Vec::from([(TASK, 50)]) })), ["Purge"]);
    assert_eq!(bench.done("Purge", Outcome::Done), NOTHING);
    assert_eq!(weighed(&bench), [], "there is nothing left of it");
}

/// Protects the end of a task from a server that has lost its output: it is told again behind that.
#[test]
fn an_end_that_waits_for_its_output_anew_has_no_number() {
    let mut bench = Bench::open(Wire::Two);
    bench.running(TASK, "");
    read(&mut bench, 0, &["one\n"]);
    bench.said(Said::Got(Place { task: TASK.0, off: 4 }));
    end(&mut bench, 0, 4);
    bench.cut();
    bench.next();
    let tasks = Vec::from([Place { task: TASK.0, off: 0 }]);
    bench.greet(Wire::Two, Hello { epoch: SERVER, of: 1, applied: 0, tasks });
    for _ in 0..10 {
        bench.tell(OTHER, "listBranches", "");
    }
    bench.acked();
    assert_eq!(bench.daemon.untold(), 1);
    bench.done("Read", Outcome::Failed("called off".into()));
    bench.said(Said::Got(Place { task: TASK.0, off: 4 }));
    bench.acked();
    assert_eq!(bench.daemon.untold(), 0);
}

/// Protects output and ends where nothing is acknowledged: they are delivered when a ping behind them is answered.
#[test]
fn what_an_answered_ping_stands_behind_is_delivered() {
    let mut bench = Bench::open(Wire::One);
    pong(&mut bench);
    bench.running(TASK, "");
    pongs(&mut bench);
    assert_eq!(
        read(&mut bench, 0, &["one\n", "two\n"]),
        ["output \"one\\n\"", "output \"two\\n\"", "Read { from: 8 }", "ping"]
    );
    assert_eq!(bench.daemon.report().tasks[0].delivered, 0);
    pongs(&mut bench);
    assert_eq!(bench.daemon.report().tasks[0].delivered, 8);
    assert!(bench.asked.values().any(|(_, work)| *work == Work::Delivered { to: 8 }), "it is written down");
    end(&mut bench, 0, 8);
    assert_eq!((bench.at(TASK), bench.daemon.untold()), (TaskState::Done, 1));
    pongs(&mut bench);
    assert_eq!(bench.daemon.untold(), 0);
    assert!(bench.asked.values().any(|(_, work)| *work == Work::Close));
    assert!(bench.daemon.tasks[&TASK].is_at_rest() && !bench.daemon.tasks[&TASK].in_flight());
}

/// Protects memory: output is read as fast as the link takes it, in frames and in bytes.
#[test]
fn output_waits_for_room_in_the_link() {
    let reads = |lines: &[&str]| {
        let mut bench = Bench::open(Wire::One);
        bench.running(TASK, "");
        let out = read(&mut bench, 0, lines);
        let more = out.iter().any(|line| line.starts_with("Read"));
        let sent = bench.daemon.core.link.next_frame() - 1;
        let epoch = bench.epoch;
        let out = bench.step(Input::Flushed { epoch, n: sent });
        assert_eq!(out.iter().any(|line| line.starts_with("Read")), !more, "it goes on once there is room");
        more
    };
    assert!(reads(&["a\n"; limits::WINDOW_FRAMES - 1]));
    assert!(!reads(&["a\n"; limits::WINDOW_FRAMES]));
    let line = "x".repeat(limits::PIECE - 1) + "\n";
    let shorter = "x".repeat(limits::PIECE - 2) + "\n";
    let whole = limits::WINDOW as usize / limits::PIECE;
    let mut lines: Vec<&str> = (0..whole).map(|_| line.as_str()).collect();
    assert!(!reads(&lines));
    lines[0] = &shorter;
    assert!(reads(&lines));
}

/// Protects a task from a snapshot in which what it was asked to do is another than it was.
#[test]
fn a_changed_task_is_found_out() {
    let mut bench = Bench::open(Wire::Two);
    bench.running(TASK, "");
    let text = serde_json::to_string(&bench.daemon.snapshot()).expect("it can be written");
    let read = |text: &str| {
        let snapshot: Snapshot = serde_json::from_str(text).expect("it can be read");
        crate::daemon::Daemon::restore(snapshot)
    };
    assert_eq!(read(&text).expect("it is whole"), bench.daemon);
    assert!(text.contains(r#""plan":"do it""#));
    assert!(read(&text.replace(r#""plan":"do it""#, r#""plan":"do that""#)).is_err());
}

/// Protects the comparison of two daemons: what is different in a task is seen.
#[test]
fn tasks_that_differ_have_digests_that_differ() {
    let digest = |plan: &str| {
        let mut bench = Bench::open(Wire::Two);
        let fields = format!(r#""taskName":"a","plan":"{plan}","depth":0,"isOrchestrator":false"#);
        bench.tell(TASK, "spawnTask", &fields);
        assert_eq!(bench.daemon.digest(), bench.daemon.digest_anew());
        bench.daemon.digest()
    };
    assert_eq!(digest("one"), digest("one"));
    assert_ne!(digest("one"), digest("two"));
}

/// `checkTargetExists`, about a task that is known.
#[test]
fn a_path_is_looked_at() {
    let mut bench = Bench::open(Wire::Two);
    bench.running(TASK, "");
    assert_eq!(bench.tell(TASK, "checkTargetExists", r#""targetDir":"/to""#), ["Look"]);
    let looked = |refused| Outcome::Looked { path: "/to".into(), exists: true, refused };
    assert_eq!(bench.done("Look", looked(None)), ["#7 checkTargetExistsResult"]);
    bench.tell(TASK, "checkTargetExists", r#""targetDir":"/to""#);
    assert_eq!(bench.done("Look", looked(Some("no".into()))), ["#8 progress: no", "#9 checkTargetExistsResult"]);
}

/// Protects tasks that wait for their turn from a daemon's stop: only what is under way is asked to end.
#[test]
fn a_stop_is_for_what_is_under_way() {
    let mut bench = Bench::with(Config { max_tasks: 1, ..config() });
    bench.open_session(Wire::Two);
    bench.running(TASK, "");
    bench.spawn(OTHER, "");
    bench.done("Accept", Outcome::Done);
    assert_eq!(
        bench.step(Input::Stop { how: crate::input::Stop::Graceful }),
        ["Signal { signal: Interrupt }", "#9 progress: interrupting the agent"]
    );
    assert_eq!(bench.at(OTHER), TaskState::Waiting);
    let counters = bench.daemon.counters();
    assert_eq!((counters.inapplicable, counters.dropped_reports, counters.misbehaved), (0, 0, 0));
    assert_eq!(bench.tell(TASK, "pauseTask", ""), ["#10 progress: the agent is being ended", "#11 running -> running"]);
    assert_eq!(
        bench.tell(TASK, "mergeResolve", r#""file":"a","strategy":"both""#),
        [
            "#12 progress: `both` is no strategy; a file is settled by `ours` or `theirs`",
            "#13 merge false `both` is no strategy; a file is settled by `ours` or `theirs`"
        ]
    );
    assert_eq!(
        bench.tell(TASK, "retryCompletionAction", r#""taskName":"a","action":"branch","targetRepoPath":"""#),
        ["#14 progress: the task has not ended yet", "#15 action false the task has not ended yet"]
    );
    assert_eq!(bench.daemon.counters().inapplicable, 3);
    assert_eq!(bench.tell(OTHER, "checkTargetExists", r#""targetDir":"/to""#), ["Look"]);
}
