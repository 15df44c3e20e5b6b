//! Having a checkout of the user's follow its branch: with all of its files, or with none.
//!
//! Git writes files as it goes, and where it cannot go on it leaves them so. Here what it has written is taken away again,
//! and what it has taken away is written again, for which room was set aside before anything was touched.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, readlinkat, statat, unlinkat};

use super::super::cancel::Cancel;
use super::super::git::{BRING, Call};
use super::super::reach::Held;
use super::super::record::Following;
use super::super::trouble::Trouble;
use super::super::{blocking, refs};
use super::Job;

/// What is written beside the files: a reference, an index, what lies in folders.
const BESIDE: u64 = 1 << 20;

/// Room on the disk that nobody else can take, in a file without a name: it is free again when this is let go, whatever
/// becomes of us. None where the file system cannot do that.
#[derive(Debug, Default)]
pub(super) struct Room(Option<OwnedFd>);

impl Room {
    /// As much as this in the file system of a folder. Blocks.
    #[cfg(target_os = "linux")]
    fn take(folder: &Held, bytes: u64) -> io::Result<Self> {
        use rustix::fs::{FallocateFlags, fallocate};
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let Ok(file) = openat(folder.handle(), ".", flags, Mode::from_raw_mode(0o600)) else {
            return Ok(Self::default());
        };
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(Self(Some(file))),
            Err(why @ (rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT)) => Err(why.into()),
            Err(_) => Ok(Self::default()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn take(_: &Held, _: u64) -> io::Result<Self> {
        Ok(Self::default())
    }

    /// Gives back all but so much of it. Blocks.
    fn keep(&self, bytes: u64) {
        if let Some(file) = &self.0 {
            // What is not given back is only missing to what is about to be written, which says so.
            let _ = rustix::fs::ftruncate(file, bytes);
        }
    }
}

/// What is different between two commits at one path.
struct Change {
    path: OsString,
    /// What it was, and what it becomes, where those are files or links.
    old: Option<String>,
    new: Option<String>,
}

impl Job<'_> {
    /// Sets room aside for the files of `to`, of which that for the files of `from` is kept.
    pub(super) async fn reserve(&self, folder: &Held, from: &str, to: &str) -> Result<Room, Trouble> {
        let changes = self.changes(folder, from, to).await?;
        let oids = |pick: fn(&Change) -> Option<&String>| -> String {
            changes.iter().filter_map(pick).map(|oid| format!("{oid}\n")).collect()
        };
        let (old, new) = (oids(|change| change.old.as_ref()), oids(|change| change.new.as_ref()));
        let (back, forth) = (self.size(folder, old).await? + BESIDE, self.size(folder, new).await? + BESIDE);
        let held = folder.clone();
        let taken = blocking(move || {
            let room = Room::take(&held, back + forth)?;
            room.keep(back);
            Ok::<_, io::Error>(room)
        });
        taken.await?.map_err(|why| {
            let (place, mib) = (folder.path().display(), (back + forth).div_ceil(1 << 20));
            Trouble::Plain(format!("nothing was done: the files of {place} cannot follow without {mib} MiB: {why}"))
        })
    }

    /// Has a clean checkout follow its branch, or the branch go back. Also one that an earlier life of the daemon has
    /// left behind.
    pub(super) async fn follow(&self, room: Room) -> Result<(), Trouble> {
        let following = self.folder.following().map_err(|why| why.to_string())?;
        let Some(following) = following else { return Ok(()) };
        let there = following.folder.clone();
        let folder = match blocking(move || there.is_dir().then_some(there)).await? {
            Some(folder) => self.hold(&folder).await?,
            None => return Ok(self.folder.followed()?),
        };
        if self.at(&folder, &following.branch).await?.as_ref() != Some(&following.to) {
            return Ok(self.folder.followed()?);
        }
        let call = self.files(&folder, "read-tree").args(["-m", "-u"]).names([&following.from, &following.to]);
        // From here on nothing calls it off: half of it is worse than late.
        let Err(why) = self.hands.git.run(&Cancel::default(), call).await else {
            return Ok(self.folder.followed()?);
        };
        drop(room);
        let place = folder.path().display();
        Err(Trouble::Plain(match self.put_back(&folder, &following).await {
            Ok(()) => {
                self.folder.followed()?;
                format!("the files in {place} could not follow, and were put back: {why}")
            }
            Err(also) => format!(
                "the files in {place} could not follow: {why}; nor could all be put back, which is tried again the next time: {}",
                also.into_words()
            ),
        }))
    }

    /// A call of git that writes files of the user's, as the user's own git would.
    fn files(&self, folder: &Held, verb: &str) -> Call {
        self.fence(Call::held(folder, verb).env("GIT_LFS_SKIP_SMUDGE", "0").limit(BRING), Some(folder))
    }

    /// Takes away what git has written, writes what it has taken away, and puts the branch where it was. Anything else
    /// in the folder is the user's.
    async fn put_back(&self, folder: &Held, following: &Following) -> Result<(), Trouble> {
        let Following { branch, from, to, .. } = following;
        let never = Cancel::default();
        let changes = self.changes(folder, from, to).await?;
        for Change { path, new, .. } in &changes {
            let Some(new) = new else { continue };
            if look(folder, path).await?.is_none() {
                continue;
            }
            let call = self.files(folder, "cat-file").arg("--filters").arg(name("--path=", path)).names([new]);
            let becomes = self.hands.git.run(&never, call).await?.out;
            let (folder, path) = (folder.clone(), path.clone());
            blocking(move || take_away(&folder, &path, &becomes)).await??;
        }
        let mut gone = Vec::new();
        for Change { path, old, .. } in &changes {
            if old.is_some() && look(folder, path).await?.is_none() {
                gone.extend_from_slice(path.as_bytes());
                gone.push(0);
            }
        }
        self.hands.git.run(&never, self.files(folder, "checkout-index").args(["-z", "--stdin"]).input(gone)).await?;
        let back = Call::held(folder, "update-ref").args(["-m", "makima: merge taken back"]);
        self.hands.git.run(&never, self.fence(back, None).names([branch, from, to])).await?;
        Ok(())
    }

    async fn changes(&self, folder: &Held, from: &str, to: &str) -> Result<Vec<Change>, Trouble> {
        let call = Call::held(folder, "diff-tree").args(["-r", "-z", "--raw", "--no-abbrev", "--no-renames"]);
        let said = self.hands.git.run(&Cancel::default(), call.limit(BRING).names([from, to])).await?.out;
        let mut fields = said.split(|byte| *byte == 0);
        let mut changes = Vec::new();
        while let (Some(words), Some(path)) = (fields.next(), fields.next()) {
            let words = String::from_utf8_lossy(words);
            let mut words = words.trim_start_matches(':').split(' ');
            let mut next = || words.next().unwrap_or_default().to_owned();
            let (modes, oids) = ([next(), next()], [next(), next()]);
            // A submodule is a commit of another repository, which is left alone.
            let [old, new] = [(&modes[0], &oids[0]), (&modes[1], &oids[1])].map(|(mode, oid)| {
                Some(oid.clone()).filter(|oid| mode.starts_with("10") | mode.starts_with("12") && refs::is_oid(oid))
            });
            changes.push(Change { path: OsStr::from_bytes(path).to_owned(), old, new });
        }
        Ok(changes)
    }

    /// How many bytes these objects have together.
    async fn size(&self, folder: &Held, oids: String) -> Result<u64, Trouble> {
        if oids.is_empty() {
            return Ok(0);
        }
        let call = Call::held(folder, "cat-file").arg("--batch-check=%(objectsize)").input(oids).limit(BRING);
        let said = self.run(call).await?;
        Ok(String::from_utf8_lossy(&said).lines().filter_map(|line| line.parse::<u64>().ok()).sum())
    }
}

fn name(before: &str, path: &OsStr) -> OsString {
    let mut name = OsString::from(before);
    name.push(path);
    name
}

/// What kind of thing is at a path, if anything is.
async fn look(folder: &Held, path: &OsStr) -> Result<Option<FileType>, Trouble> {
    let (folder, path) = (folder.clone(), path.to_owned());
    let look = move || {
        let Some((above, name)) = above(&folder, &path)? else { return Ok(None) };
        Ok(kind(&above, &name))
    };
    Ok(blocking(look).await?.map_err(|why: io::Error| why)?)
}

fn kind(above: &Held, name: &OsStr) -> Option<FileType> {
    let found = statat(above.handle(), name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(FileType::from_raw_mode(found.st_mode))
}

/// The folder that a path inside leads to, through no link, and its last name; none where that is not there.
fn above(folder: &Held, path: &OsStr) -> io::Result<Option<(Held, OsString)>> {
    let mut above = folder.clone();
    let mut names = path.as_bytes().split(|byte| *byte == b'/').map(OsStr::from_bytes);
    let Some(name) = names.next_back() else { return Ok(None) };
    for folder in names {
        above = match above.enter(folder, false) {
            Ok(inner) => inner,
            Err(why) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&why.kind()) => {
                return Ok(None);
            }
            // A link, through which git writes nothing either.
            Err(why) if why.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => return Ok(None),
            Err(why) => return Err(why),
        };
    }
    Ok(Some((above, name.to_owned())))
}

/// Takes away what is the beginning of this, or all of it, and the folders that are empty then. Blocks.
fn take_away(folder: &Held, path: &OsStr, becomes: &[u8]) -> io::Result<()> {
    let Some((above, name)) = above(folder, path)? else { return Ok(()) };
    let is_gits = match kind(&above, &name) {
        Some(FileType::RegularFile) => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(openat(above.handle(), &name, flags, Mode::empty())?);
            let mut there = Vec::new();
            file.take(becomes.len() as u64 + 1).read_to_end(&mut there)?;
            becomes.starts_with(&there)
        }
        Some(FileType::Symlink) => readlinkat(above.handle(), &name, Vec::new())?.as_bytes() == becomes,
        _ => false,
    };
    if is_gits {
        unlinkat(above.handle(), &name, AtFlags::empty())?;
        for path in Path::new(path).ancestors().skip(1) {
            let Some((above, name)) = self::above(folder, path.as_os_str())? else { break };
            if unlinkat(above.handle(), &name, AtFlags::REMOVEDIR).is_err() {
                break;
            }
        }
    }
    Ok(())
}
