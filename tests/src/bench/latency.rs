//! A lone line, from an agent's write to a server's receipt.

use std::process::{Command, Stdio};

use makima_core::protocol::DaemonMessage;

use super::daemon::Daemon;
use super::process::{ms, now};
use super::sink::Session;
use super::table::{Goal, Row, quantile};
use super::{Bench, Failure, agents, reference};

/// Lines in a round.
const LINES: usize = 200;
/// Between two of them, in microseconds.
const PAUSE: u32 = 2_000;
/// The first ones are slower: pages, caches.
const WARM_UP: usize = 10;

pub(crate) fn measure(bench: &mut Bench) -> Result<(), Failure> {
    let home = bench.place("latency")?;
    let mut daemon = Daemon::start(bench, &home)?;
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    let agent = ["beat", &LINES.to_string(), &PAUSE.to_string()].join(" ");
    for _ in 0..bench.rounds(5) {
        let mut feed = Command::new(&bench.own)
            .args([reference::FEED, &bench.sink.url()])
            .args(agent.split(' '))
            .stdin(Stdio::null())
            .spawn()?;
        let mut session = bench.sink.accept()?;
        limit.extend(receive(&mut session)?);
        session.drain();
        feed.wait()?;
        let plan = format!("exec '{}' {} {agent}", bench.own.display(), agents::WORD);
        let (task, _) = daemon.spawn(&plan, None)?;
        ours.extend(receive(&mut daemon.session)?);
        daemon.finish(task)?;
    }
    for (name, of, goal) in
        [("latency of a line, p50", 0.5, Goal::AtMost(1.0)), ("latency of a line, p99", 0.99, Goal::None)]
    {
        Row { name, unit: "ms", ours: quantile(&ours, of), limit: Some(quantile(&limit, of)), goal }.print();
    }
    Ok(())
}

fn receive(session: &mut Session) -> Result<Vec<f64>, Failure> {
    let mut took = Vec::new();
    while took.len() < LINES {
        let written = session.until(|message| match message {
            DaemonMessage::TaskOutput(output) => Some(output.output),
            _ => None,
        })?;
        let there = now();
        took.push(ms(written.parse()?, there));
    }
    Ok(took.split_off(WARM_UP))
}
