//! Folders by name, and where the names lead.

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use fs_err as fs;

/// Where package managers keep what they have brought, so that not every task brings it anew. Not where they keep
/// settings or programs: what is written there is run by people.
pub(crate) const CACHES: &[&str] = &[
    "~/.cache",
    "~/.bun/install/cache",
    "~/.bundle/cache",
    "~/.cargo/git",
    "~/.cargo/registry",
    "~/.cargo/.package-cache",
    "~/.cargo/.package-cache-mutate",
    "~/.composer/cache",
    "~/.gradle/caches",
    "~/.gradle/daemon",
    "~/.gradle/native",
    "~/.gradle/wrapper",
    "~/.ivy2/cache",
    "~/.local/share/pnpm/store",
    "~/.m2/repository",
    "~/.npm",
    "~/.nuget/packages",
    "~/.pnpm-store",
    "~/.pub-cache/hosted",
    "~/.yarn/berry/cache",
    "~/go/pkg",
];

/// Devices to write to that can do nobody harm, and shared memory.
pub(super) const DEVICES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/shm",
];

/// Devices through which everything can be read. Disks are among those that are told by their kind.
pub(super) const OPEN_HEARTS: &[&str] = &["mem", "kmem", "port", "kcore"];

/// With the user's home folder for `~`.
pub(crate) fn in_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(below), Some(home)) => Path::new(&home).join(below),
        (Ok(_) | Err(_), _) => path.to_path_buf(),
    }
}

/// A place that is named as one to write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) path: PathBuf,
    /// Whether it is a folder that is made where it is not there: inside it could not be.
    pub(super) is_made: bool,
}

/// Where these lead. What lies in one of them agents can have put there, so no link in there is followed: one task would open
/// the fence of the next by it. What is not there is left out. Blocks.
pub(super) fn real(named: &[Named]) -> Vec<PathBuf> {
    let is_in_another = |it: &Named| named.iter().any(|other| other.path != it.path && is_below(&it.path, &other.path));
    let tops = named.iter().filter(|it| !is_in_another(it));
    let theirs: Vec<PathBuf> = tops.filter_map(|it| it.path.canonicalize().ok()).collect();
    named.iter().filter_map(|it| follow(it, &theirs)).collect()
}

/// Whether one lies in the other by its name alone.
fn is_below(path: &Path, folder: &Path) -> bool {
    let below = path.strip_prefix(folder).ok();
    below.is_some_and(|below| below.components().all(|part| matches!(part, Component::Normal(_))))
}

/// More links than anybody has behind one another.
const LINKS: usize = 40;

/// Where a path leads; none for one that goes by a link in one of these folders, or begins nowhere.
fn follow(named: &Named, theirs: &[PathBuf]) -> Option<PathBuf> {
    if !named.path.is_absolute() {
        return None;
    }
    let mut left = parts(&named.path);
    let mut at = PathBuf::from("/");
    let mut links = 0_usize;
    while let Some(part) = left.pop() {
        if part == "/" {
            at = PathBuf::from("/");
        } else if part == ".." {
            at.pop();
        } else {
            let next = at.join(part);
            match fs::symlink_metadata(&next) {
                Ok(data) if data.is_symlink() => {
                    links = links.saturating_add(1);
                    if links > LINKS || theirs.iter().any(|folder| at.starts_with(folder)) {
                        return None;
                    }
                    left.extend(parts(&fs::read_link(&next).ok()?));
                    continue;
                }
                Ok(_) => {}
                // Where it cannot be, it is the agent that says so.
                Err(failure) if failure.kind() == io::ErrorKind::NotFound && named.is_made => {
                    fs::create_dir(&next).ok()?;
                }
                Err(_) => return None,
            }
            at = next;
        }
    }
    Some(at)
}

/// The parts of a path, the last first.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.map(|part| part.as_os_str().to_owned()).rev().collect()
}

/// Where something is or, while it is not there, would be: the nearest folder above it that is, and from there by its name.
/// Blocks.
pub(super) fn to_be(path: &Path) -> PathBuf {
    let is_there = |above: &Path| Some(above.canonicalize().ok()?.join(path.strip_prefix(above).ok()?));
    // With nothing behind it a folder would end as if it were in there.
    let whole = path.canonicalize().ok();
    whole.or_else(|| path.ancestors().skip(1).find_map(is_there)).unwrap_or_else(|| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn named(path: PathBuf) -> Named {
        Named { path, is_made: false }
    }

    /// Protects a user's own links from not being followed, and everything else from those of an agent.
    #[test]
    fn links_are_followed_but_where_agents_can_lay_them() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        for name in ["dotfiles/agent/sub", "home", "secret"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("dotfiles/agent.json"), "").unwrap();
        symlink("../dotfiles/agent", root.join("home/.agent")).unwrap();
        symlink(root.join("dotfiles/./agent.json"), root.join("home/.agent.json")).unwrap();
        symlink(root.join("secret"), root.join("dotfiles/agent/laid")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let real = |names: &[&str]| -> Vec<PathBuf> {
            let named: Vec<Named> = names.iter().map(|name| named(root.join(name))).collect();
            real(&named).iter().map(|path| path.strip_prefix(&root).unwrap().to_path_buf()).collect()
        };
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(real(&["home/.agent", "home/.agent.json"]), paths(&["dotfiles/agent", "dotfiles/agent.json"]));
        assert_eq!(real(&["home/.agent/laid"]), paths(&["secret"]), "it may be the user's");
        assert_eq!(real(&["home/.agent", "home/.agent/laid"]), paths(&["dotfiles/agent"]));
        assert_eq!(real(&["home/.agent", "dotfiles/agent/laid"]), paths(&["dotfiles/agent"]), "by another name");
        assert_eq!(real(&["home/.agent/laid/../../dotfiles/agent/sub", "home/.agent"]), paths(&["dotfiles/agent"]));
        assert_eq!(real(&["home/.agent/sub", "home/.agent"]), paths(&["dotfiles/agent/sub", "dotfiles/agent"]));
        assert_eq!(real(&["loop", "absent", "home/.agent.json/x"]), paths(&[]));
    }

    #[test]
    fn folders_are_made_where_they_are_to_be() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let made = Named { path: root.join("a/b"), is_made: true };
        assert_eq!(real(&[made, named(root.join("c"))]), [root.join("a/b")]);
        assert!(root.join("a/b").is_dir() && !root.join("c").exists());
    }

    #[test]
    fn what_is_not_there_has_a_place_all_the_same() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        fs::write(root.join("file"), "").unwrap();
        symlink(&root, root.join("way")).unwrap();
        for (name, at) in [("way/file", "file"), ("way/a/b", "a/b"), ("way", ""), ("c", "c")] {
            let to_be = to_be(&root.join(name));
            assert_eq!(to_be.as_os_str(), root.join(at).as_os_str().to_str().unwrap().trim_end_matches('/'), "{name}");
        }
    }
}
