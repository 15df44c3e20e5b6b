//! Runs seeds of the simulated world.
//!
//! `cargo run --release -p makima-tests --bin sim -- --seeds N [--seed FIRST]`

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::Instant;

use makima_tests::shrink::shrink;
use makima_tests::swarm::Run;
use makima_tests::world::{Sightings, World};

const HELP: &str = "\
Runs seeds of the simulated world and checks everything that must hold in it.

Usage: sim [--seeds N] [--seed FIRST] [--count] [--show]
       sim --run LINE

  --seeds N     how many seeds to run (default 1000)
  --seed FIRST  the first of them (default 0)
  --count       print how often each thing happened
  --show        print what happens in the first seed
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
    if let Some(run) = options.show {
        show(&run);
        return ExitCode::SUCCESS;
    }
    // A check that fails is told below, with what led there; its own report would come before that twice.
    panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let mut steps = 0;
    let mut seen = Sightings::default();
    for seed in options.first..options.first.saturating_add(options.seeds) {
        match Run::of(seed) {
            (_, Ok(world)) => {
                steps += world.steps;
                seen.merge(&world.sightings());
            }
            (run, Err(why)) => {
                failed(seed, &run, &why);
                return ExitCode::FAILURE;
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    if options.count {
        for (kind, which, times) in seen.iter() {
            println!("{times:>9}  {kind}: {which}");
        }
    }
    println!("{} seeds, {steps} steps, {:.0} steps per second", options.seeds, steps as f64 / seconds);
    ExitCode::SUCCESS
}

struct Options {
    seeds: u64,
    first: u64,
    show: Option<Run>,
    count: bool,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self { seeds: 1_000, first: 0, show: None, count: false };
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
                "--run" => {
                    let line = words.next().ok_or("--run wants a line")?;
                    options.show = Some(serde_json::from_str(&line).map_err(|error| format!("--run: {error}"))?);
                }
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("unknown argument `{other}`")),
            }
        }
        if show {
            options.show = Some(Run::of(options.first).0);
        }
        Ok(Some(options))
    }
}

fn failed(seed: u64, run: &Run, why: &str) {
    println!("seed {seed} fails: {why}");
    let (short, why) = shrink(run);
    println!("shortened from {} to {} acts: {why}", run.acts.len(), short.acts.len());
    match serde_json::to_string(&short) {
        Ok(line) => println!("{line}"),
        Err(error) => println!("(it cannot be written: {error})"),
    }
    for act in &short.acts {
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
