//! Writing the journal: on a thread of its own, many records with one flush.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use fs_err as fs;
use makima_core::Daemon;
use makima_core::effect::Effect;
use makima_core::input::{Input, Outcome};
use makima_core::record::Record;
use makima_core::time::Now;
use tokio::sync::watch;

use super::format::{self, Header, VERSION};
use super::recover::Recovered;
use super::{BUILD, read};
use crate::home::private_file;

/// The digest of the state is written down with every so manieth record.
const DIGEST_EVERY: u64 = 64;

/// Between two attempts to begin a segment after the disk refused one.
const AGAIN: Duration = Duration::from_secs(1);

/// Room that is taken on the disk when a segment begins, so that a disk that fills up does not stop it at once.
const RESERVE: u64 = 1 << 20;

/// How much the journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Records of one segment: so many steps are taken again at the most when the daemon starts.
    pub records: u64,
    /// Bytes of one segment.
    pub bytes: u64,
    /// Bytes of output that the records of one segment tell of: so much is read again when the daemon starts.
    pub output: u64,
    /// Bytes of all segments; the oldest go first, but never the newest two.
    pub all: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { records: 20_000, bytes: 16 << 20, output: 128 << 20, all: 64 << 20 }
    }
}

/// How far the journal is, for whoever waits for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Records up to this number outlast anything.
    pub flushed: u64,
    /// It cannot be written, and why.
    pub trouble: Option<String>,
    /// Flushes so far.
    pub flushes: u64,
}

/// The journal of a daemon that runs.
#[derive(Debug)]
pub struct Journal {
    to: mpsc::Sender<Entry>,
    standing: watch::Receiver<Standing>,
    bounds: Bounds,
    /// The number of the next record.
    next: u64,
    segment: Fill,
    tried: Option<Instant>,
}

/// How full the present segment is.
#[derive(Debug, Default)]
struct Fill {
    records: u64,
    bytes: u64,
    output: u64,
}

enum Entry {
    /// A record, and whether somebody waits for it to be flushed.
    Record { n: u64, line: Vec<u8>, flush: bool },
    /// A segment begins with this line; records up to `n` belong before it.
    Segment { n: u64, header: Vec<u8> },
}

impl Journal {
    /// Begins a segment with the daemon as it stands, before anything is done by it.
    ///
    /// # Errors
    /// As writing does.
    pub fn begin(folder: &Path, bounds: Bounds, recovered: &Recovered) -> io::Result<Self> {
        let Recovered { daemon, next, segment, goes_on, .. } = recovered;
        let (next, segment) = (*next, *segment);
        let (to, entries) = mpsc::channel();
        let (tell, standing) = watch::channel(Standing::default());
        let mut writer = Writer { folder: folder.to_path_buf(), bounds, number: segment, file: None, tell };
        writer.segment(&header(daemon, next, *goes_on)?)?;
        writer.tell.send_modify(|standing| standing.flushed = next.saturating_sub(1));
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run(&entries))?;
        Ok(Self { to, standing, bounds, next, segment: Fill::default(), tried: None })
    }

    /// A record of a step that is about to be taken.
    #[must_use]
    pub fn record(&self, now: Now, input: &Input) -> Record {
        Record::of(self.next, now, input)
    }

    /// Writes down a step that was taken. Gives its number; it is flushed soon if one of its effects waits for that.
    pub fn write(&mut self, mut record: Record, effects: &[Effect], daemon: &mut Daemon) -> u64 {
        let n = self.next;
        self.next = n.saturating_add(1);
        record.effects = effects.iter().map(ToString::to_string).collect();
        record.digest = n.is_multiple_of(DIGEST_EVERY).then(|| daemon.digest());
        let anew = effects.iter().any(Effect::begins_the_journal_anew);
        // A segment that begins behind it flushes it, and then only is it known to be.
        let flush = !anew && effects.iter().any(Effect::waits_for_the_journal);
        if let Input::Done { outcome: Outcome::Chunk(chunk), .. } = &record.input {
            self.segment.output = self.segment.output.saturating_add(chunk.to.saturating_sub(chunk.from));
        }
        if let Ok(line) = format::line(&record) {
            self.segment.records = self.segment.records.saturating_add(1);
            self.segment.bytes = self.segment.bytes.saturating_add(line.len() as u64);
            // Fails only where its thread is gone, and then that is told as trouble.
            let _ = self.to.send(Entry::Record { n, line, flush });
        }
        if anew || self.is_full() || self.wants_another_try() {
            self.rotate(daemon);
        }
        n
    }

    /// Begins a new segment with the daemon as it stands.
    pub fn rotate(&mut self, daemon: &Daemon) {
        self.tried = Some(Instant::now());
        self.segment = Fill::default();
        // Behind a gap it does not.
        let goes_on = self.standing.borrow().trouble.is_none();
        if let Ok(header) = header(daemon, self.next, goes_on) {
            let _ = self.to.send(Entry::Segment { n: self.next.saturating_sub(1), header });
        }
    }

    /// How far it is.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Up to which record it outlasts anything, and whether it cannot be written any further.
    #[must_use]
    pub fn reach(&self) -> (u64, bool) {
        let standing = self.standing.borrow();
        (standing.flushed, standing.trouble.is_some())
    }

    /// Waits until it is further than it was.
    pub async fn moved(&mut self) {
        if self.standing.changed().await.is_err() {
            // Its thread is gone: nobody will ever tell.
            std::future::pending::<()>().await;
        }
    }

    const fn is_full(&self) -> bool {
        let Fill { records, bytes, output } = self.segment;
        records >= self.bounds.records || bytes >= self.bounds.bytes || output >= self.bounds.output
    }

    fn wants_another_try(&self) -> bool {
        self.tried.is_none_or(|tried| tried.elapsed() >= AGAIN) && self.standing.borrow().trouble.is_some()
    }

    /// Ends it, with everything written and flushed.
    pub async fn end(mut self, daemon: &Daemon, limit: Duration) {
        let last = self.next.saturating_sub(1);
        self.rotate(daemon);
        let Self { to, mut standing, .. } = self;
        drop(to);
        // Its thread ends with its last entry, and the sender of the standing with it.
        let ended = async { while standing.changed().await.is_ok() {} };
        if tokio::time::timeout(limit, ended).await.is_err() || standing.borrow().flushed < last {
            tracing::warn!("the end of the journal could not be written");
        }
    }
}

fn header(daemon: &Daemon, first: u64, goes_on: bool) -> io::Result<Vec<u8>> {
    format::line(&Header { journal: VERSION, build: BUILD.to_owned(), first, goes_on, snapshot: daemon.snapshot() })
}

/// The thread that writes.
struct Writer {
    folder: PathBuf,
    bounds: Bounds,
    /// Of the next segment.
    number: u64,
    file: Option<File>,
    tell: watch::Sender<Standing>,
}

impl Writer {
    fn run(mut self, entries: &mpsc::Receiver<Entry>) {
        let mut lines = Vec::new();
        while let Ok(first) = entries.recv() {
            let (mut upto, mut flush) = (0, false);
            for entry in std::iter::once(first).chain(entries.try_iter()) {
                match entry {
                    Entry::Record { n, line, flush: wanted } => {
                        lines.extend_from_slice(&line);
                        (upto, flush) = (n, flush || wanted);
                    }
                    Entry::Segment { n, header } => {
                        let before = self.append(&mut lines, true);
                        let begun = self.segment(&header);
                        self.told(n, before.and(begun));
                        (upto, flush) = (0, false);
                    }
                }
            }
            if upto > 0 {
                let written = self.append(&mut lines, flush);
                // What was not flushed is not told: nobody waits for it.
                if flush || written.is_err() {
                    self.told(upto, written);
                }
            }
        }
    }

    /// Writes lines to the present segment. After a failure there is none until another has begun: a record behind a
    /// gap would be no use.
    fn append(&mut self, lines: &mut Vec<u8>, flush: bool) -> io::Result<()> {
        let taken = std::mem::take(lines);
        let Some(file) = &mut self.file else {
            return if taken.is_empty() { Ok(()) } else { Err(io::Error::other("the journal has a gap")) };
        };
        let written = file.write_all(&taken).and_then(|()| if flush { file.sync_data() } else { Ok(()) });
        if written.is_err() {
            self.file = None;
        }
        *lines = taken;
        lines.clear();
        written
    }

    /// Begins a segment: whole on the disk under its name, or not there.
    fn segment(&mut self, header: &[u8]) -> io::Result<()> {
        let path = read::segment_file(&self.folder, self.number);
        let temporary = self.folder.join("begun");
        let mut file = private_file().open(&temporary)?;
        file.write_all(header)?;
        // Only a convenience: where it cannot be had, the disk is full when it is full.
        let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, header.len() as u64, RESERVE);
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        fs::File::open(&self.folder)?.sync_all()?;
        self.file = Some(file);
        self.number = self.number.saturating_add(1);
        self.retire();
        Ok(())
    }

    /// Takes the oldest segments away where there are too many bytes of them.
    fn retire(&self) {
        let Ok(files) = read::segments(&self.folder) else { return };
        let sizes: Vec<u64> = files.iter().map(|file| fs::metadata(file).map_or(0, |data| data.len())).collect();
        let mut all: u64 = sizes.iter().sum();
        for (file, size) in files.iter().zip(sizes).take(files.len().saturating_sub(2)) {
            if all <= self.bounds.all {
                return;
            }
            if fs::remove_file(file).is_ok() {
                all = all.saturating_sub(size);
            }
        }
    }

    fn told(&self, upto: u64, result: io::Result<()>) {
        self.tell.send_modify(|standing| match result {
            Ok(()) => {
                standing.flushed = standing.flushed.max(upto);
                standing.flushes = standing.flushes.saturating_add(1);
                standing.trouble = None;
            }
            // The first failure says why; those behind it only that there is a gap.
            Err(failure) => drop(standing.trouble.get_or_insert_with(|| failure.to_string())),
        });
    }
}
