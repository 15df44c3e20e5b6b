//! The bound of an output log: what goes when it holds too much.
//!
//! First what the server has, the oldest of it; then what lies between the first of what it has not and the newest. It
//! is written down as gone, and then a hole is made in the file, so that places in it keep their meaning. Where no holes
//! can be made, or nothing can be written down, the log takes no more, and what comes is counted as lost.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use makima_core::input::Stream;
use rustix::fs::{FallocateFlags, fallocate};

use crate::executor::{Folder, Gone, MARK, MARKS, Mark};

/// The most that is kept of the beginning of what the server has not.
const FIRST: u64 = 16 << 20;

/// Between two attempts where one has failed.
const AGAIN: Duration = Duration::from_secs(1);

/// What a log may hold, and what it does not hold any more.
pub(super) struct Room {
    folder: Folder,
    bound: u64,
    gone: Gone,
    /// Places in front of records of what the log holds: cuts are made there.
    marks: Vec<u64>,
    /// What readers find their way by.
    file: File,
    /// Marks that stand in it.
    count: u64,
    /// What was written since the last of them.
    since: Mark,
    /// The server has everything before.
    delivered: u64,
    /// What is written down as gone may still lie on the disk.
    owed: bool,
    after: Option<Instant>,
}

impl Room {
    /// For the log in this folder, of this length.
    pub(super) fn begin(folder: Folder, length: u64, bound: u64) -> io::Result<Self> {
        let options = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).to_owned();
        let (file, _) = options.open(folder.file(MARKS))?.into_parts();
        let before = u32::try_from(length).unwrap_or(u32::MAX);
        Ok(Self {
            gone: folder.gone().unwrap_or_default(),
            folder,
            bound,
            marks: Vec::new(),
            file,
            count: 0,
            since: Mark { at: 0, out: before, err: before },
            delivered: 0,
            owed: false,
            after: None,
        })
    }

    /// The server has everything before this place.
    pub(super) fn delivered(&mut self, to: u64) {
        self.delivered = self.delivered.max(to);
    }

    /// Whether nothing may be added to a log of this length.
    pub(super) fn is_full(&self, length: u64) -> bool {
        self.holds(length) > self.bound.saturating_add(self.bound / 8)
    }

    /// A record stands in the log, which was this long before.
    pub(super) fn wrote(&mut self, stream: Stream, count: u32, at: u64) {
        let apart = (self.bound / 1024).clamp(4 << 10, 1 << 20);
        if at - self.since.at >= apart {
            let mark = Mark { at, ..self.since };
            // Without it there is only more to be walked over.
            if self.file.write_all_at(&mark.bytes(), self.count * MARK as u64).is_ok() {
                self.count += 1;
                self.marks.push(at);
                self.since = Mark { at, out: 0, err: 0 };
            }
        }
        let written = match stream {
            Stream::Stdout => &mut self.since.out,
            Stream::Stderr => &mut self.since.err,
        };
        *written = written.saturating_add(count);
    }

    /// Makes room in a log that holds more than it may.
    pub(super) fn make(&mut self, log: &File, length: u64) {
        let over = self.holds(length) > self.bound;
        if !over && !self.owed || self.after.is_some_and(|after| Instant::now() < after) {
            return;
        }
        self.after = self.cut(log, length).is_err().then(|| Instant::now() + AGAIN);
    }

    fn cut(&mut self, log: &File, length: u64) -> io::Result<()> {
        // Whether holes can be made is seen where nothing is lost by it.
        punch(log, length, 1)?;
        let gone = self.less(length);
        if gone != self.gone {
            self.folder.loses(&gone)?;
            self.marks.retain(|mark| gone.at(*mark).is_none());
            self.gone = gone;
        }
        self.owed = true;
        for range in self.gone.ranges() {
            punch(log, range.start, range.end - range.start)?;
        }
        self.owed = false;
        Ok(())
    }

    fn holds(&self, length: u64) -> u64 {
        length.saturating_sub(self.gone.total())
    }

    /// What is to be gone, so that an eighth is free.
    fn less(&self, length: u64) -> Gone {
        let most = self.bound - self.bound / 8;
        let enough = |gone: &Gone| length.saturating_sub(gone.total()) <= most;
        let up_to = |from: u64, marks: &[u64], gone: &Gone| {
            let cut = |mark: &u64| (*mark > from).then(|| gone.with(from..*mark));
            let mut last = None;
            for cut in marks.iter().filter_map(cut) {
                let done = enough(&cut);
                last = Some(cut);
                if done {
                    break;
                }
            }
            last.unwrap_or_else(|| gone.clone())
        };
        if enough(&self.gone) {
            return self.gone.clone();
        }
        let had = self.marks.partition_point(|mark| *mark <= self.delivered);
        let gone = up_to(0, self.marks.get(..had).unwrap_or_default(), &self.gone);
        if enough(&gone) {
            return gone;
        }
        let begin = gone.at(0).map_or(0, |range| range.end);
        let first = begin.saturating_add(FIRST.min(self.bound / 4));
        let from = gone.next(begin).or_else(|| self.marks.iter().copied().find(|mark| *mark >= first));
        from.map_or_else(|| gone.clone(), |from| up_to(from, &self.marks, &gone))
    }
}

fn punch(log: &File, from: u64, long: u64) -> io::Result<()> {
    Ok(fallocate(log, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, from, long)?)
}
