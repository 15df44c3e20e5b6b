//! What is asked of git beside a worktree and a commit: checks, merges, handing work over.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::{SecretId, TaskId};
use crate::policy::{BranchName, CommitText, RepositoryUrl};

/// Checks to be run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// Commands of a shell.
    pub commands: Vec<String>,
    /// Variables beside the ordinary ones.
    pub env: Vec<(String, String)>,
}

/// Something about merging branches in a task's worktree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Merge {
    /// Tell the branches of the task's subtasks: of these, and of those that bear the task in a commit's trailer.
    List {
        /// The subtasks that are known.
        children: Vec<Child>,
    },
    /// Merge a branch into the worktree, without committing.
    Start {
        /// Which branch.
        source: Source,
    },
    /// Tell how the merge stands.
    Status,
    /// Settle one conflicted file.
    Resolve {
        /// Which.
        file: String,
        /// By which side.
        side: Side,
    },
    /// Commit the merge, put the branch at it and bring it into the bare repository.
    Commit {
        /// The whole message; none for one that says what was merged.
        message: Option<String>,
        /// Name and value of each trailer.
        trailers: Vec<(&'static str, String)>,
    },
    /// Put everything where it was before the merge.
    Abort,
    /// Write down that a subtask is meant not to be merged.
    Skip {
        /// Which. Where it is none of the task's, this is not done.
        child: Child,
        /// Why.
        reason: String,
    },
}

impl Merge {
    /// Whether it changes anything.
    #[must_use]
    pub const fn changes(&self) -> bool {
        !matches!(self, Self::List { .. } | Self::Status)
    }
}

/// A subtask, as far as its branch is concerned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Child {
    /// Which.
    pub task: TaskId,
    /// The branch of its work; none where only its id is known.
    pub branch: Option<BranchName>,
    /// Whether it has ended. Before that it is never merged.
    pub ended: bool,
}

/// A branch to be merged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// That subtask's.
    Child(Child),
    /// A branch of the worktree's own repository, of a subtask that only its trailer tells of, or of the remote.
    Branch(String),
}

/// A side of a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Side {
    /// What the worktree had.
    Ours,
    /// What is being merged.
    Theirs,
}

/// Work to be handed over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Delivery {
    /// How.
    pub deed: Deed,
    /// The user's repository on this machine; none where the work is for the remote that it came from.
    pub target: Option<String>,
    /// Where the work came from.
    pub repository: Option<RepositoryUrl>,
    /// The secret that its URL bore.
    pub credentials: Option<SecretId>,
    /// The branch of the work.
    pub branch: BranchName,
    /// Its tip; none for where the work stands by now. Where the task has changed nothing, that is what is said, and it is
    /// no failure.
    pub commit: Option<String>,
    /// The branch that a merge or a pull request goes to; none for the target's current one, and for a pull request
    /// the one that the work started from, else the default one.
    pub into: Option<String>,
    /// The branch that the work was to start from.
    pub base: Option<String>,
    /// What a commit of ours says, and a pull request.
    pub text: CommitText,
}

impl Delivery {
    /// Why it cannot be done, where that is plain from what was asked for.
    #[must_use]
    pub const fn refusal(&self) -> Option<&'static str> {
        match (self.deed, &self.target, &self.repository) {
            (_, Some(_), _) | (Deed::Pr, None, Some(_)) => None,
            (Deed::Branch, None, _) => Some("`branch` needs a repository on this machine, and none was named"),
            (Deed::Merge, None, _) => Some("`merge` needs a repository on this machine, and none was named"),
            (Deed::Pr, None, None) => Some("`pr` needs a repository, and none was named"),
        }
    }
}

/// How work is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Deed {
    /// The branch is put into the target.
    Branch,
    /// It is merged into a branch of the target.
    Merge,
    /// A pull request is opened for it.
    Pr,
}
