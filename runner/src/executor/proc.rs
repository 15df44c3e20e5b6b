//! What `/proc` says of processes.

use std::fmt::Display;

use fs_err as fs;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::record::Identity;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) id: Identity,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// Whether it can still do anything: neither a zombie nor dead.
    pub(super) alive: bool,
    pub(super) run: Run,
}

/// What keeps a process from running, as far as signals have to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// Nothing: it runs, or could.
    Free,
    /// It waits inside the kernel, and gets no signal before it comes out: for a disk, or for one that it has started
    /// by `vfork` to run its program. If that one is stopped before it does, this one waits until that goes on.
    Inside,
    /// A signal told it to stand still.
    Stopped,
}

/// The name of this run of the machine.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Whether it says anything.
pub(crate) fn tells() -> bool {
    !boot().is_empty() && i32::try_from(std::process::id()).is_ok_and(|pid| look(pid).is_some())
}

/// All processes.
pub(super) fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(look).collect()
}

/// One process. None if it is gone.
pub(super) fn look(pid: i32) -> Option<Process> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The identity of a process that is there now.
pub(crate) fn identity(pid: i32) -> Option<Identity> {
    look(pid).map(|process| process.id)
}

/// Whether this very process is there and not a zombie.
pub(super) fn is_alive(id: Identity) -> bool {
    look(id.pid).is_some_and(|process| process.id == id && process.alive)
}

/// Whether a process was started with this in its environment. What cannot be looked into was not: it is
/// another user's.
pub(super) fn bears(pid: i32, variable: &[u8]) -> bool {
    std::fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| entry == variable))
}

/// Bytes of memory that a process has for itself, or shares with others; none of one that is gone. `process`: its number, or
/// `self`.
pub(crate) fn memory(process: impl Display) -> Option<u64> {
    let pages = std::fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let pages: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}

/// Signals this very process, and no other that has got its number meanwhile. False if it is gone.
pub(super) fn signal(id: Identity, signal: Signal) -> bool {
    let Some(pid) = Pid::from_raw(id.pid) else { return false };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    // The handle is of whoever bears the number now, for good: who that is, is looked at afterwards.
    identity(id.pid) == Some(id) && pidfd_send_signal(&handle, signal).is_ok()
}

/// Reads a line of `/proc/<pid>/stat`. The name in it may hold anything, also brackets and spaces.
pub(super) fn parse(line: &str) -> Option<Process> {
    let pid = line.split(' ').next()?.parse().ok()?;
    let (_, rest) = line.rsplit_once(')')?;
    let mut words = rest.split_ascii_whitespace();
    let state = words.next()?;
    let mut number = || words.next()?.parse().ok();
    let (parent, group, session) = (number()?, number()?, number()?);
    let start = rest.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let alive = !matches!(state, "Z" | "X" | "x");
    let run = match state {
        "T" | "t" => Run::Stopped,
        "D" => Run::Inside,
        _ => Run::Free,
    };
    Some(Process { id: Identity { pid, start }, parent, group, session, alive, run })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let line = "42 (a) (b c) S 7 40 39 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 9876 1 1";
        let process = parse(line).expect("it can be read");
        assert_eq!(process.id, Identity { pid: 42, start: 9876 });
        assert_eq!((process.parent, process.group, process.session, process.alive), (7, 40, 39, true));
    }

    #[test]
    fn this_process_is_found_and_one_with_another_start_is_not() {
        let pid = i32::try_from(std::process::id()).expect("small");
        let id = identity(pid).expect("it is there");
        assert!(is_alive(id));
        let other = Identity { start: id.start + 1, ..id };
        assert!(!is_alive(other));
        assert!(!signal(other, Signal::KILL));
    }
}
