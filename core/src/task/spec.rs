//! What a task is asked to do, and how it can end. These are written to disk: they are not the wire's types.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::agent::{Agent, Conversation, GO_ON, GoingOn};
use crate::allowance::Allowance;
use crate::effect::Deed;
use crate::id::{SecretId, TaskId};
use crate::limits;
use crate::policy::{self, BranchName, InnerPath, RepositoryUrl, cut};

/// What an agent is told first that was to go on with a conversation, and has to begin another.
const ANEW: &str = "What follows was asked before, in a conversation that is not there any more. What was done about it by then is in \
                    the files. After it comes what is asked now.";

/// What was asked for, after the rules have been applied to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spec {
    /// Which task.
    pub id: TaskId,
    /// What people call it; never empty.
    pub name: String,
    /// What the agent is to do.
    pub plan: String,
    /// Where the work starts from; none for an empty repository.
    pub repository: Option<RepositoryUrl>,
    /// The secret that its URL bore.
    pub credentials: Option<SecretId>,
    /// The branch, tag or full commit id to start from; none for the default branch.
    pub base: Option<String>,
    /// The task whose commits and uncommitted files the work starts from, before all else.
    #[serde(default)]
    pub continues: Option<TaskId>,
    /// The conversation of that task's agent, where it is gone on with too.
    #[serde(default)]
    pub conversation: Option<Conversation>,
    /// Files to bring along from the parent's worktree.
    #[serde(default)]
    pub copy: Vec<InnerPath>,
    /// The branch of the work.
    pub branch: BranchName,
    /// The task whose subtask it is.
    pub parent: Option<TaskId>,
    /// How deep it stands under the top: 0 is the top.
    pub depth: i32,
    /// Whether it spawns subtasks and merges their branches.
    #[serde(default)]
    pub orchestrator: bool,
    /// Which agent does it, and how.
    #[serde(default)]
    pub agent: Agent,
    /// What it may use up.
    #[serde(default, skip_serializing_if = "Allowance::is_none")]
    pub allowance: Allowance,
    /// What is done with the work.
    pub action: Action,
    /// The user's own repository that the action is for; none for the one that `repository` names.
    pub target: Option<String>,
    /// The branch of it that a merge or a pull request goes to.
    #[serde(default)]
    pub into: Option<String>,
}

impl Spec {
    /// What is wanted of its agent, with what was wanted of those that it goes on for.
    pub(crate) fn all_plans(&self) -> String {
        let before = self.conversation.as_ref().and_then(|conversation| conversation.plan.as_deref());
        let own = Some(self.plan.as_str()).filter(|plan| *plan != GO_ON);
        let both: Vec<&str> = before.into_iter().chain(own).collect();
        cut(&both.join("\n\n"), limits::MESSAGE_BYTES)
    }

    /// What its agent is told where nothing of what was said before is known to it: its plan behind what was wanted then, unless
    /// that is said anyway.
    pub(crate) fn plan_anew(&self) -> String {
        let Some(Conversation { plan: Some(before), left, .. }) = &self.conversation else { return self.plan.clone() };
        if left.iter().any(|said| before.contains(&said.text)) {
            return self.plan.clone();
        }
        format!("{ANEW}\n\n{before}\n\n{}", self.plan)
    }

    /// The name of its conversation for its agent.
    pub(crate) fn session(&self) -> TaskId {
        match &self.conversation {
            Some(Conversation { id, how: GoingOn::Begins | GoingOn::Resumes, .. }) => *id,
            Some(Conversation { how: GoingOn::Forks, .. }) | None => self.id,
        }
    }
}

/// What is done with the work once it is committed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Nothing: it stays in the daemon's own repository.
    None,
    /// The branch is put into the target.
    Branch,
    /// The branch is merged into one of the target's.
    Merge,
    /// A pull request is opened for it.
    Pr,
    /// Something that this version cannot do. It fails with its name; the work is kept.
    Other(String),
}

impl Action {
    /// Reads what the wire calls it; an absent one is none.
    #[must_use]
    pub fn read(name: Option<&str>) -> Self {
        match name {
            None | Some("" | "none") => Self::None,
            Some("branch") => Self::Branch,
            Some("merge") => Self::Merge,
            Some("pr") => Self::Pr,
            Some(other) => Self::Other(policy::shorten(other, limits::NAME_SHOWN)),
        }
    }

    /// How the work is handed over by it, if it is.
    ///
    /// # Errors
    /// The name of one that this version cannot do.
    pub fn deed(&self) -> Result<Option<Deed>, &str> {
        match self {
            Self::None => Ok(None),
            Self::Branch => Ok(Some(Deed::Branch)),
            Self::Merge => Ok(Some(Deed::Merge)),
            Self::Pr => Ok(Some(Deed::Pr)),
            Self::Other(name) => Err(name),
        }
    }
}

/// A task's status, as the wire tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Taken on; waits for its turn.
    Pending,
    /// Its worktree is being made.
    Preparing,
    /// Its agent is at work.
    Running,
    /// Its agent is stopped where it stands, or waits to be started.
    Paused,
    /// The agent has ended; its work is brought in.
    Finishing,
    /// Ended well.
    Done,
    /// Ended badly.
    Failed,
    /// Ended because somebody asked for it.
    Interrupted,
}

impl Status {
    /// Whether nothing comes behind it.
    #[must_use]
    pub const fn is_end(self) -> bool {
        match self {
            Self::Pending | Self::Preparing | Self::Running | Self::Paused | Self::Finishing => false,
            Self::Done | Self::Failed | Self::Interrupted => true,
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finishing => "finishing",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct End {
    /// Which end.
    pub status: EndStatus,
    /// Why, where it did not end well.
    pub error: Option<String>,
    /// How its completion action went, where it had one.
    pub completion: Option<Completion>,
    /// Where its output log ends.
    pub log_end: u64,
}

/// The three ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndStatus {
    /// The agent did what it was to do.
    Done,
    /// It did not, or could not.
    Failed,
    /// Somebody asked for it.
    Interrupted,
}

impl From<EndStatus> for Status {
    fn from(end: EndStatus) -> Self {
        match end {
            EndStatus::Done => Self::Done,
            EndStatus::Failed => Self::Failed,
            EndStatus::Interrupted => Self::Interrupted,
        }
    }
}

/// How a completion action went.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Completion {
    /// Whether it was done.
    pub success: bool,
    /// For people.
    pub message: String,
    /// Where to look at the pull request, if there is one.
    #[serde(default)]
    pub url: Option<String>,
}

impl Completion {
    /// How the action of a task went that has changed nothing, if it has one.
    pub(super) fn of_nothing(action: &Action) -> Option<Self> {
        let (success, message) = match action.deed() {
            Ok(None) => return None,
            Ok(Some(_)) => (true, "no changes".to_string()),
            Err(name) => (false, no_action(name)),
        };
        Some(Self { success, message, url: None })
    }
}

/// Why an action that is not known is not done.
pub(super) fn no_action(name: &str) -> String {
    format!("`{name}` is not an action that makima can do")
}
