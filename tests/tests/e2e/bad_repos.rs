//! Repositories that cannot be used as they are, and those that look so and can.

use std::fs;

use serde_json::json;

use crate::support::{Done, Fleet, Place, Repo};

/// Runs a plan on what lies at a path, which must not work: nothing is started.
#[track_caller]
fn refused(place: &Place, path: &str, said: &[&str]) {
    let done = place.makima(["run", "--agent", "shell", "--repo", path, "echo x > x"]).done().code(2).noted(said);
    assert_eq!(done.out(), "");
    assert!(!place.home().exists(), "nothing was started");
    place.assert_nothing_runs();
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("a plain path")
}

#[test]
fn a_repository_that_is_not_there() {
    let place = Place::new();
    let path = place.path("nowhere");
    refused(&place, text(&path), &["there is nothing at", text(&path), "--repo"]);
}

#[test]
fn a_folder_that_is_no_repository() {
    let place = Place::new();
    refused(&place, text(&place.user()), &["is not a git repository", "git init"]);
    let done = place.makima(["run", "--agent", "shell", "true"]).at(place.user()).done().code(2);
    drop(done.noted(&[text(&place.user()), "is not in a git repository", "--repo"]));
    fs::write(place.path("file"), "").expect("a file");
    refused(&place, text(&place.path("file")), &["is not a git repository"]);
}

#[test]
fn a_repository_without_a_commit() {
    let place = Place::new();
    let repo = Repo::empty(&place.path("repo"));
    refused(&place, text(repo.path()), &["has no commit to start from", "git commit"]);
}

#[test]
fn a_bare_repository_is_as_good_as_any() {
    let place = Place::new();
    let repo = place.repo();
    let bare = Repo::at(place.path("bare.git"));
    repo.git(["clone", "--quiet", "--bare", ".", text(bare.path())]);
    let done = place.makima(["run", "--agent", "shell", "--repo", text(bare.path()), "echo x > x"]).done().code(0);
    assert_eq!(bare.show(&bare.branch(), "x"), "x");
    assert_eq!(done.fact("branch"), bare.branch());
    // What it says to do can be done.
    let take = done.fact("take");
    let words: Vec<&str> = take.split(' ').collect();
    let [_, _, from, branch] = words.as_slice() else { panic!("{take}") };
    repo.git(["fetch", "--quiet", from, branch]);
    let done = place.makima(["run", "--agent", "shell", "echo y > y"]).at(bare.path()).done().code(0);
    assert_eq!(bare.show(&done.fact("branch"), "y"), "y");
}

#[test]
fn a_linked_worktree_and_a_submodule_are_repositories_too() {
    let place = Place::new();
    let repo = place.repo();
    let linked = Repo::at(place.path("linked"));
    repo.git(["worktree", "add", "--quiet", "-b", "topic", text(linked.path())]);
    linked.write("topic", "t\n");
    let topic = linked.commit("On topic");
    place.run(&linked, &["cat topic; echo x > x"]).done().code(0);
    assert_eq!(repo.git(["rev-parse", &format!("{}^", repo.branch())]), topic);
}

#[test]
fn a_repository_on_a_detached_head_keeps_it() {
    let place = Place::new();
    let repo = place.repo();
    let first = repo.git(["rev-parse", "HEAD"]);
    repo.write("more", "m\n");
    repo.commit("More");
    repo.git(["switch", "--quiet", "--detach", &first]);
    let before = repo.state();
    place.run(&repo, &["test ! -e more; echo x > x"]).done().code(0);
    assert_eq!(repo.state(), before);
    assert_eq!(repo.show(&repo.branch(), "x"), "x");
}

#[test]
fn a_branch_that_is_named_makima_is_in_the_way() {
    let place = Place::new();
    let repo = place.repo();
    repo.git(["branch", "makima"]);
    refused(&place, text(repo.path()), &["has a branch named `makima`", "git branch -m makima", "--on-complete none"]);
    place.run(&repo, &["--on-complete", "none", "echo x > x"]).done().code(0);

    // A server that asks for it all the same is told, and the work is kept.
    let fleet = Fleet::start(&place);
    let id = fleet.plan(&repo, "echo x > x");
    let task = fleet.ended(&id);
    assert_eq!((&task["status"], &task["success"]), (&json!("done"), &json!(true)));
    let kept = Repo::at(place.home().join("worktrees").join(&id));
    assert_eq!(kept.show("HEAD", "x"), "x");
    let (_, events) = fleet.get(&format!("/api/v1/tasks/{id}/events"));
    assert!(events.contains("has a branch named `makima`") && events.contains("the work is kept in"), "{events}");
    fleet.end();
}

#[test]
fn a_branch_of_exactly_our_name_at_another_commit_is_left_as_it_is() {
    let place = Place::new();
    let repo = place.repo();
    let id = "0190a0e0-0000-7000-8000-000000000001";
    let branch = format!("makima/mine-{id}");
    repo.git(["branch", &branch]);
    let there = repo.git(["rev-parse", &branch]);
    let fleet = Fleet::start(&place);
    fleet.spawn(json!({
        "taskId": id, "taskName": "Mine", "plan": "echo x > x", "repoUrl": repo.path(), "completionAction": "branch",
    }));
    assert_eq!(fleet.ended(id)["success"], true);
    assert_eq!(repo.git(["rev-parse", &branch]), there);
    fleet.daemon.notes("already, at another commit");
    let kept = Repo::at(place.home().join("worktrees").join(id));
    assert_eq!(kept.show("HEAD", "x"), "x");
    // The same task once more is the same task: no second agent, no other end.
    let again = json!({
        "taskId": id, "taskName": "Mine", "plan": "echo x > x", "repoUrl": repo.path(), "completionAction": "branch",
    });
    assert_eq!(fleet.post("/api/v1/tasks", &again).0, 200);
    assert_eq!(fleet.post("/api/v1/tasks", &json!({ "taskId": id, "plan": "another" })).0, 409);
    fleet.end();
}

#[test]
fn a_server_cannot_have_a_branch_put_where_the_user_has_not_allowed_it() {
    let place = Place::new();
    let inside = Repo::with_a_commit(&place.user().join("inside"));
    let outside = Repo::with_a_commit(&place.path("outside"));
    let link = place.user().join("link");
    std::os::unix::fs::symlink(outside.path(), &link).expect("a link");
    let fleet = Fleet::start(&place);
    let put = |target: &std::path::Path| {
        let id = fleet.spawn(json!({
            "plan": "echo x > x", "repoUrl": inside.path(), "targetRepoPath": target, "completionAction": "branch",
        }));
        assert_eq!(fleet.ended(&id)["success"], true, "the work itself is done");
    };
    put(inside.path());
    assert_eq!(inside.branches().len(), 1);
    for target in [outside.path(), &link, &place.user().join("../outside")] {
        put(target);
        assert!(outside.branches().is_empty(), "{target:?}");
    }
    fleet.daemon.notes("allowed_roots");
    // `makima run` is the user's own word, and holds from then on.
    place.run(&outside, &["echo y > y"]).done().code(0);
    assert_eq!(outside.branches().len(), 1);
    put(outside.path());
    assert_eq!(outside.branches().len(), 2);
    fleet.end();
}

#[test]
fn a_configured_root_allows_what_lies_in_it() {
    let place = Place::new();
    let repo = Repo::with_a_commit(&place.path("projects/app"));
    place.configure(&format!("allowed_roots = [{:?}]\n", place.path("projects")));
    let fleet = Fleet::start(&place);
    let id = fleet.plan(&repo, "echo x > x");
    assert_eq!(fleet.ended(&id)["success"], true);
    assert_eq!(repo.branches().len(), 1);
    fleet.end();
}

#[test]
fn a_url_that_is_no_repository_is_refused_before_git_sees_it() {
    let place = Place::new();
    let refused = |url: &str| -> Done {
        place.makima(["run", "--agent", "shell", &format!("--repo={url}"), "true"]).done().code(2)
    };
    for url in ["ext::sh -c id", "ftp://host/x", "-x", "--upload-pack=id", "http://host/x"] {
        drop(refused(url));
    }
    assert!(!place.home().exists(), "nothing was started");
    let words = ["run", "--agent", "shell", "--repo", "https://host/x", "--on-complete", "branch", "true"];
    drop(place.makima(words).done().code(2).noted(&["needs a repository on this machine", "--on-complete none"]));
}

#[test]
fn a_repository_whose_name_cannot_be_sent() {
    use std::os::unix::ffi::OsStrExt as _;
    for name in [&b"inv\xff"[..], b"two\nlines"] {
        let place = Place::new();
        let repo = Repo::with_a_commit(&place.path("x").with_file_name(std::ffi::OsStr::from_bytes(name)));
        let done = place.makima(["run", "--agent", "shell", "true"]).at(repo.path()).done().code(2);
        drop(done.noted(&["cannot be sent", "another name"]));
        assert!(!place.home().exists(), "nothing was started");
    }
}

#[test]
fn a_branch_without_a_commit_is_no_hindrance_where_a_base_is_named() {
    let place = Place::new();
    let repo = place.repo();
    repo.git(["checkout", "--quiet", "--orphan", "empty"]);
    let done = place.run(&repo, &["--base", "main", "echo x > x"]).done().code(0);
    assert_eq!(repo.show(&done.fact("branch"), "x"), "x");
}

#[test]
fn a_folder_that_is_gone() {
    let place = Place::new();
    let gone = place.path("gone");
    fs::create_dir(&gone).expect("a folder");
    let script = format!("rmdir {} && exec \"$0\" \"$@\"", gone.display());
    let words = ["-c", &script, crate::support::binary().to_str().expect("a path"), "run", "--agent", "shell", "true"];
    let mut shell = std::process::Command::new("sh");
    let output = shell.args(words).current_dir(&gone).env("MAKIMA_HOME", place.home()).output().expect("a shell");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the folder that you stand in is gone"), "{said}");
}
