//! Pipes and devices that an agent left in the place of files that git reads in a worktree by their names: git
//! would wait for them for ever.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::foreign::{self, SMALL, holds_up};
use crate::home::Home;

/// What git opens in any folder.
const READ: &[&str] = &[".gitignore", ".gitattributes", ".gitmodules", ".mailmap"];
/// What git opens of a repository inside to see whether it is one.
const LOOKED_AT: &[&str] = &["HEAD", "commondir"];

/// Finds them in a worktree. What cannot be listed, git cannot list either.
pub(super) fn find(worktree: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![worktree.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (name, Ok(kind)) = (entry.file_name(), entry.file_type()) else { continue };
            if name == ".git" {
                // Of the worktree's own, git sees nothing.
                if folder != worktree {
                    found.extend(in_repository(&entry.path()));
                }
            } else if kind.is_dir() {
                folders.push(entry.path());
            } else if holds_up(kind) && READ.iter().any(|read| name == *read) {
                found.push(entry.path());
            }
        }
    }
    found
}

/// The same for a `.git` inside: what is in its way if it is a folder, else itself if it leads to such a one.
fn in_repository(git: &Path) -> Vec<PathBuf> {
    let in_the_way = |folder: &Path| -> Vec<PathBuf> {
        let files = LOOKED_AT.iter().map(|name| folder.join(name));
        files.filter(|file| fs::metadata(file).is_ok_and(|data| holds_up(data.file_type()))).collect()
    };
    if fs::symlink_metadata(git).is_ok_and(|data| data.is_dir()) {
        return in_the_way(git);
    }
    let leads_astray = repository_of(git).is_some_and(|folder| !in_the_way(&folder).is_empty());
    leads_astray.then(|| git.to_path_buf()).into_iter().collect()
}

/// Puts one aside, also out of a folder that nothing may be taken from.
pub(super) fn put_aside(home: &Home, path: &Path) -> io::Result<()> {
    let refused = match home.put_aside(path) {
        Err(failure) if failure.kind() == io::ErrorKind::PermissionDenied => failure,
        other => return other.map(|_| ()),
    };
    let Some(folder) = path.parent() else { return Err(refused) };
    let rights = fs::metadata(folder)?.permissions();
    fs::set_permissions(folder, Permissions::from_mode(rights.mode() | 0o700))?;
    let aside = home.put_aside(path);
    fs::set_permissions(folder, rights)?;
    aside.map(|_| ())
}

/// The repository that a `.git` stands for: itself, or what it leads to.
pub(super) fn repository_of(git: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(git).ok()?;
    if real.is_dir() {
        return Some(real);
    }
    let text = foreign::text(&real, SMALL).ok()?;
    let path = text.strip_prefix("gitdir:")?.trim_start_matches(' ').trim_end_matches(['\n', '\r']);
    // One that is relative is so to where it is looked for.
    Some(git.parent()?.join(path))
}
