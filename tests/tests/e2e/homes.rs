//! Homes that another makima left, kept as files: what it had not told anybody is told by this one.
//!
//! In each a task has ended and its server knows it, two had told the beginning of their output and ended while no server was
//! there, and one was at work when daemon and agent were killed. Kept are the journal and the tasks' folders, not the worktrees.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Place, Reading, Stage};

/// Protects whoever puts a new makima in the place of an old one: nothing that the old one knew is lost, or told twice.
#[track_caller]
fn is_taken_up(name: &str) {
    let place = Place::new();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("homes").join(name);
    let copied = Command::new("cp").arg("-r").arg(&kept).arg(place.home()).status().expect("cp");
    assert!(copied.success() && !place.home().join(name).exists(), "the home was there before");
    // Its steps are another makima's, which may have taken them another way.
    place.forges();
    let stage = Stage::new(&place, Reading::Literal, 4, &[]);
    let task = |name: &str| named(&kept, name);

    let (failed, at_work, done) = (task("ends while nobody hears"), task("is at work"), task("waits to say it"));
    assert_eq!(stage.ends(&failed, "failed")["success"], false);
    assert_eq!(stage.ends(&done, "done")["success"], true);
    // Its server had acknowledged what came before.
    assert_eq!(lines(&stage, &failed), ["behind", "to stderr"]);
    assert_eq!(lines(&stage, &done), ["last"]);

    let end = stage.ends(&at_work, "failed");
    assert!(end["error"].as_str().is_some_and(|why| !why.is_empty()), "{end}");
    assert!(lines(&stage, &at_work).is_empty());
    assert!(stage.desk.of(&task("told")).is_empty(), "{:#?}", stage.desk.of(&task("told")));
    stage.over(&place);
}

/// The id of the task of this name in a home.
fn named(home: &Path, name: &str) -> String {
    let folders = fs::read_dir(home.join("tasks")).expect("tasks").flatten();
    let found = folders.map(|folder| folder.path()).find(|folder| {
        let spec = fs::read_to_string(folder.join("spec.json")).expect("what was asked for");
        let spec: Value = serde_json::from_str(&spec).expect("an object");
        spec["spec"]["name"] == name
    });
    found.unwrap_or_else(|| panic!("no task `{name}`")).file_name().expect("an id").to_string_lossy().into_owned()
}

/// What the server heard of a task's output.
fn lines(stage: &Stage, id: &str) -> Vec<String> {
    let said = stage.desk.all(id, "taskOutput");
    said.iter().map(|output| output["output"].as_str().expect("text").trim_end().to_string()).collect()
}

/// The first that was kept.
#[test]
fn of_the_first_form() {
    is_taken_up("first");
}

/// One that writes its state in another form, as an upgrade may bring one.
#[test]
fn of_another_form() {
    is_taken_up("other-form");
}
