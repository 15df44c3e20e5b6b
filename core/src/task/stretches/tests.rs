//! However a log is split into chunks, whenever its reader is silent and wherever the link is cut: the receiver gets
//! every byte once, in the order of the log, and no line holds both streams.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::super::lines::Cut;
use super::Stretches;
use crate::input::{Part, Stream};
use crate::limits::PIECE;
use crate::time::Millis;

#[derive(Clone, Debug)]
enum Op {
    /// Standard output is written in small letters, standard error in capitals.
    Write(bool, String),
    Wait(u64),
    /// What is on the way from then on is lost, and the session begins anew.
    Cut(usize),
}

/// As a server does it.
#[derive(Default)]
struct Receiver {
    place: u64,
    text: String,
    open: bool,
}

impl Receiver {
    fn take(&mut self, cut: &Cut) {
        let [piece] = cut.pieces.as_slice() else { panic!("{cut:?} is one message") };
        let stretch = cut.stretch.expect("it has a place");
        assert!(cut.text.len() <= 2 * PIECE, "a message of {} bytes", cut.text.len());
        assert!(stretch.off == self.place, "{stretch:?} does not follow {}", self.place);
        let closes = stretch.off == stretch.end;
        if closes && !self.open {
            return;
        }
        self.place = stretch.end;
        self.text.push_str(&cut.text);
        if !piece.partial {
            self.text.push('\n');
        }
        self.open = piece.partial && (self.open || !cut.text.is_empty());
    }
}

/// Texts can be long: only where they differ is shown.
fn same(found: &str, expected: &str) {
    let at = found.bytes().zip(expected.bytes()).take_while(|(one, other)| one == other).count();
    let around = |text: &str| text.get(at.saturating_sub(10)..text.len().min(at + 10)).map(ToString::to_string);
    assert!(found == expected, "at {at}: {:?}, and should be {:?}", around(found), around(expected));
}

/// What stands before each record of a log.
const HEAD: u64 = 9;

#[derive(Default)]
struct Run {
    now: Millis,
    /// Each part that was written, with where it begins.
    log: Vec<(u64, Part)>,
    end: u64,
    /// The next part that is read.
    read: usize,
    stretches: Stretches,
    receiver: Receiver,
}

impl Run {
    fn apply(&mut self, op: &Op) {
        let mut cuts = Vec::new();
        match op {
            Op::Write(stderr, text) => {
                let stream = if *stderr { Stream::Stderr } else { Stream::Stdout };
                let from = self.end + HEAD;
                self.end = from + text.len() as u64;
                let line_end = text.rfind('\n').map(|at| from + at as u64 + 1);
                self.log.push((from, Part { stream, text: text.clone(), to: self.end, line_end }));
                self.catch_up(&mut cuts);
            }
            Op::Wait(ms) => {
                self.now = self.now + Millis(*ms);
                self.stretches.silence(self.now, &mut cuts);
            }
            Op::Cut(_) => {}
        }
        let arrive = if let Op::Cut(_) = op { 0 } else { cuts.len() };
        for cut in &cuts[..arrive] {
            self.receiver.take(cut);
        }
        self.stretches.check();
        if let Op::Cut(lost) = op {
            // Of what is read once more, so many messages arrive.
            self.go_on(*lost);
            self.go_on(usize::MAX);
        }
    }

    fn catch_up(&mut self, cuts: &mut Vec<Cut>) {
        while let Some((_, part)) = self.log.get(self.read) {
            self.stretches.push(self.now, part.clone(), cuts);
            self.read += 1;
        }
    }

    /// A new session: from the receiver's place on.
    fn go_on(&mut self, arrive: usize) {
        let place = self.receiver.place;
        self.stretches = Stretches::at(place);
        // A part of which the receiver has the beginning is read from there.
        let next = self.log.iter().position(|(_, part)| part.to > place).unwrap_or(self.log.len());
        self.read = next;
        // What stands right before the place: in the part that holds it, else in the one before.
        let before = self.log[..next].last().map(|(_, part)| (part.stream, part.text.ends_with('\n')));
        let within = self.log.get(next).filter(|(from, _)| *from < place);
        let within = within.map(|(from, part)| (part.stream, part.text[..(place - from) as usize].ends_with('\n')));
        let begun = within.or(before).filter(|(_, ends)| !ends).map(|(stream, _)| stream);
        self.stretches.begun(begun);
        let mut cuts = Vec::new();
        if let Some((from, part)) = self.log.get(next).filter(|(from, _)| *from < place) {
            let text = part.text[(place - from) as usize..].to_string();
            let line_end = part.line_end.filter(|end| *end > place);
            self.stretches.push(self.now, Part { text, line_end, ..part.clone() }, &mut cuts);
            self.read += 1;
        }
        self.catch_up(&mut cuts);
        for cut in cuts.iter().take(arrive) {
            self.receiver.take(cut);
        }
    }

    fn finish(&mut self) {
        let mut cuts = Vec::new();
        self.stretches.finish(self.end, &mut cuts);
        for cut in &cuts {
            self.receiver.take(cut);
        }
        assert_eq!(self.receiver.place, self.end, "the receiver does not have all of it");
        assert!(!self.receiver.open, "a line is left open");
        let plain = |text: &str| text.replace('\n', "");
        let written: String = self.log.iter().map(|(_, part)| part.text.as_str()).collect();
        same(&plain(&self.receiver.text), &plain(&written));
        for line in self.receiver.text.lines() {
            let both = line.chars().any(char::is_uppercase) && line.chars().any(char::is_lowercase);
            assert!(!both, "a line of both streams");
        }
        // A line ends where its stream ended it, or where the other one began.
        let begun = |(_, part): &(u64, Part)| (part.stream, part.text.clone());
        let mut expected = String::new();
        let mut open: Option<Stream> = None;
        for (stream, text) in self.log.iter().map(begun).filter(|(_, text)| !text.is_empty()) {
            if open.is_some_and(|open| open != stream) {
                expected.push('\n');
            }
            expected.push_str(&text);
            open = (!text.ends_with('\n')).then_some(stream);
        }
        if open.is_some() {
            expected.push('\n');
        }
        same(&self.receiver.text, &expected);
    }
}

fn op() -> impl Strategy<Value = Op> {
    let text = prop_oneof![30 => "[a-d\n]{1,12}", 1 => "(a{50}\n){1300}", 1 => "a{70000}"];
    prop_oneof![
        6 => (any::<bool>(), text).prop_map(|(stderr, text)| {
            Op::Write(stderr, if stderr { text.to_uppercase() } else { text })
        }),
        2 => (0_u64..40).prop_map(Op::Wait),
        1 => (0_usize..4).prop_map(Op::Cut),
    ]
}

proptest! {
    #![proptest_config(crate::tests::cases(64))]

    /// Protects the output of version 2: nothing lost, nothing twice, nothing in another order, no line glued to
    /// another one's.
    #[test]
    fn the_receiver_has_the_log(ops in prop::collection::vec(op(), 0..40)) {
        let mut run = Run::default();
        for op in &ops {
            run.apply(op);
        }
        run.finish();
    }
}

/// Protects several lines in one message: what version 2 has output for.
#[test]
fn whole_lines_go_out_at_once() {
    let mut stretches = Stretches::default();
    let mut cuts = Vec::new();
    let part = Part { stream: Stream::Stdout, text: "one\ntwo\nthr".to_string(), to: 20, line_end: Some(17) };
    stretches.push(Millis(0), part, &mut cuts);
    let [cut] = cuts.as_slice() else { panic!("{cuts:?}") };
    assert_eq!((cut.text.as_str(), cut.pieces[0].partial), ("one\ntwo", false));
    assert_eq!(stretches.deadline(), Some(Millis(25)));
}

fn part(stream: Stream, text: &str, to: u64) -> Part {
    Part { stream, text: text.into(), to, line_end: text.ends_with('\n').then_some(to) }
}

/// What goes out: its text, whether a line goes on behind it, and its stretch.
fn out(cuts: &mut Vec<Cut>) -> Vec<(String, bool, u64, u64)> {
    let one = |cut: Cut| {
        let stretch = cut.stretch.expect("a stretch");
        (cut.text, cut.pieces[0].partial, stretch.off, stretch.end)
    };
    cuts.drain(..).map(one).collect()
}

/// Protects lines of two streams from being mixed.
#[test]
fn a_line_of_one_stream_ends_where_the_other_begins() {
    let (mut stretches, mut cuts) = (Stretches::default(), Vec::new());
    stretches.push(Millis(0), part(Stream::Stdout, "a", 1), &mut cuts);
    assert!(cuts.is_empty());
    stretches.push(Millis(0), part(Stream::Stderr, "b\n", 3), &mut cuts);
    assert_eq!(out(&mut cuts), [("a".into(), false, 0, 1), ("b".into(), false, 1, 3)]);
    let mut begun = Stretches::at(4);
    begun.begun(Some(Stream::Stdout));
    begun.push(Millis(0), part(Stream::Stderr, "b\n", 6), &mut cuts);
    assert_eq!(out(&mut cuts), [(String::new(), false, 4, 4), ("b".into(), false, 4, 6)]);
    let mut begun = Stretches::at(4);
    begun.begun(Some(Stream::Stdout));
    begun.push(Millis(0), part(Stream::Stdout, "b\n", 6), &mut cuts);
    assert_eq!(out(&mut cuts), [("b".into(), false, 4, 6)], "it goes on");
}

/// Protects memory from a line that has no end, and a line that just fits from being cut.
#[test]
fn a_line_is_held_up_to_its_bound() {
    let (mut stretches, mut cuts) = (Stretches::default(), Vec::new());
    let bound = PIECE as u64;
    stretches.push(Millis(0), part(Stream::Stdout, &"x".repeat(PIECE - 1), bound - 1), &mut cuts);
    stretches.push(Millis(0), part(Stream::Stdout, "x", bound), &mut cuts);
    assert!(cuts.is_empty(), "it fits");
    stretches.push(Millis(0), part(Stream::Stdout, "y", bound + 1), &mut cuts);
    assert_eq!(out(&mut cuts), [("x".repeat(PIECE), true, 0, bound)]);
    stretches.push(Millis(0), part(Stream::Stdout, &"y".repeat(PIECE + 1), 2 * bound + 2), &mut cuts);
    let sent = out(&mut cuts);
    assert_eq!(
        sent.iter().map(|(text, partial, ..)| (text.len(), *partial)).collect::<Vec<_>>(),
        [(1, true), (PIECE + 1, true)]
    );
}

/// Protects the receiver from standing before the log's end for ever.
#[test]
fn the_end_of_a_log_is_the_end_of_its_stretches() {
    let (mut stretches, mut cuts) = (Stretches::default(), Vec::new());
    stretches.push(Millis(0), part(Stream::Stdout, "a", 1), &mut cuts);
    stretches.finish(3, &mut cuts);
    assert_eq!(out(&mut cuts), [("a".into(), false, 0, 1), (String::new(), true, 1, 3)]);
    stretches.finish(3, &mut cuts);
    assert!(cuts.is_empty());
}
