//! The swarm: each seed is a run with its own mix of faults. A uniform mix finds little; one that leaves some
//! things out and does others often goes where nobody has been.

use std::panic::{self, AssertUnwindSafe};

use makima_core::rng::Rng;

use crate::world::{Act, Manner, Refusal, TASKS, TaskKind, Temper, World};

/// One run: what the world is like, and what happens in it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Run {
    /// Whether the server takes the wire literally.
    pub literal: bool,
    /// Where the daemon's own chance begins.
    pub seed: u64,
    /// What happens, in order. After it the system is healed and must come to rest.
    pub acts: Vec<Act>,
}

/// Steps of one run before it is healed.
const LENGTH: u64 = 300;

impl Run {
    /// The run of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let weights = Weights::draw(&mut rng);
        let length = LENGTH / 4 + rng.up_to(LENGTH);
        let acts = (0..length).map(|_| weights.act(&mut rng)).collect();
        Self { literal: rng.up_to(3) == 0, seed, acts }
    }

    /// The world before anything has happened.
    #[must_use]
    pub fn world(&self) -> World {
        World::new(if self.literal { Manner::Literal } else { Manner::Loose }, self.seed)
    }

    /// Runs it, and gives the world at its end.
    ///
    /// # Panics
    /// Where something does not hold.
    #[must_use]
    pub fn run(&self) -> World {
        let mut world = self.world();
        for act in &self.acts {
            world.apply(*act);
        }
        world.settle();
        world
    }

    /// Runs it, and gives the steps that it took, or what did not hold.
    ///
    /// # Errors
    /// What did not hold, in the words of the check that found it.
    pub fn try_run(&self) -> Result<u64, String> {
        panic::catch_unwind(AssertUnwindSafe(|| self.run().steps)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
        })
    }
}

/// How often each thing happens in one run.
struct Weights {
    of: Vec<(u64, Choice)>,
    sum: u64,
    /// Of a hundred effects, how many fail.
    failures: u64,
    tasks: u8,
}

#[derive(Clone, Copy)]
enum Choice {
    Spawn,
    Interrupt,
    Message,
    Other,
    Rubbish,
    Complain,
    Accept,
    Refuse,
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
    Stop,
    Kill,
}

impl Weights {
    fn draw(rng: &mut Rng) -> Self {
        // What keeps the system going is always there; each fault only in some runs, and then more or less.
        let always = [
            (4, Choice::Spawn),
            (12, Choice::Accept),
            (24, Choice::Deliver),
            (24, Choice::Answer),
            (12, Choice::Flush),
            (24, Choice::Perform),
            (4, Choice::Exit),
        ];
        let sometimes = [
            (4, Choice::Interrupt),
            (3, Choice::Message),
            (3, Choice::Other),
            (1, Choice::Rubbish),
            (1, Choice::Complain),
            (4, Choice::Refuse),
            (3, Choice::Cut),
            (1, Choice::Stale),
            (16, Choice::Write),
            (8, Choice::Advance),
            (8, Choice::Pass),
            (1, Choice::Sleep),
            (1, Choice::Stop),
            (1, Choice::Kill),
        ];
        let mut of: Vec<(u64, Choice)> = always.to_vec();
        for (weight, choice) in sometimes {
            match rng.up_to(3) {
                0 => {}
                1 => of.push((weight, choice)),
                2 => of.push((weight * 2, choice)),
                _ => of.push((weight.div_ceil(2), choice)),
            }
        }
        let sum = of.iter().map(|(weight, _)| weight).sum();
        let failures = if rng.up_to(1) == 0 { 0 } else { rng.up_to(30) };
        Self { of, sum, failures, tasks: 1 + rng.up_to(u64::from(TASKS) - 1) as u8 }
    }

    fn act(&self, rng: &mut Rng) -> Act {
        let mut at = rng.up_to(self.sum - 1);
        let mut choice = Choice::Perform;
        for (weight, candidate) in &self.of {
            choice = *candidate;
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => break,
            }
        }
        let task = rng.up_to(u64::from(self.tasks) - 1) as u8;
        let byte = rng.up_to(255) as u8;
        let coin = rng.up_to(1) == 0;
        match choice {
            Choice::Spawn => Act::Spawn { task, kind: kind(rng) },
            Choice::Interrupt => Act::Interrupt { task, graceful: coin },
            Choice::Message => Act::Message { task },
            Choice::Other => Act::Other { task, which: byte },
            Choice::Rubbish => Act::Rubbish,
            Choice::Complain => Act::Complain,
            Choice::Accept => Act::Accept,
            Choice::Refuse => Act::Refuse(match byte % 8 {
                0 => Refusal::Key,
                1 | 2 => Refusal::Proxy,
                _ => Refusal::Unreachable,
            }),
            Choice::Deliver => Act::Deliver,
            Choice::Answer => Act::Answer,
            Choice::Flush => Act::Flush,
            Choice::Cut => Act::Cut { told: coin },
            Choice::Stale => Act::Stale,
            Choice::Perform => Act::Perform { nth: byte, fails: rng.up_to(99) < self.failures },
            Choice::Write => Act::Write { task, stderr: byte % 4 == 0, newline: coin },
            Choice::Exit => Act::Exit { task, code: if coin { 0 } else { byte } },
            Choice::Advance => Act::Advance,
            Choice::Pass => Act::Pass(byte),
            Choice::Sleep => Act::Sleep,
            Choice::Stop => Act::Stop { forced: coin },
            Choice::Kill => Act::Kill { done: byte },
        }
    }
}

fn kind(rng: &mut Rng) -> TaskKind {
    let mut coin = || rng.up_to(1) == 0;
    let (local, branch, changes, subtask) = (coin(), coin(), coin(), coin() && coin());
    let temper = match (coin(), coin()) {
        (true, _) => Temper::Mild,
        (false, true) => Temper::Firm,
        (false, false) => Temper::Stubborn,
    };
    TaskKind { local, branch, changes, subtask, temper }
}
