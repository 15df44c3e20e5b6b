//! Reading a segment of a journal, or a recording.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use fs_err as fs;
use makima_core::record::Record;

use super::format::{self, Bad, Header, Lines};

/// A segment, as far as it can be read.
#[derive(Debug)]
pub struct Segment {
    /// Its file.
    pub path: PathBuf,
    /// What it says of itself, or what is wrong with that.
    pub header: Result<Header, Bad>,
    /// The records before the first damage.
    pub records: Vec<Record>,
    /// The first damage.
    pub damage: Option<Damage>,
    /// What can still be read behind the damage: its numbers say how much is missing.
    pub beyond: Vec<Record>,
}

/// A place in a file where something else stands than was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: line {line}, byte {byte}: {what}", path.display())]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// Where that begins, in bytes.
    pub byte: u64,
    /// What is wrong with it.
    pub what: Bad,
}

impl Segment {
    /// Whether it was only cut off at its end, as by a power cut: what came before is whole.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.damage.is_some() && self.beyond.is_empty() && self.header.is_ok()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As reading does. What stands in it is never an error: see [`Segment::damage`].
    pub fn read(path: &Path) -> io::Result<Self> {
        Self::take(path, BufReader::with_capacity(1 << 16, fs::File::open(path)?))
    }

    /// Reads what stands in the file at `path`.
    pub(crate) fn take(path: &Path, from: impl BufRead) -> io::Result<Self> {
        let mut lines = Lines::new(from);
        let damage = |line, byte, what| Damage { path: path.to_path_buf(), line, byte, what };
        let header = match lines.next_line()? {
            Some(json) => json.and_then(format::header),
            None => Err(Bad::Torn),
        };
        let mut segment = Self {
            path: path.to_path_buf(),
            damage: header.as_ref().err().map(|what| damage(1, 0, what.clone())),
            records: Vec::new(),
            beyond: Vec::new(),
            header,
        };
        let mut expected = segment.header.as_ref().map_or(0, |header| header.first);
        loop {
            let (line, byte) = (lines.number, lines.at);
            let Some(json) = lines.next_line()? else { return Ok(segment) };
            match json {
                Ok(json) if segment.damage.is_none() => match format::record(json, expected) {
                    Ok(record) => segment.records.push(record),
                    Err(what) => segment.damage = Some(damage(line, byte, what)),
                },
                Ok(json) => segment.beyond.extend(serde_json::from_str::<Record>(json)),
                Err(what) if segment.damage.is_none() => segment.damage = Some(damage(line, byte, what)),
                Err(_) => {}
            }
            expected = expected.saturating_add(1);
        }
    }
}

/// The journal's segments, oldest first.
///
/// # Errors
/// As listing a folder does.
pub fn segments(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix("journal-").and_then(|number| number.parse().ok());
        all.extend(number.map(|number| (number, path.clone())));
    }
    all.sort();
    Ok(all.into_iter().map(|(_, path)| path).collect())
}

/// The file of a segment.
#[must_use]
pub fn segment_file(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("journal-{number:08}"))
}

/// The number that stands in a segment's name.
#[must_use]
pub fn number_of(path: &Path) -> u64 {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix("journal-").and_then(|number| number.parse().ok()).unwrap_or(0)
}
