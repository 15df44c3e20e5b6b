//! The end of a long text that comes in pieces.

/// Keeps the last lines, and no more bytes than it may.
#[derive(Clone, Debug)]
pub struct Tail {
    lines: usize,
    bytes: usize,
    text: String,
    cut: bool,
}

impl Tail {
    /// So many lines, and of these so many bytes at most.
    #[must_use]
    pub const fn new(lines: usize, bytes: usize) -> Self {
        Self { lines, bytes, text: String::new(), cut: false }
    }

    /// The next piece.
    pub fn take(&mut self, text: &str) {
        self.text.push_str(text);
        // Twice as much may lie there, so that it is not moved with each piece.
        if self.text.len() > self.bytes.saturating_mul(2) {
            self.shorten(self.text.len().saturating_sub(self.bytes));
        }
    }

    fn shorten(&mut self, from: usize) {
        let from = (from..=self.text.len()).find(|at| self.text.is_char_boundary(*at)).unwrap_or(self.text.len());
        self.cut |= from > 0;
        self.text.drain(..from);
    }

    /// The lines, and whether there was more before them.
    #[must_use]
    pub fn end(mut self) -> (String, bool) {
        let last = self.text.trim_end_matches('\n').len();
        let before = self.text.get(..last).unwrap_or_default();
        let from = match self.lines.checked_sub(1) {
            None => self.text.len(),
            Some(more) => before.rmatch_indices('\n').nth(more).map_or(0, |(at, _)| at.saturating_add(1)),
        };
        self.shorten(from.max(self.text.len().saturating_sub(self.bytes)));
        (self.text, self.cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(lines: usize, bytes: usize, pieces: &[&str]) -> (String, bool) {
        let mut tail = Tail::new(lines, bytes);
        pieces.iter().for_each(|piece| tail.take(piece));
        tail.end()
    }

    /// Protects a model that asks for the end of a log from being told its beginning, or less than it asked for.
    #[test]
    fn the_last_lines_are_kept_wherever_the_pieces_end() {
        assert_eq!(end(2, 100, &["one\ntw", "o\nthr", "ee\n"]), ("two\nthree\n".to_owned(), true));
        assert_eq!(end(3, 100, &["one\ntwo\nthree"]), ("one\ntwo\nthree".to_owned(), false));
        assert_eq!(end(9, 100, &[]), (String::new(), false));
        assert_eq!(end(0, 100, &["one\n"]), (String::new(), true));
    }

    /// Protects the memory of whoever reads the log of an agent that writes without an end, and without lines.
    #[test]
    fn no_more_is_kept_than_may_be_and_no_character_is_cut() {
        let (text, cut) = end(10, 7, &["äöü".repeat(1000).as_str(), "ß"]);
        assert!(cut && text.len() <= 7 && text.ends_with("üß"), "{text}");
    }
}
