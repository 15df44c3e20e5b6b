//! Handing a task's work over.

use std::sync::Arc;

use makima_core::effect::{Deed, Delivery};
use makima_core::id::TaskId;

use super::bare::OURS;
use super::brought::Lent;
use super::cancel::Cancel;
use super::git::Call;
use super::harvest::{self, Harvest};
use super::other::Other;
use super::trouble::Trouble;
use super::{Hands, branch, into, pr, refs};

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
    let commit = match &wanted.commit {
        Some(commit) => commit.clone(),
        None => match tip(hands, task, wanted.deed, cancel).await? {
            Some(commit) => commit,
            None => return Ok(Delivered { message: "no changes".to_owned(), url: None }),
        },
    };
    let plain = |message| Delivered { message, url: None };
    match (wanted.deed, &wanted.target) {
        (Deed::Branch, Some(target)) => {
            branch::put(hands, task, target, &wanted.branch, &commit, cancel).await.map(plain)
        }
        (Deed::Merge, Some(target)) => into::merge(hands, task, target, wanted, &commit, cancel).await.map(plain),
        (Deed::Pr, _) => pr::open(hands, task, wanted, &commit, cancel).await,
        // The core asks for neither.
        (Deed::Branch | Deed::Merge, None) => Err(wanted.refusal().unwrap_or("no repository was named").to_owned()),
    }
}

/// Where the work of a task stands by now: in the shared repository, else in its worktree, from where it is brought. None
/// if it has none.
async fn tip(hands: &Arc<Hands>, task: TaskId, deed: Deed, cancel: &Cancel) -> Result<Option<String>, String> {
    let name = format!("{OURS}{task}");
    let other = Other { hands, cancel, task, new: task };
    if let Some(standing) = other.standing().await.map_err(Trouble::into_words)? {
        let bare = hands.bare(standing.bare);
        if let Some(tip) = refs::find(&bare.path, &name).await {
            return Ok(Some(tip));
        }
        let head = other.head(&bare).await.map_err(Trouble::into_words)?;
        if let Some(head) = head.filter(|head| Some(head) != standing.prepared.base.as_ref()) {
            let call = Call::on(&bare.path, "update-ref").names([name.as_str(), &head, ""]);
            hands.git.run(cancel, call).await.map_err(|why| why.to_string())?;
            // Where it was committed, that was told then.
            if let (Deed::Pr, Some(base)) = (deed, &standing.prepared.base) {
                let lent = Lent::to(hands, task).await.map_err(Trouble::into_words)?;
                let call = Call::on(&bare.path, "diff-tree");
                let borne = lent.borne(&hands.git, cancel, call, base, &head).await.map_err(Trouble::into_words)?;
                if let Some(borne) = borne {
                    return Err(format!("{borne}; nothing was pushed yet: ask again to have it pushed as it is"));
                }
            }
            return Ok(Some(head));
        }
    }
    // No work that could be handed over is one thing, and no work another.
    match harvest::of(hands, task).await? {
        Harvest::Nothing => Ok(None),
        Harvest::Commit { tip } => Err(format!("its work is the commit {tip}, which is not there")),
        Harvest::Lies { why } => Err(format!("its work is in no commit that could be handed over: {why}")),
    }
}
