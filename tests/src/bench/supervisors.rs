//! What it costs that agents outlive the daemon: a process beside each, which is to weigh nothing while its agent is
//! silent.

use std::time::Duration;

use makima_tests::real::usage::{cpu, memory};

use super::daemon::Daemon;
use super::process::{Arrived, Gate};
use super::table::{Goal, Row};
use super::{Bench, Failure, agents};

/// So many are measured together: what they share counts once.
const COUNT: usize = 10;

/// For so long their agents are silent.
const SILENT: Duration = Duration::from_secs(3);

pub(crate) fn measure(bench: &mut Bench) -> Result<(), Failure> {
    let home = bench.place("supervisors")?.join("home");
    let mut daemon = Daemon::start(bench, &home)?;
    let (mut tasks, mut gates, mut agents) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..COUNT {
        let gate = Gate::make(bench.folder.path().join(format!("gate-{n}")))?;
        let plan = format!("exec '{}' {} wait '{}'", bench.own.display(), agents::WORD, gate.path.display());
        tasks.push(daemon.spawn(&plan, None)?.0);
        gates.push(gate);
    }
    for gate in &gates {
        agents.push(gate.arrived()?);
    }
    let pids = tasks.iter().map(|task| daemon.supervisor(*task)).collect::<Result<Vec<_>, _>>()?;
    // Until they have settled.
    std::thread::sleep(Duration::from_millis(500));
    let used = || pids.iter().map(|pid| cpu(*pid)).sum::<Result<f64, _>>();
    let before = used()?;
    std::thread::sleep(SILENT);
    let used = used()? - before;
    let each = |key| {
        let all = pids.iter().map(|pid| memory(*pid, "smaps_rollup", key)).sum::<Result<f64, _>>();
        all.map(|all| all / COUNT as f64)
    };
    let (pss, dirty) = (each("Pss")?, each("Private_Dirty")?);
    Row { name: "a supervisor of ten, PSS", unit: "MiB", ours: pss, limit: None, goal: Goal::AtMost(2.0) }.print();
    let name = "  private, and written to";
    Row { name, unit: "MiB", ours: dirty, limit: None, goal: Goal::AtMost(1.5) }.print();
    let name = "  all ten, while silent";
    Row { name, unit: "s CPU", ours: used, limit: None, goal: Goal::AtMost(0.0) }.print();
    agents.into_iter().try_for_each(Arrived::go)?;
    daemon.finish_all(tasks)
}
