//! Cells that hardly a run comes to. For each a run is kept that does.

use std::path::{Path, PathBuf};

use makima_core::reduce::reduce;

use super::Cells;
use crate::regressions;
use crate::swarm::{Run, caught};

/// The folder of these runs, in `tests/`.
pub(super) const KEPT: &str = "rare";

/// What one run shows by itself.
///
/// # Errors
/// What does not hold in it.
pub(super) fn shown(run: &Run) -> Result<Cells, String> {
    let world = caught(|| run.run_watched(Some(Box::default())))?;
    Ok(world.watch.map(|watch| watch.cells().clone()).unwrap_or_default())
}

/// Whether a run shows this cell, which is not among those that were reviewed.
fn shows(run: &Run, cell: &str) -> bool {
    shown(run).is_ok_and(|cells| cells.beyond_reviewed().iter().any(|beyond| beyond == cell))
}

/// Keeps the run for a cell, as short as it can be. Gives back where.
///
/// # Errors
/// It cannot be written: for people.
pub fn keep(run: &Run, cell: &str) -> Result<PathBuf, String> {
    let mut short = run.clone();
    let acts = reduce(run.acts.clone(), |acts| {
        short.acts = acts.to_vec();
        shows(&short, cell)
    });
    short.acts = acts;
    let words: Vec<&str> = cell.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(KEPT).join(words.join("-") + ".json");
    regressions::write(&path, &short).map(|()| path)
}
