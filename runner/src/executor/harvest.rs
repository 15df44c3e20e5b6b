//! What became of a task's work: brought in, none, or lying in its worktree still. Written down by whoever commits, so
//! that nobody takes work that could not be committed, or is not here, for no work at all.

use makima_core::id::TaskId;
use serde::{Deserialize, Serialize};

use super::record::Folder;
use super::{Hands, blocking};

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "camelCase")]
pub(super) enum Harvest {
    /// There was none.
    Nothing,
    /// It was brought into the task's shared repository.
    Commit {
        /// Its tip then.
        tip: String,
    },
    /// It lies in the worktree, or that is not known.
    Lies {
        /// Why.
        why: String,
    },
}

impl Harvest {
    /// Of a task that has ended. Blocks.
    pub(super) fn of(folder: &Folder) -> Self {
        let unknown = |why| Self::Lies { why: format!("it cannot be known what became of its work: {why}") };
        match folder.harvest() {
            Ok(Some(harvest)) => return harvest,
            Ok(None) => {}
            Err(why) => return unknown(why.to_string()),
        }
        match folder.intent() {
            // What never ran has done nothing.
            Ok(None) => Self::Nothing,
            Ok(Some(_)) => unknown("that was not written down".to_owned()),
            Err(why) => unknown(why.to_string()),
        }
    }
}

/// The same, off the runtime's thread.
pub(super) async fn of(hands: &Hands, task: TaskId) -> Result<Harvest, String> {
    let folder = Folder::of(&hands.home, task);
    blocking(move || Harvest::of(&folder)).await
}

/// Writes it down. Where that cannot be done, it is said, and the work itself goes on: it matters more.
pub(super) async fn note(folder: &Folder, harvest: Harvest) {
    let folder = folder.clone();
    if let Err(why) = blocking(move || folder.harvests(&harvest).map_err(|failure| failure.to_string())).await.flatten()
    {
        tracing::warn!("it cannot be written down what became of a task's work: {why}");
    }
}
