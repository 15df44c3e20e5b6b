//! A control group (version 2) for a task's processes, where this user may make one: what is in it cannot
//! leave it, whatever session it makes for itself.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use makima_core::id::TaskId;

/// So much of a start's mark is in the name of its group.
const MARK: usize = 8;

/// The group in which a service manager starts the daemon, below the service's own. Only then is nobody in that one itself, and
/// only then does the kernel count and hold what is in the groups below it.
pub(crate) const OF_THE_DAEMON: &str = "makima-daemon";

/// So many threads a process may have without anybody minding.
const THREADS: u64 = 64;

/// What the kernel is asked to count and hold for each task.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// Makes a group for a start of a task below [`base`]. None where that is not possible: it is only the best of
/// several marks. Another daemon, with a home of its own, may have a task of the same id: the start's mark tells them
/// apart.
pub(super) fn make(task: TaskId, mark: &str) -> Option<PathBuf> {
    let (base, is_ours_alone) = base()?;
    let group = base.join(format!("{}-{}", name(task), mark.get(..MARK)?));
    // Where somebody is in it, the kernel takes some of them all the same, and nobody could go into the groups below any more.
    if is_ours_alone {
        for controller in CONTROLLERS {
            write(&base.join("cgroup.subtree_control"), &format!("+{controller}"));
        }
    }
    match fs::create_dir(&group) {
        Err(failure) if failure.kind() != io::ErrorKind::AlreadyExists => return None,
        Ok(()) | Err(_) => {}
    }
    if group.join("cgroup.procs").exists() && group.join("cgroup.kill").exists() {
        return Some(group);
    }
    let _ = fs::remove_dir(&group);
    None
}

/// Takes the groups of a task away that were left and that nobody is in.
pub(super) fn discard(task: TaskId) {
    let (base, name) = (base().map(|(base, _)| base), name(task));
    let of_the_task = |group: &PathBuf| group.file_name().is_some_and(|is| is.as_bytes().starts_with(name.as_bytes()));
    for group in base.iter().flat_map(|base| below(base)).filter(of_the_task) {
        // The kernel refuses while somebody is.
        let _ = remove(&group);
    }
}

/// Whether groups can be made: makes one and takes it away. Gives the group below which, or why not.
#[cfg(feature = "server")]
pub(crate) fn trial() -> Result<PathBuf, String> {
    let (base, _) = base().ok_or("no version 2 of control groups is mounted here")?;
    // Of a task that nobody has.
    let task = TaskId(uuid::Uuid::now_v7());
    let group = make(task, &task.to_string()).ok_or_else(|| format!("none can be made below {}", base.display()))?;
    remove(&group).map_err(|failure| failure.to_string())?;
    Ok(base)
}

fn name(task: TaskId) -> String {
    format!("makima-{task}")
}

/// The processes in a group and in the groups that they made below it.
pub(super) fn members(group: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    let mut groups = vec![group.to_path_buf()];
    while let Some(group) = groups.pop() {
        let listed = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        found.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
        groups.extend(below(&group));
    }
    found
}

/// Has all that is in the group stop where it stands, or go on. What is in it cannot refuse, nor can what it starts.
pub(super) fn freeze(group: &Path, frozen: bool) -> io::Result<()> {
    fs::write(group.join("cgroup.freeze"), if frozen { "1" } else { "0" })
}

/// Whether all that is in the group stands still.
pub(super) fn is_frozen(group: &Path) -> bool {
    fs::read_to_string(group.join("cgroup.events")).is_ok_and(|events| events.lines().any(|line| line == "frozen 1"))
}

/// Kills all that is in the group, also what makes itself more while it dies.
pub(super) fn kill(group: &Path) {
    // Nothing hangs on it: what is still alive is found and killed one by one.
    let _ = fs::write(group.join("cgroup.freeze"), "0");
    let _ = fs::write(group.join("cgroup.kill"), "1");
}

/// Bytes of memory that all in it take, where the machine counts that by groups: what only they have, wherever it is. Not what
/// they have read of files, which the kernel gives up when it is needed elsewhere.
pub(super) fn memory(group: &Path) -> Option<u64> {
    let told = fs::read_to_string(group.join("memory.stat")).ok()?;
    let swapped = fs::read_to_string(group.join("memory.swap.current")).unwrap_or_default();
    Some(own_memory(&told)?.saturating_add(swapped.trim().parse().unwrap_or(0)))
}

/// What `memory.stat` tells of memory that is no copy of a file.
fn own_memory(told: &str) -> Option<u64> {
    let bytes =
        |name: &str| told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok());
    Some(bytes("anon")?.saturating_add(bytes("shmem").unwrap_or(0)))
}

/// Has the kernel itself hold what is in the group to this, where it can by groups. The daemon is to come first, as it tells why,
/// and ends nobody who is only to stand still: so who takes more memory is slowed down at a little more, and killed at a lot more.
pub(super) fn bound(group: &Path, memory: Option<u64>, processes: Option<u32>) {
    let more = |most: u64, part: u64| most.saturating_add(most / part).saturating_add(1).to_string();
    let lines = [
        ("memory.high", memory.map(|most| more(most, 8))),
        ("memory.max", memory.map(|most| more(most, 2))),
        // It counts threads as well, of which a process may have some dozens: this stops nobody but who makes more and more.
        ("pids.max", processes.map(|most| u64::from(most).saturating_mul(THREADS).to_string())),
    ];
    for (file, most) in lines {
        if let Some(most) = most {
            // Where there is no such file, it is only looked at now and then.
            write(&group.join(file), &most);
        }
    }
}

/// Writes to a file of the kernel's, if it is there and lets us.
fn write(file: &Path, text: &str) {
    let file = fs::OpenOptions::new().write(true).open(file);
    let _ = file.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
}

/// Takes the group away. It has to be empty.
pub(super) fn remove(group: &Path) -> io::Result<()> {
    for inner in below(group) {
        remove(&inner)?;
    }
    super::record::forgiving(fs::remove_dir(group))
}

fn below(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// The folder of this process's own group.
pub(crate) fn own() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let (root, point) = mounts.lines().find_map(mount)?;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let below = Path::new(path).strip_prefix(&root).ok()?;
    Some(point.join(below))
}

/// The group below which tasks have theirs: this process's own, or where that is one for the daemon alone, the one above it, in
/// which nobody is; whether that is so.
fn base() -> Option<(PathBuf, bool)> {
    let own = own()?;
    if own.ends_with(OF_THE_DAEMON) { Some((own.parent()?.to_path_buf(), true)) } else { Some((own, false)) }
}

/// Root and mount point, if this line of mountinfo is of the second version's file system.
fn mount(line: &str) -> Option<(PathBuf, PathBuf)> {
    let (place, kind) = line.split_once(" - ")?;
    if !kind.starts_with("cgroup2 ") {
        return None;
    }
    let mut words = place.split(' ').skip(3);
    Some((PathBuf::from(words.next()?), PathBuf::from(words.next()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_among_the_first_versions() {
        let v1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";
        let v2 = "41 31 0:38 /a /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw";
        assert_eq!(mount(v1), None);
        assert_eq!(mount(v2), Some((PathBuf::from("/a"), PathBuf::from("/sys/fs/cgroup/unified"))));
    }

    /// Protects a task from being ended for the files that it has read.
    #[test]
    fn what_is_read_of_files_is_no_memory_of_a_task() {
        let told = "anon 1000\nfile 500000\nkernel 70\nshmem 20\nanon_thp 8\n";
        assert_eq!(own_memory(told), Some(1020));
        assert_eq!(own_memory("file 1\n"), None);
    }
}
