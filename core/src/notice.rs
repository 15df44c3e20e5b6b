//! What the core tells people: the lines of the log.

use alloc::string::String;
use core::fmt;

use crate::effect::Way;
use crate::id::TaskId;
use crate::input::LinkCause;
use crate::needs;
use crate::time::Millis;

/// One thing worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The session with the server is open.
    Linked {
        /// By which way.
        way: Way,
    },
    /// No WebSocket stands: long-poll is tried.
    TurnsToPolling,
    /// It is not, and when it is tried again.
    LinkLost {
        /// Why.
        cause: LinkCause,
        /// How long until the next attempt.
        again_in: Millis,
    },
    /// The server did not answer in time.
    Silent {
        /// To what.
        what: &'static str,
        /// How long until the next attempt.
        again_in: Millis,
    },
    /// The server does not take our key. It is tried again, slowly.
    KeyRefused {
        /// The server's code.
        code: String,
        /// The server's words.
        message: String,
        /// How long until the next attempt.
        again_in: Millis,
    },
    /// The server said that something is wrong.
    ServerError {
        /// The server's code.
        code: String,
        /// The server's words.
        message: String,
    },
    /// The machine has slept.
    Slept {
        /// For how long.
        long: Millis,
    },
    /// This server answers no pings; the connection is judged by TCP alone from now on.
    NoPongs,
    /// Somebody did what they are not to do. Ignored and counted.
    Misbehaved {
        /// Who.
        who: Party,
        /// What.
        what: String,
    },
    /// Something was due to go that has ended, and could not be put aside. It is tried again at the next look.
    NotGone {
        /// Whose; none for the trash.
        task: Option<TaskId>,
        /// Why not.
        why: String,
    },
    /// What is kept takes more room than the user allows, and nothing more of it may go.
    NoMoreRoom {
        /// Bytes too many.
        over: u64,
    },
    /// A task needs a person, or needs none any more.
    Needs {
        /// Which task.
        task: TaskId,
        /// What people call it.
        name: String,
        /// What for.
        what: Option<String>,
    },
    /// A task has ended.
    Ended {
        /// Which task.
        task: TaskId,
        /// What people call it.
        name: String,
        /// How: the wire's name of its status.
        status: &'static str,
        /// Why, where it did not end well.
        error: Option<String>,
    },
    /// A step of a task, as `taskProgress` has it.
    Task {
        /// Which task.
        task: TaskId,
        /// The step.
        what: String,
    },
}

/// Who can misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The control server.
    Server,
    /// An agent.
    Agent,
    /// The executor or the driver: a bug of ours.
    Executor,
}

/// How loud a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something needs a person, or is a bug.
    Error,
    /// Something went wrong that is dealt with.
    Warn,
    /// The ordinary course.
    Info,
}

impl Notice {
    /// How loud it is.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::KeyRefused { .. } | Self::Misbehaved { who: Party::Executor, .. } => Level::Error,
            Self::LinkLost { .. }
            | Self::Silent { .. }
            | Self::ServerError { .. }
            | Self::NoPongs
            | Self::NotGone { .. }
            | Self::NoMoreRoom { .. }
            | Self::Misbehaved { .. } => Level::Warn,
            Self::Linked { .. }
            | Self::TurnsToPolling
            | Self::Slept { .. }
            | Self::Needs { .. }
            | Self::Ended { .. }
            | Self::Task { .. } => Level::Info,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linked { way: Way::WebSocket } => f.write_str("connected to the server"),
            Self::Linked { way: Way::LongPoll } => f.write_str("connected to the server by long-poll"),
            Self::TurnsToPolling => f.write_str("no WebSocket stands; long-poll is tried"),
            Self::LinkLost { cause, again_in } => write!(f, "{cause}; next attempt in {}", Span(*again_in)),
            Self::Silent { what, again_in } => {
                write!(f, "the server did not answer {what}; next attempt in {}", Span(*again_in))
            }
            Self::KeyRefused { code, message, again_in } => write!(
                f,
                "the server refuses the key ({code}: {message}); check MAKIMA_API_KEY or --api-key-file; next attempt in {}",
                Span(*again_in)
            ),
            Self::ServerError { code, message } => write!(f, "the server says: {code}: {message}"),
            Self::Slept { long } => write!(f, "the machine slept for {}; connecting again", Span(*long)),
            Self::NoPongs => f.write_str("this server answers no pings; the connection is judged by TCP alone"),
            Self::NotGone { task: Some(task), why } => {
                write!(f, "what is left of task {task} cannot be put aside: {why}")
            }
            Self::NotGone { task: None, why } => write!(f, "the trash cannot be taken out: {why}"),
            Self::NoMoreRoom { over } => write!(
                f,
                "what is kept takes {} MiB more than `keep.disk_gib` allows, and nothing more may go by itself: \
                 `makima worktree list` says why",
                over.div_ceil(1 << 20)
            ),
            Self::Misbehaved { who, what } => write!(
                f,
                "{}: {what}",
                match who {
                    Party::Server => "the server misbehaves",
                    Party::Agent => "the agent misbehaves",
                    Party::Executor => "a bug in makima",
                }
            ),
            Self::Needs { task, what, .. } => write!(f, "task {task}: {}", needs::told(what.as_deref())),
            Self::Ended { task, status, error: Some(error), .. } => write!(f, "task {task}: {status}: {error}"),
            Self::Ended { task, status, error: None, .. } => write!(f, "task {task}: {status}"),
            Self::Task { task, what } => write!(f, "task {task}: {what}"),
        }
    }
}

impl fmt::Display for LinkCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(detail) => write!(f, "the server cannot be reached: {detail}"),
            Self::Refused { status, by_server, html: _, retry_after: _, detail } => {
                let who = if *by_server { "the server" } else { "something on the way to the server" };
                write!(f, "{who} answered the handshake with HTTP {status}: {detail}")
            }
            Self::Gone => f.write_str("the server does not know this session any more"),
            Self::Closed(detail) if detail.is_empty() => f.write_str("the server closed the connection"),
            Self::Closed(detail) => write!(f, "the server closed the connection: {detail}"),
            Self::Broken(detail) => write!(f, "the connection broke: {detail}"),
        }
    }
}

/// A span of time as people say it.
struct Span(Millis);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.0 {
            ms @ 0..=999 => write!(f, "{ms} ms"),
            ms @ 1_000..=119_999 => write!(f, "{} s", ms / 1_000),
            ms => write!(f, "{} min", ms / 60_000),
        }
    }
}
