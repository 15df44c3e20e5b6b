//! Commands of the server's that have an answer of their own.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::NOTHING;
use super::bench::{Bench, OTHER, TASK, prepared, same};
use crate::effect::{Deed, Merge, Source, Work};
use crate::id::SecretId;
use crate::input::{Branch, ExitStatus, Input, Leftover, Merging, Outcome, Stage};
use crate::limits;
use crate::protocol::{DaemonMessage, Wire};
use crate::task::{End, EndStatus};
use crate::time::Millis;
use crate::view::TaskState;

const ORCHESTRATOR: &str = r#""isOrchestrator":true,"completionAction":"branch","repoUrl":"https://example.org/a.git""#;

/// An orchestrator at work.
pub(super) fn orchestrator() -> Bench {
    let mut bench = Bench::open(Wire::Two);
    bench.spawn(TASK, ORCHESTRATOR);
    bench.done("Accept", Outcome::Done);
    bench.done("Prepare", Outcome::Prepared(prepared()));
    bench.done("MakeKey", Outcome::Key(SecretId::ToolKey(TASK)));
    bench.acked();
    bench.done("Start", Outcome::Started { pid: 9, handed: 0 });
    assert_eq!(bench.at(TASK), TaskState::Running);
    bench
}

/// One whose subtask is at work too.
fn with_child() -> Bench {
    let mut bench = orchestrator();
    bench.running(OTHER, &format!(r#""parentTaskId":"{TASK}","repoUrl":"https://example.org/a.git""#));
    bench
}

fn end_child(bench: &mut Bench) {
    let agent = bench.daemon.tasks[&OTHER].agent().expect("it runs");
    bench.step(Input::Exited { id: agent, status: ExitStatus::Code(0) });
    bench.done("Empty", Outcome::Emptied { killed: 0, log_end: 0 });
    bench.done("Commit", Outcome::Committed(None));
    bench.done("Conclude", Outcome::Done);
    assert_eq!(bench.at(OTHER), TaskState::Done);
}

fn merging(bench: &mut Bench, merging: Merging) -> Vec<String> {
    bench.done("Merge", Outcome::Merging(merging))
}

fn branch(task: Option<crate::id::TaskId>, merged: bool) -> Branch {
    let name = format!("branch-{}", if task == Some(OTHER) { "8" } else { "x" });
    Branch { name, task, merged, commit: "c".into(), subject: "s".into() }
}

fn child_branch() -> String {
    let mut bench = with_child();
    bench.specs.remove(&OTHER).expect("it was asked for").branch.as_str().into()
}

/// Protects the server from an answer to another question than it asked.
#[test]
fn each_question_has_its_answer() {
    let mut bench = orchestrator();
    assert_eq!(bench.tell(TASK, "listBranches", ""), ["Merge(List { children: [] })"]);
    assert_eq!(
        bench.done("Merge", Outcome::Branches { list: Vec::from([branch(None, true)]), merging: false }),
        ["#8 branchList"]
    );
    assert_eq!(bench.tell(TASK, "mergeStatus", ""), ["Merge(Status)"]);
    assert_eq!(merging(&mut bench, Merging::Open { source: None, conflicts: Vec::new() }), ["#9 mergeStatusResponse"]);
    assert_eq!(bench.tell(TASK, "mergeStatus", ""), ["Merge(Status)"]);
    assert_eq!(merging(&mut bench, Merging::Nothing), ["#10 mergeStatusResponse"]);
    assert_eq!(
        bench.tell(TASK, "mergeStart", r#""sourceBranch":"topic""#),
        ["Merge(Start { source: Branch(\"topic\") })"]
    );
    assert_eq!(
        merging(&mut bench, Merging::Open { source: None, conflicts: Vec::from(["a".into()]) }),
        ["#11 merge false merging `topic`: 1 file in conflict"]
    );
    assert_eq!(
        bench.tell(TASK, "mergeResolve", r#""file":"a","strategy":"ours""#),
        ["Merge(Resolve { file: \"a\", side: Ours })"]
    );
    assert_eq!(
        merging(&mut bench, Merging::Open { source: None, conflicts: Vec::from(["b".into()]) }),
        ["#12 merge true it is settled; 1 file still in conflict"]
    );
    assert_eq!(
        bench.tell(TASK, "mergeCommit", r#""message":"m""#),
        [
            "Merge(Commit { message: Some(\"m\"), trailers: [(\"Makima-Task\", \"00000000-0000-0000-0000-000000000007\")] })"
        ]
    );
    assert_eq!(merging(&mut bench, Merging::Committed("c".into())), ["#13 merge true the merge is committed"]);
    assert_eq!(bench.tell(TASK, "mergeAbort", ""), ["Merge(Abort)"]);
    assert_eq!(merging(&mut bench, Merging::Nothing), ["#14 merge false no merge is under way"]);
    assert_eq!(bench.tell(TASK, "mergeAbort", ""), ["Merge(Abort)"]);
    assert_eq!(merging(&mut bench, Merging::Aborted), ["#15 merge true everything is as it was before the merge"]);
    assert_eq!(
        bench.tell(TASK, "mergeSkip", &format!(r#""subtaskId":"{OTHER}","reason":"no use""#)),
        [
            "Merge(Skip { child: Child { task: TaskId(00000000-0000-0000-0000-000000000008), branch: None, ended: true }, reason: \"no use\" })"
        ]
    );
    assert_eq!(
        merging(&mut bench, Merging::Skipped),
        ["#16 merge true the branch of 00000000-0000-0000-0000-000000000008 is not to be merged"]
    );
    assert_eq!(bench.tell(TASK, "cloneWorktree", r#""targetDir":"/to""#), ["Clone"]);
    assert_eq!(bench.done("Clone", Outcome::Cloned { to: "/to".into() }), ["#17 cloneWorktreeResult"]);
    assert!(!bench.daemon.tasks[&TASK].has_errands());
}

/// Protects the server from waiting for the answer to what could not be done: it is refused in its own words.
#[test]
fn each_question_has_its_refusal() {
    let mut bench = orchestrator();
    let other = format!(r#""subtaskId":"{OTHER}","reason":"no use""#);
    let all = [
        ("listBranches", ""),
        ("mergeStatus", ""),
        ("checkMergeComplete", ""),
        ("mergeStart", r#""sourceBranch":"topic""#),
        ("mergeResolve", r#""file":"a","strategy":"theirs""#),
        ("mergeCommit", r#""message":"m""#),
        ("mergeAbort", ""),
        ("mergeSkip", &other),
    ];
    let mut refused = Vec::new();
    for (kind, fields) in all {
        bench.tell(TASK, kind, fields);
        refused.extend(bench.failed("Merge", "no"));
    }
    assert_eq!(
        refused,
        [
            "#8 progress: no",
            "#9 branchList",
            "#10 progress: no",
            "#11 mergeStatusResponse",
            "#12 progress: no",
            "#13 mergeCompleteCheck",
            "#14 progress: no",
            "#15 merge false no",
            "#16 progress: no",
            "#17 merge false no",
            "#18 progress: no",
            "#19 merge false no",
            "#20 progress: no",
            "#21 merge false no",
            "#22 progress: no",
            "#23 merge false no"
        ]
    );
    bench.tell(TASK, "cloneWorktree", r#""targetDir":"/to""#);
    assert_eq!(bench.failed("Clone", "no"), ["#24 progress: no", "#25 cloneWorktreeResult"]);
    assert_eq!(
        bench.tell(TASK, "retryCompletionAction", r#""taskName":"a task","action":"branch","targetRepoPath":"/to""#),
        ["#26 progress: the task has not ended yet", "#27 action false the task has not ended yet"]
    );
}

fn gate(bench: &mut Bench, list: &[Branch], merging: bool) -> (bool, Vec<String>, u32, u32) {
    let id = bench.id("Merge");
    bench.asked.remove(&id);
    let mut effects = Vec::new();
    let outcome = Outcome::Branches { list: list.to_vec(), merging };
    bench.daemon.step(bench.now, Input::Done { id, outcome }, &mut effects);
    let check = effects.iter().find_map(|effect| {
        let crate::effect::Effect::Link(crate::effect::LinkEffect::Send { message, .. }) = effect else { return None };
        if let DaemonMessage::MergeCompleteCheck(it) = &**message { Some(it.clone()) } else { None }
    });
    let it = check.expect("an answer");
    (it.can_complete, it.unmerged_branches, it.merged_count, it.skipped_count)
}

/// Protects work from being left behind: a task is complete when each branch is merged, or meant not to be.
#[test]
fn a_task_is_complete_when_nothing_is_left_to_merge() {
    let mut bench = orchestrator();
    let all = [branch(Some(OTHER), false), branch(None, true)];
    let ask = |bench: &mut Bench, list: &[Branch], merging| {
        bench.tell(TASK, "checkMergeComplete", "");
        gate(bench, list, merging)
    };
    assert_eq!(ask(&mut bench, &all, false), (false, Vec::from(["branch-8".into()]), 1, 0));
    bench.tell(TASK, "mergeSkip", &format!(r#""subtaskId":"{OTHER}","reason":"no use""#));
    merging(&mut bench, Merging::Skipped);
    assert_eq!(ask(&mut bench, &all, false), (true, Vec::new(), 1, 1));
    assert_eq!(ask(&mut bench, &all, true), (false, Vec::new(), 1, 1), "a merge is under way");
    let left = |skipped| Leftover {
        spec: bench.specs[&TASK].clone(),
        stage: Stage::Started(prepared()),
        delivered: 0,
        closed: false,
        skipped,
    };
    let left = left(Vec::from([(TASK, "no".into())]));
    bench.boot(2, Vec::from([left]));
    bench.open_session(Wire::Two);
    let all = [branch(Some(TASK), false), branch(Some(OTHER), false)];
    assert_eq!(ask(&mut bench, &all, false), (true, Vec::new(), 0, 2), "what its folder says counts too");
}

/// Protects a branch from being merged before its task has brought in all of it.
#[test]
fn a_subtask_is_merged_once_it_has_ended() {
    let mut bench = with_child();
    let name = child_branch();
    let fields = format!(r#""sourceBranch":"{name}""#);
    assert_eq!(
        bench.tell(TASK, "mergeStart", &fields),
        [
            "#13 progress: the task of that branch has not ended yet",
            "#14 merge false the task of that branch has not ended yet"
        ]
    );
    end_child(&mut bench);
    assert!(!bench.tell(TASK, "mergeStart", &fields).is_empty());
    let Work::Merge(Merge::Start { source: Source::Child(child) }) = bench.work("Merge") else {
        panic!("it is no subtask's: {:?}", bench.work("Merge"))
    };
    assert_eq!((child.task, child.ended, child.branch.is_some()), (OTHER, true, true));
    assert_eq!(merging(&mut bench, Merging::Open { source: None, conflicts: Vec::new() }).len(), 1);
    bench.tell(TASK, "listBranches", "");
    let Work::Merge(Merge::List { children }) = bench.work("Merge") else { panic!("it is no list") };
    assert_eq!(children.iter().map(|child| child.task).collect::<Vec<_>>(), [OTHER]);
    bench.done("Merge", Outcome::Branches { list: Vec::new(), merging: false });
    bench.tell(TASK, "mergeSkip", &format!(r#""subtaskId":"{OTHER}","reason":"no use""#));
    let Work::Merge(Merge::Skip { child, reason }) = bench.work("Merge") else { panic!("it is no skip") };
    assert_eq!((child.task, reason.as_str(), child.branch.is_some()), (OTHER, "no use", true));
}

/// Protects the server from waiting for ever, and an errand of some minutes from being called off after seconds.
#[test]
fn an_errand_has_its_time() {
    let limit = |kind: &str, fields: &str| {
        let mut bench = orchestrator();
        bench.tell(TASK, kind, fields);
        bench.timer()
    };
    assert_eq!(limit("mergeStatus", ""), Some(limits::MERGE.0));
    assert_eq!(limit("cloneWorktree", r#""targetDir":"/to""#), Some(limits::CLONE.0));
    let mut bench = orchestrator();
    bench.tell(TASK, "mergeStatus", "");
    bench.pass(limits::PING);
    bench.tell(TASK, "cloneWorktree", r#""targetDir":"/to""#);
    assert_eq!(bench.ring(), ["after 580000 ms", "cancel Merge"]);
    assert_eq!(bench.ring(), ["after 20000 ms", "cancel Clone"]);
    assert_eq!(
        bench.ring(),
        [
            "after 10000 ms",
            "tell: a bug in makima: an effect that was cancelled was not answered",
            "#8 progress: it took too long and was given up",
            "#9 mergeStatusResponse"
        ]
    );
    assert_eq!(
        bench.ring(),
        [
            "after 20000 ms",
            "tell: a bug in makima: an effect that was cancelled was not answered",
            "#10 progress: it took too long and was given up",
            "#11 cloneWorktreeResult"
        ]
    );
    assert!(!bench.daemon.tasks[&TASK].has_errands());
}

#[test]
fn what_is_under_way_for_a_task_is_bounded() {
    let mut bench = orchestrator();
    for _ in 0..limits::ERRANDS {
        assert_eq!(bench.tell(TASK, "mergeStatus", "").len(), 1);
    }
    assert_eq!(
        bench.tell(TASK, "mergeStatus", ""),
        ["#8 progress: too many commands for this task are under way", "#9 mergeStatusResponse"]
    );
    merging(&mut bench, Merging::Nothing);
    assert_eq!(bench.tell(TASK, "mergeStatus", "").len(), 1, "there is room again");
}

/// Protects a merge from being taken back twice, and a server from hearing that nothing was there to be taken back.
#[test]
fn a_new_life_asks_for_it_again() {
    let mut bench = with_child();
    bench.tell(TASK, "mergeAbort", "");
    let found = [(TASK, Stage::Started(prepared())), (OTHER, Stage::Started(prepared()))];
    assert_eq!(
        bench.again(&found),
        [
            "Attach",
            "Attach",
            "Merge(Abort)",
            "#6 progress: agent started (process 9)",
            "#7 preparing -> running",
            "#8 progress: accepted",
            "#9 pending -> preparing",
            "#10 progress: worktree ready at c0ffee0123",
            "#11 progress: agent started (process 9)",
            "#12 preparing -> running",
            "#14 registerToolKey with ToolKey(TaskId(00000000-0000-0000-0000-000000000007))"
        ]
    );
    assert_eq!(bench.work("Merge"), &Work::Merge(Merge::Abort));
    assert_eq!(bench.timer(), Some(limits::ATTACH.0));
    assert_eq!(merging(&mut bench, Merging::Nothing), ["#15 merge true everything is as it was before the merge"]);
    bench.tell(TASK, "listBranches", "");
    bench.again(&found);
    let Work::Merge(Merge::List { children }) = bench.work("Merge") else { panic!("it is no list") };
    assert_eq!(children.len(), 1);
}

/// Protects the commit from what was asked beside it: the time is the commit's.
#[test]
fn a_forced_interrupt_calls_errands_off() {
    let mut bench = orchestrator();
    bench.tell(TASK, "mergeStatus", "");
    bench.exit(ExitStatus::Code(0));
    assert_eq!(
        bench.tell(TASK, "interruptTask", r#""graceful":false"#),
        ["cancel Merge", "#9 progress: what is under way is let come to its end; the rest is skipped"]
    );
    assert_eq!(
        bench.failed("Merge", "it was called off"),
        ["#10 progress: it was called off", "#11 mergeStatusResponse"]
    );
}

/// Protects what was asked beside an agent from that agent's end.
#[test]
fn an_errand_goes_on_where_its_agent_is_killed() {
    let mut bench = orchestrator();
    bench.tell(TASK, "mergeStatus", "");
    assert_eq!(bench.tell(TASK, "interruptTask", r#""graceful":false"#), ["Empty", "#8 running -> finishing"]);
}

/// Protects a task's worktree from a merge while its work is brought in, and people from waiting for what cannot be yet.
#[test]
fn what_can_be_asked_depends_on_how_far_a_task_is() {
    let ask = |bench: &mut Bench| {
        let mut out = bench.tell(TASK, "mergeStatus", "");
        out.extend(bench.tell(TASK, "mergeAbort", ""));
        out.extend(bench.tell(
            TASK,
            "retryCompletionAction",
            r#""taskName":"a task","action":"branch","targetRepoPath":"""#,
        ));
        out
    };
    let mut bench = Bench::open(Wire::Two);
    bench.spawn(TASK, r#""completionAction":"branch","repoUrl":"/repo""#);
    let mut rows = Vec::new();
    let mut note = |bench: &mut Bench| {
        rows.push(bench.at(TASK).name().to_string());
        let out = ask(bench);
        rows.extend(out.into_iter().map(|line| format!("  {line}")));
    };
    note(&mut bench);
    bench.done("Accept", Outcome::Done);
    note(&mut bench);
    bench.done("Prepare", Outcome::Prepared(prepared()));
    note(&mut bench);
    bench.done("Start", Outcome::Started { pid: 9, handed: 0 });
    note(&mut bench);
    bench.exit(ExitStatus::Code(0));
    note(&mut bench);
    bench.done("Empty", Outcome::Emptied { killed: 0, log_end: 0 });
    bench.done("Commit", Outcome::Committed(None));
    note(&mut bench);
    same("asked.txt", include_str!("asked.txt"), &rows);
    bench.done("Conclude", Outcome::Done);
    assert_eq!(ask(&mut bench), ["Merge(Status)", "Merge(Abort)", "Deliver"]);
    let Work::Deliver(delivery) = bench.work("Deliver") else { panic!("nothing is delivered") };
    assert_eq!((delivery.deed, delivery.target.as_deref(), &delivery.commit), (Deed::Branch, Some("/repo"), &None));
    assert_eq!(bench.timer(), Some(limits::ACTION.0));
    assert_eq!(
        bench.done("Deliver", Outcome::Delivered { message: "it is there".into(), url: None }),
        ["#36 action true it is there"]
    );
    assert_eq!(
        bench.tell(TASK, "retryCompletionAction", r#""taskName":"a task","action":"pr","targetRepoPath":"""#),
        ["Deliver"]
    );
    assert_eq!(
        bench.tell(
            TASK,
            "retryCompletionAction",
            r#""taskName":"a task","action":"merge","targetRepoPath":"/to","targetBranch":"main""#
        ),
        ["Deliver"]
    );
    assert_eq!(bench.failed("Deliver", "no"), ["#37 progress: no", "#38 action false no"]);
}

/// Protects the server from silence about a task that only its end is known of.
#[test]
fn a_task_that_has_ended_is_asked_too() {
    let mut bench = orchestrator();
    let end = End { status: EndStatus::Done, error: None, completion: None, log_end: 0 };
    bench.again(&[(TASK, Stage::Ended(end))]);
    assert_eq!(bench.tell(TASK, "mergeStatus", "").len(), 1);
    assert_eq!(merging(&mut bench, Merging::Nothing).len(), 1);
    assert_eq!(bench.wait(limits::PING), NOTHING);
}

/// Protects people from an action that can do nothing: it is refused at once, and it is said why.
#[test]
fn an_action_without_a_target_is_refused() {
    let mut bench = Bench::open(Wire::Two);
    bench.running(TASK, r#""repoUrl":"https://example.org/a.git""#);
    bench.exit(ExitStatus::Code(0));
    bench.done("Empty", Outcome::Emptied { killed: 0, log_end: 0 });
    bench.done("Commit", Outcome::Committed(None));
    bench.done("Conclude", Outcome::Done);
    assert_eq!(
        bench.tell(TASK, "retryCompletionAction", r#""taskName":"a task","action":"branch","targetRepoPath":"""#),
        [
            "#11 progress: `branch` needs a repository on this machine, and none was named",
            "#12 action false `branch` needs a repository on this machine, and none was named"
        ]
    );
}

/// Protects a merge from being forgotten half-way: people are told of a conflict that stays, until somebody has resolved it.
#[test]
fn a_conflict_that_nobody_resolves_needs_a_person() {
    let open = |files: &[&str]| Merging::Open {
        source: Some("b".into()),
        conflicts: files.iter().map(ToString::to_string).collect(),
    };
    let looks = |bench: &Bench| bench.asked.values().any(|(_, work)| *work == Work::Merge(Merge::Status));
    let has = |out: &[String], text: &str| out.iter().any(|line| line.ends_with(text));
    let mut bench = orchestrator();
    bench.tell(TASK, "mergeStart", r#""sourceBranch":"b""#);
    merging(&mut bench, open(&["poem", "src/x"]));
    bench.pass(Millis(limits::CONFLICT.0 - 1));
    assert!(!looks(&bench), "it is given time");
    bench.pass(Millis(1));
    let out = merging(&mut bench, open(&["poem"]));
    assert!(has(&out, "progress: needs a person: a conflict that nobody resolves, in `poem`"), "{out:?}");
    // A new life of the daemon looks as well, also where the one before was about to.
    bench.pass(limits::CONFLICT);
    bench.again(&[(TASK, Stage::Started(prepared()))]);
    bench.done("Attach", Outcome::Started { pid: 9, handed: 0 });
    bench.done("Thaw", Outcome::Done);
    let out = merging(&mut bench, open(&[]));
    assert!(has(&out, "progress: needs nobody any more"), "{out:?}");
    bench.pass(limits::CONFLICT);
    assert!(!looks(&bench), "there is none");
    // One that is settled in time is nobody's business.
    bench.tell(TASK, "mergeStatus", "");
    merging(&mut bench, open(&["poem"]));
    bench.tell(TASK, "mergeCommit", r#""message":"m""#);
    merging(&mut bench, Merging::Committed("c".into()));
    bench.pass(limits::CONFLICT);
    assert!(!looks(&bench));
    // Nor is one of a task that has ended: it is committed as it is, and that is told.
    bench.tell(TASK, "mergeStatus", "");
    merging(&mut bench, open(&["poem"]));
    bench.exit(ExitStatus::Code(0));
    bench.pass(limits::CONFLICT);
    assert!(!looks(&bench));
}
