//! The main uses, as transcripts that can be read: what comes in, and all that is done about it.

mod bounds;
mod script;
mod table;

use insta::assert_snapshot;
use makima_core::input::{ExitStatus, Input, Leftover, LinkCause, Outcome, Prepared, Stage, Stop, Stream};
use makima_core::policy::BranchName;
use makima_core::protocol::{
    CheckMergeComplete, CheckTargetExists, CloneWorktree, InjectSiblingContext, InterruptTask, ListBranches,
    MergeAbort, MergeCommit, MergeResolve, MergeSkip, MergeStart, MergeStatus, PauseTask, ResumeTask,
    RetryCompletionAction, SendMessage, ServerError,
};
use makima_core::task::{Action, Completion, End, EndStatus, Spec};

use self::script::{Script, committed, delivered, prepared, spawn, task};

fn interrupt(n: u8, graceful: bool) -> InterruptTask {
    InterruptTask { task_id: task(n), graceful }
}

#[test]
fn a_task_from_spawn_to_branch() {
    let mut script = Script::new();
    script.open();
    script.tell(spawn(1));
    script.done("accept");
    script.answer("prepare", "ok", prepared());
    script.start();
    script.read(0, &[(Stream::Stdout, "hello\n")]);
    script.flushed();
    script.pong();
    script.exited(ExitStatus::Code(0));
    script.finish(6);
    script.answer("deliver", "ok", delivered("the branch is in /repo"));
    script.done("conclude");
    script.pong();
    script.pong();
    script.done("close");
    assert_snapshot!(script.text());
}

#[test]
fn a_script_that_fails() {
    let mut script = Script::running();
    script.exited(ExitStatus::Code(3));
    script.finish(0);
    script.fail("deliver");
    script.done("conclude");
    assert_snapshot!(script.text());
}

#[test]
fn interrupted_gracefully_up_to_the_kill() {
    let mut script = Script::running();
    script.tell(interrupt(1, true));
    script.tick();
    script.tick();
    script.finish(0);
    assert_snapshot!(script.text());
}

#[test]
fn interrupted_gracefully_twice_and_by_force() {
    let mut script = Script::running();
    script.tell(interrupt(1, true));
    script.tell(interrupt(1, true));
    let gracefully = script.text();
    let mut script = Script::running();
    script.tell(interrupt(1, false));
    assert_snapshot!(format!("{gracefully}\n\n{}", script.text()));
}

#[test]
fn interrupted_before_it_runs_and_after() {
    let mut text = String::new();
    let mut keep = |script: &Script| text += &format!("{}\n\n", script.text());
    let mut script = Script::live();
    script.tell(spawn(1));
    script.tell(interrupt(1, true));
    script.done("accept");
    keep(&script);
    let mut script = Script::live();
    script.tell(spawn(1));
    script.done("accept");
    script.hush();
    script.tell(interrupt(1, true));
    script.fail("prepare");
    keep(&script);
    let mut script = Script::live();
    script.tell(spawn(1));
    script.done("accept");
    script.answer("prepare", "ok", prepared());
    script.hush();
    script.tell(interrupt(1, true));
    script.start();
    keep(&script);
    let mut script = Script::running();
    script.exited(ExitStatus::Code(0));
    script.hush();
    script.tell(interrupt(1, true));
    script.tell(interrupt(1, false));
    script.finish(0);
    keep(&script);
    assert_snapshot!(text);
}

#[test]
fn the_same_id_twice() {
    let mut script = Script::running();
    script.tell(spawn(1));
    script.exited(ExitStatus::Code(0));
    script.finish(0);
    script.fail("deliver");
    script.done("conclude");
    script.hush();
    script.tell(spawn(1));
    assert_snapshot!(script.text());
}

/// Every command that names a task.
fn all_commands(script: &mut Script) {
    let (task_id, text) = (task(1), || "x".to_string());
    script.tell(PauseTask { task_id });
    script.tell(ResumeTask { task_id });
    script.tell(SendMessage { task_id, message: text() });
    script.tell(InjectSiblingContext {
        task_id,
        sibling_task_id: task(2),
        sibling_name: text(),
        sibling_status: text(),
        progress_summary: None,
        changed_files: Vec::new(),
    });
    script.tell(ListBranches { task_id });
    script.tell(MergeStart { task_id, source_branch: text() });
    script.tell(MergeStatus { task_id });
    script.tell(MergeResolve { task_id, file: text(), strategy: text() });
    script.tell(MergeCommit { task_id, message: text() });
    script.tell(MergeAbort { task_id });
    script.tell(MergeSkip { task_id, subtask_id: task(2), reason: text() });
    script.tell(CheckMergeComplete { task_id });
    script.tell(RetryCompletionAction {
        task_id,
        task_name: text(),
        action: text(),
        target_repo_path: text(),
        target_branch: None,
    });
    script.tell(CloneWorktree { task_id, target_dir: text() });
    script.tell(CheckTargetExists { task_id, target_dir: text() });
    script.tell(interrupt(1, true));
}

#[test]
fn commands_for_a_task_that_is_not_known() {
    let mut script = Script::live();
    all_commands(&mut script);
    assert_snapshot!(script.text());
}

#[test]
fn commands_that_cannot_apply() {
    let mut script = Script::running();
    script.exited(ExitStatus::Code(0));
    script.hush();
    all_commands(&mut script);
    assert_snapshot!(script.text());
}

#[test]
fn spawns_that_are_refused() {
    let mut script = Script::live();
    script.tell(makima_core::protocol::SpawnTask { repo_url: Some("ext::sh -c x".to_string()), ..spawn(1) });
    script.tell(makima_core::protocol::SpawnTask { base_branch: Some("--x".to_string()), ..spawn(1) });
    script.tell(makima_core::protocol::SpawnTask { continue_from_task_id: Some(task(2)), ..spawn(1) });
    assert_snapshot!(script.text());
}

#[test]
fn turned_away() {
    let mut script = Script::new();
    script.up();
    script.tell(ServerError { code: "invalid-api-key".to_string(), message: "no".to_string() });
    script.tick();
    script.step(
        "refused by the server",
        Input::LinkDown {
            epoch: makima_core::id::Epoch(2),
            cause: LinkCause::Refused {
                status: 401,
                by_server: true,
                html: false,
                retry_after: None,
                detail: "no such key".to_string(),
            },
        },
    );
    script.tick();
    script.up();
    script.tell(ServerError { code: "busy".to_string(), message: "later".to_string() });
    script.tick();
    script.up();
    script.tick();
    script.tick();
    script.tick();
    assert_snapshot!(script.text());
}

#[test]
fn the_waits_of_a_seed() {
    let mut script = Script::new();
    for _ in 0..9 {
        script.cut();
        script.tick();
    }
    assert_snapshot!(script.text());
}

#[test]
fn a_server_that_falls_silent() {
    let mut script = Script::live();
    for _ in 0..7 {
        script.tick();
    }
    assert_snapshot!(script.text());
}

#[test]
fn a_server_that_answers_no_pings() {
    let mut script = Script::new();
    for _ in 0..2 {
        script.up();
        script.tell(makima_core::protocol::Authenticated { daemon_id: task(9) });
        script.until_connect();
    }
    script.up();
    script.tell(makima_core::protocol::Authenticated { daemon_id: task(9) });
    script.hush();
    script.tell(spawn(1));
    script.done("accept");
    script.fail("prepare");
    script.done("conclude");
    script.flushed();
    (0..5).for_each(|_| script.tick());
    assert_snapshot!(script.text());
}

#[test]
fn what_was_in_doubt_is_sent_again() {
    let mut script = Script::running();
    script.pong();
    script.read(0, &[(Stream::Stdout, "one\n")]);
    script.pong();
    script.read(4, &[(Stream::Stdout, "two\nthr")]);
    script.tick();
    script.pong();
    script.cut();
    script.answer(
        "read",
        "cancelled",
        Outcome::Chunk(makima_core::input::Chunk { from: 11, to: 11, ..Default::default() }),
    );
    script.tick();
    script.open();
    assert_snapshot!(script.text());
}

#[test]
fn the_machine_sleeps() {
    let mut script = Script::running();
    script.tell(interrupt(1, true));
    script.sleep(3_600);
    script.tick();
    script.tick();
    assert_snapshot!(script.text());
}

/// Two nights, each with a ping on the way: the server does not count as one that answers none.
#[test]
fn a_ping_of_before_the_night_says_nothing_about_the_server() {
    let mut script = Script::new();
    for _ in 0..2 {
        script.up();
        script.tell(makima_core::protocol::Authenticated { daemon_id: task(9) });
        script.sleep(3_600);
        script.tick();
    }
    let text = script.text();
    assert!(!text.contains("answers no pings"), "{text}");
    assert_snapshot!(text);
}

#[test]
fn told_to_stop() {
    let mut script = Script::running();
    script.tell(spawn(2));
    script.done("accept");
    script.stop(Stop::Graceful);
    script.tell(spawn(3));
    script.exited(ExitStatus::Signal(2));
    script.finish(0);
    script.fail("deliver");
    script.done("conclude");
    script.pong();
    script.pong();
    assert_snapshot!(script.text());
}

fn spec(n: u8) -> Spec {
    Spec {
        id: makima_core::id::TaskId(task(n)),
        name: "Fix it".to_string(),
        plan: "make".to_string(),
        repository: None,
        credentials: None,
        base: None,
        continues: None,
        conversation: None,
        copy: Vec::new(),
        branch: BranchName::of("Fix it", makima_core::id::TaskId(task(n))),
        parent: None,
        depth: 0,
        orchestrator: false,
        agent: makima_core::agent::Agent::Shell,
        allowance: makima_core::allowance::Allowance::default(),
        action: Action::Branch,
        target: Some("/repo".to_string()),
        into: None,
    }
}

#[test]
fn killed_and_started_again() {
    let left = |n, stage, closed| Leftover { spec: spec(n), stage, delivered: 0, closed, skipped: Vec::new() };
    let end = |log_end| {
        let completion = Some(Completion { success: true, message: "the branch is in /repo".to_string(), url: None });
        Stage::Ended(End { status: EndStatus::Done, error: None, completion, log_end })
    };
    let leftovers = vec![
        left(1, Stage::Accepted, false),
        left(2, Stage::Started(Prepared::default()), false),
        left(3, end(4), false),
        left(4, end(0), true),
    ];
    let mut script = Script::with(2, leftovers);
    script.open();
    script.answer("attach", "fails", Outcome::Failed("the supervisor was killed".to_string()));
    script.finish(0);
    script.answer("deliver", "ok", delivered("the branch is in /repo"));
    script.done("conclude");
    script.read(0, &[(Stream::Stdout, "end\n")]);
    script.pong();
    script.pong();
    assert_snapshot!(script.text());
}

/// The agent went on under its supervisor: it is in hand again, with a message that was on its way, and its own end
/// decides.
#[test]
fn killed_and_started_again_under_an_agent() {
    let mut script = Script::running();
    script.tell(makima_core::protocol::SendMessage { task_id: task(1), message: "go on".to_string() });
    script.restart(vec![Leftover {
        spec: spec(1),
        stage: Stage::Started(Prepared::default()),
        delivered: 0,
        closed: false,
        skipped: Vec::new(),
    }]);
    script.attach();
    script.open();
    // Whether that life had it stopped where it stands is not known for sure.
    script.done("thaw");
    script.done("stdin");
    script.exited(ExitStatus::Code(0));
    script.finish(0);
    assert_snapshot!(script.text());
}

#[test]
fn places_in_line() {
    let mut script = Script::live();
    for n in 1..=3 {
        script.tell(spawn(n));
        script.done("accept");
    }
    script.tell(makima_core::protocol::SpawnTask { parent_task_id: Some(task(1)), depth: 1, ..spawn(4) });
    script.done("accept");
    script.fail("prepare");
    script.done("conclude");
    assert_snapshot!(script.text());
}

/// Protects who waits from not being told so where all spawns are heard before any of them is written down.
#[test]
fn places_in_line_in_a_burst() {
    let mut script = Script::live();
    (1..=3).for_each(|n| script.tell(spawn(n)));
    (1..=3).for_each(|_| script.done("accept"));
    assert_snapshot!(script.text());
}

#[test]
fn pieces_of_output() {
    let mut script = Script::running();
    script.pong();
    let long = "x".repeat(70_000) + "\n";
    script.read(0, &[(Stream::Stdout, &long)]);
    script.read(70_001, &[(Stream::Stdout, "out "), (Stream::Stderr, "err\n")]);
    script.tick();
    script.read(70_009, &[(Stream::Stderr, "more err\n")]);
    script.read(70_018, &[(Stream::Stdout, "rest")]);
    script.exited(ExitStatus::Code(0));
    script.finish(70_022);
    assert_snapshot!(script.text());
}

#[test]
fn messages_to_the_agent() {
    let message = |message: &str| SendMessage { task_id: task(1), message: message.to_string() };
    let mut script = Script::live();
    script.tell(spawn(1));
    script.done("accept");
    script.answer("prepare", "ok", prepared());
    script.tell(message("one"));
    script.tell(message("two\nlines"));
    script.start();
    script.fail("stdin");
    assert_snapshot!(script.text());
}

#[test]
fn no_room_on_the_disk() {
    let mut text = String::new();
    for step in ["accept", "prepare", "start", "read", "empty", "commit", "deliver", "conclude", "close"] {
        let mut script = Script::live();
        script.tell(spawn(1));
        let go = |script: &mut Script, kind: &str, outcome: Outcome| {
            let here = kind == step;
            if here {
                script.hush();
                script.fail(kind);
            } else {
                script.answer(kind, "ok", outcome);
            }
            here
        };
        let emptied = || Outcome::Emptied { killed: 0, log_end: 0 };
        let _ = go(&mut script, "accept", Outcome::Done)
            || go(&mut script, "prepare", prepared())
            || {
                script.agent = None;
                if step == "start" {
                    go(&mut script, "start", Outcome::Done)
                } else {
                    script.start();
                    false
                }
            }
            || step == "read" && go(&mut script, "read", Outcome::Done)
            || {
                script.exited(ExitStatus::Code(0));
                go(&mut script, "empty", emptied())
            }
            || go(&mut script, "commit", committed())
            || go(&mut script, "deliver", delivered("there"))
            || go(&mut script, "conclude", Outcome::Done)
            || {
                script.pong();
                script.pong();
                go(&mut script, "close", Outcome::Done)
            };
        if ["read", "conclude"].contains(&step) {
            script.tick();
        }
        text += &format!("--- {step}\n{}\n", script.text());
    }
    assert_snapshot!(text);
}
