//! However a log is split into chunks and whenever its reader is silent, the same text comes out.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::{Cut, Lines};
use crate::input::{Part, Stream};
use crate::limits::{LINE_SILENCE, PIECE};
use crate::time::Millis;

/// One thing that happens to the lines.
#[derive(Clone, Debug)]
enum Op {
    Write(Stream, String),
    Wait(u64),
}

/// What stands before each stretch of a log.
const HEADER: u64 = 9;

/// A reader of pieces that checks each against what was written. Standard output is written in small letters,
/// standard error in capitals, so that a piece tells whose it is.
#[derive(Default)]
struct Checker {
    now: Millis,
    log: u64,
    lines: Lines,
    written: [String; 2],
    /// Where in the log each byte stands.
    places: [Vec<u64>; 2],
    /// What of each stream has been sent, newlines included.
    sent: [usize; 2],
    /// The line that was begun and goes on in the next piece.
    open: Option<usize>,
    /// Whole lines as a server sees them.
    seen: Vec<String>,
    line: String,
}

const fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Checker {
    fn apply(&mut self, op: &Op) {
        let mut cuts = Vec::new();
        match op {
            Op::Write(stream, text) => {
                let from = self.log;
                let text_at = from + HEADER;
                self.log = text_at + text.len() as u64;
                self.written[index(*stream)].push_str(text);
                self.places[index(*stream)].extend(text_at..self.log);
                let line_end = text.rfind('\n').map(|at| text_at + at as u64 + 1);
                let part = Part { stream: *stream, text: text.clone(), to: self.log, line_end };
                self.lines.push(self.now, from, part, &mut cuts);
                self.take(&cuts, Some(index(*stream)));
            }
            Op::Wait(ms) => {
                self.now = self.now + Millis(*ms);
                let due = self.lines.deadline().is_some_and(|due| due <= self.now);
                self.lines.silence(self.now, &mut cuts);
                assert_eq!(due, !cuts.is_empty(), "lines are sent when their silence is over, and not before");
                self.take(&cuts, None);
                assert!(self.lines.deadline().is_none_or(|due| due > self.now && due <= self.now + LINE_SILENCE));
            }
        }
        self.check();
    }

    fn finish(&mut self) {
        let mut cuts = Vec::new();
        self.lines.finish(&mut cuts);
        self.take(&cuts, None);
        self.check();
        assert_eq!(self.sent, [self.written[0].len(), self.written[1].len()], "something was never sent");
        assert_eq!(self.open, None, "a line was left open");
        assert_eq!(self.lines, Lines { stdout: self.idle(0), stderr: self.idle(1) });
    }

    fn idle(&self, stream: usize) -> super::Tail {
        let tail = if stream == 0 { &self.lines.stdout } else { &self.lines.stderr };
        super::Tail { text: String::new(), open: false, ..tail.clone() }
    }

    fn take(&mut self, cuts: &[Cut], writer: Option<usize>) {
        for cut in cuts {
            assert!(!cut.pieces.is_empty());
            for piece in &cut.pieces {
                let text = &cut.text[piece.start as usize..piece.end as usize];
                self.piece(text, piece.partial, writer);
            }
        }
    }

    fn piece(&mut self, text: &str, partial: bool, writer: Option<usize>) {
        assert!(text.len() <= PIECE, "a piece of {} bytes", text.len());
        assert!(!text.contains('\n'));
        assert!(!partial || !text.is_empty(), "an empty piece goes on");
        let stream = match text.chars().next() {
            Some(c) => usize::from(c.is_uppercase()),
            None => self.open.or(writer).expect("an empty piece closes a line"),
        };
        assert!(self.open.is_none_or(|open| open == stream), "a line of the other stream stands within this one");
        let (written, at) = (&self.written[stream], &mut self.sent[stream]);
        assert!(written[*at..].starts_with(text), "what is sent is not what was written");
        *at += text.len();
        self.line.push_str(text);
        if partial {
            self.open = Some(stream);
            return;
        }
        if written[*at..].starts_with('\n') {
            *at += 1;
        } else {
            assert_eq!(*at, written.len(), "a line is ended in its middle");
        }
        self.open = None;
        self.seen.push(core::mem::take(&mut self.line));
    }

    fn check(&self) {
        self.lines.check();
        let resume = self.lines.resume(self.log);
        for (places, sent) in self.places.iter().zip(self.sent) {
            assert!(places[sent..].iter().all(|place| *place >= resume), "what was not sent would not be read again");
        }
    }
}

fn text(stream: Stream) -> impl Strategy<Value = String> {
    let (small, large) = match stream {
        Stream::Stdout => ("[aé日]{0,4}", "[aé日🦀]"),
        Stream::Stderr => ("[AÉΩ]{0,4}", "[AÉΩ𝔸]"),
    };
    let long = (large, 10_000_usize..70_000).prop_map(|(c, times)| c.replace('🦀', "日").repeat(times));
    let part = prop_oneof![6 => small.prop_map(|text| text), 4 => Just("\n".to_string()), 1 => long];
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.concat())
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        text(Stream::Stdout).prop_map(|text| Op::Write(Stream::Stdout, text)),
        text(Stream::Stderr).prop_map(|text| Op::Write(Stream::Stderr, text)),
        (0_u64..40).prop_map(Op::Wait),
    ]
}

proptest! {
    #![proptest_config(crate::tests::cases(300))]

    #[test]
    fn any_split_of_two_streams_gives_their_lines(ops in prop::collection::vec(op(), 1..20)) {
        let mut checker = Checker::default();
        ops.iter().for_each(|op| checker.apply(op));
        checker.finish();
    }

    #[test]
    fn one_stream_alone_gives_exactly_its_lines(
        texts in prop::collection::vec(text(Stream::Stdout), 1..12),
        waits in prop::collection::vec(0_u64..40, 12),
    ) {
        let mut checker = Checker::default();
        for (text, wait) in texts.iter().zip(waits) {
            checker.apply(&Op::Write(Stream::Stdout, text.clone()));
            checker.apply(&Op::Wait(wait));
        }
        checker.finish();
        let all = texts.concat();
        let mut lines: Vec<&str> = all.split('\n').collect();
        lines.pop_if(|last| last.is_empty());
        // A line that was sent whole before its newline came is not ended twice.
        prop_assert_eq!(checker.seen, lines);
    }
}

fn pieces(cuts: &[Cut]) -> Vec<(&str, bool)> {
    let of = |cut: &'_ Cut| cut.pieces.clone();
    cuts.iter()
        .flat_map(|cut| {
            of(cut).into_iter().map(|piece| (&cut.text[piece.start as usize..piece.end as usize], piece.partial))
        })
        .collect()
}

fn push(lines: &mut Lines, now: u64, stream: Stream, text: &str) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let line_end = text.rfind('\n').map(|at| at as u64 + 1);
    lines.push(Millis(now), 0, Part { stream, text: text.to_string(), to: text.len() as u64, line_end }, &mut cuts);
    cuts
}

#[test]
fn a_line_is_cut_only_where_it_is_too_long() {
    let mut lines = Lines::default();
    let full = "x".repeat(PIECE);
    assert_eq!(pieces(&push(&mut lines, 0, Stream::Stdout, &(full.clone() + "\n"))), [(full.as_str(), false)]);
    assert_eq!(
        pieces(&push(&mut lines, 0, Stream::Stdout, &(full.clone() + "y\n"))),
        [(full.as_str(), true), ("y", false)]
    );
    let wide = "x".repeat(PIECE - 1) + "é\n";
    assert_eq!(
        pieces(&push(&mut lines, 0, Stream::Stdout, &wide)),
        [(&full[1..], true), ("é", false)],
        "between characters"
    );
}

#[test]
fn an_unfinished_line_is_sent_after_silence_and_closed_for_the_other_stream() {
    let mut lines = Lines::default();
    assert!(push(&mut lines, 100, Stream::Stdout, "a").is_empty());
    assert_eq!(lines.deadline(), Some(Millis(125)));
    let mut cuts = Vec::new();
    lines.silence(Millis(124), &mut cuts);
    assert!(cuts.is_empty());
    lines.silence(Millis(125), &mut cuts);
    assert_eq!(pieces(&cuts), [("a", true)]);
    assert_eq!(lines.deadline(), None);
    assert_eq!(pieces(&push(&mut lines, 200, Stream::Stderr, "E\n")), [("", false), ("E", false)]);
    assert_eq!(pieces(&push(&mut lines, 200, Stream::Stdout, "b\n")), [("b", false)]);
}

#[test]
fn the_end_closes_the_line_that_was_begun_first() {
    for (begun, other) in [(Stream::Stderr, Stream::Stdout), (Stream::Stdout, Stream::Stderr)] {
        let mut lines = Lines::default();
        let mut cuts = push(&mut lines, 0, begun, "begun");
        lines.silence(LINE_SILENCE, &mut cuts);
        cuts.extend(push(&mut lines, 26, other, "waits"));
        cuts.extend(push(&mut lines, 26, begun, " goes on"));
        lines.finish(&mut cuts);
        assert_eq!(pieces(&cuts), vec![("begun", true), (" goes on", false), ("waits", false)]);
    }
}
