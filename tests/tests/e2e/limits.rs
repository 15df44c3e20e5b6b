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

/// Protects a person's money: at what a task may cost it stands still and says so, and a person's word lets it spend as much again.
#[test]
fn who_costs_too_much_stands_still_until_a_person_lets_it_go_on() {
    let place = Place::new();
    let go = place.path("go");
    let behind = |jobs: &str| {
        format!("line('{{\"type\":\"system\",\"subtype\":\"background_tasks_changed\",\"tasks\":[{jobs}]}}');")
    };
    // It has said what its turn has cost, and something runs behind the conversation still.
    let turn = format!(
        "{}\ncost(6); ends();\nawait('{}');\n{}\nbegins();",
        behind("{\"task_id\":\"b\"}"),
        go.display(),
        behind("")
    );
    let agent = place.claude(&turn);
    place.configure(&format!("permissions = 'accept-edits'\n{agent}[limits]\ncost = 5.0\nthen = 'pause'\n"));
    let fleet = Fleet::with(&place, place.makima(["daemon"]));
    let repo = place.repo();
    let task = fleet.plan(&repo, "Spend it");
    until("it stands still", PATIENCE, || (fleet.task(&task)["status"] == "paused").then_some(()));
    until("people are told", PATIENCE, || {
        let needs = fleet.task(&task)["needsPerson"].as_str().unwrap_or_default().to_owned();
        (needs == "it has cost $6.0000, and may $5.0000").then_some(())
    });
    std::fs::write(&go, "").expect("a file");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(fleet.task(&task)["status"], "paused", "it waits for a person");
    place.makima(["task", "resume", &task]).done().code(0);
    let ended = fleet.ended(&task);
    assert_eq!((&ended["success"], &ended["needsPerson"]), (&true.into(), &serde_json::Value::Null), "{ended}");
    fleet.end();
}
