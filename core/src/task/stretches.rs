//! From masked text to `taskOutput` as version 2 of the wire has it: stretches of the log in the log's order, several
//! lines in one. Each begins where the one before ended, so that a receiver that has a place has all before it.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::lines::Cut;
use crate::effect::{Piece, Stretch};
use crate::input::{Part, Stream};
use crate::limits;
use crate::time::Millis;

/// What is on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Stretches {
    /// Where the newest stretch ended.
    sent: u64,
    /// What stands behind it, was read, and is not sent: a line without its end.
    held: Option<Held>,
    /// The stream whose line was sent without its end.
    open: Option<Stream>,
}

/// The beginning of a line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Held {
    stream: Stream,
    text: String,
    /// Where in the log it ends.
    to: u64,
    /// When its newest text came.
    since: Millis,
}

impl Stretches {
    /// Goes on from a place at which the receiver stands.
    pub(crate) fn at(sent: u64) -> Self {
        Self { sent, held: None, open: None }
    }

    /// What is read next comes right behind what was sent, and there a line of this stream goes on. Where it was sent
    /// with its end all the same, closing it once more does no harm.
    pub(crate) const fn begun(&mut self, stream: Option<Stream>) {
        if self.held.is_none() {
            self.open = stream;
        }
    }

    /// Where the newest stretch ended.
    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Takes what a stream wrote.
    pub(crate) fn push(&mut self, now: Millis, part: Part, cuts: &mut Vec<Cut>) {
        let Part { stream, text, to, line_end } = part;
        match self.held.take() {
            // A line of the other stream ends where this one begins.
            Some(held) if held.stream != stream => self.send(held.text, false, held.to, held.stream, cuts),
            Some(held) if held.text.len().saturating_add(text.len()) > limits::PIECE => {
                self.send(held.text, true, held.to, stream, cuts);
            }
            Some(held) => return self.lay(now, held.text + &text, stream, to, line_end, cuts),
            None => self.close(Some(stream), cuts),
        }
        self.lay(now, text, stream, to, line_end, cuts);
    }

    /// Sends whole lines, and holds what begins behind them.
    fn lay(&mut self, now: Millis, text: String, stream: Stream, to: u64, end: Option<u64>, cuts: &mut Vec<Cut>) {
        let newline = text.rfind('\n');
        let (whole, rest) = match newline.and_then(|at| text.split_at_checked(at)) {
            Some((whole, rest)) => (Some(whole), rest.strip_prefix('\n').unwrap_or(rest)),
            None => (None, text.as_str()),
        };
        if let Some(whole) = whole {
            let rest = rest.to_string();
            self.send(whole.to_string(), false, end.unwrap_or(to), stream, cuts);
            self.hold(now, rest, stream, to, cuts);
        } else {
            self.hold(now, text, stream, to, cuts);
        }
    }

    fn hold(&mut self, now: Millis, text: String, stream: Stream, to: u64, cuts: &mut Vec<Cut>) {
        if text.len() > limits::PIECE {
            self.send(text, true, to, stream, cuts);
        } else if !text.is_empty() {
            self.held = Some(Held { stream, text, to, since: now });
        }
    }

    /// Ends the line that was sent without its end, where something else follows than the rest of it.
    fn close(&mut self, follows: Option<Stream>, cuts: &mut Vec<Cut>) {
        if let Some(open) = self.open.take_if(|open| Some(*open) != follows) {
            self.send(String::new(), false, self.sent, open, cuts);
        }
    }

    fn send(&mut self, text: String, partial: bool, end: u64, stream: Stream, cuts: &mut Vec<Cut>) {
        let end = end.max(self.sent);
        let piece = Piece { start: 0, end: text.len() as u32, partial };
        let stretch = Some(Stretch { off: self.sent, end });
        cuts.push(Cut { text, pieces: Vec::from([piece]), stretch });
        self.sent = end;
        self.open = partial.then_some(stream);
    }

    /// Sends an unfinished line whose stream has been silent for long enough.
    pub(crate) fn silence(&mut self, now: Millis, cuts: &mut Vec<Cut>) {
        if let Some(held) = self.held.take_if(|held| now >= held.since + limits::LINE_SILENCE) {
            self.send(held.text, true, held.to, held.stream, cuts);
        }
    }

    /// The log ends at `end`, and all of it has been taken.
    pub(crate) fn finish(&mut self, end: u64, cuts: &mut Vec<Cut>) {
        if let Some(held) = self.held.take() {
            self.send(held.text, false, held.to, held.stream, cuts);
        }
        self.close(None, cuts);
        if self.sent < end {
            // Bytes that no text is shown of.
            let piece = Piece { start: 0, end: 0, partial: true };
            let stretch = Some(Stretch { off: self.sent, end });
            cuts.push(Cut { text: String::new(), pieces: Vec::from([piece]), stretch });
            self.sent = end;
        }
    }

    /// When [`Stretches::silence`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.held.as_ref().map(|held| held.since + limits::LINE_SILENCE)
    }

    /// What must hold between any two steps.
    pub(crate) fn check(&self) {
        if let Some(held) = &self.held {
            assert!(held.text.len() <= limits::PIECE, "an unfinished line is held beyond its bound");
            assert!(!held.text.contains('\n'), "a finished line is held back");
            assert!(held.to >= self.sent, "what is held lies before what was sent");
            assert!(self.open.is_none_or(|open| open == held.stream), "two lines are begun at once");
        }
    }
}

#[cfg(test)]
mod tests;
