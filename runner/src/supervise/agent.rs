//! The agent's process, as its parent sees it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use makima_core::input::ExitStatus;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process_group, pidfd_open, wait};

use super::orders::Orders;
use super::pump::Pump;
use crate::executor::{Folder, Held, identity};

/// An agent that was started.
pub(super) struct Agent {
    pub(super) pid: Pid,
    /// Readable once it has ended.
    pub(super) ended: OwnedFd,
    /// None once it is closed.
    pub(super) stdin: Option<ChildStdin>,
    pub(super) pump: Pump,
    /// How it ended.
    pub(super) exit: Option<ExitStatus>,
}

impl Agent {
    /// Starts it; of its output so many bytes are kept. That it is about to be is on the disk before, and who it became behind that.
    pub(super) fn start(orders: Orders, output: u64) -> Result<Self, String> {
        let Orders { nonce, folder, argv, env } = orders;
        let Some((program, args)) = argv.split_first() else { return Err("its command line is empty".to_owned()) };
        let records = Folder::at(Path::new("."));
        let own = identity(super::raw(rustix::process::getpid())).ok_or("the supervisor cannot find itself")?;
        let mut held = Held { nonce, supervisor: own, agent: None };
        let unwritten = |failure: io::Error| format!("it cannot be written down that it is about to start: {failure}");
        records.holds(&held).map_err(unwritten)?;
        let mut command = Command::new(program);
        command.args(args).current_dir(folder).env_clear().envs(env).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = match command.spawn() {
            Ok(child) => child,
            Err(failure) => {
                // Nothing was started: another attempt may be made.
                records.holds_nothing();
                return Err(not_run(Path::new(program), &failure));
            }
        };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or("the process that was started has no number")?;
        held.agent = identity(super::raw(pid));
        // The agent runs by now. If this cannot be written, its parent still knows it.
        let _ = records.holds(&held);
        Self::in_hand(pid, child, &records, output).inspect_err(|_| {
            // Nobody would see to it.
            let _ = kill_process_group(pid, Signal::KILL);
        })
    }

    fn in_hand(pid: Pid, mut child: Child, records: &Folder, output: u64) -> Result<Self, String> {
        let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(out), Some(err)) = (out, err) else { return Err("a pipe is missing".to_owned()) };
        let failed = |failure: io::Error| format!("its output cannot be kept: {failure}");
        let pump = Pump::begin(records, output, out, err).map_err(failed)?;
        let ended = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|failure| format!("its end cannot be waited for: {failure}"))?;
        if let Some(stdin) = &stdin {
            rustix::io::ioctl_fionbio(stdin, true).map_err(|failure| failed(failure.into()))?;
        }
        Ok(Self { pid, ended, stdin, pump, exit: None })
    }

    /// Takes note of processes that have ended: of the agent, and of what it left behind, which is ours now.
    pub(super) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.pid && self.exit.is_none() {
                let code = status.exit_status().map(ExitStatus::Code);
                let signal = status.terminating_signal().map(ExitStatus::Signal);
                self.exit = Some(code.or(signal).unwrap_or(ExitStatus::Unknown));
                self.stdin = None;
            }
        }
    }

    /// Signals its process group. Its number is its own until it has been reaped, which only happens here.
    pub(super) fn signal(&self, signal: Signal) {
        if self.exit.is_none() {
            // It may just have ended: then that is told soon.
            let _ = kill_process_group(self.pid, signal);
        }
    }
}

fn not_run(program: &Path, failure: &io::Error) -> String {
    let program = program.display();
    if failure.kind() == io::ErrorKind::NotFound {
        format!("`{program}` was not found; is it installed, and on the PATH?")
    } else if failure.kind() == io::ErrorKind::PermissionDenied {
        format!("`{program}` is not a program that may be run")
    } else {
        format!("`{program}` cannot be run: {failure}")
    }
}
