//! Where work starts, and what is brought along.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use super::{READS, last_of, task, worktree};
use crate::support::{Place, Reading, Stage};

/// A task ends well; gives the commit that it started at.
#[track_caller]
fn start_of(stage: &Stage, id: &str) -> String {
    let end = stage.ends(id, "done");
    assert_eq!((&end["success"], &end["error"]), (&json!(true), &Value::Null), "{:#?}", stage.desk.of(id));
    last_of(stage, id, &["completionActionResult", "taskStatusChange", "taskComplete"]);
    let branches = stage.repo.branches();
    let branch = branches.iter().find(|name| name.ends_with(id)).expect("its branch");
    let ready = format!("worktree ready at {}", &stage.repo.git(["rev-parse", &format!("{branch}~1")])[..10]);
    stage.progress(id, &ready);
    branch.clone()
}

/// A task never runs, and it is said why.
#[track_caller]
fn does_not_start(stage: &Stage, id: &str, why: &str) {
    let end = stage.ends(id, "failed");
    assert_eq!(end["success"], false);
    assert!(end["error"].as_str().expect("a reason").contains(why), "{end}");
    assert!(stage.desk.all(id, "taskOutput").is_empty());
    assert!(stage.desk.all(id, "taskStatusChange").iter().all(|change| change["newStatus"] != "running"));
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it is there").permissions().mode() & 0o777
}

/// Protects what a task is to build on: it is there as it was named, or nothing begins.
fn starts_where_it_is_told(reading: Reading) {
    let place = Place::new();
    let stage = Stage::new(&place, reading, 8, &[]);
    stage.repo.write(".gitignore", "ignored\n");
    let tagged = stage.repo.commit("Tagged");
    stage.repo.git(["tag", "v1"]);
    stage.repo.write("later", "later\n");
    let last = stage.repo.commit("Later");
    let parents = |branch: &str| stage.repo.git(["rev-parse", &format!("{branch}~1")]);

    let [usual, at_tag, at_commit, nowhere, of_nobody] = [1, 2, 3, 4, 5].map(task);
    stage.spawn(&usual, "test -e later && echo x > x", &json!({}));
    stage.spawn(&at_tag, "test ! -e later && echo x > x", &json!({ "baseBranch": "v1" }));
    stage.spawn(&at_commit, "test ! -e later && echo x > x", &json!({ "baseBranch": tagged }));
    stage.spawn(&nowhere, "echo begun", &json!({ "baseBranch": "no/such" }));
    stage.spawn(&of_nobody, "echo begun", &json!({ "continueFromTaskId": task(99) }));
    assert_eq!(parents(&start_of(&stage, &usual)), last);
    assert_eq!(parents(&start_of(&stage, &at_tag)), tagged);
    assert_eq!(parents(&start_of(&stage, &at_commit)), tagged);
    does_not_start(&stage, &nowhere, "no/such");
    does_not_start(&stage, &of_nobody, &task(99));
    stage.over(&place);
}

/// Protects what subtasks and those who go on take from others: the last commit, the files that were named, all that is there.
fn starts_at_another(reading: Reading) {
    let place = Place::new();
    let stage = Stage::new(&place, reading, 8, &[]);
    let [parent, child, outside, next, after] = [1, 2, 3, 4, 5].map(task);
    let plan = format!(
        "echo p > p; git add p; git commit -qm Parent; mkdir -p d/deep; echo run > d/deep/run; chmod 750 d/deep/run; \
         ln -s deep/run d/link; echo hidden > .env; chmod 600 .env; echo changed > readme; rm src/code; {READS}"
    );
    stage.spawn(&parent, &plan, &json!({}));
    stage.says(&parent, "begun");

    // Of its parent's: what is committed, and of the rest what was named.
    let named = json!(["d", ".env", "gone"]);
    let fields = json!({ "parentTaskId": parent, "depth": 1, "copyFiles": named });
    stage.spawn(&child, "cat p d/link .env readme src/code; echo x > x; git add -A", &fields);
    let branch = start_of(&stage, &child);
    for line in ["p", "run", "hidden", "first", "one"] {
        stage.says(&child, line);
    }
    stage.progress(&child, "`gone` was not brought along: it is not there");
    let tree = worktree(&place, &child);
    assert_eq!((mode(&tree.join("d/deep/run")), mode(&tree.join(".env"))), (0o750, 0o600));
    assert_eq!(fs::read_link(tree.join("d/link")).expect("a link"), Path::new("deep/run"));
    assert_eq!(stage.repo.git(["log", "-1", "--format=%s", &format!("{branch}~1")]), "Parent");
    let files = stage.repo.git(["diff-tree", "-r", "--name-status", "--no-commit-id", &branch]);
    assert_eq!(files, "A\tx", "what was brought along is not its work");

    // Never of what lies outside.
    let fields = json!({ "parentTaskId": parent, "depth": 1, "copyFiles": ["d/../../../config.toml"] });
    stage.spawn(&outside, "echo begun", &fields);
    let end = stage.desk.waits(&outside, "taskComplete");
    assert!(end["success"] == false && end["error"].as_str().expect("a reason").contains("config.toml"), "{end}");

    // From one that runs, with all that is in no commit.
    let fields = json!({ "continueFromTaskId": parent });
    stage.spawn(&next, "cat p d/link .env readme; test -e src/code || echo no code; echo y > y", &fields);
    let branch = start_of(&stage, &next);
    for line in ["p", "run", "hidden", "changed", "no code"] {
        stage.says(&next, line);
    }
    assert_eq!(stage.repo.git(["log", "-1", "--format=%s", &format!("{branch}~1")]), "Parent");
    assert_eq!(stage.repo.show(&branch, "readme"), "changed");
    // And from that, which has ended.
    stage.spawn(&after, "cat y readme; echo z > z", &json!({ "continueFromTaskId": next }));
    assert_eq!(
        stage.repo.git(["rev-parse", &format!("{}~1", start_of(&stage, &after))]),
        stage.repo.git(["rev-parse", &branch])
    );
    for line in ["y", "changed"] {
        stage.says(&after, line);
    }

    stage.tell(&parent, "sendMessage", &json!({ "message": "over" }));
    stage.ends(&parent, "done");
    stage.over(&place);
}

#[test]
fn a_literal_server_says_where_work_starts() {
    starts_where_it_is_told(Reading::Literal);
}

#[test]
fn a_loose_server_says_where_work_starts() {
    starts_where_it_is_told(Reading::Loose);
}

#[test]
fn a_literal_servers_tasks_start_at_others() {
    starts_at_another(Reading::Literal);
}

#[test]
fn a_loose_servers_tasks_start_at_others() {
    starts_at_another(Reading::Loose);
}
