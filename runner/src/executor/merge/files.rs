//! Putting files of a merge into a worktree, each by one rename, and looking what is in their way.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::super::foreign::{self, INDEX};
use super::super::git::BRING;
use super::super::record::forgiving;
use super::super::trouble::Trouble;
use super::super::workshop::Workshop;
use super::Job;

const NONE: &str = "000000";
const LINK: &str = "120000";
const MODULE: &str = "160000";
const PROGRAM: &str = "100755";

/// What a tree has at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) mode: String,
    pub(super) oid: String,
}

/// A path at which two trees differ.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) path: Vec<u8>,
    pub(super) old: Option<Entry>,
    pub(super) new: Option<Entry>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Old,
    New,
}

impl Change {
    pub(super) fn entry(&self, version: Version) -> Option<&Entry> {
        match version {
            Version::Old => self.old.as_ref(),
            Version::New => self.new.as_ref(),
        }
    }

    fn relative(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }
}

/// What a merge changes, with both versions of each file laid out in folders of ours.
#[derive(Clone, Debug)]
pub(super) struct Files {
    worktree: PathBuf,
    place: PathBuf,
    pub(super) changes: Vec<Change>,
}

impl Job<'_> {
    /// Lays out what differs between two trees. Nothing of the agent's is touched.
    pub(super) async fn lay_out(&self, shop: &Workshop, from: &str, to: &str) -> Result<Files, Trouble> {
        let call = shop.call("diff-tree").args(["-r", "-z", "--raw", "--no-renames", "--no-abbrev"]);
        let call = call.args(["--ignore-submodules=none", "--no-ext-diff", "--no-textconv"]).limit(BRING);
        let listed = self.run(call.names([from, to])).await?.out;
        self.lay_out_these(shop, changes(&listed)).await
    }

    pub(super) async fn lay_out_these(&self, shop: &Workshop, changes: Vec<Change>) -> Result<Files, Trouble> {
        let place = shop.git.clone();
        for version in [Version::Old, Version::New] {
            let entries = changes.iter().filter_map(|change| Some((change, change.entry(version)?)));
            let lines: Vec<u8> = entries
                .filter(|(_, entry)| entry.mode != MODULE)
                .flat_map(|(change, entry)| stage_line(entry, 0, &change.path))
                .collect();
            let (index, out) = (place.join(version.index()), place.join(version.folder()));
            forgiving(fs::remove_file(&index))?;
            forgiving(fs::remove_dir_all(&out))?;
            fs::create_dir(&out)?;
            if lines.is_empty() {
                continue;
            }
            let call = shop.call("update-index").env("GIT_INDEX_FILE", &index).args(["--add", "-z", "--index-info"]);
            self.run(call.input(lines)).await?;
            let mut prefix = std::ffi::OsString::from("--prefix=");
            prefix.push(out.join(""));
            let call = shop.call("checkout-index").env("GIT_INDEX_FILE", &index).args(["--all", "--force"]);
            self.run(call.arg(prefix).limit(BRING)).await?;
        }
        Ok(Files { worktree: self.worktree.clone(), place, changes })
    }

    /// Gives the agent's repository the objects that we made.
    pub(super) async fn give_objects(&self, shop: &Workshop) -> Result<(), Trouble> {
        let (from, to) = (shop.git.join("objects"), self.git.join("objects"));
        self.done(move || give(&from, &to)).await
    }

    /// Tracked files that are not as the index has them.
    pub(super) async fn dirty(&self, shop: &Workshop) -> Result<BTreeSet<Vec<u8>>, Trouble> {
        let call = shop.call("update-index").args(["-q", "--really-refresh", "--ignore-submodules"]);
        self.run(call.fine(&[0, 1])).await?;
        let call = shop.call("diff-files").args(["--name-only", "-z", "--ignore-submodules=all"]);
        Ok(names(&self.run(call).await?.out))
    }
}

pub(super) fn names(bytes: &[u8]) -> BTreeSet<Vec<u8>> {
    bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

/// A line for `update-index --index-info`.
pub(super) fn stage_line(entry: &Entry, stage: u8, path: &[u8]) -> Vec<u8> {
    [format!("{} {} {stage}\t", entry.mode, entry.oid).as_bytes(), path, b"\0"].concat()
}

/// Reads `:<mode> <mode> <oid> <oid> <status>\0<path>\0`.
pub(super) fn changes(listed: &[u8]) -> Vec<Change> {
    let mut fields = listed.split(|byte| *byte == 0);
    let mut found = Vec::new();
    while let (Some(head), Some(path)) = (fields.next(), fields.next()) {
        let head = String::from_utf8_lossy(head);
        let words: Vec<&str> = head.trim_start_matches(':').split(' ').collect();
        let [old_mode, new_mode, old_oid, new_oid, ..] = words.as_slice() else { continue };
        let entry =
            |mode: &str, oid: &str| (mode != NONE).then(|| Entry { mode: mode.to_owned(), oid: oid.to_owned() });
        let (old, new) = (entry(old_mode, old_oid), entry(new_mode, new_oid));
        found.push(Change { path: path.to_vec(), old, new });
    }
    found
}

impl Version {
    const fn index(self) -> &'static str {
        match self {
            Self::Old => "index-old",
            Self::New => "index-new",
        }
    }

    const fn folder(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }
}

impl Files {
    /// What of the worktree's would be lost: changes that are in no commit, and files that git does not know.
    pub(super) fn in_the_way(&self, dirty: &BTreeSet<Vec<u8>>) -> BTreeSet<Vec<u8>> {
        let known: BTreeSet<&Path> =
            self.changes.iter().filter(|change| change.old.is_some()).map(Change::relative).collect();
        let mut found = BTreeSet::new();
        for change in &self.changes {
            if dirty.contains(&change.path) {
                found.insert(change.path.clone());
                continue;
            }
            if change.new.is_some() {
                found.extend(self.blocks(change, &known));
            }
        }
        found
    }

    /// Files that only the agent knows, in folders that are to become files again.
    pub(super) fn unknown_in_folders(&self) -> BTreeSet<Vec<u8>> {
        let known: BTreeSet<&Path> = self.changes.iter().map(Change::relative).collect();
        let plain = |change: &&Change| change.old.as_ref().is_some_and(|entry| entry.mode != MODULE);
        let folders = self.changes.iter().filter(plain).map(|change| self.worktree.join(change.relative()));
        let folders = folders.filter(|folder| fs::symlink_metadata(folder).is_ok_and(|data| data.is_dir()));
        let files: Vec<PathBuf> = folders.flat_map(|folder| files_in(&folder)).collect();
        let inside = files.iter().filter_map(|file| file.strip_prefix(&self.worktree).ok());
        inside.filter(|file| !known.contains(file)).map(|file| file.as_os_str().as_bytes().to_vec()).collect()
    }

    /// What lies on the way to a path, or at it, and is not there by the version that is to go.
    fn blocks(&self, change: &Change, known: &BTreeSet<&Path>) -> BTreeSet<Vec<u8>> {
        let path = change.relative();
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            let data = fs::symlink_metadata(self.worktree.join(above));
            if data.is_ok_and(|data| !data.is_dir()) && !known.contains(above) {
                return BTreeSet::from([bytes(above)]);
            }
        }
        let full = self.worktree.join(path);
        match fs::symlink_metadata(&full) {
            Ok(data) if data.is_dir() => {
                let is_module = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.mode == MODULE);
                if is_module(&change.new) {
                    return BTreeSet::new();
                }
                let unknown =
                    |file: &PathBuf| file.strip_prefix(&self.worktree).is_ok_and(|file| !known.contains(file));
                let files = files_in(&full).into_iter().filter(unknown);
                files.filter_map(|file| file.strip_prefix(&self.worktree).ok().map(bytes)).collect()
            }
            Ok(_) if change.old.is_none() => BTreeSet::from([change.path.clone()]),
            Ok(_) | Err(_) => BTreeSet::new(),
        }
    }

    /// Puts one version of all of them into the worktree, over whatever is there.
    pub(super) fn put(&self, version: Version) -> io::Result<()> {
        self.put_where(version, |_| true)
    }

    /// The same for files that are the other version to the last byte: what else is there is the agent's.
    pub(super) fn put_back(&self) -> io::Result<()> {
        self.put_where(Version::Old, |change| self.stands(change, Version::New))
    }

    fn put_where(&self, version: Version, wanted: impl Fn(&Change) -> bool) -> io::Result<()> {
        let wanted: Vec<&Change> = self.changes.iter().filter(|change| wanted(change)).collect();
        for change in wanted.iter().filter(|change| change.entry(version).is_none()) {
            self.remove(change)?;
        }
        for change in wanted {
            if let Some(entry) = change.entry(version) {
                self.put_one(change, entry, version)?;
            }
        }
        Ok(())
    }

    fn put_one(&self, change: &Change, entry: &Entry, version: Version) -> io::Result<()> {
        let path = change.relative();
        let mut above = self.worktree.clone();
        for part in path.parent().into_iter().flatten() {
            above.push(part);
            match fs::symlink_metadata(&above) {
                Ok(data) if data.is_dir() => {}
                Ok(_) => return Err(io::Error::other(format!("{} is no folder", above.display()))),
                Err(failure) if failure.kind() == io::ErrorKind::NotFound => fs::create_dir(&above)?,
                Err(failure) => return Err(failure),
            }
        }
        let target = self.worktree.join(path);
        let is_dir = fs::symlink_metadata(&target).is_ok_and(|data| data.is_dir());
        if entry.mode == MODULE {
            if !is_dir {
                forgiving(fs::remove_file(&target))?;
                fs::create_dir(&target)?;
            }
            return Ok(());
        }
        if is_dir {
            fs::remove_dir(&target)?;
        }
        let new = self.worktree.join(".git/makima.new");
        lend_or_copy(&self.place.join(version.folder()).join(path), &new)?;
        fs::rename(&new, &target)?;
        // What is the same file already is not renamed.
        forgiving(fs::remove_file(&new))
    }

    fn remove(&self, change: &Change) -> io::Result<()> {
        let target = self.worktree.join(change.relative());
        match fs::symlink_metadata(&target) {
            // A submodule with files in it stays, as git would have it.
            Ok(data) if data.is_dir() => drop(fs::remove_dir(&target)),
            Ok(_) => fs::remove_file(&target)?,
            // Something on the way to it is no folder.
            Err(_) => return Ok(()),
        }
        let above = change.relative().ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
        for above in above {
            if fs::remove_dir(self.worktree.join(above)).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Whether the worktree has this version of it.
    fn stands(&self, change: &Change, version: Version) -> bool {
        let path = self.worktree.join(change.relative());
        let data = fs::symlink_metadata(&path);
        let Some(entry) = change.entry(version) else { return data.is_err() };
        let Ok(data) = data else { return false };
        let from = self.place.join(version.folder()).join(change.relative());
        match entry.mode.as_str() {
            MODULE => data.is_dir(),
            LINK => fs::read_link(&path).ok().is_some_and(|to| fs::read_link(&from).ok() == Some(to)),
            mode => {
                let is_program = data.mode() & 0o100 != 0;
                let same = || foreign::read(&path, INDEX).ok().is_some_and(|now| fs::read(&from).ok() == Some(now));
                data.is_file() && is_program == (mode == PROGRAM) && same()
            }
        }
    }
}

/// A second name for a file of ours, or a copy where that cannot be.
fn lend_or_copy(from: &Path, new: &Path) -> io::Result<()> {
    forgiving(fs::remove_file(new))?;
    if fs::hard_link(from, new).is_ok() {
        return Ok(());
    }
    if fs::symlink_metadata(from)?.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, new);
    }
    fs::copy(from, new).map(|_| ())
}

/// Everything in a folder that is none.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) | Err(_) => found.push(entry.path()),
            }
        }
    }
    found
}

/// Moves objects into another folder of objects.
fn give(from: &Path, to: &Path) -> io::Result<()> {
    for folder in fs::read_dir(from)?.flatten() {
        let name = folder.file_name();
        if name.len() != 2 || !folder.file_type()?.is_dir() {
            continue;
        }
        let into = to.join(&name);
        match fs::create_dir(&into) {
            Err(failure) if failure.kind() != io::ErrorKind::AlreadyExists => return Err(failure),
            Ok(()) | Err(_) => {}
        }
        for object in fs::read_dir(folder.path())?.flatten() {
            let target = into.join(object.file_name());
            if fs::symlink_metadata(&target).is_err() {
                let new = into.join("tmp_obj_makima");
                lend_or_copy(&object.path(), &new)?;
                fs::rename(&new, &target)?;
            }
        }
    }
    Ok(())
}
