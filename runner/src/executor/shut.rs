//! Files and folders that an agent left so that nobody may read them. They are its work like any other, so they are
//! opened for their owner before git looks.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{Access, access};

/// Opens what lies in a worktree for its owner. Returns what is somebody else's and stays shut.
pub(super) fn open_up(worktree: &Path) -> Vec<PathBuf> {
    let mut shut = Vec::new();
    let mut folders = vec![worktree.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if !open(&folder, 0o700) {
            shut.push(folder);
            continue;
        }
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && entry.file_name() != ".git" {
                folders.push(entry.path());
            } else if kind.is_file() && !open(&entry.path(), 0o400) {
                shut.push(entry.path());
            }
        }
    }
    shut
}

/// Adds these rights where the owner does not have them. Says whether it can be read then.
pub(super) fn open(path: &Path, rights: u32) -> bool {
    let Ok(data) = fs::symlink_metadata(path) else { return false };
    let mine = data.uid() == rustix::process::geteuid().as_raw();
    if mine && data.mode() & rights == rights {
        return true;
    }
    if mine && fs::set_permissions(path, Permissions::from_mode(data.mode() & 0o7777 | rights)).is_ok() {
        return true;
    }
    let wanted = if data.is_dir() { Access::READ_OK | Access::EXEC_OK } else { Access::READ_OK };
    access(path, wanted).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects work that an agent shut away, to any depth; and rights that git keeps.
    #[test]
    fn what_is_shut_is_opened_and_keeps_its_other_rights() {
        let worktree = tempfile::tempdir().expect("a folder");
        let inner = worktree.path().join("shut/inner");
        fs::create_dir_all(&inner).expect("folders");
        fs::write(inner.join("program"), "").expect("a file");
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
        set(&inner.join("program"), 0o111);
        set(&inner, 0o000);
        set(worktree.path().join("shut").as_path(), 0o311);
        assert_eq!(open_up(worktree.path()), Vec::<PathBuf>::new());
        let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
        assert_eq!(mode(&inner.join("program")), 0o511);
        assert_eq!(mode(&inner), 0o700);
        assert_eq!(mode(&worktree.path().join("shut")), 0o711);
    }
}
