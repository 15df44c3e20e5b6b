//! What stands between the daemon and an agent: a small process, one for each task, that outlives the daemon.
//!
//! It is started while the worktree is being made, makes a session of its own, joins the task's control group and waits
//! for its orders. Then it starts the agent, leaves the group again, and from there on does four things: it copies what
//! the agent writes to the output log, hands it what users say, signals it when asked, and writes down how it ended. A
//! daemon talks to it over a socket in the task's folder, comes and goes, and is never waited for.
//!
//! ```text
//! makima __supervise REPORT FOLDER CGROUP OUTPUT [DESCRIPTORS]
//! ```
//! `REPORT` is a FIFO: closed without a word once the agent runs, else it bears the reason. `FOLDER` is the task's.
//! `CGROUP` is a control group's folder, or `-`. `OUTPUT` is how many bytes of output are kept. `DESCRIPTORS` is how many the agent may have open, where that is not
//! what the daemon may. The orders come on standard input; if that ends before they are there, the daemon is gone, and
//! so is this process.
//!
//! Where a repository wants commands to be run first, what it starts is this program once more, which runs them and then
//! becomes the agent: see `first`.
//!
//! Architecture invariant: no thread that computes, no configuration, no network, no key. What it is told to be secret
//! it has in memory only.

mod agent;
mod first;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod lock;
pub(crate) mod orders;
pub(crate) mod protocol;
mod pump;
mod room;
mod serve;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
#[cfg(target_os = "linux")]
use rustix::process::{DumpableBehavior, getpid, set_child_subreaper, set_dumpable_behavior};

use agent::Agent;
pub(crate) use first::failed as failed_first;
pub(crate) use lock::{is_held, is_lent};
use orders::Orders;
#[cfg(test)]
pub(crate) use pump::Writer;

use crate::descriptors;
#[cfg(target_os = "linux")]
use crate::executor::Way;

/// The word that asks for the supervisor.
pub(crate) const WORD: &str = "__supervise";

/// The exit status that says that it could not even tell what is wrong.
pub(crate) const MISUSED: i32 = 2;

/// No group is to be joined.
pub(crate) const NO_GROUP: &str = "-";

/// The socket's name in the task's folder.
pub(crate) const SOCKET: &str = "socket";

/// Runs the supervisor if that is what the arguments ask for: with its exit status when it has ended; for any other
/// arguments, at once, with none.
pub fn intercept(args: impl IntoIterator<Item = OsString>) -> Option<i32> {
    let mut args = args.into_iter().skip(1);
    let word = args.next()?;
    if word == first::WORD {
        return Some(first::run(args));
    }
    if word != WORD {
        return None;
    }
    let (Some(report), Some(folder), Some(group)) = (args.next(), args.next(), args.next()) else {
        return Some(MISUSED);
    };
    let Ok(mut report) = open_report(Path::new(&report)) else { return Some(MISUSED) };
    let mut number = || args.next().and_then(|number| number.to_str()?.parse().ok());
    let (Some(output), limit) = (number(), number()) else { return Some(MISUSED) };
    let group = (group != NO_GROUP).then(|| PathBuf::from(group));
    let why = match Seat::take(Path::new(&folder), group) {
        Ok(seat) => match seat.wait() {
            Ok(Some((seat, orders))) => match seat.start(orders, output, limit) {
                Ok(running) => {
                    // Said by closing it.
                    drop(report);
                    return Some(running.serve());
                }
                Err(why) => why,
            },
            Ok(None) => return Some(0),
            Err(why) => why,
        },
        Err(why) => why,
    };
    // Nobody is left to tell if this fails; the status says it then.
    let _ = report.write_all(why.as_bytes());
    Some(127)
}

/// The FIFO's end. It is closed when the agent's program has begun, which tells of that. The daemon holds the other
/// end before it starts us: where nobody does, the daemon is gone, and waiting for it would be for ever.
fn open_report(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// A supervisor that has no agent yet.
struct Seat {
    /// Held for as long as it lives: there is one for each task.
    lock: OwnedFd,
    folder: PathBuf,
    /// The task's control group, which it has joined, and the one that it came from.
    group: Option<(PathBuf, Option<PathBuf>)>,
}

impl Seat {
    /// Goes where the agent is to be.
    fn take(folder: &Path, group: Option<PathBuf>) -> Result<Self, String> {
        rustix::process::setsid().map_err(|failure| format!("it cannot have a session of its own: {failure}"))?;
        let lock = lock::take(folder).map_err(|failure| format!("another supervisor is there: {failure}"))?;
        let group = group.map(|group| {
            let before = crate::executor::own_group();
            // Not fatal: the tree has other marks to be found by.
            let _ = fs::write(group.join("cgroup.procs"), "0");
            (group, before)
        });
        Ok(Self { lock, folder: folder.to_path_buf(), group })
    }

    /// Waits for orders. None if there will be none.
    fn wait(self) -> Result<Option<(Self, Orders)>, String> {
        // Not std's standard input, which would take more than the orders.
        let input = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map_err(io::Error::from);
        let told = input.and_then(|input| Orders::read(&mut File::from(input)));
        let orders = told.map_err(|failure| format!("what it was told cannot be understood: {failure}"))?;
        // The daemon's end may go: nobody waits for it, and nobody is to wait for us.
        if let Ok(null) = fs::File::open("/dev/null") {
            let _ = rustix::stdio::dup2_stdin(&null);
        }
        Ok(orders.map(|orders| (self, orders)))
    }

    /// Starts the agent.
    fn start(self, orders: Orders, output: u64, limit: Option<u64>) -> Result<Running, String> {
        #[cfg(target_os = "linux")]
        if orders.way == Way::Full {
            // What an agent leaves behind stays below us instead of going to the machine's first process.
            let _ = set_child_subreaper(Some(getpid()));
        }
        // Another process of this user cannot look into it: orders may hold secrets.
        #[cfg(target_os = "linux")]
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        std::env::set_current_dir(&self.folder).map_err(|failure| format!("its folder is gone: {failure}"))?;
        let listener = serve::listen().map_err(|failure| format!("its socket cannot be made: {failure}"))?;
        if let Some(limit) = limit {
            descriptors::give_back(limit);
        }
        let nonce = orders.nonce.clone();
        let agent = Agent::start(orders, output)?;
        Ok(Running { seat: self, listener, agent, nonce })
    }

    /// What ends the group's processes is not to end it: it has their ends to write down.
    fn leave_group(&self) {
        if let Some((_, Some(before))) = &self.group {
            // Where it may not, it is spared by those who end them, one by one.
            let _ = fs::write(before.join("cgroup.procs"), "0");
        }
    }
}

/// A supervisor with an agent.
struct Running {
    seat: Seat,
    listener: UnixListener,
    agent: Agent,
    nonce: String,
}

impl Running {
    /// Stays with the agent to its end. Gives the exit status.
    fn serve(self) -> i32 {
        let Self { seat, listener, agent, nonce } = self;
        seat.leave_group();
        let served = serve::serve(listener, agent, nonce);
        // Until here.
        drop(seat.lock);
        i32::from(served.is_err())
    }
}

/// A process's number as the records have it.
pub(crate) fn raw(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}
