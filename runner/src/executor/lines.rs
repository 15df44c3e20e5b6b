//! The processes of a task where nothing is known but locks: the supervisor holds one, its agent and all that descends
//! from that another, which they inherited. A lock is let go of when the last who has it is gone, and no other process
//! can have it by chance. Processes that left the agent's group are seen by it, and cannot be ended.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpgid, getsid, kill_process_group, test_kill_process};

use super::record::{Folder, Held, Intent};
use super::tree::{Ended, no_room};
use crate::near::Near;
use crate::supervise::protocol::{Sign, Told, VERSION, line};
use crate::supervise::{SOCKET, is_held, is_lent};

/// The longest that a supervisor may take to end its agent and to leave.
const LEAVE: Duration = Duration::from_secs(15);

/// The longest that processes which were killed may take to be gone.
const GONE: Duration = Duration::from_secs(2);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// The locks of one start of a task.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    folder: Folder,
    nonce: String,
    /// Numbers. They name nobody for sure.
    supervisor: Option<Pid>,
    agent: Option<Pid>,
}

impl Lines {
    /// Those of a start.
    pub(super) fn of(folder: &Folder, intent: &Intent, held: Option<&Held>) -> Self {
        let held = held.filter(|held| held.nonce == intent.nonce);
        let supervisor = held.and_then(|held| Pid::from_raw(held.supervisor.pid));
        let agent = held.and_then(|held| Pid::from_raw(held.agent?.pid));
        Self { folder: folder.clone(), nonce: intent.nonce.clone(), supervisor, agent }
    }

    /// Has the supervisor end the agent's group and leave, and sees whether anybody is left. Blocks.
    pub(super) fn end(&self) -> Ended {
        let path = self.folder.path();
        let until = Instant::now() + LEAVE;
        let mut told = None;
        while is_held(path) {
            if Instant::now() > until {
                if let Some(why) = no_room(&self.folder) {
                    return Ended::Owing(why);
                }
                return Ended::Left(self.supervisor.iter().map(|pid| pid.as_raw_nonzero().get()).collect());
            }
            if told.is_none() {
                // It may just be making its door, or have taken it away.
                told = self.tell().ok();
            }
            std::thread::sleep(PAUSE);
        }
        let gone = || !is_lent(path);
        // What was killed takes a moment.
        let ended = within(GONE, || gone() || self.kill_the_orphan()) && within(GONE, gone);
        if !ended {
            tracing::warn!(
                "a process that an agent of {} left behind has left its group too: it goes on, and cannot be ended in \
                 portable mode",
                path.display()
            );
        }
        Ended::Empty(0)
    }

    /// Tells the supervisor to end all; the connection has to stay for it to be heard.
    fn tell(&self) -> io::Result<UnixStream> {
        let near = Near::to(self.folder.path(), SOCKET)?;
        let mut stream = UnixStream::connect(near.path())?;
        stream.set_write_timeout(Some(GONE))?;
        let hello = Told::Hello { version: VERSION, nonce: self.nonce.clone() };
        stream.write_all(&[line(&hello), line(&Told::Signal(Sign::Kill))].concat())?;
        Ok(stream)
    }

    /// Kills the agent of a supervisor that was killed, as far as any unix can tell that it is that: somebody holds its
    /// lock, nobody bears the supervisor's number, and in the session of that number the agent's leads its group. (What
    /// could deceive it is told in `docs/portable.md`.) True where it was.
    fn kill_the_orphan(&self) -> bool {
        let (Some(supervisor), Some(agent)) = (self.supervisor, self.agent) else { return false };
        let ours = test_kill_process(supervisor).is_err_and(|failure| failure == rustix::io::Errno::SRCH)
            && getsid(Some(agent)) == Ok(supervisor)
            && getpgid(Some(agent)) == Ok(agent);
        ours && kill_process_group(agent, Signal::KILL).is_ok()
    }
}

/// Looks until it is so, no longer than this.
fn within(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}
