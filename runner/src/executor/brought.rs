//! What was brought into a task's worktree and is in none of its commits. The list of it is the daemon's, in the task's
//! folder: the agent's own list of what git is to leave alone is a file that an agent may take away.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use makima_core::id::TaskId;

use super::cancel::Cancel;
use super::git::{BRING, Call, Git};
use super::record::Folder;
use super::trouble::Trouble;
use super::workshop::Workshop;
use super::{Hands, blocking};

/// Files and links, as paths inside of a worktree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lent(BTreeSet<PathBuf>);

impl Lent {
    pub(super) fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(paths.into_iter().collect())
    }

    /// As it is written down: each path, and a zero byte.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|path| [path.as_os_str().as_bytes(), b"\0"].concat()).collect()
    }

    pub(super) fn read(bytes: &[u8]) -> Self {
        Self::of(names(bytes).map(|name| PathBuf::from(OsStr::from_bytes(name))))
    }

    /// What was brought along for a task.
    pub(super) async fn to(hands: &Hands, task: TaskId) -> Result<Self, Trouble> {
        let folder = Folder::of(&hands.home, task);
        let read = blocking(move || folder.lent()).await?;
        read.map_err(|failure| Trouble::Plain(format!("it cannot be known what was brought along for it: {failure}")))
    }

    /// The lines by which git leaves it alone.
    pub(super) fn patterns(&self) -> Vec<u8> {
        self.0.iter().flat_map(|path| pattern(path)).collect()
    }

    /// Takes it out of what is about to be committed, where the commit before does not have it: an agent's rules may
    /// have let it in again, and so may a repository that it made anew.
    pub(super) async fn leave_out(
        &self,
        git: &Git,
        cancel: &Cancel,
        shop: &Workshop,
        parent: Option<&str>,
    ) -> Result<(), Trouble> {
        if self.0.is_empty() {
            return Ok(());
        }
        let call = match parent {
            Some(parent) => {
                let call = shop.call("diff-index").args(["--cached", "--name-only", "--diff-filter=A", "--no-renames"]);
                call.args(["-z", "--ignore-submodules=none"]).names([parent])
            }
            None => shop.call("ls-files").args(["--cached", "-z"]),
        };
        let added = git.run(cancel, call.limit(BRING)).await?.out;
        let mut wrongly = Vec::new();
        for name in names(&added).filter(|name| self.has(name)) {
            wrongly.extend_from_slice(name);
            wrongly.push(0);
        }
        if !wrongly.is_empty() {
            let call = shop.call("update-index").args(["--force-remove", "-z", "--stdin"]).limit(BRING);
            git.run(cancel, call.input(wrongly)).await?;
        }
        Ok(())
    }

    /// What a person should know of a branch that bears it all the same: what `tip` has of it and `base` has not.
    /// The call is one of `diff-tree` where both are.
    pub(super) async fn borne(
        &self,
        git: &Git,
        cancel: &Cancel,
        call: Call,
        base: &str,
        tip: &str,
    ) -> Result<Option<String>, Trouble> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let call =
            call.args(["-r", "-z", "--name-only", "--diff-filter=A", "--no-renames", "--ignore-submodules=none"]);
        let added = git.run(cancel, call.limit(BRING).names([base, tip])).await?.out;
        let borne: Vec<&[u8]> = names(&added).filter(|name| self.has(name)).collect();
        let Some(first) = borne.first() else { return Ok(None) };
        let more = match borne.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let first = String::from_utf8_lossy(first);
        Ok(Some(format!("the branch bears what was brought along and is in no base: `{first}`{more}")))
    }

    fn has(&self, name: &[u8]) -> bool {
        self.0.contains(Path::new(OsStr::from_bytes(name)))
    }
}

/// Names, as git writes them between zero bytes.
fn names(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty())
}

/// The pattern that means this very path.
fn pattern(path: &Path) -> Vec<u8> {
    let mut pattern = b"/".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            // No pattern can hold one; this stands for any one character.
            b'\n' => pattern.push(b'?'),
            b'\\' | b'*' | b'?' | b'[' | b']' | b'!' | b'#' | b' ' => pattern.extend([b'\\', *byte]),
            _ => pattern.push(*byte),
        }
    }
    pattern.push(b'\n');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_one_path() {
        assert_eq!(pattern(Path::new("a b/[c]*!\n")), b"/a\\ b/\\[c\\]\\*\\!?\n");
    }

    #[test]
    fn what_is_written_down_is_read() {
        let lent = Lent::of(["a", "b/c\nd", ".env"].map(PathBuf::from));
        assert_eq!(Lent::read(&lent.bytes()), lent);
        assert_eq!(Lent::read(b""), Lent::default());
    }
}
