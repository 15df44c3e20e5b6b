//! What can be written behind `makima task`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{AgentArgs, OnComplete};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  makima task create --repo ~/src/app --on-complete branch 'make format'
  makima task list
  makima task logs -f 019f0c3a-7b1e-7c54-9d55-0a8a5d0a4f11
  makima task send 019f0c3a-7b1e-7c5 'leave the tests as they are'

Instead of a whole id its beginning will do, as far as no other task's begins so.
The server is the one that runs on this home, or the one of --server, MAKIMA_SERVER_URL or config.toml.")]
pub(in crate::cli) struct TaskArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: TaskCommand,
    #[command(flatten)]
    pub(in crate::cli) server: ServerArgs,
}

/// Which server, and the key for it.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ServerArgs {
    /// The control server [default: the one of this home]
    #[arg(long, value_name = "URL", env = "MAKIMA_SERVER_URL", global = true)]
    pub(in crate::cli) server: Option<String>,
    /// A file that holds the server's key; MAKIMA_API_KEY holds the key itself
    #[arg(long, value_name = "FILE", global = true)]
    pub(in crate::cli) api_key_file: Option<PathBuf>,
    /// Let the key go over the network unencrypted
    #[arg(long, global = true)]
    pub(in crate::cli) insecure: bool,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TaskCommand {
    #[command(flatten)]
    AtServer(AtServer),
    /// Go on where a task is: its files, and its agent's conversation
    #[command(after_help = "\
Examples:
  makima task continue 019f0c3a-7b1e-7c5
  makima task continue 019f0c3a-7b1e-7c5 'now the tests too'
  makima task continue --agent shell 019f0c3a-7b1e-7c5 'make test'

A new task begins with the commits and the uncommitted files of the other one, in a worktree and on a branch of its own.
Claude goes on with the conversation as well, and is told again what the other one had not done with. Without a message an
agent is told to go on, and a script is run again. One that is still under way can be gone on with too: a second one
branches off from there.
It is followed as with `makima run`; where no daemon runs on this home, this process does the work.
Exit codes: 0 done, 1 started and failed, 2 nothing was started, 130 interrupted.")]
    Continue(ContinueArgs),
}

/// What a server alone is asked for.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AtServer {
    /// Ask for a task
    #[command(after_help = "\
Examples:
  makima task create --repo https://host/team/app --base main 'Add a retry to the uploader'
  makima task create --repo ~/src/app --on-complete branch --wait 'make test'")]
    Create(CreateArgs),
    /// All tasks of the server
    #[command(after_help = "\
Examples:
  makima task list
  makima task list --json | jq -r '.[] | select(.status == \"running\") | .id'")]
    List {
        /// Print what the server answers
        #[arg(long)]
        json: bool,
    },
    /// One task
    #[command(after_help = "\
Examples:
  makima task show 019f0c3a-7b1e-7c54-9d55-0a8a5d0a4f11
  makima task show --json 019f0c3a-7b1e-7c54-9d55-0a8a5d0a4f11 | jq -r .branch")]
    Show {
        /// The task
        id: TaskName,
        /// Print what the server answers
        #[arg(long)]
        json: bool,
    },
    /// What a task's agent has written
    #[command(after_help = "\
Examples:
  makima task logs 019f0c3a-7b1e-7c54-9d55-0a8a5d0a4f11
  makima task logs -f 019f0c3a-7b1e-7c54-9d55-0a8a5d0a4f11 | grep -i error
  makima task logs --raw 019f0c3a-7b1e-7c54-9d55-0a8a5d0a4f11 | jq -r .type

Of an agent that writes JSON its text, the tools that it uses, what they change and what it costs are shown; --raw shows
the lines themselves.")]
    Logs {
        /// The task
        id: TaskName,
        /// Print what the agent has written as it is
        #[arg(long)]
        raw: bool,
        /// Go on until the task has ended
        #[arg(short, long)]
        follow: bool,
    },
    /// End a task: ask its agent, and kill it where it does not end
    #[command(after_help = "\
Examples:
  makima task interrupt 019f0c3a-7b1e-7c54-9d55-0a8a5d0a4f11
  makima task interrupt --force 019f0c3a-7b1e-7c54-9d55-0a8a5d0a4f11

What the agent has done is committed either way.")]
    Interrupt {
        /// The task
        id: TaskName,
        /// Kill it at once
        #[arg(long)]
        force: bool,
    },
    /// Let a task stand still: all its processes, until it is told to go on
    #[command(after_help = "\
Examples:
  makima task pause 019f0c3a-7b1e-7c5

Its daemon may be away: it hears of it when it is back, and of the last wish only.")]
    Pause(PlainArgs),
    /// Let a task go on that stands still
    #[command(after_help = "\
Examples:
  makima task resume 019f0c3a-7b1e-7c5")]
    Resume(PlainArgs),
    /// Tell a task's agent something
    #[command(after_help = "\
Examples:
  makima task send 019f0c3a-7b1e-7c5 'leave the tests as they are'
  git diff | makima task send 019f0c3a-7b1e-7c5 -

The agent hears each message once, in order; what it does with it shows in `makima task logs -f`.")]
    Send(SendArgs),
    /// Answer what a task's agent asks
    #[command(after_help = "\
Examples:
  makima task answer 019f0c3a-7b1e-7c5 1 allow
  makima task answer 019f0c3a-7b1e-7c5 2 deny 'not on this machine'
  makima task answer 019f0c3a-7b1e-7c5 3 choose Red

Which question waits is shown by `makima task list` and `makima task show`, as what the task needs a person for.")]
    Answer(AnswerArgs),
    /// Hand the work of a task over again, or in another way
    #[command(after_help = "\
Examples:
  makima task retry 019f0c3a-7b1e-7c5 branch
  makima task retry 019f0c3a-7b1e-7c5 merge --branch release
  makima task retry 019f0c3a-7b1e-7c5 pr

For a task that has ended, at any later time. Doing it twice does no harm.
Exit codes: 0 done, 1 not done or not known, 2 it cannot be asked for like this, 4 the server was not reached.")]
    Retry(RetryArgs),
    /// Copy a task's files and history to a folder on its daemon's machine
    #[command(after_help = "\
Examples:
  makima task clone 019f0c3a-7b1e-7c5 ~/look

The folder is a new one, or empty.")]
    Clone(CloneArgs),
    /// The branches of a task's subtasks
    #[command(after_help = "\
Examples:
  makima task branches 019f0c3a-7b1e-7c5
  makima task branches --json 019f0c3a-7b1e-7c5 | jq -r '.branches[] | select(.isMerged | not) | .name'")]
    Branches(AskArgs),
    /// Merge the branches of subtasks in the worktree of the task that they belong to
    #[command(after_help = "\
Examples:
  makima task merge start 019f0c3a-7b1e-7c5 makima/fix-it-019f0c3b-11aa-7bbb-8ccc-0a8a5d0a4f12
  makima task merge status 019f0c3a-7b1e-7c5
  makima task merge resolve 019f0c3a-7b1e-7c5 src/main.rs theirs
  makima task merge commit 019f0c3a-7b1e-7c5

TASK is the orchestrator. `start` merges and does not commit; conflicts are settled file by file, or by its agent.")]
    Merge(MergeArgs),
}

/// A task, by its id or the beginning of it.
#[derive(Clone, Debug)]
pub(in crate::cli) struct TaskName(pub(in crate::cli) String);

impl std::str::FromStr for TaskName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim().to_ascii_lowercase();
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
            return Err("a task is named by its id or the beginning of it: digits, letters from a to f and hyphens");
        }
        Ok(Self(text))
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PlainArgs {
    /// The task
    #[arg(value_name = "TASK")]
    pub(in crate::cli) id: TaskName,
    /// Print what the server answers
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SendArgs {
    /// The task
    #[arg(value_name = "TASK")]
    pub(in crate::cli) id: TaskName,
    /// What to tell it; `-` reads it from stdin
    #[arg(value_name = "MESSAGE", required = true)]
    pub(in crate::cli) message: Vec<String>,
    /// Print what the server answers
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct AnswerArgs {
    /// The task
    #[arg(value_name = "TASK")]
    pub(in crate::cli) id: TaskName,
    /// The number of the question
    pub(in crate::cli) question: u64,
    /// What is answered
    pub(in crate::cli) verdict: Verdict,
    /// Why not; or what is chosen, a word for each thing that is asked
    pub(in crate::cli) words: Vec<String>,
    /// Print what the server answers
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Verdict {
    /// It may
    Allow,
    /// It may not
    Deny,
    /// One of what it gives to choose from, by name or number, or other words
    Choose,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ContinueArgs {
    /// The task
    #[arg(value_name = "TASK")]
    pub(in crate::cli) id: TaskName,
    /// What to tell its agent; `-` reads it from stdin [default: to go on]
    #[arg(value_name = "MESSAGE")]
    pub(in crate::cli) message: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) agent: AgentArgs,
    /// Print what happens as lines of JSON on stdout
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Print the agent's output as it is, without a status line
    #[arg(long, conflicts_with = "json")]
    pub(in crate::cli) raw: bool,
    /// Do without /proc, control groups and the like: see docs/portable.md
    #[arg(long, env = "MAKIMA_PORTABLE", value_parser = clap::builder::FalseyValueParser::new())]
    pub(in crate::cli) portable: bool,
}

/// Whatever is answered by a task's daemon.
#[derive(Debug, Args)]
pub(in crate::cli) struct AskArgs {
    /// The task
    #[arg(value_name = "TASK")]
    pub(in crate::cli) id: TaskName,
    #[command(flatten)]
    pub(in crate::cli) manner: AskManner,
}

#[derive(Clone, Copy, Debug, Args)]
pub(in crate::cli) struct AskManner {
    /// Print what the server answers
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// How long to wait for the daemon's answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=600))]
    pub(in crate::cli) patience: u64,
}

/// What can be done with the work of a task that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Deed {
    /// A branch is put into the repository
    Branch,
    /// It is merged into a branch of the repository
    Merge,
    /// It is pushed, and a pull request is opened
    Pr,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RetryArgs {
    /// The task
    #[arg(value_name = "TASK")]
    pub(in crate::cli) id: TaskName,
    /// What to do with its work
    #[arg(value_name = "ACTION")]
    pub(in crate::cli) action: Deed,
    /// The repository on the daemon's machine that it goes to [default: the one that it came from]
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) target: Option<String>,
    /// The branch of that repository that it goes into
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) branch: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) manner: AskManner,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CloneArgs {
    /// The task
    #[arg(value_name = "TASK")]
    pub(in crate::cli) id: TaskName,
    /// Where to
    #[arg(value_name = "FOLDER")]
    pub(in crate::cli) to: String,
    #[command(flatten)]
    pub(in crate::cli) manner: AskManner,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct MergeArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: MergeCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum MergeCommand {
    /// Begin to merge a branch: into the worktree, without a commit
    #[command(after_help = "\
Examples:
  makima task merge start 019f0c3a-7b1e-7c5 makima/fix-it-019f0c3b-11aa-7bbb-8ccc-0a8a5d0a4f12

Exit codes: 0 it can be committed, 1 there are conflicts, or it was refused; both are told.")]
    Start {
        #[command(flatten)]
        ask: AskArgs,
        /// The branch, as `makima task branches` names it
        #[arg(value_name = "BRANCH")]
        branch: String,
    },
    /// Tell how the merge stands
    #[command(after_help = "\
Examples:
  makima task merge status 019f0c3a-7b1e-7c5")]
    Status(AskArgs),
    /// Settle one file that is in conflict
    #[command(after_help = "\
Examples:
  makima task merge resolve 019f0c3a-7b1e-7c5 src/main.rs ours")]
    Resolve {
        #[command(flatten)]
        ask: AskArgs,
        /// The file, as `makima task merge status` names it
        #[arg(value_name = "FILE")]
        file: String,
        /// Which side counts
        #[arg(value_name = "SIDE")]
        side: SideName,
    },
    /// Commit the merge
    #[command(after_help = "\
Examples:
  makima task merge commit 019f0c3a-7b1e-7c5
  makima task merge commit 019f0c3a-7b1e-7c5 -m 'Merge the parser'")]
    Commit {
        #[command(flatten)]
        ask: AskArgs,
        /// The commit's message [default: one that names the branch]
        #[arg(short, long, value_name = "TEXT")]
        message: Option<String>,
    },
    /// Take the merge back: the worktree is as it was before
    #[command(after_help = "\
Examples:
  makima task merge abort 019f0c3a-7b1e-7c5")]
    Abort(AskArgs),
    /// Say that a subtask's branch is not to be merged
    #[command(after_help = "\
Examples:
  makima task merge skip 019f0c3a-7b1e-7c5 019f0c3b-11aa-7bb --reason 'superseded by the other one'")]
    Skip {
        #[command(flatten)]
        ask: AskArgs,
        /// The subtask
        #[arg(value_name = "SUBTASK")]
        subtask: TaskName,
        /// Why not
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Tell whether every subtask's branch is merged or skipped
    #[command(after_help = "\
Examples:
  makima task merge check 019f0c3a-7b1e-7c5

Exit codes: 0 nothing is left to merge, 1 something is, and is named.")]
    Check(AskArgs),
}

/// A side of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum SideName {
    /// The worktree's own
    Ours,
    /// The branch's that is merged
    Theirs,
}

impl SideName {
    pub(in crate::cli) const fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Theirs => "theirs",
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    /// What the agent is to do; `-` reads it from stdin
    #[arg(value_name = "PLAN", required = true)]
    pub(in crate::cli) plan: Vec<String>,
    /// The repository, by URL or by a path on the daemon's machine
    #[arg(long, value_name = "PATH|URL")]
    pub(in crate::cli) repo: Option<String>,
    /// What to call the task
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    /// Where to start: a branch, a tag or a commit
    #[arg(long, value_name = "BASE")]
    pub(in crate::cli) base: Option<String>,
    /// What to do with the work
    #[arg(long, value_name = "ACTION")]
    pub(in crate::cli) on_complete: Option<OnComplete>,
    /// The agent leads: it splits the plan, has subtasks do the parts, and merges their branches
    #[arg(long)]
    pub(in crate::cli) orchestrate: bool,
    /// Begin only once this task has ended well; may be given several times
    #[arg(long, value_name = "TASK")]
    pub(in crate::cli) after: Vec<TaskName>,
    /// Wait for its end; exit 1 where that is not a success
    #[arg(long)]
    pub(in crate::cli) wait: bool,
    /// Print what the server answers
    #[arg(long)]
    pub(in crate::cli) json: bool,
}
