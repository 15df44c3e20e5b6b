//! What a task may use up, with real processes.

use std::time::Duration;

use crate::support::{Fleet, Place, not_portable, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// Protects the machine from a script that starts more and more: it is ended, and its work is kept.
#[test]
fn who_has_too_many_processes_is_ended() {
    if not_portable("nobody knows which processes are a task's") {
        return;
    }
    let place = Place::new();
    place.configure("[limits]\nprocesses = 4\n");
    let repo = place.repo();
    let script = "echo work > work; for n in 1 2 3 4 5 6; do sleep 600 & done; echo started; wait";
    let done = place.run(&repo, &[script]).done().code(1);
    assert!(done.err().contains("processes, and may 4"), "{}", done.err());
    assert_eq!(repo.show(&repo.branch(), "work"), "work");
    place.assert_nothing_runs();
}

/// Protects the machine from a script that takes all memory, and a person's word from being passed over.
#[test]
fn who_takes_too_much_memory_stands_still_until_a_person_lets_it_go_on() {
    if not_portable("nobody knows which processes are a task's") {
        return;
    }
    let place = Place::new();
    place.configure("[limits]\nmemory_mib = 100\nthen = 'pause'\n");
    let fleet = Fleet::start(&place);
    let repo = place.repo();
    let task = fleet.plan(&repo, "perl -e '$x = \"x\" x (80 << 20); sleep 8; print \"through\\n\"'");
    until("it stands still", PATIENCE, || (fleet.task(&task)["status"] == "paused").then_some(()));
    until("people are told", PATIENCE, || {
        let needs = fleet.task(&task)["needsPerson"].as_str().unwrap_or_default().to_owned();
        (needs.contains("MiB of memory, and may 100 MiB")).then_some(())
    });
    place.makima(["task", "resume", &task]).done().code(0);
    let ended = fleet.ended(&task);
    assert_eq!(ended["success"], true, "{ended}");
    assert_eq!(fleet.output(&task), "through\n");
    fleet.end();
}
