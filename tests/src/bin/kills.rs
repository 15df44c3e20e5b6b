//! Kills a daemon at work, again and again, and looks whether anything is lost or doubled.
//!
//! `cargo run --release -p makima-tests --bin kills -- --kills 1000`

#[path = "../kills/mod.rs"]
mod kills;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kills::Options;
use makima_tests::real::{Builds, Failure, clock, memory};

const HELP: &str = "\
Kills the daemon at random moments under real agents, half of the time with its link cut, a fifth of the time into
another build; then everything must be there, once.

Usage: kills [--kills N] [--agents N] [--seed S] [--home DIR] [--makima PATH] [--other PATH] [--exactly-once]

  --kills N       how often (default 50)
  --agents N      how many tasks in all (default: a quarter of the kills, and 24 at least)
  --seed S        what is drawn by chance, is drawn from this (default: the clock)
  --home DIR      where it happens; kept (default: a folder of its own in memory, kept after a failure only)
  --makima PATH   the binary (default: beside this one)
  --other PATH    the other build (default: it is built, with MAKIMA_BUILD_VERSION, beside the target folder's own)
  --exactly-once  a line of output that comes again is a fault

Exit code 1 where something is wrong: then the seed is printed and the folder is kept.";

fn main() -> ExitCode {
    match Call::read(std::env::args().skip(1)) {
        Ok(Some(call)) => looped(&call),
        Ok(None) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

fn looped(call: &Call) -> ExitCode {
    let options = &call.options;
    println!("seed {}, {} kills, {} tasks, in {}", options.seed, options.kills, options.agents, options.root.display());
    let mut said = Instant::now();
    let done = kills::run(options, |report| {
        if said.elapsed() >= Duration::from_secs(10) {
            println!("  {report}");
            said = Instant::now();
        }
    });
    let faults = match done {
        Ok(report) => {
            println!("{report}");
            report.faults
        }
        Err(why) => vec![why.to_string()],
    };
    if faults.is_empty() {
        if !call.keep {
            let _ = std::fs::remove_dir_all(&options.root);
        }
        return ExitCode::SUCCESS;
    }
    for fault in &faults {
        println!("  {fault}");
    }
    println!("seed {} fails; {} is kept", options.seed, options.root.display());
    ExitCode::FAILURE
}

/// What was asked for.
struct Call {
    options: Options,
    /// The folder was named by whoever asks, and is theirs.
    keep: bool,
}

impl Call {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, Failure> {
        let (mut kills, mut agents, mut seed, mut exactly_once) = (50, None, None, false);
        let (mut home, mut makima, mut other) = (None, None, None);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value; see --help"));
            match word.as_str() {
                "--kills" => kills = value()?.parse()?,
                "--agents" => agents = Some(value()?.parse()?),
                "--seed" => seed = Some(value()?.parse()?),
                "--home" => home = Some(PathBuf::from(value()?)),
                "--makima" => makima = Some(PathBuf::from(value()?)),
                "--other" => other = Some(PathBuf::from(value()?)),
                "--exactly-once" => exactly_once = true,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("`{word}` is not known; see --help").into()),
            }
        }
        let builds = Builds { makima, other }.find()?;
        let agents = agents.unwrap_or_else(|| (kills / 4).max(24));
        let seed = seed.unwrap_or_else(clock);
        let keep = home.is_some();
        let root = home.unwrap_or_else(|| memory().join(format!("makima-kills-{}", std::process::id())));
        Ok(Some(Self { options: Options { kills, agents, seed, root, builds, exactly_once }, keep }))
    }
}
