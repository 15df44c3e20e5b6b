//! The supervisor's one loop: output to the log, messages to the agent, its end to the disk; and a daemon, if one is
//! there, that is told of it all and never waited for.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use fs_err as fs;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, getuid};

use super::SOCKET;
use super::agent::Agent;
use super::protocol::{LINE, Said, Sign, Told, VERSION, line, lines};
use crate::executor::{Ending, Folder, forgiving};

/// Between two attempts to write down how the agent ended, or what is missing from its output.
const AGAIN: Duration = Duration::from_secs(1);

/// Between two looks at what was killed.
const SOON: Duration = Duration::from_millis(20);

/// How long those may hold the agent's pipes who were not killed with it.
const HOLD: Duration = Duration::from_secs(1);

/// How long it is tried to write down the end of an agent that a daemon had killed: that daemon has heard of it.
const WRITE: Duration = Duration::from_secs(5);

/// Bytes that a daemon may leave unread before it is taken for dead.
const UNREAD: usize = 256 * 1024;

/// Messages that may wait for the agent: a daemon keeps to it as well.
const TEXTS: usize = 4_096;

/// Makes the socket in the folder that this process stands in: paths of sockets are short.
pub(super) fn listen() -> io::Result<UnixListener> {
    let path = Path::new(SOCKET);
    forgiving(fs::remove_file(path))?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Stays with the agent until it has ended, that is written down, and all output is in the log.
pub(super) fn serve(listener: UnixListener, agent: Agent, nonce: String) -> io::Result<()> {
    let mut supervisor = Supervisor {
        listener,
        agent,
        nonce,
        daemon: None,
        guest: None,
        texts: VecDeque::new(),
        handed: 0,
        recorded: false,
        killed: None,
    };
    while !supervisor.is_done() {
        supervisor.round()?;
    }
    // Whoever comes now finds the record instead.
    let _ = fs::remove_file(SOCKET);
    Ok(())
}

struct Supervisor {
    listener: UnixListener,
    agent: Agent,
    nonce: String,
    daemon: Option<Daemon>,
    /// Somebody who has not said the nonce yet.
    guest: Option<Daemon>,
    /// Messages for the agent, the first of them perhaps begun.
    texts: VecDeque<Text>,
    /// The number of the newest that the agent was handed. Those behind it were refused, or wait.
    handed: u64,
    /// The agent's end is on the disk.
    recorded: bool,
    /// When a daemon had it all killed.
    killed: Option<Instant>,
}

struct Text {
    n: u64,
    bytes: Vec<u8>,
    written: usize,
}

/// A daemon at the other end of the socket.
struct Daemon {
    stream: UnixStream,
    heard: Vec<u8>,
    unsent: Vec<u8>,
    /// What it was told of the log.
    log: u64,
    /// It was told of the end.
    told: bool,
}

/// What a round woke up for.
#[derive(Default)]
struct Ready {
    out: bool,
    err: bool,
    knock: bool,
    daemon: bool,
    guest: bool,
}

impl Supervisor {
    fn is_done(&self) -> bool {
        let length = self.agent.pump.length();
        let knows = |daemon: &Daemon| daemon.told && daemon.log >= length && daemon.unsent.is_empty();
        let told = self.daemon.as_ref().is_none_or(knows);
        let recorded = self.recorded || self.killed.is_some_and(|at| at.elapsed() > WRITE);
        // What is missing from the output nobody else can tell.
        let written = recorded && !self.agent.pump.owes();
        self.agent.exit.is_some() && self.agent.pump.is_done() && written && told && !self.agent.is_leaving()
    }

    fn round(&mut self) -> io::Result<()> {
        let ready = self.wait()?;
        self.agent.pump.drain(ready.out, ready.err);
        // Not only when the agent's own end shows: those that it left behind end as well.
        self.agent.reap();
        let killed = self.killed.is_some_and(|at| at.elapsed() > HOLD);
        if killed && self.agent.exit.is_some() && !self.agent.is_leaving() {
            self.agent.pump.give_up();
        }
        if self.agent.pump.is_done() {
            self.agent.pump.own_up();
        }
        if ready.daemon {
            self.listen();
        }
        // Whoever is at the door is heard before somebody else takes that place.
        if ready.guest {
            self.admit();
        }
        if ready.knock {
            self.open();
        }
        self.hand_over();
        self.record();
        self.tell();
        Ok(())
    }

    /// Sleeps until there is something to do: for ever, where there is nothing.
    fn wait(&self) -> io::Result<Ready> {
        let pump = &self.agent.pump;
        let none = || None::<(BorrowedFd<'_>, PollFlags)>;
        let daemon = self.daemon.as_ref().map_or_else(none, |daemon| {
            let write = if daemon.unsent.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            Some((daemon.stream.as_fd(), PollFlags::IN | write))
        });
        let guest = self.guest.as_ref().map(|guest| (guest.stream.as_fd(), PollFlags::IN));
        let stdin = self.agent.stdin.as_ref().filter(|_| !self.texts.is_empty());
        let ended = self.agent.exit.is_none().then(|| (self.agent.ended.as_fd(), PollFlags::IN));
        let sources = [
            pump.out().map(|fd| (fd, PollFlags::IN)),
            pump.err().map(|fd| (fd, PollFlags::IN)),
            Some((self.listener.as_fd(), PollFlags::IN)),
            daemon,
            guest,
            stdin.map(|fd| (fd.as_fd(), PollFlags::OUT)),
            ended,
        ];
        let mut asked: Vec<PollFd<'_>> =
            sources.iter().flatten().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let unwritten = self.agent.exit.is_some() && (!self.recorded || (pump.is_done() && pump.owes()));
        let soon = self.agent.is_leaving() || self.killed.is_some();
        let pause = if soon { Some(SOON) } else { unwritten.then_some(AGAIN) };
        let limit = pause.and_then(|pause| Timespec::try_from(pause).ok());
        match poll(&mut asked, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(failure) => return Err(failure.into()),
        }
        let mut answers = asked.iter().map(|fd| !fd.revents().is_empty());
        let mut is_ready = |at: usize| sources.get(at).is_some_and(Option::is_some) && answers.next() == Some(true);
        Ok(Ready { out: is_ready(0), err: is_ready(1), knock: is_ready(2), daemon: is_ready(3), guest: is_ready(4) })
    }

    /// Somebody is at the door. There is room for one: whoever says nothing there gives way to the next. An agent of any
    /// task may be who comes, so nothing is said to anybody who has not said the nonce.
    fn open(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        let same = rustix::net::sockopt::socket_peercred(&stream).is_ok_and(|peer| peer.uid == getuid());
        if !same || stream.set_nonblocking(true).is_err() {
            return;
        }
        self.guest = Some(Daemon { stream, heard: Vec::new(), unsent: Vec::new(), log: 0, told: false });
        self.admit();
    }

    /// Whoever says the nonce has the say from then on: the daemon before is dead, or about to be. Greeted is who has.
    fn admit(&mut self) {
        let Some(mut guest) = self.guest.take() else { return };
        let Some(lines) = guest.read() else { return };
        let mut lines = lines.into_iter();
        match lines.next() {
            None => self.guest = Some(guest),
            Some(Told::Hello { nonce, .. }) if nonce == self.nonce => {
                guest.log = self.agent.pump.length();
                self.daemon = Some(guest);
                self.greet();
                self.obey(lines);
            }
            Some(_) => {}
        }
    }

    fn greet(&mut self) {
        self.say(&Said::Hello {
            version: VERSION,
            nonce: self.nonce.clone(),
            pid: super::raw(self.agent.pid),
            log: self.agent.pump.length(),
            handed: self.texts.back().map_or(self.handed, |text| text.n),
        });
    }

    /// Reads what the daemon says.
    fn listen(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        match daemon.read() {
            Some(lines) => self.obey(lines),
            None => self.daemon = None,
        }
    }

    fn obey(&mut self, lines: impl IntoIterator<Item = Told>) {
        for told in lines {
            match told {
                // Said once.
                Told::Hello { .. } => {
                    self.daemon = None;
                    return;
                }
                Told::Stdin { n, text } => self.take(n, text),
                Told::Signal(Sign::Interrupt) => self.agent.signal(Signal::INT),
                Told::Signal(Sign::Terminate) => self.agent.signal(Signal::TERM),
                Told::Signal(Sign::Stop) => self.agent.signal(Signal::STOP),
                Told::Signal(Sign::Continue) => self.agent.signal(Signal::CONT),
                Told::Signal(Sign::Kill) => {
                    self.agent.signal(Signal::KILL);
                    self.killed.get_or_insert_with(Instant::now);
                }
                Told::Delivered(to) => self.agent.pump.delivered(to),
            }
        }
    }

    /// Takes a message for the agent; one that it was handed before is only confirmed.
    fn take(&mut self, n: u64, text: String) {
        if n <= self.handed {
            return self.say(&Said::Took(n));
        }
        if self.texts.iter().any(|text| text.n == n) {
            return;
        }
        if self.agent.stdin.is_none() {
            return self.say(&Said::Refused { n, why: "its standard input is closed".to_owned() });
        }
        if self.texts.len() >= TEXTS {
            return self.say(&Said::Refused { n, why: "too many messages wait for the agent".to_owned() });
        }
        self.texts.push_back(Text { n, bytes: text.into_bytes(), written: 0 });
    }

    /// Hands the agent as much as it takes.
    fn hand_over(&mut self) {
        while let Some(text) = self.texts.front_mut() {
            let rest = text.bytes.get(text.written..).unwrap_or_default();
            let written = match &mut self.agent.stdin {
                _ if rest.is_empty() => Ok(0),
                Some(stdin) => stdin.write(rest),
                None => Err(io::ErrorKind::BrokenPipe.into()),
            };
            match written {
                Ok(count) => text.written = text.written.saturating_add(count),
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => return,
                Err(failure) if failure.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.agent.stdin = None;
                    let n = text.n;
                    self.texts.pop_front();
                    self.say(&Said::Refused { n, why: "its standard input is closed".to_owned() });
                    continue;
                }
            }
            if text.written >= text.bytes.len() {
                let n = text.n;
                self.texts.pop_front();
                self.handed = n;
                self.say(&Said::Took(n));
            }
        }
    }

    /// Writes down how the agent ended, as often as it takes. In a folder that somebody has removed nobody would ever
    /// read it.
    fn record(&mut self) {
        if let (Some(status), false) = (self.agent.exit, self.recorded) {
            let (here, ending) = (Path::new("."), Ending { nonce: self.nonce.clone(), status });
            let is_removed = fs::metadata(here).is_ok_and(|folder| folder.nlink() == 0);
            self.recorded = is_removed || Folder::at(here).ends(&ending).is_ok();
        }
    }

    /// Tells the daemon what is new, as far as it takes it.
    fn tell(&mut self) {
        let length = self.agent.pump.length();
        let Some(daemon) = &mut self.daemon else { return };
        if daemon.unsent.is_empty() && daemon.log < length {
            daemon.log = length;
            daemon.unsent.extend(line(&Said::Log(length)));
        }
        if let (Some(status), false) = (self.agent.exit, daemon.told) {
            daemon.told = true;
            daemon.unsent.extend(line(&Said::Exit(status)));
        }
        if !daemon.write() || daemon.unsent.len() > UNREAD {
            self.daemon = None;
        }
    }

    fn say(&mut self, said: &Said) {
        if let Some(daemon) = &mut self.daemon {
            daemon.unsent.extend(line(said));
        }
    }
}

impl Daemon {
    /// What it has said since, line by line; none where it is gone, or says what no daemon says.
    fn read(&mut self) -> Option<Vec<Told>> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.heard.extend(buffer.iter().take(count)),
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => break,
                Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
            if self.heard.len() > LINE {
                break;
            }
        }
        let lines = lines(&mut self.heard);
        (self.heard.len() <= LINE).then_some(lines)
    }

    /// Sends what it takes. False where it is gone.
    fn write(&mut self) -> bool {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return false,
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => return true,
                Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Protects the machine from who connects to a supervisor and says one line without an end.
    #[test]
    fn a_line_without_an_end_is_left() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.set_nonblocking(true).expect("a socket");
        let mut daemon = Daemon { stream: ours, heard: Vec::new(), unsent: Vec::new(), log: 0, told: false };
        let says = thread::spawn(move || {
            let piece = vec![b'x'; 1 << 20];
            (0..4 << 10).take_while(|_| theirs.write_all(&piece).is_ok()).count()
        });
        let mut most = 0;
        while daemon.read().is_some() {
            most = most.max(daemon.heard.len());
            thread::yield_now();
        }
        assert!(most <= LINE && daemon.heard.len() <= LINE + (16 << 10), "{most} bytes are held");
        drop(daemon);
        let said = says.join().expect("it says what it can");
        assert!(said <= 16, "{said} MiB were taken");
    }
}
