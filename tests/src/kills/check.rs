//! What must be true of a task that has ended, by the server's own store, the agent's own marks, and git.

use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, test_kill_process};
use serde_json::Value;

use super::Failure;
use super::agents::Agent;
use super::fleet::Fleet;
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
    let events = fleet.get(&format!("/api/v1/tasks/{id}/events"))?;
    let ends = events.lines().filter(|line| *line == "event: end").count();
    if ends != 1 {
        wrong(format!("it has {ends} ends"));
    }
    let text = fleet.get(&format!("/api/v1/tasks/{id}/output"))?;
    let heard = output::read(agent, &text).unwrap_or_else(|why| {
        wrong(why);
        Heard::default()
    });
    match starts(&fleet.root, id)?.as_slice() {
        [pid] if runs(*pid, id) => wrong(format!("its agent, process {pid}, still runs")),
        [_] => {}
        all => wrong(format!("its agent was started {} times: {all:?}", all.len())),
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

/// The processes that its agent says it was.
fn starts(root: &Path, id: &str) -> Result<Vec<i32>, Failure> {
    let text = std::fs::read_to_string(root.join("marks").join(id)).unwrap_or_default();
    text.lines().map(|line| Ok(line.strip_prefix("started ").ok_or("a mark that is none")?.parse()?)).collect()
}

/// Whether that process runs, and is this task's.
fn runs(pid: i32, id: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
        && environment.windows(id.len()).any(|window| window == id.as_bytes())
}

/// What stands on a branch in `progress`.
fn kept(repository: &Path, branch: &str) -> Result<String, Failure> {
    let output = Command::new("git")
        .args(["show", &format!("{branch}:progress")])
        .current_dir(repository)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
