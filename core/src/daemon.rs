//! The daemon: one step at a time. Routing only; what happens stands in the link and in the tasks.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem;

use crate::config::Config;
use crate::counters::Counters;
use crate::digest;
use crate::effect::{Effect, Exit};
use crate::id::TaskId;
use crate::input::{Boot, Input, Stop};
use crate::limits;
use crate::link::{self, Change, Link};
use crate::notice::{Notice, Party};
use crate::outbox::Outbox;
use crate::protocol::{DaemonCommand, DaemonDirectories, Heartbeat};
use crate::rng::Rng;
use crate::task::{self, Cut, Event, Ids, Status, Task};
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
    how: Stop,
    /// Since when nothing is under way any more.
    idle_since: Option<Millis>,
}

/// Derived from the state: never hashed, never written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    timers: BTreeSet<(Millis, TaskId)>,
    waiting: BTreeSet<((bool, u64), TaskId)>,
    in_flight: BTreeSet<TaskId>,
    starved: BTreeSet<TaskId>,
    not_closed: BTreeSet<TaskId>,
    busy: usize,
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
        let mut step = Step { daemon: self, now, out, touched: BTreeSet::new() };
        step.clock();
        step.input(input);
        step.settle();
    }

    /// When the next [`Input::Tick`] is wanted, on the clock of [`Now::mono`], and what for. Always later than
    /// the newest step.
    #[must_use]
    pub fn deadline(&self) -> Option<(Millis, &'static str)> {
        if self.core.exited {
            return None;
        }
        let task = self.index.timers.first().map(|(due, _)| (*due, "a task"));
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

impl Index {
    /// How many tasks only wait for a slot.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a new task will have to wait.
    pub(crate) fn is_full(&self, max_tasks: u32) -> bool {
        !self.waiting.is_empty() || self.busy >= max_tasks as usize
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

/// One step under way.
pub(crate) struct Step<'a> {
    pub(crate) daemon: &'a mut Daemon,
    pub(crate) now: Now,
    pub(crate) out: &'a mut Vec<Effect>,
    /// Tasks that may have something to send, or another deadline.
    pub(crate) touched: BTreeSet<TaskId>,
}

impl Step<'_> {
    /// Time never goes back; and a machine that slept has lost its connections.
    fn clock(&mut self) {
        let last = self.daemon.core.last;
        self.now.mono = self.now.mono.max(last.mono);
        self.now.asleep = self.now.asleep.max(last.asleep);
        self.daemon.core.last = self.now;
        let slept = self.now.asleep.since(last.asleep);
        if slept > limits::SLEPT {
            let change = self.link(|link, s| link.slept(slept, s));
            self.link_changed(change);
        }
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Boot(boot) => self.boot(boot),
            Input::Tick => {}
            Input::LinkUp { epoch } => {
                if self.is_current(epoch) {
                    self.link(|link, s| link.up(s));
                }
            }
            Input::LinkDown { epoch, cause } => {
                if self.is_current(epoch) {
                    let change = self.link(|link, s| link.down(cause, s));
                    self.link_changed(change);
                }
            }
            Input::Command { epoch, command, credentials } => {
                if self.is_current(epoch) {
                    self.daemon.core.link.heard(self.now.mono);
                    self.command(*command, credentials);
                }
            }
            Input::Unreadable { epoch, what } => {
                if self.is_current(epoch) {
                    self.daemon.core.link.heard(self.now.mono);
                    self.daemon.core.counters.unreadable += 1;
                    self.misbehaved(Party::Server, what.to_string());
                }
            }
            Input::Flushed { epoch, n } => {
                if self.is_current(epoch) {
                    self.daemon.core.link.flushed(n, self.now.mono);
                    self.touched.extend(mem::take(&mut self.daemon.index.starved));
                }
            }
            Input::Pong { epoch, n } => {
                if self.is_current(epoch) {
                    self.daemon.core.link.heard(self.now.mono);
                    let change = self.link(|link, s| link.pong(n, s));
                    self.link_changed(change);
                }
            }
            Input::Done { id, outcome } => match self.daemon.core.ids.owners.remove(&id) {
                Some(task) => self.task(task, Event::Done(id, outcome)),
                None => self.daemon.core.counters.stale_effects += 1,
            },
            Input::Exited { id, status } => self.exited(id, status),
            Input::Stop { how } => self.stop(how),
        }
    }

    fn is_current(&mut self, epoch: crate::id::Epoch) -> bool {
        self.link(|link, s| link.is_current(epoch, s))
    }

    fn boot(&mut self, boot: Boot) {
        if self.daemon.core.ids.incarnation != 0 {
            self.misbehaved(Party::Executor, "the daemon was started twice".to_string());
            return;
        }
        self.daemon.core.ids.incarnation = boot.incarnation.max(1);
        self.daemon.core.rng = Rng::new(boot.seed);
        for left in boot.leftovers {
            let id = left.spec.id;
            let arrival = self.next_arrival();
            let task = self.with_tasks(|_, s| Task::recovered(left, arrival, s));
            self.daemon.tasks.insert(id, task);
            self.touched.insert(id);
        }
        self.link(|link, s| link.boot(s));
    }

    /// An agent's end belongs to the task that started it.
    fn exited(&mut self, id: crate::id::EffectId, status: crate::input::ExitStatus) {
        let tasks = &self.daemon.tasks;
        let is_its = |task: &&TaskId| tasks.get(task).and_then(Task::agent) == Some(id);
        match self.daemon.index.not_closed.iter().find(is_its).copied() {
            Some(task) => self.task(task, Event::Exited(id, status)),
            None => self.daemon.core.counters.stale_effects += 1,
        }
    }

    fn stop(&mut self, how: Stop) {
        let graceful = how == Stop::Graceful;
        let sterner = self.daemon.core.stopping.as_ref().is_none_or(|stopping| stopping.how < how);
        if !sterner {
            return;
        }
        self.daemon.core.stopping = Some(Stopping { how, idle_since: None });
        let under_way: Vec<TaskId> =
            self.daemon.tasks.iter().filter(|(_, task)| task.is_under_way()).map(|(id, _)| *id).collect();
        for id in under_way {
            self.task(id, Event::Stop { graceful });
        }
    }

    /// Deals with everything that this step has made due: time, slots, messages, the barrier behind them.
    fn settle(&mut self) {
        let change = self.link(|link, s| link.tick(s));
        self.link_changed(change);
        self.timers();
        self.reindex();
        self.fill_slots();
        self.pump();
        self.reindex();
        self.wind_up();
        self.daemon.rehash();
    }

    fn timers(&mut self) {
        let due: Vec<TaskId> =
            self.daemon.index.timers.iter().take_while(|(due, _)| *due <= self.now.mono).map(|(_, id)| *id).collect();
        for id in due {
            self.task(id, Event::Due);
        }
    }

    fn reindex(&mut self) {
        for id in &self.touched {
            self.daemon.reindex(*id);
        }
    }

    /// First come, first served; subtasks before new top-level tasks.
    fn fill_slots(&mut self) {
        while self.daemon.core.stopping.is_none() && self.daemon.index.busy < self.daemon.config.max_tasks as usize {
            let Some((_, id)) = self.daemon.index.waiting.first().copied() else { return };
            self.task(id, Event::Slot);
            self.daemon.reindex(id);
        }
    }

    /// Sends what can be sent: control messages of every task first, then output, as far as the link takes it.
    fn pump(&mut self) {
        if !self.daemon.core.link.is_live() {
            return;
        }
        if self.daemon.core.link.take_heartbeat(self.now.mono) {
            self.heartbeat();
        }
        let core = &mut self.daemon.core;
        while let Some(message) = core.loose.send(u64::MAX, core.link.next_frame()) {
            core.link.send(message, true, self.out);
        }
        for id in &self.touched {
            let Some(task) = self.daemon.tasks.get_mut(id) else { continue };
            while let Some(message) = task.send(core.link.next_frame()) {
                core.link.send(message, true, self.out);
            }
        }
        self.read_output();
        self.barrier();
    }

    fn read_output(&mut self) {
        for id in mem::take(&mut self.touched) {
            let room = self.daemon.core.link.has_room();
            if self.daemon.tasks.get(&id).is_some_and(Task::wants_read) {
                if room {
                    self.on_task(id, Task::read);
                } else {
                    self.daemon.index.starved.insert(id);
                }
            }
            self.daemon.reindex(id);
        }
    }

    /// Sets a barrier behind what was sent.
    fn barrier(&mut self) {
        if !self.daemon.core.link.wants_barrier(self.now.mono) {
            return;
        }
        for id in self.daemon.index.in_flight.clone() {
            if let Some(task) = self.daemon.tasks.get_mut(&id) {
                task.barrier();
            }
            self.touched.insert(id);
        }
        self.daemon.core.link.set_barrier(self.now.mono, self.out);
    }

    pub(crate) fn heartbeat(&mut self) {
        let active_tasks = self.daemon.index.not_closed.iter().map(|id| id.0).collect();
        let message = alloc::boxed::Box::new(Heartbeat { active_tasks }.into());
        self.daemon.core.link.send(message, false, self.out);
    }

    fn link_changed(&mut self, change: Change) {
        match change {
            Change::None => {}
            Change::Opened => self.opened(),
            Change::Lost { authenticated } => {
                self.lost();
                if self.daemon.config.once {
                    self.daemon.core.session_over |= authenticated;
                    if !self.daemon.core.session_over {
                        self.exit(Exit::NotReached);
                    }
                }
            }
            Change::Refused => {
                self.lost();
                if self.daemon.config.once {
                    self.exit(Exit::KeyRefused);
                }
            }
            Change::Delivered(n) => self.delivered(n),
        }
    }

    /// The session is open: where things lie, everything not yet delivered, a heartbeat.
    fn opened(&mut self) {
        let config = &self.daemon.config;
        let directories = DaemonDirectories {
            working_directory: config.working_directory.clone(),
            home_directory: config.home_directory.clone(),
            worktrees_directory: config.worktrees_directory.clone(),
        };
        self.daemon.core.link.send(alloc::boxed::Box::new(directories.into()), false, self.out);
        self.heartbeat();
        self.touched.extend(self.daemon.tasks.keys());
    }

    fn lost(&mut self) {
        let counters = &mut self.daemon.core.counters;
        counters.resent += self.daemon.core.loose.unsend();
        self.daemon.index.starved.clear();
        for id in self.daemon.tasks.keys().copied().collect::<Vec<_>>() {
            self.on_task(id, Task::disconnected);
        }
    }

    fn delivered(&mut self, n: u64) {
        self.daemon.core.loose.delivered(n);
        for id in mem::take(&mut self.daemon.index.in_flight) {
            self.on_task(id, |task, s| task.delivered(n, s));
        }
    }

    /// Whether the daemon's work is done.
    fn wind_up(&mut self) {
        let under_way = self.daemon.index.busy > 0;
        let now = self.now.mono;
        if let Some(stopping) = &mut self.daemon.core.stopping {
            stopping.idle_since = if under_way { None } else { stopping.idle_since.or(Some(now)) };
            let waited = stopping.idle_since.is_some_and(|since| now >= since + limits::STOP_DELIVERY);
            if !under_way && (waited || self.daemon.tasks.values().all(Task::is_told)) {
                self.exit(Exit::Stopped);
            }
        } else if self.daemon.core.session_over && self.daemon.index.not_closed.is_empty() {
            self.exit(Exit::SessionOver);
        }
    }

    fn exit(&mut self, how: Exit) {
        if !self.daemon.core.exited {
            self.link(|link, s| link.shut(s));
            self.daemon.core.exited = true;
            self.out.push(Effect::Exit(how));
        }
    }

    pub(crate) fn misbehaved(&mut self, who: Party, what: String) {
        self.daemon.core.counters.misbehaved += 1;
        self.out.push(Effect::Tell(Notice::Misbehaved { who, what }));
    }

    pub(crate) fn next_arrival(&mut self) -> u64 {
        self.daemon.core.arrivals = self.daemon.core.arrivals.saturating_add(1);
        self.daemon.core.arrivals
    }

    /// Something happened to a task.
    pub(crate) fn task(&mut self, id: TaskId, event: Event) {
        let cuts = self.on_task(id, |task, s| task.on(event, s)).unwrap_or_default();
        for cut in cuts {
            self.send_output(id, cut);
        }
    }

    fn send_output(&mut self, id: TaskId, cut: Cut) {
        self.daemon.core.link.send_output(id, cut, self.out);
    }

    /// Runs something on one task, if it is known.
    pub(crate) fn on_task<T>(
        &mut self,
        id: TaskId,
        run: impl FnOnce(&mut Task, &mut task::Surroundings<'_>) -> T,
    ) -> Option<T> {
        self.touched.insert(id);
        self.with_tasks(|tasks, s| tasks.get_mut(&id).map(|task| run(task, s)))
    }

    pub(crate) fn with_tasks<T>(
        &mut self,
        run: impl FnOnce(&mut BTreeMap<TaskId, Task>, &mut task::Surroundings<'_>) -> T,
    ) -> T {
        let core = &mut self.daemon.core;
        let mut surroundings = task::Surroundings {
            now: self.now,
            live: core.link.is_live(),
            ids: &mut core.ids,
            counters: &mut core.counters,
            out: self.out,
        };
        run(&mut self.daemon.tasks, &mut surroundings)
    }

    fn link<T>(&mut self, run: impl FnOnce(&mut Link, &mut link::Surroundings<'_>) -> T) -> T {
        let core = &mut self.daemon.core;
        let mut surroundings = link::Surroundings {
            now: self.now,
            config: &self.daemon.config,
            rng: &mut core.rng,
            counters: &mut core.counters,
            out: self.out,
        };
        run(&mut core.link, &mut surroundings)
    }

    pub(crate) fn authenticated(&mut self) {
        let change = self.link(|link, s| link.authenticated(s));
        if change == Change::None {
            self.misbehaved(Party::Server, "`authenticated` came twice".to_string());
        }
        self.link_changed(change);
    }

    pub(crate) fn rejected(&mut self, code: String, message: String) {
        let change = self.link(|link, s| link.rejected(code, message, s));
        self.link_changed(change);
    }

    /// For the command that nobody can take: see [`DaemonCommand`].
    pub(crate) fn not_yet_open(&mut self, command: &DaemonCommand) {
        self.misbehaved(Party::Server, alloc::format!("`{}` came before `authenticated`", command.kind()));
    }
}
