//! After a new start of the daemon: the agent of before is found again, or what has become of it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;

use serde::{Deserialize, Serialize};

use super::conclude::{Concluding, Left};
use super::cx::{Cx, Wait};
use super::dialog::Dialog;
use super::finish::Finishing;
use super::pace::Pace;
use super::phase::{Event, Phase, Verdict};
use super::prepare::{Starting, given_up, reason};
use super::run::{Rung, Running};
use super::spec::{Spec, Status};
use crate::effect::Work;
use crate::input::{Outcome, Prepared};
use crate::limits;
use crate::time::Millis;

/// Its agent is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Attaching {
    wait: Wait,
    found: Found,
}

/// What is known of a task whose agent is to be found again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) prepared: Prepared,
    /// What the server was told last.
    pub(crate) shown: Status,
    /// Its agent is known to have been started: it is never started again.
    pub(crate) begun: bool,
    /// It had been asked to end: what that end means, and the next step to it.
    pub(crate) ending: Option<(Verdict, Rung)>,
    /// Somebody wants it to end, and the agent has not been told: whether gracefully.
    pub(crate) asked: Option<bool>,
    /// Whether it may have been stopped where it stands.
    pub(crate) pace: Pace,
    /// What is known of a dialog with it.
    pub(crate) dialog: Option<Box<Dialog>>,
}

impl Attaching {
    pub(super) fn begin(found: Found, cx: &mut Cx<'_>) -> Phase {
        Phase::Attaching(Self { wait: cx.wait(Work::Attach, limits::ATTACH), found })
    }

    pub(super) const fn deadline(&self) -> Millis {
        self.wait.due
    }

    pub(super) const fn shown(&self) -> Status {
        self.found.shown
    }

    pub(super) fn dialog(&mut self) -> Option<&mut Dialog> {
        self.found.dialog.as_deref_mut()
    }

    /// The daemon has yet another life.
    pub(super) fn recover(self, cx: &mut Cx<'_>) -> Phase {
        Self::begin(self.found, cx)
    }

    pub(super) fn on(mut self, event: Event, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        match event {
            Event::Done(id, outcome) if id == self.wait.id => self.attached(outcome, spec, cx),
            // The daemon's own stop is said once; a person's second word is a sterner one.
            Event::Stop { graceful: true } if self.is_asked() => Phase::Attaching(self),
            Event::Interrupt { graceful } | Event::Stop { graceful } => {
                self.found.asked = Some(graceful && !self.is_asked());
                Phase::Attaching(self)
            }
            Event::Due => {
                if self.wait.overdue(cx) {
                    let id = self.wait.id;
                    return self.on(Event::Done(id, given_up()), spec, cx);
                }
                Phase::Attaching(self)
            }
            Event::Slot
            | Event::Done(..)
            | Event::Exited(..)
            | Event::Over(_)
            | Event::Hold
            | Event::KeyTold
            | Event::Told => Phase::Attaching(self),
        }
    }

    /// Whether somebody wants it to end, be it itself.
    pub(super) const fn is_asked(&self) -> bool {
        self.found.asked.is_some() || self.found.ending.is_some()
    }

    fn attached(self, outcome: Outcome, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        let Found { prepared, shown, begun, ending, asked, pace, dialog } = self.found;
        if let Outcome::Started { pid, handed } = outcome {
            cx.progress(format!("the agent is in hand again (process {pid})"));
            let is_known = dialog.is_some();
            let mut running = Running::new(self.wait.id, prepared, pace, dialog, spec, cx).resume(ending, cx);
            let unknown = cx.mailbox.handed(handed);
            match running.dialog() {
                Some(dialog) if !is_known => dialog.was_begun(handed, cx),
                Some(dialog) if unknown => dialog.was_told_more(),
                Some(_) | None => {}
            }
            return match asked {
                Some(graceful) => running.on(Event::Interrupt { graceful }, cx),
                None => Phase::Running(running),
            };
        }
        let verdict = asked.map(|_| Verdict::Interrupted).or(ending.map(|(why, _)| why));
        if outcome == Outcome::NotStarted && !begun {
            return match verdict {
                Some(verdict) => Concluding::begin(verdict, Left::nothing(spec), shown, cx),
                None => Starting::begin(prepared, shown, spec, cx),
            };
        }
        // Nothing is started twice, whatever became of the first.
        let why = if outcome == Outcome::NotStarted {
            "the agent is gone, and so is every trace of it".to_string()
        } else {
            reason(outcome)
        };
        if let Some(verdict) = verdict {
            cx.progress(why);
            return Finishing::begin(None, prepared, verdict, cx);
        }
        match dialog.or_else(|| Dialog::of(spec, cx)) {
            Some(dialog) => Finishing::hear_out(prepared, dialog, why, cx),
            None => Finishing::begin(None, prepared, Verdict::Failed(why), cx),
        }
    }
}
