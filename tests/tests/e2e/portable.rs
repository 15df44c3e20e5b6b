//! The portable way: nothing of it looks into `/proc`, and what it cannot do it says.

use std::fs;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::support::{Call, Fleet, Place, Proc, SOON, mounts, until};

/// Takes `/proc` away from this process and its children.
const NO_PROC: &str = "mount -t tmpfs none /proc";

fn portably(call: Call) -> Call {
    call.env("MAKIMA_PORTABLE", "1")
}

fn daemon(place: &Place) -> Proc {
    let daemon = portably(place.makima(["daemon", "--agent", "shell"])).under(NO_PROC).start();
    daemon.notes("connected to the server");
    daemon
}

/// Protects those who have no `/proc`: the full way does not begin what it could not clean up, and names the other.
#[test]
fn without_proc_it_is_said_what_to_do_and_done() {
    if !mounts() {
        return eprintln!("skipped: this user may mount nothing");
    }
    let place = Place::new();
    let repo = place.repo();
    if !crate::support::portable() {
        let refused = place.run(&repo, &["echo x > x"]).under(NO_PROC).done();
        drop(refused.code(2).noted(&["/proc", "MAKIMA_PORTABLE=1"]));
    }
    let done = portably(place.run(&repo, &["sleep 1000 & echo begun; echo x > x"])).under(NO_PROC).done().code(0);
    assert_eq!(done.out(), "begun\n");
    assert_eq!(repo.show(&repo.branch(), "x"), "x");
    place.assert_nothing_runs();
}

/// Protects agents under a daemon that is killed where there is no `/proc`, in a home so deep that no socket's path is
/// short enough.
#[test]
fn without_proc_the_next_daemon_has_the_agents_in_hand() {
    if !mounts() {
        return eprintln!("skipped: this user may mount nothing");
    }
    let place = Place::deep();
    let repo = place.repo();
    let mut fleet = Fleet::start(&place);
    std::mem::replace(&mut fleet.daemon, place.makima(["version"]).start()).terminate().code(0);
    std::mem::replace(&mut fleet.daemon, daemon(&place)).wait(SOON).code(0);
    let go = place.path("go");
    let plan = |end: &str| {
        format!(
            "trap 'echo asked; exit 9' INT; sleep 1000 & echo begun; until test -e {}; do sleep 0.02; done; {end}",
            go.display()
        )
    };
    let finishes = fleet.plan(&repo, &plan("echo x > x; seq 100"));
    let asked = fleet.plan(&repo, &plan("exit 1"));
    for id in [&finishes, &asked] {
        fleet.writes(id, "begun");
    }
    for _ in 0..2 {
        std::mem::replace(&mut fleet.daemon, place.makima(["version"]).start()).kill();
        fleet.daemon = daemon(&place);
    }
    let path = format!("/api/v1/tasks/{asked}/interrupt");
    let (status, body) = fleet.post(&path, &serde_json::json!({ "graceful": true }));
    assert!(status < 300, "{status}: {body}");
    assert_eq!(fleet.ended(&asked)["status"], "interrupted");
    fs::write(&go, "").expect("a file");
    let task = fleet.ended(&finishes);
    assert_eq!(task["status"], "done", "{task}");
    assert_eq!(fleet.output(&finishes).lines().count(), 101);
    assert_eq!(repo.show(task["branch"].as_str().expect("a branch"), "x"), "x");
    fleet.end();
    place.assert_nothing_runs();
}

/// Protects whoever is not the agent's any more: it is told of, and not signalled.
#[test]
fn who_leaves_the_agents_group_is_told_of_and_left_alone() {
    let place = Place::new();
    let repo = place.repo();
    let pid = place.path("pid");
    let plan = format!(
        "setsid -f sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000'; until test -e {0}; do sleep 0.02; done",
        pid.display()
    );
    let done = portably(place.run(&repo, &[&plan])).env("RUST_LOG", "warn").done().code(0);
    let pid = fs::read_to_string(&pid).expect("its number").trim().parse().ok().and_then(Pid::from_raw);
    let pid = pid.expect("a number");
    assert!(test_kill_process(pid).is_ok(), "it goes on");
    kill_process(pid, Signal::KILL).expect("it is there");
    until("its end", SOON, || test_kill_process(pid).is_err().then_some(()));
    drop(done.noted(&["has left its group"]));
}
