//! What the tools are given. The comments are what a model reads of each.

use rmcp::schemars::{self, JsonSchema};
use serde::Deserialize;

use crate::mesh::Until;

/// How long a wait is where nobody says.
const USUAL_WAIT: u64 = 60;

/// How many lines of output are shown where nobody says.
const USUAL_LINES: u32 = 100;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Spawn {
    /// A short name for the subtask, unlike those of the others.
    pub(super) name: String,
    /// What its agent is to do. It has to stand alone: the agent knows nothing of your conversation.
    pub(super) plan: String,
    /// Subtasks that have to end well before this one begins: ids, or names.
    #[serde(default)]
    pub(super) after: Vec<String>,
    /// The branch, tag or commit that its worktree starts from. Left out: where the repository itself starts tasks.
    #[serde(default)]
    pub(super) base_branch: Option<String>,
    /// Files of your worktree, by their paths in it, that are copied into its own.
    #[serde(default)]
    pub(super) copy_files: Vec<String>,
    /// Whether it leads subtasks of its own.
    #[serde(default)]
    pub(super) leads: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// The subtask: its id, the beginning of it, or its name where no other is called so.
    pub(super) id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Output {
    /// The subtask: its id, the beginning of it, or its name where no other is called so.
    pub(super) id: String,
    /// How many lines from the end.
    #[serde(default = "usual_lines")]
    #[schemars(range(min = 1))]
    pub(super) last_lines: u32,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Message {
    /// The subtask: its id, the beginning of it, or its name where no other is called so.
    pub(super) id: String,
    /// What its agent is told.
    pub(super) message: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Interrupt {
    /// The subtask: its id, the beginning of it, or its name where no other is called so.
    pub(super) id: String,
    /// True asks its agent to end; false kills it at once. Its work is committed either way.
    #[serde(default = "yes")]
    pub(super) graceful: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// The subtasks, by id or name. Left out or empty: all that you have spawned.
    #[serde(default)]
    pub(super) ids: Vec<String>,
    /// `all`: until all have ended. `any`: until one ends that has not ended yet.
    #[serde(default)]
    pub(super) mode: Mode,
    /// How long at most.
    #[serde(default = "usual_wait")]
    #[schemars(range(max = 600))]
    pub(super) seconds: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Mode {
    Any,
    #[default]
    All,
}

impl From<Mode> for Until {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Any => Self::Any,
            Mode::All => Self::All,
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    /// The branch, as list_branches names it; or its subtask, by name or id.
    pub(super) branch: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resolve {
    /// The file, as merge_start or merge_status names it.
    pub(super) file: String,
    /// `ours` keeps the file as your worktree has it, `theirs` takes it as the subtask has it.
    pub(super) strategy: Strategy,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Strategy {
    Ours,
    Theirs,
}

impl Strategy {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Theirs => "theirs",
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Commit {
    /// The commit's message. Left out: one that names the branch.
    #[serde(default)]
    pub(super) message: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Skip {
    /// The subtask: its id, the beginning of it, or its name where no other is called so.
    pub(super) subtask_id: String,
    /// Why its branch is not merged.
    pub(super) reason: String,
}

const fn usual_lines() -> u32 {
    USUAL_LINES
}

const fn usual_wait() -> u64 {
    USUAL_WAIT
}

const fn yes() -> bool {
    true
}
