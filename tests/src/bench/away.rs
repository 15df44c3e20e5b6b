//! The server is away while an agent writes a lot.

use std::time::{Duration, Instant};

use makima_core::protocol::{DaemonMessage, write_task_output};
use uuid::Uuid;

use makima_tests::real::usage::memory;

use super::agents::{self, Shape};
use super::daemon::Daemon;
use super::sink::Arrived;
use super::table::{Goal, Row};
use super::{Bench, Failure, size};

/// What the agent writes in a second.
const MEGABYTES: u64 = 50;

/// The longest that an agent may have to wait for a write of a megabyte: others use the disk and the processors, too.
const BLOCKED: f64 = 250.0;

pub(crate) fn measure(bench: &mut Bench) -> Result<(), Failure> {
    let home = bench.place("away")?;
    let seconds = size("MAKIMA_BENCH_AWAY_SECONDS", 20);
    let mut daemon = Daemon::start(bench, &home)?;
    let plan = format!("exec '{}' {} pour {MEGABYTES} {seconds}", bench.own.display(), agents::WORD);
    let (task, _) = daemon.spawn(&plan, None)?;
    daemon.session.until(|message| matches!(message, DaemonMessage::TaskOutput(_)).then_some(()))?;
    daemon.session.cut()?;
    let (mut most, until) = (0.0_f64, Instant::now() + Duration::from_secs(seconds));
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
        most = most.max(memory(daemon.pid(), "status", "VmRSS")?);
    }
    daemon.reconnected(bench)?;
    let mut message = Vec::new();
    write_task_output(&mut message, Uuid::nil(), &Shape::Plain.line(0), false);
    let each = MEGABYTES * 20_000 / (agents::LINE as u64 + 1) * 50;
    // A stretch that was not known to have arrived comes again: the last line tells that all is there.
    let lines = each * seconds;
    let Arrived { count, cut, last } = daemon.session.count(message.len())?;
    most = most.max(memory(daemon.pid(), "status", "VmHWM")?);
    let mut words = last.split(' ').map(str::parse::<f64>);
    let (Some(Ok(longest)), Some(Ok(all))) = (words.next(), words.next()) else {
        return Err(format!("the last line is {last:?}").into());
    };
    daemon.finish(task)?;
    let name = format!("server away for {seconds} s, memory");
    Row { name: &name, unit: "MiB", ours: most, limit: None, goal: Goal::AtMost(32.0) }.print();
    let name = "  longest write of the agent";
    Row { name, unit: "ms", ours: longest / 1e6, limit: None, goal: Goal::AtMost(BLOCKED) }.print();
    let (name, planned) = ("  the agent's time", seconds as f64);
    Row { name, unit: "s", ours: all / 1e9, limit: Some(planned), goal: Goal::AtMostTimes(1.05) }.print();
    // What is cut may begin and end in the middle of a line, and counts the heads of records.
    let (marked, least) = (cut / (agents::LINE as u64 + 1), if cut == 0 { 1.0 } else { 0.999 });
    let (name, ours) = ("  lines that arrived, or were marked as cut", (count + marked) as f64);
    Row { name, unit: "lines", ours, limit: Some(lines as f64), goal: Goal::Times(least) }.print();
    Row { name: "    of these cut", unit: "lines", ours: marked as f64, limit: None, goal: Goal::None }.print();
    std::fs::remove_file(home.join("tasks").join(task.to_string()).join("output.log"))?;
    Ok(())
}
