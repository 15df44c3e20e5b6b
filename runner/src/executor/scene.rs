//! What an agent left of its repository. It is read from the files: an agent may have written anything into
//! its configuration, so no git of ours ever runs on it.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::refs::{self, Head};

/// The state of a worktree's repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scene {
    /// Its folder. None if there is none that can be read.
    pub(super) git: Option<PathBuf>,
    /// The commit that the files belong to.
    pub(super) head: Option<String>,
    /// Whether that is our branch's.
    pub(super) on_branch: bool,
    /// The tip of our branch.
    pub(super) tip: Option<String>,
    /// What was being merged.
    pub(super) merging: Vec<String>,
    /// What was not finished.
    pub(super) unfinished: Option<&'static str>,
}

impl Scene {
    /// Looks at the worktree whose branch is `branch`.
    pub(super) fn of(worktree: &Path, branch: &str) -> Self {
        let git = worktree.join(".git");
        // A file or a link may lead into any repository of the user's.
        let own = fs::symlink_metadata(&git).is_ok_and(|data| data.is_dir());
        let branch = format!("refs/heads/{branch}");
        let head = if own { refs::head(&git) } else { Head::Broken };
        let tip = refs::one(&git, &branch).filter(|_| own);
        let (head, on_branch) = match head {
            Head::Broken => return Self::default(),
            Head::Detached(oid) => (Some(oid), false),
            Head::Symbolic(name) if name == branch => (tip.clone(), true),
            Head::Symbolic(name) => (refs::one(&git, &name), false),
        };
        let merging = fs::read_to_string(git.join("MERGE_HEAD")).unwrap_or_default();
        let merging = merging.lines().map(str::trim).filter(|line| refs::is_oid(line)).map(str::to_owned).collect();
        let unfinished = unfinished(&git);
        Self { head, on_branch, tip, merging, unfinished, git: Some(git) }
    }

    /// Puts the result where the agent's repository would have it: the branch at it by compare-and-swap, the
    /// index as it was committed, nothing unfinished. For people who look into the worktree; the work itself is
    /// safe by then.
    pub(super) fn finish(&self, branch: &str, index: &Path, result: &str) -> std::io::Result<()> {
        let Some(git) = &self.git else { return Ok(()) };
        let name = format!("refs/heads/{branch}");
        let file = git.join(&name);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut lock = file.clone().into_os_string();
        lock.push(".lock");
        // No process of the task is left: a lock that stands there belongs to nobody.
        super::record::forgiving(fs::remove_file(&lock))?;
        fs::write(&lock, format!("{result}\n"))?;
        if refs::one(git, &name) != self.tip {
            return fs::remove_file(&lock);
        }
        fs::rename(&lock, &file)?;
        if self.on_branch {
            fs::copy(index, git.join("index.makima"))?;
            fs::rename(git.join("index.makima"), git.join("index"))?;
            for name in ["MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "CHERRY_PICK_HEAD", "REVERT_HEAD"] {
                super::record::forgiving(fs::remove_file(git.join(name)))?;
            }
        }
        Ok(())
    }
}

fn unfinished(git: &Path) -> Option<&'static str> {
    const SIGNS: &[(&str, &str)] = &[
        ("MERGE_HEAD", "unfinished merge"),
        ("rebase-merge", "unfinished rebase"),
        ("rebase-apply", "unfinished rebase"),
        ("CHERRY_PICK_HEAD", "unfinished cherry-pick"),
        ("REVERT_HEAD", "unfinished revert"),
    ];
    SIGNS.iter().find(|(name, _)| git.join(name).exists()).map(|(_, what)| *what)
}
