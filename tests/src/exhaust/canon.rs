//! One number for all worlds of which the same can become.
//!
//! It is made from the text in which a world tells all that it holds ([`World::lay_open`]), so that nothing which is
//! added to a part of it is overlooked. In that text
//!
//! - times stand as what they are away from now. The core waits for spans, and compares moments with each other and with
//!   now; it knows of no moment by its own name. Sound.
//! - effects and connections are numbered anew in the order in which they stand there. They are only asked for by
//!   name, and by their order, which the text keeps. Of an effect's number it matters beside that whether three
//!   divides it: the machine is too late to call such a one off. That is kept, of the next number too. Sound.
//! - what was only counted is left out: counters, sightings, and digests that follow from the rest. Sound.
//! - the generator that draws the pause before the next connection, and the name of a series of numbers, is left
//!   out. Of states that differ in nothing else one is looked at, with its pauses: a bound, not a proof.
//! - of the journal there is only what waits for it. What a crash would leave of its records is known where a crash
//!   that loses some is decided on, which is when the first of them is written: see [`Doom`]. That the steps lead to the
//!   same state when they are taken again is held by each crash that is looked at, and by the swarm. Sound.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use makima_core::Daemon;
use makima_core::time::Now;

use super::Doom;
use crate::world::World;

/// Fields that do not count.
const LEFT_OUT: [&str; 5] = ["seen", "counters", "rng", "digests", "config"];

/// From here on a time is one of the wall clock: the others begin with the machine.
const WALL: u64 = 1_000_000_000_000;

/// What a world is known by, in which this may still happen.
pub(super) fn print(world: &World, left: &impl Hash, doom: Option<&Doom>) -> u64 {
    let mut raw = String::with_capacity(16 * 1024);
    world.lay_open(&mut raw);
    let doom = doom.map(|doom| (doom.state, world.now().mono.since(doom.at.mono)));
    hash(&(canonical(&raw, world.now()), left, doom))
}

/// What a state of the daemon alone is known by.
pub(super) fn mark(daemon: &Daemon, now: Now) -> u64 {
    hash(&canonical(&format!("{daemon:?}"), now))
}

fn canonical(raw: &str, now: Now) -> String {
    let mut text = String::with_capacity(raw.len());
    Reading::new(raw, now).read(&mut text);
    text
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Reads a text of `Debug`, and writes it as it is the same for all that are alike.
struct Reading<'a> {
    rest: &'a str,
    now: Now,
    effects: Vec<(u64, u64)>,
    epochs: Vec<u64>,
}

impl<'a> Reading<'a> {
    const fn new(rest: &'a str, now: Now) -> Self {
        Self { rest, now, effects: Vec::new(), epochs: Vec::new() }
    }

    fn read(mut self, text: &mut String) {
        while let Some(first) = self.rest.bytes().next() {
            if first.is_ascii_alphabetic() || first == b'_' {
                self.word(text);
            } else {
                let end = if first == b'"' { quoted(self.rest) } else { self.other() };
                text.push_str(self.take(end));
            }
        }
    }

    fn take(&mut self, end: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// Up to the next word or text.
    fn other(&self) -> usize {
        let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b'"';
        self.rest.bytes().position(begins).unwrap_or(self.rest.len())
    }

    fn word(&mut self, text: &mut String) {
        let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let end = self.rest.bytes().position(|byte| !part(byte)).unwrap_or(self.rest.len());
        let word = self.take(end);
        if LEFT_OUT.contains(&word) && self.rest.starts_with(": ") {
            self.rest = &self.rest[value(self.rest)..];
            return;
        }
        text.push_str(word);
        match word {
            "Millis" if self.eat("(") => {
                let time = self.number();
                text.push_str(&self.away(time));
            }
            "Epoch" if self.eat("(") => {
                let epoch = self.number();
                text.push_str(&place(&mut self.epochs, epoch).to_string());
            }
            "EffectId" if self.eat(" { incarnation: ") => {
                let incarnation = self.number();
                assert!(self.eat(", n: "), "an effect has a number");
                let n = self.number();
                let place = place(&mut self.effects, (incarnation, n));
                text.push_str(&format!("{incarnation}.{place}{}", if n.is_multiple_of(3) { "'" } else { "" }));
            }
            "Ids" if self.eat(" { incarnation: ") => {
                let incarnation = self.number();
                assert!(self.eat(", last: "), "the newest effect has a number");
                text.push_str(&format!("{incarnation} {}", self.number() % 3));
            }
            _ => {}
        }
    }

    fn eat(&mut self, what: &str) -> bool {
        let rest = self.rest.strip_prefix(what);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn number(&mut self) -> u64 {
        let end = self.rest.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.rest.len());
        self.take(end).parse().expect("a number")
    }

    /// How far a time is away.
    fn away(&self, time: u64) -> String {
        match time {
            u64::MAX => "never".to_string(),
            WALL.. => format!("wall {}", i128::from(time) - i128::from(self.now.unix.0)),
            _ => format!("{}", i128::from(time) - i128::from(self.now.mono.0)),
        }
    }
}

/// The place of a name among those that were met so far.
fn place<T: PartialEq>(names: &mut Vec<T>, name: T) -> usize {
    names.iter().position(|other| *other == name).unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    })
}

/// Where a quoted text ends.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

/// Where the value of a field ends.
fn value(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0_u32);
    let bytes = text.as_bytes();
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at += quoted(&text[at..]) - 1,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' | b',' if depth == 0 => break,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use makima_core::time::{Millis, Now};

    use super::canonical;

    fn read(text: &str, mono: u64) -> String {
        canonical(text, Now { mono: Millis(mono), asleep: Millis(0), unix: Millis(1_700_000_000_000 + mono) })
    }

    /// Protects the search from taking two states for different that differ in names and in what is over, or for the
    /// same where they do not.
    #[test]
    fn only_what_counts_is_left() {
        let text = |mono: u64, n: u64, counted: u64| {
            format!(
                "A {{ due: Millis({}), id: EffectId {{ incarnation: 1, n: {n} }}, counters: C {{ a: {counted}, \
                 b: [\"}},\"] }}, said: \"Millis(7), \\\" Epoch(3)\", since: Millis({}), at: Epoch({n}) }}",
                mono + 5,
                1_700_000_000_000 + mono,
            )
        };
        let one = read(&text(10, 4, 1), 10);
        assert_eq!(one, read(&text(900, 7, 2), 900));
        assert!(one.contains("said: \"Millis(7), \\\" Epoch(3)\""), "{one}");
        assert_ne!(one, read(&text(10, 6, 1), 10), "three divides the number of one of them");
        assert_ne!(one, read(&text(10, 4, 1), 11), "another time is left");
        assert!(!one.contains("C {"), "{one}");
    }
}
