//! Version 2 of the wire, as it is lived by.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use uuid::Uuid;

use super::NOTHING;
use super::bench::{Bench, OTHER, SERVER, TASK};
use crate::id::TaskId;
use crate::input::{Chunk, Input, LinkCause, Outcome, Part, Stream};
use crate::protocol::{Hello, Place, Said, Wire};
use crate::view::LinkState;

fn hello(of: u64, applied: u64) -> Said {
    Said::Hello(Hello { epoch: SERVER, of, applied, tasks: Vec::new() })
}

fn authenticated(bench: &mut Bench) -> Vec<String> {
    bench.command(None, &format!(r#"{{"type":"authenticated","daemonId":"{}"}}"#, Uuid::nil()))
}

/// A connection that is let in, and whose server has not said how it stands.
fn greeting(bench: &mut Bench) {
    let epoch = bench.epoch;
    bench.step(Input::LinkUp { epoch, wire: Wire::Two });
    authenticated(bench);
    assert_eq!(bench.daemon.link_at(), LinkState::Greeting);
}

fn lost(bench: &mut Bench) {
    bench.cut();
    bench.next();
}

/// A stretch of a task's log comes.
fn read(bench: &mut Bench, from: u64, text: &str) -> Vec<String> {
    let to = from + text.len() as u64;
    let part = Part { stream: Stream::Stdout, text: text.into(), to, line_end: Some(to) };
    let chunk = Chunk { from, to, log: to, closed: false, begun: None, parts: Vec::from([part]) };
    bench.done("Read", Outcome::Chunk(chunk))
}

fn place(task: TaskId, off: u64) -> Place {
    Place { task: task.0, off }
}

/// Protects both sides from numbers before it is said how they stand.
#[test]
fn the_server_says_how_it_stands_before_all_else() {
    let mut bench = Bench::new();
    greeting(&mut bench);
    for said in [Said::Ack(1), Said::Got(place(TASK, 0)), Said::Rewind(place(TASK, 0)), Said::Ping(1), Said::Pong(1)] {
        assert_eq!(bench.said(said), ["tell: the server misbehaves: it speaks before it has said `hello`"]);
    }
    assert_eq!(
        bench.said(hello(0, 0)),
        [
            "tell: connected to the server",
            "say Hello(Hello { epoch: 50493934128055, of: 77, applied: 0, tasks: [] })",
            "#1 daemonDirectories",
            "heartbeat",
            "say Ping(5)"
        ]
    );
    assert_eq!(bench.said(hello(0, 0)), ["tell: the server misbehaves: `hello` came when it was not due"]);
    assert_eq!(bench.said(Said::Ping(5)), ["say Pong(5)"]);
    assert_eq!(bench.said(Said::Ack(99)), ["tell: the server misbehaves: it acknowledges what was never said"]);
    let mut bench = Bench::new();
    greeting(&mut bench);
    assert_eq!(
        bench.command(Some(1), r#"{"type":"mergeStatus","taskId":"00000000-0000-0000-0000-000000000007"}"#),
        ["tell: the server misbehaves: a number came that is not the next one", "close 1"]
    );
    let mut bench = Bench::open(Wire::One);
    assert_eq!(
        bench.command(Some(1), r#"{"type":"mergeStatus","taskId":"00000000-0000-0000-0000-000000000007"}"#),
        ["tell: the server misbehaves: a number came that is not the next one", "close 1"]
    );
    assert_eq!(bench.said(Said::Ping(5)), NOTHING);
}

/// Protects what was said and not applied: it is said again under its number, what is new comes behind it.
#[test]
fn what_was_not_applied_is_said_again() {
    let mut bench = Bench::open(Wire::Two);
    assert_eq!(bench.tell(OTHER, "listBranches", ""), ["#2 progress: not known to this daemon", "#3 branchList"]);
    assert_eq!(bench.spawn(TASK, ""), ["Accept"]);
    assert_eq!(bench.done("Accept", Outcome::Done), ["Prepare", "#4 progress: accepted", "#5 pending -> preparing"]);
    let of = bench.daemon.core.numbers.epoch();
    lost(&mut bench);
    greeting(&mut bench);
    assert_eq!(
        bench.said(hello(of, 1)),
        [
            "tell: connected to the server",
            "say Hello(Hello { epoch: 50493934128055, of: 77, applied: 2, tasks: [Place { task: 00000000-0000-0000-0000-000000000007, off: 0 }] })",
            "#2 progress: not known to this daemon",
            "#3 branchList",
            "#4 progress: accepted",
            "#5 pending -> preparing",
            "#6 daemonDirectories",
            "heartbeat",
            "say Ping(9)"
        ]
    );
    assert_eq!(bench.daemon.counters().renumbered, 1, "only the first series was begun");
    assert_eq!(bench.said(Said::Ack(6)), NOTHING);
    assert_eq!(bench.daemon.report().outbox, 0);
    assert_eq!(
        bench.tell(OTHER, "mergeStatus", ""),
        ["#7 progress: not known to this daemon", "#8 mergeStatusResponse"]
    );
}

/// Protects a server that has lost what it knew: all that is not known to be applied gets numbers anew, from one on.
#[test]
fn a_server_that_knows_another_series_gets_another() {
    let mut bench = Bench::open(Wire::Two);
    bench.tell(OTHER, "listBranches", "");
    bench.spawn(TASK, "");
    bench.done("Accept", Outcome::Done);
    let of = bench.daemon.core.numbers.epoch();
    lost(&mut bench);
    greeting(&mut bench);
    assert_eq!(bench.said(hello(of + 1, 0)).len(), 9);
    assert_ne!(bench.daemon.core.numbers.epoch(), of);
    assert_eq!(bench.daemon.counters().renumbered, 2);
    assert_eq!(bench.daemon.report().outbox, 5);
    assert_eq!(bench.said(Said::Ack(5)), NOTHING);
    assert_eq!(bench.daemon.report().outbox, 0);
}

/// Protects what bears a number from a session without any, and the other way round.
#[test]
fn a_session_without_numbers_ends_the_series() {
    let mut bench = Bench::open(Wire::Two);
    bench.tell(OTHER, "listBranches", "");
    bench.spawn(TASK, "");
    bench.done("Accept", Outcome::Done);
    lost(&mut bench);
    assert_eq!(
        bench.open_session(Wire::One),
        [
            "tell: connected to the server",
            "daemonDirectories",
            "daemonDirectories",
            "progress: not known to this daemon",
            "branchList",
            "progress: accepted",
            "pending -> preparing",
            "heartbeat",
            "ping"
        ]
    );
    assert_eq!(bench.daemon.core.numbers.epoch(), 0);
    lost(&mut bench);
    assert_eq!(
        bench.open_session(Wire::Two),
        [
            "tell: connected to the server by long-poll",
            "say Hello(Hello { epoch: 147957030737738, of: 77, applied: 2, tasks: [Place { task: 00000000-0000-0000-0000-000000000007, off: 0 }] })",
            "#1 progress: not known to this daemon",
            "#2 branchList",
            "#3 daemonDirectories",
            "#4 progress: accepted",
            "#5 pending -> preparing",
            "heartbeat",
            "say Ping(9)"
        ]
    );
}

/// Protects a command from being applied twice, and the session from a number that says that one is missing.
#[test]
fn numbers_of_the_servers_are_applied_in_order() {
    let mut bench = Bench::open(Wire::Two);
    let status = r#"{"type":"mergeStatus","taskId":"00000000-0000-0000-0000-000000000007"}"#;
    assert_eq!(
        bench.command(Some(1), status),
        ["#2 progress: not known to this daemon", "#3 mergeStatusResponse", "say Ack(1)"]
    );
    assert_eq!(bench.command(Some(1), status), ["say Ack(1)"]);
    assert_eq!(bench.daemon.counters().duplicate_commands, 1);
    let epoch = bench.epoch;
    let what = crate::protocol::DaemonCommand::read("nonsense").expect_err("it cannot be read");
    assert_eq!(
        bench.step(Input::Unreadable { epoch, seq: Some(2), what }),
        ["tell: the server misbehaves: not a JSON object", "say Ack(2)"]
    );
    bench.step(Input::Journal { trouble: true });
    assert_eq!(bench.command(Some(3), status), ["#4 progress: not known to this daemon", "#5 mergeStatusResponse"]);
    assert_eq!(bench.step(Input::Journal { trouble: false }), ["say Ack(3)"]);
    assert_eq!(
        bench.command(Some(5), status),
        ["tell: the server misbehaves: a number came that is not the next one", "close 1"]
    );
    assert_eq!((bench.daemon.counters().out_of_order, bench.daemon.link_at()), (1, LinkState::Waiting));
}

/// Protects the output from gaps: it goes on from where the server stands.
#[test]
fn output_goes_on_from_where_the_server_has_it() {
    let mut bench = Bench::open(Wire::Two);
    bench.running(TASK, "");
    assert_eq!(read(&mut bench, 0, "one\n"), ["output 0-4 \"one\"", "Read { from: 4 }"]);
    assert_eq!(bench.said(Said::Got(place(TASK, 4))), ["Delivered { to: 4 }"]);
    assert_eq!(bench.daemon.report().tasks[0].delivered, 4);
    assert_eq!(bench.said(Said::Rewind(place(TASK, 2))), ["cancel Read"]);
    bench.failed("Read", "called off");
    assert_eq!(bench.daemon.counters().rewinds, 1);
    assert_eq!(bench.daemon.report().tasks[0].delivered, 2);
    assert_eq!(bench.said(Said::Rewind(place(OTHER, 2))), NOTHING);
    let of = bench.daemon.core.numbers.epoch();
    let applied = bench.daemon.core.numbers.next() - 1;
    bench.step(Input::LinkDown { epoch: bench.epoch, cause: LinkCause::Gone });
    bench.failed("Read", "called off");
    bench.next();
    greeting(&mut bench);
    let tasks = Vec::from([place(OTHER, 1), place(TASK, 3)]);
    let out = bench.said(Said::Hello(Hello { epoch: SERVER, of, applied, tasks }));
    assert_eq!(out.len(), 6);
    assert_eq!(bench.daemon.report().tasks[0].delivered, 3);
    assert_eq!(bench.work("Read"), &crate::effect::Work::Read { from: 3 });
    assert_eq!(bench.said(Said::Pong(77)), NOTHING);
    assert_eq!(bench.daemon.counters().misbehaved, 1);
}
