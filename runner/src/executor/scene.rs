//! What an agent left of its repository. It is read from the files, as files that an agent may have written: its
//! configuration may say anything, so no git of ours ever opens it as a repository.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::foreign::{self, SMALL};
use super::record::forgiving;
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
    /// Where its history ends though there is more of it elsewhere.
    pub(super) shallow: Vec<String>,
    /// Whether git can read its objects without waiting for something that is no file.
    pub(super) lends: bool,
}

impl Scene {
    /// Looks at the worktree whose branch is `branch`, and which borrows from the repository at `bare`.
    pub(super) fn of(worktree: &Path, branch: &str, bare: &Path) -> Self {
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
        let merging = foreign::text(&git.join("MERGE_HEAD"), SMALL).unwrap_or_default();
        let merging = merging.lines().map(str::trim).filter(|line| refs::is_oid(line)).map(str::to_owned).collect();
        let unfinished = unfinished(&git);
        let shallow = refs::shallow(&git);
        let lends = foreign::can_be_lent(&git.join("objects"), &bare.join("objects"));
        Self { head, on_branch, tip, merging, unfinished, shallow, lends, git: Some(git) }
    }

    /// Puts the result where the agent's repository would have it: the branch at it by compare-and-swap, the
    /// index as it was committed, nothing unfinished. For people who look into the worktree; the work itself is
    /// safe by then.
    pub(super) fn finish(&self, branch: &str, index: &Path, result: &str) -> io::Result<()> {
        let Some(git) = &self.git else { return Ok(()) };
        let name = format!("refs/heads/{branch}");
        let file = git.join(&name);
        make_folders(git, &name)?;
        let mut lock = file.clone().into_os_string();
        lock.push(".lock");
        // No process of the task is left: a lock that stands there belongs to nobody.
        put_new(lock.as_ref(), &mut format!("{result}\n").as_bytes())?;
        if refs::one(git, &name) != self.tip {
            return fs::remove_file(&lock);
        }
        fs::rename(&lock, &file)?;
        if self.on_branch {
            // Before the index: whoever comes after a crash must not find a merge without its conflicts.
            for name in ["MERGE_HEAD", "MERGE_MSG", "MERGE_MODE", "CHERRY_PICK_HEAD", "REVERT_HEAD"] {
                forgiving(fs::remove_file(git.join(name)))?;
            }
            let new = git.join("index.makima");
            put_new(&new, &mut fs::File::open(index)?)?;
            fs::rename(new, git.join("index"))?;
        }
        Ok(())
    }
}

/// Makes the folders that lead to this name. A link among them leads into somebody else's.
pub(super) fn make_folders(git: &Path, name: &str) -> io::Result<()> {
    let mut folder = git.to_path_buf();
    for part in Path::new(name).parent().into_iter().flatten() {
        folder.push(part);
        match fs::symlink_metadata(&folder) {
            Ok(data) if data.is_dir() => {}
            Ok(_) => return Err(io::Error::other(format!("{} is no folder", folder.display()))),
            Err(failure) if failure.kind() == io::ErrorKind::NotFound => fs::create_dir(&folder)?,
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// Writes a file in place of whatever is there. No link is followed.
pub(super) fn put_new(path: &Path, content: &mut impl io::Read) -> io::Result<()> {
    forgiving(fs::remove_file(path))?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    io::copy(content, &mut file).map(|_| ())
}

pub(super) fn unfinished(git: &Path) -> Option<&'static str> {
    const SIGNS: &[(&str, &str)] = &[
        ("MERGE_HEAD", "unfinished merge"),
        ("rebase-merge", "unfinished rebase"),
        ("rebase-apply", "unfinished rebase"),
        ("CHERRY_PICK_HEAD", "unfinished cherry-pick"),
        ("REVERT_HEAD", "unfinished revert"),
    ];
    SIGNS.iter().find(|(name, _)| git.join(name).exists()).map(|(_, what)| *what)
}
