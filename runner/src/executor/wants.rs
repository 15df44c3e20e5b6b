//! What a repository wants of those who work in it, as the commit says that is started from: read from git, so that no
//! link in a worktree leads elsewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use makima_core::limits;
use makima_core::wants::{Consent, FILE, Settled, Wants, settle};

use super::cancel::Cancel;
use super::git::{BRING, Call, Git};
use super::prepare::on_disk;
use super::record::Folder;
use super::refs;
use super::source::Source;
use super::trouble::Trouble;
use super::{Hands, blocking, sparse};
use crate::consent::{self, Book};

/// Commits that are known to want nothing, so that git is not asked again for each task that starts from the same one.
/// What is in a commit never changes.
#[derive(Debug, Default)]
pub(super) struct Silent(Mutex<BTreeSet<String>>);

impl Silent {
    /// How many are kept in mind.
    const MOST: usize = 256;

    fn has(&self, commit: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(commit)
    }

    fn add(&self, commit: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= Self::MOST {
            known.clear();
        }
        known.insert(commit.to_owned());
    }
}

/// What is done of what the repository of `source` wants at the commit `base`, which `bare` has.
pub(super) async fn settled(
    hands: &Hands,
    cancel: &Cancel,
    bare: &Path,
    source: &Source,
    base: Option<&str>,
) -> Result<Settled, Trouble> {
    let Some(base) = base else { return Ok(Settled::default()) };
    let key = consent::key(&source.address);
    if let Some(own) = hands.settings.repositories.iter().find(|own| own.repository == key) {
        return settle(Some(&own.wants), Ok(None), Consent::None, &key).map_err(Trouble::Plain);
    }
    if hands.silent.has(base) {
        return Ok(Settled::default());
    }
    let found = match read(&hands.git, cancel, bare, base).await? {
        Ok(None) => {
            hands.silent.add(base);
            return Ok(Settled::default());
        }
        Ok(Some(text)) => consent::parse(&text).map(Some),
        Err(why) => Err(why),
    };
    let book = Book::of(hands.home.root());
    let asked = found.clone().ok().flatten().filter(|wants| !wants.is_empty());
    let name = key.clone();
    let said = blocking(move || {
        let says = book.says(&name, asked.as_ref())?;
        if let (Some(asked), Consent::None | Consent::Other) = (&asked, says) {
            book.asks(&name, asked)?;
        }
        Ok::<_, std::io::Error>(says)
    });
    let consent = said.await.map_err(Trouble::Plain)?;
    let consent = consent.map_err(|why| Trouble::Plain(format!("what you have agreed to cannot be read: {why}")))?;
    settle(None, found, consent, &key).map_err(Trouble::Plain)
}

/// The file's text in this commit; else why it is not read.
async fn read(git: &Git, cancel: &Cancel, bare: &Path, base: &str) -> Result<Result<Option<String>, String>, Trouble> {
    let list = Call::on(bare, "ls-tree").args(["--long", "-z"]).names([base, FILE]);
    let listed = git.run(cancel, list).await?;
    let oid = match file(&listed.out) {
        Ok(Some(oid)) => oid,
        Ok(None) => return Ok(Ok(None)),
        Err(why) => return Ok(Err(why)),
    };
    let text = git.run(cancel, Call::on(bare, "cat-file").arg("blob").names([oid])).await?;
    Ok(String::from_utf8(text.out).map(Some).map_err(|_| "it is no UTF-8".to_owned()))
}

/// The file that `git ls-tree` lists, by its id; else why it is not read.
fn file(listed: &[u8]) -> Result<Option<String>, String> {
    let listed = String::from_utf8_lossy(listed);
    let mut words = listed.split_once('\t').map_or("", |(words, _)| words).split_ascii_whitespace();
    let (Some(mode), Some(_), Some(oid), Some(size)) = (words.next(), words.next(), words.next(), words.next()) else {
        return Ok(None);
    };
    if !mode.starts_with("100") {
        return Err("it is no file".to_owned());
    }
    if size.parse::<u64>().is_ok_and(|size| size > limits::WANTS) {
        return Err(format!("it is larger than {} KiB", limits::WANTS >> 10));
    }
    if !refs::is_oid(oid) {
        return Err("git's answer is not understood".to_owned());
    }
    Ok(Some(oid.to_owned()))
}

/// Reads what git lists: see `crate::fuzz`.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(listed: &[u8]) {
    if let Ok(Some(oid)) = file(listed) {
        assert!(refs::is_oid(&oid), "{oid}");
    }
}

/// Has only these folders checked out in the repository at `staging`, which has no files yet, beside the files at its root.
/// `folder` is the task's, which remembers it.
pub(super) async fn narrow(staging: &Path, folder: &Folder, wants: &Wants) -> Result<(), Trouble> {
    if wants.sparse.is_empty() {
        return Ok(());
    }
    let (git, patterns, own) = (staging.join(".git"), patterns(&wants.sparse), folder.file(sparse::RULES));
    on_disk(move || {
        use std::io::Write as _;
        let written = fs_err::write(own, &patterns);
        let written = written.and_then(|()| fs_err::write(git.join("info/sparse-checkout"), patterns)).and_then(|()| {
            let mut config = fs_err::OpenOptions::new().append(true).open(git.join("config"))?;
            config.write_all(b"[core]\n\tsparseCheckout = true\n\tsparseCheckoutCone = true\n")
        });
        written.map_err(|failure| format!("which folders are wanted cannot be written down: {failure}"))
    })
    .await
}

/// As `git sparse-checkout set --cone` writes them: the files at the root, those in the folders on the way, and all that
/// is in the folders themselves.
fn patterns(folders: &[String]) -> String {
    let mut lines = vec!["/*".to_owned(), "!/*/".to_owned()];
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| Path::new(folder).components().collect()).collect();
    folders.sort();
    folders.dedup();
    for folder in &folders {
        let mut above: Vec<&Path> = folder.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
        above.reverse();
        for path in above {
            // One that is wanted as a whole has no part that is not.
            if folders.iter().any(|whole| path.starts_with(whole)) {
                break;
            }
            let line = format!("/{}/", path.display());
            if !lines.contains(&line) {
                lines.push(line);
                lines.push(format!("!/{}/*/", path.display()));
            }
        }
        if !folders.iter().any(|whole| whole != folder && folder.starts_with(whole)) {
            lines.push(format!("/{}/", folder.display()));
        }
    }
    lines.join("\n") + "\n"
}

/// Brings the submodules where they are wanted.
pub(super) async fn submodules(
    hands: &Hands,
    cancel: &Cancel,
    staging: &Path,
    source: &Source,
    wants: &Wants,
) -> Result<(), Trouble> {
    if !wants.submodules {
        return Ok(());
    }
    let call = Call::at(staging, "submodule").args(["--quiet", "update", "--init", "--recursive"]).limit(BRING);
    let call = call.env("GIT_LFS_SKIP_SMUDGE", "1");
    // Where they come from is said by the commit, which may have changed since the user agreed: nobody elsewhere is to
    // name what lies on this machine.
    let call = if source.local.is_some() { call } else { call.env("GIT_ALLOW_PROTOCOL", "https:ssh") };
    let brought = hands.git.run(cancel, call).await;
    brought.map_err(|why| Trouble::Plain(format!("its submodules cannot be brought: {why}")))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_as_git_names_them() {
        let of = |folders: &[&str]| patterns(&folders.iter().map(|folder| (*folder).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["core"]), "/*\n!/*/\n/core/\n");
        assert_eq!(of(&["a/b", "a/c/"]), "/*\n!/*/\n/a/\n!/a/*/\n/a/b/\n/a/c/\n");
        assert_eq!(of(&["a/b", "a"]), "/*\n!/*/\n/a/\n");
    }
}
