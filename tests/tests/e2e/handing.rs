//! Handing work over, end to end: branch, merge, pull request, clone, and whether a target is there.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Fleet, Place, Proc, Repo};

/// A program for the daemon's PATH.
fn program(folder: &Path, name: &str, script: &str) {
    fs::create_dir_all(folder).expect("a folder");
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it may be run");
}

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
    let (bin, forge) = (place.path("bin"), place.path("forge"));
    let notes = place.path("notes");
    let repo = place.repo();
    fs::create_dir_all(forge.join("o")).expect("a folder");
    repo.git(["clone", "-q", "--bare", ".", forge.join("o/r.git").to_str().expect("text")]);
    repo.git(["remote", "add", "origin", "git@github.com:o/r.git"]);
    // As ssh does: the last word is the command that is run there.
    program(&bin, "ssh-to-here", &format!("for last; do :; done; cd '{}' && eval \"$last\"", forge.display()));
    let gh = format!(
        "echo \"$*\" >> {0}; case \"$1 $2\" in 'pr list') cat {0}.list 2>/dev/null || echo '[]';; \
         'pr create') echo '[{{\"url\":\"https://github.com/o/r/pull/1\"}}]' > {0}.list; echo https://github.com/o/r/pull/1;; esac",
        notes.display()
    );
    program(&bin, "gh", &gh);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a path"));
    let ssh = bin.join("ssh-to-here").display().to_string();
    let token = "ghp_nobodysBusiness0123456789".to_owned();
    let env = [("PATH", path), ("GIT_SSH_COMMAND", ssh), ("GH_TOKEN", token.clone())];
    let fleet = fleet_with(&place, &env);
    let spawned = json!({ "plan": "echo done > done", "repoUrl": repo.path(), "completionAction": "pr" });
    let id = fleet.spawn(spawned);
    assert_eq!(fleet.ended(&id)["status"], "done");
    for _ in 0..2 {
        let done = place.makima(["task", "retry", "--json", &id, "pr"]).done().code(0).json();
        assert_eq!(done["prUrl"], "https://github.com/o/r/pull/1", "{done}");
    }
    let told = fs::read_to_string(&notes).expect("notes");
    assert_eq!(told.lines().filter(|line| line.starts_with("pr create")).count(), 1, "{told}");
    assert!(told.contains("--base=main") && !told.contains(&token), "{told}");
    let pushed = Repo::at(forge.join("o/r.git"));
    assert!(pushed.branches().iter().any(|name| name.ends_with(&id)), "{:?}", pushed.branches());
    // Journal, logs, records, the repositories and what the user has: none has the token.
    let found = std::process::Command::new("grep").args(["-rlF", &token]).arg(place.root()).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    assert!(!fleet.daemon.err().contains(&token) && !fleet.serve.err().contains(&token));
    fleet.end();
}
