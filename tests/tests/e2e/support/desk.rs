//! A server of somebody else's, which knows nothing but the wire's tables.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Peer, SOON, until};

/// How a server takes the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
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

/// The fields of a branch in a list.
const BRANCH: [&str; 5] = ["isMerged", "lastCommit", "lastCommitMessage", "name", "taskId"];

/// All that a task may be called.
const STATUSES: [&str; 8] = ["pending", "preparing", "running", "paused", "finishing", "done", "failed", "interrupted"];

/// A server, and what it has to say and has heard.
#[derive(Clone)]
pub(crate) struct Desk {
    reading: Reading,
    out: Arc<Mutex<VecDeque<Value>>>,
    heard: Arc<Mutex<Vec<Value>>>,
    /// What had been heard when each session began.
    sessions: Arc<Mutex<Vec<usize>>>,
    /// How often it has cut the link.
    cuts: Arc<AtomicUsize>,
}

impl Desk {
    pub(crate) fn new(reading: Reading) -> Self {
        Self { reading, out: Arc::default(), heard: Arc::default(), sessions: Arc::default(), cuts: Arc::default() }
    }

    /// One session, to its end.
    pub(crate) fn serve(&self, peer: &mut Peer) {
        let say = |peer: &mut Peer, value: &Value| {
            let text = if self.reading == Reading::Loose { format!("\n{value:#}\n") } else { value.to_string() };
            peer.send(Message::text(text)).is_ok()
        };
        say(peer, &json!({ "type": "authenticated", "daemonId": "0190a0e0-0000-7000-8000-000000000001" }));
        peer.get_ref().set_read_timeout(Some(Duration::from_millis(5))).expect("a bound");
        let heard = self.heard.lock().expect("nobody panics with it").len();
        self.sessions.lock().expect("nobody panics with it").push(heard);
        let cuts = self.cuts.load(Ordering::SeqCst);
        while self.cuts.load(Ordering::SeqCst) == cuts {
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

    /// Ends the session that there is, without a word.
    pub(crate) fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// How many sessions there have been.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.lock().expect("nobody panics with it").len()
    }

    /// What was heard since the last session began.
    pub(crate) fn this_session(&self) -> Vec<Value> {
        let from = self.sessions.lock().expect("nobody panics with it").last().copied().unwrap_or_default();
        self.heard.lock().expect("nobody panics with it")[from..].to_vec()
    }

    pub(crate) fn tell(&self, mut command: Value) {
        let mut out = self.out.lock().expect("nobody panics with it");
        if self.reading == Reading::Loose {
            let fields = command.as_object_mut().expect("an object");
            fields.insert("ofTomorrow".to_owned(), json!({ "taskId": [1, null] }));
            if fields["type"] == "spawnTask" {
                for name in ["baseBranch", "copyFiles"] {
                    fields.entry(name).or_insert(Value::Null);
                }
            }
            out.push_back(json!({ "type": "danceTask", "taskId": fields.get("taskId") }));
        }
        out.push_back(command);
    }

    /// What was heard of a task, in its order.
    pub(crate) fn of(&self, id: &str) -> Vec<Value> {
        let heard = self.heard.lock().expect("nobody panics with it");
        heard.iter().filter(|message| message["taskId"] == id).cloned().collect()
    }

    /// The messages of one kind that were heard of a task.
    pub(crate) fn all(&self, id: &str, kind: &str) -> Vec<Value> {
        self.of(id).into_iter().filter(|message| message["type"] == kind).collect()
    }

    /// Waits for the first message of a kind that is heard of a task.
    #[track_caller]
    pub(crate) fn waits(&self, id: &str, kind: &str) -> Value {
        until(&format!("{kind} of {id}"), SOON, || self.all(id, kind).first().cloned())
    }

    /// What comes in is in the tables.
    pub(crate) fn check(&self) {
        for message in self.heard.lock().expect("nobody panics with it").iter() {
            let known = MESSAGES.iter().find(|(kind, _)| message["type"] == *kind);
            let (kind, names) = known.unwrap_or_else(|| panic!("no message of the tables: {message}"));
            assert_eq!(fields(message), *names, "{message}");
            match *kind {
                "taskStatusChange" => {
                    for status in ["oldStatus", "newStatus"] {
                        assert!(STATUSES.iter().any(|known| message[status] == *known), "{message}");
                    }
                }
                "taskOutput" => assert!(!message["output"].as_str().expect("a text").contains('\n'), "{message}"),
                "branchList" => {
                    for branch in message["branches"].as_array().expect("a list") {
                        assert_eq!(fields(branch), BRANCH, "{message}");
                    }
                }
                _ => {}
            }
        }
    }
}

/// The names that an object has, in order, beside its type.
fn fields(object: &Value) -> Vec<&str> {
    let all = object.as_object().expect("an object").keys().map(String::as_str);
    let mut names: Vec<&str> = all.filter(|name| *name != "type").collect();
    names.sort_unstable();
    names
}
