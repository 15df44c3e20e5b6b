//! Listening to an agent: its output log is read as it grows, whether or not a server is there, and what it wrote to its
//! standard output is put together to lines. What the server gets is read beside it, at the server's pace.

use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use serde::{Deserialize, Serialize};

use super::cx::Cx;
use super::prepare::reason;
use crate::effect::Work;
use crate::id::EffectId;
use crate::input::{Chunk, Outcome, Part, Stream};
use crate::limits;
use crate::time::Millis;

/// How far an agent has been listened to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Ear {
    /// In bytes of the log.
    cursor: u64,
    /// Where the log ended when it was read last.
    #[serde(default)]
    known: u64,
    /// Where the log ends; unknown while somebody can write to it.
    end: Option<u64>,
    reading: Option<EffectId>,
    /// A read has come to the log's end, wherever that is.
    dry: bool,
    failed_reads: u8,
    read_after: Option<Millis>,
    /// The line that is not finished.
    line: String,
    /// That line is too long, and the rest of it is passed over.
    passes_over: bool,
    /// What that line began with.
    #[serde(default)]
    head: String,
    /// The end of what stands in its standard error.
    said: String,
}

/// What a stretch of the log brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    /// Whole lines, without their newlines.
    pub(super) whole: Vec<String>,
    /// What lines began with that were too long.
    pub(super) too_long: Vec<String>,
    /// Why nothing more can be heard.
    pub(super) deaf: Option<String>,
}

impl Ear {
    /// Asks for the next stretch, unless that is done already or there is none.
    pub(super) fn listen(&mut self, cx: &mut Cx<'_>) {
        if self.reading.is_none() && self.read_after.is_none() && !self.dry && !self.has_heard_all() {
            self.reading = Some(cx.work(Work::Read { from: self.cursor }));
        }
    }

    /// Whether all has been heard that stood in the log when it was read last.
    pub(super) const fn has_caught_up(&self) -> bool {
        self.cursor >= self.known
    }

    /// Nobody can write to the log any more.
    pub(super) fn ended(&mut self, end: u64) {
        self.end = Some(end.max(self.cursor));
        self.dry = false;
    }

    /// Whether the whole log has been listened to.
    pub(super) fn has_heard_all(&self) -> bool {
        self.end.is_some_and(|end| self.cursor >= end)
    }

    /// What stands at the end of its standard error.
    pub(super) fn said(&self) -> &str {
        &self.said
    }

    /// Nothing more is to be heard.
    pub(super) fn leave(&mut self, cx: &mut Cx<'_>) {
        if let Some(id) = self.reading.take() {
            cx.cancel(id);
        }
    }

    /// The daemon has a new life: nobody answers the read of the one before.
    pub(super) fn recover(&mut self) {
        (self.reading, self.read_after, self.dry, self.failed_reads) = (None, None, false, 0);
    }

    pub(super) const fn deadline(&self) -> Option<Millis> {
        self.read_after
    }

    pub(super) fn due(&mut self, cx: &mut Cx<'_>) {
        self.read_after = self.read_after.filter(|after| *after > cx.now);
        self.listen(cx);
    }

    /// Takes the answer to a read, if it is the one that is under way, and asks for the next.
    pub(super) fn answered(&mut self, id: EffectId, outcome: &mut Outcome, cx: &mut Cx<'_>) -> Option<Lines> {
        self.reading.take_if(|reading| *reading == id)?;
        let mut lines = Lines::default();
        if let Outcome::Chunk(chunk) = outcome {
            self.failed_reads = 0;
            self.take(mem::take(chunk), &mut lines);
        } else {
            self.failed_reads = self.failed_reads.saturating_add(1);
            if self.failed_reads >= limits::READ_TRIES {
                lines.deaf = Some(reason(outcome.clone()));
                self.dry = true;
                self.end = self.end.map(|_| self.cursor);
            } else {
                self.read_after = Some(cx.now + limits::READ_AGAIN);
            }
        }
        self.listen(cx);
        Some(lines)
    }

    fn take(&mut self, chunk: Chunk, lines: &mut Lines) {
        self.known = chunk.log;
        if chunk.to <= chunk.from {
            self.dry = true;
            // It is shorter than it was said to be: nothing more comes.
            self.end = self.end.map(|_| self.cursor);
            return;
        }
        self.cursor = self.cursor.max(chunk.to);
        for Part { stream, text, .. } in chunk.parts {
            match stream {
                Stream::Stdout => self.hear(&text, lines),
                Stream::Stderr => self.said = tail(mem::take(&mut self.said) + &text, limits::LAST_WORDS),
            }
        }
    }

    fn hear(&mut self, text: &str, lines: &mut Lines) {
        for piece in text.split_inclusive('\n') {
            let (piece, ends) = piece.strip_suffix('\n').map_or((piece, false), |piece| (piece, true));
            if !self.passes_over && self.line.len().saturating_add(piece.len()) > limits::AGENT_LINE {
                self.passes_over = true;
                self.head = head(mem::take(&mut self.line) + piece);
            }
            if !self.passes_over {
                self.line.push_str(piece);
            }
            if ends {
                if mem::take(&mut self.passes_over) {
                    lines.too_long.push(mem::take(&mut self.head));
                } else if !self.line.is_empty() {
                    lines.whole.push(mem::take(&mut self.line));
                }
            }
        }
    }
}

/// As much of a line as says what it is, cut between characters.
fn head(mut line: String) -> String {
    line.truncate(line.floor_char_boundary(limits::HEAD));
    line.shrink_to_fit();
    line
}

/// The last of a text, cut between characters.
fn tail(text: String, bytes: usize) -> String {
    let from = text.ceil_char_boundary(text.len().saturating_sub(bytes));
    if from == 0 { text } else { text.get(from..).unwrap_or_default().into() }
}
