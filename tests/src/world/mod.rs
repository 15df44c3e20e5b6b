//! The whole system in one process and one thread, deterministic.

mod act;
mod begin;
mod commands;
mod folder;
mod git;
mod journal;
mod log;
mod machine;
mod months;
mod net;
mod second;
mod server;
mod settle;
mod sightings;

use std::collections::{BTreeMap, BTreeSet};

use makima_core::effect::{Effect, Exit, Work};
use makima_core::id::{EffectId, Epoch, TaskId};
use makima_core::input::{Boot, Input, Stop};
use makima_core::protocol::{DaemonMessage, UnreadableKind};
use makima_core::task::Status;
use makima_core::time::{Millis, Now};
use makima_core::{Compat, Config, Daemon, Keep};
use uuid::Uuid;

pub use self::act::{Act, Refusal, Speech, TaskKind, Temper};
use self::journal::Journal;
pub use self::machine::Machine;
use self::net::Net;
pub use self::server::{Manner, Reply, Server};
pub use self::sightings::Sightings;

/// The world.
#[derive(Clone, Debug)]
pub struct World {
    /// The real core.
    pub daemon: Daemon,
    /// The machine that it runs on.
    pub machine: Machine,
    /// The server that it talks to.
    pub server: Server,
    net: Net,
    journal: Journal,
    now: Now,
    incarnation: u32,
    kinds: Vec<Option<TaskKind>>,
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
    /// What is being done, for people: kept where somebody reads it.
    pub transcript: Option<Vec<String>>,
    /// What has happened so far, and how often.
    pub seen: Sightings,
    /// When somebody let a task go on last, while everything comes to its end.
    resumed: Option<Millis>,
    /// Tasks that were paused when an earlier life of the daemon knew last.
    unsure: BTreeSet<TaskId>,
}

/// The tasks of the world.
pub const TASKS: u8 = 8;

/// The most tasks that run at once.
pub const SLOTS: u32 = 3;

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
        once: false,
        compat: Compat::default(),
        keep: Keep::default(),
    }
}

impl World {
    /// A world in which the daemon has just been started.
    #[must_use]
    pub fn new(manner: Manner, speech: Speech, seed: u64) -> Self {
        let mut config = config();
        // Every other world has little room for what has ended.
        config.keep.disk = seed.is_multiple_of(2).then_some(1);
        let mut world = Self {
            journal: Journal::begin(&Daemon::new(config.clone())),
            daemon: Daemon::new(config),
            machine: Machine::default(),
            server: Server::new(manner, speech),
            net: Net::new(speech),
            now: Now { mono: Millis(1_000), asleep: Millis(0), unix: Millis(1_700_000_000_000) },
            incarnation: 0,
            kinds: vec![None; usize::from(TASKS)],
            exit: None,
            given: BTreeSet::new(),
            interrupted: BTreeMap::new(),
            messages: 0,
            steps: 0,
            recording: None,
            transcript: None,
            seen: Sightings::default(),
            resumed: None,
            unsure: BTreeSet::new(),
        };
        world.boot(seed);
        world
    }

    fn boot(&mut self, seed: u64) {
        self.incarnation += 1;
        self.exit = None;
        self.journal = Journal::begin(&self.daemon);
        let leftovers = self.machine.leftovers();
        self.unsure = self.daemon.statuses().map(|(task, _)| task).collect();
        self.step(Input::Boot(Boot { incarnation: self.incarnation, seed, config: None, leftovers }));
    }

    fn kind(&self, task: TaskId) -> TaskKind {
        let kind = self.kinds.iter().enumerate().find(|(n, _)| task_id(*n as u8) == task);
        kind.and_then(|(_, kind)| *kind).unwrap_or(TaskKind {
            local: true,
            branch: true,
            changes: true,
            subtask: false,
            orchestrator: false,
            checks: false,
            temper: Temper::Mild,
        })
    }

    /// Lets something happen. False where it could not.
    pub fn apply(&mut self, act: Act) -> bool {
        match act {
            Act::Spawn { .. }
            | Act::Interrupt { .. }
            | Act::Message { .. }
            | Act::Other { .. }
            | Act::Rubbish
            | Act::Complain => self.server.is_open() && self.say(act),
            Act::Accept => self.accept(),
            Act::Refuse(refusal) => self.net.refuse(refusal).map(|input| self.step(input)).is_some(),
            Act::Reject { key } => self.server.reject(if key { "unauthorized" } else { "busy" }),
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
            Act::Months => self.months(),
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
        }
    }

    /// What comes from a connection that is gone is counted, and nothing else.
    fn stale(&mut self, input: Input) -> bool {
        let before = self.daemon.counters().stale_frames;
        self.step(input);
        let counted = self.daemon.counters().stale_frames == before + 1;
        assert!(counted || self.exit.is_some(), "a frame of a connection that is gone was taken");
        true
    }

    fn accept(&mut self) -> bool {
        match self.net.accept() {
            None => return false,
            Some(net::Attempt::Up(epoch, wire)) => {
                self.server.connected(epoch, wire);
                self.step(Input::LinkUp { epoch, wire });
            }
            Some(net::Attempt::Down(input)) => self.step(*input),
        }
        true
    }

    fn deliver(&mut self) -> bool {
        let Some((epoch, frame)) = self.net.deliver() else { return false };
        match frame {
            net::Frame::Message(message, envelope, stretch) => {
                self.note(|| format!("-> {}", message.write()));
                let tokens = |task| self.machine.tokens(task);
                match envelope {
                    Some(envelope) => self.server.hear_second(epoch, &message, (envelope, stretch), tokens),
                    None => self.server.hear(epoch, &message, tokens),
                }
                if let DaemonMessage::TaskComplete(end) = *message {
                    self.check_interrupt(&end);
                }
            }
            net::Frame::Said(said) => {
                self.note(|| format!("-> {said:?}"));
                self.server.hear_said(epoch, &said);
            }
            net::Frame::Ping(n) => {
                self.note(|| format!("-> ping {n}"));
                self.server.pinged(epoch, n);
            }
        }
        true
    }

    fn answer(&mut self) -> bool {
        for (epoch, quiescing) in self.net.open() {
            let session = self.server.sessions.get_mut(&epoch);
            match session.and_then(|session| session.replies.pop_front()) {
                Some(reply) => self.hear(epoch, reply),
                None if quiescing => {
                    self.server.disconnected(epoch);
                    if let Some(input) = self.net.give_up(epoch, "quiesced") {
                        self.step(input);
                    }
                }
                None => continue,
            }
            self.net.turn();
            return true;
        }
        false
    }

    /// A frame reaches the daemon.
    fn hear(&mut self, epoch: Epoch, reply: Reply) {
        let mut interrupts = None;
        let input = match reply {
            Reply::Command(seq, Some(command)) => {
                self.note(|| format!("<- {} {}", seq.map(|seq| seq.to_string()).unwrap_or_default(), command.write()));
                self.see_command(&command);
                interrupts = self.timely_interrupt(&command);
                Input::Command { epoch, seq, command, credentials: None }
            }
            Reply::Pong(n) => {
                self.note(|| format!("<- pong {n}"));
                Input::Pong { epoch, n }
            }
            Reply::Said(said) => {
                self.note(|| format!("<- {said:?}"));
                Input::Said { epoch, said }
            }
            Reply::Command(seq, None) => Input::Unreadable {
                epoch,
                seq,
                what: makima_core::protocol::Unreadable {
                    kind: UnreadableKind::NotAMessage,
                    message_type: None,
                    reason: "rubbish".to_string(),
                    column: 1,
                },
            },
        };
        let before = self.unheard();
        self.step(input);
        if let Some(task) = interrupts.filter(|_| self.unheard() == before) {
            self.interrupted.insert(task, self.incarnation);
        }
    }

    fn cut(&mut self, told: bool) -> bool {
        let Some((epoch, input)) = self.net.cut(told) else { return false };
        self.server.disconnected(epoch);
        if let Some(input) = input {
            self.step(input);
        }
        true
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
            self.journal = Journal::begin(&self.daemon);
        }
        self.step(Input::Journal { trouble });
        true
    }

    fn perform(&mut self, nth: u8, fails: bool) -> bool {
        let ready = self.machine.ready();
        if ready.is_empty() {
            return false;
        }
        let id = ready[usize::from(nth) % ready.len()];
        let kinds = self.clone_kinds();
        if let Some(task) = self.machine.stops_or_lets_go(id) {
            self.unsure.remove(&task);
        }
        let Some(input) = self.machine.perform(id, fails, kinds) else { return false };
        self.step(input);
        true
    }

    fn clone_kinds(&self) -> impl Fn(TaskId) -> TaskKind + use<> {
        let kinds: Vec<TaskKind> = (0..TASKS).map(|task| self.kind(task_id(task))).collect();
        move |task| (0..TASKS).find(|n| task_id(*n) == task).map_or(kinds[0], |n| kinds[usize::from(n)])
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

    fn next_moment(&self) -> Option<Millis> {
        let daemon = self.daemon.deadline().map(|(due, _)| due);
        [daemon, self.net.deadline().map(|(due, _)| due)].into_iter().flatten().min()
    }

    /// Time goes on; whoever has something due by then does it.
    fn go_to(&mut self, moment: Millis) -> bool {
        let moment = moment.max(self.now.mono);
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
        self.journal = Journal::begin(&self.daemon);
        true
    }

    fn sleep(&mut self) -> bool {
        let night = Millis::seconds(3_600);
        self.now.mono = self.now.mono + night;
        self.now.unix = self.now.unix + night;
        self.now.asleep = self.now.asleep + night;
        self.step(Input::Tick);
        true
    }

    /// In an outage the agents go with the daemon, and of their output only a part is kept.
    pub(super) fn kill(&mut self, done: u8, outage: Option<u8>, journal: u8, other: bool) -> bool {
        self.see_kill(outage.is_some());
        let kinds = self.clone_kinds();
        self.machine.kill_daemon(done, kinds);
        if let Some(kept) = outage {
            self.machine.outage(kept);
        }
        self.server.daemon_killed();
        self.net = Net::new(self.server.speech);
        let written = std::mem::replace(&mut self.journal, Journal::begin(&Daemon::new(config())));
        let lost = written.is_in_trouble();
        let (daemon, trusted) = written.recover(journal, other, |task, chunk| self.machine.reread(task, chunk));
        if lost || !trusted {
            self.server.doubt();
        }
        self.seen.see("recovered", if trusted { "by replay" } else { "by salvage" });
        self.daemon = daemon;
        self.boot(u64::from(done));
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
        let record = self.record(self.now, &input);
        self.daemon.step(self.now, input, &mut effects);
        self.daemon.check();
        let anew = effects.iter().any(Effect::begins_the_journal_anew);
        for effect in self.journal.write(record, effects, self.daemon.digest()) {
            self.take(effect);
        }
        if anew {
            self.rotate();
        }
        self.check();
    }

    fn take(&mut self, effect: Effect) {
        self.see_effect(&effect);
        match effect {
            Effect::Link(effect) => {
                if let Some(ended) = self.net.take(self.now.mono, effect) {
                    self.server.disconnected(ended);
                }
            }
            Effect::Work { id, task, work } => {
                assert!(self.given.insert(id), "the effect {id} is not a new one");
                self.note(|| format!("   {id} {work:?}"));
                let goes = matches!(work, Work::Discard | Work::Spare | Work::Purge | Work::Forget);
                assert!(!goes || self.server.end(task).is_some(), "{task} goes, and the server does not know its end");
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

    /// What must hold at every moment, whatever happens.
    fn check(&self) {
        // One that could not be ended, though it was tried, goes on without its task.
        let of_a_task = |task: &TaskId| self.machine.folder(*task).is_some_and(|folder| !folder.unkillable);
        let running = self.machine.running().iter().filter(|task| of_a_task(task)).count();
        // An orchestrator lends its slot to its subtasks.
        assert!(running <= 2 * SLOTS as usize || self.incarnation > 1, "{running} agents run at once");
        for (task, status) in self.daemon.statuses() {
            // What an earlier life of the daemon knew last may be out of date, until it is looked at.
            let known = !self.unsure.contains(&task);
            if let Some(folder) = self.machine.folder(task).filter(|_| status == Status::Paused && known) {
                assert!(folder.stands_still() != Some(false), "{task} is paused, and its agent goes on");
            }
        }
    }
}
