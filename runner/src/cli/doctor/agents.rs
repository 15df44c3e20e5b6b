//! The agents' programs.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use makima_core::agent::{Acp, Agent, Claude};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::Check;
use crate::config::{self, ConfigFile, find};
use crate::report::Failure;

/// For a program to say which version it is.
const VERSION: Duration = Duration::from_secs(5);

/// The versions of Claude Code that all tests are done with.
const TESTED: [&str; 2] = ["2.1.197", "2.1.330"];

/// Bytes of that which are read.
const SAID: u64 = 4 << 10;

pub(super) async fn agents(file: &ConfigFile) -> Vec<Check> {
    let shell = match find("sh") {
        Some(path) => Check::ok("agent shell", path.display().to_string()),
        None => Check::fail("agent shell", "there is no `sh` on PATH", "set PATH so that a shell is found"),
    };
    let is_named = file.agent_name().is_some() || !file.agent_command().is_empty();
    let mut file = file.clone();
    let agent = file.settle_permissions(false).and_then(|()| config::agent(&file));
    let command = match &agent {
        // What is in a container cannot be asked from here.
        Ok(Agent::Claude(claude)) if file.wrap().is_empty() => claude.program.clone(),
        Ok(_) | Err(_) => vec!["claude".to_owned()],
    };
    let mut checks = vec![shell, claude(&command).await];
    if is_named {
        checks.push(configured(agent, !file.wrap().is_empty()));
    }
    checks
}

/// Claude Code, which this command line starts.
async fn claude(command: &[String]) -> Check {
    let found = command.split_first().and_then(|(program, words)| Some((config::program(program)?, words)));
    let Some((path, words)) = found else {
        return Check::ok("agent claude", "there is no `claude` on PATH");
    };
    match version(&path, words).await {
        Ok(said) => Check::ok("agent claude", format!("{said} ({}){}", path.display(), tested(&said))),
        Err(why) => {
            let help = format!("try `{} --version`", command.join(" "));
            Check::warn("agent claude", format!("{}: {why}", path.display()), help)
        }
    }
}

/// The agent that the configuration names: whether it can be started, and what it may do.
fn configured(agent: Result<Agent, Failure>, is_wrapped: bool) -> Check {
    let agent = match agent {
        Ok(agent) => agent,
        Err(failure) => return Check::of("agent", failure),
    };
    let command = match &agent {
        Agent::Claude(Claude { program, .. }) | Agent::Acp(Acp { program, .. }) => program.first(),
        Agent::Shell => None,
    };
    match command.filter(|program| !is_wrapped && config::program(program).is_none()) {
        Some(program) => Check::fail(
            "agent",
            format!("there is no program {program}"),
            "`command` under [agent] in config.toml says how the agent is started",
        ),
        None => Check::ok("agent", config::told(&agent)),
    }
}

/// What is known of a version of Claude Code: others are driven all the same, as what they say beside is passed over.
fn tested(said: &str) -> String {
    match said.split_whitespace().next() {
        Some(version) if TESTED.contains(&version) => String::new(),
        Some(_) | None => format!("; tested are {}", TESTED.join(" and ")),
    }
}

/// The first line that a program says of its version, whichever that is.
async fn version(program: &Path, words: &[String]) -> Result<String, String> {
    let mut command = Command::new(program);
    command
        .args(words)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
    let mut said = Vec::new();
    let answer = async {
        if let Some(out) = child.stdout.take() {
            out.take(SAID).read_to_end(&mut said).await?;
        }
        child.wait().await
    };
    let status = timeout(VERSION, answer).await;
    let status = status.map_err(|_| format!("it says no version within {} s", VERSION.as_secs()))?;
    let status = status.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&said);
    match text.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) if status.success() => Ok(line.to_owned()),
        Some(_) | None => Err(format!("asked for its version it ended with {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_no_test_knows_is_told_so() {
        assert_eq!(tested("2.1.330 (Claude Code)"), "");
        assert_eq!(tested("3.0.0 (Claude Code)"), "; tested are 2.1.197 and 2.1.330");
    }
}
