//! What a task is asked to do, and how it can end. These are written to disk: they are not the wire's types.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::{SecretId, TaskId};
use crate::policy::{BranchName, RepositoryUrl};

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
    /// The branch of the work.
    pub branch: BranchName,
    /// The task whose subtask it is.
    pub parent: Option<TaskId>,
    /// How deep it stands under the top: 0 is the top.
    pub depth: i32,
    /// What is done with the work.
    pub action: Action,
    /// The user's own repository that the action is for; none for the one that `repository` names.
    pub target: Option<String>,
}

/// What is done with the work once it is committed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Nothing: it stays in the daemon's own repository.
    None,
    /// The branch is put into the target.
    Branch,
    /// Something that this version cannot do. It fails with its name; the work is kept.
    Other(String),
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
            Self::Pending | Self::Preparing | Self::Running | Self::Finishing => false,
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
}
