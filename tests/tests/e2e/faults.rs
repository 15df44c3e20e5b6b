//! Every call that writes or opens something, and each way in which it may fail: the disk is full, or broken, or no more
//! files may be open. It is said what was lost, no work is lost, each task ends once, and the next one works.

use crate::support::{Faults, Fleet, Place, Proc, Repo, SOON, mounts, number, until};

const PLAN: &str = "echo begun; seq 1 50; echo x > x || exit 9; echo over";

fn whole() -> String {
    let lines: String = (1..=50).map(|n| format!("{n}\n")).collect();
    format!("begun\n{lines}over\n")
}

/// What fails, and with which error.
#[derive(Clone, Copy)]
struct Fault {
    kind: &'static str,
    errno: i32,
}

/// A task during which the fault begins with the call of that number, and lasts for a moment. False where the task took
/// fewer calls.
fn met(place: &Place, fleet: &Fleet, repo: &Repo, faults: &Faults, Fault { kind, errno }: Fault, nth: u64) -> bool {
    faults.begin(kind, errno, nth, "/makima/");
    let id = fleet.plan(repo, PLAN);
    let ended = || Some(fleet.task(&id)).filter(|task| !task["endedAt"].is_null());
    until("the fault, or an end", SOON, || (!faults.met().is_empty() || ended().is_some()).then_some(()));
    std::thread::sleep(std::time::Duration::from_millis(50));
    let met = faults.met();
    faults.end();
    let what = format!("{kind} {errno} from {nth} on: {met:?}");
    let task = until(&format!("{what}: an end of {}\n{}", fleet.task(&id), fleet.daemon.err()), SOON, ended);
    let (output, error) = (fleet.output(&id), task["error"].as_str().unwrap_or_default());
    let (_, events) = fleet.get(&format!("/api/v1/tasks/{id}/events"));
    assert_eq!(events.lines().filter(|line| *line == "event: end").count(), 1, "{what}: {events}");
    if std::env::var_os("MAKIMA_E2E_SHOW").is_some() {
        eprintln!("{what}: {} {error} {}", task["status"], output.len());
    }
    let worktree = place.home().join("worktrees").join(&id).join("x");
    let branch = task["branch"].as_str().filter(|branch| repo.branches().iter().any(|known| known == branch));
    let kept = branch.is_some_and(|branch| repo.show(branch, "x") == "x") || worktree.exists();
    if task["status"] == "done" {
        assert!(output == whole() || output.contains("[makima: "), "{what}: {output}");
        assert!(kept, "{what}: its work is lost: {task}");
    } else {
        assert!(!error.is_empty(), "{what}: {task}");
        assert!(kept || !output.contains("over"), "{what}: its work is lost: {task}");
    }
    !met.is_empty()
}

/// How many daemons share the calls of a task among them: most of the time is spent waiting for another try.
const DAEMONS: u64 = 4;

/// Goes through the calls of a task one after the other.
fn at_each_call(kind: &'static str, errno: i32, step: u64) {
    if !mounts() {
        return eprintln!("skipped: this user may mount nothing");
    }
    let step = number("MAKIMA_E2E_FAULT_STEP", step);
    let calls = std::thread::scope(|scope| {
        let one = |first| move || at_some_calls(Fault { kind, errno }, first, step * DAEMONS);
        let all: Vec<_> = (0..DAEMONS).map(|n| scope.spawn(one(n * step))).collect();
        let calls = all.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        calls.max()
    });
    assert!(calls > Some(50), "a task takes {calls:?} calls: are they seen?");
}

/// Every so manieth of them, on a daemon of its own. Gives back the first that a task did not come to.
fn at_some_calls(fault: Fault, first: u64, step: u64) -> u64 {
    let place = Place::new();
    let repo = place.repo();
    let faults = Faults::new(&place);
    let mut fleet = Fleet::under(&place, &faults.mount());
    let mut nth = first;
    while met(&place, &fleet, &repo, &faults, fault, nth) {
        nth += step;
    }
    assert!(fleet.daemon.is_running() && !fleet.daemon.err().contains("panicked"), "it goes on");
    let id = fleet.plan(&repo, PLAN);
    let task = fleet.ended(&id);
    assert_eq!((task["status"].as_str(), fleet.output(&id)), (Some("done"), whole()), "{task}");
    fleet.end();
    nth
}

#[test]
fn a_full_disk_at_each_write() {
    at_each_call("write", 28, 17);
}

#[test]
fn a_broken_disk_at_each_write() {
    at_each_call("write", 5, 19);
}

#[test]
fn no_more_files_at_each_open() {
    at_each_call("open", 24, 41);
}

/// The disk is full until after the agent has ended: that its output is missing is said as soon as it can be.
#[test]
fn output_that_could_not_be_written_is_missed_in_the_output() {
    if !mounts() {
        return eprintln!("skipped: this user may mount nothing");
    }
    let place = Place::new();
    let repo = place.repo();
    let faults = Faults::new(&place);
    let fleet = Fleet::under(&place, &faults.mount());
    // The log can still be made.
    faults.begin("write", 28, 1, "/output.log");
    let id = fleet.plan(&repo, PLAN);
    until("the agent's output is lost", SOON, || (faults.met().len() > 1).then_some(()));
    std::thread::sleep(std::time::Duration::from_secs(1));
    faults.end();
    let task = fleet.ended(&id);
    assert_eq!(task["status"], "done", "{task}");
    let (output, missing) = (fleet.output(&id), "bytes of output are missing here");
    assert!(output == whole() || output.contains(missing), "{output:?}");
    fleet.end();
}

/// A daemon that cannot begin says what it cannot do and where, and ends; the next one begins.
#[test]
fn at_each_call_of_a_start() {
    if !mounts() {
        return eprintln!("skipped: this user may mount nothing");
    }
    let place = Place::new();
    let faults = Faults::new(&place);
    let mut fleet = Fleet::under(&place, &faults.mount());
    for (kind, errno, words) in [
        ("write", 28, "No space left on device"),
        ("write", 5, "Input/output error"),
        ("open", 24, "Too many open files"),
    ] {
        let mut nth = 0;
        loop {
            std::mem::replace(&mut fleet.daemon, place.makima(["version"]).start()).terminate();
            faults.begin(kind, errno, nth, "/makima/");
            let mut daemon = place.makima(["daemon", "--agent", "shell"]).under(&faults.mount()).start();
            let begun = |daemon: &mut Proc| daemon.err().contains("connected to the server") || !daemon.is_running();
            until("it has begun or ended", SOON, || begun(&mut daemon).then_some(()));
            let met = faults.met();
            faults.end();
            let what = format!("{kind} {errno} from {nth} on: {met:?}");
            if daemon.is_running() {
                drop(daemon.terminate());
            } else {
                let done = daemon.wait(SOON);
                if std::env::var_os("MAKIMA_E2E_SHOW").is_some() {
                    eprintln!("{what}: {}", done.err());
                }
                let said = done.err();
                assert!(
                    said.contains(words) && said.contains("/makima") && !said.contains("panicked"),
                    "{what}: {said}"
                );
            }
            fleet.daemon = Fleet::daemon_under(&place, &faults.mount());
            if met.is_empty() {
                break;
            }
            nth += number("MAKIMA_E2E_FAULT_STEP", 3);
        }
        assert!(nth > 6, "a start takes {nth} calls: are they seen?");
    }
    fleet.end();
}

/// A server whose database cannot be written says so, acknowledges nothing, and has everything once it can.
#[test]
fn a_server_that_cannot_write_loses_nothing() {
    if !mounts() {
        return eprintln!("skipped: this user may mount nothing");
    }
    let place = Place::new();
    let repo = place.repo();
    let faults = Faults::new(&place);
    let mut fleet = Fleet::with_server_under(&place, &faults.mount());
    for (errno, words) in [(28, "disk is full"), (5, "disk I/O error")] {
        let go = place.path(&format!("go{errno}"));
        let plan = format!("echo begun; until test -e {}; do sleep 0.02; done; seq 1 50; echo x > x", go.display());
        let id = fleet.plan(&repo, &plan);
        fleet.writes(&id, "begun");
        faults.begin("write", errno, 0, "control.db");
        std::fs::write(&go, "").expect("a file");
        until("the server tries to write", SOON, || (!faults.met().is_empty()).then_some(()));
        let refused = || {
            let (status, body) = fleet.post("/api/v1/tasks", &serde_json::json!({ "plan": "true" }));
            (status != 201).then_some((status, body))
        };
        let (status, body) = until("a plan is refused", SOON, refused);
        assert!(status == 503 && body.contains("stored"), "{status}: {body}");
        std::thread::sleep(std::time::Duration::from_millis(500));
        faults.end();
        let task = fleet.ended(&id);
        assert_eq!(task["status"], "done", "{task}");
        let lines: String = (1..=50).map(|n| format!("{n}\n")).collect();
        assert_eq!(fleet.output(&id), format!("begun\n{lines}"));
        assert!(fleet.serve.err().contains(words) && !fleet.serve.err().contains("panicked"), "{}", fleet.serve.err());
        assert!(fleet.serve.is_running());
    }
    fleet.end();
}

/// Somebody sets the wall clock, by a day and back by two, under a task: nothing waits by it.
#[test]
fn a_wall_clock_that_is_set_changes_nothing() {
    if !mounts() {
        return eprintln!("skipped: this user may mount nothing");
    }
    let place = Place::new();
    let repo = place.repo();
    let faults = Faults::new(&place);
    let fleet = Fleet::under(&place, &faults.mount());
    let go = place.path("go");
    let plan = format!("echo begun; until test -e {}; do sleep 0.02; done; echo x > x; echo over", go.display());
    let id = fleet.plan(&repo, &plan);
    fleet.writes(&id, "begun");
    let day = 86_400;
    for ahead in [day, -day] {
        faults.begin("clock", ahead, 0, "wall");
        let another = fleet.plan(&repo, PLAN);
        let task = fleet.ended(&another);
        assert_eq!((task["status"].as_str(), fleet.output(&another)), (Some("done"), whole()), "{task}");
        assert!(!faults.met().is_empty(), "nobody has looked at the clock");
    }
    std::fs::write(&go, "").expect("a file");
    let task = fleet.ended(&id);
    assert_eq!((task["status"].as_str(), fleet.output(&id).as_str()), (Some("done"), "begun\nover\n"), "{task}");
    let status = place.makima(["status", "--json"]).done().code(0).json();
    assert_eq!((&status["counters"]["sessions"], &status["counters"]["timeouts"]), (&1.into(), &0.into()), "{status}");
    fleet.end();
}
