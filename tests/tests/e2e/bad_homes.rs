//! Homes that cannot be used, are in use, or are full.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::{Call, Fleet, Place, Proc, SOON, mounts, until};

/// Everything that needs a home says that it cannot have this one, and what to do.
#[track_caller]
fn unusable(place: &Place, home: &Path, said: &[&str], change: impl Fn(Call) -> Call) {
    let repo = place.repo();
    let run = place.run(&repo, &["echo x > x"]);
    let serve = place.makima(["serve", "--listen", "127.0.0.1:0"]);
    let daemon =
        place.makima(["daemon", "--agent", "shell", "--server", "ws://127.0.0.1:1"]).env("MAKIMA_API_KEY", "k");
    for call in [run, serve, daemon] {
        let done = change(call.env("MAKIMA_HOME", home)).done().code(2).noted(&[home.to_str().expect("a plain path")]);
        drop(done.noted(said));
    }
    assert!(repo.branches().is_empty());
    place.assert_nothing_runs();
}

#[test]
fn a_home_in_a_place_that_is_a_file() {
    let place = Place::new();
    fs::write(place.path("file"), "").expect("a file");
    unusable(&place, &place.path("file"), &["error:"], |call| call);
    let place = Place::new();
    fs::write(place.path("file"), "").expect("a file");
    unusable(&place, &place.path("file/below"), &["Not a directory"], |call| call);
}

#[test]
fn a_home_that_can_only_be_read() {
    if !mounts() {
        return eprintln!("skipped: this user may mount nothing");
    }
    let place = Place::new();
    let home = place.path("readonly");
    fs::create_dir(&home).expect("a folder");
    let mount = format!("mount -t tmpfs -o ro none {}", home.display());
    unusable(&place, &home, &["Read-only file system", "MAKIMA_HOME"], |call| call.under(&mount));
    let below = home.join("below");
    let place = Place::new();
    let mount = format!("mount -t tmpfs -o ro none {}", home.parent().expect("a folder").display());
    fs::create_dir_all(&home).expect("a folder");
    unusable(&place, &below, &["MAKIMA_HOME"], |call| call.under(&mount));
    fs::remove_dir_all(home.parent().expect("a folder")).expect("it was made above");
}

#[test]
fn a_home_that_another_daemon_holds() {
    let place = Place::new();
    let fleet = Fleet::start(&place);
    let done = place.makima(["daemon", "--agent", "shell"]).done().code(2);
    drop(done.noted(&[&format!("process {}", fleet.daemon.pid()), "in use by another daemon", "MAKIMA_HOME"]));
    // The one that holds it is none the worse for it.
    let id = fleet.spawn(json!({ "plan": "echo x" }));
    assert_eq!(fleet.ended(&id)["status"], "done");
    fleet.end();
}

#[test]
fn a_home_whose_files_are_not_ours_is_left_as_it_is() {
    let place = Place::new();
    let repo = place.repo();
    place.run(&repo, &["true"]).done().code(0);
    let id = place.home().join("machine-id");
    let right = fs::read(&id).expect("it was made");
    fs::write(&id, "somebody else's").expect("a file");
    drop(place.run(&repo, &["true"]).done().code(2).noted(&["machine-id", "somebody else's", "remove the file"]));
    assert_eq!(fs::read_to_string(&id).expect("it is there"), "somebody else's");
    fs::write(&id, right).expect("a file");
    // One task's record that cannot be read keeps nobody from working.
    place.forges();
    let tasks: Vec<_> = fs::read_dir(place.home().join("tasks")).expect("a folder").flatten().collect();
    fs::write(tasks[0].path().join("spec.json"), "{\"version\":1,").expect("a file");
    drop(place.run(&repo, &["echo x > x"]).done().code(0).noted(&["spec.json"]));
    fs::write(place.home().join("control.db"), "no database at all, and long enough to be read as one")
        .expect("a file");
    drop(place.run(&repo, &["true"]).done().code(2).noted(&["control.db"]));
}

/// A daemon whose home is a small file system of its own, under the server of another home.
fn daemon_on_a_small_disk(place: &Place, fleet: &Fleet, home: &Path) -> Proc {
    fs::create_dir(home).expect("a folder");
    let mount = format!("mount -t tmpfs -o size=230m none {}", home.display());
    let call = place.makima(["daemon", "--agent", "shell", "--server", &fleet.url]);
    let daemon = call.env("MAKIMA_API_KEY", &fleet.token).env("MAKIMA_HOME", home).under(&mount).start();
    daemon.notes("connected to the server");
    daemon
}

#[test]
fn a_full_disk_fails_the_task_and_not_the_daemon() {
    if !mounts() {
        return eprintln!("skipped: this user may mount nothing");
    }
    let place = Place::new();
    let repo = place.repo();
    let mut fleet = Fleet::start(&place);
    let home = place.path("small");
    let small = daemon_on_a_small_disk(&place, &fleet, &home);
    std::mem::replace(&mut fleet.daemon, small).terminate().code(0);
    // The disk is another one for that process only; this is the way to it from outside.
    let inside = Path::new("/proc")
        .join(fleet.daemon.pid().to_string())
        .join("root")
        .join(home.strip_prefix("/").expect("absolute"));
    let works = || {
        let id = fleet.plan(&repo, "echo x > x");
        let task = fleet.ended(&id);
        assert_eq!(task["status"], "done", "{task}");
    };
    works();

    // Too full before the task comes.
    let filler = inside.join("filler");
    let file = fs::File::create(&filler).expect("a file");
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, 100 << 20).expect("there is as much");
    let id = fleet.plan(&repo, "echo x > x");
    let task = fleet.ended(&id);
    assert_eq!(task["status"], "failed", "{task}");
    assert!(task["error"].as_str().is_some_and(|why| why.contains("are free where")), "{task}");
    fs::remove_file(&filler).expect("it was written");
    works();

    // Full by what the plan writes: its work cannot be committed, is not lost, and is committed once there is room.
    let id = fleet.plan(&repo, "echo x > x; echo begun; cat /dev/zero > big; exit 0");
    fleet.daemon.notes("no room for the end of its log");
    let worktree = inside.join("worktrees").join(&id);
    assert_eq!(fs::read_to_string(worktree.join("x")).expect("it is there"), "x\n");
    fs::remove_file(worktree.join("big")).expect("it was written");
    let task = fleet.ended(&id);
    assert_eq!(task["status"], "done", "{task}");
    let branch = task["branch"].as_str().expect("a branch");
    assert_eq!(repo.show(branch, "x"), "x");
    assert_eq!(fleet.output(&id).lines().next(), Some("begun"));
    works();
    until("the daemon lives on", SOON, || fleet.daemon.is_running().then_some(()));
    fleet.end();
}

/// Server, daemon and agent share one full disk: nobody can write down what a person asks for.
#[test]
fn a_run_on_a_full_disk_can_be_ended() {
    if !mounts() {
        return eprintln!("skipped: this user may mount nothing");
    }
    let place = Place::new();
    let repo = place.repo();
    let home = place.path("small");
    fs::create_dir(&home).expect("a folder");
    let mount = format!("mount -t tmpfs -o size=230m none {}", home.display());
    let plan = "echo early > early; echo up; cat /dev/zero > big; sleep 600";
    let run = place.run(&repo, &[plan]).env("MAKIMA_HOME", &home).under(&mount).start();
    run.says("up");
    run.notes("disk is full");
    run.signal(rustix::process::Signal::TERM);
    run.wait(SOON * 4).code(130).noted(&["could not be told", "is there room on the disk"]);
    place.assert_nothing_runs();
}
