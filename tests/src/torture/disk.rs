//! File systems of a size of their own, in a namespace of this program's, which can be full without anybody else's being
//! so.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use makima_tests::real::Failure;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::plan::Kind;

/// Says that this program is in its namespace.
const INSIDE: &str = "MAKIMA_TORTURE_INSIDE";

/// Where disks are mounted in a run's folder; how many MiB they have at first, and for each minute. A daemon begins
/// nothing where there are less than 200, and puts nothing away in its first days.
const FOLDERS: [(Kind, &str, u64, u64); 3] =
    [(Kind::DaemonFull, "makima", 640, 96), (Kind::ServerFull, "server", 128, 4), (Kind::UserFull, "desk", 128, 4)];

/// Becomes this program once more, in a namespace in which it may mount. Returns in there with nothing, or with why
/// none can be made.
pub(crate) fn enter() -> Option<String> {
    if std::env::var_os(INSIDE).is_some() {
        return None;
    }
    let flags: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(flags).arg("--mount");
        command
    };
    let tried = unshare().args(["mount", "-t", "tmpfs", "none", "/mnt"]).stdin(Stdio::null()).output();
    match tried {
        Err(failure) => return Some(format!("unshare: {failure}")),
        Ok(output) if !output.status.success() => {
            return Some(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(_) => {}
    }
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(failure) => return Some(failure.to_string()),
    };
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    Some(unshare().arg(own).args(words).env(INSIDE, "1").exec().to_string())
}

/// Removes a run's folder, with what is mounted in it.
pub(crate) fn remove(root: &Path) {
    for (_, name, ..) in FOLDERS {
        let _ = Command::new("umount").arg(root.join(name)).stderr(Stdio::null()).status();
    }
    let _ = fs::remove_dir_all(root);
}

/// The disks of a run.
pub(crate) struct Disks(Vec<(Kind, PathBuf)>);

impl Disks {
    /// Mounts them, in a folder that is empty, for a night of so many minutes.
    pub(crate) fn mount(root: &Path, minutes: u64) -> Result<Self, Failure> {
        let mut disks = Vec::new();
        for (kind, name, first, more) in FOLDERS {
            let folder = root.join(name);
            fs::create_dir(&folder)?;
            let size = format!("size={}m,mode=0700", first + more * minutes);
            let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&folder).output()?;
            if !output.status.success() {
                let why = String::from_utf8_lossy(&output.stderr);
                return Err(format!("{}: {}", folder.display(), why.trim()).into());
            }
            disks.push((kind, folder));
        }
        Ok(Self(disks))
    }

    /// Leaves no room on one of them.
    pub(crate) fn fill(&self, kind: Kind) -> Result<(), Failure> {
        let Some(folder) = self.of(kind) else { return Ok(()) };
        let file = File::create(folder.join(".filler"))?;
        let (mut at, room) = (0, statvfs(folder)?);
        let mut part = room.f_bavail.saturating_mul(room.f_frsize);
        // Others write, too: what is left is taken in ever smaller parts.
        while part >= room.f_frsize {
            if fallocate(&file, FallocateFlags::empty(), at, part).is_ok() {
                at += part;
            } else {
                part /= 2;
            }
        }
        Ok(())
    }

    /// Makes room again.
    pub(crate) fn clear(&self, kind: Kind) -> Result<(), Failure> {
        let Some(folder) = self.of(kind) else { return Ok(()) };
        Ok(fs::remove_file(folder.join(".filler"))?)
    }

    /// How much of each is taken, in bytes.
    pub(crate) fn taken(&self) -> Vec<(&str, u64)> {
        let taken = |folder: &Path| {
            let room = statvfs(folder).ok()?;
            Some(room.f_blocks.saturating_sub(room.f_bfree).saturating_mul(room.f_frsize))
        };
        self.0.iter().filter_map(|(_, folder)| Some((folder.file_name()?.to_str()?, taken(folder)?))).collect()
    }

    /// Copies all that lies on them to where it outlives the namespace.
    pub(crate) fn keep(root: &Path) -> Result<PathBuf, Failure> {
        let kept = root.join("kept");
        fs::create_dir_all(&kept)?;
        for (_, name, ..) in FOLDERS {
            Command::new("cp").arg("-a").arg(root.join(name)).arg(&kept).stderr(Stdio::null()).status()?;
        }
        Ok(kept)
    }

    fn of(&self, kind: Kind) -> Option<&Path> {
        self.0.iter().find(|(disk, _)| *disk == kind).map(|(_, folder)| folder.as_path())
    }
}
