//! What the core is told once, when it is made. No secrets.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::allowance::Allowance;
use crate::retain::Keep;

/// The daemon's settings, as far as they concern the core.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Config {
    /// This machine, for good.
    pub machine_id: String,
    /// This machine, for people.
    pub hostname: String,
    /// How many tasks may run at once; at least 1.
    pub max_tasks: u32,
    /// The daemon's working directory.
    pub working_directory: String,
    /// Where finished work is cloned to.
    pub home_directory: String,
    /// One folder per task.
    pub worktrees_directory: String,
    /// Where the server answers the mesh API, for the agents of orchestrators.
    #[serde(default)]
    pub api_url: String,
    /// The daemon's own program, by which agents reach that.
    #[serde(default)]
    pub program: String,
    /// For how long what has ended is kept.
    #[serde(default)]
    pub keep: Keep,
    /// Which agent runs the tasks that are taken on, and how.
    #[serde(default)]
    pub agent: Agent,
    /// What a task may use up.
    #[serde(default, skip_serializing_if = "Allowance::is_none")]
    pub allowance: Allowance,
    /// End after one session.
    pub once: bool,
    /// Where the wire leaves a meaning open: how it is read.
    pub compat: Compat,
}

/// How the open places of the wire are read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Compat {
    /// The codes of an `error` before `authenticated` that mean that the key is refused. Compared without
    /// case, `-` and `_` being the same.
    pub refused_codes: Vec<String>,
    /// Whether `continueFromTaskId` goes on with the conversation of that task's agent too, and not with its worktree only. In
    /// version 2 of the wire it always does.
    #[serde(default)]
    pub continues_conversation: bool,
}

impl Default for Compat {
    fn default() -> Self {
        let codes = [
            "unauthorized",
            "unauthenticated",
            "forbidden",
            "invalid_key",
            "invalid_api_key",
            "invalid_token",
            "invalid_credentials",
            "auth_failed",
            "authentication_failed",
            "auth_error",
            "bad_key",
            "401",
            "403",
        ];
        Self { refused_codes: codes.iter().map(ToString::to_string).collect(), continues_conversation: false }
    }
}

impl Compat {
    /// Whether this code says that the key is refused.
    #[must_use]
    pub fn refuses_key(&self, code: &str) -> bool {
        let same = |known: &str| {
            let fold = |c: char| if c == '-' { '_' } else { c.to_ascii_lowercase() };
            known.chars().map(fold).eq(code.trim().chars().map(fold))
        };
        self.refused_codes.iter().any(|known| same(known))
    }
}
