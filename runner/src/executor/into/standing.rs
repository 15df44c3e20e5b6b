//! How a branch of the target stands: to the work, and to what the user does with it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;

use super::super::foreign::{self, SMALL};
use super::super::git::{BRING, Call};
use super::super::reach::{Held, Reach};
use super::super::scene::unfinished;
use super::super::trouble::Trouble;
use super::super::workshop::Workshop;
use super::super::{blocking, refs};
use super::follow::Checkout;
use super::turn::{MOMENT, PATIENCE, Stop};
use super::{Job, named};

/// How a branch of the target stands.
pub(super) struct Standing {
    pub(super) at: String,
    /// It has all of the work.
    pub(super) has_all: bool,
    /// The work goes on from it.
    pub(super) is_behind: bool,
    /// Where it is checked out.
    pub(super) checkout: Option<Checkout>,
}

impl Job<'_> {
    /// How a branch of the target stands to the work.
    pub(super) async fn stand(&self, full: &str, shop: &Workshop) -> Result<Option<Standing>, Trouble> {
        let format = format!("%(refname)%00%(objectname)%00%(worktreepath)%00%(ahead-behind:{})", self.commit);
        let mut call = self.here("for-each-ref").env("GIT_ALTERNATE_OBJECT_DIRECTORIES", self.lender());
        if let Some(shallow) = shop.shallow() {
            call = call.env("GIT_SHALLOW_FILE", shallow);
        }
        let said = self.run(call.arg(format!("--format={format}")).names([full])).await?;
        let mut fields = said.splitn(4, |byte| *byte == 0);
        if fields.next() != Some(full.as_bytes()) {
            return Ok(None);
        }
        let mut next = || fields.next().unwrap_or_default();
        let (at, folder, counts) = (next(), next(), next());
        let at = String::from_utf8_lossy(at).into_owned();
        let counts = String::from_utf8_lossy(counts);
        let Some((ahead, behind)) = counts.trim().split_once(' ').filter(|_| refs::is_oid(&at)) else {
            return Err(Trouble::Plain(format!("{full} in {} is no commit", self.shown())));
        };
        let folder = Path::new(OsStr::from_bytes(folder));
        let checkout = if folder.is_absolute() && folder.is_dir() {
            let around = std::iter::once(&self.target.common).chain(&self.target.parts).cloned().collect();
            self.checkout(self.hold(folder).await?, around).await?
        } else {
            None
        };
        Ok(Some(Standing { at, has_all: behind == "0", is_behind: ahead == "0", checkout }))
    }

    /// The checkout in a folder, if files are checked out there. Its repository lies in these.
    pub(super) async fn checkout(&self, folder: Held, around: Vec<Held>) -> Result<Option<Checkout>, Trouble> {
        let call = Call::held(&folder, "rev-parse").args(["--is-inside-work-tree", "--path-format=absolute"]);
        let said = self.run(call.arg("--git-dir")).await?;
        // A bare repository has a branch, and no files of it.
        let Some(git) = said.strip_prefix(b"true\n") else { return Ok(None) };
        let git = PathBuf::from(OsStr::from_bytes(git.strip_suffix(b"\n").unwrap_or(git)));
        Ok(Some(Checkout { folder, git, around }))
    }

    /// Opens a folder that a repository names.
    pub(super) async fn hold(&self, folder: &Path) -> Result<Held, Trouble> {
        let (hands, folder) = (Arc::clone(self.hands), folder.to_path_buf());
        let held = blocking(move || Reach::of(&hands).open_at(&folder)).await?;
        held.map_err(|why| Trouble::Plain(why.into_words()))
    }

    /// Refuses a checkout in which there are changes that are in no commit.
    pub(super) async fn refuse_dirty(&self, standing: &Standing, into: &str) -> Result<(), Stop> {
        let Some(checkout) = &standing.checkout else { return Ok(()) };
        let place = checkout.folder.path().display();
        if let Some(what) = unfinished(&checkout.git) {
            return Err(Trouble::Plain(format!("{place} has an {what}; it is left as it is")).into());
        }
        let call = checkout.call("status").args(["--porcelain", "-z", "--untracked-files=no", "--no-renames"]);
        let said = self.run(call.arg("--ignore-submodules=dirty").limit(BRING)).await?;
        let files = changed(&said);
        if files.is_empty() {
            return Ok(());
        }
        let files = named(&files);
        let why = format!(
            "`{into}` is checked out in {place} with changes that are in no commit, which are left as they are: {files}"
        );
        let is_locked = checkout.git.join("index.lock").exists();
        Err(Stop::Busy(why, if is_locked { PATIENCE } else { MOMENT }))
    }

    /// Refuses a branch that a worktree is in the middle of something with. It need not be checked out anywhere then.
    pub(super) async fn refuse_in_the_middle(&self, full: &str, into: &str) -> Result<(), Trouble> {
        let (common, branch) = (self.target.common.path().to_path_buf(), full.to_owned());
        match blocking(move || in_the_middle(&common, &branch)).await? {
            Some((what, place)) => Err(Trouble::Plain(format!(
                "`{into}` is {what} in {}, which is not finished; it is left as it is",
                place.display()
            ))),
            None => Ok(()),
        }
    }
}

/// The files that `git status` lists: behind two letters and a space each.
fn changed(said: &[u8]) -> Vec<&[u8]> {
    said.split(|byte| *byte == 0).filter_map(|line| line.get(3..)).collect()
}

/// Reads what git says of a checkout: see `crate::fuzz`.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(said: &[u8]) {
    let files = changed(said);
    let shown = named(&files);
    assert!(shown.chars().all(|c| !c.is_control()) && shown.len() <= 4096, "{shown}");
}

/// What is being done with a branch, and in which worktree.
fn in_the_middle(common: &Path, full: &str) -> Option<(&'static str, PathBuf)> {
    let linked = fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(common.to_path_buf())
        .chain(linked)
        .find_map(|git| Some((done_with(&git, full)?, worktree(&git, common))))
}

fn done_with(git: &Path, full: &str) -> Option<&'static str> {
    let names = |file: &&str| {
        let text = foreign::text(&git.join(file), SMALL).unwrap_or_default();
        text.lines().any(|line| line.trim() == full)
    };
    if ["rebase-merge/head-name", "rebase-apply/head-name", "rebase-merge/update-refs"].iter().any(names) {
        return Some("being rebased");
    }
    // By its short name.
    let bisected = foreign::text(&git.join("BISECT_START"), SMALL).unwrap_or_default();
    (full.strip_prefix("refs/heads/") == Some(bisected.trim())).then_some("being bisected")
}

/// The folder of files of a worktree, for people.
fn worktree(git: &Path, common: &Path) -> PathBuf {
    let link = if git == common { None } else { foreign::text(&git.join("gitdir"), SMALL).ok() };
    let link = link.map_or_else(|| git.to_path_buf(), |text| git.join(text.trim()));
    if link.ends_with(".git") { link.parent().map_or_else(|| link.clone(), Path::to_path_buf) } else { link }
}
