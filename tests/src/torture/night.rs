//! Who does it: one fault after the other to a fleet, as planned, and what is needed for all to be well again.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use makima_tests::real::{Failure, Fleet, Line, Process, marked, peak_memory};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use super::disk::Disks;
use super::ledger::Ledger;
use super::plan::{Fault, Kind};

/// For a daemon to answer once all is well. Its wait before it connects again is up to 64 s long, and one that was begun
/// under a fault goes on.
const RECOVERY: Duration = Duration::from_secs(180);

/// For a git to be seen: they do not live for long.
const GIT: Duration = Duration::from_secs(3);

/// After a disk had no room it may be that somebody has only just found that out.
const LATELY: Duration = Duration::from_secs(10);

/// What it exits with where its home cannot be used.
const UNUSABLE: i32 = 2;

/// The fleet, and what is the matter with it.
pub(crate) struct Night<'a> {
    pub(crate) fleet: Fleet,
    ledger: &'a Ledger,
    disks: Option<&'a Disks>,
    /// Daemon and server are down, as that was done to them.
    is_down: [bool; 2],
    /// When their disks had no room last.
    was_full: [Option<Instant>; 2],
    /// A task that has to end as its supervisor was killed.
    lost: Option<String>,
    looked: Instant,
    /// Hears every ten seconds how it goes.
    progress: &'a mut dyn FnMut(&str),
    said: Instant,
}

/// From one word of how it goes to the next.
const SAID: Duration = Duration::from_secs(10);

impl<'a> Night<'a> {
    pub(crate) fn new(
        fleet: Fleet,
        ledger: &'a Ledger,
        disks: Option<&'a Disks>,
        progress: &'a mut dyn FnMut(&str),
    ) -> Self {
        let now = Instant::now();
        let (is_down, was_full) = ([false; 2], [None; 2]);
        Self { fleet, ledger, disks, is_down, was_full, lost: None, looked: now, progress, said: now }
    }

    /// One fault, from its beginning to its end.
    pub(crate) fn suffer(&mut self, fault: &Fault) -> Result<(), Failure> {
        self.nap(fault.gap)?;
        self.ledger.note(&format!("fault {fault:?}"));
        self.lost = None;
        for kind in &fault.kinds {
            self.ledger.done(*kind);
            self.begin(*kind, fault.pick)?;
        }
        self.nap(fault.hold)?;
        for kind in &fault.kinds {
            self.end(*kind)?;
        }
        self.ledger.note("over");
        if fault.is_patient {
            self.recover(&fault.kinds)?;
        }
        Ok(())
    }

    fn begin(&mut self, kind: Kind, pick: u64) -> Result<(), Failure> {
        match kind {
            Kind::Daemon => {
                self.is_down[0] = true;
                // What ends by itself is told of by who looks after it.
                let _ = self.fleet.kill_daemon();
            }
            Kind::Server => {
                self.is_down[1] = true;
                let _ = self.fleet.kill_server();
            }
            Kind::Upgrade => {
                self.is_down[0] = true;
                self.asked_to_end(0)?;
            }
            Kind::ServerUpgrade => {
                self.is_down[1] = true;
                self.asked_to_end(1)?;
            }
            Kind::Cut => self.fleet.proxy.is(Line::Cut),
            Kind::Silent => self.fleet.proxy.is(Line::Silent),
            Kind::DaemonStops => self.fleet.signal_daemon(Signal::STOP)?,
            Kind::ServerStops => self.fleet.signal_server(Signal::STOP)?,
            Kind::DaemonFull | Kind::ServerFull | Kind::UserFull => {
                self.ledger.fills_disk(kind);
                self.disks.map_or(Ok(()), |disks| disks.fill(kind))?;
            }
            Kind::Supervisor => self.kill_supervisor(pick)?,
            Kind::Git => self.kill_git(pick)?,
        }
        Ok(())
    }

    fn end(&mut self, kind: Kind) -> Result<(), Failure> {
        match kind {
            Kind::Daemon | Kind::Upgrade => self.start_daemon(kind == Kind::Upgrade)?,
            Kind::Server | Kind::ServerUpgrade => self.start_server(kind == Kind::ServerUpgrade)?,
            Kind::Cut | Kind::Silent => self.fleet.proxy.is(Line::Well),
            Kind::DaemonStops => self.fleet.signal_daemon(Signal::CONT)?,
            Kind::ServerStops => self.fleet.signal_server(Signal::CONT)?,
            Kind::DaemonFull | Kind::ServerFull | Kind::UserFull => {
                self.disks.map_or(Ok(()), |disks| disks.clear(kind))?;
                self.ledger.has_room(kind);
                if let Some(at) = [Kind::DaemonFull, Kind::ServerFull].iter().position(|full| *full == kind) {
                    self.was_full[at] = Some(Instant::now());
                }
            }
            Kind::Supervisor | Kind::Git => {}
        }
        Ok(())
    }

    fn start_daemon(&mut self, change_build: bool) -> Result<(), Failure> {
        self.fleet.next_daemon(change_build)?;
        self.is_down[0] = false;
        self.ledger.count(|counts| counts.daemons += 1);
        Ok(())
    }

    fn start_server(&mut self, change_build: bool) -> Result<(), Failure> {
        self.fleet.next_server(change_build)?;
        self.is_down[1] = false;
        self.ledger.count(|counts| counts.servers += 1);
        Ok(())
    }

    /// Daemon or server is asked to end, and does.
    fn asked_to_end(&mut self, which: usize) -> Result<(), Failure> {
        if self.ended(which)?.is_some() {
            return Ok(());
        }
        self.look_at_memory();
        let status = if which == 0 { self.fleet.end_daemon()? } else { self.fleet.end_server()? };
        // One that has only just been started does not know of the signal yet.
        if !status.success() && status.signal() != Some(Signal::TERM.as_raw()) {
            self.ledger.wrong(format!("{}, asked to end, ends with {status}", NAMES[which]));
        }
        Ok(())
    }

    /// How daemon or server has ended, where it has.
    fn ended(&mut self, which: usize) -> Result<Option<std::process::ExitStatus>, Failure> {
        if which == 0 { self.fleet.daemon_has_ended() } else { self.fleet.server_has_ended() }
    }

    /// Waits, and looks after who ends by itself meanwhile.
    pub(crate) fn nap(&mut self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        loop {
            self.look_after()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// As a service manager does, starts again who has ended; that may be only where its disk has no room.
    fn look_after(&mut self) -> Result<(), Failure> {
        for which in [0, 1] {
            if self.is_down[which] {
                continue;
            }
            let Some(status) = self.ended(which)? else { continue };
            let lately = self.was_full[which].is_some_and(|at| at.elapsed() < LATELY);
            let is_excused = status.code() == Some(UNUSABLE) && (lately || self.ledger.is_full());
            let what = format!("{} has ended by itself: {status}", NAMES[which]);
            if is_excused {
                self.ledger.note(&what)
            } else {
                self.ledger.wrong(what)
            }
            std::thread::sleep(Duration::from_millis(300));
            if which == 0 { self.start_daemon(false)? } else { self.start_server(false)? }
        }
        if self.looked.elapsed() > Duration::from_secs(1) {
            self.looked = Instant::now();
            self.look_at_memory();
        }
        if self.said.elapsed() > SAID {
            self.said = Instant::now();
            let (minutes, seconds) = (self.ledger.elapsed().as_secs() / 60, self.ledger.elapsed().as_secs() % 60);
            (self.progress)(&format!("{minutes}:{seconds:02}  {}", self.ledger.counts().line()));
        }
        Ok(())
    }

    fn look_at_memory(&self) {
        let peaks = self.fleet.pids().map(|pid| peak_memory(pid).unwrap_or_default());
        self.ledger.count(|counts| {
            for (most, peak) in counts.memory.iter_mut().zip(peaks) {
                *most = (*most).max(peak);
            }
        });
    }

    fn kill_supervisor(&mut self, pick: u64) -> Result<(), Failure> {
        let mut all = marked(&self.fleet.root)?;
        all.retain(|process| process.command.contains(" __supervise "));
        let Some(process) = one_of(&all, pick) else { return Ok(()) };
        let Some(task) = task_of(&process.command) else { return Ok(()) };
        let Some(held) = pid(process).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return Ok(()) };
        // The number may be another's by now.
        if !marked(&self.fleet.root)?.iter().any(|it| it.pid == process.pid && it.command == process.command) {
            return Ok(());
        }
        self.ledger.note(&format!("kills the supervisor of {task}, {}", process.pid));
        self.ledger.kills_supervisor(&task);
        if pidfd_send_signal(held, Signal::KILL).is_ok() {
            self.lost = Some(task);
        }
        Ok(())
    }

    /// Kills a git of the daemon's or of an agent's, as soon as there is one; none of ours.
    fn kill_git(&self, pick: u64) -> Result<(), Failure> {
        let until = Instant::now() + GIT;
        let ours = format!("\nPPid:\t{}\n", std::process::id());
        while Instant::now() < until {
            let mut all = marked_gits(&self.fleet.root)?;
            // One that has only just begun, or is over, has no words.
            all.retain(|process| !process.command.is_empty() && !status(process.pid).contains(&ours));
            let Some(process) = one_of(&all, pick) else {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            };
            let Some(held) = pid(process).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { continue };
            if !status(process.pid).starts_with("Name:\tgit") {
                continue;
            }
            self.ledger.kills_git();
            if pidfd_send_signal(held, Signal::KILL).is_ok() {
                self.ledger.note(&format!("kills git {}: {}", process.pid, process.command));
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits until a question has gone all the way to the daemon and back; and where a supervisor was killed, until the
    /// server knows of that end.
    fn recover(&mut self, kinds: &[Kind]) -> Result<(), Failure> {
        let Some(known) = self.ledger.known() else { return Ok(()) };
        let over = Instant::now();
        let question = format!("/api/v1/tasks/{known}/target-exists?dir={}&wait=5", self.fleet.root.display());
        let answers = |night: &Self| {
            let answer = night.fleet.api.request("GET", &question, "", Duration::from_secs(6));
            answer.is_ok_and(|(status, _)| status == 200)
        };
        while !answers(self) || !self.has_told()? {
            if over.elapsed() > RECOVERY {
                self.ledger
                    .wrong(format!("{kinds:?}: {RECOVERY:?} later the daemon does not answer; lost: {:?}", self.lost));
                return Ok(());
            }
            self.nap(Duration::from_millis(20))?;
        }
        self.ledger.recovered(kinds, over.elapsed());
        self.ledger.note(&format!("all is well after {:.2} s", over.elapsed().as_secs_f64()));
        Ok(())
    }

    fn has_told(&self) -> Result<bool, Failure> {
        let Some(task) = &self.lost else { return Ok(true) };
        let answer = self.fleet.api.request("GET", &format!("/api/v1/tasks/{task}"), "", Duration::from_secs(6));
        let Ok((200, body)) = answer else { return Ok(false) };
        Ok(!serde_json::from_str::<Value>(&body)?["endedAt"].is_null())
    }
}

const NAMES: [&str; 2] = ["the daemon", "the server"];

fn one_of(all: &[Process], pick: u64) -> Option<&Process> {
    all.get(usize::try_from(pick % (all.len() as u64).max(1)).ok()?)
}

fn pid(process: &Process) -> Option<Pid> {
    Pid::from_raw(i32::try_from(process.pid).ok()?)
}

fn status(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

/// Gits that have to do with a folder. To read a name is quick, and they are not there for long.
fn marked_gits(folder: &std::path::Path) -> Result<Vec<Process>, Failure> {
    let is_git =
        |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("git"));
    makima_tests::real::marked_of(folder, is_git)
}

/// The task that a supervisor is there for: its folder is among its words.
fn task_of(command: &str) -> Option<String> {
    let folder = command.split(' ').find(|word| word.contains("/makima/tasks/"))?;
    folder.split("/makima/tasks/").nth(1)?.split('/').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_supervisor_says_whose_it_is() {
        let command = "/x/makima __supervise /x/r/makima/tasks/the-id/report /x/r/makima/tasks/the-id - 9 ";
        assert_eq!(super::task_of(command).as_deref(), Some("the-id"));
        assert_eq!(super::task_of("git status"), None);
    }
}
