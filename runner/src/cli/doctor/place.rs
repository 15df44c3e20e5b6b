//! The home: whose it is, where it lies, who holds it, what was left in it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use makima_core::policy::counted;
use rustix::fs::{Access, access, statvfs};

use super::Check;
use crate::cli::status::size;
use crate::home::is_held;
use crate::inspect::worktrees::{Why, worktrees};
use crate::journal::{Segment, segments};
use crate::service::read_daemon_file;

/// A clone, a build and their logs soon take that much.
const LITTLE: u64 = 2 << 30;

/// Below this not even records can be relied on to be written.
const NOTHING: u64 = 32 << 20;

/// Files that can still be made, below which it becomes tight.
const FEW: u64 = 10_000;

/// For the journal to be read.
const JOURNAL: Duration = Duration::from_secs(15);

const ELSEWHERE: &str = "or set MAKIMA_HOME to another folder";

/// What is said of a configuration that can be read.
pub(super) fn configuration(home: &Path) -> String {
    let path = home.join("config.toml");
    if path.exists() { format!("{} is in order", path.display()) } else { format!("there is no {}", path.display()) }
}

pub(super) fn place(home: &Path) -> Vec<Check> {
    let Ok(data) = std::fs::metadata(home) else {
        // What is nearest and there decides whether it can be made.
        let near = home.ancestors().skip(1).find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        let check = match access(near, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => Check::ok("home", format!("{} is not there yet; the first start makes it", home.display())),
            Err(why) => {
                let help = format!("make {} yours, {ELSEWHERE}", near.display());
                Check::fail("home", format!("{} cannot be made: {why}", home.display()), help)
            }
        };
        return vec![check, disk(near)].into_iter().chain(kind(near)).collect();
    };
    let mut checks = vec![whose(home, &data), held(home), disk(home)];
    checks.extend(kind(home));
    checks.push(left_behind(home));
    checks
}

fn whose(home: &Path, data: &std::fs::Metadata) -> Check {
    let shown = home.display();
    let me = rustix::process::geteuid().as_raw();
    if !data.is_dir() {
        return Check::fail("home", format!("{shown} is no folder"), format!("move it, {ELSEWHERE}"));
    }
    if data.uid() != me {
        let detail = format!("{shown} belongs to the user {}, and this is {me}", data.uid());
        return Check::fail("home", detail, format!("make it yours (chown), {ELSEWHERE}"));
    }
    if let Err(why) = access(home, Access::WRITE_OK | Access::READ_OK | Access::EXEC_OK) {
        return Check::fail("home", format!("{shown} cannot be written to: {why}"), format!("chmod 700, {ELSEWHERE}"));
    }
    match data.mode() & 0o777 {
        mode if mode & 0o077 != 0 => Check::warn(
            "home",
            format!("others may look into {shown} (mode {mode:o})"),
            format!("chmod 700 {shown}; the daemon does so when it starts"),
        ),
        _ => Check::ok("home", format!("{shown}, yours alone")),
    }
}

fn held(home: &Path) -> Check {
    if !is_held(home) {
        return Check::ok("daemon", "none runs on this home");
    }
    match read_daemon_file(home) {
        Some(daemon) => {
            let what = format!("process {}, version {}, for {}", daemon.pid, daemon.version, daemon.server);
            match daemon.trouble {
                None => Check::ok("daemon", format!("{what}: {}", daemon.link)),
                Some(trouble) => Check::warn("daemon", format!("{what}: {trouble}"), "`makima status` tells more"),
            }
        }
        None => Check::ok("daemon", "the home is held by one that has not said yet who it is"),
    }
}

fn disk(folder: &Path) -> Check {
    let help = format!("make room there, {ELSEWHERE} on another disk");
    let found = match statvfs(folder) {
        Ok(found) => found,
        Err(why) => return Check::fail("disk", format!("{}: {why}", folder.display()), help),
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    // File systems that make them as needed say that there are none at all.
    let files = (found.f_files > 0).then_some(found.f_favail);
    let shown = files.map_or_else(|| size(free), |files| format!("{} and {files} files", size(free)));
    let detail = format!("{shown} free where {} lies", folder.display());
    if free < NOTHING || files == Some(0) {
        Check::fail("disk", detail, help)
    } else if free < LITTLE || files.is_some_and(|files| files < FEW) {
        Check::warn("disk", detail, help)
    } else {
        Check::ok("disk", detail)
    }
}

/// A kind of file system that is worth a word; none where it is an ordinary one.
#[cfg(target_os = "linux")]
fn kind(folder: &Path) -> Option<Check> {
    const NETWORK: &[(u32, &str)] = &[
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "SMB"),
        (0xfe53_4d42, "SMB"),
        (0x0102_1997, "9P"),
        (0x00c3_6400, "Ceph"),
        (0x5346_414f, "AFS"),
        (0x6573_5546, "FUSE"),
    ];
    const MEMORY: &[u32] = &[0x0102_1994, 0x8584_58f6];
    // The kernel's numbers have 32 bits, whatever the type in which they come.
    let kind = u32::try_from(rustix::fs::statfs(folder).ok()?.f_type & 0xffff_ffff).ok()?;
    if MEMORY.contains(&kind) {
        let detail = format!("{} lies in memory: it is gone when the machine starts again", folder.display());
        return Some(Check::warn("file system", detail, "set MAKIMA_HOME to a folder on a disk"));
    }
    let (_, name) = NETWORK.iter().find(|(known, _)| *known == kind)?;
    let detail = format!("{} lies on {name}: locks and flushes may mean less there", folder.display());
    Some(Check::warn("file system", detail, "set MAKIMA_HOME to a folder on a disk of this machine"))
}

#[cfg(not(target_os = "linux"))]
fn kind(_: &Path) -> Option<Check> {
    None
}

/// Worktrees that no task knows of.
fn left_behind(home: &Path) -> Check {
    let all = match worktrees(home) {
        Ok(all) => all,
        Err(why) => return Check::fail("worktrees", why.to_string(), "see that the folder is yours"),
    };
    let nobodys = all.iter().filter(|tree| matches!(tree.why, Why::NoTask | Why::Unreadable)).count() as u64;
    let detail = counted(all.len() as u64, "worktree");
    match nobodys {
        0 => Check::ok("worktrees", detail),
        1 => Check::warn("worktrees", format!("{detail}, 1 of no known task"), "see `makima worktree list`"),
        n => Check::warn("worktrees", format!("{detail}, {n} of no known task"), "see `makima worktree list`"),
    }
}

/// What `makima journal verify` would say.
pub(super) fn journal(home: &Path) -> Check {
    let files = match segments(&home.join("journal")) {
        Ok(files) => files,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Check::ok("journal", "there is none yet"),
        Err(why) => return Check::fail("journal", why.to_string(), "see that the folder is yours"),
    };
    let until = Instant::now() + JOURNAL;
    let mut records = 0_u64;
    for (at, file) in files.iter().enumerate() {
        if Instant::now() > until {
            let detail = format!("only {at} of {} could be read in time", counted(files.len() as u64, "segment"));
            return Check::warn("journal", detail, "`makima journal verify` takes its time");
        }
        let segment = match Segment::read(file) {
            Ok(segment) => segment,
            // The oldest go while a daemon runs.
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => continue,
            Err(why) => return Check::fail("journal", why.to_string(), "see that the file is yours"),
        };
        records = records.saturating_add(segment.records.len() as u64);
        let written = segment.is_torn() && at.saturating_add(1) == files.len();
        if let Some(damage) = segment.damage.filter(|_| !written) {
            let help = "a start does without it and goes by the tasks' records; nothing has to be done";
            return Check::warn("journal", damage.to_string(), help);
        }
    }
    let segments = counted(files.len() as u64, "segment");
    Check::ok("journal", format!("{segments} with {}, whole", counted(records, "record")))
}
