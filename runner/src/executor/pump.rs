//! Draining an agent's pipes into its log: one small thread per task. An agent is never blocked by us, not
//! by a server that is away and not by a full disk.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{ChildStderr, ChildStdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use makima_core::input::Stream;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::log::{HEAD, RECORD_MAX, Shared, head};

/// How long a pipe whose writers should all be gone may be silent before it is left.
const SILENCE: Duration = Duration::from_millis(200);
/// A writer that comes back within this time is a flood.
const FLOOD: Duration = Duration::from_micros(50);
/// How long a flood is let gather, so that it is not written line by line.
const GATHER: Duration = Duration::from_micros(100);
/// What the kernel may hold for us of each stream while we write.
const PIPE: usize = 256 * 1024;

/// A pump that runs.
#[derive(Debug)]
pub(super) struct Pump {
    /// What it has written.
    pub(super) log: Arc<Shared>,
    bell: Arc<OwnedFd>,
}

impl Pump {
    /// Begins to drain an agent's pipes into the log at `path`.
    pub(super) fn begin(path: &Path, out: ChildStdout, err: ChildStderr) -> io::Result<Self> {
        let file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let (file, path) = file.into_parts();
        let log = Arc::new(Shared::default());
        let length = file.metadata()?.len();
        log.grow(length);
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        for pipe in [out.as_fd(), err.as_fd()] {
            // Only a larger buffer; some systems do not allow it.
            let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE);
        }
        let writer = Writer { file, path, log: Arc::clone(&log), length, torn: false, lost: 0, began: Instant::now() };
        let mut work = Work { out: Some(out), err: Some(err), bell: Arc::clone(&bell), writer };
        let thread = std::thread::Builder::new().name("output".to_owned()).stack_size(128 * 1024);
        thread.spawn(move || work.run())?;
        Ok(Self { log, bell })
    }

    /// Every writer is gone, or should be: what is left is drained, then the log is closed.
    pub(super) fn finish(&self) {
        // It cannot be full of bells.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

struct Work {
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    bell: Arc<OwnedFd>,
    writer: Writer,
}

impl Work {
    fn run(&mut self) {
        // The head of a record stands in front of its bytes: one write.
        let mut buffer = vec![0_u8; HEAD + RECORD_MAX];
        let mut last = Instant::now();
        let mut much = true;
        let mut finishing = false;
        while self.out.is_some() || self.err.is_some() {
            let Ready { out, err, bell } = match self.wait(finishing.then_some(SILENCE)) {
                Ok(ready) => ready,
                Err(failure) => {
                    tracing::warn!("an agent's output cannot be waited for: {failure}");
                    break;
                }
            };
            finishing |= bell;
            if finishing && !out && !err && !bell {
                break;
            }
            if !much && last.elapsed() < FLOOD {
                std::thread::sleep(GATHER);
            }
            let mut count = 0;
            if out {
                count += drain(&mut self.out, Stream::Stdout, &mut buffer, &mut self.writer);
            }
            if err {
                count += drain(&mut self.err, Stream::Stderr, &mut buffer, &mut self.writer);
            }
            much = count >= RECORD_MAX / 2;
            last = Instant::now();
        }
        self.writer.end();
    }

    fn wait(&self, limit: Option<Duration>) -> io::Result<Ready> {
        let limit = limit.map(|limit| Timespec { tv_sec: 0, tv_nsec: i64::from(limit.subsec_nanos()) });
        let bell = limit.is_none().then_some(self.bell.as_fd());
        let fds: [Option<BorrowedFd<'_>>; 3] =
            [self.out.as_ref().map(|pipe| pipe.as_fd()), self.err.as_ref().map(|pipe| pipe.as_fd()), bell];
        let mut asked: Vec<PollFd<'_>> =
            fds.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        loop {
            match poll(&mut asked, limit.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                Err(failure) => return Err(failure.into()),
                Ok(_) => break,
            }
        }
        let mut answers = asked.iter().map(|fd| !fd.revents().is_empty());
        let mut ready = |fd: &Option<BorrowedFd<'_>>| fd.is_some() && answers.next() == Some(true);
        let [out, err, bell] = &fds;
        Ok(Ready { out: ready(out), err: ready(err), bell: ready(bell) })
    }
}

struct Ready {
    out: bool,
    err: bool,
    bell: bool,
}

/// Reads once and writes that down. A pipe that has ended is given up.
fn drain(pipe: &mut Option<impl io::Read>, stream: Stream, buffer: &mut [u8], writer: &mut Writer) -> usize {
    let Some(open) = pipe else { return 0 };
    match open.read(buffer.get_mut(HEAD..).unwrap_or_default()) {
        Ok(count @ 1..) => {
            writer.write(stream, buffer.get_mut(..HEAD + count).unwrap_or_default());
            return count;
        }
        Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
        Ok(0) | Err(_) => *pipe = None,
    }
    0
}

struct Writer {
    file: File,
    path: std::path::PathBuf,
    log: Arc<Shared>,
    /// Where the last whole record ends.
    length: u64,
    /// Whether something that is no whole record stands behind it.
    torn: bool,
    /// How many bytes could not be written and are not yet accounted for in the log.
    lost: u64,
    began: Instant,
}

impl Writer {
    /// Writes a record whose head is still to be filled in, and says so. What cannot be written is counted.
    fn write(&mut self, stream: Stream, record: &mut [u8]) {
        let count = record.len().saturating_sub(HEAD) as u64;
        let written = self.own_up().and_then(|()| self.append(stream, record));
        if let Err(failure) = written {
            if self.lost == 0 {
                tracing::error!("output is being lost: {}: {failure}", self.path.display());
            }
            self.lost += count;
        }
    }

    /// Says in the log what is missing from it, before anything else is written.
    fn own_up(&mut self) -> io::Result<()> {
        if self.lost == 0 {
            return Ok(());
        }
        let mut record = vec![0; HEAD];
        write!(record, "\n[makima: {} bytes of output are missing here: they could not be written]\n", self.lost)?;
        self.append(Stream::Stderr, &mut record)?;
        tracing::warn!("{}: output is written again; {} bytes were lost", self.path.display(), self.lost);
        self.lost = 0;
        Ok(())
    }

    fn append(&mut self, stream: Stream, record: &mut [u8]) -> io::Result<()> {
        let long = u32::try_from(record.len().saturating_sub(HEAD)).unwrap_or_default();
        let time = u32::try_from(self.began.elapsed().as_millis()).unwrap_or(u32::MAX);
        if let Some(place) = record.first_chunk_mut() {
            *place = head(stream, time, long);
        }
        if self.torn {
            self.file.set_len(self.length)?;
            self.torn = false;
        }
        if let Err(failure) = self.file.write_all(record) {
            // A part of it may stand there.
            self.torn = self.file.set_len(self.length).is_err();
            return Err(failure);
        }
        self.length += record.len() as u64;
        self.log.grow(self.length);
        Ok(())
    }

    fn end(&mut self) {
        if let Err(failure) = self.own_up() {
            tracing::error!("{}: {} bytes of output were lost: {failure}", self.path.display(), self.lost);
        }
        self.log.close();
    }
}
