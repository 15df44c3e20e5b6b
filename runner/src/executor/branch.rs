//! Putting a task's branch into a repository of the user's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use makima_core::id::TaskId;
use makima_core::policy::BranchName;

use super::bare::OURS;
use super::cancel::Cancel;
use super::git::{BRING, Call, GitError};
use super::locks::AtWork;
use super::reach::{Denied, Held, Reach};
use super::record::Folder;
use super::trouble::Trouble;
use super::{Hands, blocking, refs};

/// A repository of the user's, and the work that goes there.
pub(super) struct Target {
    /// The folder that was named.
    pub(super) place: Held,
    /// The folder of the repository itself.
    pub(super) common: Held,
    /// Folders that are a part of it, and lie elsewhere.
    pub(super) parts: Vec<Held>,
    /// The shared repository that holds the work.
    pub(super) bare: PathBuf,
    /// The name of the work in it.
    pub(super) work: String,
}

/// Finds where work goes to. `commit` is where it has to stand.
pub(super) async fn target(hands: &Arc<Hands>, task: TaskId, target: &str, commit: &str) -> Result<Target, String> {
    let bare = bare_of(hands, task)?;
    let found = {
        let (hands, target) = (Arc::clone(hands), target.to_owned());
        // It may lie where nobody answers.
        blocking(move || {
            let reach = Reach::of(&hands);
            let place = reach.open(&target)?;
            let (common, parts) = reach.open_repository(&place)?;
            Ok((place, common, parts))
        })
        .await?
    };
    let (place, common, parts) =
        found.map_err(|why: Denied| format!("{}; the work is kept in {}", why.into_words(), bare.display()))?;
    let work = format!("{OURS}{task}");
    if refs::find(&bare, &work).await.as_deref() != Some(commit) {
        return Err(format!("{work} in {} is not at {commit}", bare.display()));
    }
    Ok(Target { place, common, parts, bare, work })
}

/// The shared repository of a task.
pub(super) fn bare_of(hands: &Hands, task: TaskId) -> Result<PathBuf, String> {
    let standing = Folder::of(&hands.home, task).standing().map_err(|why| why.to_string())?;
    Ok(standing.ok_or("its worktree was never made")?.bare)
}

/// Puts the branch into a repository. Nothing that is open there is touched: one reference is new.
pub(super) async fn put(
    hands: &Arc<Hands>,
    task: TaskId,
    wanted: &str,
    branch: &BranchName,
    commit: &str,
    cancel: &Cancel,
) -> Result<String, String> {
    let Target { place, common, parts, bare, work } = target(hands, task, wanted, commit).await?;
    let name = format!("refs/heads/{branch}");
    let shown = place.path().display();
    let done = format!("branch `{branch}` is in {shown}");
    match find(hands, &place, &name, cancel).await.map_err(|why| why.to_string())? {
        Some(there) if there == commit => return Ok(done),
        Some(there) => {
            return Err(format!(
                "{shown} has a branch `{branch}` already, at another commit ({there}); it is left as it is, the work is kept in {}",
                bare.display()
            ));
        }
        None => {}
    }
    // In the folder that is held, and nowhere else: git is not let look for it.
    let call = Call::held(&common, "fetch")
        .env("GIT_DIR", ".")
        .fenced(std::iter::once(&common).chain(&parts), &[&bare])
        .limit(BRING);
    let call = call.args(["--quiet", "--no-tags", "--no-write-fetch-head"]);
    let call = call.names([bare.as_os_str(), format!("{work}:{name}").as_ref()]);
    let folder = Folder::of(&hands.home, task);
    let at_work = AtWork::on(&folder, &common, &name).await.map_err(Trouble::into_words)?;
    let became = hands.git.run(cancel, call).await;
    at_work.over(&became).map_err(|why| why.to_string())?;
    match became {
        Ok(_) => Ok(done),
        Err(why) => Err(in_the_way(hands, &place, &bare, why, cancel).await),
    }
}

async fn find(hands: &Hands, place: &Held, name: &str, cancel: &Cancel) -> Result<Option<String>, GitError> {
    let call = Call::held(place, "rev-parse").args(["--verify", "--quiet"]).fine(&[0, 1]);
    Ok(hands.git.run(cancel, call.names([name])).await?.line())
}

/// Why the branch could not be put there. The one thing that people cannot guess from what git says is a
/// branch whose name is a folder of ours.
async fn in_the_way(hands: &Hands, place: &Held, bare: &Path, why: GitError, cancel: &Cancel) -> String {
    match find(hands, place, "refs/heads/makima", cancel).await {
        Ok(Some(_)) => format!(
            "the repository {} has a branch named `makima`; git cannot hold `makima/…` beside it; rename that branch, \
             the work is kept in {}",
            place.path().display(),
            bare.display()
        ),
        Ok(None) | Err(_) => format!("{why}; the work is kept in {}", bare.display()),
    }
}
