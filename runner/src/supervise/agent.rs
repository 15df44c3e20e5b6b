//! The agent's process, as its parent sees it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use makima_core::input::ExitStatus;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, test_kill_process_group, wait, waitid, waitpid,
};
#[cfg(target_os = "linux")]
use rustix::process::{PidfdFlags, pidfd_open};

use super::first::{self, Verdict};
use super::lock;
use super::orders::Orders;
use super::pump::Pump;
use crate::executor::{Folder, Held, Identity, Way, identity};
use crate::sandbox::Inside;

/// The longest that the processes of a group which was killed are looked for.
const GROUP: Duration = Duration::from_secs(10);

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
    /// What comes of the commands that are run before it, where some are.
    verdict: Option<Verdict>,
    way: Way,
    /// Until when its group is looked for, which was killed. Once it is gone its number is nobody's.
    group_until: Option<Instant>,
}

impl Agent {
    /// Starts it; of its output so many bytes are kept. That it is about to be is on the disk before, and who it became behind that.
    pub(super) fn start(orders: Orders, output: u64) -> Result<Self, String> {
        let Orders { nonce, way, folder, setup, argv, env, fence } = orders;
        let (argv, verdict) = match setup.commands.is_empty() {
            true => (argv, None),
            false => first::argv(setup, argv, fence.as_ref()).map(|(argv, verdict)| (argv, Some(verdict)))?,
        };
        let Inside { argv, env, held: inherited } = match &fence {
            Some(fence) => fence.inside(argv, env)?,
            None => Inside { argv, env, held: Vec::new() },
        };
        let Some((program, args)) = argv.split_first() else { return Err("its command line is empty".to_owned()) };
        let records = Folder::at(Path::new("."));
        let own = known(way, rustix::process::getpid()).ok_or("the supervisor cannot find itself")?;
        let lent = match way {
            Way::Full => None,
            Way::Portable => Some(lock::lend(Path::new(".")).map_err(|failure| format!("its lock: {failure}"))?),
        };
        let mut held = Held { nonce, supervisor: own, agent: None };
        let unwritten = |failure: io::Error| format!("it cannot be written down that it is about to start: {failure}");
        records.holds(&held).map_err(unwritten)?;
        let mut command = Command::new(program);
        command.args(args).current_dir(folder).env_clear().envs(env).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = match &fence {
            Some(fence) => fence.spawn(&mut command),
            None => command.spawn(),
        };
        // They are the agent's from here on.
        drop((lent, inherited));
        let child = match child {
            Ok(child) => child,
            Err(failure) => {
                // Nothing was started: another attempt may be made.
                records.holds_nothing();
                return Err(not_run(Path::new(program), &failure));
            }
        };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or("the process that was started has no number")?;
        held.agent = known(way, pid);
        // The agent runs by now. If this cannot be written, its parent still knows it.
        let _ = records.holds(&held);
        let agent = Self::in_hand((pid, way), child, &records, output).map(|agent| Self { verdict, ..agent });
        agent.inspect_err(|_| {
            // Nobody would see to it.
            let _ = kill_process_group(pid, Signal::KILL);
        })
    }

    fn in_hand((pid, way): (Pid, Way), mut child: Child, records: &Folder, output: u64) -> Result<Self, String> {
        let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(out), Some(err)) = (out, err) else { return Err("a pipe is missing".to_owned()) };
        let failed = |failure: io::Error| format!("its output cannot be kept: {failure}");
        let pump = Pump::begin(records, output, out, err).map_err(failed)?;
        let ended = end_of(pid, way).map_err(|failure| format!("its end cannot be waited for: {failure}"))?;
        if let Some(stdin) = &stdin {
            rustix::io::ioctl_fionbio(stdin, true).map_err(|failure| failed(failure.into()))?;
        }
        Ok(Self { pid, ended, stdin, pump, exit: None, verdict: None, way, group_until: None })
    }

    /// Takes note of processes that have ended: of the agent, and of what it left behind, which may be ours now.
    pub(super) fn reap(&mut self) {
        match self.way {
            Way::Full => {
                while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                    if pid == self.pid {
                        self.ended_with(status);
                    }
                }
            }
            Way::Portable => self.reap_it_alone(),
        }
    }

    /// Its group is killed while it is dead and not yet waited for: until then nobody else can have its number.
    fn reap_it_alone(&mut self) {
        if self.exit.is_none() {
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if !matches!(waitid(WaitId::Pid(self.pid), look), Ok(Some(_))) {
                return;
            }
            let _ = kill_process_group(self.pid, Signal::KILL);
            if let Ok(Some((_, status))) = waitpid(Some(self.pid), WaitOptions::NOHANG) {
                self.ended_with(status);
                self.group_until = Some(Instant::now() + GROUP);
            }
        }
        let is_over = |until| Instant::now() > until || test_kill_process_group(self.pid).is_err();
        if self.group_until.is_some_and(is_over) {
            self.group_until = None;
        }
    }

    /// Whether its group was killed and may not be gone yet.
    pub(super) const fn is_leaving(&self) -> bool {
        self.group_until.is_some()
    }

    fn ended_with(&mut self, status: rustix::process::WaitStatus) {
        if self.exit.is_none() {
            let code = status.exit_status().map(ExitStatus::Code);
            let signal = status.terminating_signal().map(ExitStatus::Signal);
            let own = code.or(signal).unwrap_or(ExitStatus::Unknown);
            let failed = self.verdict.as_mut().and_then(Verdict::settle);
            self.exit = Some(failed.map_or(own, ExitStatus::NotSetUp));
            self.stdin = None;
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

/// What a process is known by in the records: in the portable way a number, which names nobody for sure.
fn known(way: Way, pid: Pid) -> Option<Identity> {
    let pid = super::raw(pid);
    match way {
        Way::Full => identity(pid),
        Way::Portable => Some(Identity { pid, start: 0 }),
    }
}

/// Something that can be read once this child has ended.
fn end_of(pid: Pid, way: Way) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    if way == Way::Full {
        return Ok(pidfd_open(pid, PidfdFlags::empty())?);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = way;
    let (ended, end) = io::pipe()?;
    let wait = move || {
        // It stays to be waited for: its number is its own until then.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(pid), options), Err(rustix::io::Errno::INTR)) {}
        drop(end);
    };
    std::thread::Builder::new().stack_size(64 * 1024).spawn(wait)?;
    Ok(ended.into())
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
