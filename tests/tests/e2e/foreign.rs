//! Real work, driven to its end against real git and real processes by servers that know nothing but the wire's tables.

mod handing;
mod merging;
mod starting;
mod steering;

use std::path::PathBuf;

use crate::support::{Place, Stage};

/// An agent that says that it is there, then each line that it is told, until it is told that it is over.
const READS: &str = "echo begun; while read -r line; do echo \"$line\"; test \"$line\" = over && break; done";

/// The id of the task with this number.
fn task(n: u32) -> String {
    format!("0190a0e0-0000-7000-8000-{n:012}")
}

/// The folder that a task's agent works in.
fn worktree(place: &Place, id: &str) -> PathBuf {
    place.home().join("worktrees").join(id)
}

/// Holds that a task has had its end once, with these messages last, in their order, and no output after the first.
#[track_caller]
fn last_of(stage: &Stage, id: &str, kinds: &[&str]) {
    let told: Vec<String> =
        stage.desk.of(id).iter().map(|told| told["type"].as_str().unwrap_or("").to_owned()).collect();
    let told: Vec<&str> = told.iter().map(String::as_str).filter(|kind| *kind != "taskProgress").collect();
    let end = told.iter().position(|kind| *kind == "taskComplete").expect("its end");
    assert_eq!(told[..=end].get(end + 1 - kinds.len()..), Some(kinds), "{told:?}");
    assert!(!told[end..].contains(&"taskOutput"), "{told:?}");
    for once in ["revokeToolKey", "taskComplete"] {
        let wanted = usize::from(kinds.contains(&once));
        assert_eq!(told.iter().filter(|kind| **kind == once).count(), wanted, "{once}: {told:?}");
    }
}
