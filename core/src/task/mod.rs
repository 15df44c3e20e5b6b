//! One task: from the command that asks for it to the one end that it gets.

mod attach;
mod brood;
mod conclude;
mod conflict;
mod cx;
mod dialog;
mod ear;
mod errand;
mod finish;
mod inherit;
mod key;
mod lines;
mod mailbox;
mod meter;
mod output;
mod pace;
mod person;
mod phase;
mod prepare;
mod recover;
mod report;
mod run;
mod spec;
mod steer;
mod stretches;
mod told;
mod words;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::mem;

use serde::{Deserialize, Serialize};

use self::brood::Brood;
use self::cx::Cx;
pub(crate) use self::cx::Ids;
pub(crate) use self::errand::Errand;
use self::errand::Errands;
pub(crate) use self::lines::Cut;
use self::mailbox::Mailbox;
use self::meter::Meter;
use self::output::Output;
pub(crate) use self::phase::Event;
use self::phase::Phase;
use self::prepare::Pending;
pub(crate) use self::prepare::reason;
pub use self::spec::{Action, Completion, End, EndStatus, Spec, Status};
use self::told::tell_end;
use crate::counters::Counters;
use crate::digest;
use crate::effect::{Child, Effect};
use crate::id::{EffectId, TaskId};
use crate::index::Index;
use crate::outbox::{Outbox, Report};
use crate::policy::RepositoryUrl;
use crate::protocol::Wire;
use crate::retain::Remains;
use crate::time::Millis;

/// What a task can reach beside itself.
pub(crate) struct Surroundings<'a> {
    /// On the clock of [`Now::awake`](crate::time::Now::awake).
    pub(crate) now: Millis,
    /// The wall clock's, since 1970.
    pub(crate) unix: Millis,
    /// What the session with the server speaks, if one is open.
    pub(crate) wire: Option<Wire>,
    /// Whether the daemon is about to end.
    pub(crate) stopping: bool,
    /// The server's number of the command that is applied, and the series that it is of, where it has one.
    pub(crate) number: Option<(u64, u64)>,
    /// Where the server answers, for agents.
    pub(crate) api_url: &'a str,
    /// The daemon's own program, for agents.
    pub(crate) program: &'a str,
    /// One folder per task.
    pub(crate) worktrees: &'a str,
    /// What is known of all tasks at once.
    pub(crate) index: &'a Index,
    pub(crate) ids: &'a mut Ids,
    pub(crate) counters: &'a mut Counters,
    pub(crate) out: &'a mut Vec<Effect>,
}

/// One task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    spec: Spec,
    /// Plans can be long, and a spec never changes: it is hashed once.
    spec_digest: u64,
    /// Its place among the tasks that came.
    arrival: u64,
    phase: Phase,
    outbox: Outbox,
    output: Output,
    mailbox: Mailbox,
    /// What the server wants to know of it, or have done.
    errands: Errands,
    /// Somebody wants it to stand still.
    hold: bool,
    /// The server was told a key of its.
    keyed: bool,
    /// Its parent is known here, and works on the same repository.
    parent_here: bool,
    /// The server knows of its end.
    closed: bool,
    /// What is there of it once it does.
    #[serde(default)]
    remains: Remains,
    /// What people were told last that it needs one for.
    #[serde(default)]
    needs: Option<String>,
    /// Its agent's own name for the conversation with it, where that makes one up.
    #[serde(default)]
    session: Option<String>,
    /// What it has used up of what it may.
    #[serde(default)]
    meter: Meter,
}

impl Hash for Task {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { spec: _, spec_digest, arrival, phase, outbox, output, mailbox, errands, .. } = self;
        let Self { hold, keyed, parent_here, closed, remains, needs, session, meter, .. } = self;
        (spec_digest, arrival, phase, outbox, output, mailbox, errands).hash(state);
        (hold, keyed, parent_here, closed, remains, needs, session, meter).hash(state);
    }
}

impl Task {
    fn with(spec: Spec, arrival: u64, phase: Phase) -> Self {
        let spec_digest = digest::of(&spec);
        Self {
            spec,
            spec_digest,
            arrival,
            phase,
            outbox: Outbox::default(),
            output: Output::default(),
            mailbox: Mailbox::default(),
            errands: Errands::default(),
            hold: false,
            keyed: false,
            parent_here: false,
            closed: false,
            remains: Remains::default(),
            needs: None,
            session: None,
            meter: Meter::default(),
        }
    }

    /// This is what was asked for.
    fn is_of(&mut self, spec: Spec) {
        self.spec_digest = digest::of(&spec);
        self.spec = spec;
    }

    /// A task that the server asks for.
    pub(crate) fn new(spec: Spec, arrival: u64, parent_here: bool, s: &mut Surroundings<'_>) -> Self {
        let mut task = Self::with(spec, arrival, Pending::accepted());
        task.output = Output::new(s.wire.filter(|_| !bug!(OutputWithoutAPlace)).unwrap_or_default());
        task.parent_here = parent_here;
        task.phase = task.within(s, |_, spec, cx| Pending::accept(spec, cx));
        task
    }

    /// Runs a transition with everything that it may reach.
    fn within<T>(&mut self, s: &mut Surroundings<'_>, run: impl FnOnce(Phase, &Spec, &mut Cx<'_>) -> T) -> T {
        let phase = mem::replace(&mut self.phase, Pending::accepted());
        let (_, spec, mut cx) = self.reach(s);
        run(phase, spec, &mut cx)
    }

    /// As [`Task::within`], for what leaves the phase as it is.
    fn within_phase<T>(&mut self, s: &mut Surroundings<'_>, run: impl FnOnce(&mut Cx<'_>) -> T) -> T {
        run(&mut self.reach(s).2)
    }

    fn with_errands<T>(
        &mut self,
        s: &mut Surroundings<'_>,
        run: impl FnOnce(&mut Errands, &Spec, &mut Cx<'_>) -> T,
    ) -> T {
        let mut errands = mem::take(&mut self.errands);
        let (_, spec, mut cx) = self.reach(s);
        let done = run(&mut errands, spec, &mut cx);
        self.errands = errands;
        done
    }

    fn with_output<T>(&mut self, s: &mut Surroundings<'_>, run: impl FnOnce(&mut Output, &mut Cx<'_>) -> T) -> T {
        let (output, _, mut cx) = self.reach(s);
        run(output, &mut cx)
    }

    fn reach<'a>(&'a mut self, s: &'a mut Surroundings<'_>) -> (&'a mut Output, &'a Spec, Cx<'a>) {
        let cx = Cx {
            now: s.now,
            unix: s.unix,
            task: self.spec.id,
            live: s.wire.is_some(),
            people: s.wire != Some(Wire::One),
            stopping: s.stopping,
            number: s.number,
            log_read: self.output.log_end(),
            api_url: s.api_url,
            program: s.program,
            brood: self.spec.orchestrator.then(|| Brood::of(self.spec.id, s.index)),
            worktrees: s.worktrees,
            parent_here: self.parent_here,
            hold: &mut self.hold,
            mailbox: &mut self.mailbox,
            ids: s.ids,
            outbox: &mut self.outbox,
            counters: s.counters,
            out: s.out,
        };
        (&mut self.output, &self.spec, cx)
    }

    /// Something happened to it. Gives back output to be sent, in order.
    pub(crate) fn on(&mut self, event: Event, s: &mut Surroundings<'_>) -> Vec<Cut> {
        let mut cuts = Vec::new();
        match event {
            Event::Done(id, mut outcome) => match self.with_output(s, |output, cx| output.answer(id, &mut outcome, cx))
            {
                Some(output) => cuts = output,
                None if self.told_agent(id, &outcome, s) => {}
                None if self.measured(id, &outcome, s) => {}
                None => {
                    let mut outcome = Some(outcome);
                    self.with_errands(s, |errands, _, cx| errands.answered(id, &mut outcome, cx));
                    self.tell_needs(s);
                    if let Some(outcome) = outcome {
                        self.advance(Event::Done(id, outcome), s);
                    }
                }
            },
            Event::Due => {
                self.output.due(s.now, &mut cuts);
                self.with_output(s, Output::record);
                self.with_errands(s, |errands, _, cx| errands.due(cx));
                if self.phase.deadline().is_some_and(|due| due <= s.now) {
                    self.advance(Event::Due, s);
                }
                self.meter(s);
            }
            Event::Interrupt { graceful } if !self.can_interrupt(graceful) => self.inapplicable(None, s),
            Event::Interrupt { graceful: false } | Event::Stop { graceful: false }
                if matches!(self.phase, Phase::Finishing(_)) =>
            {
                // What was asked beside must not take the time that the commit has left.
                self.with_errands(s, |errands, _, cx| errands.call_off(cx));
                self.advance(event, s);
            }
            event @ (Event::Slot
            | Event::Exited(..)
            | Event::Interrupt { .. }
            | Event::Stop { .. }
            | Event::Over(_)
            | Event::Hold
            | Event::KeyTold
            | Event::Told) => self.advance(event, s),
        }
        self.output.finish(&mut cuts);
        if s.wire.is_some() { cuts } else { Vec::new() }
    }

    /// The next state, and everything that a change of the status brings with it.
    fn advance(&mut self, event: Event, s: &mut Surroundings<'_>) {
        let old = self.phase.status();
        let was_ended = self.has_ended();
        self.phase = self.within(s, |phase, spec, cx| phase.on(event, spec, cx));
        self.changed(old, was_ended, s);
        if !was_ended {
            self.tell_people_of_the_end(s);
        }
    }

    /// The phase may be another one: tells what there is to tell of that.
    fn changed(&mut self, old: Status, was_ended: bool, s: &mut Surroundings<'_>) {
        match &self.phase {
            Phase::Running(_) => self.output.opened(),
            Phase::Finishing(_) | Phase::Ended(_) if bug!(OutputLeftUnread) => {}
            Phase::Finishing(state) => {
                self.output.opened();
                if let Some(end) = state.log_end() {
                    self.output.ended(end);
                }
            }
            Phase::Ended(_) => self.output.opened(),
            // Whether somebody writes to the log is known once its agent is in hand.
            Phase::Pending(_)
            | Phase::Preparing(_)
            | Phase::Keying(_)
            | Phase::Held
            | Phase::Starting(_)
            | Phase::Attaching(_)
            | Phase::Concluding(_) => {}
        }
        if !matches!(self.phase, Phase::Running(_) | Phase::Attaching(_)) {
            self.errands.leave();
            self.meter.leave();
        }
        self.keyed |= self.spec.orchestrator && self.phase.is_keyed();
        self.tell_needs(s);
        let new = self.phase.status();
        if let (Phase::Ended(end), false) = (&self.phase, was_ended) {
            let end = end.clone();
            self.output.ended(end.log_end);
            self.tell_late_messages(s);
            self.keyed &= bug!(KeyToldOnceMore);
            let orchestrator = self.spec.orchestrator;
            self.within_phase(s, |cx| tell_end(&end, old, orchestrator, cx));
        } else if (old, new) == (Status::Preparing, Status::Paused) {
            // It would run if it were not to stand still.
            self.within_phase(s, |cx| {
                cx.report(Report::Status { old, new: Status::Running }, 0);
                cx.report(Report::Status { old: Status::Running, new }, 0);
            });
        } else if new != old {
            self.within_phase(s, |cx| cx.report(Report::Status { old, new }, 0));
        }
        self.deliver_messages(s);
        self.meter(s);
    }

    /// Whether its work is on that repository.
    pub(crate) fn works_on(&self, repository: Option<&RepositoryUrl>) -> bool {
        self.spec.repository.as_ref() == repository
    }

    /// Its branch, for the task that it is a subtask of.
    pub(crate) fn as_child(&self) -> Child {
        Child { task: self.spec.id, branch: Some(self.spec.branch.clone()), ended: self.has_ended() }
    }

    pub(crate) const fn id(&self) -> TaskId {
        self.spec.id
    }

    /// What is there of it, once the server knows of its end.
    pub(crate) const fn remains(&mut self) -> &mut Remains {
        &mut self.remains
    }

    /// Whether it could make room without leaving the trash, and since when; none where it cannot make any.
    pub(crate) fn room(&self) -> Option<(bool, Millis)> {
        self.remains.room()
    }

    /// Whether it ended well, and its work is where it was to go.
    pub(crate) fn is_handed_over(&self) -> bool {
        let Phase::Ended(end) = &self.phase else { return false };
        (end.status == EndStatus::Done || bug!(FailedMakesRoom))
            && end.completion.as_ref().is_none_or(|completion| completion.success)
    }

    pub(crate) const fn parent(&self) -> Option<TaskId> {
        self.spec.parent
    }

    pub(crate) const fn is_orchestrator(&self) -> bool {
        self.spec.orchestrator
    }

    /// Whether something that its server asked for is being done.
    pub(crate) fn has_errands(&self) -> bool {
        !self.errands.is_empty()
    }

    /// When something is due that no other input tells of.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let meter = self.meter.deadline(&self.spec.allowance);
        [self.phase.deadline(), self.output.deadline(), self.errands.deadline(), meter].into_iter().flatten().min()
    }

    /// The effect that started its agent, while the agent's end is waited for.
    pub(crate) const fn agent(&self) -> Option<EffectId> {
        match &self.phase {
            Phase::Running(state) => Some(state.agent()),
            Phase::Finishing(state) => state.agent(),
            Phase::Pending(_)
            | Phase::Preparing(_)
            | Phase::Keying(_)
            | Phase::Held
            | Phase::Starting(_)
            | Phase::Attaching(_)
            | Phase::Concluding(_)
            | Phase::Ended(_) => None,
        }
    }

    pub(crate) fn status(&self) -> Status {
        self.phase.status()
    }

    pub(crate) fn holds_slot(&self) -> bool {
        self.phase.holds_slot()
    }

    /// Whether it only waits for a slot: then its place among those that do. Subtasks go first.
    pub(crate) fn waiting(&self) -> Option<(bool, u64)> {
        match &self.phase {
            Phase::Pending(state) if state.is_ready() => Some((self.spec.parent.is_none(), self.arrival)),
            Phase::Pending(_)
            | Phase::Preparing(_)
            | Phase::Keying(_)
            | Phase::Held
            | Phase::Starting(_)
            | Phase::Attaching(_)
            | Phase::Running(_)
            | Phase::Finishing(_)
            | Phase::Concluding(_)
            | Phase::Ended(_) => None,
        }
    }

    /// Tells whoever looks on that it waits.
    pub(crate) fn tell_place(&mut self, place: usize, s: &mut Surroundings<'_>) {
        self.within_phase(s, |cx| cx.progress(format!("waiting for a slot, {place} in line")));
    }

    /// Tells, once, that it waits for tasks that wait for it or its like.
    pub(crate) fn tell_stuck(&mut self, s: &mut Surroundings<'_>) {
        if let Phase::Pending(state) = &mut self.phase
            && state.is_news_that_it_is_stuck()
        {
            self.within_phase(s, |cx| {
                cx.progress(
                    "no slot will get free: all processes that this daemon may have are orchestrators that wait for \
                     their subtasks. More are allowed by `max_tasks`, or interrupt one",
                );
            });
        }
    }

    /// Whether it is being written down, or waits for a slot.
    pub(crate) const fn is_pending(&self) -> bool {
        matches!(self.phase, Phase::Pending(_))
    }

    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// Whether it is under way: neither waiting for its turn nor ended.
    pub(crate) const fn is_under_way(&self) -> bool {
        !matches!(self.phase, Phase::Ended(_) | Phase::Pending(_))
    }

    /// Whether the server has been told everything, its end above all.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the server has nothing more to be told for now.
    pub(crate) fn is_told(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Whether nothing is asked of it, and nothing is to be told of it.
    pub(crate) fn is_at_rest(&self) -> bool {
        bug!(GoneBeforeItIsTold) && self.has_ended()
            || self.is_closed() && self.is_told() && !self.has_errands() && !self.in_flight()
    }

    /// Whether its spec is the one that it began with.
    pub(crate) fn is_whole(&self) -> bool {
        self.spec_digest == digest::of(&self.spec)
    }

    /// What must hold between any two steps.
    pub(crate) fn check(&self) {
        self.outbox.check();
        self.output.check();
        assert!(self.is_whole(), "a spec changed");
        assert!(!self.closed || self.has_ended(), "the server was told of an end that is none");
        if self.has_ended() && !self.closed {
            assert!(self.outbox.owes_end(), "an end is not told");
        }
    }
}
