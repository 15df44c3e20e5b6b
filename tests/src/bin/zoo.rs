//! Lets the bugs of the core's zoo out one by one, and sees what finds them.
//!
//! `cargo run --release -p makima-tests --features zoo --bin zoo -- [--only NAME] [--write]`

use std::panic;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use makima_core::zoo::Bug;
use makima_tests::zoo::table::{self, By, Row};
use makima_tests::zoo::{Cost, Found, all_kept, by, keep, kept, seeds};

const HELP: &str = "\
Lets the bugs of the core's zoo out one by one, and fails where one is not found, or where docs/zoo.md does not tell of the
bugs that there are. First it sees that nothing is found where no bug is out.

Usage: zoo [--only NAME]... [--write] [--seeds N] [--seed S]
       zoo --list

  --only NAME  this bug, not all; also prints the shortened run by which it is found
  --write      measure what it costs to find each, keep runs for what is rare, and write docs/zoo.md
  --seeds N    with --write: run no more seeds than this for one bug (default 5000)
  --seed S     with --write: keep the run of this seed, where those seeds do not find the bug
  --list       print the bugs

A new bug: a line in core/src/zoo.rs, `bug!(Name)` where it stands, and `zoo --only Name --write`. One that nothing finds is
news: an oracle is missing in the world. Exit code 1 where a bug is not found or the table is out of date.";

/// So many seeds are seen to run clean.
const CLEAN: u64 = 500;

/// So often a bug is found before it is said how rare it is.
const TIMES: u64 = 10;

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
    if options.list {
        Bug::ALL.iter().for_each(|bug| println!("{}: {}", bug.name(), bug.what()));
        return ExitCode::SUCCESS;
    }
    // Each check that fails is told below; its own report would come before that.
    panic::set_hook(Box::new(|_| {}));
    match options.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Default)]
struct Options {
    only: Vec<Bug>,
    write: bool,
    list: bool,
    seed: Option<u64>,
    most: u64,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self { most: 5_000, ..Self::default() };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
            match word.as_str() {
                "--only" => {
                    let name = value()?;
                    let bug = Bug::ALL.iter().find(|bug| bug.name() == name);
                    options.only.push(*bug.ok_or_else(|| format!("there is no bug `{name}`; see --list"))?);
                }
                "--seed" => options.seed = Some(value()?.parse().map_err(|_| "--seed wants a number")?),
                "--seeds" => options.most = value()?.parse().map_err(|_| "--seeds wants a number")?,
                "--write" => options.write = true,
                "--list" => options.list = true,
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("unknown argument `{other}`")),
            }
        }
        Ok(Some(options))
    }

    fn run(&self) -> Result<(), String> {
        let begun = Instant::now();
        nothing_is_out()?;
        let before = std::fs::read_to_string(table::path()).unwrap_or_default();
        let known = table::rows(&before);
        let bugs: Vec<Bug> = Bug::ALL.iter().copied().filter(|bug| self.is_meant(*bug)).collect();
        let found = all(&bugs, |bug| {
            let row = known.iter().find(|row| row.bug == bug);
            if self.write { self.measure(bug) } else { find(bug, row, !self.only.is_empty()) }
        });
        let mut rows = known;
        let mut missed = Vec::new();
        for (bug, found) in bugs.iter().zip(found) {
            match found {
                Ok(row) => {
                    rows.retain(|row| row.bug != *bug);
                    rows.push(row);
                }
                Err(why) => missed.push(format!("{} is not found: {why}", bug.name())),
            }
        }
        rows.sort_by_key(|row| Bug::ALL.iter().position(|bug| *bug == row.bug));
        let after = table::text(&rows);
        if self.write {
            std::fs::write(table::path(), &after).map_err(|error| format!("docs/zoo.md: {error}"))?;
        }
        println!("{} bugs, {} not found, {:.0} s", bugs.len(), missed.len(), begun.elapsed().as_secs_f64());
        if !missed.is_empty() {
            return Err(missed.join("\n"));
        }
        if !self.write && before != after {
            return Err("docs/zoo.md does not tell of the bugs that there are: run this with --write".to_string());
        }
        Ok(())
    }

    fn is_meant(&self, bug: Bug) -> bool {
        self.only.is_empty() || self.only.contains(&bug)
    }

    /// What a bug costs to be found; keeps a run where it is rare.
    fn measure(&self, bug: Bug) -> Result<Row, String> {
        let cost = seeds(Some(bug), TIMES, 0..self.most);
        let row = Row::of(bug, &cost, cost.first.as_ref().map_or("", |found| &found.why));
        told(bug, &cost, cost.first.as_ref());
        if row.by != By::Kept {
            return Ok(row);
        }
        // What was found once is known; else it may be that another bug's run finds it.
        let known = kept(bug)?.and_then(|run| by(&run, Some(bug)));
        let found = match (known, cost.first.clone()) {
            (Some(found), _) => Some(found),
            (None, Some(first)) => Some(first.shortened(bug)),
            (None, None) => {
                let (named, kept) = (self.seed.and_then(|seed| seeds(Some(bug), 1, seed..seed + 1).first), all_kept()?);
                let found = named.or_else(|| kept.iter().find_map(|run| by(run, Some(bug))));
                found.map(|found| found.shortened(bug))
            }
        };
        let found = found.ok_or_else(|| format!("by none of {} seeds, nor by a run that is kept", cost.runs))?;
        keep(bug, &found.run)?;
        Ok(Row::of(bug, &cost, &found.why))
    }
}

/// Finds a bug as the table says that it is to be found.
fn find(bug: Bug, row: Option<&Row>, show: bool) -> Result<Row, String> {
    let row = row.ok_or("docs/zoo.md does not know it: run this with --only and --write")?;
    let (cost, found) = match row.by {
        By::Seeds(within) => {
            let cost = seeds(Some(bug), 1, 0..within);
            (cost.clone(), cost.first.ok_or_else(|| format!("not by {within} seeds"))?)
        }
        By::Kept => {
            let run = kept(bug)?.ok_or("no run is kept for it")?;
            (Cost::default(), by(&run, Some(bug)).ok_or("not by the run that is kept for it")?)
        }
    };
    told(bug, &cost, Some(&found));
    if show {
        shown(bug, &found.shortened(bug));
    }
    Ok(row.clone())
}

/// What is found by must run clean where no bug is out: else it has found nothing.
fn nothing_is_out() -> Result<(), String> {
    for run in all_kept()? {
        if let Some(found) = by(&run, None) {
            return Err(format!("a run that is kept fails where no bug is out: {}", found.why));
        }
    }
    match seeds(None, 1, 0..CLEAN) {
        Cost { first: Some(found), runs, .. } => {
            Err(format!("seed {} fails where no bug is out: {}", runs.saturating_sub(1), found.why))
        }
        Cost { .. } => Ok(()),
    }
}

/// Does something with each bug, on all processors that there are. A bug is out in one thread alone.
fn all<T: Send>(bugs: &[Bug], what: impl Fn(Bug) -> T + Sync) -> Vec<T> {
    let next = Mutex::new(bugs.iter().copied().enumerate());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((at, bug)) = next.lock().ok().and_then(|mut next| next.next()) {
                    let one = what(bug);
                    if let Ok(mut done) = done.lock() {
                        done.push((at, one));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, one)| one).collect()
}

fn told(bug: Bug, cost: &Cost, found: Option<&Found>) {
    let why = found.map_or("", |found| found.why.lines().next().unwrap_or_default());
    let why: String = why.chars().take(120).collect();
    println!("{:26} {:>2} in {:<5} {why}", bug.name(), cost.times, cost.runs);
}

fn shown(bug: Bug, found: &Found) {
    println!("{}: {}\n  {}", bug.name(), bug.what(), found.why);
    for act in &found.run.acts {
        println!("  {act:?}");
    }
}
