//! What looks after the program itself: `makima doctor` and the like.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

use super::{AgentArgs, ServerArgs};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  makima doctor
  makima doctor --server wss://makima.example.com
  makima doctor --json | jq '.[] | select(.state != \"ok\")'

Nothing is changed. The server is shown the key as a machine without a name: no session comes of that.
Exit codes: 0 nothing is wrong (warnings are no errors), 1 something is.")]
pub(in crate::cli) struct DoctorArgs {
    /// Print a JSON array of {check, state, detail, help}; the state is ok, warn or fail
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  makima config show
  makima config check
  $EDITOR \"$(makima config path)\"")]
pub(in crate::cli) struct ConfigArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ConfigCommand {
    /// Print what holds, and where it comes from: a flag, the environment, the file, or nowhere
    #[command(after_help = "\
Examples:
  makima config show
  makima config show --max-tasks 8         what `makima daemon --max-tasks 8` would do
  makima config show --json | jq '.[] | select(.source != \"default\")'

Secrets are shown as ***.")]
    Show(ConfigShowArgs),
    /// Name everything in the file that is wrong, with its place
    #[command(after_help = "\
Examples:
  makima config check
  makima config check ./config.toml

Exit codes: 0 it is in order, 1 it is not, 2 it cannot be read.")]
    Check {
        /// The file [default: config.toml in the home folder]
        file: Option<PathBuf>,
        /// Print a JSON array of {line, column, message, help}
        #[arg(long)]
        json: bool,
    },
    /// Print where the file is, or would be
    #[command(after_help = "\
Examples:
  makima config path
  $EDITOR \"$(makima config path)\"")]
    Path,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ConfigShowArgs {
    /// As if the daemon had been given this
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) server: Option<String>,
    /// As if the daemon had been given this
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) api_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) agent: AgentArgs,
    /// As if the daemon had been given this
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(in crate::cli) max_tasks: Option<u32>,
    /// As if the daemon had been given this
    #[arg(long)]
    pub(in crate::cli) portable: bool,
    /// Print a JSON array of {key, value, source, by}
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  makima completions bash > ~/.local/share/bash-completion/completions/makima
  makima completions zsh > ~/.zfunc/_makima                (with ~/.zfunc in fpath)
  makima completions fish > ~/.config/fish/completions/makima.fish
  source <(makima completions bash)")]
pub(in crate::cli) struct CompletionsArgs {
    /// Which shell
    pub(in crate::cli) shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  makima man | man -l -
  makima man --dir ~/.local/share/man/man1      then: man makima-run")]
pub(in crate::cli) struct ManArgs {
    /// Write a page for each command into this folder, which is made
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  makima worktree list
  makima worktree clean --dry-run
  makima worktree restore 0190a5c4")]
pub(in crate::cli) struct WorktreeArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: WorktreeCommand,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  makima repo allow
  makima repo allow https://github.com/me/app
  makima repo list --json")]
pub(in crate::cli) struct RepoArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: RepoCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RepoCommand {
    /// Agree to what a repository's .makima.toml wants: show it, and have tasks do it from now on
    #[command(after_help = "\
Examples:
  makima repo allow                             the repository that you stand in
  makima repo allow ~/src/app
  makima repo allow https://github.com/me/app   what a task of it found there

What is agreed to is what the file says now: once it says something else, tasks ignore it and say so until you agree
again. Of a repository on this machine the file of the commit that you stand on counts, and what the last task found; of
another what the last task found. docs/repositories.md tells what may stand in the file.")]
    Allow {
        /// The repository, by path or URL [default: the one you stand in]
        #[arg(value_name = "PATH|URL")]
        repository: Option<String>,
        /// Print a JSON object of {repository, allowed, asked}
        #[arg(long)]
        json: bool,
    },
    /// Agree to nothing of a repository any more
    #[command(after_help = "\
Examples:
  makima repo deny
  makima repo deny https://github.com/me/app")]
    Deny {
        /// The repository, by path or URL [default: the one you stand in]
        #[arg(value_name = "PATH|URL")]
        repository: Option<String>,
    },
    /// List what you have agreed to, and what repositories want that you have not
    #[command(after_help = "\
Examples:
  makima repo list
  makima repo list --json | jq '.[] | select(.asked) | .repository'")]
    List {
        /// Print a JSON array of {repository, allowed, asked}
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum WorktreeCommand {
    /// List them: whose each is, how large, whether everything in it is committed, why it is kept or may go
    #[command(after_help = "\
Examples:
  makima worktree list
  makima worktree list --json | jq '.[] | select(.dirty) | .path'

They lie in `worktrees/` of the home folder. Nothing is changed. SIZE with a + is not all: a worktree is only looked
through for so long.")]
    List {
        /// Print a JSON array of {task, path, name, status, branch, bytes, bytesWhole, dirty, goes, kept,
        /// ended}
        #[arg(long)]
        json: bool,
        /// List what is in the trash instead: as JSON {task, path, bytes, bytesWhole, since, goesIn}, times in seconds
        #[arg(long)]
        trash: bool,
    },
    /// Put worktrees of ended tasks into the trash, and say of each why it goes or stays
    #[command(after_help = "\
Examples:
  makima worktree clean --dry-run               what would go, and why the others stay
  makima worktree clean                         what the daemon would put away by itself by now
  makima worktree clean 0190a5c4                this one, at once
  makima worktree clean --trash                 take out of the trash for good what is in it

A worktree goes by itself 14 days after the server knows that its task ended (`[keep]` in config.toml), and is gone
for good after 30 days in the trash. Its commits stay in the daemon's repository whatever becomes of it. One whose
task has not ended never goes.

Exit code 1 where one that was named stays, or something could not be moved.")]
    Clean {
        /// Only these tasks' worktrees, at whatever age: each by its id or the first 4 characters or more of it
        ids: Vec<String>,
        /// Change nothing, only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// Take out of the trash for good what is in it, be it as new as it may
        #[arg(long, conflicts_with = "ids")]
        trash: bool,
        /// Print a JSON array of {task, path, goes, why}
        #[arg(long)]
        json: bool,
    },
    /// Take the worktree and the output of a task out of the trash again
    #[command(after_help = "\
Examples:
  makima worktree restore 0190a5c4
  cd \"$(makima worktree restore 0190a5c4)\"

Prints where the worktree is. It stays there until its task is forgotten, or is named to `makima worktree clean`.")]
    Restore {
        /// The task, by its id or the first 4 characters or more of it
        id: String,
    },
}
