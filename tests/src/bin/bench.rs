//! Measures the real binary, each figure beside the limit that it is held against, in one run.
//!
//! `cargo build --release -p makima-runner && cargo run --release -p makima-tests --bin bench -- all`
#![expect(clippy::wildcard_enum_match_arm, reason = "of all messages, each place names those that it waits for")]

#[path = "../bench/mod.rs"]
mod bench;

use std::path::PathBuf;
use std::process::ExitCode;

use bench::{Bench, Failure, Figure, Options, agents, reference};

const HELP: &str = "\
Measures the release binary of makima, in turn with what bounds it.

Usage: bench [FIGURE...] [--rounds N] [--lines N] [--files N] [--makima PATH] [--folder PATH]

Figures:
  output       lines a second from an agent to a server, and what a line costs
  latency      from an agent's write to the server's receipt of a lone line
  spawn        from `spawnTask` to the running agent
  plan         from `spawnTask` until an agent that talks has read its plan
  idle         memory, connected and without a task
  supervisors  memory and time of ten that stand beside silent agents
  start        from exec to a session
  restart      from the start of the next daemon until the next line of each of 100 agents
  tail         the same behind the longest journal that there can be, and a long log
  reconnect    from a new connection until everything is there and acknowledged
  journal      flushes of the journal, against bare ones (wants the example `journal_bench` of makima-runner)
  git          worktrees made, put away and merged, branches listed (wants the example `git_bench` of makima-runner)
  away         memory, while a server is away and an agent writes a lot
  growth       what a task costs where 1, 100 and 1,000 are known
  interrupt    from a forced interrupt until nothing is left of the agent
  all          all of them (default)

Sizes from the environment: MAKIMA_BENCH_AGENTS (100), MAKIMA_BENCH_LOG_MIB (256), MAKIMA_BENCH_AWAY_SECONDS (20),
MAKIMA_BENCH_FILES (none: files of a further repository for `git`).

  --rounds N     rounds of each; the figures are medians
  --lines N      lines of output a round (default 1000000)
  --files N      files in the repository of `spawn` (default 1000)
  --makima PATH  the binary (default: beside this one)
  --folder PATH  where to work: a file system in memory (default /dev/shm)

Exit code 0, whatever the figures are.";

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let role = words.first().cloned().unwrap_or_default();
    let done = match role.as_str() {
        // This program is also what is measured against, and the agents.
        agents::WORD => agents::run(words.split_off(1)),
        reference::FEED => reference::feed(words.split_off(1)),
        reference::HELLO => reference::hello(words.split_off(1)),
        "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        _ => measure(words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn measure(words: Vec<String>) -> Result<(), Failure> {
    let (figures, options) = read(words)?;
    let mut bench = Bench::open(options)?;
    bench.describe();
    for figure in figures {
        // One that cannot be measured does not keep the others from being.
        if let Err(why) = bench.measure(figure) {
            println!("{figure:?} could not be measured: {why}");
        }
    }
    Ok(())
}

fn read(words: Vec<String>) -> Result<(Vec<Figure>, Options), Failure> {
    let mut options = Options::default();
    let mut figures = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value; see --help"));
        match word.as_str() {
            "--rounds" => options.rounds = Some(value()?.parse()?),
            "--lines" => options.lines = value()?.parse()?,
            "--files" => options.files = value()?.parse()?,
            "--makima" => options.makima = Some(PathBuf::from(value()?)),
            "--folder" => options.folder = PathBuf::from(value()?),
            "output" => figures.push(Figure::Output),
            "latency" => figures.push(Figure::Latency),
            "spawn" => figures.push(Figure::Spawn),
            "plan" => figures.push(Figure::Plan),
            "idle" => figures.push(Figure::Idle),
            "supervisors" => figures.push(Figure::Supervisors),
            "start" => figures.push(Figure::Start),
            "restart" => figures.push(Figure::Restart),
            "tail" => figures.push(Figure::Tail),
            "reconnect" => figures.push(Figure::Reconnect),
            "journal" => figures.push(Figure::Journal),
            "git" => figures.push(Figure::Git),
            "away" => figures.push(Figure::Away),
            "growth" => figures.push(Figure::Growth),
            "interrupt" => figures.push(Figure::Interrupt),
            "all" => figures.extend(Figure::ALL),
            _ => return Err(format!("`{word}` is not known; see --help").into()),
        }
    }
    if figures.is_empty() {
        figures.extend(Figure::ALL);
    }
    Ok((figures, options))
}
