//! What is going to happen, all of it drawn from the seed: the same seed makes the same plan.

use std::time::Duration;

use makima_core::rng::Rng;
use makima_tests::real::one_in;

use super::agents::Agent;

/// A run.
pub(crate) struct Plan {
    pub(crate) kills: Vec<Kill>,
    pub(crate) agents: Vec<Agent>,
}

/// One kill of the daemon, and what happens around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    /// So long after the daemon before was started.
    pub(crate) after: Duration,
    /// The link is cut, too.
    pub(crate) cut: Option<Cut>,
    /// The server is killed, too.
    pub(crate) server: bool,
    /// The next daemon is one of the other build.
    pub(crate) other: bool,
    /// So many agents are to be there before.
    pub(crate) agents: usize,
}

/// How the link is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Nothing is refused and nothing gets through, instead of a connection that ends.
    pub(crate) silent: bool,
    /// So long before the kill.
    pub(crate) before: Duration,
    /// And so long after it.
    pub(crate) after: Duration,
}

impl Plan {
    pub(crate) fn draw(seed: u64, kills: usize, agents: usize) -> Self {
        let mut rng = Rng::new(seed);
        let kills = (0..kills).map(|_| Kill::draw(&mut rng)).collect();
        let agents = (0..agents).map(|_| Agent::draw(&mut rng)).collect();
        Self { kills, agents }
    }
}

impl Kill {
    fn draw(rng: &mut Rng) -> Self {
        // A third of them while it starts, in quick succession.
        let after = if one_in(rng, 3) { rng.up_to(80) } else { rng.up_to(700) };
        let cut = one_in(rng, 2).then(|| Cut {
            silent: one_in(rng, 2),
            before: Duration::from_millis(rng.up_to(100)),
            after: Duration::from_millis(rng.up_to(150)),
        });
        Self {
            after: Duration::from_millis(after),
            cut,
            server: one_in(rng, 20),
            other: one_in(rng, 5),
            agents: 4 + rng.up_to(12) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Plan;

    #[test]
    fn a_seed_is_a_plan() {
        let (one, same, other) = (Plan::draw(7, 200, 50), Plan::draw(7, 200, 50), Plan::draw(8, 200, 50));
        assert_eq!((&one.kills, &one.agents), (&same.kills, &same.agents));
        assert_ne!(one.kills, other.kills);
        let share = |of: fn(&super::Kill) -> bool| one.kills.iter().filter(|kill| of(kill)).count();
        assert!((70..130).contains(&share(|kill| kill.cut.is_some())), "half of them with the link cut");
        assert!((20..60).contains(&share(|kill| kill.other)), "a fifth into another build");
    }
}
