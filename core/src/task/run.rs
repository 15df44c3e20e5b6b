//! The agent is at work.

use alloc::boxed::Box;
use alloc::format;

use serde::{Deserialize, Serialize};

use super::attach::{Attaching, Found};
use super::cx::Cx;
use super::dialog::{self, Dialog};
use super::finish::Finishing;
use super::mailbox::What;
use super::pace::Pace;
use super::phase::{Event, Phase, Verdict};
use super::spec::{Spec, Status};
use crate::agent::{self, Utterance};
use crate::effect::{Signal, Work};
use crate::id::EffectId;
use crate::input::{ExitStatus, Outcome, Prepared};
use crate::limits;
use crate::time::Millis;
use crate::view::TaskState;

/// The agent is at work.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Running {
    agent: EffectId,
    prepared: Prepared,
    /// It was asked to end.
    ending: Option<Ending>,
    pace: Pace,
    /// None with an agent that says nothing of how it gets on.
    dialog: Option<Box<Dialog>>,
}

/// An agent was asked to end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Ending {
    /// What its end means.
    why: Verdict,
    /// The next, sterner request.
    next: Rung,
    /// When that is due.
    due: Millis,
}

/// The steps by which an agent is ended that are still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Rung {
    Interrupt,
    Terminate,
    Kill,
}

impl Rung {
    /// Asks for what comes before this step, and says when the step is due. What is said in the agent's own words is in its
    /// mailbox.
    fn asked_before(self, why: Verdict, cx: &mut Cx<'_>) -> Ending {
        let (signal, after) = match self {
            Self::Interrupt => (None, limits::ASKED_TO_INTERRUPT),
            Self::Terminate => (Some(Signal::Interrupt), limits::INTERRUPT_TO_TERMINATE),
            Self::Kill => (Some(Signal::Terminate), limits::TERMINATE_TO_KILL),
        };
        if let Some(signal) = signal {
            cx.work(Work::Signal { signal });
        }
        Ending { why, next: self, due: cx.now + after }
    }
}

impl Running {
    /// An agent that has just been started, or found. What is known of a dialog with it goes on; else it begins.
    pub(super) fn new(
        agent: EffectId,
        prepared: Prepared,
        pace: Pace,
        known: Option<Box<Dialog>>,
        spec: &Spec,
        cx: &mut Cx<'_>,
    ) -> Self {
        let dialog = known.or_else(|| Dialog::begin(spec, &prepared, cx));
        let mut running = Self { agent, prepared, ending: None, pace, dialog };
        running.pace.steer(cx);
        if let Some(dialog) = &mut running.dialog {
            dialog.listen(cx);
        }
        running
    }

    /// The agent is in hand again. What it was asked when the daemon went down it is asked once more.
    pub(super) fn resume(mut self, ending: Option<(Verdict, Rung)>, cx: &mut Cx<'_>) -> Self {
        self.ending = ending.map(|(why, rung)| rung.asked_before(why, cx));
        self
    }

    /// The daemon has a new life.
    pub(super) fn recover(mut self, cx: &mut Cx<'_>) -> Phase {
        let ending = self.ending.map(|ending| (ending.why, ending.next));
        let pace = self.pace.recover();
        let shown = if pace.is_frozen() { Status::Paused } else { Status::Running };
        if let Some(dialog) = &mut self.dialog {
            dialog.recover();
        }
        let (prepared, dialog) = (self.prepared, self.dialog);
        Attaching::begin(Found { prepared, shown, begun: true, ending, asked: None, pace, dialog }, cx)
    }

    pub(super) const fn agent(&self) -> EffectId {
        self.agent
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        let sterner = self.ending.as_ref().filter(|_| !bug!(AskedOnceOnly));
        let dialog = self.dialog.as_ref().and_then(|dialog| dialog.deadline());
        [sterner.map(|ending| ending.due), self.pace.deadline(), dialog].into_iter().flatten().min()
    }

    pub(super) fn dialog(&mut self) -> Option<&mut Dialog> {
        self.dialog.as_deref_mut()
    }

    /// Whether its tree stands still.
    pub(super) fn is_frozen(&self) -> bool {
        self.pace.is_frozen()
    }

    /// Whether its tree neither stands still nor is about to.
    fn is_going(&self, cx: &Cx<'_>) -> bool {
        !*cx.hold && (self.pace.is_going() || bug!(MessageToWhoStands))
    }

    /// Whether it was asked to end.
    pub(super) const fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Where it stands: an end that was asked for comes before whether it stands still.
    pub(super) fn at(&self) -> TaskState {
        if self.is_ending() { TaskState::Ending } else { self.pace.at() }
    }

    /// What waits for the agent reaches it, in order; not while it stands still.
    pub(super) fn deliver(&mut self, spec: &Spec, cx: &mut Cx<'_>) {
        if !self.is_going(cx) {
            return;
        }
        match &mut self.dialog {
            Some(dialog) => dialog.deliver(spec, cx),
            None => dialog::deliver(
                |_| true,
                cx,
                |what| match what {
                    What::Own(text) | What::Word(Utterance { text, .. }) | What::Message { text, .. } => {
                        agent::line(text)
                    }
                    What::Plan { .. } => agent::line(&spec.plan),
                },
            ),
        }
    }

    pub(super) fn on(mut self, event: Event, cx: &mut Cx<'_>) -> Phase {
        match event {
            Event::Exited(id, status) if id == self.agent => self.exited(status, cx),
            Event::Interrupt { graceful } => self.interrupt(graceful, cx),
            // The daemon's own stop is said once; a person's second word is a sterner one.
            Event::Stop { graceful: true } if self.is_interrupted() => Phase::Running(self),
            Event::Stop { graceful } => self.interrupt(graceful, cx),
            Event::Over(why) => self.break_off(Verdict::Failed(why), cx),
            Event::Due => {
                self.pace.due(cx);
                if let Some(dialog) = &mut self.dialog {
                    dialog.due(cx);
                }
                self.climb(cx)
            }
            Event::Hold => {
                self.pace.steer(cx);
                self.settle(cx)
            }
            Event::Done(id, mut outcome) => {
                if let Some(dialog) = &mut self.dialog
                    && dialog.answered(id, &mut outcome, cx)
                {
                    return self.settle(cx);
                }
                // Signals are not waited for, but where one did not get there it is told.
                if !self.pace.answered(id, &outcome, cx)
                    && let Outcome::Failed(why) | Outcome::NoRoom(why) = outcome
                {
                    cx.progress(format!("the agent was not reached: {why}"));
                }
                self.settle(cx)
            }
            Event::Told => self.settle(cx),
            Event::Slot | Event::Exited(..) | Event::KeyTold => Phase::Running(self),
        }
    }

    /// What was asked of it decides, else what it says itself, else its exit code. What it said before it ended may not have
    /// been heard yet.
    fn exited(self, status: ExitStatus, cx: &mut Cx<'_>) -> Phase {
        let ending = self.ending.filter(|_| !bug!(SuccessAllTheSame));
        match (ending, self.dialog) {
            (Some(ending), dialog) => finish(None, self.prepared, dialog, ending.why, cx),
            (None, Some(dialog)) => {
                Finishing::hear_out(self.prepared, dialog, agent::how_it_ended("the agent", status), cx)
            }
            (None, None) => Finishing::begin(None, self.prepared, agent::result(status).into(), cx),
        }
    }

    fn is_interrupted(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.why == Verdict::Interrupted)
    }

    /// Gracefully: by its own words, SIGINT after 10 s, or at once to one that has none; SIGTERM after 5 s, the tree is killed
    /// after 5 more. By force, or asked a second time: killed at once.
    fn interrupt(self, graceful: bool, cx: &mut Cx<'_>) -> Phase {
        if !graceful || self.is_interrupted() {
            return finish(Some(self.agent), self.prepared, self.dialog, Verdict::Interrupted, cx);
        }
        cx.progress("interrupting the agent");
        self.break_off(Verdict::Interrupted, cx)
    }

    /// Asks it to end, by its own words where it has some; `why` is what its end will mean.
    fn break_off(mut self, why: Verdict, cx: &mut Cx<'_>) -> Phase {
        // It is let go on, to hear it.
        *cx.hold = false;
        self.pace.steer(cx);
        let rung = match (&mut self.ending, &mut self.dialog) {
            // It is about to end by itself.
            (Some(ending), _) => {
                ending.why = why;
                return Phase::Running(self);
            }
            (None, Some(dialog)) => {
                let has_words = dialog.break_off(cx);
                if has_words { Rung::Interrupt } else { Rung::Terminate }
            }
            (None, None) => Rung::Terminate,
        };
        self.ending = Some(rung.asked_before(why, cx));
        Phase::Running(self)
    }

    fn climb(mut self, cx: &mut Cx<'_>) -> Phase {
        let Some(ending) = self.ending.take_if(|ending| ending.due <= cx.now) else { return self.settle(cx) };
        let next = match ending.next {
            Rung::Interrupt => Rung::Terminate,
            Rung::Terminate => Rung::Kill,
            Rung::Kill => {
                cx.progress("the agent does not end by itself: it is killed");
                return finish(Some(self.agent), self.prepared, self.dialog, ending.why, cx);
            }
        };
        self.ending = Some(next.asked_before(ending.why, cx));
        Phase::Running(self)
    }

    /// An agent that has nothing more to do, by its own account, is asked to end. One that stands still would not hear it.
    fn settle(mut self, cx: &mut Cx<'_>) -> Phase {
        let goes = self.is_going(cx);
        if let Some(dialog) = &mut self.dialog {
            if let Some(result) = dialog.verdict(cx).filter(|_| goes && self.ending.is_none()) {
                let rung = if dialog.close(cx) { Rung::Interrupt } else { Rung::Terminate };
                self.ending = Some(rung.asked_before(result.into(), cx));
            }
            if let Some(ending) = self.ending.take_if(|ending| ending.next == Rung::Interrupt && dialog.is_through()) {
                self.ending = Some(Rung::Terminate.asked_before(ending.why, cx));
            }
            dialog.watch(goes && self.ending.is_none(), cx);
        }
        Phase::Running(self)
    }
}

/// How it ends is settled: nothing that it still says changes that.
fn finish(
    agent: Option<EffectId>,
    prepared: Prepared,
    dialog: Option<Box<Dialog>>,
    verdict: Verdict,
    cx: &mut Cx<'_>,
) -> Phase {
    if let Some(mut dialog) = dialog {
        dialog.leave(cx);
    }
    Finishing::begin(agent, prepared, verdict, cx)
}
