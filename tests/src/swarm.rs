//! The swarm: each seed is a run with its own mix of faults. A uniform mix finds little; one that leaves some
//! things out and does others often goes where nobody has been.

use std::iter::repeat_n;
use std::panic::{self, AssertUnwindSafe};

use makima_core::agent::{Agent, Claude, Permissions, Policy};
use makima_core::rng::Rng;

use crate::cells::Watch;
use crate::shrink::Shrinks;
use crate::world::{Act, Manner, Refusal, Speech, TASKS, TaskKind, Temper, World};

/// One run: what the world is like, and what happens in it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Run {
    /// Whether the server takes the wire literally.
    pub literal: bool,
    /// Which versions of the wire there are.
    #[serde(default)]
    pub speech: Speech,
    /// Where the daemon's own chance begins.
    pub seed: u64,
    /// Whether it is of a search: see [`World::searched`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub searched: bool,
    /// Whether its agents tell how they get on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub talks: bool,
    /// Whether they ask people.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks: bool,
    /// What happens, in order. After it the system is healed and must come to rest.
    pub acts: Vec<Act>,
}

/// Acts of one run before it is healed, at most.
const LENGTH: u64 = 400;

/// So often is an act drawn anew that is not possible just then.
const DRAWS: u32 = 20;

impl Run {
    /// The run of a seed, and how it went: the steps that it took, or what did not hold.
    ///
    /// What is not possible just then is drawn anew, so the run is found by running it. It is a list of acts
    /// all the same: [`Run::try_run`] does it again, without chance.
    pub fn of(seed: u64) -> (Self, Result<World, String>) {
        Self::watched(seed, None)
    }

    /// The same, and somebody looks at every step.
    pub fn watched(seed: u64, watch: Option<Box<Watch>>) -> (Self, Result<World, String>) {
        let mut rng = Rng::new(seed);
        let weights = Weights::draw(&mut rng);
        let length = rng.up_to(3).pow(2) * LENGTH / 9 + rng.up_to(LENGTH / 4);
        let literal = rng.up_to(3) == 0;
        let speech = [Speech::One, Speech::Two, Speech::Two, Speech::Stripped][rng.up_to(3) as usize];
        let talks = seed % 4 == 3;
        let weights = if talks { weights.talking() } else { weights };
        let asks = seed % 8 == 7;
        let mut run = Self { literal, speech, seed, searched: false, talks, asks, acts: Vec::new() };
        let world = caught(|| {
            let mut world = run.world_with(watch);
            for _ in 0..length {
                for _ in 0..DRAWS {
                    let act = weights.act(&mut rng);
                    run.acts.push(act);
                    if world.apply(act) {
                        break;
                    }
                    run.acts.pop();
                }
            }
            world.settle();
            world
        });
        (run, world)
    }

    /// The same, and the journal is kept.
    pub fn journaled(seed: u64) -> Result<World, String> {
        let (run, _) = Self::of(seed);
        caught(|| {
            let mut world = run.world();
            world.segments = Some(Vec::new());
            for act in &run.acts {
                world.apply(*act);
            }
            world.settle();
            world
        })
    }

    /// The world before anything has happened.
    #[must_use]
    pub fn world(&self) -> World {
        self.world_with(None)
    }

    fn world_with(&self, watch: Option<Box<Watch>>) -> World {
        let manner = if self.literal { Manner::Literal } else { Manner::Loose };
        let policy = if self.asks { Policy::Ask } else { Policy::default() };
        let permissions = Permissions { policy, ..Permissions::default() };
        let talker = || Agent::Claude(Claude { permissions, ..Claude::default() });
        let agent = if self.talks { talker() } else { Agent::Shell };
        let world = World::with_agents(agent, manner, self.speech, self.seed, watch);
        if self.searched { world.searched() } else { world }
    }

    /// Runs it, and gives the world at its end.
    ///
    /// # Panics
    /// Where something does not hold.
    #[must_use]
    pub fn run(&self) -> World {
        self.run_watched(None)
    }

    /// The same, and somebody looks at every step.
    ///
    /// # Panics
    /// Where something does not hold.
    #[must_use]
    pub fn run_watched(&self, watch: Option<Box<Watch>>) -> World {
        let mut world = self.world_with(watch);
        for act in &self.acts {
            world.apply(*act);
        }
        world.settle();
        world
    }

    /// Runs it, and gives the world at its end, or what did not hold.
    ///
    /// # Errors
    /// What did not hold, in the words of the check that found it.
    pub fn try_run(&self) -> Result<World, String> {
        caught(|| self.run())
    }
}

impl Shrinks for Run {
    type Act = Act;

    fn acts(&mut self) -> &mut Vec<Act> {
        &mut self.acts
    }

    fn why(&self) -> Option<String> {
        self.try_run().err()
    }
}

/// Runs something, and gives what came of it, or what did not hold.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

/// How often each thing happens in one run.
pub(crate) struct Weights {
    /// Each thing as often as it weighs.
    of: Vec<Choice>,
    /// Of a hundred effects, how many fail.
    failures: u64,
    tasks: u8,
    /// Tasks continue others.
    continues: bool,
}

#[derive(Clone, Copy)]
enum Choice {
    Spawn,
    Interrupt,
    Message,
    Pause,
    Other,
    Rubbish,
    Complain,
    Accept,
    Refuse,
    Reject,
    Deliver,
    Answer,
    Flush,
    Cut,
    Stale,
    Perform,
    Write,
    Exit,
    Advance,
    Pass,
    Sleep,
    Clock,
    Months,
    Stop,
    Sync,
    Rotate,
    Trouble,
    Kill,
    Outage,
}

impl Weights {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        // What keeps the system going is always there; each fault only in some runs, and then more or less.
        let always = [
            (12, Choice::Spawn),
            (150, Choice::Accept),
            (150, Choice::Deliver),
            (120, Choice::Answer),
            (40, Choice::Flush),
            (150, Choice::Perform),
            (12, Choice::Exit),
            (8, Choice::Advance),
            (100, Choice::Sync),
        ];
        let sometimes = [
            (8, Choice::Interrupt),
            (8, Choice::Message),
            (8, Choice::Pause),
            (20, Choice::Other),
            (2, Choice::Rubbish),
            (2, Choice::Complain),
            (12, Choice::Refuse),
            (2, Choice::Reject),
            (5, Choice::Cut),
            (2, Choice::Stale),
            (60, Choice::Write),
            (30, Choice::Advance),
            (30, Choice::Pass),
            (1, Choice::Sleep),
            (1, Choice::Clock),
            (1, Choice::Months),
            (1, Choice::Stop),
            (2, Choice::Rotate),
            (2, Choice::Trouble),
            (3, Choice::Kill),
            (1, Choice::Outage),
        ];
        let mut of: Vec<Choice> = Vec::new();
        for (weight, choice) in always {
            let weight = weight * [1, 2, 3, 9][rng.up_to(3) as usize] / 2;
            of.extend(repeat_n(choice, weight));
        }
        for (weight, choice) in sometimes {
            let weight = [0, weight, weight * 2, usize::div_ceil(weight, 2)][rng.up_to(3) as usize];
            of.extend(repeat_n(choice, weight));
        }
        let failures = if rng.up_to(1) == 0 { 0 } else { rng.up_to(30) };
        Self { of, failures, tasks: 1 + rng.up_to(u64::from(TASKS) - 1) as u8, continues: false }
    }

    /// Agents that tell how they get on have a lot to say before anything has come of them.
    fn talking(mut self) -> Self {
        self.of.retain(|choice| !matches!(choice, Choice::Exit | Choice::Spawn));
        for (weight, choice) in [(400, Choice::Write), (30, Choice::Message), (12, Choice::Exit), (12, Choice::Spawn)] {
            self.of.extend(repeat_n(choice, weight));
        }
        self.tasks = self.tasks.clamp(2, 3);
        self.continues = true;
        self
    }

    pub(crate) fn act(&self, rng: &mut Rng) -> Act {
        let choice = self.of[rng.up_to(self.of.len() as u64 - 1) as usize];
        let task = rng.up_to(u64::from(self.tasks) - 1) as u8;
        let byte = rng.up_to(255) as u8;
        let coin = rng.up_to(1) == 0;
        match choice {
            Choice::Spawn => {
                let kind = kind(rng);
                let continues = self.continues && task > 0 && rng.up_to(2) > 0;
                Act::Spawn { task, kind: TaskKind { continues, ..kind } }
            }
            Choice::Interrupt => Act::Interrupt { task, graceful: coin },
            Choice::Message => Act::Message { task },
            // The first of the others: what is paused is asked much else in some runs.
            Choice::Pause => Act::Other { task, which: 0 },
            Choice::Other => Act::Other { task, which: byte },
            Choice::Rubbish => Act::Rubbish,
            Choice::Complain => Act::Complain,
            Choice::Accept => Act::Accept,
            Choice::Refuse => Act::Refuse(match byte % 8 {
                0 => Refusal::Key,
                1 | 2 => Refusal::Proxy,
                3 => Refusal::Busy,
                _ => Refusal::Unreachable,
            }),
            Choice::Reject => Act::Reject { key: coin },
            Choice::Deliver => Act::Deliver,
            Choice::Answer => Act::Answer,
            Choice::Flush => Act::Flush,
            Choice::Cut => Act::Cut { told: coin },
            Choice::Stale => Act::Stale,
            Choice::Perform => Act::Perform { nth: byte, fails: rng.up_to(99) < self.failures },
            Choice::Write => Act::Write { task, stderr: byte.is_multiple_of(4), newline: coin },
            Choice::Exit => Act::Exit { task, code: if coin { 0 } else { byte } },
            Choice::Advance => Act::Advance,
            Choice::Pass => Act::Pass(byte),
            Choice::Sleep => Act::Sleep,
            Choice::Clock => Act::Clock { back: coin },
            Choice::Months => Act::Months,
            Choice::Stop => Act::Stop { forced: coin },
            Choice::Sync => Act::Sync,
            Choice::Rotate => Act::Rotate,
            Choice::Trouble => Act::Trouble,
            Choice::Kill => Act::Kill { done: byte, journal: rng.up_to(255) as u8, other: rng.up_to(4) == 0 },
            Choice::Outage => Act::Outage { done: byte, kept: rng.up_to(255) as u8, journal: rng.up_to(255) as u8 },
        }
    }
}

fn kind(rng: &mut Rng) -> TaskKind {
    let mut coin = || rng.up_to(1) == 0;
    let (local, branch, changes, subtask) = (coin(), coin(), coin(), coin() && coin());
    let (orchestrator, checks) = (coin() && coin(), coin() && coin());
    let temper = match (coin(), coin()) {
        (true, _) => Temper::Mild,
        (false, true) => Temper::Firm,
        (false, false) => Temper::Stubborn,
    };
    TaskKind { local, branch, changes, subtask, orchestrator, checks, continues: false, temper }
}
