//! A new life of the daemon, and a new connection: until everything is in hand again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use makima_core::protocol::DaemonMessage;
use uuid::Uuid;

use super::daemon::Daemon;
use super::process::{PATIENCE, ms, now};
use super::sink::Session;
use super::table::{Goal, Row, median, quantile};
use super::{Bench, Failure, agents, size};

/// Between an agent's lines, in microseconds.
const PAUSE: u64 = 20_000;

/// Agents whose link is cut.
const TALKING: u64 = 10;

/// The link is away for so long.
const AWAY: Duration = Duration::from_millis(100);

/// Records of the journal's newest segment: one more, and another segment may begin.
const TAIL: usize = 19_500;

/// Of its output, of which a segment tells of 128 MiB at the most.
const TAIL_OUTPUT: u64 = 120;

/// Agents that write a line now and then, until this is dropped.
struct Agents {
    stop: PathBuf,
    tasks: Vec<Uuid>,
}

impl Agents {
    fn start(bench: &Bench, daemon: &mut Daemon, count: u64, pause: u64) -> Result<Self, Failure> {
        let mut agents = Self { stop: daemon.home.with_extension("stop"), tasks: Vec::new() };
        let (own, stop) = (bench.own.display(), agents.stop.display());
        let plan = format!("exec '{own}' {} pulse {pause} '{stop}'", agents::WORD);
        for _ in 0..count {
            agents.tasks.push(daemon.spawn(&plan, None)?.0);
        }
        agents.all_write(&mut daemon.session, now())?;
        Ok(agents)
    }

    /// Waits until each has a line there that it wrote after that time.
    fn all_write(&self, session: &mut Session, since: u64) -> Result<(), Failure> {
        let mut silent: BTreeMap<Uuid, ()> = self.tasks.iter().map(|task| (*task, ())).collect();
        while !silent.is_empty() {
            let task = session.until(|message| match message {
                DaemonMessage::TaskOutput(line) => {
                    line.output.parse::<u64>().is_ok_and(|at| at > since).then_some(Ok(line.task_id))
                }
                DaemonMessage::TaskComplete(end) => Some(Err(format!("a task ended: {:?}", end.error))),
                _ => None,
            })??;
            silent.remove(&task);
        }
        Ok(())
    }

    /// Ends them, and waits for that.
    fn end(&self, daemon: &mut Daemon) -> Result<(), Failure> {
        fs::write(&self.stop, "")?;
        let mut left = self.tasks.len();
        while left > 0 {
            daemon.session.until(|message| matches!(message, DaemonMessage::TaskComplete(_)).then_some(()))?;
            left -= 1;
        }
        Ok(())
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        let _ = fs::write(&self.stop, "");
    }
}

/// The daemon is killed under a hundred agents.
pub(crate) fn restart(bench: &mut Bench) -> Result<(), Failure> {
    let home = bench.place("restart")?.join("home");
    let count = size("MAKIMA_BENCH_AGENTS", 100);
    let mut daemon = Daemon::start(bench, &home)?;
    let agents = Agents::start(bench, &mut daemon, count, PAUSE)?;
    let mut took = Vec::new();
    for _ in 0..bench.rounds(5) {
        daemon.die()?;
        let began = now();
        daemon = Daemon::start(bench, &home)?;
        agents.all_write(&mut daemon.session, began)?;
        took.push(ms(began, now()));
    }
    let name = format!("restart under {count} agents");
    Row { name: &name, unit: "ms", ours: median(&took), limit: None, goal: Goal::AtMost(1_000.0) }.print();
    agents.end(&mut daemon)
}

/// The daemon is killed with as much behind its newest state as its journal lets there be, and a long log.
pub(crate) fn tail(bench: &mut Bench) -> Result<(), Failure> {
    let home = bench.place("tail")?.join("home");
    let megabytes = size("MAKIMA_BENCH_LOG_MIB", 256);
    let mut daemon = Daemon::start(bench, &home)?;
    // The rest of it lies in segments before.
    let lines = (megabytes.next_multiple_of(128) + TAIL_OUTPUT) * (1 << 20) / (agents::LINE as u64 + 1);
    let stop = home.with_extension("stop");
    let (own, word, gate) = (bench.own.display(), agents::WORD, bench.folder.path().join("gate"));
    let gate = super::process::Gate::make(gate)?;
    let plan = format!(
        "'{own}' {word} lines {lines} plain '{}' && exec '{own}' {word} pulse 2000 '{}'",
        gate.path.display(),
        stop.display()
    );
    let agents = Agents { stop, tasks: vec![daemon.spawn(&plan, None)?.0] };
    gate.arrived()?.go()?;
    agents.all_write(&mut daemon.session, now())?;
    let records = fill(&home, &mut daemon.session)?;
    let (mut session, mut line) = (Vec::new(), Vec::new());
    // Only the first start is behind that tail: it begins a segment.
    daemon.die()?;
    let began = now();
    daemon = Daemon::start(bench, &home)?;
    session.push(daemon.took);
    agents.all_write(&mut daemon.session, began)?;
    line.push(ms(began, now()));
    let log = fs::metadata(home.join("tasks").join(agents.tasks[0].to_string()).join("output.log"))?.len() >> 20;
    let name = format!("start, {records} records, a log of {log} MiB");
    Row { name: &name, unit: "ms", ours: median(&session), limit: None, goal: Goal::AtMost(1_000.0) }.print();
    let name = "  until its agent's next line";
    Row { name, unit: "ms", ours: median(&line), limit: None, goal: Goal::AtMost(1_000.0) }.print();
    agents.end(&mut daemon)
}

/// Listens until the newest segment is about to be full. Gives how many records it has.
fn fill(home: &Path, session: &mut Session) -> Result<usize, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        let quarter = Instant::now() + Duration::from_millis(250);
        while Instant::now() < quarter {
            session.until(|message| matches!(message, DaemonMessage::TaskOutput(_)).then_some(()))?;
        }
        let files = fs::read_dir(home.join("journal"))?.flatten().map(|entry| entry.path());
        let newest = files.max().ok_or("there is no journal")?;
        let records = fs::read(newest)?.iter().filter(|byte| **byte == b'\n').count().saturating_sub(1);
        if records >= TAIL || Instant::now() > until {
            return Ok(records);
        }
    }
}

/// The link is cut under agents that write: from the next connection until all of it is there and acknowledged.
pub(crate) fn reconnect(bench: &mut Bench) -> Result<(), Failure> {
    let home = bench.place("reconnect")?.join("home");
    let mut daemon = Daemon::start(bench, &home)?;
    let agents = Agents::start(bench, &mut daemon, TALKING, PAUSE)?;
    let mut took = Vec::new();
    for _ in 0..bench.rounds(9) {
        daemon.session.cut()?;
        std::thread::sleep(AWAY);
        let accepted = daemon.reconnected(bench)?;
        // What was written meanwhile, then the ping behind that.
        agents.all_write(&mut daemon.session, accepted.saturating_sub(PAUSE * 2_000))?;
        daemon.session.until_pong()?;
        took.push(ms(accepted, now()));
    }
    for (name, of, goal) in [("reconnect until in step, p50", 0.5, Goal::AtMost(100.0)), ("  p90", 0.9, Goal::None)] {
        Row { name, unit: "ms", ours: quantile(&took, of), limit: None, goal }.print();
    }
    agents.end(&mut daemon)
}
