//! Handing a task's work over.

use std::sync::Arc;

use makima_core::effect::{Deed, Delivery};
use makima_core::id::TaskId;

use super::bare::OURS;
use super::cancel::Cancel;
use super::{Hands, branch, into, refs};

/// How it went.
#[derive(Debug)]
pub(super) struct Delivered {
    /// For people.
    pub(super) message: String,
    /// Where to look at it.
    pub(super) url: Option<String>,
}

/// Hands the work of `task` over.
pub(super) async fn deliver(
    hands: &Arc<Hands>,
    task: TaskId,
    wanted: &Delivery,
    cancel: &Cancel,
) -> Result<Delivered, String> {
    match (wanted.deed, &wanted.target, &wanted.commit) {
        (Deed::Branch, Some(target), Some(commit)) => {
            let message = branch::put(hands, task, target, &wanted.branch, commit, cancel).await?;
            Ok(Delivered { message, url: None })
        }
        (Deed::Merge, Some(target), commit) => {
            let commit = match commit {
                Some(commit) => commit.clone(),
                None => refs::find(&branch::bare_of(hands, task)?, &format!("{OURS}{task}"))
                    .await
                    .ok_or("the task has no work that could be merged")?,
            };
            let message = into::merge(hands, task, target, wanted, &commit, cancel).await?;
            Ok(Delivered { message, url: None })
        }
        _ => Err("this version of makima cannot do that yet".to_owned()),
    }
}
