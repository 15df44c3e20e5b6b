//! The output log of a task: what its agent wrote, in the order in which it was read.
//!
//! A file of records, each
//! ```text
//! stream  u8        0 standard output, 1 standard error
//! time    u32 le    milliseconds since the agent was started
//! length  u32 le    of the bytes
//! bytes
//! ```
//! One writer, which appends whole records only; never two streams in a record. A position in the log is an
//! offset in the file: in front of a record, or among the bytes of one, never inside its head.
//!
//! Architecture invariant: no text goes from an agent to the core but through this file, and none leaves it
//! unmasked.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fs_err as fs;
use makima_core::input::{Chunk, Part, Stream};
use tokio::sync::Notify;

use super::mask::{Ending, Masker, Secrets, cut_character};

/// The length of a record's head.
pub(crate) const HEAD: usize = 9;
/// The most that a record holds, and about the most that a chunk does.
pub(crate) const RECORD_MAX: usize = 64 * 1024;
/// How much of what was written last is sure to be in memory.
const AT_HAND: u64 = 1024 * 1024;

/// The head of a record.
pub(crate) fn head(stream: Stream, time: u32, length: u32) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let (kind, rest) = head.split_at_mut(1);
    kind.fill(match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    });
    let (at, long) = rest.split_at_mut(4);
    at.copy_from_slice(&time.to_le_bytes());
    long.copy_from_slice(&length.to_le_bytes());
    head
}

fn read_head(bytes: &[u8]) -> Option<(Stream, u32)> {
    let head: &[u8; HEAD] = bytes.first_chunk()?;
    let [kind, _, _, _, _, length @ ..] = head;
    let stream = match kind {
        0 => Stream::Stdout,
        1 => Stream::Stderr,
        _ => return None,
    };
    Some((stream, u32::from_le_bytes(*length)))
}

/// What writer and readers of a log share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// How far it is written.
    length: AtomicU64,
    closed: AtomicBool,
    grown: Notify,
}

impl Shared {
    pub(super) fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn grow(&self, length: u64) {
        self.length.store(length, Ordering::Release);
        self.grown.notify_waiters();
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.grown.notify_waiters();
    }

    /// Ready once it is closed.
    pub(super) async fn closed(&self) {
        loop {
            let grown = self.grown();
            tokio::pin!(grown);
            grown.as_mut().enable();
            if self.is_closed() {
                return;
            }
            grown.await;
        }
    }

    /// Told when it has grown or was closed. To be enabled before looking.
    pub(super) fn grown(&self) -> tokio::sync::futures::Notified<'_> {
        self.grown.notified()
    }
}

/// A log that somebody may still write to, as far as it is written.
pub(super) fn measure(path: &Path) -> io::Result<Shared> {
    let shared = Shared::default();
    match fs::metadata(path) {
        Ok(data) => shared.grow(data.len()),
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => {}
        Err(failure) => return Err(failure),
    }
    Ok(shared)
}

/// A log that nobody writes to any more: what a crash has torn off its end is cut.
pub(super) fn settle(path: &Path) -> io::Result<Shared> {
    let shared = Shared::default();
    shared.close();
    match fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => {
            let length = file.metadata()?.len();
            let whole = Walk::over(file.file(), length, |_, _| {})?;
            if whole < length {
                tracing::warn!(
                    "{}: the last {} bytes are no whole record; they are cut",
                    path.display(),
                    length - whole
                );
                file.set_len(whole)?;
            }
            shared.grow(whole);
        }
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => {}
        Err(failure) => return Err(failure),
    }
    Ok(shared)
}

/// Going over the heads of a log from its beginning.
struct Walk;

impl Walk {
    /// Calls `met` with each whole record's stream and the place of its bytes. Returns where the last one ends.
    fn over(file: &File, length: u64, mut met: impl FnMut(Stream, Range<u64>)) -> io::Result<u64> {
        let mut at = 0_u64;
        let mut window = vec![0_u8; 16 * 1024];
        let mut held = 0..0_u64;
        while at + HEAD as u64 <= length {
            if at < held.start || at + HEAD as u64 > held.end {
                let count = read_some(file, &mut window, at)?;
                held = at..at + count as u64;
            }
            let place = usize::try_from(at - held.start).unwrap_or(usize::MAX);
            let Some((stream, long)) = window.get(place..).and_then(read_head) else { break };
            let start = at + HEAD as u64;
            let end = start + u64::from(long);
            if end > length {
                break;
            }
            met(stream, start..end);
            at = end;
        }
        Ok(at)
    }
}

/// Reads until the buffer is full or the file ends.
fn read_some(file: &File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = buffer.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, from + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(count)
}

/// What the streams wrote right before a position.
#[derive(Debug, Default)]
struct Memory {
    stdout: Last,
    stderr: Last,
}

/// What one stream wrote right before a position.
#[derive(Debug, Default)]
struct Last {
    bytes: Vec<u8>,
    /// How many of them, at their end, were left out: the beginning of a character whose rest may come.
    omitted: usize,
}

impl Memory {
    fn of(&mut self, stream: Stream) -> &mut Last {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

/// Reads a log in chunks. It knows where it is; going elsewhere costs a walk from the beginning.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    /// Open while the log grows; then only while a chunk is read, as the logs of many ended tasks may wait for
    /// a server that is away.
    file: Option<File>,
    secrets: Secrets,
    /// Empty while the file is not open.
    buffer: Vec<u8>,
    at: Place,
    /// The stream whose line goes on there.
    begun: Option<Stream>,
    memory: Memory,
}

/// A position, and the record that it lies in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    at: u64,
    /// The record's stream and where it ends; none between records.
    record: Option<(Stream, u64)>,
}

/// Bytes of one record.
#[derive(Debug)]
struct Piece {
    stream: Stream,
    /// Where they are in the buffer.
    held: Range<usize>,
    /// Where they are in the log.
    at: u64,
    /// Where their record ends.
    end: u64,
}

impl Piece {
    /// The place behind the first `count` bytes.
    fn place(&self, count: usize) -> Place {
        let at = self.at + count as u64;
        Place { at, record: (at < self.end).then_some((self.stream, self.end)) }
    }
}

impl Reader {
    pub(super) fn new(path: PathBuf, secrets: Secrets) -> Self {
        Self {
            path,
            file: None,
            secrets,
            buffer: Vec::new(),
            at: Place::default(),
            begun: None,
            memory: Memory::default(),
        }
    }

    /// Whether a chunk from there can be had without waiting for a disk: what was written just now is still in
    /// memory.
    pub(super) fn has_at_hand(&self, from: u64, log: &Shared) -> bool {
        self.file.is_some() && self.at.at == from && log.length().saturating_sub(from) <= AT_HAND
    }

    /// What stands behind `from`. None if there is nothing that can be shown yet; a chunk of no length if the
    /// log has ended there. May block, see [`Reader::has_at_hand`].
    pub(super) fn next(&mut self, from: u64, log: &Shared) -> io::Result<Option<Chunk>> {
        // In this order: what is closed does not grow.
        let closed = log.is_closed();
        let length = log.length();
        self.open()?;
        let chunk = self.chunk(from, length, closed);
        if closed {
            self.rest();
        }
        chunk
    }

    /// The text of a chunk that was read before, as it was read then; none where the log gives another one now.
    pub(super) fn again(&mut self, was: &Chunk) -> io::Result<Option<Vec<Part>>> {
        self.open()?;
        let same = |chunk: &Chunk| chunk.to == was.to;
        let mut chunk = self.chunk(was.from, was.log, was.closed)?.filter(same);
        if chunk.is_none() {
            // What is held back at its end depends on what is known to be secret, and that may be less here.
            chunk = self.chunk(was.from, was.to, true)?.filter(same);
        }
        Ok(chunk.map(|chunk| chunk.parts))
    }

    /// Lets go of the file until the next chunk is read.
    pub(super) fn rest(&mut self) {
        self.file = None;
        self.buffer = Vec::new();
    }

    fn open(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        match fs::File::open(&self.path) {
            Ok(file) => self.file = Some(file.into_parts().0),
            Err(failure) if failure.kind() == io::ErrorKind::NotFound => {}
            Err(failure) => return Err(failure),
        }
        self.buffer = vec![0; RECORD_MAX + HEAD];
        Ok(())
    }

    fn chunk(&mut self, from: u64, length: u64, closed: bool) -> io::Result<Option<Chunk>> {
        let masker = self.secrets.masker();
        if from != self.at.at {
            self.go_to(from, length, &masker)?;
        }
        let begun = self.begun;
        let pieces = self.take(length)?;
        let taken = pieces.last().map_or(from, |piece| piece.at + piece.held.len() as u64);
        let mut parts = Vec::new();
        let mut stretches = pieces.chunk_by(|one, next| one.stream == next.stream).peekable();
        while let Some(stretch) = stretches.next() {
            let ending = match (stretches.peek().is_some(), closed && taken >= length) {
                (true, _) => Ending::Broken,
                (false, true) => Ending::Final,
                (false, false) => Ending::Open,
            };
            parts.extend(self.show(&masker, stretch, ending));
        }
        let nothing = self.at.at == from;
        if nothing && !(closed && from >= length) {
            return Ok(None);
        }
        Ok(Some(Chunk { from, to: self.at.at, log: length, closed, begun, parts }))
    }

    /// Shows as much of adjacent bytes of one stream as can be shown, and goes behind that.
    fn show(&mut self, masker: &Masker, stretch: &[Piece], ending: Ending) -> Option<Part> {
        let stream = stretch.first()?.stream;
        let Last { bytes, omitted } = self.memory.of(stream);
        let (mut bytes, omitted) = (bytes.clone(), *omitted);
        let before = bytes.len();
        for piece in stretch {
            bytes.extend_from_slice(self.buffer.get(piece.held.clone()).unwrap_or_default());
        }
        let shown = masker.show(bytes.clone(), before, omitted, ending);
        if shown.used > 0 {
            self.at = behind(stretch, shown.used)?;
            let last = bytes.get(before.saturating_add(shown.used).saturating_sub(1));
            self.begun = (last != Some(&b'\n')).then_some(stream);
            *self.memory.of(stream) = Last { bytes: shown.recent, omitted: shown.omitted };
        }
        let line_end = shown.line_end.and_then(|count| behind(stretch, count)).map(|place| place.at);
        (!shown.text.is_empty()).then_some(Part { stream, text: shown.text, to: self.at.at, line_end })
    }

    /// What the log holds behind this place, up to a chunk.
    fn take(&mut self, length: u64) -> io::Result<Vec<Piece>> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let Place { at, mut record } = self.at;
        let wanted = usize::try_from(length.saturating_sub(at)).unwrap_or(usize::MAX).min(self.buffer.len());
        let count = read_some(file, self.buffer.get_mut(..wanted).unwrap_or_default(), at)?;
        let mut pieces = Vec::new();
        let mut place = 0;
        while place < count {
            let (stream, end) = match record.take() {
                Some(open) => open,
                None if place + HEAD > count => break,
                None => {
                    let head = self.buffer.get(place..count).and_then(read_head);
                    let (stream, long) = head.ok_or_else(|| damaged(at + place as u64))?;
                    place += HEAD;
                    (stream, at + place as u64 + u64::from(long))
                }
            };
            let here = at + place as u64;
            let long = usize::try_from(end.saturating_sub(here)).unwrap_or(usize::MAX).min(count - place);
            if long > 0 {
                pieces.push(Piece { stream, held: place..place + long, at: here, end });
            }
            place += long;
        }
        Ok(pieces)
    }

    /// Goes to a position as if everything before it had been read.
    fn go_to(&mut self, position: u64, length: u64, masker: &Masker) -> io::Result<()> {
        self.memory = Memory::default();
        self.at = Place::default();
        self.begun = None;
        let Some(file) = &self.file else { return if position == 0 { Ok(()) } else { Err(no_place(position)) } };
        let mut recent = Recent::new(masker.memory() as u64);
        let mut found = (position == 0).then(Place::default);
        let mut done = false;
        let mut last = None;
        Walk::over(file, length, |stream, bytes| {
            // What stands right behind the position says whether the other stream was interrupted there.
            if bytes.start < bytes.end.min(position) {
                last = Some((stream, bytes.end.min(position)));
            }
            if !done {
                recent.met(stream, bytes.start..bytes.end.min(position));
                done = bytes.end > position;
            }
            if bytes.end == position {
                found = Some(Place { at: position, record: None });
            } else if bytes.contains(&position) {
                found = Some(Place { at: position, record: Some((stream, bytes.end)) });
            }
        })?;
        self.begun = match last {
            Some((stream, end)) => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, end.saturating_sub(1))?;
                (byte != *b"\n").then_some(stream)
            }
            None => None,
        };
        self.memory = recent.read(file)?;
        self.at = found.ok_or_else(|| no_place(position))?;
        Ok(())
    }
}

/// The place behind the first `count` bytes of a stretch.
fn behind(stretch: &[Piece], mut count: usize) -> Option<Place> {
    for piece in stretch {
        let long = piece.held.len();
        if count <= long {
            return Some(piece.place(count));
        }
        count -= long;
    }
    None
}

/// The last bytes of each stream, as ranges of the log.
struct Recent {
    most: u64,
    stdout: Ranges,
    stderr: Ranges,
}

#[derive(Default)]
struct Ranges {
    ranges: VecDeque<Range<u64>>,
    /// Whether the other stream wrote after that.
    interrupted: bool,
}

impl Recent {
    fn new(most: u64) -> Self {
        Self { most, stdout: Ranges::default(), stderr: Ranges::default() }
    }

    /// Takes note of bytes; of none if they lie behind the position.
    fn met(&mut self, stream: Stream, bytes: Range<u64>) {
        let (own, other) = match stream {
            Stream::Stdout => (&mut self.stdout, &mut self.stderr),
            Stream::Stderr => (&mut self.stderr, &mut self.stdout),
        };
        other.interrupted = true;
        if bytes.start >= bytes.end {
            return;
        }
        own.interrupted = false;
        own.ranges.push_back(bytes.start.max(bytes.end.saturating_sub(self.most))..bytes.end);
        let mut total: u64 = own.ranges.iter().map(|range| range.end - range.start).sum();
        while let Some(long) = own.ranges.front().map(|range| range.end - range.start)
            && total - long >= self.most
        {
            own.ranges.pop_front();
            total -= long;
        }
    }

    fn read(&self, file: &File) -> io::Result<Memory> {
        Ok(Memory { stdout: self.stdout.read(file, self.most)?, stderr: self.stderr.read(file, self.most)? })
    }
}

impl Ranges {
    fn read(&self, file: &File, most: u64) -> io::Result<Last> {
        let mut bytes = Vec::new();
        for range in &self.ranges {
            let start = bytes.len();
            bytes.resize(start + usize::try_from(range.end - range.start).unwrap_or_default(), 0);
            read_some(file, bytes.get_mut(start..).unwrap_or_default(), range.start)?;
        }
        let surplus = bytes.len().saturating_sub(usize::try_from(most).unwrap_or(usize::MAX));
        bytes.drain(..surplus);
        let omitted = if self.interrupted { cut_character(&bytes) } else { 0 };
        Ok(Last { bytes, omitted })
    }
}

fn damaged(at: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the output log is damaged at byte {at}"))
}

fn no_place(at: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("the output log has no position {at}"))
}
