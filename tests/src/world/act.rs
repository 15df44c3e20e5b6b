//! What can happen in the world. A run is a list of these, so that it can be kept, shrunk and run again.

use serde::{Deserialize, Serialize};

/// One thing that happens. Where it is not possible just then, nothing does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Act {
    /// The server asks for a task.
    Spawn {
        /// Which one.
        task: u8,
        /// What kind of task it is.
        kind: TaskKind,
    },
    /// The server wants it to end.
    Interrupt {
        /// Which one.
        task: u8,
        /// Ask first, kill later.
        graceful: bool,
    },
    /// The server has a message for the agent.
    Message {
        /// Which one's.
        task: u8,
    },
    /// The server sends one of the commands that cannot apply.
    Other {
        /// To which task.
        task: u8,
        /// Which command.
        which: u8,
    },
    /// The server sends something that cannot be read.
    Rubbish,
    /// The server reports an error.
    Complain,
    /// The connection that was asked for stands.
    Accept,
    /// It could not be made.
    Refuse(Refusal),
    /// The server will not take the next `authenticate`.
    Reject {
        /// On account of the key.
        key: bool,
    },
    /// One frame reaches the server.
    Deliver,
    /// One frame reaches the daemon.
    Answer,
    /// The transport has handed everything to the kernel.
    Flush,
    /// The connection breaks, and what is on the way is lost.
    Cut {
        /// Whether the daemon is told; else it has to find out.
        told: bool,
    },
    /// Something arrives from a connection that is long gone.
    Stale,
    /// An effect that is under way is done.
    Perform {
        /// The how manieth of those that can be done now.
        nth: u8,
        /// Whether it fails.
        fails: bool,
    },
    /// An agent writes.
    Write {
        /// Which task's.
        task: u8,
        /// On standard error.
        stderr: bool,
        /// With a newline behind it.
        newline: bool,
    },
    /// An agent ends by itself.
    Exit {
        /// Which task's.
        task: u8,
        /// Its exit code; the highest stand for one that nobody can tell, and for an end that nobody saw.
        code: u8,
    },
    /// Time goes on to the daemon's next deadline.
    Advance,
    /// Some milliseconds pass, but never beyond the deadline.
    Pass(u8),
    /// The machine sleeps for a while.
    Sleep,
    /// Somebody sets the wall clock by a day.
    Clock {
        /// To the past.
        back: bool,
    },
    /// Months pass in which nothing is asked of the daemon.
    Months,
    /// The daemon is told to stop.
    Stop {
        /// Without asking the agents first.
        forced: bool,
    },
    /// What the daemon wrote to its journal so far is there for good.
    Sync,
    /// The journal cannot be written just now, or can again.
    Trouble,
    /// The journal is begun anew with the state as it is.
    Rotate,
    /// The daemon is killed and started again. Of the effects under way, those whose bit is set were done.
    Kill {
        /// A bit for each effect.
        done: u8,
        /// So many 255ths of what was written to the journal and is not there for good.
        #[serde(default)]
        journal: u8,
        /// The next life is of another version, which does not trust the journal's steps.
        #[serde(default)]
        other: bool,
    },
    /// The power fails, and the daemon is started again: no agent is left, and of every output log only a
    /// beginning, whatever was written down about it.
    Outage {
        /// A bit for each effect.
        done: u8,
        /// So many 255ths of each log.
        kept: u8,
        /// The same, of what was written to the journal and is not there for good.
        #[serde(default)]
        journal: u8,
    },
}

/// How an attempt to connect fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// Nobody is there.
    Unreachable,
    /// A proxy answers.
    Proxy,
    /// The server does not take the key.
    Key,
    /// The server asks for time.
    Busy,
}

/// Which versions of the wire there are between the daemon and its server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Speech {
    /// The server knows version 1 only, and no long-poll.
    #[default]
    One,
    /// The server knows both.
    Two,
    /// It does, and something on the way takes the headers out of the WebSocket's handshake.
    Stripped,
}

/// What kind of task the server asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskKind {
    /// It has a repository, on this machine.
    pub local: bool,
    /// The branch is to be delivered.
    pub branch: bool,
    /// Its agent changes something.
    pub changes: bool,
    /// It is another task's subtask.
    pub subtask: bool,
    /// It spawns subtasks.
    #[serde(default)]
    pub orchestrator: bool,
    /// Its work is checked before it is handed over.
    #[serde(default)]
    pub checks: bool,
    /// It continues another task.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
    /// How its agent takes being asked to end.
    pub temper: Temper,
}

/// How an agent takes being asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Temper {
    /// Ends at SIGINT.
    Mild,
    /// Ends at SIGTERM.
    Firm,
    /// Has to be killed, and never ends by itself.
    Stubborn,
}

impl TaskKind {
    /// One that has everything that a task can have on this machine, and ends when it is asked.
    pub const PLAIN: Self = Self {
        local: true,
        branch: true,
        changes: true,
        subtask: false,
        orchestrator: false,
        checks: false,
        continues: false,
        temper: Temper::Mild,
    };
}
