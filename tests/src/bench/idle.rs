//! Memory of a daemon that is connected and has nothing to do.

use std::process::{Command, Stdio};
use std::time::Duration;

use makima_tests::real::usage::{cpu, memory};

use super::daemon::Daemon;
use super::table::{Goal, Row};
use super::{Bench, Failure, agents};

/// After this it has settled.
const SETTLED: Duration = Duration::from_secs(2);

pub(crate) fn measure(bench: &mut Bench) -> Result<(), Failure> {
    let home = bench.place("idle")?;
    let daemon = Daemon::start(bench, &home)?;
    // What any program of this kind takes.
    let mut sleeper = Command::new(&bench.own).args([agents::WORD, "sleep"]).stdin(Stdio::null()).spawn()?;
    let before = cpu(daemon.pid())?;
    std::thread::sleep(SETTLED);
    let used = (cpu(daemon.pid())? - before) * 1e3 / SETTLED.as_secs_f64();
    let both = |file, key| Ok::<_, Failure>((memory(daemon.pid(), file, key)?, memory(sleeper.id(), file, key)?));
    let figures = [
        ("idle, resident", both("status", "VmRSS"), Goal::AtMost(12.0)),
        ("idle, anonymous", both("status", "RssAnon"), Goal::None),
        ("idle, share of it (PSS)", both("smaps_rollup", "Pss"), Goal::None),
    ];
    sleeper.kill()?;
    sleeper.wait()?;
    for (name, figure, goal) in figures {
        let (ours, limit) = figure?;
        Row { name, unit: "MiB", ours, limit: Some(limit), goal }.print();
    }
    Row { name: "idle", unit: "ms CPU/s", ours: used, limit: None, goal: Goal::None }.print();
    Ok(())
}
