//! What a server says to a task that is under way: a message, a pause, a question about its merge.

use super::errand::Errand;
use super::mailbox::Answered;
use super::phase::{Event, Phase};
use super::{Surroundings, Task};
use crate::agent::{Answer, Sibling};
use crate::effect::Child;
use crate::id::EffectId;
use crate::input::Outcome;
use crate::limits;
use alloc::format;
use alloc::string::{String, ToString as _};

impl Task {
    pub(super) fn can_interrupt(&self, graceful: bool) -> bool {
        !self.agent_has_ended() || !graceful && matches!(&self.phase, Phase::Finishing(_))
    }

    /// Why it cannot be paused or let go on any more, if it cannot.
    fn is_past_pausing(&self) -> Option<&'static str> {
        match &self.phase {
            Phase::Running(state) if state.is_ending() => Some("the agent is being ended"),
            Phase::Attaching(state) if state.is_asked() => Some("the agent is being ended"),
            Phase::Finishing(_) | Phase::Concluding(_) => Some("the agent has ended, and its work is being brought in"),
            Phase::Ended(_) => Some("the task has ended"),
            Phase::Pending(_)
            | Phase::Preparing(_)
            | Phase::Keying(_)
            | Phase::Held
            | Phase::Starting(_)
            | Phase::Attaching(_)
            | Phase::Running(_) => None,
        }
    }

    /// It is to stand still. Before its agent runs that is kept for then.
    pub(crate) fn pause(&mut self, s: &mut Surroundings<'_>) {
        let refusal = self.is_past_pausing().or(self.hold.then_some("it is to stand still already"));
        if let Some(why) = refusal {
            return self.inapplicable(Some(why), s);
        }
        self.hold = true;
        if !matches!(self.phase, Phase::Running(_)) {
            self.within_phase(s, |cx| cx.progress("it will stand still as soon as it would run"));
        }
        self.advance(Event::Hold, s);
    }

    /// It is to go on.
    pub(crate) fn resume(&mut self, s: &mut Surroundings<'_>) {
        let stands = self.hold || self.meter.over().is_some();
        let refusal = self.is_past_pausing().or((!stands).then_some("it is not paused"));
        if let Some(why) = refusal {
            return self.inapplicable(Some(why), s);
        }
        self.meter.resume();
        self.hold = false;
        if !matches!(self.phase, Phase::Running(_) | Phase::Held) {
            self.within_phase(s, |cx| cx.progress("it will not stand still"));
        }
        self.advance(Event::Hold, s);
    }

    /// A sibling's progress, for the agent.
    pub(crate) fn sibling(&mut self, sibling: &Sibling, s: &mut Surroundings<'_>) {
        if self.agent_has_ended() { self.takes_none(s) } else { self.say(sibling.told(), s) }
    }

    /// The user says something to the agent.
    pub(crate) fn message(&mut self, text: String, s: &mut Surroundings<'_>) {
        if let Some(answer) = Answer::read(&text).filter(|_| self.spec.agent.talks()) {
            return self.answered_by_a_person(&answer, s);
        }
        let is_known_to_have_ended = self.status().is_end() && !self.outbox.owes_end();
        if !self.agent_has_ended() {
            self.say(text, s);
        } else if self.spec.agent.talks() && !is_known_to_have_ended {
            // Whoever said it was told that the agent hears it.
            self.keep(text, s);
        } else {
            self.takes_none(s);
        }
    }

    /// Whether its agent has ended.
    const fn agent_has_ended(&self) -> bool {
        match &self.phase {
            Phase::Pending(_)
            | Phase::Preparing(_)
            | Phase::Keying(_)
            | Phase::Held
            | Phase::Starting(_)
            | Phase::Attaching(_)
            | Phase::Running(_) => false,
            Phase::Finishing(_) | Phase::Concluding(_) | Phase::Ended(_) => true,
        }
    }

    fn takes_none(&mut self, s: &mut Surroundings<'_>) {
        self.inapplicable(Some("the agent has ended and takes no messages"), s);
    }

    fn say(&mut self, text: String, s: &mut Surroundings<'_>) {
        if !self.within_phase(s, |cx| cx.message(text)) {
            return self.inapplicable(Some("too many messages wait for the agent"), s);
        }
        self.deliver_messages(s);
        if self.mailbox.has_waiting() {
            let number = self.mailbox.newest();
            self.within_phase(s, |cx| cx.progress(format!("message {number}: queued")));
        }
    }

    /// It comes after the agent's end, of which the server does not know yet: it is for whoever goes on with the conversation.
    fn keep(&mut self, text: String, s: &mut Surroundings<'_>) {
        match self.within_phase(s, |cx| cx.late_message(text)) {
            Some(number) => {
                let told =
                    format!("message {number}: not taken up, as the agent has ended; who goes on with it is told");
                self.within_phase(s, |cx| cx.progress(told));
            }
            None => self.takes_none(s),
        }
    }

    /// What waits for the agent reaches it once it runs, in order; not while it stands still.
    pub(super) fn deliver_messages(&mut self, s: &mut Surroundings<'_>) {
        if matches!(&self.phase, Phase::Running(_)) {
            self.phase = self.within(s, |mut phase, spec, cx| {
                if let Phase::Running(state) = &mut phase {
                    state.deliver(spec, cx);
                }
                phase
            });
        }
    }

    /// What was said to the agent has reached it, or it has not: then that is told. False where that effect is of something
    /// else.
    pub(super) fn told_agent(&mut self, id: EffectId, outcome: &Outcome, s: &mut Surroundings<'_>) -> bool {
        let done = *outcome == Outcome::Done;
        let answered = self.mailbox.answered(id, done);
        let what = match answered {
            Answered::No => return false,
            Answered::Own => "a line of ours".to_string(),
            Answered::Plan => "the plan".to_string(),
            Answered::Message(number) => format!("message {number}"),
        };
        if let Outcome::Failed(why) | Outcome::NoRoom(why) = outcome {
            self.within_phase(s, |cx| cx.progress(format!("{what} did not reach the agent: {why}")));
        } else if done && self.mailbox.tells() && matches!(answered, Answered::Message(_)) {
            self.within_phase(s, |cx| cx.progress(format!("{what}: delivered")));
        }
        self.advance(Event::Told, s);
        true
    }

    pub(super) fn tell_late_messages(&mut self, s: &mut Surroundings<'_>) {
        let left = self.mailbox.close(&self.spec);
        if left > 0 {
            self.within_phase(s, |cx| cx.progress(format!("messages that came too late for the agent: {left}")));
        }
    }

    /// The server wants to know something of it, or something done. `children` are its subtasks that are known.
    pub(crate) fn errand(&mut self, errand: Errand, children: &[Child], s: &mut Surroundings<'_>) {
        let refusal = match &self.phase {
            Phase::Ended(_) => None,
            _ if matches!(errand, Errand::Retry { .. }) => Some("the task has not ended yet"),
            Phase::Pending(_) | Phase::Preparing(_) => Some("its worktree is not there yet"),
            Phase::Finishing(_) | Phase::Concluding(_) if errand.moves_the_merge() => {
                Some("its work is being brought in; it can be merged into once the task has ended")
            }
            Phase::Keying(_)
            | Phase::Held
            | Phase::Starting(_)
            | Phase::Attaching(_)
            | Phase::Running(_)
            | Phase::Finishing(_)
            | Phase::Concluding(_) => None,
        };
        if let Some(why) = refusal.or_else(|| errand.refusal(&self.spec)).or_else(|| not_yet(&errand, children)) {
            return self.answer(errand.refused(why.into()), why, s);
        }
        let refused = errand.refused(format!("{} commands for this task are under way already", limits::ERRANDS));
        if !self.with_errands(s, |errands, spec, cx| errands.begin(errand, spec, children, cx)) {
            self.answer(refused, "too many commands for this task are under way", s);
        }
    }

    /// The daemon has a new life: what was asked for is asked for again.
    pub(crate) fn recover_errands(&mut self, children: &[Child], s: &mut Surroundings<'_>) {
        self.with_errands(s, |errands, spec, cx| errands.recover(spec, children, cx));
    }

    /// A session is open: the server is told the task's key again.
    pub(crate) fn tell_key(&mut self, key: crate::id::SecretId) {
        if self.keyed {
            self.outbox.push_key(self.spec.id, key);
        }
    }
}

/// A branch is not merged before its task has ended.
fn not_yet(errand: &Errand, children: &[Child]) -> Option<&'static str> {
    let Errand::Start { child: Some(id), .. } = errand else { return None };
    let runs = !bug!(MergedTooSoon) && children.iter().any(|child| child.task == *id && !child.ended);
    runs.then_some("the task of that branch has not ended yet")
}
