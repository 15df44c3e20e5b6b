//! What more tasks cost each of them: those that have ended are known until the server lets them go.

use makima_tests::real::usage::memory;

use super::daemon::Daemon;
use super::process::ms;
use super::table::{Goal, Row, median};
use super::{Bench, Failure, agents};

/// So many are known to each of the daemons.
const KNOWN: [usize; 3] = [1, 100, 1_000];

/// So many are asked for at once.
const AT_ONCE: usize = 50;

/// What may be added where there are a thousand instead of one.
const FLAT: f64 = 1.3;

pub(crate) fn measure(bench: &mut Bench) -> Result<(), Failure> {
    let place = bench.place("growth")?;
    let rounds = bench.rounds(15);
    let mut daemons = Vec::new();
    let mut memories = Vec::new();
    for known in KNOWN {
        let mut daemon = Daemon::start(bench, &place.join(format!("home-{known}")))?;
        let before = memory(daemon.pid(), "status", "RssAnon")?;
        let mut left = known;
        while left > 0 {
            let some = left.min(AT_ONCE);
            let tasks = (0..some).map(|_| Ok(daemon.spawn("true", None)?.0)).collect::<Result<Vec<_>, Failure>>()?;
            daemon.finish_all(tasks)?;
            left -= some;
        }
        memories.push((memory(daemon.pid(), "status", "RssAnon")? - before) * 1024.0 / known as f64);
        daemons.push(daemon);
    }
    let plan = format!("exec '{}' {} stamp", bench.own.display(), agents::WORD);
    let mut spawns = vec![Vec::new(); KNOWN.len()];
    for _ in 0..rounds {
        for (daemon, took) in daemons.iter_mut().zip(&mut spawns) {
            let (task, asked) = daemon.spawn(&plan, None)?;
            took.push(ms(asked, daemon.stamp()?));
            daemon.finish(task)?;
        }
    }
    let mut starts = vec![Vec::new(); KNOWN.len()];
    for daemon in daemons.drain(..) {
        daemon.die()?;
    }
    for _ in 0..rounds {
        for (known, took) in KNOWN.iter().zip(&mut starts) {
            took.push(Daemon::start(bench, &place.join(format!("home-{known}")))?.took);
        }
    }
    tell("spawn", "ms", &spawns.iter().map(|took| median(took)).collect::<Vec<_>>());
    for (known, took) in KNOWN.iter().zip(&starts) {
        let name = format!("start of the daemon, {known} known");
        Row { name: &name, unit: "ms", ours: median(took), limit: None, goal: Goal::None }.print();
    }
    for (known, each) in KNOWN.iter().zip(&memories).skip(1) {
        let name = format!("memory of a known task, of {known}");
        let goal = if *known > 100 { Goal::AtMostTimes(FLAT) } else { Goal::None };
        Row { name: &name, unit: "KiB", ours: *each, limit: Some(memories[1]), goal }.print();
    }
    Ok(())
}

/// Each beside the first.
fn tell(what: &str, unit: &str, figures: &[f64]) {
    for (known, ours) in KNOWN.iter().zip(figures) {
        let name = format!("{what}, {known} known");
        let goal = if *known > 1 { Goal::AtMostTimes(FLAT) } else { Goal::None };
        Row { name: &name, unit, ours: *ours, limit: figures.first().copied(), goal }.print();
    }
}
