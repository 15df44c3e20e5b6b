//! After the agent: its tree is emptied, its work committed, the completion action done, the end written down.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};

use serde::{Deserialize, Serialize};

use super::conclude::{Concluding, Left};
use super::cx::{Cx, Wait};
use super::dialog::Dialog;
use super::errand::{deed_limit, delivery};
use super::phase::{Event, Phase, Verdict};
use super::prepare::{given_up, reason, short};
use super::spec::{Action, Completion, Spec, Status, no_action};
use crate::effect::{Check, Commit, Deed, Work};
use crate::id::EffectId;
use crate::input::{Change, Outcome, Prepared};
use crate::limits;
use crate::policy::{CommitText, counted, cut};
use crate::time::Millis;
use crate::view::TaskState;

/// The agent has ended, or is being ended; its work is brought in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Finishing {
    prepared: Prepared,
    verdict: Verdict,
    step: Step,
    wait: Wait,
    /// The agent, where its own end has not been told yet.
    agent: Option<EffectId>,
    /// What it changed, once that is committed.
    change: Option<Change>,
    /// The check that it failed, if it was checked and failed one.
    unchecked: Option<String>,
    /// Where its output log ends, once that is known.
    log_end: u64,
    /// Somebody wants it over with: what is not under way is skipped.
    skip: bool,
    /// It ended by itself, and what it said before that decides.
    #[serde(default)]
    hearing: Option<Hearing>,
}

/// What is still to be heard of an agent that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Hearing {
    dialog: Box<Dialog>,
    /// How it ended.
    how: String,
}

/// What there is no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Lacks {
    /// What is still to be said in the output.
    Output,
    /// States of before there was anything else mean this.
    #[default]
    Commit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Step {
    /// The process tree is being emptied, for so many times already.
    Emptying(u8),
    /// The rest of what it said is listened to.
    Hearing {
        until: Millis,
    },
    /// The work is being committed, for so many times already.
    Committing(u8),
    /// There was no room for this so many times. Perhaps there is some later.
    Pausing {
        until: Millis,
        tries: u8,
        #[serde(default)]
        lacks: Lacks,
    },
    /// The repository's own checks are run on it.
    Checking,
    Delivering,
}

impl Finishing {
    /// Begins with the process tree: it is emptied after every end, a normal one too.
    pub(super) fn begin(agent: Option<EffectId>, prepared: Prepared, verdict: Verdict, cx: &mut Cx<'_>) -> Phase {
        Self::of(agent, prepared, verdict, None, cx)
    }

    /// The same, of an agent that has ended by itself, as `how` says, and may have said more than was heard of it.
    pub(super) fn hear_out(prepared: Prepared, mut dialog: Box<Dialog>, how: String, cx: &mut Cx<'_>) -> Phase {
        dialog.is_gone(cx);
        let verdict = dialog.judge(&how, cx).into();
        Self::of(None, prepared, verdict, Some(Hearing { dialog, how }), cx)
    }

    fn of(
        agent: Option<EffectId>,
        prepared: Prepared,
        verdict: Verdict,
        hearing: Option<Hearing>,
        cx: &mut Cx<'_>,
    ) -> Phase {
        let wait = cx.wait(Work::Empty, limits::EMPTY);
        let step = Step::Emptying(1);
        let (change, unchecked, log_end, skip) = (None, None, 0, false);
        Phase::Finishing(Self { prepared, verdict, step, wait, agent, change, unchecked, log_end, skip, hearing })
    }

    pub(super) fn deadline(&self) -> Millis {
        match self.step {
            Step::Pausing { until, .. } => until,
            Step::Hearing { until } => {
                let again = self.hearing.as_ref().and_then(|hearing| hearing.dialog.listens_again());
                again.map_or(until, |again| again.min(until))
            }
            Step::Emptying(_) | Step::Committing(_) | Step::Checking | Step::Delivering => self.wait.due,
        }
    }

    pub(super) const fn at(&self) -> TaskState {
        match self.step {
            Step::Emptying(_) => TaskState::Emptying,
            Step::Hearing { .. } => TaskState::HearingOut,
            Step::Committing(_) => TaskState::Committing,
            Step::Pausing { .. } => TaskState::OutOfRoom,
            Step::Checking => TaskState::Checking,
            Step::Delivering => TaskState::Delivering,
        }
    }

    pub(super) const fn agent(&self) -> Option<EffectId> {
        self.agent
    }

    /// Where the output log ends, once the tree is empty.
    pub(super) const fn log_end(&self) -> Option<u64> {
        match self.step {
            Step::Emptying(_) | Step::Pausing { lacks: Lacks::Output, .. } => None,
            Step::Hearing { .. }
            | Step::Committing(_)
            | Step::Pausing { lacks: Lacks::Commit, .. }
            | Step::Checking
            | Step::Delivering => Some(self.log_end),
        }
    }

    pub(super) fn on(mut self, event: Event, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        match event {
            Event::Done(id, outcome) if id == self.wait.id => match self.step {
                Step::Emptying(tries) => self.emptied(tries, outcome, spec, cx),
                Step::Committing(tries) => self.committed(tries, outcome, spec, cx),
                Step::Checking => self.checked(outcome, spec, cx),
                Step::Delivering => self.delivered(outcome, cx),
                Step::Pausing { .. } | Step::Hearing { .. } => Phase::Finishing(self),
            },
            Event::Done(id, outcome) => self.listened(id, outcome, spec, cx),
            Event::Interrupt { graceful: false } | Event::Stop { graceful: false } => {
                if !self.skip {
                    cx.progress("what is under way is let come to its end; the rest is skipped");
                }
                self.skip = true;
                if let Step::Pausing { tries, lacks, .. } = self.step {
                    return self.try_again(lacks, tries, spec, cx);
                }
                match self.step {
                    Step::Emptying(1) => {}
                    Step::Hearing { .. } => return self.heard_out(spec, cx),
                    // That is no git step.
                    Step::Checking => self.wait.cancel(cx),
                    Step::Emptying(_) | Step::Committing(_) | Step::Pausing { .. } | Step::Delivering => {
                        self.wait.hurry(limits::FORCED_GIT, cx);
                    }
                }
                Phase::Finishing(self)
            }
            Event::Stop { graceful: true } => match self.step {
                Step::Pausing { tries, lacks, .. } => self.try_again(lacks, tries, spec, cx),
                Step::Emptying(_) | Step::Hearing { .. } | Step::Committing(_) | Step::Checking | Step::Delivering => {
                    Phase::Finishing(self)
                }
            },
            Event::Due => {
                if let Step::Hearing { until } = self.step {
                    return if until <= cx.now { self.heard_out(spec, cx) } else { self.listen_again(cx) };
                }
                if let Step::Pausing { until, tries, lacks } = self.step {
                    return if until <= cx.now {
                        self.try_again(lacks, tries, spec, cx)
                    } else {
                        Phase::Finishing(self)
                    };
                }
                if self.wait.overdue(cx) {
                    let id = self.wait.id;
                    return self.on(Event::Done(id, given_up()), spec, cx);
                }
                Phase::Finishing(self)
            }
            Event::Exited(id, _) if self.agent == Some(id) => {
                self.agent = None;
                Phase::Finishing(self)
            }
            Event::Slot
            | Event::Exited(..)
            | Event::Interrupt { .. }
            | Event::Over(_)
            | Event::Hold
            | Event::KeyTold
            | Event::Told => Phase::Finishing(self),
        }
    }

    fn emptied(mut self, tries: u8, outcome: Outcome, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        if let Some(why) = self.waits_for_room(Lacks::Output, tries, &outcome, cx) {
            if tries == 1 {
                cx.progress(format!("no room for the end of its log, which waits for some: {why}"));
            }
            return Phase::Finishing(self);
        }
        if let Outcome::Emptied { killed, log_end } = outcome {
            if killed > 0 {
                cx.progress(format!("ended processes that the agent left behind: {killed}"));
            }
            self.log_end = log_end;
        } else {
            cx.progress(format!("the agent's processes could not be ended: {}", reason(outcome)));
            if tries < limits::EMPTY_TRIES {
                return self.empty(tries, cx);
            }
            self.log_end = cx.log_read;
        }
        if self.skip && bug!(ForceSkipsTheCommit) {
            return self.conclude(None, cx);
        }
        if let Some(Hearing { dialog, .. }) = self.hearing.as_mut().filter(|_| !self.skip && !bug!(NotHeardOut)) {
            dialog.hear_out(self.log_end, cx);
            self.step = Step::Hearing { until: cx.now + limits::HEAR_OUT };
            return self.hear(spec, cx);
        }
        self.commit(0, spec, cx)
    }

    /// Perhaps more was heard of what it said.
    fn listened(mut self, id: EffectId, mut outcome: Outcome, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        let heard = self.hearing.as_mut().is_some_and(|hearing| hearing.dialog.answered(id, &mut outcome, cx));
        if let (Step::Hearing { .. }, true) = (self.step, heard) {
            self.step = Step::Hearing { until: cx.now + limits::HEAR_OUT };
            return self.hear(spec, cx);
        }
        Phase::Finishing(self)
    }

    /// What could not be read is read once more.
    fn listen_again(mut self, cx: &mut Cx<'_>) -> Phase {
        if let Some(hearing) = &mut self.hearing {
            hearing.dialog.listen_again(cx);
        }
        Phase::Finishing(self)
    }

    /// More is waited for, unless all has been heard.
    fn hear(self, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        if self.hearing.as_ref().is_some_and(|hearing| !hearing.dialog.has_heard_all()) {
            return Phase::Finishing(self);
        }
        self.heard_out(spec, cx)
    }

    /// All has been heard that can be: that decides.
    fn heard_out(mut self, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        if let Some(Hearing { mut dialog, how }) = self.hearing.take() {
            dialog.leave(cx);
            self.verdict = dialog.judge(&how, cx).into();
        }
        self.commit(0, spec, cx)
    }

    /// Has the process tree emptied, once more.
    fn empty(mut self, tries: u8, cx: &mut Cx<'_>) -> Phase {
        self.step = Step::Emptying(tries.saturating_add(1));
        self.wait = cx.wait(Work::Empty, limits::EMPTY);
        Phase::Finishing(self)
    }

    /// Perhaps there is room by now.
    fn try_again(self, lacks: Lacks, tries: u8, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        match lacks {
            Lacks::Output => self.empty(tries, cx),
            Lacks::Commit => self.commit(tries, spec, cx),
        }
    }

    /// Where there was no room it is waited for some, but not against a person's will, and not for ever. Gives what was
    /// said then.
    fn waits_for_room(&mut self, lacks: Lacks, tries: u8, outcome: &Outcome, cx: &Cx<'_>) -> Option<String> {
        let Outcome::NoRoom(why) = outcome else { return None };
        if self.skip || cx.stopping || tries >= limits::COMMIT_TRIES {
            return None;
        }
        self.step = Step::Pausing { until: cx.now + limits::COMMIT_AGAIN, tries, lacks };
        Some(why.clone())
    }

    /// The daemon has a new life: the step that was under way is done again. Nothing is committed before the tree is empty,
    /// which it need not be: emptying it may have been given up on, and then nobody comes to it any more.
    pub(super) fn recover(mut self, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        // Whoever started it is gone, and nobody will tell of its end.
        self.agent = None;
        if let Some(Hearing { dialog, .. }) = &mut self.hearing {
            dialog.recover();
        }
        match self.step {
            Step::Committing(_) if bug!(CommitForgotten) => self.check(spec, cx),
            Step::Emptying(_) | Step::Hearing { .. } | Step::Committing(_) | Step::Pausing { .. } => {
                self.step = Step::Emptying(1);
                self.wait = cx.wait(Work::Empty, limits::EMPTY);
                Phase::Finishing(self)
            }
            Step::Checking => self.check(spec, cx),
            Step::Delivering if bug!(HandingOverForgotten) => self.conclude(None, cx),
            Step::Delivering => self.act(spec, cx),
        }
    }

    /// Has the work committed, once more.
    fn commit(mut self, tries: u8, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        self.step = Step::Committing(tries.saturating_add(1));
        let commit = Commit {
            branch: spec.branch.clone(),
            base: self.prepared.base.clone(),
            text: CommitText::of(&spec.name, spec.id, spec.parent),
        };
        self.wait =
            cx.wait(Work::Commit(Box::new(commit)), if self.skip { limits::FORCED_GIT } else { limits::COMMIT });
        Phase::Finishing(self)
    }

    fn committed(mut self, tries: u8, outcome: Outcome, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        if let Some(why) = self.waits_for_room(Lacks::Commit, tries, &outcome, cx) {
            if tries == 1 {
                cx.progress(format!("no room for the commit, which waits for some: {why}"));
            }
            return Phase::Finishing(self);
        }
        if let Outcome::Committed(change) = outcome {
            cx.progress(describe(change.as_ref(), spec));
            self.change = change;
            return self.check(spec, cx);
        }
        let why = format!("the work could not be committed: {}", reason(outcome));
        cx.progress(why.clone());
        if self.verdict == Verdict::Success {
            self.verdict = Verdict::Failed(why);
        }
        let completion = self.not_done(spec, "the work could not be committed");
        self.conclude(completion, cx)
    }

    /// After success what was changed is checked as the repository has it.
    fn check(mut self, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        let Prepared { checks, env, .. } = &self.prepared;
        if self.verdict != Verdict::Success || self.change.is_none() || checks.is_empty() || self.skip {
            return self.act(spec, cx);
        }
        cx.progress(format!("running {}", counted(checks.len() as u64, "check")));
        let work = Work::Check(Box::new(Check { commands: checks.clone(), env: env.clone() }));
        self.step = Step::Checking;
        self.wait = cx.wait(work, limits::CHECKS);
        Phase::Finishing(self)
    }

    fn checked(mut self, outcome: Outcome, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        self.unchecked = if let Outcome::Checked { failed } = outcome {
            failed
        } else {
            Some(format!("the checks could not be run: {}", reason(outcome)))
        };
        cx.progress(match &self.unchecked {
            Some(why) => cut(why, limits::REASON),
            None => "the checks have passed".into(),
        });
        self.act(spec, cx)
    }

    /// After success the completion action; after any other end only `branch`, if there is a commit.
    fn act(mut self, spec: &Spec, cx: &mut Cx<'_>) -> Phase {
        let Some(change) = &self.change else {
            return self.conclude(Completion::of_nothing(&spec.action), cx);
        };
        let deed = match spec.action.deed() {
            Ok(None) => return self.conclude(None, cx),
            Ok(Some(deed)) => deed,
            Err(name) => {
                let completion = self.not_done(spec, &no_action(name));
                return self.conclude(completion, cx);
            }
        };
        let work = delivery(spec, deed, spec.target.clone(), spec.into.clone(), Some(change.commit.clone()));
        let refusal = match deed {
            _ if self.skip => Some("skipped by a forced interrupt".to_string()),
            Deed::Merge | Deed::Pr if self.verdict != Verdict::Success => {
                Some("not done, since the task did not succeed".to_string())
            }
            Deed::Merge | Deed::Pr => self.unchecked.as_ref().map(|why| format!("not done: {why}")),
            Deed::Branch => None,
        };
        if let Some(why) = refusal.or_else(|| work.refusal().map(str::to_string)) {
            let completion = self.not_done(spec, &why);
            return self.conclude(completion, cx);
        }
        self.step = Step::Delivering;
        self.wait = cx.wait(Work::Deliver(Box::new(work)), deed_limit(deed));
        Phase::Finishing(self)
    }

    fn delivered(self, outcome: Outcome, cx: &mut Cx<'_>) -> Phase {
        let completion = if let Outcome::Delivered { message, url } = outcome {
            Completion { success: true, message, url }
        } else {
            Completion { success: false, message: cut(&reason(outcome), limits::REASON), url: None }
        };
        cx.progress(completion.message.clone());
        self.conclude(Some(completion), cx)
    }

    /// The result of an action that was not done. The work is kept all the same, and it is said where.
    fn not_done(&self, spec: &Spec, why: &str) -> Option<Completion> {
        if spec.action == Action::None {
            return None;
        }
        let kept = match &self.change {
            Some(change) => format!("; the work is kept as commit {}", short(&change.commit)),
            None => String::new(),
        };
        Some(Completion { success: false, message: cut(&format!("{why}{kept}"), limits::REASON), url: None })
    }

    fn conclude(self, completion: Option<Completion>, cx: &mut Cx<'_>) -> Phase {
        let verdict = if self.skip { Verdict::Interrupted } else { self.verdict };
        Concluding::begin(verdict, Left { completion, log_end: self.log_end }, Status::Finishing, cx)
    }
}

fn describe(change: Option<&Change>, spec: &Spec) -> String {
    let Some(change) = change else { return "no changes".to_string() };
    let note = change.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
    format!(
        "committed {} on {}: {}, +{} -{}{note}",
        short(&change.commit),
        spec.branch,
        counted(change.files, "file"),
        change.insertions,
        change.deletions,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects a task that waits for room from an upgrade: its state has to be read by the build that knows more.
    #[test]
    fn a_state_of_before_there_was_a_choice_waits_for_the_commit() {
        let now = Step::Pausing { until: Millis(7), tries: 2, lacks: Lacks::Commit };
        let mut state = serde_json::to_value(now).unwrap();
        assert!(state["Pausing"].as_object_mut().unwrap().remove("lacks").is_some());
        assert_eq!(serde_json::from_value::<Step>(state).unwrap(), now);
    }
}
