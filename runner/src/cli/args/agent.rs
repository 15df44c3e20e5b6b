//! Which agent, and what it may do.

use clap::Args;
use makima_core::agent::Policy;

use crate::config::{Flags, mode, policy};
use crate::sandbox::Mode;

#[derive(Debug, Args)]
pub(in crate::cli) struct AgentArgs {
    /// Which agent: claude, acp:COMMAND, or shell, which runs the plan as a script [default: `agent` in config.toml, else claude
    /// where it is installed]
    #[arg(long, value_name = "AGENT")]
    pub(in crate::cli) agent: Option<String>,
    /// What it may do: ask, accept-edits or full [default: `permissions` in config.toml, else full in a sandbox; without one ask
    /// where a single task is followed at a terminal, and accept-edits elsewhere: under a daemon, with --tasks]
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    pub(in crate::cli) permissions: Option<Policy>,
    /// Whether it is fenced in: off, auto (where it can be) or required [default: `sandbox` in config.toml, else auto]
    #[arg(long, value_name = "MODE", env = "MAKIMA_SANDBOX", value_parser = mode)]
    pub(in crate::cli) sandbox: Option<Mode>,
}

impl AgentArgs {
    pub(in crate::cli) fn flags(&self) -> Flags<'_> {
        Flags { agent: self.agent.as_deref(), permissions: self.permissions, sandbox: self.sandbox }
    }
}
