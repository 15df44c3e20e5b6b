//! A daemon of another version takes up what one before left: its state, in either form, and nothing that is in doubt.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::journal::crc32;
use crate::support::{Fleet, Place, SOON, until};

/// Makes the newest segment one of another build's, which has another name for the tasks in a state; gives how many
/// tasks are in that.
fn by_another_build(home: &Path) -> usize {
    let all = fs::read_dir(home.join("journal")).expect("a journal").flatten().map(|entry| entry.path());
    let newest = all.max().expect("a segment");
    let text = fs::read_to_string(&newest).expect("a segment");
    let (header, records) = text.split_once('\n').expect("a header");
    let mut header: Value = serde_json::from_str(&header[9..]).expect("JSON");
    header["build"] = "99.0.0".into();
    let state = header["snapshot"].as_object_mut().expect("a state");
    let tasks = state.remove("tasks").or_else(|| state.remove("work")).expect("tasks");
    let count = tasks.as_array().expect("a list").len();
    let name = if count == 0 { "tasks" } else { "work" };
    state.insert(name.to_owned(), tasks);
    let header = header.to_string();
    fs::write(&newest, format!("{:08x} {header}\n{records}", crc32(header.as_bytes()))).expect("a segment");
    count
}

#[test]
fn another_version_goes_on_from_the_state_and_finds_the_agents() {
    let place = Place::new();
    let repo = place.repo();
    let mut fleet = Fleet::start(&place);
    let (mark, go) = (place.path("mark"), place.path("go"));
    let plan = format!(
        "echo started >> {}; i=0; until test -e {}; do i=$((i+1)); echo line $i; sleep 0.02; done; echo $i > x; exit 3",
        mark.display(),
        go.display()
    );
    let id = fleet.plan(&repo, &plan);
    fleet.writes(&id, "line 3\n");
    let mut seen = Vec::new();
    // In the first state there is no task, only a command behind it; in the second it stands under the other name.
    for _ in 0..2 {
        fleet.daemon.signal(Signal::KILL);
        until("its end", SOON, || (!fleet.daemon.is_running()).then_some(()));
        seen.push(by_another_build(&place.home()));
        fleet.daemon = Fleet::daemon(&place);
        fleet.daemon.notes("written by makima 99.0.0: of its ");
        fleet.daemon.notes(&format!("task {id}, "));
        fleet.daemon.notes("the agent is in hand again");
    }
    assert_eq!(seen, [0, 1]);
    fs::write(&go, "").expect("a file");
    let task = fleet.ended(&id);
    assert_eq!((&task["success"], &task["error"]), (&json!(false), &json!("the script ended with exit code 3")));
    assert_eq!(fs::read_to_string(&mark).expect("a mark"), "started\n", "it was started once");
    let mut seen = 0;
    for line in fleet.output(&id).lines() {
        let number: u64 = line.strip_prefix("line ").and_then(|number| number.parse().ok()).expect("a line");
        assert!(number <= seen + 1, "line {number} after line {seen}");
        seen = seen.max(number);
    }
    assert_eq!(repo.show(task["branch"].as_str().expect("a branch"), "x"), seen.to_string());
    fleet.end();
}
