//! How a merge stands, read from what an agent may have made of its repository.

use std::path::PathBuf;

use fs_err as fs;
use makima_core::input::Merging;

use super::super::foreign::{self, SMALL, can_be_lent};
use super::super::pipes;
use super::super::refs::{self, Head};
use super::super::scene::{Scene, unfinished};
use super::super::scratch::Scratch;
use super::super::trouble::Trouble;
use super::super::workshop::{Trust, Workshop};
use super::super::{blocking, shut, sparse};
use super::lock::Lock;
use super::{Begun, Job, Phase, lock, settle};

/// What an agent's repository says.
#[derive(Clone)]
pub(super) struct Sight {
    pub(super) head: Head,
    /// The commit that the worktree is at.
    pub(super) at: String,
    /// What is being merged, if that is one commit.
    pub(super) merging: Option<String>,
    /// Whether anything is unfinished.
    pub(super) unfinished: bool,
    pub(super) shallow: Vec<String>,
}

impl Job<'_> {
    /// Looks at the agent's repository.
    pub(super) async fn look(&self) -> Result<Sight, Trouble> {
        let (git, bare) = (self.git.clone(), self.bare.clone());
        let look = move || {
            // A file or a link may lead into any repository of the user's.
            if !fs::symlink_metadata(&git).is_ok_and(|data| data.is_dir()) {
                return Err(format!("{} is not the repository that was made there", git.display()));
            }
            if !can_be_lent(&git.join("objects"), &bare.join("objects")) {
                return Err(format!("the objects in {} are not all files", git.display()));
            }
            let head = refs::head(&git);
            let at = match &head {
                Head::Symbolic(name) => refs::one(&git, name),
                Head::Detached(oid) => Some(oid.clone()),
                Head::Broken => None,
            };
            let at = at.ok_or_else(|| format!("{} is at no commit", git.display()))?;
            let merging = foreign::text(&git.join("MERGE_HEAD"), SMALL).unwrap_or_default();
            let merging = Some(merging.trim().to_owned()).filter(|oid| refs::is_oid(oid));
            let unfinished = unfinished(&git).is_some();
            Ok(Sight { head, at, merging, unfinished, shallow: refs::shallow(&git) })
        };
        let walls = self.walls.clone();
        Ok(blocking(move || walls.within(|| Ok(look()))).await???)
    }

    /// A repository of ours on the agent's files, with a copy of its index.
    pub(super) async fn open(&self, sight: &Sight) -> Result<Workshop, Trouble> {
        let (scratch, worktree, bare) =
            (Scratch::of(&self.hands.home, self.task), self.worktree.clone(), self.bare.clone());
        let long = sight.at.len() == 64;
        let scene = Scene { git: Some(self.git.clone()), shallow: sight.shallow.clone(), ..Scene::default() };
        let walls = self.walls.clone();
        let (shop, index) = self
            .done(move || {
                shut::open(&worktree, 0o700);
                if let Some(path) = pipes::find(&worktree).first() {
                    return Err(std::io::Error::other(format!("{} would be waited for", path.display())));
                }
                Workshop::open(&scratch, &worktree, &bare, &scene, (Trust::All, long), &walls)
            })
            .await?;
        if !self.is_commit(&shop, &sight.at).await? {
            return Err(Trouble::Plain(format!("the commit {} of the worktree is not there", sight.at)));
        }
        if !index {
            sparse::index_of(self.hands, self.cancel, &shop, Some(&sight.at), &self.folder).await?;
        }
        Ok(shop)
    }

    pub(super) async fn lock(&self) -> Result<Lock, Trouble> {
        let git = self.git.clone();
        self.done(move || Lock::take(&git)).await
    }

    /// Files that wait to be settled, by the copy of the index.
    pub(super) async fn conflicts(&self, shop: &Workshop) -> Result<Vec<Vec<u8>>, Trouble> {
        let listed = self.run(shop.call("ls-files").args(["--unmerged", "-z"])).await?.out;
        Ok(unmerged(&listed))
    }

    /// How it stands, once what a crash left is mended.
    pub(super) async fn status(&self) -> Result<Merging, Trouble> {
        let begun = self.mend().await?;
        let sight = self.look().await?;
        let Some(merging) = &sight.merging else { return Ok(Merging::Nothing) };
        let shop = self.open(&sight).await?;
        self.opened(&shop, begun.as_ref(), merging).await
    }

    pub(super) async fn opened(
        &self,
        shop: &Workshop,
        begun: Option<&Begun>,
        merging: &str,
    ) -> Result<Merging, Trouble> {
        let source = begun.filter(|begun| begun.is(merging)).map(|begun| begun.source.clone());
        let conflicts = self.conflicts(shop).await?.iter().map(|path| shown(path)).collect();
        Ok(Merging::Open { source, conflicts })
    }

    /// Takes back what was not finished, or finishes it. Returns the merge that we began, if there is one.
    pub(super) async fn mend(&self) -> Result<Option<Begun>, Trouble> {
        let git = self.git.clone();
        // A task has one turn: what stands there of ours was left by a life of the daemon that was killed.
        self.done(move || lock::clear(&git)).await?;
        let Some(begun) = self.begun()? else { return Ok(None) };
        let half = matches!(begun.phase, Phase::Starting | Phase::Aborting | Phase::Committing(_));
        if !half {
            return Ok(Some(begun));
        }
        let sight = self.look().await?;
        match &begun.phase {
            Phase::Starting if sight.merging.as_ref() == Some(&begun.commit) => {
                self.write_down(&begun, Phase::Open)?;
                drop(self.lock().await?);
                Ok(Some(Begun { phase: Phase::Open, ..begun }))
            }
            Phase::Starting | Phase::Aborting => {
                let lock = self.lock().await?;
                if sight.at == begun.before {
                    let shop = self.open(&sight).await?;
                    self.put_back(&shop, &begun, &lock).await?;
                }
                self.folder.merges_nothing()?;
                drop(lock);
                Ok(None)
            }
            Phase::Committing(commit) => {
                let now = if sight.at == *commit {
                    self.finish(&sight, &begun, commit).await?;
                    Phase::Committed(commit.clone())
                } else {
                    let (git, head, commit) = (self.git.clone(), sight.head.clone(), commit.clone());
                    self.done(move || settle::let_go(&git, &head, &commit)).await?;
                    drop(self.lock().await?);
                    Phase::Open
                };
                self.write_down(&begun, now.clone())?;
                Ok(Some(Begun { phase: now, ..begun }))
            }
            Phase::Open | Phase::Committed(_) => Ok(Some(begun)),
        }
    }

    /// The files by which git knows of an unfinished merge.
    pub(super) fn marks(&self) -> Vec<PathBuf> {
        ["MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "AUTO_MERGE"].map(|name| self.git.join(name)).to_vec()
    }
}

impl Begun {
    /// Whether it is the merge of this commit, and waits.
    pub(super) fn is(&self, merging: &str) -> bool {
        self.phase == Phase::Open && self.commit == merging
    }
}

/// The files that wait to be settled, of what `ls-files --unmerged -z` says: each stands there once for each side.
pub(in crate::executor) fn unmerged(listed: &[u8]) -> Vec<Vec<u8>> {
    let mut paths: Vec<Vec<u8>> = listed.split(|byte| *byte == 0).filter_map(path_of).collect();
    paths.dedup();
    paths
}

/// The path of `<mode> <oid> <stage>\t<path>`.
pub(super) fn path_of(entry: &[u8]) -> Option<Vec<u8>> {
    let tab = entry.iter().position(|byte| *byte == b'\t')?;
    entry.get(tab + 1..).map(<[u8]>::to_vec)
}

/// A path, for people.
pub(in crate::executor) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
