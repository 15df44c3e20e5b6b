//! Folders that are written to on a server's word. Which may be is the core's rule (`Grounds`); what a name leads to is
//! found out here. A folder that was found is held open from then on, and used by that: whoever puts a link in its
//! place, or in the place of one that it lies in, changes nothing any more.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use makima_core::input::Outcome;
use makima_core::policy::{Grounds, Place};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, openat, statat};

use super::Hands;
use super::foreign::{self, SMALL};
use crate::roots;

/// Folders are opened to be used, and not to be read.
const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What git writes to in a repository's own folder. A link among these could lead anywhere.
const WRITTEN: &[&str] = &[
    "HEAD",
    "lfs",
    "objects",
    "objects/pack",
    "packed-refs",
    "refs",
    "refs/heads",
    "refs/heads/makima",
    "logs",
    "logs/refs",
    "logs/refs/heads",
    "logs/refs/heads/makima",
];

/// Why a folder is not there for us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// There is none. What is outside may be there or not: it is not looked for.
    Absent(String),
    /// It may not be written to, or cannot be used.
    Refused(String),
}

impl Denied {
    pub(super) fn into_words(self) -> String {
        match self {
            Self::Absent(why) | Self::Refused(why) => why,
        }
    }
}

/// A folder that may be written to, held open.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// Where it was when it was found.
    path: PathBuf,
    handle: Arc<OwnedFd>,
}

impl Held {
    /// Opens a folder by a path without links.
    #[cfg(test)]
    pub(super) fn open(path: PathBuf) -> Result<Self, String> {
        hold(path).map_err(Denied::into_words)
    }

    /// Where it was when it was found: for people, and for what is only read.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn handle(&self) -> &Arc<OwnedFd> {
        &self.handle
    }

    /// A folder inside, which no link leads to; made where it is missing and wanted.
    pub(super) fn enter(&self, name: &OsStr, make: bool) -> io::Result<Self> {
        if make {
            match mkdirat(&self.handle, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        let handle = openat(&self.handle, name, FOLDER, Mode::empty())?;
        Ok(Self { path: self.path.join(name), handle: Arc::new(handle) })
    }

    /// The folder itself, as a path for a process that is about to be started: wherever it has gone meanwhile. Where the
    /// system knows no such path, the one that it had, if that still leads to it.
    pub(super) fn door(&self) -> io::Result<PathBuf> {
        let door = PathBuf::from(format!("/proc/self/fd/{}", self.handle.as_raw_fd()));
        if same(&self.handle, &door)? {
            return Ok(door);
        }
        if same(&self.handle, &self.path)? {
            return Ok(self.path.clone());
        }
        Err(io::Error::other(format!("{} is another folder than it was a moment ago", self.path.display())))
    }
}

/// Whether a path leads to this folder.
fn same(folder: &OwnedFd, path: &Path) -> io::Result<bool> {
    let held = rustix::fs::fstat(folder)?;
    let there = rustix::fs::stat(path);
    Ok(there.is_ok_and(|there| (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)))
}

/// What a name leads to, as far as it is there.
#[derive(Debug)]
pub(super) struct Found {
    /// The part that is there: absolute, without links.
    there: PathBuf,
    /// What is not.
    rest: Vec<OsString>,
}

impl Found {
    /// The whole path.
    pub(super) fn path(&self) -> PathBuf {
        let mut path = self.there.clone();
        path.extend(&self.rest);
        path
    }

    /// Whether all of it is there.
    pub(super) fn is_there(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Where may be written to just now, and what names mean.
#[derive(Debug)]
pub(super) struct Reach {
    grounds: Grounds,
    user: Option<String>,
}

impl Reach {
    /// As the configuration and the user have it by now. Blocks.
    pub(super) fn of(hands: &Hands) -> Self {
        let root = hands.home.root();
        let bytes = |path: PathBuf| path.into_os_string().into_encoded_bytes();
        let real = |path: &PathBuf| path.canonicalize().ok();
        let allowed = hands.settings.allowed_roots.iter().filter_map(real).chain(roots::allowed(root));
        let clones = hands.home.clones();
        let grounds = Grounds {
            allowed: allowed.map(bytes).collect(),
            working: std::env::current_dir().ok().as_ref().and_then(real).map(bytes),
            own: bytes(root.to_path_buf()),
            advertised: bytes(real(&clones).unwrap_or(clones)),
        };
        Self { grounds, user: hands.settings.variable("HOME").map(str::to_owned) }
    }

    /// What a server's name for a folder leads to. Blocks.
    pub(super) fn find(&self, name: &str) -> Result<Found, Denied> {
        let place = Place::read(name, self.user.as_deref()).map_err(|why| Denied::Refused(why.to_string()))?;
        self.follow(Path::new(place.as_str()), name)
    }

    fn follow(&self, path: &Path, shown: &str) -> Result<Found, Denied> {
        let (mut path, mut rest) = (path.to_path_buf(), Vec::new());
        let there = loop {
            match path.canonicalize() {
                Ok(there) => break there,
                Err(failure) if failure.kind() == io::ErrorKind::NotFound => {}
                Err(failure) => return Err(Denied::Refused(format!("`{shown}` cannot be looked at: {failure}"))),
            }
            // Behind what is not there, `..` leads nowhere.
            let Some(Component::Normal(name)) = path.components().next_back() else {
                return Err(Denied::Absent(format!("`{shown}` does not exist")));
            };
            rest.push(name.to_owned());
            path.pop();
        };
        rest.reverse();
        let found = Found { there, rest };
        if found.there.as_os_str().as_bytes().contains(&b'\n') {
            // Git has lists of paths that cannot hold it.
            return Err(Denied::Refused(format!("`{shown}` leads to a folder with a line break in its path")));
        }
        if self.grounds.cover(found.path().as_os_str().as_bytes()) {
            Ok(found)
        } else if found.is_there() {
            Err(Denied::Refused(outside(&found.path())))
        } else {
            Err(Denied::Absent(format!("`{shown}` does not exist")))
        }
    }

    /// Whether something is at a path that may be touched. What lies outside is not there, and why it is not is the
    /// same whether it is or not. Blocks.
    pub(super) fn look(&self, name: &str) -> Outcome {
        let as_named = |refused| Outcome::Looked { path: name.to_owned(), exists: false, refused: Some(refused) };
        let place = match Place::read(name, self.user.as_deref()) {
            Ok(place) => place,
            Err(why) => return as_named(why.to_string()),
        };
        match self.follow(Path::new(place.as_str()), name) {
            Ok(found) => {
                let path = found.path().display().to_string();
                Outcome::Looked { path, exists: found.is_there(), refused: None }
            }
            Err(Denied::Absent(_) | Denied::Refused(_)) => as_named(outside(Path::new(place.as_str()))),
        }
    }

    /// Opens a folder that a server names. Blocks.
    pub(super) fn open(&self, name: &str) -> Result<Held, Denied> {
        let found = self.find(name)?;
        if !found.is_there() {
            return Err(Denied::Absent(format!("`{name}` does not exist")));
        }
        hold(found.there)
    }

    /// Opens the part of a path that is there; what is left of it lies in that. Blocks.
    pub(super) fn open_start(&self, name: &str) -> Result<(Held, Vec<OsString>), Denied> {
        let Found { there, rest } = self.find(name)?;
        Ok((hold(there)?, rest))
    }

    /// Opens a folder whose path a repository names. Blocks.
    pub(super) fn open_at(&self, path: &Path) -> Result<Held, Denied> {
        let found = self.follow(path, &path.display().to_string())?;
        if !found.is_there() {
            return Err(Denied::Absent(format!("{} does not exist", path.display())));
        }
        hold(found.there)
    }

    /// Opens the folder of the repository itself, which its worktrees share, and sees that what git writes to lies in
    /// it, or where may be written to: these other folders come behind it. Blocks.
    pub(super) fn open_repository(&self, place: &Held) -> Result<(Held, Vec<Held>), Denied> {
        let common = self.repository_of(place)?;
        let mut parts = Vec::new();
        for name in WRITTEN {
            let data = statat(&common.handle, *name, AtFlags::SYMLINK_NOFOLLOW);
            if data.is_ok_and(|data| FileType::from_raw_mode(data.st_mode) == FileType::Symlink) {
                let path = common.path.join(name);
                let found = self.follow(&path, &path.display().to_string())?;
                // A file is written by putting another in its place.
                let folder = if found.there.is_dir() { Some(found.there.as_path()) } else { found.there.parent() };
                parts.push(self.open_at(folder.unwrap_or(Path::new("/")))?);
            }
        }
        Ok((common, parts))
    }

    fn repository_of(&self, place: &Held) -> Result<Held, Denied> {
        let git = place.path.join(".git");
        let no_repository = || Denied::Refused(format!("`{}` is not a git repository", place.path.display()));
        let kind =
            statat(&place.handle, ".git", AtFlags::SYMLINK_NOFOLLOW).map(|data| FileType::from_raw_mode(data.st_mode));
        let held = match kind {
            Ok(FileType::Directory) => {
                let handle = openat(&place.handle, ".git", FOLDER, Mode::empty());
                let handle = handle.map_err(|failure| cannot(&git, &failure.into()))?;
                Held { path: git, handle: Arc::new(handle) }
            }
            Ok(FileType::Symlink) => self.open_at(&git)?,
            Ok(FileType::RegularFile) => {
                let text = foreign::text(&git, SMALL).map_err(|failure| cannot(&git, &failure))?;
                let to = text.strip_prefix("gitdir:").map(str::trim).ok_or_else(no_repository)?;
                self.open_at(&place.path.join(to))?
            }
            Ok(_) => return Err(no_repository()),
            // A bare one.
            Err(_) => place.clone(),
        };
        let held = match foreign::text(&held.path.join("commondir"), SMALL) {
            Ok(text) => self.open_at(&held.path.join(text.trim()))?,
            Err(_) => held,
        };
        let parts = ["HEAD", "objects", "refs"];
        let is_whole = parts.iter().all(|part| statat(&held.handle, *part, AtFlags::SYMLINK_NOFOLLOW).is_ok());
        if is_whole { Ok(held) } else { Err(no_repository()) }
    }
}

/// Why what lies there is not touched.
fn outside(path: &Path) -> String {
    format!(
        "{} lies in no folder that may be written to on a server's word; name one that it lies in under `allowed_roots` \
         in config.toml",
        path.display()
    )
}

fn cannot(path: &Path, failure: &io::Error) -> Denied {
    Denied::Refused(format!("{} cannot be opened: {failure}", path.display()))
}

/// Opens a folder by a path without links. If there is one by now, it is refused.
fn hold(path: PathBuf) -> Result<Held, Denied> {
    match open_beneath(&path) {
        Ok(handle) => Ok(Held { path, handle: Arc::new(handle) }),
        Err(failure) if failure.kind() == io::ErrorKind::NotADirectory => {
            Err(Denied::Refused(format!("`{}` is no folder", path.display())))
        }
        Err(failure) => Err(cannot(&path, &failure)),
    }
}

#[cfg(target_os = "linux")]
fn open_beneath(path: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{ResolveFlags, openat2};
    use rustix::io::Errno;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(CWD, path, FOLDER, Mode::empty(), resolve) {
        // An old kernel, or one that is told not to answer.
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => walk(path),
        opened => Ok(opened?),
    }
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(path: &Path) -> io::Result<OwnedFd> {
    walk(path)
}

/// The same, folder by folder: each is opened for what it is.
fn walk(path: &Path) -> io::Result<OwnedFd> {
    let mut folder = openat(CWD, "/", FOLDER, Mode::empty())?;
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => folder = openat(folder.as_fd(), name, FOLDER, Mode::empty())?,
            Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(folder)
}

/// The names in a folder that is held.
pub(super) fn names(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use fs_err as fs;

    use super::*;

    /// Protects machines whose kernel has no `openat2`: both ways refuse a link wherever it stands.
    #[test]
    fn a_link_on_the_way_is_not_followed_by_either_way() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/inner")).unwrap();
        symlink(root.join("real"), root.join("link")).unwrap();
        symlink(root.join("real/inner"), root.join("real/last")).unwrap();
        symlink("link", root.join("twice")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        for open in [open_beneath, walk] {
            assert!(open(&root.join("real/inner")).is_ok());
            for bad in ["link/inner", "real/last", "twice/inner", "link", "file", "absent"] {
                assert!(open(&root.join(bad)).is_err(), "{bad}");
            }
        }
        assert!(walk(&root.join("real/..")).is_err());
    }

    /// Protects what is done in a folder after somebody has put another in its place.
    #[test]
    fn the_door_leads_to_the_folder_that_was_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join("a")).unwrap();
        fs::create_dir(root.join("b")).unwrap();
        let held = hold(root.join("a")).unwrap();
        fs::rename(root.join("a"), root.join("gone")).unwrap();
        symlink(root.join("b"), root.join("a")).unwrap();
        let door = held.door();
        if Path::new("/proc/self/fd").exists() {
            fs::write(door.unwrap().join("canary"), "").unwrap();
            assert!(root.join("gone/canary").exists());
        } else {
            assert!(door.is_err());
        }
        assert!(!root.join("b/canary").exists());
    }
}
