//! From exec to a session.

use std::process::{Command, Stdio};

use makima_core::protocol::DaemonMessage;

use super::daemon::Daemon;
use super::process::{ms, now};
use super::table::{Goal, Row, median};
use super::{Bench, Failure, reference};

pub(crate) fn measure(bench: &mut Bench) -> Result<(), Failure> {
    let home = bench.place("start")?;
    // The first one makes the home.
    drop(Daemon::start(bench, &home)?);
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds(15) {
        limit.push(hello(bench)?);
        ours.push(Daemon::start(bench, &home)?.took);
    }
    let (ours, limit) = (median(&ours), Some(median(&limit)));
    Row { name: "start, exec to session", unit: "ms", ours, limit, goal: Goal::AtMost(20.0) }.print();
    Ok(())
}

fn hello(bench: &Bench) -> Result<f64, Failure> {
    let began = now();
    let mut process =
        Command::new(&bench.own).args([reference::HELLO, &bench.sink.url()]).stdin(Stdio::piped()).spawn()?;
    let mut session = bench.sink.accept()?;
    session.authenticate()?;
    session.until(|message| matches!(message, DaemonMessage::DaemonDirectories(_)).then_some(()))?;
    let took = ms(began, now());
    process.kill()?;
    process.wait()?;
    Ok(took)
}
