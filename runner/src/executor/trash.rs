//! Where things are put that are to go, and stay for a while: each is one rename away from where it was, whatever its
//! size, and one rename away from there again.
//!
//! ```text
//! trash/<name>.<uuid>        what was put aside; the UUID tells when
//! trash/<task>.<uuid>/       of a task that has ended:
//!     leaving/worktree       its worktree
//!     leaving/…              its output, and what else lay in its folder beside its records
//!     spec.json …            its records, where it was forgotten
//!     spared                 says that it is here to make room, and may leave early
//! ```
//! What leaves is gathered in `leaving`, in the task's own folder, and goes as a whole: a crash in between leaves
//! nothing half.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;
use makima_core::id::TaskId;
use uuid::Uuid;

use super::cancel::Cancel;
use super::record::{Folder, forgiving};
use super::sparse;
use super::tree::agent_of;
use crate::home::{make_private, write_whole};

/// Where what leaves is gathered.
const LEAVING: &str = "leaving";

/// A worktree among what leaves.
const WORKTREE: &str = "worktree";

/// What a task is remembered by once its worktree is gone.
const RECORDS: [&str; 14] = [
    "spec.json",
    "plan",
    "prepared.json",
    "brought",
    sparse::RULES,
    "started.json",
    "agent",
    "exit",
    "delivered",
    "skipped.json",
    "harvest.json",
    "end.json",
    "closed",
    RESTORED,
];

/// Says that somebody wanted it back: it stays until the task is forgotten, or somebody wants it gone.
const RESTORED: &str = "restored";

/// Says that what is in the trash is there to make room.
const SPARED: &str = "spared";

/// For how long one look at the trash takes things out of it. The rest waits for the next.
const EXPIRING: Duration = Duration::from_secs(300);

/// What a home has put aside, or may.
#[derive(Clone, Debug)]
pub struct Trash {
    home: PathBuf,
}

/// Something in the trash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: PathBuf,
    /// Since when, in milliseconds since 1970.
    pub since: u64,
    /// The task whose it was, where it was one's.
    pub task: Option<TaskId>,
}

impl Entry {
    /// The worktree in it, if there is one.
    #[must_use]
    pub fn worktree(&self) -> Option<PathBuf> {
        Some(self.path.join(LEAVING).join(WORKTREE)).filter(|path| is_folder(path))
    }

    fn read(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (name, when) = name.rsplit_once('.')?;
        let (seconds, nanos) = Uuid::try_parse(when).ok()?.get_timestamp()?.to_unix();
        let since = seconds.saturating_mul(1_000).saturating_add(u64::from(nanos) / 1_000_000);
        let task = Uuid::try_parse(name).ok().map(TaskId);
        Some(Self { path, since, task })
    }
}

impl Trash {
    /// The trash of a home, whoever runs there.
    #[must_use]
    pub fn of(home: &Path) -> Self {
        Self { home: home.to_path_buf() }
    }

    fn folder(&self) -> PathBuf {
        self.home.join("trash")
    }

    fn records(&self, task: TaskId) -> Folder {
        Folder::at(&self.home.join("tasks").join(task.to_string()))
    }

    fn worktree(&self, task: TaskId) -> PathBuf {
        self.home.join("worktrees").join(task.to_string())
    }

    /// What is in it, the oldest first.
    ///
    /// # Errors
    /// It cannot be listed. One that is not there holds nothing.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let listed = match fs::read_dir(self.folder()) {
            Err(failure) if failure.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed?,
        };
        let paths = listed.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
        let mut entries: Vec<Entry> = paths.into_iter().filter_map(Entry::read).collect();
        entries.sort_by(|one, other| (one.since, &one.path).cmp(&(other.since, &other.path)));
        Ok(entries)
    }

    /// Puts the worktree and the output of a task aside that has ended. Where nothing is left of them, or somebody has
    /// wanted them back, nothing is done.
    ///
    /// # Errors
    /// It has not ended, or what it left cannot be moved: then it is where it was, or gathered to go.
    pub fn discard(&self, task: TaskId) -> Result<(), String> {
        self.has_ended(task)?;
        if self.is_wanted(task) { Ok(()) } else { self.put_aside(task, false) }
    }

    /// As [`Trash::discard`], marked as what may leave the trash early. Whoever asks has looked what is in it.
    ///
    /// # Errors
    /// As of [`Trash::discard`], and somebody has wanted it back.
    pub(super) fn spare(&self, task: TaskId) -> Result<(), String> {
        self.has_ended(task)?;
        if self.is_wanted(task) {
            return Err("somebody took it out of the trash".to_owned());
        }
        self.put_aside(task, true)
    }

    /// Whether something is in the trash to make room.
    pub(super) fn is_spared(entry: &Entry) -> bool {
        entry.path.join(SPARED).exists()
    }

    /// Whether somebody wanted its worktree back.
    #[must_use]
    pub fn is_wanted(&self, task: TaskId) -> bool {
        self.records(task).file(RESTORED).exists()
    }

    /// As [`Trash::discard`], also where somebody had wanted it back. Whoever asks has to know that its server knows.
    ///
    /// # Errors
    /// As of [`Trash::discard`].
    pub fn discard_again(&self, task: TaskId) -> Result<(), String> {
        self.has_ended(task)?;
        self.put_aside(task, false)?;
        forgiving(fs::remove_file(self.records(task).file(RESTORED))).map_err(|failure| failure.to_string())
    }

    fn put_aside(&self, task: TaskId, spare: bool) -> Result<(), String> {
        self.gather(task).map_err(|failure| failure.to_string())?;
        let leaving = self.records(task).file(LEAVING);
        if !is_folder(&leaving) {
            return Ok(());
        }
        let entry = self.folder().join(format!("{task}.{}", Uuid::now_v7()));
        // Made first: an empty one holds nothing, and goes in its time.
        make_private(&entry)
            .and_then(|()| if spare { write_whole(&entry.join(SPARED), b"", 0o600) } else { Ok(()) })
            .and_then(|()| fs::rename(leaving, entry.join(LEAVING)))
            .map_err(|failure| failure.to_string())
    }

    /// Puts all aside that is known of a task, its records too.
    ///
    /// # Errors
    /// As of [`Trash::discard`].
    pub fn forget(&self, task: TaskId) -> Result<(), String> {
        let records = self.records(task);
        if !is_folder(records.path()) {
            return Ok(());
        }
        self.has_ended(task)?;
        self.gather(task).map_err(|failure| failure.to_string())?;
        let entry = self.folder().join(format!("{task}.{}", Uuid::now_v7()));
        fs::rename(records.path(), entry).map_err(|failure| failure.to_string())
    }

    fn has_ended(&self, task: TaskId) -> Result<(), String> {
        let records = self.records(task);
        if agent_of(&records).is_some() {
            return Err("its agent runs".to_owned());
        }
        // What is not written down could be taken for something that is to be done.
        if records.file("end.json").exists() { Ok(()) } else { Err("it is not written down how it ended".to_owned()) }
    }

    fn gather(&self, task: TaskId) -> io::Result<()> {
        let (records, worktree) = (self.records(task), self.worktree(task));
        let leaving = records.file(LEAVING);
        if fs::symlink_metadata(&worktree).is_ok() {
            make_private(&leaving)?;
            move_folder(&worktree, &leaving.join(WORKTREE))?;
        }
        for entry in fs::read_dir(records.path())? {
            let entry = entry?;
            let name = entry.file_name();
            let stays = name.to_str().is_some_and(|name| name == LEAVING || RECORDS.contains(&name));
            if !stays {
                make_private(&leaving)?;
                fs::rename(entry.path(), leaving.join(name))?;
            }
        }
        Ok(())
    }

    /// Puts back what was put aside last of a task. Gives back its worktree.
    ///
    /// # Errors
    /// There is nothing of it in the trash; or something is where it is to go, and then nothing is moved.
    pub fn restore(&self, task: TaskId) -> Result<PathBuf, String> {
        let worktree = self.worktree(task);
        if fs::symlink_metadata(&worktree).is_ok() {
            return Err(format!("{} is there", worktree.display()));
        }
        // Gathered, and not gone: somebody was stopped half-way, there or back.
        if !is_folder(&self.records(task).file(LEAVING)) {
            let entries = self.entries().map_err(|failure| failure.to_string())?;
            let of_task = entries.into_iter().filter(|entry| entry.task == Some(task));
            let entry = of_task.rev().find(|entry| is_folder(&entry.path.join(LEAVING)));
            let entry = entry.ok_or("nothing of it is in the trash")?;
            self.fetch(task, &entry).map_err(|failure| failure.to_string())?;
        }
        self.put_back(task).map_err(|failure| failure.to_string())?;
        Ok(worktree)
    }

    fn fetch(&self, task: TaskId, entry: &Entry) -> io::Result<()> {
        let records = self.records(task);
        if entry.path.join("spec.json").exists() && !is_folder(records.path()) {
            // It was forgotten: it is all there again, and what leaves is gathered in it.
            return fs::rename(&entry.path, records.path());
        }
        make_private(records.path())?;
        fs::rename(entry.path.join(LEAVING), records.file(LEAVING))?;
        forgiving(fs::remove_file(entry.path.join(SPARED)))?;
        // Nothing else is in there, or else it is in the trash for good.
        let _ = fs::remove_dir(&entry.path);
        Ok(())
    }

    fn put_back(&self, task: TaskId) -> io::Result<()> {
        let records = self.records(task);
        let leaving = records.file(LEAVING);
        write_whole(&records.file(RESTORED), b"", 0o600)?;
        for found in fs::read_dir(&leaving)? {
            let found = found?;
            let name = found.file_name();
            let place = if name == WORKTREE { self.worktree(task) } else { records.path().join(name) };
            if fs::symlink_metadata(&place).is_err() {
                move_folder(&found.path(), &place)?;
            }
        }
        forgiving_full(fs::remove_dir(leaving))
    }

    /// Takes out of the trash for good what was put there before this, in milliseconds since 1970. Gives back how much.
    ///
    /// # Errors
    /// Something could not be removed: what it was and why. The rest is gone all the same.
    pub(super) fn expire(&self, before: u64, cancel: &Cancel) -> Result<usize, String> {
        let until = Instant::now() + EXPIRING;
        let entries = self.entries().map_err(|failure| failure.to_string())?;
        let (mut gone, mut kept) = (0, Vec::new());
        for entry in entries.into_iter().filter(|entry| entry.since < before) {
            if cancel.is_set() || Instant::now() > until {
                break;
            }
            match self.remove(&entry) {
                Ok(()) => gone += 1,
                Err(failure) => kept.push(failure.to_string()),
            }
        }
        match kept.first() {
            None => Ok(gone),
            Some(first) if kept.len() == 1 => Err(first.clone()),
            Some(first) => Err(format!("{first}, and {} more", kept.len() - 1)),
        }
    }

    /// Removes something for good.
    ///
    /// # Errors
    /// As removing does.
    pub fn remove(&self, entry: &Entry) -> io::Result<()> {
        remove_all(&entry.path)
    }
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|data| data.is_dir())
}

/// Renames a file or a folder. A folder that its owner may not write to cannot be given another parent.
fn move_folder(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(failure) if failure.kind() == io::ErrorKind::PermissionDenied && is_folder(from) => {
            let mode = fs::symlink_metadata(from)?.mode() & 0o7777;
            fs::set_permissions(from, Permissions::from_mode(mode | 0o200))?;
            fs::rename(from, to)
        }
        moved => moved,
    }
}

/// A folder that is not empty stays.
fn forgiving_full(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(failure) if failure.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => forgiving(other),
    }
}

/// Removes a file, or a folder with all that is in it, also folders that their owner may not write to: some tools make
/// such. No link is followed.
fn remove_all(path: &Path) -> io::Result<()> {
    if !is_folder(path) {
        return forgiving(fs::remove_file(path));
    }
    if forgiving(fs::remove_dir_all(path)).is_ok() {
        return Ok(());
    }
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        make_private(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    forgiving(fs::remove_dir_all(path))
}
