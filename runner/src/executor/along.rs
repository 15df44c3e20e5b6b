//! Files that are brought along into a new worktree. Neither where they come from nor where they go to is left by any
//! link: both are gone through folder by folder, each opened for what it is.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, fchmod, fstat, mkdirat, openat, readlinkat, statat, symlinkat, unlinkat,
};

/// How deep folders are followed.
const DEPTH: usize = 128;

/// What was brought along.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// The files and links, as paths inside of the worktree.
    pub(super) paths: Vec<PathBuf>,
    /// What was not, and why. For people.
    pub(super) notes: Vec<String>,
}

/// From one worktree to another.
pub(super) struct Along<'a> {
    pub(super) from: &'a Path,
    pub(super) to: &'a Path,
    /// Nobody wants it any more.
    pub(super) stop: &'a AtomicBool,
}

impl Along<'_> {
    /// Brings a file, a link or a folder with all that is in it. Blocks.
    pub(super) fn bring(&self, path: &Path, brought: &mut Brought) {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
        let found = folder_in(self.from, folder);
        let source = match found
            .and_then(|source| statat(&source, name, AtFlags::SYMLINK_NOFOLLOW).map(|_| source).map_err(Into::into))
        {
            Ok(source) => source,
            Err(failure) => return brought.note(path, &reason(&failure)),
        };
        match self.way_to(folder) {
            Ok(target) => self.entry(&source, &target, name, path, DEPTH, brought),
            Err(failure) => brought.note(path, &reason(&failure)),
        }
    }

    /// Opens a folder of the worktree that is made. What is missing on the way is made as the other has it, but so that
    /// more can be brought into it.
    fn way_to(&self, folder: &Path) -> io::Result<OwnedFd> {
        let (mut from, mut to) = (root(self.from)?, root(self.to)?);
        for name in parts(folder) {
            let name = name?;
            from = enter(&from, name)?;
            let made = make(&to, name)?;
            if made.is_new {
                fchmod(&made.folder, mode(&from)? | Mode::RWXU)?;
            }
            to = made.folder;
        }
        Ok(to)
    }

    fn entry(&self, from: &OwnedFd, to: &OwnedFd, name: &OsStr, path: &Path, depth: usize, brought: &mut Brought) {
        if self.stop.load(Ordering::Acquire) || name == ".git" {
            return;
        }
        let copied = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from).and_then(|data| {
            match FileType::from_raw_mode(data.st_mode) {
                FileType::Directory if depth > 0 => {
                    self.folder(from, to, name, path, depth - 1, brought).map(|()| false)
                }
                FileType::RegularFile => file(from, to, name).map(|()| true),
                FileType::Symlink => link(from, to, name, path).map(|()| true),
                FileType::Directory => Err(io::Error::other("it lies too deep")),
                FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => Err(io::Error::other("it is no file, no folder and no link")),
            }
        });
        match copied {
            Ok(true) => brought.paths.push(path.to_path_buf()),
            Ok(false) => {}
            Err(failure) => brought.note(path, &reason(&failure)),
        }
    }

    fn folder(
        &self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &OsStr,
        path: &Path,
        depth: usize,
        brought: &mut Brought,
    ) -> io::Result<()> {
        let from = enter(from, name)?;
        let Made { folder: to, is_new } = make(to, name)?;
        let mut names: Vec<OsString> = Vec::new();
        for entry in Dir::read_from(&from)? {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        for name in names {
            self.entry(&from, &to, &name, &path.join(&name), depth, brought);
        }
        if is_new {
            // Last: it may be one that nothing can be put into.
            fchmod(&to, mode(&from)?)?;
        }
        Ok(())
    }
}

impl Brought {
    fn note(&mut self, path: &Path, why: &str) {
        self.notes.push(format!("`{}` was not brought along: {why}", path.display()));
    }
}

fn reason(failure: &io::Error) -> String {
    match failure.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::NOENT) => "it is not there".to_owned(),
        Some(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => "a link stands on the way to it".to_owned(),
        _ => failure.to_string(),
    }
}

/// Opens a folder inside of another, which no link may lead out of.
fn folder_in(root: &Path, folder: &Path) -> io::Result<OwnedFd> {
    parts(folder).try_fold(self::root(root)?, |at, name| enter(&at, name?))
}

fn root(folder: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, folder, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The names that lead to a folder inside.
fn parts(folder: &Path) -> impl Iterator<Item = io::Result<&OsStr>> {
    folder.components().filter_map(|part| match part {
        Component::Normal(name) if name != ".git" => Some(Ok(name)),
        Component::CurDir => None,
        Component::Normal(_) | Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
            Some(Err(io::Error::other("it does not lie inside")))
        }
    })
}

fn enter(at: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(openat(at, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// A folder, and whether it was not there.
struct Made {
    folder: OwnedFd,
    is_new: bool,
}

fn make(at: &OwnedFd, name: &OsStr) -> io::Result<Made> {
    let is_new = match mkdirat(at, name, Mode::RWXU) {
        Ok(()) => true,
        Err(rustix::io::Errno::EXIST) => false,
        Err(failure) => return Err(failure.into()),
    };
    Ok(Made { folder: enter(at, name)?, is_new })
}

/// What may be done with a folder, by whom.
fn mode(folder: &OwnedFd) -> io::Result<Mode> {
    Ok(Mode::from_raw_mode(fstat(folder)?.st_mode & 0o777))
}

/// In place of whatever file or link is there.
fn clear(to: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(to, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

fn file(from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut source = File::from(openat(from, name, flags, Mode::empty())?);
    let data = source.metadata()?;
    if !data.is_file() {
        return Err(io::Error::other("it is no file any more"));
    }
    clear(to, name)?;
    let mode = Mode::from_raw_mode(std::os::unix::fs::MetadataExt::mode(&data) & 0o777);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = openat(to, name, flags, Mode::from_raw_mode(0o600))?;
    let mut target = File::from(target);
    io::copy(&mut source, &mut target)?;
    fchmod(target.as_fd(), mode)?;
    Ok(())
}

/// A link is brought along as one, if it leads to somewhere inside.
fn link(from: &OwnedFd, to: &OwnedFd, name: &OsStr, path: &Path) -> io::Result<()> {
    let target = readlinkat(from, name, Vec::new())?;
    let target = Path::new(OsStr::from_bytes(target.to_bytes())).to_path_buf();
    if !stays_inside(path, &target) {
        return Err(io::Error::other("it is a link that leads out of the worktree"));
    }
    clear(to, name)?;
    Ok(symlinkat(&target, to, name)?)
}

fn stays_inside(link: &Path, target: &Path) -> bool {
    let mut depth = link.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::Normal(name) if name != ".git" => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::Normal(_) | Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_by_their_text_only() {
        let stays = |link: &str, target: &str| stays_inside(Path::new(link), Path::new(target));
        assert!(stays("a/b/link", "../../c"));
        assert!(stays("link", "a/./b"));
        assert!(!stays("a/link", "../../c"));
        assert!(!stays("a/link", "/etc"));
        assert!(!stays("link", "x/../../y"));
        assert!(!stays("link", ".git/config"));
    }
}
