//! What the hub puts out.

use makima_core::protocol::{DaemonCommand, Hello, Place, SpawnTask};
use makima_core::time::Millis;
use uuid::Uuid;

use super::{Order, QuestionId, Reply, SessionId, Words};

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
    /// Tell this under its number, once every record before it is on disk.
    Numbered {
        /// Over which connection.
        session: SessionId,
        /// The number.
        seq: u64,
        /// What.
        command: Box<DaemonCommand>,
    },
    /// Say what is no command, once every record before it is on disk.
    Tell {
        /// Over which connection.
        session: SessionId,
        /// What.
        tell: Tell,
    },
    /// End this connection: a newer one has taken its place.
    Close {
        /// Which.
        session: SessionId,
    },
    /// Tell whoever asked, once every record before it is on disk.
    Answered {
        /// What was asked.
        question: QuestionId,
        /// What came of it.
        reply: Reply,
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

/// What version 2 says beside commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tell {
    /// How we stand.
    Hello(Hello),
    /// Everything of the daemon's up to this number has been applied.
    Ack(u64),
    /// A task's output is here up to there.
    Got(Place),
    /// A task's output is wanted from there on.
    Rewind(Place),
    /// We are here.
    Pong(u64),
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
        /// What has to end well before it begins.
        after: Vec<Uuid>,
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
    /// Somebody wants a task to stand still, or to go on. Neither was told yet.
    Hold {
        /// Which task.
        task: Uuid,
        /// To stand still; none where nothing need be told.
        paused: Option<bool>,
    },
    /// Its agent is to be told this.
    Words {
        /// Which task.
        task: Uuid,
        /// What.
        words: Words,
    },
    /// That was told, or is about to be: it is not told again.
    Told {
        /// Its number.
        n: u64,
    },
    /// A task's branch is known.
    Branch {
        /// Which task.
        task: Uuid,
        /// Its branch.
        branch: String,
    },
    /// The numbers of our commands to a daemon begin anew under this epoch: none is under way, none was given out.
    Epoch {
        /// Which daemon.
        daemon: Uuid,
        /// The epoch.
        epoch: u64,
    },
    /// A command was given the next number.
    Ordered {
        /// Which daemon it is for.
        daemon: Uuid,
        /// The number.
        n: u64,
        /// What it is.
        order: Order,
    },
    /// A daemon has applied our commands up to this number: they need not be kept.
    Acked {
        /// Which daemon.
        daemon: Uuid,
        /// The number.
        n: u64,
    },
    /// A daemon's messages were applied up to this number.
    Applied {
        /// Which daemon.
        daemon: Uuid,
        /// The epoch of its numbers.
        epoch: u64,
        /// The number.
        n: u64,
    },
    /// The output that we have reaches up to there in the daemon's log, or it is not known how far. Kept along with
    /// that output.
    Placed {
        /// Which task.
        task: Uuid,
        /// The place, in the daemon's bytes.
        at: Option<u64>,
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
    /// That task has not ended yet, and would have to.
    NotEnded,
    /// No daemon has that task.
    Unassigned,
    /// This daemon has it, and is not connected.
    Away(Uuid),
    /// As many of these as there may be are open already.
    Full,
    /// It is to begin after a task that is not there.
    NoSuchNeed(Uuid),
    /// It is to begin after itself.
    NeedsItself,
    /// It would be deeper in its tree than a task may be.
    TooDeep,
    /// Its tree has as many tasks as it may have.
    TooManySubtasks,
    /// Its tree has cost what it may cost.
    OverBudget,
    /// It made no sense here, or was no news.
    Ignored,
    /// The connection that it came over is over, or another has taken its place: it was not heard.
    Over,
    /// A number came that cannot be the next: the connection is to be ended, so that it is told again.
    OutOfOrder,
    /// Our own numbers had to begin anew: the connection is to be ended, so that the next begins with them.
    Renumbered,
}

impl Answer {
    /// Whether a connection over which this came to be answered is over, or is to be.
    #[must_use]
    pub const fn ends_the_session(self) -> bool {
        match self {
            Self::Over | Self::OutOfOrder | Self::Renumbered => true,
            Self::Done
            | Self::Known
            | Self::NoSuchTask
            | Self::Ended
            | Self::NotEnded
            | Self::Unassigned
            | Self::Away(_)
            | Self::Full
            | Self::NoSuchNeed(_)
            | Self::NeedsItself
            | Self::TooDeep
            | Self::TooManySubtasks
            | Self::OverBudget
            | Self::Ignored => false,
        }
    }
}
