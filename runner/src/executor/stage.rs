//! Taking everything that an agent left into an index.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use fs_err as fs;

use super::Hands;
use super::cancel::Cancel;
use super::commit::Trouble;
use super::git::{BRING, Call, GitError};
use super::workshop::Workshop;

/// Stages everything that is not ignored. Returns what a person should know of it.
pub(super) async fn stage(
    hands: &Hands,
    cancel: &Cancel,
    shop: &Workshop,
    base: Option<&str>,
) -> Result<Vec<String>, Trouble> {
    let stager = Stager { hands, cancel, shop };
    let listed = stager.run(shop.call("ls-files").args(["--stage", "-v", "-z"])).await?;
    let known: Vec<Known<'_>> = names(&listed).filter_map(Known::read).collect();
    stager.look_again(&known).await?;
    let mut nested = Vec::new();
    for link in known.iter().filter(|known| known.is_link) {
        if has_repository(&shop.worktree().join(OsStr::from_bytes(link.path))) && !stager.was(base, link.path).await? {
            nested.push(link.path.to_vec());
        }
    }
    nested.extend(stager.repositories().await?);
    let mut notes = stager.add_all(&nested).await?;
    for folder in &nested {
        let shown = String::from_utf8_lossy(folder).into_owned();
        stager.add_files_of(folder).await?;
        notes.push(format!("the repository in `{shown}` is committed as plain files; its history is in the worktree"));
    }
    Ok(notes)
}

struct Stager<'a> {
    hands: &'a Hands,
    cancel: &'a Cancel,
    shop: &'a Workshop,
}

/// A file that the index knows.
struct Known<'a> {
    /// Whether the agent told git never to look at it.
    is_ignored: bool,
    /// Whether it is a link to a commit.
    is_link: bool,
    path: &'a [u8],
}

impl<'a> Known<'a> {
    /// Reads `H 100644 <oid> 0\t<path>`.
    fn read(entry: &'a [u8]) -> Option<Self> {
        let tab = entry.iter().position(|byte| *byte == b'\t')?;
        let (head, path) = (entry.get(..tab)?, entry.get(tab + 1..)?);
        let mode = head.split(|byte| *byte == b' ').nth(1)?;
        Some(Self { is_ignored: head.first()?.is_ascii_lowercase(), is_link: mode == b"160000", path })
    }
}

impl Stager<'_> {
    async fn run(&self, call: Call) -> Result<Vec<u8>, Trouble> {
        Ok(self.hands.git.run(self.cancel, call).await?.out)
    }

    /// Files that the agent told git to take for unchanged are looked at all the same.
    async fn look_again(&self, known: &[Known<'_>]) -> Result<(), Trouble> {
        let paths = known.iter().filter(|known| known.is_ignored).flat_map(|known| [known.path, b"\0"].concat());
        let paths: Vec<u8> = paths.collect();
        if paths.is_empty() {
            return Ok(());
        }
        let call = self.shop.call("update-index").args(["--no-assume-unchanged", "-z", "--stdin"]);
        self.run(call.input(paths)).await.map(|_| ())
    }

    /// Whether the work started with something of this name.
    async fn was(&self, base: Option<&str>, path: &[u8]) -> Result<bool, Trouble> {
        let Some(base) = base else { return Ok(false) };
        let mut name = std::ffi::OsString::from(format!("{base}:"));
        name.push(OsStr::from_bytes(path));
        let call = self.shop.call("rev-parse").args(["--verify", "--quiet"]).fine(&[0, 1, 128]);
        Ok(self.hands.git.run(self.cancel, call.names([name])).await?.code == 0)
    }

    /// The repositories inside that the index does not know. Git ends their names with a slash.
    async fn repositories(&self) -> Result<Vec<Vec<u8>>, Trouble> {
        let call = self.shop.call("ls-files");
        let others = self.run(call.args(["--others", "--exclude-standard", "-z"]).limit(BRING)).await?;
        Ok(names(&others).filter_map(|name| name.strip_suffix(b"/")).map(<[u8]>::to_vec).collect())
    }

    /// Stages all but these folders.
    async fn add_all(&self, but: &[Vec<u8>]) -> Result<Vec<String>, Trouble> {
        let mut paths = b".".to_vec();
        for folder in but {
            paths.extend_from_slice(b"\0:(exclude,literal)");
            paths.extend_from_slice(folder);
        }
        let call = self.shop.call("add").args(["--all", "--sparse", "--ignore-errors"]).limit(BRING);
        let call = call.args(["--pathspec-from-file=-", "--pathspec-file-nul"]).input(paths);
        match self.hands.git.run(self.cancel, call).await {
            Ok(_) => Ok(Vec::new()),
            // Everything else was staged.
            Err(why @ GitError::Refused { code: Some(1), .. }) => {
                Ok(vec![format!("not everything could be read: {why}")])
            }
            Err(why) => Err(why.into()),
        }
    }

    /// Stages the files of a repository inside, and of those inside it.
    async fn add_files_of(&self, folder: &[u8]) -> Result<(), Trouble> {
        let mut folders = vec![folder.to_vec()];
        let mut paths = Vec::new();
        while let Some(folder) = folders.pop() {
            let inside = OsStr::from_bytes(&folder).to_owned();
            let call = self.shop.call_inside(&inside, "ls-files").limit(BRING);
            let found = self.run(call.args(["--others", "--exclude-standard", "-z"])).await?;
            for name in names(&found) {
                let path = [folder.as_slice(), b"/", name].concat();
                match path.strip_suffix(b"/") {
                    Some(inner) => folders.push(inner.to_vec()),
                    None => paths.extend([path.as_slice(), b"\0"].concat()),
                }
            }
        }
        let call = self.shop.call("update-index").args(["--force-remove", "-z", "--stdin"]);
        self.run(call.input([folder, b"\0"].concat())).await?;
        let paths = self.not_ignored(paths).await?;
        if !paths.is_empty() {
            let call = self.shop.call("update-index").args(["--add", "--replace", "-z", "--stdin"]).limit(BRING);
            self.run(call.input(paths)).await?;
        }
        Ok(())
    }
}

impl Stager<'_> {
    /// Without those that the worktree's own rules ignore, as they are its files now.
    async fn not_ignored(&self, paths: Vec<u8>) -> Result<Vec<u8>, Trouble> {
        if paths.is_empty() {
            return Ok(paths);
        }
        let call = self.shop.call("check-ignore").args(["--no-index", "-z", "--stdin"]).fine(&[0, 1]);
        let ignored = self.run(call.input(paths.clone()).limit(BRING)).await?;
        let ignored: BTreeSet<&[u8]> = names(&ignored).collect();
        Ok(names(&paths).filter(|path| !ignored.contains(path)).flat_map(|path| [path, b"\0"].concat()).collect())
    }
}

/// Names, as git writes them between zero bytes.
fn names(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty())
}

/// Whether a folder has a repository of its own, and not one that a `.git` file points to.
fn has_repository(folder: &Path) -> bool {
    fs::symlink_metadata(folder.join(".git")).is_ok_and(|data| data.is_dir())
}
