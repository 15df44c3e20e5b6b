//! Recordings that stop, made short: what is left still stops in the same way, and nothing of it can be left out.

use std::path::Path;
use std::time::{Duration, Instant};

use makima_core::effect::Effect;
use makima_core::id::Epoch;
use makima_core::input::{Boot, Input};
use makima_core::protocol::{Authenticated, DaemonCommand, SpawnTask, Wire};
use makima_core::record::Record;
use makima_core::time::{Millis, Now};
use makima_core::{Compat, Config, Daemon, Keep};
use makima_runner::journal::format::{Header, VERSION, line};
use makima_runner::journal::reduce::Reduced;
use makima_runner::journal::replay::{Recording, Stopped};
use makima_runner::journal::{BUILD, Segment};
use uuid::Uuid;

fn config(max_tasks: u32) -> Config {
    Config {
        machine_id: "machine".to_string(),
        hostname: "host".to_string(),
        max_tasks,
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

fn spawn(n: u128) -> SpawnTask {
    SpawnTask {
        task_name: format!("task {n}"),
        ..SpawnTask::new(Uuid::from_u128(0x1000_0000_0000_4000_8000_0000_0000_0000 + n), "true".to_string())
    }
}

/// A daemon whose steps are recorded.
struct Session {
    header: Header,
    daemon: Daemon,
    now: Now,
    records: Vec<Record>,
}

impl Session {
    fn new() -> Self {
        let daemon = Daemon::new(config(2));
        let snapshot = daemon.snapshot();
        let header = Header { journal: VERSION, build: BUILD.to_owned(), first: 1, goes_on: false, snapshot };
        Self { header, daemon, now: Now::default(), records: Vec::new() }
    }

    fn step(&mut self, input: Input) {
        let n = self.records.len() as u64 + 1;
        let mut effects: Vec<Effect> = Vec::new();
        let mut record = Record::of(n, self.now, &input);
        self.daemon.step(self.now, input, &mut effects);
        record.effects = effects.iter().map(ToString::to_string).collect();
        record.digest = n.is_multiple_of(16).then(|| self.daemon.digest());
        self.records.push(record);
        self.now.mono = self.now.mono + Millis(10);
    }

    fn boot(&mut self, incarnation: u32, max_tasks: u32) {
        let config = Some(config(max_tasks));
        self.step(Input::Boot(Boot { incarnation, seed: 7, config: config.map(Box::new), leftovers: Vec::new() }));
    }

    fn command(&mut self, command: impl Into<DaemonCommand>) {
        let command = Box::new(command.into());
        self.step(Input::Command { epoch: Epoch(1), seq: None, command, credentials: None });
    }

    /// A session with a server that asks for many tasks, and lets time pass.
    fn busy(&mut self) {
        self.boot(1, 2);
        self.step(Input::LinkUp { epoch: Epoch(1), wire: Wire::One });
        self.command(Authenticated { daemon_id: Uuid::nil() });
        for n in 1..40 {
            self.command(spawn(n));
            self.step(Input::Flushed { epoch: Epoch(1), n: 1 });
            self.step(Input::Tick);
        }
    }

    fn write(&self, file: &Path) {
        write(file, &self.header, &self.records);
    }
}

fn write(file: &Path, header: &Header, records: &[Record]) {
    let lines = records.iter().map(|record| line(record).expect("a line"));
    let lines: Vec<Vec<u8>> = std::iter::once(line(header).expect("a line")).chain(lines).collect();
    std::fs::write(file, lines.concat()).expect("a recording");
}

fn reduced(file: &Path, time: Duration) -> Option<Reduced> {
    let recording = Recording::read(file).expect("a recording");
    recording.reduce(|_, _| None, Instant::now() + time, |_| {}).expect("it can be taken again")
}

/// How a replay of these stops.
fn stops(file: &Path, header: &Header, records: &[Record]) -> Option<String> {
    write(file, header, records);
    assert!(Segment::read(file).expect("a recording").damage.is_none(), "it is whole");
    Recording::read(file).expect("a recording").replay(|_, _| None, drop).err().map(|why| why.to_string())
}

const LONG: Duration = Duration::from_secs(600);

/// The end of time: nothing can be due behind it, and a daemon always has something to come.
const END: Millis = Millis(u64::MAX);

impl Session {
    /// What no clock says.
    fn at_the_end_of_time(&mut self) {
        self.now.mono = END;
        self.step(Input::Tick);
        self.step(Input::Tick);
    }
}

/// Protects people from reading a whole session: what is left breaks the same, and is all that it takes.
#[test]
fn what_breaks_something_is_made_short() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("recording");
    let mut session = Session::new();
    session.busy();
    session.at_the_end_of_time();
    session.write(&file);
    let whole = stops(&file, &session.header, &session.records).expect("it breaks something");
    let short = reduced(&file, LONG).expect("it breaks something");
    // A task has something to come only where a server has asked for it.
    let inputs: Vec<&Input> = short.records.iter().map(|record| &record.input).collect();
    assert!(
        matches!(
            inputs.as_slice(),
            [Input::Boot(_), Input::LinkUp { .. }, Input::Command { .. }, Input::Command { .. }, Input::Tick]
        ),
        "{inputs:?}"
    );
    assert!(short.done && short.steps == session.records.len() - 1, "{short:?}");
    let again = stops(&file, &short.header, &short.records).expect("it breaks something");
    assert_eq!(again, short.stops.to_string());
    let why = |text: &str| text.split_once(": ").map(|(_, why)| why.to_owned());
    assert_eq!(why(&again), why(&whole));
    for left_out in 0..short.records.len() {
        let mut fewer = short.records.clone();
        fewer.remove(left_out);
        // What came of each is another thing now, and only what breaks is looked for.
        (1..).zip(&mut fewer).for_each(|(n, record)| record.n = n);
        let stops = stops(&file, &short.header, &fewer);
        assert_ne!(stops.as_deref().and_then(why), why(&whole), "without {left_out} it breaks as well");
    }
}

/// Protects what it takes from being left out where it stands in the state that a recording begins with.
#[test]
fn the_state_that_it_begins_with_stays_where_it_is_needed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("recording");
    let mut session = Session::new();
    session.busy();
    let header = Header { snapshot: session.daemon.snapshot(), ..session.header };
    session = Session { header, records: Vec::new(), ..session };
    session.step(Input::Tick);
    session.at_the_end_of_time();
    session.write(&file);
    let short = reduced(&file, LONG).expect("it breaks something");
    assert_eq!(short.records.len(), 1, "{short:?}");
    assert_eq!(short.header.snapshot, session.header.snapshot);
    assert_eq!(stops(&file, &short.header, &short.records), Some(short.stops.to_string()));
}

/// Protects people from a search without an end: what there is by then breaks the same.
#[test]
fn when_time_is_over_what_is_known_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("recording");
    let mut session = Session::new();
    session.busy();
    session.at_the_end_of_time();
    session.write(&file);
    let short = reduced(&file, Duration::ZERO).expect("it breaks something");
    assert!(!short.done && short.records.len() == short.steps, "{short:?}");
    assert_eq!(stops(&file, &short.header, &short.records), Some(short.stops.to_string()));
}

/// Protects from a recording of which nobody can say whether it is one: what was written down came of all of its inputs.
#[test]
fn of_another_way_all_is_kept_since_it_was_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("recording");
    let mut session = Session::new();
    session.header.build = "0.0.1-before".to_owned();
    session.busy();
    let lie = session.records.iter_mut().find(|record| record.n > 34 && !record.effects.is_empty());
    let lie = lie.expect("a step of which something came");
    assert!(lie.n < 48, "{lie:?}");
    lie.effects[0].push('x');
    let n = lie.n;
    session.write(&file);
    let whole = stops(&file, &session.header, &session.records).expect("it goes another way");
    let short = reduced(&file, LONG).expect("it goes another way");
    assert!(matches!(short.stops, Stopped::Differs(_)), "{short:?}");
    let numbers: Vec<u64> = short.records.iter().map(|record| record.n).collect();
    assert_eq!(numbers, (33..=n).collect::<Vec<_>>());
    assert_eq!(short.header.build, "0.0.1-before");
    assert_eq!(stops(&file, &short.header, &short.records), Some(whole));
}

#[test]
fn of_a_recording_that_is_well_nothing_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("recording");
    let mut session = Session::new();
    session.busy();
    session.write(&file);
    assert!(reduced(&file, LONG).is_none());
}
