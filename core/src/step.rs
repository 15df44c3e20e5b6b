//! One step of the daemon: routes an input, then settles everything that it made due.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem;

use uuid::Uuid;

use crate::daemon::{Daemon, Stopping};
use crate::effect::{Effect, Exit};
use crate::id::{EffectId, Epoch, SecretId, TaskId};
use crate::input::{ExitStatus, Input, Stop};
use crate::limits;
use crate::link::{self, Change, Link, Role};
use crate::notice::{Notice, Party};
use crate::numbers::Turn;
use crate::outbox::Report;
use crate::protocol::{DaemonCommand, Heartbeat, Said, Wire};
use crate::task::{self, Cut, Event, Task};
use crate::time::{Millis, Now};

/// Whose what concerns no task is.
pub(crate) const NOBODY: TaskId = TaskId(Uuid::nil());

/// One step under way.
pub(crate) struct Step<'a> {
    pub(crate) daemon: &'a mut Daemon,
    pub(crate) now: Now,
    pub(crate) out: &'a mut Vec<Effect>,
    /// Tasks that may have something to send, or another deadline.
    pub(crate) touched: BTreeSet<TaskId>,
    /// The series of the server's numbers and the number in it of the command that is applied, where it has one.
    pub(crate) number: Option<(u64, u64)>,
    /// Tasks that have just ended.
    pub(crate) ended: Vec<TaskId>,
}

impl Step<'_> {
    pub(crate) fn run(mut self, input: Input) {
        if matches!(input, Input::Boot(_)) {
            // The machine may have been started anew: its clocks have nothing to do with those before.
            self.daemon.core.last = self.now;
        } else {
            self.clock();
        }
        if bug!(SleepCounts) {
            self.now.asleep = Millis(0);
        }
        self.input(input);
        self.settle();
    }

    /// What the server said to an earlier life of the daemon, of which nothing more is known.
    pub(crate) fn salvage(mut self, input: Input) {
        match input {
            Input::Command { seq, command, credentials, .. } => {
                let asks = !matches!(*command, DaemonCommand::Authenticated(_) | DaemonCommand::ServerError(_));
                if self.is_new(seq) && asks {
                    self.number = seq.map(|_| self.daemon.core.inbox.stand());
                    self.daemon.core.counters.salvaged += 1;
                    // It was taken, so that life was not about to end, whatever is known of the one before.
                    if !bug!(SalvageUnderAStop) {
                        self.daemon.core.stopping = None;
                    }
                    self.daemon.core.exited = false;
                    self.apply(Role::Main, *command, credentials);
                }
            }
            Input::Unreadable { seq, .. } => {
                self.is_new(seq);
            }
            Input::Said { said: Said::Hello(hello), .. } => {
                self.daemon.core.inbox.greeted(hello.epoch);
            }
            Input::Boot(_)
            | Input::Tick
            | Input::LinkUp { .. }
            | Input::LinkDown { .. }
            | Input::Said { .. }
            | Input::Flushed { .. }
            | Input::Pong { .. }
            | Input::Done { .. }
            | Input::Exited { .. }
            | Input::Journal { .. }
            | Input::Stop { .. } => {}
        }
        self.reindex();
    }

    /// Whether what bears this number has not been applied: from now on it has.
    fn is_new(&mut self, seq: Option<u64>) -> bool {
        seq.is_none_or(|seq| bug!(SalvagedTwice) || self.daemon.core.inbox.take(seq) == Turn::Next)
    }

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
            Input::LinkUp { epoch, wire } => {
                self.of_link(epoch, |step, role| step.link(|link, s| link.up(role, wire, s)));
            }
            Input::LinkDown { epoch, cause } => self.of_link(epoch, |step, role| {
                let change = step.link(|link, s| link.down(role, cause, s));
                step.link_changed(change);
            }),
            Input::Command { epoch, seq, command, credentials } => self.of_link(epoch, |step, role| {
                step.daemon.core.link.heard(role, step.now.mono);
                if step.take_number(role, seq) {
                    step.number = seq.map(|_| step.daemon.core.inbox.stand());
                    step.command(role, *command, credentials);
                }
            }),
            Input::Unreadable { epoch, seq, what } => self.of_link(epoch, |step, role| {
                step.daemon.core.link.heard(role, step.now.mono);
                step.daemon.core.counters.unreadable += 1;
                step.misbehaved(Party::Server, what.to_string());
                step.take_number(role, seq);
            }),
            Input::Said { epoch, said } => self.of_link(epoch, |step, role| {
                step.daemon.core.link.heard(role, step.now.mono);
                if role == Role::Main {
                    step.said(said);
                }
            }),
            Input::Flushed { epoch, n } => self.of_link(epoch, |step, role| {
                step.daemon.core.link.flushed(role, n, step.now.mono);
                step.touched.extend(mem::take(&mut step.daemon.index.starved));
            }),
            Input::Pong { epoch, n } => self.of_link(epoch, |step, role| {
                step.daemon.core.link.heard(role, step.now.mono);
                if role == Role::Main {
                    step.pong(n);
                }
            }),
            Input::Journal { trouble } => self.daemon.core.inbox.journal(trouble && !bug!(AckInTrouble)),
            Input::Done { id, outcome } => match self.daemon.core.ids.owners.remove(&id) {
                Some(_) if self.looked(id, &outcome) || self.gone(id, &outcome) => {}
                Some(task) => self.task(task, Event::Done(id, outcome)),
                None => self.daemon.core.counters.stale_effects += 1,
            },
            Input::Exited { id, status } => self.exited(id, status),
            Input::Stop { how } => self.stop(how),
        }
    }

    /// What a connection that still counts brought.
    fn of_link(&mut self, epoch: Epoch, what: impl FnOnce(&mut Self, Role)) {
        match self.daemon.core.link.role(epoch) {
            Some(role) => what(self, role),
            None => self.daemon.core.counters.stale_frames += 1,
        }
    }

    /// An agent's end belongs to the task that started it.
    fn exited(&mut self, id: EffectId, status: ExitStatus) {
        let tasks = &self.daemon.tasks;
        let is_its = |task: &&TaskId| tasks.get(task).and_then(Task::agent) == Some(id);
        match self.daemon.index.not_closed.iter().find(is_its).copied() {
            Some(task) => self.task(task, Event::Exited(id, status)),
            None => self.daemon.core.counters.stale_effects += 1,
        }
    }

    fn stop(&mut self, how: Stop) {
        if how == Stop::IfIdle {
            if self.daemon.index.not_closed.is_empty() {
                self.exit(Exit::Stopped);
            }
            return;
        }
        if how == Stop::Detach {
            return self.exit(Exit::Detached);
        }
        let graceful = how == Stop::Graceful;
        let sterner = self.daemon.core.stopping.as_ref().is_none_or(|stopping| stopping.how < how);
        if !sterner {
            return;
        }
        self.daemon.core.stopping = Some(Stopping { how, idle_since: None });
        if how == Stop::Drain {
            return;
        }
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
        self.reindex();
        self.timers();
        self.reindex();
        self.fill_slots();
        self.pump();
        self.reindex();
        self.wind_up();
    }

    fn timers(&mut self) {
        self.looks_due();
        self.retain();
        let now = self.now.awake();
        let timers = &self.daemon.index.timers;
        let due: Vec<TaskId> = timers.iter().take_while(|(due, _)| *due <= now).map(|(_, id)| *id).collect();
        for id in due {
            self.task(id, Event::Due);
        }
    }

    /// First come, first served; subtasks before new top-level tasks.
    fn fill_slots(&mut self) {
        let slots = self.daemon.config.max_tasks;
        while self.daemon.core.stopping.is_none()
            && let Some((_, id)) = self.daemon.index.waiting.first().copied()
        {
            if self.daemon.index.free(slots) == 0 {
                if self.daemon.index.is_stuck(slots) {
                    self.on_task(id, Task::tell_stuck);
                }
                return;
            }
            self.task(id, Event::Slot);
            self.index(id);
        }
    }

    /// Sends what can be sent: control messages of every task first, then output, as far as the link takes it.
    fn pump(&mut self) {
        if !self.daemon.core.link.is_live() {
            return;
        }
        self.send_loose();
        let touched = mem::take(&mut self.touched);
        for id in &touched {
            self.send_reports(*id);
        }
        self.touched = touched;
        // Behind what is told, so that a server that reconciles by it has all of that.
        if self.daemon.core.link.take_heartbeat(self.now.mono) {
            self.heartbeat();
        }
        self.acknowledge();
        self.read_output();
        self.barrier();
    }

    fn read_output(&mut self) {
        for id in mem::take(&mut self.touched) {
            let room = self.daemon.core.link.has_room();
            if !self.daemon.tasks.get(&id).is_some_and(Task::wants_read) {
                self.daemon.index.starved.remove(&id);
            } else if room {
                self.on_task(id, Task::read);
            } else {
                self.daemon.index.starved.insert(id);
            }
            self.index(id);
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

    fn heartbeat(&mut self) {
        let index = &self.daemon.index;
        let active = if bug!(HeartbeatNamesTooFew) { &index.in_flight } else { &index.not_closed };
        let active_tasks = active.iter().map(|id| id.0).collect();
        self.daemon.core.link.send(Heartbeat { active_tasks }, self.out);
    }

    pub(crate) fn link_changed(&mut self, change: Change) {
        match change {
            Change::None => {}
            Change::Opened => self.opened(),
            Change::Lost { authenticated, turns } => {
                self.lost();
                if self.daemon.config.once {
                    self.daemon.core.session_over |= authenticated;
                    if !self.daemon.core.session_over && !turns {
                        self.exit_idle(Exit::NotReached);
                    }
                }
            }
            Change::Refused => {
                self.lost();
                if self.daemon.config.once {
                    self.exit_idle(Exit::KeyRefused);
                }
            }
            Change::Delivered(n) => self.delivered(n),
        }
    }

    /// The session is open: where things lie, keys, everything not yet delivered; then the first heartbeat is due.
    fn opened(&mut self) {
        let wire = self.daemon.core.link.wire().unwrap_or_default();
        match wire {
            Wire::One => {
                if !bug!(NumbersOutliveTheirSession) {
                    self.drop_numbers();
                }
                let directories = self.directories().message(NOBODY);
                self.daemon.core.link.send(directories, self.out);
            }
            Wire::Two => self.daemon.core.loose.replace_directories(self.directories(), NOBODY),
        }
        for id in &self.daemon.index.not_closed {
            if let Some(task) = self.daemon.tasks.get_mut(id) {
                task.tell_key(SecretId::ToolKey(*id));
            }
        }
        self.touched.extend(&self.daemon.index.talking);
    }

    fn directories(&self) -> Report {
        let config = &self.daemon.config;
        Report::Directories {
            working: config.working_directory.clone(),
            home: config.home_directory.clone(),
            worktrees: config.worktrees_directory.clone(),
        }
    }

    fn lost(&mut self) {
        let counters = &mut self.daemon.core.counters;
        counters.resent += self.daemon.core.loose.unsend();
        self.daemon.index.starved.clear();
        for id in self.daemon.index.talking.clone() {
            self.on_task(id, Task::disconnected);
        }
    }

    fn delivered(&mut self, n: u64) {
        self.daemon.core.loose.delivered(n);
        for id in self.daemon.index.in_flight.clone() {
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
            if !under_way
                && (waited
                    || self.daemon.index.talking.iter().all(|id| self.daemon.tasks.get(id).is_none_or(Task::is_told)))
            {
                self.exit(Exit::Stopped);
            }
        } else if self.daemon.core.session_over && self.daemon.index.not_closed.is_empty() {
            self.exit(Exit::SessionOver);
        }
    }

    /// Not while agents are at work: they would be left behind.
    fn exit_idle(&mut self, how: Exit) {
        if self.daemon.index.busy == 0 {
            self.exit(how);
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

    pub(crate) fn send_output(&mut self, id: TaskId, cut: Cut) {
        self.daemon.core.link.send_output(id, cut, self.out);
    }

    /// Runs something on one task, if it is known.
    pub(crate) fn on_task<T>(
        &mut self,
        id: TaskId,
        run: impl FnOnce(&mut Task, &mut task::Surroundings<'_>) -> T,
    ) -> Option<T> {
        if !bug!(IndexLeftBehind) {
            self.touched.insert(id);
        }
        self.with_tasks(|tasks, s| tasks.get_mut(&id).map(|task| run(task, s)))
    }

    pub(crate) fn with_tasks<T>(
        &mut self,
        run: impl FnOnce(&mut BTreeMap<TaskId, Task>, &mut task::Surroundings<'_>) -> T,
    ) -> T {
        let core = &mut self.daemon.core;
        let mut surroundings = task::Surroundings {
            now: self.now.awake(),
            unix: self.now.unix,
            wire: core.link.wire(),
            stopping: core.stopping.is_some(),
            number: self.number,
            api_url: &self.daemon.config.api_url,
            program: &self.daemon.config.program,
            worktrees: &self.daemon.config.worktrees_directory,
            index: &self.daemon.index,
            ids: &mut core.ids,
            counters: &mut core.counters,
            out: self.out,
        };
        run(&mut self.daemon.tasks, &mut surroundings)
    }

    pub(crate) fn link<T>(&mut self, run: impl FnOnce(&mut Link, &mut link::Surroundings<'_>) -> T) -> T {
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

    pub(crate) fn authenticated(&mut self, role: Role) {
        let was_live = self.daemon.core.link.is_live();
        let Some(change) = self.link(|link, s| link.authenticated(role, s)) else {
            return self.misbehaved(Party::Server, "`authenticated` came twice".to_string());
        };
        if was_live && !bug!(TakeOverForgets) {
            self.lost();
        }
        self.link_changed(change);
    }

    pub(crate) fn rejected(&mut self, role: Role, code: String, message: String) {
        let change = self.link(|link, s| link.rejected(role, code, message, s));
        self.link_changed(change);
    }
}
