//! The test of the tests: bugs are let out of the core's zoo one by one, and the engines have to find each.

pub mod table;

use std::ops::Range;
use std::path::{Path, PathBuf};

use makima_core::zoo::{self, Bug};

use crate::regressions::{all, read, write};
use crate::shrink::shrink;
use crate::swarm::Run;

/// A run that a bug was found by.
#[derive(Clone, Debug)]
pub struct Found {
    /// What did not hold.
    pub why: String,
    /// What happened.
    pub run: Run,
}

impl Found {
    /// The same in as few acts as can be.
    #[must_use]
    pub fn shortened(&self, bug: Bug) -> Self {
        let (run, why) = while_out(Some(bug), || shrink(&self.run));
        Self { why, run }
    }
}

/// What some of the swarm's seeds made of a bug.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// Seeds that were run.
    pub runs: u64,
    /// Those that found it.
    pub times: u64,
    /// The first of them.
    pub first: Option<Found>,
}

/// Runs something while a bug is out in this thread.
fn while_out<T>(bug: Option<Bug>, run: impl FnOnce() -> T) -> T {
    zoo::let_out(bug);
    let done = run();
    zoo::let_out(None);
    done
}

/// Runs these seeds until a bug is found so many times.
#[must_use]
pub fn seeds(bug: Option<Bug>, times: u64, seeds: Range<u64>) -> Cost {
    let mut cost = Cost::default();
    for seed in seeds {
        if cost.times == times {
            break;
        }
        let (run, world) = while_out(bug, || Run::of(seed));
        cost.runs += 1;
        if let Err(why) = world {
            cost.times += 1;
            cost.first.get_or_insert(Found { why, run });
        }
    }
    cost
}

/// One run, if a bug is found by it.
#[must_use]
pub fn by(run: &Run, bug: Option<Bug>) -> Option<Found> {
    let why = while_out(bug, || run.try_run()).err()?;
    Some(Found { why, run: run.clone() })
}

/// Where the run is kept by which a bug is found that is too rare for the swarm.
#[must_use]
pub fn path(bug: Bug) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo").join(format!("{}.json", bug.name()))
}

/// The run that is kept for a bug, if one is.
///
/// # Errors
/// It cannot be read: for people.
pub fn kept(bug: Bug) -> Result<Option<Run>, String> {
    let path = path(bug);
    if path.exists() { read(&path).map(Some) } else { Ok(None) }
}

/// Every run that is kept, of bugs that we had and of those of the zoo.
///
/// # Errors
/// One cannot be read: for people.
pub fn all_kept() -> Result<Vec<Run>, String> {
    let both = [all("regressions/world")?, all("zoo")?];
    Ok(both.into_iter().flatten().map(|(_, run)| run).collect())
}

/// Keeps a run for a bug.
///
/// # Errors
/// It cannot be written: for people.
pub fn keep(bug: Bug, run: &Run) -> Result<(), String> {
    write(&path(bug), run)
}
