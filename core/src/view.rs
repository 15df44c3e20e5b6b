//! Where the machines of the core stand, by name: for tests, drawings, and whoever looks for a bug. Finer than what the
//! server and people are told. Only read; nothing is decided by it.

use crate::daemon::Daemon;
use crate::id::{Epoch, TaskId};
pub use crate::link::Role;

macro_rules! states {
    ($( #[doc = $what:literal] $name:ident { $( #[doc = $help:literal] $state:ident = $word:literal, )* } )*) => {
        $(
            #[doc = $what]
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub enum $name {
                $( #[doc = $help] $state, )*
            }

            impl $name {
                /// All of them, in the order in which they come.
                pub const ALL: &'static [Self] = &[$( Self::$state, )*];

                /// What it is called.
                #[must_use]
                pub const fn name(self) -> &'static str {
                    match self {
                        $( Self::$state => $word, )*
                    }
                }

                /// What it means.
                #[must_use]
                pub const fn help(self) -> &'static str {
                    match self {
                        $( Self::$state => $help, )*
                    }
                }
            }
        )*
    };
}

states! {
    /// The states of a task.
    TaskState {
        /// It is being written down that it is taken on.
        Accepting = "accepting",
        /// It waits for a slot.
        Waiting = "waiting",
        /// Its worktree is being made.
        Preparing = "preparing",
        /// The key of an orchestrator is being made.
        MakingKey = "making its key",
        /// The server is being told that key.
        TellingKey = "telling its key",
        /// It was paused before its agent was started.
        Held = "held",
        /// Its agent is being started.
        Starting = "starting",
        /// The daemon was started anew: its agent is looked for.
        Attaching = "attaching",
        /// Its agent is at work.
        Running = "running",
        /// Its agent is being stopped where it stands.
        Pausing = "pausing",
        /// Its agent stands still.
        Paused = "paused",
        /// Its agent is being let go on.
        Resuming = "resuming",
        /// Its agent was asked to end.
        Ending = "ending",
        /// Its processes are being ended.
        Emptying = "emptying",
        /// The rest of what its agent said is being listened to.
        HearingOut = "hearing out",
        /// Its work is being committed.
        Committing = "committing",
        /// There was no room for the commit, which is tried again.
        OutOfRoom = "out of room",
        /// Its work is being checked.
        Checking = "checking",
        /// Its work is being handed over.
        Delivering = "delivering",
        /// Its end is being written down.
        Concluding = "concluding",
        /// Its end could not be written down, which is tried again.
        Unwritten = "unwritten",
        /// Its end is left to the daemon's next life.
        Left = "left",
        /// It ended well.
        Done = "done",
        /// It failed.
        Failed = "failed",
        /// Somebody ended it.
        Interrupted = "interrupted",
    }
    /// The states of the link.
    LinkState {
        /// The daemon has not begun, or has ended.
        Idle = "idle",
        /// The next attempt to connect has its time.
        Waiting = "waiting",
        /// A connection was asked for.
        Connecting = "connecting",
        /// It stands; the server has been told who we are.
        Authenticating = "authenticating",
        /// Version 2 of the wire: the server lets us in, and has not said yet how it stands.
        Greeting = "greeting",
        /// A session is open over a WebSocket.
        Open = "open",
        /// A session is open by long-poll.
        Polling = "polling",
        /// The same, and a WebSocket is tried beside it.
        Trying = "trying",
    }
}

impl Daemon {
    /// Where a task stands; none where it is not known.
    #[must_use]
    pub fn task_at(&self, id: TaskId) -> Option<TaskState> {
        self.tasks.get(&id).map(crate::task::Task::at)
    }

    /// Where each task that is known stands.
    pub fn tasks_at(&self) -> impl Iterator<Item = (TaskId, TaskState)> + '_ {
        self.tasks.iter().map(|(id, task)| (*id, task.at()))
    }

    /// Where the link stands.
    #[must_use]
    pub const fn link_at(&self) -> LinkState {
        self.core.link.at()
    }

    /// What a connection is to the link; none where it is nothing any more.
    #[must_use]
    pub fn role(&self, epoch: Epoch) -> Option<Role> {
        self.core.link.role(epoch)
    }
}
