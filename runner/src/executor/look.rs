//! Whether a worktree has changes that are not committed, for people who ask. As everywhere, no git of ours opens the
//! agent's repository: its files are looked at through one of our own, which is gone afterwards.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;

use super::cancel::Cancel;
use super::git::{Call, Git};
use super::record::Folder;
use super::scene::Scene;
use super::scratch::Scratch;
use super::settings::Settings;
use super::workshop::{RESULT, Trust, Workshop};
use super::{Hands, blocking, foreign, refs};
use crate::sandbox::Walls;

/// Whether all that is in a worktree of `folder`'s task, but for what git ignores, is also in commits of the daemon's own
/// repository: its files, and all that its references lead to.
///
/// # Errors
/// It is not, or that cannot be told; and why.
pub(super) async fn is_kept(hands: &Hands, folder: &Folder, worktree: &Path) -> Result<(), String> {
    let standing = folder.standing().map_err(|why| why.to_string())?.ok_or("its worktree was not finished")?;
    let branch = folder.spec().ok_or("nothing is known of its task")?.branch;
    let dirty = is_dirty(&hands.settings, folder.path(), worktree, branch.as_str()).await?;
    if dirty {
        return Err("it has changes that are in no commit".to_owned());
    }
    let git = worktree.join(".git");
    let inner = ["modules", "worktrees"].map(|name| git.join(name));
    if let Some(inner) = inner.into_iter().find(|path| path.exists()) {
        return Err(format!("{} has a history of its own", inner.display()));
    }
    let place = worktree.to_path_buf();
    if let Some(inner) = blocking(move || nested(&place)).await?.map_err(|failure| failure.to_string())? {
        return Err(format!("{} has a history of its own", inner.display()));
    }
    let commits = blocking(move || {
        let head = refs::at_head(&git);
        refs::read(&git).map(|refs| refs.into_values().chain(head).collect::<BTreeSet<String>>())
    });
    let commits = commits.await?.map_err(|failure| failure.to_string())?;
    if commits.len() > REFS {
        return Err(format!("it has more than {REFS} references"));
    }
    let call = Call::on(&standing.bare, "rev-list").args(["--max-count=1"]).args(commits).args(["--not", "--all"]);
    // An object that is not there is an error of git's.
    match hands.git.run(&Cancel::default(), call.limit(LOOK)).await {
        Ok(missing) if missing.out.is_empty() => Ok(()),
        Ok(_) => Err("it has commits that are nowhere else".to_owned()),
        Err(why) => Err(format!("it has commits that are nowhere else: {why}")),
    }
}

/// A repository inside of the worktree: its files may be committed, its history is not. Blocks.
fn nested(worktree: &Path) -> io::Result<Option<PathBuf>> {
    let mut folders = vec![worktree.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name() == ".git" {
                if folder != worktree {
                    return Ok(Some(entry.path()));
                }
            } else if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(None)
}

/// For git to look through one worktree.
const LOOK: Duration = Duration::from_secs(10);

/// So many references of an agent's are looked up.
const REFS: usize = 10_000;

/// Whether there are changes in `worktree` that its repository has not committed. `records` is its task's folder.
///
/// # Errors
/// It cannot be told, and why.
pub async fn is_dirty(settings: &Settings, records: &Path, worktree: &Path, branch: &str) -> Result<bool, String> {
    let standing = Folder::at(records).standing().map_err(|why| why.to_string())?;
    let bare = standing.ok_or("its worktree was not finished")?.bare;
    if !foreign::is_folder(worktree) {
        return Err("it is not the folder that was made".to_owned());
    }
    let scene = Scene::of(worktree, branch, &bare);
    let Some(head) = scene.head.clone().filter(|_| scene.lends) else {
        return Err("its repository cannot be looked into".to_owned());
    };
    let place = tempfile::tempdir().map_err(|failure| failure.to_string())?;
    let (own, long) = (Scratch::at(place.path().join("git")), head.len() == 64);
    let opened = Workshop::open(&own, worktree, &bare, &scene, (Trust::All, long), &Walls::default());
    let (shop, index) = opened.map_err(|failure| failure.to_string())?;
    shop.point(RESULT, &head).map_err(|failure| failure.to_string())?;
    let git = Git::asking(settings);
    let run = async |call: Call| git.run(&Cancel::default(), call.limit(LOOK)).await.map_err(|why| why.to_string());
    if !index {
        run(shop.call("read-tree").names([&head])).await?;
    }
    // What is inside of submodules, git is not asked about: it would run there, by the agent's configuration.
    let status = ["--porcelain=v1", "--untracked-files=normal", "--ignore-submodules=all", "--no-renames"];
    run(shop.call("status").args(status)).await.map(|answer| !answer.out.is_empty())
}
