//! From masked text to `taskOutput` as version 1 of the wire has it: one line a message, long and unfinished lines in
//! pieces.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem;

use serde::{Deserialize, Serialize};

use crate::effect::{Piece, Stretch};
use crate::input::{Part, Stream};
use crate::limits;
use crate::time::Millis;

/// Text, and the messages that are cut from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) text: String,
    pub(crate) pieces: Vec<Piece>,
    /// In version 2 of the wire: where in the log it stands. Then there is one piece.
    pub(crate) stretch: Option<Stretch>,
}

impl Cut {
    /// As version 1 has it: without a place.
    const fn of(text: String, pieces: Vec<Piece>) -> Self {
        Self { text, pieces, stretch: None }
    }
}

/// The unfinished lines of a task's two streams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Lines {
    stdout: Tail,
    stderr: Tail,
}

/// The unfinished line of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Tail {
    /// What of it has not been sent; never longer than a piece.
    text: String,
    /// Whether a part of it has been sent.
    open: bool,
    /// Where in the log it begins, at the latest.
    from: u64,
    /// When its newest text came.
    since: Millis,
}

impl Tail {
    const fn is_idle(&self) -> bool {
        self.text.is_empty() && !self.open
    }

    /// Ends the line as it stands.
    fn close(&mut self, cuts: &mut Vec<Cut>) {
        if !self.is_idle() {
            let text = mem::take(&mut self.text);
            let piece = Piece { start: 0, end: text.len() as u32, partial: false };
            cuts.push(Cut::of(text, Vec::from([piece])));
            self.open = false;
        }
    }
}

impl Lines {
    /// Takes what a stream wrote. `from` is where in the log its chunk begins.
    pub(crate) fn push(&mut self, now: Millis, from: u64, part: Part, cuts: &mut Vec<Cut>) {
        let (tail, other) = self.tails(part.stream);
        if tail.is_idle() {
            tail.from = from;
        }
        if let Some(line_end) = part.line_end {
            tail.from = line_end;
        }
        tail.since = now;
        let held = mem::take(&mut tail.text);
        let mut send = |text: String, from: usize, searched: usize| {
            let (pieces, rest) = cut(&text, from, searched);
            tail.text = text.get(rest..).unwrap_or_default().to_string();
            if let Some(last) = pieces.last() {
                tail.open = last.partial;
                // The pieces of one line follow each other: a line of the other stream that was begun ends here.
                if other.open && !bug!(LinesMix) {
                    other.close(cuts);
                }
                cuts.push(Cut::of(text, pieces));
            }
        };
        // Only the line that was begun is put together; all that follows stays where it is.
        let mut begun = 0;
        if !held.is_empty() {
            begun = part.text.find('\n').map_or(part.text.len(), |at| at.saturating_add(1));
            let searched = held.len();
            send(held + part.text.get(..begun).unwrap_or_default(), 0, searched);
        }
        if begun < part.text.len() {
            send(part.text, begun, begun);
        }
    }

    /// Sends unfinished lines whose stream has been silent for long enough.
    pub(crate) fn silence(&mut self, now: Millis, cuts: &mut Vec<Cut>) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (tail, other) = self.tails(stream);
            if tail.text.is_empty() || now < tail.since + limits::LINE_SILENCE {
                continue;
            }
            if other.open {
                other.close(cuts);
            }
            let text = mem::take(&mut tail.text);
            let piece = Piece { start: 0, end: text.len() as u32, partial: true };
            cuts.push(Cut::of(text, Vec::from([piece])));
            tail.open = true;
        }
    }

    /// Both streams have ended.
    pub(crate) fn finish(&mut self, cuts: &mut Vec<Cut>) {
        // The one that was begun goes first, so that nothing stands between its pieces.
        let (first, second) = if self.stderr.open { self.tails(Stream::Stderr) } else { self.tails(Stream::Stdout) };
        first.close(cuts);
        second.close(cuts);
    }

    /// When [`Lines::silence`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let due = |tail: &Tail| (!tail.text.is_empty()).then(|| tail.since + limits::LINE_SILENCE);
        [due(&self.stdout), due(&self.stderr)].into_iter().flatten().min()
    }

    /// The place in the log from which everything would have to be sent again, if `cursor` was read up to.
    pub(crate) fn resume(&self, cursor: u64) -> u64 {
        let begun = |tail: &Tail| if tail.is_idle() { cursor } else { tail.from };
        begun(&self.stdout).min(begun(&self.stderr)).min(cursor)
    }

    fn tails(&mut self, stream: Stream) -> (&mut Tail, &mut Tail) {
        match stream {
            Stream::Stdout => (&mut self.stdout, &mut self.stderr),
            Stream::Stderr => (&mut self.stderr, &mut self.stdout),
        }
    }

    /// What must hold between any two steps.
    pub(crate) fn check(&self) {
        assert!(!(self.stdout.open && self.stderr.open), "two lines are begun at once");
        for tail in [&self.stdout, &self.stderr] {
            assert!(tail.text.len() <= limits::PIECE, "an unfinished line is held beyond its bound");
            assert!(!tail.text.contains('\n'), "a finished line is held back");
        }
    }
}

/// Cuts `text` behind `start`, which holds no newline before `searched`, into the pieces of whole lines and, of
/// a last line that is too long, whole pieces. Also says where what is left over begins.
fn cut(text: &str, mut start: usize, mut searched: usize) -> (Vec<Piece>, usize) {
    let mut pieces = Vec::new();
    while let Some(found) = text.get(searched..).and_then(|rest| rest.find('\n')) {
        let end = searched.saturating_add(found);
        start = cut_long(text, start, end, &mut pieces);
        pieces.push(Piece { start: start as u32, end: end as u32, partial: false });
        start = end.saturating_add(1);
        searched = start;
    }
    start = cut_long(text, start, text.len(), &mut pieces);
    (pieces, start)
}

/// Cuts full pieces off the front of a line until what is left fits into one.
fn cut_long(text: &str, mut start: usize, end: usize, pieces: &mut Vec<Piece>) -> usize {
    while end.saturating_sub(start) > limits::PIECE {
        let middle = text.floor_char_boundary(start.saturating_add(limits::PIECE));
        pieces.push(Piece { start: start as u32, end: middle as u32, partial: true });
        start = middle;
    }
    start
}

#[cfg(test)]
mod tests;
