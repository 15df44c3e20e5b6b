//! What the kernel knows of the processes of a run.

use std::fs;
use std::path::Path;

use super::Failure;

/// A process that has to do with a folder.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its command line, with spaces between the words.
    pub command: String,
}

/// Processes with this folder in their environment, their command line or as the place that they work in; this one is
/// none of them.
///
/// # Errors
/// There is no `/proc`.
pub fn marked(folder: &Path) -> Result<Vec<Process>, Failure> {
    marked_of(folder, |_| true)
}

/// The same, of those only whose numbers `are` says are meant.
///
/// # Errors
/// There is no `/proc`.
pub fn marked_of(folder: &Path, are: impl Fn(u32) -> bool) -> Result<Vec<Process>, Failure> {
    let text = folder.as_os_str().as_encoded_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid.filter(|pid| *pid != std::process::id() && are(*pid)) else { continue };
        // One that has just ended has nothing to be read.
        let read = |name| fs::read(entry.path().join(name)).unwrap_or_default();
        let command = read("cmdline");
        let place = fs::read_link(entry.path().join("cwd")).unwrap_or_default().into_os_string().into_encoded_bytes();
        let is_marked = |bytes: &Vec<u8>| bytes.windows(text.len()).any(|part| part == text);
        if [&read("environ"), &command, &place].into_iter().any(is_marked) {
            found.push(Process { pid, command: String::from_utf8_lossy(&command).replace('\0', " ") });
        }
    }
    Ok(found)
}

/// The most memory that a process has had, in bytes; none where it is gone.
#[must_use]
pub fn peak_memory(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}
