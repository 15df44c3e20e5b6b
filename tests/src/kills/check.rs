//! What must be true of a task that has ended, by the server's own store, the agent's own marks, and git.

use std::path::Path;

use makima_tests::real::{Failure, Fleet, Marks, git};
use serde_json::Value;

use super::agents::Agent;
use super::output::{self, Heard};

/// A task that was asked for.
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) agent: Agent,
    pub(crate) is_checked: bool,
}

/// Checks a task that has ended. What is wrong with it goes to `faults`.
pub(crate) fn ended(fleet: &Fleet, asked: &Asked, task: &Value, faults: &mut Vec<String>) -> Result<Heard, Failure> {
    let Asked { id, agent, .. } = asked;
    let mut wrong = |what: String| faults.push(format!("task {id}: {what}"));
    let success = agent.code == 0;
    let error = (!success).then(|| format!("the script ended with exit code {}", agent.code));
    if (task["success"].as_bool(), task["error"].as_str()) != (Some(success), error.as_deref()) {
        wrong(format!("its agent ends with exit code {}, and it ended so: {task}", agent.code));
    }
    let events = fleet.api.get(&format!("/api/v1/tasks/{id}/events"))?;
    let ends = events.lines().filter(|line| *line == "event: end").count();
    if ends != 1 {
        wrong(format!("it has {ends} ends"));
    }
    let text = fleet.api.get(&format!("/api/v1/tasks/{id}/output"))?;
    let heard = output::read(&agent.lines, &text).unwrap_or_else(|why| {
        wrong(why);
        Heard::default()
    });
    let marks = Marks::read(&fleet.root.join("marks"), id)?;
    if let Some(pid) = marks.running(id) {
        wrong(format!("its agent, process {pid}, still runs"));
    }
    if marks.started.len() != 1 {
        wrong(format!("its agent was started {} times: {:?}", marks.started.len(), marks.started));
    }
    match task["branch"].as_str() {
        None => wrong("it has no branch".to_owned()),
        Some(branch) => match kept(&fleet.root.join("repository"), branch) {
            Ok(work) if work == agent.work() => {}
            Ok(work) => wrong(format!("{branch} holds {work:?} instead of {:?}", agent.work())),
            Err(why) => wrong(format!("{branch}: {why}")),
        },
    }
    Ok(heard)
}

/// What stands on a branch in `progress`.
fn kept(repository: &Path, branch: &str) -> Result<String, Failure> {
    git(repository, &["show", &format!("{branch}:progress")])
}
