//! Several daemons under one server: the real cores, and the real hub between them. What the world of one daemon cannot
//! show: that a task is begun by one of them only, that nothing is lost where both ends lose what was not written, that
//! versions mix.

mod heal;
mod line;
mod server;
pub mod swarm;

use makima_control::hub::{Answer, Effect, Input, QuestionId, Snapshot};
use makima_core::Config;
use makima_core::id::TaskId;
use makima_core::protocol::SendMessage;
use makima_core::time::Millis;
use serde::{Deserialize, Serialize};

pub use self::line::Line;
use self::line::{News, Way};
use self::server::{Out, Server};
use crate::world::{self, Sightings, Speech, TASKS, TaskKind, World, task_id};

/// One thing that happens. Where it is not possible just then, nothing does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Act {
    /// On one of the machines, or on the way from there.
    At(u8, world::Act),
    /// Somebody asks the server for a task, which is to begin after another.
    Create {
        /// Which one.
        task: u8,
        /// What kind of task it is.
        kind: TaskKind,
        /// After which one.
        after: Option<u8>,
    },
    /// Somebody wants it to end.
    Interrupt {
        /// Which one.
        task: u8,
        /// Ask first, kill later.
        graceful: bool,
    },
    /// Somebody wants it to stand still, or to go on.
    Hold {
        /// Which one.
        task: u8,
        /// To stand still.
        paused: bool,
    },
    /// Somebody has a message for its agent.
    Tell {
        /// Which one.
        task: u8,
    },
    /// Somebody asks its daemon something.
    Ask {
        /// About which one.
        task: u8,
        /// What.
        which: u8,
    },
    /// What the server has decided is written, and leaves it.
    Write,
    /// The server is killed and started again.
    Crash {
        /// What it had decided was written, and never left.
        written: bool,
        /// It comes back as one that speaks version 1 only.
        older: bool,
    },
    /// Time goes on to the next moment at which something happens by itself.
    Advance,
    /// Some milliseconds pass.
    Pass(u8),
}

/// The fleet.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The machines, each with its daemon.
    pub machines: Vec<World<Line>>,
    server: Server,
    now: Millis,
    /// Tasks that somebody asked for: what for, and whether it was said that they are kept.
    asked: Vec<Option<Asked>>,
    /// How each machine's way to the server is where that speaks both versions.
    speeches: Vec<Speech>,
    /// Some output went over version 1, which tells some of it twice.
    first: bool,
    messages: u64,
    questions: u64,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    kind: TaskKind,
    after: Option<u8>,
    kept: bool,
}

/// 2023, in milliseconds since 1970.
const BEGUN: Millis = Millis(1_700_000_000_000);

impl Fleet {
    /// A fleet whose daemons have just been started: one for each way to the server.
    #[must_use]
    pub fn new(speeches: &[Speech], seed: u64) -> Self {
        let machine = |(n, speech): (usize, &Speech)| {
            let config = Config { machine_id: name(n), ..world::config() };
            World::of(config, Line::new(*speech, seed >> n & 1 == 1), seed + n as u64, None)
        };
        Self {
            machines: speeches.iter().enumerate().map(machine).collect(),
            server: Server::default(),
            now: BEGUN,
            asked: vec![None; usize::from(TASKS)],
            speeches: speeches.to_vec(),
            first: speeches.iter().any(|speech| *speech != Speech::Two),
            messages: 0,
            questions: 0,
        }
    }

    /// Lets something happen. False where it could not.
    pub fn apply(&mut self, act: Act) -> bool {
        match act {
            Act::At(n, act) => self.at(usize::from(n) % self.machines.len(), act),
            Act::Create { task, kind, after } => {
                let asked = Asked { kind, after: after.filter(|after| *after != task), kept: false };
                self.create(task, self.asked[usize::from(task)].unwrap_or(asked))
            }
            Act::Interrupt { task, graceful } => self.is_done(Input::Interrupt { task: task_id(task).0, graceful }),
            Act::Hold { task, paused } => self.is_done(Input::Hold { task: task_id(task).0, paused }),
            Act::Tell { task } => {
                self.messages += 1;
                let (task_id, message) = (task_id(task).0, self.messages.to_string());
                let command = Box::new(SendMessage { task_id, message }.into());
                self.is_done(Input::Tell { task: task_id, command })
            }
            Act::Ask { task, which } => self.ask(task, which),
            Act::Write => self.write(),
            Act::Crash { written, older } => self.crash(written, older),
            Act::Advance => self.advance(),
            Act::Pass(ms) => {
                let until = self.machines[0].now().mono + Millis(u64::from(ms));
                let next = self.next_moment().map_or(until, |due| due.min(until));
                self.go_to(next)
            }
        }
    }

    /// Steps of all daemons so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.machines.iter().map(|machine| machine.steps).sum()
    }

    /// Keeps all that the server writes from now on.
    pub fn keep_written(&mut self) {
        self.server.written.get_or_insert_default();
    }

    /// All that the server wrote since then, in order, and what it adds up to.
    #[must_use]
    pub fn written(&self) -> (&[Effect], &Snapshot) {
        (self.server.written.as_deref().unwrap_or_default(), &self.server.kept)
    }

    /// What has happened on the machines.
    #[must_use]
    pub fn sightings(&self) -> Sightings {
        let mut all = Sightings::default();
        for machine in &self.machines {
            all.merge(&machine.seen);
            all.merge(&machine.machine.seen);
        }
        all
    }

    /// Something happens on a machine, or on the way from there.
    fn at(&mut self, n: usize, act: world::Act) -> bool {
        let done = self.machines[n].happen(act) == Some(true);
        self.take_news(n);
        done
    }

    /// The server comes to know what happened on the way from a machine.
    fn take_news(&mut self, n: usize) {
        while let Some(news) = self.machines[n].server.news.pop_front() {
            match news {
                News::Up(way, wire) => self.server.connected((n, way), wire),
                News::Gone(way) => self.server.gone(self.now, (n, way)),
                News::Heard(way, frame) => {
                    if self.server.heard(self.now, (n, way), frame) {
                        self.hang_up(n, way);
                    }
                }
            }
        }
    }

    /// The server ends a connection.
    fn hang_up(&mut self, n: usize, way: Way) {
        self.server.gone(self.now, (n, way));
        if let Some(epoch) = self.machines[n].server.epoch(way) {
            self.machines[n].hung_up(epoch);
        }
    }

    fn is_done(&mut self, input: Input) -> bool {
        self.server.step(self.now, input) == Answer::Done
    }

    fn create(&mut self, task: u8, asked: Asked) -> bool {
        for machine in &mut self.machines {
            machine.is_of_kind(task, asked.kind);
        }
        let spawn = Box::new(world::spawn(task_id(task), asked.kind));
        let after = asked.after.map(|after| task_id(after).0).into_iter().collect();
        let answer = self.server.step(self.now, Input::Create { spawn, after });
        let taken = matches!(answer, Answer::Done | Answer::Known);
        if taken {
            self.asked[usize::from(task)].get_or_insert(asked);
            self.server.tell_kept(task);
        }
        taken
    }

    fn ask(&mut self, task: u8, which: u8) -> bool {
        let (command, task) = (world::other(task_id(task), which), task_id(task).0);
        self.questions += 1;
        let question = QuestionId(self.questions);
        self.server.questions.insert(question, task);
        let done = self.is_done(Input::Ask { task, question, command: Box::new(command) });
        if !done {
            self.server.questions.remove(&question);
        }
        done
    }

    /// What the server has decided is written, and leaves it.
    fn write(&mut self) -> bool {
        if self.server.is_written() {
            return false;
        }
        let out = self.server.write();
        for machine in &mut self.machines {
            machine.server.ended = self.server.ends.keys().copied().map(TaskId).collect();
        }
        for out in out {
            match out {
                Out::Say((n, way), reply) => self.machines[n].server.say(way, reply),
                Out::HangUp((n, way)) => self.hang_up(n, way),
                Out::Kept(task) => {
                    if let Some(asked) = &mut self.asked[usize::from(task)] {
                        asked.kept = true;
                    }
                }
            }
        }
        true
    }

    fn crash(&mut self, written: bool, older: bool) -> bool {
        self.first |= older;
        self.server.crash(written);
        for (machine, speech) in self.machines.iter_mut().zip(&self.speeches) {
            machine.server.ended = self.server.ends.keys().copied().map(TaskId).collect();
            machine.server.speech = if older { Speech::One } else { *speech };
            machine.server_is_gone();
            machine.server.forget();
        }
        true
    }

    fn advance(&mut self) -> bool {
        self.next_moment().is_some_and(|due| self.go_to(due))
    }

    fn next_moment(&self) -> Option<Millis> {
        let alive = self.machines.iter().filter(|machine| machine.exit.is_none());
        alive.filter_map(World::next_moment).min()
    }

    /// Time goes on everywhere.
    fn go_to(&mut self, moment: Millis) -> bool {
        let before = self.machines.iter().map(|machine| machine.now().mono).max().unwrap_or_default();
        for n in 0..self.machines.len() {
            self.machines[n].go_to(moment);
            self.take_news(n);
        }
        self.now = self.now + moment.max(before).since(before);
        true
    }
}

/// What a machine is called.
fn name(n: usize) -> String {
    format!("machine {n}")
}
