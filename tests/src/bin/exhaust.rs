//! Runs every run over a small alphabet.
//!
//! `cargo run --release -p makima-tests --bin exhaust -- NAME [--minutes N] [--doubt]`

use std::panic;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use makima_tests::exhaust::bounds::{Bounds, NAMED};
use makima_tests::exhaust::{Failure, Reach, Search};
use makima_tests::shrink::shrink;

const HELP: &str = "\
Runs every run over a small alphabet of what can happen, and checks everything that must hold in each state.

Usage: exhaust NAME [--minutes N] [--waiting N] [--doubt]

  NAME          which alphabet: see below
  --minutes N   go on for no longer than this (default 10)
  --waiting N   no more states than this may wait to be looked at, some sixty kibibytes each (default 200000)
  --doubt       see to it that states which are taken for the same lead to the same; it takes three times as long

Exit code 1 where something does not hold; then a shortened list of what happens is printed. Exit code 3 where not all
states were looked at.
";

fn main() -> ExitCode {
    let (bounds, reach, doubts) = match read(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            for bounds in &NAMED {
                println!("\n{bounds:?}");
            }
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("error: {why}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    // A check that fails is told below, with what led there.
    panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let search = Search::new(bounds, None);
    let search = if doubts { search.doubting() } else { search };
    match search.run(reach) {
        Ok(found) => {
            println!(
                "{}: depth {}, {} states, {} transitions, {} runs settled, {} not, {:.1} s, {}",
                bounds.name,
                found.depth,
                found.states,
                found.transitions,
                found.settled,
                found.unsettled,
                begun.elapsed().as_secs_f64(),
                if found.complete { "complete" } else { "NOT complete" }
            );
            ExitCode::from(if found.complete { 0 } else { 3 })
        }
        Err(failure) => {
            failed(&failure);
            ExitCode::FAILURE
        }
    }
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Option<(Bounds, Reach, bool)>, String> {
    let (mut bounds, mut doubts) = (None, false);
    let (mut minutes, mut waiting) = (10, 200_000);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or_else(|| format!("{word} wants a number"))?;
            value.parse::<u32>().map_err(|_| format!("{word} wants a number, not `{value}`"))
        };
        match word.as_str() {
            "--minutes" => minutes = number()?,
            "--waiting" => waiting = number()?,
            "--doubt" => doubts = true,
            "--help" | "-h" => return Ok(None),
            name => {
                let named = NAMED.iter().find(|bounds| bounds.name == name);
                bounds = Some(*named.ok_or_else(|| format!("there is no `{name}`"))?);
            }
        }
    }
    let reach = Reach { time: Duration::from_secs(60) * minutes, waiting: waiting as usize };
    Ok(Some((bounds.ok_or("which alphabet?")?, reach, doubts)))
}

fn failed(failure: &Failure) {
    println!("fails: {}", failure.why);
    let (short, why) = shrink(&failure.run);
    println!("shortened from {} to {} acts: {why}", failure.run.acts.len(), short.acts.len());
    match serde_json::to_string(&short) {
        Ok(line) => println!("{line}"),
        Err(error) => println!("(it cannot be written: {error})"),
    }
    for act in &short.acts {
        println!("  {act:?}");
    }
}
