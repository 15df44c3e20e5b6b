//! Agents: how each kind is started, spoken to and asked to stop, and what its end means.

mod shell;

use alloc::string::String;

use crate::effect::Launch;
use crate::input::ExitStatus;

/// How an agent's run went, by its own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Result {
    Success,
    Failure(String),
}

/// The command line that starts the agent.
pub(crate) fn launch() -> Launch {
    shell::launch()
}

/// A user's message, as the agent reads it on its standard input.
pub(crate) fn message(text: &str) -> String {
    shell::message(text)
}

/// What the end of the agent's process means.
pub(crate) fn result(status: ExitStatus) -> Result {
    shell::result(status)
}
