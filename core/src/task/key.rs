//! An orchestrator's key: made, and known to the server, before its agent starts.

use alloc::format;

use serde::{Deserialize, Serialize};

use super::conclude::{Concluding, Left};
use super::cx::{Cx, Wait};
use super::phase::{Event, Phase, Verdict};
use super::prepare::{Halt, Pending, Starting, given_up, reason};
use super::spec::{Spec, Status};
use crate::effect::Work;
use crate::input::{Outcome, Prepared};
use crate::limits;
use crate::time::Millis;

/// Its key is made and told.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Keying {
    prepared: Prepared,
    step: Step,
    stop: Option<Halt>,
    shown: Status,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Step {
    Making(Wait),
    /// The server is to know of it by then.
    Telling(Millis),
}

impl Keying {
    pub(super) fn begin(prepared: Prepared, shown: Status, cx: &mut Cx<'_>) -> Phase {
        let step = Step::Making(cx.wait(Work::MakeKey, limits::RECORD));
        Phase::Keying(Self { prepared, step, stop: None, shown })
    }

    pub(super) const fn deadline(&self) -> Millis {
        match &self.step {
            Step::Making(wait) => wait.due,
            Step::Telling(until) => *until,
        }
    }

    pub(super) const fn shown(&self) -> Status {
        self.shown
    }

    /// Whether the server is being told, or was.
    pub(super) const fn is_made(&self) -> bool {
        matches!(self.step, Step::Telling(_))
    }

    pub(super) const fn is_interrupted(&self) -> bool {
        matches!(self.stop, Some(Halt::Interrupted))
    }

    /// The daemon has a new life: the worktree and the key are looked for again.
    pub(super) fn recover(self, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        super::prepare::Preparing::again(self.stop, self.shown, spec, cx)
    }

    pub(super) fn on(mut self, event: Event, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        match (event, &mut self.step) {
            (Event::Done(id, outcome), Step::Making(wait)) if id == wait.id => self.made(outcome, spec, cx),
            (Event::Due, Step::Making(wait)) => {
                if wait.overdue(cx) {
                    return self.made(given_up(), spec, cx);
                }
                Phase::Keying(self)
            }
            (Event::Due, Step::Telling(until)) if *until <= cx.now => {
                cx.progress("the server does not know the agent's key yet; the agent starts all the same");
                self.start(spec, cx)
            }
            (Event::KeyTold, Step::Telling(_)) => self.start(spec, cx),
            (Event::Interrupt { .. }, Step::Making(_)) => {
                self.stop = Some(Halt::Interrupted);
                Phase::Keying(self)
            }
            (Event::Interrupt { .. }, Step::Telling(_)) => self.interrupted(spec, cx),
            (Event::Stop { .. }, Step::Making(_)) => {
                self.stop = self.stop.or(Some(Halt::Parked));
                Phase::Keying(self)
            }
            (Event::Stop { .. }, Step::Telling(_)) => Pending::accepted(),
            (
                Event::Slot
                | Event::Over(_)
                | Event::Hold
                | Event::KeyTold
                | Event::Told
                | Event::Due
                | Event::Done(..)
                | Event::Exited(..),
                Step::Making(_) | Step::Telling(_),
            ) => Phase::Keying(self),
        }
    }

    fn interrupted(self, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        Concluding::begin(Verdict::Interrupted, Left::nothing(spec), self.shown, cx)
    }

    fn made(mut self, outcome: Outcome, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        match (self.stop, outcome) {
            (Some(Halt::Interrupted), _) => self.interrupted(spec, cx),
            (Some(Halt::Parked), _) => Pending::accepted(),
            (None, Outcome::Key(key)) => {
                cx.outbox.push_key(cx.task, key);
                if bug!(StartsWithoutItsKey) {
                    return self.start(spec, cx);
                }
                self.step = Step::Telling(cx.now + limits::KEY_TOLD);
                Phase::Keying(self)
            }
            (None, outcome) => {
                let why = format!("no key could be made for the agent: {}", reason(outcome));
                Concluding::begin(Verdict::Failed(why), Left::nothing(spec), self.shown, cx)
            }
        }
    }

    fn start(self, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        Starting::begin(self.prepared, self.shown, spec, cx)
    }
}
