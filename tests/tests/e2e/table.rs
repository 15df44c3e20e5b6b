//! Every command in every status, said to the real binary by servers that know nothing but the wire's tables, and held
//! against the reviewed table of what the core answers (`tests/tests/transcripts/table.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::{FakeServer, Peer, Place, Proc, Repo, SOON, until};

/// How a server takes the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Nothing but what the tables name comes in, and nothing else goes out.
    Literal,
    /// What goes out has room in it, fields of tomorrow, nothing where nothing is meant, and commands of tomorrow beside
    /// it.
    Loose,
}

/// The wire's table of messages: what each has, beside its type.
const MESSAGES: [(&str, &[&str]); 16] = [
    ("authenticate", &["apiKey", "hostname", "machineId", "maxConcurrentTasks"]),
    ("heartbeat", &["activeTasks"]),
    ("taskOutput", &["isPartial", "output", "taskId"]),
    ("taskStatusChange", &["newStatus", "oldStatus", "taskId"]),
    ("taskProgress", &["summary", "taskId"]),
    ("taskComplete", &["error", "success", "taskId"]),
    ("registerToolKey", &["key", "taskId"]),
    ("revokeToolKey", &["taskId"]),
    ("branchList", &["branches", "taskId"]),
    ("mergeStatusResponse", &["conflictedFiles", "inProgress", "sourceBranch", "taskId"]),
    ("mergeResult", &["commitSha", "conflicts", "message", "success", "taskId"]),
    ("mergeCompleteCheck", &["canComplete", "mergedCount", "skippedCount", "taskId", "unmergedBranches"]),
    ("completionActionResult", &["message", "prUrl", "success", "taskId"]),
    ("daemonDirectories", &["homeDirectory", "workingDirectory", "worktreesDirectory"]),
    ("cloneWorktreeResult", &["message", "success", "targetDir", "taskId"]),
    ("checkTargetExistsResult", &["exists", "targetDir", "taskId"]),
];

/// All that a task may be called.
const STATUSES: [&str; 8] = ["pending", "preparing", "running", "paused", "finishing", "done", "failed", "interrupted"];

/// A server, and what it has to say and has heard.
#[derive(Clone)]
struct Desk {
    manner: Manner,
    out: Arc<Mutex<VecDeque<Value>>>,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Desk {
    fn serve(&self, peer: &mut Peer) {
        let say = |peer: &mut Peer, value: &Value| {
            let text = if self.manner == Manner::Loose { format!("\n{value:#}\n") } else { value.to_string() };
            peer.send(Message::text(text)).is_ok()
        };
        say(peer, &json!({ "type": "authenticated", "daemonId": "0190a0e0-0000-7000-8000-000000000001" }));
        peer.get_ref().set_read_timeout(Some(Duration::from_millis(5))).expect("a bound");
        loop {
            let next = self.out.lock().expect("nobody panics with it").pop_front();
            if let Some(next) = next {
                say(peer, &next);
            }
            match peer.read() {
                Ok(Message::Text(text)) => {
                    let message: Value = serde_json::from_str(&text).expect("daemons write JSON");
                    self.heard.lock().expect("nobody panics with it").push(message);
                }
                Ok(_) => {}
                Err(Error::Io(why)) if why.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    fn tell(&self, mut command: Value) {
        let mut out = self.out.lock().expect("nobody panics with it");
        if self.manner == Manner::Loose {
            let fields = command.as_object_mut().expect("an object");
            fields.insert("ofTomorrow".to_owned(), json!({ "taskId": [1, null] }));
            if fields["type"] == "spawnTask" {
                fields.insert("baseBranch".to_owned(), Value::Null);
                fields.insert("copyFiles".to_owned(), Value::Null);
            }
            out.push_back(json!({ "type": "danceTask", "taskId": fields.get("taskId") }));
        }
        out.push_back(command);
    }

    /// What was heard of a task, in its order.
    fn of(&self, id: &str) -> Vec<Value> {
        let heard = self.heard.lock().expect("nobody panics with it");
        heard.iter().filter(|message| message["taskId"] == id).cloned().collect()
    }

    /// What comes in is in the tables.
    fn check(&self) {
        for message in self.heard.lock().expect("nobody panics with it").iter() {
            let fields = message.as_object().expect("an object");
            let known = MESSAGES.iter().find(|(kind, _)| fields["type"] == *kind);
            let (kind, names) = known.unwrap_or_else(|| panic!("no message of the tables: {message}"));
            let mut given: Vec<&str> = fields.keys().map(String::as_str).filter(|name| *name != "type").collect();
            given.sort_unstable();
            assert_eq!(given, *names, "{message}");
            if *kind == "taskStatusChange" {
                for status in ["oldStatus", "newStatus"] {
                    assert!(STATUSES.iter().any(|known| fields[status] == *known), "{message}");
                }
            }
            if *kind == "taskOutput" {
                assert!(!fields["output"].as_str().expect("a text").contains('\n'), "{message}");
            }
        }
    }
}

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

fn spawn(id: &str, repository: &Path, plan: &str) -> Value {
    json!({ "type": "spawnTask", "taskId": id, "taskName": "Fix it", "plan": plan, "repoUrl": repository,
        "completionAction": "branch", "targetRepoPath": repository, "depth": 0, "isOrchestrator": false })
}

/// A daemon in a place, and the server that it speaks with.
struct Stage {
    desk: Desk,
    daemon: Proc,
    repo: Repo,
    /// As long as this is there, git waits before it makes a worktree or a commit.
    hold: PathBuf,
    _server: FakeServer,
}

impl Stage {
    fn new(place: &Place, manner: Manner, tasks: usize) -> Self {
        let desk = Desk { manner, out: Arc::default(), heard: Arc::default() };
        let serving = desk.clone();
        let server = FakeServer::start(move |peer| serving.serve(peer));
        let (bin, hold) = (place.path("bin"), place.path("hold"));
        fs::create_dir(&bin).expect("a folder");
        let path = std::env::var("PATH").expect("a path");
        let script = format!(
            "#!/bin/sh\ncase \"$1\" in read-tree|write-tree) while [ -e '{}' ]; do sleep 0.02; done;; esac\n\
             PATH='{path}' exec git \"$@\"\n",
            hold.display()
        );
        fs::write(bin.join("git"), script).expect("a script");
        fs::set_permissions(bin.join("git"), fs::Permissions::from_mode(0o755)).expect("its rights");
        let (url, most) = (server.url(), tasks.to_string());
        let words = ["daemon", "--agent", "shell", "--server", &url, "--max-tasks", &most];
        let call = place.makima(words).env("MAKIMA_API_KEY", "key").env("PATH", format!("{}:{path}", bin.display()));
        let daemon = call.start();
        daemon.notes("connected to the server");
        Self { desk, daemon, repo: place.repo(), hold, _server: server }
    }

    /// Waits until the last status of a task is this.
    fn is(&self, id: &str, status: &str) {
        until(&format!("{id} is {status}"), SOON, || {
            let told = self.desk.of(id);
            let last = told.iter().rfind(|message| message["type"] == "taskStatusChange")?;
            let ended = told.iter().any(|message| message["type"] == "taskComplete");
            assert!(!ended || last["newStatus"] == status, "{id} is to be {status}: {told:#?}");
            (last["newStatus"] == status).then_some(())
        });
    }

    fn hears(&self, id: &str, field: &str, text: &str) {
        until(&format!("{field} of {id}: {text}"), SOON, || {
            self.desk.of(id).iter().any(|message| message[field] == text).then_some(())
        });
    }

    fn says(&self, id: &str, line: &str) {
        self.hears(id, "output", line);
    }

    fn progress(&self, id: &str, summary: &str) {
        self.hears(id, "summary", summary);
    }

    fn spawn(&self, id: &str, plan: &str) {
        self.desk.tell(spawn(id, self.repo.path(), plan));
    }

    fn holds(&self) {
        fs::write(&self.hold, "").expect("a file");
    }

    fn lets_go(&self) {
        let _ = fs::remove_file(&self.hold);
    }
}

const READS: &str = "echo begun; while read -r line; do echo \"$line\"; done";
const STUBBORN: &str = "trap '' INT; echo begun; while :; do sleep 0.05; done";

/// What its task is to do, and how all tasks of a stage come to a status.
type Way = (&'static str, fn(&Stage, &[String], &str));

fn way(status: &str) -> Way {
    fn begun(stage: &Stage, ids: &[String], plan: &str) {
        ids.iter().for_each(|id| stage.spawn(id, plan));
        ids.iter().for_each(|id| stage.says(id, "begun"));
    }
    fn ended(stage: &Stage, ids: &[String], plan: &str) {
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
        other => panic!("no way to {other}"),
    }
}

fn drive(manner: Manner, statuses: &[&str]) {
    for status in statuses {
        let place = Place::new();
        let (plan, way) = way(status);
        let count = commands(OTHER, Path::new("/"), plan).len();
        let stage = Stage::new(&place, manner, if *status == "pending" { 1 } else { count });
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
            let what = format!("{manner:?}: {name} while {status}, answered with {at_once:?}");
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
            until(&format!("{manner:?}: an answer to {name} while {status}"), SOON, || {
                came().iter().find(|m| is_answer(m)).map(drop)
            });
        }
        for id in ids.iter().map(String::as_str).chain((*status == "pending").then_some(OTHER)) {
            stage.desk.tell(json!({ "type": "interruptTask", "taskId": id, "graceful": false }));
        }
        for (id, name, answer, before) in &asked {
            let ends = || stage.desk.of(id).iter().filter(|message| message["type"] == "taskComplete").count();
            until(&format!("{manner:?}: the end after {name} while {status}"), SOON, || (ends() > 0).then_some(()));
            let came = stage.desk.of(id).split_off(*before);
            let is_answer = |message: &&Value| answer.is_some_and(|answer| message["type"] == answer);
            // A task that hands its work over, or is kept from it at its end, tells that by the same message, unasked.
            let skipped =
                |message: &Value| message["message"].as_str().is_some_and(|text| text.starts_with("skipped by"));
            let by_itself = |message: &&Value| message["success"] == true || skipped(message);
            let is_asked = |message: &&Value| *name != "retryCompletionAction" || !by_itself(message);
            let answers = came.iter().filter(is_answer).filter(is_asked).count();
            assert_eq!(answers, usize::from(answer.is_some()), "{manner:?}: {name} while {status}: {came:?}");
        }
        stage.desk.check();
        stage.daemon.terminate().code(0);
        place.assert_nothing_runs();
    }
}

/// Protects servers of other people's from a daemon that answers them otherwise than the table says.
#[test]
fn a_literal_server_is_answered_as_the_table_says() {
    drive(Manner::Literal, &["unknown", "pending", "preparing", "paused before it runs", "running"]);
}

#[test]
fn a_literal_server_is_answered_as_the_table_says_later() {
    drive(Manner::Literal, &["paused", "running, being interrupted", "finishing", "done", "failed"]);
}

#[test]
fn a_loose_server_is_answered_as_the_table_says() {
    drive(Manner::Loose, &["unknown", "pending", "preparing", "paused before it runs", "running"]);
}

#[test]
fn a_loose_server_is_answered_as_the_table_says_later() {
    drive(Manner::Loose, &["paused", "running, being interrupted", "finishing", "done", "failed"]);
}
