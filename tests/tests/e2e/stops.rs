//! A daemon that is told to stop in the middle of something.

use std::fs;

use serde_json::json;

use crate::support::{Fleet, Place, SOON, until};

/// Protects a checkout of the user's from a daemon that is stopped while it moves it along: git comes to its end, no lock
/// is left, and the next daemon knows that it was done.
#[test]
fn a_stop_while_a_checkout_follows_leaves_it_whole() {
    let place = Place::new();
    let mut fleet = Fleet::start(&place);
    let repo = place.repo();
    // In the one place that git is let write to, moving the checkout along.
    let begun = repo.path().join(".git/begun");
    repo.write(".gitattributes", "*.slow filter=slow\n");
    repo.commit("Slow files");
    repo.git(["config", "filter.slow.smudge", &format!("touch '{}'; sleep 1; cat", begun.display())]);
    let plan = "for n in 1 2; do echo $n > $n.slow; echo $n > $n.quick; done";
    let id = fleet.spawn(json!({ "plan": plan, "repoUrl": repo.path(), "completionAction": "merge" }));
    until("the checkout follows", SOON, || begun.exists().then_some(()));
    assert!(fleet.task(&id)["endedAt"].is_null());
    fleet.daemon.terminate().code(0);
    let left = fs::read_dir(repo.path().join(".git")).expect("a folder");
    let left: Vec<_> = left.flatten().map(|entry| entry.file_name().into_string().expect("a text")).collect();
    assert!(left.iter().all(|name| !name.ends_with(".lock")), "{left:?}");
    assert_eq!(repo.git(["status", "--porcelain"]), "");
    fleet.daemon = Fleet::daemon(&place);
    let task = fleet.ended(&id);
    assert_eq!((&task["status"], &task["error"]), (&json!("done"), &json!(null)), "{task}");
    assert_eq!(repo.git(["status", "--porcelain"]), "");
    assert_eq!(fs::read_to_string(repo.path().join("2.slow")).expect("it is there"), "2\n");
    let told = repo.git(["log", "--format=%s"]);
    assert_eq!(told.lines().count(), 3, "it is merged once: {told}");
    fleet.end();
}
