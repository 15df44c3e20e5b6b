//! The journal on a real disk: what is left of it after any damage is a beginning of what was written, or is refused
//! with its place; never something else.

use std::fs;
use std::path::Path;
use std::time::Duration;

use makima_core::effect::Effect;
use makima_core::id::{Epoch, TaskId};
use makima_core::input::{Boot, Input, LinkCause, Stop};
use makima_core::protocol::Wire;
use makima_core::protocol::{Authenticated, SpawnTask};
use makima_core::time::{Millis, Now};
use makima_core::{Compat, Config, Daemon, Keep};
use makima_runner::journal::replay::Recording;
use makima_runner::journal::{Bounds, Journal, Segment, format, recover, segments};
use uuid::Uuid;

fn config() -> Config {
    Config {
        machine_id: "machine".to_string(),
        hostname: "host".to_string(),
        max_tasks: 2,
        working_directory: "/work".to_string(),
        home_directory: "/home".to_string(),
        worktrees_directory: "/trees".to_string(),
        api_url: "http://127.0.0.1:1".to_string(),
        program: "/bin/makima".to_owned(),
        agent: makima_core::agent::Agent::default(),
        once: false,
        compat: Compat::default(),
        keep: Keep::default(),
        allowance: makima_core::allowance::Allowance::default(),
    }
}

fn task(n: u128) -> Uuid {
    Uuid::from_u128(0x1000_0000_0000_4000_8000_0000_0000_0000 + n)
}

fn spawn(n: u128) -> SpawnTask {
    SpawnTask { task_name: format!("task {n}"), ..SpawnTask::new(task(n), "true".to_string()) }
}

/// A daemon whose every step is written down.
struct Life {
    daemon: Daemon,
    journal: Journal,
    now: Now,
    /// The digest after each step.
    digests: Vec<u64>,
}

impl Life {
    /// A new life on what the journal in this folder tells.
    fn begin(folder: &Path, bounds: Bounds) -> Self {
        let recovered = recover(folder, &config(), |_, _| None).expect("it can be taken up");
        let journal = Journal::begin(folder, bounds, &recovered).expect("it can be written");
        let incarnation = recovered.daemon.incarnation() + 1;
        let mut life = Self { daemon: recovered.daemon, journal, now: Now::default(), digests: Vec::new() };
        life.step(Input::Boot(Boot { incarnation, seed: 7, config: Some(Box::new(config())), leftovers: Vec::new() }));
        life
    }

    fn step(&mut self, input: Input) {
        let mut effects: Vec<Effect> = Vec::new();
        let record = self.journal.record(self.now, &input);
        self.daemon.step(self.now, input, &mut effects);
        self.journal.write(record, &effects, &mut self.daemon);
        self.digests.push(self.daemon.digest());
    }

    /// A session with a server that asks for tasks.
    fn session(&mut self, tasks: std::ops::Range<u128>) {
        let epoch = Epoch(1);
        self.step(Input::LinkUp { epoch, wire: Wire::One });
        let command = |command| Input::Command { epoch, seq: None, command: Box::new(command), credentials: None };
        self.step(command(Authenticated { daemon_id: task(0) }.into()));
        for n in tasks {
            self.step(command(spawn(n).into()));
            self.now.mono = self.now.mono + Millis(10);
        }
    }

    fn die(self) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(self.journal.end(&self.daemon, Duration::from_secs(10)));
    }
}

/// A journal of one segment with some steps, and the digest after each.
fn written(folder: &Path) -> (Vec<u8>, Vec<u64>) {
    let mut life = Life::begin(folder, Bounds::default());
    life.session(1..4);
    life.step(Input::LinkDown { epoch: Epoch(1), cause: LinkCause::Broken("reset".to_string()) });
    let digests = life.digests.clone();
    life.die();
    // The last segment holds the state at the end; the one before, the steps to it.
    let files = segments(folder).expect("a journal");
    let bytes = fs::read(&files[0]).expect("a segment");
    for file in files {
        fs::remove_file(file).expect("it is there");
    }
    (bytes, digests)
}

/// The state that is made of a journal whose one segment has these bytes; none if it is refused.
fn taken_up(folder: &Path, bytes: &[u8]) -> Option<(u64, Vec<String>)> {
    let file = folder.join("journal-00000001");
    fs::write(&file, bytes).expect("a segment");
    let mut recovered = recover(folder, &config(), |_, _| None).ok()?;
    Some((recovered.daemon.digest(), recovered.notes))
}

#[test]
fn a_journal_cut_off_anywhere_is_a_beginning_of_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let (bytes, digests) = written(folder.path());
    let fresh = Daemon::new(config()).digest();
    let whole_lines = |upto: usize| bytes[..upto].iter().filter(|byte| **byte == b'\n').count();
    for end in 0..=bytes.len() {
        let (digest, notes) = taken_up(folder.path(), &bytes[..end]).expect("a torn end is no reason to refuse");
        let expected = match whole_lines(end).checked_sub(2) {
            Some(at) => digests[at],
            None => fresh,
        };
        assert_eq!(digest, expected, "cut off at byte {end}");
        let clean = end > 0 && bytes[end - 1] == b'\n';
        assert_eq!(notes.is_empty(), clean, "cut off at byte {end}: {notes:?}");
    }
}

/// A damaged record ends what is trusted. What the server asked for behind it is taken over all the same.
#[test]
fn a_journal_with_a_flipped_byte_is_never_misread() {
    let folder = tempfile::tempdir().expect("a folder");
    let (bytes, digests) = written(folder.path());
    let mut fresh = Daemon::new(config());
    let lines: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
    // All bits of every byte would take minutes; each byte once, and its bits in turn.
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let segment = {
            let file = folder.path().join("journal-00000001");
            fs::write(&file, &damaged).expect("a segment");
            Segment::read(&file).expect("it can be read")
        };
        let line = lines.partition_point(|end| *end < at);
        let damage = segment.damage.as_ref().unwrap_or_else(|| panic!("byte {at} is damaged, and nobody sees it"));
        let told = (damage.line, damage.byte);
        let begin = line.checked_sub(1).map_or(0, |before| lines[before] as u64 + 1);
        assert_eq!(told, (line as u64 + 1, begin), "byte {at}: {damage}");
        assert_eq!(segment.records.len(), line.saturating_sub(1), "byte {at}");
        let Some((digest, notes)) = taken_up(folder.path(), &damaged) else {
            panic!("byte {at}: a damaged journal is taken up as far as it goes");
        };
        assert!(!notes.is_empty(), "byte {at} is damaged, and nobody is told");
        if line + 1 >= lines.len() {
            let before = if line < 2 { fresh.digest() } else { digests[line - 2] };
            assert_eq!(digest, before, "byte {at}: the last record is cut off");
        }
    }
}

#[test]
fn a_life_goes_on_where_the_last_one_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    for life_number in 1..=5_u128 {
        let mut life = Life::begin(folder.path(), Bounds::default());
        assert_eq!(u128::from(life.daemon.incarnation()), life_number);
        let known = life.daemon.statuses().count() as u128;
        assert_eq!(known, (life_number - 1) * 2, "each life knows the tasks of those before");
        life.now.mono = Millis(0);
        // Boot asked for a connection: its number goes on too.
        let epoch = Epoch(life_number as u32);
        life.step(Input::LinkUp { epoch, wire: Wire::One });
        let command = |command| Input::Command { epoch, seq: None, command: Box::new(command), credentials: None };
        life.step(command(Authenticated { daemon_id: task(0) }.into()));
        for n in known..known + 2 {
            life.step(command(spawn(n + 1).into()));
        }
        if life_number % 2 == 0 {
            life.step(Input::Stop { how: Stop::Detach });
            life.die();
        } else {
            // As a kill: what its thread has taken is on its way to the disk.
            drop(life.journal);
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    let recording = Recording::read(folder.path()).expect("a recording");
    let steps = recording.records.len();
    let replayed = recording.replay(|_, _| None, drop).expect("it goes the same way");
    assert_eq!(replayed.steps, steps as u64);
    assert_eq!(steps, 5 * 5 + 2, "every step of every life");
}

#[test]
fn segments_are_bounded_and_the_oldest_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let bounds = Bounds { records: 10, all: 60_000, ..Bounds::default() };
    let mut life = Life::begin(folder.path(), bounds);
    life.session(1..200);
    let (digest, count) = (life.daemon.digest(), life.daemon.statuses().count());
    drop(life.journal);
    std::thread::sleep(Duration::from_millis(300));
    let files = segments(folder.path()).expect("a journal");
    let sizes: Vec<u64> = files.iter().map(|file| fs::metadata(file).expect("it is there").len()).collect();
    assert!(files.len() >= 2 && files.len() < 10, "{sizes:?}");
    let mut recovered = recover(folder.path(), &config(), |_, _| None).expect("it can be taken up");
    assert_eq!((recovered.daemon.digest(), recovered.daemon.statuses().count()), (digest, count));
    assert!(recovered.replayed <= 10, "{} steps were taken again", recovered.replayed);
}

/// Steps of another makima may go another way here: its state is taken over, and what the server asked for.
#[test]
fn of_another_makimas_steps_the_commands_are_taken_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let (bytes, _) = written(folder.path());
    let text = String::from_utf8(bytes).expect("text");
    let (first, rest) = text.split_once('\n').expect("a header");
    let mut header: serde_json::Value = serde_json::from_str(&first[9..]).expect("a header");
    header["build"] = "99.0.0".into();
    let other = [format::line(&header).expect("a line"), rest.as_bytes().to_vec()].concat();
    let file = folder.path().join("journal-00000001");
    fs::write(&file, other).expect("a segment");
    let recovered = recover(folder.path(), &config(), |_, _| None).expect("it can be taken up");
    assert!(recovered.notes[0].contains("written by makima 99.0.0"), "{:?}", recovered.notes);
    let known: Vec<TaskId> = recovered.daemon.statuses().map(|(id, _)| id).collect();
    assert_eq!(known, [1, 2, 3].map(|n| TaskId(task(n))));
    assert!(!recovered.goes_on);
    for id in known {
        let told = recovered.notes.iter().filter(|note| note.starts_with(&format!("task {id}, pending ")));
        assert_eq!(told.count(), 1, "each task in doubt is named: {:?}", recovered.notes);
    }
}

/// A segment whose state is damaged is one of steps only: they fit behind those of the segment before, if it goes on
/// from there.
#[test]
fn steps_behind_a_damaged_state_are_trusted_only_where_they_go_on() {
    for goes_on in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut life = Life::begin(folder.path(), Bounds::default());
        life.session(1..2);
        life.journal.rotate(&life.daemon);
        life.step(Input::LinkDown { epoch: Epoch(1), cause: LinkCause::Broken("reset".to_string()) });
        let digest = life.daemon.digest();
        drop(life.journal);
        std::thread::sleep(Duration::from_millis(200));
        let file = segments(folder.path()).expect("a journal").pop().expect("a second segment");
        let text = fs::read_to_string(&file).expect("text");
        let (first, rest) = text.split_once('\n').expect("a header");
        let mut header: serde_json::Value = serde_json::from_str(&first[9..]).expect("a header");
        header["snapshot"]["seal"] = 0.into();
        header["goes_on"] = goes_on.into();
        fs::write(&file, [format::line(&header).expect("a line"), rest.as_bytes().to_vec()].concat())
            .expect("a segment");
        let mut recovered = recover(folder.path(), &config(), |_, _| None).expect("it can be taken up");
        assert!(recovered.notes[0].contains("damaged"), "{:?}", recovered.notes);
        assert_eq!((recovered.goes_on, recovered.daemon.digest() == digest), (goes_on, goes_on));
    }
}

#[test]
fn a_newer_makimas_journal_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = format::line(&serde_json::json!({ "journal": 2, "what": "ever" })).expect("a line");
    fs::write(folder.path().join("journal-00000001"), line).expect("a segment");
    let refused = recover(folder.path(), &config(), |_, _| None).expect_err("it is newer");
    assert!(refused.to_string().contains("reads version 1; start the newer makima again"), "{refused}");
}

/// Whether all that `told` says stands in `written`, which may say more.
fn holds(written: &serde_json::Value, told: &serde_json::Value) -> bool {
    if let Some(fields) = told.as_object() {
        return fields.iter().all(|(name, told)| holds(&written[name], told));
    }
    if let Some(all) = told.as_array() {
        let same = written.as_array().is_some_and(|list| list.len() == all.len());
        return same && all.iter().enumerate().all(|(at, told)| holds(&written[at], told));
    }
    written == told
}

/// The lines in the document are what is written and read here: their checksums, their fields.
#[test]
fn the_documents_lines_are_lines_of_a_journal() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/journal.md")).expect("the document");
    let blocks = text.split("```").skip(1).step_by(2);
    let (mut headers, mut records) = (Vec::new(), Vec::new());
    let state = serde_json::to_string(&Daemon::new(config()).snapshot()).expect("JSON");
    for line in blocks.flat_map(|block| block.trim().lines()) {
        let whole = format!("{line}\n");
        let read = format::Lines::new(whole.as_bytes())
            .next_line()
            .expect("it can be read")
            .expect("it is there")
            .map(str::to_owned);
        let json = read.unwrap_or_else(|why| panic!("{line}\n{why}"));
        if json.contains(r#""snapshot":{…}"#) {
            headers.push(format::header(&json.replace("{…}", &state)).unwrap_or_else(|why| panic!("{line}\n{why}")));
            continue;
        }
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let record = format::record(&json, value["n"].as_u64().expect("a number"));
        let record = record.unwrap_or_else(|why| panic!("{line}\n{why}"));
        assert!(holds(&serde_json::to_value(&record).expect("JSON"), &value), "{line}");
        records.push(record);
    }
    assert_eq!(headers.iter().map(|header| (header.journal, header.first)).collect::<Vec<_>>(), [(format::VERSION, 4)]);
    assert_eq!(records.iter().map(|record| record.n).collect::<Vec<_>>(), [4, 5, 6, 6]);
    // The figures that it names.
    let bounds = Bounds::default();
    for figure in [
        "20,000 records".to_string(),
        format!("{} MiB", bounds.bytes >> 20),
        format!("{} MiB", bounds.output >> 20),
        format!("{} MiB", bounds.all >> 20),
    ] {
        assert!(text.contains(&figure), "{figure}");
    }
    assert_eq!(bounds.records, 20_000);
}
