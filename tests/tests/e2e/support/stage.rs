//! A daemon under a server of somebody else's.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::desk::{Desk, Reading};
use super::place::Place;
use super::proc::{Call, Proc};
use super::repo::Repo;
use super::servers::FakeServer;
use super::{SOON, until};

/// A daemon in a place, and the server that it speaks with.
pub(crate) struct Stage {
    pub(crate) desk: Desk,
    pub(crate) repo: Repo,
    call: Call,
    daemon: Option<Proc>,
    server: FakeServer,
}

impl Stage {
    /// For so many tasks at once; the daemon has these in its environment, and the place's programs in its path.
    pub(crate) fn new(place: &Place, reading: Reading, tasks: usize, env: &[(&str, String)]) -> Self {
        let desk = Desk::new(reading);
        let serving = desk.clone();
        let server = FakeServer::start(move |peer| serving.serve(peer));
        let (url, most) = (server.url(), tasks.to_string());
        let words = ["daemon", "--agent", "shell", "--server", &url, "--max-tasks", &most];
        let call = place.makima(words).env("MAKIMA_API_KEY", "key").env("PATH", place.programs());
        let call = env.iter().fold(call, |call, (name, value)| call.env(name, value));
        let mut stage = Self { desk, repo: place.repo(), call, daemon: None, server };
        stage.begins();
        stage
    }

    /// The daemon is there, and has a session.
    #[track_caller]
    pub(crate) fn begins(&mut self) {
        let daemon = self.call.clone().start();
        daemon.notes("connected to the server");
        self.daemon = Some(daemon);
    }

    /// The daemon is killed, and it alone.
    #[track_caller]
    pub(crate) fn is_killed(&mut self) {
        self.daemon.take().expect("it runs").kill();
    }

    /// The link is cut, and there is another.
    #[track_caller]
    pub(crate) fn is_cut(&self) {
        let before = self.desk.sessions();
        self.desk.cut();
        until("another session", SOON, || (self.desk.sessions() > before).then_some(()));
    }

    /// Waits until the last status of a task is this.
    #[track_caller]
    pub(crate) fn is(&self, id: &str, status: &str) {
        until(&format!("{id} is {status}"), SOON, || {
            let told = self.desk.of(id);
            let last = told.iter().rfind(|message| message["type"] == "taskStatusChange")?;
            let ended = told.iter().any(|message| message["type"] == "taskComplete");
            assert!(!ended || last["newStatus"] == status, "{id} is to be {status}: {told:#?}");
            (last["newStatus"] == status).then_some(())
        });
    }

    #[track_caller]
    fn hears(&self, id: &str, field: &str, text: &str) {
        until(&format!("{field} of {id}: {text}"), SOON, || {
            self.desk.of(id).iter().any(|message| message[field] == text).then_some(())
        });
    }

    /// Waits until a task's agent has written this line.
    #[track_caller]
    pub(crate) fn says(&self, id: &str, line: &str) {
        self.hears(id, "output", line);
    }

    /// Waits until this is told of a task.
    #[track_caller]
    pub(crate) fn progress(&self, id: &str, summary: &str) {
        self.hears(id, "summary", summary);
    }

    /// Says a command of this kind to a task.
    pub(crate) fn tell(&self, id: &str, kind: &str, more: &Value) {
        let mut command = json!({ "type": kind, "taskId": id });
        command.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.desk.tell(command);
    }

    /// The same, and its answer, which is of this kind.
    #[track_caller]
    pub(crate) fn ask(&self, id: &str, kind: &str, more: &Value, answer: &str) -> Value {
        let before = self.desk.all(id, answer).len();
        self.tell(id, kind, more);
        until(&format!("an answer to {kind} {more}"), SOON, || self.desk.all(id, answer).get(before).cloned())
    }

    /// Waits for a task's end, and gives what was told with it.
    #[track_caller]
    pub(crate) fn ends(&self, id: &str, status: &str) -> Value {
        let end = self.desk.waits(id, "taskComplete");
        self.is(id, status);
        end
    }

    /// Asks for a task, with what is usual and this.
    pub(crate) fn spawn(&self, id: &str, plan: &str, more: &Value) {
        let mut command = spawn(id, self.repo.path(), plan);
        command.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.desk.tell(command);
    }

    /// All that was heard is in the tables, and nothing is left running.
    #[track_caller]
    pub(crate) fn over(mut self, place: &Place) {
        let daemon = self.daemon.take().expect("it runs");
        daemon.signal(Signal::TERM);
        daemon.wait(SOON).code(0);
        place.assert_nothing_runs();
        self.desk.check();
        for first in self.server.heard() {
            assert_eq!((&first["type"], &first["apiKey"]), (&json!("authenticate"), &json!("key")), "{first}");
        }
    }
}

/// A task as a server asks for one.
pub(crate) fn spawn(id: &str, repository: &Path, plan: &str) -> Value {
    json!({ "type": "spawnTask", "taskId": id, "taskName": "Fix it", "plan": plan, "repoUrl": repository,
        "completionAction": "branch", "targetRepoPath": repository, "depth": 0, "isOrchestrator": false })
}
