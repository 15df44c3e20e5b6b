//! The whole system in one process and one thread, deterministic.

mod act;
mod begin;
mod commands;
mod far;
mod folder;
mod git;
mod holds;
mod journal;
mod log;
mod machine;
mod months;
mod net;
mod open;
mod second;
mod server;
mod settle;
mod sightings;
mod speaker;
mod trust;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use makima_core::agent::Agent;
use makima_core::allowance::{Allowance, Then};
use makima_core::effect::{Effect, Exit, Work};
use makima_core::id::{EffectId, TaskId};
use makima_core::input::{Boot, Input, Stop};
use makima_core::time::{Millis, Now};
use makima_core::{Compat, Config, Daemon, Keep};
use uuid::Uuid;

use crate::cells::Watch;
use crate::holds;
use crate::refine::Segment;

pub use self::act::{Act, Refusal, Speech, TaskKind, Temper};
pub(crate) use self::commands::{other, spawn};
pub use self::far::Far;
use self::journal::Journal;
pub use self::machine::Machine;
pub use self::net::Frame;
use self::net::Net;
pub use self::open::GOES_ON;
pub use self::server::{Manner, Reply, Server};
pub use self::sightings::Sightings;
pub(crate) use self::sightings::task_of;

/// The world of one daemon, and of whoever it talks to.
#[derive(Clone, Debug)]
pub struct World<F = Server> {
    /// The real core.
    pub daemon: Daemon,
    /// The machine that it runs on.
    pub machine: Machine,
    /// Whoever it talks to.
    pub server: F,
    net: Net,
    journal: Journal,
    now: Now,
    incarnation: u32,
    kinds: Kinds,
    /// The daemon's last word.
    pub exit: Option<Exit>,
    /// Every effect so far.
    given: BTreeSet<EffectId>,
    /// Tasks that were interrupted in time, and in which life of the daemon.
    interrupted: BTreeMap<TaskId, u32>,
    /// Messages to agents so far: their texts are numbers.
    messages: u64,
    /// Steps of the daemon so far.
    pub steps: u64,
    /// Every input so far, if they are to be kept.
    pub recording: Option<Vec<(Now, Input)>>,
    /// The journal of the daemon's lives so far, if it is to be kept.
    pub segments: Option<Vec<Segment>>,
    /// What is being done, for people: kept where somebody reads it.
    pub transcript: Option<Vec<String>>,
    /// What has happened so far, and how often.
    pub seen: Sightings,
    /// When somebody let a task go on last, while everything comes to its end.
    resumed: Option<Millis>,
    /// When people answered what agents ask last, while everything comes to its end.
    answered: Option<Millis>,
    /// Tasks that were paused when an earlier life of the daemon knew last.
    unsure: BTreeSet<TaskId>,
    /// Tasks whose agents were asked to end, and a subtask of theirs that was at work when that was settled, if one was.
    left: BTreeMap<TaskId, Option<TaskId>>,
    /// Who looks at every step, if somebody does.
    pub watch: Option<Box<Watch>>,
}

/// The tasks of the world.
pub const TASKS: u8 = 8;

/// The most tasks that run at once.
pub const SLOTS: u32 = 3;

/// At each such step the daemon is checked wholly: see [`Daemon::check_state`].
const WHOLLY: u64 = 16;

/// Of so many records one has the state's digest.
const DIGESTED: u64 = 4;

/// The name of a task of the world.
#[must_use]
pub const fn task_id(task: u8) -> TaskId {
    TaskId(Uuid::from_u128(0x1000_0000_0000_4000_8000_0000_0000_0000 + task as u128))
}

/// The settings of the world's daemon.
#[must_use]
pub fn config() -> Config {
    Config {
        machine_id: "machine".to_string(),
        hostname: "host".to_string(),
        max_tasks: SLOTS,
        working_directory: "/work".to_string(),
        home_directory: "/home".to_string(),
        worktrees_directory: "/worktrees".to_string(),
        api_url: "http://127.0.0.1:1".to_string(),
        program: "/bin/makima".to_owned(),
        agent: Agent::Shell,
        once: false,
        compat: Compat::default(),
        keep: Keep::default(),
        allowance: Allowance::default(),
    }
}

/// What its tasks may use up: in a few worlds not for ever, and in some of these a person lets them go on. Processes are looked at
/// again and again, which takes a world with agents that wait for long too many steps.
fn allowance(agent: &Agent, seed: u64) -> Allowance {
    let then = if seed.is_multiple_of(3) { Then::Pause } else { Then::End };
    match (seed % 16, agent) {
        (4, Agent::Shell) => Allowance { processes: Some(1), then, ..Allowance::default() },
        (6, _) => Allowance { time: Some(Millis::seconds(600)), then, ..Allowance::default() },
        (11, _) => Allowance { cost: Some(250_000), then, ..Allowance::default() },
        _ => Allowance::default(),
    }
}

impl World {
    /// A world in which the daemon has just been started.
    #[must_use]
    pub fn new(manner: Manner, speech: Speech, seed: u64) -> Self {
        Self::watched(manner, speech, seed, None)
    }

    /// The same, and somebody looks at every step.
    #[must_use]
    pub fn watched(manner: Manner, speech: Speech, seed: u64, watch: Option<Box<Watch>>) -> Self {
        Self::with_agents(Agent::Shell, manner, speech, seed, watch)
    }

    /// The same, with agents of that kind.
    #[must_use]
    pub fn with_agents(agent: Agent, manner: Manner, speech: Speech, seed: u64, watch: Option<Box<Watch>>) -> Self {
        // Every other world has little room for what has ended.
        let keep = Keep { disk: seed.is_multiple_of(2).then_some(1), ..Keep::default() };
        let allowance = allowance(&agent, seed);
        Self::of(Config { keep, agent, allowance, ..config() }, Server::new(manner, speech), seed, watch)
    }

    /// The same for a search, which tries everything of little: what other worlds have their numbers decide is a choice
    /// (`Machine::tries`), and what the server acknowledges in one go it tells in one.
    #[must_use]
    pub fn searched(mut self) -> Self {
        self.machine.tries = true;
        self.server.gathers = true;
        self
    }

    /// Lets something happen. False where it could not.
    pub fn apply(&mut self, act: Act) -> bool {
        if let Act::Reject { key } = act {
            self.server.reject(if key { "unauthorized" } else { "busy" })
        } else if act == Act::Months {
            self.months()
        } else {
            self.happen(act).unwrap_or_else(|| self.server.is_open() && self.say(act))
        }
    }
}

impl<F: Far> World<F> {
    /// One in which a daemon of these settings has just been started.
    pub(crate) fn of(config: Config, server: F, seed: u64, watch: Option<Box<Watch>>) -> Self {
        let mut world = Self {
            journal: Journal::default(),
            daemon: Daemon::new(config),
            machine: Machine::default(),
            net: Net::new(server.speech()),
            server,
            now: Now { mono: Millis(1_000), asleep: Millis(0), unix: Millis(1_700_000_000_000) },
            incarnation: 0,
            kinds: Kinds::default(),
            exit: None,
            given: BTreeSet::new(),
            interrupted: BTreeMap::new(),
            messages: 0,
            steps: 0,
            recording: None,
            segments: None,
            transcript: None,
            seen: Sightings::default(),
            resumed: None,
            answered: None,
            unsure: BTreeSet::new(),
            left: BTreeMap::new(),
            watch,
        };
        world.boot(seed, false);
        world
    }

    /// `goes_on`: the state is what the journal leads to.
    fn boot(&mut self, seed: u64, goes_on: bool) {
        self.incarnation += 1;
        self.exit = None;
        self.journal = Journal::begin(&self.daemon, goes_on);
        let leftovers = self.machine.leftovers();
        self.unsure = self.daemon.statuses().map(|(task, _)| task).collect();
        self.step(Input::Boot(Boot { incarnation: self.incarnation, seed, config: None, leftovers }));
    }

    /// What kind of task this is, wherever it is asked for.
    pub(crate) fn is_of_kind(&mut self, task: u8, kind: TaskKind) {
        self.kinds[usize::from(task)] = Some(kind);
    }

    fn kind(&self, task: TaskId) -> TaskKind {
        kinds_of(self.kinds)(task)
    }

    /// Lets something happen on the daemon's side of the wire. None where it is none of that.
    pub fn happen(&mut self, act: Act) -> Option<bool> {
        Some(match act {
            Act::Spawn { .. }
            | Act::Interrupt { .. }
            | Act::Message { .. }
            | Act::Other { .. }
            | Act::Rubbish
            | Act::Complain
            | Act::Reject { .. }
            | Act::Months => return None,
            Act::Accept => self.accept(),
            Act::Refuse(refusal) => self.net.refuse(refusal).map(|input| self.step(input)).is_some(),
            Act::Deliver => self.deliver(),
            Act::Answer => self.answer(),
            Act::Flush => self.net.flush().map(|input| self.step(input)).is_some(),
            Act::Cut { told } => self.cut(told),
            Act::Stale => self.net.stale().is_some_and(|input| self.stale(input)),
            Act::Perform { nth, fails } => self.perform(nth, fails),
            Act::Write { task, stderr, newline } => self.machine.write(task_id(task), stderr, newline),
            Act::Exit { task, code } => self.machine.exit(task_id(task), code),
            Act::Advance => self.advance(),
            Act::Pass(ms) => self.pass(Millis(u64::from(ms))),
            Act::Sleep => self.sleep(),
            Act::Clock { back } => self.set_clock(back),
            Act::Stop { .. } if self.exit.is_some() => false,
            Act::Stop { forced } => {
                self.step(Input::Stop { how: if forced { Stop::Forced } else { Stop::Graceful } });
                true
            }
            Act::Sync => self.sync(),
            Act::Trouble => self.trouble(),
            Act::Rotate => self.rotate(),
            Act::Kill { done, journal, other } => self.kill(done, None, journal, other),
            Act::Outage { done, kept, journal } => self.kill(done, Some(kept), journal, false),
        })
    }

    /// The journal cannot be written from now on, or can again.
    fn trouble(&mut self) -> bool {
        let trouble = !self.journal.is_in_trouble();
        self.server.doubt();
        if trouble {
            for effect in self.journal.let_go() {
                self.take(effect);
            }
        } else {
            self.begin_segment(false);
        }
        self.step(Input::Journal { trouble });
        true
    }

    fn perform(&mut self, nth: u8, fails: bool) -> bool {
        let ready: Vec<EffectId> = self.machine.ready().collect();
        if ready.is_empty() {
            return false;
        }
        let id = ready[usize::from(nth) % ready.len()];
        let kinds = kinds_of(self.kinds);
        if let Some(task) = self.machine.stops_or_lets_go(id) {
            self.unsure.remove(&task);
        }
        let Some(input) = self.machine.perform(id, fails, kinds) else { return false };
        self.step(input);
        true
    }

    /// Goes to the next moment at which something happens by itself.
    fn advance(&mut self) -> bool {
        match self.next_moment() {
            Some(due) => self.go_to(due),
            None => false,
        }
    }

    fn pass(&mut self, span: Millis) -> bool {
        let until = self.now.mono + span;
        self.go_to(self.next_moment().map_or(until, |due| due.min(until)))
    }

    pub(crate) fn next_moment(&self) -> Option<Millis> {
        let daemon = self.daemon.deadline().map(|(due, _)| due);
        [daemon, self.net.deadline().map(|(due, _)| due)].into_iter().flatten().min()
    }

    /// Time goes on; whoever has something due by then does it.
    pub(crate) fn go_to(&mut self, moment: Millis) -> bool {
        let moment = moment.max(self.now.mono);
        self.machine.now = moment;
        self.now.unix = self.now.unix + moment.since(self.now.mono);
        self.now.mono = moment;
        while let Some((_, epoch)) = self.net.deadline().filter(|(due, _)| *due <= moment) {
            self.server.disconnected(epoch);
            if let Some(input) = self.net.give_up(epoch, "connection timed out") {
                self.step(input);
            }
        }
        if self.daemon.deadline().is_some_and(|(due, _)| due <= moment) {
            self.step(Input::Tick);
        }
        F::check_silence(self);
        true
    }

    fn set_clock(&mut self, back: bool) -> bool {
        let day = Millis::seconds(86_400);
        self.now.unix = if back { Millis(self.now.unix.0.saturating_sub(day.0)) } else { self.now.unix + day };
        self.seen.see("clock", if back { "back" } else { "forward" });
        self.step(Input::Tick);
        true
    }

    /// The journal is begun anew with the state as it is.
    fn rotate(&mut self) -> bool {
        if self.journal.is_in_trouble() {
            return false;
        }
        self.sync();
        self.begin_segment(true);
        self.check_put_away();
        true
    }

    fn sleep(&mut self) -> bool {
        let night = Millis::seconds(3_600);
        self.now.mono = self.now.mono + night;
        self.now.unix = self.now.unix + night;
        self.now.asleep = self.now.asleep + night;
        let before = F::found_wanting(self);
        self.step(Input::Tick);
        holds!(
            NoWallClock,
            before == F::found_wanting(self),
            "a sleep counts as time in which somebody could have answered"
        );
        true
    }

    /// In an outage the agents go with the daemon, and of their output only a part is kept.
    pub(super) fn kill(&mut self, done: u8, outage: Option<u8>, journal: u8, other: bool) -> bool {
        self.see_kill(outage.is_some());
        let kinds = kinds_of(self.kinds);
        self.machine.kill_daemon(done, kinds);
        if let Some(kept) = outage {
            self.machine.outage(kept);
        }
        self.server.daemon_killed();
        self.net = Net::new(self.server.speech());
        self.keep_segment(self.journal.kept(journal));
        let written = std::mem::take(&mut self.journal);
        let lost = written.is_in_trouble();
        let whole = written.loose() == 0 || journal == u8::MAX;
        let (daemon, trusted) = written.recover(journal, other, |task, chunk| self.machine.reread(task, chunk));
        if lost || !trusted {
            self.server.doubt();
        }
        self.seen.see("recovered", if trusted { "by replay" } else { "by salvage" });
        if trusted && whole {
            self.interrupts_outlast();
        }
        self.daemon = daemon;
        // No two lives draw the same; and a search need not tell apart what nothing else follows from.
        let chance = if self.machine.tries { 0 } else { u64::from(done) };
        self.boot(u64::from(self.incarnation) << 32 | chance, trusted);
        true
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let at = self.now.mono;
        if let Some(transcript) = &mut self.transcript {
            transcript.push(format!("t={:<7} {}", at.0, line()));
        }
    }

    /// One step of the daemon, and everything that must hold after it.
    pub fn step(&mut self, input: Input) {
        if self.exit.is_some() {
            return;
        }
        if let Some(recording) = &mut self.recording {
            recording.push((self.now, input.clone()));
        }
        self.steps += 1;
        let mut effects = Vec::new();
        let mut record = self.record(self.now, &input);
        if self.segments.is_some() {
            record.keep_text(&input);
        }
        let moment = self.watch.as_ref().map(|watch| watch.moment(&self.daemon, self.now, &input));
        self.daemon.step(self.now, input, &mut effects);
        if let (Some(watch), Some(moment)) = (&mut self.watch, moment) {
            watch.saw(&moment, (self.now, &self.daemon, &self.machine), &effects);
        }
        if self.steps.is_multiple_of(WHOLLY) {
            self.daemon.check();
        } else {
            self.daemon.check_state();
        }
        // As the real journal has it: now and then.
        record.digest = self.steps.is_multiple_of(DIGESTED).then(|| self.daemon.digest());
        let anew = effects.iter().any(Effect::begins_the_journal_anew);
        for effect in self.journal.write(record, effects) {
            self.take(effect);
        }
        if anew {
            self.rotate();
        }
        self.see_ends();
        self.check();
    }

    fn take(&mut self, effect: Effect) {
        self.see_effect(&effect);
        F::check_effect(self, &effect);
        match effect {
            Effect::Link(effect) => {
                if let Some(ended) = self.net.take(self.now.mono, effect) {
                    self.server.disconnected(ended);
                }
            }
            Effect::Work { id, task, work } => {
                holds!(AppliedOnce, self.given.insert(id), "the effect {id} is not a new one");
                self.note(|| format!("   {id} {work:?}"));
                if matches!(work, Work::Conclude { .. }) {
                    self.give_up_what_waits(task);
                }
                self.machine.take(id, task, work);
            }
            Effect::Cancel { id } => {
                self.note(|| format!("   cancel {id}"));
                self.machine.cancel(id);
            }
            Effect::Tell(notice) => self.note(|| format!("   # {notice}")),
            Effect::Exit(exit) => self.exit = Some(exit),
        }
    }
}

/// What kinds of tasks there are, as far as they were asked for.
type Kinds = [Option<TaskKind>; TASKS as usize];

/// What kinds of tasks those are, by their names.
fn kinds_of(kinds: Kinds) -> impl Fn(TaskId) -> TaskKind {
    move |task| (0..TASKS).find(|n| task_id(*n) == task).and_then(|n| kinds[usize::from(n)]).unwrap_or(TaskKind::PLAIN)
}
