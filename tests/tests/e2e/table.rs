//! Every command in every status, said to the real binary by servers that know nothing but the wire's tables, and held
//! against the reviewed table of what the core answers (`tests/tests/transcripts/table.rs`).

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::support::{Place, Reading, SOON, Stage, spawn, until};

/// What the core answers at once, by status and command, and whether it begins something.
type Table = BTreeMap<(String, String), (Vec<Map<String, Value>>, bool)>;

/// The reviewed table.
fn table(id: &str) -> Table {
    let file = "tests/transcripts/snapshots/transcripts__table__each_command_in_each_status.snap";
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("the reviewed table");
    let (mut status, mut cell, mut table) = (String::new(), String::new(), Table::new());
    for line in text.lines().skip_while(|line| !line.starts_with("## ")) {
        if let Some(name) = line.strip_prefix("## ") {
            name.clone_into(&mut status);
        } else if let Some(message) = line.strip_prefix("    -> ") {
            let Some((kind, fields)) = message.split_once(' ') else { continue };
            let fields = fields.replace("T1", id).replace("T2", OTHER);
            let mut fields: Map<String, Value> = serde_json::from_str(&format!("{{{fields}}}")).expect(line);
            fields.insert("type".to_owned(), json!(kind));
            table.get_mut(&(status.clone(), cell.clone())).expect("a cell").0.push(fields);
        } else if line.starts_with("    =>") {
            table.get_mut(&(status.clone(), cell.clone())).expect("a cell").1 = true;
        } else {
            line.clone_into(&mut cell);
            table.insert((status.clone(), cell.clone()), (Vec::new(), false));
        }
    }
    table
}

/// A task that nobody has heard of.
const OTHER: &str = "0190a0e0-0000-7000-8000-0000000000ee";

/// Every command that names a task, by what the table calls it, and what it is answered with if it is a question.
fn commands(id: &str, repository: &Path, plan: &str) -> Vec<(&'static str, Value, Option<&'static str>)> {
    let with = |kind: &str, fields: Value| {
        let mut command = json!({ "type": kind, "taskId": id });
        command.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        command
    };
    let plain = |kind: &str| with(kind, json!({}));
    let result = Some("mergeResult");
    let news = json!({ "siblingTaskId": OTHER, "siblingName": "other", "siblingStatus": "running",
        "progressSummary": "half [done]\n", "changedFiles": ["a", "b"] });
    let retry = json!({ "taskName": "Fix it", "action": "merge", "targetRepoPath": "/repo", "targetBranch": null });
    vec![
        ("spawnTask", spawn(id, repository, plan), None),
        ("pauseTask", plain("pauseTask"), None),
        ("resumeTask", plain("resumeTask"), None),
        ("interruptTask gracefully", with("interruptTask", json!({ "graceful": true })), None),
        ("interruptTask by force", with("interruptTask", json!({ "graceful": false })), None),
        ("sendMessage", with("sendMessage", json!({ "message": "hello" })), None),
        ("injectSiblingContext", with("injectSiblingContext", news), None),
        ("listBranches", plain("listBranches"), Some("branchList")),
        ("mergeStart", with("mergeStart", json!({ "sourceBranch": "feature" })), result),
        ("mergeStatus", plain("mergeStatus"), Some("mergeStatusResponse")),
        ("mergeResolve", with("mergeResolve", json!({ "file": "a", "strategy": "ours" })), result),
        ("mergeResolve by no strategy", with("mergeResolve", json!({ "file": "a", "strategy": "mine" })), result),
        ("mergeCommit", with("mergeCommit", json!({ "message": "merged" })), result),
        ("mergeAbort", plain("mergeAbort"), result),
        ("mergeSkip", with("mergeSkip", json!({ "subtaskId": OTHER, "reason": "no use" })), result),
        ("checkMergeComplete", plain("checkMergeComplete"), Some("mergeCompleteCheck")),
        ("retryCompletionAction", with("retryCompletionAction", retry), Some("completionActionResult")),
        ("cloneWorktree", with("cloneWorktree", json!({ "targetDir": "/there" })), Some("cloneWorktreeResult")),
        (
            "checkTargetExists",
            with("checkTargetExists", json!({ "targetDir": "/there" })),
            Some("checkTargetExistsResult"),
        ),
    ]
}

/// A stage whose git can be made to wait before it makes a worktree or a commit.
struct Held {
    stage: Stage,
    /// As long as this is there, it waits.
    hold: PathBuf,
}

impl Held {
    fn new(place: &Place, reading: Reading, tasks: usize) -> Self {
        let (hold, path) = (place.path("hold"), std::env::var("PATH").expect("a path"));
        let script = format!(
            "case \"$1\" in read-tree|write-tree) while [ -e '{}' ]; do sleep 0.02; done;; esac\n\
             PATH='{path}' exec git \"$@\"",
            hold.display()
        );
        place.program("git", &script);
        Self { stage: Stage::new(place, reading, tasks, &[]), hold }
    }

    fn spawn(&self, id: &str, plan: &str) {
        self.stage.spawn(id, plan, &json!({}));
    }

    fn holds(&self) {
        fs::write(&self.hold, "").expect("a file");
    }

    fn lets_go(&self) {
        let _ = fs::remove_file(&self.hold);
    }
}

impl Deref for Held {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}

const READS: &str = "echo begun; while read -r line; do echo \"$line\"; done";
const STUBBORN: &str = "trap '' INT; echo begun; while :; do sleep 0.05; done";

/// What its task is to do, and how all tasks of a stage come to a status.
type Way = (&'static str, fn(&Held, &[String], &str));

fn way(status: &str) -> Way {
    fn begun(stage: &Held, ids: &[String], plan: &str) {
        ids.iter().for_each(|id| stage.spawn(id, plan));
        ids.iter().for_each(|id| stage.says(id, "begun"));
    }
    fn ended(stage: &Held, ids: &[String], plan: &str) {
        ids.iter().for_each(|id| stage.spawn(id, plan));
        let ends = if plan == "true" { "done" } else { "failed" };
        ids.iter().for_each(|id| stage.is(id, ends));
        let all_told = || {
            let told = |id: &String| stage.desk.of(id).iter().any(|message| message["type"] == "taskComplete");
            ids.iter().all(told).then_some(())
        };
        until("all is told", SOON, all_told);
    }
    match status {
        "unknown" => ("true", |_, _, _| {}),
        "pending" => (READS, |stage, ids, plan| {
            stage.spawn(OTHER, READS);
            stage.says(OTHER, "begun");
            ids.iter().for_each(|id| stage.spawn(id, plan));
            let all_wait = || ids.iter().all(|id| !stage.desk.of(id).is_empty()).then_some(());
            until("all wait for a slot", SOON, all_wait);
        }),
        "preparing" => (READS, |stage, ids, plan| {
            stage.holds();
            ids.iter().for_each(|id| stage.spawn(id, plan));
            ids.iter().for_each(|id| stage.is(id, "preparing"));
        }),
        "paused before it runs" => (READS, |stage, ids, plan| {
            stage.holds();
            ids.iter().for_each(|id| stage.spawn(id, plan));
            ids.iter().for_each(|id| stage.is(id, "preparing"));
            ids.iter().for_each(|id| stage.desk.tell(json!({ "type": "pauseTask", "taskId": id })));
            ids.iter().for_each(|id| stage.progress(id, "it will stand still as soon as it would run"));
            stage.lets_go();
            ids.iter().for_each(|id| stage.is(id, "paused"));
        }),
        "running" => (READS, begun),
        "paused" => (READS, |stage, ids, plan| {
            begun(stage, ids, plan);
            ids.iter().for_each(|id| stage.desk.tell(json!({ "type": "pauseTask", "taskId": id })));
            ids.iter().for_each(|id| stage.is(id, "paused"));
        }),
        "running, being interrupted" => (STUBBORN, |stage, ids, plan| {
            begun(stage, ids, plan);
            let gently = |id: &String| json!({ "type": "interruptTask", "taskId": id, "graceful": true });
            ids.iter().for_each(|id| stage.desk.tell(gently(id)));
        }),
        "finishing" => ("echo x > x; echo begun; read -r go", |stage, ids, plan| {
            begun(stage, ids, plan);
            stage.holds();
            ids.iter().for_each(|id| stage.desk.tell(json!({ "type": "sendMessage", "taskId": id, "message": "go" })));
            ids.iter().for_each(|id| stage.is(id, "finishing"));
        }),
        "done" => ("true", ended),
        "failed" => ("exit 1", ended),
        "interrupted" => (READS, |stage, ids, plan| {
            begun(stage, ids, plan);
            let by_force = |id: &String| json!({ "type": "interruptTask", "taskId": id, "graceful": false });
            ids.iter().for_each(|id| stage.desk.tell(by_force(id)));
            ids.iter().for_each(|id| drop(stage.ends(id, "interrupted")));
        }),
        other => panic!("no way to {other}"),
    }
}

fn drive(reading: Reading, statuses: &[&str]) {
    for status in statuses {
        let place = Place::new();
        let (plan, way) = way(status);
        let count = commands(OTHER, Path::new("/"), plan).len();
        let stage = Held::new(&place, reading, if *status == "pending" { 1 } else { count });
        let ids: Vec<String> = (0..count).map(|n| format!("0190a0e0-0000-7000-8000-{n:012}")).collect();
        way(&stage, &ids, plan);
        let mut asked = Vec::new();
        for (n, id) in ids.iter().enumerate() {
            let (name, command, answer) = commands(id, stage.repo.path(), plan).swap_remove(n);
            let before = stage.desk.of(id).len();
            stage.desk.tell(command);
            asked.push((id, name, answer, before));
        }
        for (id, name, _, before) in &asked {
            let (at_once, begins) = table(id).remove(&((*status).to_owned(), (*name).to_owned())).expect("a cell");
            assert!(begins || !at_once.is_empty(), "nothing is answered to {name} while {status}");
            let what = format!("{reading:?}: {name} while {status}, answered with {at_once:?}");
            until(&what, SOON, || {
                let came = stage.desk.of(id).split_off(*before);
                let mut came = came.iter().filter_map(Value::as_object);
                at_once.iter().all(|line| came.any(|message| message == line)).then_some(())
            });
        }
        stage.lets_go();
        for (id, name, answer, before) in &asked {
            let Some(answer) = answer else { continue };
            let came = || stage.desk.of(id).split_off(*before);
            let is_answer = |message: &Value| message["type"] == *answer;
            until(&format!("{reading:?}: an answer to {name} while {status}"), SOON, || {
                came().iter().find(|m| is_answer(m)).map(drop)
            });
        }
        for id in ids.iter().map(String::as_str).chain((*status == "pending").then_some(OTHER)) {
            stage.desk.tell(json!({ "type": "interruptTask", "taskId": id, "graceful": false }));
        }
        // The one that had the slot as well: it may take a moment longer than those that never began.
        if *status == "pending" {
            let ended = || stage.desk.of(OTHER).iter().any(|message| message["type"] == "taskComplete");
            until("the end of the one that ran", SOON, || ended().then_some(()));
        }
        for (id, name, answer, before) in &asked {
            let ends = || stage.desk.of(id).iter().filter(|message| message["type"] == "taskComplete").count();
            until(&format!("{reading:?}: the end after {name} while {status}"), SOON, || (ends() > 0).then_some(()));
            let came = stage.desk.of(id).split_off(*before);
            let is_answer = |message: &&Value| answer.is_some_and(|answer| message["type"] == answer);
            // A task that hands its work over, or is kept from it at its end, tells that by the same message, unasked.
            let skipped =
                |message: &Value| message["message"].as_str().is_some_and(|text| text.starts_with("skipped by"));
            let has_ended = ["done", "failed", "interrupted"].contains(status);
            let by_itself = |message: &&Value| !has_ended && (message["success"] == true || skipped(message));
            let is_asked = |message: &&Value| *name != "retryCompletionAction" || !by_itself(message);
            let answers = came.iter().filter(is_answer).filter(is_asked).count();
            assert_eq!(answers, usize::from(answer.is_some()), "{reading:?}: {name} while {status}: {came:?}");
        }
        stage.stage.over(&place);
    }
}

/// Protects servers of other people's from a daemon that answers them otherwise than the table says.
#[test]
fn a_literal_server_is_answered_as_the_table_says() {
    drive(Reading::Literal, &["unknown", "pending", "preparing", "paused before it runs", "running"]);
}

#[test]
fn a_literal_server_is_answered_as_the_table_says_later() {
    drive(Reading::Literal, &["paused", "running, being interrupted", "finishing", "done", "failed", "interrupted"]);
}

#[test]
fn a_loose_server_is_answered_as_the_table_says() {
    drive(Reading::Loose, &["unknown", "pending", "preparing", "paused before it runs", "running"]);
}

#[test]
fn a_loose_server_is_answered_as_the_table_says_later() {
    drive(Reading::Loose, &["paused", "running, being interrupted", "finishing", "done", "failed", "interrupted"]);
}
