//! Which agent runs a task, and how it is set up.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Which agent runs a task, and how: settled when the task is taken on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Agent {
    /// The plan is a script.
    #[default]
    Shell,
    /// Claude Code.
    Claude(Claude),
    /// One that speaks the Agent Client Protocol.
    Acp(Acp),
}

/// How an agent is run that speaks the Agent Client Protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acp {
    /// The command line that starts it; never empty.
    pub program: Vec<String>,
    /// What it may do. Rules are about kinds of tools (`execute`), or about what an agent calls the use of one.
    pub permissions: Permissions,
}

/// How Claude Code is run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claude {
    /// The command line that starts it, without its options; never empty.
    pub program: Vec<String>,
    /// The model that it is to use; none for its own choice.
    pub model: Option<String>,
    /// What it may do.
    pub permissions: Permissions,
}

impl Default for Claude {
    fn default() -> Self {
        Self { program: Vec::from(["claude".into()]), model: None, permissions: Permissions::default() }
    }
}

/// What an agent may do without being told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Permissions {
    /// The rule.
    pub policy: Policy,
    /// What it may always do, in the agent's own words: `Bash(cargo test:*)`.
    pub allow: Vec<String>,
    /// What it may never do, in the same words. Goes before `allow`.
    pub deny: Vec<String>,
    /// It may do that because it is fenced in: where it is not, it is not started.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub only_fenced: bool,
}

/// What is done about what an agent wants to do and nothing allows or denies by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// A person is asked.
    Ask,
    /// It may change files in its worktree; everything else is denied.
    #[default]
    AcceptEdits,
    /// It may do everything.
    Full,
}

impl Policy {
    /// All of them, from the strictest on.
    pub const ALL: [Self; 3] = [Self::Ask, Self::AcceptEdits, Self::Full];

    /// Its name, as it stands in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::AcceptEdits => "accept-edits",
            Self::Full => "full",
        }
    }
}

/// Whose variables an agent is handed beside those that every agent is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No others.
    #[default]
    Shell,
    /// Those of Claude Code and of its libraries.
    Claude,
    /// Those by which agents find their models.
    Acp,
}

impl Kind {
    /// Whether such an agent is handed this variable beside those of [`policy::passes`](crate::policy::passes).
    #[must_use]
    pub fn passes(self, variable: &str) -> bool {
        // What a session of it tells its own tools; with those a second one takes itself for a part of the first.
        const NOT: &[&str] = &["CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_PORT", "CLAUDE_CODE_SESSION_ID"];
        const CLAUDE: &[&str] = &["ANTHROPIC_", "CLAUDE_", "DISABLE_"];
        const OTHERS: &[&str] = &["CODEX_", "GEMINI_", "GOOGLE_", "MISTRAL_", "OPENAI_", "OPENCODE_"];
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| variable.starts_with(prefix));
        let claudes = begins(CLAUDE) && !NOT.contains(&variable);
        match self {
            Self::Shell => false,
            Self::Claude => claudes,
            Self::Acp => claudes || begins(OTHERS),
        }
    }
}
