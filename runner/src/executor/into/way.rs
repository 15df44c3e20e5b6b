//! What lies where a checkout is to follow its branch to, and is in no commit. Git asks nobody about files that it was told
//! to ignore: it writes over them, and removes whole folders of them. Nobody has another copy.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat, statat};
use rustix::io::Errno;

use super::super::reach::{Held, names};
use super::change::{Change, Kind};

/// How many are looked for: who is told of them wants some.
const MOST: usize = 100;
/// How deep folders are looked into.
const DEPTH: usize = 64;

/// What is at a path.
pub(super) enum There {
    Nothing,
    /// Something, in this folder and by this name.
    Something(Held, OsString, Stat),
    /// So much of the path leads to what is no folder.
    Blocked(OsString),
}

/// Looks at a path inside of a folder, through no link.
pub(super) fn look(folder: &Held, path: &OsStr) -> io::Result<There> {
    let mut above = folder.clone();
    let names: Vec<&[u8]> = path.as_bytes().split(|byte| *byte == b'/').collect();
    let Some((name, folders)) = names.split_last() else { return Ok(There::Nothing) };
    for (count, name) in (1..).zip(folders) {
        above = match above.enter(OsStr::from_bytes(name), false) {
            Ok(inner) => inner,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(There::Nothing),
            Err(why) if [Errno::NOTDIR, Errno::LOOP].iter().any(|no| why.raw_os_error() == Some(no.raw_os_error())) => {
                let start: Vec<&[u8]> = names.iter().take(count).copied().collect();
                return Ok(There::Blocked(OsStr::from_bytes(&start.join(&b'/')).to_owned()));
            }
            Err(why) => return Err(why),
        };
    }
    let name = OsStr::from_bytes(name).to_owned();
    match statat(above.handle(), &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(There::Something(above, name, found)),
        Err(Errno::NOENT) => Ok(There::Nothing),
        Err(why) => Err(why.into()),
    }
}

impl There {
    /// What kind of thing it is, if it is there.
    pub(super) fn kind(&self) -> Option<FileType> {
        match self {
            Self::Something(_, _, found) => Some(FileType::from_raw_mode(found.st_mode)),
            Self::Nothing | Self::Blocked(_) => None,
        }
    }
}

/// Files that would be lost where a clean checkout goes this way. Blocks.
pub(super) fn in_the_way(folder: &Held, changes: &[Change]) -> io::Result<BTreeSet<OsString>> {
    let known = changes.iter().filter(|change| change.old.is_some()).map(|change| change.path.as_os_str()).collect();
    let way = Way { folder, known };
    let mut found = BTreeSet::new();
    for change in changes {
        // What git knows there is as it is in the commit, but for submodules, of which it does not look at the inside.
        let is_file = change.old.as_ref().is_some_and(|old| old.kind != Kind::Module);
        if let Some(new) = change.new.as_ref().filter(|_| !is_file) {
            way.look(&change.path, new.kind, &mut found)?;
        }
        if found.len() >= MOST {
            break;
        }
    }
    Ok(found)
}

struct Way<'a> {
    folder: &'a Held,
    known: BTreeSet<&'a OsStr>,
}

impl Way<'_> {
    fn look(&self, path: &OsStr, becomes: Kind, found: &mut BTreeSet<OsString>) -> io::Result<()> {
        match look(self.folder, path)? {
            There::Nothing => {}
            There::Blocked(start) => {
                if !self.is_known(&start)? {
                    found.insert(start);
                }
            }
            There::Something(above, name, stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                if becomes != Kind::Module {
                    self.look_inside(&above, &name, path, DEPTH, found);
                }
            }
            There::Something(..) => {
                if !self.is_known(path)? {
                    found.insert(path.to_owned());
                }
            }
        }
        Ok(())
    }

    /// Everything that git does not know in a folder. One that cannot be looked into is that itself.
    fn look_inside(&self, above: &Held, name: &OsStr, path: &OsStr, depth: usize, found: &mut BTreeSet<OsString>) {
        let inner = above.enter(name, false).and_then(|inner| Ok((names(inner.handle())?, inner)));
        let (Ok((names, inner)), 1..) = (inner, depth) else {
            found.insert(path.to_owned());
            return;
        };
        for name in names {
            if found.len() >= MOST {
                return;
            }
            let path = Path::new(path).join(&name).into_os_string();
            let stat = statat(inner.handle(), &name, AtFlags::SYMLINK_NOFOLLOW);
            if stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
                self.look_inside(&inner, &name, &path, depth.saturating_sub(1), found);
            } else if !self.known.contains(path.as_os_str()) {
                found.insert(path);
            }
        }
    }

    /// Whether git has what is there in the commit that goes: by this name, or by another that leads to the same file
    /// where the file system does not tell them apart.
    fn is_known(&self, path: &OsStr) -> io::Result<bool> {
        if self.known.contains(path) {
            return Ok(true);
        }
        let There::Something(_, _, here) = look(self.folder, path)? else { return Ok(false) };
        for known in &self.known {
            if known.eq_ignore_ascii_case(path)
                && let There::Something(_, _, there) = look(self.folder, known)?
                && (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
