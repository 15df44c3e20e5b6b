//! Going on with what another task's agent was told, and did.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::TaskId;

/// The conversation of another task's agent, for one that goes on with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conversation {
    /// Its name for the agent: the id of the task with which it began.
    pub id: TaskId,
    /// The agent's own name for it, where it makes that up.
    #[serde(default)]
    pub session: Option<String>,
    /// How it is gone on with.
    pub how: GoingOn,
    /// What it was about, for an agent that may not be able to go on with it: it is told that then.
    #[serde(default)]
    pub plan: Option<String>,
    /// What was said in it that its agent had not done with, in order. It is said again under the same names, and who has taken
    /// it up does not do so once more.
    pub left: Vec<Utterance>,
}

/// How a conversation is gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GoingOn {
    /// It begins, unless it is found: nothing of what was said in it was done with.
    Begins,
    /// Where it ended.
    Resumes,
    /// By a second one that branches off, as somebody goes on with the first.
    Forks,
}

/// What an agent is told under a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Utterance {
    /// Its name for the agent.
    pub name: Uuid,
    /// What it says.
    pub text: String,
}

/// What an agent is told that is to go on, where nobody says with what.
pub(crate) const GO_ON: &str = "Go on where you were.";
