//! A crash at every boundary of a run: between any two things that happen in it, with every choice of what was done of
//! that which was under way. The swarm draws a crash here and there; this leaves none out.

use crate::swarm::{Run, caught};
use crate::world::{Act, Sightings, World};

/// Up to so many effects under way each choice of them is tried; of more, those up to each, and each alone.
const ALL: usize = 3;

/// What came of the crashes of a run.
#[derive(Clone, Debug, Default)]
pub struct Crashes {
    /// How many there were.
    pub crashes: u64,
    /// Steps of all daemons after them.
    pub steps: u64,
    /// What was seen in all of them.
    pub seen: Sightings,
}

/// Has the daemon crash at every boundary of a run, and everything come to its end each time.
///
/// # Errors
/// What did not hold, and the run up to the crash after which it did not, or itself where it fails without one.
pub fn crash_everywhere(run: &Run) -> Result<Crashes, (Run, String)> {
    let mut done = Crashes::default();
    let up_to = |acts: usize, crash: Option<Act>| {
        let acts = run.acts.iter().take(acts).copied().chain(crash).collect();
        Run { acts, ..run.clone() }
    };
    let mut world = caught(|| run.world()).map_err(|why| (up_to(0, None), why))?;
    for at in 0..=run.acts.len() {
        for crash in crashes(&world) {
            let before = world.steps;
            let after = caught(|| {
                let mut world = world.clone();
                world.apply(crash);
                world.settle();
                world
            });
            let after = after.map_err(|why| (up_to(at, Some(crash)), why))?;
            done.crashes += 1;
            done.steps += after.steps - before;
            done.seen.merge(&after.sightings());
        }
        // Where nothing happens there is no other boundary.
        if let Some(act) = run.acts.get(at) {
            caught(|| world.apply(*act)).map_err(|why| (up_to(at + 1, None), why))?;
        }
    }
    Ok(done)
}

/// Every way in which the daemon can crash here.
fn crashes(world: &World) -> Vec<Act> {
    let mut crashes = Vec::new();
    // Where all of it is for good, there is nothing to lose.
    let journals: &[u8] = if world.loose_records() > 0 { &[0, u8::MAX / 2, u8::MAX] } else { &[u8::MAX] };
    for done in choices(world.machine.ready().count()) {
        crashes.extend(journals.iter().map(|journal| Act::Kill { done, journal: *journal, other: false }));
    }
    for done in [0, u8::MAX] {
        crashes.push(Act::Kill { done, journal: u8::MAX, other: true });
        crashes.extend([0, u8::MAX].map(|kept| Act::Outage { done, kept, journal: 0 }));
    }
    crashes
}

/// What may be done of so many effects under way: a bit for each.
fn choices(under_way: usize) -> Vec<u8> {
    let bit = |at: usize| 1_u8 << (at % 8);
    if under_way <= ALL {
        return (0..1 << under_way).collect();
    }
    let up_to = (0..=under_way.min(8)).map(|at| (0..at).map(bit).sum());
    let mut choices: Vec<u8> = up_to.chain((0..under_way.min(8)).map(bit)).collect();
    choices.sort_unstable();
    choices.dedup();
    choices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_choice_of_few_and_each_beginning_of_many_is_tried() {
        assert_eq!(choices(0), [0]);
        assert_eq!(choices(2), [0b00, 0b01, 0b10, 0b11]);
        assert_eq!(choices(4), [0b0000, 0b0001, 0b0010, 0b0011, 0b0100, 0b0111, 0b1000, 0b1111]);
        assert_eq!(choices(20).len(), 16);
    }

    #[test]
    fn there_is_a_boundary_before_and_after_each_thing_that_happens() {
        let run = Run { acts: vec![Act::Accept; 3], ..Run::of(1).0 };
        let done = crash_everywhere(&run).expect("all of it holds");
        assert!(done.crashes >= 4 * 5, "{} crashes", done.crashes);
    }
}
