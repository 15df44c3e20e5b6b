//! An orchestrator, its key, and the branches of its subtasks.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::{READS, last_of, task, worktree};
use crate::support::{Place, Reading, Repo, SOON, Stage, until};

/// An orchestrator that runs, and its worktree.
struct Boss<'a> {
    place: &'a Place,
    stage: Stage,
    id: String,
    tree: Repo,
}

impl<'a> Boss<'a> {
    fn new(place: &'a Place, reading: Reading) -> Self {
        let (stage, id) = (Stage::new(place, reading, 6, &[]), task(1));
        let plan = format!(
            "printf %s \"$MAKIMA_TOOL_KEY\" > '{}'; say() {{ echo \"the key is $MAKIMA_TOOL_KEY.\"; }}; {}",
            place.path("seen").display(),
            READS.replace("do echo", "do test \"$line\" = key && say; echo")
        );
        stage.spawn(&id, &plan, &json!({ "isOrchestrator": true, "completionAction": "merge" }));
        stage.says(&id, "begun");
        let tree = Repo::at(worktree(place, &id));
        Self { place, stage, id, tree }
    }

    /// All of its worktree, byte for byte, and what git knows of it.
    fn bytes(&self) -> (String, String) {
        let state = self.tree.state();
        // The first line is what git remembers of the files' times.
        let (_, state) = state.split_once('\n').expect("lines");
        (self.tree.git(["ls-files", "--stage"]), state.to_owned())
    }

    fn key_file(&self) -> std::path::PathBuf {
        self.place.home().join("tasks").join(&self.id).join("key")
    }

    /// A subtask that does this and ends. Gives its branch.
    fn subtask(&self, n: u32, plan: &str) -> String {
        let (id, name) = (task(n), format!("Part {n}"));
        let fields = json!({ "taskName": name, "completionAction": null, "targetRepoPath": null, "depth": 1,
            "parentTaskId": self.id });
        self.stage.spawn(&id, plan, &fields);
        assert_eq!(self.stage.ends(&id, "done")["success"], true);
        last_of(&self.stage, &id, &["taskStatusChange", "taskComplete"]);
        format!("makima/part-{n}-{id}")
    }

    /// Says a command whose answer is a `mergeResult`, and holds each field of that but its message.
    #[track_caller]
    fn merge(&self, kind: &str, more: &Value, success: bool, conflicts: &Value) -> String {
        let answer = self.stage.ask(&self.id, kind, more, "mergeResult");
        let message = answer["message"].as_str().expect("a text").to_owned();
        let sha =
            if kind == "mergeCommit" && success { json!(self.tree.git(["rev-parse", "HEAD"])) } else { json!(null) };
        let wanted = json!({ "type": "mergeResult", "taskId": self.id, "success": success, "message": message,
            "commitSha": sha, "conflicts": conflicts });
        assert_eq!(answer, wanted, "{kind} {more}");
        assert!(!message.is_empty() && !message.contains('\n'), "{answer}");
        message
    }

    #[track_caller]
    fn done(&self, kind: &str, more: &Value) -> String {
        self.merge(kind, more, true, &Value::Null)
    }

    #[track_caller]
    fn refused(&self, kind: &str, more: &Value, why: &str) {
        let message = self.merge(kind, more, false, &Value::Null);
        assert!(message.contains(why), "{kind} {more}: {message}");
    }

    #[track_caller]
    fn status(&self, source: Option<&str>, files: &[&str]) {
        let answer = self.stage.ask(&self.id, "mergeStatus", &json!({}), "mergeStatusResponse");
        let wanted = json!({ "type": "mergeStatusResponse", "taskId": self.id, "inProgress": source.is_some(),
            "sourceBranch": source, "conflictedFiles": files });
        assert_eq!(answer, wanted);
    }

    #[track_caller]
    fn gate(&self, unmerged: &[&str], merged: u32, skipped: u32, opens: bool) {
        let answer = self.stage.ask(&self.id, "checkMergeComplete", &json!({}), "mergeCompleteCheck");
        let wanted = json!({ "type": "mergeCompleteCheck", "taskId": self.id, "canComplete": opens,
            "unmergedBranches": unmerged, "mergedCount": merged, "skippedCount": skipped });
        assert_eq!(answer, wanted);
    }

    /// Its subtasks' branches, of each the name, whether it is merged, and its number; held against git.
    #[track_caller]
    fn branches(&self, wanted: &[(&str, bool, u32)]) {
        let answer = self.stage.ask(&self.id, "listBranches", &json!({}), "branchList");
        let mut list = answer["branches"].as_array().expect("a list").clone();
        list.sort_by_key(|branch| branch["name"].as_str().map(str::to_owned));
        let branch = |(name, merged, n): &(&str, bool, u32)| {
            let git = Repo::at(worktree(self.place, &task(*n)));
            json!({ "name": name, "taskId": task(*n), "isMerged": merged, "lastCommit": git.git(["rev-parse", "--short", "HEAD"]),
                "lastCommitMessage": format!("Part {n}") })
        };
        assert_eq!(list, wanted.iter().map(branch).collect::<Vec<_>>());
    }

    /// In a new session the server is told the key before anything else but where the daemon's folders are.
    #[track_caller]
    fn key_is_told_again(&self) -> String {
        let first = until("two messages", SOON, || self.stage.desk.this_session().get(..2).map(<[Value]>::to_vec));
        assert_eq!((&first[0]["type"], &first[1]["type"]), (&json!("daemonDirectories"), &json!("registerToolKey")));
        self.key_is_told()
    }

    /// What the server was told is the agent's, and is a key.
    #[track_caller]
    fn key_is_told(&self) -> String {
        let told = self.stage.desk.all(&self.id, "registerToolKey");
        let key = told.last().expect("a key")["key"].as_str().expect("a text").to_owned();
        assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "256 bits: {key}");
        assert_eq!(fs::read_to_string(self.place.path("seen")).expect("its agent has one"), key);
        assert_eq!(fs::read_to_string(self.key_file()).expect("it lies here"), key);
        assert_eq!(self.key_file().metadata().expect("it lies here").permissions().mode() & 0o777, 0o600);
        key
    }
}

fn start(branch: &str) -> Value {
    json!({ "sourceBranch": branch })
}

fn resolve(file: &str, strategy: &str) -> Value {
    json!({ "file": file, "strategy": strategy })
}

/// Protects the agents of orchestrators: the server knows the key before it can be used, in each session, until the end.
fn has_a_key(reading: Reading) {
    let place = Place::new();
    let mut boss = Boss::new(&place, reading);
    let told = boss.stage.desk.of(&boss.id);
    let at = |kind: &str| told.iter().position(|told| told["type"] == kind).expect("it is told");
    assert!(at("registerToolKey") < at("taskOutput"), "{told:#?}");
    let key = boss.key_is_told();
    boss.stage.is_cut();
    assert_eq!(boss.key_is_told_again(), key);
    boss.stage.is_killed();
    boss.stage.begins();
    assert_eq!(boss.key_is_told_again(), key);

    // The daemon that is there now has not made it, and shows it to nobody either.
    boss.stage.tell(&boss.id, "sendMessage", &json!({ "message": "key" }));
    boss.stage.says(&boss.id, "the key is ***.");

    let other = task(2);
    boss.stage.spawn(&other, "true", &json!({ "isOrchestrator": true, "completionAction": "none" }));
    boss.stage.ends(&other, "done");
    last_of(&boss.stage, &other, &["revokeToolKey", "taskStatusChange", "taskComplete"]);
    assert_ne!(boss.stage.desk.all(&other, "registerToolKey")[0]["key"], json!(key), "each has its own");

    boss.stage.tell(&boss.id, "sendMessage", &json!({ "message": "over" }));
    boss.stage.ends(&boss.id, "done");
    let last = ["completionActionResult", "revokeToolKey", "taskStatusChange", "taskComplete"];
    last_of(&boss.stage, &boss.id, &last);
    assert!(!boss.key_file().exists(), "it is gone with its task");
    let result = json!({ "type": "completionActionResult", "taskId": boss.id, "success": true, "message": "no changes",
        "prUrl": null });
    assert_eq!(boss.stage.desk.all(&boss.id, "completionActionResult"), [result]);
    boss.stage.over(&place);
}

/// Protects the whole way from subtasks that contradict each other to one merged result, through a daemon that is killed.
fn merges(reading: Reading) {
    let place = Place::new();
    let mut boss = Boss::new(&place, reading);
    let a = boss.subtask(2, "echo a > src/code; echo a >> readme; echo new > new");
    let b = boss.subtask(3, "echo b > src/code; rm readme");
    let c = boss.subtask(4, "echo c > src/code; rm readme");
    let d = boss.subtask(5, "echo d > src/code");
    let all = |merged: [bool; 4]| {
        let names = [a.as_str(), &b, &c, &d];
        [0, 1, 2, 3].map(|n| (names[n], merged[n], 2 + u32::try_from(n).expect("a few")))
    };
    boss.branches(&all([false; 4]));
    boss.gate(&[&a, &b, &c, &d], 0, 0, false);
    boss.status(None, &[]);
    boss.refused("mergeCommit", &json!({ "message": "nothing" }), "no merge is under way");
    boss.refused("mergeStart", &start("makima/of-nobody"), "there is no branch");

    // Clean.
    let message = boss.done("mergeStart", &start(&a));
    assert!(message.contains("`mergeCommit` comes next"), "{message}");
    boss.status(Some(&a), &[]);
    boss.gate(&[&a, &b, &c, &d], 0, 0, false);
    let before = boss.tree.git(["rev-parse", "HEAD"]);
    boss.done("mergeCommit", &json!({ "message": "Take the first" }));
    assert_eq!(boss.tree.git(["rev-parse", "HEAD^1"]), before);
    let first = Repo::at(worktree(&place, &task(2))).git(["rev-parse", "HEAD"]);
    assert_eq!(boss.tree.git(["rev-parse", "HEAD^2"]), first);
    assert_eq!(boss.tree.git(["log", "-1", "--format=%s"]), "Take the first");
    boss.branches(&all([true, false, false, false]));
    boss.done("mergeStart", &start(&a));
    boss.status(None, &[]);

    // In conflict, and taken back.
    let (files, before) = (json!(["readme", "src/code"]), boss.bytes());
    boss.merge("mergeStart", &start(&b), false, &files);
    boss.status(Some(&b), &["readme", "src/code"]);
    boss.refused("mergeStart", &start(&c), "is under way");
    boss.done("mergeAbort", &json!({}));
    assert_eq!(boss.bytes(), before, "byte for byte as before");
    boss.status(None, &[]);
    boss.refused("mergeAbort", &json!({}), "no merge is under way");

    // Once more, with another daemon half-way.
    boss.merge("mergeStart", &start(&b), false, &files);
    boss.merge("mergeResolve", &resolve("src/code", "theirs"), true, &json!(["readme"]));
    boss.stage.is_killed();
    boss.stage.begins();
    boss.status(Some(&b), &["readme"]);
    boss.merge("mergeCommit", &json!({ "message": "too early" }), false, &json!(["readme"]));
    boss.refused("mergeResolve", &resolve("src/code", "ours"), "in no conflict");
    boss.refused("mergeResolve", &resolve("readme", "both"), "both");
    boss.done("mergeResolve", &resolve("readme", "ours"));
    boss.status(Some(&b), &[]);
    boss.done("mergeCommit", &json!({ "message": "Take the second" }));
    assert_eq!((boss.tree.show("HEAD", "src/code"), boss.tree.show("HEAD", "readme")), ("b".into(), "first\na".into()));
    assert_eq!(boss.tree.git(["status", "--porcelain"]), "");

    // The other way about.
    boss.merge("mergeStart", &start(&c), false, &files);
    boss.merge("mergeResolve", &resolve("src/code", "ours"), true, &json!(["readme"]));
    boss.done("mergeResolve", &resolve("readme", "theirs"));
    boss.done("mergeCommit", &json!({ "message": "Take the third" }));
    assert_eq!(boss.tree.git(["ls-tree", "-r", "--name-only", "HEAD"]), "new\nsrc/code");
    assert_eq!(boss.tree.show("HEAD", "src/code"), "b");

    boss.branches(&all([true, true, true, false]));
    boss.gate(&[&d], 3, 0, false);
    boss.refused("mergeSkip", &json!({ "subtaskId": task(9), "reason": "no use" }), "no subtask");
    boss.done("mergeSkip", &json!({ "subtaskId": task(5), "reason": "superseded" }));
    boss.gate(&[], 3, 1, true);
    boss.tree.git(["fsck", "--strict"]);

    boss.stage.tell(&boss.id, "sendMessage", &json!({ "message": "over" }));
    assert_eq!(boss.stage.ends(&boss.id, "done")["error"], Value::Null);
    let last = ["completionActionResult", "revokeToolKey", "taskStatusChange", "taskComplete"];
    last_of(&boss.stage, &boss.id, &last);
    let merged = |told: &Value| {
        assert_eq!((&told["success"], &told["prUrl"]), (&json!(true), &Value::Null), "{told}");
        let repo = &boss.stage.repo;
        assert_eq!(repo.git(["ls-tree", "-r", "--name-only", "main"]), "new\nsrc/code");
        assert_eq!(repo.git(["status", "--porcelain"]), "");
        repo.git(["merge-base", "--is-ancestor", &first, "main"]);
        repo.git(["rev-parse", "main"])
    };
    let at = merged(&boss.stage.desk.all(&boss.id, "completionActionResult")[0]);
    let retry = json!({ "taskName": "Fix it", "action": "merge", "targetRepoPath": boss.stage.repo.path(),
        "targetBranch": "main" });
    let again = boss.stage.ask(&boss.id, "retryCompletionAction", &retry, "completionActionResult");
    assert_eq!(merged(&again), at, "twice is as once");
    // Its worktree is here, and so are the answers.
    boss.gate(&[], 3, 1, true);
    boss.stage.over(&place);
}

#[test]
fn an_orchestrators_key_is_told_to_a_literal_server() {
    has_a_key(Reading::Literal);
}

#[test]
fn an_orchestrators_key_is_told_to_a_loose_server() {
    has_a_key(Reading::Loose);
}

#[test]
fn a_literal_server_merges_what_subtasks_have_done() {
    merges(Reading::Literal);
}

#[test]
fn a_loose_server_merges_what_subtasks_have_done() {
    merges(Reading::Loose);
}
