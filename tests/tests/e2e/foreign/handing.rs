//! Work that is handed over, at a task's end and later.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::{last_of, task, worktree};
use crate::support::{Forge, Place, Reading, Repo, Stage};

const LAST: [&str; 3] = ["completionActionResult", "taskStatusChange", "taskComplete"];

/// What a task's own action came to: whether it was done, what is said of it, and where to look at it.
#[track_caller]
fn result(told: &Value, id: &str, success: bool, pr: Option<&str>) -> String {
    let message = told["message"].as_str().expect("a text");
    let wanted = json!({ "type": "completionActionResult", "taskId": id, "success": success, "message": message,
        "prUrl": pr });
    assert_eq!(*told, wanted);
    message.to_owned()
}

/// A task ends well, whatever its action comes to.
#[track_caller]
fn acted(stage: &Stage, id: &str, success: bool, pr: Option<&str>) -> String {
    assert_eq!(stage.ends(id, "done")["success"], true);
    last_of(stage, id, &LAST);
    result(&stage.desk.all(id, "completionActionResult")[0], id, success, pr)
}

/// Protects finished work on its way to the user and to a forge, unasked and asked for.
fn hands_over(reading: Reading) {
    let place = Place::new();
    let stage = Stage::new(&place, reading, 4, &Forge::env(&place));
    let forge = Forge::of(&place, &stage.repo);
    let [merge, pr, none, refused] = [1, 2, 3, 4].map(task);
    let before = stage.repo.git(["rev-parse", "main"]);

    stage.spawn(&merge, "echo m > m", &json!({ "completionAction": "merge", "targetBranch": "main" }));
    let message = acted(&stage, &merge, true, None);
    assert!(message.contains("main"), "{message}");
    assert_eq!(stage.repo.git(["rev-parse", "main~1"]), before);
    assert_eq!(fs::read_to_string(stage.repo.path().join("m")).expect("its checkout follows"), "m\n");
    assert_eq!(stage.repo.git(["status", "--porcelain"]), "");

    stage.spawn(&pr, "echo p > p", &json!({ "completionAction": "pr", "baseBranch": "main" }));
    acted(&stage, &pr, true, Some(Forge::PR));
    assert!(forge.told().contains("--base=main"), "{}", forge.told());
    assert_eq!(forge.repo.show(&format!("makima/fix-it-{pr}"), "p"), "p");

    // What is in the way of it makes no work fail.
    stage.repo.write("m", "mine\n");
    stage.spawn(&refused, "echo other > m", &json!({ "completionAction": "merge", "targetBranch": null }));
    let message = acted(&stage, &refused, false, None);
    assert!(message.contains("changes"), "{message}");
    assert_eq!(fs::read_to_string(stage.repo.path().join("m")).expect("the user's"), "mine\n");
    stage.repo.git(["checkout", "-q", "m"]);

    stage.spawn(&none, "echo n > n", &json!({ "completionAction": "none", "targetRepoPath": null }));
    stage.ends(&none, "done");
    last_of(&stage, &none, &["taskStatusChange", "taskComplete"]);
    assert!(stage.desk.all(&none, "completionActionResult").is_empty());

    let retry = |id: &str, action: &str| {
        let fields = json!({ "taskName": "Fix it", "action": action, "targetRepoPath": stage.repo.path(), "targetBranch": null });
        stage.ask(id, "retryCompletionAction", &fields, "completionActionResult")
    };
    for _ in 0..2 {
        result(&retry(&pr, "pr"), &pr, true, Some(Forge::PR));
        result(&retry(&refused, "merge"), &refused, true, None);
        result(&retry(&none, "branch"), &none, true, None);
    }
    assert_eq!(forge.opened(), 1, "{}", forge.told());
    assert_eq!(stage.repo.show("main", "m"), "other");
    assert_eq!(stage.repo.show(&format!("makima/fix-it-{none}"), "n"), "n");
    let message = result(&retry(&none, "fax"), &none, false, None);
    assert!(message.contains("fax"), "{message}");
    stage.repo.git(["fsck", "--strict"]);
    stage.over(&place);
}

/// Protects the user's folders: work is copied to where it may be, and outside of that nothing is seen or made.
fn copies(reading: Reading) {
    let place = Place::new();
    let stage = Stage::new(&place, reading, 4, &[]);
    let (id, unknown) = (task(1), task(99));
    stage.spawn(&id, "echo x > x; mkdir d; echo y > d/y", &json!({ "completionAction": "none" }));
    stage.ends(&id, "done");
    let clone = |id: &str, to: &Path| {
        let answer = stage.ask(id, "cloneWorktree", &json!({ "targetDir": to }), "cloneWorktreeResult");
        assert_eq!((&answer["type"], &answer["taskId"]), (&json!("cloneWorktreeResult"), &json!(id)), "{answer}");
        let message = answer["message"].as_str().expect("a text").to_owned();
        (answer["success"] == true, message, answer["targetDir"].clone())
    };
    let exists = |id: &str, at: &Path| {
        let answer = stage.ask(id, "checkTargetExists", &json!({ "targetDir": at }), "checkTargetExistsResult");
        let wanted =
            json!({ "type": "checkTargetExistsResult", "taskId": id, "exists": answer["exists"], "targetDir": at });
        assert_eq!(answer, wanted);
        answer["exists"] == true
    };
    let copy = place.user().join("copies/one");
    assert!(!exists(&id, &copy));
    for _ in 0..2 {
        let (done, message, to) = clone(&id, &copy);
        assert!(done && message.contains(copy.to_str().expect("text")), "{message}");
        assert_eq!(to, json!(copy.canonicalize().expect("it is there")));
    }
    assert!(exists(&id, &copy) && exists(&unknown, &copy));
    let (there, here) = (Repo::at(&copy), Repo::at(worktree(&place, &id)));
    assert_eq!(there.git(["rev-parse", "HEAD"]), here.git(["rev-parse", "HEAD"]));
    assert_eq!((there.git(["status", "--porcelain"]), there.show("HEAD", "d/y")), (String::new(), "y".to_owned()));
    there.git(["fsck", "--strict"]);

    let (full, outside) = (place.user().join("full"), tempfile::tempdir().expect("a folder"));
    fs::create_dir(&full).expect("a folder");
    fs::write(full.join("mine"), "mine").expect("a file");
    symlink(outside.path(), place.user().join("link")).expect("a link");
    let (done, message, to) = clone(&id, &full);
    assert!(!done && message.contains("not empty") && to.is_null(), "{message}");
    assert!(exists(&id, &full));
    for root in [outside.path().to_path_buf(), place.user().join("link"), place.home().join("tasks")] {
        let to = root.join("copy");
        let (done, message, told) = clone(&id, &to);
        assert!(!done && !message.is_empty() && told.is_null(), "{message}");
        assert!(!to.exists());
        // What is there is not said to be.
        let before = stage.desk.all(&id, "taskProgress").len();
        assert!(!exists(&id, &root), "{}", root.display());
        let said = stage.desk.all(&id, "taskProgress").split_off(before);
        assert!(!said.is_empty(), "nobody says why");
    }
    assert_eq!(fs::read_dir(outside.path()).expect("a folder").count(), 0);
    let (done, message, _) = clone(&unknown, &place.user().join("copies/two"));
    assert!(!done && message.contains("not known to this daemon"), "{message}");
    stage.over(&place);
}

#[test]
fn a_literal_servers_work_is_handed_over() {
    hands_over(Reading::Literal);
}

#[test]
fn a_loose_servers_work_is_handed_over() {
    hands_over(Reading::Loose);
}

#[test]
fn a_literal_server_has_work_copied_to_where_it_may_be() {
    copies(Reading::Literal);
}

#[test]
fn a_loose_server_has_work_copied_to_where_it_may_be() {
    copies(Reading::Loose);
}
