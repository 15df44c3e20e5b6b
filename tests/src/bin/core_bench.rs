//! How fast the core is by itself: inputs of the swarm are recorded, then given to the core alone.
//!
//! `cargo run --release -p makima-tests --bin core_bench`

use std::hint::black_box;
use std::time::{Duration, Instant};

use makima_core::Daemon;
use makima_core::id::TaskId;
use makima_core::input::{Boot, Input, Leftover, Stage};
use makima_core::limits;
use makima_core::policy::BranchName;
use makima_core::task::{Action, End, EndStatus, Spec};
use makima_core::time::{Millis, Now};
use makima_tests::swarm::Run;
use makima_tests::world::{Act, config};
use uuid::Uuid;

/// Runs that are recorded.
const RUNS: u64 = 2_000;

/// The least that is good enough.
const LIMIT: f64 = 1_000_000.0;

/// What ended tasks may add to a step.
const FLAT: f64 = 1.3;

fn main() {
    let runs: Vec<Vec<(Now, Input)>> = (0..RUNS).map(record).collect();
    let (steps, changed) = runs.iter().map(|run| count(run)).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    println!("{RUNS} runs, {steps} inputs, {changed} of them changed the state");
    let fastest = (0..5).map(|_| round(&runs, 0)).min().unwrap_or_default();
    let rate = steps as f64 / fastest.as_secs_f64();
    println!("core step, swarm's mix, 8 tasks: {rate:.0} per second (at least {LIMIT:.0})");
    let few: Vec<Vec<(Now, Input)>> = runs.iter().take(RUNS as usize / 10).map(|run| first_hour(run)).collect();
    let steps: usize = few.iter().map(|run| run.len() - run.len() / 2).sum();
    let known = [1_u32, 100, 1_000];
    let mut best = [Duration::MAX; 3];
    // One after the other in each round, so that a busy machine is busy for all of them.
    for _ in 0..15 {
        for (best, known) in best.iter_mut().zip(known) {
            *best = later_half(&few, known).min(*best);
        }
    }
    for (taken, known) in best.iter().zip(known) {
        let (nanos, ratio) = (taken.as_nanos() / steps as u128, taken.as_secs_f64() / best[0].as_secs_f64());
        println!("core step with {known} ended tasks beside them: {nanos} ns, {ratio:.2}x (at most {FLAT}x)");
    }
    println!("the look at 1000 ended tasks that comes once an hour: {} us", look(1_000).as_micros());
}

/// Its inputs before the first look at what has ended: in the swarm's mix months pass in a few steps, and what is done
/// once an hour would be most of all that is done.
fn first_hour(run: &[(Now, Input)]) -> Vec<(Now, Input)> {
    let begun = run.first().map_or(Millis(0), |(now, _)| now.awake());
    run.iter().take_while(|(now, _)| now.awake().since(begun) < limits::SWEEP).cloned().collect()
}

/// How long an hourly look takes, the first of which writes down since when the server knows of them.
fn look(known: u32) -> Duration {
    let mut daemon = Daemon::new(config());
    let mut now = Now { mono: Millis(1_000), asleep: Millis(0), unix: Millis(1_700_000_000_000) };
    let leftovers = (0..known).map(ended).collect();
    let boot = Boot { incarnation: 1, leftovers, ..Boot::default() };
    daemon.step(now, Input::Boot(boot), &mut Vec::new());
    let mut taken = Duration::ZERO;
    for _ in 0..3 {
        now.mono = now.mono + limits::SWEEP;
        let begun = Instant::now();
        daemon.step(now, Input::Tick, black_box(&mut Vec::new()));
        taken = begun.elapsed();
    }
    taken
}

/// Every input of the daemon in the run of a seed, in one life: what a kill loses of the journal is not taken again.
fn record(seed: u64) -> Vec<(Now, Input)> {
    let (run, _) = Run::of(seed);
    let mut world = run.world();
    let first = Now { mono: Millis(1_000), asleep: Millis(0), unix: Millis(1_700_000_000_000) };
    world.recording = Some(vec![(first, Input::Boot(Boot { incarnation: 1, seed, ..Boot::default() }))]);
    for act in &run.acts {
        if !matches!(act, Act::Kill { .. } | Act::Outage { .. } | Act::Stop { .. }) {
            world.apply(*act);
        }
    }
    world.settle();
    world.recording.unwrap_or_default()
}

fn count(run: &[(Now, Input)]) -> (usize, usize) {
    let (mut daemon, mut changed, mut effects) = (Daemon::new(config()), 0, Vec::new());
    for (now, input) in run {
        if matches!(input, Input::Boot(_)) {
            daemon = Daemon::new(config());
        }
        let before = daemon.digest();
        daemon.step(*now, input.clone(), &mut effects);
        changed += usize::from(daemon.digest() != before);
        effects.clear();
    }
    (run.len(), changed)
}

/// How long all runs take with so many ended tasks from before. Starting is not counted.
fn round(runs: &[Vec<(Now, Input)>], known: u32) -> Duration {
    runs.iter().map(|run| replay(run.clone(), known, 0)).sum()
}

/// The same of the later half of each run, when what is at work is in the caches again, from where starting with
/// thousands of tasks had driven it.
fn later_half(runs: &[Vec<(Now, Input)>], known: u32) -> Duration {
    runs.iter().map(|run| replay(run.clone(), known, run.len() / 2)).sum()
}

fn replay(run: Vec<(Now, Input)>, known: u32, from: usize) -> Duration {
    let mut effects = Vec::with_capacity(64);
    let mut daemon = Daemon::new(config());
    let mut begun = Instant::now();
    for (n, (now, input)) in run.into_iter().enumerate() {
        if n == from {
            begun = Instant::now();
        }
        if let Input::Boot(mut boot) = input {
            boot.leftovers.extend((0..known).map(ended));
            daemon = Daemon::new(config());
            daemon.step(now, Input::Boot(boot), &mut effects);
            begun = Instant::now();
        } else {
            daemon.step(now, input, &mut effects);
        }
        black_box(&mut effects).clear();
    }
    begun.elapsed()
}

/// A task that ended long ago, and the server knows.
fn ended(n: u32) -> Leftover {
    let id = TaskId(Uuid::from_u128(0x2000_0000_0000_4000_8000_0000_0000_0000 + u128::from(n)));
    let spec = Spec {
        id,
        name: "an old task".to_string(),
        plan: "do something".repeat(20),
        repository: None,
        credentials: None,
        base: None,
        continues: None,
        conversation: None,
        copy: Vec::new(),
        branch: BranchName::of("an old task", id),
        parent: None,
        depth: 0,
        orchestrator: false,
        agent: makima_core::agent::Agent::Shell,
        allowance: makima_core::allowance::Allowance::default(),
        action: Action::None,
        target: None,
        into: None,
    };
    let end = End { status: EndStatus::Done, error: None, completion: None, log_end: 1_000 };
    Leftover { spec, stage: Stage::Ended(end), delivered: 1_000, closed: true, skipped: Vec::new() }
}
