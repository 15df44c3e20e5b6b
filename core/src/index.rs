//! What follows from the tasks, kept so that a step costs what changes and not what there is. Never hashed, never
//! written down.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::mem;

use crate::digest;
use crate::id::TaskId;
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
    /// How many tasks have not ended.
    pub(crate) unended: usize,
    entries: BTreeMap<TaskId, Entry>,
    /// Tasks whose digest is out of date.
    stale: Vec<TaskId>,
    /// Of all tasks; up to date where none is stale.
    digest: u64,
}

/// What is held of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    facts: Facts,
    digest: u64,
    stale: bool,
}

/// What is to be done about one task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Facts {
    timer: Option<Millis>,
    waiting: Option<(bool, u64)>,
    holds_slot: bool,
    unended: bool,
    in_flight: bool,
    not_closed: bool,
    talking: bool,
}

impl Facts {
    fn of(task: &Task) -> Self {
        Self {
            timer: task.deadline(),
            waiting: task.waiting(),
            holds_slot: task.holds_slot(),
            unended: !task.has_ended(),
            in_flight: task.in_flight(),
            not_closed: !task.is_closed(),
            talking: !(task.is_closed() && task.is_told()),
        }
    }
}

impl Index {
    /// A task may have changed.
    pub(crate) fn update(&mut self, id: TaskId, task: &Task) {
        let entry = self.entries.entry(id).or_default();
        if !mem::replace(&mut entry.stale, true) {
            self.stale.push(id);
        }
        let new = Facts::of(task);
        let old = mem::replace(&mut entry.facts, new);
        keep(&mut self.timers, old.timer.map(|due| (due, id)), new.timer.map(|due| (due, id)));
        keep(&mut self.waiting, old.waiting.map(|place| (place, id)), new.waiting.map(|place| (place, id)));
        keep(&mut self.in_flight, old.in_flight.then_some(id), new.in_flight.then_some(id));
        keep(&mut self.not_closed, old.not_closed.then_some(id), new.not_closed.then_some(id));
        keep(&mut self.talking, old.talking.then_some(id), new.talking.then_some(id));
        count(&mut self.busy, old.holds_slot, new.holds_slot);
        count(&mut self.unended, old.unended, new.unended);
    }

    /// The digest of all tasks, of which only those are hashed that may have changed.
    pub(crate) fn digest(&mut self, tasks: &BTreeMap<TaskId, Task>) -> u64 {
        for id in mem::take(&mut self.stale) {
            let (Some(entry), Some(task)) = (self.entries.get_mut(&id), tasks.get(&id)) else { continue };
            let old = mem::replace(&mut entry.digest, of_task(id, task));
            self.digest = self.digest.wrapping_sub(old).wrapping_add(entry.digest);
            entry.stale = false;
        }
        self.digest
    }

    /// What must hold between any two steps. Gives the digest of all tasks, computed from each of them.
    pub(crate) fn check(&self, tasks: &BTreeMap<TaskId, Task>) -> u64 {
        let mut anew = Self { starved: self.starved.clone(), ..Self::default() };
        for (id, task) in tasks {
            anew.update(*id, task);
        }
        let digest = anew.digest(tasks);
        assert!(*self == anew, "the index is out of date: {self:?}, and should be {anew:?}");
        digest
    }
}

/// The digest of all tasks, computed from each of them.
pub(crate) fn digest_anew(tasks: &BTreeMap<TaskId, Task>) -> u64 {
    tasks.iter().fold(0, |sum, (id, task)| sum.wrapping_add(of_task(*id, task)))
}

fn of_task(id: TaskId, task: &Task) -> u64 {
    digest::of(&(id, task))
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
