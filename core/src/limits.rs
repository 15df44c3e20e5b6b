//! Every bound of the core, and what happens at it.

use crate::time::Millis;

/// Characters kept of an unknown `type` for the log; the rest is cut.
pub const TYPE_SHOWN: usize = 64;

/// Characters of a name or URL that an error message shows; the rest is cut.
pub const NAME_SHOWN: usize = 200;

/// Bytes of a path; a longer one is refused.
pub const PATH: usize = 4_096;

/// Characters of a task's name that are kept; the rest is cut.
pub const NAME: usize = 200;

/// Words of a plan that stand in for a missing name.
pub const NAME_WORDS: usize = 8;

/// Characters of a commit's subject; the rest is cut.
pub const SUBJECT: usize = 72;

/// Characters of a task's name that its branch bears; the rest is cut.
pub const SLUG: usize = 40;

/// Nobody may be silent for longer than this before the link is taken for dead.
pub const LINK_SILENCE: Millis = Millis::seconds(45);

/// A connection that was asked for and neither stands nor failed is given up after this; a transport has
/// shorter limits of its own.
pub const CONNECT: Millis = Millis::seconds(30);

/// `authenticated` must come within this.
pub const AUTHENTICATE: Millis = Millis::seconds(10);

/// Between two heartbeats.
pub const HEARTBEAT: Millis = Millis::seconds(30);

/// Between two pings where nothing is under way.
pub const PING: Millis = Millis::seconds(20);

/// With a server that answers no pings, what was flushed counts as delivered once the session has lived on
/// for this long.
pub const SILENT_GRACE: Millis = Millis::seconds(60);

/// So many sessions in a row without an answer to a ping make a server one that answers none.
pub const MUTE_SESSIONS: u8 = 2;

/// A ping without an answer for this long, when its session ends, counts as one that is not answered.
pub const PONG_LATE: Millis = Millis::seconds(10);

/// The first window of the backoff; each failure doubles it.
pub const BACKOFF_FIRST: Millis = Millis::seconds(1);

/// The window of the backoff does not grow beyond this.
pub const BACKOFF_MAX: Millis = Millis::seconds(64);

/// A session that lasted this long starts the backoff anew.
pub const SESSION_GOOD: Millis = Millis::seconds(60);

/// `Retry-After` is heeded up to this.
pub const RETRY_AFTER_MAX: Millis = Millis::seconds(300);

/// So many attempts at a WebSocket that failed lately, and long-poll is tried.
pub const WEBSOCKET_FAILURES: usize = 3;

/// So many sessions over a WebSocket that ended soon lately, and long-poll is tried.
pub const WEBSOCKET_SHORT: usize = 2;

/// A session that ends before this ended soon.
pub const SESSION_SHORT: Millis = Millis::seconds(30);

/// What is lately.
pub const WEBSOCKET_LATELY: Millis = Millis::seconds(300);

/// While polling: until a WebSocket is tried; doubled with each that fails.
pub const PROBE_FIRST: Millis = Millis::seconds(60);

/// It does not grow beyond this.
pub const PROBE_MAX: Millis = Millis::seconds(900);

/// A server that has no long-poll is not asked for it again for so long.
pub const LONG_POLL_ABSENT: Millis = Millis::seconds(3_600);

/// The last answer of a connection that another has followed is waited for this long.
pub const LEAVING: Millis = Millis::seconds(40);

/// Between two attempts with a key that was refused.
pub const KEY_REFUSED: Millis = Millis::seconds(300);

/// A machine that slept for longer than this has lost its connections.
pub const SLEPT: Millis = Millis::seconds(10);

/// Output handed to the transport and not flushed, in bytes over all tasks; beyond it nothing is read.
pub const WINDOW: u64 = 512 * 1024;

/// The same, in frames: many small pieces of output fill the window as well.
pub const WINDOW_FRAMES: usize = 64;

/// Version 2 of the wire: output that was sent and that the server does not say it has, in bytes of a task's log;
/// beyond it nothing is read.
pub const UNACKNOWLEDGED: u64 = 4 * 1024 * 1024;

/// A line longer than this, in bytes, is sent in pieces.
pub const PIECE: usize = 64 * 1024;

/// An unfinished line is sent after this much silence of its stream.
pub const LINE_SILENCE: Millis = Millis(25);

/// Between two records on disk of how far a task's output has been delivered.
pub const RECORD_DELIVERED: Millis = Millis(500);

/// Times that a stretch of a task's output is tried to be read; after that the rest of it is given up.
pub const READ_TRIES: u8 = 12;

/// Between two of those.
pub const READ_AGAIN: Millis = Millis::seconds(5);

/// Tasks that may wait for a slot; one more is refused by `taskComplete`.
pub const WAITING_TASKS: usize = 1_000;

/// Messages to the server that may wait for one task; a further answer to a command is dropped and counted,
/// statuses and ends never are.
pub const REPORTS: usize = 10_000;

/// Messages that may wait for an agent; one more is refused.
pub const MESSAGES: usize = 1_000;

/// Bytes of messages that may wait for an agent; one more is refused.
pub const MESSAGE_BYTES: usize = 1024 * 1024;

/// Bytes of a line of an agent that tells how it gets on; a longer one is passed over and counted.
pub const AGENT_LINE: usize = 1024 * 1024;

/// Bytes at the beginning of a longer line by which it is told whether an answer is waited for.
pub const HEAD: usize = 1024;

/// Bytes of an agent's standard error that are kept to say why it ended.
pub const LAST_WORDS: usize = 2 * 1024;

/// Times in a row that an agent is told to go on after the model could not be reached: about three hours.
pub const TROUBLES: u8 = 14;

/// Questions of one agent that wait for a person's answer, at most.
pub const QUESTIONS: usize = 64;

/// While a question waits, it is looked at that so often whether anybody can answer it at all.
pub const UNANSWERED: Millis = Millis::seconds(60);

/// While nothing is to be had of an agent's model before a moment of the wall clock, it is looked at that so often at least.
pub const PARKED: Millis = Millis::seconds(900);

/// Files that are in conflict for so long are looked at, and people told of those that still are.
pub const CONFLICT: Millis = Millis::seconds(600);

/// Subtasks that an orchestrator has asked for, or that begin after one that has ended, are on their way from the server for so
/// long at most, as far as it waits for them.
pub const FOLLOWS: Millis = Millis::seconds(3);

/// Where the server is away meanwhile, or does not know of the end of a subtask yet, they are waited for until then.
pub const FOLLOWS_AT_LAST: Millis = Millis::seconds(600);

/// A task that could not be made to stand still at its limit is told to once more after so long.
pub const HELD_AGAIN: Millis = Millis::seconds(60);

/// Between two looks at what the processes of a task take.
pub const MEASURE: Millis = Millis::seconds(2);

/// An agent that waits for its model and says nothing for so long is told of: its own patience ends after 300 s.
pub const SILENT_AGENT: Millis = Millis::seconds(330);

/// An agent that rests and does not say within this that it takes up a message never will: it has it all the same.
pub const TAKEN_UP: Millis = Millis::seconds(60);

/// What an agent does of itself once something behind its conversation has ended begins within this, or never will.
pub const RETURNS: Millis = Millis::seconds(10);

/// Commands and agents of its own that an agent is known to have at once; of more nothing is known.
pub const AGENT_JOBS: usize = 256;

/// What an agent lets run behind its conversation is waited for this long, if nothing is heard of it.
pub const BACKGROUND: Millis = Millis::seconds(3_600);

/// Reading a stretch of what an agent said before it ended.
pub const HEAR_OUT: Millis = Millis::seconds(30);

/// Bytes of the lists in a message to the server; the rest of a list is counted by its last entry. A message has at
/// most a mebibyte.
pub const LIST_BYTES: usize = 768 * 1024;

/// Bytes that an entry of a list takes beside its text.
pub const LIST_ENTRY: usize = 128;

/// Characters of a message to the server that says why something failed; the rest is cut.
pub const REASON: usize = 4_000;

/// An agent that was asked to end by words of its own gets SIGINT after this.
pub const ASKED_TO_INTERRUPT: Millis = Millis::seconds(10);

/// An agent interrupted by SIGINT gets SIGTERM after this.
pub const INTERRUPT_TO_TERMINATE: Millis = Millis::seconds(5);

/// An agent that got SIGTERM is killed after this.
pub const TERMINATE_TO_KILL: Millis = Millis::seconds(5);

/// Writing down that a task was taken on, or how it ended.
pub const RECORD: Millis = Millis::seconds(60);

/// Times that the record of an end is tried; after that the end is told all the same.
pub const RECORD_TRIES: u8 = 12;

/// Between two of those.
pub const RECORD_AGAIN: Millis = Millis::seconds(5);

/// Making a worktree; a first clone may be large.
pub const PREPARE: Millis = Millis::seconds(3_600);

/// Starting an agent.
pub const START: Millis = Millis::seconds(30);

/// Finding an agent again after a new start of the daemon.
pub const ATTACH: Millis = Millis::seconds(30);

/// Emptying a process tree.
pub const EMPTY: Millis = Millis::seconds(30);

/// Times that emptying a process tree is tried.
pub const EMPTY_TRIES: u8 = 3;

/// Committing what an agent left.
pub const COMMIT: Millis = Millis::seconds(600);

/// Times that a commit is tried for which there is no room on the disk: somebody may make some.
pub const COMMIT_TRIES: u8 = 120;

/// Between two of those.
pub const COMMIT_AGAIN: Millis = Millis::seconds(5);

/// A completion action on this machine.
pub const ACTION: Millis = Millis::seconds(60);

/// A pull request: pushing, and asking the forge.
pub const PULL_REQUEST: Millis = Millis::seconds(300);

/// The checks of a repository, all of them.
pub const CHECKS: Millis = Millis::seconds(1_800);

/// A step of a merge in a worktree.
pub const MERGE: Millis = Millis::seconds(600);

/// Copying a worktree to a folder of the user's.
pub const CLONE: Millis = Millis::seconds(600);

/// Looking whether something is at a path: it may lie where nobody answers.
pub const LOOK: Millis = Millis::seconds(20);

/// Commands of the server's under way for one task, beside those for its agent; one more is refused.
pub const ERRANDS: usize = 64;

/// Paths that are looked at, over all tasks; one more is refused.
pub const LOOKS: usize = 256;

/// Between two looks at what has ended and may go, unless the user says otherwise.
pub const SWEEP: Millis = Millis::seconds(3_600);

/// Putting something of an ended task aside, or taking out of the trash what has been there long enough.
pub const DISCARD: Millis = Millis::seconds(600);

/// Stopping a process tree, or letting it go on.
pub const FREEZE: Millis = Millis::seconds(30);

/// The server has to know an orchestrator's key within this, else its agent starts all the same.
pub const KEY_TOLD: Millis = Millis::seconds(10);

/// Changed files of a sibling's that an agent is told by name; the rest by number.
pub const SIBLING_FILES: usize = 100;

/// Characters of a commit's message that a server gives; the rest is cut.
pub const COMMIT_MESSAGE: usize = 64 * 1024;

/// A forced interrupt lets a git step that is under way run on for this.
pub const FORCED_GIT: Millis = Millis::seconds(60);

/// An effect that was cancelled must be answered within this, else it is not waited for any more.
pub const CANCEL: Millis = Millis::seconds(30);

/// A daemon that was told to stop, and whose tasks have ended, waits this long for the server to take note.
pub const STOP_DELIVERY: Millis = Millis::seconds(5);

/// Commands that a repository may have a worktree set up by, or work checked by.
pub const COMMANDS: usize = 100;

/// Of those that are not run, so many are named.
pub const COMMANDS_SHOWN: usize = 3;

/// Bytes of a repository's own file that says what it wants.
pub const WANTS: u64 = 64 * 1024;
