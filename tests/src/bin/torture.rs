//! The night: graphs of tasks on the real binary, and a fault every few seconds.
//!
//! `cargo run --release -p makima-tests --bin torture -- --minutes 60`

#[path = "../torture/mod.rs"]
mod torture;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use makima_tests::real::{Builds, Failure, clock, memory};
use torture::{Disks, Options};

const HELP: &str = "\
Has graphs of tasks worked on by a real daemon under a real server, one graph after the other, and does something to
them every few seconds; then everything must be there, once.

Usage: torture [--minutes N] [--seed S] [--tasks N] [--home DIR] [--makima PATH] [--other PATH] [--require-all]

  --minutes N     for how long (default 1); then what is under way comes to its end
  --seed S        the plan of faults and the graphs are drawn from this (default: the clock)
  --tasks N       tasks of a graph, its orchestrator among them (default 50)
  --home DIR      where it happens; kept (default: a folder of its own in memory, kept after a failure only)
  --makima PATH   the binary (default: beside this one)
  --other PATH    the other build (default: it is built, with MAKIMA_BUILD_VERSION, beside the target folder's own)
  --require-all   fails where a kind of fault cannot be had here; full disks need a namespace in which one may mount

A graph: an orchestrator, subtasks that begin after others or go on from them, and tasks of nobody's. Each prints numbered
lines and writes files, some of them the same ones. This program is the person: it merges the subtasks' branches, settles
conflicts, takes merges back, skips branches, begins anew what failed, and has all of it merged into one branch.

The faults: daemon, server, a supervisor or a git is killed; the link is cut or half open; daemon or server stands still;
the daemon's, the server's or the user's disk is full; the next daemon or server is of another build. Some come two at once,
some before all is well again.

At the end: each task has ended once, and well, or by a fault that it was told of; each line of output is there once, or it
was said that the disk had no room for it; no process is left; the tests of the user's branch pass, which look for the work
of each task; the user's own files are as they were; git finds nothing wrong.

Exit code 1 where something is wrong: then it is printed with the seed, and the folder is kept: torture.log (what was done
and when), makima.log, server.log, and in kept/ what lay on the small disks. The seed makes the same faults in the same order;
at which moment each comes is another matter.";

fn main() -> ExitCode {
    match Call::read(std::env::args().skip(1)) {
        Ok(Some(call)) => call.run(),
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

/// What was asked for.
struct Call {
    minutes: f64,
    seed: u64,
    tasks: usize,
    home: Option<PathBuf>,
    builds: Builds,
    require_all: bool,
}

impl Call {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, Failure> {
        let builds = Builds::default();
        let mut call = Self { minutes: 1.0, seed: clock(), tasks: 50, home: None, builds, require_all: false };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value; see --help"));
            match word.as_str() {
                "--minutes" => call.minutes = value()?.parse()?,
                "--seed" => call.seed = value()?.parse()?,
                "--tasks" => call.tasks = value()?.parse()?,
                "--home" => call.home = Some(PathBuf::from(value()?)),
                "--makima" => call.builds.makima = Some(PathBuf::from(value()?)),
                "--other" => call.builds.other = Some(PathBuf::from(value()?)),
                "--require-all" => call.require_all = true,
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("`{word}` is not known; see --help").into()),
            }
        }
        if !(0.0..=100_000.0).contains(&call.minutes) || !(2..=500).contains(&call.tasks) {
            return Err("minutes are 0 to 100000, tasks 2 to 500".into());
        }
        Ok(Some(call))
    }

    fn run(self) -> ExitCode {
        // Comes back as this program once more, in a namespace of its own; or with why there is none.
        let why_none = torture::enter();
        if let Some(why) = &why_none {
            println!("full disks are left out, as nothing may be mounted here: {why}");
            if self.require_all {
                return ExitCode::FAILURE;
            }
        }
        let builds = match self.builds.find() {
            Ok(builds) => builds,
            Err(why) => {
                eprintln!("error: {why}");
                return ExitCode::from(2);
            }
        };
        let keep = self.home.is_some();
        let root = self.home.unwrap_or_else(|| memory().join(format!("makima-torture-{}", std::process::id())));
        let time = Duration::from_secs_f64(self.minutes * 60.0);
        let options = Options { time, tasks: self.tasks, seed: self.seed, root, builds, disks: why_none.is_none() };
        println!(
            "seed {}, {} minutes, graphs of {} tasks, in {}",
            self.seed,
            self.minutes,
            self.tasks,
            options.root.display()
        );
        night(&options, keep)
    }
}

fn night(options: &Options, keep: bool) -> ExitCode {
    let wrong = match torture::run(options, &mut |line| println!("  {line}")) {
        Ok((counts, wrong)) => {
            println!("{counts}");
            wrong
        }
        Err(why) => vec![why.to_string()],
    };
    let kept =
        if options.disks && (keep || !wrong.is_empty()) { Disks::keep(&options.root) } else { Ok(PathBuf::new()) };
    if let Err(why) = kept {
        println!("what lay on the small disks cannot be kept: {why}");
    }
    if wrong.is_empty() {
        if !keep {
            // What is mounted in it goes with the namespace.
            torture::remove(&options.root);
        }
        return ExitCode::SUCCESS;
    }
    for what in &wrong {
        println!("  {what}");
    }
    println!("seed {} fails: {} things are wrong; {} is kept", options.seed, wrong.len(), options.root.display());
    ExitCode::FAILURE
}
