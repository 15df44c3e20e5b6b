//! The journal: damaged in any way it is a beginning of what was written, and a daemon can always begin with it.

use std::path::Path;

use makima_core::record::Record;
use makima_core::{Compat, Config, Daemon, Keep};

use super::place;
use crate::journal::{BUILD, Segment, format, recover};

/// A segment as it stands there, and one whose lines all have the right checksums.
pub(super) fn journal(data: &[u8]) {
    is_sound(data);
    let checked = with_checksums(data);
    is_sound(&checked);
    begin_with(&checked);
}

fn read(bytes: &[u8]) -> Segment {
    let read = Segment::take(Path::new("journal-00000001"), bytes);
    read.unwrap_or_else(|failure| unreachable!("memory can be read: {failure}"))
}

/// What is read of a segment is what stands in it; of a beginning of it, a beginning of that.
fn is_sound(bytes: &[u8]) {
    let segment = read(bytes);
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').count();
    let first = segment.header.as_ref().map_or(0, |header| header.first);
    let count = segment.records.len() + segment.beyond.len() + usize::from(segment.header.is_ok());
    assert!(count <= lines, "{count} things in {lines} lines");
    assert!(segment.header.is_ok() || segment.records.is_empty());
    for (at, record) in segment.records.iter().enumerate() {
        assert_eq!(record.n, first.saturating_add(at as u64));
    }
    if let Some(damage) = &segment.damage {
        assert!(damage.byte <= bytes.len() as u64 && damage.line <= lines as u64 + 1, "{damage}");
    }
    let head = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
    for cut in [bytes.len() / 2, bytes.len().saturating_sub(1), head, head + (bytes.len() - head) / 2] {
        let part = read(bytes.get(..cut).unwrap_or_default());
        assert!(segment.records.starts_with(&part.records), "of {cut} bytes other records are read");
        assert!(part.records.is_empty() || part.header.is_ok());
        let whole = segment.header.is_ok() && segment.damage.is_none();
        assert!(!whole || cut < head || part.damage.is_none() || part.is_torn(), "{:?}", part.damage);
    }
    if segment.damage.is_none() {
        let written = written(&segment);
        let again = read(&written);
        assert!(again.damage.is_none() && again.records == segment.records, "{:?}", again.damage);
        assert!(self::written(&again) == written, "it is written in another way");
    }
}

/// The segment, written anew.
fn written(segment: &Segment) -> Vec<u8> {
    let Ok(header) = &segment.header else { return Vec::new() };
    let records = segment.records.iter().map(|record| format::line(record).unwrap_or_default());
    [format::line(header).unwrap_or_default()].into_iter().chain(records).flatten().collect()
}

/// Each line with the checksum that belongs to it, whatever stands there for one.
fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut checked = Vec::new();
    for line in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let json = match line.split_at_checked(9) {
            Some((crc, json)) if crc.ends_with(b" ") => json,
            _ => line,
        };
        checked.extend_from_slice(format!("{:08x} ", crc32fast::hash(json)).as_bytes());
        checked.extend_from_slice(json);
        checked.push(b'\n');
    }
    checked
}

/// A daemon begins with it, and takes every step that is written down there, also those that were never taken.
fn begin_with(bytes: &[u8]) {
    let mut segment = read(bytes);
    let Ok(header) = &mut segment.header else { return };
    BUILD.clone_into(&mut header.build);
    let snapshot = header.snapshot.clone();
    let place = place();
    let file = crate::journal::read::segment_file(place.path(), 1);
    assert!(std::fs::write(file, written(&segment)).is_ok(), "there is no room");
    match recover(place.path(), &config(), |_, _| None) {
        Ok(recovered) => {
            let last = segment.records.last().map_or(0, |record| record.n);
            assert!(recovered.next > last || last == u64::MAX, "{} after {last}", recovered.next);
            assert_eq!(recovered.segment, 2);
        }
        Err(why) => unreachable!("it is no newer makima's: {why}"),
    }
    let Ok(daemon) = Daemon::restore(snapshot) else { return };
    step(daemon, segment.records);
}

fn step(mut daemon: Daemon, records: Vec<Record>) {
    let mut effects = Vec::new();
    for record in records {
        if let Some((now, input)) = record.whole(&daemon, |_, _| None) {
            effects.clear();
            daemon.step(now, input, &mut effects);
        }
    }
    // What it is now can be begun with, too.
    let snapshot = daemon.snapshot();
    assert!(Daemon::restore(snapshot).is_ok(), "its own state is refused");
}

fn config() -> Config {
    Config {
        machine_id: "machine".to_owned(),
        hostname: "host".to_owned(),
        max_tasks: 2,
        working_directory: "/work".to_owned(),
        home_directory: "/home".to_owned(),
        worktrees_directory: "/trees".to_owned(),
        api_url: "http://127.0.0.1:1".to_owned(),
        program: "/bin/makima".to_owned(),
        agent: makima_core::agent::Agent::default(),
        once: false,
        compat: Compat::default(),
        keep: Keep::default(),
        allowance: makima_core::allowance::Allowance::default(),
    }
}
