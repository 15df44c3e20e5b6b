//! `$MAKIMA_HOME`: the one folder that the daemon writes to, and who may use it now.
//!
//! ```text
//! repos/        the shared bare repositories, one per URL
//! worktrees/    one folder per task
//! home/         where finished work is cloned to
//! tasks/<id>/   a task's records: see `executor::record`
//! journal/      what the daemon did
//! trash/        what was put aside; nothing is deleted unasked
//! machine-id    made once
//! incarnation   how often the daemon was started
//! daemon.json   who runs there, while somebody does
//! lock          held by the daemon that runs; its process id stands in it
//! ```

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fs_err as fs;
use makima_core::id::TaskId;
use uuid::Uuid;

use crate::descriptors;

/// Why a folder cannot be the daemon's home. For people: the path, what went wrong, what to do.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another daemon runs on it.
    #[error("{} is in use by another daemon{}; one daemon per home: stop that one, or set MAKIMA_HOME to another folder",
        path.display(), holder(*pid))]
    Locked {
        /// The home.
        path: PathBuf,
        /// The process that holds it, as far as it said.
        pid: Option<u32>,
    },
    /// Something in it cannot be made, read or written.
    #[error("{}: {what}: {reason}; {advice}", path.display())]
    Unusable {
        /// The home.
        path: PathBuf,
        /// What was to be done.
        what: &'static str,
        /// What the system said, with the path that it was about.
        reason: io::Error,
        /// What to do about it.
        advice: &'static str,
    },
    /// A file of ours does not hold what we write there.
    #[error("{}: it holds {found:?}, which this program never writes; {advice}", path.display())]
    Garbled {
        /// The file.
        path: PathBuf,
        /// Its beginning.
        found: String,
        /// What to do about it.
        advice: &'static str,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// The daemon's own folder, locked for as long as one of these lives. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Home(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    root: PathBuf,
    machine_id: Uuid,
    incarnation: u32,
    // Never read: the lock goes with it.
    _lock: File,
}

const FOLDERS: [&str; 6] = ["repos", "worktrees", "home", "tasks", "journal", "trash"];

impl Home {
    /// Makes what is missing of the folder at `path`, locks it and counts one more start.
    ///
    /// # Errors
    /// Another daemon holds it; it cannot be written to; its own files are not readable.
    pub fn open(path: &Path) -> Result<Self, HomeError> {
        let failed = |what| move |reason: io::Error| unusable(path, what, reason);
        make_private(path).map_err(failed("the folder cannot be made"))?;
        let root = path.canonicalize().map_err(failed("its real path cannot be found"))?;
        let lock = lock(&root)?;
        // Whoever wrote that is gone.
        let _ = fs::remove_file(daemon_file(&root));
        for name in FOLDERS {
            make_private(&root.join(name)).map_err(failed("a folder in it cannot be made"))?;
        }
        let machine_id = machine_id(&root)?;
        let incarnation = count_start(&root)?;
        Ok(Self(Arc::new(Opened { root, machine_id, incarnation, _lock: lock })))
    }

    /// Where it is: absolute, without links.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// The name of this machine to a server: made once, never changed.
    #[must_use]
    pub fn machine_id(&self) -> Uuid {
        self.0.machine_id
    }

    /// Which start of the daemon this is: larger than any before.
    #[must_use]
    pub fn incarnation(&self) -> u32 {
        self.0.incarnation
    }

    /// Where the shared bare repositories are.
    #[must_use]
    pub fn repos(&self) -> PathBuf {
        self.root().join("repos")
    }

    /// Where the tasks' worktrees are.
    #[must_use]
    pub fn worktrees(&self) -> PathBuf {
        self.root().join("worktrees")
    }

    /// The worktree of one task.
    #[must_use]
    pub fn worktree(&self, task: TaskId) -> PathBuf {
        self.worktrees().join(task.to_string())
    }

    /// Where the tasks' records are.
    #[must_use]
    pub fn tasks(&self) -> PathBuf {
        self.root().join("tasks")
    }

    /// The records of one task.
    #[must_use]
    pub fn task(&self, task: TaskId) -> PathBuf {
        self.tasks().join(task.to_string())
    }

    /// Where the journal is.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root().join("journal")
    }

    /// Where finished work is cloned to.
    #[must_use]
    pub fn clones(&self) -> PathBuf {
        self.root().join("home")
    }

    /// Puts a file or folder aside, where nobody takes it for what it was.
    ///
    /// # Errors
    /// As renaming does.
    pub fn put_aside(&self, path: &Path) -> io::Result<PathBuf> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let aside = self.root().join("trash").join(format!("{name}.{}", Uuid::now_v7()));
        fs::rename(path, &aside)?;
        Ok(aside)
    }
}

/// Makes a folder that only its owner can look into; one that is there is made so.
///
/// # Errors
/// As making folders does.
pub fn make_private(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    if fs::metadata(path)?.mode() & 0o777 != 0o700 {
        fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// How a file is opened that only its owner may read.
#[must_use]
pub fn private_file() -> std::fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
}

/// Writes a file so that its old content or its new one is there, whole, at any time and after any crash.
///
/// # Errors
/// As writing does; the old content is there then.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = write_beside(folder, bytes, mode)?;
    written.as_file().sync_all()?;
    written.persist(path).map_err(|failure| at(path, failure.error))?;
    fs::File::open(folder)?.sync_all()
}

/// As [`write_atomic`], for what may be lost with the machine: nothing waits for the disk.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    write_beside(folder, bytes, mode)?.persist(path).map_err(|failure| at(path, failure.error))?;
    Ok(())
}

fn write_beside(folder: &Path, bytes: &[u8], mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(".writing-")
        .permissions(std::fs::Permissions::from_mode(mode))
        .tempfile_in(folder)?;
    file.write_all(bytes).map_err(|failure| at(folder, failure))?;
    Ok(file)
}

fn at(path: &Path, failure: io::Error) -> io::Error {
    io::Error::new(failure.kind(), format!("{}: {failure}", path.display()))
}

fn unusable(path: &Path, what: &'static str, reason: io::Error) -> HomeError {
    const ADVICE: &[(io::ErrorKind, &str)] = &[
        (io::ErrorKind::ReadOnlyFilesystem, "it lies on a read-only file system: set MAKIMA_HOME to another folder"),
        (io::ErrorKind::PermissionDenied, "make it yours (chown, chmod), or set MAKIMA_HOME to another folder"),
        (io::ErrorKind::StorageFull, "free some space there, or set MAKIMA_HOME to a folder on another disk"),
        (io::ErrorKind::QuotaExceeded, "free some space there, or set MAKIMA_HOME to a folder on another disk"),
        (io::ErrorKind::NotADirectory, "something else bears that name: move it, or set MAKIMA_HOME to another folder"),
        (io::ErrorKind::AlreadyExists, "something else bears that name: move it, or set MAKIMA_HOME to another folder"),
    ];
    let known = ADVICE.iter().find(|(kind, _)| *kind == reason.kind()).map(|(_, advice)| *advice);
    let too_many =
        reason.to_string().contains(descriptors::TOO_MANY).then_some("raise that limit: `ulimit -n`, `LimitNOFILE=`");
    let advice = known.or(too_many).unwrap_or("set MAKIMA_HOME to a folder that you can write to");
    HomeError::Unusable { path: path.to_path_buf(), what, reason, advice }
}

/// How long a lock may outlive the daemon that took it. A process that it was just starting when it was killed
/// has the lock too, until it becomes another program; and whoever asks whether the home is held has it for a
/// moment.
const LET_GO: Duration = Duration::from_secs(2);

/// Whether this process is there, and not only its remains.
fn is_there(pid: u32) -> bool {
    let process = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let known = process.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH));
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    known && !matches!(state, Some('Z' | 'X'))
}

fn lock(root: &Path) -> Result<File, HomeError> {
    let path = root.join("lock");
    let failed = |reason| unusable(root, "its lock cannot be taken", reason);
    let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let (mut file, _) = file.map_err(failed)?.into_parts();
    let until = Instant::now() + LET_GO;
    while let Err(refused) = file.try_lock() {
        if let TryLockError::Error(reason) = refused {
            return Err(failed(reason));
        }
        let said = fs::read_to_string(&path).unwrap_or_default();
        let pid = said.trim().parse().ok();
        if Instant::now() > until || pid.is_some_and(is_there) {
            return Err(HomeError::Locked { path: root.to_path_buf(), pid });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

/// Where the daemon says who it is.
pub(crate) fn daemon_file(root: &Path) -> PathBuf {
    root.join("daemon.json")
}

/// Whether a daemon holds this home now.
#[must_use]
pub fn is_held(root: &Path) -> bool {
    let held = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    File::open(root.join("lock")).is_ok_and(held)
}

fn machine_id(root: &Path) -> Result<Uuid, HomeError> {
    let path = root.join("machine-id");
    match fs::read_to_string(&path) {
        Ok(text) => Uuid::try_parse(text.trim()).map_err(|_| {
            garbled(&path, &text, "put the id back that this machine had, or remove the file to get a new one")
        }),
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => {
            let id = Uuid::now_v7();
            write_atomic(&path, format!("{id}\n").as_bytes(), 0o600)
                .map_err(|reason| unusable(root, "machine-id cannot be written", reason))?;
            Ok(id)
        }
        Err(reason) => Err(unusable(root, "machine-id cannot be read", reason)),
    }
}

fn count_start(root: &Path) -> Result<u32, HomeError> {
    let path = root.join("incarnation");
    let last = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse::<u32>().map_err(|_| {
            garbled(&path, &text, "write a number into it that is larger than any in the log, or remove it")
        })?,
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => 0,
        Err(reason) => return Err(unusable(root, "incarnation cannot be read", reason)),
    };
    let now = last.saturating_add(1);
    write_atomic(&path, format!("{now}\n").as_bytes(), 0o600)
        .map_err(|reason| unusable(root, "incarnation cannot be written", reason))?;
    Ok(now)
}

fn garbled(path: &Path, text: &str, advice: &'static str) -> HomeError {
    HomeError::Garbled { path: path.to_path_buf(), found: text.chars().take(40).collect(), advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the next daemon from a lock that its killed predecessor's last child still has for a moment.
    #[test]
    fn the_lock_of_a_daemon_that_is_gone_is_waited_for_and_that_of_a_live_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let hold = |pid: &str| {
            std::fs::write(&path, pid).expect("a file");
            let file = File::open(&path).expect("it is there");
            file.lock().expect("nobody else has it");
            file
        };
        let held = hold(&std::process::id().to_string());
        let begun = Instant::now();
        let refused = Home::open(folder.path()).expect_err("this process lives");
        assert!(refused.to_string().contains(&format!("(process {})", std::process::id())), "{refused}");
        assert!(begun.elapsed() < LET_GO);
        drop(held);
        let mut child = std::process::Command::new("true").spawn().expect("a process");
        let gone = child.id().to_string();
        child.wait().expect("it ends");
        let held = hold(&gone);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(held);
        });
        Home::open(folder.path()).expect("it is let go");
    }
}
