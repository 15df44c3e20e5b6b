//! From a forced `interruptTask` until nothing is left of the agent, while many others run.

use std::path::Path;
use std::time::{Duration, Instant};

use makima_core::protocol::{DaemonMessage, InterruptTask};
use uuid::Uuid;

use super::daemon::Daemon;
use super::process::{PATIENCE, ms, now};
use super::table::{Goal, Row, quantile};
use super::{Bench, Failure, agents};

/// So many run at once, each with a child in a session of its own.
const RUNNING: usize = 50;

/// So many are interrupted, one after the other; each is followed by another.
const INTERRUPTED: usize = 100;

/// How often it is looked whether a process is gone.
const LOOK: Duration = Duration::from_micros(250);

/// An agent and its child.
struct Tree {
    task: Uuid,
    pids: Vec<u32>,
}

pub(crate) fn measure(bench: &mut Bench) -> Result<(), Failure> {
    let place = bench.place("interrupt")?;
    let mut daemon = Daemon::start(bench, &place.join("home"))?;
    let own = bench.own.display();
    let sleep = format!("'{own}' {} sleep", agents::WORD);
    // Neither asks to be ended: the child has left the group, and nobody waits for it.
    let plan = format!("setsid sh -c 'echo $$; exec {}' & echo $$; exec {sleep}", sleep.replace('\'', "\""));
    let mut trees = Vec::new();
    for _ in 0..RUNNING {
        trees.push(start(&mut daemon, &plan)?);
    }
    let (mut gone, mut told) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds(INTERRUPTED) {
        let (empty, ended) = interrupt(&mut daemon, &[trees.remove(0)])?;
        gone.extend(empty);
        told.extend(ended);
        trees.push(start(&mut daemon, &plan)?);
    }
    let row = |name: &str, values: &[f64], of, goal| {
        Row { name, unit: "ms", ours: quantile(values, of), limit: None, goal }.print();
    };
    let name = format!("interrupt, {RUNNING} run, gone, p50");
    row(&name, &gone, 0.5, Goal::None);
    row("  p99", &gone, 0.99, Goal::AtMost(100.0));
    // That comes behind the look for what is left, and behind the commit.
    row("  until `taskComplete`, p99", &told, 0.99, Goal::AtMost(100.0));
    let (gone, told) = interrupt(&mut daemon, &trees)?;
    row("  all of them at once, gone, the last", &gone, 1.0, Goal::None);
    row("  until `taskComplete`, the last", &told, 1.0, Goal::None);
    Ok(())
}

/// One that runs: both of its processes have said who they are.
fn start(daemon: &mut Daemon, plan: &str) -> Result<Tree, Failure> {
    let (task, _) = daemon.spawn(plan, None)?;
    let mut pids = Vec::new();
    while pids.len() < 2 {
        pids.push(u32::try_from(daemon.stamp()?)?);
    }
    Ok(Tree { task, pids })
}

/// Interrupts them all: for each the milliseconds until its processes were gone, and until it was told to have ended.
fn interrupt(daemon: &mut Daemon, trees: &[Tree]) -> Result<(Vec<f64>, Vec<f64>), Failure> {
    let mut asked = Vec::new();
    for tree in trees {
        asked.push(now());
        daemon.session.send(&InterruptTask { task_id: tree.task, graceful: false }.into())?;
    }
    let begun = asked.clone();
    let pids: Vec<Vec<u32>> = trees.iter().map(|tree| tree.pids.clone()).collect();
    // On a thread of its own: the ends are read meanwhile.
    let watch = std::thread::spawn(move || {
        let until = Instant::now() + PATIENCE;
        let mut gone = vec![None; pids.len()];
        while gone.iter().any(Option::is_none) && Instant::now() < until {
            for ((at, pids), begun) in gone.iter_mut().zip(&pids).zip(&begun) {
                if at.is_none() && !pids.iter().any(|pid| lives(*pid)) {
                    *at = Some(ms(*begun, now()));
                }
            }
            std::thread::sleep(LOOK);
        }
        gone.into_iter().collect::<Option<Vec<f64>>>()
    });
    let mut told = vec![0.0; trees.len()];
    for _ in trees {
        let ended = daemon.session.until(|message| match message {
            DaemonMessage::TaskComplete(end) => Some(end.task_id),
            _ => None,
        })?;
        let place = trees.iter().position(|tree| tree.task == ended).ok_or("another task ended")?;
        told[place] = ms(asked[place], now());
        if trees[place].pids.iter().any(|pid| lives(*pid)) {
            return Err("its end was told while a process of it lived".into());
        }
    }
    let gone = watch.join().map_err(|_| "the watch broke off")?.ok_or("an agent is not gone")?;
    Ok((gone, told))
}

/// Whether that process is there; one that only waits to be waited for is not.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
