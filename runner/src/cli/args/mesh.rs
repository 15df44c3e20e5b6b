//! What can be written behind `makima mesh` and `makima mcp`.

use clap::{Args, Subcommand};

use super::{AskManner, SideName};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claude mcp add makima -- makima mcp
  makima mcp < requests.jsonl

It is started by the agent of a task that leads others, and answers on stdin and stdout. The server, the key and the task
are those of MAKIMA_API_URL, MAKIMA_TOOL_KEY and MAKIMA_TASK_ID, which makima sets. docs/orchestration.md lists the tools.
Exit codes: 0 stdin has ended, 1 the conversation broke off, 2 a variable is missing or cannot be used.")]
pub(in crate::cli) struct McpArgs {}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  parser=$(makima mesh spawn --name parser 'write the parser that docs/grammar.md describes')
  makima mesh spawn --name tests --after $parser - < tests.md
  makima mesh wait
  makima mesh branches

For the agent of a task that leads others: the server, the key and the task are those of MAKIMA_API_URL, MAKIMA_TOOL_KEY
and MAKIMA_TASK_ID, which makima sets. A subtask is named by its id, the beginning of it, or its name.
Exit codes: 0 done, 1 begun and failed or refused, 2 cannot be used as given, 3 the key was refused, 4 the server was not
reached.")]
pub(in crate::cli) struct MeshArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: MeshCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum MeshCommand {
    /// Start a subtask, and print its id
    #[command(after_help = "\
Examples:
  makima mesh spawn --name parser 'write the parser that docs/grammar.md describes'
  makima mesh spawn --name tests --after parser --copy notes.md - < tests.md
  makima mesh spawn --name docs --leads --base main 'split the manual into chapters'")]
    Spawn(SpawnArgs),
    /// All tasks below this one, oldest first
    #[command(after_help = "\
Examples:
  makima mesh list
  makima mesh list --json | jq -r '.[] | select(.success == false) | .name'")]
    List {
        /// Print what the server answers
        #[arg(long)]
        json: bool,
    },
    /// One subtask
    #[command(after_help = "\
Examples:
  makima mesh status parser
  makima mesh status --json parser | jq -r .branch")]
    Status(SubtaskArgs),
    /// What a subtask's agent has written
    #[command(after_help = "\
Examples:
  makima mesh output parser
  makima mesh output --last 20 parser
  makima mesh output --raw parser | jq -r .type")]
    Output {
        /// The subtask
        #[arg(value_name = "SUBTASK")]
        id: String,
        /// Only so many lines of the end
        #[arg(long, value_name = "N")]
        last: Option<usize>,
        /// Print it as the agent has written it
        #[arg(long)]
        raw: bool,
        /// Print a JSON object of {id, output, cut}
        #[arg(long)]
        json: bool,
    },
    /// Tell a subtask's agent something
    #[command(after_help = "\
Examples:
  makima mesh message parser 'leave the lexer as it is'
  git diff | makima mesh message parser -")]
    Message {
        /// The subtask
        #[arg(value_name = "SUBTASK")]
        id: String,
        /// What to tell it; `-` reads it from stdin
        #[arg(value_name = "MESSAGE", required = true)]
        message: Vec<String>,
        /// Print what the server answers
        #[arg(long)]
        json: bool,
    },
    /// Let a subtask stand still: all its processes
    #[command(after_help = "\
Examples:
  makima mesh pause parser")]
    Pause(SubtaskArgs),
    /// Let a subtask go on that stands still
    #[command(after_help = "\
Examples:
  makima mesh resume parser")]
    Resume(SubtaskArgs),
    /// End a subtask: ask its agent, or kill it
    #[command(after_help = "\
Examples:
  makima mesh interrupt parser
  makima mesh interrupt --force parser

What it has done so far is committed either way.")]
    Interrupt {
        #[command(flatten)]
        subtask: SubtaskArgs,
        /// Kill it at once
        #[arg(long)]
        force: bool,
    },
    /// Wait for subtasks to end, and print a line for each
    #[command(after_help = "\
Examples:
  makima mesh wait                              for all that this task has started
  makima mesh wait --any parser tests           until one more of these has ended
  makima mesh wait --timeout 600 || makima mesh list

Exit codes: 0 they have ended well, 1 one has not, or the time is over.")]
    Wait(WaitArgs),
    /// The branches of the subtasks
    #[command(after_help = "\
Examples:
  makima mesh branches
  makima mesh branches --json | jq -r '.branches[] | select(.isMerged | not) | .name'")]
    Branches(AskManner),
    /// Merge branches of subtasks into the worktree of this task
    #[command(after_help = "\
Examples:
  makima mesh merge start makima/parser-019f0c3b-11aa-7bbb-8ccc-0a8a5d0a4f12
  makima mesh merge resolve src/main.rs theirs
  makima mesh merge commit
  makima mesh merge check")]
    Merge {
        #[command(subcommand)]
        step: MeshMerge,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SpawnArgs {
    /// What its agent is to do; `-` reads it from stdin
    #[arg(value_name = "PLAN", required = true)]
    pub(in crate::cli) plan: Vec<String>,
    /// What to call it
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) name: String,
    /// Begin only once this subtask has ended well; may be given several times
    #[arg(long, value_name = "SUBTASK")]
    pub(in crate::cli) after: Vec<String>,
    /// Where to start: a branch, a tag or a commit
    #[arg(long, value_name = "BASE")]
    pub(in crate::cli) base: Option<String>,
    /// Bring this file along from the worktree of this task; may be given several times
    #[arg(long = "copy", value_name = "FILE")]
    pub(in crate::cli) copies: Vec<String>,
    /// It leads subtasks of its own
    #[arg(long)]
    pub(in crate::cli) leads: bool,
    /// Print a JSON object of {id}
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SubtaskArgs {
    /// The subtask
    #[arg(value_name = "SUBTASK")]
    pub(in crate::cli) id: String,
    /// Print what the server answers
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct WaitArgs {
    /// The subtasks [default: all that this task has started]
    #[arg(value_name = "SUBTASK")]
    pub(in crate::cli) ids: Vec<String>,
    /// Only until one of them ends that has not ended yet
    #[arg(long)]
    pub(in crate::cli) any: bool,
    /// For how long at most [default: without an end]
    #[arg(long, value_name = "SECONDS")]
    pub(in crate::cli) timeout: Option<u64>,
    /// Print what the server answers: {over, tasks}
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum MeshMerge {
    /// Begin to merge a branch: into the worktree, without a commit
    #[command(after_help = "\
Examples:
  makima mesh merge start makima/parser-019f0c3b-11aa-7bbb-8ccc-0a8a5d0a4f12

Exit codes: 0 it can be committed, 1 there are conflicts, or it was refused; both are told.")]
    Start {
        /// The branch, as `makima mesh branches` names it
        #[arg(value_name = "BRANCH")]
        branch: String,
        #[command(flatten)]
        manner: AskManner,
    },
    /// Tell how the merge stands
    #[command(after_help = "\
Examples:
  makima mesh merge status")]
    Status(AskManner),
    /// Settle one file that is in conflict
    #[command(after_help = "\
Examples:
  makima mesh merge resolve src/main.rs ours")]
    Resolve {
        /// The file, as `makima mesh merge status` names it
        #[arg(value_name = "FILE")]
        file: String,
        /// Which side counts
        #[arg(value_name = "SIDE")]
        side: SideName,
        #[command(flatten)]
        manner: AskManner,
    },
    /// Commit the merge
    #[command(after_help = "\
Examples:
  makima mesh merge commit
  makima mesh merge commit -m 'Merge the parser'")]
    Commit {
        /// The commit's message [default: one that names the branch]
        #[arg(short, long, value_name = "TEXT")]
        message: Option<String>,
        #[command(flatten)]
        manner: AskManner,
    },
    /// Take the merge back: the worktree is as it was before
    #[command(after_help = "\
Examples:
  makima mesh merge abort")]
    Abort(AskManner),
    /// Say that a subtask's branch is not to be merged
    #[command(after_help = "\
Examples:
  makima mesh merge skip parser --reason 'superseded by the other one'")]
    Skip {
        /// The subtask
        #[arg(value_name = "SUBTASK")]
        id: String,
        /// Why not
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        #[command(flatten)]
        manner: AskManner,
    },
    /// Tell whether every subtask's branch is merged or skipped
    #[command(after_help = "\
Examples:
  makima mesh merge check

Exit codes: 0 nothing is left to merge, 1 something is, and is named.")]
    Check(AskManner),
}
