//! Merging branches in a task's worktree.

use makima_core::effect::Merge;
use makima_core::id::TaskId;
use makima_core::input::Outcome;

use super::Hands;
use super::cancel::Cancel;

pub(super) async fn merge(_: &Hands, _: TaskId, _: Merge, _: &Cancel) -> Result<Outcome, String> {
    Err("this version of makima cannot do that yet".to_owned())
}
