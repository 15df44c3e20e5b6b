//! The agent is at work.

use alloc::format;

use serde::{Deserialize, Serialize};

use super::cx::Cx;
use super::finish::Finishing;
use super::phase::{Event, Phase, Verdict};
use crate::agent;
use crate::effect::{Signal, Work};
use crate::id::EffectId;
use crate::input::{Outcome, Prepared};
use crate::limits;
use crate::time::Millis;

/// The agent is at work.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Running {
    agent: EffectId,
    prepared: Prepared,
    /// It was asked to end: the next, sterner request and when it is due.
    interrupt: Option<(Rung, Millis)>,
}

/// The steps of a graceful interrupt that are still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Rung {
    Terminate,
    Kill,
}

impl Running {
    pub(super) const fn new(agent: EffectId, prepared: Prepared) -> Self {
        Self { agent, prepared, interrupt: None }
    }

    pub(super) const fn agent(&self) -> EffectId {
        self.agent
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        self.interrupt.map(|(_, due)| due)
    }

    pub(super) fn on(self, event: Event, cx: &mut Cx<'_>) -> Phase {
        match event {
            Event::Exited(id, status) if id == self.agent => {
                let verdict = match (self.interrupt, agent::result(status)) {
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
            Event::Due => self.climb(cx),
            Event::Message(text) => {
                cx.work(Work::Stdin { text: agent::message(&text) });
                Phase::Running(self)
            }
            // Signals and messages are not waited for, but where one did not get there it is told.
            Event::Done(_, Outcome::Failed(why) | Outcome::NoRoom(why)) => {
                cx.progress(format!("the agent was not reached: {why}"));
                Phase::Running(self)
            }
            Event::Slot | Event::Done(..) | Event::Exited(..) => Phase::Running(self),
        }
    }

    /// Gracefully: SIGINT, SIGTERM after 5 s, the tree is killed after 5 more. By force, or asked a second
    /// time: killed at once.
    fn interrupt(mut self, graceful: bool, cx: &mut Cx<'_>) -> Phase {
        if !graceful || self.interrupt.is_some() {
            return self.kill(cx);
        }
        cx.progress("interrupting the agent");
        cx.work(Work::Signal { signal: Signal::Interrupt });
        self.interrupt = Some((Rung::Terminate, cx.now + limits::INTERRUPT_TO_TERMINATE));
        Phase::Running(self)
    }

    fn climb(mut self, cx: &mut Cx<'_>) -> Phase {
        match self.interrupt {
            Some((Rung::Terminate, due)) if due <= cx.now => {
                cx.work(Work::Signal { signal: Signal::Terminate });
                self.interrupt = Some((Rung::Kill, cx.now + limits::TERMINATE_TO_KILL));
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
