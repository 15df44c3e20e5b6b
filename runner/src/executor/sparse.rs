//! The index of a commit's files, where the agent's own cannot be had. What a sparse checkout leaves out is absent on
//! purpose: it is told to be, else all of it would be taken for deleted.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::cancel::Cancel;
use super::foreign::{self, SMALL};
use super::git::{BRING, Call, Git};
use super::record::Folder;
use super::trouble::Trouble;
use super::workshop::Workshop;
use super::{Hands, blocking};

/// What was wanted of the repository when the worktree was made, in the task's folder: an agent may do away with the
/// list in its own.
pub(super) const RULES: &str = "sparse";

/// Makes the index of `commit`, or an empty one, for the files of the task of `folder`, whose worktree `shop` is on.
pub(super) async fn index_of(
    hands: &Hands,
    cancel: &Cancel,
    shop: &Workshop,
    commit: Option<&str>,
    folder: &Folder,
) -> Result<(), Trouble> {
    let git = &hands.git;
    let Some(commit) = commit else {
        git.run(cancel, shop.call("read-tree").arg("--empty")).await?;
        return Ok(());
    };
    git.run(cancel, shop.call("read-tree").names([commit])).await?;
    let lists = [folder.file(RULES), shop.worktree().join(".git/info/sparse-checkout")];
    for (n, list) in lists.into_iter().enumerate() {
        let rules = shop.git.join(format!("info/rules-{n}"));
        let copied = {
            let rules = rules.clone();
            blocking(move || foreign::read(&list, SMALL).and_then(|text| fs::write(rules, text))).await?
        };
        // There is none, or none that can be read.
        if copied.is_ok() {
            leave_out(git, cancel, |verb| shop.call(verb), shop.worktree(), rules).await?;
        }
    }
    Ok(())
}

/// Tells the index, which `call` asks, of what these rules leave out and is not there that it is not meant to be.
pub(super) async fn leave_out(
    git: &Git,
    cancel: &Cancel,
    call: impl Fn(&str) -> Call,
    worktree: &Path,
    rules: PathBuf,
) -> Result<(), Trouble> {
    let all = git.run(cancel, call("ls-files").args(["--cached", "-z"])).await?.out;
    let asked = call("sparse-checkout").args(["check-rules", "-z", "--no-cone", "--rules-file"]).limit(BRING);
    let inside = git.run(cancel, asked.arg(rules).input(all.clone())).await?.out;
    let worktree = worktree.to_path_buf();
    let absent = blocking(move || {
        let inside: BTreeSet<&[u8]> = inside.split(|byte| *byte == 0).collect();
        let outside = all.split(|byte| *byte == 0).filter(|path| !inside.contains(path));
        let absent = outside.filter(|path| fs::symlink_metadata(worktree.join(OsStr::from_bytes(path))).is_err());
        absent.flat_map(|path| [path, b"\0"].concat()).collect::<Vec<u8>>()
    })
    .await?;
    if !absent.is_empty() {
        let told = call("update-index").args(["--skip-worktree", "-z", "--stdin"]);
        git.run(cancel, told.input(absent)).await?;
    }
    Ok(())
}
