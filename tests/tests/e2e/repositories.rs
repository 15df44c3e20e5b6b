//! What a repository wants to be run, what the user has agreed to, and what comes of it.

use std::fs;

use serde_json::json;

use crate::support::{Fleet, Place, Repo};

const WANTS: &str = "setup = ['echo $WORD > set-up']\nchecks = ['test ! -e bad']\n[env]\nWORD = 'hello'\n";

fn says(repo: &Repo, text: &str) {
    fs::write(repo.path().join(".makima.toml"), text).expect("room");
    repo.git(["add", "-A"]);
    repo.git(["commit", "-qm", "what it wants"]);
}

/// Protects the user from code of a repository that they have only named, and then from what it becomes.
#[test]
fn what_a_repository_wants_is_run_once_the_user_has_agreed_to_just_that() {
    let place = Place::new();
    let repo = place.repo();
    says(&repo, WANTS);
    let path = repo.path().to_str().expect("a plain path").to_owned();
    let run = |plan: &str| place.run(&repo, &["--on-complete", "none", plan]).done();
    let done = run("cat set-up 2> /dev/null || echo nothing").code(0);
    assert_eq!(done.out(), "nothing\n");
    assert!(done.err().contains("makima repo allow /"), "{}", done.err());
    let listed = place.makima(["repo", "list", "--json"]).done().code(0).json();
    assert!(
        listed[0]["asked"]["setup"] == json!(["echo $WORD > set-up"]) && listed[0]["allowed"] == json!([]),
        "{listed}"
    );

    let told = place.makima(["repo", "allow", &path]).done().code(0).out();
    assert!(told.contains("setup      echo $WORD > set-up") && told.contains("check      test ! -e bad"), "{told}");
    assert_eq!(told.matches("setup      ").count(), 1, "what a task has found there too is told once: {told}");
    let done = run("cat set-up; echo $WORD").code(0);
    let out = done.out();
    assert!(out.contains("$ echo $WORD > set-up\n") && out.contains("hello\nhello\n"), "{out}");
    assert!(done.err().contains("the checks have passed"), "{}", done.err());

    says(&repo, "setup = ['touch evil']\n");
    let done = run("ls evil 2> /dev/null || echo none").code(0);
    assert_eq!(done.out(), "none\n");
    assert!(done.err().contains("has changed since you agreed"), "{}", done.err());

    says(&repo, "setup = ['echo no; exit 3']\n");
    place.makima(["repo", "allow", &path]).done().code(0);
    let done = run("touch agent").code(1);
    assert!(done.err().contains("the set-up failed with exit code 3"), "{}", done.err());
    place.makima(["repo", "deny", &path]).done().code(0);
    assert_eq!(run("echo agent").code(0).out(), "agent\n");
    let why = place.makima(["repo", "allow", "https://example.com/nobody/knows"]).done().code(2).err();
    assert!(why.contains("nothing is known that it wants"), "{why}");
    place.assert_nothing_runs();
}

#[test]
fn a_check_that_fails_keeps_work_from_being_merged_and_not_from_being_kept() {
    let place = Place::new();
    let repo = place.repo();
    says(&repo, WANTS);
    let path = repo.path().to_str().expect("a plain path").to_owned();
    place.makima(["repo", "allow", &path]).done().code(0);
    let before = repo.git(["rev-parse", "main"]);
    let done = place.run(&repo, &["--on-complete", "merge", "touch bad"]).done();
    assert!(done.err().contains("the check `test ! -e bad` failed with exit code 1"), "{}", done.err());
    assert_eq!(repo.git(["rev-parse", "main"]), before);
    let done = place.run(&repo, &["--on-complete", "branch", "touch bad"]).done().code(0);
    assert!(repo.show(&repo.branch(), "bad").is_empty(), "{}", done.err());
    place.run(&repo, &["--on-complete", "merge", "echo good > good"]).done().code(0);
    assert_ne!(repo.git(["rev-parse", "main"]), before);
    place.assert_nothing_runs();
}

/// Protects a task that is paused, and one that is interrupted, while its worktree is being set up.
#[test]
fn a_set_up_is_interrupted_with_all_that_it_has_started() {
    let place = Place::new();
    let repo = place.repo();
    says(&repo, "setup = ['echo begun; setsid sleep 1000 & wait']\n");
    let path = repo.path().to_str().expect("a plain path").to_owned();
    place.makima(["repo", "allow", &path]).done().code(0);
    let fleet = Fleet::start(&place);
    for force in [false, true] {
        let id = fleet.plan(&repo, "touch agent");
        fleet.writes(&id, "begun");
        let mut words = vec!["task", "interrupt"];
        words.extend(force.then_some("--force"));
        words.push(&id);
        place.makima(words).done().code(0);
        assert_eq!(fleet.ended(&id)["status"], "interrupted");
        assert!(!place.home().join("worktrees").join(&id).join("agent").exists());
    }
    fleet.end();
    place.assert_nothing_runs();
}

/// Protects a machine from a repository's commands where its user has put a container around agents: they run in there as well.
#[test]
fn what_comes_before_and_after_an_agent_goes_the_way_that_it_goes() {
    let place = Place::new();
    place.configure("[agent]\nname = 'shell'\nwrap = ['env', 'AROUND={worktree}']\n");
    let repo = place.repo();
    says(
        &repo,
        "setup = ['echo \"$AROUND\" > set-up']\nchecks = ['test \"$AROUND\" = \"$(cat set-up)\"', 'test -n \"$AROUND\"']\n",
    );
    place.makima(["repo", "allow", repo.path().to_str().expect("a plain path")]).done().code(0);
    let done =
        place.makima(["run", "--on-complete", "none", "cat set-up; pwd; touch work"]).at(repo.path()).done().code(0);
    let out = done.out();
    let lines: Vec<&str> = out.lines().filter(|line| !line.starts_with("$ ")).collect();
    assert!(lines.len() >= 2 && lines[0] == lines[1], "{out}");
    assert!(done.err().contains("the checks have passed"), "{}", done.err());
    let words = ["run", "--on-complete", "none", "rm set-up; touch work"];
    let done = place.makima(words).at(repo.path()).done();
    assert!(done.err().contains("failed with exit code"), "a check that fails is one: {}", done.err());
}
