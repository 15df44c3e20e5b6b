//! The shared bare repositories: one per URL, the daemon's own. Upstream's branches stand in `refs/heads/`,
//! its tags in `refs/tags/`; finished work stands in `refs/makima/`, where no name of upstream's can collide
//! with it and no clone takes it for a branch. Tasks borrow their objects, so nothing is ever pruned.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use tokio::sync::{Mutex, MutexGuard};

use super::cancel::Cancel;
use super::git::{BRING, Call, Git, GitError};
use super::record::Folder;
use super::source::{Source, Tips};
use super::trouble::Trouble;
use super::{Hands, blocking, locks, refs};
use crate::home::Home;
use crate::sandbox::Walls;

/// Where finished work and what was kept aside stand.
pub(super) const OURS: &str = "refs/makima/";
/// What tasks began from, by their ids, where upstream may not have it any more.
const STARTS: &str = "refs/makima/start/";

/// One shared bare repository.
#[derive(Clone, Debug)]
pub(super) struct Bare {
    pub(super) path: PathBuf,
    /// Held while it is written to.
    pub(super) turn: Arc<Mutex<()>>,
}

/// The folder for a source: readable, and one for each.
pub(super) fn folder_for(home: &Home, source: Option<&Source>) -> PathBuf {
    let Some(source) = source else { return home.repos().join("no-repository.git") };
    let last = source.address.trim_end_matches('/').trim_end_matches("/.git").trim_end_matches(".git");
    let last = last.rsplit(['/', ':']).next().unwrap_or_default();
    let slug: String = last.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(40).collect();
    let slug = if slug.is_empty() { "repository" } else { slug.as_str() };
    home.repos().join(format!("{slug}-{:032x}.git", fnv(source.address.as_bytes())))
}

/// FNV-1a of 128 bits: the same in every version of this program, as a folder's name must be.
pub(crate) fn fnv(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b)
    })
}

impl Bare {
    /// Makes it there and current, where `tips` is what the source has now.
    pub(super) async fn bring(&self, git: &Git, cancel: &Cancel, source: &Source, tips: &Tips) -> Result<(), GitError> {
        if self.is_whole() && self.has(tips).await {
            return Ok(());
        }
        let _turn = self.turn(cancel).await?;
        if !self.is_whole() {
            self.set_aside_and_clone(git, cancel, source).await?;
        }
        if !self.has(tips).await {
            self.fetch(git, cancel, source).await?;
        }
        Ok(())
    }

    /// Makes it anew from its source, if that makes one that is better. What finished tasks had left in it is taken along
    /// as far as it can be read, and the old one is kept.
    pub(super) async fn renew(
        &self,
        git: &Git,
        cancel: &Cancel,
        source: &Source,
        is_better: impl AsyncFnOnce(&Self) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let _turn = self.turn(cancel).await?;
        let staging = self.staging().map_err(not_made(&self.path))?;
        self.clone_into(git, cancel, source, staging.path()).await?;
        let new = Self { path: staging.path().to_path_buf(), turn: Arc::default() };
        is_better(&new).await?;
        self.replace_by(git, staging).await?;
        Ok(())
    }

    /// The empty one, for tasks without a repository.
    pub(super) async fn make_empty(&self, git: &Git, cancel: &Cancel) -> Result<(), GitError> {
        if self.is_whole() {
            return Ok(());
        }
        let _turn = self.turn(cancel).await?;
        let staging = self.staging().map_err(not_made(&self.path))?;
        let call = Call::at(Path::new("/"), "init").args(["--bare", "--quiet", "--template="]);
        git.run(cancel, call.names([staging.path()])).await?;
        if !self.is_whole() {
            self.take_place(staging).map_err(not_made(&self.path))?;
        }
        Ok(())
    }

    /// Brings one object that no branch leads to.
    pub(super) async fn fetch_object(
        &self,
        git: &Git,
        cancel: &Cancel,
        source: &Source,
        oid: &str,
    ) -> Result<(), GitError> {
        let _turn = self.turn(cancel).await?;
        git.run(cancel, self.fetching(source).names([source.address.as_str(), oid])).await.map(|_| ())
    }

    /// Brings these references from another repository of ours, which lies on this machine.
    pub(super) async fn take(
        &self,
        hands: &Hands,
        cancel: &Cancel,
        from: &Path,
        wanted: &[String],
    ) -> Result<(), Trouble> {
        self.take_walled(hands, cancel, from, wanted, &Walls::default()).await
    }

    /// The same from one that borrows what an agent has in its hands.
    pub(super) async fn take_walled(
        &self,
        hands: &Hands,
        cancel: &Cancel,
        from: &Path,
        wanted: &[String],
        walls: &Walls,
    ) -> Result<(), Trouble> {
        let _turn = self.turn(cancel).await?;
        locks::clear_all(&self.path).await;
        let call = Call::on(&self.path, "fetch").args(["--quiet", "--no-tags", "--no-write-fetch-head"]).limit(BRING);
        // An agent may have brought history that is cut off.
        let call = call.arg("--update-shallow").inspecting().walled(walls);
        let names = std::iter::once(from.as_os_str()).chain(wanted.iter().map(AsRef::as_ref));
        hands.git.run(cancel, call.names(names)).await?;
        self.put_together(&hands.git, cancel).await;
        Ok(())
    }

    /// Waits until nobody else writes to it.
    async fn turn(&self, cancel: &Cancel) -> Result<MutexGuard<'_, ()>, GitError> {
        tokio::select! {
            turn = self.turn.lock() => Ok(turn),
            () = cancel.set() => Err(GitError::Cancelled),
        }
    }

    fn is_whole(&self) -> bool {
        ["HEAD", "config", "objects", "refs"].iter().all(|name| self.path.join(name).exists())
    }

    /// Whether its branches and tags are the source's.
    async fn has(&self, tips: &Tips) -> bool {
        let path = self.path.clone();
        let there = blocking(move || refs::read(&path)).await;
        there.ok().and_then(Result::ok).is_some_and(|mut refs| {
            refs.retain(|name, _| !name.starts_with(OURS));
            refs == tips.refs
        })
    }

    async fn fetch(&self, git: &Git, cancel: &Cancel, source: &Source) -> Result<(), GitError> {
        locks::clear_all(&self.path).await;
        let call = self.fetching(source).args(["--prune", "--force"]);
        let all = [source.address.as_str(), "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        git.run(cancel, call.names(all)).await?;
        // Many small files are slow to compare with next time. Where this fails, it is only slower.
        let _ = git.run(cancel, Call::on(&self.path, "pack-refs").arg("--all")).await;
        self.put_together(git, cancel).await;
        Ok(())
    }

    fn fetching(&self, source: &Source) -> Call {
        let call = Call::on(&self.path, "fetch").args(["--quiet", "--no-write-fetch-head", "--no-tags"]);
        // The past of a source that has not all of it may be cut off elsewhere by now.
        let call = if source.local.is_some() { call.arg("--update-shallow") } else { call };
        source.with_login(call.limit(BRING))
    }

    async fn set_aside_and_clone(&self, git: &Git, cancel: &Cancel, source: &Source) -> Result<(), GitError> {
        let staging = self.staging().map_err(not_made(&self.path))?;
        // Where this fails, the temporary folder takes the half-made one with it.
        self.clone_into(git, cancel, source, staging.path()).await?;
        self.replace_by(git, staging).await
    }

    async fn replace_by(&self, git: &Git, staging: tempfile::TempDir) -> Result<(), GitError> {
        // Before anything starts from the new one, and not called off with the task that found the damage: it is others' work.
        if self.path.exists() {
            self.hand_down(git, staging.path()).await;
        }
        let Some(old) = self.take_place(staging).map_err(not_made(&self.path))? else { return Ok(()) };
        tracing::warn!("{} could not be used; it was made anew, the old one is {}", self.path.display(), old.display());
        Ok(())
    }

    async fn clone_into(&self, git: &Git, cancel: &Cancel, source: &Source, to: &Path) -> Result<(), GitError> {
        let clone = |local: &[&str]| {
            let call = Call::at(Path::new("/"), "clone").args(["--bare", "--quiet", "--template="]).args(local);
            let call = call.setting("clone.defaultRemoteName", "origin").limit(BRING);
            source.with_login(call.names([source.address.as_ref(), to.as_os_str()]))
        };
        if source.local.is_none() {
            return git.run(cancel, clone(&[])).await.map(|_| ());
        }
        // Hard links; but what the user's repository itself borrows is copied, so that we borrow from nobody.
        match git.run(cancel, clone(&["--dissociate"])).await {
            Err(why @ GitError::Refused { code: Some(_), .. }) => {
                // Some repositories cannot be linked (links among the objects, for one); all can be copied.
                fs::remove_dir_all(to).and_then(|()| fs::create_dir(to)).map_err(not_made(to))?;
                git.run(cancel, clone(&["--no-local"])).await.map(|_| ()).map_err(|_| why)
            }
            other => other.map(|_| ()),
        }
    }

    fn staging(&self) -> io::Result<tempfile::TempDir> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        tempfile::Builder::new().prefix(".making-").tempdir_in(folder)
    }

    /// Puts a whole one where it belongs. Returns where the one before went.
    fn take_place(&self, staging: tempfile::TempDir) -> io::Result<Option<PathBuf>> {
        let mut old = None;
        if self.path.exists() {
            let mut name = self.path.file_name().unwrap_or_default().to_owned();
            name.push(format!(".broken-{}", uuid::Uuid::now_v7()));
            let aside = self.path.with_file_name(name);
            fs::rename(&self.path, &aside)?;
            old = Some(aside);
        }
        fs::rename(staging.path(), &self.path)?;
        // It is no longer temporary.
        let _ = staging.keep();
        Ok(old)
    }

    /// Hands the work of finished tasks down to the new one, and what the others began from, which upstream may not have
    /// any more. Each by itself: one that is damaged must not keep the others.
    async fn hand_down(&self, git: &Git, new: &Path) {
        let old = self.path.clone();
        let mended = {
            let (old, new) = (old.clone(), new.to_path_buf());
            blocking(move || mend(&old, &new)).await
        };
        let names = mended.and_then(|mended| mended.map_err(|failure| failure.to_string()));
        let names = names.unwrap_or_else(|why| {
            tracing::warn!("{} cannot be mended: {why}", old.display());
            Vec::new()
        });
        for name in names {
            let call = Call::on(new, "fetch").args(["--quiet", "--no-write-fetch-head", "--no-tags"]);
            let call = call.names([old.as_os_str(), format!("+{name}:{name}").as_ref()]);
            if let Err(why) = git.run(&Cancel::default(), call).await {
                tracing::warn!("{name} could not be handed down from {}: {why}", old.display());
            }
        }
    }
}

/// Makes an old repository one that git opens, with a name for all that tasks began from. Returns what is ours in it.
/// Blocks.
fn mend(old: &Path, new: &Path) -> io::Result<Vec<String>> {
    // They say nothing that is not the same in both.
    for name in ["HEAD", "config"] {
        fs::copy(new.join(name), old.join(name))?;
    }
    fs::create_dir_all(old.join(STARTS))?;
    let tasks = old.ancestors().nth(2).map(|home| home.join("tasks"));
    for task in tasks.iter().flat_map(fs::read_dir).flatten().flatten() {
        let standing = Folder::at(&task.path()).standing().ok().flatten().filter(|standing| standing.bare == old);
        if let Some(base) = standing.and_then(|standing| standing.prepared.base) {
            fs::write(old.join(STARTS).join(task.file_name()), format!("{base}\n"))?;
        }
    }
    Ok(refs::read(old)?.into_keys().filter(|name| name.starts_with(OURS)).collect())
}

/// Whether what git said means that a repository of ours is damaged, and not that a request was wrong.
pub(super) fn says_damaged(said: &str) -> bool {
    const SIGNS: &[&str] = &[
        "bad object",
        "corrupt",
        "unable to read",
        "missing blob",
        "missing tree",
        "missing commit",
        "inflate",
        "loose object",
        "packfile",
        "did not send all necessary objects",
        "invalid sha1 pointer",
        "bad tree",
        "could not parse",
        "failed to read object",
        "failed to unpack tree",
        "unable to find",
        "not a git repository",
        "not a tree",
        "invalid object",
        "index file",
        "pack has bad",
    ];
    SIGNS.iter().any(|sign| said.contains(sign))
}

fn not_made(path: &Path) -> impl Fn(io::Error) -> GitError {
    let path = path.to_path_buf();
    move |failure| GitError::Refused {
        verb: "clone".to_owned(),
        code: None,
        said: format!("fatal: {} cannot be made: {failure}", path.display()),
    }
}
