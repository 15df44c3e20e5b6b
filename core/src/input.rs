//! What comes into the core. There is no other way in.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::Config;
use crate::id::{EffectId, Epoch, SecretId, TaskId};
use crate::protocol::{DaemonCommand, Said, Unreadable, Wire};
use crate::task::{End, Spec};
use crate::time::Millis;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Input {
    /// The daemon starts. Always the first input, and never again.
    Boot(Boot),
    /// The deadline that the core asked for has come.
    Tick,
    /// The connection that was asked for stands: bytes can go both ways, nobody is authenticated yet.
    LinkUp {
        /// Which attempt.
        epoch: Epoch,
        /// What both ends agreed to speak.
        #[serde(default)]
        wire: Wire,
    },
    /// The connection is gone, or could not be made.
    LinkDown {
        /// Which attempt.
        epoch: Epoch,
        /// Why.
        cause: LinkCause,
    },
    /// A command that could be read.
    Command {
        /// On which connection.
        epoch: Epoch,
        /// Its number among the server's, in version 2 of the wire.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        /// What it says; credentials have been taken out of its URLs.
        command: Box<DaemonCommand>,
        /// Where credentials stood in `repoUrl`: the name of the secret that they are now.
        credentials: Option<SecretId>,
    },
    /// A frame that could not be read.
    Unreadable {
        /// On which connection.
        epoch: Epoch,
        /// Its number among the server's, where that could be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        /// What was wrong, without any value of it.
        what: Unreadable,
    },
    /// What a frame of version 2 of the wire says beside a message. Of one frame before its message.
    Said {
        /// On which connection.
        epoch: Epoch,
        /// What.
        said: Said,
    },
    /// Everything up to frame `n` of this connection has been handed to the kernel.
    Flushed {
        /// Which connection.
        epoch: Epoch,
        /// The frame's number, as in [`LinkEffect`](crate::effect::LinkEffect).
        n: u64,
    },
    /// The far side answered the ping that was frame `n`.
    Pong {
        /// Which connection.
        epoch: Epoch,
        /// The ping's number.
        n: u64,
    },
    /// An effect was carried out, or could not be. Exactly once for each.
    Done {
        /// Which effect.
        id: EffectId,
        /// How it went.
        outcome: Outcome,
    },
    /// An agent that was started has ended. Exactly once for each [`Outcome::Started`], after it.
    Exited {
        /// The effect that started it.
        id: EffectId,
        /// How it ended.
        status: ExitStatus,
    },
    /// Whether what was taken is written down for good has changed.
    Journal {
        /// It cannot be written just now: nothing is acknowledged that could be forgotten.
        trouble: bool,
    },
    /// A person or the service manager wants the daemon to end.
    Stop {
        /// How.
        how: Stop,
    },
}

/// What the driver knows when the daemon starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Which life of this daemon: larger than any before.
    pub incarnation: u32,
    /// Where the core's own chance begins.
    pub seed: u64,
    /// The settings, where they may be others than before.
    #[serde(default)]
    pub config: Option<Box<Config>>,
    /// What earlier lives left on the disk, oldest first.
    pub leftovers: Vec<Leftover>,
}

/// A task that an earlier life of the daemon left on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// What was asked for.
    pub spec: Spec,
    /// How far it had come.
    pub stage: Stage,
    /// How far its output had been handed over, as far as is known.
    pub delivered: u64,
    /// Whether the server knows of its end: it is remembered, and nothing is left to tell.
    pub closed: bool,
    /// Subtasks that are meant not to be merged, and why.
    #[serde(default)]
    pub skipped: Vec<(TaskId, String)>,
}

/// How far a task had come when the daemon was killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Taken on; no process of it was ever started.
    Accepted,
    /// An agent was started, or was about to be.
    Started(Prepared),
    /// It had ended; the server may not know yet.
    Ended(End),
}

/// Why a connection is gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LinkCause {
    /// Nobody answers at that address.
    Unreachable(String),
    /// The handshake was answered with something else than an upgrade, or a request of long-poll with something else
    /// than what it asked for.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Whether the answer came from the server itself and not from something on the way: it had a JSON
        /// body or a header of ours.
        by_server: bool,
        /// Whether the body is a page for people. A server of ours never says one, whatever the status.
        #[serde(default)]
        html: bool,
        /// For how long nothing is to be tried, as `Retry-After` has it, cut to five minutes.
        #[serde(default)]
        retry_after: Option<Millis>,
        /// What it said, cut short.
        detail: String,
    },
    /// Long-poll: the server does not know the session any more. A new one goes on where this one stood.
    Gone,
    /// The far side closed it in good order.
    Closed(String),
    /// It broke: reset, timed out, or what came was no WebSocket.
    Broken(String),
}

/// How an effect went. Each [`Work`](crate::effect::Work) names the one that answers it; [`Outcome::Failed`]
/// answers any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It is done, and there is nothing more to say.
    Done,
    /// The worktree stands. Also written down in the task's folder, for [`Stage::Started`].
    Prepared(Prepared),
    /// The agent runs.
    Started {
        /// Its process id, for people.
        pid: u32,
        /// The number of the last that was written to its standard input, by an earlier life of the daemon.
        #[serde(default)]
        handed: u64,
    },
    /// No agent was ever started for the task, and none will be but by another [`Work::Start`](crate::effect::Work).
    NotStarted,
    /// Some output.
    Chunk(Chunk),
    /// No process of the task is left.
    Emptied {
        /// How many had to be killed after the agent's own end.
        killed: u32,
        /// Where the output log ends, now that nobody can write to it.
        log_end: u64,
    },
    /// What was changed is committed.
    Committed(Option<Change>),
    /// What a task's processes take.
    Measured {
        /// Bytes of memory.
        memory: u64,
        /// How many they are.
        processes: u32,
    },
    /// The key is there.
    Key(SecretId),
    /// The checks were run.
    Checked {
        /// Which of them failed, and how, if one did.
        failed: Option<String>,
    },
    /// The branches of a task's subtasks.
    Branches {
        /// Each of them once.
        list: Vec<Branch>,
        /// Whether a merge is under way in the task's worktree.
        merging: bool,
    },
    /// How a merge stands, or went.
    Merging(Merging),
    /// The work is where it was to go.
    Delivered {
        /// For people.
        message: String,
        /// Where to look at the pull request.
        #[serde(default)]
        url: Option<String>,
    },
    /// A task's files and history are in another folder.
    Cloned {
        /// The folder, as it was found.
        to: String,
    },
    /// What is at a path.
    Looked {
        /// The path, as it was found.
        path: String,
        /// Whether something is there that may be touched.
        exists: bool,
        /// Why it may not be.
        refused: Option<String>,
    },
    /// How much room there is taken.
    Weighed(Weighed),
    /// It could not be done.
    Failed(String),
    /// It could not be done for want of room, on a disk or for another open file. Another time it may be; else as [`Outcome::Failed`].
    NoRoom(String),
}

/// How much room is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Weighed {
    /// Bytes of all worktrees, outputs and the trash, as far as they could be looked at.
    pub all: u64,
    /// Bytes of those tasks that were asked about, in the trash where [`Work::Spare`](crate::effect::Work::Spare) has
    /// put them there.
    pub tasks: Vec<(TaskId, u64)>,
}

/// A worktree that stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Prepared {
    /// The commit that it starts from; none in an empty repository.
    pub base: Option<String>,
    /// The repository that the URL named, if it is on this machine: where `branch` goes by default.
    pub local: Option<String>,
    /// What a person should know of how it was made: files that could not be brought along, say.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Commands to be run in it before the agent starts.
    #[serde(default)]
    pub setup: Vec<String>,
    /// Commands that its work is to be checked by.
    #[serde(default)]
    pub checks: Vec<String>,
    /// Variables for all of them.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Of the conversation that its agent goes on with: the names of what was left of it and stands in it all the same. None
    /// where the conversation is not found.
    #[serde(default)]
    pub recalled: Option<Vec<Uuid>>,
}

/// The branch of a subtask.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Branch {
    /// Its name, without `refs/heads/`.
    pub name: String,
    /// Whose it is.
    pub task: Option<TaskId>,
    /// Whether the worktree's commit has all of it, or nothing was changed on it. Never before its task has ended.
    pub merged: bool,
    /// The short id of its tip; empty where there is none yet.
    pub commit: String,
    /// That commit's subject.
    pub subject: String,
}

/// How a merge stands, or went. Paths are as git has them, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Merging {
    /// None is under way.
    Nothing,
    /// There is no such branch, or it is not one that may be merged.
    NoBranch,
    /// Everything of that branch is there already; none is under way.
    Already,
    /// These changes of the worktree's are in the way; none is under way.
    InTheWay(Vec<String>),
    /// One is under way: of this branch, where it is one that we began, with these files in conflict.
    Open {
        /// What is being merged.
        source: Option<String>,
        /// Files that wait to be settled.
        conflicts: Vec<String>,
    },
    /// One was under way before, of this branch; it was left as it is.
    Busy(Option<String>),
    /// That file is in no conflict.
    NoConflict,
    /// It is committed as this.
    Committed(String),
    /// Everything is where it was before.
    Aborted,
    /// It is written down.
    Skipped,
}

/// What a task changed, from the commit that it started from to the tip of its branch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Change {
    /// The tip.
    pub commit: String,
    /// Files touched.
    pub files: u32,
    /// Lines added.
    pub insertions: u32,
    /// Lines taken away.
    pub deletions: u32,
    /// What a person should know about how it was committed, if anything: an unfinished merge, commits that
    /// were kept aside.
    pub note: Option<String>,
}

/// A stretch of a task's output log, masked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Where it begins, in bytes of the log.
    pub from: u64,
    /// Where it ends: where the next one begins.
    pub to: u64,
    /// How far the log reached when it was read.
    pub log: u64,
    /// Whether nobody could write to it any more then.
    pub closed: bool,
    /// The stream whose line goes on where it begins: what stands right before it is this stream's, and no newline. None
    /// of what stands for a stretch that is gone, which ends a line by itself.
    #[serde(default)]
    pub begun: Option<Stream>,
    /// What stands there, in the order in which it was read. Not written down with the rest: it stands in the log, and
    /// a record bears its hash.
    #[serde(skip)]
    pub parts: Vec<Part>,
}

/// What one stream wrote in one go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Part {
    /// Which stream.
    pub stream: Stream,
    /// Its text: secrets masked, what is no UTF-8 replaced.
    pub text: String,
    /// The place in the log right behind `text`.
    pub to: u64,
    /// The place in the log right behind the last newline of `text`; none if it has no newline.
    pub line_end: Option<u64>,
}

/// Where an agent wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExitStatus {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was never started: a command of its set-up ended with this code.
    NotSetUp(i32),
    /// It cannot be known any more.
    Unknown,
    /// Whoever supervised it was killed, and nobody saw it end.
    Lost,
}

/// How the daemon is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stop {
    /// Leave if there is nothing to do and no end to tell; else go on as if this had not been said.
    IfIdle,
    /// Leave at once; agents go on, and the daemon's next life finds them.
    Detach,
    /// Take on nothing more, wait until the agents have ended by themselves, tell the server, leave.
    Drain,
    /// End the agents gracefully, commit, tell the server, leave.
    Graceful,
    /// The same, but kill the agents at once.
    Forced,
}
