//! Looks at each step of a daemon from outside: where everything stood, what came in, where it stands then.

use std::collections::{BTreeMap, BTreeSet};

use makima_core::effect::{Effect, Exit, LinkEffect, Way, Work};
use makima_core::id::{Epoch, TaskId};
use makima_core::input::{Input, Outcome};
use makima_core::limits;
use makima_core::time::Now;
use makima_core::view::{LinkState, Role, TaskState};
use makima_core::{Counters, Daemon};

use super::task::Asked;
use super::{Cells, IGNORED, REFUSED, STAYS, UNKNOWN, link, merge, task};
use crate::world::Machine;

/// Who looks at every step of a world, or of one after the other.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    pub(super) cells: Cells,
    pub(super) known: Known,
    /// How often each state was come to.
    pub(super) visits: BTreeMap<(&'static str, &'static str), u64>,
}

/// What is known of a daemon by what it wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) asked: Asked,
    /// The connections that were asked for, newest last.
    connects: Vec<(Epoch, Way)>,
    /// How merges stood after the step before.
    merges: BTreeMap<TaskId, &'static str>,
    last: Now,
    /// It was told of records that its machine does not have: a copy's.
    pub(super) lags: bool,
}

/// How everything stood before a step, and what came in.
#[derive(Debug)]
pub struct Moment {
    /// Whose input it was, and what.
    of: Option<(TaskId, &'static str)>,
    /// What it is to each task, where it is for all.
    of_all: BTreeMap<TaskId, &'static str>,
    to_link: Option<&'static str>,
    tasks: Vec<(TaskId, TaskState)>,
    link: LinkState,
    counters: Counters,
    /// It came with a time at which something else was due.
    crowded: bool,
    /// It is about the work of a task that has not ended.
    too_early: bool,
    pub(super) input: Input,
}

impl Watch {
    /// What was seen.
    #[must_use]
    pub const fn cells(&self) -> &Cells {
        &self.cells
    }

    /// Before a step.
    #[must_use]
    pub fn moment(&self, daemon: &Daemon, now: Now, input: &Input) -> Moment {
        self.known.moment(daemon, now, input)
    }

    /// After it.
    pub fn saw(&mut self, moment: &Moment, (now, daemon, machine): (Now, &Daemon, &Machine), effects: &[Effect]) {
        let touched = self.cells.note(moment, daemon, effects);
        self.cells.note_merge(moment, &self.known, (daemon, machine), effects);
        self.known.keep(moment, now, effects);
        self.known.look(moment, daemon, machine);
        self.try_all(&touched, moment.link, (now, daemon, machine));
    }

    /// The same of a daemon of which there is only its journal: what came of it to its tasks and its link.
    pub(crate) fn follows(&mut self, moment: &Moment, now: Now, daemon: &Daemon, effects: &[Effect]) {
        self.cells.note(moment, daemon, effects);
        self.known.keep(moment, now, effects);
    }
}

impl Known {
    pub(super) fn moment(&self, daemon: &Daemon, now: Now, input: &Input) -> Moment {
        let mut of_all = BTreeMap::new();
        if let Some(name) = task::of_all(input) {
            let left = if let Input::Boot(boot) = input { boot.leftovers.as_slice() } else { &[] };
            let known = daemon.tasks_at().map(|(task, _)| task);
            of_all = known.chain(left.iter().map(|left| left.spec.id)).map(|task| (task, name(task))).collect();
        }
        let slept = now.asleep.since(self.last.asleep) > limits::SLEPT && !matches!(input, Input::Boot(_));
        let timed = matches!(input, Input::Tick | Input::Boot(_));
        Moment {
            of: task::named(input, daemon, &self.asked),
            of_all,
            to_link: if slept { Some("the machine slept") } else { link::named(input, daemon) },
            tasks: daemon.tasks_at().collect(),
            link: daemon.link_at(),
            counters: daemon.counters().clone(),
            too_early: merge::too_early(input, daemon),
            crowded: !timed && daemon.deadline().is_some_and(|(due, _)| due <= now.mono),
            input: input.clone(),
        }
    }

    /// After a step: keeps what is under way.
    pub(super) fn keep(&mut self, moment: &Moment, now: Now, effects: &[Effect]) {
        let input = &moment.input;
        if matches!(input, Input::Boot(_)) {
            *self = Self::default();
        }
        self.last = now;
        if let Input::Done { id, outcome } = input
            && let Some((task, _)) = self.asked.works.remove(id)
        {
            self.asked.answered.insert(task, *id);
            if matches!(outcome, Outcome::Started { .. }) {
                self.asked.agents.insert(*id, task);
            }
        }
        if let Input::Exited { id, .. } = input {
            self.asked.agents.remove(id);
        }
        for effect in effects {
            match effect {
                Effect::Work { id, task, work } => {
                    self.asked.works.insert(*id, (*task, work.clone()));
                }
                Effect::Link(LinkEffect::Connect { epoch, way }) => self.connects.push((*epoch, *way)),
                Effect::Link(_) | Effect::Cancel { .. } | Effect::Tell(_) => {}
                Effect::Exit(
                    Exit::Stopped | Exit::Detached | Exit::SessionOver | Exit::KeyRefused | Exit::NotReached,
                ) => {}
            }
        }
        let newest = self.connects.len().saturating_sub(4);
        self.connects.drain(..newest);
    }

    /// Looks how merges stand after a step.
    pub(super) fn look(&mut self, moment: &Moment, daemon: &Daemon, machine: &Machine) {
        let of = moment.of.map(|(task, _)| task);
        let known = daemon.tasks_at().map(|(task, _)| task).filter(|_| matches!(moment.input, Input::Boot(_)));
        self.merges.extend(known.chain(of).map(|task| (task, worktree(machine, task))));
    }

    /// The connection that is this to the link.
    pub(super) fn connection(&self, daemon: &Daemon, role: Role) -> Option<(Epoch, Way)> {
        self.connects.iter().copied().find(|(epoch, _)| daemon.role(*epoch) == Some(role))
    }
}

impl Cells {
    /// What came of a step to tasks and the link. Gives back the tasks that it was about.
    pub(super) fn note(&mut self, moment: &Moment, daemon: &Daemon, effects: &[Effect]) -> BTreeSet<TaskId> {
        let mut touched = BTreeSet::new();
        // One that has ended takes no steps.
        let has_ended = moment.link == LinkState::Idle && !matches!(moment.input, Input::Boot(_));
        if moment.crowded || has_ended {
            return touched;
        }
        let is_over = effects.iter().any(|effect| matches!(effect, Effect::Exit(_)));
        let to_link = if is_over { Some("the daemon ends") } else { moment.to_link };
        let after = daemon.link_at();
        if let Some(input) = to_link.or_else(|| (after != moment.link).then_some("a deadline")) {
            let counters = daemon.counters();
            let ignored = counters.stale_frames > moment.counters.stale_frames
                || counters.misbehaved > moment.counters.misbehaved
                || counters.unreadable > moment.counters.unreadable;
            let still = if ignored { IGNORED } else { STAYS };
            self.link.see(moment.link.name(), input, if after == moment.link { still } else { after.name() });
        }
        let named = moment.of.filter(|_| moment.was_heard(daemon)).map(|(task, _)| task);
        if named.is_none() && moment.of_all.is_empty() && moment.tasks.iter().copied().eq(daemon.tasks_at()) {
            return touched;
        }
        let known = moment.tasks.iter().copied().chain(daemon.tasks_at()).map(|(task, _)| task);
        for task in known.chain(named).collect::<BTreeSet<_>>() {
            let (before, after) = (moment.task_at(task), daemon.task_at(task));
            let Some(mut input) = moment.to_task(task, before, after, daemon) else { continue };
            touched.insert(task);
            let came = if before == after { moment.came_of_nothing(daemon) } else { name(after) };
            if moment.too_early && came == REFUSED {
                // That is the merge's to say, and not this task's.
                continue;
            }
            if came == IGNORED {
                input = task::LATE;
            }
            self.task.see(name(before), input, came);
            if let Some((_, status)) = daemon.statuses().find(|(id, _)| *id == task) {
                self.told.see(name(after), "", status.as_str());
            }
        }
        touched
    }

    /// What came of it to a merge.
    pub(super) fn note_merge(
        &mut self,
        moment: &Moment,
        known: &Known,
        (daemon, machine): (&Daemon, &Machine),
        effects: &[Effect],
    ) {
        if moment.crowded || moment.link == LinkState::Idle {
            return;
        }
        let before = |task| known.merges.get(&task).copied().unwrap_or(merge::NONE);
        if let Input::Command { command, .. } = &moment.input
            && let (Some(input), Some((task, _))) = (merge::named(command), moment.of)
            && moment.was_heard(daemon)
            && !effects.iter().any(|effect| matches!(effect, Effect::Work { work: Work::Merge(_), .. }))
        {
            // The answer is given at once: it is refused.
            let at = merge::at(daemon, task, before(task));
            let input = if moment.too_early && merge::is_there(at) { merge::TOO_EARLY } else { input };
            self.merge.see(at, input, moment.came_of_nothing(daemon));
        }
        if let Input::Done { id, outcome } = &moment.input
            && let Some((task, work)) = known.asked.works.get(id)
            && daemon.counters().stale_effects == moment.counters.stale_effects
        {
            let (before, after) = (before(*task), worktree(machine, *task));
            if let Work::Merge(merge) = work {
                let at = if merge::looks(merge) { merge::seen_at(daemon, *task, before) } else { before };
                for input in merge::asked_by(merge) {
                    self.merge.see(at, input, merge::came(merge, outcome, before, after));
                }
            } else if matches!((work, outcome), (Work::Commit(_), Outcome::Committed(_))) {
                let came = if before == after { STAYS } else { after };
                self.merge.see(before, "the work is committed", came);
            }
        }
    }
}

impl Moment {
    fn task_at(&self, task: TaskId) -> Option<TaskState> {
        self.tasks.iter().find(|(id, _)| *id == task).map(|(_, at)| *at)
    }

    /// Whether what came over a connection was taken for what it is.
    fn was_heard(&self, daemon: &Daemon) -> bool {
        let unheard = |counters: &Counters| {
            counters.stale_frames + counters.duplicate_commands + counters.out_of_order + counters.misbehaved
        };
        !matches!(self.input, Input::Command { .. }) || unheard(daemon.counters()) == unheard(&self.counters)
    }

    /// What this was to a task, if it was anything.
    fn to_task(
        &self,
        task: TaskId,
        before: Option<TaskState>,
        after: Option<TaskState>,
        daemon: &Daemon,
    ) -> Option<&'static str> {
        if let Some((_, input)) = self.of.filter(|(of, _)| *of == task && self.was_heard(daemon)) {
            return Some(input);
        }
        if let Some(input) = self.of_all.get(&task) {
            return Some(input);
        }
        if before == after {
            return None;
        }
        // It was another's input, or nobody's.
        if before == Some(TaskState::Waiting) {
            return Some("a slot is free");
        }
        let frame = matches!(self.input, Input::Pong { .. } | Input::Said { .. });
        if before == Some(TaskState::TellingKey) && frame {
            return Some("its key is known");
        }
        assert!(matches!(self.input, Input::Tick), "{before:?} goes to {after:?} by {:?}", self.input);
        Some("a deadline")
    }

    /// What it means that nothing changed.
    fn came_of_nothing(&self, daemon: &Daemon) -> &'static str {
        let (now, before) = (daemon.counters(), &self.counters);
        let refused = |counters: &Counters| counters.inapplicable + counters.unknown_tasks + counters.refused_tasks;
        if refused(now) > refused(before) {
            return REFUSED;
        }
        if now.duplicate_spawns > before.duplicate_spawns {
            return "told again";
        }
        if now.stale_effects > before.stale_effects { IGNORED } else { STAYS }
    }
}

fn name(state: Option<TaskState>) -> &'static str {
    state.map_or(UNKNOWN, TaskState::name)
}

/// What the worktree of a task says of a merge.
pub(super) fn worktree(machine: &Machine, task: TaskId) -> &'static str {
    match machine.conflicts(task) {
        _ if !machine.has_worktree(task) => merge::GONE,
        None => merge::NONE,
        Some(0) => merge::RESOLVED,
        Some(_) => merge::CONFLICTED,
    }
}
