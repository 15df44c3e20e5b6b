//! Runs of the fleet: each seed one, with its own mix of faults.

use makima_core::rng::Rng;
use serde::{Deserialize, Serialize};

use super::{Act, Fleet};
use crate::shrink::Shrinks;
use crate::swarm::{Weights, caught};
use crate::world::{self, Speech};

/// One run: what the fleet is like, what happens in it, and what is healed in the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Which versions of the wire there are on the way from each machine.
    pub speeches: Vec<Speech>,
    /// Where the daemons' own chance begins.
    pub seed: u64,
    /// What happens, in order.
    pub acts: Vec<Act>,
    /// The machines that are healed, a bit for each.
    pub core: u8,
}

/// Acts of one run before it is healed, at most.
const LENGTH: u64 = 800;

/// So often is an act drawn anew that is not possible just then.
const DRAWS: u32 = 20;

impl Run {
    /// The run of a seed, and how it went: the fleet at its end, or what did not hold.
    pub fn of(seed: u64) -> (Self, Result<Fleet, String>) {
        let mut rng = Rng::new(seed);
        let speech = |rng: &mut Rng| [Speech::One, Speech::Two, Speech::Two, Speech::Stripped][rng.up_to(3) as usize];
        let first = speech(&mut rng);
        let mixed = rng.up_to(1) == 0;
        let machines = 2 + rng.up_to(1);
        let speeches = (0..machines).map(|_| if mixed { speech(&mut rng) } else { first }).collect();
        let weights = Weights::draw(&mut rng);
        let own = Own::draw(&mut rng);
        let length = rng.up_to(3).pow(2) * LENGTH / 9 + rng.up_to(LENGTH / 4);
        let core = rng.up_to(7) as u8;
        let mut run = Self { speeches, seed, acts: Vec::new(), core };
        let fleet = caught(|| {
            let mut fleet = Fleet::new(&run.speeches, seed);
            for _ in 0..length {
                for _ in 0..DRAWS {
                    let act = own.act(&weights, &mut rng);
                    run.acts.push(act);
                    if fleet.apply(act) {
                        break;
                    }
                    run.acts.pop();
                }
            }
            fleet.settle(core);
            fleet
        });
        (run, fleet)
    }
}

impl Shrinks for Run {
    type Act = Act;

    fn acts(&mut self) -> &mut Vec<Act> {
        &mut self.acts
    }

    fn why(&self) -> Option<String> {
        let run = || {
            let mut fleet = Fleet::new(&self.speeches, self.seed);
            for act in &self.acts {
                fleet.apply(*act);
            }
            fleet.settle(self.core);
        };
        caught(run).err()
    }
}

/// How often the server does something by itself.
struct Own {
    /// Of a hundred acts, in how many it writes, and of a thousand, in how many it is killed.
    writes: u64,
    crashes: u64,
    /// Of ten tasks, how many begin after others.
    needs: u64,
}

impl Own {
    fn draw(rng: &mut Rng) -> Self {
        let crashes = if rng.up_to(2) == 0 { 0 } else { 1 + rng.up_to(9) };
        Self { writes: 5 + rng.up_to(40), crashes, needs: rng.up_to(6) }
    }

    fn act(&self, weights: &Weights, rng: &mut Rng) -> Act {
        if rng.up_to(999) < self.crashes {
            return Act::Crash { written: rng.up_to(1) == 0, older: rng.up_to(7) == 0 };
        }
        if rng.up_to(99) < self.writes {
            return Act::Write;
        }
        loop {
            let (machine, act) = (rng.up_to(255) as u8, weights.act(rng));
            if let world::Act::Spawn { task, kind } = act {
                let after = (rng.up_to(9) < self.needs).then(|| rng.up_to(u64::from(task)) as u8);
                return Act::Create { task, kind, after };
            }
            if let Some(act) = asked(act).or_else(|| is_of_one_machine(act).then_some(Act::At(machine, act))) {
                return act;
            }
        }
    }
}

/// What a server of the tables alone says to its daemon, as somebody who asks this server for it.
const fn asked(act: world::Act) -> Option<Act> {
    if let world::Act::Interrupt { task, graceful } = act {
        Some(Act::Interrupt { task, graceful })
    } else if let world::Act::Message { task } = act {
        Some(Act::Tell { task })
    } else if let world::Act::Other { task, which } = act {
        Some(match which {
            0 => Act::Hold { task, paused: true },
            1 => Act::Hold { task, paused: false },
            _ => Act::Ask { task, which },
        })
    } else if let world::Act::Pass(ms) = act {
        Some(Act::Pass(ms))
    } else if matches!(act, world::Act::Advance) {
        Some(Act::Advance)
    } else {
        None
    }
}

/// Whether it is a matter of one machine, and not one that only a server of the tables alone can begin.
const fn is_of_one_machine(act: world::Act) -> bool {
    use world::Act as Of;
    !matches!(act, Of::Rubbish | Of::Complain | Of::Reject { .. } | Of::Months | Of::Sleep)
}
