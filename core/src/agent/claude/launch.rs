//! How Claude Code is started.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::talk::dollars;
use crate::agent::{Claude, GoingOn, Policy, TOOLS, TOOLS_WORD, Tools};
use crate::allowance::Then;
use crate::effect::Arg;
use crate::input::Prepared;
use crate::task::Spec;

/// Its command line. The name of its conversation is that of the task with which it began: so it can be gone on with by
/// whoever knows the task. `tools`: what offers it tools to lead subtasks by.
pub(crate) fn argv(how: &Claude, spec: &Spec, prepared: &Prepared, tools: Option<&Tools>) -> Vec<Arg> {
    let Claude { program, model, permissions } = how;
    let mut words: Vec<Arg> = program.iter().cloned().map(Arg::Text).collect();
    words.extend(conversation(spec, prepared.recalled.is_some()));
    let mut say = |word: &str| words.push(Arg::Text(word.to_string()));
    for word in ["-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"] {
        say(word);
    }
    // What it takes up it says; versions from 2.1.3 on say more.
    say("--replay-user-messages");
    match permissions.policy {
        Policy::Full => say("--dangerously-skip-permissions"),
        Policy::Ask | Policy::AcceptEdits => {
            let mode = if permissions.policy == Policy::Ask { "default" } else { "acceptEdits" };
            for word in ["--permission-prompt-tool", "stdio", "--permission-mode", mode] {
                say(word);
            }
        }
    }
    let mut allow = permissions.allow.clone();
    if let Some(tools) = tools {
        // What is not named here it hands on by itself: the key.
        let env: Value = tools.variables().into_iter().collect();
        let server = json!({ "type": "stdio", "command": tools.program, "args": [TOOLS_WORD], "env": env });
        say(&format!("--mcp-config={}", json!({ "mcpServers": { TOOLS: server } })));
        allow.push(format!("mcp__{TOOLS}"));
    }
    for (flag, rules) in [("--allowedTools=", &allow), ("--disallowedTools=", &permissions.deny)] {
        if !rules.is_empty() {
            say(&(flag.to_string() + &rules.join(",")));
        }
    }
    if let Some(most) = spec.allowance.cost.filter(|_| spec.allowance.then == Then::End) {
        // It sees what a turn costs while that runs. Past this it does nothing more: who may get as much again is not told.
        say("--max-budget-usd");
        say(dollars(most).trim_start_matches('$'));
    }
    if let Some(model) = model {
        say("--model");
        say(model);
    }
    words
}

/// Which conversation it is. One that was found is gone on with, also where nothing was heard of it.
fn conversation(spec: &Spec, is_there: bool) -> Vec<Arg> {
    let text = |word: &str| Arg::Text(word.to_string());
    let name = text(&spec.session().to_string());
    match spec.conversation.as_ref().map(|conversation| (conversation.how, conversation.id)) {
        Some((GoingOn::Begins, id)) if is_there => Vec::from([text("--resume"), Arg::Conversation(id)]),
        Some((GoingOn::Resumes, id)) => Vec::from([text("--resume"), Arg::Conversation(id)]),
        None | Some((GoingOn::Begins, _)) => Vec::from([text("--session-id"), name]),
        Some((GoingOn::Forks, id)) => {
            Vec::from([text("--resume"), Arg::Conversation(id), text("--fork-session"), text("--session-id"), name])
        }
    }
}

/// Variables that it needs. An agent that changes its program while many of them run is nobody's wish; and for the
/// superuser it does everything only where it is told that it cannot do harm, which `full` says.
pub(crate) fn variables(how: &Claude) -> Vec<(&'static str, &'static str)> {
    let mut variables = Vec::from([("DISABLE_AUTOUPDATER", "1")]);
    if how.permissions.policy == Policy::Full {
        variables.push(("IS_SANDBOX", "1"));
    }
    variables
}
