//! How a journal is written: lines of text, each with a checksum.
//!
//! ```text
//! 1f0a44c2 {"journal":1,"build":"0.1.0","first":1,"goes_on":false,"snapshot":{…}}
//! 93bb01e7 {"n":1,"now":{…},"input":…,"effects":[…]}
//! ```
//! A line is the CRC-32 of what follows in eight hexadecimal digits, a space, one JSON object, a newline. The first line
//! of a segment says what it is and holds the state that its records begin with; every other is a
//! [`Record`], numbered without a gap. A recording is a segment, with the text of the
//! output in its records.

use std::io::{self, BufRead, Read};

use makima_core::record::Record;
use makima_core::snapshot::Snapshot;
use serde::{Deserialize, Serialize};

/// The version of the form. A greater one is refused.
pub const VERSION: u32 = 1;

/// The longest line that is read; a plan may be as long as a message of the wire.
const LINE: u64 = 256 << 20;

/// The first line of a segment.
#[derive(Debug, Serialize, Deserialize)]
pub struct Header {
    /// The version of the form.
    pub journal: u32,
    /// Which makima wrote it: another one may take the same steps in another way.
    pub build: String,
    /// The number of its first record.
    pub first: u64,
    /// Whether the state is what the steps of the segment before lead to.
    pub goes_on: bool,
    /// The state before that.
    pub snapshot: Snapshot,
}

/// Why a line is no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// It does not end.
    #[error("it breaks off")]
    Torn,
    /// What stands there is not what was written.
    #[error("its checksum does not match")]
    Checksum,
    /// It is longer than any that is written.
    #[error("it is longer than any line that is written")]
    Long,
    /// It was written so, and cannot be understood.
    #[error("{0}")]
    Strange(String),
    /// Another makima, a newer one, wrote it.
    #[error(
        "it has version {found} of the form, and this makima reads version {VERSION}; start the newer makima again"
    )]
    Newer {
        /// The version that it has.
        found: u32,
    },
    /// Records are missing before it.
    #[error("it is record {found}, where {expected} should stand")]
    Gap {
        /// Its number.
        found: u64,
        /// The number that should follow.
        expected: u64,
    },
}

/// One line, as it is written.
///
/// # Errors
/// What cannot be said in JSON: nothing of ours.
pub fn line(content: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = b"00000000 ".to_vec();
    serde_json::to_writer(&mut line, content)?;
    let crc = crc32fast::hash(line.get(9..).unwrap_or_default());
    for (to, digit) in line.iter_mut().zip(format!("{crc:08x}").into_bytes()) {
        *to = digit;
    }
    line.push(b'\n');
    Ok(line)
}

/// Reads lines and knows where each begins.
#[derive(Debug)]
pub struct Lines<R> {
    from: R,
    /// Where the next line begins, in bytes.
    pub at: u64,
    /// Its number, from 1.
    pub number: u64,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Reads from the beginning of a file.
    pub const fn new(from: R) -> Self {
        Self { from, at: 0, number: 1, line: Vec::new() }
    }

    /// The JSON of the next line, or what is wrong with it; none at the end.
    ///
    /// # Errors
    /// As reading does.
    pub fn next_line(&mut self) -> io::Result<Option<Result<&str, Bad>>> {
        self.line.clear();
        let length = (&mut self.from).take(LINE).read_until(b'\n', &mut self.line)?;
        if length == 0 {
            return Ok(None);
        }
        self.at = self.at.saturating_add(length as u64);
        self.number = self.number.saturating_add(1);
        let Some(line) = self.line.strip_suffix(b"\n") else {
            return Ok(Some(Err(if length as u64 == LINE { Bad::Long } else { Bad::Torn })));
        };
        Ok(Some(checked(line)))
    }
}

fn checked(line: &[u8]) -> Result<&str, Bad> {
    let (crc, json) = line.split_at_checked(9).ok_or(Bad::Checksum)?;
    let crc = crc.strip_suffix(b" ").and_then(|crc| std::str::from_utf8(crc).ok());
    // Lower case only, as it is written: a flipped bit must not pass for the other case.
    let crc = crc.filter(|crc| !crc.bytes().any(|digit| digit.is_ascii_uppercase() || digit == b'+'));
    let crc = crc.and_then(|crc| u32::from_str_radix(crc, 16).ok());
    if crc != Some(crc32fast::hash(json)) {
        return Err(Bad::Checksum);
    }
    std::str::from_utf8(json).map_err(|_| Bad::Checksum)
}

/// Reads a first line.
///
/// # Errors
/// It is none, or one of a newer makima's.
pub fn header(json: &str) -> Result<Header, Bad> {
    #[derive(Deserialize)]
    struct Versioned {
        journal: u32,
    }
    let strange = |failure: serde_json::Error| Bad::Strange(format!("it is no journal: {failure}"));
    let Versioned { journal: found } = serde_json::from_str(json).map_err(strange)?;
    if found > VERSION {
        return Err(Bad::Newer { found });
    }
    serde_json::from_str(json).map_err(strange)
}

/// Reads a record that should have this number.
///
/// # Errors
/// It is none, or another one.
pub fn record(json: &str, expected: u64) -> Result<Record, Bad> {
    let record: Record =
        serde_json::from_str(json).map_err(|failure| Bad::Strange(format!("it is no record: {failure}")))?;
    if record.n != expected {
        return Err(Bad::Gap { found: record.n, expected });
    }
    Ok(record)
}
