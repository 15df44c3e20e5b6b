//! A log that is bounded, its writer and its readers: nothing of it is ever missing without a word.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use makima_core::input::{Chunk, Stream};
use proptest::prelude::*;

use super::log::{HEAD, Shared, settle};
use super::mask::Secrets;
use super::reader::Reader;
use super::record::Folder;
use crate::supervise::Writer;

/// What was written, as a log would hold it without a bound.
#[derive(Default)]
struct Written {
    records: Vec<(Stream, u64, Vec<u8>)>,
}

struct Pair {
    _place: tempfile::TempDir,
    folder: Folder,
    writer: Writer,
    written: Written,
}

impl Pair {
    fn new(bound: u64) -> Self {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::at(place.path());
        let writer = Writer::begin(&folder, bound).expect("a log");
        Self { _place: place, folder, writer, written: Written::default() }
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let at = self.writer.length() + HEAD as u64;
        let mut record = vec![0; HEAD];
        record.extend(bytes);
        self.writer.write(stream, &mut record);
        self.writer.make_room();
        self.written.records.push((stream, at, bytes.to_vec()));
    }

    fn lines(&mut self, stream: Stream, count: usize) {
        let n = self.written.records.len();
        let text: String = (0..count).map(|line| format!("{stream:?} {n} {line}\n")).collect();
        self.write(stream, text.as_bytes());
    }

    fn reader(&self) -> Reader {
        Reader::new(self.folder.clone(), Secrets::default())
    }

    fn log(&self, closed: bool) -> Shared {
        let shared = Shared::default();
        shared.grow(self.writer.length());
        if closed {
            shared.close();
        }
        shared
    }

    fn on_disk(&self) -> u64 {
        std::fs::metadata(self.folder.log()).expect("a log").blocks() * 512
    }
}

impl Written {
    fn text(&self, stream: Stream, from: u64, to: u64) -> String {
        let mut text = Vec::new();
        let begin = self.records.partition_point(|(_, at, bytes)| at + (bytes.len() as u64) < from);
        let near = self.records.iter().skip(begin).take_while(|(_, at, _)| *at < to);
        for (_, at, bytes) in near.filter(|(own, ..)| *own == stream) {
            let end = at + bytes.len() as u64;
            let (from, to) = (from.clamp(*at, end) - at, to.clamp(*at, end) - at);
            text.extend(bytes.get(from as usize..to as usize).expect("a stretch of it"));
        }
        String::from_utf8(text).expect("text")
    }

    /// Whether a chunk says what was written there, or that it is gone; true for the latter.
    fn is_marked(&self, chunk: &Chunk) -> bool {
        if let [part] = &chunk.parts[..]
            && part.text.contains("are missing here")
        {
            assert!(part.text.contains(&format!(" {} bytes", chunk.to - chunk.from)), "{}", part.text);
            assert_eq!(part.line_end, Some(chunk.to));
            return true;
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            let parts = chunk.parts.iter().filter(|part| part.stream == stream);
            let text: String = parts.map(|part| part.text.as_str()).collect();
            assert_eq!(text, self.text(stream, chunk.from, chunk.to));
        }
        false
    }
}

#[derive(Clone, Debug)]
enum Act {
    Write(bool, usize),
    Read,
    /// What was read is delivered, but for so many chunks.
    Deliver,
    /// Another daemon begins at what was delivered.
    Anew,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (any::<bool>(), prop_oneof![4 => 1..200_usize, 2 => 1000..3000_usize]).prop_map(|(out, n)| Act::Write(out, n)),
        4 => Just(Act::Read),
        1 => Just(Act::Deliver),
        1 => Just(Act::Anew),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is written, read, delivered and cut, in whatever order: a reader gets each byte as it was written, or
    /// is told that it is gone, and the log keeps to its bound.
    #[test]
    fn each_byte_was_delivered_or_is_read_or_lies_in_a_marked_gap(acts in prop::collection::vec(act(), 1..150)) {
        const BOUND: u64 = 256 * 1024;
        let mut pair = Pair::new(BOUND);
        let mut reader = pair.reader();
        let (mut at, mut delivered) = (0, 0);
        for act in acts {
            match act {
                Act::Write(out, lines) => pair.lines(if out { Stream::Stdout } else { Stream::Stderr }, lines),
                Act::Read => {
                    if let Some(chunk) = reader.next(at, &pair.log(false)).expect("it can be read") {
                        prop_assert_eq!(chunk.from, at);
                        pair.written.is_marked(&chunk);
                        at = chunk.to;
                    }
                }
                Act::Deliver => {
                    delivered = at;
                    pair.writer.delivered(at);
                }
                Act::Anew => {
                    reader = pair.reader();
                    at = delivered;
                }
            }
            prop_assert!(pair.on_disk() <= BOUND + BOUND / 8 + 128 * 1024, "{} bytes", pair.on_disk());
        }
        let log = pair.log(true);
        loop {
            let chunk = reader.next(at, &log).expect("it can be read").expect("it is closed");
            if chunk.to == chunk.from {
                break;
            }
            prop_assert_eq!(chunk.from, at);
            pair.written.is_marked(&chunk);
            at = chunk.to;
        }
        prop_assert_eq!(at, pair.writer.length());
        prop_assert_eq!(settle(&pair.folder).expect("a log").length(), at);
    }
}

/// All chunks of a log that is closed.
fn chunks(pair: &Pair, mut at: u64) -> Vec<Chunk> {
    let (mut reader, log, mut all) = (pair.reader(), pair.log(true), Vec::new());
    loop {
        let chunk = reader.next(at, &log).expect("it can be read").expect("it is closed");
        if chunk.to == chunk.from {
            return all;
        }
        at = chunk.to;
        all.push(chunk);
    }
}

#[test]
fn the_first_and_the_newest_are_kept_of_what_nobody_has() {
    let mut pair = Pair::new(1 << 20);
    for _ in 0..2_000 {
        pair.lines(Stream::Stdout, 200);
    }
    let all = chunks(&pair, 0);
    let marked: Vec<&Chunk> = all.iter().filter(|chunk| pair.written.is_marked(chunk)).collect();
    let [gap] = marked[..] else { panic!("{} gaps", marked.len()) };
    assert!((256 << 10..300 << 10).contains(&gap.from), "the first quarter: {}", gap.from);
    let newest = pair.writer.length() - gap.to;
    assert!(newest > 512 << 10, "the newest: {newest}");
}

#[test]
fn what_was_delivered_goes_first_and_then_nothing_else() {
    let mut pair = Pair::new(1 << 20);
    let mut reader = pair.reader();
    let mut at = 0;
    for _ in 0..2_000 {
        pair.lines(Stream::Stdout, 200);
        while let Some(chunk) = reader.next(at, &pair.log(false)).expect("it can be read") {
            assert!(!pair.written.is_marked(&chunk));
            at = chunk.to;
        }
        pair.writer.delivered(at);
    }
    // A server that lost what it had is told.
    let first = chunks(&pair, 0).remove(0);
    assert!(pair.written.is_marked(&first) && first.from == 0);
}

/// Protects a reader in the middle of what is being cut: it never takes a hole for output.
#[test]
fn a_reader_beside_a_writer_that_cuts_reads_nothing_that_was_not_written() {
    let mut pair = Pair::new(256 * 1024);
    let shared = std::sync::Arc::new(pair.log(false));
    let (mut reader, log) = (pair.reader(), std::sync::Arc::clone(&shared));
    let reading = std::thread::spawn(move || {
        let (mut at, mut all) = (0, Vec::new());
        loop {
            // Now and then it is left behind by four times the bound, so that there is a cut to read.
            while all.len() % 64 == 0 && log.length() < at + (1 << 20) && !log.is_closed() {
                std::thread::yield_now();
            }
            match reader.next(at, &log) {
                Ok(Some(chunk)) if chunk.to == chunk.from => return all,
                Ok(Some(chunk)) => {
                    at = chunk.to;
                    all.push(chunk);
                }
                Ok(None) => std::thread::yield_now(),
                Err(failure) => assert!(failure.to_string().contains("faster than it can be read"), "{failure}"),
            }
        }
    });
    for n in 0..4_000 {
        pair.lines(if n % 3 == 0 { Stream::Stderr } else { Stream::Stdout }, 300);
        shared.grow(pair.writer.length());
    }
    shared.close();
    let all = reading.join().expect("it reads to the end");
    let gaps = all.iter().filter(|chunk| pair.written.is_marked(chunk)).count();
    assert!(gaps > 0, "nothing was cut");
    assert!(all.is_sorted_by(|one, next| one.to == next.from));
}

/// Protects a log whose machine went down between any two steps of a cut.
#[test]
fn what_a_crash_leaves_of_a_cut_can_be_read() {
    let mut pair = Pair::new(1 << 20);
    for _ in 0..2_000 {
        pair.lines(Stream::Stdout, 200);
    }
    let length = pair.writer.length();
    let mut log = OpenOptions::new().append(true).open(pair.folder.log()).expect("a log");
    log.write_all(&[0, 1, 0, 0, 0, 50, 0, 0, 0, b'x']).expect("room");
    let whole: Vec<(u64, u64)> = chunks(&pair, 0).iter().map(|chunk| (chunk.from, chunk.to)).collect();
    let marks = std::fs::read(pair.folder.file(super::MARKS)).expect("marks");
    for left in [marks.len(), marks.len() / 2 + 3, 0] {
        std::fs::write(pair.folder.file(super::MARKS), &marks[..left]).expect("room");
        assert_eq!(settle(&pair.folder).expect("a log").length(), length);
        let again: Vec<(u64, u64)> = chunks(&pair, 0).iter().map(|chunk| (chunk.from, chunk.to)).collect();
        assert_eq!(again, whole);
        for (from, _) in &whole {
            let read = pair.reader().next(*from, &pair.log(true)).expect("it can be read").expect("it is closed");
            pair.written.is_marked(&read);
        }
    }
    // It is written down before it is done.
    let mut pair = Pair::new(1 << 30);
    for _ in 0..3 {
        pair.lines(Stream::Stdout, 2);
    }
    let second = pair.written.records[1].1 - HEAD as u64..pair.written.records[2].1 - HEAD as u64;
    pair.folder.loses(&super::Gone::default().with(second.clone())).expect("room");
    let all = chunks(&pair, 0);
    let gaps: Vec<bool> = all.iter().map(|chunk| pair.written.is_marked(chunk)).collect();
    assert_eq!((gaps, all[1].from..all[1].to), (vec![false, true, false], second));
}

/// Protects a secret whose beginning was cut out of a log.
#[test]
fn the_rest_of_a_secret_behind_a_gap_is_not_shown() {
    let mut pair = Pair::new(1 << 30);
    for text in ["begin s3cr", "et-t0", "ken+1 end, and on it goes\n"] {
        pair.write(Stream::Stdout, text.as_bytes());
    }
    let second = pair.written.records[1].1 - HEAD as u64..pair.written.records[2].1 - HEAD as u64;
    pair.folder.loses(&super::Gone::default().with(second.clone())).expect("room");
    let secrets = Secrets::default();
    secrets.add("s3cret-t0ken+1");
    let mut at = 0;
    let mut texts = Vec::new();
    let mut reader = Reader::new(pair.folder.clone(), secrets.clone());
    while let Some(chunk) = reader.next(at, &pair.log(true)).expect("it can be read").filter(|chunk| chunk.to > at) {
        at = chunk.to;
        texts.extend(chunk.parts.into_iter().map(|part| part.text));
    }
    assert_eq!(texts[0], "begin ***");
    assert!(texts[1].contains("are missing here") && texts[2].starts_with("***"), "{texts:?}");
    assert!(!texts.concat().contains("ken+1"), "{texts:?}");
    // Nor to a daemon that begins behind the gap.
    let mut reader = Reader::new(pair.folder.clone(), secrets);
    let from = second.end + HEAD as u64 + 2;
    let chunk = reader.next(from, &pair.log(true)).expect("it can be read").expect("it is closed");
    assert!(!chunk.parts[0].text.contains("n+1"), "{chunk:?}");
}
