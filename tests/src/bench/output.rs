//! A flood of lines, from an agent to a server.

use std::process::{Command, Stdio};
use std::time::Duration;

use makima_core::protocol::write_task_output;
use uuid::Uuid;

use makima_tests::real::usage::cpu;

use super::agents::{self, Shape};
use super::daemon::Daemon;
use super::process::{Arrived, Gate};
use super::sink::{Flood, Session};
use super::table::{Goal, Row, median};
use super::{Bench, Failure, reference};

/// After what was asked of it before, a process may have some work left.
const QUIET: Duration = Duration::from_millis(150);

/// Times the limit's processor time: 0.6 us a line on a machine where the limit takes 0.38.
const CPU: f64 = 1.58;

/// The same with the supervisor's: 0.9 us a line there.
const CPU_OF_BOTH: f64 = 2.4;

/// What one flood cost.
#[derive(Clone, Copy)]
struct Cost {
    /// Lines a second.
    rate: f64,
    /// Processor microseconds a line.
    cpu: f64,
    /// Those of the supervisor with them.
    both: f64,
}

pub(crate) fn measure(bench: &mut Bench) -> Result<(), Failure> {
    let home = bench.place("output")?;
    let mut daemon = Daemon::start(bench, &home)?;
    let (rounds, lines) = (bench.rounds(5), bench.options.lines);
    let fewer = (rounds.min(3), lines / 4);
    for (shape, name, (rounds, lines), goals) in [
        (
            Shape::Plain,
            "output",
            (rounds, lines),
            [Goal::Times(0.7), Goal::AtMostTimes(CPU), Goal::AtMostTimes(CPU_OF_BOTH)],
        ),
        (Shape::Json, "output, JSON", fewer, [Goal::None; 3]),
        (Shape::Single, "output, a line a write", fewer, [Goal::None; 3]),
    ] {
        let (mut ours, mut limit) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            limit.push(through_feed(bench, shape, lines)?);
            ours.push(through_daemon(bench, &mut daemon, shape, lines)?);
        }
        let middle = |costs: &[Cost], of: fn(&Cost) -> f64| median(&costs.iter().map(of).collect::<Vec<_>>());
        for (unit, of, goal) in [
            ("lines/s", (|cost| cost.rate) as fn(&Cost) -> f64, goals[0]),
            ("us CPU/line", |cost| cost.cpu, goals[1]),
            ("us CPU/line of both", |cost| cost.both, goals[2]),
        ] {
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
    let cost = gate.arrived().and_then(|agent| flood(&mut session, agent, [process.id()], shape, lines));
    session.drain();
    process.wait()?;
    cost
}

fn through_daemon(bench: &Bench, daemon: &mut Daemon, shape: Shape, lines: u64) -> Result<Cost, Failure> {
    let gate = Gate::make(bench.folder.path().join("gate"))?;
    // Its supervisor is to stay until it has been looked at.
    let held = Gate::make(bench.folder.path().join("held"))?;
    let words = ["lines", &lines.to_string(), shape.word(), &gate.path.to_string_lossy()].join(" ");
    let (own, word, wait) = (bench.own.display(), agents::WORD, held.path.display());
    let plan = format!("'{own}' {word} {words} && exec '{own}' {word} wait '{wait}'");
    let (task, _) = daemon.spawn(&plan, None)?;
    let agent = gate.arrived()?;
    let pids = [daemon.pid(), daemon.supervisor(task)?];
    let cost = flood(&mut daemon.session, agent, pids, shape, lines)?;
    held.arrived()?.go()?;
    daemon.finish(task)?;
    // A log of this length is not to fill the memory.
    std::fs::remove_file(daemon.home.join("tasks").join(task.to_string()).join("output.log"))?;
    Ok(cost)
}

/// The first of the processes is the one that speaks to the sink.
fn flood<const N: usize>(
    session: &mut Session,
    agent: Arrived,
    pids: [u32; N],
    shape: Shape,
    lines: u64,
) -> Result<Cost, Failure> {
    let mut message = Vec::new();
    write_task_output(&mut message, Uuid::nil(), &shape.line(0), false);
    std::thread::sleep(QUIET);
    let before = used(&pids)?;
    agent.go()?;
    let Flood { from, to } = session.flood(lines, message.len())?;
    let used: Vec<f64> = used(&pids)?.iter().zip(before).map(|(after, before)| after - before).collect();
    let each = 1.0 / lines as f64;
    let cpu = |seconds: f64| seconds * 1e6 * each;
    let own = used.first().copied().unwrap_or(f64::NAN);
    let rate = 1e9 / (to.saturating_sub(from) as f64 * each);
    Ok(Cost { rate, cpu: cpu(own), both: cpu(used.iter().sum()) })
}

/// What each of them has used of the processors.
fn used(pids: &[u32]) -> Result<Vec<f64>, Failure> {
    pids.iter().map(|pid| cpu(*pid)).collect()
}
