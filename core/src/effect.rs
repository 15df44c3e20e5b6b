//! What goes out of the core. There is no other way out.

mod git;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use self::git::{Check, Child, Deed, Delivery, Merge, Side, Source};
use crate::agent::{Conversation, Kind, Own};
use crate::id::{EffectId, Epoch, SecretId, TaskId};
use crate::notice::Notice;
use crate::policy::{BranchName, CommitText, InnerPath, RepositoryUrl};
use crate::protocol::{DaemonMessage, Said};
use crate::task::{End, Spec};
use crate::time::Millis;

/// One thing to do. Effects are carried out in the order in which they were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// For the transport.
    Link(LinkEffect),
    /// For the executor. Answered exactly once by [`Input::Done`](crate::input::Input::Done).
    Work {
        /// Its name.
        id: EffectId,
        /// Whose it is.
        task: TaskId,
        /// What is to be done.
        work: Work,
    },
    /// Leave that effect be, if it is still under way. It is answered all the same, and soon: as done where it was
    /// done by then, else as failed. What cannot be called off, as a disk has it in hand, may come to be done after
    /// that, but before anything else that waits for its turn among the effects of its task.
    Cancel {
        /// Which effect.
        id: EffectId,
    },
    /// For people: the log.
    Tell(Notice),
    /// The daemon's work is done: the driver ends.
    Exit(Exit),
}

impl Effect {
    /// Whether it goes in line behind effects that wait: frames keep their order, and what calls an effect off comes
    /// behind it.
    #[must_use]
    pub const fn keeps_its_place(&self) -> bool {
        matches!(self, Self::Link(_) | Self::Cancel { .. })
    }

    /// Whether it tells the server that something was applied and need not be told again.
    #[must_use]
    pub const fn is_acknowledgement(&self) -> bool {
        matches!(self, Self::Link(LinkEffect::Say { said: Said::Ack(_), .. }))
    }

    /// Whether it takes away what steps that were taken before need to be taken again: the text of output. So the journal
    /// has to begin anew before it is carried out.
    #[must_use]
    pub const fn begins_the_journal_anew(&self) -> bool {
        matches!(self, Self::Work { work: Work::Discard | Work::Spare | Work::Forget, .. })
    }

    /// Whether it may be carried out only once the step that asked for it, and all before, is written down for good:
    /// what a daemon has done to processes, to repositories and with messages it must know after any crash.
    #[must_use]
    pub fn waits_for_the_journal(&self) -> bool {
        match self {
            Self::Work { work, .. } => match work {
                Work::Stdin { .. } if bug!(MessageBeforeTheFlush) => false,
                Work::Prepare(_)
                | Work::Start(_)
                | Work::Stdin { .. }
                | Work::Signal { .. }
                | Work::Empty
                | Work::Freeze
                | Work::Thaw
                | Work::Commit(_)
                | Work::Check(_)
                | Work::Discard
                | Work::Forget
                | Work::Expire { .. }
                | Work::Spare
                | Work::Purge
                | Work::Deliver(_)
                | Work::Clone { .. } => true,
                Work::Merge(merge) => merge.changes(),
                // Records of their own, or nothing that lasts.
                Work::Accept { .. }
                | Work::Attach
                | Work::MakeKey
                | Work::Look { .. }
                | Work::Measure
                | Work::Weigh { .. }
                | Work::Read { .. }
                | Work::Conclude { .. }
                | Work::Delivered { .. }
                | Work::Close => false,
            },
            // A number stands for one message for ever, and what is said to be applied must stay so.
            Self::Link(effect) => match effect {
                LinkEffect::Send { .. } if bug!(NumberBeforeTheFlush) => false,
                LinkEffect::Say { said: Said::Ack(_), .. } if bug!(AckBeforeTheFlush) => false,
                // What a session of version 1 begins with: with it all is given up on that sessions of version 2 would
                // have told again, and the server must not hear of keys by a session that a crash makes undone.
                LinkEffect::Send { message, .. } if matches!(**message, DaemonMessage::DaemonDirectories(_)) => {
                    !bug!(SessionBeforeTheFlush)
                }
                LinkEffect::Send { envelope, .. } => matches!(envelope, Some(Envelope { seq: Some(_), .. })),
                LinkEffect::Say { said, .. } => matches!(said, Said::Ack(_) | Said::Hello(_)),
                LinkEffect::Connect { .. }
                | LinkEffect::Output { .. }
                | LinkEffect::Ping { .. }
                | LinkEffect::Quiesce { .. }
                | LinkEffect::Close { .. } => false,
            },
            Self::Cancel { .. } | Self::Tell(_) | Self::Exit(_) => false,
        }
    }
}

/// For the transport. Not answered one by one: what becomes of a connection is told by
/// [`Input::LinkUp`](crate::input::Input::LinkUp), `LinkDown`, `Flushed` and `Pong`. What names a connection
/// that is gone is dropped without a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEffect {
    /// Connect to the server.
    Connect {
        /// The name of this attempt.
        epoch: Epoch,
        /// By which way.
        way: Way,
    },
    /// Send one message.
    Send {
        /// On which connection.
        epoch: Epoch,
        /// The frame's number on it, from 1.
        n: u64,
        /// The message.
        message: Box<DaemonMessage>,
        /// The secret whose value goes into the message's empty key field.
        secret: Option<SecretId>,
        /// The envelope that it goes out in; none in version 1 of the wire.
        envelope: Option<Envelope>,
    },
    /// Send a task's output, a message a piece.
    Output {
        /// On which connection.
        epoch: Epoch,
        /// The number of the last of these frames; the pieces share it.
        n: u64,
        /// Whose output it is.
        task: TaskId,
        /// The text that the pieces are cut from.
        text: String,
        /// The messages, in order.
        pieces: Vec<Piece>,
        /// The stretch of the log that the one message stands for; none in version 1 of the wire.
        stretch: Option<Stretch>,
    },
    /// Send a frame of version 2 of the wire that bears no message.
    Say {
        /// On which connection.
        epoch: Epoch,
        /// The frame's number on it.
        n: u64,
        /// What it says.
        said: Said,
    },
    /// Send a ping that the far application has to answer.
    Ping {
        /// On which connection.
        epoch: Epoch,
        /// The frame's number on it, to be given back by the answer.
        n: u64,
    },
    /// Take no more commands from this connection, which another has followed: a request that the server holds open
    /// is let come to its end, and what it brings is still told. Then it is closed.
    Quiesce {
        /// Which connection.
        epoch: Epoch,
    },
    /// Close the connection.
    Close {
        /// Which connection.
        epoch: Epoch,
    },
}

/// What goes around a message in version 2 of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// Its number among ours; none of what is not numbered.
    pub seq: Option<u64>,
    /// Where the task's log ends, with its end.
    pub len: Option<u64>,
}

/// A stretch of a task's output log, in bytes of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stretch {
    /// Where it begins.
    pub off: u64,
    /// Where it ends.
    pub end: u64,
}

/// By which way a connection goes. Which one is tried when is the core's to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Way {
    /// One connection for both directions.
    #[default]
    WebSocket,
    /// Ordinary requests, one of which the server holds open: for networks that let nothing else through. Always
    /// version 2.
    LongPoll,
}

impl Way {
    /// For people.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::WebSocket => "websocket",
            Self::LongPoll => "long-poll",
        }
        .into()
    }
}

/// One `taskOutput`, as a range of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Piece {
    /// Where it begins, in bytes.
    pub start: u32,
    /// Where it ends, in bytes; its newline is not part of it.
    pub end: u32,
    /// Whether the line goes on in the next piece.
    pub partial: bool,
}

/// For the executor. A sequence of I/O steps is one effect: done twice it is as if done once, so that it may
/// be asked for again after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Write down that this task was taken on. An end that stands there, and the mark that the server knows of
    /// it, belong to an attempt that was never taken on: they go first. Answered by [`Outcome::Done`](crate::input::Outcome::Done).
    Accept {
        /// What was asked for.
        spec: Box<Spec>,
    },
    /// Make the worktree: the shared bare repository there and current, the task's own repository checked
    /// out at the base on its branch, the plan written. Answered by `Prepared`.
    Prepare(Box<Prepare>),
    /// Write down that it is about to run, then start the agent in its worktree, in a process tree of its
    /// own. Answered by `Started`, then by [`Input::Exited`](crate::input::Input::Exited).
    Start(Launch),
    /// The next stretch of the output log behind `from`, as soon as there is one. Answered by `Chunk`; one of
    /// no length means that the log has ended there, or that the effect was cancelled.
    Read {
        /// Where to begin.
        from: u64,
    },
    /// Find the agent that an earlier life of the daemon started. Answered by `Started`, and then by
    /// [`Input::Exited`](crate::input::Input::Exited), also where it has ended since; by `NotStarted` where it is
    /// sure that no agent was ever started for this task and that none will be; else by `Failed`, with what is known
    /// of its end.
    Attach,
    /// Write to the agent's standard input. Answered by `Done`.
    Stdin {
        /// The how manieth message of the task's this is, from 1. What was written under a number before, also by an
        /// earlier life of the daemon, is not written again.
        n: u64,
        /// The bytes, as text.
        text: String,
    },
    /// Signal the agent's process group. Answered by `Done`, also where it is gone already.
    Signal {
        /// Which signal.
        signal: Signal,
    },
    /// Kill what is left of the task's process tree and see that it is empty. A start of it that is under way is
    /// called off first, as if it had been cancelled. Answered by `Emptied`.
    Empty,
    /// Stop every process of the task's tree where it stands, and those that it starts. None of them can refuse.
    /// Answered by `Done`, also where nobody is left.
    Freeze,
    /// Let a tree that was frozen go on. Answered by `Done`.
    Thaw,
    /// Look what the task's processes take. Answered by `Measured`.
    Measure,
    /// Make the key by which the task's agent speaks to the server, or find the one that was made before. Answered by
    /// `Key`.
    MakeKey,
    /// Commit what is uncommitted, put the task's branch at the result and bring it into the bare
    /// repository. Answered by `Committed`.
    Commit(Box<Commit>),
    /// Run what the repository has its work checked by, in the worktree and in a process tree of its own, up to the
    /// first that fails. Answered by `Checked`.
    Check(Box<Check>),
    /// Something about merging branches in the task's worktree. Answered by `Merging`, and `List` by `Branches`.
    Merge(Merge),
    /// Hand the task's work over. Done twice it is as if done once. Answered by `Delivered`.
    Deliver(Box<Delivery>),
    /// Copy the task's files and history to a folder that is new or empty. Answered by `Cloned`.
    Clone {
        /// The folder.
        to: String,
        /// The branch of the work.
        branch: BranchName,
    },
    /// Look whether something is at a path. Of no task that has to be known. Answered by `Looked`.
    Look {
        /// The path. May begin with `~/`.
        path: String,
    },
    /// Write down how it ended, once its output is sure to last, and take its secrets off the disk. Answered by
    /// `Done`.
    Conclude {
        /// How it ended.
        end: End,
        /// What it was, where that could not be written down when it was taken on: that goes first.
        spec: Option<Box<Spec>>,
    },
    /// Write down how far the output has been handed over. Answered by `Done`.
    Delivered {
        /// Up to here, in bytes of the log.
        to: u64,
    },
    /// Write down that the server knows of the end. Answered by `Done`.
    Close,
    /// Put the worktree and the output of a task that has ended into the trash. Its records stay, and its work in the
    /// bare repository does for good. Answered by `Done`, also where nothing is left of them.
    Discard,
    /// The same, and its records too: nothing tells of the task any more. Answered by `Done`.
    Forget,
    /// Take out of the trash for good what was put there before this. Of no task. Answered by `Done`.
    Expire {
        /// Since 1970 in UTC.
        before: Millis,
    },
    /// Say how much room worktrees, outputs and the trash take, and what of it belongs to these tasks. Of no task.
    /// Answered by `Weighed`.
    Weigh {
        /// Which tasks.
        tasks: Vec<TaskId>,
    },
    /// As [`Work::Discard`], but only where all in the worktree but what git ignores is in commits that the daemon's own
    /// repository has too; else it fails. Marks it as what may leave the trash early.
    Spare,
    /// Take what [`Work::Spare`] has put into the trash out of it for good, under the same condition. Answered by `Done`,
    /// also where nothing is there.
    Purge,
}

/// A worktree to be made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Prepare {
    /// Whence; none for an empty repository.
    pub repository: Option<RepositoryUrl>,
    /// The secret that the URL bore.
    pub credentials: Option<SecretId>,
    /// Where in it the work starts.
    pub start: Start,
    /// The branch of the work.
    pub branch: BranchName,
    /// What the agent is to do.
    pub plan: String,
    /// Files to bring along.
    pub copy: Option<Copy>,
    /// The conversation that its agent goes on with.
    pub conversation: Option<Conversation>,
}

/// Where the work starts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// Where the repository's own default branch stands.
    Default,
    /// At this branch, tag or full commit id. Where it is missing, the worktree is not made.
    At(String),
    /// At the last commit of that task; where it has none here, as `Default`.
    Parent(TaskId),
    /// With the commits and the uncommitted files of that task, all of one moment. Where it has none here, the worktree
    /// is not made.
    Continue(TaskId),
}

/// Files to bring along from another task's worktree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Copy {
    /// Whose worktree.
    pub from: TaskId,
    /// Which files and folders, as paths inside of it.
    pub paths: Vec<InnerPath>,
}

/// An agent to be started in its worktree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Launch {
    /// Commands of a shell to be run before, in the same tree and with the same output. Where one fails, the agent is
    /// not started, and ended by `ExitStatus::NotSetUp`.
    pub setup: Vec<String>,
    /// The command line; never empty.
    pub argv: Vec<Arg>,
    /// Variables beside those that [`policy::passes`](crate::policy::passes) and its kind let through.
    pub env: Vec<(String, Value)>,
    /// What kind of agent it is.
    pub agent: Kind,
    /// Where it keeps what is its own: inside of a fence it may write there.
    pub own: Vec<Own>,
    /// Without a fence around it, it is not to be started.
    pub only_fenced: bool,
    /// Bytes of memory that all its processes may take.
    pub memory: Option<u64>,
    /// How many processes there may be.
    pub processes: Option<u32>,
}

impl Launch {
    /// A script's command line, with nothing before it and no variables of its own.
    #[must_use]
    pub fn script(argv: Vec<Arg>) -> Self {
        let (setup, env, own) = (Vec::new(), Vec::new(), Vec::new());
        Self { setup, argv, env, agent: Kind::Shell, own, only_fenced: false, memory: None, processes: None }
    }
}

/// What a variable of an agent's environment says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// As it stands.
    Text(String),
    /// The value of this secret.
    Secret(SecretId),
}

/// A word of a command line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Arg {
    /// As it stands.
    Text(String),
    /// The path of the file that holds the plan.
    PlanFile,
    /// The path of the file in which Claude Code keeps the conversation that began with this task; where that is not found,
    /// its name.
    Conversation(TaskId),
}

/// A signal to an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// A commit to be made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Commit {
    /// The branch of the work.
    pub branch: BranchName,
    /// The commit that the work started from.
    pub base: Option<String>,
    /// What the commit says.
    pub text: CommitText,
}

/// How the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was asked to, and everything is told.
    Stopped,
    /// It was asked to, and its agents go on: the daemon's next life finds them.
    Detached,
    /// `--once`: the server closed the session and no task is left.
    SessionOver,
    /// `--once`: the key was refused.
    KeyRefused,
    /// `--once`: the server was not reached.
    NotReached,
}
