//! A task's output on its way from its log to the server.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::NOTHING;
use super::bench::{Bench, TASK};
use crate::effect::Work;
use crate::input::{Chunk, ExitStatus, Leftover, Outcome, Part, Stage, Stream};
use crate::limits;
use crate::protocol::{Place, Said, Wire};
use crate::task::{End, EndStatus};
use crate::time::Millis;

fn running(wire: Wire) -> Bench {
    let mut bench = Bench::open(wire);
    bench.running(TASK, "");
    bench
}

/// A stretch of the log comes, in which each of these is a part. Such as end a line say so.
fn chunk(from: u64, parts: &[&str]) -> Chunk {
    let mut to = from;
    let part = |text: &&str| {
        to += text.len() as u64;
        Part { stream: Stream::Stdout, text: (*text).into(), to, line_end: text.ends_with('\n').then_some(to) }
    };
    let parts: Vec<Part> = parts.iter().map(part).collect();
    Chunk { from, to, log: to, closed: false, begun: None, parts }
}

fn read(bench: &mut Bench, from: u64, parts: &[&str]) -> Vec<String> {
    bench.done("Read", Outcome::Chunk(chunk(from, parts)))
}

fn got(bench: &mut Bench, off: u64) -> Vec<String> {
    bench.said(Said::Got(Place { task: TASK.0, off }))
}

fn end(bench: &mut Bench, log_end: u64) -> Vec<String> {
    bench.exit(ExitStatus::Code(0));
    bench.done("Empty", Outcome::Emptied { killed: 0, log_end });
    bench.done("Commit", Outcome::Committed(None));
    bench.done("Conclude", Outcome::Done)
}

fn delivered(bench: &Bench) -> u64 {
    bench.daemon.report().tasks[0].delivered
}

/// Protects the end from overtaking the output, and the output from being left unread.
#[test]
fn an_end_is_told_behind_all_of_the_output() {
    let mut bench = running(Wire::Two);
    assert_eq!(read(&mut bench, 0, &["one\n", "tw"]), ["output 0-4 \"one\"", "Read { from: 6 }"]);
    assert_eq!(end(&mut bench, 8), NOTHING);
    assert_eq!(read(&mut bench, 6, &["o\n"]), ["output 4-8 \"two\""]);
    assert_eq!(bench.spawn(TASK, ""), NOTHING);
    assert_eq!(got(&mut bench, 7), ["Delivered { to: 7 }"]);
    assert_eq!(
        got(&mut bench, 8),
        ["#9 finishing -> done", "#10 (len 8) complete true", "#11 done -> done", "#12 (len 8) complete true"]
    );
    assert_eq!(delivered(&bench), 8);
}

/// The same in the daemon's next life: it goes on where the server has it, and that is not written down once more.
#[test]
fn a_new_life_sends_what_is_left_of_the_output() {
    let mut bench = running(Wire::Two);
    let end = End { status: EndStatus::Done, error: None, completion: None, log_end: 10 };
    let spec = bench.specs[&TASK].clone();
    let left = Leftover { spec, stage: Stage::Ended(end), delivered: 4, closed: false, skipped: Vec::new() };
    for wire in [Wire::One, Wire::Two] {
        let mut bench = bench.clone();
        bench.boot(2, Vec::from([left.clone()]));
        bench.open_session(wire);
        let works: Vec<_> = bench.asked.values().map(|(_, work)| work.clone()).collect();
        assert_eq!(works, [Work::Read { from: 4 }]);
        let out = read(&mut bench, 4, &["12345\n"]);
        assert!(out[0].starts_with("output"), "{out:?}");
    }
    bench.boot(2, Vec::from([left]));
    bench.open_session(Wire::Two);
    assert_eq!(read(&mut bench, 4, &["12345\n"]), ["output 4-10 \"12345\""]);
    assert_eq!(got(&mut bench, 10), ["Delivered { to: 10 }", "#7 running -> done", "#8 (len 10) complete true"]);
}

/// Protects memory and the server: what is sent and not acknowledged is bounded.
#[test]
fn the_log_is_read_no_further_than_the_server_follows() {
    let mut bench = running(Wire::Two);
    // What is masked is shorter than it was.
    let part = |to| Part { stream: Stream::Stdout, text: "x\n".into(), to, line_end: Some(to) };
    for (from, to) in [(0, 1), (1, limits::UNACKNOWLEDGED - 1), (limits::UNACKNOWLEDGED - 1, limits::UNACKNOWLEDGED)] {
        let chunk = Chunk { from, to, log: to, closed: false, begun: None, parts: Vec::from([part(to)]) };
        let out = bench.done("Read", Outcome::Chunk(chunk));
        let reads = out.iter().any(|line| line.starts_with("Read"));
        assert_eq!(reads, to < limits::UNACKNOWLEDGED, "at {to}");
    }
    assert!(got(&mut bench, 1).iter().any(|line| line.starts_with("Read")));
}

/// Protects the output from an executor that answers another question.
#[test]
fn a_stretch_that_was_not_asked_for_is_passed_over() {
    let mut bench = running(Wire::Two);
    for wrong in [chunk(1, &["one\n"]), Chunk { from: 0, to: 0, ..chunk(0, &[]) }] {
        let mut bench = bench.clone();
        bench.done("Read", Outcome::Chunk(wrong));
        assert_eq!(delivered(&bench), 0);
    }
    read(&mut bench, 0, &["one\n"]);
    let back = Chunk { from: 4, to: 3, log: 4, ..Chunk::default() };
    assert_eq!(
        bench.done("Read", Outcome::Chunk(back)),
        ["tell: a bug in makima: a stretch of output came that was not asked for", "Read { from: 4 }"]
    );
    assert_eq!(bench.daemon.counters().misbehaved, 1);
}

/// Protects the end of a task from a log that an outage has cut short, and from one that somebody goes on writing to.
#[test]
fn a_log_that_is_shorter_or_longer_than_it_was_holds_nothing_up() {
    let mut bench = running(Wire::Two);
    read(&mut bench, 0, &["one\n"]);
    got(&mut bench, 4);
    end(&mut bench, 8);
    assert_eq!(
        read(&mut bench, 4, &[]),
        [
            "#9 finishing -> done",
            "#10 (len 8) complete true",
            "#11 progress: the rest of the output cannot be read: it is shorter than it was"
        ]
    );
    let mut bench = running(Wire::Two);
    end(&mut bench, 6);
    assert_eq!(read(&mut bench, 0, &["one\n", "two\n"]), ["output 0-4 \"one\"", "output 4-6 \"two\""]);
    assert_eq!(got(&mut bench, 6), ["Delivered { to: 6 }", "#9 finishing -> done", "#10 (len 6) complete true"]);
    let mut bench = running(Wire::One);
    end(&mut bench, 4);
    assert_eq!(read(&mut bench, 0, &["one\n"]), ["output \"one\\n\""]);
    let mut bench = running(Wire::Two);
    assert_eq!(read(&mut bench, 0, &[]), NOTHING);
    assert_eq!(end(&mut bench, 0), ["#9 finishing -> done", "#10 (len 0) complete true"]);
}

/// Protects the end from a log that cannot be read: that is tried for a while, and then given up.
#[test]
fn a_log_that_cannot_be_read_is_given_up() {
    let mut bench = running(Wire::Two);
    read(&mut bench, 0, &["one\n"]);
    got(&mut bench, 4);
    bench.done("Delivered", Outcome::Done);
    end(&mut bench, 8);
    assert_eq!(bench.failed("Read", "no"), NOTHING);
    assert_eq!(bench.timer(), Some(5_000));
    assert_eq!(bench.pass(Millis(4_999)), NOTHING);
    assert_eq!(bench.ring(), ["after 1 ms", "Read { from: 4 }"]);
    assert_eq!(bench.failed("Read", "no"), NOTHING);
    for _ in 3..limits::READ_TRIES {
        bench.ring();
        assert_eq!(bench.failed("Read", "no"), NOTHING);
    }
    bench.ring();
    assert_eq!(
        bench.failed("Read", "no"),
        [
            "#9 finishing -> done",
            "#10 (len 8) complete true",
            "#11 progress: the output cannot be read yet: no",
            "#12 progress: the rest of the output cannot be read: no"
        ]
    );
    let mut bench = running(Wire::Two);
    for _ in 1..limits::READ_TRIES {
        bench.failed("Read", "no");
        bench.ring();
    }
    read(&mut bench, 0, &["one\n"]);
    assert_eq!(bench.failed("Read", "no"), ["#8 progress: the output cannot be read yet: no"]);
}

/// Protects the disk: how far the output is delivered is written down now and then, and in the end.
#[test]
fn what_is_delivered_is_written_down_now_and_then() {
    let mut bench = running(Wire::Two);
    read(&mut bench, 0, &["one\n", "two\n", "six\n", "ten\n"]);
    assert_eq!(got(&mut bench, 4), ["Delivered { to: 4 }"]);
    assert_eq!(got(&mut bench, 8), NOTHING);
    assert_eq!(bench.timer(), None, "one is being written");
    assert_eq!(bench.done("Delivered", Outcome::Done), NOTHING);
    assert_eq!(bench.timer(), Some(500));
    assert_eq!(bench.pass(Millis(499)), NOTHING);
    assert_eq!(bench.ring(), ["after 1 ms", "Delivered { to: 8 }"]);
    assert_eq!(bench.done("Delivered", Outcome::Done), NOTHING);
    assert_eq!(got(&mut bench, 8), NOTHING);
    assert_eq!(got(&mut bench, 3), NOTHING);
    assert_eq!(delivered(&bench), 8, "what it has once said it has");
    assert_eq!(bench.pass(Millis(1_000)), NOTHING);
    assert_eq!(got(&mut bench, 12), ["Delivered { to: 12 }"]);
    assert_eq!(got(&mut bench, 99), ["cancel Read"]);
    assert_eq!(delivered(&bench), 99, "it may know more than this life");
}

/// Protects output that was sent and not delivered: it is read again in the next session.
#[test]
fn what_was_not_delivered_is_read_again() {
    for wire in [Wire::One, Wire::Two] {
        let mut bench = running(wire);
        read(&mut bench, 0, &["one\n"]);
        let out = bench.cut();
        assert!(out.contains(&"cancel Read".into()), "{out:?}");
        bench.failed("Read", "called off");
        bench.next();
        bench.open_session(wire);
        assert_eq!(bench.work("Read"), &Work::Read { from: 0 });
        assert!(read(&mut bench, 0, &["one\n"])[0].starts_with("output"));
    }
}

/// Protects people from waiting for the end of a line, as of a question, on either wire.
#[test]
fn an_unfinished_line_is_sent_after_a_while() {
    for wire in [Wire::One, Wire::Two] {
        let mut bench = running(wire);
        assert_eq!(bench.now.mono, bench.daemon.core.last.mono);
        let out = read(&mut bench, 0, &["password: "]);
        assert!(!out.iter().any(|line| line.starts_with("output")), "{out:?}");
        assert_eq!(bench.timer(), Some(25));
        let out = bench.wait(limits::LINE_SILENCE);
        assert!(out[0].starts_with("output") && out[0].contains("password"), "{out:?}");
        assert_eq!(bench.timer(), None);
        let out = read(&mut bench, 10, &["x\n"]);
        assert!(out[0].starts_with("output"), "{out:?}");
    }
}

/// Protects an end whose log nobody could look at the end of: it is where it was read to.
#[test]
fn a_log_whose_end_is_not_known_ends_where_it_was_read_to() {
    let mut bench = running(Wire::Two);
    read(&mut bench, 0, &["one\n"]);
    bench.exit(ExitStatus::Code(0));
    for _ in 0..limits::EMPTY_TRIES {
        bench.failed("Empty", "no");
    }
    bench.done("Commit", Outcome::Committed(None));
    bench.done("Conclude", Outcome::Done);
    let out = got(&mut bench, 4);
    assert!(out.iter().any(|line| line.contains("(len 4) complete")), "{out:?}");
    assert!(!format!("{out:?}").contains("cannot be read"));
}

/// Protects the end of the output from a read that was under way when the log's end became known.
#[test]
fn nothing_is_read_behind_the_end() {
    for late in [&[][..], &["more\n"]] {
        let mut bench = running(Wire::Two);
        read(&mut bench, 0, &["one\n"]);
        end(&mut bench, 4);
        assert_eq!(read(&mut bench, 4, late), NOTHING);
        let out = got(&mut bench, 4);
        assert!(out.iter().any(|line| line.contains("(len 4) complete true")), "{out:?}");
        assert!(!out.iter().any(|line| line.contains("cannot be read")), "{out:?}");
    }
    let mut bench = running(Wire::Two);
    end(&mut bench, 6);
    assert_eq!(
        read(&mut bench, 0, &["one\n", "twoxx"]),
        ["output 0-4 \"one\"", "output 4-6 \"two\"xx"].map(|it| it.replace("\"xx", "xx\""))
    );
}

/// Protects a server that knows of an end from what was on its way to one that had lost some of the output.
#[test]
fn whoever_knows_of_the_end_has_had_the_output() {
    for sent_again in [false, true] {
        let mut bench = running(Wire::Two);
        read(&mut bench, 0, &["one\n"]);
        end(&mut bench, 4);
        read(&mut bench, 4, &[]);
        got(&mut bench, 4);
        assert_eq!(bench.said(Said::Rewind(Place { task: TASK.0, off: 2 })), ["Read { from: 2 }"]);
        assert_eq!(delivered(&bench), 2);
        if sent_again {
            assert_eq!(read(&mut bench, 2, &["e\n"]), ["output 2-4 \"e\""]);
        }
        let out = bench.acked();
        assert_eq!(out.iter().any(|line| line == "cancel Read"), !sent_again, "{out:?}");
        assert_eq!(bench.daemon.tasks[&TASK].place(), 4, "{out:?}");
    }
}

/// Protects lines of two streams from being glued together where output goes on in the middle of one.
#[test]
fn a_line_that_was_begun_is_ended_where_the_other_stream_goes_on() {
    let begun = |first: Chunk| {
        let mut bench = running(Wire::Two);
        let from = first.to;
        bench.done("Read", Outcome::Chunk(first));
        bench.done("Read", Outcome::Chunk(Chunk { begun: Some(Stream::Stderr), ..chunk(from, &["x\n"]) }))
    };
    assert_eq!(begun(chunk(0, &["one\n"]))[..2], ["output 4-4 \"\"", "output 4-6 \"x\""]);
    let hidden = Chunk { to: 4, log: 4, ..Chunk::default() };
    assert_eq!(begun(hidden)[0], "output 0-6 \"x\"", "it does not follow what was sent");
}

/// Protects a log that cannot be read from being asked for all the time.
#[test]
fn a_read_that_waits_is_not_made_sooner_for_what_is_due_beside_it() {
    let mut bench = running(Wire::Two);
    read(&mut bench, 0, &["one\n", "two\n"]);
    got(&mut bench, 4);
    bench.done("Delivered", Outcome::Done);
    bench.failed("Read", "no");
    got(&mut bench, 8);
    assert_eq!(bench.ring(), ["after 500 ms", "Delivered { to: 8 }"]);
    assert_eq!(bench.ring(), ["after 4500 ms", "Read { from: 8 }"]);
}
