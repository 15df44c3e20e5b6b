//! The daemon: one step at a time. Routing only; what happens stands in the link and in the tasks.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::config::Config;
use crate::counters::Counters;
use crate::digest;
use crate::effect::Effect;
use crate::id::TaskId;
use crate::input::{Input, Stop};
use crate::limits;
use crate::link::Link;
use crate::outbox::Outbox;
use crate::rng::Rng;
use crate::step::Step;
use crate::task::{Ids, Status, Task};
use crate::time::{Millis, Now};

/// The daemon as a deterministic state machine.
///
/// Given the same [`Config`] and the same inputs it does the same, byte for byte, on every machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    pub(crate) config: Config,
    pub(crate) core: Core,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    /// What follows from the rest, kept so that a step costs what changes and not what there is.
    pub(crate) index: Index,
}

/// The state beside the tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct Core {
    pub(crate) last: Now,
    pub(crate) rng: Rng,
    pub(crate) ids: Ids,
    pub(crate) link: Link,
    /// Answers about tasks that are not known here.
    pub(crate) loose: Outbox,
    pub(crate) arrivals: u64,
    pub(crate) stopping: Option<Stopping>,
    /// `--once`: the one session is over.
    pub(crate) session_over: bool,
    pub(crate) exited: bool,
    pub(crate) counters: Counters,
}

/// The daemon was told to end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct Stopping {
    /// The sternest word so far.
    pub(crate) how: Stop,
    /// Since when nothing is under way any more.
    pub(crate) idle_since: Option<Millis>,
}

/// Derived from the state: never hashed, never written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) timers: BTreeSet<(Millis, TaskId)>,
    pub(crate) waiting: BTreeSet<((bool, u64), TaskId)>,
    pub(crate) in_flight: BTreeSet<TaskId>,
    pub(crate) starved: BTreeSet<TaskId>,
    pub(crate) not_closed: BTreeSet<TaskId>,
    /// Tasks that the server has still to be told something of. Of the others there may be thousands.
    pub(crate) talking: BTreeSet<TaskId>,
    pub(crate) busy: usize,
    entries: BTreeMap<TaskId, Indexed>,
    digest: u64,
    tasks_digest: u64,
}

/// What the index holds of one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Indexed {
    timer: Option<Millis>,
    waiting: Option<(bool, u64)>,
    holds_slot: bool,
    digest: u64,
}

impl Daemon {
    /// A daemon that has not started: its first input is [`Input::Boot`].
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut daemon = Self { config, core: Core::default(), tasks: BTreeMap::new(), index: Index::default() };
        daemon.index.digest = daemon.digest_anew();
        daemon
    }

    /// Takes one input and pushes everything that is to be done about it to `out`. Total: any input in any
    /// state; complete on return.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        if self.core.exited {
            return;
        }
        Step { daemon: self, now, out, touched: BTreeSet::new() }.run(input);
    }

    /// When the next [`Input::Tick`] is wanted, on the clock of [`Now::mono`], and what for. Always later than
    /// the newest step.
    #[must_use]
    pub fn deadline(&self) -> Option<(Millis, &'static str)> {
        if self.core.exited {
            return None;
        }
        let asleep = self.core.last.asleep;
        let task = self.index.timers.first().map(|(due, _)| (*due + asleep, "a task"));
        let stop = self.core.stopping.as_ref().and_then(|stopping| stopping.idle_since);
        let stop = stop.map(|since| (since + limits::STOP_DELIVERY, "the end of the daemon"));
        [task, stop, self.core.link.deadline()].into_iter().flatten().min()
    }

    /// A hash of the whole state. Two daemons that were given the same inputs have the same.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.index.digest
    }

    /// [`Daemon::digest`], computed from the state as it stands.
    #[must_use]
    pub fn digest_anew(&self) -> u64 {
        let tasks = self.tasks.iter().fold(0_u64, |sum, (id, task)| sum.wrapping_add(task_digest(*id, task)));
        digest::of(&(tasks, digest::of(&self.core)))
    }

    /// What must hold between any two steps.
    ///
    /// # Panics
    /// Where it does not hold: a bug of ours.
    pub fn check(&self) {
        self.core.link.check();
        self.core.loose.check();
        for (id, task) in &self.tasks {
            task.check();
            let entry = self.index.entries.get(id).cloned().unwrap_or_default();
            assert!(entry == indexed(*id, task), "the index of {id} is out of date");
            let silent = task.is_closed() && task.is_told();
            assert!(silent != self.index.talking.contains(id), "whether {id} has something to tell is out of date");
        }
        assert!(self.index.entries.len() == self.tasks.len(), "the index holds a task that is not there");
        let busy = self.tasks.values().filter(|task| task.holds_slot()).count();
        assert!(busy == self.index.busy, "the slots are miscounted");
        assert!(busy <= self.config.max_tasks as usize || self.core.ids.incarnation > 1, "too many tasks run at once");
        assert!(self.index.digest == self.digest_anew(), "the digest was not kept up to date");
        if let Some((due, why)) = self.deadline() {
            assert!(due > self.core.last.mono, "a deadline ({why}) is not in the future");
        }
    }

    /// What has been counted since the start.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.core.counters
    }

    /// How many tasks there are whose end the server is not known to know.
    #[must_use]
    pub fn untold(&self) -> usize {
        self.index.not_closed.len()
    }

    /// For people: how the link to the server stands.
    #[must_use]
    pub fn link_state(&self) -> String {
        self.core.link.describe()
    }

    /// The status of each task that is known here.
    pub fn statuses(&self) -> impl Iterator<Item = (TaskId, Status)> + '_ {
        self.tasks.iter().map(|(id, task)| (*id, task.status()))
    }

    /// Brings the index of one task up to date.
    pub(crate) fn reindex(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let new = indexed(id, task);
        let index = &mut self.index;
        let old = index.entries.insert(id, new.clone()).unwrap_or_default();
        if old.timer != new.timer {
            old.timer.map(|due| index.timers.remove(&(due, id)));
            new.timer.map(|due| index.timers.insert((due, id)));
        }
        if old.waiting != new.waiting {
            old.waiting.map(|place| index.waiting.remove(&(place, id)));
            new.waiting.map(|place| index.waiting.insert((place, id)));
        }
        index.busy = index.busy.saturating_sub(usize::from(old.holds_slot)).saturating_add(usize::from(new.holds_slot));
        index.tasks_digest = index.tasks_digest.wrapping_sub(old.digest).wrapping_add(new.digest);
        if task.in_flight() {
            index.in_flight.insert(id)
        } else {
            index.in_flight.remove(&id)
        };
        if task.is_closed() && task.is_told() {
            index.talking.remove(&id)
        } else {
            index.talking.insert(id)
        };
        if task.is_closed() {
            index.not_closed.remove(&id)
        } else {
            index.not_closed.insert(id)
        };
    }

    /// Tasks whose output waits for room in the link.
    pub(crate) fn restore_starved(&mut self) {
        if self.core.link.is_live() {
            let starved = self.tasks.iter().filter(|(_, task)| task.wants_read());
            self.index.starved = starved.map(|(id, _)| *id).collect();
        }
    }

    pub(crate) fn rehash(&mut self) {
        self.index.digest = digest::of(&(self.index.tasks_digest, digest::of(&self.core)));
    }
}

fn indexed(id: TaskId, task: &Task) -> Indexed {
    Indexed {
        timer: task.deadline(),
        waiting: task.waiting(),
        holds_slot: task.holds_slot(),
        digest: task_digest(id, task),
    }
}

fn task_digest(id: TaskId, task: &Task) -> u64 {
    digest::of(&(id, task))
}
