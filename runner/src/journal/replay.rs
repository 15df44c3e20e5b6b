//! Takes the steps of a journal or a recording again, and says where they go another way, or where something does not
//! hold that must.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use makima_core::Daemon;
use makima_core::effect::Effect;
use makima_core::id::TaskId;
use makima_core::input::{Chunk, Input, Part};
use makima_core::record::{Difference, Record};
use makima_core::time::Now;

use super::format::Header;
use super::read::{Damage, Segment, segments};

/// The steps of one daemon, from a state on.
#[derive(Debug)]
pub struct Recording {
    /// The files that it was read from, oldest first.
    pub files: Vec<PathBuf>,
    /// The state, and who wrote it.
    pub header: Header,
    /// The steps.
    pub records: Vec<Record>,
    /// Where it ends before its time.
    pub damage: Option<Damage>,
    /// So many records stand behind that, and cannot be taken: it was not merely cut off.
    pub beyond: usize,
}

/// Why there is no recording.
#[derive(Debug, thiserror::Error)]
pub enum NoRecording {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not even say what it is.
    #[error("{0}")]
    Damaged(Damage),
    /// There is none.
    #[error("{}: there is no journal", .0.display())]
    None(PathBuf),
}

/// Why a replay does not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// A step goes another way.
    #[error(transparent)]
    Differs(#[from] Difference),
    /// The state that it begins with is none.
    #[error("the state that it begins with cannot be used: {0}")]
    NoState(String),
    /// The text of output cannot be had as it was.
    #[error(
        "record {n}: the output that it tells of is not there as it was read; \
         export the journal (`makima journal export`) where it was written, while the task's log is there"
    )]
    NoOutput {
        /// The record.
        n: u64,
    },
    /// What must hold of a daemon between any two steps does not behind this one, or it cannot be taken at all: a bug of
    /// makima's.
    #[error("record {n}: what must always hold does not: {why}")]
    Breaks {
        /// The record.
        n: u64,
        /// In the words of the check that found it.
        why: String,
    },
}

/// What a replay came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Steps taken.
    pub steps: u64,
    /// Things that they had done, all as recorded.
    pub effects: u64,
    /// Digests that were compared.
    pub digests: u64,
    /// The digest at the end.
    pub digest: u64,
}

impl Recording {
    /// Reads a file; of a folder with a journal, everything that hangs together up to its newest step.
    ///
    /// # Errors
    /// There is nothing that can be read.
    pub fn read(path: &Path) -> Result<Self, NoRecording> {
        if !path.is_dir() {
            return Self::of(Segment::read(path)?);
        }
        let mut files = segments(path)?;
        let newest = files.pop().ok_or_else(|| NoRecording::None(path.to_path_buf()))?;
        let mut recording = Self::of(Segment::read(&newest)?)?;
        while let (true, Some(file)) = (recording.header.goes_on, files.pop()) {
            let Ok(before) = Self::of(Segment::read(&file)?) else { break };
            let next = before.records.last().map_or(before.header.first, |record| record.n.saturating_add(1));
            let joins = before.damage.is_none() && next == recording.header.first;
            if !joins || before.header.build != recording.header.build {
                break;
            }
            recording = before.followed_by(recording);
        }
        Ok(recording)
    }

    fn of(segment: Segment) -> Result<Self, NoRecording> {
        let Segment { path, header, records, damage, beyond } = segment;
        match (header, damage) {
            (Ok(header), damage) => Ok(Self { files: vec![path], header, records, damage, beyond: beyond.len() }),
            (Err(_), Some(damage)) => Err(NoRecording::Damaged(damage)),
            (Err(_), None) => Err(NoRecording::None(path)),
        }
    }

    fn followed_by(mut self, next: Self) -> Self {
        self.files.extend(next.files);
        self.records.extend(next.records);
        Self { damage: next.damage, beyond: next.beyond, ..self }
    }

    /// Takes every step again, and looks whether all holds that must. `log` gives the text of output that is not in a
    /// record itself; `seen` gets every record with that text in it, also the one that it stops at.
    ///
    /// # Errors
    /// The first step that goes another way, or that breaks something.
    pub fn replay(
        self,
        mut log: impl FnMut(TaskId, &Chunk) -> Option<Vec<Part>>,
        mut seen: impl FnMut(Record),
    ) -> Result<Replayed, Stopped> {
        let mut daemon =
            Daemon::restore(self.header.snapshot).map_err(|refused| Stopped::NoState(refused.to_string()))?;
        let mut replayed = Replayed { digest: daemon.digest(), ..Replayed::default() };
        let mut effects = Vec::new();
        let last = self.records.last().map(|record| record.n);
        for mut record in self.records {
            let n = record.n;
            let whole = record.whole(&daemon, &mut log);
            let (now, input) = whole.ok_or(Stopped::NoOutput { n })?;
            record.keep_text(&input);
            effects.clear();
            let stepped = step(&mut daemon, now, input, &mut effects, record.digest.is_some() || last == Some(n));
            let same = stepped.map_err(|why| Stopped::Breaks { n, why });
            let same = same.and_then(|()| Ok(record.compare(&effects, &mut daemon)?));
            replayed.digests = replayed.digests.saturating_add(u64::from(record.digest.is_some()));
            seen(record);
            same?;
            replayed.steps = replayed.steps.saturating_add(1);
            replayed.effects = replayed.effects.saturating_add(effects.len() as u64);
            replayed.digest = daemon.digest();
        }
        Ok(replayed)
    }
}

/// Takes a step, and says what does not hold behind it. What is only kept to be quick is looked at where `wholly`: that
/// takes longer than the step, and what is wrong in it stays so.
pub(super) fn step(
    daemon: &mut Daemon,
    now: Now,
    input: Input,
    effects: &mut Vec<Effect>,
    wholly: bool,
) -> Result<(), String> {
    let taken = AssertUnwindSafe(|| {
        daemon.step(now, input, effects);
        if wholly {
            daemon.check();
        } else {
            daemon.check_state();
        }
    });
    panic::catch_unwind(taken).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("it says nothing").to_owned()
    })
}
