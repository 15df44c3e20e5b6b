//! Draining an agent's pipes into its log. An agent is never blocked by us, not by a server that is away and not by a
//! full disk.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::{ChildStderr, ChildStdout};
use std::time::{Duration, Instant};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use makima_core::input::Stream;

use super::room::Room;
use crate::executor::{Folder, HEAD, RECORD_MAX, head};

/// A writer that comes back within this time is a flood.
const FLOOD: Duration = Duration::from_micros(50);
/// How long a flood is let gather, so that it is not written line by line.
const GATHER: Duration = Duration::from_micros(100);
/// What the kernel may hold for us of each stream while we write.
const PIPE: usize = 256 * 1024;

/// An agent's pipes, and the log that they are drained into.
pub(super) struct Pump {
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    writer: Writer,
    /// The head of a record stands in front of its bytes: one write.
    buffer: Vec<u8>,
    last: Instant,
    /// Whether the last draining brought much.
    much: bool,
}

impl Pump {
    /// Pipes to be drained into the log in this folder, which is to hold no more than `bound` bytes.
    pub(super) fn begin(folder: &Folder, bound: u64, out: ChildStdout, err: ChildStderr) -> io::Result<Self> {
        for pipe in [out.as_fd(), err.as_fd()] {
            // Only a larger buffer; some systems do not allow it.
            #[cfg(target_os = "linux")]
            let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE);
        }
        let writer = Writer::begin(folder, bound)?;
        let buffer = vec![0_u8; HEAD + RECORD_MAX];
        Ok(Self { out: Some(out), err: Some(err), writer, buffer, last: Instant::now(), much: true })
    }

    /// Standard output, while it is open.
    pub(super) fn out(&self) -> Option<BorrowedFd<'_>> {
        self.out.as_ref().map(|pipe| pipe.as_fd())
    }

    /// Standard error, while it is open.
    pub(super) fn err(&self) -> Option<BorrowedFd<'_>> {
        self.err.as_ref().map(|pipe| pipe.as_fd())
    }

    /// How far the log is written.
    pub(super) const fn length(&self) -> u64 {
        self.writer.length
    }

    /// The server has everything before this place.
    pub(super) fn delivered(&mut self, to: u64) {
        self.writer.delivered(to);
    }

    /// Whether nobody can write any more, and everything is in the log or counted as lost.
    pub(super) const fn is_done(&self) -> bool {
        self.out.is_none() && self.err.is_none()
    }

    /// Whether something is missing from the log that it does not say to be missing yet.
    pub(super) const fn owes(&self) -> bool {
        self.writer.lost > 0
    }

    /// Says what is missing, if there is room for that by now.
    pub(super) fn own_up(&mut self) {
        let _ = self.writer.own_up();
    }

    /// Waits for nobody any more who might still write.
    pub(super) fn give_up(&mut self) {
        (self.out, self.err) = (None, None);
        self.own_up();
    }

    /// Reads once from those that are ready, and writes that down.
    pub(super) fn drain(&mut self, out: bool, err: bool) {
        if !out && !err {
            return;
        }
        if !self.much && self.last.elapsed() < FLOOD {
            std::thread::sleep(GATHER);
        }
        let mut count = 0;
        if out {
            count += drain(&mut self.out, Stream::Stdout, &mut self.buffer, &mut self.writer);
        }
        if err {
            count += drain(&mut self.err, Stream::Stderr, &mut self.buffer, &mut self.writer);
        }
        self.much = count >= RECORD_MAX / 2;
        self.last = Instant::now();
        self.writer.make_room();
        if self.is_done() {
            self.own_up();
        }
    }
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

/// The one who writes to a log.
pub(crate) struct Writer {
    file: File,
    /// Where the last whole record ends.
    length: u64,
    /// What it may hold.
    room: Room,
    /// Whether something that is no whole record stands behind it.
    torn: bool,
    /// How many bytes could not be written and are not yet accounted for in the log.
    lost: u64,
    began: Instant,
}

impl Writer {
    pub(crate) fn begin(folder: &Folder, bound: u64) -> io::Result<Self> {
        let file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(folder.log())?;
        let (file, _) = file.into_parts();
        let length = file.metadata()?.len();
        let room = Room::begin(folder.clone(), length, bound)?;
        Ok(Self { file, length, room, torn: false, lost: 0, began: Instant::now() })
    }

    /// The server has everything before this place.
    pub(crate) fn delivered(&mut self, to: u64) {
        self.room.delivered(to);
    }

    /// Keeps to what the log may hold.
    pub(crate) fn make_room(&mut self) {
        self.room.make(&self.file, self.length);
    }

    #[cfg(test)]
    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    /// Writes a record whose head is still to be filled in, and says so. What cannot be written is counted.
    pub(crate) fn write(&mut self, stream: Stream, record: &mut [u8]) {
        let count = record.len().saturating_sub(HEAD) as u64;
        let full = self.room.is_full(self.length);
        if full || self.own_up().and_then(|()| self.append(stream, record)).is_err() {
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
        self.room.wrote(stream, long, self.length);
        self.length += record.len() as u64;
        Ok(())
    }
}
