//! What happens at the bounds: of waiting, of retrying, of a daemon's one session.

use insta::assert_snapshot;
use makima_core::input::{ExitStatus, Leftover, LinkCause, Outcome, Stage, Stop, Stream};
use makima_core::limits;
use makima_core::protocol::{InterruptTask, SendMessage, SpawnTask};
use uuid::Uuid;

use crate::script::{Script, committed, delivered, prepared, spawn, task};
use crate::spec;

fn message(text: String) -> SendMessage {
    SendMessage { task_id: task(1), message: text }
}

/// A disk that fails for a moment costs no line.
#[test]
fn output_that_can_be_read_the_second_time() {
    let mut script = Script::running();
    script.fail("read");
    script.tick();
    script.read(0, &[(Stream::Stdout, "hello\n")]);
    assert_snapshot!(script.text());
}

/// An end waits for output that cannot be read, but not for ever.
#[test]
fn output_that_can_never_be_read() {
    let mut script = Script::running();
    script.exited(ExitStatus::Code(0));
    script.finish(10);
    script.answer("deliver", "ok", delivered("there"));
    script.done("conclude");
    script.fail("read");
    script.hush();
    for _ in 2..limits::READ_TRIES {
        script.pong();
        script.until_pending("read");
        script.fail("read");
    }
    script.pong();
    script.until_pending("read");
    script.hush();
    script.fail("read");
    assert_snapshot!(script.text());
}

#[test]
fn one_task_too_many_waits() {
    let mut script = Script::running();
    script.checked = false;
    for n in 0..limits::WAITING_TASKS {
        script.tell(SpawnTask { task_id: Uuid::from_u128(0x9000 + n as u128), ..spawn(2) });
        script.done("accept");
    }
    script.checked = true;
    script.hush();
    script.tell(spawn(2));
    assert_snapshot!(script.text());
}

/// Protects the bound from a server that says all at once, before any of it is written down.
#[test]
fn one_task_too_many_waits_in_a_burst() {
    let mut script = Script::running();
    script.checked = false;
    for n in 0..limits::WAITING_TASKS {
        script.tell(SpawnTask { task_id: Uuid::from_u128(0x9000 + n as u128), ..spawn(2) });
    }
    script.checked = true;
    script.hush();
    script.tell(spawn(2));
    assert_snapshot!(script.text());
}

#[test]
fn one_message_too_many_waits() {
    let mut script = Script::live();
    script.tell(spawn(1));
    for n in 0..limits::MESSAGES {
        script.tell(message(n.to_string()));
    }
    script.hush();
    script.tell(message("one more".to_string()));
    assert_snapshot!(script.text());
}

#[test]
fn messages_of_too_many_bytes_wait() {
    let mut script = Script::live();
    script.tell(spawn(1));
    script.tell(message("x".repeat(limits::MESSAGE_BYTES)));
    script.hush();
    script.tell(message("one more".to_string()));
    assert_snapshot!(script.text());
}

/// `--once`: the session is lost while an agent works; the daemon comes back until everything is told.
#[test]
fn once_ends_when_all_is_told() {
    let mut script = Script::once(Vec::new());
    script.open();
    script.hush();
    script.tell(spawn(1));
    script.done("accept");
    script.answer("prepare", "ok", prepared());
    script.start();
    script.cut();
    script.exited(ExitStatus::Code(0));
    script.answer("empty", "ok", Outcome::Emptied { killed: 0, log_end: 0 });
    script.answer("commit", "ok", committed());
    script.answer("deliver", "ok", delivered("there"));
    script.done("conclude");
    script.until_connect();
    script.open();
    script.pong();
    assert_snapshot!(script.text());
}

#[test]
fn once_ends_where_nobody_is_there() {
    let mut script = Script::once(Vec::new());
    script.cut_by("nobody is there", LinkCause::Unreachable("connection refused".to_string()));
    assert_snapshot!(script.text());
}

/// What an earlier life left is brought to its end first, also where nobody is there to be told.
#[test]
fn once_leaves_no_agent_behind() {
    let mut script = Script::once(vec![Leftover {
        spec: spec(1),
        stage: Stage::Accepted,
        delivered: 0,
        closed: false,
        skipped: Vec::new(),
    }]);
    script.cut_by("nobody is there", LinkCause::Unreachable("connection refused".to_string()));
    script.answer("prepare", "ok", prepared());
    script.start();
    script.until_connect();
    script.cut_by("nobody is there", LinkCause::Unreachable("connection refused".to_string()));
    script.exited(ExitStatus::Code(0));
    script.finish(0);
    script.answer("deliver", "ok", delivered("there"));
    script.done("conclude");
    script.until_connect();
    script.cut_by("nobody is there", LinkCause::Unreachable("connection refused".to_string()));
    // The third time: by long-poll.
    script.until_connect();
    script.cut_by("nobody is there", LinkCause::Unreachable("connection refused".to_string()));
    assert_snapshot!(script.text());
}

/// Whoever is not needed leaves; whoever was given a task in that moment stays.
#[test]
fn leaving_if_idle() {
    let mut script = Script::running();
    script.stop(Stop::IfIdle);
    script.exited(ExitStatus::Code(0));
    script.answer("empty", "ok", Outcome::Emptied { killed: 0, log_end: 0 });
    script.answer("commit", "ok", committed());
    script.answer("deliver", "ok", delivered("there"));
    script.done("conclude");
    script.stop(Stop::IfIdle);
    script.pong();
    script.pong();
    script.hush();
    script.stop(Stop::IfIdle);
    assert_snapshot!(script.text());
}

fn no_room() -> Outcome {
    Outcome::NoRoom("no space left on device".to_string())
}

/// A full disk costs no work: the commit waits for room.
#[test]
fn a_commit_waits_for_room() {
    let mut script = Script::running();
    script.exited(ExitStatus::Code(0));
    script.answer("empty", "ok", Outcome::Emptied { killed: 0, log_end: 0 });
    script.hush();
    script.answer("commit", "finds no room", no_room());
    script.pong();
    script.until_pending("commit");
    script.answer("commit", "finds no room", no_room());
    script.until_pending("commit");
    script.answer("commit", "ok", committed());
    assert_snapshot!(script.text());
}

/// Nor output without a word: its end waits for room, and what comes after it does.
#[test]
fn the_end_of_the_output_waits_for_room() {
    let mut script = Script::running();
    script.exited(ExitStatus::Code(0));
    script.hush();
    script.answer("empty", "finds no room", no_room());
    script.until_pending("empty");
    script.answer("empty", "finds no room", no_room());
    script.until_pending("empty");
    script.answer("empty", "ok", Outcome::Emptied { killed: 0, log_end: 0 });
    script.answer("commit", "ok", committed());
    assert_snapshot!(script.text());
}

/// But not against a person's will, and not for ever.
#[test]
fn a_forced_interrupt_ends_the_wait_for_room() {
    let mut script = Script::running();
    script.exited(ExitStatus::Code(0));
    script.answer("empty", "ok", Outcome::Emptied { killed: 0, log_end: 0 });
    script.answer("commit", "finds no room", no_room());
    script.hush();
    script.tell(InterruptTask { task_id: task(1), graceful: false });
    script.answer("commit", "finds no room", no_room());
    assert_snapshot!(script.text());
}

#[test]
fn a_daemon_that_is_to_end_waits_for_no_room() {
    let mut script = Script::running();
    script.exited(ExitStatus::Code(0));
    script.answer("empty", "ok", Outcome::Emptied { killed: 0, log_end: 0 });
    script.answer("commit", "finds no room", no_room());
    script.hush();
    script.stop(Stop::Graceful);
    script.answer("commit", "finds no room", no_room());
    assert_snapshot!(script.text());
}
