//! The agent is at work.

use alloc::format;

use serde::{Deserialize, Serialize};

use super::attach::{Attaching, Found};
use super::cx::Cx;
use super::finish::Finishing;
use super::pace::Pace;
use super::phase::{Event, Phase, Verdict};
use super::spec::Status;
use crate::agent;
use crate::effect::{Signal, Work};
use crate::id::EffectId;
use crate::input::{Outcome, Prepared};
use crate::limits;
use crate::time::Millis;
use crate::view::TaskState;

/// The agent is at work.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Running {
    agent: EffectId,
    prepared: Prepared,
    /// It was asked to end: the next, sterner request and when it is due.
    interrupt: Option<(Rung, Millis)>,
    pace: Pace,
}

/// The steps of a graceful interrupt that are still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Rung {
    Terminate,
    Kill,
}

impl Rung {
    /// Asks for what comes before this step, and says when the step is due.
    fn asked_before(self, cx: &mut Cx<'_>) -> (Self, Millis) {
        let (signal, after) = match self {
            Self::Terminate => (Signal::Interrupt, limits::INTERRUPT_TO_TERMINATE),
            Self::Kill => (Signal::Terminate, limits::TERMINATE_TO_KILL),
        };
        cx.work(Work::Signal { signal });
        (self, cx.now + after)
    }
}

impl Running {
    /// An agent that has just been started, or found.
    pub(super) fn new(agent: EffectId, prepared: Prepared, pace: Pace, cx: &mut Cx<'_>) -> Self {
        let mut running = Self { agent, prepared, interrupt: None, pace };
        running.pace.steer(cx);
        running
    }

    /// The agent is in hand again. What it was asked when the daemon went down it is asked once more.
    pub(super) fn resume(mut self, rung: Option<Rung>, cx: &mut Cx<'_>) -> Self {
        self.interrupt = rung.map(|rung| rung.asked_before(cx));
        self
    }

    /// The daemon has a new life.
    pub(super) fn recover(self, cx: &mut Cx<'_>) -> Phase {
        let rung = self.interrupt.map(|(rung, _)| rung);
        let pace = self.pace.recover();
        let shown = if pace.is_frozen() { Status::Paused } else { Status::Running };
        Attaching::begin(Found { prepared: self.prepared, shown, begun: true, rung, asked: None, pace }, cx)
    }

    pub(super) const fn agent(&self) -> EffectId {
        self.agent
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        let sterner = self.interrupt.filter(|_| !bug!(AskedOnceOnly));
        [sterner.map(|(_, due)| due), self.pace.deadline()].into_iter().flatten().min()
    }

    /// Whether its tree stands still.
    pub(super) fn is_frozen(&self) -> bool {
        self.pace.is_frozen()
    }

    /// Whether its tree neither stands still nor is about to.
    pub(super) fn is_going(&self) -> bool {
        self.pace.is_going()
    }

    /// Whether it was asked to end.
    pub(super) const fn is_ending(&self) -> bool {
        self.interrupt.is_some()
    }

    /// Where it stands: an end that was asked for comes before whether it stands still.
    pub(super) fn at(&self) -> TaskState {
        if self.is_ending() { TaskState::Ending } else { self.pace.at() }
    }

    pub(super) fn on(mut self, event: Event, cx: &mut Cx<'_>) -> Phase {
        match event {
            Event::Exited(id, status) if id == self.agent => {
                let verdict = match (self.interrupt.filter(|_| !bug!(SuccessAllTheSame)), agent::result(status)) {
                    (Some(_), _) => Verdict::Interrupted,
                    (None, agent::Result::Success) => Verdict::Success,
                    (None, agent::Result::Failure(why)) => Verdict::Failed(why),
                };
                Finishing::begin(None, self.prepared, verdict, cx)
            }
            Event::Interrupt { graceful } => self.interrupt(graceful, cx),
            // The daemon's own stop is said once; a person's second word is a sterner one.
            Event::Stop { graceful: true } if self.interrupt.is_some() => Phase::Running(self),
            Event::Stop { graceful } => self.interrupt(graceful, cx),
            Event::Due => {
                self.pace.due(cx);
                self.climb(cx)
            }
            Event::Hold => {
                self.pace.steer(cx);
                Phase::Running(self)
            }
            Event::Done(id, outcome) => {
                // Signals are not waited for, but where one did not get there it is told.
                if !self.pace.answered(id, &outcome, cx)
                    && let Outcome::Failed(why) | Outcome::NoRoom(why) = outcome
                {
                    cx.progress(format!("the agent was not reached: {why}"));
                }
                Phase::Running(self)
            }
            Event::Slot | Event::Exited(..) | Event::KeyTold => Phase::Running(self),
        }
    }

    /// Gracefully: SIGINT, SIGTERM after 5 s, the tree is killed after 5 more. By force, or asked a second
    /// time: killed at once.
    fn interrupt(mut self, graceful: bool, cx: &mut Cx<'_>) -> Phase {
        if !graceful || self.interrupt.is_some() {
            return self.kill(cx);
        }
        cx.progress("interrupting the agent");
        // It is let go on, to hear it.
        *cx.hold = false;
        self.pace.steer(cx);
        self.interrupt = Some(Rung::Terminate.asked_before(cx));
        Phase::Running(self)
    }

    fn climb(mut self, cx: &mut Cx<'_>) -> Phase {
        match self.interrupt {
            Some((Rung::Terminate, due)) if due <= cx.now => {
                self.interrupt = Some(Rung::Kill.asked_before(cx));
                Phase::Running(self)
            }
            Some((Rung::Kill, due)) if due <= cx.now => {
                cx.progress("the agent does not end by itself: it is killed");
                self.kill(cx)
            }
            _ => Phase::Running(self),
        }
    }

    fn kill(self, cx: &mut Cx<'_>) -> Phase {
        Finishing::begin(Some(self.agent), self.prepared, Verdict::Interrupted, cx)
    }
}
