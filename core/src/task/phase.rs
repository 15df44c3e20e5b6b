//! Where a task stands. One state at a time, each with exactly the data it needs; an event consumes a state
//! and gives the next, so that nothing stale survives.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::attach::Attaching;
use super::conclude::{Concluding, Left};
use super::cx::Cx;
use super::finish::Finishing;
use super::key::Keying;
use super::prepare::{Pending, Preparing, Starting};
use super::run::Running;
use super::spec::{End, EndStatus, Spec, Status};
use crate::agent;
use crate::id::EffectId;
use crate::input::{ExitStatus, Outcome};
use crate::time::Millis;

/// The life of a task.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Phase {
    Pending(Pending),
    Preparing(Preparing),
    Keying(Keying),
    /// Paused before its agent was started: it starts when it may go on.
    Held,
    Starting(Starting),
    Attaching(Attaching),
    Running(Running),
    Finishing(Finishing),
    Concluding(Concluding),
    Ended(End),
}

/// What can happen to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It may run now.
    Slot,
    /// An effect of its was carried out, or could not be.
    Done(EffectId, Outcome),
    /// Its agent has ended.
    Exited(EffectId, ExitStatus),
    /// Somebody wants it to end.
    Interrupt {
        /// Ask first, kill later.
        graceful: bool,
    },
    /// The daemon is told to stop.
    Stop {
        /// Ask first, kill later.
        graceful: bool,
    },
    /// It has used up what it may: why it is to end.
    Over(String),
    /// Whether it is to stand still has changed.
    Hold,
    /// The server knows its key.
    KeyTold,
    /// Something that was said to its agent is there, or never will be.
    Told,
    /// A deadline of its has come.
    Due,
}

/// What decides how a task ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Verdict {
    Success,
    Failed(String),
    Interrupted,
}

impl Verdict {
    pub(crate) const fn status(&self) -> EndStatus {
        match self {
            Self::Success => EndStatus::Done,
            Self::Failed(_) => EndStatus::Failed,
            Self::Interrupted => EndStatus::Interrupted,
        }
    }

    pub(crate) fn error(self) -> Option<String> {
        match self {
            Self::Success => None,
            Self::Failed(why) => Some(crate::policy::cut(&why, crate::limits::REASON)),
            Self::Interrupted => Some("interrupted".into()),
        }
    }
}

impl From<agent::Result> for Verdict {
    fn from(result: agent::Result) -> Self {
        match result {
            agent::Result::Success => Self::Success,
            agent::Result::Failure(why) => Self::Failed(why),
        }
    }
}

impl Phase {
    /// The next state.
    pub(crate) fn on(self, event: Event, spec: &Spec, cx: &mut Cx<'_>) -> Self {
        match self {
            Self::Pending(state) => state.on(event, spec, cx),
            Self::Preparing(state) => state.on(event, spec, cx),
            Self::Keying(state) => state.on(event, spec, cx),
            Self::Held => held(event, spec, cx),
            Self::Starting(state) => state.on(event, spec, cx),
            Self::Attaching(state) => state.on(event, spec, cx),
            Self::Running(state) => state.on(event, cx),
            Self::Finishing(state) => state.on(event, spec, cx),
            Self::Concluding(state) => state.on(event, cx),
            Self::Ended(end) => Self::Ended(end),
        }
    }

    /// What the server is told.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Pending(_) => Status::Pending,
            Self::Preparing(state) => state.shown(),
            Self::Keying(state) => state.shown(),
            Self::Starting(state) => state.shown(),
            Self::Attaching(state) => state.shown(),
            Self::Held => Status::Paused,
            Self::Running(state) if state.is_frozen() => Status::Paused,
            Self::Running(_) => Status::Running,
            Self::Finishing(_) => Status::Finishing,
            Self::Concluding(state) => state.shown(),
            Self::Ended(end) => end.status.into(),
        }
    }

    /// Whether the server has been told the key of an orchestrator in it.
    pub(crate) fn is_keyed(&self) -> bool {
        match self {
            Self::Keying(state) => state.is_made(),
            Self::Held | Self::Starting(_) | Self::Attaching(_) | Self::Running(_) | Self::Finishing(_) => true,
            Self::Pending(_) | Self::Preparing(_) | Self::Concluding(_) | Self::Ended(_) => false,
        }
    }

    /// Whether it counts against the tasks that may run at once.
    pub(crate) fn holds_slot(&self) -> bool {
        match self {
            Self::Pending(_) | Self::Ended(_) => false,
            Self::Preparing(_)
            | Self::Keying(_)
            | Self::Held
            | Self::Starting(_)
            | Self::Attaching(_)
            | Self::Running(_)
            | Self::Finishing(_) => true,
            Self::Concluding(state) => state.holds_slot(),
        }
    }

    /// When something is due that no other event tells of.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        match self {
            Self::Pending(state) => state.deadline(),
            Self::Preparing(state) => Some(state.deadline()),
            Self::Keying(state) => Some(state.deadline()),
            Self::Starting(state) => Some(state.deadline()),
            Self::Attaching(state) => Some(state.deadline()),
            Self::Running(state) => state.deadline(),
            Self::Finishing(state) => Some(state.deadline()),
            Self::Concluding(state) => state.deadline(),
            Self::Held | Self::Ended(_) => None,
        }
    }
}

/// It waits to be let go on. Its worktree is looked at once more then: the machine may have gone down in between.
fn held(event: Event, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
    match event {
        Event::Hold if !*cx.hold => Preparing::begin(Status::Running, spec, cx),
        Event::Interrupt { .. } => Concluding::begin(Verdict::Interrupted, Left::nothing(spec), Status::Paused, cx),
        // It waits for the daemon's next life.
        Event::Stop { .. } => Pending::accepted(),
        Event::Slot
        | Event::Done(..)
        | Event::Exited(..)
        | Event::Over(_)
        | Event::Hold
        | Event::KeyTold
        | Event::Told
        | Event::Due => Phase::Held,
    }
}
