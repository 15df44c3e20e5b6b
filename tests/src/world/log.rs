//! An agent's output, as it lies on the machine's disk.

use std::collections::BTreeMap;

use makima_core::input::{Chunk, Part, Stream};
use makima_core::time::Millis;

/// An output log: what was written, with the number of each token in its stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) writes: Vec<(Stream, String)>,
    pub(super) tokens: [u32; 2],
    pub(super) closed: bool,
    /// When the lines of an agent that tells how it gets on were said, by their places.
    said: BTreeMap<u64, Millis>,
}

/// Each write takes ten bytes of the log and has a header of nine: any numbers would do.
const RECORD: u64 = 19;

/// The tokens of a line of a log. In one of JSON there is one, in its first field, and nothing else has a semicolon.
pub(super) fn tokens(line: &str) -> impl Iterator<Item = &str> {
    let json = line.strip_prefix("{\"n\":\"");
    let one = json.and_then(|rest| rest.split_once(';')).map(|(token, _)| token);
    let many = if one.is_some() { "" } else { line };
    one.into_iter().chain(many.split_terminator(';'))
}

impl Log {
    pub(super) fn end(&self) -> u64 {
        self.writes.len() as u64 * RECORD
    }

    pub(super) fn write(&mut self, stream: Stream, newline: bool) {
        let token = self.token(stream);
        self.writes.push((stream, format!("{token}{}", if newline { "\n" } else { "" })));
    }

    /// A line of JSON on standard output: a token, and these fields.
    pub(super) fn say(&mut self, fields: &str, now: Millis) {
        self.said.insert(self.end(), now);
        let token = self.token(Stream::Stdout);
        self.writes.push((Stream::Stdout, format!("{{\"n\":\"{token}\",{fields}}}\n")));
    }

    /// For how long what stands behind `from` has not been heard.
    pub(super) fn unheard(&self, from: u64, now: Millis) -> Millis {
        self.said.range(from..).next().map_or(Millis(0), |(_, said)| now.since(*said))
    }

    fn token(&mut self, stream: Stream) -> String {
        let (count, letter) = match stream {
            Stream::Stdout => (&mut self.tokens[0], 'o'),
            Stream::Stderr => (&mut self.tokens[1], 'e'),
        };
        *count += 1;
        format!("{letter}{count};")
    }

    /// At most three records, so that reads end in odd places.
    pub(super) fn read(&self, from: u64) -> Chunk {
        self.read_to(from, from + 3 * RECORD)
    }

    pub(super) fn read_to(&self, from: u64, end: u64) -> Chunk {
        let first = (from / RECORD) as usize;
        let mut parts: Vec<Part> = Vec::new();
        let mut to = from;
        for (stream, text) in self.writes.iter().skip(first).take(((end - from) / RECORD) as usize) {
            to += RECORD;
            let line_end = text.ends_with('\n').then_some(to);
            match parts.last_mut() {
                Some(part) if part.stream == *stream => {
                    part.text.push_str(text);
                    part.to = to;
                    part.line_end = line_end.or(part.line_end);
                }
                _ => parts.push(Part { stream: *stream, text: text.clone(), to, line_end }),
            }
        }
        let before = first.checked_sub(1).and_then(|before| self.writes.get(before));
        let begun = before.filter(|(_, text)| !text.ends_with('\n')).map(|(stream, _)| *stream);
        Chunk { from, to, log: self.end(), closed: self.closed, begun, parts }
    }
}
