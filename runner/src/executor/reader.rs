//! Reading an output log in chunks, masked, from any place in it.

use std::cmp::Reverse;
use std::fs::File;
use std::io;
use std::ops::Range;

use fs_err as fs;
use makima_core::input::{Chunk, Part, Stream};
use makima_core::policy::MASK;

use super::before::{Last, Memory, Recent, Way};
use super::gone::{Gone, marks};
use super::log::{AT_HAND, HEAD, RECORD_MAX, Shared, read_head, read_some, walk};
use super::mask::{Ending, Masker, Secrets};
use super::record::Folder;

/// So often in a row a log may be cut while a chunk of it is read.
const TRIES: usize = 16;

/// Reads a log in chunks. It knows where it is; going elsewhere costs a walk from the last mark before.
#[derive(Debug)]
pub(super) struct Reader {
    folder: Folder,
    /// Open while the log grows; then only while a chunk is read, as the logs of many ended tasks may wait for
    /// a server that is away.
    file: Option<File>,
    secrets: Secrets,
    /// Empty while the file is not open.
    buffer: Vec<u8>,
    /// Unknown where it is in no place of the log.
    at: Option<Place>,
    /// The stream whose line goes on there.
    begun: Option<Stream>,
    memory: Memory,
    /// What was gone when it was last looked at.
    gone: Gone,
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
    /// Of the log in this folder.
    pub(super) fn new(folder: Folder, secrets: Secrets) -> Self {
        let (memory, gone) = (Memory::default(), Gone::default());
        Self { folder, file: None, secrets, buffer: Vec::new(), at: Some(Place::default()), begun: None, memory, gone }
    }

    fn is_at(&self, place: u64) -> bool {
        self.at.is_some_and(|here| here.at == place)
    }

    /// How well it suits whoever reads from there: best where it stands there, and then the less far it has come.
    pub(super) fn suits(&self, place: u64) -> (bool, Reverse<u64>) {
        (self.is_at(place), Reverse(self.at.map_or(0, |here| here.at)))
    }

    /// Whether a chunk from there can be had without waiting for a disk: what was written just now is still in
    /// memory.
    pub(super) fn has_at_hand(&self, from: u64, log: &Shared) -> bool {
        self.file.is_some() && self.is_at(from) && log.length().saturating_sub(from) <= AT_HAND
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
        let gone = || self.gone.at(was.from).filter(|range| was.to <= range.end).map(|_| missing(was.from..was.to));
        Ok(chunk.map(|chunk| chunk.parts).or_else(|| gone().map(|part| vec![part])))
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
        match fs::File::open(self.folder.log()) {
            Ok(file) => self.file = Some(file.into_parts().0),
            Err(failure) if failure.kind() == io::ErrorKind::NotFound => {}
            Err(failure) => return Err(failure),
        }
        self.buffer = vec![0; RECORD_MAX + HEAD];
        Ok(())
    }

    /// What is read is of worth only if it was not gone afterwards.
    fn chunk(&mut self, from: u64, length: u64, closed: bool) -> io::Result<Option<Chunk>> {
        for _ in 0..TRIES {
            let chunk = self.attempt(from, length, closed);
            let gone = self.folder.gone()?;
            if gone == self.gone {
                return chunk;
            }
            self.gone = gone;
            self.at = None;
        }
        Err(io::Error::other("the output log is cut faster than it can be read"))
    }

    fn attempt(&mut self, from: u64, length: u64, closed: bool) -> io::Result<Option<Chunk>> {
        if let Some(gone) = self.gone.at(from) {
            self.at = None;
            let to = gone.end;
            let parts = vec![missing(from..to)];
            return Ok(Some(Chunk { from, to, log: length.max(to), closed, begun: None, parts }));
        }
        let masker = self.secrets.masker();
        if !self.is_at(from) {
            self.go_to(from, length, &masker)?;
        }
        let begun = self.begun;
        let limit = self.gone.next(from).map_or(length, |gone| gone.min(length));
        let pieces = self.take(limit)?;
        let taken = pieces.last().map_or(from, |piece| piece.at + piece.held.len() as u64);
        let mut parts = Vec::new();
        let mut stretches = pieces.chunk_by(|one, next| one.stream == next.stream).peekable();
        while let Some(stretch) = stretches.next() {
            // What goes on behind a gap does not go on here.
            let broken = stretches.peek().is_some() || (taken >= limit && limit < length);
            let ending = match (broken, closed && taken >= length) {
                (true, _) => Ending::Broken,
                (false, true) => Ending::Final,
                (false, false) => Ending::Open,
            };
            parts.extend(self.show(&masker, stretch, ending));
        }
        let to = self.at.map_or(from, |here| here.at);
        if to == from && !(closed && from >= length) {
            return Ok(None);
        }
        Ok(Some(Chunk { from, to, log: length, closed, begun, parts }))
    }

    /// Shows as much of adjacent bytes of one stream as can be shown, and goes behind that.
    fn show(&mut self, masker: &Masker, stretch: &[Piece], ending: Ending) -> Option<Part> {
        let stream = stretch.first()?.stream;
        let last = self.memory.of(stream);
        let (mut bytes, omitted, left) = (last.bytes.clone(), last.omitted, last.hidden);
        let start = bytes.len();
        for piece in stretch {
            bytes.extend_from_slice(self.buffer.get(piece.held.clone()).unwrap_or_default());
        }
        let hidden = left.min(bytes.len() - start);
        let shown = masker.show(bytes, start + hidden, omitted, ending);
        let used = hidden + shown.used;
        if used > 0 {
            let place = behind(stretch, used)?;
            self.at = Some(place);
            self.begun = (self.last_of(stretch, used) != Some(b'\n')).then_some(stream);
            *self.memory.of(stream) = Last { bytes: shown.recent, omitted: shown.omitted, hidden: left - hidden };
        }
        let line_end = shown.line_end.and_then(|count| behind(stretch, hidden + count)).map(|place| place.at);
        let text = if hidden > 0 { format!("{MASK}{}", shown.text) } else { shown.text };
        let to = self.at.map_or(0, |here| here.at);
        (!text.is_empty()).then_some(Part { stream, text, to, line_end })
    }

    /// The last of the first `count` bytes of a stretch.
    fn last_of(&self, stretch: &[Piece], mut count: usize) -> Option<u8> {
        for piece in stretch {
            let bytes = self.buffer.get(piece.held.clone())?;
            if count <= bytes.len() {
                return bytes.get(count.checked_sub(1)?).copied();
            }
            count -= bytes.len();
        }
        None
    }

    /// What the log holds behind this place, up to a chunk.
    fn take(&mut self, length: u64) -> io::Result<Vec<Piece>> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let Place { at, mut record } = self.at.unwrap_or_default();
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
        self.at = None;
        self.begun = None;
        let Some(file) = &self.file else {
            self.at = (position == 0).then(Place::default);
            return if position == 0 { Ok(()) } else { Err(no_place(position)) };
        };
        let way = Way::to(position, masker.memory() as u64, &self.gone, &marks(&self.folder)?);
        let mut recent = Recent::new(masker.memory() as u64);
        let mut last = None;
        let mut found = (position == way.last).then_some(Place { at: position, record: None });
        for stretch in way.before.iter().cloned().chain(std::iter::once(way.last..length)) {
            walk(file, stretch, |stream, bytes| {
                if bytes.end == position {
                    found = Some(Place { at: position, record: None });
                } else if bytes.contains(&position) {
                    found = Some(Place { at: position, record: Some((stream, bytes.end)) });
                }
                if bytes.start < bytes.end.min(position) {
                    last = Some((stream, bytes.end.min(position)));
                }
                // What stands right behind the position says whether the other stream was interrupted there.
                recent.met(stream, bytes.start..bytes.end.min(position));
                bytes.end <= position
            })?;
        }
        if let Some((stream, end)) = last {
            let mut byte = [0];
            self.begun = (read_some(file, &mut byte, end - 1)? == 1 && byte != *b"\n").then_some(stream);
        }
        self.memory = recent.read(file)?;
        for stream in [Stream::Stdout, Stream::Stderr] {
            let last = self.memory.of(stream);
            if way.is_cut(stream) && masker.has_secrets() {
                last.hidden = masker.memory().saturating_sub(last.bytes.len());
            }
        }
        self.at = Some(found.ok_or_else(|| no_place(position))?);
        Ok(())
    }
}

/// What stands for a stretch that is gone.
fn missing(gone: Range<u64>) -> Part {
    let count = gone.end - gone.start;
    let text = format!("\n[makima: {count} bytes of the output log are missing here: it had become too long]\n");
    Part { stream: Stream::Stderr, text, to: gone.end, line_end: Some(gone.end) }
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

fn damaged(at: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the output log is damaged at byte {at}"))
}

fn no_place(at: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("the output log has no position {at}"))
}
