//! A daemon that is asked to end, and one that is killed: no task is lost, none ends twice, nothing is left.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Fleet, Place, Repo, SOON, number, portable, until};

/// How a task ended, as often as its server has it.
fn ends(fleet: &Fleet, id: &str) -> usize {
    let (status, events) = fleet.get(&format!("/api/v1/tasks/{id}/events"));
    assert_eq!(status, 200, "{events}");
    events.lines().filter(|line| *line == "event: end").count()
}

/// Fails where anything but the server and the daemon runs.
#[track_caller]
fn only_makima_runs(place: &Place, fleet: &Fleet) {
    let ours = [fleet.serve.pid(), fleet.daemon.pid()];
    let others = || place.running().into_iter().filter(|(pid, _)| !ours.contains(pid)).collect::<Vec<_>>();
    let quiet = || others().is_empty().then_some(());
    until(&format!("nothing but makima runs: {:?}", others()), Duration::from_secs(5), quiet);
}

#[test]
fn a_daemon_that_is_asked_to_end_its_agents_too_does_so_and_tells_the_server() {
    let place = Place::new();
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    let plan = "trap 'echo tidied > x; exit 9' INT; echo begun; while :; do sleep 0.02; done";
    let running = fleet.plan(&repo, plan);
    let stubborn = fleet.plan(&repo, "trap '' INT; echo work > x; echo begun; while :; do sleep 0.02; done");
    fleet.writes(&running, "begun");
    fleet.writes(&stubborn, "begun");
    let Fleet { serve, daemon, url, token } = fleet;
    daemon.ctrl_c();
    daemon.notes("Ctrl-C again ends them");
    daemon.ctrl_c();
    daemon.wait(SOON).code(0).noted(&["running tasks are interrupted"]);
    // The server knows, without the daemon.
    let fleet = Fleet { daemon: Fleet::daemon(&place), serve, url, token };
    for (id, work) in [(&running, "tidied"), (&stubborn, "work")] {
        let task = fleet.task(id);
        assert_eq!((&task["status"], &task["success"]), (&json!("interrupted"), &json!(false)), "{task}");
        let branch = task["branch"].as_str().expect("a branch");
        assert_eq!(repo.show(branch, "x"), work);
        assert_eq!(ends(&fleet, id), 1);
    }
    fleet.end();
}

#[test]
fn a_daemon_that_is_asked_three_times_kills() {
    let place = Place::new();
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    let id = fleet.plan(&repo, "trap '' INT TERM; echo work > x; echo begun; while :; do sleep 0.02; done");
    fleet.writes(&id, "begun");
    fleet.daemon.ctrl_c();
    fleet.daemon.notes("Ctrl-C again ends them");
    fleet.daemon.ctrl_c();
    fleet.daemon.notes("once more kills them");
    fleet.daemon.ctrl_c();
    fleet.daemon.wait(Duration::from_secs(5)).code(0);
    assert_eq!(repo.show(&repo.branch(), "x"), "work");
    fleet.serve.terminate().code(0);
}

/// An agent at work that has left a process behind, and goes on until the file `go` is there.
fn at_work(place: &Place, repo: &Repo, fleet: &Fleet) -> String {
    let go = place.path("go");
    // Who leaves the group cannot be ended in the portable way.
    let left = if portable() { "sleep 86398 &" } else { "setsid -f sleep 86398;" };
    let plan =
        format!("echo work > x; echo begun; {left} until test -e {}; do sleep 0.02; done; echo and done", go.display());
    let id = fleet.plan(repo, &plan);
    fleet.writes(&id, "begun");
    id
}

/// It is the same agent that goes on, and its own end decides.
fn goes_on(place: &Place, repo: &Repo, fleet: &Fleet, id: &str) {
    fs::write(place.path("go"), "").expect("a file");
    let task = fleet.ended(id);
    assert_eq!((&task["status"], &task["success"]), (&json!("done"), &json!(true)), "{task}");
    assert_eq!(repo.show(task["branch"].as_str().expect("a branch"), "x"), "work");
    // What was on its way when a daemon was killed may have come again.
    let output = fleet.output(id);
    let mut lines: Vec<&str> = output.lines().collect();
    lines.dedup();
    assert_eq!(lines, ["begun", "and done"]);
    only_makima_runs(place, fleet);
    assert_eq!(ends(fleet, id), 1);
}

#[test]
fn under_a_killed_daemon_the_agent_goes_on_and_the_next_one_has_it_in_hand() {
    let place = Place::new();
    let repo = place.repo();
    let mut fleet = Fleet::start(&place);
    let id = at_work(&place, &repo, &fleet);
    for _ in 0..3 {
        fleet.daemon.signal(Signal::KILL);
        until("its end", SOON, || (!fleet.daemon.is_running()).then_some(()));
        assert!(place.running().len() > 1, "the agent runs on");
        fleet.daemon = Fleet::daemon(&place);
    }
    goes_on(&place, &repo, &fleet, &id);
    // A next life of the daemon has nothing more to say of it.
    fleet.daemon.signal(Signal::KILL);
    until("its end", SOON, || (!fleet.daemon.is_running()).then_some(()));
    fleet.daemon = Fleet::daemon(&place);
    let another = fleet.plan(&repo, "echo y > y");
    assert_eq!(fleet.ended(&another)["status"], "done");
    assert_eq!(ends(&fleet, &id), 1);
    fleet.end();
}

#[test]
fn an_agent_that_ends_while_no_daemon_is_there_has_ended_as_it_did() {
    let place = Place::new();
    let repo = place.repo();
    let mut fleet = Fleet::start(&place);
    let plan = format!(
        "echo work > x; echo begun; until test -e {}; do sleep 0.02; done; seq 1000; exit 7",
        place.path("go").display()
    );
    let id = fleet.plan(&repo, &plan);
    fleet.writes(&id, "begun");
    let Fleet { serve, daemon, url, token } = fleet;
    daemon.terminate().code(0).noted(&["agents go on"]);
    let agents = || place.running().into_iter().filter(|(pid, _)| *pid != serve.pid()).count();
    assert!(agents() > 0, "the agent runs on");
    fs::write(place.path("go"), "").expect("a file");
    until("the agent and its supervisor are gone", SOON, || (agents() == 0).then_some(()));
    fleet = Fleet { daemon: Fleet::daemon(&place), serve, url, token };
    let task = fleet.ended(&id);
    assert_eq!(task["error"], "the script ended with exit code 7", "{task}");
    assert_eq!(fleet.output(&id).lines().count(), 1_001);
    assert_eq!(repo.show(task["branch"].as_str().expect("a branch"), "x"), "work");
    fleet.end();
}

#[test]
fn a_killed_supervisor_ends_the_task_and_keeps_the_work() {
    let place = Place::new();
    let repo = place.repo();
    let fleet = Fleet::start(&place);
    let id = at_work(&place, &repo, &fleet);
    let record = fs::read(place.home().join("tasks").join(&id).join("agent")).expect("its record");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    let pid = record["supervisor"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a process");
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    rustix::process::kill_process(pid, Signal::KILL).expect("it is there");
    let task = fleet.ended(&id);
    let why = task["error"].as_str().expect("why");
    assert!(why.starts_with("the supervisor was killed"), "{task}");
    assert_eq!(repo.show(task["branch"].as_str().expect("a branch"), "x"), "work");
    only_makima_runs(&place, &fleet);
    fleet.end();
}

#[test]
fn a_daemon_that_drains_waits_for_its_agents() {
    let place = Place::new();
    let repo = place.repo();
    let mut fleet = Fleet::start(&place);
    fleet.daemon.terminate().code(0);
    fleet.daemon = place.makima(["daemon", "--agent", "shell", "--drain"]).start();
    fleet.daemon.notes("connected to the server");
    let id = at_work(&place, &repo, &fleet);
    fleet.daemon.signal(Signal::TERM);
    fleet.daemon.notes("waiting for the agents to end");
    fs::write(place.path("go"), "").expect("a file");
    until("its end", SOON, || (!fleet.daemon.is_running()).then_some(()));
    let task = fleet.task(&id);
    assert_eq!((&task["status"], &task["success"]), (&json!("done"), &json!(true)), "{task}");
    fleet.daemon.wait(SOON).code(0);
    fleet.serve.terminate().code(0);
    place.assert_nothing_runs();
}

/// A task of 100 lines, that commits now and then by itself.
const PLAN: &str = "i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo line $i; echo $i > progress; \
                    if [ $((i % 25)) = 0 ]; then git add progress; git commit -qm own; fi; sleep 0.002; done";

/// The numbers of the lines `line <n>` in a text.
fn lines(text: &str) -> Vec<u64> {
    text.lines().filter_map(|line| line.split("line ").nth(1)?.parse().ok()).collect()
}

/// Asserts that a task which ended after a kill has lost nothing.
#[track_caller]
fn whole(place: &Place, fleet: &Fleet, repo: &Repo, id: &str, task: &Value) {
    assert_eq!(ends(fleet, id), 1);
    let output = fleet.output(id);
    let mut seen = 0;
    for number in lines(&output) {
        assert!(number <= seen + 1, "line {number} after line {seen}: {output}");
        seen = seen.max(number);
    }
    let log = fs::read(place.home().join("tasks").join(id).join("output.log")).unwrap_or_default();
    let written = lines(&String::from_utf8_lossy(&log)).into_iter().max().unwrap_or(0);
    assert!(seen >= written, "{written} lines are in the log, {seen} at the server");
    match task["status"].as_str() {
        Some("done") => assert_eq!(seen, 100),
        Some("failed") => assert!(task["error"] == "daemon was killed", "{task}"),
        _ => panic!("{task}"),
    }
    let kept = place.home().join("worktrees").join(id).join("progress");
    if let Ok(progress) = fs::read_to_string(&kept) {
        let branch = task["branch"].as_str().unwrap_or_else(|| panic!("{progress} was done: {task}"));
        assert_eq!(repo.show(branch, "progress"), progress.trim_end());
    }
}

#[test]
fn kills_at_any_moment_lose_nothing_and_end_nothing_twice() {
    let place = Place::new();
    let repo = place.repo();
    let mut fleet = Fleet::start(&place);
    let seed = number("MAKIMA_E2E_SEED", 1);
    let mut chance = seed;
    for round in 0..number("MAKIMA_KILLS", 5) {
        let id = fleet.plan(&repo, PLAN);
        // Any good spread will do.
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_millis((chance >> 33) % 700);
        eprintln!("seed {seed}, round {round}: killed after {moment:?}");
        std::thread::sleep(moment);
        fleet.daemon.signal(Signal::KILL);
        until("its end", SOON, || (!fleet.daemon.is_running()).then_some(()));
        fleet.daemon = Fleet::daemon(&place);
        let task = fleet.ended(&id);
        only_makima_runs(&place, &fleet);
        whole(&place, &fleet, &repo, &id, &task);
    }
    repo.git(["fsck", "--strict"]);
    assert!(!locks(&place.home()), "nothing is locked for good");
    fleet.end();
}

/// Whether git left a lock behind.
fn locks(folder: &Path) -> bool {
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let kind = entry.file_type().expect("a kind");
        let name = entry.file_name();
        if kind.is_dir() { locks(&entry.path()) } else { name.to_string_lossy().ends_with("index.lock") }
    })
}

#[test]
fn a_server_that_is_killed_knows_everything_when_it_is_back() {
    let place = Place::new();
    let repo = place.repo();
    let mut fleet = Fleet::start(&place);
    let address = fleet.url.strip_prefix("http://").expect("a plain URL").to_owned();
    let id = fleet.plan(&repo, &format!("{PLAN}; sleep 0.3"));
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(70));
        fleet.serve.signal(Signal::KILL);
        until("its end", SOON, || (!fleet.serve.is_running()).then_some(()));
        fleet.serve = place.makima(["serve", "--listen", &address]).start();
        fleet.serve.notes("makima serves on");
    }
    let task = fleet.ended(&id);
    assert_eq!(task["status"], "done", "{task}");
    whole(&place, &fleet, &repo, &id, &task);
    fleet.end();
}
