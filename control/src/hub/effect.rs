//! What the hub puts out.

use makima_core::protocol::{DaemonCommand, SpawnTask};
use makima_core::time::Millis;
use uuid::Uuid;

use super::SessionId;

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Tell this to that daemon, once every record before it is on disk.
    Send {
        /// Over which connection.
        session: SessionId,
        /// What.
        command: Box<DaemonCommand>,
    },
    /// End this connection: a newer one has taken its place.
    Close {
        /// Which.
        session: SessionId,
    },
    /// Keep this. Whoever follows its task is woken once it is on disk.
    Record(Record),
    /// A task's output has grown: keep that, too.
    Output {
        /// Which task.
        task: Uuid,
        /// Where in the task's output this begins, in bytes.
        offset: u64,
        /// By what.
        text: String,
    },
}

/// One thing to keep.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A daemon is new, or something about it is.
    Daemon {
        /// Its name here.
        id: Uuid,
        /// The machine, for good.
        machine: String,
        /// The machine, for people.
        hostname: String,
        /// How many tasks it runs at once.
        max_tasks: i32,
        /// When it was last heard.
        seen: Millis,
    },
    /// A task is new.
    Task {
        /// Its place in the order in which tasks came.
        seq: u64,
        /// What people call it.
        name: String,
        /// The whole of it.
        spawn: Box<SpawnTask>,
        /// When it came.
        created: Millis,
    },
    /// A task has been given to a daemon, for good.
    Assigned {
        /// Which task.
        task: Uuid,
        /// Which daemon.
        daemon: Uuid,
    },
    /// Somebody wants a task ended.
    Interrupt {
        /// Which task.
        task: Uuid,
        /// At once, or gently.
        forced: bool,
    },
    /// A task's branch is known.
    Branch {
        /// Which task.
        task: Uuid,
        /// Its branch.
        branch: String,
    },
    /// Something happened to a task.
    Event {
        /// Which task.
        task: Uuid,
        /// Its number among that task's events, from 1.
        n: u64,
        /// How much output the task had by then, in bytes: events and output have one order.
        offset: u64,
        /// When.
        time: Millis,
        /// What.
        event: Event,
    },
}

/// What can happen to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its status is another one now.
    Status {
        /// What it was.
        from: String,
        /// What it is.
        to: String,
    },
    /// A step, for people.
    Progress {
        /// The step.
        summary: String,
    },
    /// Its completion action went like this.
    Completion {
        /// Whether it was done.
        success: bool,
        /// For people.
        message: String,
        /// The pull request's page.
        pr_url: Option<String>,
    },
    /// It has ended. A task has at most one of these, and nothing after it.
    End(End),
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its status from now on.
    pub status: String,
    /// Whether the agent did what it was to do.
    pub success: bool,
    /// Why not.
    pub error: Option<String>,
}

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was taken.
    Done,
    /// A task with this id is there already; nothing was done.
    Known,
    /// There is no such task.
    NoSuchTask,
    /// That task has ended.
    Ended,
    /// It made no sense here, or was no news.
    Ignored,
    /// The connection that it came over is over, or another has taken its place: it was not heard.
    Over,
}
