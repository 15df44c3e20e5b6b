//! The daemon: one step at a time. Routing only; what happens stands in the link and in the tasks.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::config::Config;
use crate::counters::Counters;
use crate::digest::{self, Digests};
use crate::effect::Effect;
use crate::id::{EffectId, TaskId};
use crate::index::Index;
use crate::input::{Input, Stop};
use crate::limits;
use crate::link::Link;
use crate::look::Looks;
use crate::numbers::{Inbox, Numbers};
use crate::outbox::Outbox;
use crate::retain::Retention;
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
    pub(crate) index: Index,
    pub(crate) digests: Digests,
}

/// The state beside the tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct Core {
    pub(crate) last: Now,
    pub(crate) rng: Rng,
    pub(crate) ids: Ids,
    pub(crate) link: Link,
    /// Version 2 of the wire: of our messages, and of the server's.
    pub(crate) numbers: Numbers,
    pub(crate) inbox: Inbox,
    /// Answers about tasks that are not known here.
    pub(crate) loose: Outbox,
    /// Paths that are being looked at.
    pub(crate) looks: Looks,
    /// What has ended and is to go.
    #[serde(default)]
    pub(crate) retention: Retention,
    pub(crate) arrivals: u64,
    pub(crate) stopping: Option<Stopping>,
    /// `--once`: the one session is over.
    pub(crate) session_over: bool,
    pub(crate) exited: bool,
    pub(crate) counters: Counters,
}

impl Core {
    /// The digest of the whole state, given that of the tasks.
    fn digest_with(&self, tasks: u64) -> u64 {
        digest::of(&(tasks, digest::of(self)))
    }
}

/// The daemon was told to end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct Stopping {
    /// The sternest word so far.
    pub(crate) how: Stop,
    /// Since when nothing is under way any more.
    pub(crate) idle_since: Option<Millis>,
}

impl Daemon {
    /// A daemon that has not started: its first input is [`Input::Boot`].
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            core: Core::default(),
            tasks: BTreeMap::new(),
            index: Index::default(),
            digests: Digests::default(),
        }
    }

    /// Takes one input and pushes everything that is to be done about it to `out`. Total: any input in any
    /// state; complete on return. After [`Effect::Exit`] only a new life counts.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        if self.has_exited() && !matches!(input, Input::Boot(_)) {
            return;
        }
        Step { daemon: self, now, out, touched: BTreeSet::new(), number: None, ended: Vec::new() }.run(input);
    }

    /// Whether it has said its last word: nothing but a new life is heard any more.
    #[must_use]
    pub const fn has_exited(&self) -> bool {
        self.core.exited
    }

    /// When the next [`Input::Tick`] is wanted, on the clock of [`Now::mono`], and what for. Always later than
    /// the newest step.
    #[must_use]
    pub fn deadline(&self) -> Option<(Millis, &'static str)> {
        if self.has_exited() {
            return None;
        }
        let asleep = self.core.last.asleep;
        let task = self.index.timers.first().map(|(due, _)| (*due + asleep, "a task"));
        let look = self.core.looks.deadline().map(|due| (due + asleep, "a path that is looked at"));
        let retention =
            (self.core.ids.incarnation > 0).then(|| (self.core.retention.deadline() + asleep, "what has ended"));
        let stop = self.core.stopping.as_ref().and_then(|stopping| stopping.idle_since);
        let stop = stop.map(|since| (since + limits::STOP_DELIVERY, "the end of the daemon"));
        [task, look, retention, stop, self.core.link.deadline()].iter().flatten().min().copied()
    }

    /// A hash of the whole state. Two daemons that were given the same inputs have the same. Costs what has changed
    /// since it was asked for last.
    pub fn digest(&mut self) -> u64 {
        self.core.digest_with(self.digests.of(&self.tasks))
    }

    /// [`Daemon::digest`], computed from the state as it stands.
    #[must_use]
    pub fn digest_anew(&self) -> u64 {
        self.core.digest_with(digest::anew(&self.tasks))
    }

    /// What must hold between any two steps.
    ///
    /// # Panics
    /// Where it does not hold: a bug of ours.
    pub fn check(&self) {
        self.check_state();
        self.index.check(&self.tasks);
        self.digests.check(&self.tasks);
    }

    /// The same of the state itself. What is kept beside it, to be quick, is not computed anew: that takes longer than the
    /// step, and what is wrong in it stays so until somebody looks.
    ///
    /// # Panics
    /// As [`Daemon::check`].
    pub fn check_state(&self) {
        self.core.link.check();
        self.core.loose.check();
        for task in self.tasks.values() {
            task.check();
        }
        let most = (self.config.max_tasks as usize).saturating_mul(2);
        assert!(self.index.busy <= most || self.core.ids.incarnation > 1, "too many tasks run at once");
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

    /// How many tasks have not ended.
    #[must_use]
    pub const fn unended(&self) -> usize {
        self.index.unended
    }

    /// For people: how the link to the server stands.
    #[must_use]
    pub fn link_state(&self) -> String {
        self.core.link.describe()
    }

    /// Which life of the daemon this is: the next one's number must be larger.
    #[must_use]
    pub const fn incarnation(&self) -> u32 {
        self.core.ids.incarnation
    }

    /// Whose effect this is, while it is under way.
    #[must_use]
    pub fn owner(&self, id: EffectId) -> Option<TaskId> {
        self.core.ids.owners.get(&id).copied()
    }

    /// Takes what the server said from a record of which nothing else can be trusted: outside of any session, in the
    /// state that is known, before [`Input::Boot`]. What it would have done about it is not to be done: the boot sees to
    /// that. What others said is left alone.
    pub fn salvage(&mut self, now: Now, input: Input) {
        let mut out = Vec::new();
        Step { daemon: self, now, out: &mut out, touched: BTreeSet::new(), number: None, ended: Vec::new() }
            .salvage(input);
    }

    /// The status of each task that is known here.
    pub fn statuses(&self) -> impl Iterator<Item = (TaskId, Status)> + '_ {
        self.tasks.iter().map(|(id, task)| (*id, task.status()))
    }

    /// Brings the index of one task up to date.
    /// A task may have changed. Whether it has just ended.
    pub(crate) fn reindex(&mut self, id: TaskId) -> bool {
        let Some(task) = self.tasks.get(&id) else { return false };
        self.digests.changed(id);
        self.index.update(id, task)
    }

    /// A task is not known any more.
    pub(crate) fn forget(&mut self, id: TaskId) {
        if self.tasks.remove(&id).is_some() {
            self.index.remove(id);
            self.digests.changed(id);
        }
    }

    /// Tasks whose output waits for room in the link.
    pub(crate) fn restore_starved(&mut self) {
        if self.core.link.is_live() && !bug!(StarvedAreForgotten) {
            let starved = self.tasks.iter().filter(|(_, task)| task.wants_read());
            self.index.starved = starved.map(|(id, _)| *id).collect();
        }
    }
}
