//! What each command is answered in each status: a table, reviewed. And how what takes several steps goes on.

use insta::assert_snapshot;
use makima_core::id::TaskId;
use makima_core::input::{Branch, ExitStatus, Merging, Outcome};
use makima_core::policy::BranchName;
use makima_core::protocol::{
    CheckMergeComplete, CheckTargetExists, CloneWorktree, DaemonCommand, InjectSiblingContext, InterruptTask,
    ListBranches, MergeAbort, MergeCommit, MergeResolve, MergeSkip, MergeStart, MergeStatus, PauseTask, ResumeTask,
    RetryCompletionAction, SendMessage, SpawnTask,
};

use crate::script::{Script, committed, prepared, spawn, task};

/// Every command that names a task, for the first one.
fn commands() -> Vec<DaemonCommand> {
    let (task_id, text) = (task(1), |text: &str| text.to_string());
    vec![
        spawn(1).into(),
        PauseTask { task_id }.into(),
        ResumeTask { task_id }.into(),
        InterruptTask { task_id, graceful: true }.into(),
        InterruptTask { task_id, graceful: false }.into(),
        SendMessage { task_id, message: text("hello") }.into(),
        InjectSiblingContext {
            task_id,
            sibling_task_id: task(2),
            sibling_name: text("other"),
            sibling_status: text("running"),
            progress_summary: Some(text("half [done]\n")),
            changed_files: vec![text("a"), text("b")],
        }
        .into(),
        ListBranches { task_id }.into(),
        MergeStart { task_id, source_branch: text("feature") }.into(),
        MergeStatus { task_id }.into(),
        MergeResolve { task_id, file: text("a"), strategy: text("ours") }.into(),
        MergeResolve { task_id, file: text("a"), strategy: text("mine") }.into(),
        MergeCommit { task_id, message: text("merged") }.into(),
        MergeAbort { task_id }.into(),
        MergeSkip { task_id, subtask_id: task(2), reason: text("no use") }.into(),
        CheckMergeComplete { task_id }.into(),
        RetryCompletionAction {
            task_id,
            task_name: text("Fix it"),
            action: text("merge"),
            target_repo_path: text("/repo"),
            target_branch: None,
        }
        .into(),
        CloneWorktree { task_id, target_dir: text("/there") }.into(),
        CheckTargetExists { task_id, target_dir: text("/there") }.into(),
    ]
}

/// A way to a status.
type Way = fn() -> Script;

/// A way to each status.
const STATUSES: [(&str, Way); 11] = [
    ("unknown", Script::live),
    ("pending", || {
        let mut script = Script::live();
        for n in [2, 1] {
            script.tell(spawn(n));
            script.done("accept");
        }
        script
    }),
    ("preparing", || {
        let mut script = Script::live();
        script.tell(spawn(1));
        script.done("accept");
        script
    }),
    ("paused before it runs", || {
        let mut script = Script::live();
        script.tell(spawn(1));
        script.done("accept");
        script.tell(PauseTask { task_id: task(1) });
        script.answer("prepare", "ok", prepared());
        script
    }),
    ("running", Script::running),
    ("paused", || {
        let mut script = Script::running();
        script.tell(PauseTask { task_id: task(1) });
        script.done("freeze");
        script
    }),
    ("running, being interrupted", || {
        let mut script = Script::running();
        script.tell(InterruptTask { task_id: task(1), graceful: true });
        script
    }),
    ("finishing", || {
        let mut script = Script::running();
        script.exited(ExitStatus::Code(0));
        script
    }),
    ("done", || {
        let mut script = ended(0);
        script.hush();
        script
    }),
    ("failed", || {
        let mut script = ended(1);
        script.hush();
        script
    }),
    ("interrupted", || {
        let mut script = Script::running();
        script.tell(InterruptTask { task_id: task(1), graceful: false });
        let mut script = concluded(script);
        script.hush();
        script
    }),
];

fn ended(code: i32) -> Script {
    let mut script = Script::running();
    script.exited(ExitStatus::Code(code));
    concluded(script)
}

/// To the end of a task whose agent has ended, or is to.
fn concluded(mut script: Script) -> Script {
    script.finish(0);
    script.answer("deliver", "ok", crate::script::delivered("the branch is in /repo"));
    script.done("conclude");
    script
}

#[test]
fn each_command_in_each_status() {
    let mut table = Vec::new();
    for (status, way) in STATUSES {
        table.push(format!("## {status}"));
        for command in commands() {
            let mut script = way();
            script.hush();
            let text = command.write();
            let details = [
                ("\"graceful\":true", " gracefully"),
                ("\"graceful\":false", " by force"),
                ("\"mine\"", " by no strategy"),
            ];
            let detail = details.iter().find(|(sign, _)| text.contains(sign)).map_or("", |(_, detail)| detail);
            table.push(format!("{}{detail}", command.kind()));
            script.tell(command);
            let came = script.text();
            // What people are told by the log, the server is told as well.
            table.extend(came.lines().skip(1).filter(|line| !line.starts_with("    #")).map(str::to_string));
            assert!(came.lines().count() > 1, "{text} is met with silence while {status}");
        }
    }
    assert_snapshot!(table.join("\n"));
}

fn child(n: u8) -> SpawnTask {
    SpawnTask { parent_task_id: Some(task(1)), depth: 1, completion_action: None, ..spawn(n) }
}

/// An orchestrator with its key told, and its subtask after that.
fn orchestrating() -> Script {
    let mut script = Script::live();
    script.tell(SpawnTask { is_orchestrator: true, completion_action: None, ..spawn(1) });
    script.done("accept");
    script.answer("prepare", "ok", prepared());
    script
}

#[test]
fn an_orchestrator_gets_a_key_before_it_starts_and_lends_its_slot() {
    let mut script = orchestrating();
    script.answer("make key", "ok", Outcome::Key(makima_core::id::SecretId::ToolKey(TaskId(task(1)))));
    // The ping behind the key.
    script.pong();
    script.pong();
    script.start();
    script.tell(child(2));
    script.done("accept");
    script.cut();
    script.tick();
    script.open();
    script.exited(ExitStatus::Code(0));
    script.answer("empty", "ok", Outcome::Emptied { killed: 0, log_end: 0 });
    script.answer("commit", "ok", Outcome::Committed(None));
    script.done("conclude");
    assert_snapshot!(script.text());
}

/// Protects a subtask of a subtask from waiting for ever without a word.
#[test]
fn orchestrators_that_wait_for_one_another_are_told_of() {
    let mut script = orchestrating();
    let key = |n| Outcome::Key(makima_core::id::SecretId::ToolKey(TaskId(task(n))));
    script.answer("make key", "ok", key(1));
    script.tell(SpawnTask { is_orchestrator: true, ..child(2) });
    script.done("accept");
    script.answer("prepare", "ok", prepared());
    script.answer("make key", "ok", key(2));
    script.hush();
    script.tell(SpawnTask { parent_task_id: Some(task(2)), depth: 2, ..child(3) });
    script.done("accept");
    script.tell(PauseTask { task_id: task(3) });
    assert_snapshot!(script.text());
}

/// Protects the commit from what was asked beside it: by force, that is called off.
#[test]
fn by_force_what_was_asked_beside_the_commit_is_called_off() {
    let mut script = Script::running();
    script.tell(CloneWorktree { task_id: task(1), target_dir: "/there".to_string() });
    script.exited(ExitStatus::Code(0));
    script.answer("empty", "ok", Outcome::Emptied { killed: 0, log_end: 0 });
    script.hush();
    script.tell(InterruptTask { task_id: task(1), graceful: false });
    script.fail("clone");
    assert_snapshot!(script.text());
}

#[test]
fn a_key_that_the_server_cannot_be_told_is_not_waited_for_long() {
    let mut script = orchestrating();
    script.cut();
    script.answer("make key", "ok", Outcome::Key(makima_core::id::SecretId::ToolKey(TaskId(task(1)))));
    script.until_pending("start");
    assert_snapshot!(script.text());
}

#[test]
fn merges_step_by_step() {
    let mut script = orchestrating();
    script.answer("make key", "ok", Outcome::Key(makima_core::id::SecretId::ToolKey(TaskId(task(1)))));
    // The ping behind the key.
    script.pong();
    script.pong();
    script.start();
    script.tell(child(2));
    script.done("accept");
    let (task_id, source_branch) = (task(1), BranchName::of("Fix it", TaskId(task(2))).to_string());
    script.hush();
    // Its task has not ended.
    script.tell(MergeStart { task_id, source_branch: source_branch.clone() });
    script.tell(InterruptTask { task_id: task(2), graceful: false });
    script.answer("prepare", "is cancelled", Outcome::Failed("it was cancelled".to_string()));
    script.done("conclude");
    script.hush();
    let open = |conflicts: &[&str]| {
        let conflicts = conflicts.iter().map(ToString::to_string).collect();
        Outcome::Merging(Merging::Open { source: Some("a branch".to_string()), conflicts })
    };
    script.tell(MergeStart { task_id, source_branch: source_branch.clone() });
    script.answer("merge", "has conflicts", open(&["a", "b"]));
    script.tell(MergeStatus { task_id });
    script.answer("merge", "ok", open(&["a", "b"]));
    script.tell(MergeResolve { task_id, file: "a".to_string(), strategy: "theirs".to_string() });
    script.answer("merge", "ok", open(&["b"]));
    script.tell(MergeCommit { task_id, message: String::new() });
    script.answer("merge", "has conflicts", open(&["b"]));
    script.tell(MergeResolve { task_id, file: "b".to_string(), strategy: "ours".to_string() });
    // The daemon is killed before it knows, and asks again.
    script.restart(Vec::new());
    script.attach();
    script.answer("merge", "ok", open(&[]));
    script.open();
    script.tell(MergeCommit { task_id, message: "as agreed\n".to_string() });
    script.answer("merge", "ok", Outcome::Merging(Merging::Committed("abc".to_string())));
    script.tell(MergeSkip { task_id, subtask_id: task(2), reason: "no use".to_string() });
    script.answer("merge", "ok", Outcome::Merging(Merging::Skipped));
    script.tell(CheckMergeComplete { task_id });
    let branch = |n, merged| Branch {
        name: format!("branch {n}"),
        task: Some(TaskId(task(n))),
        merged,
        commit: String::new(),
        subject: String::new(),
    };
    let list = vec![branch(2, false), branch(3, true), branch(4, false)];
    script.answer("merge", "ok", Outcome::Branches { list, merging: false });
    script.tell(MergeAbort { task_id });
    script.answer("merge", "fails", Outcome::Failed("the disk is gone".to_string()));
    assert_snapshot!(script.text());
}

#[test]
fn paused_until_it_may_go_on() {
    let mut script = Script::running();
    let task_id = task(1);
    script.tell(PauseTask { task_id });
    script.tell(SendMessage { task_id, message: "waits".to_string() });
    script.done("freeze");
    script.tell(ResumeTask { task_id });
    script.done("thaw");
    script.done("stdin");
    // A freeze that fails is taken back.
    script.tell(PauseTask { task_id });
    script.fail("freeze");
    script.done("thaw");
    // An interrupt lets go on what stands still.
    script.tell(PauseTask { task_id });
    script.done("freeze");
    script.restart(Vec::new());
    script.attach();
    script.open();
    script.done("freeze");
    script.tell(InterruptTask { task_id, graceful: true });
    script.done("thaw");
    assert_snapshot!(script.text());
}

#[test]
fn work_that_fails_its_checks_is_not_merged() {
    let mut script = Script::live();
    script.tell(SpawnTask { completion_action: Some("merge".to_string()), ..spawn(1) });
    script.done("accept");
    let Outcome::Prepared(mut ready) = prepared() else { return };
    ready.checks = vec!["make test".to_string()];
    ready.setup = vec!["make deps".to_string()];
    script.answer("prepare", "ok", Outcome::Prepared(ready));
    script.start();
    script.exited(ExitStatus::Code(0));
    script.answer("empty", "ok", Outcome::Emptied { killed: 0, log_end: 0 });
    script.answer("commit", "ok", committed());
    script.answer("check", "fails", Outcome::Checked { failed: Some("the check `make test` failed".to_string()) });
    script.done("conclude");
    assert_snapshot!(script.text());
}
