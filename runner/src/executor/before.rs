//! What stood in a log right before a place: whoever begins to read there shows what comes as one who has read all.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;

use makima_core::input::Stream;

use super::gone::{Gone, Mark};
use super::log::read_some;
use super::mask::cut_character;

/// What the streams wrote right before a position.
#[derive(Debug, Default)]
pub(super) struct Memory {
    stdout: Last,
    stderr: Last,
}

/// What one stream wrote right before a position.
#[derive(Debug, Default)]
pub(super) struct Last {
    pub(super) bytes: Vec<u8>,
    /// How many of them, at their end, were left out: the beginning of a character whose rest may come.
    pub(super) omitted: usize,
    /// How many bytes are not shown: what stood before is gone, and a secret that began there may end in them.
    pub(super) hidden: usize,
}

impl Memory {
    pub(super) fn of(&mut self, stream: Stream) -> &mut Last {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

/// What is to be walked over so that all is known that was written right before a place.
#[derive(Debug, Default)]
pub(super) struct Way {
    pub(super) before: Vec<Range<u64>>,
    /// Where the stretch begins that the place lies in.
    pub(super) last: u64,
    /// The streams of which something is gone that would have to be known.
    cut: Vec<Stream>,
}

impl Way {
    /// Backwards over the stretches between marks, as long as one holds what is wanted.
    pub(super) fn to(position: u64, most: u64, gone: &Gone, marks: &[Mark]) -> Self {
        let mut edges = vec![0];
        edges.extend(marks.iter().map(|mark| mark.at));
        edges.extend(gone.ranges().iter().flat_map(|range| [range.start, range.end]));
        edges.retain(|edge| *edge <= position);
        edges.sort_unstable();
        edges.dedup();
        let mut way = Self { last: edges.last().copied().unwrap_or_default(), ..Self::default() };
        let mut wanted = vec![(Stream::Stdout, most), (Stream::Stderr, most)];
        for stretch in edges.array_windows().rev().map(|[from, to]| *from..*to) {
            let mark = marks.binary_search_by_key(&stretch.end, |mark| mark.at).ok().and_then(|at| marks.get(at));
            // Where no mark tells, something may stand there.
            let has = |stream: Stream| mark.is_none_or(|mark| mark.of(stream) > 0);
            if gone.at(stretch.start).is_some() {
                way.cut.extend(wanted.extract_if(.., |(stream, _)| has(*stream)).map(|(stream, _)| stream));
            } else if wanted.iter().any(|(stream, _)| has(*stream)) {
                for (stream, more) in &mut wanted {
                    *more = more.saturating_sub(mark.map_or(0, |mark| u64::from(mark.of(*stream))));
                }
                way.before.push(stretch);
                wanted.retain(|(_, more)| *more > 0);
            }
            if wanted.is_empty() {
                break;
            }
        }
        way.before.reverse();
        way
    }

    pub(super) fn is_cut(&self, stream: Stream) -> bool {
        self.cut.contains(&stream)
    }
}

/// The last bytes of each stream, as ranges of the log.
pub(super) struct Recent {
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
    pub(super) fn new(most: u64) -> Self {
        Self { most, stdout: Ranges::default(), stderr: Ranges::default() }
    }

    /// Takes note of bytes; of none if they lie behind the position.
    pub(super) fn met(&mut self, stream: Stream, bytes: Range<u64>) {
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

    pub(super) fn read(&self, file: &File) -> io::Result<Memory> {
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
        Ok(Last { bytes, omitted, hidden: 0 })
    }
}
