//! Several terminals on one home, Ctrl-C in each, and servers that hold the home already.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{FakeServer, Fleet, Place, Proc, Repo, SOON, authenticated, until};

/// A plan that says `up`, then waits for the file `go` and says `gone`.
fn waiting(place: &Place, go: &str) -> String {
    format!("echo work > {go}; echo up; until test -e {}; do sleep 0.02; done; echo gone", place.path(go).display())
}

fn release(place: &Place, go: &str) {
    fs::write(place.path(go), "").expect("a file");
}

/// Starts a run that waits, and is working.
fn start(place: &Place, repo: &Repo, go: &str) -> Proc {
    let run = place.run(repo, &["--name", go, &waiting(place, go)]).start();
    run.says("up");
    run
}

/// Whether the task of this name has delivered its work.
fn delivered(repo: &Repo, name: &str) -> bool {
    repo.branches()
        .iter()
        .any(|branch| branch.starts_with(&format!("makima/{name}-")) && repo.show(branch, name) == "work")
}

/// The id of a run's task, as it says it.
fn task(run: &Proc) -> String {
    let err = run.err();
    let line = err.lines().find_map(|line| line.strip_prefix("task ")).expect("it names its task");
    let id = line.split(',').next().unwrap_or_default();
    id.to_owned()
}

#[test]
fn a_second_run_gives_its_plan_to_the_first_which_stays_until_it_is_served() {
    let place = Place::new();
    let repo = place.repo();
    let mut first = start(&place, &repo, "one");
    let second = start(&place, &repo, "two");
    release(&place, "one");
    first.notes("still under way here");
    assert!(delivered(&repo, "one"), "its own work does not wait");
    assert!(first.is_running());
    release(&place, "two");
    let second = second.wait(SOON).code(0);
    assert_eq!(second.out(), "up\ngone\n");
    first.wait(SOON).code(0);
    assert!(delivered(&repo, "two"));
    assert_eq!(
        fs::read_to_string(place.home().join("incarnation")).expect("it counts"),
        "1\n",
        "one daemon did it all"
    );
    place.assert_nothing_runs();
}

#[test]
fn ctrl_c_in_the_second_ends_its_task_only() {
    let place = Place::new();
    let repo = place.repo();
    let first = start(&place, &repo, "one");
    let second = start(&place, &repo, "two");
    second.ctrl_c();
    let second = second.wait(SOON).code(130);
    assert!(delivered(&repo, "two"), "the work so far is committed");
    drop(second.noted(&["interrupted"]));
    release(&place, "one");
    assert_eq!(first.wait(SOON).code(0).out(), "up\ngone\n");
    assert!(delivered(&repo, "one"));
}

#[test]
fn ctrl_c_in_the_first_ends_its_task_only() {
    let place = Place::new();
    let repo = place.repo();
    let mut first = start(&place, &repo, "one");
    let second = start(&place, &repo, "two");
    first.ctrl_c();
    first.notes("still under way here");
    assert!(delivered(&repo, "one"), "the work so far is committed");
    assert!(first.is_running());
    release(&place, "two");
    assert_eq!(second.wait(SOON).code(0).out(), "up\ngone\n");
    first.wait(SOON).code(130);
    assert!(delivered(&repo, "two"));
}

#[test]
fn a_second_ctrl_c_kills_a_plan_that_does_not_listen() {
    let place = Place::new();
    let repo = place.repo();
    let plan = "trap '' INT TERM; echo work > two; echo up; while :; do sleep 0.05; done";
    let run = place.run(&repo, &["--name", "two", plan]).start();
    run.says("up");
    run.ctrl_c();
    run.notes("Ctrl-C again kills it");
    run.ctrl_c();
    run.wait(SOON).code(130).noted(&["killing the task"]);
    assert!(delivered(&repo, "two"));
}

#[test]
fn ctrl_c_before_the_agent_starts_starts_nothing() {
    let place = Place::new();
    let repo = place.repo();
    place.configure("max_tasks = 1\n");
    let first = start(&place, &repo, "one");
    let second = place.run(&repo, &["--name", "two", &waiting(&place, "two")]).start();
    second.notes("waiting for a slot");
    second.ctrl_c();
    let second = second.wait(SOON).code(130);
    assert_eq!(second.out(), "");
    release(&place, "one");
    first.wait(SOON).code(0);
    assert!(!delivered(&repo, "two"));
}

#[test]
fn a_terminal_that_is_closed_ends_the_task_and_keeps_the_work() {
    let place = Place::new();
    let repo = place.repo();
    let run = start(&place, &repo, "one");
    run.signal(Signal::HUP);
    run.wait(SOON).code(130);
    assert!(delivered(&repo, "one"));
}

#[test]
fn when_the_first_is_killed_the_second_takes_over_and_brings_all_to_their_ends() {
    let place = Place::new();
    let repo = place.repo();
    let first = start(&place, &repo, "one");
    let second = start(&place, &repo, "two");
    let (one, two) = (task(&first), task(&second));
    drop(first.kill());
    release(&place, "one");
    release(&place, "two");
    let second = second.wait(SOON * 2).code(0);
    assert!(delivered(&repo, "two"), "its work is committed");
    assert!(delivered(&repo, "one"), "so is that of the first");
    place.assert_nothing_runs();
    assert_eq!(second.out(), "up\ngone\n", "what was shown before is not shown again");
    for id in [one, two] {
        let end = fs::read_to_string(place.home().join("tasks").join(id).join("end.json")).expect("it has ended");
        assert!(end.contains("Done"), "{end}");
    }
}

#[test]
fn under_a_foreign_server_nothing_is_started_and_it_is_said_what_to_do() {
    let place = Place::new();
    let repo = place.repo();
    let server = FakeServer::start(authenticated);
    let daemon =
        place.makima(["daemon", "--agent", "shell", "--server", &server.url()]).env("MAKIMA_API_KEY", "k").start();
    daemon.notes("connected to the server");
    let done = place.run(&repo, &["true"]).done().code(2);
    let pid = format!("process {}", daemon.pid());
    drop(done.noted(&[&pid, &server.url().replace("ws://", ""), "takes no plans", "MAKIMA_HOME"]));
    daemon.terminate().code(0);
}

#[test]
fn under_a_server_and_a_daemon_of_this_home_run_uses_them() {
    let place = Place::new();
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    let run = start(&place, &repo, "one");
    let id = task(&run);
    assert_eq!(fleet.task(&id)["status"], "running");
    run.ctrl_c();
    run.wait(SOON).code(130);
    assert_eq!(fleet.task(&id)["status"], "interrupted");
    assert!(delivered(&repo, "one"));
    place.run(&repo, &["echo x > x"]).done().code(0);

    // A daemon that is killed comes back, and whoever follows a task learns how it ended.
    let run = start(&place, &repo, "two");
    let killed = Pid::from_raw(fleet.daemon.pid()).expect("a process");
    kill_process(killed, Signal::KILL).expect("it is there");
    until("its end", SOON, || place.running().iter().all(|(pid, _)| *pid != fleet.daemon.pid()).then_some(()));
    let again = Fleet::daemon(&place);
    release(&place, "two");
    run.wait(SOON).code(0);
    assert!(delivered(&repo, "two"));
    again.terminate().code(0);
    fleet.serve.terminate().code(0);
}

#[test]
fn with_a_server_but_no_daemon_on_this_home_run_works_for_that_server() {
    let place = Place::new();
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    fleet.daemon.terminate().code(0);
    let run = place.run(&repo, &["echo x > x"]).start();
    let done = run.wait(SOON).code(0);
    assert_eq!(done.fact("branch"), repo.branch());
    let tasks = place.makima(["task", "list", "--json"]).done().code(0).json();
    assert_eq!(tasks.as_array().map(Vec::len), Some(1), "{tasks}");
    fleet.serve.terminate().code(0);
}

/// The server is somebody else's, so nobody tells the first run of the second but its own daemon.
#[test]
fn with_a_server_of_its_own_the_first_run_stays_for_the_second() {
    let place = Place::new();
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    fleet.daemon.terminate().code(0);
    let mut first = start(&place, &repo, "one");
    let second = start(&place, &repo, "two");
    release(&place, "one");
    first.notes("1 other task is still under way here");
    assert!(first.is_running());
    release(&place, "two");
    assert_eq!(second.wait(SOON).code(0).out(), "up\ngone\n");
    first.wait(SOON).code(0);
    assert!(delivered(&repo, "two"));
    fleet.serve.terminate().code(0);
}

#[test]
fn a_server_that_ends_under_a_run_is_waited_for() {
    let place = Place::new();
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    fleet.daemon.terminate().code(0);
    let run = start(&place, &repo, "one");
    fleet.serve.terminate().code(0);
    run.notes("looking for it again");
    release(&place, "one");
    let address = fleet.url.strip_prefix("http://").expect("a URL");
    let serve = place.makima(["serve", "--listen", address]).start();
    assert_eq!(run.wait(SOON).code(0).out(), "up\ngone\n");
    assert!(delivered(&repo, "one"));
    serve.terminate().code(0);
}

#[test]
fn a_server_that_does_not_come_back_leaves_no_agent_and_the_work_is_kept() {
    let place = Place::new();
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    fleet.daemon.terminate().code(0);
    let run = start(&place, &repo, "one");
    fleet.serve.terminate().code(0);
    run.notes("looking for it again");
    run.ctrl_c();
    run.wait(SOON).code(130);
    assert!(delivered(&repo, "one"));
    place.assert_nothing_runs();
}

#[test]
fn where_the_daemon_ends_and_none_comes_a_run_takes_its_place() {
    let place = Place::new();
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    let run = start(&place, &repo, "one");
    drop(fleet.daemon.kill());
    run.notes("the daemon that worked on it has ended");
    release(&place, "one");
    run.wait(SOON).code(0);
    assert!(delivered(&repo, "one"));
    fleet.serve.terminate().code(0);
}

#[test]
fn ctrl_c_ends_the_search_for_whoever_holds_the_home() {
    let place = Place::new();
    let repo = place.repo();
    place.run(&repo, &["true"]).done().code(0);
    let lock = fs::File::options().write(true).open(place.home().join("lock")).expect("it is there");
    lock.lock().expect("nobody has it");
    fs::write(place.home().join("lock"), std::process::id().to_string()).expect("it is ours");
    let mut run = place.run(&repo, &["true"]).start();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(run.is_running());
    run.ctrl_c();
    run.wait(SOON).code(130).noted(&["nothing was started"]);
}

/// Protects a plan that is meant for a model from being run as a script, and a script from being told to a model.
#[test]
fn a_plan_for_another_agent_than_that_of_who_is_there_is_refused() {
    let place = Place::new();
    let repo = place.repo();
    let first = start(&place, &repo, "one");
    place.configure("[agent]\ncommand = [\"/bin/true\"]\n");
    let refused = place.makima(["run", "--agent", "claude", "do something"]).at(repo.path()).done();
    refused.code(2).noted(&["whose agent is shell, and this plan is for claude", "--agent shell"]);
    release(&place, "one");
    first.wait(SOON).code(0);
    assert_eq!(repo.branches().iter().filter(|branch| branch.starts_with("makima/")).count(), 1);
    place.assert_nothing_runs();
}
