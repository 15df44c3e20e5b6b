//! The mesh: what an agent that leads others asks of the server. It shows the key of its task, which opens that task, the
//! subtasks below it, and nothing else.

#[cfg(test)]
pub(crate) mod fake;
mod names;
mod tail;
#[cfg(test)]
mod tests;

use std::time::Duration;

use makima_core::protocol::{BranchList, MergeCompleteCheck, MergeResult, MergeStatusResponse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use uuid::Uuid;

pub use self::tail::Tail;
use crate::report::{FAILED, Failure, KEY_REFUSED, NOT_REACHED};
use crate::rest::{Question, Rest, RestError, Task};
use crate::service::server_endpoint;

/// The longest that the server lets itself be asked to wait, in seconds.
pub const LONGEST_WAIT: u64 = 600;

/// What the variable of the environment is called that says where the server is.
const URL: &str = "MAKIMA_API_URL";
/// The one with the key of the task.
const KEY: &str = "MAKIMA_TOOL_KEY";
/// The one that says which task it is.
const TASK: &str = "MAKIMA_TASK_ID";

const WHOSE: &str = "makima sets it for the agents that lead others, in a task of `makima run --orchestrate`; \
                     people ask with `makima task`";

/// The server, as the agent of one task sees it.
#[derive(Clone, Debug)]
pub struct Mesh {
    rest: Rest,
    task: Uuid,
}

/// A subtask that is asked for.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Subtask {
    /// Its id, which whoever asks makes up: the same one twice is one subtask.
    pub task_id: Uuid,
    /// What to call it.
    pub task_name: String,
    /// What its agent is to do.
    pub plan: String,
    /// The subtasks that have to end well before it begins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Uuid>,
    /// Where to start: a branch, a tag or a commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_branch: Option<String>,
    /// Files to bring along from the worktree of the task that leads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copy_files: Vec<String>,
    /// Whether it leads subtasks of its own.
    pub is_orchestrator: bool,
}

/// When a wait for subtasks is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When all of them have ended.
    All,
    /// When one has ended that had not when the wait began, or none is left that could.
    Any,
}

/// How a wait went.
#[derive(Clone, Debug, Deserialize)]
pub struct Waited {
    /// Whether it came to what was waited for.
    pub over: bool,
    /// The tasks that were waited for, as they stand.
    pub tasks: Vec<Task>,
}

/// What the daemon is asked about the branches of the subtasks, and what it does with them in the worktree of the task that
/// leads.
#[derive(Clone, Debug)]
pub enum Merge<'a> {
    /// What there is to merge.
    Branches,
    /// Merge this branch, without a commit.
    Start(&'a str),
    /// How the merge stands.
    Status,
    /// Settle a file by one side: `ours` or `theirs`.
    Resolve(&'a str, &'a str),
    /// Commit it, with this message or the usual one.
    Commit(Option<&'a str>),
    /// Take it back.
    Abort,
    /// A subtask's branch is meant not to be merged; why.
    Skip(Uuid, &'a str),
    /// Whether anything is left to merge.
    Check,
}

/// An answer that can be shown as it came, and read.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// As the server gave it.
    pub text: String,
    /// What it says.
    pub body: T,
}

/// Why something of the mesh was not done.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The server is away, or will not.
    #[error(transparent)]
    Server(#[from] RestError),
    /// The server was asked to do something, and its answer did not come: the question may have.
    #[error("{0}; it may have been done all the same: look how it stands before you ask again")]
    Lost(RestError),
    /// The daemon was asked and does not say yet.
    #[error("the daemon has not answered within {0} s; it goes on with it, so ask how it stands before you ask again")]
    NoAnswerYet(u64),
    /// It is not said which subtask is meant, or there is none like that.
    #[error("{0}")]
    Name(String),
}

impl From<MeshError> for Failure {
    fn from(error: MeshError) -> Self {
        let told = error.to_string();
        match error {
            MeshError::Name(_) => Self::unusable(told),
            MeshError::NoAnswerYet(_) => Self::failed(told),
            MeshError::Server(RestError::Away { .. }) | MeshError::Lost(_) => {
                Self::unusable(told).with_code(NOT_REACHED).hint(format!("{URL} says where it is meant to be"))
            }
            MeshError::Server(RestError::Refused { status, message }) => match status.as_u16() {
                401 => Self::unusable(format!("the server refuses the key in {KEY}: {message}"))
                    .with_code(KEY_REFUSED)
                    .hint("a task's key holds until the task ends; to a server that was started anew its daemon tells it again"),
                400 => Self::unusable(message),
                _ => Self::failed(message),
            },
            MeshError::Server(RestError::Strange { .. }) => Self::unusable(told).with_code(FAILED),
        }
    }
}

impl MeshError {
    /// Whether it may pass: the server is away or not itself, or was started anew and has not heard of the key again.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Server(RestError::Refused { status, .. }) if status.as_u16() == 401 => true,
            Self::Server(error) | Self::Lost(error) => error.is_troubled(),
            Self::NoAnswerYet(_) | Self::Name(_) => false,
        }
    }
}

/// What was to be done: an answer that did not come says nothing of whether it was.
fn done<T>(answer: Result<T, RestError>) -> Result<T, MeshError> {
    answer.map_err(|error| match error {
        RestError::Away { asked: true, .. } => MeshError::Lost(error),
        RestError::Away { .. } | RestError::Refused { .. } | RestError::Strange { .. } => MeshError::Server(error),
    })
}

/// What the environment says, or why that cannot be used.
fn variable(read: &impl Fn(&str) -> Option<String>, name: &str) -> Result<String, Failure> {
    let value = read(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    value.ok_or_else(|| Failure::unusable(format!("{name} is not set")).hint(WHOSE))
}

impl Mesh {
    /// The server, key and task that the environment names.
    ///
    /// # Errors
    /// One of them is missing, or cannot be used.
    pub fn of_environment(read: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let (url, key, id) = (variable(&read, URL)?, variable(&read, KEY)?, variable(&read, TASK)?);
        let unusable = |name: &str, why: &str| Failure::unusable(format!("{name} cannot be used: {why}")).hint(WHOSE);
        let server = server_endpoint(&url, false).map_err(|failure| unusable(URL, &failure.message))?;
        let task = Uuid::try_parse(&id).map_err(|_| unusable(TASK, &format!("`{id}` is no id of a task")))?;
        // It goes into a header; what stands there instead is not shown.
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable(KEY, "it has characters in it that no key has"));
        }
        Ok(Self { rest: Rest::new(&server, key)?, task })
    }

    /// The task that leads.
    #[must_use]
    pub const fn task(&self) -> Uuid {
        self.task
    }

    /// Asks for a subtask, and gives its id.
    ///
    /// # Errors
    /// The server is away, or will not.
    pub async fn spawn(&self, subtask: &Subtask) -> Result<Uuid, MeshError> {
        #[derive(Deserialize)]
        struct Made {
            id: Uuid,
        }
        let made: Made = done(self.rest.hand("/tasks", subtask).await)?;
        Ok(made.id)
    }

    /// All tasks below the one that leads, oldest first.
    ///
    /// # Errors
    /// The server is away, or will not.
    pub async fn list(&self) -> Result<Answer<Vec<Task>>, MeshError> {
        self.look("/tasks", 0).await
    }

    /// One task: this one, or one below it.
    ///
    /// # Errors
    /// The server is away, or will not.
    pub async fn status(&self, id: Uuid) -> Result<Answer<Task>, MeshError> {
        self.look(&format!("/tasks/{id}"), 0).await
    }

    /// The server waits so many seconds itself before it answers.
    async fn look<T: DeserializeOwned>(&self, path: &str, seconds: u64) -> Result<Answer<T>, MeshError> {
        let raw: Box<RawValue> = self.rest.look(path, Duration::from_secs(seconds)).await?;
        self.read(raw.get().to_owned())
    }

    fn read<T: DeserializeOwned>(&self, text: String) -> Result<Answer<T>, MeshError> {
        let strange = |error: serde_json::Error| RestError::Strange {
            origin: self.rest.origin().to_owned(),
            why: error.to_string(),
        };
        let body = serde_json::from_str(&text).map_err(strange)?;
        Ok(Answer { text, body })
    }

    /// What a task's agent has written so far, a piece at a time.
    ///
    /// # Errors
    /// The server is away, or will not.
    pub async fn output(&self, id: Uuid, take: impl FnMut(&str)) -> Result<(), MeshError> {
        Ok(self.rest.read_output(id, take).await?)
    }

    /// Tells a subtask's agent something. Gives what the server answers, as all of this kind do.
    ///
    /// # Errors
    /// The server is away, or will not.
    pub async fn message(&self, id: Uuid, message: &str) -> Result<String, MeshError> {
        done(self.rest.say(id, "messages", &json!({ "message": message })).await)
    }

    /// Lets a subtask stand still, or go on.
    ///
    /// # Errors
    /// The server is away, or will not.
    pub async fn hold(&self, id: Uuid, held: bool) -> Result<String, MeshError> {
        let what = if held { "pause" } else { "resume" };
        done(self.rest.say(id, what, &json!({})).await)
    }

    /// Ends a subtask: asks its agent first, or kills it at once.
    ///
    /// # Errors
    /// The server is away, or will not.
    pub async fn interrupt(&self, id: Uuid, graceful: bool) -> Result<String, MeshError> {
        done(self.rest.say(id, "interrupt", &json!({ "graceful": graceful })).await)
    }

    /// Waits for these subtasks, or for all children of the task that leads where none is named, so many seconds at most.
    ///
    /// # Errors
    /// The server is away, or will not.
    pub async fn wait(&self, until: Until, of: &[Uuid], seconds: u64) -> Result<Answer<Waited>, MeshError> {
        let mode = match until {
            Until::All => "all",
            Until::Any => "any",
        };
        let mut path = format!("/tasks/{}/wait?mode={mode}&wait={seconds}", self.task);
        if !of.is_empty() {
            let of: Vec<String> = of.iter().map(Uuid::to_string).collect();
            path.push_str(&format!("&for={}", of.join(",")));
        }
        self.look(&path, seconds).await
    }

    /// Asks the daemon about the branches of the subtasks, or has it do something with them, and waits so many seconds.
    ///
    /// # Errors
    /// The server is away, or will not; or the daemon does not say in time.
    pub async fn merge<T: MergeAnswer>(&self, step: Merge<'_>, wait: u64) -> Result<Answer<T>, MeshError> {
        let question = question(step);
        let looks = matches!(question, Question::Look(_));
        let answer = self.rest.question(self.task, question, wait).await;
        let answer = if looks { answer? } else { done(answer)? };
        self.read(answer.ok_or(MeshError::NoAnswerYet(wait))?)
    }
}

/// What a daemon answers to a [`Merge`].
pub trait MergeAnswer: DeserializeOwned {}
impl MergeAnswer for BranchList {}
impl MergeAnswer for MergeResult {}
impl MergeAnswer for MergeStatusResponse {}
impl MergeAnswer for MergeCompleteCheck {}

fn question(step: Merge<'_>) -> Question<'_> {
    match step {
        Merge::Branches => Question::Look("branches"),
        Merge::Start(branch) => Question::Do("merge", json!({ "branch": branch })),
        Merge::Status => Question::Look("merge"),
        Merge::Resolve(file, side) => Question::Do("merge/resolve", json!({ "file": file, "strategy": side })),
        Merge::Commit(message) => Question::Do("merge/commit", json!({ "message": message.unwrap_or_default() })),
        Merge::Abort => Question::Do("merge/abort", json!({})),
        Merge::Skip(id, reason) => Question::Do("merge/skip", json!({ "subtaskId": id, "reason": reason })),
        Merge::Check => Question::Look("merge/check"),
    }
}
