//! What an output log does not hold any more, and where one may begin to read it. Its one writer keeps both beside it.
//!
//! Architecture invariant: what is gone is written down before it goes. A reader that finds its bytes in no range that
//! is gone, after it has read them, has read them as they were written.

use std::io;
use std::ops::Range;

use fs_err as fs;
use makima_core::input::Stream;
use serde::{Deserialize, Serialize};

use super::record::Folder;

/// Stretches of a log that are not there any more: whole records, in order, apart from each other. Two at most: what the
/// server had, and what was between the first and the newest of what it had not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Gone {
    ranges: Vec<Range<u64>>,
}

/// As it is written down, by whomever.
#[derive(Deserialize)]
struct Written {
    ranges: Vec<Range<u64>>,
}

impl TryFrom<Written> for Gone {
    type Error = &'static str;

    fn try_from(Written { ranges }: Written) -> Result<Self, Self::Error> {
        let whole = ranges.iter().all(|range| range.start <= range.end);
        if whole && ranges.is_sorted_by(|one, next| one.end <= next.start) {
            return Ok(Self { ranges });
        }
        Err("what is gone is not in order")
    }
}

impl Gone {
    /// What is gone around a place.
    pub(crate) fn at(&self, place: u64) -> Option<Range<u64>> {
        self.ranges.iter().find(|range| range.contains(&place)).cloned()
    }

    /// Where something is gone next, behind a place that is there.
    pub(crate) fn next(&self, place: u64) -> Option<u64> {
        self.ranges.iter().map(|range| range.start).find(|start| *start > place)
    }

    /// How many bytes are gone.
    pub(crate) fn total(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    pub(crate) fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// The same, and this too.
    pub(crate) fn with(&self, mut more: Range<u64>) -> Self {
        let mut ranges = Vec::with_capacity(self.ranges.len() + 1);
        for range in &self.ranges {
            if range.end < more.start || range.start > more.end {
                ranges.push(range.clone());
            } else {
                more = range.start.min(more.start)..range.end.max(more.end);
            }
        }
        ranges.push(more);
        ranges.sort_by_key(|range| range.start);
        Self { ranges }
    }
}

/// The name of the file of marks.
pub(crate) const MARKS: &str = "output.marks";

/// The length of a mark in its file.
pub(crate) const MARK: usize = 16;

/// A place in front of a record, and what stands between it and the mark before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) at: u64,
    /// Bytes of standard output; as many as fit.
    pub(crate) out: u32,
    /// Bytes of standard error; as many as fit.
    pub(crate) err: u32,
}

impl Mark {
    pub(crate) fn bytes(self) -> [u8; MARK] {
        let mut bytes = [0; MARK];
        let (at, rest) = bytes.split_at_mut(8);
        let (out, err) = rest.split_at_mut(4);
        at.copy_from_slice(&self.at.to_le_bytes());
        out.copy_from_slice(&self.out.to_le_bytes());
        err.copy_from_slice(&self.err.to_le_bytes());
        bytes
    }

    fn read(bytes: [u8; MARK]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self {
            at: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            out: u32::from_le_bytes([i, j, k, l]),
            err: u32::from_le_bytes([m, n, o, p]),
        }
    }

    pub(crate) const fn of(self, stream: Stream) -> u32 {
        match stream {
            Stream::Stdout => self.out,
            Stream::Stderr => self.err,
        }
    }
}

/// The marks of a log, in order. Those that a crash has left without sense are left out, with all behind them: they only
/// spare a walk.
pub(super) fn marks(folder: &Folder) -> io::Result<Vec<Mark>> {
    let bytes = match fs::read(folder.file(MARKS)) {
        Ok(bytes) => bytes,
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(failure) => return Err(failure),
    };
    let (whole, _) = bytes.as_chunks::<MARK>();
    let mut before = 0;
    let in_order = |mark: &Mark| {
        let after = mark.at > before;
        before = mark.at;
        after
    };
    Ok(whole.iter().map(|bytes| Mark::read(*bytes)).take_while(in_order).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        let gone = Gone::default().with(10..20).with(40..50);
        assert_eq!(gone.ranges(), [10..20, 40..50]);
        assert_eq!((gone.at(9), gone.at(10), gone.at(20)), (None, Some(10..20), None));
        assert_eq!((gone.next(0), gone.next(20), gone.next(50)), (Some(10), Some(40), None));
        assert_eq!((gone.with(20..30).ranges(), gone.total()), (&[10..30, 40..50][..], 20));
        assert_eq!(gone.with(0..45).at(3), Some(0..50));
    }
}
