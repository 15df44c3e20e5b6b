//! The faults of a night, all of them drawn from the seed: the same seed makes the same plan.

use std::time::Duration;

use makima_core::rng::Rng;
use makima_tests::real::one_in;

/// What is done to a part of it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The daemon is killed, and is away for a while.
    Daemon,
    /// So is the server.
    Server,
    /// One of the supervisors is killed.
    Supervisor,
    /// One of the gits is killed.
    Git,
    /// Connections end, and none can be made.
    Cut,
    /// Connections stay half open: nothing gets through.
    Silent,
    /// The daemon stands still.
    DaemonStops,
    /// The server stands still.
    ServerStops,
    /// The daemon's disk is full.
    DaemonFull,
    /// The server's disk is full.
    ServerFull,
    /// The user's disk is full.
    UserFull,
    /// The next daemon is one of the other build.
    Upgrade,
    /// The next server is one of the other build.
    ServerUpgrade,
}

/// What only one fault at a time can be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Daemon,
    Server,
    Line,
    Disk,
    Program,
}

/// Each kind, its name, and how often it comes.
const KINDS: [(Kind, &str, u64); 13] = [
    (Kind::Daemon, "daemon killed", 5),
    (Kind::Server, "server killed", 3),
    (Kind::Supervisor, "supervisor killed", 2),
    (Kind::Git, "git killed", 4),
    (Kind::Cut, "link cut", 2),
    (Kind::Silent, "link half open", 2),
    (Kind::DaemonStops, "daemon suspended", 2),
    (Kind::ServerStops, "server suspended", 2),
    (Kind::DaemonFull, "daemon's disk full", 1),
    (Kind::ServerFull, "server's disk full", 1),
    (Kind::UserFull, "user's disk full", 1),
    (Kind::Upgrade, "daemon of another build", 3),
    (Kind::ServerUpgrade, "server of another build", 1),
];

impl Kind {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        KINDS.into_iter().map(|(kind, ..)| kind)
    }

    pub(crate) fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, name, _)| name)
    }

    /// Whether a file system of a size of its own is needed for it.
    pub(crate) const fn is_of_a_disk(self) -> bool {
        matches!(self.part(), Part::Disk)
    }

    const fn part(self) -> Part {
        match self {
            Self::Daemon | Self::DaemonStops | Self::Upgrade => Part::Daemon,
            Self::Server | Self::ServerStops | Self::ServerUpgrade => Part::Server,
            Self::Cut | Self::Silent => Part::Line,
            Self::DaemonFull | Self::ServerFull | Self::UserFull => Part::Disk,
            Self::Supervisor | Self::Git => Part::Program,
        }
    }

    fn draw(rng: &mut Rng) -> Self {
        let mut left = rng.up_to(KINDS.iter().map(|(.., weight)| weight).sum::<u64>() - 1);
        for (kind, _, weight) in KINDS {
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => return kind,
            }
        }
        Self::Daemon
    }

    /// For how long it lasts.
    fn hold(self, rng: &mut Rng) -> Duration {
        Duration::from_millis(match self {
            Self::Daemon | Self::Server | Self::Upgrade | Self::ServerUpgrade => rng.up_to(1_500),
            Self::Supervisor | Self::Git => 0,
            // A machine that slept for longer than ten seconds drops its link.
            Self::DaemonStops | Self::ServerStops if one_in(rng, 5) => 11_000 + rng.up_to(9_000),
            Self::DaemonStops | Self::ServerStops => 200 + rng.up_to(4_000),
            Self::Cut | Self::Silent => 100 + rng.up_to(6_000),
            Self::DaemonFull | Self::ServerFull | Self::UserFull => 1_000 + rng.up_to(8_000),
        })
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// So long after the one before.
    pub(crate) gap: Duration,
    /// What is done, each to another part: one or two.
    pub(crate) kinds: Vec<Kind>,
    /// For how long.
    pub(crate) hold: Duration,
    /// The next one waits until all is well again.
    pub(crate) is_patient: bool,
    /// Which of several is meant.
    pub(crate) pick: u64,
}

/// The faults, one after the other, without an end.
pub(crate) struct Plan(Rng);

impl Plan {
    pub(crate) const fn of(seed: u64) -> Self {
        Self(Rng::new(seed))
    }
}

impl Iterator for Plan {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        let rng = &mut self.0;
        let (first, second) = (Kind::draw(rng), Kind::draw(rng));
        let is_double = one_in(rng, 4) && first.part() != second.part();
        let kinds = if is_double { vec![first, second] } else { vec![first] };
        let hold = kinds.iter().map(|kind| kind.hold(rng)).max().unwrap_or_default();
        let gap = Duration::from_millis(if one_in(rng, 4) { rng.up_to(300) } else { 500 + rng.up_to(3_000) });
        Some(Fault { gap, kinds, hold, is_patient: one_in(rng, 2), pick: rng.next() })
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Kind, Plan};

    #[test]
    fn a_seed_is_a_plan() {
        let faults = |seed| Plan::of(seed).take(600).collect::<Vec<Fault>>();
        assert_eq!(faults(7), faults(7));
        assert_ne!(faults(7), faults(8));
    }

    #[test]
    fn everything_comes_and_no_two_to_the_same_part() {
        let faults: Vec<Fault> = Plan::of(3).take(1_000).collect();
        for kind in Kind::all() {
            assert!(faults.iter().filter(|fault| fault.kinds.contains(&kind)).count() > 10, "{kind:?}");
        }
        let doubles: Vec<_> = faults.iter().filter(|fault| fault.kinds.len() == 2).collect();
        assert!(doubles.len() > 100 && doubles.iter().all(|it| it.kinds[0].part() != it.kinds[1].part()));
    }
}
