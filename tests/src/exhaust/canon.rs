//! One number for all worlds of which the same can become.
//!
//! It is made from the text in which a world tells all that it holds ([`World::lay_open`]), so that nothing which is
//! added to a part of it is overlooked. In that text
//!
//! - times stand as what they are away from now. The core waits for spans, and compares moments with each other and with
//!   now; it knows of no moment by its own name. Sound.
//! - effects, connections and series of numbers are numbered anew in the order in which they stand there. They are only
//!   asked for by name; and the effects of one task by their order, which the text keeps. Sound.
//! - of a message of version 2 that was sent it does not matter which frame carried it. Nor, where nothing can be lost any
//!   more, which number it bears, but for which acknowledgement on its way is the first that covers it. Sound.
//! - what was only counted is left out: counters, sightings, and digests that follow from the rest. Sound.
//! - the generator that draws the pause before the next connection is left out. Of states that differ in nothing else one is
//!   looked at, with its pauses: a bound, not a proof.
//! - of the journal there is only what waits for it. What a crash would leave of its records is known where a crash
//!   that loses some is decided on, which is when the first of them is written: see `Doom` in `look`. That the steps lead to the
//!   same state when they are taken again is held by each crash that is looked at, and by the swarm. Sound.
//!
//! What is sound is not only said: a search that doubts ([`super::Search::doubting`]) sees to it.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use makima_core::Daemon;
use makima_core::time::Now;

use super::bounds::Left;
use super::look::Doom;
use crate::world::{Speech, World};

/// From here on a time is one of the wall clock: the others begin with the machine.
const WALL: u64 = 1_000_000_000_000;

/// What a world is known by, in which this may still happen. `jammed`: as in [`super::look::Node`]; `blind`: as in
/// [`super::look::Eye`].
pub(super) fn print(world: &World, left: &Left, jammed: bool, doom: Option<&Doom>, blind: Option<&'static str>) -> u64 {
    let mut raw = String::with_capacity(16 * 1024);
    world.lay_open(&mut raw);
    let doom = doom.map(|doom| (doom.state, world.now().mono.since(doom.at.mono)));
    let acks = if left.may_lose() { None } else { world.acknowledging() };
    let mut hasher = DefaultHasher::new();
    (left, jammed, doom).hash(&mut hasher);
    Reading { blind, ..Reading::new(&raw, world.now(), world.speech(), acks) }.read(&mut hasher);
    hasher.finish()
}

/// What a state of the daemon alone is known by.
pub(super) fn mark(daemon: &Daemon, now: Now, wire: Speech) -> u64 {
    let mut hasher = DefaultHasher::new();
    Reading::new(&format!("{daemon:?}"), now, wire, None).read(&mut hasher);
    hasher.finish()
}

/// Where the text goes that is the same for all that are alike.
trait Text {
    fn put(&mut self, text: &str);
}

impl Text for DefaultHasher {
    fn put(&mut self, text: &str) {
        self.write(text.as_bytes());
    }
}

/// Reads a text of `Debug`, and writes it as it is the same for all that are alike.
struct Reading<'a> {
    rest: &'a str,
    now: Now,
    effects: Vec<(u64, u64)>,
    epochs: Vec<u64>,
    series: Vec<u64>,
    wire: Speech,
    /// The acknowledgements on their way, where it does not matter whose message bears which number.
    acks: Option<Vec<u64>>,
    /// Whether the message that is being read was sent.
    sent: bool,
    blind: Option<&'static str>,
}

impl<'a> Reading<'a> {
    const fn new(rest: &'a str, now: Now, wire: Speech, acks: Option<Vec<u64>>) -> Self {
        Self {
            rest,
            now,
            effects: Vec::new(),
            epochs: Vec::new(),
            series: Vec::new(),
            wire,
            acks,
            sent: false,
            blind: None,
        }
    }

    fn read(&mut self, text: &mut impl Text) {
        while let Some(first) = self.rest.bytes().next() {
            if first.is_ascii_alphabetic() || first == b'_' {
                self.word(text);
            } else {
                let end = if first == b'"' { quoted(self.rest) } else { self.other() };
                text.put(self.take(end));
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

    fn word(&mut self, text: &mut impl Text) {
        let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let end = self.rest.bytes().position(|byte| !part(byte)).unwrap_or(self.rest.len());
        let word = self.take(end);
        let is_left_out =
            matches!(word, "seen" | "counters" | "rng" | "digests" | "config") || self.blind == Some(word);
        if is_left_out && self.rest.starts_with(": ") {
            self.rest = &self.rest[value(self.rest)..];
            return;
        }
        text.put(word);
        match word {
            "Millis" if self.eat("(") => {
                let time = self.number();
                text.put(&self.away(time));
            }
            "Epoch" if self.eat("(") => {
                let epoch = self.number();
                text.put(&place(&mut self.epochs, epoch).to_string());
            }
            "EffectId" => self.effect(text),
            "Ids" if self.eat(" { incarnation: ") => {
                let incarnation = self.number();
                assert!(self.eat(", last: "), "the newest effect has a number");
                self.number();
                text.put(&incarnation.to_string());
            }
            "owners" if self.eat(": ") => self.effects_of_each(text),
            "Numbers" if self.acks.is_some() => self.numbers(text),
            "epoch" | "of" if self.eat(": ") => self.series(text),
            "theirs" if self.eat(": (") => self.series(text),
            "sent" if self.wire == Speech::Two => {
                self.sent = self.eat(": Some(");
                if self.sent {
                    self.number();
                }
            }
            "seq" if self.sent && self.acks.is_some() && self.eat(": Some(") => {
                let n = self.number();
                text.put(&self.told_with(n).to_string());
            }
            _ => {}
        }
    }

    /// What is between the next two brackets.
    fn entries(&mut self) -> &'a str {
        let whole = self.take(value(self.rest)).trim_end();
        whole.get(1..whole.len().saturating_sub(1)).unwrap_or_default()
    }

    fn effect(&mut self, text: &mut impl Text) {
        if self.eat(" { incarnation: ") {
            let incarnation = self.number();
            assert!(self.eat(", n: "), "an effect has a number");
            let n = self.number();
            let place = place(&mut self.effects, (incarnation, n));
            text.put(&format!("{incarnation}.{place}"));
        }
    }

    /// The name of a series of numbers.
    fn series(&mut self, text: &mut impl Text) {
        if self.rest.starts_with(|first: char| first.is_ascii_digit()) {
            match self.number() {
                0 => text.put("0"),
                series => text.put(&(place(&mut self.series, series) + 1).to_string()),
            }
        }
    }

    /// The effects of each task, in the order of the tasks: which of them asked first makes no difference.
    fn effects_of_each(&mut self, text: &mut impl Text) {
        let mut entries: Vec<&str> = self.entries().split(", EffectId").collect();
        entries.sort_by_key(|entry| entry.split_once("TaskId").map(|(_, task)| task));
        let rest = self.rest;
        for entry in entries {
            self.rest = entry.trim_start_matches("EffectId");
            self.effect(text);
            self.read(text);
        }
        self.rest = rest;
    }

    /// The numbers of the daemon's messages: so many of each task's will be told with each acknowledgement.
    fn numbers(&mut self, text: &mut impl Text) {
        if !self.eat(" { epoch: ") {
            return;
        }
        self.series(text);
        if !self.eat(", applied: ") {
            return;
        }
        let applied = self.number();
        assert!(self.eat(", owners: "), "each number has an owner");
        let owners = self.entries();
        let mut owners: Vec<_> =
            (applied + 1..).zip(owners.split(", ")).map(|(n, owner)| (self.told_with(n), owner)).collect();
        owners.sort_unstable();
        text.put(&format!("{applied} {owners:?}"));
    }

    /// With which of the acknowledgements on their way this number will be; or with a later one.
    fn told_with(&self, n: u64) -> usize {
        self.acks.iter().flatten().filter(|ack| **ack < n).count()
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

    use super::{Reading, Text};
    use crate::world::Speech;

    impl Text for String {
        fn put(&mut self, text: &str) {
            self.push_str(text);
        }
    }

    fn read(text: &str, mono: u64) -> String {
        let now = Now { mono: Millis(mono), asleep: Millis(0), unix: Millis(1_700_000_000_000 + mono) };
        let mut read = String::new();
        Reading::new(text, now, Speech::One, None).read(&mut read);
        read
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
        assert_ne!(one, read(&text(10, 4, 1), 11), "another time is left");
        assert!(!one.contains("C {"), "{one}");
    }
}
