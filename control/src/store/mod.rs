//! What the server keeps, and what it asks of whatever keeps it.

mod codec;
mod open;
mod read;
mod sqlite;
mod write;

use std::fmt;

use futures_util::future::BoxFuture;
use makima_core::protocol::SpawnTask;
use makima_core::time::Millis;
use uuid::Uuid;

use crate::hub::{Record, Snapshot};

pub use open::OpenError;
pub use sqlite::Sqlite;

/// Bytes of one stored part of a task's output. Whoever reads a page holds a few of them.
pub const BLOCK: usize = 256 * 1024;

/// What is written together: all of it, or nothing.
#[derive(Debug, Default)]
pub struct Batch {
    /// In order.
    pub records: Vec<Record>,
    /// Each task's parts in order.
    pub output: Vec<Block>,
}

/// One part of a task's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Which task.
    pub task: Uuid,
    /// Where in the task's output it begins, in bytes.
    pub start: u64,
    /// The part; never empty, at most [`BLOCK`] bytes unless one message alone was longer.
    pub text: String,
}

impl Block {
    /// Where it ends.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start.saturating_add(u64::try_from(self.text.len()).unwrap_or(u64::MAX))
    }
}

/// A task, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    /// Which.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// How it stands.
    pub status: String,
    /// None until the end.
    pub success: Option<bool>,
    /// Why it did not end well.
    pub error: Option<String>,
    /// None until it is known that there is one.
    pub branch: Option<String>,
    /// When it came.
    pub created: Millis,
    /// When it ended.
    pub ended: Option<Millis>,
    /// What it begins after.
    pub after: Vec<Uuid>,
    /// The repository that it is for, without credentials.
    pub repository: Option<String>,
    /// What is done with its work.
    pub action: Option<String>,
    /// The task that it continues.
    pub continues: Option<Uuid>,
    /// The task whose subtask it is.
    pub parent: Option<Uuid>,
    /// What it needs a person for.
    pub person: Option<String>,
}

/// An event as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Its number among its task's events, from 1.
    pub n: u64,
    /// How much output the task had by then, in bytes.
    pub offset: u64,
    /// `status`, `progress`, `completion` or `end`.
    pub kind: String,
    /// A JSON object.
    pub data: String,
}

/// How much of a task is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Events.
    pub events: u64,
    /// Bytes of output.
    pub bytes: u64,
}

impl Head {
    /// Both only ever grow, so of two looks at one task the later one is the larger in both.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { events: self.events.max(other.events), bytes: self.bytes.max(other.bytes) }
    }
}

/// Something could not be kept or read back. For people and logs; holds nothing that was stored.
#[derive(Debug)]
pub struct StoreError(Box<dyn std::error::Error + Send + Sync>);

impl StoreError {
    /// Wraps whatever went wrong.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for StoreError {}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::new(error)
    }
}

/// What a call on a store comes to, in its time.
pub type Answering<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Keeps what the hub records.
///
/// One writer calls it; readers call it at any time and see only what was written whole.
pub trait Store: Send + Sync + 'static {
    /// Everything, to make a hub from.
    fn load(&self) -> Answering<'_, Snapshot>;

    /// Keeps a batch: on disk once this returns well, not at all otherwise.
    fn write(&self, batch: Batch) -> Answering<'_, ()>;

    /// Finds out whether writing works, by writing.
    fn probe(&self) -> Answering<'_, ()>;

    /// Every task, in the order in which they came.
    fn tasks(&self) -> Answering<'_, Vec<TaskRow>>;

    /// One task.
    fn task(&self, id: Uuid) -> Answering<'_, Option<TaskRow>>;

    /// What a task was asked to do, and after which others.
    fn asked(&self, id: Uuid) -> Answering<'_, Option<(SpawnTask, Vec<Uuid>)>>;

    /// How much there is of a task.
    fn head(&self, id: Uuid) -> Answering<'_, Head>;

    /// At most `limit` events that come after number `after`.
    fn events(&self, id: Uuid, after: u64, limit: u32) -> Answering<'_, Vec<EventRow>>;

    /// The output from byte `from`: at most `max` bytes, and some where there is any.
    fn output(&self, id: Uuid, from: u64, max: usize) -> Answering<'_, Vec<u8>>;

    /// Lets go of it. Nothing is asked of it afterwards.
    fn close(&self) -> BoxFuture<'_, ()>;
}
