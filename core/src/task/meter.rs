//! What a task has used up of what it may.

use alloc::format;
use alloc::string::String;
use core::mem;

use serde::{Deserialize, Serialize};

use super::phase::{Event, Phase};
use super::{Surroundings, Task, reason};
use crate::agent::claude::dollars;
use crate::allowance::{Allowance, Then};
use crate::effect::Work;
use crate::id::EffectId;
use crate::input::Outcome;
use crate::limits;
use crate::policy::counted;
use crate::time::Millis;
use crate::view::TaskState;

/// What it has used up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Meter {
    /// For how long its agent was at work, up to `since`.
    ran: Millis,
    /// It is at work, and was counted up to this moment.
    since: Option<Millis>,
    /// How often a person has let it go on with as much again.
    again: u32,
    /// What its processes take is being looked at.
    asked: Option<EffectId>,
    /// When that is looked at next.
    look: Option<Millis>,
    /// People were told that this cannot be seen.
    blind: bool,
    /// What it stands still for.
    over: Option<String>,
    /// People were told that its last turn cost more than it may: there was nothing left to be held.
    #[serde(default)]
    told_cost: bool,
}

impl Meter {
    /// It is at work, or is not.
    fn runs(&mut self, runs: bool, now: Millis) {
        if let Some(since) = self.since.take() {
            self.ran = self.ran + Millis(now.0.saturating_sub(since.0));
        }
        self.since = runs.then_some(now);
    }

    /// So many times what it may is what it may by now.
    fn times(&self, what: u64) -> u64 {
        what.saturating_mul(u64::from(self.again).saturating_add(1))
    }

    /// What it has used up that adds up: time and money.
    fn spent(&self, may: &Allowance, cost: Option<u64>) -> Option<String> {
        if let Some(time) = may.time.map(|time| self.times(time.0)).filter(|time| self.ran.0 >= *time) {
            return Some(format!(
                "it has been at work for {}, as long as it may",
                counted(time.div_ceil(60_000), "minute")
            ));
        }
        self.costs(may, cost)
    }

    /// That it has cost as much as it may.
    fn costs(&self, may: &Allowance, cost: Option<u64>) -> Option<String> {
        let most = may.cost.map(|most| self.times(most));
        let (cost, most) = cost.zip(most).filter(|(cost, most)| cost >= most)?;
        Some(format!("it has cost {}, and may {}", dollars(cost), dollars(most)))
    }

    /// What its processes take more of than they may.
    fn taken(&self, may: &Allowance, memory: u64, processes: u32) -> Option<String> {
        let most = may.memory.map(|most| self.times(most)).filter(|most| memory > *most);
        if let Some(most) = most {
            return Some(format!("its processes take {} of memory, and may {}", size(memory), size(most)));
        }
        let most = may.processes.map(|most| self.times(most.into())).filter(|most| u64::from(processes) > *most)?;
        Some(format!("it has {processes} processes, and may {most}"))
    }

    /// What it stands still for, which people are told.
    pub(super) fn over(&self) -> Option<&str> {
        self.over.as_deref()
    }

    /// When it is to be looked at.
    pub(super) fn deadline(&self, may: &Allowance) -> Option<Millis> {
        let since = self.since?;
        let left = |time: Millis| since + Millis(self.times(time.0).saturating_sub(self.ran.0));
        // Who is over the limit already is only told to stand still once more.
        let time = may.time.map(left).filter(|_| self.over.is_none());
        [time, self.look].into_iter().flatten().min()
    }

    /// A person lets it go on: for as much again, if that is what it stands still for.
    pub(super) fn resume(&mut self) {
        if self.over.take().is_some() {
            (self.again, self.look) = (self.again.saturating_add(1), None);
        }
    }

    /// Its agent has ended: it stands still for nothing.
    pub(super) fn leave(&mut self) {
        self.over = None;
    }

    /// The daemon has a new life: nobody answers what the one before has asked. In between the agent was at work.
    pub(super) fn recover(&mut self, now: Millis) {
        self.runs(false, now);
        (self.asked, self.look) = (None, None);
    }
}

/// Bytes, for people.
fn size(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

impl Task {
    /// What its processes take was looked at. False where that effect is of something else.
    pub(super) fn measured(&mut self, id: EffectId, outcome: &Outcome, s: &mut Surroundings<'_>) -> bool {
        if self.meter.asked.take_if(|asked| *asked == id).is_none() {
            return false;
        }
        if self.meter.over.is_some() {
            return true;
        }
        self.meter.look = Some(s.now + limits::MEASURE);
        let Outcome::Measured { memory, processes } = *outcome else {
            if !mem::replace(&mut self.meter.blind, true) {
                let why = reason(outcome.clone());
                let told = format!("what its processes take cannot be seen, and is not held: {why}");
                self.within_phase(s, |cx| cx.progress(told));
            }
            return true;
        };
        if self.is_metered()
            && let Some(why) = self.meter.taken(&self.spec.allowance, memory, processes)
        {
            self.is_over(why, s);
        }
        true
    }

    /// Whether its agent is at work: neither stands still nor is about to, and nobody has asked it to end.
    fn is_metered(&self) -> bool {
        matches!(&self.phase, Phase::Running(state) if state.at() == TaskState::Running)
    }

    /// Counts what it uses up, and at its limit does what its user wants then.
    pub(super) fn meter(&mut self, s: &mut Surroundings<'_>) {
        if self.spec.allowance.is_none() {
            return;
        }
        let runs = self.is_metered();
        self.meter.runs(runs, s.now);
        if !runs {
            return self.tell_cost(s);
        }
        if self.meter.over.is_some() {
            // It was to stand still, and could not be made to.
            if self.meter.look.is_none_or(|look| look <= s.now) {
                self.hold_at_its_limit(s);
            }
            return;
        }
        let cost = self.phase.dialog().and_then(|dialog| dialog.cost());
        if let Some(why) = self.meter.spent(&self.spec.allowance, cost) {
            return self.is_over(why, s);
        }
        let Allowance { memory, processes, .. } = &self.spec.allowance;
        let looks = memory.is_some() || processes.is_some();
        if looks && self.meter.asked.is_none() && self.meter.look.is_none_or(|look| look <= s.now) {
            self.meter.look = None;
            self.meter.asked = Some(self.within_phase(s, |cx| cx.work(Work::Measure)));
        }
    }

    /// What an agent costs it says at the end of a turn, which may be its last.
    fn tell_cost(&mut self, s: &mut Surroundings<'_>) {
        let is_at_an_end = matches!(&self.phase, Phase::Running(state) if state.is_ending());
        let cost =
            self.phase.dialog().filter(|_| is_at_an_end && !self.meter.told_cost).and_then(|dialog| dialog.cost());
        if let Some(why) = self.meter.costs(&self.spec.allowance, cost) {
            self.meter.told_cost = true;
            self.within_phase(s, |cx| cx.progress(why));
        }
    }

    /// It has used up what it may.
    fn is_over(&mut self, why: String, s: &mut Surroundings<'_>) {
        self.within_phase(s, |cx| cx.progress(why.clone()));
        self.meter.runs(false, s.now);
        match self.spec.allowance.then {
            Then::End => {
                // Its end is for that, and says so.
                self.meter.told_cost = true;
                self.advance(Event::Over(why), s);
            }
            Then::Pause => {
                self.meter.over = Some(why);
                self.hold_at_its_limit(s);
            }
        }
    }

    fn hold_at_its_limit(&mut self, s: &mut Surroundings<'_>) {
        self.meter.look = Some(s.now + limits::HELD_AGAIN);
        self.hold = true;
        self.advance(Event::Hold, s);
    }
}
