//! What follows from the tasks, kept so that a step costs what changes and not what there is. Never hashed, never
//! written down.

use alloc::collections::{BTreeMap, BTreeSet};
use core::mem;

use crate::id::TaskId;
use crate::step::Step;
use crate::task::Task;
use crate::time::Millis;

/// The tasks by what is to be done about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) timers: BTreeSet<(Millis, TaskId)>,
    pub(crate) waiting: BTreeSet<((bool, u64), TaskId)>,
    pub(crate) in_flight: BTreeSet<TaskId>,
    /// Tasks whose output waits for room in the link. The one part that is not seen in the task itself.
    pub(crate) starved: BTreeSet<TaskId>,
    pub(crate) not_closed: BTreeSet<TaskId>,
    /// Tasks that the server has still to be told something of. Of the others there may be thousands.
    pub(crate) talking: BTreeSet<TaskId>,
    /// How many tasks hold a slot.
    pub(crate) busy: usize,
    /// How many tasks have no slot yet: those that wait for one, and those that are still being written down.
    pub(crate) pending: usize,
    /// How many tasks have not ended.
    pub(crate) unended: usize,
    /// Subtasks, by the task that they are of.
    children: BTreeMap<TaskId, Children>,
    /// Orchestrators that hold no slot while a subtask of theirs has not ended.
    lending: BTreeSet<TaskId>,
    facts: BTreeMap<TaskId, Facts>,
}

/// The subtasks of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Children {
    ids: BTreeSet<TaskId>,
    unended: usize,
    not_closed: usize,
}

/// What is to be done about one task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Facts {
    timer: Option<Millis>,
    waiting: Option<(bool, u64)>,
    pending: bool,
    holds_slot: bool,
    unended: bool,
    in_flight: bool,
    not_closed: bool,
    talking: bool,
    parent: Option<TaskId>,
    orchestrator: bool,
}

impl Facts {
    fn of(task: &Task) -> Self {
        Self {
            timer: task.deadline(),
            waiting: task.waiting(),
            pending: task.is_pending(),
            holds_slot: task.holds_slot(),
            unended: !task.has_ended(),
            in_flight: task.in_flight(),
            not_closed: !task.is_closed(),
            talking: !(task.is_closed() && task.is_told()),
            parent: task.parent(),
            orchestrator: task.is_orchestrator(),
        }
    }
}

impl Index {
    /// A task may have changed. Whether it has just ended.
    pub(crate) fn update(&mut self, id: TaskId, task: &Task) -> bool {
        let new = Facts::of(task);
        let old = mem::replace(self.facts.entry(id).or_default(), new);
        // As most that were touched.
        if old == new {
            return false;
        }
        keep(&mut self.timers, old.timer.map(|due| (due, id)), new.timer.map(|due| (due, id)));
        keep(&mut self.waiting, old.waiting.map(|place| (place, id)), new.waiting.map(|place| (place, id)));
        keep(&mut self.in_flight, old.in_flight.then_some(id), new.in_flight.then_some(id));
        keep(&mut self.not_closed, old.not_closed.then_some(id), new.not_closed.then_some(id));
        keep(&mut self.talking, old.talking.then_some(id), new.talking.then_some(id));
        count(&mut self.pending, old.pending, new.pending);
        count(&mut self.busy, old.holds_slot, new.holds_slot);
        count(&mut self.unended, old.unended, new.unended);
        if let Some(parent) = new.parent {
            let children = self.children.entry(parent).or_default();
            children.ids.insert(id);
            count(&mut children.unended, old.unended, new.unended);
            count(&mut children.not_closed, old.not_closed, new.not_closed);
            self.lend(parent);
        }
        self.lend(id);
        old.unended && !new.unended
    }

    /// A task that had ended is not known any more.
    pub(crate) fn remove(&mut self, id: TaskId) {
        let Some(old) = self.facts.remove(&id) else { return };
        keep(&mut self.timers, old.timer.map(|due| (due, id)), None);
        keep(&mut self.talking, old.talking.then_some(id), None);
        keep(&mut self.not_closed, old.not_closed.then_some(id), None);
        keep(&mut self.in_flight, old.in_flight.then_some(id), None);
        self.starved.remove(&id);
        self.lending.remove(&id);
        if let Some(parent) = old.parent
            && let Some(children) = self.children.get_mut(&parent)
        {
            children.ids.remove(&id);
            count(&mut children.not_closed, old.not_closed, false);
            if children.ids.is_empty() {
                self.children.remove(&parent);
            }
        }
    }

    /// An orchestrator's slot is free for others while it waits for its subtasks.
    fn lend(&mut self, id: TaskId) {
        let waits = || self.children.get(&id).is_some_and(|children| children.unended > 0);
        let lends = self.facts.get(&id).is_some_and(|facts| facts.orchestrator && facts.holds_slot) && waits();
        keep(&mut self.lending, (!lends).then_some(id), lends.then_some(id));
    }

    /// How many more tasks may run: as many as there are slots, and never twice as many processes.
    pub(crate) fn free(&self, slots: u32) -> usize {
        let slots = if bug!(OneTooMany) { slots.saturating_add(1) } else { slots } as usize;
        let unused = slots.saturating_sub(self.busy.saturating_sub(self.lending.len()));
        unused.min(slots.saturating_mul(2).saturating_sub(self.busy))
    }

    /// Whether all processes that there may be are orchestrators that wait for their subtasks: then none of them ends
    /// before a subtask that cannot begin.
    pub(crate) fn is_stuck(&self, slots: u32) -> bool {
        self.free(slots) == 0 && self.busy == self.lending.len()
    }

    /// The subtasks of a task, in the order of their ids.
    pub(crate) fn children(&self, of: TaskId) -> impl Iterator<Item = TaskId> + '_ {
        self.children.get(&of).into_iter().flat_map(|children| children.ids.iter().copied())
    }

    /// How many of them have not ended.
    pub(crate) fn unended_children(&self, of: TaskId) -> usize {
        self.children.get(&of).map_or(0, |children| children.unended)
    }

    /// How many of them have ended, and the server does not know it as far as is known: nothing begins after one of these yet.
    pub(crate) fn untold_children(&self, of: TaskId) -> usize {
        self.children.get(&of).map_or(0, |children| children.not_closed.saturating_sub(children.unended))
    }

    /// What must hold between any two steps.
    pub(crate) fn check(&self, tasks: &BTreeMap<TaskId, Task>) {
        let mut anew = Self { starved: self.starved.clone(), ..Self::default() };
        for (id, task) in tasks {
            anew.update(*id, task);
        }
        assert!(*self == anew, "the index is out of date: {self:?}, and should be {anew:?}");
    }
}

impl Step<'_> {
    /// What is known of all tasks at once follows each of those that were touched; and whoever waits for one that has just ended
    /// hears of it.
    pub(crate) fn reindex(&mut self) {
        let touched = mem::take(&mut self.touched);
        touched.iter().for_each(|id| self.index(*id));
        self.touched.extend(touched);
        while let Some(id) = self.ended.pop() {
            let Some((parent, news)) = self.daemon.tasks.get(&id).and_then(Task::news_for_its_parent) else { continue };
            self.on_task(parent, |task, s| task.subtask_ended(&news, s));
            self.index(parent);
        }
    }

    /// The same of one task.
    pub(crate) fn index(&mut self, id: TaskId) {
        if self.daemon.reindex(id) {
            self.ended.push(id);
        }
    }
}

fn count(n: &mut usize, old: bool, new: bool) {
    *n = n.saturating_sub(usize::from(old)).saturating_add(usize::from(new));
}

fn keep<T: Ord>(set: &mut BTreeSet<T>, old: Option<T>, new: Option<T>) {
    if old != new {
        old.map(|old| set.remove(&old));
        new.map(|new| set.insert(new));
    }
}
