//! The end is written down before anybody is told of it: else a daemon that is killed then could end the task
//! a second time, and in another way.

use alloc::boxed::Box;
use alloc::format;

use serde::{Deserialize, Serialize};

use super::cx::{Cx, Wait};
use super::phase::{Event, Phase, Verdict};
use super::prepare::{given_up, reason};
use super::spec::{Completion, End, Spec, Status};
use crate::effect::Work;
use crate::input::Outcome;
use crate::limits;
use crate::time::Millis;
use crate::view::TaskState;

/// Everything is done but for the record of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Concluding {
    end: End,
    step: Step,
    tries: u8,
    shown: Status,
    /// It could not be written down that it was taken on.
    #[serde(default)]
    unwritten: Option<Box<Spec>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Step {
    Writing(Wait),
    /// It could not be written. Perhaps there is room on the disk later.
    Pausing {
        until: Millis,
    },
    /// The daemon ends before that: its next life brings the task to its end.
    Left,
}

/// What a task leaves at its end, beside how it ended.
#[derive(Clone, Debug)]
pub(super) struct Left {
    pub(super) completion: Option<Completion>,
    /// Where its output log ends.
    pub(super) log_end: u64,
}

impl Left {
    /// One that never began.
    pub(super) fn nothing(spec: &Spec) -> Self {
        Self { completion: Completion::of_nothing(&spec.action).filter(|_| !bug!(NoWordOfTheAction)), log_end: 0 }
    }
}

impl Concluding {
    pub(super) fn begin(verdict: Verdict, left: Left, shown: Status, cx: &mut Cx<'_>) -> Phase {
        Self::of(verdict, left, shown, None, cx)
    }

    /// One that could not be written down when it was taken on. Its end alone would tell the daemon's next life nothing.
    pub(super) fn unwritten(why: &str, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        let verdict = Verdict::Failed(format!("the task could not be written down: {why}"));
        Self::of(verdict, Left::nothing(spec), Status::Pending, Some(Box::new(spec.clone())), cx)
    }

    fn of(verdict: Verdict, left: Left, shown: Status, unwritten: Option<Box<Spec>>, cx: &mut Cx<'_>) -> Phase {
        let Left { completion, log_end } = left;
        let end = End { status: verdict.status(), error: verdict.error(), completion, log_end };
        if bug!(EndToldFirst) {
            return Phase::Ended(end);
        }
        Self { step: Step::write(&end, unwritten.clone(), cx), end, tries: 1, shown, unwritten }.into()
    }

    pub(super) const fn shown(&self) -> Status {
        self.shown
    }

    pub(super) const fn at(&self) -> TaskState {
        match &self.step {
            Step::Writing(_) => TaskState::Concluding,
            Step::Pausing { .. } => TaskState::Unwritten,
            Step::Left => TaskState::Left,
        }
    }

    pub(super) const fn holds_slot(&self) -> bool {
        !matches!(self.shown, Status::Pending) && !matches!(self.step, Step::Left)
    }

    pub(super) const fn deadline(&self) -> Option<Millis> {
        match &self.step {
            Step::Writing(wait) => Some(wait.due),
            Step::Pausing { until } => Some(*until),
            Step::Left => None,
        }
    }

    pub(super) fn on(mut self, event: Event, cx: &mut Cx<'_>) -> Phase {
        match (event, &mut self.step) {
            (Event::Done(id, outcome), Step::Writing(wait)) if id == wait.id => self.written(outcome, cx),
            (Event::Due, Step::Writing(wait)) => {
                if wait.overdue(cx) {
                    self.written(given_up(), cx)
                } else {
                    self.into()
                }
            }
            (Event::Due, Step::Pausing { until }) if *until <= cx.now => self.again(cx),
            (Event::Stop { .. }, Step::Pausing { .. }) => self.again(cx),
            _ => self.into(),
        }
    }

    /// The daemon has a new life, and no record of the end was found.
    pub(super) fn recover(mut self, cx: &mut Cx<'_>) -> Phase {
        self.tries = 1;
        self.again(cx)
    }

    fn again(mut self, cx: &mut Cx<'_>) -> Phase {
        self.step = Step::write(&self.end, self.unwritten.clone(), cx);
        self.into()
    }

    fn written(mut self, outcome: Outcome, cx: &mut Cx<'_>) -> Phase {
        if outcome == Outcome::Done || cx.stopping && bug!(EndToldInAHurry) {
            return Phase::Ended(self.end);
        }
        if cx.stopping {
            cx.progress(format!("the end cannot be written down before the daemon ends: {}", reason(outcome)));
            self.step = Step::Left;
            return self.into();
        }
        if self.tries >= limits::RECORD_TRIES || bug!(EndToldUnwritten) {
            cx.progress("the end cannot be written down: after a restart it may be told once more");
            return Phase::Ended(self.end);
        }
        cx.progress(format!("the end cannot be written down yet: {}", reason(outcome)));
        self.tries = self.tries.saturating_add(1);
        self.step = Step::Pausing { until: cx.now + limits::RECORD_AGAIN };
        self.into()
    }
}

impl Step {
    fn write(end: &End, spec: Option<Box<Spec>>, cx: &mut Cx<'_>) -> Self {
        Self::Writing(cx.wait(Work::Conclude { end: end.clone(), spec }, limits::RECORD))
    }
}

impl From<Concluding> for Phase {
    fn from(state: Concluding) -> Self {
        Self::Concluding(state)
    }
}
