//! The command line.

mod args;
mod daemon;
mod follow;
mod host;
mod journal;
mod print;
mod protocol;
mod repo;
mod run;
mod serve;
mod show;
mod signals;
mod status;
mod task;
mod work;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use self::args::{Cli, Command};
use crate::report::Failure;

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli);
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                print::error(&failure);
            }
            ExitCode::from(failure.code)
        }
    }
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
            Command::Status(args) => status::status(&args).await,
            Command::Protocol(args) => protocol::protocol(&args),
            Command::Journal(args) => journal::journal(args.command),
            Command::Replay(args) => journal::replay(args),
            Command::Version(args) => status::version(&args),
        }
    });
    // Whatever still blocks a thread is not worth waiting for.
    runtime.shutdown_background();
    result
}

/// Logs go to stderr. People who run one task see what went wrong only; a daemon's log tells its course.
fn start_log(cli: &Cli) {
    let ordinary = match (&cli.command, cli.verbose) {
        (Command::Serve(_) | Command::Daemon(_), 0) => "info",
        (_, 0) => "error",
        (_, 1) => "info",
        (_, 2) => "debug",
        (_, _) => "trace",
    };
    // sqlx and hyper have much to say that helps nobody here.
    let ours = format!(
        "warn,makima={ordinary},makima_runner={ordinary},makima_control={ordinary},makima_transports={ordinary}"
    );
    let quiet = if ordinary == "error" { "error".to_string() } else { ours };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(quiet));
    let colour = console::colors_enabled_stderr();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false);
    // Fails only where there is one already.
    let _ = log.try_init();
}
