//! What the journal tells a new life of the daemon.

use std::io;
use std::path::Path;

use makima_core::effect::Effect;
use makima_core::id::TaskId;
use makima_core::input::{Chunk, Part};
use makima_core::record::Record;
use makima_core::{Config, Daemon};

use super::format::Bad;
use super::read::{Segment, segments};
use super::{BUILD, read};

/// A daemon as the journal knows it, before its new life begins.
#[derive(Debug)]
pub struct Recovered {
    /// The daemon.
    pub daemon: Daemon,
    /// The number of the next record.
    pub next: u64,
    /// The number of the next segment.
    pub segment: u64,
    /// Whether the state is what the steps in the journal lead to, all of them.
    pub goes_on: bool,
    /// Steps that were taken again.
    pub replayed: u64,
    /// What people should know: what was damaged, and what could not be trusted.
    pub notes: Vec<String>,
}

/// Why a journal is not taken up.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A newer makima wrote it.
    #[error("{}: {bad}", path.display())]
    Newer {
        /// The segment.
        path: std::path::PathBuf,
        /// Its version.
        bad: Bad,
    },
}

/// Reads the journal in `folder`: the newest state that can be read, and the steps behind it. `log` gives the text of
/// a task's output that was read, masked as it was.
///
/// # Errors
/// It cannot be read at all, or a newer makima wrote it.
pub fn recover(
    folder: &Path,
    config: &Config,
    mut log: impl FnMut(TaskId, &Chunk) -> Option<Vec<Part>>,
) -> Result<Recovered, JournalError> {
    let files = segments(folder)?;
    let segment = files.last().map_or(1, |newest| read::number_of(newest).saturating_add(1));
    let fresh = || Daemon::new(config.clone());
    let mut recovered = Recovered { daemon: fresh(), next: 1, segment, goes_on: false, replayed: 0, notes: Vec::new() };
    // Newest first, until one holds a state; what lies behind that is the tail.
    let mut tail: Vec<Segment> = Vec::new();
    let mut restored = false;
    for path in files.iter().rev() {
        let mut segment = Segment::read(path)?;
        if let Err(bad @ Bad::Newer { .. }) = &segment.header {
            return Err(JournalError::Newer { path: path.clone(), bad: bad.clone() });
        }
        let state = segment.restore(&mut recovered.notes);
        tail.push(segment);
        if let Some(daemon) = state {
            recovered.daemon = daemon;
            restored = true;
            break;
        }
    }
    let mut trusted = true;
    for (at, segment) in tail.into_iter().rev().enumerate() {
        // Its own state, or what the steps before lead to.
        let joins = if at == 0 { restored } else { segment.goes_on_at(recovered.next) };
        trusted &= joins;
        recovered.take(segment, &mut trusted, &mut log);
    }
    recovered.goes_on = trusted && !files.is_empty();
    if !trusted {
        recovered.mark_doubtful();
    }
    Ok(recovered)
}

impl Segment {
    /// Whether its steps are those that follow the one before `next`.
    fn goes_on_at(&self, next: u64) -> bool {
        self.header.as_ref().is_ok_and(|header| header.goes_on && header.first == next)
    }

    /// The state that it begins with.
    fn restore(&mut self, notes: &mut Vec<String>) -> Option<Daemon> {
        let Ok(header) = &self.header else { return None };
        match Daemon::restore(header.snapshot.clone()) {
            Ok(daemon) => Some(daemon),
            Err(why) => {
                notes.push(format!("{}: {why}", self.path.display()));
                None
            }
        }
    }
}

impl Recovered {
    /// Takes the steps of a segment again, as long as they can be trusted; of the others only the server's commands.
    fn take(
        &mut self,
        segment: Segment,
        trusted: &mut bool,
        log: &mut impl FnMut(TaskId, &Chunk) -> Option<Vec<Part>>,
    ) {
        let torn = segment.is_torn();
        if let Ok(header) = &segment.header {
            self.next = self.next.max(header.first);
        }
        let Segment { path, header, records, damage, beyond } = segment;
        match header {
            Ok(header) if header.build != BUILD && *trusted => {
                let count = records.len();
                self.notes.push(format!(
                    "{}: written by makima {}: of its {count} steps only the server's commands are taken over",
                    path.display(),
                    header.build
                ));
                *trusted = false;
            }
            Ok(_) => {}
            Err(_) => *trusted = false,
        }
        let mut effects = Vec::new();
        for record in records {
            self.next = record.n.saturating_add(1);
            if *trusted {
                match self.replay(&record, &mut effects, log) {
                    Ok(()) => {
                        self.replayed = self.replayed.saturating_add(1);
                        continue;
                    }
                    Err(why) => {
                        self.notes.push(format!("{}: {why}; from there on it is not trusted", path.display()));
                        *trusted = false;
                    }
                }
            }
            self.salvage(record);
        }
        if let Some(damage) = damage {
            let what = if torn { "cut off there" } else { "damaged; what comes behind it is not trusted" };
            self.notes.push(format!("{damage}: {what}"));
            *trusted &= torn;
        }
        for record in beyond {
            self.next = self.next.max(record.n.saturating_add(1));
            self.salvage(record);
        }
    }

    /// Says of which tasks it is not known how far they had come: their folders and their supervisors tell that.
    fn mark_doubtful(&mut self) {
        let open = self.daemon.statuses().filter(|(_, status)| !status.is_end());
        let notes = open.map(|(id, status)| {
            format!(
                "task {id}, {} when that was written: how far it has come is told by its folder and its agent",
                status.as_str()
            )
        });
        self.notes.extend(notes);
    }

    fn replay(
        &mut self,
        record: &Record,
        effects: &mut Vec<Effect>,
        log: &mut impl FnMut(TaskId, &Chunk) -> Option<Vec<Part>>,
    ) -> Result<(), String> {
        let whole = record.whole(&self.daemon, log);
        let (now, input) = whole
            .ok_or_else(|| format!("record {}: the output that it tells of is not in the log any more", record.n))?;
        effects.clear();
        self.daemon.step(now, input, effects);
        record.compare(effects, &mut self.daemon).map_err(|difference| difference.to_string())
    }

    fn salvage(&mut self, record: Record) {
        self.daemon.salvage(record.now, record.input);
    }
}
