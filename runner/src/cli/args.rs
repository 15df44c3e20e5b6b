//! What can be written on the command line.

mod agent;
mod mesh;
mod task;
mod tools;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use uuid::Uuid;

pub(super) use self::agent::*;
pub(super) use self::mesh::*;
pub(super) use self::task::*;
pub(super) use self::tools::*;
pub(super) use self::wire::*;

/// Runs coding agents, each in its own git worktree, and never loses their work.
#[derive(Debug, Parser)]
#[command(name = "makima", version = crate::journal::BUILD, about, propagate_version = true, after_help = EXAMPLES)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
    /// Say more of what is going on; twice for even more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Write the log to a file, which is rotated, and not to stderr
    #[arg(long, value_name = "PATH", global = true, env = "MAKIMA_LOG_FILE")]
    pub(super) log_file: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  makima run --agent shell 'cargo fmt'     run a plan on the repository you stand in
  makima run --agent shell -               read the plan from stdin
  makima serve                             a control server of your own
  makima daemon --server wss://host        run the tasks of a control server here
  makima task list                         what that server has

makima keeps its data in ~/.makima, or where MAKIMA_HOME says.
Exit codes: 0 done, 1 started and failed, 2 cannot be used as given, 3 the key was refused, or no daemon runs,
4 the server was not reached, 130 interrupted.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a plan on a repository and follow it to its end
    Run(RunArgs),
    /// Run a control server: for daemons by WebSocket, for people by REST
    Serve(ServeArgs),
    /// Run the tasks of a control server on this machine
    Daemon(DaemonArgs),
    /// Ask for tasks at a control server, look at them, end them
    Task(TaskArgs),
    /// Lead other agents, from a script of an agent that leads them
    Mesh(MeshArgs),
    /// Lead other agents, by tools of the Model Context Protocol
    Mcp(McpArgs),
    /// Tell how the daemon of this home stands
    Status(StatusArgs),
    /// Print what the daemon of this home has counted, as Prometheus reads it
    Metrics(MetricsArgs),
    /// Have the daemon run under this machine's service manager
    Service(ServiceArgs),
    /// Read and write the wire by hand
    Protocol(ProtocolArgs),
    /// Look at the daemon's journal, check it, make a recording of it
    Journal(JournalArgs),
    /// Take the steps of a journal or a recording again
    Replay(ReplayArgs),
    /// Look at the folders in which agents worked
    Worktree(WorktreeArgs),
    /// Agree to what a repository wants to be run: set-up, checks
    Repo(RepoArgs),
    /// Look whether everything is in order here: git, disk, key, server, agents
    Doctor(DoctorArgs),
    /// Show the settings and where each comes from, check the file that they stand in
    Config(ConfigArgs),
    /// Print a script that completes commands in a shell
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each command
    Man(ManArgs),
    /// Tell the version
    Version(VersionArgs),
}

/// What is done with the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnComplete {
    /// It stays with makima
    None,
    /// A branch is put into the repository
    Branch,
    /// It is merged into a branch of the repository
    Merge,
    /// It is pushed, and a pull request is opened
    Pr,
}

impl OnComplete {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Branch => "branch",
            Self::Merge => "merge",
            Self::Pr => "pr",
        }
    }

    /// What a server calls so; what it calls otherwise is none of these.
    pub(super) fn read(name: Option<&str>) -> Self {
        let known = [Self::Branch, Self::Merge, Self::Pr].into_iter().find(|action| name == Some(action.as_str()));
        known.unwrap_or(Self::None)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  makima run --agent shell 'cargo fmt'
  makima run --agent shell --repo ~/src/app --name 'Tidy up' --plan-file tidy.sh
  echo 'date > built' | makima run --agent shell --on-complete none -
  makima run --agent shell --tasks tonight.toml
  makima run --orchestrate --plan-file rewrite.md

The agent works in a worktree of its own, from the commit that you stand on; your files are not touched.
Ctrl-C interrupts the task and commits what it has done; a second one kills it.
The agent's output goes to stdout, everything else to stderr.
Exit codes: 0 done, 1 started and failed, 2 nothing was started, 130 interrupted.")]
pub(super) struct RunArgs {
    /// What the agent is to do; `-` reads it from stdin
    #[arg(value_name = "PLAN", required_unless_present_any = ["plan_file", "tasks"], conflicts_with_all = ["plan_file", "tasks"])]
    pub(super) plan: Vec<String>,
    /// The repository, by path or URL [default: the one you stand in]
    #[arg(long, value_name = "PATH|URL")]
    pub(super) repo: Option<String>,
    #[command(flatten)]
    pub(super) agent: AgentArgs,
    /// What to call the task [default: the plan's first words]
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Where to start: a branch, a tag or a commit [default: the commit that you stand on]
    #[arg(long, value_name = "BASE")]
    pub(super) base: Option<String>,
    /// What to do with the work [default: branch for a repository on this machine, else none]
    #[arg(long, value_name = "ACTION")]
    pub(super) on_complete: Option<OnComplete>,
    /// The agent leads: it splits the plan, has subtasks do the parts, and merges their branches
    #[arg(long, conflicts_with = "tasks")]
    pub(super) orchestrate: bool,
    /// Read the plan from a file
    #[arg(long, value_name = "FILE", conflicts_with = "tasks")]
    pub(super) plan_file: Option<PathBuf>,
    /// Run all tasks of a file, each when those that it comes after have ended well
    #[arg(long, value_name = "FILE.toml", conflicts_with_all = ["name", "base", "raw"], long_help = TASKS)]
    pub(super) tasks: Option<PathBuf>,
    /// Print what happens as lines of JSON on stdout
    #[arg(long)]
    pub(super) json: bool,
    /// Print the agent's output as it is, without a status line
    #[arg(long, conflicts_with = "json")]
    pub(super) raw: bool,
    /// Do without /proc, control groups and the like: see docs/portable.md
    #[arg(long, env = "MAKIMA_PORTABLE", value_parser = clap::builder::FalseyValueParser::new())]
    pub(super) portable: bool,
}

const TASKS: &str = "\
Run all tasks of a file, each when those that it comes after have ended well

  repo = \"~/src/app\"          # the default is --repo, else where you stand
  on_complete = \"branch\"      # the default is that of --on-complete

  [[task]]
  name = \"parser\"
  plan = \"write the parser that docs/grammar.md describes\"

  [[task]]
  name = \"tests\"
  plan_file = \"tests.md\"      # beside this file
  base = \"main\"               # the default is the commit that you stand on
  after = [\"parser\"]

A task may have a `repo` and an `on_complete` of its own, and `orchestrate = true` where its agent leads others. Paths are meant from the file's folder. The whole file is
checked before anything starts.";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  makima serve
  MAKIMA_API_KEY=secret makima serve --listen 127.0.0.1:7700 --data /var/lib/makima
  makima serve --listen 0.0.0.0:7600 --host build.example.com

The token is MAKIMA_API_KEY, else one that is made at the first start and shown once.")]
pub(super) struct ServeArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7600")]
    pub(super) listen: SocketAddr,
    /// A name or address by which it is reached from elsewhere; requests for any other are refused
    #[arg(long = "host", value_name = "NAME")]
    pub(super) hosts: Vec<String>,
    /// The folder for its data [default: the home folder]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  makima daemon --server wss://makima.example.com --agent shell
  MAKIMA_API_KEY=secret makima daemon --server http://127.0.0.1:7600 --agent shell --once

What is not given here is taken from the environment, then from config.toml in the home folder.
SIGTERM ends the daemon at once: agents go on, and the next daemon finds them. The first Ctrl-C does the same after
3 seconds; a second one interrupts the agents and commits their work, a third kills them.
Exit codes with --once: 0 the server closed the session and no task is left, 3 the key was refused,
4 the server was not reached.")]
pub(super) struct DaemonArgs {
    /// The control server
    #[arg(long, value_name = "URL", env = "MAKIMA_SERVER_URL")]
    pub(super) server: Option<String>,
    /// A file that holds the server's key; MAKIMA_API_KEY holds the key itself
    #[arg(long, value_name = "FILE")]
    pub(super) api_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) agent: AgentArgs,
    /// How many tasks run at once [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) max_tasks: Option<u32>,
    /// End after one session
    #[arg(long)]
    pub(super) once: bool,
    /// Do without /proc, control groups and the like: see docs/portable.md
    #[arg(long, env = "MAKIMA_PORTABLE", value_parser = clap::builder::FalseyValueParser::new())]
    pub(super) portable: bool,
    /// When asked to end, take on nothing more and wait until the agents have ended
    #[arg(long)]
    pub(super) drain: bool,
    /// Let the key go over the network unencrypted
    #[arg(long)]
    pub(super) insecure: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  makima status
  makima status --json | jq .daemon.link
  makima status --json | jq '.tasks[] | {id, status, pid, lag}'

Exit codes: 0 a daemon runs, 3 none does: then this is what the disk tells.")]
pub(super) struct StatusArgs {
    /// Print it as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  makima metrics
  makima metrics | grep ^makima_link_up

With `listen` in [metrics] of config.toml the daemon tells the same on a port of this machine.
Exit codes: 0 it is told, 1 the daemon does not answer, 3 none runs.")]
pub(super) struct MetricsArgs {}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  makima version
  makima version --json")]
pub(super) struct VersionArgs {
    /// Print it as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ServiceArgs {
    #[command(subcommand)]
    pub(super) command: ServiceCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// Install it for this user, and start it
    #[command(after_help = "\
Examples:
  MAKIMA_API_KEY=secret makima service install --server wss://makima.example.com --agent shell
  makima service install --print

The key does not stand in the service's file: one in MAKIMA_API_KEY is put into a file of the home that only you can
read. What was changed by hand in the service's file is not written over without --force.
Exit codes: 0 it runs, 1 it was installed and not started, 2 nothing was done.")]
    Install(InstallArgs),
    /// End the daemon and take it out of the service manager; agents go on, and all work stays
    #[command(after_help = "\
Examples:
  makima service uninstall")]
    Uninstall {
        /// Also where its file was changed by hand
        #[arg(long)]
        force: bool,
    },
    /// Tell what the service manager says of it
    #[command(after_help = "\
Examples:
  makima service status

Exit codes: 0 it runs, 1 the service manager does not say, 3 it does not run.")]
    Status,
}

#[derive(Debug, Args)]
pub(super) struct InstallArgs {
    /// The control server [default: `server` in config.toml]
    #[arg(long, value_name = "URL", env = "MAKIMA_SERVER_URL")]
    pub(super) server: Option<String>,
    /// A file that holds the server's key
    #[arg(long, value_name = "FILE")]
    pub(super) api_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) agent: AgentArgs,
    /// Let the key go over the network unencrypted
    #[arg(long)]
    pub(super) insecure: bool,
    /// Only print the service's file
    #[arg(long, visible_alias = "dry-run")]
    pub(super) print: bool,
    /// Write over what was changed by hand
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Debug, Args)]
pub(super) struct JournalArgs {
    #[command(subcommand)]
    pub(super) command: JournalCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum JournalCommand {
    /// Check every byte of it
    #[command(after_help = "\
Examples:
  makima journal verify
  makima journal verify ~/recording

Exit codes: 0 whole, 1 damaged, 2 there is none.")]
    Verify {
        /// A file, or a folder with a journal [default: that of this home]
        file: Option<PathBuf>,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print its steps
    #[command(after_help = "\
Examples:
  makima journal show --last 50
  makima journal show --task 0190b3f0-7d4c-7000-8000-000000000001
  makima journal show --json | jq .input

Output is not in it: `makima task output ID` shows that.")]
    Show {
        /// A file, or a folder with a journal [default: that of this home]
        file: Option<PathBuf>,
        /// Only so many of the newest
        #[arg(long, value_name = "N")]
        last: Option<usize>,
        /// Only steps that name this task
        #[arg(long, value_name = "ID")]
        task: Option<Uuid>,
        /// Print each as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a recording of it: with the masked output in it, to be taken along and taken again elsewhere
    #[command(after_help = "\
Examples:
  makima journal export --out report.recording
  makima replay report.recording

Plans, messages and what agents wrote are in it; secrets are not.")]
    Export {
        /// A file, or a folder with a journal [default: that of this home]
        file: Option<PathBuf>,
        /// Where it is written to; `-` is stdout
        #[arg(long, value_name = "FILE", default_value = "-")]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  makima replay report.recording
  makima replay ~/.makima/journal
  makima replay report.recording --reduce --out short.recording

Each step is taken again, what comes of it is compared with what is written down, and it is looked whether all holds that
must. With --reduce a recording that stops is made short: whatever is not needed for that is left out, and what is left
is shown. It is a recording too, which stops in the same way.
Exit codes: 0 it is the same, 1 where it stops is told or it is damaged before its end, 2 there is nothing to take
again.")]
pub(super) struct ReplayArgs {
    /// A recording, a segment of a journal, or a folder with a journal [default: that of this home]
    pub(super) file: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Where it stops, find out what of it is needed for that
    #[arg(long)]
    pub(super) reduce: bool,
    /// Where what is needed is written to
    #[arg(long, value_name = "FILE", requires = "reduce")]
    pub(super) out: Option<PathBuf>,
    /// For how long that is looked for, at most
    #[arg(long, value_name = "N", requires = "reduce", default_value_t = 60)]
    pub(super) seconds: u64,
}
