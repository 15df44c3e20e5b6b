//! Handing work over, end to end: branch, merge, pull request, clone, and whether a target is there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Call, Fleet, Forge, Place, Proc, Repo};

/// A fleet whose daemon has these in its environment.
fn fleet_with(place: &Place, env: &[(&str, String)]) -> Fleet {
    let Fleet { serve, daemon, url, token } = Fleet::start(place);
    daemon.kill();
    let call = place.makima(["daemon", "--agent", "shell"]);
    let daemon: Proc = env.iter().fold(call, |call, (name, value)| call.env(name, value)).start();
    daemon.notes("connected to the server");
    Fleet { serve, daemon, url, token }
}

/// Protects the whole way of work into repositories of the user's, asked for again at any later time.
#[test]
fn work_is_handed_over_in_each_way() {
    let place = Place::new();
    let fleet = Fleet::start(&place);
    let repo = place.repo();
    let plan = "echo done > done; mkdir d; echo x > d/x";
    let id = fleet.spawn(json!({ "plan": plan, "repoUrl": repo.path(), "taskName": "Do it" }));
    assert_eq!(fleet.ended(&id)["status"], "done");
    assert!(repo.branches().iter().all(|name| !name.starts_with("makima/")), "nobody asked for it");
    for _ in 0..2 {
        let done = place.makima(["task", "retry", &id, "branch"]).done().code(0);
        assert!(done.out().contains("is in"), "{}", done.out());
    }
    assert!(repo.branches().iter().any(|name| name.ends_with(&id)));
    let before = repo.git(["rev-parse", "HEAD"]);
    drop(place.makima(["task", "retry", &id, "merge"]).done().code(0));
    assert_eq!(repo.git(["log", "-1", "--format=%s"]), "Do it");
    assert_eq!(repo.git(["rev-parse", "HEAD~1"]), before);
    assert!(repo.path().join("d/x").exists());
    // A pull request needs a forge, and the folder has no origin.
    let refused = place.makima(["task", "retry", &id, "pr"]).done().code(1);
    drop(refused.noted(&["has no remote `origin`"]));

    let copy = place.user().join("copies/one");
    for _ in 0..2 {
        drop(place.makima(["task", "clone", &id, copy.to_str().expect("text")]).done().code(0));
    }
    let copied = Repo::at(&copy);
    assert_eq!(copied.git(["log", "-1", "--format=%s"]), "Do it");
    assert_eq!(copied.git(["status", "--porcelain"]), "");
    copied.git(["fsck", "--strict"]);
    let exists = |dir: &Path| -> Value {
        let (status, body) = fleet.get(&format!("/api/v1/tasks/{id}/target-exists?dir={}", dir.display()));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    };
    assert_eq!(exists(&copy)["exists"], true);
    assert_eq!(exists(&place.user().join("nothing"))["exists"], false);
    // Outside nothing is there, whatever leads to it.
    let outside = tempfile::tempdir().expect("a folder");
    symlink(outside.path(), place.user().join("link")).expect("a link");
    for dir in [outside.path().to_path_buf(), place.user().join("link"), place.home().join("worktrees")] {
        assert_eq!(exists(&dir)["exists"], false, "{}", dir.display());
        let to = dir.join("copy");
        drop(place.makima(["task", "clone", &id, to.to_str().expect("text")]).done().code(1));
        assert!(!to.exists());
    }
    fleet.end();
}

/// Protects the way to a forge: pushed as the user pushes, opened once by the user's own program.
#[test]
fn a_pull_request_is_opened_once() {
    let place = Place::new();
    let repo = place.repo();
    let forge = Forge::of(&place, &repo);
    let fleet = fleet_with(&place, &Forge::env(&place));
    let spawned = json!({ "plan": "echo done > done", "repoUrl": repo.path(), "completionAction": "pr" });
    let id = fleet.spawn(spawned);
    assert_eq!(fleet.ended(&id)["status"], "done");
    for _ in 0..2 {
        let done = place.makima(["task", "retry", "--json", &id, "pr"]).done().code(0).json();
        assert_eq!(done["prUrl"], Forge::PR, "{done}");
    }
    let (told, token) = (forge.told(), Forge::TOKEN);
    assert_eq!(forge.opened(), 1, "{told}");
    assert!(told.contains("--base=main") && !told.contains(token), "{told}");
    let pushed = forge.repo.branches();
    assert!(pushed.iter().any(|name| name.ends_with(&id)), "{pushed:?}");
    // Journal, logs, records, the repositories and what the user has: none has the token.
    let found = std::process::Command::new("grep").args(["-rlF", token]).arg(place.root()).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    assert!(!fleet.daemon.err().contains(token) && !fleet.serve.err().contains(token));
    fleet.end();
}

/// Protects people who ask for a pull request at the command line: it is opened by a run of its own and by a fleet's daemon, its
/// page is told, and where none can be opened the work is kept and that is said.
#[test]
fn a_pull_request_is_asked_for_at_the_command_line() {
    let place = Place::new();
    let repo = place.repo();
    let refused = place.run(&repo, &["--on-complete", "pr", "echo x > x"]).done().code(1);
    drop(refused.noted(&["the work is done, but was not delivered", "has no remote `origin`"]));

    let forge = Forge::of(&place, &repo);
    let with = |call: Call| Forge::env(&place).into_iter().fold(call, |call, (name, value)| call.env(name, value));
    let run = with(place.run(&repo, &["--on-complete", "pr", "--name", "Run it", "echo run > run"])).done().code(0);
    drop(run.noted(&[Forge::PR]));
    assert!(forge.told().contains("--base=main"), "{}", forge.told());
    let pushed = || forge.repo.branches();
    let of = |slug: &str| pushed().into_iter().find(|name| name.contains(slug)).expect("it is pushed");
    assert_eq!(forge.repo.show(&of("run-it"), "run"), "run");

    let run = with(place.run(&repo, &["--json", "--on-complete", "pr", "echo x > x"])).done().code(0);
    assert!(run.out().contains(&format!("\"prUrl\":\"{}\"", Forge::PR)), "{}", run.out());
    let file = place.path("tasks.toml");
    let tasks = format!(
        "[[task]]\nname = 'One'\nplan = 'echo y > y'\nrepo = '{}'\non_complete = 'pr'\n",
        repo.path().display()
    );
    fs::write(&file, tasks).expect("a file");
    let words = ["run", "--agent", "shell", "--tasks", file.to_str().expect("text")];
    drop(with(place.makima(words)).done().code(0).noted(&[Forge::PR]));

    let fleet = fleet_with(&place, &Forge::env(&place));
    let path = repo.path().to_str().expect("text");
    let words =
        ["task", "create", "--repo", path, "--on-complete", "pr", "--name", "Create it", "--wait", "echo c > c"];
    let created = place.makima(words).done().code(0);
    assert_eq!(forge.repo.show(&of("create-it"), "c"), "c");
    assert!((created.out() + &created.err()).contains(Forge::PR), "{}{}", created.out(), created.err());
    fleet.end();
}
