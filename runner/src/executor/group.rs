//! A control group (version 2) for a task's processes, where this user may make one: what is in it cannot
//! leave it, whatever session it makes for itself.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use makima_core::id::TaskId;

/// So much of a start's nonce is in the name of its group.
const NONCE: usize = 8;

/// Makes a group for a start of a task below the daemon's own. None where that is not possible: it is only the best of
/// several marks. Another daemon, with a home of its own, may have a task of the same id: the start's nonce tells them
/// apart.
pub(super) fn make(task: TaskId, nonce: &str) -> Option<PathBuf> {
    let group = own()?.join(format!("{}-{}", name(task), nonce.get(..NONCE)?));
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
    let (own, name) = (own(), name(task));
    let of_the_task = |group: &PathBuf| group.file_name().is_some_and(|is| is.as_bytes().starts_with(name.as_bytes()));
    for group in own.iter().flat_map(|own| below(own)).filter(of_the_task) {
        // The kernel refuses while somebody is.
        let _ = remove(&group);
    }
}

/// Whether groups can be made: makes one and takes it away. Gives the group below which, or why not.
#[cfg(feature = "server")]
pub(crate) fn trial() -> Result<PathBuf, String> {
    let own = own().ok_or("no version 2 of control groups is mounted here")?;
    // Of a task that nobody has.
    let task = TaskId(uuid::Uuid::now_v7());
    let group = make(task, &task.to_string()).ok_or_else(|| format!("none can be made below {}", own.display()))?;
    remove(&group).map_err(|failure| failure.to_string())?;
    Ok(own)
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

/// Bytes of memory that all in it take, where the machine counts that by groups.
pub(super) fn memory(group: &Path) -> Option<u64> {
    fs::read_to_string(group.join("memory.current")).ok()?.trim().parse().ok()
}

/// Has the kernel itself hold what is in the group to this, where it can by groups: a little more than the daemon does, which
/// tells why.
pub(super) fn bound(group: &Path, memory: Option<u64>, processes: Option<u32>) {
    let more = |most: u64| most.saturating_add(most / 8).saturating_add(1);
    let lines = [("memory.max", memory.map(more)), ("pids.max", processes.map(|most| more(most.into())))];
    for (file, most) in lines {
        if let Some(most) = most {
            // Where there is no such file, it is only looked at now and then.
            let _ = fs::OpenOptions::new()
                .write(true)
                .open(group.join(file))
                .and_then(|mut file| io::Write::write_all(&mut file, most.to_string().as_bytes()));
        }
    }
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
}
