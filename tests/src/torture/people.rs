//! What people ask of a server that may be away at any moment: again, until there is an answer.

use std::path::Path;
use std::time::Duration;

use makima_tests::real::{Api, Failure};
use serde_json::{Value, json};

use super::ledger::Ledger;

/// For one answer. A server that stands still is asked anew.
const ANSWER: Duration = Duration::from_secs(30);

/// From one question to the next.
pub(crate) const AGAIN: Duration = Duration::from_millis(300);

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) struct People<'a> {
    pub(crate) api: Api,
    pub(crate) ledger: &'a Ledger,
    pub(crate) root: &'a Path,
}

/// What is to be asked for.
pub(crate) struct Wanted<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) plan: String,
    pub(crate) parent: Option<&'a str>,
    pub(crate) action: &'a str,
    pub(crate) after: Vec<&'a str>,
    pub(crate) goes_on: Option<&'a str>,
    pub(crate) is_orchestrator: bool,
}

/// The branch of the user's that everything is merged into.
pub(crate) const INTO: &str = "integration";

impl People<'_> {
    /// The user's repository.
    pub(crate) fn repository(&self) -> std::path::PathBuf {
        self.root.join("desk/repository")
    }

    /// Where agents leave their marks.
    pub(crate) fn marks(&self) -> std::path::PathBuf {
        self.root.join("marks")
    }

    /// One request; none where there is no answer, or one that says to ask again.
    ///
    /// # Errors
    /// It is refused for good.
    pub(crate) fn once(&self, method: &str, path: &str, body: &Value) -> Result<Option<(u16, Value)>, Failure> {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let Ok((status, answer)) = self.api.request(method, path, &text, ANSWER) else { return Ok(None) };
        let value: Value = serde_json::from_str(&answer).unwrap_or_default();
        let code = value["error"]["code"].as_str().unwrap_or_default();
        match status {
            200 | 201 => Ok(Some((status, value))),
            // It has no daemon yet, the daemon is away, it goes on with it, it cannot be stored.
            202 | 429 | 502..=504 => {
                Ok((path.ends_with("/messages")).then_some((status, value)).filter(|it| it.0 == 202))
            }
            409 if code == "no_daemon" => Ok(None),
            409 if code == "task_ended" => Ok(Some((status, value))),
            _ => Err(format!("{method} {path} {text}: {status} {answer}").into()),
        }
    }

    /// The same until there is an answer.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, Failure> {
        loop {
            if let Some((_, answer)) = self.once(method, path, body)? {
                return Ok(answer);
            }
            self.pause(&format!("an answer to {method} {path}"))?;
        }
    }

    /// Waits for a moment.
    ///
    /// # Errors
    /// There is no time left.
    pub(crate) fn pause(&self, with: &str) -> Result<(), Failure> {
        self.ledger.may_go_on(with)?;
        std::thread::sleep(AGAIN);
        Ok(())
    }

    /// What is answered by text, once it is.
    pub(crate) fn text(&self, path: &str) -> Result<String, Failure> {
        loop {
            if let Ok((200, text)) = self.api.request("GET", path, "", ANSWER) {
                return Ok(text);
            }
            self.pause(&format!("an answer to GET {path}"))?;
        }
    }

    /// Asks for a task. The same one twice is one.
    pub(crate) fn spawn(&self, wanted: &Wanted<'_>) -> Result<(), Failure> {
        let Wanted { id, name, plan, parent, action, after, goes_on, is_orchestrator } = wanted;
        let mut task = json!({
            "taskId": id, "taskName": name, "plan": plan, "repoUrl": self.repository(), "completionAction": action,
            "after": after, "isOrchestrator": is_orchestrator,
        });
        let mut also = |name: &str, value: Option<Value>| {
            if let (Some(value), Some(fields)) = (value, task.as_object_mut()) {
                fields.insert(name.to_owned(), value);
            }
        };
        also("continueFromTaskId", goes_on.map(Value::from));
        also("parentTaskId", parent.map(Value::from));
        also("depth", parent.map(|_| 1.into()));
        // Subtasks begin where their orchestrator stands.
        also("baseBranch", parent.is_none().then(|| INTO.into()));
        also("targetBranch", parent.is_none().then(|| INTO.into()));
        self.ledger.note(&format!("asks for {id}, {name}, after {after:?}, going on from {goes_on:?}"));
        self.ledger.count(|counts| counts.tasks += 1);
        self.ask("POST", "/api/v1/tasks", &task).map(drop)
    }

    /// All tasks.
    pub(crate) fn tasks(&self) -> Result<Vec<Value>, Failure> {
        let tasks = self.ask("GET", "/api/v1/tasks", &Value::Null)?;
        Ok(tasks.as_array().cloned().unwrap_or_default())
    }

    /// Has the work of a task that has ended handed over, as it was not by itself.
    pub(crate) fn hand_over(&self, id: &str, action: &str) -> Result<(), Failure> {
        let body = json!({ "action": action, "targetBranch": INTO });
        loop {
            let answer = self.ask("POST", &format!("/api/v1/tasks/{id}/completion?wait=60"), &body)?;
            self.ledger.note(&format!("{action} of {id}: {answer}"));
            if answer["success"] == true {
                return Ok(());
            }
            self.pause(&format!("the work of {id}, which is not handed over: {answer}"))?;
        }
    }
}
