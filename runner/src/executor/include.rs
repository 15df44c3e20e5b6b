//! `.worktreeinclude`: files of the user's own checkout that git ignores there, and that a worktree needs all the same.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::cancel::Cancel;
use super::foreign::{self, SMALL};
use super::git::{Call, Git};
use super::trouble::Trouble;

/// The file at the root of the user's checkout, in the form of a `.gitignore`.
const FILE: &str = ".worktreeinclude";

/// More files than this are not brought, nor more bytes.
const FILES: usize = 10_000;
const BYTES: u64 = 1 << 30;

/// The paths to be brought from the checkout at `from` to the worktree at `to`, and what a person should know.
pub(super) async fn wanted(
    git: &Git,
    cancel: &Cancel,
    from: &Path,
    to: &Path,
) -> Result<(Vec<PathBuf>, Vec<String>), Trouble> {
    // Where no files of the user's lie, none are named.
    if !from.join(".git").exists() || std::fs::symlink_metadata(from.join(FILE)).is_err() {
        return Ok((Vec::new(), Vec::new()));
    }
    let text = match foreign::text(&from.join(FILE), SMALL) {
        Ok(text) => text,
        Err(why) => return Ok((Vec::new(), vec![format!("{FILE} is ignored: {why}")])),
    };
    if text.trim().is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    // What is not tracked and matches; then what of that git ignores.
    let list = Call::at(from, "ls-files").args(["-z", "--others", "--ignored"]);
    let named = git.run(cancel, list.arg(format!("--exclude-from={FILE}"))).await?.out;
    if named.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let ask = Call::at(from, "check-ignore").args(["-z", "--stdin"]).input(named).fine(&[0, 1]);
    let ignored = git.run(cancel, ask).await?.out;
    let paths = ignored.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    let paths: BTreeSet<PathBuf> = paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect();
    Ok(bounded(from, to, paths))
}

/// As many of them as there is room for. What the worktree has is the repository's and stays.
fn bounded(from: &Path, to: &Path, paths: BTreeSet<PathBuf>) -> (Vec<PathBuf>, Vec<String>) {
    let (mut chosen, mut bytes, mut left) = (Vec::new(), 0_u64, 0_usize);
    for path in paths {
        if std::fs::symlink_metadata(to.join(&path)).is_ok() {
            continue;
        }
        let size = std::fs::symlink_metadata(from.join(&path)).map_or(0, |data| data.len());
        if chosen.len() >= FILES || bytes.saturating_add(size) > BYTES {
            left = left.saturating_add(1);
            continue;
        }
        bytes = bytes.saturating_add(size);
        chosen.push(path);
    }
    let note = format!(
        "{left} of the files that {FILE} names were not brought along: more than {FILES}, or more than {} MiB together",
        BYTES >> 20
    );
    (chosen, if left > 0 { vec![note] } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_left_with_a_word() {
        let place = tempfile::tempdir().expect("a folder");
        let (from, to) = (place.path().join("from"), place.path().join("to"));
        std::fs::create_dir_all(&from).expect("room");
        std::fs::create_dir_all(&to).expect("room");
        let large = std::fs::File::create(from.join("large")).expect("room");
        large.set_len(BYTES + 1).expect("a hole");
        std::fs::write(from.join("small"), "x").expect("room");
        let (chosen, notes) = bounded(&from, &to, ["large", "small"].map(PathBuf::from).into());
        assert_eq!(chosen, [PathBuf::from("small")]);
        assert!(notes.first().is_some_and(|note| note.starts_with("1 of the files")), "{notes:?}");
    }
}
