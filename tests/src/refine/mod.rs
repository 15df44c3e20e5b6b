//! Journals of real daemons, walked through: whether the world could have given each of their inputs at that point. What
//! the world shows holds for the real executor only as long as that one does nothing that the world does not.
//!
//! A walk takes each step of the real core again and keeps a mirror of what is around the daemon: what it asked for, its
//! agents, its connections, its records. The worlds of the swarm are walked by the same rules, so that these are not
//! narrower than the world; and each cell of the tables that a journal visits has to be one that the world visits.

pub mod answers;
mod disk;
mod links;
mod mirror;
mod output;

use std::fmt;

use makima_core::Daemon;
use makima_core::input::Input;
use makima_core::record::Record;
use makima_core::snapshot::Snapshot;
use serde::Deserialize;

use self::mirror::Mirror;
use crate::cells::{Cells, Watch};
use crate::swarm::caught;

/// Which makima this is, as journals have it.
pub const BUILD: &str = match option_env!("MAKIMA_BUILD_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// A part of a journal: a state and the steps behind it, with the text of output.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Which makima wrote it.
    pub build: String,
    /// The number of its first record.
    pub first: u64,
    /// Whether the state is what the steps of the segment before lead to.
    pub goes_on: bool,
    /// The state.
    pub snapshot: Snapshot,
    /// The steps.
    pub records: Vec<Record>,
}

impl Segment {
    /// Reads what `makima journal export` writes; none where it does not begin as one.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Header {
            build: String,
            first: u64,
            goes_on: bool,
            snapshot: Snapshot,
        }
        // Each line has a checksum before its JSON, which who wrote it has looked at.
        let mut lines = text.lines().filter_map(|line| line.get(9..));
        let Header { build, first, goes_on, snapshot } = serde_json::from_str(lines.next()?).ok()?;
        let records = lines.map_while(|line| serde_json::from_str(line).ok()).collect();
        Some(Self { build, first, goes_on, snapshot, records })
    }
}

/// What a walk has seen.
#[derive(Clone, Debug, Default)]
pub struct Walked {
    /// Steps that were taken again.
    pub steps: u64,
    /// Lives of the daemon that began.
    pub lives: u64,
    /// What came of each input in each state.
    pub cells: Cells,
}

/// A step that the world could not have taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The record.
    pub n: u64,
    /// What came in.
    pub input: String,
    /// What the world would have said of it.
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}: {}: the world could not have given {}", self.n, self.why, self.input)
    }
}

/// Walks through a journal, oldest segment first. What another build wrote is walked as far as this one's core goes the
/// same way.
///
/// # Errors
/// The first step that the world could not have taken.
pub fn walk(segments: impl IntoIterator<Item = Segment>) -> Result<Walked, Broken> {
    let mut walk = Walk::default();
    for segment in segments {
        walk.segment(segment)?;
    }
    walk.walked.cells = walk.watch.cells().clone();
    Ok(walk.walked)
}

#[derive(Default)]
struct Walk {
    /// Where it goes on: the mirror, the number of the next record, the digest of the state.
    at: Option<(Mirror, u64, u64)>,
    watch: Watch,
    walked: Walked,
}

impl Walk {
    fn segment(&mut self, segment: Segment) -> Result<(), Broken> {
        let is_ours = segment.build == BUILD;
        let before = self.at.take();
        let Ok(mut daemon) = Daemon::restore(segment.snapshot) else { return Ok(()) };
        let joined = before.filter(|(_, next, _)| segment.goes_on && *next == segment.first);
        let mut mirror = match joined {
            Some((_, n, digest)) if digest != daemon.digest() => {
                let why = "the state is not what the steps before lead to".to_owned();
                return Err(Broken { n, input: "a segment".to_owned(), why });
            }
            Some((mirror, ..)) => mirror,
            None => Mirror::around(&daemon),
        };
        let mut next = segment.first;
        for record in segment.records {
            next = record.n + 1;
            if !self.step(&mut daemon, &mut mirror, record, is_ours)? {
                return Ok(());
            }
        }
        self.at = Some((mirror, next, daemon.digest()));
        Ok(())
    }

    /// Takes one step again. False where that cannot be: of another build, or without the text that was read.
    fn step(
        &mut self,
        daemon: &mut Daemon,
        mirror: &mut Mirror,
        record: Record,
        is_ours: bool,
    ) -> Result<bool, Broken> {
        // Whoever exports leaves out what is empty.
        let Some((now, input)) = record.clone().whole(daemon, |_, _| Some(Vec::new())) else { return Ok(false) };
        let shown = serde_json::to_string(&record.input).unwrap_or_default();
        let broken = |why: String| Broken { n: record.n, input: shown.clone(), why };
        mirror.takes(daemon, now, &input).map_err(broken)?;
        self.walked.lives += u64::from(matches!(input, Input::Boot(_)));
        let moment = mirror.is_whole().then(|| self.watch.moment(daemon, now, &input));
        let mut effects = Vec::new();
        caught(|| {
            daemon.step(now, input, &mut effects);
            daemon.check_state();
        })
        .map_err(broken)?;
        match record.compare(&effects, daemon) {
            Err(_) if !is_ours => return Ok(false),
            same => same.map_err(|difference| broken(difference.to_string()))?,
        }
        mirror.gave(&effects).map_err(broken)?;
        if let Some(moment) = moment {
            caught(|| self.watch.follows(&moment, now, daemon, &effects)).map_err(broken)?;
        }
        self.walked.steps += 1;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
