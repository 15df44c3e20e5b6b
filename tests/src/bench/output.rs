//! A flood of lines, from an agent to a server.

use std::process::{Command, Stdio};
use std::time::Duration;

use makima_core::protocol::write_task_output;
use uuid::Uuid;

use super::agents::{self, Shape};
use super::daemon::Daemon;
use super::process::{Gate, cpu};
use super::sink::{Flood, Session};
use super::table::{Goal, Row, median};
use super::{Bench, Failure, reference};

/// After what was asked of it before, a process may have some work left.
const QUIET: Duration = Duration::from_millis(150);

/// Times the limit's processor time: 0.6 us a line on a machine where the limit takes 0.38.
const CPU: f64 = 1.58;

/// What one flood cost.
#[derive(Clone, Copy)]
struct Cost {
    /// Lines a second.
    rate: f64,
    /// Processor microseconds a line.
    cpu: f64,
}

pub(crate) fn measure(bench: &mut Bench) -> Result<(), Failure> {
    let home = bench.place("output")?;
    let mut daemon = Daemon::start(bench, &home)?;
    let (rounds, lines) = (bench.rounds(5), bench.options.lines);
    let fewer = (rounds.min(3), lines / 4);
    for (shape, name, (rounds, lines), goals) in [
        (Shape::Plain, "output", (rounds, lines), [Goal::Times(0.6), Goal::AtMostTimes(CPU)]),
        (Shape::Json, "output, JSON", fewer, [Goal::None; 2]),
        (Shape::Single, "output, a line a write", fewer, [Goal::None; 2]),
    ] {
        let (mut ours, mut limit) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            limit.push(through_feed(bench, shape, lines)?);
            ours.push(through_daemon(bench, &mut daemon, shape, lines)?);
        }
        let middle = |costs: &[Cost], of: fn(&Cost) -> f64| median(&costs.iter().map(of).collect::<Vec<_>>());
        for (unit, of, goal) in
            [("lines/s", (|cost| cost.rate) as fn(&Cost) -> f64, goals[0]), ("us CPU/line", |cost| cost.cpu, goals[1])]
        {
            Row { name, unit, ours: middle(&ours, of), limit: Some(middle(&limit, of)), goal }.print();
        }
    }
    Ok(())
}

fn through_feed(bench: &Bench, shape: Shape, lines: u64) -> Result<Cost, Failure> {
    let gate = Gate::make(bench.folder.path().join("gate"))?;
    let mut process = Command::new(&bench.own)
        .args([reference::FEED, &bench.sink.url(), "lines", &lines.to_string(), shape.word()])
        .arg(&gate.path)
        .stdin(Stdio::null())
        .spawn()?;
    let mut session = bench.sink.accept()?;
    let cost = flood(&mut session, &gate, process.id(), shape, lines);
    session.drain();
    process.wait()?;
    cost
}

fn through_daemon(bench: &Bench, daemon: &mut Daemon, shape: Shape, lines: u64) -> Result<Cost, Failure> {
    let gate = Gate::make(bench.folder.path().join("gate"))?;
    let words = ["lines", &lines.to_string(), shape.word(), &gate.path.to_string_lossy()].join(" ");
    let plan = format!("exec '{}' {} {words}", bench.own.display(), agents::WORD);
    let (task, _) = daemon.spawn(&plan, None)?;
    let pid = daemon.pid();
    let cost = flood(&mut daemon.session, &gate, pid, shape, lines)?;
    daemon.finish(task)?;
    // A log of this length is not to fill the memory.
    std::fs::remove_file(daemon.home.join("tasks").join(task.to_string()).join("output.log"))?;
    Ok(cost)
}

fn flood(session: &mut Session, gate: &Gate, pid: u32, shape: Shape, lines: u64) -> Result<Cost, Failure> {
    let mut message = Vec::new();
    write_task_output(&mut message, Uuid::nil(), &shape.line(0), false);
    let agent = gate.arrived()?;
    std::thread::sleep(QUIET);
    let before = cpu(pid)?;
    agent.go()?;
    let Flood { from, to } = session.flood(lines, message.len())?;
    let used = cpu(pid)? - before;
    let each = 1.0 / lines as f64;
    Ok(Cost { rate: 1e9 / (to.saturating_sub(from) as f64 * each), cpu: used * 1e6 * each })
}
