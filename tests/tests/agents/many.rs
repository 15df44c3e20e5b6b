//! Many agents at once that wait: what the daemon costs beside them.

use std::thread;
use std::time::{Duration, Instant};

use makima_tests::api::{Script, Turn};
use makima_tests::real::usage::{cpu, memory};

use crate::claudes::with_the_newest;
use crate::scene::{May, PATIENCE, Scene, bash};
use crate::support::{Fleet, until};

/// How many there are: 20 for the figure, and then in a release build, whose binary people have.
const AGENTS: &str = "MAKIMA_AGENTS_AT_ONCE";

/// The daemon's own share of one core at most while its agents do nothing.
const CPU: f64 = 0.03;

/// Its memory at most, in MiB.
const MEMORY: f64 = 40.0;

/// How long it is looked at.
const LOOKS: Duration = Duration::from_secs(10);

/// Protects a machine that is to be the agents': a daemon that turns round and round beside agents that wait, or that holds
/// what they said.
#[test]
fn a_daemon_beside_agents_that_wait_costs_next_to_nothing() {
    let agents = std::env::var(AGENTS).map_or(3_usize, |count| count.parse().expect("a number of agents"));
    with_the_newest(|claude| {
        let scene = Scene::new(claude, May::Ask, Script::new());
        for _ in 0..agents {
            scene.api.push(bash(Turn::text("I try."), "sh -c 'echo yes > allowed'"));
        }
        let at_once = ["--max-tasks".to_owned(), agents.to_string()];
        let fleet = Fleet::with(&scene.place, scene.daemon().args(at_once));
        let tasks: Vec<String> = (0..agents).map(|nth| fleet.plan(&scene.repo, &format!("Try {nth}"))).collect();
        for id in &tasks {
            // One after the other: so many start only as fast as the machine lets them.
            until(&format!("a question of {id}"), PATIENCE, || fleet.task(id)["needsPerson"].as_str().map(|_| ()));
        }
        let pid = u32::try_from(fleet.daemon.pid()).expect("a process");
        let used = || cpu(pid).expect("its time");
        let (before, since) = (used(), Instant::now());
        thread::sleep(LOOKS);
        let share = (used() - before) / since.elapsed().as_secs_f64();
        let memory = memory(pid, "status", "VmRSS").expect("its memory");
        println!("beside {agents} agents: {:.2} % of a core, {memory:.1} MiB", share * 100.0);
        assert!(share < CPU, "{:.2} % of a core", share * 100.0);
        assert!(memory < MEMORY, "{memory:.1} MiB");
        for id in &tasks {
            drop(scene.task(&["interrupt", "--force", id]).code(0));
        }
        for id in &tasks {
            drop(fleet.ended(id));
        }
        fleet.end();
    });
}
