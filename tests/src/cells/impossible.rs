//! Cells that cannot be: which input is met in which states only, and why.

use super::Never;

pub(super) const TASK: &[Never] = &[
    Never { inputs: &["stop, gracefully", "stop, by force"], but: KNOWN, why: "there is no task" },
    Never {
        inputs: &["an answer beside it"],
        but: BESIDE,
        why: "nothing is asked beside it before it is written down, and what is forgotten was at rest",
    },
    Never { inputs: &["a slot is free"], but: &["waiting"], why: "whoever does not wait gets none" },
    Never { inputs: &["its key is known"], but: &["telling its key"], why: "it is told of no other key" },
    Never {
        inputs: &["a deadline"],
        but: &[
            "accepting",
            "preparing",
            "making its key",
            "telling its key",
            "starting",
            "attaching",
            "running",
            "pausing",
            "ending",
            "emptying",
            "hearing out",
            "committing",
            "out of room",
            "checking",
            "delivering",
            "concluding",
            "unwritten",
        ],
        why: "it waits for nothing that may be late; an agent that cannot be let go on is tried again, in the same state",
    },
    Never {
        inputs: &["its agent ends well", "its agent ends badly"],
        but: AT_WORK,
        why: "there is no agent that could: `its agent has ended` is that of one that is being ended",
    },
    Never {
        inputs: &["its agent has ended"],
        but: &["emptying", "committing", "out of room", "checking", "delivering"],
        why: "only of an agent that was ended by force the end is told later; whoever knows how the task ends waits for nobody",
    },
    Never {
        inputs: &["accept done", "accept failed"],
        but: &["accepting"],
        why: "what is not waited for any more comes too late",
    },
    Never { inputs: &["prepare done", "prepare failed"], but: &["preparing"], why: "the same" },
    Never { inputs: &["make key done", "make key failed"], but: &["making its key"], why: "the same" },
    Never { inputs: &["start done", "start failed"], but: &["starting"], why: "the same" },
    Never {
        inputs: &["attach found it", "attach found no start", "attach failed"],
        but: &["attaching"],
        why: "the same",
    },
    Never { inputs: &["freeze done", "freeze failed"], but: &["pausing", "ending"], why: "the same" },
    Never { inputs: &["thaw done", "thaw failed"], but: &["resuming", "ending"], why: "the same" },
    Never { inputs: &["empty done", "empty failed"], but: &["emptying"], why: "the same" },
    Never { inputs: &["commit done", "commit has no room", "commit failed"], but: &["committing"], why: "the same" },
    Never { inputs: &["check done", "check failed"], but: &["checking"], why: "the same" },
    Never { inputs: &["deliver done", "deliver failed"], but: &["delivering"], why: "the same" },
    Never { inputs: &["conclude done", "conclude failed"], but: &["concluding"], why: "the same" },
    Never { inputs: &["forget done"], but: &["done", "failed", "interrupted"], why: "nothing else is forgotten" },
    Never {
        inputs: &["new life, no record"],
        but: &["accepting", "concluding", "unwritten", "left", "failed", "interrupted"],
        why: "it was written down, or could not be, which is why it does not end well",
    },
    Never {
        inputs: &["new life, accepted"],
        but: &[
            "unknown",
            "accepting",
            "waiting",
            "preparing",
            "making its key",
            "telling its key",
            "held",
            "starting",
            "attaching",
            "emptying",
            "committing",
            "out of room",
            "delivering",
            "concluding",
            "unwritten",
            "left",
            "failed",
            "interrupted",
        ],
        why: "its agent was started, or it did well, and that is written down before",
    },
];

/// States of a task that is known.
const KNOWN: &[&str] = &[
    "accepting",
    "waiting",
    "preparing",
    "making its key",
    "telling its key",
    "held",
    "starting",
    "attaching",
    "running",
    "pausing",
    "paused",
    "resuming",
    "ending",
    "emptying",
    "hearing out",
    "committing",
    "out of room",
    "checking",
    "delivering",
    "concluding",
    "unwritten",
    "left",
    "done",
    "failed",
    "interrupted",
];

/// The same of one that is written down.
const BESIDE: &[&str] = KNOWN.split_at(1).1;

/// States with an agent that is at work or stands still.
const AT_WORK: &[&str] = &["running", "pausing", "paused", "resuming", "ending"];

pub(super) const LINK: &[Never] = &[
    Never {
        inputs: &["from a connection that is gone", "a deadline", "the machine slept", "the daemon ends"],
        but: &["waiting", "connecting", "authenticating", "greeting", "open", "polling", "trying"],
        why: "a daemon that has not begun, or has ended, takes no step",
    },
    Never { inputs: &["connected"], but: &["connecting"], why: "a connection comes to stand once" },
    Never {
        inputs: &["broken"],
        but: &["connecting", "authenticating", "greeting", "open", "polling", "trying"],
        why: "there is no connection",
    },
    Never {
        inputs: &["not reached", "refused: the key", "refused: not this way", "refused: later"],
        but: &["connecting", "authenticating", "greeting", "polling", "trying"],
        why: "there is no connection, or a WebSocket that stands, which asks for nothing more",
    },
    Never {
        inputs: &["session gone"],
        but: &["authenticating", "greeting", "polling", "trying"],
        why: "a WebSocket is its own session",
    },
    Never {
        inputs: &[
            "closed",
            "authenticated",
            "hello",
            "error: the key",
            "error: another",
            "a command",
            "another frame",
            "rubbish",
            "flushed",
        ],
        but: &["authenticating", "greeting", "open", "polling", "trying"],
        why: "nothing comes over a connection that does not stand",
    },
    Never {
        inputs: &[
            "beside: connected",
            "beside: lost",
            "beside: authenticated",
            "beside: error",
            "beside: another frame",
        ],
        but: &["trying"],
        why: "no WebSocket is tried beside another connection",
    },
    Never {
        inputs: &["before: a frame", "before: lost"],
        but: &["greeting", "open"],
        why: "only a WebSocket follows another connection, and what it follows is given up with it",
    },
];

pub(super) const MERGE: &[Never] = &[Never {
    inputs: &["mergeStart, too early", "the work is committed"],
    but: &["none", "conflicted", "resolved"],
    why: "there is no worktree to be merged into, whatever is asked for; what is committed is told by what it says itself",
}];
