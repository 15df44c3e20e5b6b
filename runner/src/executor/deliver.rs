//! Handing a task's work over.

use std::sync::Arc;

use makima_core::effect::{Commit, Deed, Delivery};
use makima_core::id::TaskId;

use super::bare::OURS;
use super::cancel::Cancel;
use super::git::Call;
use super::harvest::{self, Harvest};
use super::other::Other;
use super::record::Folder;
use super::trouble::Trouble;
use super::{Hands, branch, commit, into, locks, pr, refs};

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
    locks::clear_written(&Folder::of(&hands.home, task)).await?;
    let (commit, note) = match &wanted.commit {
        Some(commit) => (commit.clone(), None),
        None => match tip(hands, task, wanted, cancel).await? {
            Some(found) => found,
            None => return Ok(Delivered { message: "no changes".to_owned(), url: None }),
        },
    };
    let plain = |message| Delivered { message, url: None };
    let mut delivered = match (wanted.deed, &wanted.target) {
        (Deed::Branch, Some(target)) => {
            branch::put(hands, task, target, &wanted.branch, &commit, cancel).await.map(plain)
        }
        (Deed::Merge, Some(target)) => into::merge(hands, task, target, wanted, &commit, cancel).await.map(plain),
        (Deed::Pr, _) => pr::open(hands, task, wanted, &commit, cancel).await,
        // The core asks for neither.
        (Deed::Branch | Deed::Merge, None) => Err(wanted.refusal().unwrap_or("no repository was named").to_owned()),
    }?;
    delivered.message.extend(note.into_iter().flat_map(|note| ["; ".to_owned(), note]));
    Ok(delivered)
}

/// A commit, and what a person should know of it that nobody was told.
type Found = (String, Option<String>);

/// Commits what lies in the worktree of a task that has ended.
async fn commit_at_last(
    hands: &Arc<Hands>,
    task: TaskId,
    wanted: &Delivery,
    cancel: &Cancel,
) -> Result<Option<Found>, String> {
    let other = Other { hands, cancel, task, new: task };
    let standing = other.standing().await.map_err(Trouble::into_words)?;
    let base = standing.and_then(|standing| standing.prepared.base);
    let work = Commit { branch: wanted.branch.clone(), base, text: wanted.text.clone() };
    let Some(change) = commit::commit(hands, task, &work, cancel).await? else { return Ok(None) };
    match (wanted.deed, change.note) {
        // Nobody has been told yet what there is to be known of it, and what is pushed cannot be had back.
        (Deed::Pr, Some(note)) => Err(format!("{note}; nothing was pushed yet: ask again to have it pushed as it is")),
        (_, note) => Ok(Some((change.commit, note))),
    }
}

/// Where the work of a task stands by now: in the shared repository, else in its worktree, from where it is brought. None
/// if it has none. Work that could not be committed when its task ended is committed now: what stands in the shared
/// repository is older.
async fn tip(hands: &Arc<Hands>, task: TaskId, wanted: &Delivery, cancel: &Cancel) -> Result<Option<Found>, String> {
    let committed = match harvest::of(hands, task).await? {
        Harvest::Lies { .. } => return commit_at_last(hands, task, wanted, cancel).await,
        Harvest::Commit { tip } => Some(tip),
        Harvest::Nothing => None,
    };
    let name = format!("{OURS}{task}");
    let other = Other { hands, cancel, task, new: task };
    if let Some(standing) = other.standing().await.map_err(Trouble::into_words)? {
        let bare = hands.bare(standing.bare);
        if let Some(tip) = refs::find(&bare.path, &name).await {
            return Ok(Some((tip, None)));
        }
        let head = other.head(&bare).await.map_err(Trouble::into_words)?;
        if let Some(head) = head.filter(|head| Some(head) != standing.prepared.base.as_ref()) {
            let call = Call::on(&bare.path, "update-ref").names([name.as_str(), &head, ""]);
            hands.git.run(cancel, call).await.map_err(|why| why.to_string())?;
            return Ok(Some((head, None)));
        }
    }
    // No work that could be handed over is one thing, and no work another.
    match committed {
        None => Ok(None),
        Some(tip) => Err(format!("its work is the commit {tip}, which is not there")),
    }
}
