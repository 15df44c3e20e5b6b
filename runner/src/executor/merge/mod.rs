//! Merging branches in a task's worktree, while its agent may be at work there.
//!
//! What an agent sees is what git would have left: `MERGE_HEAD` and its companions, the stages of the index, marks in
//! the files. What we have to know beside that stands in the task's folder ([`Begun`]).
//!
//! The result is known before anything is touched (`git merge-tree`), in a repository of ours that borrows the
//! agent's objects (`workshop`): no git of ours opens the agent's. Then only what differs is put into the worktree,
//! each file by one rename (`files`), under the lock that the agent's own git takes too (`lock`). A record says what is
//! about to be done before it is; whoever comes next, after any crash, takes back what was not finished (`mend`).

mod files;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;
mod known;
mod list;
mod lock;
mod look;
mod settle;
mod squash;
mod start;

use std::path::PathBuf;

use makima_core::effect::{Child, Merge};
use makima_core::id::TaskId;
use makima_core::input::{Merging, Outcome};
use serde::{Deserialize, Serialize};

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use self::fuzz::fuzz;
pub(super) use self::look::{shown, unmerged};
use super::bare::OURS;
use super::cancel::Cancel;
use super::git::{Answer, Call};
use super::record::Folder;
use super::trouble::Trouble;
use super::workshop::Workshop;
use super::{Hands, blocking, foreign, refs};
use crate::sandbox::Walls;

/// A merge that we began, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    /// The branch, as it was named.
    source: String,
    /// Its commit.
    commit: String,
    /// The commit that the worktree was at.
    before: String,
    /// The tree that was put into it: the result, marks of conflicts and all.
    tree: String,
    phase: Phase,
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Phase {
    /// Files are being put into the worktree.
    Starting,
    /// It waits for its commit.
    Open,
    /// Files are being put back.
    Aborting,
    /// This commit is being made the worktree's.
    Committing(String),
    /// It is this commit.
    Committed(String),
}

/// Does something about merging.
pub(super) async fn merge(hands: &Hands, task: TaskId, wanted: Merge, cancel: &Cancel) -> Result<Outcome, String> {
    let folder = Folder::of(&hands.home, task);
    if let Merge::Skip { child, reason } = wanted {
        return skip(hands, task, folder, child, reason, cancel)
            .await
            .map_err(Trouble::into_words)
            .map(Outcome::Merging);
    }
    let standing = folder.standing().map_err(|why| why.to_string())?;
    let bare = standing.ok_or("its worktree was never made")?.bare;
    let worktree = hands.home.worktree(task);
    if !foreign::is_folder(&worktree) {
        return Err(format!("its worktree {} is gone", worktree.display()));
    }
    let git = worktree.join(".git");
    let walls = {
        let (walls, folders) = (hands.walls(), [worktree.clone(), folder.path().to_path_buf(), bare.clone()]);
        blocking(move || walls(&folders.each_ref().map(PathBuf::as_path))).await?
    };
    let job = Job { hands, task, cancel, folder, worktree, git, bare, walls };
    let done = async {
        Ok(Outcome::Merging(match wanted {
            Merge::List { children } => return job.list(&children).await,
            Merge::Start { source } => job.start(&source).await?,
            Merge::Status => job.status().await?,
            Merge::Resolve { file, side } => job.resolve(&file, side).await?,
            Merge::Commit { message, trailers } => job.commit(message, &trailers).await?,
            Merge::Abort => job.abort().await?,
            Merge::Skip { .. } => Merging::Nothing,
        }))
    };
    done.await.map_err(Trouble::into_words)
}

/// A subtask is one of the task's where it is known to be, or where its work says so.
async fn skip(
    hands: &Hands,
    task: TaskId,
    folder: Folder,
    child: Child,
    reason: String,
    cancel: &Cancel,
) -> Result<Merging, Trouble> {
    let is_ours = child.branch.is_some() || {
        let standing = folder.standing().map_err(|why| why.to_string())?;
        match standing {
            Some(standing) => list::bears(hands, cancel, &standing.bare, child.task, task).await?,
            None => false,
        }
    };
    if !is_ours {
        return Ok(Merging::NoBranch);
    }
    done(move || folder.skip(child.task, &reason)).await?;
    Ok(Merging::Skipped)
}

/// Runs what blocks where it may.
async fn done<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Result<T, Trouble> {
    Ok(blocking(work).await??)
}

struct Job<'a> {
    hands: &'a Hands,
    task: TaskId,
    cancel: &'a Cancel,
    folder: Folder,
    worktree: PathBuf,
    /// The agent's repository.
    git: PathBuf,
    bare: PathBuf,
    /// The agent may be at work meanwhile, and put anything in the place of anything.
    walls: Walls,
}

impl Job<'_> {
    async fn run(&self, call: Call) -> Result<Answer, Trouble> {
        Ok(self.hands.git.run(self.cancel, call.walled(&self.walls)).await?)
    }

    /// Runs what blocks and touches the worktree where it may.
    async fn done<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, Trouble> {
        let walls = self.walls.clone();
        done(move || walls.within(work)).await
    }

    async fn line(&self, call: Call) -> Result<String, Trouble> {
        let answer = self.run(call).await?;
        answer.line().ok_or_else(|| Trouble::Plain("git answered nothing".to_owned()))
    }

    fn name(&self) -> String {
        format!("{OURS}{}", self.task)
    }

    fn begun(&self) -> Result<Option<Begun>, Trouble> {
        Ok(self.folder.begun().map_err(|why| format!("it cannot be known what was merged: {why}"))?)
    }

    fn write_down(&self, begun: &Begun, phase: Phase) -> Result<(), Trouble> {
        Ok(self.folder.merges(&Begun { phase, ..begun.clone() })?)
    }

    /// The commit that this names in our repository of the moment.
    async fn is_commit(&self, shop: &Workshop, oid: &str) -> Result<bool, Trouble> {
        let call = shop.call("rev-parse").args(["--verify", "--quiet"]).fine(&[0, 1, 128]);
        Ok(self.run(call.names([format!("{oid}^{{commit}}")])).await?.code == 0)
    }

    async fn leads_to(&self, shop: &Workshop, from: &str, to: &str) -> Result<bool, Trouble> {
        let call = shop.call("merge-base").arg("--is-ancestor").fine(&[0, 1]);
        Ok(self.run(call.names([to, from])).await?.code == 0)
    }

    /// Brings a commit into the shared repository as this task's work.
    async fn bring(&self, shop: &Workshop, tip: &str) -> Result<(), Trouble> {
        if refs::find(&self.bare, &self.name()).await.as_deref() == Some(tip) {
            return Ok(());
        }
        shop.point(super::workshop::RESULT, tip)?;
        let wanted = [format!("+{}:{}", super::workshop::RESULT, self.name())];
        self.hands.bare(self.bare.clone()).take_walled(self.hands, self.cancel, &shop.git, &wanted, shop.walls()).await
    }
}
