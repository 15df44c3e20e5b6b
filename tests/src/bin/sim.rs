//! Runs seeds of the simulated world.
//!
//! `cargo run --release -p makima-tests --bin sim -- --seeds N [--seed FIRST]`

use std::fmt::Debug;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use makima_tests::boundaries::{Crashes, crash_everywhere};
use makima_tests::fleet::{Fleet, swarm as fleet};
use makima_tests::shrink::{Shrinks, shrink};
use makima_tests::swarm::Run;
use makima_tests::world::{Sightings, World};
use serde::{Deserialize, Serialize};

const HELP: &str = "\
Runs seeds of the simulated world and checks everything that must hold in it.

Usage: sim [--fleet | --crashes] [--seeds N] [--seed FIRST] [--count] [--show]
       sim --run LINE

  --fleet       several daemons and the real hub, instead of one daemon and a server of the tables alone
  --crashes     each seed's run with a crash at every boundary of it, one after the other, and with every choice of what was
                done of that which was under way
  --seeds N     how many seeds to run (default 1000)
  --seed FIRST  the first of them (default 0)
  --count       print how often each thing happened
  --show        print what happens in the first seed, and after each act the digest of the daemon's state
  --run LINE    print what happens in a run that was printed before

Exit code 1 where a seed fails; then that seed and a shortened list of what happens are printed.";

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("error: {why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    if let Some(shown) = &options.show {
        match shown {
            Shown::Fleet(run) => show_fleet(run),
            Shown::World(run) => show(run),
        }
        return ExitCode::SUCCESS;
    }
    // A check that fails is told below, with what led there; its own report would come before that twice.
    panic::set_hook(Box::new(|_| {}));
    match options.engine {
        Which::World => search::<OfTheWorld>(&options),
        Which::Fleet => search::<OfTheFleet>(&options),
        Which::Crashes => search::<OfCrashes>(&options),
    }
}

/// What makes runs of seeds.
trait Engine {
    /// What it makes.
    type Run: Shrinks<Act: Debug> + Serialize;

    /// How it went: what was seen; or a run in which something did not hold, and what.
    fn run(seed: u64) -> Result<Gone, (Self::Run, String)>;
}

/// What came of a seed.
struct Gone {
    steps: u64,
    seen: Sightings,
}

struct OfTheWorld;

impl Engine for OfTheWorld {
    type Run = Run;

    fn run(seed: u64) -> Result<Gone, (Run, String)> {
        let (run, world) = Run::of(seed);
        world.map(|world| Gone { steps: world.steps, seen: world.sightings() }).map_err(|why| (run, why))
    }
}

struct OfTheFleet;

impl Engine for OfTheFleet {
    type Run = fleet::Run;

    fn run(seed: u64) -> Result<Gone, (fleet::Run, String)> {
        let (run, fleet) = fleet::Run::of(seed);
        fleet.map(|fleet| Gone { steps: fleet.steps(), seen: fleet.sightings() }).map_err(|why| (run, why))
    }
}

struct OfCrashes;

impl Engine for OfCrashes {
    type Run = Run;

    fn run(seed: u64) -> Result<Gone, (Run, String)> {
        crash_everywhere(&Run::of(seed).0).map(|Crashes { steps, seen, .. }| Gone { steps, seen })
    }
}

fn search<E: Engine>(options: &Options) -> ExitCode {
    let (begun, worked) = (Instant::now(), at_work());
    let mut steps = 0;
    let mut seen = Sightings::default();
    for seed in options.first..options.first.saturating_add(options.seeds) {
        match E::run(seed) {
            Ok(gone) => {
                steps += gone.steps;
                seen.merge(&gone.seen);
            }
            Err((run, why)) => {
                failed(seed, run, &why);
                return ExitCode::FAILURE;
            }
        }
    }
    let per_second = |span: Duration| steps as f64 / span.as_secs_f64();
    let (all, own) = (per_second(begun.elapsed()), per_second(at_work().saturating_sub(worked)));
    if options.count {
        for (kind, which, times) in seen.iter() {
            println!("{times:>9}  {kind}: {which}");
        }
    }
    let own = if own.is_finite() { format!(", {own:.0} of its own time") } else { String::new() };
    println!("{} seeds, {steps} steps, {all:.0} steps per second{own}", options.seeds);
    ExitCode::SUCCESS
}

/// How long this process, which has one thread, was at work: the same however much others are. Nothing where the kernel
/// does not count it. Read from a file, as the clock for it cannot be asked under valgrind.
fn at_work() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// What is shown; a line says by itself which it is.
#[derive(Deserialize)]
#[serde(untagged)]
enum Shown {
    Fleet(fleet::Run),
    World(Run),
}

struct Options {
    seeds: u64,
    first: u64,
    show: Option<Shown>,
    count: bool,
    engine: Which,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    World,
    Fleet,
    Crashes,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self { seeds: 1_000, first: 0, show: None, count: false, engine: Which::World };
        let mut show = false;
        while let Some(word) = words.next() {
            let mut number = || {
                let value = words.next().ok_or_else(|| format!("{word} wants a number"))?;
                value.parse::<u64>().map_err(|_| format!("{word} wants a number, not `{value}`"))
            };
            match word.as_str() {
                "--seeds" => options.seeds = number()?,
                "--seed" => options.first = number()?,
                "--show" => show = true,
                "--count" => options.count = true,
                "--fleet" => options.engine = Which::Fleet,
                "--crashes" => options.engine = Which::Crashes,
                "--run" => {
                    let line = words.next().ok_or("--run wants a line")?;
                    options.show = Some(serde_json::from_str(&line).map_err(|error| format!("--run: {error}"))?);
                }
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("unknown argument `{other}`")),
            }
        }
        if show {
            let first = options.first;
            options.show = Some(match options.engine == Which::Fleet {
                true => Shown::Fleet(fleet::Run::of(first).0),
                false => Shown::World(Run::of(first).0),
            });
        }
        Ok(Some(options))
    }
}

fn failed<R: Shrinks<Act: Debug> + Serialize>(seed: u64, mut run: R, why: &str) {
    println!("seed {seed} fails: {why}");
    let (mut short, why) = shrink(&run);
    println!("shortened from {} to {} acts: {why}", run.acts().len(), short.acts().len());
    match serde_json::to_string(&short) {
        Ok(line) => println!("{line}"),
        Err(error) => println!("(it cannot be written: {error})"),
    }
    for act in short.acts() {
        println!("  {act:?}");
    }
}

/// Prints as it goes, so that the way to a failure can be read.
fn show(run: &Run) {
    let mut world = run.world();
    let print = |world: &mut World| {
        for line in world.transcript.replace(Vec::new()).unwrap_or_default() {
            println!("{line}");
        }
        println!("   = {:016x}", world.daemon.digest_anew());
    };
    print(&mut world);
    // What was noted before a check failed is what one wants to read.
    let mut printed = |what: &dyn Fn(&mut World)| {
        let result = panic::catch_unwind(AssertUnwindSafe(|| what(&mut world)));
        print(&mut world);
        result.unwrap_or_else(|why| panic::resume_unwind(why));
    };
    for act in &run.acts {
        println!("{act:?}");
        printed(&|world| {
            world.apply(*act);
        });
    }
    println!("heal and settle");
    printed(&World::settle);
}

fn show_fleet(run: &fleet::Run) {
    let mut fleet = Fleet::new(&run.speeches, run.seed);
    let mut shown = |what: &dyn Fn(&mut Fleet)| {
        for machine in &mut fleet.machines {
            machine.transcript.get_or_insert_default();
        }
        let result = panic::catch_unwind(AssertUnwindSafe(|| what(&mut fleet)));
        for (n, machine) in fleet.machines.iter_mut().enumerate() {
            for line in machine.transcript.replace(Vec::new()).unwrap_or_default() {
                println!("  {n} {line}");
            }
        }
        result.unwrap_or_else(|why| panic::resume_unwind(why));
    };
    for act in &run.acts {
        println!("{act:?}");
        shown(&|fleet| {
            fleet.apply(*act);
        });
    }
    println!("heal {:03b} and settle", run.core);
    shown(&|fleet| fleet.settle(run.core));
}
