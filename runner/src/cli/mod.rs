//! The command line.

mod agree;
mod args;
mod asker;
mod batch;
mod configuration;
mod daemon;
mod doctor;
mod follow;
mod go_on;
mod helps;
mod host;
mod journal;
mod keyboard;
mod manage;
mod mcp;
mod merge;
mod mesh;
mod print;
mod protocol;
mod record;
mod reduce;
mod render;
mod repo;
mod run;
mod say;
mod serve;
mod session;
mod show;
mod signals;
mod status;
mod task;
mod work;
mod worktree;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use batch::fuzz as fuzz_tasks;

use std::process::ExitCode;

use clap::Parser as _;

use self::args::{Cli, Command, McpArgs};
use crate::config::{self, ConfigFile};
use crate::logging::{self, File, Log, Target};
use crate::report::Failure;

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match start_log(&cli).and_then(|log| {
        let result = run(cli);
        // What led to it stands before it.
        log.flush();
        result
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => told(&failure),
    }
}

/// Tells a person what went wrong.
fn told(failure: &Failure) -> ExitCode {
    if !failure.message.is_empty() {
        print::error(failure);
    }
    ExitCode::from(failure.code)
}

fn run(cli: Cli) -> Result<(), Failure> {
    // One thread: everything waits, nothing computes. What blocks has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unusable(format!("no event loop can be made: {error}")))?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run::run(args).await,
            Command::Serve(args) => serve::serve(args).await,
            Command::Daemon(args) => daemon::daemon(args).await,
            Command::Task(args) => task::task(args).await,
            Command::Mesh(args) => mesh::mesh(args.command).await,
            Command::Mcp(McpArgs {}) => mcp::mcp().await,
            Command::Status(args) => status::status(&args).await,
            Command::Metrics(args) => status::metrics(&args).await,
            Command::Service(args) => manage::service(args).await,
            Command::Protocol(args) => protocol::protocol(args.command).await,
            Command::Journal(args) => journal::journal(args.command),
            Command::Replay(args) => journal::replay(args),
            Command::Worktree(args) => worktree::worktree(&args.command).await,
            Command::Repo(args) => agree::agree(&args.command),
            Command::Config(args) => configuration::configuration(&args.command),
            Command::Completions(args) => helps::completions(&args),
            Command::Man(args) => helps::man(&args),
            Command::Doctor(args) => doctor::doctor(args).await,
            Command::Version(args) => status::version(&args),
        }
    });
    // Whatever still blocks a thread is not worth waiting for.
    runtime.shutdown_background();
    result
}

/// Where the log goes: the flag, the environment, and for what runs for long the configuration; else stderr.
fn start_log(cli: &Cli) -> Result<Log, Failure> {
    let stays = matches!(&cli.command, Command::Serve(_) | Command::Daemon(_));
    // A configuration that cannot be read is told of by whoever needs it.
    let configured = config::home_path().and_then(|home| ConfigFile::read(&home)).map(|file| file.log);
    let configured = configured.unwrap_or_default();
    let path = cli.log_file.clone().or_else(|| configured.path().filter(|_| stays));
    let target = match path {
        None => Target::Stderr { colours: console::colors_enabled_stderr() },
        Some(path) => Target::File(File::open(path.clone(), configured.bounds()).map_err(|error| {
            Failure::unusable(format!("the log cannot be written to {}: {error}", path.display()))
                .hint("name another file with --log-file, or none to have it on stderr")
        })?),
    };
    let set = std::env::var("RUST_LOG").ok().filter(|_| cli.verbose == 0);
    let (filter, unreadable) = logging::filter(set.as_deref(), &usual_lines(stays, cli.verbose));
    let log = logging::start(target, filter);
    if let Some(text) = unreadable {
        tracing::error!("RUST_LOG cannot be read, and does not count: {text:?}");
    }
    Ok(log)
}

/// People who run one task see what went wrong only; a daemon's log tells its course.
fn usual_lines(stays: bool, verbose: u8) -> String {
    let ordinary = match (stays, verbose) {
        (true, 0) => "info",
        (false, 0) => return "error".to_owned(),
        (_, 1) => "info",
        (_, 2) => "debug",
        (_, _) => "trace",
    };
    // sqlx and hyper have much to say that helps nobody here.
    format!("warn,makima={ordinary},makima_runner={ordinary},makima_control={ordinary},makima_transports={ordinary}")
}
