//! Whether a worktree has changes that are not committed, for people who ask. As everywhere, no git of ours opens the
//! agent's repository: its files are looked at through one of our own, which is gone afterwards.

use std::path::Path;
use std::time::Duration;

use super::cancel::Cancel;
use super::git::{Call, Git};
use super::record::Folder;
use super::scene::Scene;
use super::settings::Settings;
use super::workshop::{RESULT, Trust, Workshop};

/// For git to look through one worktree.
const LOOK: Duration = Duration::from_secs(10);

/// Whether there are changes in `worktree` that its repository has not committed. `records` is its task's folder.
///
/// # Errors
/// It cannot be told, and why.
pub async fn is_dirty(settings: &Settings, records: &Path, worktree: &Path, branch: &str) -> Result<bool, String> {
    let standing = Folder::at(records).standing().map_err(|why| why.to_string())?;
    let bare = standing.ok_or("its worktree was not finished")?.bare;
    let scene = Scene::of(worktree, branch, &bare);
    let Some(head) = scene.head.clone().filter(|_| scene.lends) else {
        return Err("its repository cannot be looked into".to_owned());
    };
    let place = tempfile::tempdir().map_err(|failure| failure.to_string())?;
    let (own, long) = (place.path().join("git"), head.len() == 64);
    let opened = Workshop::open(own, worktree, &bare, &scene, Trust::All, long);
    let (shop, index) = opened.map_err(|failure| failure.to_string())?;
    shop.point(RESULT, &head).map_err(|failure| failure.to_string())?;
    let git = Git::new(&settings.git, &settings.environment, false, true);
    let run = async |call: Call| git.run(&Cancel::default(), call.limit(LOOK)).await.map_err(|why| why.to_string());
    if !index {
        run(shop.call("read-tree").names([&head])).await?;
    }
    // What is inside of submodules, git is not asked about: it would run there, by the agent's configuration.
    let status = ["--porcelain=v1", "--untracked-files=normal", "--ignore-submodules=all", "--no-renames"];
    run(shop.call("status").args(status)).await.map(|answer| !answer.out.is_empty())
}
